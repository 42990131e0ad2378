#!/usr/bin/env python3
"""Writes the seeds of the fuzzer of shard indexes: small indexes, good and bad.

Usage: make_seeds_shard_index.py DIRECTORY (tests/corpus/shard_index/seed)
"""

import json
import pathlib
import sys


def index(weight_map, **more):
    return json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map, **more}).encode()


def named(file):
    return index({"a": file})


SEEDS = {
    "two_files": index({"b": "m-00002-of-00002.safetensors", "a": "m-00001-of-00002.safetensors",
                        "c": "m-00002-of-00002.safetensors"}),
    "sub_directory": named("unet/model.fp16-00001-of-00001.safetensors"),
    "indented": json.dumps({"weight_map": {"a": "x", "b": "y"}}, indent=2).encode() + b"\n",
    "escapes": rb'{"weight_map":{"\u0061\n":"\u0062","\ud83d\ude00":"x\/y"}}',
    "more_members": index({"a": "x"}, more=[1.5e9, None, True, {"x": []}]),
    "without_metadata": b'{"weight_map":{"":"x"}}',
    "odd_sizes": b'{"metadata":{"total_size":-1e999,"total_size":"x"},"weight_map":{"a":"x"}}',
    # Refused.
    "absolute": named("/etc/passwd"),
    "climbs": named("../x"),
    "climbs_inside": named("a/../../x"),
    "empty_name": named(""),
    "dot": named("."),
    "nul": named("x\0y"),
    "long": named("x" * 4097),
    "itself": named("i.safetensors.index.json"),
    "number": index({"a": 1}),
    "duplicate": b'{"weight_map":{"a":"x","\\u0061":"y"}}',
    "duplicate_map": b'{"weight_map":{"a":"x"},"weight_map":{"b":"x"}}',
    "no_map": b'{"metadata":{}}',
    "empty_map": index({}),
    "map_is_a_list": b'{"weight_map":["a","x"]}',
    "deep": b'{"metadata":' + b"[" * 40,
    "truncated": b'{"weight_map":{"a":"x"',
    "second_document": index({"a": "x"}) + b"{}",
    "empty": b"",
}


def main():
    directory = pathlib.Path(sys.argv[1])
    directory.mkdir(parents=True, exist_ok=True)
    for name, data in SEEDS.items():
        (directory / name).write_bytes(data)


if __name__ == "__main__":
    main()
