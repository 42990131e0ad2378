"""mountctl doctor: what it says of a machine is what mounts of that machine are like."""
import errno
import json
import os
import pty
import shutil
import subprocess
import time
from pathlib import Path

import pytest

import mounting
import writers

MOUNTCTL = mounting.BIN / "mountctl"
SIZE = 1 << 20
AS_NO_ADMIN = ["setpriv", "--bounding-set", "-sys_admin"]
NOBODY = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]

needs_root = pytest.mark.skipif(os.getuid() != 0, reason="needs root to give up privileges")


@pytest.fixture
def source(tmp_path):
    mounting.let_others_in(tmp_path)
    path = tmp_path / "model.safetensors"
    path.write_bytes(writers.safetensors([("w", "U8", [SIZE], bytes(SIZE))]))
    path.chmod(0o644)
    return path


def run(*args, command=(), **kwargs):
    return subprocess.run([*command, MOUNTCTL, *args], stdin=subprocess.DEVNULL, timeout=20,
                          capture_output=True, text=True, check=False, **kwargs)


def doctor(*args, **kwargs):
    """(exit status, rows by id)"""
    done = run("--json", "doctor", *args, **kwargs)
    assert done.stderr == "", done.stderr
    document = json.loads(done.stdout)
    assert list(document) == ["works", "checks"]
    assert document["works"] == (done.returncode == 0)
    for row in document["checks"]:
        assert list(row) == ["id", "mark", "found", "cost", "advice"]
        assert row["mark"] in ("ok", "missing", "hint")
        assert (row["cost"] is None) == (row["mark"] == "ok") and row["found"]
    return done.returncode, {row["id"]: row for row in document["checks"]}


# ---- it says what is ----

def real_mount(source, tmp_path, command=(), **kwargs):
    """What mounting really does under `command`: the status document, None if it fails."""
    mnt, out = tmp_path / "real", tmp_path / "real.json"
    for folder in (mnt,):
        folder.mkdir(exist_ok=True)
        folder.chmod(0o777)
    out.touch()
    out.chmod(0o666)
    script = ('"$0/weightfs" "$1" "$2" -o backing=resident && '
              '"$0/mountctl" --json status "$2" >"$3"; s=$?; "$0/mountctl" umount "$2"; exit $s')
    env = {name: value for name, value in os.environ.items() if name != "XDG_RUNTIME_DIR"}
    done = subprocess.run([*command, "sh", "-c", script, mounting.BIN, source, mnt, out], env=env,
                          stdin=subprocess.DEVNULL, capture_output=True, timeout=30, cwd="/",
                          check=False, **kwargs)
    return json.loads(out.read_text()) if done.returncode == 0 else None


def forbid_fsopen():
    mounting.forbid(mounting.FSOPEN, errno.EPERM)


@needs_root
@pytest.mark.parametrize("command, kwargs", [
    ([], {}),
    (NOBODY, {}),
    (mounting.AS_NOBODY, {}),
    (mounting.AS_CONTAINER, {}),
    (AS_NO_ADMIN, {}),
    ([], {"preexec_fn": forbid_fsopen}),
], ids=["root", "user", "user with the device", "container", "no CAP_SYS_ADMIN", "seccomp"])
def test_its_rows_are_what_a_mount_is_like(source, tmp_path, command, kwargs):
    code, rows = doctor(command=command, **kwargs)
    status = real_mount(source, tmp_path, command, **kwargs)
    assert (code == 0) == (status is not None)
    if status is None:
        assert "missing" in (rows["fuse_device"]["mark"], rows["mounting"]["mark"])
        return
    # Passthrough needs the tmpfs too: a mount gives the first reason that there is.
    refused = [row for row in (rows["huge_pages"], rows["passthrough"]) if row["mark"] != "ok"]
    assert status["passthrough"]["available"] == (refused == [])
    if refused:
        assert status["passthrough"]["reason"] == refused[0]["found"]
    raised = status["readahead"]["source"] == "bdi"
    assert raised == (rows["readahead"]["mark"] == "ok")
    assert (status["sandbox"]["landlock"] and status["sandbox"]["seccomp"]) \
        == (rows["sandbox"]["mark"] == "ok") or mounting.SANITIZED
    assert rows["libfuse"]["found"].split(",")[0] in \
        mounting.run_weightfs("--version").stdout


