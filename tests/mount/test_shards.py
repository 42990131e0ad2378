"""Models in several files, written by the real libraries, are one tree with their bytes."""
import errno
import filecmp
import json
import os
import shutil
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader
from safetensors import safe_open
from safetensors.numpy import load_file

import mounting
import shards
import volumes
import writers

MIB = 1 << 20


@pytest.fixture(scope="module")
def minilm_folder(minilm, tmp_path_factory):
    """all-MiniLM-L6-v2 in shards of 20 MB, with its other files."""
    folder = tmp_path_factory.mktemp("minilm") / "minilm"
    names = shards.save_sharded(folder, load_file(minilm / "model.safetensors"), 20 * MIB)
    assert len(names) > 3
    shutil.copy(minilm / "config.json", folder)
    return folder


@pytest.fixture(scope="module")
def minilm_snapshot(minilm_folder, tmp_path_factory):
    cache = tmp_path_factory.mktemp("hub", numbered=True)
    return shards.hub_snapshot(cache, minilm_folder, "sentence-transformers/all-MiniLM-L6-v2")


SOURCES = {
    "index": lambda folder, snapshot: folder / shards.INDEX,
    "directory": lambda folder, snapshot: folder,
    "snapshot": lambda folder, snapshot: snapshot,
    "index in a snapshot": lambda folder, snapshot: snapshot / shards.INDEX,
}


@pytest.fixture(params=SOURCES.values(), ids=SOURCES.keys())
def minilm_source(request, minilm_folder, minilm_snapshot):
    return request.param(minilm_folder, minilm_snapshot)


def mountctl(*args):
    return subprocess.run([mounting.BIN / "mountctl", *map(str, args)], capture_output=True,
                          text=True)


def mountctl_json(*args):
    done = mountctl("--json", *args)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def refused(tmp_path, source):
    """The one line that mounting is refused with."""
    mnt = tmp_path / "refused"
    mnt.mkdir(exist_ok=True)
    done = mounting.run_weightfs(source, mnt)
    assert done.returncode == 1 and not mounting.is_mounted(mnt)
    (line,) = done.stderr.splitlines()
    assert line.isprintable()
    return line


# ---- shards of safetensors ----


def test_every_view_of_a_sharded_model_has_the_librarys_arrays(mount, minilm_source,
                                                               minilm_folder):
    mounted = mount(minilm_source)
    expected = shards.load_sharded(minilm_folder)
    entries = mounted.tensors()
    assert entries.keys() == expected.keys()
    for name, array in expected.items():
        path = entries[name]["path"]
        assert (mounted / "tensors" / path).read_bytes() == array.tobytes()
        mapped = np.load(mounted / "npy" / f"{path}.npy", mmap_mode="r")
        assert mapped.dtype == array.dtype and np.array_equal(mapped, array)
        with safe_open(mounted / "safetensors" / f"{path}.safetensors", "np") as single:
            assert list(single.keys()) == [name]
            assert np.array_equal(single.get_tensor(name), array)


def test_each_tensor_knows_its_file(mount, minilm_source, minilm_folder):
    mounted = mount(minilm_source)
    weight_map = json.loads((minilm_folder / shards.INDEX).read_text())["weight_map"]
    for name, entry in mounted.tensors().items():
        assert entry["file"] == weight_map[name]
        path = mounted / "tensors" / entry["path"]
        source = os.fsdecode(os.getxattr(path, "user.weightfs.file"))
        assert os.path.samefile(source, minilm_folder / weight_map[name])
        assert int(os.getxattr(path, "user.weightfs.offset")) == entry["offset"]
        with open(source, "rb") as file:
            file.seek(entry["offset"])
            assert file.read(entry["nbytes"]) == path.read_bytes()


def test_files_has_all_shards_as_they_are(mount, minilm_source, minilm_folder):
    mounted = mount(minilm_source)
    names = set(os.listdir(mounted / "files"))
    wanted = set(os.listdir(minilm_folder))
    assert names == (wanted - {"config.json"} if minilm_source.name == shards.INDEX else wanted)
    for name in names:
        assert filecmp.cmp(mounted / "files" / name, minilm_folder / name, shallow=False)


