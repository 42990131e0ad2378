"""The layout of the largest published mixture of experts as sparse safetensors files: one, or 163
with an index, as it is published.

61 layers and one for multi-token prediction; the first three are dense, the others have 256
routed experts. Names and shapes are those of DeepSeek-V3: weights in FP8 with one F32 scale
for each block of 128 x 128, norms and embeddings in BF16.
"""
import json
import math
import struct

HIDDEN = 7168
VOCABULARY = 129280
DENSE = 18432
EXPERT = 2048
EXPERTS = 256
LAYERS = 61
DENSE_LAYERS = 3
INDEX = "model.safetensors.index.json"
SIZES = {"F8_E4M3": 1, "BF16": 2, "F32": 4}

ATTENTION = {
    "q_a_proj": (1536, HIDDEN), "q_b_proj": (24576, 1536),
    "kv_a_proj_with_mqa": (576, HIDDEN), "kv_b_proj": (32768, 512),
    "o_proj": (HIDDEN, 16384),
}


def quantised(name, shape):
    yield f"{name}.weight", "F8_E4M3", shape
    yield f"{name}.weight_scale_inv", "F32", tuple(math.ceil(d / 128) for d in shape)


def feed_forward(prefix, width):
    yield from quantised(f"{prefix}.gate_proj", (width, HIDDEN))
    yield from quantised(f"{prefix}.up_proj", (width, HIDDEN))
    yield from quantised(f"{prefix}.down_proj", (HIDDEN, width))


def attention(prefix):
    yield f"{prefix}.q_a_layernorm.weight", "BF16", (1536,)
    yield f"{prefix}.kv_a_layernorm.weight", "BF16", (512,)
    for name, shape in ATTENTION.items():
        yield from quantised(f"{prefix}.{name}", shape)


def layer(number):
    prefix = f"model.layers.{number}"
    yield f"{prefix}.input_layernorm.weight", "BF16", (HIDDEN,)
    yield f"{prefix}.post_attention_layernorm.weight", "BF16", (HIDDEN,)
    yield from attention(f"{prefix}.self_attn")
    if number < DENSE_LAYERS:
        yield from feed_forward(f"{prefix}.mlp", DENSE)
        return
    yield f"{prefix}.mlp.gate.weight", "BF16", (EXPERTS, HIDDEN)
    yield f"{prefix}.mlp.gate.e_score_correction_bias", "F32", (EXPERTS,)
    yield from feed_forward(f"{prefix}.mlp.shared_experts", EXPERT)
    for expert in range(EXPERTS):
        yield from feed_forward(f"{prefix}.mlp.experts.{expert}", EXPERT)


def prediction_layer():
    prefix = f"model.layers.{LAYERS}"
    yield f"{prefix}.enorm.weight", "BF16", (HIDDEN,)
    yield f"{prefix}.hnorm.weight", "BF16", (HIDDEN,)
    yield f"{prefix}.eh_proj.weight", "BF16", (HIDDEN, 2 * HIDDEN)
    yield f"{prefix}.embed_tokens.weight", "BF16", (VOCABULARY, HIDDEN)
    yield f"{prefix}.shared_head.head.weight", "BF16", (VOCABULARY, HIDDEN)
    yield f"{prefix}.shared_head.norm.weight", "BF16", (HIDDEN,)


def tensors():
    """(name, dtype, shape) of each tensor, in the order of the file."""
    yield "model.embed_tokens.weight", "BF16", (VOCABULARY, HIDDEN)
    for number in range(LAYERS + 1):
        yield from layer(number)
    yield from prediction_layer()
    yield "model.norm.weight", "BF16", (HIDDEN,)
    yield "lm_head.weight", "BF16", (VOCABULARY, HIDDEN)


def write_file(path, part):
    """Writes one sparse file; [(name, dtype, shape, offset, nbytes)] of its tensors."""
    entries = []
    parts = []
    at = 0
    for name, dtype, shape in part:
        nbytes = math.prod(shape) * SIZES[dtype]
        entries.append((name, dtype, list(shape), at, nbytes))
        parts.append(f'"{name}":{{"dtype":"{dtype}","shape":[{",".join(map(str, shape))}],'
                     f'"data_offsets":[{at},{at + nbytes}]}}')
        at += nbytes
    header = ("{" + ",".join(parts) + "}").encode()
    header += b" " * (-len(header) % 8)
    begin = 8 + len(header)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        file.truncate(begin + at)
    return [(name, dtype, shape, begin + at, nbytes) for name, dtype, shape, at, nbytes in entries]


def write(path):
    """Writes all tensors to one sparse file; [(name, dtype, shape, offset, nbytes, file)]."""
    return [(*entry, path.name) for entry in write_file(path, tensors())]


def split(count):
    """The tensors in `count` parts of about the same size, in their order."""
    everything = list(tensors())
    most = sum(math.prod(shape) * SIZES[dtype] for _, dtype, shape in everything) / count
    parts = [[] for _ in range(count)]
    size = 0
    for entry in everything:
        parts[min(int(size / most), count - 1)].append(entry)
        size += math.prod(entry[2]) * SIZES[entry[1]]
    return parts


def write_sharded(folder, count=163):
    """Writes sparse shards and their index, as transformers does; as write()."""
    entries = []
    for number, part in enumerate(split(count), 1):
        path = folder / f"model-{number:05}-of-{count:06}.safetensors"
        entries += [(*entry, path.name) for entry in write_file(path, part)]
    index = {"metadata": {"total_size": sum(entry[4] for entry in entries)},
             "weight_map": {entry[0]: entry[5] for entry in entries}}
    (folder / INDEX).write_text(json.dumps(index, indent=2, sort_keys=True) + "\n")
    return entries
