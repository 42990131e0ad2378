"""Writes models in several files the way the libraries that people use do."""
import hashlib
import json
import os

import numpy as np
from gguf import GGUFReader, GGUFValueType, GGUFWriter
from safetensors.numpy import load_file, save_file

INDEX = "model.safetensors.index.json"


def write_index(path, weight_map, total_size=0):
    """As transformers writes it."""
    content = json.dumps({"metadata": {"total_size": total_size}, "weight_map": weight_map},
                         indent=2, sort_keys=True) + "\n"
    path.write_text(content, encoding="utf-8")


def fill_shards(tensors, most):
    """Tensors in their order, a new shard where the next one would exceed `most` bytes."""
    shards, size = [{}], 0
    for name, array in tensors.items():
        if shards[-1] and size + array.nbytes > most:
            shards.append({})
            size = 0
        shards[-1][name] = array
        size += array.nbytes
    return shards


def save_sharded(folder, tensors, most, stem="model", index=INDEX):
    """save_pretrained() without torch. The names of the shards."""
    folder.mkdir(parents=True, exist_ok=True)
    shards = fill_shards(tensors, most)
    names = [f"{stem}-{i:05d}-of-{len(shards):05d}.safetensors" for i in range(1, len(shards) + 1)]
    for name, shard in zip(names, shards):
        save_file(shard, folder / name, metadata={"format": "pt"})
    write_index(folder / index, {tensor: name for name, shard in zip(names, shards)
                                 for tensor in shard},
                sum(array.nbytes for array in tensors.values()))
    return names


def load_sharded(folder, index=INDEX):
    """name -> array, as a loader reads an index."""
    weight_map = json.loads((folder / index).read_text())["weight_map"]
    files = {name: load_file(folder / name) for name in set(weight_map.values())}
    return {tensor: files[name][tensor] for tensor, name in weight_map.items()}


def hub_snapshot(cache, folder, repository="org/some-model", revision="0123abc"):
    """The directory as a snapshot in a hub cache: links into blobs, named by digests."""
    repo = cache / ("models--" + repository.replace("/", "--"))
    snapshot = repo / "snapshots" / revision
    (repo / "blobs").mkdir(parents=True)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(revision)
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        blob = repo / "blobs" / digest
        if not blob.exists():
            os.link(path, blob)
        link = snapshot / path.relative_to(folder)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(blob, link.parent))
    return snapshot


def split_gguf(source, folder, most_tensors, small_first=False):
    """Splits a GGUF file with the gguf library. The paths, in their order."""
    reader = GGUFReader(source)
    folder.mkdir(parents=True, exist_ok=True)
    writer = GGUFWriter(folder / "model.gguf", "llama", split_max_tensors=most_tensors,
                        small_first_shard=small_first)
    for field in reader.fields.values():
        if not field.name.startswith(("GGUF.", "split.")) and field.name != "general.architecture":
            kind = field.types[0]
            writer.add_key_value(field.name, field.contents(), kind,
                                 field.types[-1] if kind == GGUFValueType.ARRAY else None)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, np.array(tensor.data), raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return sorted(folder.glob("model-*.gguf"))