@needs_root
def test_without_the_device_nothing_works(source):
    hidden = ["unshare", "-m", "sh", "-c", 'mount --bind /dev/null /dev/fuse && exec "$@"', "sh"]
    code, rows = doctor(source, command=hidden)
    assert code == 1 and rows["mounting"]["mark"] == "missing"
    done = run("doctor", command=hidden)
    assert done.returncode == 1
    assert done.stdout.endswith("\nmodels cannot be mounted here\n")


def test_the_machines_files_are_quoted_right():
    _, rows = doctor()
    assert rows["kernel"]["found"] == f"Linux {os.uname().release}"
    nodes = Path("/sys/devices/system/node/online")
    if nodes.exists() and nodes.read_text().strip() == "0":
        assert rows["numa"]["found"] == "one node"
    assert (rows["pressure"]["mark"] == "ok") == Path("/proc/pressure/memory").exists()


# ---- a model ----

def can_reflink(source):
    copy = source.parent / "copy"
    done = subprocess.run(["cp", "--reflink=always", source, copy], capture_output=True, check=False)
    copy.unlink(missing_ok=True)
    return done.returncode == 0


def test_the_file_system_of_a_model(source):
    for path in (source, source.parent):
        code, rows = doctor(path)
        assert code == doctor()[0]
        assert (rows["reflink"]["mark"] == "ok") == can_reflink(source)
        try:
            os.close(os.open(source, os.O_RDONLY | os.O_DIRECT))
            direct = True
        except OSError:
            direct = False
        assert (rows["direct_io"]["mark"] == "ok") == direct
    assert not {"direct_io", "reflink"} & set(doctor()[1])


@needs_root
def test_reflinks_of_xfs(source, tmp_path):
    if not shutil.which("mkfs.xfs"):
        pytest.skip("no mkfs.xfs")
    image, mnt = tmp_path / "image", tmp_path / "xfs"
    mnt.mkdir()
    with open(image, "wb") as file:
        file.truncate(320 << 20)
    subprocess.run(["mkfs.xfs", "-q", "-m", "reflink=1", image], check=True)
    if subprocess.run(["mount", "-o", "loop", image, mnt], capture_output=True,
                      check=False).returncode != 0:
        pytest.skip("no loop devices, or a kernel without XFS")
    try:
        copy = shutil.copy(source, mnt)
        assert doctor(copy)[1]["reflink"] == {
            "id": "reflink", "mark": "ok", "found": "xfs shares blocks between files",
            "cost": None, "advice": None}
        assert os.listdir(mnt) == ["model.safetensors"]
    finally:
        assert mounting.umount(mnt) == 0


def test_a_directory_without_files_holds_no_model(tmp_path):
    folder = tmp_path / "empty"
    folder.mkdir()
    _, rows = doctor(folder)
    for row in (rows["direct_io"], rows["reflink"]):
        assert (row["mark"], row["found"]) == ("missing", "holds no model")


def test_a_path_that_is_not_there(tmp_path):
    done = run("doctor", tmp_path / "none")
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr == f"mountctl: {tmp_path}/none: look up: no such file or directory\n"
    assert run("doctor", "a", "b").returncode == 2


# ---- a mount ----

