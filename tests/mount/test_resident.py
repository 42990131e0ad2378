"""The resident backing: tensors in memory of their own, read by passthrough."""
import ctypes
import hashlib
import json
import mmap
import os
import random
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest

import mounting
import writers
from mounting import backing, status

MIB = 1 << 20
SIZES = {"a.small": 1000, "a.odd": 3 * MIB + 17, "b.large": 9 * MIB, "b.next": 2 * MIB + 1}


def data_of(name):
    return random.Random(name).randbytes(SIZES[name])


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    path = tmp_path_factory.mktemp("resident") / "model.safetensors"
    path.write_bytes(writers.safetensors([(n, "U8", [s], data_of(n)) for n, s in SIZES.items()]))
    return path


@pytest.fixture
def resident(mount, source):
    def start(*options):
        mounted = mount(source, "backing=resident", *options)
        if not status(mounted)["passthrough"]["available"]:
            pytest.skip("no passthrough: " + status(mounted)["passthrough"]["reason"])
        return mounted
    return start


def sums(mounted):
    return status(mounted)["resident"]


def view_paths(mounted, name):
    path = name.replace(".", "/")
    return [mounted / "tensors" / path, mounted / "npy" / (path + ".npy"),
            mounted / "safetensors" / (path + ".safetensors")]


def test_every_view_is_the_same_by_stream_and_resident(mount, source, resident):
    streamed = mount(source, "backing=stream")
    mounted = resident()
    for name in SIZES:
        for one, other in zip(view_paths(mounted, name), view_paths(streamed, name)):
            assert one.read_bytes() == other.read_bytes(), one
            assert backing(one) == ("stream" if SIZES[name] < 65536 else "resident")
    assert sums(mounted)["files"] == 9


def test_status_counts_a_tensor_once(resident):
    mounted = resident()
    for path in view_paths(mounted, "b.large"):
        path.read_bytes()
    backings = status(mounted)["backings"]
    assert backings["resident"]["tensors"] == 1 and backings["stream"]["tensors"] == 3
    assert backings["resident"]["bytes"] == SIZES["b.large"]
    assert sums(mounted)["files"] == 3


def metrics(mounted):
    """name with labels -> value; each name has its HELP and TYPE before it."""
    found, kinds, helped = {}, {}, set()
    for line in (mounted / ".weightfs/metrics").read_text().splitlines():
        words = line.split(" ")
        if words[:2] == ["#", "HELP"]:
            assert words[2] not in helped and len(words) > 3
            helped.add(words[2])
        elif words[:2] == ["#", "TYPE"]:
            assert words[2] in helped and words[3] in ("counter", "gauge")
            kinds[words[2]] = words[3]
        else:
            name, value = words
            base = name.split("{")[0]
            assert base.endswith("_total") == (kinds[base] == "counter") and name not in found
            found[name] = float(value)
    return found


def test_metrics_say_what_the_status_says(resident):
    mounted = resident("resident_limit=16M")
    for name in ("b.large", "a.odd", "b.next"):
        for path in view_paths(mounted, name):
            path.read_bytes()
    open_file = open(view_paths(mounted, "b.large")[0], "rb")
    mounting.wait_for(lambda: sums(mounted)["queued"] == 0)
    found, expected = metrics(mounted), status(mounted)
    for backing_name in ("stream", "clone", "resident"):
        label = f'{{backing="{backing_name}"}}'
        of = expected["backings"][backing_name]
        assert found["weightfs_backing_tensors" + label] == of["tensors"]
        assert found["weightfs_backing_bytes" + label] == of["bytes"]
        assert found["weightfs_backing_opens_total" + label] == of["opens"]
        if backing_name == "stream":
            continue
        of = expected[backing_name]
        for key in ("files", "most_files"):
            assert found[f"weightfs_{key}{label}"] == of[key]
        for key in ("made", "evicted", "evicted_for_room", "no_room", "failed"):
            assert found[f"weightfs_files_{key}_total{label}"] == of[key]
    of = expected["resident"]
    for key, member in (("resident_limit_bytes", "limit"), ("resident_used_bytes", "used"),
                        ("resident_effective_limit_bytes", "effective_limit"),
                        ("pressure_events_total", "pressure_events"), ("queued_files", "queued"),
                        ("pinned_files", "pinned")):
        assert found["weightfs_" + key] == of[member], key
    assert of["evicted_for_room"] > 0 and of["used"] > 0 and found["weightfs_jobs_running"] == 0
    assert found["weightfs_predicted_total"] == found["weightfs_predicted_hits_total"] == 0
    assert found["weightfs_tensors"] == len(SIZES)
    open_file.close()


