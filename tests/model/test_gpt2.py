"""Where a model's weights start, and what is said when they cannot be used."""

import json

import pytest
import torch
from transformers import BertConfig, BertModel

from raysweep.config.training_settings import ModelConfig
from raysweep.errors import TrainingError
from raysweep.masking.vocabulary import GPT2_SIZE, VOCABULARY_SIZE
from raysweep.model.gpt2 import build_model, hidden_states, load_model, parameter_count


def build(start="scratch", max_tokens=32, seed=0, dropout=0.1):
    return build_model(str(start), model=ModelConfig(dropout=dropout), max_tokens=max_tokens, seed=seed)


def test_the_same_seed_gives_the_same_weights_and_leaves_the_random_state_alone():
    """Weights are drawn from the seed alone, and what others draw afterwards does not change."""
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = build(seed=1)
    assert torch.equal(torch.rand(3), expected)
    again, other = build(seed=1), build(seed=2)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert not torch.equal(first.transformer.wte.weight, other.transformer.wte.weight)


def test_a_model_from_scratch_has_the_infilling_vocabulary_and_a_position_for_every_token():
    """Its size is the configured one: micro is 2 layers, 64 wide."""
    model = build(max_tokens=32)
    layer = 12 * 64 * 64 + 13 * 64
    assert parameter_count(model) == VOCABULARY_SIZE * 64 + 32 * 64 + 2 * layer + 2 * 64
    assert model.lm_head.weight is model.transformer.wte.weight


def test_infilling_tokens_start_at_the_mean_of_the_old_ones(hub_folder, make_gpt2):
    """A pretrained model keeps its rows; each new one is their mean, and input and output stay tied."""
    old = make_gpt2(GPT2_SIZE).transformer.wte.weight
    model = build(hub_folder)
    new = model.transformer.wte.weight
    assert new.shape[0] == model.config.vocab_size == VOCABULARY_SIZE
    assert torch.equal(new[:GPT2_SIZE], old)
    torch.testing.assert_close(new[GPT2_SIZE:], old.mean(0).expand(7, -1))
    assert model.lm_head.weight is new


def test_dropout_is_the_configs_whatever_the_folder_says(hub_folder):
    """A parent's model.json does not decide how its children are trained."""
    config = build(hub_folder, dropout=0.25).config
    assert (config.resid_pdrop, config.embd_pdrop, config.attn_pdrop) == (0.25, 0.25, 0.25)


@pytest.mark.parametrize("untied", [False, True], ids=["tied", "untied"])
def test_hidden_states_are_those_of_transformers(untied, make_gpt2):
    """Our forward pass leaves the mask out, which changes no number: padding is on the right."""
    model = make_gpt2(tie_word_embeddings=not untied).eval()
    ids_BT = torch.randint(0, VOCABULARY_SIZE, (3, 20))
    torch.testing.assert_close(hidden_states(model, ids_BT), model.transformer(ids_BT).last_hidden_state)


def test_a_finished_model_is_loaded_for_evaluation(infilling_model, tmp_path):
    """Without dropout, on the device asked for."""
    infilling_model.save_pretrained(tmp_path)
    model = load_model(tmp_path, "cpu")
    assert not model.training
    assert torch.equal(model.transformer.wte.weight, infilling_model.transformer.wte.weight)


def test_a_model_without_infilling_tokens_cannot_be_scored(hub_folder):
    """It must be trained first."""
    with pytest.raises(TrainingError, match=r"50257 tokens; an infilling model has 50264"):
        load_model(hub_folder)


def test_examples_longer_than_the_models_positions_are_refused(hub_folder):
    """With the setting that would fit."""
    with pytest.raises(
        TrainingError, match=r"64 positions, but examples have up to 65 tokens; set masking.max_tokens: 64"
    ):
        build(hub_folder, max_tokens=65)


@pytest.mark.parametrize("size", [1000, VOCABULARY_SIZE + 1])
def test_another_vocabulary_is_refused(tmp_path, size, make_gpt2):
    """Its token ids would mean other tokens."""
    make_gpt2(size).save_pretrained(tmp_path)
    with pytest.raises(TrainingError, match=f"its vocabulary has {size} tokens"):
        build(tmp_path)


def test_a_model_that_is_no_gpt2_is_refused(tmp_path):
    """By the name of what it is."""
    shape = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    BertModel(BertConfig(vocab_size=10, **shape)).save_pretrained(tmp_path)
    with pytest.raises(TrainingError, match="it is a 'bert' model; raysweep trains GPT-2 only"):
        build(tmp_path)


def test_weights_that_are_missing_are_not_made_up(hub_folder, tmp_path):
    """transformers would fill them with random numbers and go on."""
    config = json.loads((hub_folder / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "n_layer": 3}))
    (tmp_path / "model.safetensors").write_bytes((hub_folder / "model.safetensors").read_bytes())
    with pytest.raises(TrainingError, match=r"12 weights are missing .*transformer\.h\.2"):
        build(tmp_path)


@pytest.mark.parametrize("what", ["nothing", "a pickle", "a damaged file"])
def test_a_folder_without_safetensors_is_refused(hub_folder, tmp_path, what, make_gpt2):
    """No pickle is loaded, whoever wrote it."""
    (tmp_path / "config.json").write_bytes((hub_folder / "config.json").read_bytes())
    if what == "a pickle":
        torch.save(make_gpt2(GPT2_SIZE).state_dict(), tmp_path / "pytorch_model.bin")
    if what == "a damaged file":
        (tmp_path / "model.safetensors").write_bytes((hub_folder / "model.safetensors").read_bytes()[:1000])
    with pytest.raises(TrainingError, match=r"must be a folder with config\.json and model\.safetensors"):
        build(tmp_path)


def test_a_path_that_is_no_folder_is_not_looked_for_on_the_hub(tmp_path):
    """A typing mistake must not become a download."""
    with pytest.raises(TrainingError, match=r"model\.start: no folder '.*/modle'"):
        build(tmp_path / "modle")
