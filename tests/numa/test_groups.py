"""What becomes of a daemon whose control group goes: of version 2, which tells of waiting for memory."""
import json

import mounting
from numa_model import BIG

GROUP = "/sys/fs/cgroup/weightfs-test"


def cached_percent(mounted):
    return json.loads(mounted.guest.ok(f"mountctl --json ls {mounted.path} {BIG}"))[0]["cached_percent"]


def test_a_group_that_is_gone_does_not_end_reading_ahead(two_nodes, mount_in):
    run = two_nodes.ok
    run("mountpoint -q /sys/fs/cgroup || mount -t cgroup2 none /sys/fs/cgroup")
    run(f"mkdir {GROUP} && echo $$ > {GROUP}/cgroup.procs")
    mounted = mount_in(two_nodes, "backing=stream")
    run(f"for p in $(cat {GROUP}/cgroup.procs); do echo $p > /sys/fs/cgroup/cgroup.procs; done")
    run(f"rmdir {GROUP}")
    two_nodes.drop_caches()
    assert cached_percent(mounted) == 0
    mounted.mountctl("advise", BIG, "willneed")
    assert mounting.wait_for(lambda: cached_percent(mounted) == 100, 60, 0.2)
