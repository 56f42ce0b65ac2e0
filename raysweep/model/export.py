"""Writes a finished model as a folder that transformers loads: weights, configs, tokenizer and model card.

The folder appears by rename, so it is never read half written.  Nothing in it needs raysweep, and nothing
is a pickle.  It says what transformers needs to know: batches are padded with the end of text, on the left, and
an answer ends at `<|endofinfill|>`.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from transformers import GenerationConfig, GPT2LMHeadModel

from raysweep.masking.vocabulary import END_OF_INFILL, GPT2_SIZE, SPECIAL_TOKENS, load_tokenizer
from raysweep.model.gpt2 import END_OF_TEXT, quiet_transformers
from raysweep.storage.atomic_files import atomic_folder

END_OF_TEXT_TOKEN = "<|endoftext|>"


def save_model(model: GPT2LMHeadModel, folder: Path, card: str) -> None:
    """Write weights, configs, the tokenizer and the card (`README.md`) by rename.

    The bytes depend on the weights, the config and the card alone.
    """
    with atomic_folder(folder) as beside:
        model.config.pad_token_id = END_OF_TEXT
        model.generation_config = GenerationConfig.from_dict(
            {"bos_token_id": END_OF_TEXT, "eos_token_id": [END_OF_INFILL, END_OF_TEXT], "pad_token_id": END_OF_TEXT}
        )
        with quiet_transformers():
            model.save_pretrained(beside)
        _save_tokenizer(beside, model.config.n_positions)
        (beside / "README.md").write_text(card, encoding="utf-8", newline="\n")


def _save_tokenizer(folder: Path, positions: int) -> None:
    load_tokenizer().save(str(folder / "tokenizer.json"))
    ends = dict.fromkeys(("bos_token", "eos_token", "unk_token", "pad_token"), END_OF_TEXT_TOKEN)
    special = {**ends, "additional_special_tokens": list(SPECIAL_TOKENS)}
    added = {
        str(number): _added_token(token)
        for number, token in [(END_OF_TEXT, END_OF_TEXT_TOKEN), *enumerate(SPECIAL_TOKENS, start=GPT2_SIZE)]
    }
    config = {
        **special,
        # Every transformers since 4.0 knows this class, which reads tokenizer.json.
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": positions,
        # A model writes on at the right, so the texts of a batch must end there.
        "padding_side": "left",
        "added_tokens_decoder": added,
        "clean_up_tokenization_spaces": False,
    }
    _write(folder / "tokenizer_config.json", config)
    _write(folder / "special_tokens_map.json", special)


def _added_token(token: str) -> dict[str, str | bool]:
    return {
        "content": token,
        "lstrip": False,
        "rstrip": False,
        "single_word": False,
        "normalized": False,
        "special": True,
    }


def _write(path: Path, values: Mapping[str, object]) -> None:
    path.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8", newline="\n")
