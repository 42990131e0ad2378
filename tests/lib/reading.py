"""Reads files in one way again and again and compares every byte with what is expected.

    reading.py WAY SECONDS SEED LIST SCRATCH

Each line of LIST is "FILE<tab>EXPECTED", two paths; SCRATCH is where copies go. Prints how many
files were compared. A process of its own: one that hangs in the kernel can be killed then.
"""
import hashlib
import mmap
import os
import random
import subprocess
import sys
import time

import numpy as np

MIB = 1 << 20


def load(path):
    if path.endswith(".npy"):
        return np.load(path).tobytes()
    return np.fromfile(path, np.uint8).tobytes()


def load_mapped(path):
    array = np.load(path, mmap_mode="r") if path.endswith(".npy") else np.memmap(path, mode="r")
    return np.ascontiguousarray(array).tobytes()


def pread(path):
    """Pieces of any length, in any order."""
    size = os.stat(path).st_size
    found = bytearray(size)
    cuts = sorted({0, size, *(random.randrange(size) for _ in range(40))})
    pieces = list(zip(cuts, cuts[1:]))
    random.shuffle(pieces)
    with open(path, "rb", buffering=0) as file:
        for begin, end in pieces:
            found[begin:end] = os.pread(file.fileno(), end - begin, begin)
    return bytes(found)


def slices(path):
    """Of a mapping, some of them twice."""
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapping:
        middle = random.randrange(len(mapping))
        again = mapping[middle:middle + MIB]
        whole = mapping[middle:], mapping[:middle]
    assert whole[0][:MIB] == again
    return whole[1] + whole[0]


def copied(copy):
    def read(path):
        try:
            copy(path, SCRATCH)
            with open(SCRATCH, "rb") as file:
                return file.read()
        finally:
            if os.path.exists(SCRATCH):
                os.unlink(SCRATCH)
    return read


def copy_by_cp(path, target):
    subprocess.run(["cp", path, target], check=True)


def copy_by_dd(path, target):
    size = random.choice(["4K", "64K", "1M", "3M"])
    subprocess.run(["dd", f"if={path}", f"of={target}", "iflag=direct", f"bs={size}"], check=True,
                   stderr=subprocess.DEVNULL)


def copy_by_sendfile(path, target):
    with open(path, "rb") as file, open(target, "wb") as out:
        while os.sendfile(out.fileno(), file.fileno(), None, random.randrange(1, 2 * MIB)):
            pass


def sha256sum(path):
    out = subprocess.run(["sha256sum", path], check=True, capture_output=True, text=True).stdout
    return out.split()[0]


def data_of(expected):
    """The array's bytes in a .npy file."""
    with open(expected, "rb") as file:
        np.lib.format.read_magic(file)
        np.lib.format.read_array_header_1_0(file)
        return file.read()


def whole_of(expected):
    with open(expected, "rb") as file:
        return file.read()


def array_of(expected):
    return data_of(expected) if expected.endswith(".npy") else whole_of(expected)


def digest_of(expected):
    return hashlib.sha256(whole_of(expected)).hexdigest()


# name -> (how to read, what is expected of it)
WAYS = {
    "numpy": (load, array_of),
    "numpy-mapped": (load_mapped, array_of),
    "pread": (pread, whole_of),
    "slices": (slices, whole_of),
    "cp": (copied(copy_by_cp), whole_of),
    "dd-direct": (copied(copy_by_dd), whole_of),
    "sendfile": (copied(copy_by_sendfile), whole_of),
    "sha256sum": (sha256sum, digest_of),
}


def main(way, seconds, seed, path):
    read, expect = WAYS[way]
    with open(path) as file:
        pairs = [line.rstrip("\n").split("\t") for line in file]
    known = {}
    done = 0
    random.seed(seed)
    end = time.monotonic() + float(seconds)
    while time.monotonic() < end or done == 0:
        path, expected = random.choice(pairs)
        if expected not in known:
            known[expected] = expect(expected)
        if read(path) != known[expected]:
            sys.exit(f"{way}: {path}: wrong bytes")
        done += 1
    print(done)


if __name__ == "__main__":
    SCRATCH = sys.argv[5]
    main(*sys.argv[1:5])
