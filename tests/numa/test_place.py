"""mountctl place and status --numa: memory moves to other nodes while it is in use, and the status
says what move_pages(2) says."""
import contextlib
import json

import pytest

import numa_model
from numa_model import BIG, MIB, SIZES

LAYER = "layers.0.weight"


@contextlib.contextmanager
def kept_mapped(guest, path):
    """Within, a client has the file mapped and reads it again and again. What it says at the end
    is in the list that is given."""
    said = []
    guest.ok(f"rm -f /tmp/stop; page_nodes -n 1 -u /tmp/stop {path} > /tmp/kept 2>&1 &")
    guest.ok("until grep -q mapped /tmp/kept; do sleep 0.05; done")
    yield said
    guest.ok("touch /tmp/stop; while pidof page_nodes > /dev/null; do sleep 0.05; done")
    said.append(guest.pages_of(guest.ok("cat /tmp/kept")))


def range_of(mounted, name):
    """As page_nodes takes it: the pages of the model file that have this tensor alone."""
    entry = next(t for t in json.loads(mounted.guest.ok(f"cat {mounted.path}/model.json"))["tensors"]
                 if t["name"] == name)
    begin = (entry["offset"] + 4095) // 4096 * 4096
    return f"{begin}:{(entry['offset'] + entry['nbytes']) // 4096 * 4096 - begin}"


def place(mounted, *args):
    return mounted.mountctl("place", *args)


def share_of_source(mounted, name, node):
    """The part of a tensor's pages in the page cache of the model file that this node has."""
    pages = mounted.guest.page_nodes(numa_model.PATH, "-c", "-r", range_of(mounted, name))
    assert pages.absent == 0
    return pages.share(node)


# ---- moving ----

@pytest.mark.parametrize("hugepages", ["always", "never"])
def test_a_resident_tensor_moves_and_comes_back_while_a_client_has_it_mapped(two_nodes, mount_in,
                                                                             hugepages):
    mounted = mount_in(two_nodes, "backing=resident", "numa=1", f"hugepages={hugepages}")
    path = mounted.tensor(BIG)
    assert two_nodes.page_nodes(path).share(1) >= 0.99
    with kept_mapped(two_nodes, path) as said:
        place(mounted, BIG, "--node", "0")
        assert two_nodes.page_nodes(path).share(0) >= 0.99
        place(mounted, BIG, "--interleave")
        assert two_nodes.page_nodes(path).share(0) == pytest.approx(0.5, abs=0.02)
        place(mounted, BIG, "--node", "1")
        pages = two_nodes.page_nodes(path, "-s")
        assert pages.share(1) >= 0.99 and pages.sum == numa_model.sum_of(BIG)
    assert said[0].passes > 0 and said[0].wrong == 0
    assert said[0].share(1) >= 0.99, "the client's own mapping has them where they are"


def test_interleave_spreads_what_is_resident_over_four_nodes(four_nodes, mount_in):
    mounted = mount_in(four_nodes, "backing=resident", "numa=3")
    path = mounted.tensor(BIG)
    assert four_nodes.page_nodes(path).share(3) >= 0.99
    place(mounted, BIG, "--interleave")
    pages = four_nodes.page_nodes(path, "-s")
    assert pages.sum == numa_model.sum_of(BIG)
    for node in range(4):
        assert pages.share(node) == pytest.approx(0.25, abs=0.02), pages
    place(mounted, BIG, "--node", "1,2")
    assert set(four_nodes.page_nodes(path).nodes) == {1, 2}


def test_the_page_cache_of_the_source_moves_for_the_tensors_that_match(two_nodes, mount_in):
    mounted = mount_in(two_nodes, "backing=stream", "numa=1")
    two_nodes.drop_caches()
    mounted.mountctl("prefetch", "*")
    with kept_mapped(two_nodes, numa_model.PATH) as said:
        place(mounted, BIG, "--node", "0")
        assert share_of_source(mounted, BIG, 0) >= 0.95
        assert share_of_source(mounted, LAYER, 1) >= 0.95
        place(mounted, "b*", "--node", "1")
        assert share_of_source(mounted, BIG, 1) >= 0.95
    assert said[0].passes > 0 and said[0].wrong == 0


# ---- rules ----

