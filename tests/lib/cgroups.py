"""Control groups with little memory, of either version."""
import contextlib
import itertools
import os
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")


def hierarchy():
    """(version, directory) of the hierarchy that accounts for memory, or None."""
    controllers = ROOT / "cgroup.controllers"
    if controllers.exists() and "memory" in controllers.read_text().split():
        return 2, ROOT
    if (ROOT / "memory" / "memory.limit_in_bytes").exists():
        return 1, ROOT / "memory"
    return None


class Group:
    """A group of its own at the top of the hierarchy; a context manager."""

    number = itertools.count()

    def __init__(self, limit):
        self.version, top = hierarchy()
        self.path = top / f"weightfs-test-{os.getpid()}-{next(self.number)}"
        self.limit = limit

    def __enter__(self):
        if self.version == 2:
            self.write(self.path.parent / "cgroup.subtree_control", "+memory")
        self.path.mkdir()
        try:
            self.write("memory.max" if self.version == 2 else "memory.limit_in_bytes", self.limit)
        except OSError:
            self.path.rmdir()
            raise
        return self

    def __exit__(self, *_):
        self.path.rmdir()

    def write(self, name, value):
        (self.path / name).write_text(str(value))

    def used(self):
        name = "memory.current" if self.version == 2 else "memory.usage_in_bytes"
        return int((self.path / name).read_text())

    def kills(self):
        """How often the kernel has killed a process here for want of memory."""
        name = "memory.events" if self.version == 2 else "memory.oom_control"
        for line in (self.path / name).read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
        raise AssertionError(f"{name} does not count kills")

    def join(self):
        """Moves the calling process here; what it starts stays."""
        self.write("cgroup.procs", os.getpid())

    @contextlib.contextmanager
    def inside(self):
        """What is started now belongs to the group."""
        home = own_group(self.version, self.path.parent)
        self.join()
        try:
            yield
        finally:
            (home / "cgroup.procs").write_text(str(os.getpid()))


def own_group(version, top):
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "" if version == 2 else "memory" in controllers.split(","):
            return top / path.lstrip("/")
    raise AssertionError("no group of this version")


def why_not():
    """The reason why groups cannot be made here, or None."""
    if not hierarchy():
        return "no control groups that account for memory"
    try:
        with Group(64 << 20):
            return None
    except OSError as error:
        return f"control groups: {error.strerror}"
