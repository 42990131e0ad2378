"""The kernel asks the daemon once: what it caches it does not ask for again."""
import os
import subprocess
import time

import pytest

import writers


@pytest.fixture
def mounted(mount):
    tensors = [(f"layer.{i}.part.{j}", "U8", [100], bytes([i, j]) * 50)
               for i in range(30) for j in range(10)]
    return mount(writers.safetensors(tensors))


# The text of stats.json is made at most so often, so that one reader sees one text.
STATS_AGE_S = 0.02


def requests(mounted):
    time.sleep(2 * STATS_AGE_S)
    return mounted.stats()["requests"]


def count(mounted, name):
    return requests(mounted).get(name, 0)


def walk(mounted, folder="tensors"):
    out = subprocess.run(["find", mounted / folder, "-type", "f"], capture_output=True, check=True)
    return out.stdout.count(b"\n")


def test_opening_many_files_asks_at_most_once(mounted):
    for i in range(30):
        for j in range(10):
            assert (mounted / f"tensors/layer/{i}/part/{j}").read_bytes() == bytes([i, j]) * 50
    # Two are for stats.json, which must not come from a cache.
    before = count(mounted, "open")
    for i in range(30):
        os.close(os.open(mounted / f"tensors/layer/{i}/part/0", os.O_RDONLY))
        os.close(os.open(mounted / f"npy/layer/{i}/part/0.npy", os.O_RDONLY))
    assert count(mounted, "open") - before <= 2


def test_opening_directories_asks_at_most_once(mounted):
    walk(mounted)
    walk(mounted, "npy")
    assert count(mounted, "opendir") <= 1


def test_a_second_walk_asks_nothing(mounted):
    assert walk(mounted) == 300
    before = requests(mounted)
    assert walk(mounted) == 300
    after = requests(mounted)
    for name in ("lookup", "readdir", "readdirplus", "getattr", "opendir"):
        asked = after.get(name, 0) - before.get(name, 0)
        # stats.json itself may be asked for.
        assert asked <= (1 if name in ("lookup", "getattr") else 0), name


def test_a_second_read_asks_nothing(mounted):
    path = mounted / "tensors/layer/3/part/3"
    path.read_bytes()
    read = count(mounted, "read")
    for _ in range(10):
        path.read_bytes()
    # Reading stats.json is a read itself.
    assert count(mounted, "read") - read <= 2


def test_a_missing_name_is_remembered(mounted):
    for _ in range(3):
        assert not (mounted / "tensors/nothing").exists()
    before = count(mounted, "lookup")
    for _ in range(50):
        assert not (mounted / "tensors/nothing").exists()
    assert count(mounted, "lookup") - before <= 1


def test_stats_are_not_stale(mounted):
    first = count(mounted, "read")
    (mounted / "tensors/layer/0/part/9").read_bytes()
    assert count(mounted, "read") > first