def test_a_loader_reads_the_mounted_files_like_the_originals(mount, minilm_source,
                                                             minilm_folder):
    mounted = mount(minilm_source)
    expected = shards.load_sharded(minilm_folder)
    loaded = shards.load_sharded(mounted / "files")
    assert loaded.keys() == expected.keys()
    assert all(np.array_equal(loaded[name], expected[name]) for name in expected)


def test_status_lists_all_shards(mount, minilm_folder):
    mounted = mount(minilm_folder / shards.INDEX)
    names = sorted(p.name for p in minilm_folder.glob("*.safetensors"))
    assert mounting.status(mounted)["shards"] == [
        {"name": name, "size": (minilm_folder / name).stat().st_size, "state": "ok"}
        for name in names]


def test_status_lists_only_the_files_of_a_large_model_that_changed(mount, tmp_path):
    folder = tmp_path / "m"
    tensors = {f"t.{i:02}": np.full(10, i, np.uint8) for i in range(12)}
    names = shards.save_sharded(folder, tensors, 10)
    mounted = mount(folder)
    shown = mountctl("status", mounted.path).stdout
    assert "files        12\n" in shown and names[0] not in shown
    with open(folder / names[3], "ab") as file:
        file.write(b"!")
    assert mounting.wait_for(lambda: f"{names[3]}, " in mountctl("status", mounted.path).stdout)
    assert names[4] not in mountctl("status", mounted.path).stdout


def test_ls_and_status_name_the_model(mount, minilm_snapshot):
    mounted = mount(minilm_snapshot)
    assert mounted.model()["name"] == "sentence-transformers/all-MiniLM-L6-v2"
    listed = {t["name"]: t["file"] for t in mountctl_json("ls", mounted.path)}
    assert listed == {name: t["file"] for name, t in mounted.tensors().items()}


def test_info_describes_it_without_a_mount(minilm_source, minilm_folder):
    described = mountctl_json("info", minilm_source)
    assert described["warnings"] == []
    assert described["metadata"] == {"format": "pt"}
    assert described["model"]["tensor_count"] == len(shards.load_sharded(minilm_folder))
    shown = mountctl("info", minilm_source)
    assert shown.returncode == 0 and "safetensors" in shown.stdout
    shards_used = {tensor["file"] for tensor in described["model"]["tensors"]}
    assert len(shards_used) > 1 and f"\nfiles    {len(shards_used)}\n" in shown.stdout


@pytest.mark.parametrize("backing", ["resident", "stream"])
def test_tensors_of_all_shards_in_each_backing(mount, minilm_folder, backing):
    mounted = mount(minilm_folder, f"backing={backing}")
    entries = mounted.tensors()
    large = {name: array for name, array in shards.load_sharded(minilm_folder).items()
             if array.nbytes >= MIB}
    assert len({entries[name]["file"] for name in large}) > 3
    for name, array in large.items():
        assert (mounted / "tensors" / entries[name]["path"]).read_bytes() == array.tobytes()


def test_clones_of_tensors_in_all_shards(mount, tmp_path):
    tensors = {f"t.{i}": np.random.default_rng(i).integers(0, 256, 3 * MIB + i, np.uint8)
               for i in range(6)}
    try:
        with volumes.Xfs(tmp_path, 400 * MIB) as xfs:
            folder = xfs.path / "m"
            assert len(shards.save_sharded(folder, tensors, 7 * MIB)) == 3
            mounted = mount(folder, "backing=clone")
            try:
                for name, array in tensors.items():
                    path = mounted.tensor(name, "npy")
                    assert np.array_equal(np.load(path), array)
                    if mounting.status(mounted)["passthrough"]["available"]:
                        assert mounting.backing(path) == "clone"
            finally:
                mounted.stop()
    except volumes.Xfs.Unavailable as error:
        pytest.skip(str(error))


