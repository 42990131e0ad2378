"""mountctl as a person and a script use it."""
import json
import os
import pty
import re
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import mounting
import pytest
import writers

MOUNTCTL = mounting.BIN / "mountctl"

TENSORS = [(f"model.layers.{i}.weight", "F32", [4, 3], bytes(range(48))) for i in range(12)]
TENSORS += [("model.scale", "F64", [], bytes(8)), ("model.table", "U8", [1000], bytes(1000))]
NAMES = [name for name, *_ in TENSORS]


def ctl(*args, cwd=None, timeout=mounting.START_S, **env):
    return subprocess.run([MOUNTCTL, *map(str, args)], stdin=subprocess.DEVNULL, cwd=cwd,
                          capture_output=True, text=True, timeout=timeout,
                          env={**os.environ, **env})


def ctl_json(*args):
    done = ctl("--json", *args)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def words(text):
    """The cells of a table, row by row."""
    return [re.split(r"  +", line.strip()) for line in text.splitlines()]


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(writers.safetensors(TENSORS, {"format": "pt", "note": "n" * 100 + "\nend"}))
    return path


@pytest.fixture
def mounted(mount, source):
    return mount(source)


# ---- usage ----


@pytest.mark.parametrize("args", [
    (), ("--wrong",), ("wrong",), ("mount",), ("mount", "a"), ("mount", "a", "b", "c"),
    ("mount", "a", "b", "-o"), ("umount",), ("umount", "--all", "/x"),
    ("umount", "--timeout", "soon", "/x"), ("umount", "--timeout", "-1", "/x"),
    ("list", "x"), ("status",), ("ls",), ("ls", "--sort", "colour", "/x"), ("info",),
    ("info", "a", "b"), ("help", "wrong"),
])
def test_wrong_usage_ends_with_status_2_and_one_line(args):
    done = ctl(*args)
    assert done.returncode == 2
    assert done.stdout == ""
    assert re.fullmatch(r"mountctl: [^\n]+\n", done.stderr)


@pytest.mark.parametrize("args, what", [
    (("ls", "--wrong"), "ls: unknown option '--wrong'"),
    (("ls", "-lq"), "ls: unknown option '-q'"),
    (("mount", "-o"), "mount: option '-o' needs a value"),
    (("umount", "--timeout"), "umount: option '--timeout' needs a value"),
    (("list", "\x1b[31m", "--\x1b[31m"), "list: unknown option '--\\x1b[31m'"),
])
def test_a_wrong_option_is_named(args, what):
    assert ctl(*args).stderr == f"mountctl: {what}: see 'mountctl help {args[0]}'\n"


@pytest.mark.parametrize("command", ["mount", "umount", "list", "status", "ls", "info",
                                     "prefetch", "pin", "unpin", "evict", "profile", "doctor"])
def test_each_command_has_a_help(command):
    by_help = ctl("help", command)
    assert by_help.returncode == 0
    assert f"usage: mountctl [--json] {command}" in by_help.stdout
    assert ctl(command, "--help").stdout == by_help.stdout
    assert re.search(rf"^  {command} ", ctl("--help").stdout, re.M)


def test_the_version_is_the_daemons():
    assert ctl("--version").stdout.split()[1] == \
        mounting.run_weightfs("--version").stdout.split()[1]


# ---- mount ----


