"""A two-layer GPT-2 with the infilling vocabulary, and one as it comes from the hub, without it."""

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from tests.gpt2_tokens import GPT2_SIZE, VOCABULARY_SIZE
from tests.one_thread import one_thread as one_thread
from tests.start_folders import write_start


@pytest.fixture(scope="session")
def make_gpt2():
    """Makes a model of 2 layers, 16 wide, with weights large enough that its losses differ from token to token."""

    def make(vocabulary=VOCABULARY_SIZE, **changes):
        torch.manual_seed(0)
        shape = {"n_layer": 2, "n_embd": 16, "n_head": 2, "n_positions": 64, "initializer_range": 0.5}
        ends = {"bos_token_id": 50256, "eos_token_id": 50256}
        return GPT2LMHeadModel(GPT2Config(vocab_size=vocabulary, **ends | shape | changes))

    return make


@pytest.fixture(scope="session")
def infilling_model(make_gpt2):
    return make_gpt2().eval()


@pytest.fixture(scope="session")
def hub_folder(make_gpt2, tmp_path_factory):
    """A folder as `save_pretrained` leaves it, with GPT-2's own 50,257 tokens."""
    folder = tmp_path_factory.mktemp("hub gpt2")
    make_gpt2(GPT2_SIZE).save_pretrained(folder)
    return folder


@pytest.fixture
def start(tmp_path):
    return write_start(tmp_path / "a start")
