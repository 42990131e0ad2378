"""The clone backing: tensors that share the blocks of the model file, read by passthrough."""
import ctypes
import errno
import mmap
import os
import random
import shutil
import subprocess
import threading

import numpy as np
import pytest
import safetensors

import mounting
import writers
from mounting import backing, status

MIB = 1 << 20
PAGE = 4096
SIZES = {"a.small": 1000, "b.odd": 3 * MIB + 17, "c.large": 9 * MIB, "d.next": 2 * MIB + 1,
         "e.middle": 200000, "f.pages": 64 * PAGE}
LEAST = 80 << 10
VIEWS = ["tensors", "npy", "safetensors"]
IMAGE_BYTES = 400 * MIB
MAKE = {"xfs": ["mkfs.xfs", "-q", "-m", "reflink=1"], "btrfs": ["mkfs.btrfs", "-q"],
        "ext4": ["mkfs.ext4", "-q"]}


def data_of(name):
    return random.Random(name).randbytes(SIZES[name])


def model_bytes(pad=0):
    return writers.safetensors([(n, "U8", [s], data_of(n)) for n, s in SIZES.items()], pad=pad)


def aligned_model():
    """The first tensors begin at a page."""
    names = ["f.pages", "c.large", "b.odd", "d.next", "e.middle", "a.small"]
    tensors = [(n, "U8", [SIZES[n]], data_of(n)) for n in names]
    header = len(writers.safetensors(tensors)) - sum(SIZES.values())
    return writers.safetensors(tensors, pad=-header % PAGE)


