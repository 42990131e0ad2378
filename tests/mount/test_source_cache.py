"""-o source_cache: what was read does not stay in the source's page cache as well."""
import os
import random
import subprocess
import time

import pytest

import mounting
import pagecache
import writers

MIB = 1 << 20
SIZES = {"a.large": 24 * MIB + 17, "b.small": 3000, "c.middle": 3 * MIB + 1, "d.below": 70000,
         "e.large": 16 * MIB, "f.odd": 9 * MIB + 4097}


def data_of(name):
    return random.Random(name).randbytes(SIZES[name])


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(writers.safetensors([(n, "U8", [s], data_of(n)) for n, s in SIZES.items()]))
    reason = pagecache.why_not(path)
    if reason:
        pytest.skip(reason)
    return path


@pytest.fixture(params=["stream", "resident"])
def mounted_with(request, mount, source):
    def start(*options):
        mounted = mount(source, f"backing={request.param}", *options)
        passthrough = mounted.stats()["passthrough"]
        if request.param == "resident" and not passthrough["available"]:
            pytest.skip("no passthrough: " + passthrough["reason"])
        return mounted
    return start


def read_all(mounted, view="tensors"):
    for name in SIZES:
        data = mounted.tensor(name, view).read_bytes()
        assert data[len(data) - SIZES[name]:] == data_of(name), name


# What is dropped is to be gone within a second of its last use.
GONE_S = 10 if mounting.SANITIZED else 1


@pytest.mark.parametrize("prepare", [pagecache.fill, pagecache.empty], ids=["warm", "cold"])
def test_what_was_read_is_gone_within_a_second(mounted_with, source, prepare):
    mounted = mounted_with("source_cache=drop")
    assert mounted.stats()["options"]["source_cache"] == "drop"
    prepare(source)
    read_all(mounted)
    assert mounting.wait_for(lambda: pagecache.share(source) < 0.02, GONE_S), \
        pagecache.share(source)
    # The bytes are still right, wherever they come from now.
    read_all(mounted)
    read_all(mounted, "npy")


@pytest.mark.parametrize("options", [[], ["source_cache=keep"]], ids=["default", "keep"])
def test_by_default_it_stays(mounted_with, source, options):
    mounted = mounted_with(*options)
    assert mounted.stats()["options"]["source_cache"] == "keep"

    def stays():
        pagecache.fill(source)
        read_all(mounted)
        time.sleep(1)
        return pagecache.share(source) == 1
    # Others on the machine may drop caches, but hardly each time.
    assert stays() or stays() or stays()


def test_what_was_not_read_stays(mounted_with, source):
    mounted = mounted_with("source_cache=drop")
    pagecache.fill(source)
    entry = mounted.tensors()["e.large"]
    mounted.tensor("e.large").read_bytes()
    begin, end = entry["offset"], entry["offset"] + entry["nbytes"]
    assert mounting.wait_for(lambda: pagecache.share(source, begin, end) < 0.2, GONE_S)
    # Pages, and large folios of the kernel, may lie on both sides of the tensor's ends.
    assert pagecache.share(source, 0, begin - 2 * MIB) == 1
    assert pagecache.share(source, end + 2 * MIB) == 1


def test_what_the_kernel_reads_around_a_small_read_is_dropped_again(mounted_with, source):
    mounted = mounted_with("source_cache=drop")
    pagecache.empty(source)
    mounted.tensor("a.large").read_bytes()
    entry = mounted.tensors()["b.small"]
    before = entry["offset"] - MIB, entry["offset"] - 4096
    assert mounting.wait_for(lambda: pagecache.share(source, *before) == 0, GONE_S)
    time.sleep(1)
    mounted.tensor("b.small").read_bytes()
    assert mounting.wait_for(lambda: pagecache.share(source, *before) == 0, GONE_S)


def test_small_reads_are_dropped_too(mount, source):
    """Those are answered from a mapping, and mapped pages do not leave the cache."""
    mounted = mount(source, "backing=stream", "source_cache=drop", "readahead=0")
    pagecache.fill(source)
    begin = mounted.tensors()["a.large"]["offset"]
    with open(mounted.tensor("a.large"), "rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
        for offset in range(0, 4 * MIB, 4096):
            assert len(os.pread(file.fileno(), 4096, offset)) == 4096
    assert mounted.stats()["reads"]["count"] >= 1024
    assert mounting.wait_for(lambda: pagecache.share(source, 0, begin + 4 * MIB) < 0.1, GONE_S)
    assert pagecache.share(source, 6 * MIB) == 1


def test_the_original_file_is_dropped_too(mount, source):
    mounted = mount(source, "source_cache=drop")
    pagecache.fill(source)
    subprocess.run(["cmp", mounted / "files" / source.name, source], check=True)
    assert mounting.wait_for(lambda: pagecache.share(source) < 0.02, GONE_S)


def test_a_file_that_is_not_on_the_disk_yet_is_dropped_once_it_is(mount, tmp_path, source):
    fresh = tmp_path / "fresh.safetensors"
    fresh.write_bytes(source.read_bytes())
    mounted = mount(fresh, "source_cache=drop")
    read_all(mounted)
    assert mounting.wait_for(lambda: pagecache.share(fresh) < 0.02, 30)


def test_a_second_reader_right_behind_still_finds_it(mount, source):
    """Two views are read side by side: each byte comes from the disk once, not twice."""
    mounted = mount(source, "backing=stream", "source_cache=drop")
    pagecache.fill(source)
    before = disk_reads(mounted.pid)
    with open(mounted.tensor("a.large"), "rb") as one, \
            open(mounted.tensor("a.large", "npy"), "rb") as other:
        while one.read(MIB):
            other.read(MIB)
    assert disk_reads(mounted.pid) - before < 4 * MIB


def disk_reads(pid):
    """Bytes that the daemon has had read from disks."""
    for line in open(f"/proc/{pid}/io"):
        if line.startswith("read_bytes:"):
            return int(line.split()[1])
    raise AssertionError("no read_bytes")
