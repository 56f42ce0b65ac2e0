"""A model's size follows from its name or folder; plan, calibration and doctor use the same size."""

from typing import get_args

import pytest
from transformers import GPT2Config, GPT2LMHeadModel

from raysweep.config.loading import parse_config
from raysweep.config.training_settings import SIZES, ModelSize
from raysweep.planning.model_size import model_shape, size_of_hub_model
from tests.start_folders import write_start


def config_of(**model):
    return parse_config({"model": model, "trials": {"A1": {"levels": ["A1"]}}})


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("gpt2", "gpt2"),
        ("openai-community/gpt2-medium", "gpt2-medium"),
        ("gpt2-large", "gpt2-large"),
        ("gpt2-xl", "gpt2-xl"),
        ("distilgpt2", "distilgpt2"),
        ("someone/gpt2-small-dutch", "gpt2"),
        ("someone/a-model", "gpt2"),
    ],
)
def test_the_size_of_a_hub_model_is_inferred_from_its_name(name, size):
    """The network is not used; the longest known name in it counts."""
    assert size_of_hub_model(name) == size
    assert model_shape(config_of(start=name)) == model_shape(config_of(size=size))


@pytest.mark.parametrize("size", ["micro", "small"])
def test_the_estimated_parameter_count_equals_that_of_the_model(size):
    """They agree within half a per cent, the share of biases and norms."""
    shape = model_shape(config_of(size=size))
    sizes = {"n_layer": shape.layers, "n_embd": shape.width, "n_head": SIZES[size][2], "n_positions": shape.positions}
    built = GPT2LMHeadModel(GPT2Config(vocab_size=50_264, **sizes))
    assert shape.parameters == pytest.approx(sum(parameter.numel() for parameter in built.parameters()), rel=0.005)


def test_the_size_of_a_model_folder_is_read_from_its_config(tmp_path):
    """The size is in the file that Hugging Face writes."""
    shape = model_shape(config_of(start=str(write_start(tmp_path, n_layer=3, n_embd=6))))
    assert (shape.layers, shape.width) == (3, 6)


def test_every_size_in_the_schema_has_a_shape():
    """A name without one would cause a KeyError."""
    assert set(get_args(ModelSize)) == set(SIZES)
