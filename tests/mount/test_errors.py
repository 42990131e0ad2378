"""Bad input gets one clear sentence and an exit status; nothing stays mounted."""
import json
import os
import re
import resource
import struct
import subprocess

import pytest

import mounting
from writers import (ARRAY, F64, I32, STRING, U32, U8, gguf, gguf_info, gguf_kv, gguf_raw,
                     gguf_string, padded, safetensors, safetensors_raw)

U64_MAX = 2 ** 64 - 1


def tensor(dtype, shape, begin, end, extra=""):
    return f'{{"dtype":"{dtype}","shape":{json.dumps(shape)},"data_offsets":[{begin},{end}]{extra}}}'


def refused(tmp_path, source, *args, status=1):
    """Runs the daemon; it must say one line and leave nothing mounted. The line."""
    mnt = tmp_path / "mnt"
    mnt.mkdir(exist_ok=True)
    done = mounting.run_weightfs(source, mnt, *args)
    if mounting.is_mounted(mnt):
        mounting.umount(mnt)
        pytest.fail("was mounted")
    assert done.returncode == status, done.stderr
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert re.match(r"weightfs: \S", lines[0]) and not lines[0].endswith("."), lines[0]
    assert lines[0].isprintable(), "text from a file brought control characters"
    assert os.listdir(mnt) == []
    assert mounting.wait_for(lambda: not mounting.daemons_of(mnt)), "left a daemon behind"
    return lines[0]


def check_bad_bytes(tmp_path, name, data, words):
    path = tmp_path / name
    path.write_bytes(data)
    line = refused(tmp_path, path)
    assert line.startswith(f"weightfs: {path}: "), line
    assert re.search(words, line, re.I), f"{line!r} does not say {words!r}"


# ---- safetensors ----

VALID = safetensors([("w", "F32", [2], bytes(8))])