class Volume:
    """A file system in a file, mounted through a loop device."""

    def __init__(self, kind, folder):
        self.image = folder / f"{kind}.img"
        self.path = folder / kind
        self.kind = kind
        if not shutil.which(MAKE[kind][0]):
            pytest.skip(f"no {MAKE[kind][0]}")
        self.path.mkdir()
        with open(self.image, "wb") as file:
            file.truncate(IMAGE_BYTES)
        subprocess.run([*MAKE[kind], self.image], check=True, capture_output=True)
        self.mount()

    def mount(self, options="loop"):
        done = subprocess.run(["mount", "-t", self.kind, "-o", options, self.image, self.path],
                              capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"cannot mount {self.kind} here: {done.stderr.strip()}")

    def umount(self):
        subprocess.run(["umount", self.path], check=True)

    def used(self):
        os.sync()
        st = os.statvfs(self.path)
        return (st.f_blocks - st.f_bfree) * st.f_frsize

    def write(self, data, name="model/model.safetensors"):
        path = self.path / name
        path.parent.mkdir(exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_bytes(data)
        return path


def volume_of(kind, tmp_path_factory):
    if os.geteuid() != 0:
        pytest.skip("it takes root to mount a file system")
    return Volume(kind, tmp_path_factory.mktemp("volume"))


@pytest.fixture(scope="module", params=["xfs", "btrfs"])
def volume(request, tmp_path_factory):
    made = volume_of(request.param, tmp_path_factory)
    yield made
    made.umount()


@pytest.fixture(scope="module")
def xfs(tmp_path_factory):
    made = volume_of("xfs", tmp_path_factory)
    yield made
    made.umount()


@pytest.fixture
def cloned(mount):
    def start(source, *options):
        mounted = mount(source, *(options or ["backing=clone"]))
        if not status(mounted)["passthrough"]["available"]:
            pytest.skip("no passthrough: " + status(mounted)["passthrough"]["reason"])
        assert status(mounted)["clone"]["available"], status(mounted)["clone"]
        return mounted
    return start


def view_path(mounted, name, view="npy"):
    suffix = {"tensors": "", "npy": ".npy", "safetensors": ".safetensors"}[view]
    return mounted / view / (name.replace(".", "/") + suffix)


@pytest.mark.parametrize("pad", [0, 1, 63, 2048, 4095])
def test_every_view_is_the_same_by_stream_and_clone(mount, volume, cloned, pad):
    source = volume.write(model_bytes(pad))
    streamed = mount(source, "backing=stream")
    mounted = cloned(source)
    for name in SIZES:
        for view in VIEWS:
            path = view_path(mounted, name, view)
            assert path.read_bytes() == view_path(streamed, name, view).read_bytes(), path
            if view != "tensors":
                assert backing(path) == ("clone" if SIZES[name] >= LEAST else "stream"), path
    assert status(mounted)["clone"]["failed"] == 0


def test_raw_files_are_clones_where_the_tensor_begins_at_a_block(cloned, volume):
    mounted = cloned(volume.write(aligned_model()))
    expected = {}
    for name, entry in mounted.tensors().items():
        path = view_path(mounted, name, "tensors")
        assert path.read_bytes() == data_of(name)
        aligned = entry["offset"] % PAGE == 0 and SIZES[name] >= LEAST
        expected[name] = "clone" if aligned else "stream"
        assert backing(path) == expected[name], name
    found = status(mounted)["backings"]["clone"]
    clones = [n for n, b in expected.items() if b == "clone"]
    assert len(clones) == 3 and found["tensors"] == len(clones)
    assert found["bytes"] == sum(SIZES[n] for n in clones)


def test_all_ways_of_reading_agree(cloned, volume, tmp_path):
    mounted = cloned(volume.write(model_bytes(5)))
    data = data_of("b.odd")
    path = view_path(mounted, "b.odd")
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapping:
        assert mapping[-len(data):] == data
        assert os.pread(file.fileno(), 5000, len(mapping) - 4000) == data[-4000:]
    assert np.load(path, mmap_mode="r").tobytes() == data
    assert np.load(path).tobytes() == data
    with safetensors.safe_open(view_path(mounted, "b.odd", "safetensors"), "np") as file:
        assert file.get_tensor("b.odd").tobytes() == data
    copy = tmp_path / "copy"
    for command in (["cp", path, copy],
                    ["dd", f"if={path}", f"of={copy}", "iflag=direct", "bs=1M"]):
        subprocess.run(command, check=True, capture_output=True)
        assert copy.read_bytes()[-len(data):] == data
    assert backing(path) == "clone"


def test_a_cold_cache_brings_the_same_bytes(cloned, volume):
    volume.write(model_bytes(7))
    volume.umount()
    volume.mount()
    mounted = cloned(volume.path / "model" / "model.safetensors")
    for name in SIZES:
        assert view_path(mounted, name).read_bytes()[-SIZES[name]:] == data_of(name)


def test_behind_the_end_are_zeros_and_not_the_next_tensor(cloned, volume):
    """The last page of a mapping is longer than the file."""
    mounted = cloned(volume.write(model_bytes()))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int,
                          ctypes.c_int, ctypes.c_long]
    libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    path = view_path(mounted, "b.odd")
    size = path.stat().st_size
    length = -(-size // PAGE) * PAGE
    assert length > size
    with open(path, "rb") as file:
        address = libc.mmap(None, length, mmap.PROT_READ, mmap.MAP_SHARED, file.fileno(), 0)
        assert address not in (None, ctypes.c_void_p(-1).value)
        assert backing(path) == "clone"
        behind = ctypes.string_at(address + size, length - size)
        last = ctypes.string_at(address + size - 10, 10)
        assert libc.munmap(address, length) == 0
    assert behind == bytes(length - size) and last == data_of("b.odd")[-10:]


def test_clones_take_no_room_and_leave_nothing(cloned, volume):
    source = volume.write(model_bytes())
    before, names = volume.used(), sorted(p.name for p in volume.path.rglob("*"))
    mounted = cloned(source)
    files = [open(view_path(mounted, name, view), "rb") for name in SIZES for view in VIEWS]
    assert status(mounted)["clone"]["files"] >= 10
    assert volume.used() - before < 2 * MIB
    assert sorted(p.name for p in volume.path.rglob("*")) == names
    for file in files:
        file.close()
    mounted.stop()
    volume.umount()
    volume.mount()
    assert volume.used() - before < MIB // 2


def test_reads_do_not_reach_the_daemon(cloned, volume):
    mounted = cloned(volume.write(model_bytes()))
    with open(view_path(mounted, "c.large"), "rb") as file:
        before = status(mounted)["reads"]["count"]
        file.read()
        assert status(mounted)["reads"]["count"] == before
    assert status(mounted)["backings"]["clone"]["opens"] == 1


def test_clients_cannot_write(cloned, volume):
    mounted = cloned(volume.write(model_bytes()))
    path = view_path(mounted, "c.large")
    with pytest.raises(OSError) as error:
        os.open(path, os.O_RDWR)
    assert error.value.errno == errno.EROFS
    with open(path, "rb") as file, pytest.raises(PermissionError):
        mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ | mmap.PROT_WRITE)


