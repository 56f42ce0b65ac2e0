"""Times a model's matrix products in float32 and bfloat16 on the CPU: `python -m raysweep.training.bf16_speed`.

Its arguments are the model's width, the number of rows of its token embedding, the number of positions of a step, and
the seconds to measure; it prints the speedup of bfloat16.  It runs in a separate process, so that a run can choose its
precision without loading torch.
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
"""Most positions whose logits are computed, because the output layer of a large vocabulary would take all the time."""


def bf16_speedup(width: int, vocabulary: int, positions: int, seconds: float) -> float:
    """Measure the time of a layer's and the output layer's products in float32 divided by that in bfloat16 autocast.

    The forward and backward passes are timed, including the casts of weights and inputs.  Both types are timed in turn,
    and the fastest round of each counts, so that other work on the machine has little influence.

    Args:
        positions: number of rows of the products.
        seconds: CPU time to spend in total; at least three rounds are done.
    """
    keep_freed_memory(torch.device("cpu"))
    generate = torch.Generator().manual_seed(0)
    output = (min(positions, _LABELS), width, vocabulary)
    shapes = [(positions, width, 4 * width), (positions, 4 * width, width), output]

    def matrix(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generate).requires_grad_()

    products = [(matrix(rows, inner), matrix(outer, inner)) for rows, inner, outer in shapes]
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