def test_a_mount_and_why_it_is_not_more(mount, source):
    mounted = mount(source, "backing=stream")
    code, rows = doctor(mounted.path)
    assert code == 0
    assert rows["mount_passthrough"]["mark"] == "ok"  # as it was asked for
    assert rows["mount_passthrough"]["found"] == mounted.stats()["passthrough"]["reason"]
    assert rows["mount_backing"]["found"].startswith("stream: stream 1 tensor,")
    assert rows["mount_files"]["mark"] == "ok"
    assert "direct_io" in rows  # of what is mounted there
    with open(source, "ab") as file:
        file.write(b"x")

    def files():
        return doctor(mounted.path)[1]["mount_files"]
    try:
        os.stat(mounted / "tensors/w")
    except OSError:
        pass
    assert mounting.wait_for(lambda: files()["mark"] == "missing")
    assert files()["found"] == "1 of 1 changed"


def test_what_somebody_evicted_is_no_lack_of_room(mount, source):
    mounted = mount(source, "backing=resident")
    passthrough = mounted.stats()["passthrough"]
    if not passthrough["available"]:
        pytest.skip("no passthrough: " + passthrough["reason"])
    for command in (("prefetch", "--resident"), ("evict",)):
        name, *options = command
        assert run(name, mounted.path, "*", *options).returncode == 0
    row = doctor(mounted.path)[1]["mount_memory"]
    assert row["mark"] == "ok" and "0 evicted for want of room" in row["found"], row
    # Nor is it one that a choice leaves out something.
    assert doctor(mounted.path)[1]["mount_clones"]["mark"] == "ok"


# ---- it changes nothing ----

def listing(folder):
    return [(entry.name, entry.stat().st_mtime_ns) for entry in sorted(folder.iterdir())]


# Beside the mounts: descriptors and processes end with the programs.
MOUNTS_BEFORE_AND_AFTER = """
cat /proc/self/mountinfo >"$1/before"
"$0/mountctl" doctor "$2" >"$1/said"
cat /proc/self/mountinfo >"$1/after"
"""


@needs_root
def test_it_is_quick_and_leaves_nothing(source, tmp_path):
    """In a mount namespace of its own: others of this machine may mount something meanwhile."""
    folder, out = tmp_path / "model", tmp_path / "out"
    folder.mkdir()
    out.mkdir()
    model = Path(shutil.copy(source, folder))
    before, start = (listing(folder), folder.stat().st_mtime_ns, model.read_bytes()), time.monotonic()
    subprocess.run(["unshare", "-m", "sh", "-ec", MOUNTS_BEFORE_AND_AFTER, mounting.BIN, out, model],
                   check=True, timeout=20)
    assert time.monotonic() - start < (20 if mounting.SANITIZED else 2)
    assert (listing(folder), folder.stat().st_mtime_ns, model.read_bytes()) == before
    assert "passthrough" in (out / "said").read_text()
    assert (out / "before").read_text() == (out / "after").read_text()


# ---- how it looks ----

def test_each_row_is_one_line_with_what_is_lacking_below(source):
    lines = run("doctor", source).stdout.splitlines()
    _, rows = doctor(source)
    shown = [line for line in lines if line.split(" ")[0] in ("ok", "missing", "hint")]
    assert [line.split()[0] for line in shown] == [row["mark"] for row in rows.values()]
    below = [line.strip() for line in lines if line.startswith(" " * 26)]
    assert below == [text for row in rows.values() for text in (row["cost"], row["advice"]) if text]
    assert lines[0] == "this machine" and "the file system of the model" in lines


def on_a_terminal(**more):
    main, side = pty.openpty()
    env = {**{k: v for k, v in os.environ.items() if k != "NO_COLOR"}, "TERM": "xterm", **more}
    subprocess.run([MOUNTCTL, "doctor"], stdout=side, stderr=side, stdin=subprocess.DEVNULL,
                   env=env, timeout=20, check=False)
    os.close(side)
    text = b""
    while True:
        try:
            piece = os.read(main, 65536)
        except OSError:
            break
        if not piece:
            break
        text += piece
    os.close(main)
    return text


def test_colours_only_on_a_terminal_and_without_no_color():
    assert b"\033[32mok" in on_a_terminal()
    assert b"\033" not in on_a_terminal(NO_COLOR="1")
    assert "\033" not in run("doctor").stdout
