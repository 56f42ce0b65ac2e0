"""Makes the C library keep freed memory, so that the next block of the same size is cheap to allocate."""

import ctypes
import sys

import torch

_KEEP_FREED_MEMORY = {
    -4: 0,  # M_MMAP_MAX: no block gets its own mapping, which would be unmapped when the block is freed
    -1: 2**31 - 1,  # M_TRIM_THRESHOLD: up to 2 GiB of freed memory stay in the process
    -2: 64 << 20,  # M_TOP_PAD: the heap grows by this many bytes at a time
}
"""Options of glibc's `mallopt`, from malloc.h."""


def keep_freed_memory(device: torch.device) -> bool:
    """Make glibc's allocator reuse freed memory for the rest of this process, if the device is a CPU.

    By default glibc returns large blocks to the system when they are freed, so the logits and gradients of every step
    would use fresh pages, which the kernel zeroes first: two fifths of a step in bfloat16.  Results do not change.

    Returns:
        Whether it took effect.  It never does on other systems, or for GPUs, whose memory PyTorch caches itself.
    """
    set_option = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if device.type != "cpu" or set_option is None:
        return False
    return all(set_option(option, value) == 1 for option, value in _KEEP_FREED_MEMORY.items())
