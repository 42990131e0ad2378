"""-o numa=mirror: a reader on each node has pages of its own node, told by move_pages(2)."""
import pytest

import numa_model
from numa_model import BIG, MIB, SIZES

OTHER = "other.weight"


def nodes(guest):
    return range(len(guest.machine.memory))


def read_in_tree(mounted, node, name, reader):
    """The pages of a file in the tree of a node, read whole by a client that runs on a node; its
    bytes are right."""
    path = mounted.tensor(name, f"node{node}/tensors")
    pages = mounted.guest.page_nodes(path, "-n", reader, "-s")
    assert pages.sum == numa_model.sum_of(name) and pages.absent == 0
    assert pages.present >= SIZES[name]
    return pages


def shmem_of(guest):
    """Bytes of files in memory on each node."""
    lines = guest.ok("cat /sys/devices/system/node/node*/meminfo | grep Shmem:").splitlines()
    return [int(line.split()[3]) << 10 for line in lines]


def resident(mounted):
    return mounted.status()["resident"]


def test_each_node_has_a_tree(guest, mount_in):
    mirrored = mount_in(guest, "numa=mirror")
    names = guest.ok(f"ls {mirrored.path}").split()
    assert [name for name in names if name.startswith("node")] == [f"node{n}" for n in nodes(guest)]
    numbers = ",".join(map(str, nodes(guest)))
    assert f"mirror: what is pinned has a copy on each of nodes {numbers}\n" in \
        guest.ok(f"mountctl status {mirrored.path}")


@pytest.mark.parametrize("hugepages", ["always", "never"])
def test_a_reader_on_each_node_has_local_pages_of_what_is_pinned(guest, mount_in, hugepages):
    mounted = mount_in(guest, "numa=mirror", f"hugepages={hugepages}")
    mounted.mountctl("pin", BIG, OTHER)
    for node in nodes(guest):
        for name in (BIG, OTHER):
            pages = read_in_tree(mounted, node, name, node)
            assert pages.share(node) >= 0.99, (node, name, pages)
        assert "resident" in guest.ok(f"mountctl ls {mounted.path}/node{node} {BIG}")
    found = mounted.status()["numa"]
    assert found["mirror"] == list(nodes(guest))
    assert found["files"]["no_room"] == found["files"]["failed"] == 0


def test_where_the_reader_runs_does_not_move_a_copy(two_nodes, mount_in):
    mirrored = mount_in(two_nodes, "numa=mirror")
    mirrored.mountctl("pin", BIG)
    assert read_in_tree(mirrored, 0, BIG, 1).share(0) >= 0.99
    assert read_in_tree(mirrored, 1, BIG, 0).share(1) >= 0.99
    pages = two_nodes.page_nodes(mirrored.tensor(BIG), "-n", 1)
    assert pages.share(0) >= 0.99, "the main tree has the files of the first node"


def test_the_copies_take_memory_of_their_nodes_until_they_are_evicted(two_nodes, mount_in):
    mirrored = mount_in(two_nodes, "numa=mirror")
    before = shmem_of(two_nodes)
    mirrored.mountctl("pin", BIG)
    taken = [now - then for now, then in zip(shmem_of(two_nodes), before)]
    assert all(abs(size - SIZES[BIG]) < 2 * MIB for size in taken), taken
    assert resident(mirrored)["used"] == len(taken) * SIZES[BIG]
    mirrored.mountctl("unpin", BIG)
    mirrored.mountctl("evict", BIG)
    left = [now - then for now, then in zip(shmem_of(two_nodes), before)]
    assert all(abs(size) < 2 * MIB for size in left), left
    assert resident(mirrored)["used"] == 0


def test_the_disk_is_read_once_for_all_copies(four_nodes, mount_in):
    mirrored = mount_in(four_nodes, "numa=mirror")

    def sectors():
        return int(four_nodes.ok("cat /sys/block/vda/stat").split()[2])
    four_nodes.drop_caches()
    before = sectors()
    mirrored.mountctl("pin", BIG)
    assert SIZES[BIG] <= (sectors() - before) * 512 < 1.2 * SIZES[BIG]
    assert resident(mirrored)["files"] == 4


def test_where_the_limit_is_short_each_tensor_is_there_once_first(two_nodes, mount_in):
    mounted = mount_in(two_nodes, "numa=mirror", "resident_limit=100M")
    done = two_nodes.run(f"mountctl pin {mounted.path} {BIG} {OTHER}")
    assert done.returncode == 1 and "no room" in done.stderr and BIG in done.stderr
    assert resident(mounted)["used"] <= 100 * MIB and resident(mounted)["files"] >= 2
    for name in (BIG, OTHER):
        assert read_in_tree(mounted, 0, name, 0).share(0) >= 0.99
        read_in_tree(mounted, 1, name, 1)


def test_what_is_streamed_is_cached_for_each_tree_on_its_readers_node(two_nodes, mount_in):
    mounted = mount_in(two_nodes, "numa=mirror", "backing=stream")
    for node in (0, 1):
        pages = read_in_tree(mounted, node, OTHER, node)
        assert pages.share(node) >= 0.95, (node, pages)


def test_an_open_makes_the_copy_of_its_own_tree(two_nodes, mount_in):
    mounted = mount_in(two_nodes, "numa=mirror", "backing=resident", "prediction=off")
    assert read_in_tree(mounted, 1, BIG, 0).share(1) >= 0.99
    assert resident(mounted)["files"] == 1
