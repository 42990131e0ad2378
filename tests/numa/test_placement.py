"""-o numa=: where resident files and the page cache of the source lie, told by move_pages(2)."""
import pytest

import mounting
import numa_model
from numa_model import BIG, MIB, SIZES


def read_on(mounted, name, node=0):
    """The pages of a tensor that a client on this node has read whole; its bytes are right."""
    pages = mounted.guest.page_nodes(mounted.tensor(name), "-n", node, "-s")
    assert pages.sum == numa_model.sum_of(name) and pages.absent == 0
    assert "resident" in mounted.mountctl("ls", name)
    return pages


# ---- resident files ----

@pytest.mark.parametrize("hugepages", ["always", "never"])
def test_a_resident_tensor_lies_on_the_chosen_node(guest, mount_in, hugepages):
    mounted = mount_in(guest, "backing=resident", "numa=1", f"hugepages={hugepages}")
    pages = read_on(mounted, BIG)
    assert pages.present == SIZES[BIG] and pages.share(1) >= 0.99, pages
    assert read_on(mounted, "other.weight").share(1) >= 0.99


@pytest.mark.parametrize("hugepages", ["always", "never"])
def test_interleave_spreads_a_resident_tensor_over_all_nodes(guest, mount_in, hugepages):
    mounted = mount_in(guest, "backing=resident", "numa=interleave", f"hugepages={hugepages}")
    pages = read_on(mounted, BIG)
    count = len(guest.machine.memory)
    for node in range(count):
        assert pages.share(node) == pytest.approx(1 / count, abs=0.02), pages


def test_of_several_nodes_no_other_one_has_a_page(four_nodes, mount_in):
    mounted = mount_in(four_nodes, "backing=resident", "numa=0,2")
    for name in (BIG, "other.weight", "layers.0.weight"):
        pages = read_on(mounted, name, node=1)
        assert set(pages.nodes) <= {0, 2}, pages
    mounted = mount_in(four_nodes, "backing=resident", "numa=3,1")
    pages = read_on(mounted, BIG, node=0)
    assert set(pages.nodes) <= {1, 3}, pages


@pytest.mark.parametrize("node", [0, 1])
def test_local_is_where_the_daemon_runs(two_nodes, mount_in, node):
    """So that a placement which does nothing would be seen by the other tests."""
    mounted = mount_in(two_nodes, "backing=resident", node=node)
    pages = read_on(mounted, BIG, node=1 - node)
    assert pages.share(node) >= 0.99, pages


def test_auto_is_the_node_of_the_disk(guest, mount_in):
    mounted = mount_in(guest, "backing=resident", "numa=auto")
    node = guest.machine.disk_node
    assert read_on(mounted, BIG).share(node) >= 0.99
    found = mounted.status()["numa"]
    assert found["placed_on"] == [node] and found["origin"] == "vda"


def test_auto_of_a_source_that_is_on_no_disk_is_local(two_nodes, mount_in):
    two_nodes.ok(f"cp {numa_model.PATH} /tmp/copy.safetensors")
    try:
        mounted = mount_in(two_nodes, "backing=resident", "numa=auto", node=1,
                           source="/tmp/copy.safetensors")
        assert read_on(mounted, BIG, node=0).share(1) >= 0.99
        assert mounted.status()["numa"]["placed_on"] == []
    finally:
        two_nodes.ok("rm /tmp/copy.safetensors")


# ---- the page cache of the source ----

def cached_source(mounted):
    """Pages of the model file that the page cache has."""
    return mounted.guest.page_nodes(numa_model.PATH, "-c")


@pytest.mark.parametrize("backing", ["stream", "auto"])
def test_what_a_read_brings_in_of_the_source_is_on_the_chosen_node(guest, mount_in, backing):
    mounted = mount_in(guest, f"backing={backing}", "numa=1")
    guest.drop_caches()
    assert cached_source(mounted).present == 0
    pages = guest.page_nodes(mounted.tensor(BIG), "-n", 0, "-s")
    assert pages.sum == numa_model.sum_of(BIG)
    source = cached_source(mounted)
    assert source.present >= SIZES[BIG] and source.share(1) >= 0.95, source


def test_what_prefetch_brings_in_of_the_source_is_on_the_chosen_node(guest, mount_in):
    mounted = mount_in(guest, "backing=stream", "numa=1")
    guest.drop_caches()
    mounted.mountctl("prefetch", "*")
    source = cached_source(mounted)
    assert source.present >= sum(SIZES.values()) and source.share(1) >= 0.95, source


