"""A virtual machine with several memory nodes, and what runs in it.

It has Debian's kernel, the programs under test with the libraries that they are linked with, a
disk with a model on a node of its own, and no network. Commands go through a serial port.
"""
import base64
import contextlib
import ctypes
import lzma
import os
import re
import select
import shlex
import shutil
import signal
import stat
import subprocess
import time
from pathlib import Path

import mounting

KERNEL = mounting.ROOT / "build-tests" / "guest" / "kernel"
QEMU = "qemu-system-x86_64"
MODULES = ["drivers/block/virtio_blk.ko.xz"]
MIB = 1 << 20

# A processor without the one instruction that QEMU 7.2 gets wrong when it translates for
# several threads at once; and what the machine's own processor has, where that works.
ACCELERATORS = {"kvm": "max", "tcg": "max,-cx16"}
PROBE_S = 8
BOOT_S = 90


class Failed(Exception):
    """The machine does not do as it should: it has to be given up."""


# ---- what the machine boots ----

def kernel_image():
    (image,) = (KERNEL / "boot").glob("vmlinuz-*")
    return image


def why_no_guests():
    """The reason why no machine can be booted, or None."""
    if not shutil.which(QEMU):
        return f"no {QEMU}"
    if not KERNEL.exists():
        return f"no kernel in {KERNEL}: ./tests/run numa gets it"
    return None


def libraries(program):
    """The files that the loader needs for a program, under the names that it looks for."""
    done = subprocess.run(["ldd", program], capture_output=True, text=True)
    return re.findall(r"(/\S+) \(0x", done.stdout)


class Archive:
    """A file system for the kernel to start with (newc)."""

    def __init__(self):
        self.entries = {}

    def add(self, name, data, mode=stat.S_IFREG | 0o755):
        for parent in reversed(Path(name).parents):
            self.entries.setdefault(str(parent), (stat.S_IFDIR | 0o755, b""))
        self.entries[name] = (mode, data)

    def add_program(self, path, name):
        self.add(name, Path(path).read_bytes())
        for library in libraries(path):
            self.add(library.lstrip("/"), Path(library).read_bytes())

    def write(self, path):
        with open(path, "wb") as file:
            for number, (name, (mode, data)) in enumerate(self.entries.items(), 1):
                self.write_entry(file, name, number, mode, data)
            self.write_entry(file, "TRAILER!!!", 0, 0, b"")

    @staticmethod
    def write_entry(file, name, number, mode, data):
        encoded = name.encode() + b"\0"
        fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(encoded), 0)
        file.write(b"070701" + b"".join(b"%08X" % field for field in fields) + encoded)
        file.write(b"\0" * (-file.tell() % 4) + data)
        file.write(b"\0" * (-file.tell() % 4))


def write_initramfs(path):
    archive = Archive()
    archive.add("init", (Path(__file__).parent / "init").read_bytes())
    for program in (shutil.which("busybox"), mounting.WEIGHTFS, mounting.BIN / "mountctl",
                    mounting.BIN / "page_nodes"):
        archive.add_program(program, f"bin/{Path(program).name}")
    (modules,) = (KERNEL / "lib/modules").iterdir()
    for module in MODULES:
        data = lzma.decompress((modules / "kernel" / module).read_bytes())
        archive.add(f"modules/{Path(module).stem}", data)
    archive.write(path)


def write_disk(path, folder, size):
    """An ext4 file system with the files of a folder."""
    with open(path, "wb") as file:
        file.truncate(size)
    subprocess.run(["mkfs.ext4", "-q", "-d", folder, path], check=True, capture_output=True)


# ---- the machine ----

def end_with_parent():
    """A test run that is killed leaves no machine behind; run between fork and exec."""
    set_pdeathsig = 1
    ctypes.CDLL(None).prctl(set_pdeathsig, signal.SIGKILL)


class Machine:
    """What there is of it: memory in MiB for each node, with a processor each; the node that
    the disk is at; distances between nodes."""

    def __init__(self, memory, disk_node, distances):
        self.memory = memory
        self.disk_node = disk_node
        self.distances = distances

    def arguments(self):
        count = len(self.memory)
        args = ["-machine", "q35", "-m", f"{sum(self.memory)}M",
                "-smp", f"{count},sockets={count}"]
        for node, size in enumerate(self.memory):
            args += ["-object", f"memory-backend-ram,id=m{node},size={size}M",
                     "-numa", f"node,nodeid={node},cpus={node},memdev=m{node}"]
        for one, row in enumerate(self.distances):
            for other, distance in enumerate(row):
                args += ["-numa", f"dist,src={one},dst={other},val={distance}"]
        return args

    def disk_arguments(self, disk):
        return ["-device", f"pxb-pcie,id=far,bus_nr=32,bus=pcie.0,numa_node={self.disk_node}",
                "-device", "pcie-root-port,id=far-port,bus=far,chassis=1",
                "-drive", f"if=none,id=disk,format=raw,readonly=on,file={disk}",
                "-device", "virtio-blk-pci,drive=disk,bus=far-port"]


def qemu(accelerator, *args):
    return [QEMU, "-accel", accelerator, "-cpu", ACCELERATORS[accelerator], "-nodefaults",
            "-no-user-config", "-display", "none", "-no-reboot", "-kernel", kernel_image(), *args]