def test_mount_and_umount_leave_nothing(source, tmp_path):
    path = tmp_path / "mnt"
    done = ctl("mount", source, path, "--mkdir")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert mounting.is_mounted(path)
    (pid,) = mounting.daemons_of(path)
    done = ctl("umount", path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not mounting.is_mounted(path)
    assert not mounting.is_running(pid), "umount returned before the daemon was gone"


def test_mount_says_what_it_did_when_asked(source, tmp_path):
    path = tmp_path / "mnt"
    done = ctl("mount", "-v", source, path, "--mkdir")
    assert str(source) in done.stdout and str(path) in done.stdout
    ctl("umount", path)


def test_mount_json_names_absolute_paths(source, tmp_path):
    done = ctl("mount", source.name, "mnt", "--mkdir", "--json", cwd=tmp_path)
    assert json.loads(done.stdout) == {"mounted": True, "source": str(source),
                                       "mountpoint": str(tmp_path / "mnt")}
    assert ctl_json("umount", tmp_path / "mnt") == [
        {"mountpoint": str(tmp_path / "mnt"), "unmounted": True}]


def test_mount_passes_all_options_on(source, tmp_path):
    path = tmp_path / "mnt"
    ctl("mount", "-o", "threads=3", source, path, "-o", "uid=5,gid=6", "--mkdir")
    options = ctl_json("status", path)["options"]
    assert (options["threads"], options["uid"], options["gid"]) == (3, 5, 6)
    ctl("umount", path)


def test_a_bad_model_gives_one_sentence_and_leaves_no_directory(tmp_path):
    bad = tmp_path / "bad.safetensors"
    bad.write_bytes(writers.safetensors_raw("{}", length=1 << 60))
    done = ctl("mount", bad, tmp_path / "mnt", "--mkdir")
    assert done.returncode == 1
    assert re.fullmatch(rf"mountctl: {re.escape(str(bad))}: [^\n]+\n", done.stderr)
    assert not (tmp_path / "mnt").exists()


def test_a_directory_that_was_there_stays_after_a_failure(tmp_path):
    (tmp_path / "mnt").mkdir()
    done = ctl("mount", tmp_path / "no model", tmp_path / "mnt", "--mkdir")
    assert done.returncode == 1
    assert (tmp_path / "mnt").is_dir()


def test_a_wrong_option_is_wrong_usage_and_names_the_valid_ones(source, tmp_path):
    done = ctl("mount", source, tmp_path / "mnt", "--mkdir", "-o", "backing=paper")
    assert done.returncode == 2
    assert "stream" in done.stderr
    assert not (tmp_path / "mnt").exists()


def test_mkdir_makes_one_level_only(source, tmp_path):
    done = ctl("mount", source, tmp_path / "a" / "b", "--mkdir")
    assert done.returncode == 1
    assert done.stderr == f"mountctl: {tmp_path}/a/b: create: no such file or directory\n"


# ---- umount ----


def test_umount_refuses_what_is_no_weightfs_mount(tmp_path):
    for path in (tmp_path, tmp_path / "missing", "/proc"):
        done = ctl("umount", path)
        assert done.returncode == 1
        assert done.stderr == f"mountctl: {path}: not a weightfs mount\n"
    assert os.path.isdir("/proc/self")


def test_umount_of_a_busy_mount_names_who_holds_it(mounted):
    with open(mounted / "model.json", "rb"):
        done = ctl("umount", mounted.path)
    assert done.returncode == 1
    first, *rest = done.stderr.splitlines()
    assert first == f"mountctl: {mounted.path}: unmount: device or resource busy"
    assert any(f"(pid {os.getpid()}, open file)" in line for line in rest)
    assert mounting.is_mounted(mounted.path)
    assert ctl_json("list") != []


def test_umount_names_a_working_directory(mounted):
    with subprocess.Popen(["sleep", "60"], cwd=mounted.path) as holder:
        done = ctl("umount", mounted.path)
        holder.kill()
    assert f"sleep (pid {holder.pid}, working directory)" in done.stderr


def test_umount_takes_relative_paths_links_and_trailing_slashes(source, tmp_path):
    (tmp_path / "dir").mkdir()
    (tmp_path / "link").symlink_to("dir")
    for path in ("dir", "./dir/", "link", "dir/../link//"):
        assert ctl("mount", source, "dir", cwd=tmp_path).returncode == 0
        done = ctl("umount", path, cwd=tmp_path)
        assert done.returncode == 0, f"{path}: {done.stderr}"
        assert not mounting.is_mounted(tmp_path / "dir")


def test_mount_points_with_odd_names(source, tmp_path):
    path = tmp_path / "a b\tc\\d\n#é"
    assert ctl("mount", source, path, "--mkdir").returncode == 0
    (entry,) = [e for e in ctl_json("list") if e["mountpoint"].startswith(str(tmp_path))]
    assert entry["mountpoint"] == str(path)
    assert r"a b\x09c\d\x0a#é" in ctl("list").stdout
    assert ctl("status", path).returncode == 0
    assert ctl("umount", path).returncode == 0


def test_umount_of_several_goes_on_after_a_failure(source, tmp_path):
    for name in ("a", "b"):
        ctl("mount", source, tmp_path / name, "--mkdir")
    done = ctl("--json", "umount", tmp_path / "a", tmp_path / "none", tmp_path / "b")
    assert done.returncode == 1
    assert [e["unmounted"] for e in json.loads(done.stdout)] == [True, False, True]


def test_umount_acts_on_the_top_one(source, tmp_path):
    path = tmp_path / "mnt"
    ctl("mount", source, path, "--mkdir")
    subprocess.run(["mount", "-t", "tmpfs", "none", path], check=True)
    covered = ctl("umount", path)
    mounting.umount(path)
    assert covered.stderr == f"mountctl: {path}: not a weightfs mount\n"
    assert ctl("umount", path).returncode == 0


@pytest.fixture
def bind(mounted, tmp_path):
    """bind(directory) makes a bind mount and returns its path."""
    made = []

    def make(directory):
        made.append(tmp_path / f"bind{len(made)}")
        made[-1].mkdir()
        subprocess.run(["mount", "--bind", directory, made[-1]], check=True)
        return made[-1]

    yield make
    for path in made:
        if mounting.is_mounted(path):
            mounting.umount(path, mounting.MNT_DETACH)


@pytest.mark.parametrize("part", [".", "tensors"])
def test_umount_of_a_bind_mount_does_not_wait_for_the_daemon(mounted, bind, part):
    path = bind(mounted / part)
    done = ctl("umount", "--timeout", "60", path, timeout=20)
    assert (done.returncode, done.stderr) == (0, "")
    assert not mounting.is_mounted(path)
    assert mounting.is_running(mounted.pid)
    assert state_of(mounted.path) == "ok"


def test_a_bind_mount_of_a_part_is_told_from_a_mount(mounted, bind):
    path = bind(mounted / "tensors")
    assert state_of(path) == "part"
    for command in (("status", path), ("ls", path), ("info", path / "model")):
        done = ctl(*command)
        assert done.returncode == 1
        assert done.stderr == \
            f"mountctl: {path}: only a part of a mount: name the whole one\n"


def test_a_covered_mount_has_not_the_state_of_the_one_on_top(source, tmp_path):
    other = tmp_path / "other.safetensors"
    other.write_bytes(writers.safetensors(TENSORS[:1]))
    path = tmp_path / "mnt"
    for model in (source, other):
        assert ctl("mount", model, path, "--mkdir").returncode == 0
    listed = [e for e in ctl_json("list") if e["mountpoint"] == str(path)]
    assert [ctl("umount", path).returncode for _ in listed] == [0, 0]
    assert [e["state"] for e in listed] == ["covered", "ok"]
    assert listed[0]["status"] is None
    assert listed[1]["status"]["tensor_count"] == 1


def as_nobody(*args):
    """Runs mountctl as another user, for whom the directories above it may be closed."""
    with open(MOUNTCTL, "rb") as program:
        return subprocess.run([f"/proc/self/fd/{program.fileno()}", *args],
                              user=65534, group=65534, extra_groups=[], cwd="/",
                              pass_fds=[program.fileno()], capture_output=True, text=True,
                              timeout=20, check=False)


def test_another_users_mount_is_refused_with_its_owner(mounted):
    done = as_nobody("umount", mounted.path)
    assert done.returncode == 1
    assert done.stderr == f"mountctl: {mounted.path}: unmount: it is the mount of user 0\n"
    assert mounting.is_mounted(mounted.path)


def test_umount_all(source, tmp_path):
    """In a mount namespace of its own: other mounts of this machine are not ours."""
    script = ('for n in a b; do "$1" mount "$2" "$3/$n" --mkdir || exit 9; done; '
              '"$1" --json umount --all; echo $?; "$1" --json list')
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c",
         'for m in $(awk \'$3 ~ /weightfs/ { print $2 }\' /proc/self/mounts); do '
         'umount -l "$m"; done; ' + script, "sh", MOUNTCTL, source, tmp_path],
        capture_output=True, text=True, timeout=60, check=True)
    unmounted, status, left = done.stdout.splitlines()
    assert [(e["mountpoint"], e["unmounted"]) for e in json.loads(unmounted)] == \
        [(str(tmp_path / "b"), True), (str(tmp_path / "a"), True)]
    assert (status, left) == ("0", "[]")


