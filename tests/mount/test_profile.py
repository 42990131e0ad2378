"""Recording how a loader uses a model, and having that ready the next time."""
import json
import os
import random
import socket
import subprocess

import pytest

import mounting
import pagecache
import writers
from mounting import status

MIB = 1 << 20
COUNT = 12
SIZE = 3 * MIB + 8
# No order of names, files or numbers.
ORDER = [7, 2, 9, 11, 0, 4, 3, 10, 1, 6]


def name_of(i):
    return f"part.{i}.weight"


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    tensors = [(name_of(i), "U8", [SIZE], random.Random(i).randbytes(SIZE)) for i in range(COUNT)]
    tensors += [("a small one", "U8", [100], bytes(100))]
    path = tmp_path_factory.mktemp("profile") / "model.safetensors"
    path.write_bytes(writers.safetensors(tensors))
    return path


def ctl(*args, **options):
    return subprocess.run([mounting.BIN / "mountctl", *map(str, args)], capture_output=True,
                          text=True, timeout=60, **options)


def ctl_json(*args):
    done = ctl("--json", *args)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def use(mounted, i):
    assert mounted.tensor(name_of(i)).read_bytes() == random.Random(i).randbytes(SIZE)


def recorded(mounted, path):
    assert ctl("profile", "record", mounted.path).returncode == 0
    for i in ORDER:
        use(mounted, i)
    mounted.tensor("a small one").read_bytes()
    done = ctl("profile", "stop", mounted.path, path)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def profile(source, tmp_path_factory):
    """Of a loader that takes the tensors in ORDER, and then the small one."""
    folder = tmp_path_factory.mktemp("recording")
    mounted = mounting.Mount(source, folder / "mnt", ("prediction=off", "backing=stream")).start()
    try:
        recorded(mounted, folder / "walk.profile")
    finally:
        mounted.stop()
    return folder / "walk.profile"


# ---- Recording ----


@pytest.mark.parametrize("options", [("backing=stream",), ("backing=resident",), ()],
                         ids=["stream", "resident", "auto"])
def test_a_recording_has_what_was_used_in_order(mount, source, tmp_path, options):
    mounted = mount(source, *options)
    use(mounted, 5)  # before the recording
    words = recorded(mounted, tmp_path / "p")
    assert words.startswith(f"{mounted.path}: {len(ORDER) + 1} tensors, 30.0 MiB of them used in ")
    assert words.endswith(f": written to {tmp_path / 'p'}\n")
    found = ctl_json("profile", "show", tmp_path / "p")
    assert found["model"] == "model" and found["tensor_count"] == COUNT + 1
    assert found["total_bytes"] == COUNT * SIZE + 100
    assert [use["name"] for use in found["uses"]] == [*map(name_of, ORDER), "a small one"]
    assert [use["bytes"] for use in found["uses"]] == [SIZE] * len(ORDER) + [100]
    assert {use["view"] for use in found["uses"]} == {"tensors"}
    times = [use["first_s"] for use in found["uses"]]
    assert times == sorted(times)


def test_a_recording_can_be_looked_at_while_it_goes_on(mount, source, tmp_path):
    mounted = mount(source, "backing=stream")
    assert not status(mounted)["prediction"]["recording"]
    assert ctl_json("profile", "record", mounted.path) == \
        {"mountpoint": str(mounted.path), "recording": True}
    assert status(mounted)["prediction"]["recording"]
    use(mounted, 3)
    assert [u["name"] for u in ctl_json("profile", "show", mounted.path)["uses"]] == [name_of(3)]
    use(mounted, 1)
    found = ctl_json("profile", "stop", mounted.path)
    assert (found["file"], found["tensors"], found["bytes"]) == (None, 2, 2 * SIZE)
    use(mounted, 2)
    # What was recorded is still there.
    assert ctl_json("profile", "stop", mounted.path, tmp_path / "p")["tensors"] == 2
    lines = (tmp_path / "p").read_text().splitlines()
    assert lines[0] == f"weightfs-profile 1 tensors={COUNT + 1} " \
                       f"bytes={COUNT * SIZE + 100} model=model"
    assert [line.split(" ", 4)[4] for line in lines[2:]] == [name_of(3), name_of(1)]


