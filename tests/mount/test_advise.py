"""advise, and what of the source is in the page cache, as ls and status show it."""
import json
import mmap
import os
import random
import re
import subprocess

import pytest

import mounting
import pagecache
import writers
from mounting import status

MIB = 1 << 20
MOUNTCTL = mounting.BIN / "mountctl"
SIZES = {"a.first": 24 * MIB + 17, "b.second": 24 * MIB, "c.small": 5000}


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(writers.safetensors([(n, "U8", [s], random.Random(n).randbytes(s))
                                          for n, s in SIZES.items()]))
    reason = pagecache.why_not(path)
    if reason:
        pytest.skip(reason)
    pagecache.empty(path)
    return path


@pytest.fixture
def streamed(mount, source):
    return mount(source, "backing=stream", "readahead=128K")


def ctl(*args):
    return subprocess.run([MOUNTCTL, *args], stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, timeout=mounting.START_S, check=False)


def ctl_json(*args, code=0):
    done = ctl("--json", *args)
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout)


def cache(mounted):
    return status(mounted)["page_cache"]


def share(mounted, source, name):
    """But for pages that its neighbours share."""
    entry = mounted.tensors()[name]
    return pagecache.share(source, entry["offset"] + 4096, entry["offset"] + entry["nbytes"] - 4096)


def outcomes(document):
    return {name: tally["count"] for name, tally in document["outcomes"].items()}


# ---- what is cached ----


def cached_column(mounted):
    head, *rows = [line.split() for line in ctl("ls", "-l", mounted.path).stdout.splitlines()]
    column = head.index("CACHED") - len(head)
    return [row[column] for row in rows]


def test_ls_shows_how_much_of_each_tensor_is_cached(streamed, source):
    pagecache.empty(source)
    shown = {t["name"]: t["cached_percent"] for t in ctl_json("ls", streamed.path)}
    assert shown["a.first"] == shown["b.second"] == 0
    ctl("prefetch", streamed.path, "b.*")
    with open(source, "rb") as file:
        os.pread(file.fileno(), 4 * MIB, streamed.tensors()["a.first"]["offset"])
    shown = {t["name"]: t["cached_percent"] for t in ctl_json("ls", streamed.path)}
    assert shown["b.second"] == 100
    assert abs(shown["a.first"] - 100 * share(streamed, source, "a.first")) <= 2, shown
    assert 0 < shown["a.first"] < 100
    assert cached_column(streamed)[:2] == [f"{shown[n]}%" for n in ("a.first", "b.second")]


def test_status_shows_how_much_of_the_source_is_cached(streamed, source):
    pagecache.fill(source)
    assert cache(streamed)["cached_bytes"] == cache(streamed)["source_bytes"] == os.path.getsize(source)
    assert "  cached       48.0 MiB of 48.0 MiB\n" in ctl("status", streamed.path).stdout
    pagecache.empty(source)
    assert cache(streamed)["cached_bytes"] < 100_000


@pytest.mark.skipif(os.getuid() != 0, reason="gives a file to another user")
def test_what_the_kernel_does_not_tell_is_not_made_up(mount, source):
    os.chown(source, 65534, 65534)
    mounted = mount(source)
    if cache(mounted)["cached_bytes"] is not None:
        pytest.skip("this kernel tells everybody, or the daemon has kept its capabilities")
    assert {t["cached_percent"] for t in ctl_json("ls", mounted.path)} == {None}
    assert "an unknown part of 48.0 MiB" in ctl("status", mounted.path).stdout
    assert cached_column(mounted) == ["?"] * 3


def test_every_member_of_the_page_cache_is_documented(streamed):
    page = (mounting.ROOT / "docs" / "status.md").read_text()
    table = page.split("\n### page cache\n")[1].split("\n### ")[0]
    first_columns = re.findall(r"^\| (`[^|]+) \|", table, re.M)
    assert {name.removesuffix("[]") for column in first_columns
            for name in re.findall(r"`([^`]+)`", column)} == set(cache(streamed))


# ---- acting at once ----


def test_willneed_brings_tensors_in_and_does_not_wait(streamed, source):
    pagecache.empty(source)
    done = ctl("advise", streamed.path, "a.*", "willneed")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{streamed.path}: 1 tensor, 24.0 MiB asked for\n"
    assert mounting.wait_for(lambda: share(streamed, source, "a.first") == 1)
    assert share(streamed, source, "b.second") < 0.5
    assert 23 * MIB < cache(streamed)["asked_bytes"] < 26 * MIB
    document = ctl_json("advise", streamed.path, "a.*", "willneed")
    assert outcomes(document) == {"already": 1}
    assert (document["command"], document["advice"]) == ("advise", "willneed")
    assert cache(streamed)["rules"] == []


def test_a_changed_source_is_not_brought_in(streamed, source):
    os.utime(source)
    document = ctl_json("advise", streamed.path, "*", "willneed", code=1)
    assert outcomes(document) == {"changed": 3}


def test_metrics_say_what_the_status_says(streamed, source):
    pagecache.empty(source)
    ctl("prefetch", streamed.path, "b.*")
    text = (streamed / ".weightfs/metrics").read_text()
    asked = re.search(r"^weightfs_read_ahead_asked_bytes_total (\d+)$", text, re.M)
    assert int(asked[1]) == cache(streamed)["asked_bytes"] > 20 * MIB


