"""One training from start to end: what it writes, when it stops, and what it says when it cannot go on."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from raysweep.errors import ChangedError, NonFiniteLossError, TrainingError
from raysweep.evaluation.decoding import Prompt, answer_prompts
from raysweep.evaluation.scoring import CELLS, score_examples
from raysweep.evaluation.token_sampling import Sampling
from raysweep.masking.example_store import ExampleStore
from raysweep.masking.vocabulary import TargetType
from raysweep.model.gpt2 import load_model
from raysweep.model.token_losses import full_precision
from raysweep.storage.run_folder import TrialFolder
from raysweep.training.loop import train
from raysweep.training.metrics import read_metrics
from tests.masking.stored_examples import spans_of


def lines_of(job, kind):
    return [line for line in read_metrics(TrialFolder(job.folder).metrics) if line["kind"] == kind]


@pytest.fixture(scope="session")
def overfit_folder(make_store):
    """Eight one-example documents that differ from their first word on; what is learnt by heart can be known."""
    words = ["Apples", "Bread", "Cats", "Dogs", "Eggs", "Fish", "Games", "Houses"]
    texts = [
        f"{word} are what my brother number {place} likes, and we have many of them."
        for place, word in enumerate(words)
    ]
    documents = [("A1", "train", text) for text in texts] + [("A1", "valid", texts[0])]
    return make_store(documents, examples_per_document=1, word=0.2, min_spans=1)


def test_a_training_overfits_eight_examples(make_job, overfit_folder):
    """The sum of both losses falls from 21.6 to under 0.05 nats a token, and infilling gives the right answers."""
    job = make_job(
        dropout=0.0,
        fields={"examples": overfit_folder, "start": "scratch"},
        steps=55,
        batch_size=8,
        learning_rate=1e-2,
        warmup_steps=5,
        beta2=0.95,
        evaluate_every=100,
        checkpoint_every=100,
    )
    result = train(job, device="cpu")
    assert (result.steps, result.stopped) == (55, "")
    losses = [line["objective"] for line in lines_of(job, "step")]
    assert losses[0] == pytest.approx(21.6, abs=0.5)
    assert losses[-1] < 0.05
    check_answers(TrialFolder(job.folder).model, ExampleStore.open(overfit_folder))


def check_answers(folder, store):
    """Asked with the contexts it has learnt, the model gives every answer, token by token, and ends it."""
    batch = store.assemble(store.select(("A1",), "train"))
    prompts, expected = [], []
    for example, (ids, types) in enumerate(zip(batch.ids_BT.tolist(), batch.types_BT.tolist(), strict=True)):
        spans = spans_of(store, example)
        prompts.append(Prompt(ids=ids[: types.index(TargetType.START) + 1], kinds=[kind for kind, _, _ in spans]))
        tokens = store.assemble(np.array([example]), task="lm").ids_BT[0].tolist()
        expected += [tuple(tokens[start : start + length]) for _, start, length in spans]
    answered = answer_prompts(load_model(folder), prompts, sampling=Sampling(temperature=0.0))
    answers = [answer for (sample,) in answered for answer in sample]
    assert len(expected) > len(prompts), "some examples have several blanks"
    assert [answer.ids for answer in answers] == expected
    assert all(answer.finished for answer in answers)


def test_a_training_leaves_model_metrics_and_result(make_job):
    """The checkpoints, which are needed until the result is written, are deleted."""
    job, seen = make_job(), []
    result = train(job, device="cpu", on_evaluation=seen.append)
    folder = TrialFolder(job.folder)

    assert [line["step"] for line in lines_of(job, "step")] == list(range(1, 13))
    assert [evaluation.step for evaluation in seen] == [4, 8, 12]
    best = min(seen, key=lambda evaluation: evaluation.losses["infill"])
    assert (result.best_step, result.best_losses) == (best.step, best.losses)
    assert (result.steps, result.stopped, result.examples) == (12, "", 48)
    assert 0 < result.padding_share < 0.3
    assert result.tokens == sum(line["tokens"] for line in lines_of(job, "step"))

    assert json.loads(folder.result.read_text())["fingerprint"] == "work-1"
    assert not folder.checkpoints.exists()
    assert b"valid/infill" in next(folder.root.glob("events.out.tfevents.*")).read_bytes()
    model = AutoModelForCausalLM.from_pretrained(folder.model, local_files_only=True)
    assert sum(parameter.numel() for parameter in model.parameters()) == result.parameters


def test_the_best_model_is_kept_and_not_the_last(make_job):
    """The learning rate ruins the model after a while."""
    job = make_job(steps=8, evaluate_every=2, learning_rate=0.3, warmup_steps=40)
    early = train(job, device="cpu")
    ruined = dataclasses.replace(
        make_job(steps=8, evaluate_every=2, learning_rate=2.0), folder=job.folder.parent / "ruined"
    )
    result = train(ruined, device="cpu")
    assert result.best_step < 8
    losses = {line["step"]: line["infill"] for line in lines_of(ruined, "evaluation")}
    assert result.best_losses["infill"] == min(losses.values()) == losses[result.best_step]
    assert early.best_step == 8


def test_the_same_job_gives_the_same_bytes(make_job, tmp_path):
    """The bytes do not depend on the folder."""
    first, second = make_job(), make_job(fields={"folder": tmp_path / "other place"})
    train(first, device="cpu")
    train(second, device="cpu")
    first_folder, second_folder = (TrialFolder(job.folder) for job in (first, second))
    assert (first_folder.model / "model.safetensors").read_bytes() == (
        second_folder.model / "model.safetensors"
    ).read_bytes()
    assert first_folder.metrics.read_bytes() == second_folder.metrics.read_bytes()


def test_a_finished_training_is_not_repeated(make_job):
    """Its result is returned at once."""
    job = make_job(steps=2)
    result = train(job, device="cpu")
    before = TrialFolder(job.folder).result.stat()
    assert train(job, device="cpu") == result
    assert TrialFolder(job.folder).result.stat() == before


def test_a_result_with_another_fingerprint_is_refused(make_job):
    """The result of a training with another fingerprint is not overwritten either."""
    train(make_job(steps=2), device="cpu")
    with pytest.raises(ChangedError, match=r"is the result of other work \(work-1, not work-2\).*--force A1"):
        train(make_job(steps=2, fields={"fingerprint": "work-2"}), device="cpu")


def test_a_child_starts_from_its_parents_model(make_job, tmp_path):
    """Its first loss is where the parent ended, not at the logarithm of the vocabulary."""
    parent = make_job(steps=12, dropout=0.0)
    train(parent, device="cpu")
    child = make_job(
        steps=1,
        dropout=0.0,
        fields={"folder": tmp_path / "child", "start": str(parent.folder / "model"), "fingerprint": "child"},
    )
    train(child, device="cpu")
    first, last = lines_of(child, "step")[0]["objective"], lines_of(parent, "step")[-1]["objective"]
    assert first < last + 1 < lines_of(parent, "step")[0]["objective"] - 1


def test_early_stopping_ends_a_training_after_its_patience(make_job):
    """Two evaluations without a better loss, and it is a finished training, with the best model."""
    job = make_job(steps=40, evaluate_every=1, learning_rate=5.0, patience=2)
    result = train(job, device="cpu")
    assert result.stopped == "patience"
    assert result.steps == result.best_step + 2 < 40
    assert TrialFolder(job.folder).result.exists()


def test_a_stopped_training_resumes_to_the_same_model(make_job, tmp_path):
    """A reason to stop leads to a checkpoint; the next call does the rest, with the same model as without the stop."""
    job, whole = make_job(), make_job(fields={"folder": tmp_path / "whole"})
    asked = iter([None, None, None, None, "the machine is needed"])
    stopped = train(job, device="cpu", should_stop=lambda: next(asked))
    assert (stopped.steps, stopped.stopped) == (5, "the machine is needed")
    assert not TrialFolder(job.folder).result.exists()
    assert train(job, device="cpu").steps == 12
    train(whole, device="cpu")
    models = [(TrialFolder(at.folder).model / "model.safetensors").read_bytes() for at in (job, whole)]
    assert models[0] == models[1]


def test_a_non_finite_loss_is_reported_with_step_documents_and_fix(make_job, store_folder):
    """No checkpoint has the ruined weights."""
    job = make_job(learning_rate=1e30, evaluate_every=100, checkpoint_every=100)
    with pytest.raises(
        NonFiniteLossError, match=r"A1: step \d+: .*not finite.*Lower learning_rate or clip_norm"
    ) as caught:
        train(job, device="cpu")
    failed_at, documents = caught.value.step, caught.value.documents
    assert f"step {failed_at}: " in str(caught.value)
    assert f"documents are {', '.join(map(str, documents))}" in str(caught.value)
    store = ExampleStore.open(store_folder)
    assert set(documents) <= set(store.documents_of(store.select(("A1",), "train")).tolist())
    assert [line["step"] for line in lines_of(job, "step")] == list(range(1, failed_at))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"evaluate_every": 1}, "validation loss context (nan|inf).*"),
        ({"evaluate_every": 9, "checkpoint_every": 1}, "norm of the weights (nan|inf)"),
    ],
)
def test_non_finite_weights_are_neither_saved_nor_best(make_job, settings, message):
    """The first step's loss is finite, its update is not: what comes next would be saved as a sound checkpoint."""
    job = make_job(learning_rate=1e38, steps=10, **settings)
    with pytest.raises(NonFiniteLossError, match=f"A1: step 1: {message}: not finite") as caught:
        train(job, device="cpu")
    assert caught.value.step == 1
    assert not list(TrialFolder(job.folder).checkpoints.glob("*-*"))