def test_a_recording_knows_the_view(mount, source):
    mounted = mount(source, "backing=stream")
    ctl("profile", "record", mounted.path)
    (mounted / "npy" / "part" / "4" / "weight.npy").read_bytes()
    assert ctl_json("profile", "show", mounted.path)["uses"][0]["view"] == "npy"


def test_what_cannot_be_done_is_one_sentence(mount, source, tmp_path):
    mounted = mount(source, "backing=stream")
    at = f"mountctl: {mounted.path}: "
    for action in ("stop", "show"):
        assert ctl("profile", action, mounted.path).stderr == \
            at + "nothing was recorded: see 'mountctl profile record'\n"
    ctl("profile", "record", mounted.path)
    assert ctl("profile", "record", mounted.path).stderr == \
        at + "a profile is being recorded: see 'mountctl profile stop'\n"
    missing = tmp_path / "none" / "p"
    assert ctl("profile", "stop", mounted.path, missing).stderr == \
        f"mountctl: {missing}: create: no such file or directory\n"
    assert ctl("profile", "show", tmp_path / "p").stderr == \
        f"mountctl: {tmp_path / 'p'}: open: no such file or directory\n"
    (tmp_path / "bad").write_text("weightfs-profile 1 tensors=1 bytes=1 model=m\nx\n")
    assert ctl("profile", "show", tmp_path / "bad").stderr == \
        f"mountctl: {tmp_path / 'bad'}: profile: line 2 is not of the form " \
        "'SECONDS SECONDS BYTES VIEW NAME'\n"


@pytest.mark.parametrize("action", ["record", "stop", "show"])
def test_a_daemon_that_is_gone_is_told(mount, source, action):
    mounted = mount(source, "backing=stream")
    mounted.kill()
    done = ctl("profile", action, mounted.path)
    assert (done.returncode, done.stderr) == \
        (1, f"mountctl: {mounted.path}: the daemon is gone: unmount with 'mountctl umount'\n")


@pytest.mark.parametrize("args", [(), ("record",), ("start", "x"), ("record", "a", "b", "c"),
                                  ("show", "a", "b", "c"), ("stop", "a", "b", "c")])
def test_wrong_usage_is_told(args):
    done = ctl("profile", *args)
    assert done.returncode == 2 and done.stdout == "" and len(done.stderr.splitlines()) == 1


def test_the_file_may_be_named_when_the_recording_begins(mount, source, tmp_path):
    mounted = mount(source, "backing=stream")
    assert ctl("profile", "record", mounted.path, "walk", cwd=tmp_path).returncode == 0
    use(mounted, 3)
    assert not (tmp_path / "walk").exists()
    done = ctl("profile", "stop", mounted.path, cwd="/")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith(f": written to {tmp_path}/walk\n")
    shown = ctl("--json", "profile", "show", mounted.path, tmp_path / "walk")
    assert [use["name"] for use in json.loads(shown.stdout)["uses"]] == [name_of(3)]
    # The next one was given no name, or another.
    ctl("profile", "record", mounted.path)
    assert ctl_json("profile", "stop", mounted.path)["file"] is None
    ctl("profile", "record", mounted.path, tmp_path / "unused")
    assert ctl_json("profile", "stop", mounted.path, tmp_path / "other")["file"] == \
        str(tmp_path / "other")
    assert not (tmp_path / "unused").exists()