# ---- daemons that are dead or hang ----


@pytest.fixture
def abandoned(source, tmp_path):
    """(mount point, pid) of a mount that a test may break; gone afterwards in any case."""
    path = tmp_path / "broken"
    assert ctl("mount", source, path, "--mkdir").returncode == 0
    (pid,) = mounting.daemons_of(path)
    yield path, pid
    if mounting.is_mounted(path):
        mounting.umount(path, mounting.MNT_DETACH)
    if mounting.is_running(pid):
        os.kill(pid, signal.SIGKILL)


def state_of(path):
    (entry,) = [e for e in ctl_json("list") if e["mountpoint"] == str(path)]
    return entry["state"]


def test_a_dead_daemon_is_seen_and_unmounted(abandoned):
    path, pid = abandoned
    os.kill(pid, signal.SIGKILL)
    assert mounting.wait_for(lambda: not mounting.is_running(pid))
    assert state_of(path) == "dead"
    for command in (("status", path), ("ls", path), ("info", path / "model.json")):
        done = ctl(*command)
        assert done.returncode == 1
        assert done.stderr == \
            f"mountctl: {path}: the daemon is gone: unmount with 'mountctl umount'\n"
    assert ctl("umount", path).returncode == 0
    assert not mounting.is_mounted(path)


