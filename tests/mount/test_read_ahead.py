"""What is likely to be read next is brought into the page cache of the source."""
import os
import random

import pytest

import mounting
import pagecache
import writers
from mounting import status

MIB = 1 << 20
COUNT = 8
SIZE = 20 * MIB + 8


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(writers.safetensors([(f"layers.{i}.weight", "U8", [SIZE],
                                           random.Random(i).randbytes(SIZE)) for i in range(COUNT)]))
    reason = pagecache.why_not(path)
    if reason:
        pytest.skip(reason)
    pagecache.empty(path)
    return path


def name_of(i):
    return f"layers.{i}.weight"


def share(mounted, source, i):
    """The part of a tensor's source that is cached, but for pages that its neighbours share."""
    entry = mounted.tensors()[name_of(i)]
    return pagecache.share(source, entry["offset"] + 4096, entry["offset"] + entry["nbytes"] - 4096)


def test_streamed_tensors_are_read_ahead_of_a_loader_that_takes_them_in_order(mount, source):
    mounted = mount(source, "backing=stream")
    for i in range(3):
        assert mounted.tensor(name_of(i)).read_bytes() == random.Random(i).randbytes(SIZE), i
    assert mounting.wait_for(lambda: share(mounted, source, 4) == 1)
    assert status(mounted)["prediction"]["predicted"] > 0
    for i in range(3, COUNT):
        assert mounted.tensor(name_of(i)).read_bytes() == random.Random(i).randbytes(SIZE), i


def test_a_look_at_every_tensor_reads_nothing_ahead(mount, source):
    mounted = mount(source, "backing=stream", "readahead=128K")
    for i in range(COUNT):
        with open(mounted.tensor(name_of(i)), "rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
            file.read(64)
    assert status(mounted)["prediction"]["predicted"] == 0
    assert pagecache.share(source) < 0.5
