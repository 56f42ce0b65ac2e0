"""Memory that is freed stays in the process."""

import resource
import sys

import pytest
import torch

from raysweep.model.freed_memory import keep_freed_memory

CPU = torch.device("cpu")


def page_faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def fill(megabytes):
    torch.ones(megabytes << 18).sum()


@pytest.mark.skipif(sys.platform != "linux", reason="the options are glibc's")
def test_freed_memory_is_reused_by_the_process():
    """A block of the size of a step's logits gets the same pages again, where each was fetched afresh before."""
    assert keep_freed_memory(CPU)
    fill(100)
    before = page_faults()
    for _ in range(10):
        fill(100)
    assert page_faults() - before <= 76_800, "the pages of three such blocks, where there were ten"


def test_the_allocator_is_unchanged_on_gpus_and_other_systems(monkeypatch):
    """Torch keeps a GPU's memory itself; macOS has no such options."""
    assert not keep_freed_memory(torch.device("cuda"))
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not keep_freed_memory(CPU)
