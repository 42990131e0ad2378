"""A model of 92,000 tensors, in one file or in 163, is mounted at once and walked as fast as a local directory."""
import errno
import os
import re
import statistics
import subprocess
import time
from pathlib import Path

import pytest

import mixture
import mounting

# Bounds that a small machine of two cores keeps; sanitizers keep none.
MOUNT_S = 0.250
LIST_FIRST_S, LIST_SECOND_S = 0.4, 0.1
FIND_FIRST_S, FIND_SECOND_S = 4.0, 0.6
# Where find and the daemon run on two cores of a virtual machine that are idle otherwise, each of the
# 120,000 round trips waits for the client's core to be woken, 20 us each on some hosts (the daemon's core
# is kept awake: fs/busy_poll.h). The limit is met when nothing else runs on the host; a test that fails
# must not depend on that.
FIND_FIRST_GUARD_S = 6.0
# The kernel answers the second walk alone, so that its speed is that of the processor: 0.35 s to 0.57 s seen.
FIND_SECOND_GUARD_S = 0.9
BYTES_PER_TENSOR = 300

# Each figure is a median of so many fresh mounts: the machine may be busy for a moment.
ROUNDS = 5


SHARDS = 163


@pytest.fixture(scope="module")
def giant(tmp_path_factory):
    """(path, tensors) of the sparse file."""
    path = tmp_path_factory.mktemp("scale") / "mixture.safetensors"
    try:
        return path, mixture.write(path)
    except OSError as error:
        if error.errno != errno.EFBIG:
            raise
        pytest.skip(f"no file of 640 GB here: {error}")


@pytest.fixture(scope="module")
def sharded(tmp_path_factory):
    """(directory, tensors) of the same model as it is published: 163 shards and an index."""
    folder = tmp_path_factory.mktemp("sharded")
    return folder, mixture.write_sharded(folder, SHARDS)


@pytest.fixture(params=["giant", "sharded"])
def model(request):
    """Each of the two."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def mounted(mount, model):
    return mount(model[0])


def shell(command):
    """(seconds, output) of a shell command."""
    start = time.perf_counter()
    out = subprocess.run(command, shell=True, capture_output=True, text=True, check=True).stdout
    return time.perf_counter() - start, out.strip()


def report(what, values, unit, limit):
    shown = ", ".join(f"{v:.3f}" for v in values)
    print(f"\n      {what}: median {statistics.median(values):.3f} {unit} of [{shown}], "
          f"limit {limit}", end="")


def timed_rounds(mount, source, command, count):
    """Seconds of the first and of the second run in each of several fresh mounts."""
    first, second = [], []
    for _ in range(ROUNDS):
        mounted = mount(source)
        for times in (first, second):
            seconds, out = shell(command.format(mnt=mounted.path))
            assert int(out) == count
            times.append(seconds)
        mounted.stop()
    return first, second


def test_the_file_is_what_it_should_be(giant):
    path, tensors = giant
    assert 91_000 < len(tensors) < 93_000
    assert path.stat().st_size > 640e9
    assert path.stat().st_blocks * 512 < 100e6


def test_the_shards_are_what_they_should_be(sharded, giant):
    folder, tensors = sharded
    assert len(list(folder.iterdir())) == SHARDS + 1
    assert [t[:3] + t[4:5] for t in tensors] == [t[:3] + t[4:5] for t in giant[1]]
    assert len({t[5] for t in tensors}) == SHARDS


def test_mounting_is_quick(model, tmp_path):
    times = []
    for i in range(ROUNDS):
        mnt = tmp_path / f"quick{i}"
        mnt.mkdir()
        start = time.perf_counter()
        done = mounting.run_weightfs(model[0], mnt)
        times.append(time.perf_counter() - start)
        assert done.returncode == 0, done.stderr
        assert mounting.umount(mnt) == 0
    report("mount", times, "s", MOUNT_S)
    assert statistics.median(times) < MOUNT_S


def test_listing_the_flat_directory(mount, giant):
    first, second = timed_rounds(mount, giant[0], "ls -U '{mnt}/flat/tensors' | wc -l",
                                 len(giant[1]))
    report("ls -U flat/tensors, first", first, "s", LIST_FIRST_S)
    report("ls -U flat/tensors, second", second, "s", LIST_SECOND_S)
    assert statistics.median(first) < LIST_FIRST_S
    assert statistics.median(second) < LIST_SECOND_S


@pytest.fixture
def one_core():
    """This process, and what it starts, on one core."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    yield
    os.sched_setaffinity(0, cores)


def walk(mount, giant, guard):
    first, second = timed_rounds(mount, giant[0], "find '{mnt}/tensors' -type f | wc -l",
                                 len(giant[1]))
    report("find tensors -type f, first", first, "s", FIND_FIRST_S)
    report("find tensors -type f, second", second, "s", FIND_SECOND_S)
    assert statistics.median(first) < guard
    assert statistics.median(second) < FIND_SECOND_GUARD_S


def test_walking_the_tree_on_one_core(mount, giant, one_core):
    walk(mount, giant, FIND_FIRST_S)


def test_walking_the_tree(mount, giant):
    walk(mount, giant, FIND_FIRST_GUARD_S)


def private_bytes(pid):
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return 1024 * sum(int(kib) for kib in
                      re.findall(r"^Private_(?:Clean|Dirty): +(\d+) kB", rollup, re.M))


def test_private_memory(mounted, model):
    shell(f"find '{mounted.path}/tensors' -type f | wc -l")
    used = private_bytes(mounted.pid)
    count = len(model[1])
    print(f"\n      private memory: {used / 1e6:.1f} MB, {used / count:.0f} bytes a tensor, "
          f"limit {BYTES_PER_TENSOR}", end="")
    assert used / count < BYTES_PER_TENSOR


def test_trees_of_memory_nodes_take_no_memory(mount, giant):
    path, tensors = giant
    mounted = mount(path, "numa=mirror")
    shell(f"find '{mounted.path}/tensors' -type f | wc -l")
    before = private_bytes(mounted.pid)
    shell(f"find '{mounted.path}/node0/tensors' -type f | wc -l")
    grown = private_bytes(mounted.pid) - before
    print(f"\n      private memory: {before / 1e6:.1f} MB, {grown / 1e6:+.1f} MB", end="")
    assert before / len(tensors) < BYTES_PER_TENSOR and grown < 1e6


def test_model_json_is_right(mounted, model):
    _, tensors = model
    shown = mounted.model()
    assert shown["tensor_count"] == len(tensors) == len(shown["tensors"])
    assert shown["total_bytes"] == sum(t[4] for t in tensors)
    by_name = {t["name"]: (t["name"], t["dtype"], t["shape"], t["offset"], t["nbytes"], t["file"])
               for t in shown["tensors"]}
    assert all(by_name[t[0]] == t for t in tensors)
    assert all(t["path"] == t["name"].replace(".", "/") for t in shown["tensors"])


def test_any_tensor_can_be_read(mounted, model):
    for name, _, _, _, nbytes, _ in model[1][::997]:
        path = mounted / "tensors" / name.replace(".", "/")
        assert path.stat().st_size == nbytes
        with open(path, "rb") as file:
            file.seek(nbytes - 100)
            assert file.read() == bytes(100)
        assert os.getxattr(path, "user.weightfs.name").decode() == name
