"""Every example of the pages runs, as it stands there."""
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import mounting
import writers
from pages import MAN_PAGES, PAGES, Example, examples, man_examples

TIME_LIMIT_S = 120
ALL = [example for page in PAGES for example in examples(page)]
LEFT_OUT = [example for example in ALL if example.reason]
RUN_PAGES = [page for page in PAGES if any(not e.reason for e in examples(page))]


def small_model():
    """What the examples take for granted: two layers with a q_proj of 8 x 4 halves."""
    tensors = []
    for layer in range(2):
        for name, shape in (("attn.q_proj.weight", (8, 4)), ("attn.q_proj.bias", (8,)),
                            ("attn.norm.weight", (4,))):
            count = shape[0] * (shape[1] if len(shape) > 1 else 1)
            tensors.append((f"layers.{layer}.{name}", "F16", shape, bytes(range(2 * count))))
    return writers.safetensors(tensors, metadata={"format": "pt"})


@pytest.fixture
def place(tmp_path):
    """A directory with a model, and the environment that a reader has."""
    (tmp_path / "model.safetensors").write_bytes(small_model())
    path = [str(mounting.BIN), str(Path(sys.executable).parent), os.environ["PATH"]]
    return tmp_path, {**os.environ, "PATH": ":".join(path), "NO_COLOR": "1",
                      "MODEL": str(tmp_path / "model.safetensors"), "MNT": str(tmp_path / "mnt")}


def command(example):
    if example.kind == "python":
        return ["python3", "-c", example.text]
    if example.kind == "c":
        return ["sh", "-ec", "cc -Wall -Wextra -Werror -o example -x c - && ./example"]
    return ["bash", "-euo", "pipefail", "-c", example.text]


def run(example, folder, environment):
    text = example.text if example.kind == "c" else ""
    done = subprocess.run(command(example), cwd=folder, env=environment, input=text, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          timeout=TIME_LIMIT_S)
    assert done.returncode == 0, f"{example}: status {done.returncode}\n{done.stdout}"
    return done.stdout


@pytest.mark.parametrize("page", RUN_PAGES, ids=lambda page: page.name)
def test_examples_of_a_page_run_one_after_the_other(page, place):
    output = [run(example, *place) for example in examples(page) if not example.reason]
    assert any(output), "no example printed anything"


@pytest.mark.parametrize("example", LEFT_OUT, ids=str)
def test_example_that_is_not_run(example):
    pytest.skip(f"{example}: {example.reason}")


def test_the_pages_have_examples_that_run():
    assert len(ALL) > len(LEFT_OUT)


# ---- Man pages: each block on its own ----

MAN_BLOCKS = [block for page in MAN_PAGES for block in man_examples(page)]


def llama_model():
    """Twelve layers with the names that the man pages have, large enough to be pinned."""
    tensors = [(f"model.layers.{layer}.self_attn.q_proj.weight", "F16", (64, 1024),
                bytes(128 << 10)) for layer in range(12)]
    return writers.safetensors([*tensors, ("lm_head.weight", "F16", (8,), bytes(16))])


@pytest.fixture
def man_place(tmp_path, place):
    folder, environment = place
    (folder / "model.safetensors").write_bytes(llama_model())
    (folder / "model.gguf").write_bytes(writers.gguf([("a", (2,), 0, bytes(8))]))
    yield folder, environment
    subprocess.run([mounting.BIN / "mountctl", "umount", "--force", tmp_path / "mnt"],
                   capture_output=True)


@pytest.mark.parametrize("block", MAN_BLOCKS, ids=str)
def test_an_example_of_a_man_page_runs(block, man_place):
    folder, environment = man_place
    block.text = block.text.replace("/mnt/model", str(folder / "mnt"))
    (folder / "mnt").mkdir()
    if not block.text.startswith(("weightfs ", "mountctl mount ", "mountctl info ")):
        run(Example(block.page, 0, "sh", "mountctl mount model.safetensors mnt", None), folder,
            environment)
        reason = json.loads((folder / "mnt/.weightfs/stats.json").read_text())["passthrough"].get("reason")
        if reason and "mountctl pin " in block.text:
            pytest.skip(f"{block}: no passthrough: {reason}")
    run(block, folder, environment)


def test_the_man_pages_have_examples():
    assert len(MAN_BLOCKS) >= 10


def test_an_example_that_fails_is_noticed(place):
    example = examples(PAGES[0])[-1]
    example.text, example.kind = "true\nfalse\ntrue\n", "sh"
    with pytest.raises(AssertionError, match="status 1"):
        run(example, *place)
