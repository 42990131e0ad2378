"""The rows of the table. A scene sets things up and measures one row or several.

"mmap scan" reads 8 bytes of every 64-byte line through fresh mappings of all tensors, one after
another; a rate is from the first open to the last byte. The original file is mapped as a whole.
"""
import os
import subprocess
import time

import loads
import mixture
import setting
import walks
from setting import GIB, MIB, NotPossible, WrongBytes
from table import Row

TOUCHES = 20000
OPENS = 4000
LARGE = 16 * MIB  # tensors from this size on are to be mapped with huge pages
PROCESSES = 4


# ---- resident ----

def resident_reads(bench, rounds):
    bench.cache_model()
    with bench.mount("resident") as mounted:
        bench.load(mounted)
        ranges = bench.list_of_mount(mounted)
        rounds.compare(
            Row(RESIDENT_SCAN, "GB/s", rounds.target(1.15), "original file, mmap scan"),
            lambda: bench.rate("mmap", bench.original), lambda: bench.rate("mmap", ranges))
        random_touches(bench, rounds, ranges)
        rounds.add(huge_share(bench, rounds, ranges))


def random_touches(bench, rounds, ranges):
    """Each round touches other pages, both sides the same; only the touches are timed."""
    sums = {bench.original: [], ranges: []}

    def touch(what):
        result = bench.bench("touch", what, TOUCHES, 2 * len(sums[what]) + 1)
        sums[what].append(result["sum"])
        return result["seconds"] / TOUCHES * 1e9
    rounds.compare(Row(RESIDENT_TOUCH, "ns", rounds.target(3), "original file", invert=True),
                   lambda: touch(bench.original), lambda: touch(ranges))
    if sums[ranges] != sums[bench.original]:
        raise WrongBytes("random pages differ from those of the original file")


def huge_share(bench, rounds, ranges):
    client = setting.Client(bench.tool, ranges)
    try:
        bench.check_sum(client.wait())
        huge = client.huge_bytes(LARGE)
    finally:
        client.close()
    large = sum(nbytes for _, _, nbytes in bench.tensors if nbytes >= LARGE)
    return Row(HUGE_SHARE, "%", rounds.target(95, margin=0), candidate=[100 * huge / large])


# ---- filling ----

def fill_cached(bench, rounds):
    threads = setting.fill_threads()

    def pread():
        bench.cache_model()
        bench.warm_memory(1.2 * bench.size)
        return bench.rate("pread", bench.original, threads)

    def fill():
        with bench.mount("resident") as mounted:
            bench.warm_memory(1.2 * bench.size)
            return bench.bytes / bench.load(mounted) / 1e9
    rounds.compare(Row(FILL_CACHED, "GB/s", rounds.target(0.9),
                       f"pread() into huge pages, {threads} threads"), pread, fill)


def dd_rate(bench):
    bench.drop()
    start = time.perf_counter()
    subprocess.run(["dd", f"if={bench.model}", "of=/dev/null", "bs=4M", "iflag=direct"],
                   check=True, capture_output=True)
    return bench.bytes / (time.perf_counter() - start) / 1e9


def fill_from_disk(bench, rounds):
    threads = setting.fill_threads()
    direct = Row(FILL_DISK_THREADS, "GB/s", None, f"O_DIRECT, {threads} threads")
    growth = Row(FILL_GROWTH, "%", rounds.target(5, at_least=False, margin=0))

    def baseline():
        bench.drop()
        direct.baseline.append(bench.rate("direct", bench.model, threads))
        return dd_rate(bench)

    def fill():
        bench.drop()
        with bench.mount("resident") as mounted:
            bench.warm_memory(1.2 * bench.size)
            before = bench.cached(bench.original)
            rate = bench.bytes / bench.load(mounted) / 1e9
            growth.candidate.append(100 * (bench.cached(bench.original) - before) / bench.bytes)
        direct.candidate.append(rate)
        return rate
    rounds.compare(Row(FILL_DISK, "GB/s", rounds.target(0.95), "dd iflag=direct bs=4M"),
                   baseline, fill)
    rounds.add(direct)
    rounds.add(growth)