BAD_SAFETENSORS = {
    "seven bytes": (b"\0" * 7, "7 bytes|too short|8"),
    "header longer than the file": (struct.pack("<Q", 60), "60"),
    "header over the limit": (bytes.fromhex("3c00000000ffffff"), "header"),
    "header of 100000001": (struct.pack("<Q", 100_000_001) + b"{}", "100000001|limit"),
    "not utf-8": (safetensors_raw(b"\xff"), "."),
    "not json": (safetensors_raw("{"), "."),
    "empty header": (safetensors_raw(""), "."),
    "top level is an array": (safetensors_raw("[]"), "."),
    "top level is null": (safetensors_raw("null"), "."),
    "shape says more than the range": (
        safetensors_raw('{"t":' + tensor("I32", [2, 2], 0, 4) + "}", bytes(4)), "'t'.*16|'t'.*4"),
    "product wraps": (
        safetensors_raw('{"t":' + tensor("I32", [2, U64_MAX - 1], 0, 16) + "}", bytes(16)), "'t'"),
    "bytes wrap": (
        safetensors_raw('{"t":' + tensor("I32", [2, 2 ** 63 - 1], 0, 16) + "}", bytes(16)), "'t'"),
    "product wraps before a zero": (
        safetensors_raw('{"t":' + tensor("I32", [U64_MAX, 2, 0], 0, 0) + "}"), "'t'"),
    "product wraps to a fitting size": (
        safetensors_raw('{"t":' + tensor("F32", [4194305, 4194305, 211106198978564], 0, 16) + "}",
                        bytes(16)), "'t'"),
    "ten tensors on one range": (
        safetensors_raw("{" + ",".join(f'"t{i}":' + tensor("F32", [4], 0, 16) for i in range(10))
                        + "}", bytes(16)), "'t\\d'"),
    "extra bytes": (VALID + b"extra_bogus_data_for_polyglot_file", "."),
    "two bytes short": (VALID[:-2], "."),
    "gap": (safetensors_raw('{"t":' + tensor("U8", [4], 4, 8) + "}", bytes(8)), "'t'"),
    "reversed range": (safetensors_raw('{"t":' + tensor("U8", [4], 4, 0) + "}", bytes(4)), "'t'"),
    "tied tensors": (
        safetensors_raw('{"a":' + tensor("U8", [4], 0, 4) + ',"b":' + tensor("U8", [4], 0, 4) + "}",
                        bytes(4)), "'[ab]'"),
    "half a byte": (
        safetensors_raw('{"t":' + tensor("F4", [1, 3], 0, 2) + "}", bytes(2)), "'t'"),
    "fp6 of three": (
        safetensors_raw('{"t":' + tensor("F6_E2M3", [3], 0, 2) + "}", bytes(2)), "'t'"),
    "unknown dtype": (
        safetensors_raw('{"t":' + tensor("Q4_K", [4], 0, 4) + "}", bytes(4)), "'t'.*Q4_K|Q4_K"),
    "dtype in lower case": (
        safetensors_raw('{"t":' + tensor("f32", [1], 0, 4) + "}", bytes(4)), "f32"),
    "same name twice": (
        safetensors_raw('{"t":' + tensor("U8", [4], 0, 4) + ',"t":' + tensor("U8", [4], 0, 4) + "}",
                        bytes(4)), "'t'"),
    "same name twice, once escaped": (
        safetensors_raw('{"t":' + tensor("U8", [4], 0, 4) + ',"\\u0074":'
                        + tensor("U8", [4], 4, 8) + "}", bytes(8)), "'t'"),
    "same metadata key twice": (
        safetensors_raw('{"__metadata__":{"k":"1","k":"2"}}'), "k"),
    "metadata twice": (
        safetensors_raw('{"__metadata__":{},"__metadata__":{}}'), "__metadata__"),
    "metadata is a number": (safetensors_raw('{"__metadata__":{"k":1}}'), "."),
    "same field twice": (
        safetensors_raw('{"t":' + tensor("U8", [4], 0, 4, ',"dtype":"U8"') + "}", bytes(4)),
        "dtype"),
    "missing field": (
        safetensors_raw('{"t":{"dtype":"U8","shape":[4]}}', bytes(4)), "'t'.*data_offsets|data_off"),
    "tensor as an array": (
        safetensors_raw('{"t":["U8",[4],[0,4]]}', bytes(4)), "."),
    "three offsets": (
        safetensors_raw('{"t":{"dtype":"U8","shape":[4],"data_offsets":[0,4,4]}}', bytes(4)), "."),
    "one offset": (
        safetensors_raw('{"t":{"dtype":"U8","shape":[4],"data_offsets":[0]}}', bytes(4)), "."),
    "byte order mark": (safetensors_raw(b"\xef\xbb\xbf{}"), "."),
    "trailing zero byte": (safetensors_raw(b"{}\0"), "."),
    "second object": (safetensors_raw("{}{}"), "."),
    "trailing comma": (
        safetensors_raw('{"t":' + tensor("U8", [4], 0, 4) + ",}", bytes(4)), "."),
    "comment": (safetensors_raw("{/**/}"), "."),
    "control character in a name": (
        safetensors_raw('{"a\x01b":' + tensor("U8", [4], 0, 4) + "}", bytes(4)), "."),
    "lone surrogate": (
        safetensors_raw('{"\\ud800":' + tensor("U8", [4], 0, 4) + "}", bytes(4)), "."),
    "deep nesting": (
        safetensors_raw('{"t":' + tensor("U8", [4], 0, 4, ',"x":' + "[" * 200 + "]" * 200) + "}",
                        bytes(4)), "nest|deep"),
    "rank 65": (
        safetensors_raw('{"t":' + tensor("U8", [1] * 65, 0, 1) + "}", bytes(1)), "'t'.*6[45]"),
    "header cut in half": (VALID[:8 + 20], "."),
    "length of another file": (struct.pack("<Q", 1000) + VALID[8:], "1000"),
}
for number in ("2.0", "2e0", "-0", "02", '"2"', "18446744073709551616", "NaN", "+2", "0x2"):
    BAD_SAFETENSORS[f"dimension {number}"] = (
        safetensors_raw('{"t":{"dtype":"U8","shape":[' + number + '],"data_offsets":[0,2]}}',
                        bytes(2)), ".")


@pytest.mark.parametrize("case", BAD_SAFETENSORS)
def test_bad_safetensors(tmp_path, case):
    data, words = BAD_SAFETENSORS[case]
    check_bad_bytes(tmp_path, "model.safetensors", data, words)


