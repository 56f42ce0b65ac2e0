"""Models to start from that are none, are damaged, or would make a run wrong without a word."""

import json

import numpy as np

from tests.chaos.case import CONFIG, Case
from tests.start_folders import (
    changed,
    make_weights,
    shard,
    with_last_number,
    write_config,
    write_index,
    write_safetensors,
    write_start,
    write_tokenizer,
)

SET = ("--set", "model.start=start")
CHECK = ("check", *SET)
RUN = ("run", "--inline", *SET)


def _nothing_was_made(folder):
    assert not (folder / "runs" / "tiny" / "corpus").exists()


def _start(make):
    """A whole start in `start/`, then what `make` does to it."""

    def make_start(folder):
        make(write_start(folder / "start"))

    return make_start


def _case(name, words, make, command=CHECK, **more):
    more = {"check": _nothing_was_made, "exit_code": 2} | more
    return Case(name=name, kind="starts", make=make, command=command, words=words, **more)


def _weights(**numbers):
    (name, value), *_ = numbers.items()
    return _start(
        lambda start: write_safetensors(
            start / "model.safetensors", changed(f"transformer.{name}.weight", with_last_number(value))
        )
    )


def _half(start):
    path = start / "model.safetensors"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _llama(start):
    (start / "config.json").write_text(json.dumps({"model_type": "llama", "hidden_size": 64, "vocab_size": 50257}))


def _adapter(start):
    for path in start.iterdir():
        path.unlink()
    (start / "adapter_config.json").write_text('{"base_model_name_or_path": "gpt2", "peft_type": "LORA"}')


def _pickled(start):
    (start / "model.safetensors").rename(start / "pytorch_model.bin")


def _index_outside(start):
    (start / "model.safetensors").rename(start.parent / "outside.safetensors")
    write_index(start, dict.fromkeys(make_weights(), "../outside.safetensors"))


def _shard_lacks(start):
    shard(start)
    (start / "model-00002-of-00002.safetensors").unlink()


def _sparse(name, size):
    def make(start):
        with (start / name).open("wb") as file:
            file.truncate(size)

    return make


def _big_index(start):
    (start / "model.safetensors").unlink()
    _sparse("model.safetensors.index.json", 1 << 30)(start)


def _text(name, text):
    return _start(lambda start: (start / name).write_text(text))


def _config(**fields):
    return _start(lambda start: write_config(start, **fields))


def _own_tokens(start):
    write_tokenizer(start, changes={318: "Ġgato1", 257: "Ġperro1"})


def _padded(start):
    write_start(start, vocab_size=50258)
    write_tokenizer(start, extra=["<|pad|>"])


def _in_two_profiles(folder):
    _own_tokens(write_start(folder / "start"))
    tiny = CONFIG.replace("    data:", "    model: {start: start}\n    data:")
    (folder / "experiments.yaml").write_text(tiny + tiny.split("profiles:\n")[1].replace("tiny:", "other:"))


CASES = (
    _case(
        "Llama",
        ("config.json: model_type: it is a 'llama' model; raysweep trains GPT-2 only",),
        _start(_llama),
        in_ci=True,
    ),
    _case("Llama in a plan", ("it is a 'llama' model",), _start(_llama), ("plan", *SET)),
    _case("Llama in a run", ("it is a 'llama' model",), _start(_llama), RUN),
    _case(
        "Llama in the doctor", ("it is a 'llama' model",), _start(_llama), ("doctor", *SET), exit_code=1, within_s=120.0
    ),
    _case("adapter", ("an adapter (PEFT) without its model; merge the two first",), _start(_adapter)),
    _case("pickled weights", ("pickled, which can run code, so they are not read; convert them",), _start(_pickled)),
    _case("truncated weights", ("not the whole file. Copy it anew",), _start(_half), in_ci=True),
    _case("NaN weight in a run", ("'transformer.wpe.weight' holds NaN or infinite",), _weights(wpe=np.nan), RUN),
    _case("infinite weight", ("'transformer.wpe.weight' holds NaN or infinite numbers",), _weights(wpe=np.inf)),
    _case(
        "index leads outside",
        ("found '../outside.safetensors'; must be a .safetensors file in",),
        _start(_index_outside),
    ),
    _case("a shard lacks", ("names 'model-00002-of-00002.safetensors', which is not there",), _start(_shard_lacks)),
    _case(
        "index of 1 GB", ("found 1,073,741,824 bytes; must be at most 16,777,216",), _start(_big_index), within_s=20.0
    ),
    _case("config of 1 GB", ("must be at most 1,048,576",), _start(_sparse("config.json", 1 << 30)), within_s=20.0),
    _case(
        "tokenizer of 1 GB", ("must be at most 67,108,864",), _start(_sparse("tokenizer.json", 1 << 30)), within_s=20.0
    ),
    _case("deep config", ("its JSON is nested too deeply",), _text("config.json", '{"a":' + "[" * 200_000)),
    _case("deep tokenizer", ("its JSON is nested too deeply",), _text("tokenizer.json", '{"a":' + "[" * 200_000)),
    _case(
        "5,000 digits",
        ("a number has thousands of digits",),
        _text("config.json", '{"n_layer": ' + "9" * 5000 + "}"),
        unprinted=("9" * 81,),
    ),
    _case(
        "layers without end",
        ("n_layer: found 1000000; must be at most 1,000",),
        _config(n_layer=1_000_000),
        ("plan", *SET),
    ),
    _case("absurd width", ("n_embd: found 1000000000; must be at most 65,536",), _config(n_embd=10**9)),
    _case(
        "more layers in the weights",
        ("its weights have 2 layers, its config.json says n_layer: 1",),
        _config(n_layer=1),
        RUN,
    ),
    _case(
        "another language's tokens",
        ("its tokenizer is not GPT-2's: 2 of 50,257 tokens differ", "start from a model with GPT-2's, or from scratch"),
        _start(_own_tokens),
        RUN,
        in_ci=True,
    ),
    _case(
        "too short",
        ("256 positions, but examples have up to 512 tokens",),
        _start(lambda start: None),
        (*CHECK, "--set", "masking.max_tokens=512"),
    ),
    _case(
        "no folder",
        ("model.start './start': no such folder",),
        lambda folder: None,
        ("check", "--set", "model.start=./start"),
    ),
    _case(
        "both profiles are checked",
        ("profile tiny: model.start 'start': ", "profile other: model.start 'start': "),
        _in_two_profiles,
        ("check",),
    ),
    _case(
        "a token for padding",
        ("its 1 tokens beyond GPT-2's are not used ('<|pad|>')",),
        _start(_padded),
        exit_code=0,
    ),
)