# diffusers and transformers have put the variant into different places.
NAMES = [
    ("diffusion_pytorch_model", "diffusion_pytorch_model.safetensors.index.json"),
    ("diffusion_pytorch_model.fp16", "diffusion_pytorch_model.fp16.safetensors.index.json"),
    ("model.fp16", "model.safetensors.index.fp16.json"),
]


@pytest.mark.parametrize("stem, index", NAMES, ids=[index for _, index in NAMES])
def test_variants_of_the_index(mount, tmp_path, stem, index):
    tensors = {f"down.{i}.weight": np.arange(100 + i, dtype=np.float16) for i in range(6)}
    names = shards.save_sharded(tmp_path / "unet", tensors, 450, stem, index)
    assert len(names) == 3
    for source in (tmp_path / "unet", tmp_path / "unet" / index):
        mounted = mount(source)
        for name, array in tensors.items():
            assert np.array_equal(np.load(mounted.tensor(name, "npy")), array)
        assert {t["file"] for t in mounted.tensors().values()} == set(names)


# ---- split GGUF ----


@pytest.fixture(scope="module", params=[False, True], ids=["", "no tensors in the first"])
def split(request, smollm2, tmp_path_factory):
    """SmolLM2 split by the gguf library, 100 tensors each. The paths."""
    parts = shards.split_gguf(smollm2, tmp_path_factory.mktemp("split") / "smollm2", 100,
                              request.param)
    assert len(parts) > 2
    return parts


@pytest.fixture(params=["first", "directory"])
def split_source(request, split):
    return split[0] if request.param == "first" else split[0].parent


def test_every_view_of_a_split_gguf_has_the_librarys_bytes(mount, split, split_source):
    mounted = mount(split_source)
    entries = mounted.tensors()
    seen = 0
    for part in split:
        for tensor in GGUFReader(part).tensors:
            entry = entries[tensor.name]
            seen += 1
            assert entry["file"] == part.name
            assert entry["offset"] == tensor.data_offset
            assert entry["dtype"] == tensor.tensor_type.name
            assert entry["shape"] == [int(d) for d in reversed(tensor.shape)]
            path = entry["path"]
            assert (mounted / "tensors" / path).read_bytes() == tensor.data.tobytes()
            loaded = np.load(mounted / "npy" / f"{path}.npy", mmap_mode="r")
            assert np.array_equal(loaded, tensor.data)
            with safe_open(mounted / "safetensors" / f"{path}.safetensors", "np") as single:
                assert single.get_tensor(tensor.name).tobytes() == tensor.data.tobytes()
    assert seen == len(entries)


def test_a_split_model_is_the_whole_one(mount, smollm2, split):
    whole = {t.name: t.data.tobytes() for t in GGUFReader(smollm2).tensors}
    mounted = mount(split[0])
    entries = mounted.tensors()
    assert entries.keys() == whole.keys()
    for name in list(whole)[::7]:
        assert (mounted / "tensors" / entries[name]["path"]).read_bytes() == whole[name]


def test_metadata_is_that_of_the_first_split(mount, split, split_source):
    mounted = mount(split_source)
    metadata = json.loads((mounted / "metadata.json").read_bytes())
    assert metadata["general.architecture"] == "llama"
    assert len(metadata["tokenizer.ggml.tokens"]) > 40_000
    assert metadata["split.no"] == 0
    assert metadata["split.count"] == len(split)
    assert metadata["split.tensors.count"] == mounted.model()["tensor_count"]


def test_files_and_names_of_a_split_model(mount, split):
    mounted = mount(split[0])
    assert mounted.model()["name"] == "model"
    assert sorted(os.listdir(mounted / "files")) == [p.name for p in split]
    assert all(filecmp.cmp(mounted / "files" / p.name, p, shallow=False) for p in split)
    assert mountctl_json("info", split[0])["model"]["tensor_count"] == \
        mounted.model()["tensor_count"]


