"""Pages that the daemon puts into the kernel's cache ahead of clients that read in order."""
import errno
import mmap
import os
import random
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

import cgroups
import mounting
import writers
from mounting import status

MIB = 1 << 20
PAGE = 4096
SIZES = {"large": 96 * MIB + 4099, "other": 64 * MIB, **{f"peek.{i}": 24 * MIB for i in range(6)}}
# What the daemon leaves to the kernel's own read-ahead, and the most it has ahead of one reader.
MARGIN, WINDOW = 8 * MIB, 64 * MIB
# How long the daemon takes a reader without news for one that may go on.
PATIENCE_S = 2


@pytest.fixture(scope="module")
def data():
    return {name: np.random.default_rng(i).integers(0, 256, size, np.uint8)
            for i, (name, size) in enumerate(SIZES.items())}


@pytest.fixture(scope="module")
def source(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("push") / "model.safetensors"
    path.write_bytes(writers.safetensors(
        [(name, "U8", [len(bytes_)], bytes_.tobytes()) for name, bytes_ in data.items()]))
    yield path
    path.unlink()


@pytest.fixture
def streamed(mount, source):
    def start(*options):
        return mount(source, "backing=stream", *options)
    return start


def push(mounted):
    return status(mounted)["push"]


def mapped(path):
    """A copy made by way of a mapping, in order: memcpy() of all at once may go backwards."""
    source = np.memmap(path, np.uint8, "r")
    return np.concatenate([source[at:at + MIB] for at in range(0, len(source), MIB)])


def read_whole(path):
    return np.frombuffer(path.read_bytes(), np.uint8)


def read_in_pieces(path, length=MIB):
    pieces = []
    with open(path, "rb", buffering=0) as file:
        while piece := file.read(length):
            pieces.append(piece)
    return np.frombuffer(b"".join(pieces), np.uint8)


def read_populated(path):
    flags = mmap.MAP_SHARED | mmap.MAP_POPULATE
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, flags, mmap.PROT_READ) as mapping:
        return np.frombuffer(mapping[:], np.uint8)


IN_ORDER = [mapped, read_whole, read_in_pieces]
VIEWS = {"tensors": "large", "npy": "large.npy", "safetensors": "large.safetensors"}


@pytest.mark.parametrize("readahead", ["128K", "4M"])
@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("read", IN_ORDER, ids=lambda f: f.__name__)
def test_who_reads_in_order_gets_the_right_bytes_pushed(streamed, data, read, view, readahead):
    mounted = streamed(f"readahead={readahead}")
    found = read(mounted / view / VIEWS[view])
    assert np.array_equal(found[-SIZES["large"]:], data["large"])
    counted = push(mounted)
    assert counted["readers"] >= 1
    assert 0 < counted["used_bytes"] <= counted["pushed_bytes"] <= SIZES["large"]
    # What was pushed was not asked for; now and then it was there twice.
    requested = status(mounted)["reads"]["bytes"]
    assert requested + counted["pushed_bytes"] >= SIZES["large"] - MIB
    # All of it is there now, and right, also for who comes second.
    assert np.array_equal(mapped(mounted / view / VIEWS[view])[-SIZES["large"]:], data["large"])


@pytest.mark.parametrize("options", [["threads=1"], ["source_cache=drop"], ["threads=1", "readahead=64K"]],
                         ids=" ".join)
def test_it_works_with_other_options(streamed, data, options):
    mounted = streamed(*options)
    for read in IN_ORDER:
        assert np.array_equal(read(mounted / "tensors/large"), data["large"])
    assert push(mounted)["pushed_bytes"] > 0


def test_a_mapping_that_is_populated_is_right(streamed, data):
    mounted = streamed()
    assert np.array_equal(read_populated(mounted / "tensors/large"), data["large"])
    assert np.array_equal(read_populated(mounted / "npy/large.npy")[-SIZES["large"]:], data["large"])


def test_the_original_file_is_pushed_too(streamed, source):
    mounted = streamed()
    assert np.array_equal(read_in_pieces(mounted / "files/model.safetensors"), read_whole(source))
    assert push(mounted)["pushed_bytes"] > SIZES["large"]


