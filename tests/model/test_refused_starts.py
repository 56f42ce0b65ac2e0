"""A start that cannot be used is refused before anything is made: its place, the value found, and the fix."""

import json
import re
import time

import pytest

from raysweep.errors import InputError
from tests.chaos.plain_user import plain_user
from tests.start_folders import (
    changed,
    check_folder,
    make_weights,
    shard,
    with_last_number,
    write_bpe_pair,
    write_config,
    write_index,
    write_raw,
    write_safetensors,
    write_tokenizer,
)


def nan_in_bfloat16(folder):
    weights = make_weights("BF16")
    dtype, shape, data = weights["transformer.wpe.weight"]
    weights["transformer.wpe.weight"] = dtype, shape, data[:-2] + b"\xc0\x7f"
    write_safetensors(folder / "model.safetensors", weights)


def rewrite(name, make):
    return lambda folder: write_safetensors(folder / "model.safetensors", changed(name, make))


def truncate(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])


def longer(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes() + b"more")


def header(text):
    return lambda folder: write_raw(folder / "model.safetensors", text)


def entry(**fields):
    values = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]} | fields
    return header(json.dumps({"x": values}).encode())


def index(text):
    def make(folder):
        (folder / "model.safetensors").unlink()
        (folder / "model.safetensors.index.json").write_text(text)

    return make


def index_to(file):
    def make(folder):
        (folder / "model.safetensors").rename(folder.parent / "outside.safetensors")
        write_index(folder, dict.fromkeys(make_weights(), file))

    return make


def moved_in_index(folder):
    shard(folder)
    path = folder / "model.safetensors.index.json"
    files = json.loads(path.read_text())["weight_map"]
    write_index(folder, files | {"transformer.wte.weight": files["transformer.ln_f.bias"]})


def lacking_in_shards(folder):
    shard(folder)
    path = folder / "model.safetensors.index.json"
    files = json.loads(path.read_text())["weight_map"]
    write_index(folder, files | {"transformer.more": files["transformer.ln_f.bias"]})


def text(file, content):
    return lambda folder: (folder / file).write_text(content)


def huge(file, size):
    def make(folder):
        with (folder / file).open("r+b" if (folder / file).exists() else "wb") as opened:
            opened.truncate(size)

    return make


def huge_index(folder):
    (folder / "model.safetensors").unlink()
    huge("model.safetensors.index.json", 1 << 30)(folder)