GOOD_SAFETENSORS = {
    "no tensors": safetensors_raw("{}"),
    "zero dimension": safetensors_raw('{"t":' + tensor("F32", [2, 0], 0, 0) + "}"),
    "scalar": safetensors_raw('{"t":' + tensor("I32", [], 0, 4) + "}", bytes(4)),
    "trailing whitespace": safetensors_raw("{}\r \t\n"),
    "leading whitespace": safetensors_raw("\t\n{}\r "),
    "unknown field": safetensors_raw(
        '{"t":' + tensor("U8", [1], 0, 1, ',"future":{"a":[1,2.5,null,true]}') + "}", b"x"),
    "empty metadata": safetensors_raw('{"__metadata__":{}}'),
    "zero hides no overflow behind it": safetensors_raw(
        '{"t":' + tensor("U8", [0, U64_MAX, 2], 0, 0) + "}"),
    "empty tensors between others": safetensors_raw(
        '{"a":' + tensor("U8", [2], 0, 2) + ',"e":' + tensor("U8", [0], 2, 2) + ',"f":'
        + tensor("U8", [0], 2, 2) + ',"b":' + tensor("U8", [2], 2, 4) + "}", b"abcd"),
}


@pytest.mark.parametrize("case", GOOD_SAFETENSORS)
def test_odd_but_valid_safetensors_are_mounted(mount, case):
    data = GOOD_SAFETENSORS[case]
    mounted = mount(data)
    for entry in mounted.model()["tensors"]:
        begin = entry["offset"]
        assert (mounted / "tensors" / entry["path"]).read_bytes() == \
            data[begin:begin + entry["nbytes"]]


# ---- GGUF ----


def one_tensor(name="t", dims=(8,), kind=24, offset=0, data=bytes(32), kv=b"", n_kv=0):
    head = gguf_raw(1, n_kv, kv + gguf_info(name, dims, kind, offset))
    return padded(head, 32) + data


def two_tensors(first, second, data):
    return padded(gguf_raw(2, 0, gguf_info(*first) + gguf_info(*second)), 32) + data


def with_kv(*entries, tensors=0):
    return gguf_raw(tensors, len(entries), b"".join(entries))


