"""What rows are measured with: the model, mounts of it, memory, and an XFS on a loop device."""
import contextlib
import json
import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import llama
import mounting

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30

# Tensors below this size have no file of their own.
LEAST_FILE = 128 * KIB


class NotPossible(Exception):
    """Why a row cannot be measured here."""


class Failed(Exception):
    """What should work did not."""


class WrongBytes(Failed):
    """What was read is not what is in the model."""


def fill_threads():
    """As many as the daemon fills with."""
    cores = os.cpu_count()
    return 2 if cores < 4 else cores // 2


def meminfo(*names):
    """Bytes of these lines of /proc/meminfo, together."""
    text = Path("/proc/meminfo").read_text()
    return sum(int(re.search(rf"^{name}: +(\d+)", text, re.M)[1]) * KIB for name in names)


def smaps_sum(pid, *fields):
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(int(n) * KIB for field in fields
               for n in re.findall(rf"^{field}: +(\d+) kB", text, re.M))


def anonymous_bytes(pid):
    """Its own memory. What one process alone has mapped of a file counts as private as well, but
    is the file's."""
    return smaps_sum(pid, "Anonymous")


class Client:
    """A process that has mapped and scanned a list, and holds its mappings until `close`."""

    def __init__(self, bench, ranges):
        self.process = subprocess.Popen([bench, "mmap", ranges, "hold"], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)
        self.pid = self.process.pid

    def wait(self):
        return json.loads(self.process.stdout.readline())

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()

    def huge_bytes(self, least):
        """Bytes that mappings of files of at least this size have in pages of 2 MiB."""
        total = 0
        for part in re.split(r"\n(?=[0-9a-f]+-[0-9a-f]+ )", Path(f"/proc/{self.pid}/smaps").read_text()):
            size = int(re.search(r"^Size: +(\d+)", part, re.M)[1]) * KIB
            if size >= least:
                total += sum(int(n) * KIB for n in
                             re.findall(r"^(?:Shmem|File)PmdMapped: +(\d+)", part, re.M))
        return total


