"""Trainings that follow each other in one process, on a simulated GPU."""

import weakref
from types import SimpleNamespace

import pytest

from raysweep.cluster import train_worker
from raysweep.cluster.train_worker import Work
from raysweep.errors import MemoryShortageError


class Model:
    """Like a model of torch, it may refer to itself."""

    def __init__(self):
        self.itself = self


def train_by(function, monkeypatch, *, is_shared):
    monkeypatch.setattr(train_worker, "_device", lambda _work: "cuda")
    monkeypatch.setattr(train_worker, "resolve", lambda _name: function)
    return train_worker._train(None, work=SimpleNamespace(check=None, train=Work.train, is_shared=is_shared))


@pytest.mark.parametrize("is_shared", [True, False])
def test_a_reused_process_releases_gpu_memory_between_trainings(monkeypatch, is_shared):
    """Models are freed by then, also those in reference cycles; the next training's peak starts from there."""
    import torch

    models, calls = [], []

    def train(_job, *, device):
        models.append(weakref.ref(Model()))
        assert models[0]() is not None
        return device

    for name in ("empty_cache", "reset_peak_memory_stats"):
        monkeypatch.setattr(torch.cuda, name, lambda name=name: calls.append((name, models[0]() is None)))
    assert train_by(train, monkeypatch, is_shared=is_shared) == "cuda"
    assert calls == ([("empty_cache", True), ("reset_peak_memory_stats", True)] if is_shared else [])


def test_a_failed_training_is_reported_with_its_original_error(monkeypatch):
    """After an error of the GPU, CUDA calls raise another, less specific one."""
    import torch

    def fail(_job, *, device):
        raise MemoryShortageError(f"no memory on {device}")

    def broken():
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(torch.cuda, "empty_cache", broken)
    with pytest.raises(MemoryShortageError):
        train_by(fail, monkeypatch, is_shared=True)
