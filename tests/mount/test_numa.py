"""Placing memory on NUMA nodes, as far as a machine with one node can show it. What lies where on
machines with several is shown by tests/numa."""
import errno
import json
import mmap
import os
import platform
import random
import re
import socket
import subprocess
import time

import pytest

import mounting
import pagecache
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


# ---- where memory lies ----

def ctl(*args):
    return subprocess.run([mounting.BIN / "mountctl", *args], stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=mounting.START_S, check=False)


def ctl_json(*args, code=0):
    done = ctl("--json", *args)
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout)


def pages(mounted):
    return ctl_json("status", mounted.path, "--numa")["numa"]["pages"]


def request(mounted, **members):
    """Asks the daemon without mountctl."""
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(os.readlink(mounted / ".weightfs/socket"))
        s.sendall(json.dumps(members).encode() + b"\n")
        return json.loads(s.makefile("rb").read())


@pytest.fixture
def on_disk(source):
    """The source with nothing of it in memory."""
    if reason := pagecache.why_not(source):
        pytest.skip(reason)
    pagecache.empty(source)
    return source


def cached(path):
    return sum(pagecache.pages(path)) * pagecache.PAGE


def test_counting_finds_resident_files_and_reads_nothing_in(one_node, mount, on_disk):
    mounted = mount(on_disk, "backing=resident")
    if not status(mounted)["passthrough"]["available"]:
        pytest.skip("no passthrough")
    assert pages(mounted)["resident"] == {"looked_at": 0, "sample": False, "nodes": []}
    (mounted / "tensors/b/large").read_bytes()
    expected = 9 * MIB
    assert pages(mounted)["resident"] == {"looked_at": expected, "sample": False,
                                          "nodes": [{"node": 0, "bytes": expected}]}
    (mounted / "npy/a/odd.npy").read_bytes()
    expected += (mounted / "npy/a/odd.npy").stat().st_size // 4096 * 4096 + 4096
    for _ in range(3):
        assert pages(mounted)["resident"]["nodes"] == [{"node": 0, "bytes": expected}]


def test_counting_finds_what_is_cached_of_the_source_and_reads_nothing_in(one_node, mount,
                                                                          on_disk):
    mounted = mount(on_disk, "backing=stream", "readahead=128K")
    before = cached(on_disk)
    found = pages(mounted)["source_cache"]
    assert sum(n["bytes"] for n in found["nodes"]) == before < MIB
    (mounted / "tensors/b/large").read_bytes()
    assert mounting.wait_for(lambda: cached(on_disk) >= 9 * MIB)
    for _ in range(3):
        found = pages(mounted)["source_cache"]
        assert found == {"looked_at": cached(on_disk), "sample": False,
                         "nodes": [{"node": 0, "bytes": cached(on_disk)}]}


def test_the_status_for_people_names_the_node(one_node, mount, source):
    mounted = mount(source)
    done = ctl("status", mounted.path, "--numa")
    assert done.returncode == 0
    assert re.search(r"^  numa +local: no effect: " + ONE_NODE, done.stdout, re.M)
    assert re.search(r"^  node 0 +.* free, .* resident, .* of the source cached$", done.stdout, re.M)


def test_every_member_is_documented(mount, source):
    page = (mounting.ROOT / "docs" / "status.md").read_text()
    section = page.split("### numa")[1].split("\n## ")[0]
    documented = {m.removesuffix("[]") for m in re.findall(r"^\| `([^`]+)`", section, re.M)}
    found = set()
    for option in ("numa=mirror", "numa=auto"):
        mounted = mount(source, option)
        found |= set(ctl_json("status", mounted.path, "--numa")["numa"])
    assert found <= documented and documented - found <= {"reason", "origin"}


GET_MEMPOLICY, MOVE_PAGES = {"x86_64": (239, 279), "aarch64": (236, 239)}.get(
    platform.machine(), (None, None))


def mount_where(source, point, forbidden, *options):
    """A mount that a container's filter keeps from a system call."""
    if forbidden is None:
        pytest.skip("the number of the system call is not known on this machine")
    if os.getuid() != 0:
        pytest.skip("a filter without a change of privileges takes root")
    point.mkdir()
    done = subprocess.run([mounting.WEIGHTFS, source, point, "-o", ",".join(options)], text=True,
                          capture_output=True, check=False, timeout=mounting.START_S,
                          preexec_fn=lambda: mounting.forbid(forbidden, errno.EPERM))
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_a_container_that_forbids_to_place_memory_is_told(source, tmp_path):
    point = tmp_path / "mnt"
    said = mount_where(source, point, GET_MEMPOLICY, "numa=interleave")
    try:
        reason = "this process may not place its memory"
        assert said == f"weightfs: warning: {point}: option numa=interleave has no effect: {reason}\n"
        found = ctl_json("status", point)["numa"]
        assert not found["effective"] and found["reason"] == reason
        assert ctl_json("place", point, "*", "--node", "0")["state"] == "done"
        assert (point / "tensors/b/large").read_bytes() == data_of("b.large")
    finally:
        assert mounting.umount(point) == 0


def test_a_container_that_forbids_to_ask_for_pages_is_told(source, tmp_path):
    point = tmp_path / "mnt"
    mount_where(source, point, MOVE_PAGES, "backing=stream")
    try:
        assert (point / "tensors/b/large").read_bytes() == data_of("b.large")
        reason = "this process may not ask where its pages are"
        assert ctl_json("status", point, "--numa")["numa"]["pages"]["source_cache"] == {
            "reason": reason}
        assert f"where the page cache of the source lies: {reason}" \
            in ctl("status", point, "--numa").stdout
    finally:
        assert mounting.umount(point) == 0


# ---- rules ----