def test_all_ways_of_reading_agree(resident, tmp_path):
    path = view_paths(resident(), "b.large")[0]
    data = data_of("b.large")
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapping:
        assert mapping[:] == data
        assert os.pread(file.fileno(), 5000, len(data) - 4000) == data[-4000:]
    assert np.fromfile(path, np.uint8).tobytes() == data
    out = subprocess.run(["sha256sum", path], capture_output=True, text=True, check=True).stdout
    assert out.split()[0] == hashlib.sha256(data).hexdigest()
    copy = tmp_path / "copy"
    subprocess.run(["cp", path, copy], check=True)
    assert copy.read_bytes() == data
    subprocess.run(["dd", f"if={path}", f"of={copy}", "iflag=direct", "bs=1M"], check=True,
                   capture_output=True)
    assert copy.read_bytes() == data
    with open(path, "rb") as file, open(copy, "wb") as target:
        while os.sendfile(target.fileno(), file.fileno(), None, MIB):
            pass
    assert copy.read_bytes() == data


def test_reads_do_not_reach_the_daemon(resident):
    mounted = resident()
    path = view_paths(mounted, "b.large")[0]
    with open(path, "rb") as file:
        before = status(mounted)["reads"]["count"]
        file.read()
        assert status(mounted)["reads"]["count"] == before
    assert status(mounted)["backings"]["resident"]["opens"] == 1


def test_an_overlay_can_stand_on_a_mount(resident, tmp_path):
    """As a container's root does: the kernel allows two file systems on one another, and what
    is passed through to counts as none."""
    if os.getuid() != 0:
        pytest.skip("mounting an overlay takes root")
    mounted = resident()
    layer, overlay = tmp_path / "layer", tmp_path / "overlay"
    layer.mkdir()
    overlay.mkdir()
    subprocess.run(["mount", "-t", "overlay", "overlay", overlay,
                    "-o", f"lowerdir={mounted.path}:{layer}"], check=True)
    try:
        assert (overlay / "tensors/b/large").read_bytes() == data_of("b.large")
        assert backing(view_paths(mounted, "b.large")[0]) == "resident"
    finally:
        assert mounting.umount(overlay) == 0


def test_the_limit_evicts_what_was_used_longest_ago(resident):
    mounted = resident("resident_limit=12M")
    paths = {name: view_paths(mounted, name)[0] for name in SIZES}
    for name in ["a.odd", "b.next", "a.odd"]:
        assert paths[name].read_bytes() == data_of(name)
    assert paths["b.large"].read_bytes() == data_of("b.large")
    assert backing(paths["b.large"]) == "resident"
    assert backing(paths["b.next"]) == "stream" and sums(mounted)["evicted"] >= 1
    assert sums(mounted)["used"] <= 12 * MIB


def test_what_is_open_is_not_evicted_and_the_rest_is_streamed(resident):
    mounted = resident("resident_limit=10M")
    large, odd = view_paths(mounted, "b.large")[0], view_paths(mounted, "a.odd")[0]
    with open(large, "rb"):
        assert odd.read_bytes() == data_of("a.odd")
        assert backing(odd) == "stream" and backing(large) == "resident"
    assert mounting.wait_for(lambda: odd.read_bytes() == data_of("a.odd")
                             and backing(odd) == "resident")


def test_too_large_for_the_limit_is_streamed(resident):
    mounted = resident("resident_limit=1M")
    for name in SIZES:
        for path in view_paths(mounted, name):
            path.read_bytes()
            assert backing(path) == "stream"
    assert sums(mounted)["used"] == 0


def test_mappings_outlive_a_killed_daemon(resident):
    mounted = resident()
    with open(view_paths(mounted, "b.large")[0], "rb") as file:
        mapping = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
    mounted.kill()
    assert mapping[:] == data_of("b.large")
    mapping.close()


# Maps files, says so, and tells whether they hold what is expected when asked.
CLIENT = """
import hashlib, mmap, sys
held = []
for path in sys.argv[1::2]:
    with open(path, "rb") as file:
        held.append(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ))
touched = sum(mapping[0] for mapping in held)
print("mapped", flush=True)
for line in sys.stdin:
    found = [hashlib.sha256(mapping).hexdigest() for mapping in held]
    print("right" if found == sys.argv[2::2] else "wrong", flush=True)
"""


def test_clients_outlive_the_daemon_and_the_mount(resident):
    """Several of them, with every view, also once the path is gone."""
    mounted = resident()
    paths = [path for name in ("a.odd", "b.large", "b.next") for path in view_paths(mounted, name)]
    words = [str(word) for path in paths
             for word in (path, hashlib.sha256(path.read_bytes()).hexdigest())]
    clients = [subprocess.Popen([sys.executable, "-c", CLIENT, *words], text=True,
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE)
               for _ in range(4)]

    def ask(client):
        client.stdin.write("?\n")
        client.stdin.flush()
        return client.stdout.readline()
    try:
        assert [client.stdout.readline() for client in clients] == ["mapped\n"] * 4
        assert sums(mounted)["files"] == len(paths)
        mounted.kill()
        assert mounting.wait_for(lambda: not mounting.is_running(mounted.pid))
        assert [ask(client) for client in clients] == ["right\n"] * 4
        assert mounting.umount(mounted.path, mounting.MNT_DETACH) == 0
        assert not mounting.is_mounted(mounted.path)
        assert [ask(client) for client in clients] == ["right\n"] * 4
    finally:
        for client in clients:
            client.stdin.close()
            client.wait(30)
            client.stdout.close()


