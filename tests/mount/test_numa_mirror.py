"""numa=mirror: a tree for each memory node. On a machine with one node that is node0/, whose files
are those of the main tree; with several, tests/numa shows where each copy lies."""
import errno
import json
import os
import random
import socket
import subprocess

import pytest

import mounting
import writers
from mounting import backing, status

MIB = 1 << 20
MOUNTCTL = mounting.BIN / "mountctl"
SIZES = {"a.small": 1000, "a.odd": 3 * MIB + 17, "b.large": 9 * MIB}
VIEWS = ("tensors", "npy", "safetensors")


def data_of(name):
    return random.Random(name).randbytes(SIZES[name])


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    path = tmp_path_factory.mktemp("mirror") / "model.safetensors"
    path.write_bytes(writers.safetensors([(n, "U8", [s], data_of(n)) for n, s in SIZES.items()]))
    return path


@pytest.fixture
def mirrored(mount, source):
    """A mount that makes resident what it is told to."""
    mounted = mount(source, "numa=mirror")
    passthrough = status(mounted)["passthrough"]
    if not passthrough["available"]:
        pytest.skip("no passthrough: " + passthrough["reason"])
    return mounted


def nodes_of(mounted):
    return status(mounted)["numa"]["mirror"]


def trees_of(mounted):
    """The main tree, and that of each memory node."""
    return [mounted.path] + [mounted / f"node{n}" for n in nodes_of(mounted)]


def ctl(*args):
    return subprocess.run([MOUNTCTL, *args], capture_output=True, text=True, timeout=60,
                          check=False)


def ctl_json(*args, code=0):
    done = ctl("--json", *args)
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout)


def outcomes(document):
    return {name: tally["count"] for name, tally in document["outcomes"].items()}


def names_below(folder):
    """Paths of all files and directories, but for those of the mount's own."""
    found = set()
    for at, folders, files in os.walk(folder):
        folders[:] = [f for f in folders if f != ".weightfs" and not f.startswith("node")]
        found.update(os.path.relpath(os.path.join(at, n), folder) for n in folders + files)
    return found


def node_numbers():
    """Nodes with memory, as the kernel has them."""
    text = open("/sys/devices/system/node/has_memory", encoding="ascii").read().strip()
    spans = [span.split("-") for span in text.split(",")]
    return [n for span in spans for n in range(int(span[0]), int(span[-1]) + 1)]


@pytest.mark.parametrize("options", [(), ("backing=stream",), ("backing=resident",)])
def test_the_tree_of_each_memory_node_has_every_file_with_its_bytes(mount, source, options):
    mounted = mount(source, "numa=mirror", *options)
    assert nodes_of(mounted) == node_numbers()
    names = names_below(mounted.path)
    for tree in trees_of(mounted)[1:]:
        assert names_below(tree) == names
        for name, size in SIZES.items():
            data = data_of(name)
            path = name.replace(".", "/")
            assert (tree / "tensors" / path).read_bytes() == data
            assert (tree / "flat" / "tensors" / name).read_bytes() == data
            npy = (tree / "npy" / f"{path}.npy").read_bytes()
            assert npy == (mounted / "npy" / f"{path}.npy").read_bytes() and npy[-size:] == data
        assert (tree / "model.json").read_bytes() == (mounted / "model.json").read_bytes()
        assert (tree / "files" / source.name).read_bytes() == source.read_bytes()


def test_without_the_option_there_are_no_such_trees(mount, source):
    mounted = mount(source, "numa=local")
    assert not [name for name in os.listdir(mounted.path) if name.startswith("node")]
    assert not (mounted / "node0").exists()
    assert "mirror" not in status(mounted)["numa"]
    assert "user.weightfs.node" not in os.listxattr(mounted.tensor("b.large"))


def test_nothing_is_pushed_whose_pages_are_to_lie_with_their_reader(mount, source):
    assert status(mount(source))["push"]["enabled"]
    assert not status(mount(source, "numa=mirror", "push=on"))["push"]["enabled"]


def test_a_node_that_is_not_there_has_no_tree(mirrored):
    assert not (mirrored / f"node{max(node_numbers()) + 1}").exists()
    assert not (mirrored / "node00").exists()