def pickled(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def only_adapter(folder):
    (folder / "config.json").unlink()
    (folder / "adapter_config.json").write_text("{}")


def both_prefixes(folder):
    weights = make_weights()
    write_safetensors(folder / "model.safetensors", weights | {"wpe.weight": weights["transformer.wpe.weight"]})


def sentencepiece(folder):
    (folder / "spiece.model").write_bytes(b"x")


def broken_merges(folder):
    write_bpe_pair(folder)
    (folder / "merges.txt").write_bytes(b"\xff\xfe")


def huge_merges(folder):
    write_bpe_pair(folder)
    huge("merges.txt", 1 << 30)(folder)


def config(**fields):
    return lambda folder: write_config(folder, **fields)


NAN, INFINITY = float("nan"), float("inf")
REFUSED = {
    # config.json
    "llama": (text("config.json", '{"model_type": "llama", "vocab_size": 50257}'), "it is a 'llama' model"),
    "no model type": (text("config.json", "{}"), "model_type: it is a model of type null"),
    "adapter": (only_adapter, "holds an adapter .PEFT. without its model; merge the two first"),
    "no config": (lambda folder: (folder / "config.json").unlink(), "holds no config.json"),
    "layers without end": (config(n_layer=1_000_000), "n_layer: found 1000000; must be at most 1,000"),
    "absurd width": (config(n_embd=10**9), "n_embd: found 1000000000; must be at most 65,536"),
    "no whole number": (config(n_head="2"), "n_head: found '2'; must be a whole number"),
    "heads that do not divide": (config(n_head=3), "n_head: found 3; must divide n_embd, which is 8"),
    "few tokens": (config(vocab_size=1000), "vocab_size: found 1000; must be at least 50,257"),
    "unknown activation": (
        config(activation_function="softmax_of_mine"),
        "activation_function: found 'softmax_of_mine'",
    ),
    "cross attention": (config(add_cross_attention=True), "add_cross_attention: found true; must be False"),
    "quantised": (config(quantization_config={"bits": 4}), "quantization_config: found"),
    "a number that is none": (config(layer_norm_epsilon=NAN), "not valid JSON .NaN is no number"),
    "5,000 digits": (text("config.json", '{"n_layer": %s}' % ("9" * 5000)), "a number has thousands of digits"),
    "deep": (text("config.json", '{"a":' + "[" * 200_000), "its JSON is nested too deeply"),
    "no JSON": (text("config.json", "{'model_type'}"), "config.json: not valid JSON"),
    "no UTF-8": (lambda folder: (folder / "config.json").write_bytes(b'{"a": "\xff"}'), "config.json: not valid JSON"),
    "a list": (text("config.json", "[]"), "its JSON must be an object"),
    "large config": (huge("config.json", 1 << 30), "found 1,073,741,824 bytes; must be at most 1,048,576"),
    # weights
    "more layers": (config(n_layer=1), "its weights have 2 layers, its config.json says n_layer: 1"),
    "fewer layers": (config(n_layer=3), "its weights have 2 layers, its config.json says n_layer: 3"),
    "another vocabulary": (config(vocab_size=50264), r"'wte.weight' has the shape \(50257, 8\); by its config.json"),
    "untied without a head": (config(tie_word_embeddings=False), r"missing \(lm_head.weight, …\); set tie_word_embed"),
    "a missing weight": (
        lambda folder: write_safetensors(
            folder / "model.safetensors", {k: v for k, v in make_weights().items() if "ln_f.bias" not in k}
        ),
        r"1 weights are missing \(ln_f.bias, …\); save the model anew",
    ),
    "weights of another kind": (
        lambda folder: write_safetensors(
            folder / "model.safetensors", make_weights() | {"transformer.h.0.crossattention.x": ("F32", [1], bytes(4))}
        ),
        "1 weights are none of a GPT-2 .'h.0.crossattention.x'",
    ),
    "a name twice": (both_prefixes, "hold a name twice"),
    "NaN": (
        rewrite("transformer.h.1.mlp.c_fc.weight", with_last_number(NAN)),
        "'transformer.h.1.mlp.c_fc.weight' holds NaN",
    ),
    "infinity": (
        rewrite("transformer.wpe.weight", with_last_number(-INFINITY)),
        "'transformer.wpe.weight' holds NaN or inf",
    ),
    "NaN in bfloat16": (nan_in_bfloat16, "'transformer.wpe.weight' holds NaN or infinite numbers"),
    "truncated": (truncate, "not a safetensors file .its header would have"),
    "pickled": (pickled, "pickled, which can run code, so they are not read; convert them where you trust"),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), "holds no model.safetensors"),
    "an empty file": (lambda folder: (folder / "model.safetensors").write_bytes(b""), "not a safetensors file"),
    "a header of 2^62 bytes": (
        lambda folder: (folder / "model.safetensors").write_bytes(b"\0\0\0\0\0\0\0\x40" + b"{}"),
        "not a safetensors file .its header would have 4,611,686,018,427,387,904 bytes",
    ),
    "header no JSON": (header(b"{nothing"), "header: not valid JSON"),
    "header deep": (header(b'{"a":' + b"[" * 200_000), "header: its JSON is nested too deeply"),
    "entry no object": (header(b'{"x": 1}'), "'x': must have dtype, shape and data_offsets"),
    "negative shape": (entry(shape=[-1]), "'x': must have dtype, shape and data_offsets"),
    "shape of other size": (entry(shape=[2]), "'x': its shape does not fit its bytes"),
    "8 bits": (entry(dtype="I8", data_offsets=[0, 1]), "'x' has numbers of type 'I8'; must be F64, F32, F16, BF16"),
    "a gap": (entry(data_offsets=[4, 8]), "the bytes of 'x' overlap others or leave a gap"),
    "bytes after the end": (longer, r"has \d[\d,]+ bytes; its header describes \d[\d,]+: not the whole file"),
    # index
    "index leads outside": (
        index_to("../outside.safetensors"),
        r"found '../outside.safetensors'; must be a .safetensors",
    ),
    "index to a pickle": (index_to("pytorch_model.bin"), "found 'pytorch_model.bin'; must be a .safetensors file"),
    "index to nothing": (index_to("none.safetensors"), "names 'none.safetensors', which is not there"),
    "index without files": (index("{}"), "weight_map: must name a file for each weight"),
    "index of another shape": (index('{"weight_map": {"a": 1}}'), "weight_map: must name a file for each weight"),
    "index names another shard": (moved_in_index, "holds 'transformer.wte.weight', but the index does not say so"),
    "index names a weight too many": (lacking_in_shards, "'transformer.more' is not in 'model-00002"),
    "index of 1 GB": (huge_index, "found 1,073,741,824 bytes; must be at most 16,777,216"),
    # tokenizer
    "its own tokens": (
        lambda folder: write_tokenizer(folder, changes={318: "Ġgato1", 257: "Ġperro1"}),
        "is not GPT-2's: 2 of 50,257 tokens differ .token 257 is 'Ġperro1', GPT-2's is 'Ġa'",
    ),
    "no BPE": (lambda folder: write_tokenizer(folder, model={"type": "Unigram"}), "is not GPT-2's: model 'Unigram'"),
    "lower case": (lambda folder: write_tokenizer(folder, normalizer={"type": "Lowercase"}), "normalizer 'Lowercase'"),
    "tokens of another shape": (
        lambda folder: write_tokenizer(folder, added_tokens=[{"id": "1", "content": 2}]),
        "must give a whole number for each token",
    ),
    "merges of another shape": (
        lambda folder: write_tokenizer(folder, model={"vocab": {}, "merges": ["a b c"]}),
        "merges: must be pairs of tokens",
    ),
    "tokenizer without anything": (text("tokenizer.json", "{}"), "is not GPT-2's: model null"),
    "sentencepiece": (sentencepiece, "spiece.model: its tokenizer is not GPT-2's"),
    "merges no UTF-8": (broken_merges, "merges.txt: not UTF-8"),
    "large merges": (huge_merges, "merges.txt: found 1,073,741,824 bytes"),
    "large tokenizer": (huge("tokenizer.json", 1 << 30), "must be at most 67,108,864"),
}


