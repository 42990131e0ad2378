"""Resident tensors give way when memory runs short."""
import mmap
import os
import random
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

import cgroups
import mounting
import writers
from mounting import status

MIB = 1 << 20
COUNT, SIZE = 12, 48 * MIB + 4099
GROUP = 448 * MIB
# What is kept free in such a group: a quarter.
RESERVE = GROUP // 4


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """More than fits the group."""
    block = random.Random(1).randbytes(SIZE)
    path = tmp_path_factory.mktemp("pressure") / "model.safetensors"
    path.write_bytes(writers.safetensors(
        [(f"t.{i:02}", "U8", [SIZE], block[i:] + block[:i]) for i in range(COUNT)]))
    with open(path, "rb") as file:
        os.fsync(file.fileno())
    yield path
    path.unlink()


@pytest.fixture
def group():
    reason = cgroups.why_not()
    if reason:
        pytest.skip(reason)
    with cgroups.Group(GROUP) as made:
        yield made
        assert made.kills() == 0


@pytest.fixture
def mounted_in(group, source, mount):
    """The group goes after the mount in it. Only what is opened takes memory: what is predicted
    would take the place of what was used longest ago."""
    def start(*options):
        with group.inside():
            mounted = mount(source, "backing=resident", "prediction=off", *options)
        if not status(mounted)["passthrough"]["available"]:
            pytest.skip("no passthrough: " + status(mounted)["passthrough"]["reason"])
        return mounted
    return start


def people(mounted):
    return subprocess.run([mounting.BIN / "mountctl", "status", mounted.path],
                          capture_output=True, text=True, check=True).stdout


def resident(mounted):
    return status(mounted)["resident"]


def read(mounted, source, i):
    """Reads a tensor and compares it with the source."""
    entry = mounted.tensors()[f"t.{i:02}"]
    with open(source, "rb") as file:
        file.seek(entry["offset"])
        expected = file.read(entry["nbytes"])
    with open(mounted.tensor(f"t.{i:02}"), "rb") as file, \
            mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapping:
        assert mapping[:] == expected


def backing(mounted, i):
    return os.getxattr(mounted.tensor(f"t.{i:02}"), "user.weightfs.backing").decode()


def test_more_than_the_group_may_have_is_read_and_nobody_is_killed(mounted_in, source, group):
    mounted = mounted_in("resident_limit=4G")
    for i in range(COUNT):
        read(mounted, source, i)
        assert group.used() <= GROUP
    found = resident(mounted)
    assert found["limit"] == 4 << 30
    assert found["effective_limit"] < GROUP and found["used"] <= GROUP - RESERVE
    assert found["pressure_events"] >= 1 and found["evicted"] >= 4
    # What was read last is there, and what was read first has made room.
    assert backing(mounted, COUNT - 1) == "resident" and backing(mounted, 0) == "stream"
    assert mounting.is_running(mounted.pid)


def test_what_is_open_stays_and_the_rest_is_streamed(mounted_in, source, group):
    mounted = mounted_in("resident_limit=4G")
    held = []
    for i in range(COUNT):
        held.append(open(mounted.tensor(f"t.{i:02}"), "rb"))
    assert backing(mounted, 0) == "resident" and backing(mounted, COUNT - 1) == "stream"
    assert 0 < resident(mounted)["used"] <= GROUP - RESERVE
    for i in range(COUNT):
        read(mounted, source, i)
    for file in held:
        file.close()


# A process of the group that takes memory step by step, says so, and holds it.
HOG = """
import sys, time
held = []
for _ in range(int(sys.argv[1])):
    held.append(b"x" * (8 << 20))
    time.sleep(0.15)
print("done", flush=True)
sys.stdin.read()
"""