def test_nothing_is_recorded_for_a_file_that_would_not_be_written(mount, source, tmp_path):
    mounted = mount(source, "backing=stream")
    for name, words in ((source, "not written: there is another file of this name"),
                        (tmp_path / os.fsdecode(b"\xff"),
                         "no UTF-8: name the file when the recording stops")):
        done = ctl("profile", "record", mounted.path, name, errors="surrogateescape")
        assert done.returncode == 1 and done.stderr.endswith(f": {words}\n")
    assert "nothing was recorded" in ctl("profile", "stop", mounted.path).stderr


# A user's mount that root may look at, and that root's recording ends.
OF_A_USER = """
node=$(mktemp -d) && mount -t tmpfs none "$node" && mknod -m 666 "$node/fuse" c 10 229 &&
    mount --bind "$node/fuse" /dev/fuse && echo user_allow_other > "$node/conf" &&
    mount --bind "$node/conf" /etc/fuse.conf || exit 9
user() { setpriv --reuid 65534 --regid 65534 --clear-groups "$@"; }
user weightfs "$SOURCE" "$FOLDER/mnt" -o allow_other && user mountctl profile record "$FOLDER/mnt" "$FOLDER/chosen"
mountctl profile stop "$FOLDER/mnt"
user mountctl profile stop "$FOLDER/mnt"
user mountctl umount "$FOLDER/mnt"
umount -l "$node" && rmdir "$node"
"""


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to give up privileges")
def test_another_users_daemon_does_not_choose_what_root_writes(tmp_path):
    mounting.let_others_in(tmp_path)
    folder = tmp_path / "user"
    (folder / "mnt").mkdir(parents=True)
    for path in (folder, folder / "mnt"):
        os.chown(path, 65534, 65534)
    model = tmp_path / "model.safetensors"
    model.write_bytes(writers.safetensors([("a", "U8", [4], b"abcd")]))
    env = {**os.environ, "PATH": f"{mounting.BIN}:{os.environ['PATH']}", "SOURCE": str(model),
           "FOLDER": str(folder)}
    env.pop("XDG_RUNTIME_DIR", None)
    done = subprocess.run(["unshare", "-m", "sh", "-c", OF_A_USER], env=env, cwd="/", text=True,
                          stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False)
    by_root, by_user = done.stdout.splitlines()[1:3]
    assert done.stderr == f"mountctl: warning: {folder}/mnt: not written: name the file: " \
        "the mount is another user's\n"
    assert "written" not in by_root
    assert by_user.endswith(f": written to {folder}/chosen")
    assert (folder / "chosen").stat().st_uid == 65534


def test_a_profile_is_written_in_place_of_the_old_one_or_not_at_all(mount, source, tmp_path):
    mounted = mount(source, "backing=stream")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "p").write_text("weightfs-profile 1 old")
    recorded(mounted, folder / "p")
    assert (folder / "p").read_text().startswith("weightfs-profile 1 ")
    assert os.listdir(folder) == ["p"]
    assert ctl("profile", "stop", mounted.path, folder / "new").returncode == 0
    assert os.stat(folder / "new").st_mode & 0o777 == 0o666 & ~current_umask()
    done = ctl("profile", "stop", mounted.path, "/dev/stdout")
    assert done.stdout.startswith("weightfs-profile 1 ")


def test_what_is_no_profile_is_not_overwritten(mount, source, tmp_path):
    mounted = mount(source, "backing=stream")
    recorded(mounted, tmp_path / "p")
    model = tmp_path / "other.safetensors"
    model.write_bytes(b"a model")
    done = ctl("profile", "stop", mounted.path, model)
    assert (done.returncode, done.stderr) == \
        (1, f"mountctl: {model}: not written: there is another file of this name\n")
    assert model.read_bytes() == b"a model" and sorted(os.listdir(tmp_path))[-2:] == ["other.safetensors", "p"]


