"""backing=auto: what is read whole is followed by resident tensors; looking costs nothing."""
import mmap
import os
import random

import pytest

import mounting
import writers
from mounting import backing, status

MIB = 1 << 20
COUNT = 12
SIZE = 20 * MIB + 8


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    path = tmp_path_factory.mktemp("auto") / "model.safetensors"
    tensors = [("small", "U8", [100], bytes(range(100)))]
    tensors += [(f"layers.{i}.weight", "U8", [SIZE], random.Random(i).randbytes(SIZE))
                for i in range(COUNT)]
    path.write_bytes(writers.safetensors(tensors))
    return path


@pytest.fixture
def auto(mount, source):
    def start(*options):
        mounted = mount(source, *options)
        if not status(mounted)["passthrough"]["available"]:
            pytest.skip("no passthrough: " + status(mounted)["passthrough"]["reason"])
        return mounted
    return start


def layer(mounted, i, view="tensors"):
    suffix = {"tensors": "", "npy": ".npy", "safetensors": ".safetensors"}[view]
    return mounted / view / "layers" / str(i) / ("weight" + suffix)


def read_mapped(path):
    """All bytes of a file, by a mapping that ends with the call."""
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        return mapped[:]


def resident_files(mounted):
    found = status(mounted)["resident"]
    return found["files"] + found["queued"]


def test_a_look_at_every_tensor_makes_nothing_resident(auto):
    mounted = auto()
    for view in ("tensors", "npy", "safetensors"):
        for i in range(COUNT):
            with open(layer(mounted, i, view), "rb") as file:
                file.read(64)
                file.seek(-64, os.SEEK_END)
                file.read()
            os.stat(layer(mounted, i, view))
            with open(layer(mounted, i, view), "rb") as file, \
                    mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
                assert mapped[SIZE // 2] is not None
    assert resident_files(mounted) == 0
    assert status(mounted)["prediction"] == {"available": True, "order": "file", "predicted": 0,
                                             "hits": 0, "backing_off": False, "recording": False}


@pytest.mark.parametrize("view", ["tensors", "npy"])
def test_a_loader_that_reads_all_in_order_is_met_by_resident_tensors(auto, source, view):
    mounted = auto()
    with open(source, "rb") as file:
        file.seek(mounted.tensors()["layers.0.weight"]["offset"])
        for i in range(COUNT):
            assert read_mapped(layer(mounted, i, view))[-SIZE:] == file.read(SIZE), i
    prediction = status(mounted)["prediction"]
    assert prediction["hits"] >= COUNT - 4, prediction
    assert backing(layer(mounted, 0, view)) == "stream"
    assert backing(layer(mounted, COUNT - 1, view)) == "resident"
    # Another view of the same tensors was not asked for.
    other = "npy" if view == "tensors" else "tensors"
    assert backing(layer(mounted, COUNT - 1, other)) == "stream"


def test_a_tensor_that_is_open_by_stream_stays_so_and_is_right(auto, source):
    mounted = auto()
    with open(layer(mounted, 3), "rb") as early:
        first = early.read(1000)
        for i in range(3):
            read_mapped(layer(mounted, i))
        assert mounting.wait_for(lambda: backing(layer(mounted, 4)) == "resident")
        assert backing(layer(mounted, 3)) == "stream"
        data = first + early.read()
    assert data == random.Random(3).randbytes(SIZE)


def test_what_is_predicted_keeps_within_the_limit(auto):
    limit = 4 * (SIZE + MIB)
    mounted = auto(f"resident_limit={limit}")
    for _ in range(2):
        for i in range(COUNT):
            assert read_mapped(layer(mounted, i)) == random.Random(i).randbytes(SIZE)
            assert status(mounted)["resident"]["used"] <= limit
