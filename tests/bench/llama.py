"""A safetensors file with the layers of an 8-billion-parameter Llama in BF16, as large as asked for."""
import math
import struct
import subprocess

HIDDEN = 4096
INTERMEDIATE = 14336
KEYS = 1024
BF16 = 2

LAYER = {
    "input_layernorm.weight": (HIDDEN,),
    "mlp.down_proj.weight": (HIDDEN, INTERMEDIATE),
    "mlp.gate_proj.weight": (INTERMEDIATE, HIDDEN),
    "mlp.up_proj.weight": (INTERMEDIATE, HIDDEN),
    "post_attention_layernorm.weight": (HIDDEN,),
    "self_attn.k_proj.weight": (KEYS, HIDDEN),
    "self_attn.o_proj.weight": (HIDDEN, HIDDEN),
    "self_attn.q_proj.weight": (HIDDEN, HIDDEN),
    "self_attn.v_proj.weight": (KEYS, HIDDEN),
}
LAYER_BYTES = BF16 * sum(map(math.prod, LAYER.values()))

# The embedding takes what whole layers leave, but not less than this.
LEAST_EMBEDDING = 128 << 20


def tensors(size):
    """(name, shape) of each tensor, `size` bytes together but for the last norm."""
    layers = (size - LEAST_EMBEDDING) // LAYER_BYTES
    rows = (size - layers * LAYER_BYTES) // (BF16 * HIDDEN)
    yield "model.embed_tokens.weight", (rows, HIDDEN)
    for i in range(layers):
        for name, shape in LAYER.items():
            yield f"model.layers.{i}.{name}", shape
    yield "model.norm.weight", (HIDDEN,)


def write(path, size, bench):
    """Writes the file with the program `bench`; [(name, offset, nbytes)] of its tensors."""
    entries = []
    parts = []
    at = 0
    for name, shape in tensors(size):
        nbytes = BF16 * math.prod(shape)
        entries.append((name, at, nbytes))
        parts.append(f'"{name}":{{"dtype":"BF16","shape":{list(shape)},"data_offsets":[{at},{at + nbytes}]}}')
        at += nbytes
    header = ("{" + ",".join(parts) + "}").encode()
    # Aligned to 8 bytes, which is what the format's own writer does, and to no more.
    header += b" " * (-len(header) % 16)
    begin = 8 + len(header)
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    subprocess.run([bench, "random", path, str(at), "1"], check=True, stdout=subprocess.DEVNULL)
    return [(name, begin + offset, nbytes) for name, offset, nbytes in entries]