BAD_GGUF = {
    "only the magic": (b"GGUF", "."),
    "reversed magic": (b"FUGG" + bytes(28), "."),
    "version 0": (gguf_raw(0, 0, version=0), "version"),
    "version 1": (gguf_raw(0, 0, version=1), "version"),
    "version 4": (gguf_raw(0, 0, version=4), "version.*4"),
    "big endian": (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "endian"),
    "tensor count -1": (gguf_raw(U64_MAX, 0), "tensor"),
    "tensor count 2^63": (gguf_raw(2 ** 63, 0), "tensor"),
    "kv count -1": (gguf_raw(0, U64_MAX), "."),
    "kv count 2^63": (gguf_raw(0, 2 ** 63), "."),
    "key size -1": (gguf_raw(0, 1, struct.pack("<Q", U64_MAX) + b"key"), "."),
    "key size 2^63": (gguf_raw(0, 1, struct.pack("<Q", 2 ** 63) + bytes(64)), "."),
    "empty key": (with_kv(gguf_kv("", U8, 1)), "key"),
    "kv type 13": (with_kv(gguf_string("k") + struct.pack("<IQ", 13, 0)), "13"),
    "same key twice": (with_kv(gguf_kv("k", U8, 1), gguf_kv("k", U8, 1)), "'k'"),
    "alignment 0": (with_kv(gguf_kv("general.alignment", U32, 0)), "alignment"),
    "alignment 13": (with_kv(gguf_kv("general.alignment", U32, 13)), "alignment.*13"),
    "alignment 24": (with_kv(gguf_kv("general.alignment", U32, 24)), "alignment.*24"),
    "alignment 2^31": (with_kv(gguf_kv("general.alignment", U32, 2 ** 31)), "alignment"),
    "alignment as i32": (with_kv(gguf_kv("general.alignment", I32, 32)), "alignment"),
    "alignment as an array": (
        with_kv(gguf_kv("general.alignment", ARRAY, (U32, [32]))), "alignment"),
    "array of arrays": (
        with_kv(gguf_string("k") + struct.pack("<IIQ", ARRAY, ARRAY, 1)
                + struct.pack("<IQ", U8, 1) + b"x"), "."),
    "array of 5000000 doubles": (
        with_kv(gguf_string("k") + struct.pack("<IIQ", ARRAY, F64, 5_000_000) + bytes(100)), "."),
    "array of 2^62": (
        with_kv(gguf_string("k") + struct.pack("<IIQ", ARRAY, U8, 2 ** 62)), "."),
    "array of 2^63 strings": (
        with_kv(gguf_string("k") + struct.pack("<IIQ", ARRAY, STRING, 2 ** 63)), "."),
    "string value of 2^63": (
        with_kv(gguf_string("k") + struct.pack("<IQ", STRING, 2 ** 63)), "."),
    "name of 64 bytes": (one_tensor(name="n" * 64), "n{20}.*64|64"),
    "name size -1": (gguf_raw(1, 0, struct.pack("<Q", U64_MAX) + bytes(64)), "."),
    "five dimensions": (one_tensor(dims=(1,) * 5), "'t'.*5"),
    "a million dimensions": (
        gguf_raw(1, 0, gguf_string("t") + struct.pack("<I", 1_000_000) + bytes(100)), "'t'.*1000000"),
    "dimension -1": (one_tensor(dims=(U64_MAX,)), "'t'"),
    "too many elements": (one_tensor(dims=(4 * (2 ** 31 - 1), 4 * (2 ** 31 - 1))), "'t'"),
    "2^32 times 2^32": (one_tensor(dims=(2 ** 32, 2 ** 32)), "'t'"),
    "2^64 elements in four": (one_tensor(dims=(2 ** 31, 2 ** 31, 2, 2)), "'t'"),
    "product wraps to 4": (one_tensor(dims=(4194305, 4194305, 211106198978564)), "'t'"),
    "product wraps to a fitting size": (one_tensor(dims=(1024, 1024, 2 ** 42 + 1)), "'t'"),
    "bytes wrap": (one_tensor(dims=(1518500250, 1518500250), kind=27), "'t'"),
    "4 TiB that are not there": (one_tensor(dims=(2 ** 42,)), "'t'"),
    "offset -1": (one_tensor(offset=U64_MAX), "'t'"),
    "offset not aligned": (one_tensor(offset=1, data=bytes(64)), "'t'"),
    "same name twice": (two_tensors(("t", [32], 24, 0), ("t", [32], 24, 32), bytes(64)), "'t'"),
    "gap": (two_tensors(("a", [32], 24, 0), ("b", [32], 24, 64), bytes(96)), "'b'"),
    "overlap": (two_tensors(("a", [64], 24, 0), ("b", [32], 24, 32), bytes(96)), "'b'"),
    "reordered": (two_tensors(("a", [32], 24, 32), ("b", [32], 24, 0), bytes(64)), "'[ab]'"),
    "wrapping sum of two": (
        two_tensors(("a", [0x7FFFFFFFFFFFFFC0], 24, 0),
                    ("b", [0x7FFFFFFFFFFFFFC0], 24, 0x7FFFFFFFFFFFFFC0), bytes(64)), "'[ab]'"),
    "data one byte short": (one_tensor(dims=(64,), data=bytes(63)), "'t': data ends at 128, file has 127"),
    "row not of whole blocks": (one_tensor(dims=(33,), kind=2), "'t'"),
    "scalar of a block type": (one_tensor(dims=(), kind=2), "'t'"),
    "infos cut off": (gguf_raw(3, 0, gguf_info("t", [8], 24, 0)) + bytes(20), "."),
}
for kind in (4, 5, 31, 32, 33, 36, 37, 38, 43, 1000, 2 ** 32 - 1):
    BAD_GGUF[f"tensor type {kind}"] = (one_tensor(kind=kind), "'t'")


@pytest.mark.parametrize("case", BAD_GGUF)
def test_bad_gguf(tmp_path, case):
    data, words = BAD_GGUF[case]
    check_bad_bytes(tmp_path, "model.gguf", data, words)