def test_an_attribute_names_the_memory_node(mirrored):
    for node in nodes_of(mirrored):
        for view, name in (("tensors", "b/large"), ("npy", "b/large.npy"),
                           ("flat/tensors", "a.small")):
            path = mirrored / f"node{node}" / view / name
            assert os.getxattr(path, "user.weightfs.node") == str(node).encode()
    assert int(os.getxattr(mirrored.tensor("b.large"), "user.weightfs.node")) == \
        nodes_of(mirrored)[0]


def test_bytes_are_counted_once(mount, source):
    def taken(folder):
        out = subprocess.run(["du", "-s", "-B1", folder], capture_output=True, text=True, check=True)
        return int(out.stdout.split()[0])
    plain = mount(source)
    mirrored = mount(source, "numa=mirror")
    # Live files are not of the same length each time.
    assert abs(taken(mirrored.path) - taken(plain.path)) < 64 << 10
    for tree in trees_of(mirrored)[2:]:
        assert taken(tree / "tensors") == 0


def test_a_pin_makes_a_copy_for_each_memory_node(mirrored):
    copies = len(nodes_of(mirrored))
    document = ctl_json("pin", mirrored.path, "*")
    assert outcomes(document) == {"done": 2 * copies, "small": copies}
    assert document["file_bytes"] == copies * (SIZES["a.odd"] + SIZES["b.large"])
    found = status(mirrored)
    assert found["resident"]["files"] == found["resident"]["pinned"] == 2 * copies
    assert found["resident"]["used"] >= document["file_bytes"]
    assert found["backings"]["resident"]["tensors"] == 2
    for tree in trees_of(mirrored):
        for name in SIZES:
            path = tree / "tensors" / name.replace(".", "/")
            assert backing(path) == ("stream" if name == "a.small" else "resident")
            assert path.read_bytes() == data_of(name)
        listed = {t["name"]: (t["backing"], t["pinned"]) for t in ctl_json("ls", tree)}
        assert listed == {"a.small": ("stream", False), "a.odd": ("resident", True),
                          "b.large": ("resident", True)}


def test_unpinning_and_evicting_concern_every_copy(mirrored):
    copies = len(nodes_of(mirrored))
    ctl_json("pin", mirrored.path, "*")
    document = ctl_json("evict", mirrored.path, "b.*", code=1)
    assert outcomes(document) == {"pinned": 1}
    assert outcomes(ctl_json("unpin", mirrored.path, "b.*"))["done"] == copies
    assert status(mirrored)["resident"]["pinned"] == copies
    document = ctl_json("evict", mirrored.path, "b.*")
    assert document["file_bytes"] == copies * SIZES["b.large"]
    for tree in trees_of(mirrored):
        assert backing(tree / "tensors/b/large") == "stream"
        assert backing(tree / "tensors/a/odd") == "resident"
        assert (tree / "tensors/b/large").read_bytes() == data_of("b.large")


def test_the_limit_counts_every_copy(mount, source, mirrored):
    copies = len(nodes_of(mirrored))
    limited = mount(source, "numa=mirror", f"resident_limit={copies * 9 + 4}M")
    document = ctl_json("pin", limited.path, "b.large")
    assert outcomes(document) == {"done": copies}
    document = ctl_json("pin", limited.path, "a.odd", code=0 if copies == 1 else 1)
    assert outcomes(document) == ({"done": 1} if copies == 1 else
                                  {"done": 1, "no_room": copies - 1})
    assert status(limited)["resident"]["used"] <= (copies * 9 + 4) * MIB


def test_the_first_nodes_file_is_that_of_the_main_tree(mirrored):
    main, first = mirrored.tensor("b.large"), mirrored / f"node{nodes_of(mirrored)[0]}/tensors/b/large"
    assert os.path.samefile(main, first) and os.stat(main).st_nlink == 4
    assert ctl("prefetch", mirrored.path, "b.large", "--resident").returncode == 0
    assert backing(first) == "resident"
    assert status(mirrored)["resident"]["files"] == 1


