"""Mounting and unmounting, as mount(8), init systems and impatient people do it."""
import errno
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

import mounting
import writers

DATA = bytes(range(256)) * 64


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(writers.safetensors([("a.w", "U8", [len(DATA)], DATA)]))
    return path


@pytest.fixture
def mnt(tmp_path):
    path = tmp_path / "mnt"
    path.mkdir()
    return path


def gone(pid):
    return mounting.wait_for(lambda: not mounting.is_running(pid), mounting.START_S)


def test_the_tree_can_be_used_when_the_program_returns(source, mnt):
    for _ in range(10):
        done = mounting.run_weightfs(source, mnt)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert (mnt / "tensors/a/w").read_bytes() == DATA
        (pid,) = mounting.daemons_of(mnt)
        assert mounting.umount(mnt) == 0
        assert gone(pid)


def test_the_mount_table_says_what_it_is(mount, source):
    mounted = mount(source)
    (entry,) = [e for e in mounting.mount_entries() if e[0] == str(mounted.path)]
    _, kind, fsname, options, super_options = entry
    assert kind == "fuse.weightfs"
    assert fsname == str(source)
    assert "ro" in options.split(",")
    assert {"nosuid", "nodev"} <= set(options.split(","))
    assert "ro" in super_options.split(",")