@pytest.mark.parametrize(("make", "message"), REFUSED.values(), ids=REFUSED)
def test_an_unusable_start_is_refused_with_place_value_and_fix(start, make, message):
    """With its place, the value found, and the fix, in well under a second of a quiet machine."""
    make(start)
    began, began_wall = time.process_time(), time.monotonic()
    with pytest.raises(InputError, match=message) as refused:
        check_folder(start)
    assert re.match(r"model.start '[^']*/a start': ", str(refused.value))
    assert "9" * 81 not in str(refused.value)
    assert time.process_time() - began < 5.0
    assert time.monotonic() - began_wall < 15.0, "it waited"


def test_all_mistakes_in_a_start_config_are_reported_at_once(start):
    """The user can then correct all of them in one edit."""
    write_config(start, n_layer=0, n_head=0)
    with pytest.raises(InputError, match=r"n_layer: found 0; must be at least 1\n.*n_head: found 0"):
        check_folder(start)


def test_a_start_with_fewer_positions_than_max_tokens_is_refused(start):
    """With the setting that would fit."""
    with pytest.raises(
        InputError, match=r"256 positions, but examples have up to 512 tokens; set masking.max_tokens: 256"
    ):
        check_folder(start, max_tokens=512)


@pytest.mark.parametrize("name", ["no-folder/of/this", "/nowhere", "./nowhere", "~nobody/x", "a name", "x" * 300])
def test_a_name_that_is_neither_a_folder_nor_a_hub_name_is_refused(name, monkeypatch, tmp_path):
    """A typing mistake must not become a download; of a long name the end is shown."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"^model.start '.{,80}': ") as refused:
        check_folder(name)
    assert "x" * 81 not in str(refused.value)


def test_an_unreadable_folder_is_reported_without_a_traceback(start):
    """Without a traceback."""
    (start / "config.json").chmod(0o000)
    with plain_user(), pytest.raises(InputError, match=r"Permission denied.*config.json.*make it readable"):
        check_folder(start)
