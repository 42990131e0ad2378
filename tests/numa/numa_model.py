"""The model on the machines' disk."""
import functools

import numpy as np

import writers

MIB = 1 << 20
NAME = "model.safetensors"
PATH = f"/model/{NAME}"
BIG = "big.weight"
SIZES = {"small": 1000, BIG: 64 * MIB, "other.weight": 24 * MIB + 17,
         **{f"layers.{n}.weight": 8 * MIB for n in range(4)}}


def data_of(name):
    return np.random.default_rng(list(name.encode())).bytes(SIZES[name])


def write(path):
    path.write_bytes(writers.safetensors([(n, "U8", [s], data_of(n)) for n, s in SIZES.items()]))


@functools.cache
def sum_of(name):
    """The sum that page_nodes prints of these bytes."""
    data = data_of(name)
    words = np.frombuffer(data[:len(data) // 8 * 8], np.uint64)
    factors = np.arange(1, 2 * len(words) + 1, 2, dtype=np.uint64)
    return int((words * factors).sum(dtype=np.uint64))