def test_closed_tensors_make_room_for_others_and_come_back(mounted_in, source, group):
    mounted = mounted_in("resident_limit=250M")
    for i in range(5):
        read(mounted, source, i)
    before = resident(mounted)
    assert before["files"] == 5 and before["pressure_events"] == 0
    with group.inside():
        hog = subprocess.Popen([sys.executable, "-c", HOG, "18"], stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE)
    try:
        assert hog.stdout.readline() == b"done\n"
        assert mounting.wait_for(lambda: resident(mounted)["used"] < before["used"], 5)
        short = resident(mounted)
        assert short["effective_limit"] < short["limit"] == 250 * MIB
        assert short["pressure_events"] == 1
        text = people(mounted)
        assert re.search(r"^  memory       \S+ MiB of \S+ \S*B \(limit 250\.0 MiB: memory is short\), \d files?, "
                         r"0 pinned\n {15}short 1 time since mounted$", text, re.M), text
        # What was used longest ago has gone first.
        assert backing(mounted, 0) == "stream" and backing(mounted, 4) == "resident"
        for i in range(COUNT):
            read(mounted, source, i)
    finally:
        hog.stdin.close()
        hog.wait(10)
        hog.stdout.close()
    assert mounting.wait_for(
        lambda: resident(mounted)["effective_limit"] == 250 * MIB, 30, 0.5)
    assert resident(mounted)["pressure_events"] == 1
    text = people(mounted)
    assert " of 250.0 MiB, " in text and "memory is short" not in text
    read(mounted, source, 0)
    assert backing(mounted, 0) == "resident"


def test_a_shortage_is_one_line_in_the_log(tmp_path, source, group):
    log = tmp_path / "log"
    path = tmp_path / "mnt"
    path.mkdir()
    with group.inside(), open(log, "wb") as target:
        daemon = subprocess.Popen([mounting.WEIGHTFS, source, path, "-f", "-o",
                                   "backing=resident,resident_limit=4G"], stderr=target)
    try:
        mounted = mounting.Mount(source, path)
        assert mounting.wait_for(lambda: (path / "model.json").exists(), mounting.START_S)
        if not status(mounted)["passthrough"]["available"]:
            pytest.skip("no passthrough")
        for i in range(COUNT):
            read(mounted, source, i)
        events = resident(mounted)["pressure_events"]
    finally:
        mounting.umount(path)
        daemon.wait(mounting.START_S)
    lines = [line for line in log.read_text().splitlines() if "memory is short" in line]
    assert len(lines) == events == 1, lines
    assert lines[0].startswith(f"weightfs: warning: {path}: memory is short: ")


def test_the_limit_is_a_share_of_what_the_group_may_have(mounted_in):
    half = resident(mounted_in())["limit"]
    assert GROUP // 4 < half <= GROUP // 2
    assert resident(mounted_in("resident_limit=50%"))["limit"] == GROUP // 100 * 50


# Daemons that start look at the sockets of others: these are not to be found.
ALONE = ["unshare", "-m", "sh", "-c",
         'mkdir -p /run/weightfs && mount -t tmpfs none /run/weightfs && exec "$0" "$@"']


def test_nobody_polls_while_nothing_is_resident(source, tmp_path):
    if os.geteuid() != 0:
        pytest.skip("a mount namespace takes root")
    point = tmp_path / "mnt"
    point.mkdir()
    daemon = subprocess.Popen([*ALONE, mounting.WEIGHTFS, source, point, "-f", "-o",
                               "backing=resident,resident_limit=1G"])

    def rests():
        before = wake_ups(daemon.pid)
        time.sleep(2.5)
        return wake_ups(daemon.pid) - before <= 1
    try:
        inside = Path(f"/proc/{daemon.pid}/root/{point}")
        assert mounting.wait_for((inside / "model.json").exists, mounting.START_S)
        # Who looks each second never rests. On a busy machine the start may take a while.
        assert any(rests() for _ in range(5))
    finally:
        daemon.terminate()
        assert daemon.wait(mounting.START_S) == 0


def wake_ups(pid):
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        for line in (task / "status").read_text().splitlines():
            if line.startswith("voluntary_ctxt_switches:"):
                total += int(line.split()[1])
    return total


def test_the_kernel_is_asked_to_tell_of_waiting_tasks(mount, source):
    try:
        os.close(os.open("/proc/pressure/memory", os.O_RDWR))
    except OSError as error:
        pytest.skip(f"/proc/pressure/memory: {error.strerror}")
    mounted = mount(source, "backing=resident")
    if not status(mounted)["passthrough"]["available"]:
        pytest.skip("no passthrough")
    links = {os.readlink(entry) for entry in Path(f"/proc/{mounted.pid}/fd").iterdir()}
    assert any(link.endswith("/pressure/memory") for link in links)
