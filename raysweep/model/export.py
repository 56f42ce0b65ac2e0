"""Writes a finished model as a folder that transformers loads: weights, configs, tokenizer and model card.

The folder appears by rename, so it is never read half written.  It needs no raysweep and contains no pickle.  Its
configs tell transformers that batches are padded with the end-of-text token, on the left, and that an answer ends at
`<|endofinfill|>`.
"""

from pathlib import Path

from transformers import GenerationConfig, GPT2LMHeadModel

from raysweep.masking.tokenizer_folder import write_tokenizer
from raysweep.model.gpt2 import quiet_transformers, vocabulary_of
from raysweep.storage.atomic_files import atomic_folder


def save_model(model: GPT2LMHeadModel, folder: Path, card: str) -> None:
    """Write weights, configs, the tokenizer and the card (`README.md`) by rename.

    The bytes depend only on the weights, the config and the card.
    """
    vocabulary = vocabulary_of(model)
    end = vocabulary.end_of_text
    with atomic_folder(folder) as temporary:
        model.config.pad_token_id = end
        model.generation_config = GenerationConfig.from_dict(
            {"bos_token_id": end, "eos_token_id": [vocabulary.end_of_infill, end], "pad_token_id": end}
        )
        with quiet_transformers():
            model.save_pretrained(temporary)
        write_tokenizer(temporary, vocabulary, model.config.n_positions)
        (temporary / "README.md").write_text(card, encoding="utf-8", newline="\n")