def why_no_kvm(initramfs):
    """The reason why the processor cannot run machines itself, or None: found out by booting
    one, as there are hosts where the device is there and nothing comes of it."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "no /dev/kvm"
    command = qemu("kvm", "-m", "256M", "-initrd", initramfs, "-serial", "stdio", "-append",
                   "console=ttyS0 rdinit=/none panic=-1")
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              errors="replace", timeout=PROBE_S, preexec_fn=end_with_parent)
    except subprocess.TimeoutExpired:
        return f"/dev/kvm is there, but a machine has not booted after {PROBE_S} s"
    if "Linux version" not in done.stdout:
        return f"/dev/kvm is there, but no machine boots: {done.stderr.strip()[-200:]}"
    return None


class Guest:
    """A running machine. Start it with `with`."""

    def __init__(self, machine, accelerator, initramfs, disk, log):
        self.machine = machine
        self.log = log
        self.command = qemu(
            accelerator, *machine.arguments(), "-initrd", initramfs,
            # On a busy host a translated processor gets no time for many seconds.
            "-append", "console=ttyS0 loglevel=5 panic=-1 nosoftlockup transparent_hugepage=madvise",
            "-serial", f"file:{log}", "-device", "virtio-serial-pci",
            "-chardev", "stdio,id=port0,signal=off", "-device", "virtserialport,chardev=port0",
            *machine.disk_arguments(disk))
        self.slow = 1 if accelerator == "kvm" else 4
        self.process = None
        self.pending = b""

    def __enter__(self):
        start = time.monotonic()
        self.process = subprocess.Popen(self.command, stdin=subprocess.PIPE, bufsize=0,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                        preexec_fn=end_with_parent)
        try:
            line = self.read_line(start + BOOT_S)
            if line != "ready":
                raise Failed(f"said '{line}' in place of 'ready'")
        except BaseException:
            self.give_up()
            raise
        self.boot_s = time.monotonic() - start
        return self

    def __exit__(self, kind, value, trace):
        if self.is_running() and kind is None:
            self.process.stdin.write(self.encoded("poweroff -f"))
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                pass
        self.give_up()

    def is_running(self):
        return self.process.poll() is None

    def give_up(self):
        self.process.kill()
        self.process.wait()

    def console(self):
        """What the kernel has said; for people."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    # ---- the port ----

    def fail(self, what):
        self.give_up()
        errors = self.process.stderr.read().decode(errors="replace")
        raise Failed(f"{what}\n{errors}\nthe machine's console ends with:\n{self.console()[-3000:]}")

    def receive(self, deadline):
        left = max(0, deadline - time.monotonic())
        if not select.select([self.process.stdout], [], [], left)[0]:
            self.fail("no answer")
        data = os.read(self.process.stdout.fileno(), 1 << 16)
        if not data:
            self.fail("the machine ended")
        self.pending += data

    def read_line(self, deadline):
        while b"\n" not in self.pending:
            self.receive(deadline)
        line, self.pending = self.pending.split(b"\n", 1)
        return line.decode().strip()

    def read_bytes(self, count, deadline):
        while len(self.pending) < count:
            self.receive(deadline)
        data, self.pending = self.pending[:count], self.pending[count:]
        return data

    @staticmethod
    def encoded(script):
        return base64.b64encode(script.encode()) + b"\n"

    # ---- commands ----

    def run(self, script, timeout=60):
        """Runs a script of the shell to its end; CompletedProcess with text."""
        deadline = time.monotonic() + timeout * self.slow
        self.process.stdin.write(self.encoded(script))
        status, out, errors = map(int, self.read_line(deadline).split())
        return subprocess.CompletedProcess(
            script, status, self.read_bytes(out, deadline).decode(errors="replace"),
            self.read_bytes(errors, deadline).decode(errors="replace"))

    def ok(self, script, timeout=60):
        """The output of a script that must not fail."""
        done = self.run(script, timeout)
        assert done.returncode == 0, f"{script}: status {done.returncode}: {done.stderr}"
        return done.stdout

    def page_nodes(self, path, *options):
        """What tests/tools/page_nodes.c says of a file."""
        return self.pages_of(self.ok(shlex.join(map(str, ["page_nodes", *options, path]))))

    @staticmethod
    def pages_of(text):
        return Pages(text)

    def free_on(self, node):
        """Bytes of this node's memory that nobody uses."""
        line = self.ok(f"grep MemFree: /sys/devices/system/node/node{node}/meminfo")
        return int(line.split()[-2]) * 1024

    @contextlib.contextmanager
    def full_node(self, node, left):
        """Within, the memory of a node is taken but for so many bytes."""
        taken = self.free_on(node) - left
        self.ok(f"mkdir -p /tmp/full && mount -t tmpfs -o mpol=bind:{node},size=100% full /tmp/full &&"
                f" fallocate -l {taken} /tmp/full/zeros")
        try:
            yield
        finally:
            if self.is_running():
                self.ok("umount /tmp/full")

    def drop_caches(self):
        self.ok("sync; echo 3 > /proc/sys/vm/drop_caches")


class Pages:
    """Bytes on each node, and what else page_nodes has printed."""

    def __init__(self, text):
        words = dict(line.split() for line in text.splitlines() if " " in line)
        self.nodes = {int(key): int(value) for key, value in words.items() if key.isdigit()}
        self.absent = int(words["absent"])
        self.sum = int(words["sum"]) if "sum" in words else None
        self.passes, self.wrong = int(words.get("passes", 0)), int(words.get("wrong", 0))

    @property
    def present(self):
        return sum(self.nodes.values())

    def share(self, node):
        """The part of what is there that this node has, 0 to 1."""
        return self.nodes.get(node, 0) / self.present

    def __repr__(self):
        return f"<{self.nodes} absent {self.absent}>"
