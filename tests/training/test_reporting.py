"""What a training says while it runs."""

import logging
import pickle

import pytest
import torch

from raysweep.errors import NonFiniteLossError
from raysweep.training.batches import StepExamples
from raysweep.training.loss import Objective
from raysweep.training.metrics import MetricsLog, read_metrics
from raysweep.training.reporting import FinishedStep, StepReporter
from raysweep.training.step import StepSums


def finished(step, nats=(20.0, 6.0, 4.0), labels=(10.0, 3.0, 2.0), tokens=1000):
    sums = StepSums(nats=torch.tensor(nats).double(), labels=torch.tensor(labels).double(), tokens=0, positions=0)
    return FinishedStep(
        step=step,
        examples=StepExamples(numbers=torch.arange(4).numpy(), tokens=tokens),
        sums=sums,
        gradient_norm=torch.tensor(0.5),
        learning_rate=1e-3,
    )


@pytest.fixture
def log(folder):
    with MetricsLog(folder, resume_step=0) as log:
        yield log


@pytest.fixture
def make_reporter(log):
    """A reporter whose clock shows the times given, one after another."""

    def make(times):
        clock = iter(times)
        return StepReporter(
            log,
            trial="A1",
            steps=800,
            objective=Objective(context=True, infill=True),
            documents_of_step=lambda step: list(range(step, step + 20)),
            clock=lambda: next(clock),
        )

    return make


@pytest.fixture
def written(log, folder):
    """Gives the lines of metrics.jsonl."""

    def lines():
        log.flush()
        return read_metrics(folder.metrics)

    return lines


def test_losses_are_means_over_the_labels_of_the_steps(make_reporter, written):
    """`objective` is what was made smaller, the context's mean plus the answers' mean; `loss` is the answers' mean."""
    reporter = make_reporter([0.0, 1.0])
    reporter.add(finished(1))
    reporter.report()
    line = written()[0]
    assert {key: line[key] for key in ("objective", "loss", "context", "infill", "infill_textonly")} == {
        "objective": 4.0,
        "loss": 2.0,
        "context": 2.0,
        "infill": 2.0,
        "infill_textonly": 2.0,
    }
    assert (line["kind"], line["step"], line["tokens"], line["examples"]) == ("step", 1, 1000, 4)


def test_a_part_without_labels_is_left_out(make_reporter, written):
    """It is reported neither as zero nor as NaN."""
    reporter = make_reporter([0.0, 1.0])
    reporter.add(finished(1, nats=(20.0, 0.0, 0.0), labels=(10.0, 0.0, 0.0)))
    reporter.report()
    line = written()[0]
    assert line["objective"] == line["context"] == 2.0
    assert "infill" not in line
    assert "loss" not in line


def test_progress_is_logged_every_ten_seconds(make_reporter, caplog):
    """A line gives the step, nats per token and tokens per second."""
    caplog.set_level(logging.INFO)
    reporter = make_reporter([0.0, 5.0, 11.0])
    for step in (399, 400):
        reporter.add(finished(step, tokens=127_800))
        reporter.report()
    assert caplog.messages == ["A1: step 400/800  loss 2.000 nats/token  21,300 tokens/s"]


def test_all_pending_steps_are_written_in_order(make_reporter, written):
    """On a GPU the losses of many steps are fetched at once."""
    reporter = make_reporter([0.0, 1.0])
    for step in range(1, 51):
        reporter.add(finished(step))
    assert len(reporter) == 50
    reporter.report()
    assert [line["step"] for line in written()] == list(range(1, 51))
    assert len(reporter) == 0


@pytest.mark.parametrize("broken", [{"nats": (float("nan"), 1.0, 1.0)}, {"nats": (1.0, float("inf"), 1.0)}])
def test_the_first_non_finite_step_is_named(make_reporter, broken):
    """Later ones only follow from it; of many documents 16 are named."""
    reporter = make_reporter([0.0, 1.0])
    for step in (finished(6), finished(7, **broken), finished(8, **broken)):
        reporter.add(step)
    with pytest.raises(
        NonFiniteLossError, match=r"A1: step 7: .* 7, 8, 9, .*, 22 and 4 more\. Lower learning_rate"
    ) as caught:
        reporter.report()
    assert (caught.value.step, caught.value.documents) == (7, tuple(range(7, 27)))


def test_a_non_finite_loss_error_survives_pickling():
    """It keeps its message, step and documents, so that the training can be resumed from an earlier step."""
    error = pickle.loads(pickle.dumps(NonFiniteLossError("A1: step 7: not finite", 7, (3, 4))))
    assert (str(error), error.step, error.documents) == ("A1: step 7: not finite", 7, (3, 4))
