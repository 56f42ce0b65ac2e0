"""Where a model's weights start, and what is said when they cannot be used."""

import json
import shutil

import pytest
import torch
from transformers import BertConfig, BertModel, GPT2LMHeadModel

from raysweep.config.training_settings import ModelConfig
from raysweep.errors import InputError
from raysweep.masking.vocabulary import gpt2
from raysweep.model.gpt2 import build_model, hidden_states, load_model, parameter_count
from raysweep.model.start_folder import start_digest
from tests.gpt2_tokens import GPT2_SIZE, VOCABULARY_SIZE


def build(start="scratch", max_tokens=32, seed=0, dropout=0.1):
    return build_model(
        str(start), model=ModelConfig(dropout=dropout), vocabulary=gpt2(), max_tokens=max_tokens, seed=seed
    )


def test_weights_depend_only_on_the_seed_and_leave_the_global_random_state():
    """Weights are drawn from the seed alone, and what others draw afterwards does not change."""
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = build(seed=1)
    assert torch.equal(torch.rand(3), expected)
    again, other = build(seed=1), build(seed=2)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert not torch.equal(first.transformer.wte.weight, other.transformer.wte.weight)


def test_a_model_from_scratch_has_the_infilling_vocabulary_and_enough_positions():
    """Its size is the configured one: micro is 2 layers, 64 wide."""
    model = build(max_tokens=32)
    layer = 12 * 64 * 64 + 13 * 64
    assert parameter_count(model) == VOCABULARY_SIZE * 64 + 32 * 64 + 2 * layer + 2 * 64
    assert model.lm_head.weight is model.transformer.wte.weight


def test_infilling_token_embeddings_start_at_the_mean_of_the_pretrained_ones(hub_folder, make_gpt2):
    """A pretrained model keeps its rows; each new one is their mean, and input and output stay tied."""
    old = make_gpt2(GPT2_SIZE).transformer.wte.weight
    model = build(hub_folder)
    new = model.transformer.wte.weight
    assert new.shape[0] == model.config.vocab_size == VOCABULARY_SIZE
    assert torch.equal(new[:GPT2_SIZE], old)
    torch.testing.assert_close(new[GPT2_SIZE:], old.mean(0).expand(7, -1))
    assert model.lm_head.weight is new


def test_dropout_is_set_by_the_config_and_not_by_the_start_folder(hub_folder):
    """A parent's model.json does not decide how its children are trained."""
    config = build(hub_folder, dropout=0.25).config
    assert (config.resid_pdrop, config.embd_pdrop, config.attn_pdrop) == (0.25, 0.25, 0.25)


@pytest.mark.parametrize("untied", [False, True], ids=["tied", "untied"])
def test_hidden_states_equal_those_of_transformers(untied, make_gpt2):
    """Our forward pass leaves the mask out, which changes no number: padding is on the right."""
    model = make_gpt2(tie_word_embeddings=not untied).eval()
    ids_BT = torch.randint(0, VOCABULARY_SIZE, (3, 20))
    torch.testing.assert_close(hidden_states(model, ids_BT), model.transformer(ids_BT).last_hidden_state)


def test_a_finished_model_is_loaded_in_eval_mode_on_the_requested_device(infilling_model, tmp_path):
    """Without dropout, on the device asked for."""
    infilling_model.save_pretrained(tmp_path)
    model = load_model(tmp_path, "cpu")
    assert not model.training
    assert torch.equal(model.transformer.wte.weight, infilling_model.transformer.wte.weight)


def test_scoring_a_model_without_infilling_tokens_is_refused(hub_folder):
    """Such a model must be trained first."""
    with pytest.raises(InputError, match=r"50257 tokens lacks those of infilling, which make 50264"):
        load_model(hub_folder)


def test_max_tokens_beyond_the_models_positions_is_refused(hub_folder):
    """With the setting that would fit."""
    with pytest.raises(
        InputError, match=r"64 positions, but examples have up to 65 tokens; set masking.max_tokens: 64"
    ):
        build(hub_folder, max_tokens=65)


@pytest.mark.parametrize("size", [GPT2_SIZE + 1, VOCABULARY_SIZE - 1, VOCABULARY_SIZE + 40])
def test_embeddings_of_other_extra_tokens_are_not_reused_for_infilling(tmp_path, size, make_gpt2):
    """A padding token's row was trained to mean nothing; the config's special tokens are GPT-2's again."""
    old = make_gpt2(size, bos_token_id=GPT2_SIZE, pad_token_id=GPT2_SIZE)
    old.save_pretrained(tmp_path)
    model = build(tmp_path)
    new, mean = model.transformer.wte.weight, old.transformer.wte.weight[:GPT2_SIZE].mean(0)
    assert torch.equal(new[:GPT2_SIZE], old.transformer.wte.weight[:GPT2_SIZE])
    torch.testing.assert_close(new[GPT2_SIZE:], mean.expand(7, -1))
    config = model.config
    assert (config.vocab_size, config.bos_token_id, config.eos_token_id) == (VOCABULARY_SIZE, 50256, 50256)


@pytest.mark.parametrize("form", ["half", "shards", "untied", "without prefix"])
def test_the_weights_equal_those_that_transformers_loads(tmp_path, form, make_gpt2):
    """In half precision, in shards, untied, or named as on the hub."""
    saved = make_gpt2(GPT2_SIZE, tie_word_embeddings=form != "untied")
    saved = saved.half() if form == "half" else saved
    (saved.transformer if form == "without prefix" else saved).save_pretrained(
        tmp_path, max_shard_size="1MB" if form == "shards" else "1GB"
    )
    theirs = GPT2LMHeadModel.from_pretrained(tmp_path, dtype=torch.float32).state_dict()
    ours = build(tmp_path).state_dict()
    assert ours.keys() == theirs.keys()
    for name, weight in theirs.items():
        assert torch.equal(ours[name][: len(weight)], weight), name


def test_a_start_changed_during_the_run_is_refused(hub_folder):
    """Each trial would start from other weights."""
    digest = start_digest(str(hub_folder))
    model = ModelConfig()
    build_model(str(hub_folder), model=model, vocabulary=gpt2(), max_tokens=32, seed=0, start_digest=digest)
    with pytest.raises(InputError, match=rf"its digest is {digest}, and was other when the run began"):
        build_model(str(hub_folder), model=model, vocabulary=gpt2(), max_tokens=32, seed=0, start_digest="other")


def test_remote_code_in_a_start_folder_is_never_run(hub_folder, tmp_path, monkeypatch):
    """transformers offers to run the code that a folder names; raysweep reads the folder's weights and no more."""
    shutil.copytree(hub_folder, tmp_path, dirs_exist_ok=True)
    names = {"AutoConfig": "planted.Planted", "AutoModelForCausalLM": "planted.Planted"}
    config = json.loads((tmp_path / "config.json").read_text()) | {"auto_map": names}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "planted.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    (tmp_path / "custom_generate").mkdir()
    (tmp_path / "custom_generate" / "generate.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("a question was asked"))
    build(tmp_path)
    assert not (tmp_path / "ran").exists()


def test_a_start_that_is_not_gpt2_is_refused_with_its_model_type(tmp_path):
    """By the name of what it is."""
    shape = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    BertModel(BertConfig(vocab_size=10, **shape)).save_pretrained(tmp_path)
    with pytest.raises(InputError, match="it is a 'bert' model; raysweep trains GPT-2 only"):
        build(tmp_path)