def test_a_changed_source_is_stale_and_mapped_bytes_stay_right(mount, source, tmp_path):
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(source.read_bytes())
    mounted = mount(copy, "backing=resident")
    if not status(mounted)["passthrough"]["available"]:
        pytest.skip("no passthrough")
    with open(view_paths(mounted, "b.large")[0], "rb") as file:
        mapping = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
    with open(copy, "r+b") as file:
        file.seek(MIB)
        file.write(b"changed")

    def is_stale():
        try:
            view_paths(mounted, "a.odd")[0].open("rb").close()
        except OSError as error:
            return os.strerror(error.errno) == "Stale file handle"
        return False
    assert mounting.wait_for(is_stale)
    assert mapping[:] == data_of("b.large")
    mapping.close()


def test_opens_in_parallel_all_get_the_same_bytes(resident):
    """Under a limit that keeps evicting, with every view of every tensor."""
    mounted = resident("resident_limit=14M", "threads=4")
    wrong = []
    expected = {path: hashlib.sha256(path.read_bytes()).digest()
                for name in SIZES for path in view_paths(mounted, name)}

    def read(seed):
        order = random.Random(seed)
        for _ in range(25):
            path = order.choice(list(expected))
            if hashlib.sha256(path.read_bytes()).digest() != expected[path]:
                wrong.append(path)
    threads = [threading.Thread(target=read, args=(i,)) for i in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not any(t.is_alive() for t in threads) and not wrong
    found = sums(mounted)
    assert found["failed"] == 0 and found["queued"] == 0 and found["used"] <= 14 * MIB


def test_the_end_does_not_wait_for_fills(resident):
    mounted = resident()
    readers = [subprocess.Popen(["cat", p], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
               for name in SIZES for p in view_paths(mounted, name)]
    os.kill(mounted.pid, signal.SIGTERM)
    assert mounting.wait_for(lambda: not mounting.is_running(mounted.pid), 10)
    for reader in readers:
        reader.wait(10)
    assert not mounting.is_mounted(mounted.path)


def test_who_waits_for_a_file_can_be_killed(mount, tmp_path):
    """Opens that wait behind others, of holes, which take time to be filled all the same."""
    count, size = 8, 128 * MIB
    header = json.dumps({f"t.{i}": {"dtype": "U8", "shape": [size],
                                    "data_offsets": [i * size, (i + 1) * size]}
                         for i in range(count)})
    path = tmp_path / "holes.safetensors"
    path.write_bytes(writers.safetensors_raw(header))
    os.truncate(path, path.stat().st_size + count * size)
    mounted = mount(path, "backing=resident", "resident_limit=2G")
    if not status(mounted)["passthrough"]["available"]:
        pytest.skip("no passthrough: " + status(mounted)["passthrough"]["reason"])
    readers = [subprocess.Popen(["cat", mounted / f"tensors/t/{i}"], stdout=subprocess.DEVNULL)
               for i in range(count)]
    mounting.wait_for(lambda: sums(mounted)["queued"] > 2, 1, 0)
    for reader in readers:
        reader.kill()
    before = sums(mounted)
    # One may have ended by itself just before.
    assert {reader.wait(10) for reader in readers} <= {0, -signal.SIGKILL}
    # They did not wait until all was made.
    assert before["queued"] == 0 or sums(mounted)["made"] < count


class Mapping:
    """A mapping whose file was closed, as C programs have it; mmap.mmap() keeps it open."""

    LIBC = ctypes.CDLL(None, use_errno=True)
    LIBC.mmap.restype = ctypes.c_void_p
    LIBC.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int,
                          ctypes.c_int, ctypes.c_long]
    LIBC.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]

    def __init__(self, path):
        fd = os.open(path, os.O_RDONLY)
        self.size = os.fstat(fd).st_size
        self.at = self.LIBC.mmap(None, self.size, mmap.PROT_READ, mmap.MAP_SHARED, fd, 0)
        os.close(fd)
        assert self.at not in (None, ctypes.c_void_p(-1).value)

    def read(self):
        return ctypes.string_at(self.at, self.size)

    def unmap(self):
        assert self.LIBC.munmap(self.at, self.size) == 0


def evict(mounted, name):
    return subprocess.run([mounting.WEIGHTFS.parent / "mountctl", "evict", mounted.path, name],
                          capture_output=True, text=True)


def test_what_is_mapped_counts_although_its_file_was_closed(resident):
    mounted = resident("resident_limit=10M")
    large, odd = (view_paths(mounted, name)[0] for name in ("b.large", "a.odd"))
    mapping = Mapping(large)
    assert mapping.read() == data_of("b.large")
    assert mounting.wait_for(lambda: status(mounted)["requests"]["release"] > 0)
    # There is no room beside it, and it cannot be given up.
    assert odd.read_bytes() == data_of("a.odd")
    assert (backing(large), backing(odd)) == ("resident", "stream")
    done = evict(mounted, "b.large")
    assert done.returncode == 1 and "in use" in done.stderr, done.stderr
    assert mapping.read() == data_of("b.large")
    mapping.unmap()
    assert odd.read_bytes() == data_of("a.odd")
    assert (backing(large), backing(odd)) == ("stream", "resident")
