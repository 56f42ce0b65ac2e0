"""`raysweep bench`: measure this machine, as JSON."""

from pathlib import Path
from typing import Annotated

import typer

from raysweep.errors import ConfigError

app = typer.Typer(help="Measure this machine; prints JSON.", no_args_is_help=True, rich_markup_mode=None)


@app.command("mask")
def bench_mask(
    csv: Annotated[Path, typer.Option("--csv", help="A corpus.")],
    rows: Annotated[int | None, typer.Option("--rows", min=1, help="Its first rows; all if absent.")] = None,
    column: Annotated[str, typer.Option("--column", help="The column with the texts.")] = "text",
) -> None:
    """Time the making of examples on one core, beside what tokenising alone takes; prints JSON."""
    import json

    from raysweep.masking.masking_benchmark import benchmark_masking, read_texts

    print(json.dumps(benchmark_masking(read_texts(csv, column, rows)), indent=2))


@app.command("train")
def bench_train(
    device: Annotated[str | None, typer.Option("--device", help="cpu, cuda, cuda:1 …; a GPU if there is one.")] = None,
    config: Annotated[str, typer.Option("--config", help="micro, small, gpt2 or gpt2-medium.")] = "small",
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Examples per step.")] = 8,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Timed steps.")] = 10,
    precision: Annotated[str, typer.Option("--precision", help="auto, fp32 or bf16.")] = "auto",
    compiled: Annotated[bool, typer.Option("--compile", help="With torch.compile.")] = False,
    packing: Annotated[str, typer.Option("--packing", help="off, auto or on.")] = "auto",
    micro_batch: Annotated[str, typer.Option("--micro-batch", help="Examples at once, or auto.")] = "auto",
    window_batches: Annotated[int, typer.Option("--window-batches", min=1, help="Batches sorted by length.")] = 64,
    like: Annotated[str | None, typer.Option("--like", help="'original': also time the original's way.")] = None,
) -> None:
    """Time training steps on made-up examples in the shape of EFCAMDAT; prints JSON."""
    import json

    from raysweep.config.training_settings import SIZES
    from raysweep.training.benchmark import benchmark_training, read_micro_batch

    problems = []
    choices = (
        ("--config", config, tuple(SIZES)),
        ("--precision", precision, ("auto", "fp32", "bf16")),
        ("--packing", packing, ("off", "auto", "on")),
    )
    for option, found, allowed in choices:
        if found not in allowed:
            problems.append(f"{option}: found '{found}'; must be {', '.join(allowed[:-1])} or {allowed[-1]}")
    try:
        examples_at_once = read_micro_batch(micro_batch)
    except ValueError:
        problems.append(f"--micro-batch: found '{micro_batch}'; must be 'auto' or a whole number above 0")
    if like not in (None, "original"):
        problems.append(f"--like: found '{like}'; must be 'original'")
    if problems:
        raise ConfigError(*problems)
    measured = benchmark_training(
        device=device,
        size=config,
        batch_size=batch_size,
        steps=steps,
        precision=precision,
        compiled=compiled,
        packing=packing,
        micro_batch=examples_at_once,
        window_batches=window_batches,
        like_original=like is not None,
    )
    print(json.dumps(measured, indent=2))