def state_of_task(task):
    return (task / "stat").read_text().rsplit(")", 1)[1].split()[0]


def stop(pid):
    """SIGSTOP, which takes a moment to reach all threads."""
    os.kill(pid, signal.SIGSTOP)
    tasks = list(Path(f"/proc/{pid}/task").iterdir())
    assert mounting.wait_for(lambda: all(state_of_task(task) in "Tt" for task in tasks))


def test_a_hung_daemon_delays_a_list_by_a_second_only(abandoned):
    path, pid = abandoned
    stop(pid)
    begin = time.monotonic()
    assert state_of(path) == "no answer"
    assert time.monotonic() - begin < 5


def test_force_ends_a_hung_daemon(abandoned):
    path, pid = abandoned
    stop(pid)
    done = ctl("umount", "--force", path)
    assert (done.returncode, done.stderr) == (0, "")
    assert not mounting.is_mounted(path)
    assert not mounting.is_running(pid)


def test_a_daemon_that_stays_is_an_error_in_time(abandoned):
    path, pid = abandoned
    stop(pid)
    done = ctl("umount", "--timeout", "1", path)
    assert done.returncode == 1
    assert f"(pid {pid}) is still there after 1 s" in done.stderr
    os.kill(pid, signal.SIGCONT)
    assert mounting.wait_for(lambda: not mounting.is_running(pid))


def test_force_takes_a_mount_from_its_users(abandoned):
    path, pid = abandoned
    with open(path / "model.json", "rb"):
        assert ctl("umount", path).returncode == 1
        assert ctl("umount", "--force", path).returncode == 0
    assert not mounting.is_mounted(path)
    assert mounting.wait_for(lambda: not mounting.is_running(pid))


# ---- list and status ----


def test_list_shows_what_the_daemon_says(mounted):
    (entry,) = [e for e in ctl_json("list") if e["mountpoint"] == str(mounted.path)]
    assert entry["source"] == str(mounted.source)
    assert entry["state"] == "ok"
    assert entry["status"]["tensor_count"] == len(TENSORS)
    (row,) = [r for r in words(ctl("list").stdout) if r[0] == str(mounted.path)]
    assert row[1:] == [str(mounted.source), "safetensors", "14", "1.5 KiB", "ok"]


def test_status_json_is_the_stats_file(mounted):
    def steady(document):
        changing = ("uptime_s", "requests", "reads", "page_cache", "numa")
        return {k: v for k, v in document.items() if k not in changing}

    status = ctl_json("status", mounted.path)
    assert steady(status) == steady(mounted.stats())
    assert status["weightfs"] == 1
    assert status["pid"] == mounted.pid
    assert status["mountpoint"] == str(mounted.path)
    assert status["source"] == str(mounted.source)
    assert status["total_bytes"] == sum(len(data) for *_, data in TENSORS)
    assert status["shards"] == [{"name": "model.safetensors", "state": "ok",
                                 "size": mounted.source.stat().st_size}]
    assert status["backings"]["stream"] == {"tensors": len(TENSORS),
                                            "bytes": status["total_bytes"], "opens": 0}