GOOD_GGUF = {
    "nothing": gguf_raw(0, 0),
    "version 2": gguf([("t", [8], 24, b"12345678")], version=2),
    "alignment 1": gguf([("t", [3], 24, b"abc")], [("general.alignment", U32, 1)], align=1),
    "alignment 4": gguf([("t", [3], 24, b"abc")], [("general.alignment", U32, 4)], align=4),
    "no padding behind the last": one_tensor(dims=(5,), data=b"hello"),
    "extra bytes at the end": one_tensor(dims=(8,), data=bytes(100)),
    "no name": gguf([("", [4], 24, b"abcd")]),
    "empty array": gguf([], [("k", ARRAY, (F64, []))]),
    "empty string": gguf([], [("k", STRING, "")]),
    "bool of 2": gguf([], [("k", 7, 2)]),
    "every kind of value": gguf([], [(f"k.{k}", k, 1) for k in (0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12)]),
}


@pytest.mark.parametrize("case", GOOD_GGUF)
def test_odd_but_valid_gguf_are_mounted(mount, case):
    data = GOOD_GGUF[case]
    mounted = mount(data)
    json.loads((mounted / "metadata.json").read_bytes())
    for entry in mounted.model()["tensors"]:
        begin = entry["offset"]
        assert (mounted / "tensors" / entry["path"]).read_bytes() == \
            data[begin:begin + entry["nbytes"]]


# ---- any format ----


@pytest.mark.parametrize("name", ["model.safetensors", "model.gguf", "model"])
def test_an_empty_file(tmp_path, name):
    check_bad_bytes(tmp_path, name, b"", "empty|0 bytes")


def test_a_file_of_no_known_format(tmp_path):
    check_bad_bytes(tmp_path, "notes.txt", b"just some text, " * 10, "format|model")


def test_a_directory_without_a_model(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "config.json").write_text("{}")
    line = refused(tmp_path, tmp_path / "folder")
    assert str(tmp_path / "folder") in line


def test_a_bad_model_in_a_directory_is_named(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "model.safetensors").write_bytes(b"\0" * 7)
    line = refused(tmp_path, tmp_path / "folder")
    assert f"{tmp_path}/folder/model.safetensors: " in line


def test_a_file_name_cannot_begin_a_line(tmp_path):
    folder = tmp_path / "models"
    folder.mkdir()
    name = "a\n\x1b[31mroot: all is well\u202e.safetensors"
    (folder / name).write_bytes(safetensors_raw('{"a":1}'))
    line = refused(tmp_path, folder)
    assert "/models/a\\x0a\\x1b[31mroot: all is well\\xe2\\x80\\xae.safetensors: tensor 'a'" in line


def test_files_are_not_left_out_for_want_of_descriptors(tmp_path):
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "a.safetensors").write_bytes(VALID)
    for i in range(60):
        (folder / f"part{i}").write_bytes(b"x")
    done = subprocess.run([mounting.WEIGHTFS, "--describe", folder], capture_output=True, text=True,
                          preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40)))
    assert done.returncode == 1 and done.stdout == ""
    assert re.fullmatch(rf"weightfs: {folder}: open 'part\d+': too many open files\n", done.stderr)


def test_a_source_that_does_not_exist(tmp_path):
    line = refused(tmp_path, tmp_path / "nowhere.safetensors")
    assert "nowhere.safetensors" in line and "no such file" in line


@pytest.mark.parametrize("kind", ["fifo", "device", "socket"])
def test_a_source_that_is_no_file_does_not_hang(tmp_path, kind):
    path = "/dev/zero"
    if kind == "fifo":
        path = tmp_path / "pipe"
        os.mkfifo(path)
    if kind == "socket":
        import socket
        path = tmp_path / "socket"
        socket.socket(socket.AF_UNIX).bind(str(path))
    assert str(path) in refused(tmp_path, path)


