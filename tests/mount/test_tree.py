"""Names become paths as the documentation says; directories behave as tools expect."""
import ctypes
import os
import re
import stat
import subprocess

import pytest

import mounting
import writers


def model_of(*names):
    """A safetensors file with one byte in each tensor: its position."""
    return writers.safetensors([(name, "U8", [1], bytes([i % 256]))
                                for i, name in enumerate(names)])


def gguf_of(*names):
    return writers.gguf([(name, [1], 24, bytes([i])) for i, name in enumerate(names)])


def paths(mounted, view="tensors"):
    """All files below a view, relative to it, as bytes."""
    top = os.fsencode(str(mounted / view))
    return sorted(os.path.relpath(os.path.join(folder, name), top)
                  for folder, _, files in os.walk(top) for name in files)


def check_each(mounted, names):
    """Each name has a path of its own that holds its own byte, in both trees."""
    tensors = mounted.tensors()
    assert sorted(tensors) == sorted(names)
    assert len({entry["path"] for entry in tensors.values()}) == len(names)
    for i, name in enumerate(names):
        path = mounted / "tensors" / tensors[name]["path"]
        assert path.read_bytes() == bytes([i % 256]), name
        assert os.getxattr(path, "user.weightfs.name").decode() == name
    inodes = {os.stat(mounted / "tensors" / t["path"]).st_ino for t in tensors.values()}
    assert inodes == {e.inode() for e in os.scandir(mounted / "flat" / "tensors")}


# ---- names ----


@pytest.mark.parametrize("name, path, flat", [
    ("plain", "plain", "plain"),
    ("model.layers.0.weight", "model/layers/0/weight", "model.layers.0.weight"),
    ("encoder/layer/w", "encoder/layer/w", "encoder%2Flayer%2Fw"),
    ("mixed.a/b.c", "mixed/a/b/c", "mixed.a%2Fb.c"),
    ("", "%", "%"),
    (".", "%/%", "%2E"),
    ("..", "%/%/%", "%2E%2E"),
    ("...", "%/%/%/%", "..."),
    ("a..b", "a/%/b", "a..b"),
    (".a", "%/a", ".a"),
    ("a.", "a/%", "a."),
    ("../../etc/passwd", "%/%/%/%/%/%/etc/passwd", "..%2F..%2Fetc%2Fpasswd"),
    ("/abs", "%/abs", "%2Fabs"),
    ("100%", "100%25", "100%25"),
    ("%2F", "%252F", "%252F"),
    ("tab\tnew\nline", "tab%09new%0Aline", "tab%09new%0Aline"),
    ("nul\0name", "nul%00name", "nul%00name"),
    ("del\x7f", "del%7F", "del%7F"),
    ("\x1b[31mred", "%1B[31mred", "%1B[31mred"),
    ("space and 'quotes\"\\", "space and 'quotes\"\\", "space and 'quotes\"\\"),
    ("gewicht.größe.重み.🙂", "gewicht/größe/重み/🙂", "gewicht.größe.重み.🙂"),
])
def test_a_name_becomes_this_path(mount, name, path, flat):
    mounted = mount(model_of(name))
    assert paths(mounted) == [os.fsencode(path)]
    assert paths(mounted, "flat/tensors") == [os.fsencode(flat)]
    assert paths(mounted, "npy") == [os.fsencode(path + ".npy")]
    assert paths(mounted, "flat/safetensors") == [os.fsencode(flat + ".safetensors")]
    check_each(mounted, [name])


@pytest.mark.parametrize("name, path", [
    (b"bad\xffutf8", "bad%FFutf8"),
    (b"cut\xe2\x82", "cut%E2%82"),
    (b"overlong\xc0\xaf", "overlong%C0%AF"),
    (b"surrogate\xed\xa0\x80", "surrogate%ED%A0%80"),
    ("fine é".encode(), "fine é"),
])
def test_invalid_utf8_in_a_gguf_name_is_escaped(mount, name, path):
    mounted = mount(gguf_of(name))
    assert paths(mounted) == [os.fsencode(path)]
    assert (mounted / "tensors" / path).read_bytes() == b"\0"
    assert os.getxattr(mounted / "tensors" / path, "user.weightfs.name") == name


def test_model_json_is_valid_json_for_invalid_utf8(mount):
    (entry,) = mount(gguf_of(b"bad\xffutf8")).model()["tensors"]
    assert entry["path"] == "bad%FFutf8"