def test_the_source_may_be_relative(source, mnt):
    done = subprocess.run([mounting.WEIGHTFS, source.name, mnt.name], cwd=source.parent,
                          stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    # The daemon has left the directory: the attribute is absolute, the bytes come.
    assert os.getxattr(mnt / "tensors/a/w", "user.weightfs.file").decode() == str(source)
    assert (mnt / "tensors/a/w").read_bytes() == DATA
    assert mounting.umount(mnt) == 0


def test_odd_characters_in_paths(tmp_path):
    folder = tmp_path / "a b,c=d\\é"
    folder.mkdir()
    source = folder / "m,o=1 x.safetensors"
    source.write_bytes(writers.safetensors([("w", "U8", [3], b"abc")]))
    with mounting.Mount(source, tmp_path / "mnt point,é") as mounted:
        assert (mounted / "tensors/w").read_bytes() == b"abc"
        (entry,) = [e for e in mounting.mount_entries() if e[0] == str(mounted.path)]
        assert entry[1] == "fuse.weightfs"


def foreground(source, mnt, *args, hangup=signal.SIG_DFL):
    child = subprocess.Popen([mounting.WEIGHTFS, source, mnt, "-f", *args],
                             stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                             stderr=subprocess.PIPE, text=True,
                             preexec_fn=lambda: signal.signal(signal.SIGHUP, hangup))
    assert mounting.wait_for(lambda: mounting.is_mounted(mnt), mounting.START_S)
    return child


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_unmounts_a_daemon_in_the_foreground(source, mnt, number):
    child = foreground(source, mnt)
    assert (mnt / "tensors/a/w").read_bytes() == DATA
    child.send_signal(number)
    assert child.wait(mounting.START_S) == 0
    assert not mounting.is_mounted(mnt)


def test_each_thread_has_a_channel_of_its_own(mount, source):
    """With either libfuse, and beside the one that was mounted."""
    mounted = mount(source)
    channels = [fd for fd in Path(f"/proc/{mounted.pid}/fd").iterdir()
                if os.readlink(fd) == "/dev/fuse"]
    assert len(channels) >= 2


def test_a_hangup_that_is_ignored_stays_ignored(source, mnt):
    """As under nohup(1)."""
    child = foreground(source, mnt, hangup=signal.SIG_IGN)
    child.send_signal(signal.SIGHUP)
    assert (mnt / "tensors/a/w").read_bytes() == DATA
    child.send_signal(signal.SIGTERM)
    assert child.wait(mounting.START_S) == 0
    assert not mounting.is_mounted(mnt)


def test_sigterm_unmounts_a_daemon_in_the_background(source, mnt):
    assert mounting.run_weightfs(source, mnt).returncode == 0
    (pid,) = mounting.daemons_of(mnt)
    os.kill(pid, signal.SIGTERM)
    assert gone(pid) and not mounting.is_mounted(mnt)


def test_umount_ends_a_daemon_in_the_foreground(source, mnt):
    child = foreground(source, mnt)
    # Mounted is not yet ready: the daemon itself may still look at the tree.
    assert mounting.wait_for(lambda: mounting.umount(mnt) == 0)
    assert child.wait(mounting.START_S) == 0


def test_fusermount_unmounts(source, mnt):
    if not shutil.which("fusermount3"):
        pytest.skip("no fusermount3")
    assert mounting.run_weightfs(source, mnt).returncode == 0
    (pid,) = mounting.daemons_of(mnt)
    subprocess.run(["fusermount3", "-u", mnt], check=True)
    assert gone(pid) and not mounting.is_mounted(mnt)


def test_sigkill_leaves_a_dead_mount_that_umount_clears(source, mnt):
    assert mounting.run_weightfs(source, mnt).returncode == 0
    (pid,) = mounting.daemons_of(mnt)
    os.kill(pid, signal.SIGKILL)
    assert gone(pid)
    with pytest.raises(OSError) as caught:
        os.listdir(mnt)
    assert caught.value.errno in (errno.ENOTCONN, errno.ECONNABORTED)
    assert mounting.is_mounted(mnt)
    assert mounting.umount(mnt) == 0
    assert os.listdir(mnt) == []
    # The next mount finds nothing of the dead one in its way.
    with mounting.Mount(source, mnt) as mounted:
        assert (mounted / "tensors/a/w").read_bytes() == DATA


def test_umount_of_a_used_mount_is_busy_and_lazy_works(source, mnt):
    assert mounting.run_weightfs(source, mnt).returncode == 0
    (pid,) = mounting.daemons_of(mnt)
    with open(mnt / "tensors/a/w", "rb") as file:
        assert mounting.umount(mnt) == errno.EBUSY
        assert mounting.umount(mnt, mounting.MNT_DETACH) == 0
        assert not mounting.is_mounted(mnt)
        assert file.read() == DATA
    assert gone(pid)


def test_a_child_inherits_an_open_file(mount, source):
    mounted = mount(source)
    fd = os.open(mounted / "tensors/a/w", os.O_RDONLY)
    child = os.fork()
    if child == 0:
        os._exit(0 if os.pread(fd, len(DATA), 0) == DATA else 1)
    os.close(fd)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0


def test_one_source_mounted_twice(mount, source):
    one, two = mount(source), mount(source)
    assert one.pid != two.pid
    one.stop()
    assert (two / "tensors/a/w").read_bytes() == DATA


def test_many_mounts_at_once(mount, source):
    mounts = [mount(source) for _ in range(10)]
    for mounted in mounts:
        assert (mounted / "tensors/a/w").read_bytes() == DATA


def test_mount_over_a_mount(source, mnt):
    with mounting.Mount(source, mnt):
        done = mounting.run_weightfs(source, mnt)
        if done.returncode == 0:
            assert mounting.umount(mnt) == 0
            assert mounting.wait_for(lambda: len(mounting.daemons_of(mnt)) == 1)
        else:
            assert done.stderr.startswith("weightfs: ")


def test_the_daemon_leaves_terminal_and_directory(mount, source):
    pid = mount(source).pid
    assert os.getsid(pid) != os.getsid(0)
    assert os.readlink(f"/proc/{pid}/cwd") == "/"
    for fd in (0, 1):
        assert not os.readlink(f"/proc/{pid}/fd/{fd}").startswith("/dev/pts")


def test_the_caller_does_not_wait_for_a_pipe(source, mnt):
    """`weightfs ... | cat` must end when the mount is ready."""
    start = time.monotonic()
    subprocess.run(f"'{mounting.WEIGHTFS}' '{source}' '{mnt}' 2>&1 | cat", shell=True, check=True,
                   timeout=mounting.START_S)
    assert time.monotonic() - start < mounting.START_S
    assert mounting.umount(mnt) == 0


def as_user(uid, *command):
    return subprocess.run(command, user=uid, group=uid, extra_groups=[], capture_output=True)


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to become another user")
@pytest.mark.parametrize("options, works", [([], False), (["allow_other"], True)])
def test_allow_other(mount, source, tmp_path, options, works):
    mounted = mount(source, *options)
    for folder in (tmp_path, *tmp_path.parents):
        if folder.owner() == "root" and folder != folder.parent and "pytest" in str(folder):
            folder.chmod(0o755)
    done = as_user(65534, "cat", str(mounted / "tensors/a/w"))
    assert (done.returncode == 0) == works, done.stderr
    assert done.stdout == (DATA if works else b"")


# ---- through mount(8) ----

# mount(8) starts helpers with a PATH of its own. In a mount namespace the program can be
# there without being installed.
AS_INSTALLED = """set -eu
mount --bind "$BIN" /usr/local/bin
mount -t fuse.weightfs "$SOURCE" "$MNT" "$@"
grep -q ' fuse.weightfs ' /proc/self/mountinfo
cat "$MNT/tensors/a/w"
umount "$MNT"
"""


def mount_command(tmp_path, source, mnt, *options):
    """Mounts with mount(8), prints a tensor and unmounts."""
    if os.getuid() != 0:
        pytest.skip("mount(8) needs root")
    if not shutil.which("mount.fuse3", path="/sbin:/usr/sbin"):
        pytest.skip("no mount.fuse3")
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "weightfs").symlink_to(mounting.WEIGHTFS)
    env = dict(os.environ, BIN=str(folder), SOURCE=str(source), MNT=str(mnt))
    done = subprocess.run(["unshare", "-m", "sh", "-c", AS_INSTALLED, "sh", *options], env=env,
                          stdin=subprocess.DEVNULL, capture_output=True,
                          timeout=mounting.START_S)
    assert mounting.wait_for(lambda: not mounting.daemons_of(mnt), mounting.START_S)
    return done


@pytest.mark.parametrize("options", [[], ["-o", "ro"], ["-o", "rw"],
                                     ["-o", "allow_other,threads=2"],
                                     ["-o", "noatime,nosuid,nodev,noexec"],
                                     ["-o", "defaults,noauto,nofail,_netdev"],
                                     ["-o", "user,x-systemd.automount"]],
                         ids=lambda o: o[-1] if o else "none")
def test_mount_type_fuse_weightfs(tmp_path, source, mnt, options):
    done = mount_command(tmp_path, source, mnt, *options)
    assert done.returncode == 0, done.stderr
    assert done.stdout == DATA


def test_a_bad_model_fails_through_mount(tmp_path, mnt):
    bad = tmp_path / "bad.safetensors"
    bad.write_bytes(b"\0" * 7)
    done = mount_command(tmp_path, bad, mnt)
    assert done.returncode != 0 and f"weightfs: {bad}: ".encode() in done.stderr
    assert done.stdout == b""
