"""A finished model is a folder that plain transformers loads, without raysweep and without a network."""

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from raysweep.masking.vocabulary import SPECIAL_TOKENS, load_tokenizer
from raysweep.model.export import save_model


@pytest.fixture(scope="module")
def folder(infilling_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trials") / "A1's best" / "model"
    save_model(infilling_model, folder, "# A1\n")
    return folder


def test_plain_transformers_loads_the_weights(folder, infilling_model):
    """Every parameter is the same, and the output layer is tied again."""
    model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True)
    ours = dict(infilling_model.named_parameters())
    assert ours.keys() == dict(model.named_parameters()).keys()
    assert all(torch.equal(parameter, ours[name]) for name, parameter in model.named_parameters())
    assert model.lm_head.weight is model.transformer.wte.weight


def test_plain_transformers_loads_the_tokenizer(folder):
    """The infilling tokens are 50257 to 50263, in a text too, and decoding gives the text back."""
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    assert [tokenizer.convert_tokens_to_ids(token) for token in SPECIAL_TOKENS] == list(range(50257, 50264))
    assert (len(tokenizer), tokenizer.eos_token_id, tokenizer.model_max_length) == (50264, 50256, 64)
    text = "My  dog’s <|infill_word|> is 7 😀.\nBye<|startofinfill|> name<|endofinfill|>"
    ids = tokenizer(text)["input_ids"]
    assert ids == load_tokenizer().encode(text).ids
    assert tokenizer.decode(ids) == text
    assert "<|" not in tokenizer.decode(ids, skip_special_tokens=True)


def test_the_folder_holds_what_the_design_names_and_can_be_read_by_others(folder):
    """safetensors writes private files; on a shared disk a worker of another user must read them."""
    files = {path.name: path.stat().st_mode & 0o444 for path in folder.iterdir()}
    assert files.keys() >= {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "README.md"}
    assert files["model.safetensors"] == files["config.json"]
    assert (folder / "README.md").read_text() == "# A1\n"


def test_the_same_model_gives_the_same_bytes(folder, infilling_model, tmp_path):
    """So that a checksum says whether two trainings agree."""
    save_model(infilling_model, tmp_path / "again", "# A1\n")
    for path in folder.iterdir():
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes(), path.name
