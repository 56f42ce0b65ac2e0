"""Trainings on a simulated GPU: which device they take, and what they leave for others in the same process."""

import weakref
from types import SimpleNamespace

import pytest

from raysweep.cluster import train_worker
from raysweep.cluster.scorers import Scorer
from raysweep.cluster.train_worker import Work
from raysweep.errors import MemoryShortageError, ResourceError
from raysweep.model import torch_devices
from raysweep.model.torch_devices import select_device
from raysweep.scheduling.capacity import ResourceRequest


class Model:
    """Like a model of torch, it may refer to itself."""

    def __init__(self):
        self.itself = self


@pytest.mark.parametrize(
    ("gpus", "has_gpu", "device"),
    [(0.0, True, "cpu"), (0.5, True, "cuda"), (2.0, True, "cuda"), (0.0, False, "cpu"), (1.0, False, "cpu")],
)
def test_a_machine_with_a_gpu_never_does_gpu_work_on_its_cpu(monkeypatch, caplog, gpus, has_gpu, device):
    """PyTorch built for CPUs used to train for days on a CPU, with a rented GPU idle; a trial cluster may have none."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(torch_devices.torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch_devices, "has_nvidia_gpu", lambda: has_gpu)
    assert train_worker._device(SimpleNamespace(need=ResourceRequest(cpus=1, gpus=gpus))) == device
    assert Scorer(("", ""), None, uses_gpu=gpus > 0, ticket=None)._device() == device
    says = "has no NVIDIA GPU, though the cluster declares one; the work is done on the CPU"
    assert (says in caplog.text) == (gpus > 0 and not has_gpu)


def test_a_machine_whose_pytorch_finds_no_gpu_refuses_work_for_one(monkeypatch):
    """The message has the machine's name, the version of PyTorch and the fixes."""
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ResourceError, match=r"^\S+: this work is for a GPU, and PyTorch \S+ finds none; install"):
        select_device("cuda")
    assert select_device(None).type == "cpu"


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

    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
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
