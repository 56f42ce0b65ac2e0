"""A finished model is a folder that plain transformers loads, without raysweep and without a network."""

import copy

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, pipeline

from raysweep.masking.vocabulary import SPECIAL_TOKENS
from raysweep.model.export import save_model
from raysweep.training.card import USE
from tests.gpt2_tokens import load_tokenizer


@pytest.fixture(scope="module")
def folder(infilling_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trials") / "A1's best" / "model"
    save_model(infilling_model, folder, "# A1\n")
    return folder


def test_transformers_loads_the_weights_of_a_model_folder(folder, infilling_model):
    """Every parameter is the same, and the output layer is tied again."""
    model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True)
    ours = dict(infilling_model.named_parameters())
    assert ours.keys() == dict(model.named_parameters()).keys()
    assert all(torch.equal(parameter, ours[name]) for name, parameter in model.named_parameters())
    assert model.lm_head.weight is model.transformer.wte.weight


def test_transformers_loads_the_tokenizer_of_a_model_folder(folder):
    """The infilling tokens are 50257 to 50263, in a text too, and decoding gives the text back."""
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    assert [tokenizer.convert_tokens_to_ids(token) for token in SPECIAL_TOKENS] == list(range(50257, 50264))
    assert (len(tokenizer), tokenizer.eos_token_id, tokenizer.model_max_length) == (50264, 50256, 64)
    text = "My  dog’s <|infill_word|> is 7 😀.\nBye<|startofinfill|> name<|endofinfill|>"
    ids = tokenizer(text)["input_ids"]
    assert ids == load_tokenizer().encode(text).ids
    assert tokenizer.decode(ids) == text
    assert "<|" not in tokenizer.decode(ids, skip_special_tokens=True)


def test_the_model_folder_has_its_documented_files_readable_by_other_users(folder):
    """safetensors writes private files; on a shared disk a worker of another user must read them."""
    files = {path.name: path.stat().st_mode & 0o444 for path in folder.iterdir()}
    assert files.keys() >= {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "README.md"}
    assert files["model.safetensors"] == files["config.json"]
    assert (folder / "README.md").read_text() == "# A1\n"


def test_the_same_model_is_saved_with_the_same_bytes(folder, infilling_model, tmp_path):
    """A checksum can therefore tell whether two trainings agree."""
    save_model(infilling_model, tmp_path / "again", "# A1\n")
    for path in folder.iterdir():
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes(), path.name


def test_the_configs_special_tokens_are_those_of_the_tokenizer(folder):
    """Padding is set, and generation stops where an answer ends."""
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True)
    assert (tokenizer.pad_token_id, tokenizer.padding_side) == (50256, "left")
    assert model.config.pad_token_id == model.generation_config.pad_token_id == 50256
    assert model.generation_config.eos_token_id == [50258, 50256]


def test_a_transformers_pipeline_stops_at_the_end_of_an_answer(infilling_model, tmp_path):
    """A model that always ends its answer at once: the texts of a batch differ in length, and each gets its own."""
    sure = copy.deepcopy(infilling_model)
    with torch.no_grad():
        sure.transformer.ln_f.weight.zero_()
        sure.transformer.ln_f.bias.fill_(1.0)
        sure.transformer.wte.weight[50258] = 10.0
    save_model(sure, tmp_path / "model", "# A1\n")
    infill = pipeline("text-generation", model=str(tmp_path / "model"), batch_size=2)
    prompts = ["I <|infill_word|> tea.<|startofinfill|>", "We went to <|infill_ngram|> in May.<|startofinfill|>"]
    answers = infill(prompts, do_sample=False, max_new_tokens=8, return_tensors=True)
    for prompt, (answer,) in zip(prompts, answers, strict=True):
        ids = [number for number in answer["generated_token_ids"] if number != 50256]
        assert ids == [*infill.tokenizer(prompt)["input_ids"], 50258]


def test_batched_generation_equals_generation_of_single_texts(folder):
    """Padding on the left changes no text; on the right it would come before the answer."""
    infill = pipeline("text-generation", model=str(folder), tokenizer=str(folder), batch_size=2)
    prompts = ["I <|infill_word|> tea.<|startofinfill|>", "We went to <|infill_ngram|> in May.<|startofinfill|>"]
    settings = {"do_sample": False, "max_new_tokens": 4}
    assert infill(prompts, **settings) == [infill(prompt, **settings) for prompt in prompts]


def test_the_code_on_the_model_card_runs_as_pasted(folder, monkeypatch):
    """In the model's folder, as the card says."""
    code = USE.removeprefix("```python\n").removesuffix("```")
    monkeypatch.chdir(folder)
    names = {}
    exec(compile(code, "README.md", "exec"), names)
    assert isinstance(names["answer"], str)