@pytest.mark.parametrize("split", ["train", "valid"])
def test_a_level_without_examples_is_refused(make_job, make_store, split):
    """The message names the empty split."""
    other = {"train": "valid", "valid": "train"}[split]
    folder = make_store([("A1", other, "I like dogs and cats.")], examples_per_document=2, word=0.5)
    with pytest.raises(TrainingError, match=f"A1: no examples in the {split} split of A1"):
        train(make_job(fields={"examples": folder}), device="cpu")


def test_validation_examples_without_answers_are_refused(make_job, make_store):
    """Without them no model could be chosen as the best."""
    documents = [("A1", split, "I like dogs.") for split in ("train", "valid")]
    none = dict.fromkeys(("document", "paragraph", "sentence", "word"), 0.0)
    folder = make_store(documents, examples_per_document=1, **none)
    with pytest.raises(TrainingError, match="has a token of the 'infill' loss"):
        train(make_job(fields={"examples": folder}), device="cpu")


@pytest.mark.parametrize(
    "settings",
    [
        {"task": "lm"},
        {"task": "reverse_lm"},
        {"task": "lm_all"},
        {"task": "no_context_ilm"},
        {"minimal_supervision": True},
        {},
    ],
    ids=["lm", "reverse_lm", "lm_all", "no_context_ilm", "minimal_supervision", "ilm"],
)
def test_other_task_formats_of_the_paper_can_be_trained_and_scored(make_job, store, settings):
    """Training improves the trained task, and the model of each task is scored on the same cells as any other."""
    job = make_job(**settings, steps=12, evaluate_every=12, dropout=0.0)
    result = train(job, device="cpu")
    decides = "context" if settings.get("task") in {"lm", "reverse_lm"} else "infill"
    losses = lines_of(job, "step")
    assert losses[-1]["loss"] < losses[0]["loss"] - 0.5
    assert result.best_losses[decides] < 10.5, "below the logarithm of the vocabulary, 10.8"
    assert ("infill" in result.best_losses) == (decides == "infill")
    if settings.get("minimal_supervision"):
        assert "context" not in losses[0], "its steps have answers alone"
        assert "context" in result.best_losses, "a validation tells everything"
    with full_precision():
        model = load_model(TrialFolder(job.folder).model)
        sums = score_examples(model, store, store.select(("A1",), "valid"), batch_tokens=500)
    assert np.isfinite(sums.nats).all()
    assert sums.tokens[:, CELLS.index(("word", "answer"))].sum() > 0


def test_the_model_cards_example_runs(make_job, monkeypatch, capsys):
    """The card's example gives an answer when it is run in the card's folder."""
    job = make_job(steps=2)
    train(job, device="cpu")
    folder = TrialFolder(job.folder).model
    card = (folder / "README.md").read_text()
    assert "| infill |" in card
    code = card.split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(folder)
    torch.manual_seed(0)
    exec(code, {})
    assert capsys.readouterr().out.strip()
    assert len(AutoTokenizer.from_pretrained(folder)) == 50264