# ---- clone ----

def clones(bench, rounds):
    """Views with a header are cloned from wherever a tensor starts, so the .npy files are scanned."""
    bench.drop()
    with bench.xfs() as (model, original):
        bench.rate("mmap", original)
        with bench.mount("clone", model) as mounted:
            bench.load(mounted, "npy", "clone")
            ranges = bench.list_of_mount(mounted, "npy")
            copies = bench.copies(ranges, model.parent / "copies")
            bench.rate("mmap", ranges)
            rounds.compare(
                Row(CLONE_WARM, "GB/s", rounds.target(0.95), "the file itself on the same XFS"),
                lambda: bench.rate("mmap", original), lambda: bench.rate("mmap", ranges))

        def cold_original():
            bench.drop(model)
            bench.warm_memory(1.2 * bench.size)
            return bench.rate("mmap", original)

        def cold_clone():
            bench.drop(model)
            # A new mount has new clones, of which nothing is in the page cache.
            with bench.mount("clone", model) as mounted:
                ranges = bench.list_of_mount(mounted, "npy")
                bench.warm_memory(1.2 * bench.size)
                rate = bench.rate("mmap", ranges)
                bench.check_backing(mounted, "npy", "clone")
            return rate
        rounds.compare(Row(CLONE_COLD, "GB/s", rounds.target(0.95), "the file itself, cold"),
                       cold_original, cold_clone)

        def cold_copies():
            for path in bench.paths(copies):
                bench.drop(path)
            bench.warm_memory(1.2 * bench.size)
            return bench.rate("mmap", copies)
        # The kernel's read-ahead ends with each file: so much of the difference is not the clones'.
        rounds.compare(Row(CLONE_COPIES, "GB/s", None, "ordinary copies of those files, cold"),
                       cold_copies, cold_clone)


# ---- auto and stream ----

def first_scan(bench, backing, way="mmap", note=None):
    """The rate of the first scan through a fresh mount."""
    with bench.mount(backing) as mounted:
        ranges = bench.list_of_mount(mounted)
        bench.warm_memory(1.2 * bench.size)
        rate = bench.rate(way, ranges)
        if note is not None:
            shares = mounted.stats()["backings"]
            note.append(", ".join(f"{name} {share['bytes'] / bench.bytes:.0%}"
                                  for name, share in shares.items() if share["bytes"]))
        return rate


def auto_loads(bench, rounds):
    bench.cache_model()
    notes = []
    row = Row(AUTO_LOAD, "GB/s", rounds.target(2), "stream, mmap scan, first time")
    rounds.compare(row, lambda: first_scan(bench, "stream"),
                   lambda: first_scan(bench, "auto", note=notes))
    row.note = f"at the end {notes[-1]}"


def plain_scan(bench, way):
    with bench.plain_mount("plain_fuse") as (_, ranges):
        bench.warm_memory(1.2 * bench.size)
        return bench.rate(way, ranges)


def other_ways(bench, rounds):
    """Other ways of reading the model, for information."""
    bench.cache_model()
    ways = {
        STREAM_SCAN: lambda: first_scan(bench, "stream"),
        STREAM_READ: lambda: first_scan(bench, "stream", "read"),
        PLAIN_SCAN: lambda: plain_scan(bench, "mmap"),
        PLAIN_READ: lambda: plain_scan(bench, "read"),
        ORIGINAL_READ: lambda: bench.rate("read", bench.original),
    }
    for name, way in ways.items():
        rounds.compare(Row(name, "GB/s", None, "original file, mmap scan"),
                       lambda: bench.rate("mmap", bench.original), way)


# ---- memory ----