def test_a_profile_stays_behind_its_link_and_keeps_its_mode(mount, source, tmp_path):
    mounted = mount(source, "backing=stream")
    recorded(mounted, tmp_path / "p")
    (tmp_path / "p").chmod(0o600)
    (tmp_path / "link").symlink_to("p")
    use(mounted, 5)
    ctl("profile", "record", mounted.path)
    assert ctl("profile", "stop", mounted.path, tmp_path / "link").returncode == 0
    assert os.readlink(tmp_path / "link") == "p"
    assert len((tmp_path / "p").read_text().splitlines()) == 2
    assert os.stat(tmp_path / "p").st_mode & 0o777 == 0o600


def current_umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_names_in_a_profile_cannot_steer_the_terminal(tmp_path):
    path = tmp_path / "p"
    path.write_text("weightfs-profile 1 tensors=1 bytes=1 model=m\n"
                    "0.000 0.000 1 tensors \u202ex%1B[2J\n")
    text = ctl("profile", "show", path).stdout
    assert "\u202e" not in text and "\033" not in text and "%1B[2J" in text
    assert ctl_json("profile", "show", path)["uses"][0]["name"] == "\u202ex\033[2J"


def test_the_daemon_survives_any_request_about_profiles(mount, source):
    mounted = mount(source, "backing=stream")
    ctl("profile", "record", mounted.path)
    for request in ({}, {"action": 3}, {"action": "erase"}, {"action": "read", "from": -1},
                    {"action": "read", "from": 1 << 60}, {"action": "read", "from": "x"}):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(os.readlink(mounted / ".weightfs/socket"))
            client.sendall(json.dumps({"command": "profile", **request}).encode() + b"\n")
            reply = json.loads(client.makefile().read())
        assert reply["ok"] == (request.get("action") == "read"), reply
    assert ctl_json("profile", "show", mounted.path)["uses"] == []


# ---- Replaying ----


def test_tensors_are_resident_before_anybody_asks(mount, source, profile):
    mounted = mount(source, f"profile={profile}")
    if not status(mounted)["passthrough"]["available"]:
        pytest.skip("no passthrough: " + status(mounted)["passthrough"]["reason"])
    for i in ORDER:
        path = mounted.tensor(name_of(i))
        assert mounting.wait_for(lambda: mounting.backing(path) == "resident"), i
    # Those that were not used are not asked for.
    for i in set(range(COUNT)) - set(ORDER):
        assert mounting.backing(mounted.tensor(name_of(i))) == "stream"
    for i in ORDER:
        use(mounted, i)
    found = status(mounted)["prediction"]
    assert (found["order"], found["hits"], found["predicted"]) == ("profile", len(ORDER), len(ORDER))
    assert found["hit_rate"] == 1


def test_the_status_names_the_profile_also_where_the_mount_was_told_a_relative_one(
        source, profile, tmp_path):
    (tmp_path / "mnt").mkdir()
    done = ctl("mount", source, tmp_path / "mnt", "-o", f"profile={profile.name}", cwd=profile.parent)
    assert done.returncode == 0, done.stderr
    try:
        assert ctl_json("status", tmp_path / "mnt")["options"]["profile"] == str(profile)
        assert f"  profile      {profile}\n" in ctl("status", tmp_path / "mnt").stdout
    finally:
        assert ctl("umount", tmp_path / "mnt").returncode == 0


def test_the_source_is_read_ahead_where_nothing_can_be_resident(mount, source, profile):
    reason = pagecache.why_not(source)
    if reason:
        pytest.skip(reason)
    pagecache.empty(source)
    mounted = mount(source, f"profile={profile}", "backing=stream")
    entry = mounted.tensors()[name_of(ORDER[4])]
    assert mounting.wait_for(lambda: pagecache.share(
        source, entry["offset"] + 4096, entry["offset"] + entry["nbytes"] - 4096) == 1)
    for i in ORDER:
        use(mounted, i)
    assert status(mounted)["prediction"]["hits"] == len(ORDER)