def test_a_later_split_is_refused_with_the_first(tmp_path, split):
    line = refused(tmp_path, split[1])
    assert line == (f"weightfs: {split[1]}: is file 2 of {len(split)} of a model: name the first "
                    f"of them, '{split[0].name}'")
    assert mountctl("info", split[1]).returncode == 1


def test_a_split_that_is_missing_is_named(tmp_path, split):
    for part in (split[0], *split[2:]):
        os.link(part, tmp_path / part.name)
    line = refused(tmp_path, tmp_path / split[0].name)
    assert line.endswith(f": shard '{split[1].name}': open: no such file or directory")


# ---- directories, refusals ----


def small(name, data):
    return writers.safetensors([(name, "U8", [len(data)], data)])


def test_shards_without_an_index_are_served_with_a_warning(mount, tmp_path):
    folder = tmp_path / "m"
    tensors = {f"t.{i}": np.full(100, i, np.uint8) for i in range(4)}
    names = shards.save_sharded(folder, tensors, 100)
    (folder / shards.INDEX).unlink()
    mounted = mount(folder)
    assert all(mounted.tensor(name).read_bytes() == tensors[name].tobytes() for name in tensors)
    (warning,) = mountctl_json("info", folder)["warnings"]
    assert warning.startswith(f"no index names the {len(names)} files")
    # One of them alone is that one.
    assert mount(folder / names[2]).model()["tensor_count"] == 1


def test_a_consolidated_file_beside_an_index_is_not_shown(mount, tmp_path):
    folder = tmp_path / "m"
    shards.save_sharded(folder, {f"t.{i}": np.full(100, i, np.uint8) for i in range(4)}, 200)
    (folder / "consolidated.safetensors").write_bytes(small("other", b"x"))
    assert "other" not in mount(folder).tensors()
    (warning,) = mountctl_json("info", folder)["warnings"]
    assert "'consolidated.safetensors': another model" in warning
    assert list(mount(folder / "consolidated.safetensors").tensors()) == ["other"]


SECRET = b"what is outside stays outside"
BAD_FILES = {
    "absolute": ("{outside}/secret", "is an absolute path"),
    "climbs": ("../secret", "its file '../secret' has '', '.' or '..' in its path"),
    "climbs inside": ("sub/../../secret", "'', '.' or '..' in its path"),
    "empty": ("", "its file has an empty name"),
    "dot": (".", "'', '.' or '..' in its path"),
    "nul": ("x\0y", r"its file 'x\x00y' has a NUL in its name"),
    "long": ("x" * 4097, "its file's name has 4097 bytes"),
    "too long for the file system": ("x" * 300, "open: file name too long"),
    "a link that leads out": ("link", "is a link that leads out of the model's directory"),
    "a directory that leads out": ("dir/secret", "is a link that leads out"),
    "itself": (shards.INDEX, "is the index itself"),
    "itself by a link": ("self", "is the index itself"),
    "a pipe": ("pipe", "not a regular file"),
    "a directory": ("sub", "not a regular file"),
    "a device": ("null", "not a regular file"),
    "missing": ("missing", "open: no such file or directory"),
    "no string": (1, "expected a string"),
}


@pytest.mark.parametrize("file, words", BAD_FILES.values(), ids=BAD_FILES.keys())
def test_what_an_index_may_not_name(tmp_path, file, words):
    folder = tmp_path / "m"
    (folder / "sub").mkdir(parents=True)
    (tmp_path / "secret").write_bytes(small("t", SECRET))
    (folder / "link").symlink_to("../secret")
    (folder / "dir").symlink_to("..")
    (folder / "self").symlink_to(shards.INDEX)
    (folder / "null").symlink_to("/dev/null")
    os.mkfifo(folder / "pipe")
    if isinstance(file, str):
        file = file.format(outside=tmp_path)
    shards.write_index(folder / shards.INDEX, {"t": file})
    for source in (folder, folder / shards.INDEX):
        line = refused(tmp_path, source)
        assert line.startswith(f"weightfs: {folder / shards.INDEX}: ") and "'t'" in line
        assert words in line, line
        assert SECRET.decode() not in line


