"""Many threads fault the same and different tensors while pages are thrown out again."""
import os
import subprocess

import numpy as np
import pytest

import mounting
import writers

SECONDS = int(os.environ.get("STRESS_SECONDS", "60"))
THREADS = 64
MIB = 1 << 20


def content(size, seed):
    return np.random.default_rng(seed).integers(0, 256, size, np.uint8).tobytes()


@pytest.fixture
def model(tmp_path):
    """A large tensor that all want, middle ones and many small ones, at odd offsets."""
    sizes = [64 * MIB + 13] + [4 * MIB + 5] * 20 + [4096 + 3] * 40 + [777] * 40
    if mounting.SANITIZED:
        sizes[0] = 8 * MIB + 13
    path = tmp_path / "model.safetensors"
    path.write_bytes(writers.safetensors(
        [(f"t.{i}", "U8", [size], content(size, i)) for i, size in enumerate(sizes)], pad=1))
    return path


def write_list(mounted, path):
    """Lines for fault_storm; the large tensor first. Each tensor also as a view file's data."""
    entries = sorted(mounted.model()["tensors"], key=lambda t: -t["nbytes"])
    lines = [f"{t['offset']} {t['nbytes']} {mounted / 'tensors' / t['path']}" for t in entries]
    path.write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize("options", [[], ["threads=1"], ["readahead=16M"], ["readahead=0"]],
                         ids=lambda o: ",".join(o) or "default")
def test_a_storm_of_faults_brings_right_bytes_and_no_hang(mount, model, tmp_path, build_dir,
                                                          options):
    mounted = mount(model, *options)
    write_list(mounted, tmp_path / "list")
    # Most of the time is for the default; the others show that no setting hangs.
    seconds = SECONDS if not options else max(5, SECONDS // 10)
    done = subprocess.run([build_dir / "fault_storm", str(seconds), str(THREADS), model,
                           tmp_path / "list"], capture_output=True, text=True,
                          timeout=seconds + 120)
    print(f"\n      {seconds} s, {','.join(options) or 'default'}: {done.stdout.strip()}", end="")
    assert done.returncode == 0, done.stderr
    assert mounting.is_running(mounted.pid)
    assert int(done.stdout.split()[0]) > THREADS


def test_whole_files_read_by_many_processes_at_once(mount, model):
    mounted = mount(model)
    path = sorted(mounted.model()["tensors"], key=lambda t: -t["nbytes"])[0]["path"]
    command = ["cmp", mounted / "tensors" / path, mounted / "flat/tensors" /
               path.replace("/", ".")]
    children = [subprocess.Popen(command) for _ in range(16)]
    assert [child.wait(120) for child in children] == [0] * 16