def test_a_tensor_that_is_anothers_directory_is_self(mount):
    names = ["a", "a.b", "a.b.c", "z", "z.%self"]
    mounted = mount(model_of(*names))
    entries = mounted.tensors()
    assert entries["a"]["path"] == "a/%self"
    assert entries["a.b"]["path"] == "a/b/%self"
    assert entries["a.b.c"]["path"] == "a/b/c"
    assert entries["z"]["path"] == "z/%self"
    assert entries["z.%self"]["path"] == "z/%25self"
    check_each(mounted, names)
    assert (mounted / "npy/a/%self.npy").exists()


def test_an_empty_name_and_deeper_empty_components_are_apart(mount):
    names = ["", ".", "..", "...", "%", "%.%", "a", "a.", "a..", "/", "./", "/."]
    check_each(mount(model_of(*names)), names)


def test_slash_and_dot_stay_apart(mount):
    names = ["a.b", "a/b", "a.b/c", "a/b.c", "a/b/c", "a.b.c", "x/y", "a%2Fb"]
    check_each(mount(model_of(*names)), names)


def test_names_that_only_differ_in_case_or_normal_form_stay_apart(mount):
    names = ["W", "w", "é", "e\u0301", "ﬁ", "fi"]
    check_each(mount(model_of(*names)), names)


def test_a_tensor_named_like_a_view_file_stays_apart(mount):
    names = ["w", "w.npy", "w.safetensors", "model.json", "tensors", ".weightfs"]
    check_each(mount(model_of(*names)), names)


# ---- long names ----

CUT = re.compile(r"~[0-9a-f]{16}$")


@pytest.mark.parametrize("length, view, suffix", [
    (255, "tensors", ""), (251, "npy", ".npy"), (243, "safetensors", ".safetensors")])
def test_a_component_that_just_fits_is_not_cut(mount, length, view, suffix):
    name = "x" * length
    mounted = mount(model_of(name))
    assert paths(mounted, view) == [os.fsencode(name + suffix)]


@pytest.mark.parametrize("length, view, suffix", [
    (256, "tensors", ""), (252, "npy", ".npy"), (244, "safetensors", ".safetensors")])
def test_a_component_that_does_not_fit_is_cut(mount, length, view, suffix):
    name = "x" * length
    mounted = mount(model_of(name))
    (path,) = paths(mounted, view)
    stem = os.fsdecode(path).removesuffix(suffix)
    assert len(path) == 255
    assert CUT.search(stem) and stem[:-17] == "x" * (255 - 17 - len(suffix))
    assert (mounted / view / os.fsdecode(path)).stat().st_size >= 1


def test_cutting_respects_characters_and_escapes(mount):
    names = ["重" * 100, "🙂" * 70, "x" + "🙂" * 70, "\x01" * 90, "xx" + "\x01" * 90]
    mounted = mount(model_of(*names))
    check_each(mounted, names)
    for path in paths(mounted):
        text = path.decode("utf-8")
        assert len(path) <= 255 and CUT.search(text)
        assert re.fullmatch(r"([^%]|%[0-9A-F]{2})*", text)


def test_long_names_that_share_their_beginning_stay_apart(mount):
    names = ["y" * 300 + str(i) for i in range(20)] + ["y" * 300]
    check_each(mount(model_of(*names)), names)


def test_a_name_cannot_pretend_to_be_a_cut_one(mount, tmp_path):
    long = "k" * 300
    mounted = mount(model_of(long))
    (cut,) = paths(mounted)
    mounted.stop()
    names = [long, os.fsdecode(cut)]
    check_each(mount(model_of(*names)), names)


def test_long_directory_names_are_cut_too(mount):
    names = ["d" * 300 + ".a", "d" * 300 + ".b", "e" * 400 + "." + "f" * 400]
    check_each(mount(model_of(*names)), names)


