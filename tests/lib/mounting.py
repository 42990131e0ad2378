"""Starts and stops the daemon; what the fixtures of conftest.py are made of."""
import ctypes
import json
import os
import signal
import subprocess
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(os.environ.get("WEIGHTFS_BIN_DIR", ROOT / "build" / "bin"))
MODELS = ROOT / "build-tests" / "models"
WEIGHTFS = BIN / "weightfs"
FS_TYPE = "fuse.weightfs"

# Sanitizers are slow: their runs get more time and smaller inputs.
SANITIZED = bool(os.environ.get("WEIGHTFS_SANITIZED"))
START_S = 60 if SANITIZED else 20
MNT_DETACH = 2

LIBC = ctypes.CDLL(None, use_errno=True)


def why_no_mounts():
    """The reason why mounting is impossible here, or None."""
    if not WEIGHTFS.exists():
        return None
    if not os.path.exists("/dev/fuse"):
        return "no /dev/fuse"
    try:
        os.close(os.open("/dev/fuse", os.O_RDWR))
    except OSError as error:
        return f"/dev/fuse: {error.strerror}"
    return None


def mount_entries():
    """(mount point, type, source, options, super options) of each weightfs mount."""
    entries = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, right = line.split(" - ")
        kind, source, super_options = right.split(" ", 2)
        if kind.startswith("fuse") and "weightfs" in kind:
            fields = left.split(" ")
            entries.append((unescape(fields[4]), kind, unescape(source), fields[5], super_options))
    return entries


def unescape(text):
    for octal, char in ((r"\040", " "), (r"\011", "\t"), (r"\012", "\n"), (r"\134", "\\")):
        text = text.replace(octal, char)
    return text


def is_mounted(path):
    return any(entry[0] == str(path) for entry in mount_entries())


def wait_for(condition, seconds=5.0, step=0.02):
    """Whether `condition()` becomes true within this time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(step)
    return True


def is_running(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        # The first thread of a process may end before others, which keep its files.
        return state not in "ZX" or len(os.listdir(f"/proc/{pid}/task")) > 1
    except (FileNotFoundError, ProcessLookupError):
        return False


def daemons():
    """(process id, words of the command line) of each running daemon."""
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            words = Path(f"/proc/{entry}/cmdline").read_bytes().split(b"\0")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if words[0].endswith(b"weightfs") and is_running(int(entry)):
            yield int(entry), [os.fsdecode(word) for word in words]


def daemons_of(mountpoint):
    """Process ids of the daemons that serve this mount point."""
    return [pid for pid, words in daemons() if str(mountpoint) in words]


def daemons_below(folder):
    """Process ids of the daemons whose mount point is below this folder."""
    return [pid for pid, words in daemons()
            if any(word.startswith(f"{folder}/") for word in words[2:])]


def umount(path, flags=0):
    """umount2(2); the errno, 0 if it worked."""
    if LIBC.umount2(os.fsencode(str(path)), flags) == 0:
        return 0
    return ctypes.get_errno()


def run_weightfs(*args, timeout=START_S):
    """Runs the daemon's program to its end, as a shell does."""
    return subprocess.run([WEIGHTFS, *map(str, args)], stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=timeout)


class BpfInstruction(ctypes.Structure):
    _fields_ = [("code", ctypes.c_uint16), ("jt", ctypes.c_uint8), ("jf", ctypes.c_uint8),
                ("k", ctypes.c_uint32)]


class BpfProgram(ctypes.Structure):
    _fields_ = [("len", ctypes.c_uint16), ("filter", ctypes.POINTER(BpfInstruction))]


FSOPEN = 430  # on every architecture


def forbid(call, error):
    """What a container's filter of system calls does; to be run as root before exec()."""
    load, equal, answer, allow = 0x20, 0x15, 0x06, 0x7FFF0000
    code = (BpfInstruction * 4)((load, 0, 0, 0), (equal, 0, 1, call),
                                (answer, 0, 0, 0x50000 | error), (answer, 0, 0, allow))
    set_seccomp, filter_mode = 22, 2
    program = BpfProgram(len(code), code)
    if LIBC.prctl(set_seccomp, filter_mode, ctypes.byref(program), 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "seccomp")


