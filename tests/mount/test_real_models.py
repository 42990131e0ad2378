"""Every tensor of two real models is what the reference libraries return, in every view."""
import filecmp
import os
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader
from safetensors import deserialize, safe_open


@pytest.fixture
def minilm_mount(mount, minilm):
    return mount(minilm)


@pytest.fixture
def smollm2_mount(mount, smollm2):
    return mount(smollm2)


def library_safetensors(path):
    """name -> (dtype, shape, bytes) as the safetensors library reads the file."""
    return {name: (info["dtype"], info["shape"], bytes(info["data"]))
            for name, info in deserialize(Path(path).read_bytes())}


def library_gguf(path):
    """name -> (type, shape, bytes, array) as the gguf library reads the file."""
    return {t.name: (t.tensor_type.name, [int(d) for d in reversed(t.shape)],
                     t.data.tobytes(), t.data)
            for t in GGUFReader(path).tensors}


def read(mounted, view, entry):
    suffix = "" if view == "tensors" else f".{view}"
    return (mounted / view / (entry["path"] + suffix))


# ---- all-MiniLM-L6-v2, safetensors in a directory ----


def test_model_json_describes_every_safetensors_tensor(minilm_mount, minilm):
    reference = library_safetensors(minilm / "model.safetensors")
    model = minilm_mount.model()
    assert model["weightfs"] == 1
    assert model["format"] == "safetensors"
    assert model["tensor_count"] == len(reference) == len(model["tensors"])
    assert model["total_bytes"] == sum(len(data) for _, _, data in reference.values())
    assert model["skipped"] == []
    source = (minilm / "model.safetensors").read_bytes()
    for entry in model["tensors"]:
        dtype, shape, data = reference[entry["name"]]
        assert (entry["dtype"], entry["shape"], entry["nbytes"]) == (dtype, shape, len(data))
        assert entry["file"] == "model.safetensors"
        assert source[entry["offset"]:entry["offset"] + entry["nbytes"]] == data


def test_safetensors_tensors_are_the_librarys_bytes(minilm_mount, minilm):
    reference = library_safetensors(minilm / "model.safetensors")
    for name, entry in minilm_mount.tensors().items():
        assert read(minilm_mount, "tensors", entry).read_bytes() == reference[name][2], name


@pytest.mark.parametrize("mmap_mode", [None, "r"])
def test_numpy_loads_every_safetensors_tensor(minilm_mount, minilm, mmap_mode):
    with safe_open(minilm / "model.safetensors", "np") as reference:
        for name, entry in minilm_mount.tensors().items():
            array = np.load(read(minilm_mount, "npy", entry), mmap_mode=mmap_mode)
            expected = reference.get_tensor(name)
            assert array.dtype == expected.dtype and array.shape == expected.shape, name
            assert array.tobytes() == expected.tobytes(), name


def test_safe_open_reads_every_tensor_of_the_safetensors_view(minilm_mount, minilm):
    with safe_open(minilm / "model.safetensors", "np") as reference:
        for name, entry in minilm_mount.tensors().items():
            with safe_open(read(minilm_mount, "safetensors", entry), "np") as one:
                assert list(one.keys()) == [name]
                assert one.get_tensor(name).tobytes() == reference.get_tensor(name).tobytes()


def test_flat_holds_the_same_inodes(minilm_mount):
    for name, entry in minilm_mount.tensors().items():
        for view, suffix in (("tensors", ""), ("npy", ".npy"), ("safetensors", ".safetensors")):
            deep = os.stat(minilm_mount / view / (entry["path"] + suffix))
            flat = os.stat(minilm_mount / "flat" / view / (name + suffix))
            assert (deep.st_ino, deep.st_size) == (flat.st_ino, flat.st_size), name
            assert deep.st_nlink == flat.st_nlink == 2


def test_files_are_the_originals_byte_for_byte(minilm_mount, minilm):
    originals = sorted(p.relative_to(minilm) for p in minilm.rglob("*") if p.is_file())
    shown = sorted(p.relative_to(minilm_mount / "files")
                   for p in (minilm_mount / "files").rglob("*") if p.is_file())
    assert Path("1_Pooling/config.json") in shown
    assert shown == originals
    for name in originals:
        assert filecmp.cmp(minilm / name, minilm_mount / "files" / name, shallow=False), name


def test_safetensors_metadata_is_shown(minilm_mount):
    metadata = (minilm_mount / "metadata.json").read_text()
    assert '"format"' in metadata and '"pt"' in metadata


# ---- SmolLM2-135M-Instruct, GGUF with quantised tensors ----


def test_model_json_describes_every_gguf_tensor(smollm2_mount, smollm2):
    reference = library_gguf(smollm2)
    model = smollm2_mount.model()
    assert model["format"] == "gguf"
    assert model["tensor_count"] == len(reference) == len(model["tensors"])
    assert model["total_bytes"] == sum(len(data) for _, _, data, _ in reference.values())
    for entry in model["tensors"]:
        kind, shape, data, _ = reference[entry["name"]]
        assert (entry["dtype"], entry["shape"], entry["nbytes"]) == (kind, shape, len(data))
        assert entry["file"] == smollm2.name


def test_gguf_tensors_are_the_librarys_bytes(smollm2_mount, smollm2):
    reference = library_gguf(smollm2)
    kinds = set()
    for name, entry in smollm2_mount.tensors().items():
        kinds.add(entry["dtype"])
        assert read(smollm2_mount, "tensors", entry).read_bytes() == reference[name][2], name
    assert "Q4_1" in kinds and "F32" in kinds


@pytest.mark.parametrize("mmap_mode", [None, "r"])
def test_numpy_loads_every_gguf_tensor(smollm2_mount, smollm2, mmap_mode):
    reference = library_gguf(smollm2)
    for name, entry in smollm2_mount.tensors().items():
        array = np.load(read(smollm2_mount, "npy", entry), mmap_mode=mmap_mode)
        _, _, data, expected = reference[name]
        # The gguf library shows block types as bytes, with the last dimension in bytes.
        assert array.dtype == expected.dtype and array.shape == expected.shape, name
        assert array.tobytes() == data, name


def test_safe_open_reads_every_gguf_tensor(smollm2_mount, smollm2):
    reference = library_gguf(smollm2)
    for name, entry in smollm2_mount.tensors().items():
        with safe_open(read(smollm2_mount, "safetensors", entry), "np") as one:
            array = one.get_tensor(name)
            assert array.shape == reference[name][3].shape, name
            assert array.tobytes() == reference[name][2], name


def test_gguf_metadata_is_what_the_library_reads(smollm2_mount, smollm2):
    import json
    metadata = json.loads((smollm2_mount / "metadata.json").read_bytes())
    fields = GGUFReader(smollm2).fields
    for key in ("general.architecture", "general.name", "llama.block_count",
                "llama.attention.layer_norm_rms_epsilon"):
        expected = fields[key].contents()
        assert metadata[key] == pytest.approx(expected), key


def test_a_single_file_is_in_files(smollm2_mount, smollm2):
    assert os.listdir(smollm2_mount / "files") == [smollm2.name]
    assert filecmp.cmp(smollm2, smollm2_mount / "files" / smollm2.name, shallow=False)