def test_a_path_longer_than_path_max_can_be_walked(mount):
    name = ".".join(["component" * 20] * 40)
    mounted = mount(model_of(name))
    folder = os.open(mounted / "tensors", os.O_RDONLY)
    for _ in range(39):
        (entry,) = os.listdir(folder)
        deeper = os.open(entry, os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = deeper
    (entry,) = os.listdir(folder)
    fd = os.open(entry, os.O_RDONLY, dir_fd=folder)
    assert os.read(fd, 10) == b"\0"
    os.close(fd)
    os.close(folder)


# ---- directories ----


def test_the_root_holds_what_the_contract_says(mount):
    mounted = mount(model_of("a.b"))
    assert sorted(os.listdir(mounted.path)) == sorted([
        "model.json", "metadata.json", "tensors", "npy", "safetensors", "flat", "files",
        ".weightfs"])
    assert sorted(os.listdir(mounted / "flat")) == ["npy", "safetensors", "tensors"]
    assert {"socket", "stats.json", "metrics"} <= set(os.listdir(mounted / ".weightfs"))


def test_an_empty_model_has_empty_views(mount):
    mounted = mount(writers.safetensors_raw("{}"))
    assert mounted.model()["tensors"] == []
    assert paths(mounted) == paths(mounted, "npy") == paths(mounted, "flat") == []


def test_dot_and_dot_dot_and_types_come_with_readdir(mount):
    mounted = mount(model_of("a.b", "c"))
    listing = subprocess.run(["ls", "-laU", mounted / "tensors"], capture_output=True, text=True,
                             check=True).stdout
    assert re.search(r" \.$", listing, re.M) and re.search(r" \.\.$", listing, re.M)
    kinds = {e.name: e.is_dir(follow_symlinks=False) for e in os.scandir(mounted / "tensors")}
    assert kinds == {"a": True, "c": False}
    for entry in os.scandir(mounted / "tensors"):
        assert entry.inode() == os.stat(entry.path).st_ino


def test_modes_owner_and_mtime(mount, tmp_path):
    source = tmp_path / "m.safetensors"
    source.write_bytes(model_of("a.b"))
    os.utime(source, ns=(1_600_000_000_123456789, 1_600_000_000_123456789))
    mounted = mount(source)
    for folder, _, files in os.walk(mounted.path):
        info = os.stat(folder)
        assert stat.S_IMODE(info.st_mode) == 0o555, folder
        assert (info.st_uid, info.st_gid) == (os.getuid(), os.getgid())
        for name in files:
            info = os.lstat(os.path.join(folder, name))
            if stat.S_ISREG(info.st_mode):
                assert stat.S_IMODE(info.st_mode) == 0o444, name
            assert (info.st_uid, info.st_gid) == (os.getuid(), os.getgid())
    for path in ("tensors/a/b", "npy/a/b.npy", "flat/tensors/a.b", "files/m.safetensors"):
        assert os.stat(mounted / path).st_mtime_ns == 1_600_000_000_123456789, path


def test_uid_and_gid_options_are_shown(mount):
    mounted = mount(model_of("a"), "uid=1234", "gid=4321")
    info = os.stat(mounted / "tensors/a")
    assert (info.st_uid, info.st_gid) == (1234, 4321)


def test_directory_links_count_their_directories(mount):
    mounted = mount(model_of("a.b.c", "a.d.e", "a.f"))
    for folder, folders, _ in os.walk(mounted / "tensors"):
        links = os.stat(folder).st_nlink
        assert links in (1, 2 + len(folders)), folder


def test_dot_dot_leads_up(mount):
    mounted = mount(model_of("a.b.c"))
    top = os.stat(mounted / "tensors").st_ino
    assert os.stat(mounted / "tensors/a/b/../..").st_ino == top
    assert os.stat(mounted / "tensors/a/b").st_ino == os.stat(mounted / "tensors/a/b/.").st_ino


def test_missing_names_do_not_exist(mount):
    mounted = mount(model_of("a.b", "c"))
    for path in ("x", "tensors/x", "tensors/a/x", "tensors/a.b", "tensors/c.npy", "npy/c",
                 "flat/tensors/a", "flat/a.b", "files/x", "tensors/%self", "tensors/a/%self",
                 "tensors/" + "n" * 255):
        with pytest.raises(FileNotFoundError):
            os.stat(mounted / path)
    with pytest.raises(NotADirectoryError):
        os.stat(mounted / "tensors/c/x")
    with pytest.raises(OSError, match="too long"):
        os.stat(mounted / "tensors" / ("n" * 256))


def test_du_counts_the_bytes_once(mount):
    data = bytes(1 << 20)
    mounted = mount(writers.safetensors([("a", "U8", [1 << 20], data),
                                         ("b.c", "U8", [1 << 20], data)]))
    out = subprocess.run(["du", "-s", "-B1", mounted.path], capture_output=True, text=True,
                         check=True).stdout
    used = int(out.split()[0])
    assert 2 << 20 <= used < (2 << 20) + (1 << 18)
    sizes = subprocess.run(["du", "-sb", mounted / "tensors"], capture_output=True, text=True,
                           check=True).stdout
    assert int(sizes.split()[0]) >= 2 << 20


def test_documents_have_blocks(mount):
    """tar --sparse writes nothing but zeros of a file that has none."""
    mounted = mount(model_of("a"))
    for name in ("model.json", "metadata.json", ".weightfs/stats.json", ".weightfs/metrics"):
        found = os.stat(mounted / name)
        assert found.st_size <= 512 * found.st_blocks < found.st_size + 512, name
    archive = subprocess.run(["tar", "-cSf", "-", "-C", mounted.path, "model.json"],
                             capture_output=True, check=True).stdout
    unpacked = subprocess.run(["tar", "-xOf", "-"], input=archive, capture_output=True,
                              check=True).stdout
    assert unpacked == (mounted / "model.json").read_bytes()


def test_find_counts_every_tensor(mount):
    names = [f"layer.{i}.part.{j}" for i in range(50) for j in range(20)]
    mounted = mount(model_of(*names))
    for view in ("tensors", "npy", "safetensors", "flat/tensors"):
        out = subprocess.run(["find", mounted / view, "-type", "f"], capture_output=True,
                             check=True).stdout
        assert out.count(b"\n") == 1000, view


# ---- readdir that stops and goes on ----


class Directory:
    """opendir(3) and friends: Python has no telldir."""

    class Entry(ctypes.Structure):
        _fields_ = [("ino", ctypes.c_uint64), ("off", ctypes.c_int64),
                    ("reclen", ctypes.c_ushort), ("type", ctypes.c_ubyte),
                    ("name", ctypes.c_char * 256)]

    def __init__(self, path):
        libc = mounting.LIBC
        libc.opendir.restype = ctypes.c_void_p
        libc.readdir.restype = ctypes.POINTER(self.Entry)
        libc.telldir.restype = ctypes.c_long
        self.stream = ctypes.c_void_p(libc.opendir(os.fsencode(str(path))))
        assert self.stream.value

    def next(self):
        entry = mounting.LIBC.readdir(self.stream)
        return entry.contents.name if entry else None

    def rest(self):
        return list(iter(self.next, None))

    def tell(self):
        return mounting.LIBC.telldir(self.stream)

    def seek(self, position):
        mounting.LIBC.seekdir(self.stream, ctypes.c_long(position))

    def rewind(self):
        mounting.LIBC.rewinddir(self.stream)

    def close(self):
        mounting.LIBC.closedir(self.stream)


@pytest.fixture
def wide(mount):
    return mount(model_of(*[f"tensor-{i:05d}" for i in range(5000)]))


@pytest.mark.parametrize("folder", ["tensors", "flat/npy"])
def test_seekdir_goes_on_at_any_entry(wide, folder):
    directory = Directory(wide / folder)
    marks = []
    names = []
    while True:
        marks.append(directory.tell())
        name = directory.next()
        if name is None:
            break
        names.append(name)
    assert len(names) == len(set(names)) == 5002
    for i in (0, 1, 2, 3, 77, 2500, 4999, 5001, 5002):
        directory.seek(marks[i])
        assert directory.rest() == names[i:], i
    directory.rewind()
    assert directory.rest() == names
    directory.close()


def test_two_readers_do_not_disturb_each_other(wide):
    one, two = Directory(wide / "tensors"), Directory(wide / "tensors")
    first = [one.next() for _ in range(1000)]
    assert [two.next() for _ in range(1000)] == first
    assert one.rest() == two.rest()
    one.close()
    two.close()


def test_listing_is_the_same_the_second_time(wide):
    first = os.listdir(wide / "tensors")
    assert os.listdir(wide / "tensors") == first
    assert len(first) == 5000


def test_a_directory_of_more_than_100000_entries_is_complete(mount):
    count = 5_000 if mounting.SANITIZED else 120_000
    names = [f"w{i:06d}" for i in range(count)]
    header = "{" + ",".join(
        f'"{n}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}' for n in names) + "}"
    mounted = mount(writers.safetensors_raw(header))
    for view, suffix in (("tensors", ""), ("flat/npy", ".npy")):
        assert sorted(os.listdir(mounted / view)) == [n + suffix for n in names]
    out = subprocess.run(f"ls -U '{mounted / 'flat/tensors'}' | wc -l", shell=True,
                         capture_output=True, text=True, check=True).stdout
    assert int(out) == count
