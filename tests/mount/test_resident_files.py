"""The files behind resident tensors: what they take, and that nobody can write them."""
import ctypes
import errno
import json
import mmap
import os
import random
import subprocess
from pathlib import Path

import pytest

import mounting
import writers

MIB = 1 << 20
# Small ones and tails of every kind; the first is the smallest that has a file.
SIZES = {"a": 80 << 10, "b": (80 << 10) + 1, "c": 700_000, "d": 2 * MIB, "e": 3 * MIB + 17,
         "f": 9 * MIB + 4095}
O_ACCMODE = 3


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    path = tmp_path_factory.mktemp("files") / "model.safetensors"
    path.write_bytes(writers.safetensors(
        [(n, "U8", [s], random.Random(n).randbytes(s)) for n, s in SIZES.items()]))
    return path


@pytest.fixture
def resident(mount, source):
    """resident(options...): a mount whose tensors have all been opened."""
    def start(*options):
        mounted = mount(source, "backing=resident", *options)
        passthrough = mounted.stats()["passthrough"]
        if not passthrough["available"]:
            pytest.skip("no passthrough: " + passthrough["reason"])
        for name in SIZES:
            (mounted / "tensors" / name).open("rb").close()
            assert os.getxattr(mounted / "tensors" / name, "user.weightfs.backing") == b"resident"
        return mounted
    return start


def used(mounted):
    out = subprocess.run([mounting.WEIGHTFS.parent / "mountctl", "--json", "status", mounted.path],
                         capture_output=True, check=True).stdout
    return json.loads(out)["resident"]["used"]


def resident_files(mounted):
    """{size: (descriptor, bytes taken)} of the daemon's files without a name."""
    found = {}
    for entry in Path(f"/proc/{mounted.pid}/fd").iterdir():
        if os.readlink(entry).startswith("/#"):
            stat = entry.stat()
            found[stat.st_size] = (entry.name, stat.st_blocks * 512)
    return found


def test_a_file_takes_at_most_a_twentieth_more_than_the_tensor(resident):
    mounted = resident()
    files = resident_files(mounted)
    assert sorted(files) == sorted(SIZES.values())
    for size, (_, taken) in files.items():
        assert size <= taken <= size * 1.05
    assert used(mounted) == sum(taken for _, taken in files.values())


def test_with_huge_pages_throughout_what_is_taken_is_counted(resident):
    mounted = resident("hugepages=always")
    taken = sum(taken for _, taken in resident_files(mounted).values())
    # Where no huge page is free the kernel takes small ones: less than what was counted.
    assert taken <= used(mounted) == sum(-(-size // (2 * MIB)) * 2 * MIB for size in SIZES.values())


def test_the_daemon_keeps_no_descriptor_that_can_write(resident):
    mounted = resident()
    for descriptor, _ in resident_files(mounted).values():
        text = Path(f"/proc/{mounted.pid}/fdinfo/{descriptor}").read_text()
        flags = int(next(line.split()[1] for line in text.splitlines() if line.startswith("flags")), 8)
        assert flags & O_ACCMODE == os.O_RDONLY


def test_a_client_cannot_write_through_its_mapping(resident):
    path = resident() / "tensors" / "f"
    with open(path, "rb") as file:
        with pytest.raises(OSError) as failed:
            os.pwrite(file.fileno(), b"x", 0)
        assert failed.value.errno == errno.EBADF
        with pytest.raises(PermissionError):
            mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ | mmap.PROT_WRITE)
        libc = mounting.LIBC
        libc.mmap.restype = ctypes.c_void_p
        address = libc.mmap(None, ctypes.c_size_t(MIB), mmap.PROT_READ, mmap.MAP_SHARED,
                            file.fileno(), ctypes.c_long(0))
        assert libc.mprotect(ctypes.c_void_p(address), ctypes.c_size_t(MIB),
                             mmap.PROT_READ | mmap.PROT_WRITE) == -1
        assert ctypes.get_errno() == errno.EACCES
        libc.munmap(ctypes.c_void_p(address), ctypes.c_size_t(MIB))
    with pytest.raises(OSError) as failed:
        os.open(path, os.O_RDWR)
    assert failed.value.errno == errno.EROFS
