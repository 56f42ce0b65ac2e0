"""Trainings that follow each other in one process, on a GPU that is only said to be there."""

from types import SimpleNamespace

import pytest

from raysweep.cluster import train_worker
from raysweep.cluster.train_worker import Work
from raysweep.errors import MemoryShortageError

CALLS = ("empty_cache", "reset_peak_memory_stats")


@pytest.fixture
def calls(monkeypatch):
    """What torch was asked for, in order."""
    import torch

    asked = []
    monkeypatch.setattr(train_worker, "_device", lambda _work: "cuda")
    for name in CALLS:
        monkeypatch.setattr(torch.cuda, name, lambda name=name: asked.append(name))
    return asked


def train_by(function, monkeypatch):
    monkeypatch.setattr(train_worker, "resolve", lambda _name: function)
    return train_worker._train(None, work=SimpleNamespace(check=None, train=Work.train))


def test_a_training_leaves_its_gpu_memory_however_it_ends(calls, monkeypatch):
    """The next process on the GPU needs it, and the next training's peak counts from there."""
    train_by(lambda _job, *, device: calls.append(device), monkeypatch)
    assert calls == ["cuda", *CALLS]

    def fail(_job, *, device):
        raise MemoryShortageError(f"no memory on {device}")

    with pytest.raises(MemoryShortageError):
        train_by(fail, monkeypatch)
    assert calls == ["cuda", *CALLS, *CALLS]
