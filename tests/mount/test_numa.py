"""Placing memory on NUMA nodes, as far as a machine with one node can show it. What lies where on
machines with several is shown by tests/numa."""
import random
import subprocess

import pytest

import mounting
import writers
from mounting import status

MIB = 1 << 20
SIZES = {"a.small": 1000, "a.odd": 3 * MIB + 17, "b.large": 9 * MIB}
ONE_NODE = "this machine has one NUMA node"


def data_of(name):
    return random.Random(name).randbytes(SIZES[name])


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    path = tmp_path_factory.mktemp("numa") / "model.safetensors"
    path.write_bytes(writers.safetensors([(n, "U8", [s], data_of(n)) for n, s in SIZES.items()]))
    return path


@pytest.fixture
def one_node(mount, source):
    """Mounts where there is one node."""
    found = status(mount(source))["numa"]
    if found.get("reason") != ONE_NODE:
        pytest.skip("this machine has several NUMA nodes, or its kernel no NUMA")


@pytest.mark.parametrize("choice", ["auto", "0", "0,1", "interleave", "gpu:3", "mirror", "59"])
def test_one_node_takes_every_choice_and_says_that_it_has_no_effect(one_node, mount, source,
                                                                    choice, tmp_path):
    mounted = mount(source, f"numa={choice}", "threads=3")
    found = status(mounted)["numa"]
    assert found["choice"] == choice and found["placed_on"] == []
    assert not found["effective"] and found["reason"] == ONE_NODE
    assert status(mounted)["options"]["threads"] == 3
    assert [node["node"] for node in found["nodes"]] == [0]
    for name in SIZES:
        assert (mounted / "tensors" / name.replace(".", "/")).read_bytes() == data_of(name)
    mounted.stop()
    point = tmp_path / "again"
    point.mkdir()
    result = subprocess.run([mounting.WEIGHTFS, source, point, "-o", f"numa={choice}"],
                            capture_output=True, text=True, check=True)
    assert mounting.umount(point) == 0
    assert result.stderr == (f"weightfs: warning: {point}: option numa={choice} has no effect: "
                             f"{ONE_NODE}\n")


def test_without_the_option_nothing_is_said(one_node, source, tmp_path):
    point = tmp_path / "silent"
    point.mkdir()
    result = subprocess.run([mounting.WEIGHTFS, source, point], capture_output=True, text=True,
                            check=True)
    assert mounting.umount(point) == 0
    assert result.stderr == "" and result.stdout == ""


@pytest.mark.parametrize("value", ["somewhere", "60", "0-1", "gpu:", "-1", ""])
def test_other_values_are_refused_before_anything_is_mounted(source, tmp_path, value):
    result = subprocess.run([mounting.WEIGHTFS, source, tmp_path, "-o", f"numa={value}"],
                            capture_output=True, text=True)
    assert result.returncode == 2 and not mounting.is_mounted(tmp_path)
    assert result.stderr.startswith("weightfs: option numa: ") and result.stderr.count("\n") == 1


def test_memory_of_the_node_is_what_the_kernel_says(mount, source):
    (node,) = [n for n in status(mount(source))["numa"]["nodes"] if n["node"] == 0]
    with open("/sys/devices/system/node/node0/meminfo", encoding="ascii") as file:
        total = next(int(line.split()[3]) for line in file if "MemTotal" in line)
    assert node["total"] == total << 10
    assert 0 < node["free"] < node["total"] and node["file_cache"] < node["total"]
