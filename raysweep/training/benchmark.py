"""How fast training is on this machine, beside the original ILM code's way on the same examples.

    python -m raysweep.training.benchmark --size gpt2 --batch-size 64 --like-original

Needs neither Ray nor a corpus: the examples are made up, with the lengths of EFCAMDAT's.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import transformers
from transformers import GPT2LMHeadModel

from raysweep.config.training_settings import SIZES, ModelConfig, TrainingConfig
from raysweep.model.gpt2 import build_model, parameter_count
from raysweep.training.attempt import fit_to_memory, make_engine
from raysweep.training.batches import BatchOrder, StepExamples
from raysweep.training.distributed import DistributedGroup
from raysweep.training.hardware import (
    autocast_type,
    choose_device,
    device_name,
    flops_share,
    forget_peak,
    peak_memory,
    wait_for,
)
from raysweep.training.loss import objective_of
from raysweep.training.optimizer import make_optimizer
from raysweep.training.original_loss import as_original, original_loss
from raysweep.training.profile_hours import PROFILE, examples_of_profile
from raysweep.training.step import Engine, step_gradients
from raysweep.training.synthetic import SyntheticExamples

ORIGINAL_BATCH = 8
_STORE_BATCHES = 64
"""Examples there are, in batches: a window of the shuffle."""


def benchmark_training(
    *,
    device: str | None = None,
    size: str = "micro",
    batch_size: int = 16,
    steps: int = 10,
    warmup_steps: int = 3,
    precision: str = "auto",
    compiled: bool = False,
    packing: str = "auto",
    micro_batch: int | str = "auto",
    window_batches: int = 64,
    like_original: bool = False,
    original_steps: int | None = None,
    original_batch_size: int = ORIGINAL_BATCH,
    max_tokens: int = 256,
    experiments: Path = Path("experiments.yaml"),
) -> dict[str, Any]:
    """Time training steps of a model from scratch on made-up examples.

    Args:
        size: 'micro', 'small', 'gpt2' or 'gpt2-medium'.
        packing, micro_batch, window_batches: as in a trial's settings.
        like_original: also time the original's way on examples of the same store, and
            add `ratio_to_original`, of examples per second.
        experiments: where the `efcamdat` profile is read from, for the hours that its trainings would
            take at this speed (steps alone: no evaluation, no start-up); left out if it is not there.

    Returns:
        Per second: steps, examples, real tokens; the share of padding; the share of the GPU's peak
        (`mfu`; None where the peak is not known); peak memory in bytes; and what was timed.
    """
    place = choose_device(device)
    settings = TrainingConfig(
        batch_size=batch_size,
        precision=cast("Any", precision),
        compile=compiled,
        packing=cast("Any", packing),
        micro_batch=cast("Any", micro_batch),
        window_batches=window_batches,
    )
    source = SyntheticExamples(_STORE_BATCHES * max(batch_size, original_batch_size), max_tokens=max_tokens)

    def new_model() -> GPT2LMHeadModel:
        model = build_model("scratch", model=ModelConfig(size=cast("Any", size)), max_tokens=max_tokens, seed=0)
        model.to(place)  # type: ignore[arg-type]
        return model

    model = new_model()
    timed = _OurSteps(model, settings, source, place, max_tokens)
    ours = _time_steps(timed, source, place, settings, warmup_steps, steps)
    result: dict[str, Any] = {
        "device": device_name(place) if place.type == "cuda" else f"cpu, {torch.get_num_threads()} threads",
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "size": size,
        "parameters": parameter_count(model),
        "batch_size": batch_size,
        "micro_batch": timed.engine.micro_batch,
        "packing": packing,
        "precision": str(autocast_type(precision, place) or torch.float32).removeprefix("torch."),
        "compiled": compiled,
        **ours,
        "padding_share": 1.0 - timed.tokens / timed.positions,
        "mfu": flops_share(model, ours["tokens_per_s"], place),
    }
    if size == "gpt2" and (examples := examples_of_profile(experiments)) is not None:
        result[f"{PROFILE}_{'gpu' if place.type == 'cuda' else 'cpu'}_hours"] = examples / ours["examples_per_s"] / 3600
    if like_original:
        del model, timed
        step = _original_step(as_original(new_model()), settings, source, place)
        plain = settings.model_copy(update={"batch_size": original_batch_size})
        original = _time_steps(step, source, place, plain, 1, original_steps or max(2, steps // 4))
        result["original"] = {"batch_size": original_batch_size, **original}
        result["ratio_to_original"] = ours["examples_per_s"] / original["examples_per_s"]
    return result


class _OurSteps:
    """The steps of the training loop, without its reports; counts tokens and positions."""

    def __init__(
        self,
        model: GPT2LMHeadModel,
        settings: TrainingConfig,
        source: SyntheticExamples,
        place: torch.device,
        max_tokens: int,
    ) -> None:
        self.engine: Engine = make_engine(
            "benchmark", model, source, settings, DistributedGroup(device=place), max_tokens=max_tokens
        )
        self._settings, self._objective = settings, objective_of(settings)
        self._optimizer = make_optimizer(model, settings)
        numbers = np.arange(source.count, dtype=np.int64)
        fit_to_memory(self.engine, settings, numbers, source.lengths(numbers), self._objective)
        self.tokens = self.positions = 0

    def __call__(self, examples: StepExamples) -> None:
        batches = self.engine.assemble(examples.numbers, self._objective)
        sums = step_gradients(self.engine, examples.numbers, batches, self._objective, seed=0, step=1)
        torch.nn.utils.clip_grad_norm_(self.engine.model.parameters(), self._settings.clip_norm)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self.tokens += sums.tokens
        self.positions += sums.positions


def _original_step(
    model: GPT2LMHeadModel, settings: TrainingConfig, source: SyntheticExamples, place: torch.device
) -> Callable[[StepExamples], None]:
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.learning_rate, weight_decay=0.0)

    def step(examples: StepExamples) -> None:
        optimizer.zero_grad()
        original_loss(model, source.assemble(examples.numbers), place).backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip_norm)
        optimizer.step()

    return step


def _time_steps(
    step: Callable[[StepExamples], None],
    source: SyntheticExamples,
    place: torch.device,
    settings: TrainingConfig,
    warmup_steps: int,
    steps: int,
) -> dict[str, float]:
    numbers = np.arange(_STORE_BATCHES * settings.batch_size, dtype=np.int64)
    order = BatchOrder(
        numbers,
        source.lengths(numbers),
        batch_size=settings.batch_size,
        window_batches=settings.window_batches,
        seed=0,
    )
    for number in range(1, warmup_steps + 1):
        step(order.step(number))
    wait_for(place)
    forget_peak(place)
    work = [order.step(number) for number in range(warmup_steps + 1, warmup_steps + steps + 1)]
    start = time.perf_counter()
    for examples in work:
        step(examples)
    wait_for(place)
    seconds = time.perf_counter() - start
    return {
        "steps_per_s": steps / seconds,
        "examples_per_s": sum(len(examples.numbers) for examples in work) / seconds,
        "tokens_per_s": sum(examples.tokens for examples in work) / seconds,
        "peak_memory_bytes": peak_memory(place),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the result as JSON."""
    parser = argparse.ArgumentParser(prog="python -m raysweep.training.benchmark", description=__doc__.split("\n")[0])
    parser.add_argument("--device", help="cpu, cuda, cuda:1 …; a GPU if there is one")
    parser.add_argument("--size", default="micro", choices=list(SIZES))
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--warmup-steps", type=int, default=3)
    parser.add_argument("--precision", default="auto", choices=["auto", "fp32", "bf16"])
    parser.add_argument("--compile", action="store_true", dest="compiled")
    parser.add_argument("--packing", default="auto", choices=["off", "auto", "on"])
    parser.add_argument("--micro-batch", type=read_micro_batch, default="auto", help="examples at once, or auto")
    parser.add_argument("--window-batches", type=int, default=64, help="batches sorted by length together")
    parser.add_argument("--like-original", action="store_true")
    parser.add_argument("--original-steps", type=int)
    parser.add_argument("--original-batch-size", type=int, default=ORIGINAL_BATCH)
    parser.add_argument("--max-tokens", type=int, default=256)
    parser.add_argument("--experiments", type=Path, default=Path("experiments.yaml"))
    print(json.dumps(benchmark_training(**vars(parser.parse_args(arguments))), indent=2))


def read_micro_batch(text: str) -> int | str:
    """'auto' or a number of examples.

    Raises:
        ValueError: neither.
    """
    if text == "auto":
        return text
    if int(text) < 1:
        raise ValueError(text)
    return int(text)


if __name__ == "__main__":
    main()
