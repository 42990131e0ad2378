"""prefetch, pin, unpin and evict: what is brought in, kept and given up, and what is said of it."""
import contextlib
import ctypes
import fcntl
import json
import mmap
import os
import pty
import random
import re
import signal
import socket
import struct
import subprocess
import termios
import threading
import time
from pathlib import Path

import pytest

import mounting
import writers

MIB = 1 << 20
MOUNTCTL = mounting.BIN / "mountctl"
SIZES = {"a.small": 1000, "a.odd": 3 * MIB + 17, "b.large": 9 * MIB, "b.next": 2 * MIB + 1}


def data_of(name):
    return random.Random(name).randbytes(SIZES[name])


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    path = tmp_path_factory.mktemp("prefetch") / "model.safetensors"
    path.write_bytes(writers.safetensors([(n, "U8", [s], data_of(n)) for n, s in SIZES.items()]))
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)  # pages that are dirty cannot be dropped
    os.close(fd)
    return path


@pytest.fixture
def streamed(mount, source):
    return mount(source, "backing=stream")


@pytest.fixture
def resident(mount, source):
    def start(*options):
        mounted = mount(source, "backing=resident", *options)
        passthrough = ctl_json("status", mounted.path)["passthrough"]
        if not passthrough["available"]:
            pytest.skip("no passthrough: " + passthrough["reason"])
        return mounted
    return start


def ctl(*args, timeout=mounting.START_S):
    return subprocess.run([MOUNTCTL, *args], stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, errors="surrogateescape", timeout=timeout, check=False)


def ctl_json(*args, status=0):
    done = ctl("--json", *args)
    assert done.returncode == status, done.stderr
    return json.loads(done.stdout)


def outcomes(document):
    """outcome -> number of tensors or files."""
    return {name: tally["count"] for name, tally in document["outcomes"].items()}


def backings(mounted):
    return {t["name"]: t["backing"] for t in ctl_json("ls", mounted.path)}


def pinned(mounted):
    return {t["name"] for t in ctl_json("ls", mounted.path) if t["pinned"]}


def sums(mounted):
    return ctl_json("status", mounted.path)["resident"]


def request(mounted, **members):
    """Asks the daemon without mountctl."""
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(10)
        s.connect(os.readlink(mounted / ".weightfs" / "socket"))
        s.sendall(json.dumps(members).encode() + b"\n")
        reply = b""
        while piece := s.recv(65536):
            reply += piece
    return json.loads(reply)


def job(mounted, **members):
    """The document of a job once it is over."""
    number = request(mounted, **members)["job"]
    document = {}

    def is_over():
        document.update(request(mounted, command="job", job=number)["job"])
        return document["state"] != "running"
    assert mounting.wait_for(is_over, 30)
    return document


# ---- the page cache ----


