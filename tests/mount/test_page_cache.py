"""What looking into tensors costs beside the bytes that are read: a file manager looks into all of them."""
import ctypes
import errno
import json
import os
import re
import struct
import subprocess
import time
from pathlib import Path

import pytest

import mounting

MIB = 1 << 20
SYS_CACHESTAT = 451
TENSORS = 1000
TENSOR_BYTES = 4 * MIB


@pytest.fixture
def source(tmp_path):
    """A sparse file of 4 GiB."""
    header = json.dumps({f"t.{i}": {"dtype": "U8", "shape": [TENSOR_BYTES], "data_offsets":
                                    [i * TENSOR_BYTES, (i + 1) * TENSOR_BYTES]}
                         for i in range(TENSORS)}).encode()
    path = tmp_path / "model.safetensors"
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        file.truncate(8 + len(header) + TENSORS * TENSOR_BYTES)
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return path


def cached_bytes(path):
    counts = (ctypes.c_uint64 * 5)()
    with open(path, "rb") as file:
        if mounting.LIBC.syscall(SYS_CACHESTAT, file.fileno(), (ctypes.c_uint64 * 2)(), counts, 0) < 0:
            assert ctypes.get_errno() == errno.ENOSYS
            pytest.skip("no cachestat(2), which is of Linux 6.5")
    return counts[0] * os.sysconf("SC_PAGESIZE")


def page_table_bytes(pid):
    return int(re.search(r"^VmPTE:\s+(\d+)", Path(f"/proc/{pid}/status").read_text(), re.M)[1]) << 10


def look_into_all(mounted):
    for i in range(TENSORS):
        with open(mounted / "tensors" / "t" / str(i), "rb", buffering=0) as file:
            assert file.read(64) == bytes(64)


def test_a_look_into_a_tensor_reads_little_more_of_the_source(mount, source):
    mounted = mount(source)
    before = cached_bytes(source)
    look_into_all(mounted)
    assert cached_bytes(source) - before < TENSORS * 128 * 1024


def test_a_look_into_a_tensor_leaves_the_daemon_no_page_table(mount, source):
    mounted = mount(source)
    before = page_table_bytes(mounted.pid)
    look_into_all(mounted)
    assert page_table_bytes(mounted.pid) - before < MIB


def test_neither_a_reader_of_stats_nor_an_unmount_waits_until_all_is_counted(tmp_path):
    """mincore(2) of a sparse file of 300 GiB takes seconds, as cachestat(2) of as much in memory."""
    if os.getuid() != 0:
        pytest.skip("a filter without a change of privileges takes root")
    nbytes = 300 << 30
    header = json.dumps({"t": {"dtype": "U8", "shape": [nbytes], "data_offsets": [0, nbytes]}}).encode()
    path = tmp_path / "large.safetensors"
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        file.truncate(8 + len(header) + nbytes)
    point = tmp_path / "mnt"
    point.mkdir()
    done = subprocess.run([mounting.WEIGHTFS, path, point], capture_output=True, text=True,
                          stdin=subprocess.DEVNULL, timeout=mounting.START_S,
                          preexec_fn=lambda: mounting.forbid(SYS_CACHESTAT, errno.ENOSYS))
    assert done.returncode == 0, done.stderr
    (pid,) = mounting.daemons_of(point)
    times = []
    for _ in range(5):
        begun = time.monotonic()
        os.stat(point / ".weightfs/stats.json")
        times.append(time.monotonic() - begun)
        time.sleep(0.03)
    assert sorted(times)[2] < 0.05, times
    begun = time.monotonic()
    assert mounting.umount(point) == 0
    assert mounting.wait_for(lambda: not mounting.is_running(pid), mounting.START_S)
    assert time.monotonic() - begun < (4 if mounting.SANITIZED else 1)
