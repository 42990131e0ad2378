"""Views with made-up headers are what numpy and safetensors expect, for every type."""
import ast
import os
import struct

import numpy as np
import pytest
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from safetensors import deserialize, safe_open

import writers

# safetensors name -> (bits, descr in a .npy header); packed types are bytes.
TYPES = {
    "BOOL": (8, "|b1"), "U8": (8, "|u1"), "I8": (8, "|i1"),
    "F8_E5M2": (8, "|u1"), "F8_E4M3": (8, "|u1"), "F8_E8M0": (8, "|u1"),
    "F8_E4M3FNUZ": (8, "|u1"), "F8_E5M2FNUZ": (8, "|u1"),
    "I16": (16, "<i2"), "U16": (16, "<u2"), "F16": (16, "<f2"), "BF16": (16, "<u2"),
    "I32": (32, "<i4"), "U32": (32, "<u4"), "F32": (32, "<f4"),
    "C64": (64, "<c8"), "F64": (64, "<f8"), "I64": (64, "<i8"), "U64": (64, "<u8"),
}
PACKED = {"F4": 4, "F6_E2M3": 6, "F6_E3M2": 6}


def content(size, seed=1):
    return np.random.default_rng(seed).integers(0, 256, size, np.uint8).tobytes()


def npy_header(data):
    """(header length with magic, dict) of a version 1.0 file."""
    assert data[:8] == b"\x93NUMPY\x01\x00"
    (length,) = struct.unpack("<H", data[8:10])
    text = data[10:10 + length].decode("ascii")
    assert text.endswith("\n")
    return 10 + length, ast.literal_eval(text)


def read_npy(mounted, name):
    data = mounted.tensor(name, "npy").read_bytes()
    return data, *npy_header(data)


# ---- .npy ----