# In a mount namespace of its own: there everybody may open the device, as on most machines.
AS_NOBODY = ["unshare", "-m", "sh", "-c",
             'node=$(mktemp -d) && mount -t tmpfs none "$node" && mknod -m 666 "$node/fuse" c 10 229 && '
             'mount --bind "$node/fuse" /dev/fuse && umount -l "$node" && rmdir "$node" && '
             'exec setpriv --reuid 65534 --regid 65534 --clear-groups "$@"', "sh"]
# Root of a user namespace of its own.
AS_CONTAINER = ["unshare", "--user", "--map-root-user", "--mount"]


def let_others_in(*folders):
    """Lets every user look into these folders and the two above each; nothing is taken from anybody."""
    for path in folders:
        for folder in (path, *path.parents[:2]):
            folder.chmod(folder.stat().st_mode | 0o055)


class Mount:
    """A mounted model. Use as a context manager or through the fixture `mount`."""

    def __init__(self, source, path, options=()):
        self.source = Path(source)
        self.path = Path(path)
        self.options = list(options)
        self.pid = None
        self._watchdog = None

    # How long a test may keep a mount before its daemon is taken for hung.
    MAX_S = 900

    def start(self):
        self.path.mkdir(parents=True, exist_ok=True)
        args = ["-o", ",".join(self.options)] if self.options else []
        done = run_weightfs(self.source, self.path, *args)
        assert done.returncode == 0, f"mounting {self.source}: {done.stderr}"
        assert is_mounted(self.path), "returned before the mount was there"
        (self.pid,) = daemons_of(self.path)
        self._watchdog = threading.Timer(self.MAX_S, self.kill)
        self._watchdog.daemon = True
        self._watchdog.start()
        return self

    def kill(self):
        """Ends a daemon without its help; requests in flight fail instead of hanging."""
        if is_running(self.pid):
            os.kill(self.pid, signal.SIGKILL)

    def stop(self):
        self._watchdog.cancel()
        error = umount(self.path)
        if error:
            umount(self.path, MNT_DETACH)
        gone = wait_for(lambda: not is_running(self.pid), START_S)
        if not gone:
            self.kill()
        assert not is_mounted(self.path), "still mounted after umount"
        assert gone, "the daemon did not end after umount"
        assert error == 0, f"umount: {os.strerror(error)}"

    def __enter__(self):
        return self.start()

    def __exit__(self, kind, value, trace):
        if self.pid is None:
            return
        if kind is None:
            self.stop()
            return
        # The test has failed already: clean up without hiding why.
        self._watchdog.cancel()
        umount(self.path, MNT_DETACH)
        if not wait_for(lambda: not is_running(self.pid), 5):
            self.kill()

    # ---- what tests ask of the tree ----

    def __truediv__(self, name):
        return self.path / name

    def model(self):
        return json.loads((self.path / "model.json").read_bytes())

    def tensors(self):
        """name -> entry of model.json."""
        return {t["name"]: t for t in self.model()["tensors"]}

    def tensor(self, name, view="tensors"):
        """The file of a tensor in a view, by the path in model.json."""
        suffix = {"tensors": "", "npy": ".npy", "safetensors": ".safetensors"}[view]
        return self.path / view / (self.tensors()[name]["path"] + suffix)

    def stats(self):
        return json.loads((self.path / ".weightfs" / "stats.json").read_bytes())


def status(mounted):
    """The status by way of the control socket, which is never stale."""
    out = subprocess.run([BIN / "mountctl", "--json", "status", mounted.path],
                         capture_output=True, check=True).stdout
    return json.loads(out)


def backing(path):
    """Where the bytes of a tensor's file come from now."""
    return os.getxattr(path, "user.weightfs.backing").decode()
