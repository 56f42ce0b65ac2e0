"""Times a model's matrix products in float32 and bfloat16 on the CPU: `python -m raysweep.training.bf16_speed`.

Its arguments are the model's width, the rows of its token embedding, the positions of a step and the seconds to take;
it prints how many times as fast bfloat16 is.  It runs in a process of its own, so that a run need not load torch to
decide.
"""

import sys
import time

import torch
from torch import Tensor
from torch.nn import functional

from raysweep.model.freed_memory import keep_freed_memory
from raysweep.storage.printable import say

_LEAST_ROUNDS = 3
_LABELS = 128
"""Positions whose logits are computed, at most: the output layer of a large vocabulary would take all of the time."""


def bf16_speedup(width: int, vocabulary: int, positions: int, seconds: float) -> float:
    """Time of a layer's and of the output's products in float32, divided by that under bfloat16 autocast.

    Forward and backward, the casts of weights and inputs included.  Both are timed in turn, and the fastest round of
    each counts, so that other work on the machine does not decide.

    Args:
        positions: rows of the products.
        seconds: of CPU time in all; at least three rounds are done.
    """
    keep_freed_memory(torch.device("cpu"))
    generate = torch.Generator().manual_seed(0)
    shapes = [(positions, width, 4 * width), (positions, 4 * width, width)]
    shapes.append((min(positions, _LABELS), width, vocabulary))
    products = [
        (
            torch.randn(rows, inner, generator=generate).requires_grad_(),
            torch.randn(outer, inner, generator=generate).requires_grad_(),
        )
        for rows, inner, outer in shapes
    ]
    fastest = dict.fromkeys((False, True), float("inf"))
    rounds, began = 0, time.process_time()
    while rounds < _LEAST_ROUNDS or time.process_time() - began < seconds:
        for is_bf16 in fastest:
            fastest[is_bf16] = min(fastest[is_bf16], _time_round(products, is_bf16=is_bf16))
        rounds += 1
    return fastest[False] / fastest[True]


def _time_round(products: list[tuple[Tensor, Tensor]], *, is_bf16: bool) -> float:
    began = time.process_time()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=is_bf16):
        total = torch.stack([functional.linear(rows, weight).float().square().mean() for rows, weight in products])
    total.sum().backward()  # type: ignore[no-untyped-call]
    return time.process_time() - began


def main(arguments: list[str]) -> None:
    """Print the ratio."""
    width, vocabulary, positions, seconds = arguments
    say(str(bf16_speedup(int(width), int(vocabulary), int(positions), float(seconds))))


if __name__ == "__main__":
    main(sys.argv[1:])