def test_several_readers_of_several_tensors_get_the_right_bytes(streamed, data):
    mounted = streamed()
    wrong = []

    def run(seed):
        rng = random.Random(seed)
        for _ in range(3):
            name = rng.choice(list(SIZES))
            found = rng.choice(IN_ORDER)(mounted / "tensors" / name.replace(".", "/"))
            if not np.array_equal(found, data[name]):
                wrong.append(name)

    threads = [threading.Thread(target=run, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_random_reader_while_pages_are_pushed_gets_the_right_bytes(streamed, data):
    mounted = streamed()
    over = threading.Event()
    wrong = []

    def run():
        with open(mounted / "tensors/large", "rb", buffering=0) as file:
            while not over.is_set():
                at = random.randrange(SIZES["large"] - MIB)
                piece = os.pread(file.fileno(), 64 << 10, at)
                if piece != data["large"][at:at + len(piece)].tobytes():
                    wrong.append(at)

    thread = threading.Thread(target=run)
    thread.start()
    found = read_in_pieces(mounted / "tensors/large", 100_000)
    over.set()
    thread.join()
    assert wrong == []
    assert np.array_equal(found, data["large"])


# ---- What is predicted ----


@pytest.fixture(scope="module")
def layers(tmp_path_factory):
    path = tmp_path_factory.mktemp("layers") / "model.safetensors"
    block = np.random.default_rng(99).integers(0, 256, 16 * MIB, np.uint8)
    path.write_bytes(writers.safetensors(
        [(f"layers.{i}.w", "U8", [len(block)], np.roll(block, i).tobytes()) for i in range(10)]))
    yield path, block
    path.unlink()


def settle(mounted):
    """Waits until nothing more is pushed."""
    before = None
    for _ in range(40):
        now = push(mounted)["pushed_bytes"]
        if now == before:
            return
        before = now
        time.sleep(0.2)


def walk(mounted, block):
    """Reads the layers in order, with time to prepare the next; how many READs each took."""
    reads = [status(mounted)["reads"]["count"]]
    for i in range(10):
        assert np.array_equal(mapped(mounted / f"tensors/layers/{i}/w"), np.roll(block, i)), i
        settle(mounted)
        reads.append(status(mounted)["reads"]["count"])
    return np.diff(reads)


@pytest.mark.parametrize("readahead", ["128K", "4M"])
def test_predicted_tensors_are_there_before_they_are_read(mount, layers, readahead):
    source, block = layers

    def are_there():
        mounted = mount(source, "backing=stream", f"readahead={readahead}")
        for folder, _, names in os.walk(mounted / "tensors"):
            for name in names:
                os.stat(os.path.join(folder, name))
        reads = walk(mounted, block)
        assert push(mounted)["used_bytes"] > 4 * 16 * MIB
        # The first page and the last one tell that it is read.
        return np.median(reads[5:]) <= 4
    # Where others keep the machine busy the daemon may come too late, but hardly each time.
    assert any(are_there() for _ in range(4))


def test_predicted_tensors_that_nobody_has_looked_up_are_left_alone(mount, layers):
    source, block = layers
    mounted = mount(source, "backing=stream", "readahead=128K")
    assert walk(mounted, block).sum() > 0
    assert push(mounted)["unused_bytes"] == 0


def test_predicted_tensors_are_not_pushed_when_it_is_off(mount, layers):
    source, block = layers
    mounted = mount(source, "backing=stream", "push=off")
    assert walk(mounted, block).sum() >= 10 * 16 * 2
    assert push(mounted)["pushed_bytes"] == 0


# ---- When nothing is pushed ----


@pytest.mark.parametrize("option", ["push=off", "readahead=0"])
def test_it_can_be_switched_off(streamed, data, option):
    mounted = streamed(option)
    assert np.array_equal(mapped(mounted / "tensors/large"), data["large"])
    assert push(mounted) == {"enabled": False, "readers": 0, "pushed_bytes": 0, "used_bytes": 0,
                             "unused_bytes": 0}


def test_by_default_it_is_on(streamed):
    assert push(streamed())["enabled"] is True


def read_backwards(fd):
    for at in range(SIZES["large"] // MIB - 1, -1, -1):
        assert len(os.pread(fd, MIB, at * MIB)) == MIB


def read_at_random(fd):
    for at in random.Random(1).sample(range(SIZES["large"] // MIB), 60):
        assert len(os.pread(fd, 4096, at * MIB)) == 4096


def look_at_the_beginning(fd):
    assert len(os.pread(fd, 4 * MIB, 0)) == 4 * MIB


@pytest.mark.parametrize("read", [read_backwards, read_at_random, look_at_the_beginning],
                         ids=lambda f: f.__name__)
def test_without_evidence_nothing_is_pushed(streamed, read):
    mounted = streamed()
    fd = os.open(mounted / "tensors/large", os.O_RDONLY)
    read(fd)
    os.close(fd)
    time.sleep(0.1)
    assert push(mounted)["pushed_bytes"] == 0


def test_reads_that_go_past_the_page_cache_are_no_evidence(streamed, data):
    mounted = streamed()
    fd = os.open(mounted / "tensors/large", os.O_RDONLY | os.O_DIRECT)
    buffer = mmap.mmap(-1, MIB)
    for at in range(0, 64 * MIB, MIB):
        assert os.preadv(fd, [buffer], at) == MIB
        assert buffer[:] == data["large"][at:at + MIB].tobytes()
    os.close(fd)
    assert push(mounted)["pushed_bytes"] == 0


def read_beginning(path, length):
    """Reads in pieces, so that the daemon can see that it goes on."""
    with open(path, "rb", buffering=0) as file:
        for _ in range(length // MIB):
            assert len(file.read(MIB)) == MIB


def test_who_leaves_after_the_beginning_costs_no_more_than_was_read(streamed):
    mounted = streamed("readahead=128K")
    read_beginning(mounted / "tensors/large", 12 * MIB)
    assert mounting.wait_for(lambda: push(mounted)["unused_bytes"] > 0, PATIENCE_S + 5)
    counted = push(mounted)
    # The kernel reads ahead a little of its own.
    assert counted["pushed_bytes"] <= 13 * MIB
    assert counted["used_bytes"] + counted["unused_bytes"] == counted["pushed_bytes"]


def test_who_looks_into_every_tensor_is_believed_less_each_time(streamed):
    """In the end nothing is pushed any more, whatever is looked at."""
    mounted = streamed("readahead=128K")
    pushed = []
    for i in range(6):
        read_beginning(mounted / f"tensors/peek/{i}", 8 * MIB)
        mounting.wait_for(lambda: push(mounted)["unused_bytes"] == push(mounted)["pushed_bytes"],
                          PATIENCE_S + 5)
        pushed.append(push(mounted)["pushed_bytes"])
    assert 0 < pushed[0]
    # One and two MiB of evidence, then four and more, doubled each time.
    assert pushed[-1] == pushed[-2], pushed
    assert pushed[-1] <= 6 * 8 * MIB


@pytest.fixture
def group():
    reason = cgroups.why_not()
    if reason:
        pytest.skip(reason)
    # A quarter is the reserve; above it there has to be room for two windows.
    with cgroups.Group(160 * MIB) as made:
        yield made


def test_with_little_memory_nothing_is_pushed(group, mount, source, data):
    """The group is there before the mount and goes after it."""
    with group.inside():
        mounted = mount(source, "backing=stream")
    assert np.array_equal(mapped(mounted / "tensors/large"), data["large"])
    assert push(mounted)["pushed_bytes"] == 0


# ---- When the source changes ----

# In place, so that the daemon's file is the one that changes.
CHANGES = {
    "rewritten": lambda file, size: os.pwrite(file, b"\xee" * (size - MIB), MIB),
    "shortened": lambda file, size: os.ftruncate(file, size // 2),
}


@pytest.fixture
def own_source(tmp_path, data):
    path = tmp_path / "model.safetensors"
    path.write_bytes(writers.safetensors([("large", "U8", [SIZES["large"]], data["large"].tobytes())]))
    return path


class Reader:
    """Reads a file in order again and again, out of no cache, until there is an error."""

    def __init__(self, path, expected):
        self.fd = os.open(path, os.O_RDONLY)
        self.expected = expected
        self.wrong = []
        self.error = None
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        while self.error is None:
            os.posix_fadvise(self.fd, 0, 0, os.POSIX_FADV_DONTNEED)
            for at in range(0, len(self.expected), MIB):
                got = self.read(at)
                if isinstance(got, int):
                    self.error = got
                    return
                if not np.array_equal(np.frombuffer(got, np.uint8), self.expected[at:at + len(got)]):
                    self.wrong.append(at)

    def read(self, at):
        try:
            return os.pread(self.fd, MIB, at)
        except OSError as error:
            return error.errno


@pytest.mark.parametrize("delay_ms", [20, 55, 90, 130])
@pytest.mark.parametrize("change", CHANGES)
def test_nothing_of_a_source_that_changes_meanwhile_is_served(mount, own_source, data, change, delay_ms):
    mounted = mount(own_source, "backing=stream")
    reader = Reader(mounted / "tensors/large", data["large"])
    assert mounting.wait_for(lambda: push(mounted)["pushed_bytes"] > 0)
    time.sleep(delay_ms / 1000)
    file = os.open(own_source, os.O_RDWR)
    CHANGES[change](file, own_source.stat().st_size)
    os.close(file)
    reader.thread.join(30)
    assert not reader.thread.is_alive(), "no error after the change"
    assert reader.error == errno.EIO
    assert reader.wrong == []
    # Nor is anything left in the cache that was pushed late.
    time.sleep(0.3)
    for at in range(0, SIZES["large"], MIB // 2):
        assert reader.read(at) == errno.EIO, at
    os.close(reader.fd)
    assert mounting.is_running(mounted.pid)


# ---- The end ----

READ_FOR_EVER = """
import os, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
try:
    while True:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        at = 0
        while piece := os.pread(fd, 1 << 20, at):
            at += len(piece)
except OSError:
    pass
"""


def end_by_signal(mounted):
    os.kill(mounted.pid, signal.SIGTERM)


def end_by_unmount(mounted):
    # The reader keeps it busy: it goes when that is gone.
    assert mounting.umount(mounted.path, mounting.MNT_DETACH) == 0


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("end", [end_by_signal, end_by_unmount], ids=lambda f: f.__name__)
def test_the_end_does_not_wait_for_a_push(streamed, end, threads):
    for _ in range(3):
        mounted = streamed(f"threads={threads}")
        child = subprocess.Popen([sys.executable, "-c", READ_FOR_EVER, mounted / "tensors/large"])
        assert mounting.wait_for(lambda: push(mounted)["pushed_bytes"] > 16 * MIB, 20)
        begin = time.monotonic()
        end(mounted)
        if end is end_by_unmount:
            child.terminate()
        child.wait(30)
        assert mounting.wait_for(lambda: not mounting.is_running(mounted.pid), mounting.START_S)
        assert time.monotonic() - begin < (20 if mounting.SANITIZED else 5)
        assert not mounting.is_mounted(mounted.path)


# ---- Without root ----

SCRIPT = """set -e
weightfs "$SOURCE" "$MNT" -o backing=stream
cmp "$SOURCE" "$MNT/files/model.safetensors"
cat "$MNT/tensors/large" | sha256sum
sha256sum <"$MNT/tensors/large"
mountctl --json status "$MNT" >"$OUT"
mountctl umount "$MNT"
"""


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to give up privileges")
def test_an_ordinary_user_has_little_read_ahead_and_is_pushed_to(tmp_path, source, data):
    mounting.let_others_in(tmp_path, source.parent)
    mnt, out = tmp_path / "mnt", tmp_path / "status.json"
    mnt.mkdir()
    out.touch()
    for path in (mnt, out):
        path.chmod(0o777)
    env = {**os.environ, "PATH": f"{mounting.BIN}:{os.environ['PATH']}", "SOURCE": str(source),
           "MNT": str(mnt), "OUT": str(out)}
    env.pop("XDG_RUNTIME_DIR", None)
    done = subprocess.run([*mounting.AS_NOBODY, "sh", "-c", SCRIPT], env=env, cwd="/", text=True,
                          stdin=subprocess.DEVNULL, capture_output=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert len(set(done.stdout.splitlines())) == 1
    found = mounting.json.loads(out.read_text())
    assert found["readahead"] == {"bytes": 128 << 10, "source": "default"}
    assert found["push"]["used_bytes"] > SIZES["large"]
