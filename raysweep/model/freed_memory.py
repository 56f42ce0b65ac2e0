"""Lets the C library keep the memory that is freed, so that the next block of the same size costs nothing."""

import ctypes
import sys

import torch

_KEEP_FREED_MEMORY = {
    -4: 0,  # M_MMAP_MAX: no block gets a mapping of its own, which would be unmapped when it is freed
    -1: 2**31 - 1,  # M_TRIM_THRESHOLD: up to 2 GiB stay in the process
    -2: 64 << 20,  # M_TOP_PAD: the heap grows by as many bytes at once
}
"""Options of glibc's `mallopt`, from malloc.h."""


def keep_freed_memory(device: torch.device) -> bool:
    """On a CPU with glibc: let the allocator reuse freed memory, for the rest of this process.

    glibc returns large blocks to the system when they are freed, so the logits and gradients of every step came from
    fresh pages, which the kernel fills with zeros first: two fifths of a step in bfloat16.  Results do not change.

    Returns:
        Whether it took effect; never on other systems and on GPUs, where torch keeps memory itself.
    """
    set_option = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if device.type != "cpu" or set_option is None:
        return False
    return all(set_option(option, value) == 1 for option, value in _KEEP_FREED_MEMORY.items())
