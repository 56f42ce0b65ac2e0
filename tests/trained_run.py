"""A run folder with tiny models that transformers can load, as the train stage leaves it."""

import torch
from transformers import GPT2Config, GPT2LMHeadModel

from raysweep.config.loading import dump_config
from raysweep.model.export import save_model
from raysweep.scheduling.records import State, TrialRecord, write_record
from raysweep.scheduling.trials import expand_trials, training_settings
from raysweep.storage.atomic_files import write_text
from raysweep.storage.digests import describe_outputs
from raysweep.storage.run_folder import RunFolder
from tests.gpt2_tokens import VOCABULARY_SIZE


def tiny_model(seed=0, positions=64):
    """A GPT-2 of random weights that differ enough for its answers to differ."""
    ends = {"bos_token_id": 50256, "eos_token_id": 50256}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = GPT2Config(
            vocab_size=VOCABULARY_SIZE,
            n_layer=1,
            n_embd=8,
            n_head=2,
            n_positions=positions,
            initializer_range=0.3,
            **ends,
        )
        return GPT2LMHeadModel(config)


def add_models(folder: RunFolder, config, *, without=(), positions=64, **fields):
    """Put a model and its record into the folder of every trial, and the config into the run's.

    Args:
        without: trials that are not trained.
        fields: of the records.
    """
    write_text(folder.config, dump_config(config))
    for number, trial in enumerate(expand_trials(config).values()):
        if trial.name in without:
            continue
        place = folder.trial(trial.name)
        save_model(tiny_model(number, positions), place.model, f"# {trial.name}\n")
        write_record(
            place,
            TrialRecord(
                trial=trial.name,
                state=State.DONE,
                fingerprint="f",
                identity=training_settings(trial),
                outputs=describe_outputs(place.root, [place.model]),
                **fields,
            ),
        )