def test_a_source_that_cannot_be_read(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(VALID)
    path.chmod(0)
    nobody = {"user": 65534, "group": 65534, "extra_groups": []} if os.getuid() == 0 else {}
    # Opened here: where the program stands may be closed to others.
    program = os.open(mounting.WEIGHTFS, os.O_PATH)
    done = subprocess.run([f"/proc/self/fd/{program}", path, "/mnt"], pass_fds=[program],
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, **nobody)
    os.close(program)
    assert done.returncode == 1
    assert re.fullmatch(r"weightfs: .*: permission denied\n", done.stderr), done.stderr


def test_a_link_loop(tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    assert f"{tmp_path}/a" in refused(tmp_path, tmp_path / "a")


def test_a_mount_point_that_does_not_exist(tmp_path):
    (tmp_path / "m.safetensors").write_bytes(VALID)
    done = mounting.run_weightfs(tmp_path / "m.safetensors", tmp_path / "missing")
    assert done.returncode == 1
    assert re.fullmatch(r"weightfs: .*missing.*no such file.*\n", done.stderr), done.stderr


def test_a_mount_point_that_is_a_file(tmp_path):
    (tmp_path / "m.safetensors").write_bytes(VALID)
    (tmp_path / "file").write_text("")
    done = mounting.run_weightfs(tmp_path / "m.safetensors", tmp_path / "file")
    assert done.returncode == 1
    assert re.fullmatch(r"weightfs: .*file.*[Nn]ot a directory.*\n", done.stderr), done.stderr


def test_a_wrong_format_option_says_so(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(VALID)
    assert str(path) in refused(tmp_path, path, "-o", "format=gguf")


# ---- wrong usage ----


@pytest.mark.parametrize("option, valid", [
    ("nonsense", ["allow_other", "backing", "threads", "readahead"]),
    ("nonsense=1", ["allow_other"]),
    ("backing=tape", ["auto", "stream"]),
    ("format=onnx-or-so", ["safetensors", "gguf"]),
    ("threads=many", ["threads"]),
    ("threads=0", ["threads"]),
    ("threads=-1", ["threads"]),
    ("readahead=1X", ["readahead"]),
    ("readahead=", ["readahead"]),
    ("readahead=99999999999999999999", ["readahead"]),
    ("readahead=-1", ["readahead"]),
    ("uid=root-or-so", ["uid"]),
    ("uid=-1", ["uid"]),
])
def test_an_unknown_option_or_value_names_the_valid_ones(tmp_path, option, valid):
    path = tmp_path / "model.safetensors"
    path.write_bytes(VALID)
    line = refused(tmp_path, path, "-o", option, status=2)
    for word in valid:
        assert word in line, line


def test_options_are_checked_before_the_source(tmp_path):
    line = refused(tmp_path, tmp_path / "missing", "-o", "nonsense", status=2)
    assert "nonsense" in line


@pytest.mark.parametrize("args", [[], ["one"], ["a", "b", "c"], ["--nonsense", "a", "b"],
                                  ["a", "b", "-o"]])
def test_wrong_usage_is_status_2(args):
    done = mounting.run_weightfs(*args)
    assert done.returncode == 2
    assert done.stderr.startswith("weightfs: ") or done.stderr.startswith("usage: ")
    assert done.stdout == ""


@pytest.mark.parametrize("args, what", [
    (["--nonsense"], "unknown option '--nonsense'"), (["a", "b", "-fx"], "unknown option '-x'"),
    (["a", "b", "-o"], "no value behind option '-o'"),
])
def test_a_wrong_option_of_the_command_line_is_named(args, what):
    done = mounting.run_weightfs(*args)
    assert done.stderr == f"weightfs: usage: {what}: try 'weightfs --help'\n"


def test_help_and_version():
    for option in ("--help", "--version"):
        done = mounting.run_weightfs(option)
        assert done.returncode == 0 and done.stdout and done.stderr == ""
    assert re.fullmatch(r"weightfs \d+\.\d+\.\d+\nlibfuse (\d+\.\d+)\.\d+, built with \d+\.\d+\n",
                        mounting.run_weightfs("--version").stdout)


def test_the_help_fits_a_terminal_and_names_every_option():
    lines = mounting.run_weightfs("--help").stdout.splitlines()
    assert max(map(len, lines)) <= 80
    start = next(i for i, line in enumerate(lines) if line.startswith("  -o "))
    end = next(i for i, line in enumerate(lines) if line.startswith("  -f "))
    assert all(line.startswith(" " * 17) for line in lines[start + 1:end])
    shown = " ".join(line[17:] for line in lines[start:end])
    refused = mounting.run_weightfs("a", "b", "-o", "nonsense").stderr
    assert refused == f"weightfs: unknown option 'nonsense': the options are: {shown}\n"


def test_a_name_cannot_bring_escape_sequences(tmp_path):
    header = '{"\\u001b[31mred\\n":' + tensor("F32", [4], 0, 4) + "}"
    check_bad_bytes(tmp_path, "model.safetensors", safetensors_raw(header, bytes(4)), "red")