@pytest.mark.parametrize("dtype", TYPES)
def test_npy_of_each_plain_type(mount, dtype):
    bits, descr = TYPES[dtype]
    raw = content(6 * bits // 8) if dtype != "BOOL" else b"\0\1\1\0\1\0"
    mounted = mount(writers.safetensors([("t", dtype, [2, 3], raw)]))
    data, length, header = read_npy(mounted, "t")
    assert header == {"descr": descr, "fortran_order": False, "shape": (2, 3)}
    assert data[length:] == raw
    for mode in (None, "r"):
        array = np.load(mounted.tensor("t", "npy"), mmap_mode=mode)
        assert array.dtype == np.dtype(descr) and array.shape == (2, 3)
        assert array.tobytes() == raw


@pytest.mark.parametrize("dtype", PACKED)
def test_npy_of_packed_types_is_bytes(mount, dtype):
    raw = content(3 * 8 * PACKED[dtype] // 8)
    mounted = mount(writers.safetensors([("t", dtype, [3, 8], raw)]))
    data, length, header = read_npy(mounted, "t")
    assert header["descr"] == "|u1"
    assert np.load(mounted.tensor("t", "npy")).size == len(raw)
    assert data[length:] == raw


def test_npy_of_packed_type_whose_rows_are_whole_bytes_keeps_its_rows(mount):
    mounted = mount(writers.safetensors([("t", "F4", [3, 8], content(12))]))
    assert np.load(mounted.tensor("t", "npy")).shape == (3, 4)


@pytest.mark.parametrize("shape", [[], [1], [12], [3, 4], [1, 1, 1, 12], [2] * 20])
def test_npy_shapes(mount, shape):
    size = int(np.prod(shape, dtype=np.int64)) * 4
    mounted = mount(writers.safetensors([("t", "F32", shape, content(size))]))
    _, _, header = read_npy(mounted, "t")
    assert header["shape"] == tuple(shape)
    array = np.load(mounted.tensor("t", "npy"), mmap_mode="r" if shape else None)
    assert array.shape == tuple(shape)


@pytest.mark.parametrize("shape", [[0], [2, 0], [0, 2 ** 40], [3, 0, 5]])
def test_empty_tensors_are_not_padded(mount, shape):
    mounted = mount(writers.safetensors([("e", "F32", shape, b""), ("t", "F32", [1], b"1234")]))
    data, length, header = read_npy(mounted, "e")
    assert length == len(data) < 1024
    assert header["shape"] == tuple(shape)
    assert np.load(mounted.tensor("e", "npy")).shape == tuple(shape)
    assert mounted.tensor("e").stat().st_size == 0
    view = mounted.tensor("e", "safetensors").read_bytes()
    assert len(view) < 1024
    assert deserialize(view)[0][1]["shape"] == shape


@pytest.mark.parametrize("pad", [0, 1, 7, 8, 63, 64, 1000, 2047, 4000, 4095])
def test_view_and_source_offsets_agree_modulo_4096(mount, pad):
    raw = content(5000)
    mounted = mount(writers.safetensors(
        [("first", "U8", [3], b"abc"), ("t", "U8", [5000], raw)], pad=pad))
    for name in ("first", "t"):
        entry = mounted.tensors()[name]
        data, length, _ = read_npy(mounted, name)
        assert length % 4096 == entry["offset"] % 4096
        assert length <= 10010
        view = mounted.tensor(name, "safetensors").read_bytes()
        begin = 8 + struct.unpack("<Q", view[:8])[0]
        assert begin % 4096 == entry["offset"] % 4096
        assert view[begin:] == data[length:] == (raw if name == "t" else b"abc")
        assert len(view) == mounted.tensor(name, "safetensors").stat().st_size
        assert len(data) == mounted.tensor(name, "npy").stat().st_size


def test_a_read_across_header_and_data_is_exact(mount):
    raw = content(100_000)
    mounted = mount(writers.safetensors([("t", "U8", [100_000], raw)], pad=5))
    for view in ("npy", "safetensors"):
        path = mounted.tensor("t", view)
        whole = path.read_bytes()
        begin = len(whole) - len(raw)
        assert whole[begin:] == raw
        fd = os.open(path, os.O_RDONLY)
        for at, size in ((0, 10), (begin - 1, 2), (begin - 5, 5), (begin, 5), (begin - 3, 9000),
                         (len(whole) - 1, 10), (len(whole), 10), (1, len(whole))):
            assert os.pread(fd, size, at) == whole[at:at + size], (view, at, size)
        os.close(fd)


# ---- .safetensors ----


@pytest.mark.parametrize("dtype", [*TYPES, *PACKED])
def test_safetensors_view_of_each_type_is_read_by_the_library(mount, dtype):
    bits = PACKED.get(dtype) or TYPES[dtype][0]
    raw = content(16 * bits // 8)
    mounted = mount(writers.safetensors([("a", "U8", [3], b"abc"), ("x.t", dtype, [2, 8], raw)]))
    ((name, info),) = deserialize(mounted.tensor("x.t", "safetensors").read_bytes())
    assert (name, info["dtype"], info["shape"]) == ("x.t", dtype, [2, 8])
    assert bytes(info["data"]) == raw


@pytest.mark.parametrize("name", ["", "..", "a\0b", "quote\"back\\slash", "\x01\n", "🙂重", "a/b",
                                  "x" * 5000])
def test_safetensors_view_keeps_any_name(mount, name):
    mounted = mount(writers.safetensors([(name, "U8", [3], b"abc")]))
    # Where a suffix makes a name too long it is cut elsewhere than in model.json.
    path = next(p for p in (mounted / "safetensors").rglob("*") if p.is_file())
    with safe_open(path, "np") as view:
        assert list(view.keys()) == [name]
        assert view.get_tensor(name).tobytes() == b"abc"


def test_safetensors_view_can_be_mounted_itself(mount):
    raw = content(4096)
    mounted = mount(writers.safetensors([("a.b", "F32", [1024], raw)]))
    again = mount(mounted.tensor("a.b", "safetensors"))
    assert again.tensor("a.b").read_bytes() == raw


# ---- GGUF ----

GGML_TYPES = sorted(GGMLQuantizationType, key=int)
# The gguf library counts 8 bytes for the two halves of Q8_1, ggml itself 4.
GGML_SIZES = {**GGML_QUANT_SIZES, GGMLQuantizationType.Q8_1: (32, 36)}
PLAIN_GGML = {"F32": "<f4", "F16": "<f2", "I8": "|i1", "I16": "<i2", "I32": "<i4", "I64": "<i8",
              "F64": "<f8", "BF16": "<u2"}


@pytest.mark.parametrize("kind", GGML_TYPES, ids=lambda k: k.name)
def test_views_of_each_ggml_type(mount, kind):
    block, size = GGML_SIZES[kind]
    raw = content(3 * 2 * size)
    mounted = mount(writers.gguf([("first", [1], 24, b"x"),
                                  ("blk.0.w", [2 * block, 3], int(kind), raw)]))
    entry = mounted.tensors()["blk.0.w"]
    assert (entry["dtype"], entry["shape"]) == (kind.name, [3, 2 * block])
    assert mounted.tensor("blk.0.w").read_bytes() == raw
    array = np.load(mounted.tensor("blk.0.w", "npy"), mmap_mode="r")
    plain = PLAIN_GGML.get(kind.name)
    assert array.dtype == np.dtype(plain or "|u1")
    assert array.shape == ((3, 2) if plain else (3, 2 * size))
    assert array.tobytes() == raw
    ((name, info),) = deserialize(mounted.tensor("blk.0.w", "safetensors").read_bytes())
    assert name == "blk.0.w" and bytes(info["data"]) == raw
    assert info["dtype"] == (kind.name if plain else "U8")
    assert info["shape"] == list(array.shape)


def test_gguf_dimensions_are_reversed(mount):
    mounted = mount(writers.gguf([("t", [2, 3, 5, 7], 24, content(210))]))
    assert mounted.tensors()["t"]["shape"] == [7, 5, 3, 2]
    assert np.load(mounted.tensor("t", "npy")).shape == (7, 5, 3, 2)
    assert os.getxattr(mounted.tensor("t"), "user.weightfs.shape") == b"7,5,3,2"


def test_gguf_scalar_and_empty_tensors(mount):
    mounted = mount(writers.gguf([("scalar", [], 0, b"\0\0\x80\x3f"), ("empty", [0, 4], 0, b"")]))
    assert np.load(mounted.tensor("scalar", "npy")) == np.float32(1.0)
    assert np.load(mounted.tensor("empty", "npy")).shape == (4, 0)
