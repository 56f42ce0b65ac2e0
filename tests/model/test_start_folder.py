"""What a pretrained start is, is known before anything is made, without torch; what cannot be used is refused."""

import json
import shutil

import huggingface_hub
import pytest

from raysweep.config.training_settings import ModelConfig
from raysweep.errors import InputError
from raysweep.masking import vocabulary
from raysweep.masking.vocabulary import SPECIAL_TOKENS, gpt2
from raysweep.model.start_folder import find_folder, model_identity, read_start, start_digest
from tests.start_folders import (
    changed,
    check_folder,
    make_weights,
    shard,
    with_last_number,
    write_bpe_pair,
    write_config,
    write_start,
    write_tokenizer,
)

# What is the same start


def test_the_fingerprint_of_a_start_depends_on_content_and_not_on_path(start, tmp_path):
    """A copy, shards, names without their prefix and other dropouts are the same start."""
    digest = start_digest(str(start))
    shutil.copytree(start, tmp_path / "copy")
    write_start(tmp_path / "shards")
    shard(tmp_path / "shards")
    bare = {name.removeprefix("transformer."): weight for name, weight in make_weights().items()}
    bare["h.0.attn.bias"] = ("F32", [2], bytes(8))  # a mask that older versions saved
    write_start(tmp_path / "bare", weights=bare, resid_pdrop=0.3, task_specific_params={"a": 1})
    write_tokenizer(tmp_path / "bare")
    assert {start_digest(str(tmp_path / name)) for name in ("copy", "shards", "bare")} == {digest}


@pytest.mark.parametrize(
    "fields",
    [{"n_head": 4}, {"layer_norm_epsilon": 1e-6}, {"activation_function": "relu"}, {"scale_attn_weights": False}],
)
def test_a_field_that_changes_the_meaning_of_weights_changes_the_fingerprint(start, tmp_path, fields):
    """The weights are the same to the byte."""
    assert start_digest(str(write_start(tmp_path / "other", **fields))) != start_digest(str(start))


def test_replaced_weights_change_the_fingerprint_of_a_start(start):
    """The fault that was found: a trial from replaced weights was taken for done."""
    before = model_identity(ModelConfig(start=str(start)))
    write_start(start, weights=changed("transformer.wpe.weight", with_last_number(0.25)))
    after = model_identity(ModelConfig(start=str(start)))
    assert before != after
    assert str(start) not in json.dumps(after)


def test_model_size_is_not_part_of_a_pretrained_starts_fingerprint(start):
    """The size is not used, so a change of it makes nothing stale; the dropout is used."""
    identities = [model_identity(ModelConfig(start=str(start), **fields)) for fields in ({}, {"size": "small"})]
    assert identities[0] == identities[1] != model_identity(ModelConfig(start=str(start), dropout=0.2))


# What can be used


def test_a_tokenizer_already_compared_is_recognised_by_its_digest(start, tmp_path, monkeypatch):
    """In any folder, and without parsing; a file that differs is compared, whatever its name and size."""
    write_tokenizer(start)
    assert read_start(start, "here", vocabulary=gpt2()).vocabulary is gpt2()
    shutil.copytree(start, tmp_path / "copy")
    file = tmp_path / "copy" / "tokenizer.json"
    with monkeypatch.context() as patch:
        patch.setattr("raysweep.model.start_tokenizer.parse_user_json", lambda content, place: 1 / 0)
        for vocabulary in (gpt2(), None):
            assert read_start(tmp_path / "copy", "here", vocabulary=vocabulary).vocabulary is gpt2()
    content = file.read_bytes()
    file.write_bytes(content.replace(b'"hello"', b'"hellp"', 1))
    assert file.read_bytes() != content
    with pytest.raises(InputError, match="1 of 50,257 tokens differ"):
        read_start(tmp_path / "copy", "here", vocabulary=gpt2())


@pytest.mark.parametrize("dtype", ["F16", "BF16", "F64"])
def test_every_floating_point_dtype_is_accepted(tmp_path, dtype):
    """Weights of other types are converted to float32."""
    folder = write_start(tmp_path, weights=make_weights(dtype))
    assert check_folder(folder).startswith(f"folder {folder}, digest ")


def test_a_start_without_a_tokenizer_is_accepted_with_a_note(start):
    """Only the number of its tokens is known."""
    assert check_folder(start).endswith("; no tokenizer in the folder, so its tokens are taken to be GPT-2's")
    write_tokenizer(start)
    assert "tokenizer" not in check_folder(start)


