"""A source that changes while it is mounted: errors, never wrong bytes, never a dead daemon."""
import errno
import mmap
import os
import random
import subprocess
import sys
import threading
import time

import pytest

import mounting
import writers

SIZE = 1 << 20
COUNT = 16
# How long the daemon may take to notice a change that no request has told it about.
SETTLE_S = 2.0


def block(i):
    return random.Random(i).randbytes(SIZE)


def model_bytes(shift=0):
    return writers.safetensors([(f"t.{i}", "U8", [SIZE], block(i + shift)) for i in range(COUNT)])


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(model_bytes())
    return path


def rewrite(path):
    with open(path, "r+b") as file:
        file.write(model_bytes(shift=100))


def overwrite_one_byte(path):
    with open(path, "r+b") as file:
        file.seek(-5, os.SEEK_END)
        file.write(b"\xa5")


def truncate(path):
    os.truncate(path, 0)


def shorten(path):
    os.truncate(path, path.stat().st_size // 2)


def append(path):
    with open(path, "ab") as file:
        file.write(b"more")


# What changes the file that is open. A replaced or removed file is another matter: the one
# that is open stays as it was.
CHANGES = [rewrite, overwrite_one_byte, truncate, shorten, append]


def read_uncached(path):
    """The bytes or the errno; never from the page cache."""
    try:
        fd = os.open(path, os.O_RDONLY)
    except OSError as error:
        return error.errno
    try:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        return os.pread(fd, SIZE, 0)
    except OSError as error:
        return error.errno
    finally:
        os.close(fd)


def is_dead(path):
    return read_uncached(path) in (errno.EIO, errno.ESTALE)


def check_alive(mounted):
    assert mounting.is_running(mounted.pid), "the daemon died"
    assert mounted.model()["tensor_count"] == COUNT


@pytest.mark.parametrize("change", CHANGES, ids=lambda f: f.__name__)
def test_a_changed_source_is_not_served_any_more(mount, source, change):
    mounted = mount(source)
    files = [mounted / f"tensors/t/{i}" for i in range(COUNT)]
    assert files[0].read_bytes() == block(0)
    change(source)
    # Within the settle time old bytes may come, others never.
    end = time.monotonic() + SETTLE_S
    while not is_dead(files[3]) and time.monotonic() < end:
        pass
    for i, path in enumerate(files):
        assert read_uncached(path) in (errno.EIO, errno.ESTALE), path
    check_alive(mounted)


@pytest.mark.parametrize("change", CHANGES, ids=lambda f: f.__name__)
def test_opening_is_estale_after_a_change(mount, source, change):
    mounted = mount(source)
    assert (mounted / "tensors/t/0").read_bytes() == block(0)
    change(source)

    def open_fails():
        try:
            os.close(os.open(mounted / "tensors/t/1", os.O_RDONLY))
        except OSError as error:
            return error.errno == errno.ESTALE
        return False

    assert mounting.wait_for(open_fails, SETTLE_S), "open does not give ESTALE"
    check_alive(mounted)


@pytest.mark.parametrize("change", CHANGES, ids=lambda f: f.__name__)
def test_an_open_file_reads_eio_after_a_change(mount, source, change):
    mounted = mount(source)
    fd = os.open(mounted / "tensors/t/5", os.O_RDONLY)
    assert os.pread(fd, 100, 0) == block(5)[:100]
    change(source)

    def reads_eio():
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        try:
            assert block(5).startswith(os.pread(fd, SIZE, 0))
        except OSError as error:
            return error.errno == errno.EIO
        return False

    assert mounting.wait_for(reads_eio, SETTLE_S), "read does not give EIO"
    os.close(fd)
    check_alive(mounted)


def test_views_and_files_are_not_served_either(mount, source):
    mounted = mount(source)
    truncate(source)
    assert mounting.wait_for(lambda: is_dead(mounted / "tensors/t/0"), SETTLE_S)
    for path in ("npy/t/1.npy", "safetensors/t/2.safetensors", "files/model.safetensors",
                 "flat/tensors/t.3"):
        assert read_uncached(mounted / path) in (errno.EIO, errno.ESTALE), path
    check_alive(mounted)


def test_mapped_pages_fault_with_sigbus_after_a_truncation(mount, source):
    mounted = mount(source)
    code = ("import mmap,os,sys,time\n"
            "f=open(sys.argv[1],'rb'); m=mmap.mmap(f.fileno(),0,mmap.MAP_SHARED,mmap.PROT_READ)\n"
            "print('mapped',flush=True); sys.stdin.readline()\n"
            "sum(m[i] for i in range(0,len(m),4096))\n")
    child = subprocess.Popen([sys.executable, "-c", code, str(mounted / "tensors/t/7")],
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "mapped\n"
    truncate(source)
    assert mounting.wait_for(lambda: is_dead(mounted / "tensors/t/0"), SETTLE_S)
    child.communicate("go\n", timeout=30)
    assert child.returncode == -7
    check_alive(mounted)


def test_a_replaced_source_is_served_on_or_refused(mount, source, tmp_path):
    """rename(2) over the source: the open file is unchanged, so its bytes may come."""
    mounted = mount(source)
    other = tmp_path / "other"
    other.write_bytes(model_bytes(shift=100))
    os.rename(other, source)
    time.sleep(0.3)
    for i in range(COUNT):
        got = read_uncached(mounted / f"tensors/t/{i}")
        assert got in (block(i), errno.EIO, errno.ESTALE), i
    check_alive(mounted)


def test_a_removed_source_is_served_on_or_refused(mount, source):
    mounted = mount(source)
    source.unlink()
    time.sleep(0.3)
    for i in range(COUNT):
        assert read_uncached(mounted / f"tensors/t/{i}") in (block(i), errno.EIO, errno.ESTALE)
    check_alive(mounted)


def test_reading_does_not_change_the_source_for_the_daemon(mount, source):
    """atime and a new hard link are no change of the content."""
    mounted = mount(source)
    source.read_bytes()
    os.link(source, source.with_name("another"))
    os.utime(source, ns=(time.time_ns(), source.stat().st_mtime_ns))
    time.sleep(0.3)
    for i in range(COUNT):
        assert read_uncached(mounted / f"tensors/t/{i}") == block(i)


def is_right(got, expected):
    """An error; or the bytes, or the first of them where the rest met the change."""
    if isinstance(got, int):
        return got in (errno.EIO, errno.ESTALE)
    return len(got) > 0 and expected.startswith(got)


class Readers:
    """Threads that read and map all tensors at once and note bytes that are wrong."""

    def __init__(self, mounted, count=8):
        self.mounted = mounted
        self.stop = threading.Event()
        self.wrong = []
        self.reads = 0
        self.expected = [block(i) for i in range(COUNT)]
        self.threads = [threading.Thread(target=self.run, args=(n,)) for n in range(count)]
        for thread in self.threads:
            thread.start()

    def run(self, seed):
        rng = random.Random(seed)
        while not self.stop.is_set():
            i = rng.randrange(COUNT)
            got = read_uncached(self.mounted / f"tensors/t/{i}")
            if not is_right(got, self.expected[i]):
                self.wrong.append((i, got if isinstance(got, int) else len(got)))
            self.reads += 1

    def end(self):
        self.stop.set()
        for thread in self.threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in self.threads), "a reader hangs"
        return self.wrong


@pytest.mark.parametrize("change", CHANGES, ids=lambda f: f.__name__)
def test_readers_in_parallel_never_see_wrong_bytes(mount, source, change):
    mounted = mount(source)
    readers = Readers(mounted)
    time.sleep(0.3)
    change(source)
    assert mounting.wait_for(lambda: is_dead(mounted / "tensors/t/0"), SETTLE_S + 3)
    time.sleep(0.2)
    assert readers.end() == [], "wrong bytes were served"
    assert readers.reads > COUNT
    check_alive(mounted)


def test_a_source_changed_between_parsing_and_reading_is_noticed(mount, source):
    mounted = mount(source)
    stamp = source.stat()
    rewrite(source)
    # Even if the size is the same and the time was put back, the change time tells.
    os.utime(source, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert mounting.wait_for(lambda: is_dead(mounted / "tensors/t/0"), SETTLE_S)
    check_alive(mounted)


def test_the_mount_can_be_unmounted_after_a_change(mount, source):
    mounted = mount(source)
    with open(mounted / "tensors/t/0", "rb") as file:
        mapping = mmap.mmap(file.fileno(), 0, mmap.MAP_SHARED, mmap.PROT_READ)
        assert mapping[0] == block(0)[0]
        truncate(source)
        assert mounting.wait_for(lambda: is_dead(mounted / "tensors/t/1"), SETTLE_S)
        mapping.close()
    mounted.stop()
    assert not mounting.is_running(mounted.pid)
