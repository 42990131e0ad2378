"""What the pages and man pages state is what the programs and sources have."""
import fnmatch
import json
import os
import re
import subprocess

import pytest

import mounting
import writers
from pages import ROOT, plain, refusals, sentences, source_sentences, table

MAN_WEIGHTFS = (ROOT / "docs/weightfs.8").read_text()
MAN_MOUNTCTL = (ROOT / "docs/mountctl.1").read_text()


def output(program, *arguments):
    return subprocess.run([mounting.BIN / program, *arguments], capture_output=True, text=True,
                          check=True).stdout


def options_of(help_text):
    """-x and --xxx at the starts of lines, as mdoc writes them: x and -xxx."""
    return re.findall(r"^ {2}-(-?[A-Za-z][a-z-]*)", help_text, re.M)


def has_flag(page, option):
    return re.search(rf"^\.It .*\bFl {option}(?![a-z-])", page, re.M) is not None


# ---- man pages ----


def test_each_option_of_weightfs_is_in_its_man_page():
    options = options_of(output("weightfs", "--help"))
    assert len(options) >= 5
    assert [o for o in options if not has_flag(MAN_WEIGHTFS, o)] == []


def test_each_mount_option_is_in_the_man_page():
    listed = re.search(r"-o OPTION,\.\.\. +(.*(?:\n {17}.*)*)", output("weightfs", "--help"))[1]
    names = [item.split("=")[0] for item in re.split(r",\s+", listed)]
    assert len(names) >= 11
    assert [n for n in names if not re.search(rf"^\.It .*\bCm {n}\b", MAN_WEIGHTFS, re.M)] == []


def test_each_backing_is_in_the_table_and_in_the_man_page():
    names = re.search(r"\bbacking=([a-z|]+)", output("weightfs", "--help"))[1].split("|")
    listed = [row[0] for row in
              table("README.md", "backing=", "a tensor's bytes come from", "takes", "good for")]
    assert sorted(listed) == sorted(names)
    assert [n for n in names if f"\n.It Cm {n}\n" not in MAN_WEIGHTFS] == []


def commands():
    listed = output("mountctl", "--help").split("commands:")[1].split("options:")[0]
    return [name for name in re.findall(r"^ {2}(\w+)", listed, re.M) if name != "help"]


def test_each_command_has_a_section_in_the_man_page():
    names = commands()
    assert len(names) >= 6
    assert [n for n in names if f"\n.Ss {n}\n" not in MAN_MOUNTCTL] == []


def test_each_option_of_a_command_is_in_the_man_page():
    missing = []
    for name in commands():
        section = MAN_MOUNTCTL.split(f"\n.Ss {name}\n")[1].split("\n.S")[0]
        missing += [f"{name} -{option}" for option in options_of(output("mountctl", "help", name))
                    if not has_flag(section, option)]
    assert missing == []


# ---- docs/formats.md ----


def test_each_sentence_is_one_of_the_sources():
    known = "\n".join(source_sentences())
    documented = sentences("docs/formats.md")
    assert len(documented) > 40
    assert [s for s in documented if plain(s).strip("…: ") not in known] == []


def test_each_refusal_is_documented():
    documented = [plain(s).strip("…: ") for s in sentences("docs/formats.md")]
    refused = [r.strip("…: ") for r in refusals()]
    assert len(refused) > 50
    assert [r for r in refused if r and not any(d in r or r in d for d in documented)] == []


def dtype_rows():
    """Rows of parsers/dtype.c as docs/formats.md writes them."""
    source = (ROOT / "parsers/dtype.c").read_text()
    row = re.compile(r'^\t(PLAIN|PACKED|GGML)\((\w+), (?:"(.+?)", )?(\d+)(?:, (\d+))?\)', re.M)
    for kind, name, numpy, first, second in row.findall(source):
        view = "U8" if kind == "GGML" else name
        yield [name, first if second else "1", second or first, numpy, view]