def test_status_has_every_documented_member(mounted):
    page = (mounting.ROOT / "docs" / "status.md").read_text()
    table = page.split("## status")[1].split("\n### ")[0]
    documented = {m.removesuffix("[]") for m in re.findall(r"^\| `([^`]+)`", table, re.M)}
    assert documented == set(ctl_json("status", mounted.path))


def test_status_counts_reads(mounted):
    before = ctl_json("status", mounted.path)["reads"]
    data = mounted.tensor("model.table").read_bytes()
    after = ctl_json("status", mounted.path)["reads"]
    assert after["count"] > before["count"]
    assert after["bytes"] - before["bytes"] >= len(data)


def test_status_for_people_has_sections(mounted):
    text = ctl("status", mounted.path).stdout
    assert [line for line in text.splitlines() if not line.startswith(" ")] == \
        ["model", "backing of tensors/", "page cache of the source", "reads", "options", "daemon"]
    assert f"{mounted.pid}" in text and "14 tensors" in text
    assert "  source cache keep\n" in text
    assert "\033" not in text


def test_status_for_people_names_options_that_were_chosen(mount, source):
    text = ctl("status", mount(source, "backing=stream", "source_cache=drop",
                               "prediction=off").path).stdout
    assert "  source cache drop\n  prediction   off\n" in text
    assert "  passthrough  none: the option backing=stream is set\n" in text
    # Without passthrough there is no memory that could fill.
    for line in ("memory", "clones"):
        assert f"  {line} " not in text
    assert text.count("prediction") == 1


def test_status_refuses_other_paths(tmp_path):
    done = ctl("status", tmp_path)
    assert (done.returncode, done.stderr) == (1, f"mountctl: {tmp_path}: not a weightfs mount\n")


# ---- ls ----


def test_ls_shows_every_tensor_in_the_models_order(mounted):
    head, *rows = words(ctl("ls", mounted.path).stdout)
    assert head == ["NAME", "DTYPE", "SHAPE", "SIZE", "BACKING"]
    assert [row[0] for row in rows] == [t["name"] for t in mounted.model()["tensors"]]
    assert ["model.layers.3.weight", "F32", "4,3", "48 B", "stream"] in rows
    assert ["model.scale", "F64", "scalar", "8 B", "stream"] in rows


def test_ls_columns_are_aligned(mounted):
    lines = ctl("ls", mounted.path).stdout.splitlines()
    end = lines[0].index("SIZE") + len("SIZE")
    assert all(line[end - 1] == "B" and line[end] == " " for line in lines[1:])


def test_ls_takes_shell_patterns(mounted):
    def names(*patterns):
        return [row[0] for row in words(ctl("ls", mounted.path, *patterns).stdout)[1:]]

    assert names("*.1?.*") == ["model.layers.10.weight", "model.layers.11.weight"]
    assert set(names("model.s*", "*table")) == {"model.scale", "model.table"}
    assert names("model.layers.[0-1].weight") == \
        ["model.layers.0.weight", "model.layers.1.weight"]


def test_ls_names_a_pattern_that_matches_nothing(mounted):
    done = ctl("ls", mounted.path, "layers", "*.scale")
    assert done.returncode == 1
    assert done.stderr == "mountctl: 'layers': no tensor has such a name\n"
    assert "model.scale" in done.stdout


def test_ls_of_a_directory_in_the_mount_asks_for_the_mount_point(mounted):
    done = ctl("ls", mounted / "tensors")
    assert done.returncode == 1
    assert done.stderr == \
        f"mountctl: {mounted.path}/tensors: holds no model: name the mount point\n"


def test_ls_sorts(mounted):
    def names(order):
        return [e["name"] for e in ctl_json("ls", mounted.path, "--sort", order)]

    by_number = sorted(NAMES, key=lambda n: [int(p) if p.isdigit() else -1 for p in n.split(".")])
    layers = [n for n in by_number if "layers" in n]
    assert [n for n in names("name") if "layers" in n] == layers
    assert names("size")[0] == "model.table" and names("size")[-1] == "model.scale"
    assert names("dtype")[-2:] == ["model.scale", "model.table"]
    offsets = {t["name"]: t["offset"] for t in mounted.model()["tensors"]}
    assert names("file") == sorted(NAMES, key=offsets.get)


