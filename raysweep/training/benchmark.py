"""How fast training is on this machine, beside the original ILM code's way on the same examples.

    python -m raysweep.training.benchmark --size gpt2 --batch-size 64 --like-original

Needs neither Ray nor a corpus: the examples are made up, with the lengths of EFCAMDAT's.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
import torch
from transformers import GPT2LMHeadModel

from raysweep.config.trials import ModelConfig, TrainingConfig
from raysweep.model.gpt2 import build_model, hidden_states, parameter_count
from raysweep.training.attempt import autocast_type, choose_device
from raysweep.training.batches import BatchOrder, StepExamples
from raysweep.training.distributed import Workers
from raysweep.training.loss import objective_of
from raysweep.training.optimizer import make_optimizer
from raysweep.training.original import as_original, original_loss
from raysweep.training.step import Engine, step_gradients
from raysweep.training.synthetic import SyntheticExamples

PEAK_TFLOPS = {
    "H200": 989.0,
    "H100 PCIe": 756.0,
    "H100": 989.0,
    "A100": 312.0,
    "L40S": 362.0,
    "A10G": 70.0,
    "L4": 121.0,
    "V100": 125.0,
    "T4": 65.0,
    "RTX 4090": 165.0,
    "RTX 3090": 71.0,
}
"""Dense bf16 (fp16 where there is no bf16) matrix products, 10^12 operations a second, by the makers' data sheets."""
ORIGINAL_BATCH = 8

Timed = Callable[[StepExamples], None]


def benchmark_training(
    *,
    device: str | None = None,
    size: str = "micro",
    batch_size: int = 16,
    steps: int = 10,
    warmup_steps: int = 3,
    precision: str = "auto",
    compiled: bool = False,
    like_original: bool = False,
    original_steps: int | None = None,
    original_batch_size: int = ORIGINAL_BATCH,
    max_tokens: int = 256,
) -> dict[str, Any]:
    """Time training steps of a model from scratch on made-up examples.

    Args:
        size: 'micro', 'small', 'gpt2' or 'gpt2-medium'.
        like_original: also time the original's way on examples of the same store, and
            add `ratio_to_original`, of examples per second.

    Returns:
        Per second: steps, examples, real tokens; the share of the GPU's peak (`mfu`; None where the
        peak is not known); peak memory in bytes; and what was timed.
    """
    place = choose_device(device)
    settings = TrainingConfig(batch_size=batch_size, precision=cast("Any", precision), compile=compiled)
    config = ModelConfig(size=cast("Any", size))
    source = SyntheticExamples(64 * max(batch_size, original_batch_size), max_tokens=max_tokens)

    def new_model() -> GPT2LMHeadModel:
        model = build_model("scratch", model=config, max_tokens=max_tokens, seed=0)
        model.to(place)  # type: ignore[arg-type]
        return model

    model = new_model()
    ours = _time_steps(_our_step(model, settings, source, place), source, place, batch_size, warmup_steps, steps)
    result: dict[str, Any] = {
        "device": torch.cuda.get_device_name(place)
        if place.type == "cuda"
        else f"cpu, {torch.get_num_threads()} threads",
        "torch": torch.__version__,
        "size": size,
        "parameters": parameter_count(model),
        "batch_size": batch_size,
        "precision": str(autocast_type(precision, place) or torch.float32).removeprefix("torch."),
        "compiled": compiled,
        **ours,
        "mfu": _model_flops_share(model, ours, place),
    }
    if like_original:
        del model
        step = _original_step(as_original(new_model()), settings, source, place)
        original = _time_steps(step, source, place, original_batch_size, 1, original_steps or max(2, steps // 4))
        result["original"] = {"batch_size": original_batch_size, **original}
        result["ratio_to_original"] = ours["examples_per_s"] / original["examples_per_s"]
    return result


def _our_step(
    model: GPT2LMHeadModel, settings: TrainingConfig, source: SyntheticExamples, place: torch.device
) -> Timed:
    engine = Engine(
        trial="benchmark",
        model=model,
        source=source,
        task="ilm",
        workers=Workers(device=place),
        autocast=autocast_type(settings.precision, place),
        micro_batch=settings.batch_size,
        forward=torch.compile(hidden_states, dynamic=True) if settings.compile else hidden_states,
    )
    optimizer, objective = make_optimizer(model, settings), objective_of(settings)

    def step(examples: StepExamples) -> None:
        batches = engine.assemble(examples.numbers, objective)
        step_gradients(engine, examples.numbers, batches, objective, seed=0, step=1)
        torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def _original_step(
    model: GPT2LMHeadModel, settings: TrainingConfig, source: SyntheticExamples, place: torch.device
) -> Timed:
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.learning_rate, weight_decay=0.0)

    def step(examples: StepExamples) -> None:
        optimizer.zero_grad()
        original_loss(model, source.assemble(examples.numbers), place).backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip_norm)
        optimizer.step()

    return step


