"""What is given up is gone: pages of the source, resident files, memory of clients."""
import mmap
import os
import random
import subprocess

import pytest

import mounting
import pagecache
import writers
from mounting import status

MIB = 1 << 20
MOUNTCTL = mounting.BIN / "mountctl"
SIZES = {"a.large": 48 * MIB, "b.large": 32 * MIB + 4096}
GONE_S = 10 if mounting.SANITIZED else 1


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(writers.safetensors([(n, "U8", [s], random.Random(n).randbytes(s))
                                          for n, s in SIZES.items()]))
    reason = pagecache.why_not(path)
    if reason:
        pytest.skip(reason)
    pagecache.empty(path)
    return path


@pytest.fixture
def resident(mount, source):
    def start(*options):
        mounted = mount(source, "backing=resident", "hugepages=never", *options)
        passthrough = status(mounted)["passthrough"]
        if not passthrough["available"]:
            pytest.skip("no passthrough: " + passthrough["reason"])
        return mounted
    return start


def ctl(*args):
    return subprocess.run([MOUNTCTL, *args], stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, timeout=mounting.START_S, check=False)


def shmem():
    """Bytes of memory that tmpfs files take, of the whole machine."""
    for line in open("/proc/meminfo"):
        if line.startswith("Shmem:"):
            return int(line.split()[1]) << 10
    raise AssertionError("no Shmem")


def rss_file():
    """Bytes of files that this process has mapped and are in memory."""
    for line in open("/proc/self/status"):
        if line.startswith(("RssFile:", "RssShmem:")):
            rss_file.parts[line.split(":")[0]] = int(line.split()[1]) << 10
    return sum(rss_file.parts.values())


rss_file.parts = {}


def map_all(path):
    with open(path, "rb") as file:
        mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    for offset in range(0, len(mapping), 4096):
        assert mapping[offset] is not None
    return mapping


def source_is_gone(source):
    return mounting.wait_for(lambda: pagecache.share(source) < 0.02, GONE_S)


@pytest.mark.parametrize("command", [("evict",), ("advise", "dontneed")], ids=["evict", "dontneed"])
def test_source_pages_and_resident_pages_are_gone_within_a_second(resident, source, command):
    mounted = resident()
    size = sum(SIZES.values())

    def shmem_follows():
        before = shmem()
        for name in SIZES:
            mounted.tensor(name).read_bytes()
        pagecache.fill(source)
        grown = shmem() - before
        done = ctl(command[0], mounted.path, "*", *command[1:])
        assert (done.returncode, done.stderr) == (0, "")
        assert source_is_gone(source), pagecache.share(source)
        assert status(mounted)["resident"]["used"] == 0
        return grown > 0.9 * size and \
            mounting.wait_for(lambda: shmem() - before < 0.1 * size, GONE_S)
    # Other programs of the machine have files in memory too, but hardly each time.
    assert shmem_follows() or shmem_follows() or shmem_follows()


@pytest.mark.parametrize("options", [["backing=stream"], []], ids=["stream", "auto"])
def test_memory_of_a_client_falls_after_dontneed(mount, source, options):
    mounted = mount(source, *options)
    mapping = map_all(mounted.tensor("a.large"))
    before = rss_file()
    assert before >= SIZES["a.large"]
    done = ctl("advise", mounted.path, "a.*", "dontneed")
    assert (done.returncode, done.stderr) == (0, "")
    assert mounting.wait_for(lambda: rss_file() < before - 0.9 * SIZES["a.large"], GONE_S), \
        (before, rss_file())
    assert pagecache.share(mounted.tensor("a.large")) < 0.02
    assert mapping[:] == random.Random("a.large").randbytes(SIZES["a.large"])


def test_what_is_open_and_resident_stays_and_is_named(resident, source):
    mounted = resident()
    mapping = map_all(mounted.tensor("a.large"))
    before = rss_file()
    done = ctl("advise", mounted.path, "*", "dontneed")
    assert done.returncode == 1
    assert done.stderr == f"mountctl: {mounted.path}: in use: 1 tensor, 48.0 MiB: 'a.large'\n"
    assert rss_file() > before - MIB
    assert mapping[:] == random.Random("a.large").randbytes(SIZES["a.large"])
    mapping.close()
    assert mounting.wait_for(
        lambda: ctl("advise", mounted.path, "*", "dontneed").returncode == 0, GONE_S)
    assert status(mounted)["resident"]["used"] == 0


def test_what_is_pinned_stays(resident):
    mounted = resident()
    assert ctl("pin", mounted.path, "a.*").returncode == 0
    done = ctl("advise", mounted.path, "*", "dontneed")
    assert done.returncode == 1 and "pinned: see 'mountctl unpin'" in done.stderr
    assert status(mounted)["resident"]["used"] >= SIZES["a.large"]


@pytest.mark.parametrize("backing", ["stream", "resident"])
def test_after_the_last_use_the_source_is_gone_with_source_cache_drop(mount, resident, source,
                                                                      backing):
    mounted = resident("source_cache=drop") if backing == "resident" else \
        mount(source, "backing=stream", "source_cache=drop")

    def is_gone():
        ctl("evict", mounted.path, "*")  # so that the source is read, in later rounds as well
        pagecache.fill(source)
        for name in SIZES:
            map_all(mounted.tensor(name)).close()
        return source_is_gone(source)
    # A page that somebody looks at just then is tried again later.
    assert is_gone() or is_gone(), pagecache.share(source)


def test_what_was_predicted_in_vain_does_not_stay_with_source_cache_drop(mount, tmp_path):
    path = tmp_path / "layers.safetensors"
    size = 20 * MIB
    path.write_bytes(writers.safetensors([(f"layers.{i}", "U8", [size], os.urandom(size))
                                          for i in range(6)]))
    pagecache.empty(path)
    mounted = mount(path, "backing=stream", "source_cache=drop")
    for i in range(2):
        mounted.tensor(f"layers.{i}").read_bytes()
    begin = mounted.tensors()["layers.4"]["offset"]
    assert mounting.wait_for(lambda: pagecache.share(path, begin) > 0.5)
    assert mounting.wait_for(lambda: pagecache.share(path) < 0.02, 30), pagecache.share(path)