def test_a_snapshot_does_not_reach_other_repositories(mount, tmp_path):
    folder = tmp_path / "m"
    shards.save_sharded(folder, {"a": np.zeros(9, np.uint8), "b": np.ones(9, np.uint8)}, 9)
    snapshot = shards.hub_snapshot(tmp_path / "hub", folder)
    assert mount(snapshot).model()["tensor_count"] == 2
    other = tmp_path / "hub" / "models--other--model" / "blobs"
    other.mkdir(parents=True)
    name = "model-00002-of-00002.safetensors"
    (snapshot / name).resolve().rename(other / "blob")
    (snapshot / name).unlink()
    (snapshot / name).symlink_to(other / "blob")
    line = refused(tmp_path, snapshot)
    assert f"shard '{name}', named for tensor 'b': is a link that leads out" in line


def test_an_index_of_a_million_tensors_is_read_in_seconds(tmp_path):
    folder = tmp_path / "m"
    folder.mkdir()
    (folder / shards.INDEX).write_text(json.dumps(
        {"weight_map": {f"model.layers.{i}.weight": "x" for i in range(1_000_000)}}))
    assert "'x', named for tensor 'model.layers.0.weight': open: " in \
        refused(tmp_path, folder / shards.INDEX)


def limit_open_files(monkeypatch, most):
    """From here on daemons start with this hard limit."""
    def run(*args, timeout=mounting.START_S):
        return subprocess.run(["prlimit", f"--nofile={most}:{most}", mounting.WEIGHTFS,
                               *map(str, args)], stdin=subprocess.DEVNULL, capture_output=True,
                              text=True, timeout=timeout)

    monkeypatch.setattr(mounting, "run_weightfs", run)


@pytest.fixture
def many_files(tmp_path):
    folder = tmp_path / "m"
    tensors = {f"t.{i:03}": np.full(200_000, i % 251, np.uint8) for i in range(300)}
    assert len(shards.save_sharded(folder, tensors, 200_000)) == 300
    return folder, tensors


def test_more_files_than_half_of_the_limit_are_mounted(mount, monkeypatch, many_files):
    folder, tensors = many_files
    limit_open_files(monkeypatch, 450)
    mounted = mount(folder)
    assert all(mounted.tensor(n).read_bytes() == a.tobytes() for n, a in tensors.items())


@pytest.mark.parametrize("most", [250, 315])
def test_a_limit_of_open_files_that_is_too_low_has_words(tmp_path, monkeypatch, many_files,
                                                         most):
    limit_open_files(monkeypatch, most)
    mnt = tmp_path / "refused"
    mnt.mkdir()
    done = mounting.run_weightfs(many_files[0], mnt)
    assert done.returncode == 1 and not mounting.is_mounted(mnt)
    assert done.stderr.endswith("too many open files\n")