def rules(mounted):
    found = ctl_json("place", mounted.path)
    assert found == status(mounted)["numa"]["rules"]
    return [(r["pattern"], r["nodes"], r["interleave"], r["tensors"]) for r in found]


def test_rules_are_kept_shown_and_taken_back(one_node, mount, source):
    mounted = mount(source)
    assert rules(mounted) == [] and ctl("place", mounted.path).stdout == "no rules\n"
    job = ctl_json("place", mounted.path, "a.*", "b.large", "--node", "0,1")
    assert job["command"] == "place" and job["outcomes"] == {
        "already": {"count": 3, "bytes": sum(SIZES.values())}}
    assert rules(mounted) == [("a.*", [0, 1], False, 2), ("b.large", [0, 1], False, 1)]
    assert ctl_json("place", mounted.path, "a.*", "--interleave")["state"] == "done"
    assert rules(mounted) == [("b.large", [0, 1], False, 1), ("a.*", [0], True, 2)]
    assert ctl_json("place", mounted.path, "*", "--local")["state"] == "done"
    assert rules(mounted)[-1] == ("*", [], False, 3)
    done = ctl("place", mounted.path, "*", "--local")
    assert done.stderr == f"mountctl: warning: {mounted.path}: rules have no effect: {ONE_NODE}\n"
    done = ctl("place", mounted.path)
    assert done.stdout.splitlines()[-1] == "'*' on the thread's own node, 3 tensors"
    assert ctl("place", mounted.path, "*", "a.*", "--reset").returncode == 0
    assert rules(mounted) == [("b.large", [0, 1], False, 1)]
    for name in SIZES:
        assert (mounted / "tensors" / name.replace(".", "/")).read_bytes() == data_of(name)


def test_what_cannot_be_a_rule_is_refused_with_words(one_node, mount, source):
    mounted = mount(source)
    path = mounted.path
    for words, code, message in [
            (("c.*", "--node", "0"), 1, "'c.*': no tensor has such a name"),
            (("a.*", "--reset"), 1, f"{path}: there is no rule with just this pattern"),
            *[(("a.*", "--node", nodes), 2, "place: --node takes numbers of nodes, as in 0 or 0,1")
              for nodes in ("x", "", "0,", "-1", "0 1", "interleave", "gpu:0")],
            (("a.*", "--node", "60"), 1, f"{path}: no such nodes: there are 0"),
            (("a.*",), 2, "place: needs --node, --interleave, --local or --reset"),
            (("--node", "0"), 2, "place: needs a mount point and a pattern"),
            (("a.*", "--node", "0", "--local"), 2, "place: says twice where to")]:
        done = ctl("place", path, *words)
        assert done.returncode == code and done.stdout == "", words
        assert done.stderr.startswith(f"mountctl: {message}"), done.stderr
    assert rules(mounted) == []


def test_there_are_at_most_64_rules(one_node, mount, source):
    mounted = mount(source)
    patterns = ["*" * i for i in range(1, 66)]
    done = ctl("place", mounted.path, *patterns[:64], "--node", "0")
    assert done.returncode == 0, done.stderr
    done = ctl("place", mounted.path, patterns[64], "--node", "0")
    assert done.returncode == 1 and "there are 64 rules, and no more" in done.stderr
    assert len(rules(mounted)) == 64
    done = ctl("place", mounted.path, "*" * 1025, "--node", "0")
    assert done.returncode == 1 and "longer than the 1024 bytes" in done.stderr


def test_a_job_that_changes_thousands_of_rules_ends_with_the_mount(mount, tmp_path):
    """Each takes a look at all names: together they would take minutes."""
    count = 5_000 if mounting.SANITIZED else 20_000
    path = tmp_path / "many.safetensors"
    path.write_bytes(writers.safetensors([(f"model.layers.{i}.self_attn.q_proj.weight", "U8", [1], b"x")
                                          for i in range(count)]))
    mounted = mount(path)
    number = request(mounted, command="place", to="0", patterns=["*"] * 12_000)["job"]

    def job():
        return request(mounted, command="job", job=number)["job"]

    assert mounting.wait_for(lambda: job()["total_count"] == count, 60), job()
    assert job()["state"] == "running"
    begun = time.monotonic()
    mounted.stop()
    assert time.monotonic() - begun < 8


def test_requests_without_a_sensible_target_are_refused(mount, source):
    mounted = mount(source)
    for members in [{}, {"to": 5}, {"to": None}, {"to": "auto"}, {"to": "gpu:0"},
                    {"to": "mirror"}, {"to": ["0"]}, {"to": "0" * 5000}]:
        reply = request(mounted, command="place", patterns=["*"], **members)
        assert not reply["ok"] and "no such nodes" in reply["error"], members
    assert not request(mounted, command="place", to="0")["ok"]
    assert not request(mounted, command="place", to="0", patterns=[5])["ok"]
    assert status(mounted)["numa"]["rules"] == []


def test_a_mirror_takes_no_rules(mount, source):
    done = ctl("place", mount(source, "numa=mirror").path, "*", "--node", "0")
    assert done.returncode == 1 and "option numa=mirror" in done.stderr


def test_rules_on_a_machine_with_one_node_move_nothing_that_is_resident(one_node, mount, source):
    mounted = mount(source, "backing=resident")
    if not status(mounted)["passthrough"]["available"]:
        pytest.skip("no passthrough")
    path = mounted / "tensors/b/large"
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapping:
        for target in (["--node", "0"], ["--interleave"], ["--local"], ["--reset"]):
            job = ctl_json("place", mounted.path, "b.*", *target)
            assert list(job["outcomes"]) == ["already"] and job["file_bytes"] == 0
            assert mapping[:] == data_of("b.large")