def _time_steps(
    step: Timed, source: SyntheticExamples, place: torch.device, batch_size: int, warmup_steps: int, steps: int
) -> dict[str, float]:
    numbers = np.arange(64 * batch_size, dtype=np.int64)
    order = BatchOrder(numbers, source.lengths(numbers), batch_size=batch_size, window_batches=64, seed=0)
    for number in range(1, warmup_steps + 1):
        step(order.step(number))
    _wait_for(place)
    if place.type == "cuda":
        torch.cuda.reset_peak_memory_stats(place)
    work = [order.step(number) for number in range(warmup_steps + 1, warmup_steps + steps + 1)]
    start = time.perf_counter()
    for examples in work:
        step(examples)
    _wait_for(place)
    seconds = time.perf_counter() - start
    return {
        "steps_per_s": steps / seconds,
        "examples_per_s": sum(len(examples.numbers) for examples in work) / seconds,
        "tokens_per_s": sum(examples.tokens for examples in work) / seconds,
        "peak_memory_bytes": torch.cuda.max_memory_allocated(place) if place.type == "cuda" else 0,
    }


def _model_flops_share(model: GPT2LMHeadModel, speed: dict[str, float], place: torch.device) -> float | None:
    """Operations that real tokens need (forward and twice that backward), as a share of the GPU's peak.

    Padding and the attention's square counts as nothing, so this is a lower bound.
    """
    if place.type != "cuda":
        return None
    name = torch.cuda.get_device_name(place)
    peak = next((peak for part, peak in PEAK_TFLOPS.items() if part in name), None)
    # Position embeddings are looked up, not multiplied; the tied token embeddings are multiplied once, at the output.
    multiplied = parameter_count(model) - model.transformer.wpe.weight.numel()
    return 6.0 * multiplied * speed["tokens_per_s"] / (peak * 1e12) if peak else None


def _wait_for(place: torch.device) -> None:
    if place.type == "cuda":
        torch.cuda.synchronize(place)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the result as JSON."""
    parser = argparse.ArgumentParser(prog="python -m raysweep.training.benchmark", description=__doc__.split("\n")[0])
    parser.add_argument("--device", help="cpu, cuda, cuda:1 …; a GPU if there is one")
    parser.add_argument("--size", default="micro", choices=["micro", "small", "gpt2", "gpt2-medium"])
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--warmup-steps", type=int, default=3)
    parser.add_argument("--precision", default="auto", choices=["auto", "fp32", "bf16"])
    parser.add_argument("--compile", action="store_true", dest="compiled")
    parser.add_argument("--like-original", action="store_true")
    parser.add_argument("--original-steps", type=int)
    parser.add_argument("--original-batch-size", type=int, default=ORIGINAL_BATCH)
    print(json.dumps(benchmark_training(**vars(parser.parse_args(arguments))), indent=2))


if __name__ == "__main__":
    main()