def memory_of(bench, backing, processes):
    """(all memory that is taken, sum of the clients' PSS), in times the model, while so many
    processes have the whole model mapped. It is read from the disk, so that nothing is there before.

    All that is taken: the memory of clients and daemon that belongs to no file, what came to tmpfs (Shmem), and
    the page cache that belongs to the model file and to the files of the mount. Each page counts
    once however many map it. PSS counts the same pages from the clients' side.
    """
    bench.drop()
    bench.warm_memory(2.2 * bench.size)
    shmem = meminfo_shmem()
    if backing == "original":
        return measure_clients(bench, bench.original, [], shmem, processes)
    with bench.mount(backing) as mounted:
        ranges = bench.list_of_mount(mounted)
        result = measure_clients(bench, ranges, [mounted.pid], shmem, processes)
        if backing == "resident":
            bench.check_backing(mounted, "tensors", backing)
        return result


def meminfo_shmem():
    return setting.meminfo("Shmem")


def measure_clients(bench, ranges, daemons, shmem, processes):
    clients = [setting.Client(bench.tool, ranges) for _ in range(processes)]
    try:
        for client in clients:
            bench.check_sum(client.wait())
        own = sum(setting.anonymous_bytes(pid) for pid in daemons + [c.pid for c in clients])
        pss = sum(setting.smaps_sum(client.pid, "Pss") for client in clients)
        cached = bench.cached(bench.original)
        if ranges != bench.original:
            cached += bench.cached(ranges)
        taken = own + meminfo_shmem() - shmem + cached
    finally:
        for client in clients:
            client.close()
    return taken / bench.bytes, pss / bench.bytes


def memory_rows(bench, rounds, backing, target=None):
    for processes in (PROCESSES, 1):
        taken, pss = memory_of(bench, backing, processes)
        rounds.add(Row(memory_name(backing, processes), "x model",
                       target if processes > 1 else None, candidate=[taken],
                       note=f"sum of PSS {pss:.2f}"))


def memory_of_resident(bench, rounds):
    memory_rows(bench, rounds, "resident", rounds.target(1.1, at_least=False, margin=0.02))


def memory_of_others(bench, rounds):
    memory_rows(bench, rounds, "original")
    memory_rows(bench, rounds, "stream")


def memory_name(backing, processes):
    mapped = "process that maps" if processes == 1 else "processes that map"
    return f"{backing}, {processes} {mapped} the whole model: memory in use"


# ---- opening ----

def opens(bench, rounds):
    path = max(bench.tensors, key=lambda t: t[2])[0].replace(".", "/")

    def time_of(file):
        return bench.bench("open", file, OPENS)["seconds"] / OPENS * 1e6
    with bench.mount("resident") as mounted, bench.plain_mount("plain_lowlevel") as (plain, _):
        file = mounted / "tensors" / path
        file.open("rb").close()
        if os.getxattr(file, "user.weightfs.backing") != b"resident":
            raise NotPossible("the tensor did not become resident")
        rounds.compare(
            Row(OPEN, "us", rounds.target(1.3, at_least=False), "libfuse that does nothing"),
            lambda: time_of(plain), lambda: time_of(file))


# ---- many tensors ----

def kernel_bytes():
    return setting.meminfo("SUnreclaim", "PageTables", "KernelStack")


