"""`infill` and `bench` from the command line, with models small enough for every test."""

import json

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from raysweep.errors import ConfigError
from raysweep.masking.vocabulary import VOCABULARY_SIZE
from raysweep.model.export import save_model


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    """A model that was never trained, so its answers hardly ever end."""
    torch.manual_seed(0)
    ends = {"bos_token_id": 50256, "eos_token_id": 50256}
    config = GPT2Config(vocab_size=VOCABULARY_SIZE, n_layer=1, n_embd=16, n_head=2, n_positions=64, **ends)
    folder = tmp_path_factory.mktemp("trained") / "model"
    save_model(GPT2LMHeadModel(config), folder, "# tiny\n")
    return folder


def test_infill_prints_as_many_fillings_as_asked_for(command, model_folder):
    """Numbered, the text around the blanks kept, the same for the same seed."""
    words = ("infill", "--model", model_folder, "--samples", 2, "--seed", 5, "I like [word] tea.")
    result = command(*words)
    assert result.exit_code == 0, result.exception
    assert result.stdout.startswith("1. I like")
    assert "\n2. I like" in result.stdout
    assert "(unfinished: the model did not end every answer)" in result.stdout
    assert command(*words).stdout == result.stdout


def test_infill_asks_for_texts_until_an_empty_line(command, model_folder):
    """A mistake in one text is told, and the next is asked for."""
    typed = "nothing to fill\nI like [word].\n\nnever read\n"
    result = command("infill", "--model", model_folder, "--samples", 1, input=typed)
    assert result.exit_code == 0, result.exception
    assert "A text with blanks, such as: I like [word] because [sentence]." in result.stdout
    assert "blank" in result.stdout.split("\n", 1)[1]
    assert result.stdout.count("1. I like") == 1
    assert "never read" not in result.stdout


def test_bench_mask_times_the_rows_of_a_csv(command, tmp_path):
    """As JSON; a column that is not there is an error."""
    assert command("sample", "--rows", 12, "--out", tmp_path / "texts.csv").exit_code == 0
    told = json.loads(command("bench", "mask", "--csv", tmp_path / "texts.csv", "--rows", 10).stdout)
    assert told["documents"] == 10
    assert told["documents_per_s"] > 0
    assert "a column 'essay'" in str(
        command("bench", "mask", "--csv", tmp_path / "texts.csv", "--column", "essay").exception
    )


def test_bench_train_times_steps(command):
    """The options reach the benchmark."""
    options = ("--config", "micro", "--steps", 1, "--batch-size", 2, "--device", "cpu", "--micro-batch", 1)
    told = json.loads(command("bench", "train", *options, "--packing", "off").stdout)
    assert (told["size"], told["batch_size"], told["micro_batch"], told["packing"]) == ("micro", 2, 1, "off")
    assert told["tokens_per_s"] > 0


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--config", "huge"),
        ("--precision", "fp8"),
        ("--packing", "maybe"),
        ("--micro-batch", "0"),
        ("--like", "theirs"),
    ],
)
def test_bench_train_refuses_what_it_does_not_know(command, option, value):
    """With exit code 2, and the option in the message."""
    result = command("bench", "train", option, value)
    if isinstance(result.exception, ConfigError):
        assert result.exception.exit_code == 2
        assert option in str(result.exception)
    else:
        assert result.exit_code == 2
        assert option in result.output