def test_the_window_moves_with_what_is_used(mount, source, profile):
    """A quarter of the limit is asked for at a time: two tensors."""
    mounted = mount(source, f"profile={profile}", f"resident_limit={4 * 2 * (SIZE + MIB)}")
    if not status(mounted)["passthrough"]["available"]:
        pytest.skip("no passthrough: " + status(mounted)["passthrough"]["reason"])
    for at, i in enumerate(ORDER):
        assert mounting.wait_for(
            lambda: mounting.backing(mounted.tensor(name_of(i))) == "resident"), i
        if at + 3 < len(ORDER):
            assert mounting.backing(mounted.tensor(name_of(ORDER[at + 3]))) == "stream"
        use(mounted, i)
    assert status(mounted)["prediction"]["hits"] == len(ORDER)


def test_a_loader_that_does_otherwise_is_followed_by_what_it_does(mount, source, profile):
    mounted = mount(source, f"profile={profile}", f"resident_limit={4 * 2 * (SIZE + MIB)}")
    for i in range(COUNT):
        use(mounted, i)
    assert status(mounted)["prediction"]["order"] != "profile"


def test_tensors_that_the_model_does_not_have_are_told_and_ignored(source, profile, tmp_path):
    other = tmp_path / "other"
    other.write_text(profile.read_text() + "1.000 0.000 4 tensors gone\n")
    (tmp_path / "mnt").mkdir()
    done = mounting.run_weightfs(source, tmp_path / "mnt", "-o", f"profile={other}")
    try:
        assert done.returncode == 0
        assert done.stderr == f"weightfs: warning: {other}: profile: tensors that are not in this model " \
                              "are ignored: 1\n"
    finally:
        mounting.umount(tmp_path / "mnt")
        assert mounting.wait_for(lambda: not mounting.daemons_of(tmp_path / "mnt"))


@pytest.mark.parametrize("text, words", [
    ("", "profile: is empty"),
    ("\x7fELF\0", "profile: does not begin with 'weightfs-profile 1 '"),
    ("weightfs-profile 1 tensors=1 bytes=1 model=m%00\n0.000 0.000 1 tensors x\n",
     "profile: of another model: none of its 1 tensors is in this one; "
     "it was recorded from 'm%00'"),
    ("weightfs-profile 1 tensors=1 bytes=1 model=m\n0.000 0.000 1 tensors\n",
     "profile: line 2 is not of the form 'SECONDS SECONDS BYTES VIEW NAME'"),
], ids=["empty", "binary", "another", "line"])
def test_a_profile_that_is_none_is_refused_before_anything_is_mounted(source, tmp_path, text, words):
    path = tmp_path / "p"
    path.write_text(text)
    (tmp_path / "mnt").mkdir()
    done = mounting.run_weightfs(source, tmp_path / "mnt", "-o", f"profile={path}")
    assert (done.returncode, done.stderr) == (1, f"weightfs: {path}: {words}\n")
    assert not mounting.is_mounted(tmp_path / "mnt")


def test_a_profile_that_cannot_be_read_is_refused(source, tmp_path):
    (tmp_path / "mnt").mkdir()
    done = mounting.run_weightfs(source, tmp_path / "mnt", "-o", f"profile={tmp_path}/none")
    assert (done.returncode, done.stderr) == \
        (1, f"weightfs: {tmp_path}/none: profile: read: no such file or directory\n")


def test_a_profile_and_no_prediction_is_told(mount, source, profile, tmp_path):
    (tmp_path / "mnt").mkdir()
    done = mounting.run_weightfs(source, tmp_path / "mnt", "-o", f"prediction=off,profile={profile}")
    try:
        assert done.stderr == f"weightfs: warning: {profile}: profile: has no effect with prediction=off\n"
    finally:
        mounting.umount(tmp_path / "mnt")
        assert mounting.wait_for(lambda: not mounting.daemons_of(tmp_path / "mnt"))