@pytest.mark.parametrize("size", [50258, 50262, 50264, 50304])
def test_extra_tokens_of_a_start_are_ignored_with_a_note(tmp_path, size):
    """Padding, a start token: their rows have the ids that infilling uses."""
    write_start(tmp_path, vocab_size=size)
    write_tokenizer(tmp_path, extra=["<|pad|>"])
    assert check_folder(tmp_path).endswith(f"; its {size - 50257} tokens beyond GPT-2's are not used ('<|pad|>')")
    assert not read_start(tmp_path, "x", vocabulary=gpt2()).has_infilling_tokens


def test_a_raysweep_model_keeps_its_infilling_tokens(tmp_path):
    """Its tokenizer names the seven in the order of their ids."""
    write_start(tmp_path, vocab_size=50264)
    write_tokenizer(tmp_path, extra=SPECIAL_TOKENS)
    assert read_start(tmp_path, "x", vocabulary=gpt2()).has_infilling_tokens
    write_tokenizer(tmp_path, extra=SPECIAL_TOKENS[::-1])
    assert not read_start(tmp_path, "x", vocabulary=gpt2()).has_infilling_tokens


def test_vocab_json_and_merges_txt_are_compared_too(start):
    """vocab.json and merges.txt; the merges decide how a text is cut."""
    write_bpe_pair(start)
    assert "tokenizer" not in check_folder(start).replace(str(start), "")
    write_bpe_pair(start, merges=vocabulary.read_bpe_files()[1][::-1])
    with pytest.raises(InputError, match=r"its tokenizer is not GPT-2's: it has other merges"):
        check_folder(start)


def test_tied_weights_that_are_stored_twice_must_be_equal(tmp_path):
    """transformers would silently untie them."""
    weights = make_weights()
    write_start(tmp_path, weights=weights | {"lm_head.weight": weights["transformer.wte.weight"]})
    check_folder(tmp_path)
    other = make_weights(seed=1)["transformer.wte.weight"]
    write_start(tmp_path, weights=weights | {"lm_head.weight": other})
    with pytest.raises(InputError, match=r"differs from its embeddings.*set tie_word_embeddings: false"):
        check_folder(tmp_path)


def test_the_head_of_another_task_is_ignored_with_a_note(tmp_path):
    """A classifier made of GPT-2 still holds a language model."""
    write_start(tmp_path, weights=make_weights() | {"score.weight": ("F32", [2], bytes(8))})
    assert check_folder(tmp_path).endswith("; 1 weights of other tasks are not used ('score.weight')")


# The hub


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """The local cache of the hub, in a folder of the test, with the network switched off."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


def snapshot_of(hub, name):
    """The folder in which the cache has a model, as the hub's own library lays it out."""
    folder = hub / f"models--{name.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("0123abcd")
    return folder / "snapshots" / "0123abcd"


def test_a_cached_hub_model_has_the_same_fingerprint_as_its_copy(hub, start):
    """No network is used."""
    copy = write_start(snapshot_of(hub, "someone/gpt2-own"))
    assert find_folder("someone/gpt2-own") == copy
    assert check_folder("someone/gpt2-own").startswith(
        f"hub model someone/gpt2-own, in the local cache, digest {start_digest(str(start))}"
    )
    write_tokenizer(copy, changes={318: "Ġel"})
    with pytest.raises(InputError, match=r"model.start 'someone/gpt2-own': its tokenizer is not GPT-2's"):
        check_folder("someone/gpt2-own")


def test_checks_do_not_download_an_uncached_hub_model(hub):
    """Nor is a model of which only the config is in the cache; a run names what it could not download."""
    assert check_folder("gpt2") == "hub model gpt2, to be downloaded at the start"
    folder = snapshot_of(hub, "gpt2")
    folder.mkdir(parents=True)
    write_config(folder)
    assert check_folder("gpt2") == "hub model gpt2, to be downloaded at the start"
    with pytest.raises(InputError, match=r"model.start 'gpt3-of-nobody': not in the local cache, and cannot be downl"):
        start_digest("gpt3-of-nobody")


# GPT-2's own files


def test_modified_gpt2_tokenizer_files_are_refused(tmp_path, monkeypatch):
    """The package that carries them could be replaced; every token id of a run depends on them."""
    source = vocabulary._encoder_folder()
    for name in ("encoder.json", "vocab.bpe"):
        shutil.copy(source / name, tmp_path)
    monkeypatch.setattr(vocabulary, "_encoder_folder", lambda: tmp_path)
    vocabulary.read_bpe_files.__wrapped__()
    (tmp_path / "vocab.bpe").write_text((source / "vocab.bpe").read_text().replace("Ġ t", "Ġ u", 1))
    with pytest.raises(InputError, match=r"vocab.bpe: found SHA-256 \w{16}…; GPT-2's own has 1ce1664773c50f3e…"):
        vocabulary.read_bpe_files.__wrapped__()
