"""Safetensors files with the layers of real models in BF16, as large as asked for."""
import math
import struct
import subprocess
from dataclasses import dataclass

BF16 = 2

LAST_OF_LAYER = ".mlp.down_proj.weight"

# The embedding takes what whole layers leave, but not less than this.
LEAST_EMBEDDING = 128 << 20


@dataclass(frozen=True)
class Shape:
    """A transformer as Llama's: what decides about the shapes of its tensors."""
    hidden: int
    intermediate: int
    keys: int

    def layer(self):
        """Name and shape of the tensors of a layer, in the order in which it is computed."""
        return {
            "input_layernorm.weight": (self.hidden,),
            "self_attn.q_proj.weight": (self.hidden, self.hidden),
            "self_attn.k_proj.weight": (self.keys, self.hidden),
            "self_attn.v_proj.weight": (self.keys, self.hidden),
            "self_attn.o_proj.weight": (self.hidden, self.hidden),
            "post_attention_layernorm.weight": (self.hidden,),
            "mlp.gate_proj.weight": (self.intermediate, self.hidden),
            "mlp.up_proj.weight": (self.intermediate, self.hidden),
            "mlp.down_proj.weight": (self.hidden, self.intermediate),
        }

    def layer_bytes(self):
        return BF16 * sum(map(math.prod, self.layer().values()))

    def layers(self, size):
        return (size - LEAST_EMBEDDING) // self.layer_bytes()


LLAMA_8B = Shape(4096, 14336, 1024)
LLAMA_3B = Shape(3072, 8192, 1024)
QWEN_HALF_B = Shape(896, 4864, 128)


def tensors(size, shape):
    """(name, shape) of each tensor as the model computes with them, `size` bytes together but for
    the last norm."""
    layers = shape.layers(size)
    rows = (size - layers * shape.layer_bytes()) // (BF16 * shape.hidden)
    yield "model.embed_tokens.weight", (rows, shape.hidden)
    for i in range(layers):
        for name, dimensions in shape.layer().items():
            yield f"model.layers.{i}.{name}", dimensions
    yield "model.norm.weight", (shape.hidden,)


def write(path, size, bench, shape=LLAMA_8B):
    """Writes the file with the program `bench`; [(name, offset, nbytes)] of its tensors in the
    order of the file. That is by name, as the format's own writer has it: layer 10 comes before
    layer 2."""
    entries = []
    parts = []
    at = 0
    for name, dimensions in sorted(tensors(size, shape)):
        nbytes = BF16 * math.prod(dimensions)
        entries.append((name, at, nbytes))
        parts.append(f'"{name}":{{"dtype":"BF16","shape":{list(dimensions)},'
                     f'"data_offsets":[{at},{at + nbytes}]}}')
        at += nbytes
    header = ("{" + ",".join(parts) + "}").encode()
    # Aligned to 8 bytes, which is what the format's own writer does, and to no more.
    header += b" " * (-len(header) % 16)
    begin = 8 + len(header)
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    subprocess.run([bench, "random", path, str(at), "1"], check=True, stdout=subprocess.DEVNULL)
    return [(name, begin + offset, nbytes) for name, offset, nbytes in entries]
