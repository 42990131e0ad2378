"""Where passthrough is refused every tensor is streamed, and the status says exactly why."""
import errno
import hashlib
import json
import os
import random
import subprocess

import pytest

import mounting
import writers

DATA = random.Random("refused").randbytes(3 << 20)

NO_ROOT = "it takes root (CAP_SYS_ADMIN)"
NO_HOST = "it takes root outside of a user namespace"
FILTERED = "a filter of system calls (seccomp) forbids fsopen(2), as that of a container does"

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="needs root to give up privileges")

SCRIPT = """set -e
weightfs "$SOURCE" "$MNT" -o "$OPTIONS" 2>"$OUT/log"
for n in 1 2 3; do sha256sum <"$MNT/tensors/w" >>"$OUT/sums"; done
mountctl --json status "$MNT" >"$OUT/status.json"
mountctl status "$MNT" >"$OUT/status.txt"
mountctl umount "$MNT"
"""


class Outcome:
    def __init__(self, folder):
        self.log = (folder / "log").read_text()
        self.sums = {line.split()[0] for line in (folder / "sums").read_text().splitlines()}
        self.status = json.loads((folder / "status.json").read_text())
        self.text = (folder / "status.txt").read_text()


@pytest.fixture
def outcome(tmp_path):
    """outcome(command, ...): mounts, reads and unmounts by a command that gives up rights."""
    mounting.let_others_in(tmp_path)
    source, mnt, out = (tmp_path / name for name in ("model.safetensors", "mnt", "out"))
    source.write_bytes(writers.safetensors([("w", "U8", [len(DATA)], DATA)]))
    source.chmod(0o644)
    for folder in (mnt, out):
        folder.mkdir()
        folder.chmod(0o777)

    def run(command, options="backing=resident", **kwargs):
        env = {**os.environ, "PATH": f"{mounting.BIN}:{os.environ['PATH']}", "SOURCE": str(source),
               "MNT": str(mnt), "OUT": str(out), "OPTIONS": options, "NO_COLOR": "1"}
        env.pop("XDG_RUNTIME_DIR", None)
        done = subprocess.run([*command, "sh", "-c", SCRIPT], env=env, cwd="/", text=True,
                              stdin=subprocess.DEVNULL, capture_output=True, timeout=60,
                              check=False, **kwargs)
        assert done.returncode == 0, done.stderr + (out / "log").read_text()
        return Outcome(out)
    return run


def check_refused(found, reason):
    assert found.status["passthrough"] == {"available": False, "reason": reason}
    assert f"  passthrough  none: {reason}\n" in found.text
    assert f"no resident tensors: {reason}\n" in found.log
    # Streamed from the first open on, which is then the last one that the daemon sees.
    assert found.sums == {hashlib.sha256(DATA).hexdigest()}
    assert found.status["requests"]["open"] <= 1
    assert found.status["backings"]["resident"]["opens"] == 0


def test_an_ordinary_user(outcome):
    check_refused(outcome(mounting.AS_NOBODY), NO_ROOT)


def test_root_of_a_user_namespace(outcome):
    """It gets its tmpfs, and the kernel offers passthrough: only the first file is refused."""
    check_refused(outcome(mounting.AS_CONTAINER), NO_HOST)


@pytest.mark.parametrize("error", [errno.EPERM, errno.ENOSYS])
def test_a_filter_of_system_calls(outcome, error):
    check_refused(outcome([], preexec_fn=lambda: mounting.forbid(mounting.FSOPEN, error)), FILTERED)


def test_who_does_not_ask_for_it_gets_no_warning(outcome):
    found = outcome(mounting.AS_NOBODY, options="threads=2")
    assert found.log == ""
    assert not found.status["passthrough"]["available"]


def test_root_without_the_capability_cannot_mount(tmp_path):
    source, mnt = tmp_path / "model.safetensors", tmp_path / "mnt"
    source.write_bytes(writers.safetensors([("w", "U8", [1], b"x")]))
    mnt.mkdir()
    done = subprocess.run(["setpriv", "--bounding-set", "-sys_admin", mounting.WEIGHTFS, source, mnt],
                          capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1 and "not permitted" in done.stderr
