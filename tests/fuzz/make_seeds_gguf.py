#!/usr/bin/env python3
"""Writes the seeds of the GGUF fuzzer: small good files that reach every part of the parser.

Usage: make_seeds_gguf.py DIRECTORY (tests/corpus/gguf/seed)
"""

import pathlib
import struct
import sys

U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
CODES = {U8: "B", I8: "b", U16: "H", I16: "h", U32: "I", I32: "i", F32: "f", BOOL: "B",
         U64: "Q", I64: "q", F64: "d"}

# Number in enum ggml_type: elements and bytes of a block.
BLOCKS = {0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24),
          8: (32, 34), 9: (32, 36), 10: (256, 84), 11: (256, 110), 12: (256, 144),
          13: (256, 176), 14: (256, 210), 15: (256, 292), 16: (256, 66), 17: (256, 74),
          18: (256, 98), 19: (256, 50), 20: (32, 18), 21: (256, 110), 22: (256, 82),
          23: (256, 136), 24: (1, 1), 25: (1, 2), 26: (1, 4), 27: (1, 8), 28: (1, 8),
          29: (256, 56), 30: (1, 2), 34: (256, 54), 35: (256, 66), 39: (32, 17),
          40: (64, 36), 41: (128, 18), 42: (64, 18)}


def string(text):
    return struct.pack("<Q", len(text)) + text


def value(kind, data):
    if kind == STRING:
        return string(data)
    return struct.pack("<" + CODES[kind], data)


def key(name, kind, data):
    return string(name) + struct.pack("<I", kind) + value(kind, data)


def array(name, kind, items):
    head = string(name) + struct.pack("<IIQ", ARRAY, kind, len(items))
    return head + b"".join(value(kind, item) for item in items)


def pad(data, alignment):
    return data + bytes(-len(data) % alignment)


def gguf(keys=(), tensors=(), version=3, alignment=32):
    """`tensors` are (name, dimensions innermost first, type)."""
    head = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(keys)) + b"".join(keys)
    data = b""
    for name, dims, kind in tensors:
        head += string(name) + struct.pack("<I", len(dims))
        head += struct.pack(f"<{len(dims)}Q", *dims)
        head += struct.pack("<IQ", kind, len(data))
        elements, size = BLOCKS[kind]
        count = 1
        for dim in dims:
            count *= dim
        data = pad(data + bytes(count // elements * size), alignment)
    return pad(head, alignment) + data if tensors else head


SCALARS = [key(b"u8", U8, 255), key(b"i8", I8, -1), key(b"u16", U16, 7),
           key(b"i16", I16, -7), key(b"u32", U32, 7), key(b"i32", I32, -7),
           key(b"f32", F32, 0.1), key(b"yes", BOOL, 1), key(b"two", BOOL, 2),
           key(b"text", STRING, b"a\"\xff\x00\xc3\xa9"), key(b"u64", U64, 1 << 63),
           key(b"i64", I64, -1 << 63), key(b"f64", F64, 0.1),
           key(b"nan", F64, float("nan"))]

ARRAYS = [array(b"empty", F64, []), array(b"u8s", U8, [1, 2, 3]), array(b"i8s", I8, [-1]),
          array(b"u16s", U16, [1, 2]), array(b"i16s", I16, [-1, 2]),
          array(b"u32s", U32, [1]), array(b"i32s", I32, [-1]),
          array(b"f32s", F32, [0.5, float("inf")]), array(b"bools", BOOL, [0, 1, 2]),
          array(b"tokens", STRING, [b"<s>", b"", b"\xe2\x96\x81the"]),
          array(b"u64s", U64, [1 << 63]), array(b"i64s", I64, [-1]),
          array(b"f64s", F64, [0.25])]

SEEDS = {
    "header_only": gguf(),
    "version_2": gguf(version=2, keys=[key(b"a", U8, 1)]),
    "scalars": gguf(SCALARS),
    "arrays": gguf(ARRAYS),
    "one_tensor": gguf(tensors=[(b"a", [2], 0)]),
    "plain_types": gguf(tensors=[(b"t%d" % kind, [3, 2], kind)
                                 for kind, (elements, _) in BLOCKS.items() if elements == 1]),
    "small_blocks": gguf(tensors=[(b"t%d" % kind, [128], kind) for kind, (elements, _)
                                  in BLOCKS.items() if 1 < elements <= 128]),
    "large_blocks": gguf(tensors=[(b"t%d" % kind, [256], kind)
                                  for kind, (elements, _) in BLOCKS.items() if elements == 256]),
    "shapes": gguf(tensors=[(b"scalar", [], 0), (b"empty", [0], 0), (b"", [1], 24),
                            (b"four", [2, 1, 3, 1], 1), (b"nul\x00", [1], 24)]),
    "alignment_1": gguf([key(b"general.alignment", U32, 1)],
                        [(b"a", [3], 24), (b"b", [1], 1)], alignment=1),
    "alignment_64": gguf([key(b"a", U8, 1), key(b"general.alignment", U32, 64)],
                         [(b"a", [3], 24), (b"b", [1], 1)], alignment=64),
    "split": gguf([key(b"general.architecture", STRING, b"llama"), key(b"split.no", U16, 0),
                   key(b"split.count", U16, 2), key(b"split.tensors.count", I32, 3)],
                  [(b"a", [4], 24)]),
    "split_of_other_types": gguf([key(b"split.count", U32, 2)]),
    "split_key_with_nul": gguf([key(b"split.no\x00x", U16, 1)]),
    "like_llama": gguf([key(b"general.architecture", STRING, b"llama"),
                        key(b"llama.block_count", U32, 1),
                        array(b"tokenizer.ggml.scores", F32, [0.0, -1.0])],
                       [(b"token_embd.weight", [32, 2], 8),
                        (b"blk.0.attn_norm.weight", [32], 0),
                        (b"blk.0.attn_q.weight", [32, 4], 2)]),
}


def main():
    directory = pathlib.Path(sys.argv[1])
    directory.mkdir(parents=True, exist_ok=True)
    for name, data in SEEDS.items():
        (directory / name).write_bytes(data)


if __name__ == "__main__":
    main()