def make_deep(folder, length):
    """Directories below each other whose path has more bytes than that; the last one."""
    fd = os.open(folder, os.O_RDONLY)
    while length > 0:
        name = "d" * min(200, length)
        os.mkdir(name, dir_fd=fd)
        below = os.open(name, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd, length = below, length - len(name) - 1
    return fd


def test_a_file_whose_path_is_too_long_is_left_out(mount, tmp_path):
    folder = tmp_path / "m"
    tensors = {"a": np.full(4, 1, np.uint8)}
    while len(str(folder)) < 3300:
        folder /= "m" * 200
    names = shards.save_sharded(folder, tensors, MIB)
    fd = make_deep(folder, 1000)
    os.close(os.open("x", os.O_WRONLY | os.O_CREAT, dir_fd=fd))
    os.close(fd)
    mounted = mount(folder)
    assert mounted.tensor("a").read_bytes() == tensors["a"].tobytes()
    assert sorted(os.listdir(mounted / "files")) == sorted([*names, shards.INDEX])
    shutil.rmtree(tmp_path / "m")


# ---- changes ----


def read_uncached(path):
    try:
        with open(path, "rb", buffering=0) as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            return file.read()
    except OSError as error:
        return error.errno


@pytest.mark.parametrize("change", ["append", "truncate", "overwrite"])
def test_a_changed_shard_takes_only_its_own_tensors_away(mount, tmp_path, change):
    folder = tmp_path / "m"
    tensors = {f"t.{i}": np.random.default_rng(i).integers(0, 256, MIB, np.uint8)
               for i in range(6)}
    names = shards.save_sharded(folder, tensors, 2 * MIB)
    mounted = mount(folder / shards.INDEX)
    entries = mounted.tensors()
    assert len(names) == 3 and all(
        mounted.tensor(name).read_bytes() == tensors[name].tobytes() for name in tensors)
    with open(folder / names[1], "r+b") as file:
        if change == "truncate":
            file.truncate(100)
        else:
            file.seek(-1 if change == "overwrite" else 0, os.SEEK_END)
            file.write(b"!")
    gone = [n for n, e in entries.items() if e["file"] == names[1]]
    assert len(gone) == 2
    assert mounting.wait_for(lambda: all(
        read_uncached(mounted / "tensors" / entries[n]["path"]) in (errno.EIO, errno.ESTALE)
        for n in gone))
    for name in tensors.keys() - set(gone):
        assert read_uncached(mounted / "tensors" / entries[name]["path"]) == \
            tensors[name].tobytes()
    assert [s["state"] for s in mounting.status(mounted)["shards"]] == ["ok", "changed", "ok"]
    assert mounting.is_running(mounted.pid)


def test_a_changed_index_takes_no_tensor_away(mount, tmp_path):
    folder = tmp_path / "m"
    tensors = {f"t.{i}": np.full(MIB, i, np.uint8) for i in range(2)}
    shards.save_sharded(folder, tensors, MIB)
    mounted = mount(folder / shards.INDEX)
    with open(folder / shards.INDEX, "a") as file:
        file.write(" ")
    assert mounting.wait_for(
        lambda: read_uncached(mounted / "files" / shards.INDEX) in (errno.EIO, errno.ESTALE))
    assert all(read_uncached(mounted.tensor(name)) == tensors[name].tobytes() for name in tensors)


def queue_events(paths, count):
    """Changes that the kernel cannot tell as one, because they alternate."""
    files = [open(path, "wb", buffering=0) for path in paths]
    for _ in range(count):
        for file in files:
            os.pwrite(file.fileno(), b"x", 0)
    for file in files:
        file.close()


def test_a_change_is_noticed_when_events_of_other_files_fill_the_queue(mount, tmp_path):
    folder = tmp_path / "m"
    tensors = {f"t.{i}": np.full(MIB, i, np.uint8) for i in range(2)}
    names = shards.save_sharded(folder, tensors, MIB)
    logs = [folder / "train.log", folder / "eval.log"]
    for path in logs:
        path.write_text("")
    mounted = mount(folder, "backing=stream")
    most = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    with open(mounted.tensor("t.0"), "rb", buffering=0) as file:
        assert file.read() == tensors["t.0"].tobytes()
        os.kill(mounted.pid, signal.SIGSTOP)
        try:
            queue_events(logs, most)
            with open(folder / names[0], "r+b") as shard:
                shard.seek(-1, os.SEEK_END)
                shard.write(b"!")
        finally:
            os.kill(mounted.pid, signal.SIGCONT)

        def read():
            """Without a request where the kernel has the pages."""
            try:
                return os.pread(file.fileno(), 4096, 0)
            except OSError as error:
                return error.errno

        assert mounting.wait_for(lambda: read() == errno.EIO)
    assert mounted.tensor("t.1").read_bytes() == tensors["t.1"].tobytes()
