"""The effects of Ctrl-C and SIGTERM while trainings run."""

import os
import signal

import pytest

from raysweep.pipeline.signals import GRACE_S, Interruption
from raysweep.scheduling.records import State, read_record


def test_the_first_signal_requests_a_stop_and_the_second_terminates():
    """A user who presses twice does not want to wait for checkpoints."""
    with Interruption() as interruption:
        os.kill(os.getpid(), signal.SIGTERM)
        assert interruption.reason == "interrupted (SIGTERM)"
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_the_previous_signal_handlers_are_restored():
    """Outside the trainings, a signal has its previous effect."""
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with Interruption():
        assert signal.getsignal(signal.SIGINT) != before[0]
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_trainings_are_given_a_limited_time_to_stop():
    """A training that hangs does not keep the command from ending."""
    now = [0.0]
    interruption = Interruption(clock=lambda: now[0])
    assert not interruption.is_overdue
    interruption.take(signal.SIGINT)
    assert not interruption.is_overdue
    now[0] = GRACE_S + 1
    assert interruption.is_overdue
    with pytest.raises(KeyboardInterrupt, match="Ctrl-C"):
        interruption.raise_if_asked()


@pytest.mark.parametrize(
    ("number", "reason"),
    [(signal.SIGINT, "interrupted (Ctrl-C)"), (signal.SIGTERM, "interrupted (SIGTERM)")],
    ids=["Ctrl-C", "SIGTERM"],
)
def test_an_interrupted_inline_run_resumes_and_gives_the_same_model(tiny_run, monkeypatch, number, reason):
    """No step is lost or done twice: the model is that of an uninterrupted run."""
    from raysweep.training import loop

    undisturbed = tiny_run()
    for stage in ("prepare", "mask", "train"):
        undisturbed.do(stage)
    weights = (undisturbed.folder.trial("all").model / "model.safetensors").read_bytes()
    redone = tiny_run(forced=["train"])
    asked = []

    def pressing(job, *, should_stop, **how):
        def ask():
            asked.append(job.trial)
            if len(asked) == 2:
                os.kill(os.getpid(), number)
            return should_stop()

        return train(job, should_stop=ask, **how)

    train = loop.train
    monkeypatch.setattr(loop, "train", pressing)
    with pytest.raises(KeyboardInterrupt):
        redone.do("train")
    record = read_record(redone.folder.trial("all"))
    assert (record.state, record.reason) == (State.STOPPED, reason)
    assert len(asked) == 2
    monkeypatch.setattr(loop, "train", train)
    assert read_record(redone.folder.trial("A1")) is None
    again = tiny_run()
    again.do("train")
    assert (again.folder.trial("all").model / "model.safetensors").read_bytes() == weights
    assert read_record(again.folder.trial("all")).attempts == 2