def cached_pages(path):
    """Number of pages of a file that are in memory, as mincore(2) has it."""
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        # Private, because ctypes wants to be able to write what it takes an address of.
        mapping = mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE)
        first = ctypes.c_char.from_buffer(mapping)
        vector = (ctypes.c_ubyte * ((size + mmap.PAGESIZE - 1) // mmap.PAGESIZE))()
        failed = mounting.LIBC.mincore(ctypes.c_void_p(ctypes.addressof(first)),
                                       ctypes.c_size_t(size), vector)
        del first
        mapping.close()
    assert failed == 0
    return sum(byte & 1 for byte in vector)


def all_pages(path):
    return -(-os.path.getsize(path) // mmap.PAGESIZE)


@pytest.fixture
def cold(source):
    """Drops the source's pages; tells nothing where that is impossible."""
    with open(source, "rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    if cached_pages(source) > 0:
        pytest.skip("pages of this file system cannot be dropped")


def test_prefetch_brings_the_bytes_into_the_page_cache(streamed, source, cold):
    ctl("evict", streamed.path, "*")
    assert cached_pages(source) < 10
    done = ctl("prefetch", streamed.path, "*")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{streamed.path}: 4 tensors, 14.0 MiB in the page cache, 14.0 MiB")
    assert cached_pages(source) == all_pages(source)


def test_prefetch_asks_for_nothing_that_is_cached(streamed, source):
    source.read_bytes()
    document = ctl_json("prefetch", streamed.path, "*")
    assert document["cache_bytes"] == 0 and outcomes(document) == {"already": 4}
    assert document["done_bytes"] == document["total_bytes"] == sum(SIZES.values())


def test_prefetch_brings_in_only_what_was_named(streamed, source, cold):
    ctl("evict", streamed.path, "*")
    document = ctl_json("prefetch", streamed.path, "b.n*")
    assert outcomes(document) == {"done": 1} and document["total_bytes"] == SIZES["b.next"]
    assert SIZES["b.next"] // mmap.PAGESIZE <= cached_pages(source) < all_pages(source) // 2


def test_a_tensor_that_is_partly_cached_is_completed(streamed, source, cold):
    ctl("evict", streamed.path, "*")
    with open(streamed.tensor("b.large"), "rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
        file.read(MIB)
    document = ctl_json("prefetch", streamed.path, "b.large")
    assert outcomes(document) == {"done": 1}
    assert 0 < document["cache_bytes"] < SIZES["b.large"]


def test_a_pattern_that_matches_nothing_is_named_and_nothing_is_done(streamed, source):
    source.read_bytes()
    done = ctl("evict", streamed.path, "layers*", "*", "z?")
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr == "mountctl: 'layers*': no tensor has such a name\n" \
        "mountctl: 'z?': no tensor has such a name\n"
    assert cached_pages(source) == all_pages(source)
    document = ctl_json("prefetch", streamed.path, "z?", "*", status=1)
    assert document["state"] == "failed" and document["unmatched"] == ["z?"]
    assert document["outcomes"] == {}


def test_patterns_match_names_of_any_bytes(mount):
    names = [b"odd\n\x1b\xff", b"quote\"back\\slash", "\u00e9".encode(), b"nul\0"]
    mounted = mount(writers.gguf([(name, [4], writers.U8, bytes(16)) for name in names]))
    for pattern in (b"odd\n*\xff", b'quote"back\\\\slash', "\u00e9".encode(), b"nul?"):
        document = ctl_json("prefetch", mounted.path, pattern)
        assert (document["state"], document["total_count"]) == ("done", 1), pattern
        (listed,) = ctl_json("ls", mounted.path, pattern)
        assert listed["nbytes"] == 16
    done = ctl("evict", mounted.path, b"\xfe\n*")
    assert done.stderr == "mountctl: '\\xfe\\x0a*': no tensor has such a name\n"


def test_a_changed_source_is_not_brought_in(mount, source, tmp_path):
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(source.read_bytes())
    mounted = mount(copy)
    os.utime(copy)
    done = ctl("prefetch", mounted.path, "b.*")
    assert done.returncode in (0, 1)
    os.posix_fadvise(fd := os.open(copy, os.O_RDWR), 0, 0, os.POSIX_FADV_DONTNEED)
    os.fsync(fd)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(fd)
    done = ctl("prefetch", mounted.path, "b.*")
    assert done.returncode == 1
    assert done.stderr == f"mountctl: {mounted.path}: the source changed: 2 tensors, 11.0 MiB: " \
        "'b.large', 'b.next'\n"


@pytest.mark.parametrize("options", [(), ("--resident",)])
def test_what_cannot_be_read_is_told(mount, source, resident, options):
    resident()  # skips where there is no passthrough
    inner = mount(source, "backing=stream")
    outer = mount(inner / "files" / "model.safetensors", "backing=resident")
    ctl("evict", outer.path, "*")
    ctl("evict", inner.path, "*")
    inner.kill()
    assert mounting.wait_for(lambda: not mounting.is_running(inner.pid))
    done = ctl("prefetch", outer.path, "b.*", *options)
    unit = "files" if options else "tensors"
    assert done.returncode == 1
    assert re.fullmatch(rf"mountctl: {outer.path}: read: failed: 2 {unit}, 11\.0 MiB: "
                        "'b.(large|next)', 'b.(next|large)'\n", done.stderr)
    assert done.stdout.startswith(f"{outer.path}: 0 {unit}, 0 B ")
    document = ctl_json("prefetch", outer.path, "b.*", *options, status=1)
    assert (document["cache_bytes"], document["file_bytes"]) == (0, 0)
    assert sums(outer)["used"] == sums(outer)["queued"] == 0


@contextlib.contextmanager
def little_memory(pid, limit):
    """A process in a memory cgroup of its own. Both versions of the interface."""
    lines = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
    groups = {kind: path.lstrip("/") for _, kind, path in lines}
    if "memory" in groups:
        parent, knob = Path("/sys/fs/cgroup/memory") / groups["memory"], "memory.limit_in_bytes"
    else:
        parent, knob = Path("/sys/fs/cgroup") / groups.get("", ""), "memory.max"
    group = parent / f"weightfs-test-{pid}"
    try:
        group.mkdir()
        (group / knob).write_text(str(limit))
        (group / "cgroup.procs").write_text(str(pid))
    except OSError as error:
        pytest.skip(f"no memory cgroup can be made here: {error}")
    try:
        yield
    finally:
        (parent / "cgroup.procs").write_text(str(pid))
        mounting.wait_for(lambda: not (group / "cgroup.procs").read_text())
        group.rmdir()


def sparse_model(path, count, size):
    header = {f"t.{i}": {"dtype": "U8", "shape": [size], "data_offsets": [i * size, (i + 1) * size]}
              for i in range(count)}
    path.write_bytes(writers.safetensors_raw(json.dumps(header)))
    os.truncate(path, path.stat().st_size + count * size)
    return path


def test_what_was_read_first_is_not_pushed_out_by_the_rest(mount, tmp_path):
    """400 MiB into a quarter of that: it stops when the first of it goes."""
    mounted = mount(sparse_model(tmp_path / "large.safetensors", 50, 8 * MIB))
    with little_memory(mounted.pid, 100 * MIB):
        document = ctl_json("prefetch", mounted.path, "*", status=1)
        done = ctl("prefetch", mounted.path, "*")
    assert document["cache_bytes"] < 250 * MIB
    found = outcomes(document)
    assert found["no_room"] > 20 and sum(found.values()) == 50
    assert done.returncode == 1 and "not enough memory: " in done.stderr


@pytest.mark.skipif(os.getuid() != 0, reason="gives a file to another user")
def test_where_the_kernel_does_not_tell_nothing_is_made_up(mount, source, tmp_path):
    """Newer kernels tell only who may write the file, and the daemon has no capabilities."""
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(source.read_bytes())
    with open(copy, "r+b") as file:
        os.fsync(file.fileno())
    os.chown(copy, 65534, 65534)
    mounted = mount(copy)
    document = ctl_json("evict", mounted.path, "*")
    if document["cache_bytes"] is not None:
        pytest.skip("this kernel tells everybody, or the daemon has kept its capabilities")
    assert cached_pages(copy) < all_pages(copy) // 4
    done = ctl("evict", mounted.path, "*")
    assert done.stdout.endswith("0 B of files and an unknown part of the page cache given up\n")
    document = ctl_json("prefetch", mounted.path, "*")
    assert outcomes(document) == {"done": 4} and document["cache_bytes"] is None
    assert cached_pages(copy) == all_pages(copy)
    done = ctl("prefetch", mounted.path, "*")
    assert (done.returncode, done.stdout) == (
        0, f"{mounted.path}: 4 tensors, 14.0 MiB in the page cache\n")


@pytest.mark.skipif(os.getuid() != 0, reason="gives a file to another user")
def test_what_is_gone_is_noticed_where_the_kernel_does_not_tell(mount, tmp_path):
    path = sparse_model(tmp_path / "large.safetensors", 40, 4 * MIB)
    with open(path, "r+b") as file:  # holes are read without waiting
        file.seek(-160 * MIB, os.SEEK_END)
        for _ in range(160):
            file.write(bytes(MIB))
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    os.chown(path, 65534, 65534)
    mounted = mount(path)
    with little_memory(mounted.pid, 60 * MIB):
        document = ctl_json("prefetch", mounted.path, "*", status=1)
    found = outcomes(document)
    assert found.get("no_room", 0) + found["dropped"] > 10 and sum(found.values()) == 40


def test_evict_drops_pages_of_the_source_and_of_the_mount(streamed, source, cold):
    path = streamed.tensor("b.large")
    assert path.read_bytes() == data_of("b.large")
    assert cached_pages(path) > 0 and cached_pages(source) > 0
    done = ctl("evict", streamed.path, "b.large")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(rf"{streamed.path}: 1 tensor, 9\.0 MiB evicted: 0 B of files and "
                        r"(8\.\d|9\.0) MiB of the page cache given up\n", done.stdout)
    assert cached_pages(path) == 0
    assert cached_pages(source) < all_pages(source) - 2000
    assert path.read_bytes() == data_of("b.large")


def test_evict_drops_pages_that_two_tensors_share(streamed, source, cold):
    source.read_bytes()
    ctl("evict", streamed.path, "*")
    header = os.path.getsize(source) - sum(SIZES.values())
    assert cached_pages(source) <= header // mmap.PAGESIZE + 1


def test_a_mapping_that_was_evicted_reads_the_same(streamed):
    with open(streamed.tensor("a.odd"), "rb") as file, \
            mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapping:
        assert mapping[:] == data_of("a.odd")
        assert ctl("evict", streamed.path, "*").returncode == 0
        assert mapping[:] == data_of("a.odd")


# ---- resident files ----


def test_prefetch_makes_raw_views_resident(resident):
    mounted = resident()
    done = ctl("prefetch", mounted.path, "*", "--resident")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{mounted.path}: 3 files, 14.0 MiB resident, 14.0 MiB of them made")
    assert done.stdout.endswith("; 1 file too small for memory of its own, streamed\n")
    assert backings(mounted) == {n: "stream" if s < 65536 else "resident" for n, s in SIZES.items()}
    assert sums(mounted)["files"] == 3 and sums(mounted)["pinned"] == 0
    for name in SIZES:
        assert mounted.tensor(name).read_bytes() == data_of(name)
    again = ctl_json("prefetch", mounted.path, "*", "--resident")
    assert outcomes(again) == {"already": 3, "small": 1} and again["file_bytes"] == 0


@pytest.mark.parametrize("command, what", [(("prefetch", "--resident"), "resident"),
                                           (("pin",), "resident and pinned")])
def test_only_small_tensors_are_no_failure(resident, command, what):
    name, *options = command
    mounted = resident()
    done = ctl(name, mounted.path, "a.small", *options)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{mounted.path}: 0 files, 0 B {what}; " \
        "1 file too small for memory of its own, streamed\n"


@pytest.mark.parametrize("views", [("--view", "npy,safetensors"),
                                   ("--view", "npy", "--view", "safetensors")])
def test_prefetch_makes_other_views_resident(resident, views):
    mounted = resident()
    document = ctl_json("prefetch", mounted.path, "b.*", "--resident", *views)
    assert outcomes(document) == {"done": 4} and document["views"] == ["npy", "safetensors"]
    assert set(backings(mounted).values()) == {"stream"}
    for view in ("npy", "safetensors"):
        path = mounted.tensor("b.large", view)
        assert os.getxattr(path, "user.weightfs.backing") == b"resident"
        assert path.read_bytes().endswith(data_of("b.large"))


def test_what_does_not_fit_is_told_and_pushes_nothing_out(resident):
    mounted = resident("resident_limit=12M")
    for _ in range(2):
        done = ctl("prefetch", mounted.path, "*", "--resident")
        assert done.returncode == 1
        assert done.stderr == f"mountctl: {mounted.path}: no room within resident_limit or " \
            "the limit of open files: 1 file, 9.0 MiB: 'b.large'\n"
        assert backings(mounted)["a.odd"] == backings(mounted)["b.next"] == "resident"
        assert (sums(mounted)["made"], sums(mounted)["evicted"]) == (2, 0)


def test_want_of_room_is_counted_apart_from_what_was_evicted_by_name(resident):
    mounted = resident("resident_limit=6M")
    assert ctl("prefetch", mounted.path, "a.odd", "b.next", "--resident").returncode == 0
    assert ctl("evict", mounted.path, "a.odd").returncode == 0
    found = sums(mounted)
    assert (found["evicted"], found["evicted_for_room"], found["no_room"]) == (1, 0, 0)
    assert ctl("prefetch", mounted.path, "b.large", "--resident").returncode == 1
    mounted.tensor("b.large").read_bytes()
    mounted.tensor("a.odd").read_bytes()
    mounted.tensor("a.odd", "npy").read_bytes()  # takes the room of two
    found = sums(mounted)
    assert (found["evicted"], found["evicted_for_room"], found["no_room"]) == (3, 2, 2)


def test_the_number_of_resident_files_has_a_bound(mount, tmp_path, monkeypatch):
    def with_few_descriptors(*args):
        return subprocess.run(["prlimit", "--nofile=200:200", mounting.WEIGHTFS, *map(str, args)],
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    monkeypatch.setattr(mounting, "run_weightfs", with_few_descriptors)
    model = sparse_model(tmp_path / "model.safetensors", 110, 100000)
    mounted = mount(model, "backing=resident")
    if not ctl_json("status", mounted.path)["passthrough"]["available"]:
        pytest.skip("no passthrough")
    assert outcomes(ctl_json("prefetch", mounted.path, "*", "--resident", status=1)) == \
        {"done": 100, "no_room": 10}
    found = sums(mounted)
    assert found["most_files"] == found["files"] == 100 and found["no_room"] == 10


def test_what_others_left_makes_room(resident):
    mounted = resident("resident_limit=12M")
    mounted.tensor("b.large").read_bytes()
    assert ctl("prefetch", mounted.path, "a.odd", "b.next", "--resident").returncode == 0
    found = backings(mounted)
    assert (found["a.odd"], found["b.next"], found["b.large"]) == ("resident", "resident", "stream")


def test_what_a_prefetch_made_is_evicted_later_like_any_other(resident):
    mounted = resident("resident_limit=12M")
    assert ctl("prefetch", mounted.path, "a.odd", "b.next", "--resident").returncode == 0
    mounted.tensor("b.large").read_bytes()
    assert backings(mounted)["b.large"] == "resident"


def test_what_is_open_by_stream_is_told(resident):
    mounted = resident("resident_limit=10M")
    with open(mounted.tensor("b.large"), "rb"):
        streaming = open(mounted.tensor("a.odd"), "rb")
    with streaming:
        done = ctl("prefetch", mounted.path, "a.odd", "--resident")
        assert done.returncode == 1
        assert done.stderr == f"mountctl: {mounted.path}: open and not resident: close them first: " \
            "1 file, 3.0 MiB: 'a.odd'\n"
    assert mounting.wait_for(
        lambda: ctl("prefetch", mounted.path, "a.odd", "--resident").returncode == 0)


def test_a_pin_of_what_is_open_by_stream_says_what_it_did(resident):
    mounted = resident("resident_limit=10M")
    with open(mounted.tensor("b.large"), "rb"):
        streaming = open(mounted.tensor("a.odd"), "rb")
    with streaming:
        done = ctl("pin", mounted.path, "a.odd")
    assert done.returncode == 1 and sums(mounted)["pinned"] == 1
    assert done.stdout == \
        f"{mounted.path}: 0 files, 0 B resident and pinned; 1 file pinned for when closed\n"


def test_a_limit_of_open_files_is_named(resident, mount, tmp_path, monkeypatch):
    """A file in memory is one that the daemon holds open: half of them are its bound."""
    resident()  # skips where there is no passthrough

    def limited(*args):
        return subprocess.run(["prlimit", "--nofile=200:200", mounting.WEIGHTFS, *map(str, args)],
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60,
                              check=False)
    monkeypatch.setattr(mounting, "run_weightfs", limited)
    mounted = mount(sparse_model(tmp_path / "many.safetensors", 150, 80 << 10), "backing=resident")
    done = ctl("prefetch", mounted.path, "*", "--resident")
    assert done.returncode == 1
    assert done.stderr.startswith(f"mountctl: {mounted.path}: no room within resident_limit or the "
                                  "limit of open files: 50 files")
    assert sums(mounted)["files"] == 100


@pytest.mark.parametrize("command", [("prefetch", "--resident"), ("pin",), ("pin", "--no-fill")])
def test_without_passthrough_there_is_one_sentence(streamed, command):
    name, *options = command
    done = ctl(name, streamed.path, "*", *options)
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(rf"mountctl: {streamed.path}: no tensor can be resident: [^\n]+\n", done.stderr)


@pytest.mark.parametrize("command", [("prefetch", "--resident"), ("pin",), ("pin", "--no-fill"),
                                     ("unpin",), ("evict",)])
def test_a_model_of_small_tensors_alone_is_no_failure(resident, mount, tmp_path, command):
    resident()  # skips where there is no passthrough
    model = tmp_path / "model.safetensors"
    model.write_bytes(writers.safetensors([(n, "U8", [1000], bytes(1000)) for n in ("a", "b")]))
    mounted = mount(model, "backing=resident")
    name, *options = command
    found = ctl_json(name, mounted.path, "*", *options)
    if name in ("prefetch", "pin"):
        assert outcomes(found) == {"small": 2}
    assert pinned(mounted) == set() and backings(mounted) == {"a": "stream", "b": "stream"}


def test_many_small_files_are_made_at_once(resident, mount, tmp_path):
    resident()  # skips where there is no passthrough
    mounted = mount(sparse_model(tmp_path / "many.safetensors", 2000, 80 << 10), "backing=resident")
    document = ctl_json("prefetch", mounted.path, "*", "--resident")
    assert outcomes(document) == {"done": 2000}
    assert sums(mounted)["files"] == 2000


# ---- what the status says of it to people ----


def status_lines(mounted):
    """label -> text, of the lines that are about backings and files."""
    text = ctl("status", mounted.path).stdout
    lines = text.split("backing of tensors/\n")[1].split("\nreads\n")[0].splitlines()
    return {line[2:14].strip(): line[15:] for line in lines}


def test_files_of_other_views_are_seen_in_the_status(resident):
    mounted = resident("resident_limit=30M")
    ctl("prefetch", mounted.path, "*", "--resident", "--view", "npy")
    ctl("pin", mounted.path, "b.large", "--view", "npy")
    found = status_lines(mounted)
    assert found["stream"] == "4 tensors, 14.0 MiB" and found["resident"] == "0 tensors, 0 B"
    assert re.fullmatch(r"14\.\d MiB of 30\.0 MiB, 3 files, 1 pinned", found["memory"])
    assert found["clones"] == "none: the option backing=resident is set"
    assert found["prediction"].startswith("0 tensors by ")
    ctl("prefetch", mounted.path, "a.odd", "--resident")
    assert status_lines(mounted)["resident"] == "1 tensor, 3.0 MiB"


def test_a_limit_of_nothing_is_seen_in_the_status(resident):
    assert status_lines(resident("resident_limit=0"))["memory"] == "0 B of 0 B, 0 files, 0 pinned"


def test_what_was_predicted_is_seen_in_the_status_of_auto(resident, mount, source):
    resident()  # skips where there is no passthrough
    mounted = mount(source, "backing=auto")
    found = status_lines(mounted)
    assert found["prediction"] == "0 tensors by file, 0 of them used"
    clone = ctl_json("status", mounted.path)["clone"]
    assert found["clones"] == ("0 files" if clone["available"] else f"none: {clone['reason']}")


# ---- pin and unpin ----


def test_what_is_pinned_stays_resident(resident):
    mounted = resident("resident_limit=12M")
    done = ctl("pin", mounted.path, "b.large")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(
        f"{mounted.path}: 1 file, 9.0 MiB resident and pinned, 9.0 MiB of them made")
    assert sums(mounted)["pinned"] == 1 and pinned(mounted) == {"b.large"}
    assert mounted.tensor("a.odd").read_bytes() == data_of("a.odd")
    found = backings(mounted)
    assert (found["b.large"], found["a.odd"]) == ("resident", "stream")
    assert "pinned" in ctl("ls", "-l", mounted.path, "b.large").stdout.splitlines()[1].split()
    assert "1 pinned" in ctl("status", mounted.path).stdout


def test_what_is_unpinned_makes_room_again(resident):
    mounted = resident("resident_limit=12M")
    assert ctl("pin", mounted.path, "b.large").returncode == 0
    done = ctl("unpin", mounted.path, "*")
    assert (done.returncode, done.stdout, done.stderr) == (
        0, f"{mounted.path}: 1 file, 9.0 MiB unpinned\n", "")
    assert sums(mounted)["pinned"] == 0 and pinned(mounted) == set()
    assert mounted.tensor("a.odd").read_bytes() == data_of("a.odd")
    assert backings(mounted)["b.large"] == "stream"


def test_pin_without_a_fill_keeps_what_is_made_later(resident):
    mounted = resident("resident_limit=12M")
    document = ctl_json("pin", mounted.path, "*", "--no-fill")
    assert outcomes(document) == {"done": 3, "small": 1}
    assert sums(mounted)["files"] == 0 and sums(mounted)["pinned"] == 3
    mounted.tensor("b.large").read_bytes()
    mounted.tensor("a.odd").read_bytes()
    found = backings(mounted)
    assert (found["b.large"], found["a.odd"]) == ("resident", "stream")


def test_views_are_pinned_apart(resident):
    mounted = resident()
    assert ctl("pin", mounted.path, "b.next", "--view", "npy").returncode == 0
    assert ctl_json("unpin", mounted.path, "b.next", "--view", "tensors")["outcomes"] == \
        {"already": {"count": 1, "bytes": SIZES["b.next"]}}
    assert pinned(mounted) == {"b.next"}
    assert ctl("unpin", mounted.path, "b.next").returncode == 0
    assert pinned(mounted) == set()


def test_what_was_pinned_without_room_is_counted_apart(resident):
    mounted = resident("resident_limit=10M")
    done = ctl("pin", mounted.path, "b.large", "b.next", "a.small")
    assert done.returncode == 1
    assert re.fullmatch(rf"{mounted.path}: 1 file, 9\.0 MiB resident and pinned, 9\.0 MiB of them "
                        r"made in [^;]+; 1 file pinned for when there is room; 1 file too small for "
                        r"memory of its own, streamed\n", done.stdout)
    assert "no room" in done.stderr and "'b.next'" in done.stderr
    assert sums(mounted)["pinned"] == 2


def test_a_pin_that_did_not_fit_holds_once_the_file_is_made(resident):
    mounted = resident("resident_limit=10M")
    with open(mounted.tensor("a.odd"), "rb"):
        assert ctl("pin", mounted.path, "b.large").returncode == 1
    assert mounting.wait_for(lambda: mounted.tensor("b.large").read_bytes()
                             and backings(mounted)["b.large"] == "resident")
    mounted.tensor("a.odd").read_bytes()
    assert backings(mounted)["b.large"] == "resident"


# ---- evict ----


def test_evict_gives_up_files_of_all_views(resident):
    mounted = resident()
    ctl("prefetch", mounted.path, "*", "--resident", "--view", "tensors,npy,safetensors")
    assert sums(mounted)["files"] == 9
    document = ctl_json("evict", mounted.path, "b.*")
    assert outcomes(document) == {"done": 2}
    assert document["file_bytes"] == 3 * (SIZES["b.large"] + SIZES["b.next"])
    assert sums(mounted)["files"] == 3
    assert outcomes(ctl_json("evict", mounted.path, "*", "--view", "npy")) == {"done": 4}
    assert sums(mounted)["files"] == 2


def test_evict_leaves_what_is_pinned_and_names_unpin(resident):
    mounted = resident()
    assert ctl("pin", mounted.path, "b.large").returncode == 0
    done = ctl("evict", mounted.path, "*")
    assert done.returncode == 1
    assert done.stderr == f"mountctl: {mounted.path}: pinned: see 'mountctl unpin': " \
        "1 tensor, 9.0 MiB: 'b.large'\n"
    assert backings(mounted)["b.large"] == "resident"
    ctl("unpin", mounted.path, "b.large")
    assert ctl("evict", mounted.path, "*").returncode == 0
    assert backings(mounted)["b.large"] == "stream"


def test_evict_leaves_what_is_open_and_says_so(resident):
    mounted = resident()
    with open(mounted.tensor("b.large"), "rb") as file:
        mapping = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
    done = ctl("evict", mounted.path, "b.*")
    assert done.returncode == 1
    assert done.stderr == f"mountctl: {mounted.path}: in use: 1 tensor, 9.0 MiB: 'b.large'\n"
    assert mapping[:] == data_of("b.large")
    assert backings(mounted)["b.large"] == "resident"
    mapping.close()
    assert mounting.wait_for(lambda: ctl("evict", mounted.path, "b.*").returncode == 0)


# ---- while it goes on ----


@pytest.fixture
def slow(mount, source):
    """(mount, stop, go): a mount of a file of another mount, whose daemon can be stopped."""
    inner = mount(source, "backing=stream")
    outer = mount(inner / "files" / "model.safetensors", "backing=stream")
    ctl("evict", inner.path, "*")
    yield (outer, lambda: os.kill(inner.pid, signal.SIGSTOP),
           lambda: os.kill(inner.pid, signal.SIGCONT))
    os.kill(inner.pid, signal.SIGCONT)


def start(*args, **options):
    return subprocess.Popen([MOUNTCTL, *args], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True, **options)


def running_jobs(mounted):
    return ctl_json("status", mounted.path)["jobs"]


def wait_until_stuck(mounted):
    """Until a job has begun to read from the daemon that is stopped."""
    assert mounting.wait_for(lambda: [j for j in running_jobs(mounted) if j["total_count"] > 0])
    time.sleep(0.5)
    assert running_jobs(mounted) != []


def test_a_job_keeps_nobody_waiting_and_is_in_the_status(slow):
    mounted, stop, go = slow
    stop()
    command = start("prefetch", mounted.path, "b.*", "a.odd")
    wait_until_stuck(mounted)
    begin = time.monotonic()
    (shown,) = running_jobs(mounted)
    assert (shown["command"], shown["state"], shown["patterns"]) == \
        ("prefetch", "running", ["b.*", "a.odd"])
    text = ctl("status", mounted.path).stdout
    assert "jobs" in text.splitlines() and "  prefetch     number 1, " in text
    assert time.monotonic() - begin < 5
    assert command.poll() is None
    go()
    out, err = command.communicate(timeout=30)
    assert (command.returncode, err) == (0, "") and "\r" not in out
    assert running_jobs(mounted) == []


def test_an_interrupt_cancels_the_job_and_ends_the_command(slow):
    mounted, stop, go = slow
    stop()
    command = start("prefetch", mounted.path, "*")
    wait_until_stuck(mounted)
    command.send_signal(signal.SIGINT)
    time.sleep(0.5)  # until it was passed on
    go()
    _, err = command.communicate(timeout=30)
    assert command.returncode == -signal.SIGINT
    assert re.search(r": cancelled: \d tensors, ", err)
    assert request(mounted, command="job", job=1)["job"]["state"] == "cancelled"


def test_a_second_interrupt_does_not_wait(slow):
    mounted, stop, _ = slow
    stop()
    command = start("prefetch", mounted.path, "*")
    wait_until_stuck(mounted)

    def has_ended():
        command.send_signal(signal.SIGINT)
        return command.poll() is not None
    assert mounting.wait_for(has_ended, 10, 0.3)
    command.communicate()
    assert command.returncode == -signal.SIGINT
    assert running_jobs(mounted) != []


def test_a_job_goes_on_without_the_command(slow, source):
    mounted, stop, go = slow
    stop()
    command = start("prefetch", mounted.path, "*")
    wait_until_stuck(mounted)
    command.kill()
    command.communicate()
    go()
    assert mounting.wait_for(lambda: running_jobs(mounted) == [], 20)
    done = request(mounted, command="job", job=1)["job"]
    assert done["state"] == "done" and outcomes(done)["done"] >= 3


def test_only_so_many_jobs_run_at_a_time(slow):
    mounted, stop, go = slow
    stop()
    for i in range(8):
        assert request(mounted, command="prefetch", patterns=["*"]) == {"ok": True, "job": i + 1}
    done = ctl("prefetch", mounted.path, "*")
    assert done.returncode == 1
    assert done.stderr == f"mountctl: {mounted.path}: too many jobs are running: " \
        "wait for one to end\n"
    assert len(running_jobs(mounted)) == 8
    go()
    assert mounting.wait_for(lambda: running_jobs(mounted) == [], 20)
    assert ctl("prefetch", mounted.path, "*").returncode == 0


def test_a_daemon_that_dies_is_told(slow):
    mounted, stop, go = slow
    stop()
    command = start("prefetch", mounted.path, "*")
    wait_until_stuck(mounted)
    mounted.kill()
    go()
    _, err = command.communicate(timeout=30)
    assert command.returncode == 1
    assert err == f"mountctl: {mounted.path}: the daemon is gone\n"
    # Until then it has the file of the other mount open.
    assert mounting.wait_for(lambda: not mounting.is_running(mounted.pid))


def test_the_end_does_not_wait_for_jobs(resident, mount, tmp_path):
    resident()
    mounted = mount(sparse_model(tmp_path / "large.safetensors", 60, 32 * MIB), "backing=resident")
    request(mounted, command="prefetch", patterns=["*"], resident=True)
    request(mounted, command="prefetch", patterns=["*"])
    os.kill(mounted.pid, signal.SIGTERM)
    assert mounting.wait_for(lambda: not mounting.is_running(mounted.pid), 10)
    assert not mounting.is_mounted(mounted.path)


def test_jobs_at_the_same_time_agree(resident):
    """Prefetches, pins and evictions of the same tensors under a limit that does not hold them."""
    mounted = resident("resident_limit=12M")
    wrong = []

    def work(seed):
        order = random.Random(seed)
        for _ in range(6):
            command = order.choice([("prefetch", "--resident", "--view", "tensors,npy"), ("pin",),
                                    ("unpin",), ("evict",), ("prefetch",)])
            done = ctl(command[0], mounted.path, order.choice(["*", "b.*", "a.odd"]), *command[1:],
                       timeout=120)
            name = order.choice(list(SIZES))
            if done.returncode not in (0, 1) or \
                    (mounted / "tensors" / name.replace(".", "/")).read_bytes() != data_of(name):
                wrong.append((command, done))
    threads = [threading.Thread(target=work, args=(i,)) for i in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not any(t.is_alive() for t in threads) and not wrong
    ctl("unpin", mounted.path, "*")
    assert ctl("evict", mounted.path, "*").returncode == 0
    found = sums(mounted)
    assert (found["files"], found["used"], found["pinned"], found["queued"]) == (0, 0, 0, 0)


# ---- on a terminal ----


def on_terminal(columns, args, while_running, **env):
    """What mountctl prints on a terminal of so many columns."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    with subprocess.Popen([MOUNTCTL, *args], stdout=theirs, stderr=subprocess.DEVNULL,
                          env={**os.environ, "TERM": "xterm", **env}) as command:
        os.close(theirs)
        text = while_running(lambda: os.read(ours, 65536))
        with contextlib.suppress(OSError):  # how a terminal says that the other side is closed
            while piece := os.read(ours, 65536):
                text += piece
    os.close(ours)
    return command.returncode, text.decode()


@pytest.mark.parametrize("columns", [200, 50, 24])
def test_a_terminal_shows_a_bar_that_fits_and_is_gone_at_the_end(slow, columns):
    mounted, stop, go = slow
    stop()

    def see_it_drawn(read):
        text = read()
        go()
        return text
    status, text = on_terminal(columns, ("prefetch", mounted.path, "*"), see_it_drawn, NO_COLOR="1")
    assert status == 0 and "\033" not in text
    *drawn, summary = text.rstrip().split("\r")
    bars = [line for line in drawn if "%" in line]
    assert bars and all(len(line) < columns for line in drawn)
    assert ("[" in bars[0]) == (columns == 200) or columns == 50
    assert summary.startswith(f"{mounted.path}: 4 tensors, 14.0 MiB in the page cache")


def test_json_on_a_terminal_is_one_document(slow):
    mounted, stop, go = slow
    stop()

    def let_it_run(read):
        assert mounting.wait_for(lambda: running_jobs(mounted) != [])
        go()
        return read()
    status, text = on_terminal(80, ("--json", "prefetch", mounted.path, "*"), let_it_run)
    assert status == 0 and "%" not in text
    assert json.loads(text)["state"] == "done"


# ---- usage and the protocol ----


@pytest.mark.parametrize("args", [
    ("prefetch",), ("prefetch", "/mnt"), ("pin", "/mnt"), ("unpin",), ("evict", "/mnt"),
    ("prefetch", "/mnt", "*", "--view", "npy"), ("pin", "/mnt", "*", "--resident"),
    ("evict", "/mnt", "*", "--no-fill"), ("pin", "/mnt", "*", "--view", "flat"),
    ("pin", "/mnt", "*", "--view", "npy,"), ("prefetch", "/mnt", "*", "--view"),
])
def test_wrong_usage(args):
    done = ctl(*args)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(rf"mountctl: {args[0]}: [^\n]+\n", done.stderr)


@pytest.mark.parametrize("command", ["prefetch", "pin", "unpin", "evict"])
def test_other_paths_are_refused(command, tmp_path):
    done = ctl(command, tmp_path, "*")
    assert (done.returncode, done.stderr) == (1, f"mountctl: {tmp_path}: not a weightfs mount\n")


@pytest.mark.parametrize("command", ["prefetch", "pin", "unpin", "evict"])
@pytest.mark.parametrize("below", ["npy", "tensors/a/odd", "./tensors//a/"])
def test_a_part_of_a_mount_is_not_taken_for_all_of_it(streamed, command, below):
    path = f"{streamed.path}/{below}"
    done = ctl(command, path, "*")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"mountctl: {path}: holds no model: name the mount point\n"
    assert ctl("evict", f"{streamed.path}/", "*").returncode == 0


@pytest.mark.parametrize("command", ["prefetch", "evict", "ls"])
def test_an_empty_pattern_can_be_seen_in_what_is_said(streamed, command):
    done = ctl(command, streamed.path, "")
    assert (done.returncode, done.stderr) == (1, "mountctl: '': no tensor has such a name\n")


def test_too_many_patterns_are_refused_before_they_are_sent(streamed):
    done = ctl("evict", streamed.path, *["a" * 1000 for _ in range(66)])
    assert done.returncode == 1
    assert re.fullmatch(r"mountctl: patterns: \d+ bytes with their request: at most 65536 can be "
                        r"sent\n", done.stderr)
    done = ctl("evict", streamed.path, *["?" * 1000 + "*" for _ in range(60)], "*")
    assert done.stderr.count("no tensor has such a name") == 60


@pytest.mark.parametrize("members, error", [
    ({}, "request: no JSON with a command"),
    ({"command": 5}, "request: no JSON with a command"),
    ({"command": "prefetch"}, "request: no list of patterns"),
    ({"command": "prefetch", "patterns": []}, "request: no list of patterns"),
    ({"command": "prefetch", "patterns": ["*", 5]}, "request: a pattern that is no string"),
    ({"command": "evict", "patterns": ["*"], "views": ["raw"]}, "request: unknown view"),
    ({"command": "evict", "patterns": ["*"], "views": [1]}, "request: unknown view"),
    ({"command": "evict", "patterns": ["*"], "views": "npy"}, "request: the views are no list"),
    ({"command": "advise", "patterns": ["*"]}, "request: unknown advice"),
    ({"command": "advise", "patterns": ["*"], "advice": 5}, "request: unknown advice"),
    ({"command": "advise", "patterns": ["*"], "advice": "WILLNEED"}, "request: unknown advice"),
    ({"command": "advise", "advice": "random"}, "request: no list of patterns"),
    ({"command": "job"}, "no such job"),
    ({"command": "job", "job": 1}, "no such job"),
    ({"command": "job", "job": -1}, "no such job"),
    ({"command": "job", "job": 1e300}, "no such job"),
    ({"command": "cancel", "job": "1"}, "no such job"),
])
def test_requests_that_make_no_sense_are_refused(streamed, members, error):
    assert request(streamed, **members) == {"ok": False, "error": error}


def test_a_job_can_be_started_and_seen_without_mountctl(streamed):
    document = job(streamed, command="prefetch", patterns=["a.*"])
    assert document["state"] == "done" and document["total_count"] == 2


def test_every_member_of_a_job_is_documented(resident):
    mounted = resident("resident_limit=1M")
    page = (mounting.ROOT / "docs" / "status.md").read_text()
    section = page.split("## prefetch, pin, unpin, evict, advise")[1].split("\n## ")[0]
    documented = {m.removesuffix("[]") for m in re.findall(r"^\| `([^`]+)`", section, re.M)}
    shown = ctl_json("prefetch", mounted.path, "b.*", "--resident", status=1)
    assert set(shown) <= documented
    source = (mounting.ROOT / "fs" / "jobs.c").read_text()
    outcome_names = re.findall(r'\[JOB_\w+\] = "(\w+)"', source.split("outcome_names")[1])
    assert len(outcome_names) == 13 and set(outcome_names) <= documented


# ---- scale ----


@pytest.mark.skipif(mounting.SANITIZED, reason="a time that sanitizers do not keep")
def test_92000_tensors_of_two_backings(resident, mount, tmp_path):
    resident()
    count = 92_000
    header = {f"model.layers.{i // 1500}.mlp.experts.{i % 1500}.weight":
              {"dtype": "U8", "shape": [16], "data_offsets": [16 * i, 16 * i + 16]}
              for i in range(count)}
    header["large"] = {"dtype": "U8", "shape": [MIB],
                       "data_offsets": [16 * count, 16 * count + MIB]}
    path = tmp_path / "many.safetensors"
    path.write_bytes(writers.safetensors_raw(json.dumps(header), bytes(16 * count + MIB)))
    mounted = mount(path, "backing=resident")
    for args in (("prefetch", "--resident"), ("prefetch",), ("pin", "--no-fill"), ("evict",),
                 ("advise", "random"), ("advise", "willneed")):
        begin = time.monotonic()
        document = ctl_json(args[0], mounted.path, "*", *args[1:],
                            status=1 if args[0] == "evict" else 0)
        took = time.monotonic() - begin
        print(f"\n      {' '.join(args)}: {took:.2f} s", end="")
        assert sum(outcomes(document).values()) == count + 1
        assert took < 5, f"{args}: {took:.2f} s"
    for args in (("ls",), ("ls", "-l"), ("ls", "--json")):
        begin = time.monotonic()
        done = ctl(*args, mounted.path)
        took = time.monotonic() - begin
        assert done.stdout.count("resident") == 1 and took < 2, f"{args}: {took:.2f} s"


def test_a_count_of_the_page_cache_that_nobody_asked_for_is_never_ready(streamed):
    for count in (999, 2**31 - 1):
        reply = request(streamed, command="page_cache", count=count)
        assert reply == {"ok": True, "count": count, "ready": False}
    # What is no number of a count asks for a new one.
    for count in (None, -1, "1", [1]):
        reply = request(streamed, command="page_cache", count=count)
        assert reply["ok"] and 0 < reply["count"] < 20