class Setting:
    """A model in a folder of its own, which is removed at the end."""

    def __init__(self, folder, size, shape=llama.LLAMA_8B):
        self.folder = folder / "run"
        self.size = size
        self.tool = mounting.BIN / "bench"
        self.mounts = 0
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        if shutil.disk_usage(folder).free < 2.5 * size:
            raise SystemExit(f"bench.py: {folder}: less than {2.5 * size / GIB:.1f} GiB free")
        self.model = self.folder / "model.safetensors"
        self.shape = shape
        self.tensors = llama.write(self.model, size, self.tool, shape)
        self.bytes = sum(nbytes for _, _, nbytes in self.tensors)
        self.original = self.list_of_file("original", self.model)
        self.sum = None

    def remove(self):
        shutil.rmtree(self.folder)

    @contextlib.contextmanager
    def other_model(self, size, shape):
        """A setting with another model; this one is out of the page cache."""
        self.drop()
        other = Setting(self.folder / "other", size, shape)
        try:
            yield other
        finally:
            other.remove()

    # ---- the measuring program ----

    def bench(self, *args):
        out = subprocess.run([self.tool, *map(str, args)], capture_output=True, text=True)
        if out.returncode != 0:
            raise Failed(out.stderr.strip())
        return json.loads(out.stdout)

    def mountctl(self, *args):
        """The seconds of a command of mountctl."""
        start = time.perf_counter()
        out = subprocess.run([mounting.BIN / "mountctl", *map(str, args)], capture_output=True,
                             text=True)
        if out.returncode == 2:
            raise NotPossible(out.stderr.strip().splitlines()[0])
        if out.returncode != 0:
            raise Failed(out.stderr.strip())
        return time.perf_counter() - start

    def scan(self, *args):
        """The result of a command that reads the whole model, which must be what others read."""
        result = self.bench(*args)
        self.check_sum(result)
        return result

    def rate(self, *args):
        """GB/s of a command. All that read the whole model must have read the same."""
        result = self.bench(*args)
        if args[0] in ("mmap", "read"):
            self.check_sum(result)
        return result["bytes"] / result["seconds"] / 1e9

    def check_sum(self, result):
        if self.sum is None:
            self.sum = result["sum"]
        if result["sum"] != self.sum:
            raise WrongBytes(f"the sum is {result['sum']} and not {self.sum}")

    def cached(self, ranges):
        return self.bench("cached", ranges)["bytes"]

    def make_cold(self, copies=2):
        """Nothing of the model is cached, and there is memory for so many times all of it: a mount
        may take it twice, for the source's pages and for its own. And for half as much again, so
        that the kernel does not begin to look for memory while it is measured."""
        self.drop()
        self.warm_memory((copies + 0.5) * self.size)

    def check_cold(self, mounted):
        """That a mount has nothing yet, and so the source nothing either."""
        cached = self.cached(self.original)
        made = mounted.stats()["resident"]["used"]
        if cached + made > 0.01 * self.size:
            raise Failed(f"of a cold model {cached} bytes are cached and {made} resident")

    def warm_memory(self, nbytes):
        """Makes the host of a virtual machine give this much memory, which it takes back a
        moment after it was freed: so before each measurement that takes any."""
        free = meminfo("MemAvailable") * 0.8
        self.bench("warm", int(min(nbytes, free)))

    def cache_model(self):
        self.bench("pread", self.original, 1)

    def drop(self, path=None):
        left = self.bench("drop", path or self.model)["bytes"]
        if left > 0.01 * self.size:
            raise NotPossible(f"{path or self.model}: {left} bytes stay in the page cache")

    # ---- lists of ranges ----

    def write_list(self, name, lines):
        """Of (offset, length, path), and None where a loader computes."""
        path = self.folder / f"{name}.list"
        path.write_text("".join("\n" if line is None else "{} {} {}\n".format(*line)
                                for line in lines))
        return path

    def list_of_file(self, name, path, shift=0):
        """The tensors in a file that holds them all."""
        return self.write_list(name, [(o - shift, n, path) for _, o, n in self.tensors])

    def list_of_mount(self, mounted, view="tensors"):
        lines = []
        for name, _, nbytes in self.tensors:
            path = mounted / view / (name.replace(".", "/") + (".npy" if view == "npy" else ""))
            # A header, if there is one, stands before the tensor.
            lines.append((path.stat().st_size - nbytes, nbytes, path))
        return self.write_list(f"mount{self.mounts}-{view}", lines)

    def walked(self):
        """(name, nbytes) in the order in which the model computes with them: layer 2 before
        layer 10."""
        sizes = {name: nbytes for name, _, nbytes in self.tensors}
        return [(name, sizes[name]) for name, _ in llama.tensors(self.size, self.shape)]

    def list_of_walk(self, mounted=None):
        """In that order, with a pause after each layer: in the original file, or in a mount, which
        is not asked for it."""
        offsets = {name: offset for name, offset, _ in self.tensors}
        lines = []
        for name, nbytes in self.walked():
            lines.append((0, nbytes, mounted / "tensors" / name.replace(".", "/")) if mounted
                         else (offsets[name], nbytes, self.model))
            if name.endswith(llama.LAST_OF_LAYER):
                lines.append(None)
        return self.write_list(f"mount{self.mounts}-walk" if mounted else "walk", lines)

    @staticmethod
    def paths(ranges):
        return [Path(line.split(" ", 2)[2]) for line in ranges.read_text().splitlines()]

    def copies(self, ranges, folder):
        """The same list with an ordinary copy of each file."""
        folder.mkdir()
        lines = []
        for i, line in enumerate(ranges.read_text().splitlines()):
            offset, length, path = line.split(" ", 2)
            run("cp", "--reflink=never", path, folder / str(i))
            lines.append((offset, length, folder / str(i)))
        run("sync", "-f", folder)
        return self.write_list("copies", lines)

    # ---- mounts ----

    @contextlib.contextmanager
    def mount(self, backing, source=None, options=()):
        self.mounts += 1
        path = self.folder / f"mnt{self.mounts}"
        options = [f"backing={backing}", *options]
        if backing == "resident":
            options.append(f"resident_limit={int(self.size * 1.1)}")
        mounted = mounting.Mount(source or self.model, path, options)
        try:
            mounted.start()
        except AssertionError as error:
            reason = str(error).split(": ", 1)[1].split(": the options are", 1)[0]
            raise NotPossible(reason.strip()) from None
        try:
            if backing != "stream":
                check_passthrough(mounted)
            yield mounted
        except BaseException as error:
            mounted.__exit__(type(error), error, None)
            raise
        mounted.stop()

    @contextlib.contextmanager
    def plain_mount(self, program):
        """One of the baselines of tests/tools, with the data of all tensors as one file."""
        self.mounts += 1
        path = self.folder / f"mnt{self.mounts}"
        path.mkdir()
        begin = self.tensors[0][1]
        subprocess.run([mounting.BIN / program, self.model, str(begin), str(self.bytes), path],
                       check=True)
        try:
            yield path / "data", self.list_of_file(f"plain{self.mounts}", path / "data", begin)
        finally:
            mounting.umount(path)

    def load(self, mounted, view="tensors", backing="resident"):
        """Opens each tensor once, so that files of their own are made for them. The seconds."""
        ranges = self.list_of_mount(mounted, view)
        seconds = self.bench("load", ranges, 2 * fill_threads())["seconds"]
        self.check_backing(mounted, view, backing)
        return seconds

    def check_backing(self, mounted, view, backing):
        """A tensor that has another backing would be measured as what it is not."""
        for name, _, nbytes in self.tensors:
            if nbytes < LEAST_FILE:
                continue
            path = mounted / view / (name.replace(".", "/") + (".npy" if view == "npy" else ""))
            found = os.getxattr(path, "user.weightfs.backing").decode()
            if found != backing:
                raise NotPossible(f"'{name}' has the backing {found} and not {backing}")

    # ---- XFS ----

    @contextlib.contextmanager
    def xfs(self):
        """(model, list of its tensors) on an XFS of its own."""
        if os.geteuid() != 0:
            raise NotPossible("a loop device takes root")
        if not shutil.which("mkfs.xfs"):
            raise NotPossible("there is no mkfs.xfs (xfsprogs)")
        image = self.folder / "xfs.image"
        path = self.folder / "xfs"
        with open(image, "wb") as file:
            file.truncate(2 * self.size + 2 * GIB)
        run("mkfs.xfs", "-q", "-m", "reflink=1", image)
        path.mkdir()
        loop = run("losetup", "--find", "--show", "--direct-io=on", image)
        try:
            run("mount", "-t", "xfs", loop, path)
            try:
                run("cp", "--reflink=never", self.model, path)
                model = path / self.model.name
                yield model, self.list_of_file("xfs", model)
            finally:
                unmount_patiently(path)
        finally:
            run("losetup", "--detach", loop)
            image.unlink()


def check_passthrough(mounted):
    passthrough = mounted.stats()["passthrough"]
    if not passthrough["available"]:
        raise NotPossible(f"no passthrough: {passthrough['reason']}")


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise NotPossible(f"{command[0]}: {done.stderr.strip()}")
    return done.stdout.strip()


def unmount_patiently(path):
    """The daemon's last descriptors may go a moment after its process."""
    for _ in range(50):
        if mounting.umount(path) == 0:
            return
        time.sleep(0.1)
    mounting.umount(path, mounting.MNT_DETACH)