def test_what_advise_brings_in_of_the_source_is_on_the_chosen_node(guest, mount_in):
    mounted = mount_in(guest, "backing=stream", "numa=1")
    guest.drop_caches()
    mounted.mountctl("advise", BIG, "willneed")
    assert mounting.wait_for(lambda: cached_source(mounted).present >= SIZES[BIG], 60, 0.2)
    assert cached_source(mounted).share(1) >= 0.95


def test_interleave_spreads_the_source_over_all_nodes(guest, mount_in):
    mounted = mount_in(guest, "backing=stream", "numa=interleave")
    guest.drop_caches()
    guest.ok(f"cat {mounted.tensor(BIG)} > /dev/null")
    source, count = cached_source(mounted), len(guest.machine.memory)
    for node in range(count):
        assert source.share(node) == pytest.approx(1 / count, abs=0.05), source


# ---- threads ----

def threads_of(mounted):
    """The processors that each thread of the daemon but the main one may use."""
    pid = int(mounted.guest.ok("pidof weightfs"))
    lines = mounted.guest.ok(f"grep Cpus_allowed_list /proc/{pid}/task/*/status").splitlines()
    return [line.split()[1] for line in lines if f"/task/{pid}/" not in line]


@pytest.mark.parametrize("choice, cpus", [("1", "1"), ("0", "0"), ("interleave", None)])
def test_the_threads_that_bring_bytes_in_run_on_the_chosen_nodes(guest, mount_in, choice, cpus):
    mounted = mount_in(guest, "backing=resident", f"numa={choice}")
    read_on(mounted, BIG)
    guest.ok(f"cat {mounted.tensor('small')} > /dev/null")
    threads = threads_of(mounted)
    everywhere = f"0-{len(guest.machine.memory) - 1}"
    assert len(threads) > 3 and set(threads) == {cpus or everywhere}


def test_threads_of_two_nodes_run_on_both(four_nodes, mount_in):
    mounted = mount_in(four_nodes, "numa=0,2")
    assert set(threads_of(mounted)) == {"0,2"}


# ---- what cannot be ----

@pytest.mark.parametrize("nodes", ["9", "1,9"])
def test_a_node_that_is_not_there_is_refused(guest, nodes):
    done = guest.run(f"mkdir -p /mnt/refused; weightfs {numa_model.PATH} /mnt/refused -o numa={nodes}")
    there = ",".join(str(node) for node in range(len(guest.machine.memory)))
    assert done.returncode != 0 and not done.stdout
    assert done.stderr == f"weightfs: option numa: no memory on node 9: there are {there}\n"
    guest.ok("! mountpoint -q /mnt/refused && ! pidof weightfs")


def test_a_gpu_that_is_not_there_is_refused(two_nodes):
    done = two_nodes.run(f"mkdir -p /mnt/refused; weightfs {numa_model.PATH} /mnt/refused -o numa=gpu:0")
    assert done.returncode != 0
    assert done.stderr == "weightfs: option numa: gpu:0: no such NVIDIA GPU: there are none\n"
    two_nodes.ok("! mountpoint -q /mnt/refused && ! pidof weightfs")


def test_page_cache_of_the_node_gives_way_to_a_resident_tensor(two_nodes, mount_in):
    """A page of another node would be easier to have: the file is bound, and not only filled
    by threads that run there."""
    mounted = mount_in(two_nodes, "backing=resident", "numa=1", "prediction=off")
    two_nodes.drop_caches()
    mounted.mountctl("prefetch", "*")
    with two_nodes.full_node(1, 40 * MIB):
        assert cached_source(mounted).share(1) > 0.9
        assert read_on(mounted, BIG).share(1) >= 0.99
        assert mounted.status()["numa"]["files"]["no_room"] == 0


def test_a_tensor_that_its_node_has_no_room_for_lies_on_others_as_well(four_nodes, mount_in):
    mounted = mount_in(four_nodes, "backing=resident", "numa=3", "prediction=off")
    four_nodes.drop_caches()
    with four_nodes.full_node(3, 40 * MIB):
        pages = read_on(mounted, BIG)
        assert pages.present == SIZES[BIG] and pages.share(3) < 0.7, pages
        found = mounted.status()["numa"]["files"]
        assert found["no_room"] == 1 and found["failed"] == 0
        assert four_nodes.free_on(3) > 8 * MIB
    # There is room again: what is made now is bound.
    assert read_on(mounted, "other.weight").share(3) >= 0.99
    assert mounted.status()["numa"]["files"]["no_room"] == 1
