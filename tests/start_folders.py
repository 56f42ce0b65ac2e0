"""Writes tiny GPT-2 folders in the shapes that people have, without torch, and damages them."""

import json
import struct
from pathlib import Path

import numpy as np

from raysweep.config.loading import parse_config
from raysweep.masking.vocabulary import read_bpe_files
from raysweep.model.start_config import StartConfig
from raysweep.model.start_folder import check_start

SIZES = {"n_layer": 2, "n_embd": 8, "n_head": 2, "n_positions": 256}


def make_weights(dtype="F32", seed=0, **fields):
    """Random weights by name, as `transformers` names them, each as its type, shape and bytes."""
    rng = np.random.default_rng(seed)
    weights = {}
    for name, shape in StartConfig.model_validate(SIZES | fields).tensor_shapes().items():
        numbers = rng.normal(scale=0.1, size=shape).astype(np.float32)
        if dtype == "BF16":
            data = (numbers.view(np.uint32) >> 16).astype(np.uint16)
        else:
            data = numbers.astype({"F16": np.float16, "F32": np.float32, "F64": np.float64}[dtype])
        weights[name if name == "lm_head.weight" else f"transformer.{name}"] = (dtype, list(shape), data.tobytes())
    return weights


def write_safetensors(path, weights):
    """Write weights, as `make_weights` gives them, as one safetensors file."""
    header, begin = {"__metadata__": {"format": "pt"}}, 0
    for name, (dtype, shape, data) in weights.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [begin, begin + len(data)]}
        begin += len(data)
    write_raw(path, json.dumps(header).encode(), b"".join(data for _, _, data in weights.values()))


def write_raw(path, header, data=b""):
    """Write a safetensors file from the bytes of its header and of its tensors."""
    path.write_bytes(struct.pack("<Q", len(header)) + header + data)


def write_start(folder, weights=None, **fields):
    """Write a folder as `save_pretrained` leaves it."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_config(folder, **fields)
    known = {name: value for name, value in fields.items() if name in StartConfig.model_fields}
    write_safetensors(folder / "model.safetensors", weights or make_weights(**known))
    return folder


def write_config(folder, **fields):
    """Write `config.json` alone."""
    values = {"model_type": "gpt2", "vocab_size": 50257, **SIZES, "resid_pdrop": 0.1, "bos_token_id": 50256}
    (folder / "config.json").write_text(json.dumps(values | fields))


def shard(folder):
    """Split `model.safetensors`, as written by `write_start` with its default weights, into two files and an index."""
    (folder / "model.safetensors").unlink()
    items = list(make_weights().items())
    parts = {"model-00001-of-00002.safetensors": items[:3], "model-00002-of-00002.safetensors": items[3:]}
    for file, part in parts.items():
        write_safetensors(folder / file, dict(part))
    write_index(folder, {name: file for file, part in parts.items() for name, _ in part})


def write_index(folder, files):
    """Write the index, given the file of each weight."""
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": files}))


def write_tokenizer(folder, *, changes=(), extra=(), **fields):
    """Write GPT-2's `tokenizer.json`; `changes` gives other tokens for ids, `extra` the tokens from 50,257 on."""
    vocabulary, merges = read_bpe_files()
    tokens = {number: token for token, number in vocabulary.items()} | dict(changes)
    added = [{"id": 50256, "content": "<|endoftext|>"}]
    added += [{"id": 50257 + number, "content": token} for number, token in enumerate(extra)]
    model = {"type": "BPE", "vocab": {token: number for number, token in tokens.items()}, "merges": merges}
    values = {"added_tokens": added, "normalizer": None, "pre_tokenizer": {"type": "ByteLevel"}, "model": model}
    (folder / "tokenizer.json").write_text(json.dumps(values | fields))


def write_bpe_pair(folder, *, merges=None):
    """Write GPT-2's `vocab.json` and `merges.txt`, the older form of its tokenizer."""
    vocabulary, known = read_bpe_files()
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    lines = [" ".join(pair) for pair in (known if merges is None else merges)]
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *lines]) + "\n")


def check_folder(start, max_tokens=64):
    """What `check_start` says of a folder as `model.start`."""
    settings = {
        "model": {"start": str(start)},
        "masking": {"max_tokens": max_tokens},
        "trials": {"A1": {"levels": ["A1"]}},
    }
    return check_start(parse_config(settings))


def changed(name, make):
    """The default weights with one of them made anew from its type, shape and bytes."""
    weights = make_weights()
    weights[name] = make(*weights[name])
    return weights


def with_last_number(value):
    """For `changed`: the weight with another number at its end."""

    def make(dtype, shape, data):
        numbers = np.frombuffer(data, np.float32).copy()
        numbers[-1] = value
        return dtype, shape, numbers.tobytes()

    return make
