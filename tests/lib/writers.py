"""Writes small model files byte by byte, valid and invalid ones.

Nothing here checks anything: a test says exactly which bytes it wants.
"""
import json
import struct

# ---- safetensors ----


def safetensors_raw(header, data=b"", length=None):
    """The length field, the header as it is, the data. `length` overrides the field."""
    if isinstance(header, str):
        header = header.encode()
    return struct.pack("<Q", len(header) if length is None else length) + header + data


def safetensors_header(tensors, metadata=None):
    """The header's object for (name, dtype, shape, data) tuples, stored one after another."""
    header = {} if metadata is None else {"__metadata__": metadata}
    begin = 0
    for name, dtype, shape, data in tensors:
        header[name] = {"dtype": dtype, "shape": list(shape),
                        "data_offsets": [begin, begin + len(data)]}
        begin += len(data)
    return header


def safetensors(tensors, metadata=None, pad=0):
    """A file; `pad` more spaces after the header move the data to any offset."""
    header = json.dumps(safetensors_header(tensors, metadata)).encode() + b" " * pad
    return safetensors_raw(header, b"".join(data for _, _, _, data in tensors))


# ---- GGUF ----

U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
SCALARS = {U8: "<B", I8: "<b", U16: "<H", I16: "<h", U32: "<I", I32: "<i", F32: "<f",
           BOOL: "<B", U64: "<Q", I64: "<q", F64: "<d"}


def gguf_string(text):
    data = text.encode() if isinstance(text, str) else text
    return struct.pack("<Q", len(data)) + data


def gguf_value(kind, value):
    if kind == STRING:
        return gguf_string(value)
    if kind == ARRAY:
        item, values = value
        return struct.pack("<IQ", item, len(values)) + \
            b"".join(gguf_value(item, v) for v in values)
    return struct.pack(SCALARS[kind], value)


def gguf_kv(key, kind, value):
    return gguf_string(key) + struct.pack("<I", kind) + gguf_value(kind, value)


def gguf_info(name, dims, kind, offset):
    """`dims` in the file's order: the fastest one first."""
    return gguf_string(name) + struct.pack("<I", len(dims)) + \
        b"".join(struct.pack("<Q", d) for d in dims) + struct.pack("<IQ", kind, offset)


def gguf_raw(n_tensors, n_kv, body=b"", version=3, magic=b"GGUF"):
    return magic + struct.pack("<IQQ", version, n_tensors, n_kv) + body


def padded(data, align):
    return data + b"\0" * (-len(data) % align)


def gguf(tensors, kv=(), version=3, align=32):
    """A file of (name, dims, ggml type, data) tuples and (key, kind, value) tuples."""
    body = b"".join(gguf_kv(*entry) for entry in kv)
    blob = b""
    for name, dims, kind, data in tensors:
        body += gguf_info(name, dims, kind, len(blob))
        blob += padded(data, align)
    head = gguf_raw(len(tensors), len(kv), body, version)
    return padded(head, align) + blob if tensors else head
