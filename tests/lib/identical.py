"""Every way of reading brings the same bytes, whatever the backing is doing meanwhile."""
import contextlib
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

import mounting
import reading
import volumes
import writers
from mounting import status

MIB = 1 << 20
PARTS = 4 if mounting.SANITIZED else 1
SIZES = {"a.large": 9 * MIB // PARTS + 17, "a.odd": 3 * MIB // PARTS + 4099, "b.pages": MIB,
         "b.least": 65536, "b.small": 60001, "c.middle": 2 * MIB // PARTS + 1,
         "c.other": 5 * MIB // PARTS + 8}
VIEWS = ["tensors", "npy", "safetensors"]
# Less than all files take, so that some are given up all the time; more than the largest.
LIMIT = sum(SIZES.values())
MOUNTCTL = mounting.BIN / "mountctl"

# What may be mounted: name -> options.
SETUPS = {
    "stream": ["backing=stream"],
    "stream-drop": ["backing=stream", "source_cache=drop"],
    "resident": ["backing=resident"],
    "resident-tight": ["backing=resident", f"resident_limit={LIMIT}"],
    "resident-drop": ["backing=resident", f"resident_limit={LIMIT}", "source_cache=drop"],
    "clone": ["backing=clone"],
    "auto": ["backing=auto", f"resident_limit={LIMIT}"],
}


def data_of(name):
    return random.Random(name).randbytes(SIZES[name])


@contextlib.contextmanager
def place_for(setup, folder):
    """Where the model is to stand: clones need a file system that shares blocks."""
    if setup not in ("clone", "auto"):
        yield folder
        return
    try:
        with volumes.Xfs(folder, 400 * MIB) as volume:
            yield volume.path
    except volumes.Xfs.Unavailable as reason:
        if setup == "clone":
            pytest.skip(f"no file system that shares blocks: {reason}")
        yield folder


def backings():
    """What -o backing= knows."""
    text = mounting.run_weightfs("--help").stdout
    return text.split("backing=")[1].split(",")[0].split("|")


def has_command(name):
    return subprocess.run([MOUNTCTL, "help", name], capture_output=True).returncode == 0


def write_model(folder):
    path = folder / "model.safetensors"
    path.write_bytes(writers.safetensors([(n, "U8", [s], data_of(n)) for n, s in SIZES.items()],
                                         pad=3))
    return path


def files_of(mounted):
    return {(name, view): mounted.tensor(name, view) for name in SIZES for view in VIEWS}


def write_expected(mounted, folder):
    """Files with what each view must hold: a header, whose length the daemon says, and the
    bytes that the model was made of."""
    folder.mkdir()
    for (name, view), path in files_of(mounted).items():
        found = path.read_bytes()
        header = found[:len(found) - SIZES[name]]
        (folder / f"{view}-{path.name}-{name}").with_suffix(path.suffix).write_bytes(
            header + data_of(name))
        assert found.endswith(data_of(name)) and (header == b"") == (view == "tensors")


def expected_of(folder, name, view, path):
    return (folder / f"{view}-{path.name}-{name}").with_suffix(path.suffix)


class Storm:
    """Readers of all kinds against one mount, and what makes it hard for them."""

    # How long after its time a reader is taken for hung.
    HANG_S = 240 if mounting.SANITIZED else 60

    def __init__(self, mounted, folder, expected, build_dir):
        self.mounted = mounted
        self.folder = folder
        self.paths = files_of(mounted)
        self.list = folder / "list"
        self.build_dir = build_dir
        self.seen = set()
        self.random = random.Random(1)
        self.list.write_text("".join(
            f"{path}\t{expected_of(expected, name, view, path)}\n"
            for (name, view), path in self.paths.items()))
        self.can_prefetch = has_command("prefetch")
        self.can_evict = has_command("evict")

    def commands(self, seconds):
        script = Path(reading.__file__)
        for i, way in enumerate(reading.WAYS):
            yield way, [sys.executable, script, way, str(seconds), str(i), self.list,
                        self.folder / f"copy-{way}"]
        yield "map_compare", [self.build_dir / "map_compare", str(seconds), "7", self.list]

    def run(self, seconds):
        """Returns how many files were compared by each kind of reader."""
        readers = {way: subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                         text=True)
                   for way, command in self.commands(seconds)}
        end = time.monotonic() + seconds
        try:
            while time.monotonic() < end:
                self.disturb()
            return {way: self.result_of(way, reader, end) for way, reader in readers.items()}
        finally:
            if any(reader.poll() is None for reader in readers.values()):
                self.mounted.kill()
            for reader in readers.values():
                reader.kill()
                reader.communicate()

    def result_of(self, way, reader, end):
        try:
            out, error = reader.communicate(timeout=end + self.HANG_S - time.monotonic())
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{way} hangs") from None
        assert reader.returncode == 0, f"{way}: {error}"
        return int(out)

    def disturb(self):
        """Promotes, evicts, or drops something."""
        name, view = self.random.choice(list(self.paths))
        path = self.paths[name, view]
        kind = self.random.randrange(6)
        if kind == 0 and self.can_prefetch:
            self.control("prefetch", name, "--resident")
        elif kind == 1 and self.can_evict:
            self.control("evict", self.random.choice([name, "*"]))
        elif kind == 2:
            self.drop(self.mounted.source)
        elif kind == 3:
            self.drop(path)
        else:
            with open(path, "rb"):
                self.seen.add(os.getxattr(path, "user.weightfs.backing").decode())
        time.sleep(0.01)

    def control(self, command, *args):
        # That something is open or does not fit is no error here; a hang is.
        subprocess.run([MOUNTCTL, command, self.mounted.path, *args], capture_output=True,
                       timeout=self.HANG_S)

    @staticmethod
    def drop(path):
        with open(path, "rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def check(tmp_path, build_dir, setup, seconds):
    """The whole of it: mounts, storms, and looks at what has happened."""
    backing = setup.split("-")[0]
    if backing not in backings():
        pytest.skip(f"this version has no backing={backing}")
    with place_for(setup, tmp_path) as place:
        source = write_model(place)
        with mounting.Mount(source, tmp_path / "mnt", SETUPS[setup]) as mounted:
            found = status(mounted)
            if backing == "resident" and not found["passthrough"]["available"]:
                pytest.skip("no passthrough: " + found["passthrough"]["reason"])
            if backing == "clone" and not found["clone"]["available"]:
                pytest.skip("no clones: " + found["clone"]["reason"])
            write_expected(mounted, tmp_path / "expected")
            storm = Storm(mounted, tmp_path, tmp_path / "expected", build_dir)
            done = storm.run(seconds)
            assert mounting.is_running(mounted.pid)
            found = status(mounted)
    print(f"\n      {setup}: {sum(done.values())} files compared in {seconds} s, "
          f"{found['resident']['made']} made, {found['resident']['evicted']} given up", end="")
    assert min(done.values()) > 0
    assert found["reads"]["errors"] == 0
    # A machine without memory may refuse to make a file; then it is streamed.
    assert found["resident"]["failed"] == 0 or found["resident"]["pressure_events"] > 0
    expect_seen(setup, storm, found)


def expect_seen(setup, storm, found):
    """That the storm was one."""
    if setup.startswith("stream"):
        assert storm.seen == {"stream"}
    elif setup.startswith("resident"):
        assert storm.seen == {"stream", "resident"}
    if setup in ("resident-tight", "resident-drop"):
        assert found["resident"]["evicted"] > 5
        assert found["resident"]["used"] <= LIMIT
    if setup == "clone":
        assert "clone" in storm.seen