def test_ls_json_is_model_json_with_backings(mounted):
    want = [{**t, "backing": "stream", "pinned": False} for t in mounted.model()["tensors"]]
    shown = ctl_json("ls", mounted.path)
    assert all(0 <= t.pop("cached_percent") <= 100 for t in shown)
    assert shown == want


def test_ls_long_shows_file_and_offset(mounted):
    entry = mounted.tensors()["model.table"]
    row = words(ctl("ls", "-l", mounted.path, "model.table").stdout)[1]
    assert row[-3:] == ["-", str(entry["offset"]), entry["file"]]


def test_ls_of_another_users_mount_does_not_know_what_is_pinned(source):
    """The daemon answers its own user only; backings are then asked of the files."""
    with tempfile.TemporaryDirectory() as place:
        os.chmod(place, 0o755)  # where tests run is closed to others
        with mounting.Mount(source, f"{place}/mnt", ["allow_other"]) as mounted:
            done = as_nobody("--json", "ls", mounted.path)
            rows = words(as_nobody("ls", "-l", mounted.path).stdout)
    assert (done.returncode, done.stderr) == (0, "")
    assert {(t["backing"], t["pinned"]) for t in json.loads(done.stdout)} == {("stream", None)}
    assert {(row[4], row[5]) for row in rows[1:]} == {("stream", "?")}


def test_sizes_of_terabytes_are_exact(mount, tmp_path):
    size = (1 << 43) + 1
    header = json.dumps({"big": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}})
    path = tmp_path / "big.safetensors"
    path.write_bytes(writers.safetensors_raw(header))
    os.truncate(path, path.stat().st_size + size)
    mounted = mount(path)
    (entry,) = ctl_json("ls", mounted.path)
    assert entry["nbytes"] == size
    assert str(size) in ctl("info", mounted / "tensors" / "big").stdout


def test_names_cannot_steer_the_terminal(mount):
    name = "a\x1b[31m\x07.\u009b\u202ex"
    mounted = mount(writers.safetensors([(name, "U8", [1], b"x")]))
    shown = "a\\x1b[31m\\x07.\\xc2\\x9b\\xe2\\x80\\xaex"
    assert shown in ctl("ls", mounted.path).stdout
    assert shown in ctl("info", mounted.tensor(name)).stdout
    assert shown in ctl("info", mounted.source).stdout
    assert [e["name"] for e in ctl_json("ls", mounted.path)] == [name]
    for command in (("ls", mounted.path), ("info", mounted.source), ("info", mounted.path),
                    ("list",), ("status", mounted.path), ("info", mounted.tensor(name))):
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", ctl(*command).stdout)


def on_terminal(*args, **env):
    """What mountctl prints on a terminal."""
    ours, theirs = pty.openpty()
    subprocess.run([MOUNTCTL, *map(str, args)], stdout=theirs, timeout=mounting.START_S,
                   env={**os.environ, "TERM": "xterm", "NO_COLOR": "", **env}, check=True)
    os.close(theirs)
    text = b""
    try:
        while piece := os.read(ours, 65536):
            text += piece
    except OSError:  # how a terminal says that the other side is closed
        pass
    os.close(ours)
    return text.decode()


def test_colours_only_on_a_terminal_without_no_color(mounted):
    assert "\033[1m" in on_terminal("ls", mounted.path)
    assert "\033" not in on_terminal("ls", mounted.path, NO_COLOR="1")
    assert "\033" not in ctl("ls", mounted.path).stdout


def test_a_terminal_gets_the_totals(mounted):
    assert "14 tensors, 1.5 KiB" in on_terminal("ls", mounted.path, NO_COLOR="1")
    assert "\n1 tensor, 8 B\r\n" in on_terminal("ls", mounted.path, "model.scale", NO_COLOR="1")


# ---- info ----


@pytest.mark.parametrize("view", ["tensors", "npy", "safetensors"])
def test_info_of_a_tensor_file(mounted, view):
    path = mounted.tensor("model.layers.3.weight", view)
    entry = mounted.tensors()["model.layers.3.weight"]
    assert ctl_json("info", path) == {
        "kind": "tensor", "path": str(path), "mountpoint": str(mounted.path),
        "source": str(mounted.source), "view": view, "name": entry["name"], "dtype": "F32",
        "shape": [4, 3], "format": "safetensors", "file": str(mounted.source),
        "offset": entry["offset"], "nbytes": 48, "backing": "stream"}
    lines = words(ctl("info", path).stdout)
    assert ["name", entry["name"]] in lines and ["view", view] in lines


