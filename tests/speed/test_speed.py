"""Reading a large tensor through weightfs against plain libfuse and against the source."""
import os
import shutil
import statistics
import struct
import subprocess
import tempfile

import numpy as np
import pytest

import mounting

SIZE = int(os.environ.get("SPEED_BYTES", 2 << 30))
ROUNDS = 5

# What the stream backing is to reach with the source in page cache: the first touch in times that
# through plain libfuse (fuse_main() and pread()), the second in times mapping the source itself. How far
# it can come depends on the processor: the kernel's work for each page of 4 KiB, the only size that FUSE has,
# is done by the client whatever the daemon does, and mapping the source in large folios spares it. So the
# targets are printed, and what fails the test is a first touch below its guard, or a second one that is
# slower than mapping a file in memory of the same small pages.
FIRST_TARGET = 2.0
FIRST_GUARD = 1.0
SECOND_TARGET = 0.4
# Pages that are pushed ahead of the client are to make its first touch faster, and never slower.
PUSH_GUARD = 0.7
SMALL_PAGES = 0.75
MEMORY = "/dev/shm"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """(path, offset) of a tensor of SIZE bytes at an odd offset."""
    path = tmp_path_factory.mktemp("speed") / "model.safetensors"
    if shutil.disk_usage(path.parent).free < 2 * SIZE:
        pytest.skip("not enough room on the disk")
    header = f'{{"t":{{"dtype":"U8","shape":[{SIZE}],"data_offsets":[0,{SIZE}]}}}}'.encode()
    header += b" " * (1 - len(header) % 2)
    words = SIZE // 8
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        for begin in range(0, words, 1 << 23):
            np.arange(begin, min(begin + (1 << 23), words), dtype="<u8").tofile(file)
    assert (8 + len(header)) % 2 == 1
    return path, 8 + len(header)


@pytest.fixture
def scan(build_dir):
    """scan(path, offset, length): (bytes a second, sum) of a fresh mapping."""
    def run(path, *window):
        out = subprocess.run([build_dir / "mmap_scan", path, *map(str, window)],
                             capture_output=True, text=True, check=True).stdout.split()
        return float(out[0]), out[1]
    return run


class PlainMount:
    """One of the baselines of tests/tools with its defaults."""

    def __init__(self, program, source, offset, path):
        path.mkdir()
        self.path = path
        subprocess.run([program, source, str(offset), str(SIZE), path], check=True)

    def __enter__(self):
        return self.path / "data"

    def __exit__(self, *_):
        assert mounting.umount(self.path) == 0


def touch_twice(scan, build_dir, path, expected):
    """Rates of the first and the second scan of a file whose pages are not there yet.

    They go into memory that was just touched and freed: a virtual machine has to fetch other memory
    from its host first, ten times as slow as anything that is measured here.
    """
    subprocess.run([build_dir / "bench", "warm", str(SIZE * 5 // 4)], stdout=subprocess.DEVNULL, check=True)
    rates = []
    for _ in range(2):
        rate, total = scan(path)
        assert total == expected, "wrong bytes"
        rates.append(rate)
    return rates


def show(what, rates):
    gb = [rate / 1e9 for rate in rates]
    print(f"\n      {what:30} median {statistics.median(gb):6.2f} GB/s, "
          f"{min(gb):.2f} to {max(gb):.2f}", end="")


@pytest.fixture
def small_pages(model):
    """A copy of the model in memory, in pages of 4 KiB, as tmpfs has them unless told otherwise."""
    if shutil.disk_usage(MEMORY).free < 2 * SIZE:
        pytest.skip(f"not enough room in {MEMORY}")
    with tempfile.NamedTemporaryFile(dir=MEMORY) as copy:
        shutil.copyfile(model[0], copy.name)
        yield copy.name


# The first touch with other options. 128K is what a mount without root has.
VARIANTS = {"first, not pushed": ["push=off"],
            "first, 128K": ["readahead=128K"],
            "first, 128K, not pushed": ["readahead=128K", "push=off"]}


def measure(scan, build_dir, model, small_pages, tmp_path):
    """Rates by name, from alternating rounds so that a busy moment hits all alike."""
    source, offset = model
    _, expected = scan(source, offset, SIZE)
    rates = {"source": [], "small pages": [], "plain first": [], "low-level first": [],
             "stream first": [], "stream second": [], **{what: [] for what in VARIANTS}}
    plain = {"plain first": "plain_fuse", "low-level first": "plain_lowlevel"}
    for i in range(ROUNDS):
        rates["source"].append(scan(source, offset, SIZE)[0])
        rates["small pages"].append(scan(small_pages, offset, SIZE)[0])
        for what, program in plain.items():
            with PlainMount(build_dir / program, source, offset, tmp_path / f"{program}{i}") as path:
                rates[what].append(touch_twice(scan, build_dir, path, expected)[0])
        with mounting.Mount(source, tmp_path / f"w{i}", ["backing=stream"]) as mounted:
            first, second = touch_twice(scan, build_dir, mounted / "tensors/t", expected)
        rates["stream first"].append(first)
        rates["stream second"].append(second)
        for what, options in VARIANTS.items():
            with mounting.Mount(source, tmp_path / f"{what}{i}", ["backing=stream", *options]) as mounted:
                rates[what].append(touch_twice(scan, build_dir, mounted / "tensors/t", expected)[0])
    return rates


def test_first_and_second_touch(scan, build_dir, model, small_pages, tmp_path):
    rates = measure(scan, build_dir, model, small_pages, tmp_path)
    for what, values in rates.items():
        show(what, values)
    median = {what: statistics.median(values) for what, values in rates.items()}
    first = median["stream first"] / median["plain first"]
    lowlevel = median["stream first"] / median["low-level first"]
    second = median["stream second"] / median["source"]
    pages = median["stream second"] / median["small pages"]
    print(f"\n      first touch {first:.2f} x plain libfuse (target {FIRST_TARGET}, guard "
          f"{FIRST_GUARD}; {lowlevel:.2f} x its low-level API),\n      second touch {second:.2f} x "
          f"the source (target {SECOND_TARGET}), {pages:.2f} x small pages (guard {SMALL_PAGES})", end="")
    pushed = median["stream first"] / median["first, not pushed"]
    little = median["first, 128K"] / median["first, 128K, not pushed"]
    print(f"\n      pushed {pushed:.2f} x not pushed, {little:.2f} x with little read-ahead "
          f"(guard {PUSH_GUARD})", end="")
    assert first >= FIRST_GUARD
    assert pages >= SMALL_PAGES
    assert pushed >= PUSH_GUARD
    assert little >= PUSH_GUARD