# ---- rules ----


def test_rules_are_kept_and_shown_and_the_last_one_counts(streamed):
    assert ctl("advise", streamed.path, "*", "random").stdout == \
        f"{streamed.path}: 3 tensors, 48.0 MiB random\n"
    ctl("advise", streamed.path, "a.*", "c.*", "sequential")
    assert outcomes(ctl_json("advise", streamed.path, "b.*", "random")) == {"already": 1}
    assert cache(streamed)["rules"] == [
        {"pattern": "*", "advice": "random"}, {"pattern": "a.*", "advice": "sequential"},
        {"pattern": "c.*", "advice": "sequential"}, {"pattern": "b.*", "advice": "random"}]
    text = ctl("status", streamed.path).stdout
    assert "  advice       random: '*'\n               sequential: 'a.*'\n" in text
    assert outcomes(ctl_json("advise", streamed.path, "*", "normal")) == {"done": 3}
    assert cache(streamed)["rules"] == []


def test_a_rule_that_matches_nothing_is_refused(streamed):
    done = ctl("advise", streamed.path, "*", "z.*", "random")
    assert done.returncode == 1
    assert done.stderr == "mountctl: 'z.*': no tensor has such a name\n"
    assert cache(streamed)["rules"] == []


def test_there_may_be_256_rules(streamed):
    patterns = ["*" * (i + 2) for i in range(256)]
    assert ctl("advise", streamed.path, *patterns, "random").returncode == 0
    done = ctl("advise", streamed.path, "a.first", "random")
    assert done.returncode == 1
    assert done.stderr == f"mountctl: {streamed.path}: advise: 256 rules are kept already: " \
        "'normal' for '*' takes them away\n"
    assert ctl("advise", streamed.path, "*", "normal").returncode == 0
    assert ctl("advise", streamed.path, "a.first", "random").returncode == 0


def test_a_rule_has_at_most_1024_bytes(streamed):
    done = ctl("advise", streamed.path, "*" * 1025, "random")
    assert done.returncode == 1
    assert done.stderr == f"mountctl: {streamed.path}: advise: a pattern is longer than the 1024 " \
        "bytes that rules may have\n"
    assert cache(streamed)["rules"] == []
    assert ctl("advise", streamed.path, "*" * 1024, "random").returncode == 0
    # What acts at once is not kept.
    assert ctl("advise", streamed.path, "*" * 1025, "dontneed").returncode == 0


def touch(path, offsets):
    """One byte of a fresh mapping at each of them."""
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        for offset in offsets:
            assert mapped[offset] is not None


def cached_after_reads(mounted, source):
    """Bytes of the source that are cached after READs of 256 KiB here and there."""
    pagecache.empty(source)
    with open(mounted.tensor("a.first"), "rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
        for offset in range(0, 24 * MIB, 6 * MIB):
            os.pread(file.fileno(), MIB // 4, offset + MIB)
    return pagecache.share(source) * os.path.getsize(source)


def test_random_tensors_are_read_no_further_than_asked(mount, source):
    mounted = mount(source, "backing=stream", "readahead=128K")
    ctl("advise", mounted.path, "a.*", "random")
    # A page at both ends of each read, and what was read at the start.
    assert cached_after_reads(mounted, source) <= 4 * (MIB // 4 + 8192) + 8192


def test_a_random_tensor_is_not_predicted(mount, source):
    mounted = mount(source, "backing=stream")
    ctl("advise", mounted.path, "b.*", "random")
    pagecache.empty(source)
    mounted.tensor("a.first").read_bytes()
    assert mounting.wait_for(lambda: share(mounted, source, "a.first") == 1)
    assert share(mounted, source, "b.second") < 0.5
    assert cache(mounted)["ahead_bytes"] == 0


def test_a_sequential_tensor_comes_in_whole_when_its_start_is_read(streamed, source):
    pagecache.empty(source)
    ctl("advise", streamed.path, "b.*", "sequential")
    for name in ("a.first", "b.second"):
        with open(streamed.tensor(name), "rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
            file.read(4096)
    assert mounting.wait_for(lambda: share(streamed, source, "b.second") == 1)
    assert share(streamed, source, "a.first") < 0.5
    assert cache(streamed)["ahead_bytes"] > 20 * MIB
    streamed.tensor("b.second").read_bytes()
    assert cache(streamed)["ahead_bytes"] < MIB


# ---- what is refused ----


@pytest.mark.parametrize("args, words", [
    ((), "needs a mount point and a pattern"),
    (("/mnt", "*"), "needs a mount point, a pattern and an advice"),
    (("/mnt", "random"), "needs a mount point, a pattern and an advice"),
    (("/mnt", "*", "WILLNEED"),
     "the last argument is normal, sequential, random, willneed or dontneed"),
])
def test_wrong_usage_is_named(args, words):
    done = ctl("advise", *args)
    assert done.returncode == 2
    assert done.stderr == f"mountctl: advise: {words}: see 'mountctl help advise'\n"


