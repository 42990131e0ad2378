"""Loading a whole model in all the ways that there are, and letting go of it."""
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import setting
from setting import GIB, NotPossible
from table import Extra, Row

# Until this share of the model is left: other pages come and go meanwhile.
GONE = 0.01
GIVE_UP_S = 10


# ---- loading ----

@dataclass
class Load:
    """How a loader was, once."""
    seconds: float
    memory: int
    minor: int
    major: int


def load_of(result, before=0.0):
    """`before`: seconds that others took so that the loader could begin."""
    return Load(before + result["seconds"], result["most_memory"], result["minor_faults"],
                result["major_faults"])


def of_mount(bench, options=(), prefetch=None):
    with bench.mount("auto", options=options) as mounted:
        ranges = bench.list_of_mount(mounted)
        before = 0.0
        if prefetch is not None:
            before = bench.mountctl("prefetch", mounted.path, "*", *prefetch)
        if prefetch:
            bench.check_backing(mounted, "tensors", "resident")
        return load_of(bench.scan("mmap", ranges), before)


def of_resident(bench):
    with bench.mount("resident") as mounted:
        bench.load(mounted)
        return load_of(bench.scan("mmap", bench.list_of_mount(mounted)))


def ways(bench):
    """name -> measure; those of NUMA are about memory, and so measured warm alone."""
    return {
        "read() into malloc()": lambda: load_of(bench.scan("malloc", bench.original)),
        "original, mmap": lambda: load_of(bench.scan("mmap", bench.original)),
        "original, mmap, MADV_WILLNEED":
            lambda: load_of(bench.scan("walk", bench.original, 0, "willneed")),
        "mount, mmap": lambda: of_mount(bench),
        "mount, prefetch, mmap": lambda: of_mount(bench, prefetch=()),
        "mount, prefetch --resident, mmap":
            lambda: of_mount(bench, prefetch=("--resident",)),
    }


def ways_when_warm(bench):
    def placed(where):
        return lambda: of_mount(bench, (f"numa={where}",), ("--resident",))
    return {
        **ways(bench),
        "the same, numa=local": placed("local"),
        "the same, numa=interleave": placed("interleave"),
        "mount, resident already, mmap": lambda: of_resident(bench),
    }


def nodes():
    return len(list(Path("/sys/devices/system/node").glob("node[0-9]*"))) or 1


def measure_loads(bench, count):
    """((name, start) -> [Load], name -> why not)."""
    loads = {}
    missing = {}

    def measure(name, start, way):
        try:
            loads.setdefault((name, start), []).append(way())
        except NotPossible as error:
            missing[name] = str(error)
            del loads[name, start]
    for i in range(count):
        print(f" {i + 1}", end="", flush=True)
        for name, way in ways(bench).items():
            bench.make_cold()
            measure(name, COLD, way)
        bench.cache_model()
        for name, way in ways_when_warm(bench).items():
            bench.warm_memory(1.2 * bench.size)
            measure(name, WARM, way)
    return loads, missing


def line_of(bench, name, start, loads):
    def median(member):
        return statistics.median(getattr(load, member) for load in loads)
    seconds = [load.seconds for load in loads]
    return (name, start, f"{median('seconds'):.3g} ({min(seconds):.3g} to {max(seconds):.3g})",
            f"{bench.bytes / median('seconds') / 1e9:.2f}", f"{median('memory') / GIB:.2f}",
            f"{median('minor'):.0f}", f"{median('major'):.0f}")


def data_of(bench, name, start, loads):
    return {"way": name, "start": start, "bytes": bench.bytes,
            "seconds": [load.seconds for load in loads],
            "peak_rss_bytes": [load.memory for load in loads],
            "minor_faults": [load.minor for load in loads],
            "major_faults": [load.major for load in loads]}


def load_table(bench, rounds):
    print(f"  {LOADS}:", end="", flush=True)
    loads, missing = measure_loads(bench, min(rounds.count, MOST_ROUNDS))
    print(flush=True)
    title = LOADS_TITLE
    if nodes() == 1:
        title += " This machine has one NUMA node: numa= has no effect."
    rounds.extras.append(Extra(
        title, ("way", "start", "seconds", "GB/s", "peak RSS, GiB", "minor faults", "major faults"),
        [line_of(bench, *key, found) for key, found in loads.items()],
        [data_of(bench, *key, found) for key, found in loads.items()]))
    for name, reason in missing.items():
        rounds.add(Row(f"load table: {name}", "", reason=reason))
    rounds.add(Row(LOADS, "ways", candidate=[len({name for name, _ in loads})]))


# ---- letting go ----

def seconds_until(gone):
    start = time.perf_counter()
    while not gone():
        if time.perf_counter() - start > GIVE_UP_S:
            raise setting.Failed(f"pages are there after {GIVE_UP_S} s still")
        time.sleep(0.01)
    return time.perf_counter() - start


def evicted(bench):
    """From the command's start, with all tensors resident and the source cached."""
    bench.cache_model()
    bench.warm_memory(1.2 * bench.size)
    before = setting.meminfo("Shmem")
    with bench.mount("resident") as mounted:
        bench.load(mounted)
        seconds = bench.mountctl("evict", mounted.path, "*")
        return seconds + seconds_until(
            lambda: setting.meminfo("Shmem") - before < GONE * bench.bytes and
            bench.cached(bench.original) < GONE * bench.bytes)


def dropped(bench):
    """From the end of a loader that has read all of it through the mount."""
    bench.make_cold()
    with bench.mount("stream", options=("source_cache=drop",)) as mounted:
        bench.scan("read", bench.list_of_mount(mounted))
        return seconds_until(lambda: bench.cached(bench.original) < GONE * bench.bytes)


def releases(bench, rounds):
    for name, measure in ((EVICTED, evicted), (DROPPED, dropped)):
        rounds.add(Row(name, "s", rounds.target(1, at_least=False),
                       candidate=[measure(bench) for _ in range(rounds.count)]))


COLD, WARM = "cold", "warm"
MOST_ROUNDS = 3
LOADS = "load table: ways of loading that were measured"
LOADS_TITLE = (
    "Loading the whole model, until 8 bytes of every 64-byte line were read: prefetching counts, "
    "mounting does not. Warm: the model's file is in the page cache. RSS and faults are the loader's; "
    "what it has mapped counts as its memory.")
EVICTED = "evict of a resident model: memory and page cache are free after"
DROPPED = "source_cache=drop: page cache of the source is free after"

LOAD_TABLE = ("load table", load_table, [LOADS])
RELEASES = ("release", releases, [EVICTED, DROPPED])