def test_each_element_type_is_in_the_table():
    documented = table("docs/formats.md", "dtype", "block: elements", "block: bytes", "numpy",
                       "safetensors view")
    rows = list(dtype_rows())
    assert len(rows) > 40
    assert [row for row in rows if row not in documented] == []
    assert [row[0] for row in documented if row not in rows] == ["C128"]


def name_rows():
    return table("docs/formats.md", "name", "path below `tensors/`", "name in `flat/tensors/`")


@pytest.fixture
def named(mount):
    """A model with the names of the table; the bytes of each tensor are its name."""
    return mount(writers.safetensors([(name, "U8", [len(name.encode())], name.encode())
                                      for name, _, _ in name_rows()]))


def test_each_name_has_the_documented_paths(named):
    for name, path, flat in name_rows():
        assert (named / "tensors" / path).read_bytes() == name.encode(), name
        assert (named / "flat/tensors" / flat).read_bytes() == name.encode(), name
    assert {n: t["path"] for n, t in named.tensors().items()} == \
        {name: path for name, path, _ in name_rows()}


def test_long_names_are_cut_as_documented(mount):
    # XXH3_64bits() of 300 times 'a'.
    mark = "~c1d17581d8eb7e21"
    names = ["a" * 300, "a" * 300 + ".b"]
    named = mount(writers.safetensors([(n, "U8", [len(n)], n.encode()) for n in names]))
    folder = named / "tensors" / ("a" * 238 + mark)
    assert (folder / "%self").read_bytes() == names[0].encode()
    assert (folder / "b").read_bytes() == names[1].encode()
    assert (named / "flat/tensors" / ("a" * 238 + mark)).read_bytes() == names[0].encode()
    npy = named / "flat/npy" / ("a" * 234 + mark + ".npy")
    assert npy.read_bytes().endswith(names[0].encode())


def test_the_attributes_are_the_documented_ones(named):
    documented = [row[0] for row in table("docs/formats.md", "attribute", "value")]
    assert sorted(os.listxattr(named / "tensors/lm_head/weight")) == sorted(documented)


# ---- docs/architecture.md ----


def test_each_file_of_the_daemon_is_in_the_table_and_no_other():
    patterns = [pattern for row in table("docs/architecture.md", "file", "knows")
                for pattern in re.findall(r"[\w*]+", row[0])]
    there = {path.stem for path in (ROOT / "fs").glob("*.c")} | {"conn"}
    described = {name for name in there for pattern in patterns if fnmatch.fnmatch(name, pattern)}
    assert sorted(there - described) == []
    assert [p for p in patterns if not fnmatch.filter(there, p)] == []


# ---- docs/status.md ----


def test_each_member_of_the_status_is_documented(named):
    documented = [row[0].strip("`[]") for row in
                  table("docs/status.md", "member", "type", "meaning")]
    assert [key for key in named.stats() if key not in documented] == []


def test_the_description_has_the_documented_members(tmp_path):
    source = tmp_path / "m.safetensors"
    source.write_bytes(writers.safetensors([("a", "U8", [1], b"x")]))
    described = json.loads(output("weightfs", "--describe", source))
    assert list(described) == ["model", "metadata", "warnings"]
    for key in described:
        assert f".Ql {key}" in MAN_WEIGHTFS


def test_the_probe_has_the_documented_members():
    for key in json.loads(output("weightfs", "--probe")):
        assert re.search(rf"^\.Ql (.* , )?{key}\b", MAN_WEIGHTFS, re.M), key


def test_each_check_of_the_doctor_is_documented(named):
    done = subprocess.run([mounting.BIN / "mountctl", "--json", "doctor", named.path],
                          capture_output=True, check=False)
    documented = [name for row in table("docs/status.md", "id", "about")
                  for name in re.findall(r"\w+", row[0])]
    assert [row["id"] for row in json.loads(done.stdout)["checks"]] == documented
