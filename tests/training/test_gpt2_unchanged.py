"""With GPT-2's tokenizer everything is as it was before raysweep knew others; the values are of that version."""

import hashlib

import pytest

from raysweep.storage.run_folder import ExamplesFolder, TrialFolder
from raysweep.training.loop import train
from raysweep.training.metrics import read_metrics


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def test_stores_models_and_losses_with_gpt2s_tokenizer_are_unchanged(make_job, store_folder):
    """A store to the byte, the files of the model that say what ids mean to the byte, and the losses of a training.

    Losses were equal to the last bit on the machine that took them; another processor may round differently.
    """
    assert digest(ExamplesFolder(store_folder).shard(0)) == "fc63eb2d3e46f662"
    job = make_job(fields={"start": "scratch"}, steps=3, evaluate_every=3)
    result = train(job, device="cpu")
    model = TrialFolder(job.folder).model
    assert {name: digest(model / name) for name in FILES} == FILES
    steps = [line["objective"] for line in read_metrics(TrialFolder(job.folder).metrics) if line["kind"] == "step"]
    assert steps == pytest.approx(STEPS, rel=1e-6)
    assert result.best_losses == pytest.approx(LOSSES, rel=1e-6)


FILES = {
    "tokenizer.json": "55c813ffc27b1a0a",
    "tokenizer_config.json": "b7a69ed484568976",
    "special_tokens_map.json": "1cb5c5c8ccfe0dc3",
}
STEPS = [21.644363218857194, 20.394933043395056, 19.45908236676368]
LOSSES = {"context": 8.943692075873765, "infill": 8.464221437591439, "infill_textonly": 9.012960245212476}