def test_a_person_looks_at_the_tree_of_a_memory_node(mirrored):
    node = nodes_of(mirrored)[0]
    tree = mirrored / f"node{node}"
    found = ctl_json("info", tree / "npy/b/large.npy")
    assert (found["view"], found["node"], found["name"]) == ("npy", node, "b.large")
    assert ctl_json("info", tree)["tensor_count"] == 3
    assert ctl_json("info", tree / "flat/tensors")["tensor_count"] == 3
    assert ctl_json("info", tree / "tensors/a")["tensor_count"] == 2
    for command in ("pin", "unpin", "evict", "prefetch"):
        done = ctl(command, tree, "*")
        assert done.returncode == 1 and done.stdout == ""
        assert done.stderr == f"mountctl: {tree}: is of one memory node: name the mount point\n"


def test_requests_about_trees_that_are_not_there_are_refused(mirrored):
    def ask(line):
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(10)
            s.connect(os.readlink(mirrored / ".weightfs" / "socket"))
            s.sendall(line + b"\n")
            reply = b""
            while piece := s.recv(65536):
                reply += piece
        return json.loads(reply)
    for node in (b"63", b"-1", b"65535", b"65536", b"1e300", b'"0"', b"null", b"[]"):
        reply = ask(b'{"command":"backings","node":' + node + b"}")
        assert reply == {"ok": False, "error": "backings: no tree of such a memory node"}, node
    assert ask(b'{"command":"backings","node":%d}' % nodes_of(mirrored)[0])["ok"]


def test_a_changed_source_is_noticed_in_every_tree(mount, source, tmp_path):
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(source.read_bytes())
    mounted = mount(copy, "numa=mirror")
    for tree in trees_of(mounted):
        assert (tree / "tensors/b/large").read_bytes() == data_of("b.large")
    os.utime(copy)

    def is_stale(path):
        try:
            path.read_bytes()
        except OSError:
            return True
        return False
    for tree in trees_of(mounted):
        assert mounting.wait_for(lambda tree=tree: is_stale(tree / "tensors/b/large"))


@pytest.mark.skipif(os.getuid() != 0, reason="sets a filter of system calls")
def test_without_passthrough_the_trees_are_there_and_stream(source, tmp_path):
    point = tmp_path / "mnt"
    point.mkdir()
    done = subprocess.run([mounting.WEIGHTFS, source, point, "-o", "numa=mirror"], check=False,
                          capture_output=True, text=True,
                          preexec_fn=lambda: mounting.forbid(mounting.FSOPEN, errno.EPERM))
    assert done.returncode == 0, done.stderr
    try:
        found = json.loads((point / ".weightfs/stats.json").read_bytes())
        assert not found["passthrough"]["available"] and found["numa"]["mirror"] == node_numbers()
        for node in node_numbers():
            for name in SIZES:
                path = point / f"node{node}" / "tensors" / name.replace(".", "/")
                assert backing(path) == "stream" and path.read_bytes() == data_of(name)
        done = ctl("pin", point, "*")
        assert done.returncode == 1 and "no tensor can be resident" in done.stderr
    finally:
        assert mounting.umount(point) == 0


SCRIPT = """weightfs "$SOURCE" "$MNT" -o numa=mirror 2> "$OUT/log" &&
    cat "$MNT/node0/tensors/b/large" > "$OUT/large" &&
    cat "$MNT/.weightfs/stats.json" > "$OUT/stats.json"
    fusermount3 -u "$MNT" """


@pytest.mark.skipif(os.getuid() != 0, reason="becomes another user")
def test_an_ordinary_user_has_the_trees(source, tmp_path):
    mounting.let_others_in(tmp_path, source.parent)
    point, out = tmp_path / "mnt", tmp_path / "out"
    for folder in (point, out):
        folder.mkdir()
        folder.chmod(0o777)
    env = {**os.environ, "PATH": f"{mounting.BIN}:{os.environ['PATH']}", "SOURCE": str(source),
           "MNT": str(point), "OUT": str(out)}
    env.pop("XDG_RUNTIME_DIR", None)
    done = subprocess.run([*mounting.AS_NOBODY, "sh", "-c", SCRIPT], env=env, cwd="/", text=True,
                          capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr + (out / "log").read_text()
    assert (out / "large").read_bytes() == data_of("b.large")
    assert json.loads((out / "stats.json").read_bytes())["numa"]["mirror"] == node_numbers()