def test_the_last_rule_that_matches_says_where_a_tensor_is_made(two_nodes, mount_in):
    mounted = mount_in(two_nodes, "backing=resident")
    place(mounted, "layers.*", "--node", "1")
    place(mounted, LAYER, "--node", "0")
    assert two_nodes.page_nodes(mounted.tensor(LAYER), "-n", 1).share(0) >= 0.99
    for n in (1, 2, 3):
        path = mounted.tensor(f"layers.{n}.weight")
        assert two_nodes.page_nodes(path, "-n", 0).share(1) >= 0.99
    rules = json.loads(two_nodes.ok(f"mountctl --json place {mounted.path}"))
    assert [(rule["pattern"], rule["nodes"], rule["tensors"]) for rule in rules] == \
        [("layers.*", [1], 3), (LAYER, [0], 1)]
    place(mounted, LAYER, "--reset")
    assert two_nodes.page_nodes(mounted.tensor(LAYER)).share(1) >= 0.99
    place(mounted, "*", "--node", "0")
    assert two_nodes.page_nodes(mounted.tensor(LAYER)).share(0) >= 0.99


def test_a_rule_says_where_reads_bring_the_source_in(two_nodes, mount_in):
    mounted = mount_in(two_nodes, "backing=stream", "numa=1")
    place(mounted, BIG, "--node", "0")
    two_nodes.drop_caches()
    for name in (BIG, "layers.2.weight"):
        two_nodes.ok(f"taskset -c 1 cat {mounted.tensor(name)} > /dev/null")
    assert share_of_source(mounted, BIG, 0) >= 0.95
    assert share_of_source(mounted, "layers.2.weight", 1) >= 0.95


# ---- what cannot be ----

def test_a_node_that_is_not_there_is_refused_and_makes_no_rule(two_nodes, mount_in):
    mounted = mount_in(two_nodes, "backing=resident")
    done = two_nodes.run(f"mountctl place {mounted.path} '*' --node 9")
    assert done.returncode != 0
    assert done.stderr.endswith(": there are 0,1\n") and len(done.stderr.splitlines()) == 1
    assert "no rules" in place(mounted)


def test_a_tensor_that_the_node_has_no_room_for_stays_and_that_is_said(four_nodes, mount_in):
    mounted = mount_in(four_nodes, "backing=resident", "numa=0", "prediction=off")
    path = mounted.tensor(BIG)
    assert four_nodes.page_nodes(path).share(0) >= 0.99
    four_nodes.drop_caches()
    with four_nodes.full_node(3, 40 * MIB):
        done = four_nodes.run(f"mountctl place {mounted.path} {BIG} --node 3")
        assert done.returncode == 1 and BIG in done.stderr
        pages = four_nodes.page_nodes(path, "-s")
        assert pages.sum == numa_model.sum_of(BIG) and pages.share(3) < 0.7
        assert four_nodes.free_on(3) > 2 * MIB
    place(mounted, BIG, "--node", "3")
    assert four_nodes.page_nodes(path).share(3) >= 0.99


# ---- the status ----

def told(mounted, member):
    """Bytes on each node, as the status tells them."""
    document = json.loads(mounted.guest.ok(f"mountctl --json status {mounted.path} --numa"))
    found = document["numa"]["pages"][member]
    assert not found["sample"]
    return {entry["node"]: entry["bytes"] for entry in found["nodes"]}


def test_the_status_says_what_move_pages_says(guest, mount_in):
    last = len(guest.machine.memory) - 1
    mounted = mount_in(guest, "backing=resident", "numa=interleave", "prediction=off")
    guest.drop_caches()
    place(mounted, "layers.1.*", "--node", str(last))
    assert told(mounted, "resident") == {}
    counted = {}
    for name in (BIG, "layers.1.weight", "layers.2.weight"):
        for node, size in guest.page_nodes(mounted.tensor(name)).nodes.items():
            counted[node] = counted.get(node, 0) + size
    assert sum(counted.values()) == SIZES[BIG] + 2 * SIZES["layers.1.weight"]
    assert told(mounted, "resident") == counted
    mounted.mountctl("prefetch", "o*")
    source = guest.page_nodes(numa_model.PATH, "-c")
    assert source.present > 0 and told(mounted, "source_cache") == source.nodes
    assert "layers.1.*" in guest.ok(f"mountctl status {mounted.path} --numa")
