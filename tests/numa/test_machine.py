"""The machines are what the placement tests take them for."""
import numa_model


def test_it_has_the_nodes_and_distances_that_it_was_given(guest):
    rows = guest.ok("cat /sys/devices/system/node/node*/distance").splitlines()
    assert [list(map(int, row.split())) for row in rows] == guest.machine.distances


def test_the_disk_is_at_its_node(guest):
    path = guest.ok("readlink -f /sys/block/vda/device/..").strip()
    assert int(guest.ok(f"cat {path}/numa_node")) == guest.machine.disk_node


def test_a_resident_tensor_is_passed_through_and_its_pages_are_counted(guest, mount_in):
    mounted = mount_in(guest, "backing=resident")
    pages = guest.page_nodes(mounted.tensor(numa_model.BIG), "-s")
    assert pages.sum == numa_model.sum_of(numa_model.BIG)
    assert pages.present == numa_model.SIZES[numa_model.BIG] and pages.absent == 0
    assert "resident" in mounted.mountctl("ls", numa_model.BIG)