def test_mappings_outlive_a_killed_daemon(cloned, volume):
    mounted = cloned(volume.write(model_bytes()))
    with open(view_path(mounted, "c.large"), "rb") as file:
        mapping = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
    mounted.kill()
    assert mapping[-SIZES["c.large"]:] == data_of("c.large")
    mapping.close()


def open_error(path):
    try:
        path.open("rb").close()
    except OSError as error:
        return error.errno
    return 0


def test_a_changed_source_is_stale_and_mapped_bytes_stay_right(cloned, volume):
    source = volume.write(model_bytes())
    mounted = cloned(source)
    with open(view_path(mounted, "c.large"), "rb") as file:
        mapping = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
    with open(source, "r+b") as file:
        file.write(bytes(source.stat().st_size))
    for name in ("c.large", "b.odd"):
        assert mounting.wait_for(lambda n=name:
                                 open_error(view_path(mounted, n)) == errno.ESTALE)
    assert mapping[-SIZES["c.large"]:] == data_of("c.large")
    mapping.close()


def test_opens_in_parallel_all_get_the_same_bytes(cloned, volume):
    mounted = cloned(volume.write(model_bytes()), "backing=clone", "threads=4")
    paths = [view_path(mounted, name, view) for name in SIZES for view in VIEWS]
    wrong = []

    def read(seed):
        order = random.Random(seed)
        for _ in range(25):
            path = order.choice(paths)
            name = ".".join(path.relative_to(mounted.path).with_suffix("").parts[1:])
            if path.read_bytes()[-SIZES[name]:] != data_of(name):
                wrong.append(path)
    threads = [threading.Thread(target=read, args=(i,)) for i in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not any(t.is_alive() for t in threads) and not wrong
    found = status(mounted)["clone"]
    assert found["failed"] == 0 and found["made"] == found["files"]


def test_auto_clones_what_is_large(cloned, xfs):
    mounted = cloned(xfs.write(model_bytes()), "backing=auto")
    for name, size in SIZES.items():
        path = view_path(mounted, name)
        assert path.read_bytes()[-size:] == data_of(name)
        assert backing(path) == ("clone" if size >= MIB else "stream"), name


def test_somebody_elses_model_is_cloned(cloned, xfs):
    """The daemon has given up the right to write where it may not."""
    source = xfs.write(model_bytes(), "private/model.safetensors")
    os.chown(source, 12345, 12345)
    os.chmod(source, 0o600)
    os.chown(source.parent, 12345, 12345)
    os.chmod(source.parent, 0o700)
    mounted = cloned(source)
    assert view_path(mounted, "c.large").read_bytes()[-SIZES["c.large"]:] == data_of("c.large")
    assert backing(view_path(mounted, "c.large")) == "clone"


@pytest.fixture
def few_descriptors(monkeypatch):
    """Daemons that are started have so few."""
    def limited(*args):
        return subprocess.run(["prlimit", "--nofile=200:200", mounting.WEIGHTFS, *map(str, args)],
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    monkeypatch.setattr(mounting, "run_weightfs", limited)
    return 200


def test_the_number_of_clones_has_a_bound(cloned, xfs, few_descriptors):
    most = few_descriptors // 4
    blobs = [random.Random(i).randbytes(LEAST) for i in range(most + 10)]
    mounted = cloned(xfs.write(writers.safetensors(
        [(f"t.{i}", "U8", [LEAST], blob) for i, blob in enumerate(blobs)])))
    paths = [view_path(mounted, f"t.{i}") for i in range(len(blobs))]
    for path, blob in zip(paths, blobs):
        assert path.read_bytes()[-LEAST:] == blob
    found = status(mounted)["clone"]
    assert found["most_files"] == most and found["files"] == most and found["evicted"] == 10
    # The ones that were used longest ago are gone.
    assert [backing(p) for p in paths] == ["stream"] * 10 + ["clone"] * most
    # What is open stays, and the rest is streamed.
    files = [open(path, "rb") for path in paths]
    assert [file.read()[-LEAST:] for file in files] == blobs
    assert [backing(p) for p in paths] == ["clone"] * most + ["stream"] * 10
    for file in files:
        file.close()


CANNOT_SHARE = "the model's file system cannot share blocks (XFS and btrfs can)"


def expect_streamed(mounted, source, reason):
    for name, size in SIZES.items():
        path = view_path(mounted, name)
        assert path.read_bytes()[-size:] == data_of(name)
        assert backing(path) == "stream"
    found = status(mounted)["clone"]
    assert not found["available"] and found["reason"] == reason
    assert os.listdir(source.parent) == [source.name]


def test_where_blocks_cannot_be_shared_tensors_are_streamed(mount, tmp_path_factory):
    ext4 = volume_of("ext4", tmp_path_factory)
    try:
        source = ext4.write(model_bytes())
        folder_time = source.parent.stat().st_mtime_ns
        mounted = mount(source, "backing=clone")
        expect_streamed(mounted, source, CANNOT_SHARE)
        assert source.parent.stat().st_mtime_ns == folder_time
        mounted.stop()
    finally:
        ext4.umount()


def test_on_a_read_only_file_system_tensors_are_streamed(mount, xfs):
    source = xfs.write(model_bytes())
    xfs.umount()
    xfs.mount("loop,ro")
    mounted = mount(source, "backing=clone")
    expect_streamed(mounted, source, "the model's file system is mounted read-only")
    mounted.stop()
    xfs.umount()
    xfs.mount()


def test_where_no_file_can_be_made_tensors_are_streamed(mount, xfs):
    source = xfs.write(model_bytes(), "immutable/model.safetensors")
    subprocess.run(["chattr", "+i", source.parent], check=True)
    try:
        mounted = mount(source, "backing=clone")
        expect_streamed(mounted, source, "no file can be made beside the model")
    finally:
        subprocess.run(["chattr", "-i", source.parent], check=True)


@pytest.fixture
def overlay(xfs):
    """A stacked file system whose upper layer could be cloned."""
    layers = {name: xfs.path / f"overlay-{name}" for name in ("lower", "upper", "work", "merged")}
    for path in layers.values():
        path.mkdir()
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o",
                    ",".join(f"{name}dir={layers[name]}" for name in ("lower", "upper", "work")),
                    layers["merged"]], check=True)
    yield layers["merged"]
    subprocess.run(["umount", layers["merged"]], check=True)