def many_tensors(bench, rounds):
    """What stays taken: the daemon's memory that belongs to no file, the files that it made in tmpfs,
    and what the kernel cannot take back when it needs memory, page tables among it. Names, inodes and
    pages that were read stay as long as there is room, as they do for any file system; they are in
    the note."""
    path = bench.folder / "mixture.safetensors"
    try:
        tensors = mixture.write(path)
    except OSError as error:
        raise NotPossible(f"no file of 640 GB here: {error.strerror}") from None
    shmem, kernel = meminfo_shmem(), kernel_bytes()
    cache, slab = setting.meminfo("Cached"), setting.meminfo("SReclaimable")
    with bench.mount("auto", path) as mounted:
        ranges = bench.write_list("mixture", [
            (0, nbytes, mounted / "tensors" / name.replace(".", "/"))
            for name, _, _, _, nbytes, _ in tensors])
        seconds = bench.bench("peek", ranges, 64)["seconds"]
        taken = 0
        # What was asked for in the background comes a moment later.
        for _ in range(4):
            now = setting.anonymous_bytes(mounted.pid) + max(0, meminfo_shmem() - shmem) + \
                max(0, kernel_bytes() - kernel)
            taken = max(taken, now)
            time.sleep(0.5)
        reclaimable = (setting.meminfo("Cached") - cache) - max(0, meminfo_shmem() - shmem)
        slab = setting.meminfo("SReclaimable") - slab
    rounds.add(Row(MANY, "MiB", rounds.target(256, at_least=False), candidate=[taken / MIB],
                   note=f"in {seconds:.1f} s; page cache {reclaimable / GIB:.1f} GiB, "
                        f"names and inodes {slab / MIB:.0f} MiB"))


RESIDENT_SCAN = "resident, mmap scan of the whole model"
RESIDENT_TOUCH = f"resident, one byte of {TOUCHES:,} random pages, times faster"
HUGE_SHARE = "resident, tensors from 16 MiB on: mapped with pages of 2 MiB"
FILL_CACHED = "resident, filled from the page cache"
FILL_DISK = "resident, filled from the disk"
FILL_DISK_THREADS = "resident, filled from the disk, beside threads"
FILL_GROWTH = "page cache of the source after that fill"
CLONE_WARM = "clone, mmap scan, warm"
CLONE_COLD = "clone, mmap scan, cold"
CLONE_COPIES = "clone, mmap scan, cold, beside files"
AUTO_LOAD = "auto, mmap scan tensor by tensor, first time"
STREAM_SCAN = "stream, mmap scan, first time"
STREAM_READ = "stream, read(), first time"
PLAIN_SCAN = "libfuse with default settings, mmap scan"
PLAIN_READ = "libfuse with default settings, read()"
ORIGINAL_READ = "original file, read()"
MEMORY = [memory_name("resident", n) for n in (PROCESSES, 1)]
MEMORY_OTHERS = [memory_name(name, n) for name in ("original", "stream") for n in (PROCESSES, 1)]
OPEN = "open and close of a resident tensor, times as long"
MANY = "auto, 64 bytes of each of 92,000 tensors: memory that stays taken"

# (title, scene, names of its rows)
RESIDENT = ("resident: reading", resident_reads, [RESIDENT_SCAN, RESIDENT_TOUCH, HUGE_SHARE])
FILLING = ("filling from the page cache", fill_cached, [FILL_CACHED])
OPENING = ("opening", opens, [OPEN])

MEMORY_RESIDENT = ("memory of resident tensors", memory_of_resident, MEMORY)

SHORT = [RESIDENT, FILLING, OPENING, MEMORY_RESIDENT, walks.LAYER_WALKS]
FULL = [
    RESIDENT, FILLING,
    ("filling from the disk", fill_from_disk, [FILL_DISK, FILL_DISK_THREADS, FILL_GROWTH]),
    ("auto", auto_loads, [AUTO_LOAD]),
    ("other ways of reading", other_ways,
     [STREAM_SCAN, STREAM_READ, PLAIN_SCAN, PLAIN_READ, ORIGINAL_READ]),
    OPENING,
    MEMORY_RESIDENT,
    ("memory of others", memory_of_others, MEMORY_OTHERS),
    ("92,000 tensors", many_tensors, [MANY]),
    ("clone", clones, [CLONE_WARM, CLONE_COLD, CLONE_COPIES]),
    walks.LAYER_WALKS, walks.RANDOM_WALKS, walks.FIRST_TOUCHES, walks.PUSHING,
    loads.LOAD_TABLE, loads.RELEASES,
]