def test_info_of_the_flat_view_and_a_scalar(mounted):
    document = ctl_json("info", mounted / "flat" / "npy" / "model.scale.npy")
    assert (document["view"], document["shape"]) == ("flat/npy", [])


@pytest.mark.parametrize("path, count, size", [
    ("", 14, 1584), ("tensors", 14, 1584), ("npy/model/layers", 12, 576), ("flat", 14, 1584),
    ("tensors/model/layers/1", 1, 48), ("flat/safetensors/", 14, 1584),
])
def test_info_of_a_directory_adds_up(mounted, path, count, size):
    document = ctl_json("info", mounted / path)
    assert document["kind"] == "directory"
    assert (document["tensor_count"], document["total_bytes"]) == (count, size)
    assert ["tensors", str(count)] in words(ctl("info", mounted / path).stdout)


def test_info_of_other_files(mounted):
    document = ctl_json("info", mounted / "files" / "model.safetensors")
    assert (document["kind"], document["nbytes"]) == ("file", mounted.source.stat().st_size)


def test_info_of_a_path_that_is_not_there(mounted, tmp_path):
    done = ctl("info", mounted / "tensors" / "none")
    assert done.returncode == 1
    assert done.stderr == \
        f"mountctl: {mounted.path}/tensors/none: look up: no such file or directory\n"
    done = ctl("info", tmp_path / "none")
    assert done.returncode == 1
    assert re.fullmatch(r"mountctl: [^\n]*none: [^\n]+\n", done.stderr)


def test_info_describes_a_model_without_mounting_it(source, tmp_path):
    text = ctl("info", source).stdout
    assert ["format", "safetensors"] in words(text)
    assert "files " not in text
    assert ["F32", "12", "576 B"] in words(text)
    assert ["model.table", "U8", "1000", "1000 B"] in words(text)
    assert "n" * 60 + "... (104 bytes)" in text
    assert not [e for e in mounting.mount_entries() if e[2] == str(source)]
    document = ctl_json("info", source)
    assert document["model"]["tensor_count"] == len(TENSORS)
    assert document["metadata"]["format"] == "pt"
    assert document["warnings"] == []


def test_info_shows_arrays_of_metadata_as_counts(tmp_path):
    path = tmp_path / "m.gguf"
    path.write_bytes(writers.gguf(
        [("t", [4], 0, bytes(16))],
        [("general.architecture", writers.STRING, "llama"),
         ("tokens", writers.ARRAY, (writers.STRING, ["<s>", "</s>", "\x1b[0m"])),
         ("odd", writers.STRING, b"a\xffb")]))
    rows = words(ctl("info", path).stdout)
    assert ["tokens", "[3 values]"] in rows
    assert ["general.architecture", "llama"] in rows
    assert ["odd", "a\\xffb"] in rows


def test_info_of_a_bad_model_is_one_sentence(tmp_path):
    bad = tmp_path / "bad.safetensors"
    bad.write_bytes(writers.safetensors_raw("{", length=1))
    done = ctl("info", bad)
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(rf"mountctl: {re.escape(str(bad))}: [^\n]+\n", done.stderr)


# ---- scale ----


@pytest.mark.skipif(mounting.SANITIZED, reason="a time that sanitizers do not keep")
def test_ls_of_92000_tensors_takes_less_than_two_seconds(mount, tmp_path):
    count = 92_000
    names = [f"model.layers.{i // 1500}.mlp.experts.{i % 500}.w{i // 500 % 3}.weight"
             for i in range(count)]
    assert len(set(names)) == count
    header = {name: {"dtype": "U8", "shape": [4, 4], "data_offsets": [16 * i, 16 * i + 16]}
              for i, name in enumerate(names)}
    path = tmp_path / "many.safetensors"
    path.write_bytes(writers.safetensors_raw(json.dumps(header), bytes(16 * count)))
    mounted = mount(path)
    for args in (("ls",), ("ls", "--json"), ("ls", "--sort", "file"), ("ls", "--sort", "name")):
        begin = time.monotonic()
        done = ctl(*args, mounted.path)
        took = time.monotonic() - begin
        assert done.returncode == 0
        assert done.stdout.count("\n") >= count
        assert took < 2, f"{args}: {took:.2f} s"