def test_clones_that_the_kernel_refuses_are_told_at_the_mount(overlay, tmp_path):
    reason = "the kernel refuses files of a stacked file system (overlay)"
    source = overlay / "model.safetensors"
    source.write_bytes(model_bytes())
    mnt = tmp_path / "mnt"
    mnt.mkdir()
    done = mounting.run_weightfs(source, mnt, "-o", "backing=clone")
    try:
        assert done.returncode == 0 and f"no clone tensors: {reason}" in done.stderr
        mounted = mounting.Mount(source, mnt)
        assert view_path(mounted, "c.large").read_bytes()[-SIZES["c.large"]:] == data_of("c.large")
        found = status(mounted)["clone"]
        assert not found["available"] and found["reason"] == reason
        assert found["failed"] == 0
    finally:
        assert mounting.umount(mnt) == 0
        mounting.wait_for(lambda: not mounting.daemons_of(mnt))


def test_a_full_disk_ends_clones_for_as_long_as_it_is_full(cloned, xfs):
    mounted = cloned(xfs.write(model_bytes()))
    filler = xfs.path / "filler"
    with open(filler, "wb") as file:
        for size in (MIB, PAGE):
            with pytest.raises(OSError):
                while True:
                    os.write(file.fileno(), bytes(size))
    os.sync()
    path = view_path(mounted, "c.large")
    try:
        assert path.read_bytes()[-SIZES["c.large"]:] == data_of("c.large")
        assert backing(path) == "stream" and status(mounted)["clone"]["failed"] > 0
        assert status(mounted)["clone"]["available"]
    finally:
        filler.unlink()
    os.sync()
    assert path.read_bytes()[-SIZES["c.large"]:] == data_of("c.large")
    assert backing(path) == "clone"


def test_asking_for_clones_in_vain_is_said(tmp_path, tmp_path_factory):
    ext4 = volume_of("ext4", tmp_path_factory)
    mnt = tmp_path / "mnt"
    mnt.mkdir()
    try:
        source = ext4.write(model_bytes())
        done = mounting.run_weightfs(source, mnt, "-o", "backing=clone")
        assert done.returncode == 0
        assert "no clone tensors: the model's file system cannot share blocks" in done.stderr
        assert mounting.umount(mnt) == 0
        mounting.wait_for(lambda: not mounting.daemons_of(mnt))
        done = mounting.run_weightfs(source, mnt)
        assert done.returncode == 0 and done.stderr == ""
        assert mounting.umount(mnt) == 0
        mounting.wait_for(lambda: not mounting.daemons_of(mnt))
    finally:
        ext4.umount()
