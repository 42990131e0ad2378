#!/usr/bin/env python3
"""Writes the seeds of the safetensors fuzzer: small files, good and bad, that reach every part
of the parser.

Usage: make_seeds_safetensors.py DIRECTORY (tests/corpus/safetensors/seed)
"""

import json
import pathlib
import struct
import sys

BITS = {"BOOL": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "U8": 8, "I8": 8, "F8_E5M2": 8,
        "F8_E4M3": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "I16": 16, "U16": 16,
        "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32, "C64": 64, "F64": 64,
        "I64": 64, "U64": 64}


def seal(header, data=b""):
    """A file of this header (text or bytes) and data."""
    if isinstance(header, str):
        header = header.encode()
    return struct.pack("<Q", len(header)) + header + data


def model(tensors, metadata=None, pad=b""):
    """A good file of [(name, dtype, shape)]."""
    header, end = {}, 0
    if metadata is not None:
        header["__metadata__"] = metadata
    for name, dtype, shape in tensors:
        bits = BITS[dtype]
        for dim in shape:
            bits *= dim
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + bits // 8]}
        end += bits // 8
    return seal(json.dumps(header, separators=(",", ":")).encode() + pad, bytes(end))


def tensor(shape="[2]", dtype='"U8"', offsets="[0,2]", more=""):
    return f'{{"t":{{"dtype":{dtype},"shape":{shape},"data_offsets":{offsets}{more}}}}}'


SEEDS = {
    "empty": seal("{}"),
    "metadata_only": seal('{"__metadata__":{"format":"pt","a":"b"}}'),
    "metadata_null": seal('{"__metadata__":null}'),
    "scalar": model([("s", "I32", [])]),
    "zero_size": model([("z", "F16", [2, 0]), ("a", "U8", [3]), ("y", "F32", [0])]),
    "all_dtypes": model([(name.lower(), name, [4]) for name in BITS], {"format": "pt"}),
    "layers": model([(f"h.{i}.{part}", "BF16", [2, 3]) for i in range(3)
                     for part in ("w", "b")], {"format": "pt"}, b"   "),
    "reordered": seal('{"b":{"shape":[1],"data_offsets":[1,2],"dtype":"U8"},'
                      '"a":{"data_offsets":[0,1],"dtype":"I8","shape":[1]}}', b"xy"),
    "odd_names": model([("", "U8", [1]), ("../../etc/passwd", "U8", [1]), ("a\0b", "U8", [1]),
                        ("\U0001f600", "U8", [1]), ("\"\\/\b\f\n\r\t", "U8", [1])]),
    "raw_utf8": seal('{"é\U0001f600":{"dtype":"U8","shape":[],"data_offsets":[0,1]}}', b"x"),
    "unknown_fields": seal(tensor(more=',"x":[1,-2.5e+3,true,false,null,{"y":["",{}]}]'), b"xy"),
    "leading_space": seal("\t\n{}\r "),
    "rank_64": model([("r", "U8", [1] * 64)]),
    "many_dims": model([("m", "F32", [1, 2, 1, 3, 1])]),
    # Refused.
    "nesting_17": seal(tensor(more=',"x":' + "[" * 15 + "]" * 15), b"xy"),
    "duplicate_name": seal('{"t":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},'
                           '"\\u0074":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}', b"x"),
    "duplicate_metadata_key": seal('{"__metadata__":{"a":"1","a":"2"}}'),
    "hole": seal(tensor("[1]", offsets="[1,2]"), b"xy"),
    "overlap": seal('{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},'
                    '"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}}', b"xyz"),
    "reversed_offsets": seal(tensor(offsets="[2,0]"), b"xy"),
    "missing_offsets": seal('{"t":{"dtype":"U8","shape":[2]}}', b"xy"),
    "wrapping_shape": seal(tensor("[4194305,4194305,211106198978564]", '"F32"', "[0,16]"),
                           bytes(16)),
    "number_above_u64": seal(tensor("[18446744073709551616]"), b"xy"),
    "offsets_near_u64": seal(tensor("[1]", offsets="[18446744073709551614,18446744073709551615]")),
    "fraction": seal(tensor("[2.0]"), b"xy"),
    "array_tensor": seal('{"t":["F32",[2],[0,8]]}', bytes(8)),
    "trailing_bytes": seal(tensor(), b"xyz"),
    "short_data": seal(tensor(), b"x"),
    "lone_surrogate": seal('{"\\ud800":{}}'),
    "not_utf8": seal(b'{"\xff":{}}'),
    "nul_padding": seal(b"{}\0\0"),
    "huge_length": struct.pack("<Q", 2**63) + b"{}",
}


def main():
    directory = pathlib.Path(sys.argv[1])
    directory.mkdir(parents=True, exist_ok=True)
    for name, data in SEEDS.items():
        (directory / name).write_bytes(data)


if __name__ == "__main__":
    main()
