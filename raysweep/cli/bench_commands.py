"""`raysweep bench`: measure this machine, as JSON."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from raysweep.errors import ConfigError
from raysweep.storage.printable import say_json

_MAX_TOKENS = 256
"""Longest made-up example."""

TokenizerOption = Annotated[
    str, typer.Option("--tokenizer", help="Of the made-up texts: gpt2, or a folder, such as a model's of a run.")
]
app = typer.Typer(help="Measure this machine; prints JSON.", no_args_is_help=True, rich_markup_mode=None)


@app.command("mask")
def bench_mask(
    csv: Annotated[Path, typer.Option("--csv", help="A corpus.")],
    rows: Annotated[int | None, typer.Option("--rows", min=1, help="Its first rows; all if absent.")] = None,
    column: Annotated[str, typer.Option("--column", help="The column with the texts.")] = "text",
    like: Annotated[
        Literal["original-shape"] | None,
        typer.Option(
            "--like", help="Also time plain Python in the shape of the original's code on 1,000 of the texts."
        ),
    ] = None,
) -> None:
    """Time the making of examples on one core, beside what tokenising alone takes; prints JSON."""
    from raysweep.masking.masking_benchmark import benchmark_masking, read_texts

    say_json(benchmark_masking(read_texts(csv, column, rows), like_original_shape=like is not None))


@app.command("train")
def bench_train(
    device: Annotated[str | None, typer.Option("--device", help="cpu, cuda, cuda:1 …; a GPU if there is one.")] = None,
    config: Annotated[str, typer.Option("--config", help="A size, as in model.size.")] = "small",
    tokenizer: TokenizerOption = "gpt2",
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Examples per step.")] = 8,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Timed steps.")] = 10,
    precision: Annotated[
        Literal["auto", "fp32", "fp32_onednn", "bf16"],
        typer.Option("--precision", help="Of the products in a step, as in training.precision."),
    ] = "auto",
    compiled: Annotated[bool, typer.Option("--compile", help="With torch.compile.")] = False,
    packing: Annotated[Literal["off", "auto", "on"], typer.Option("--packing", help="Of sequences.")] = "auto",
    micro_batch: Annotated[str, typer.Option("--micro-batch", help="Examples at once, or auto.")] = "auto",
    window_batches: Annotated[int, typer.Option("--window-batches", min=1, help="Batches sorted by length.")] = 64,
    like: Annotated[
        str,
        typer.Option(
            "--like", help="Also time original, hf-trainer, hf-default or hf-liger (with commas between) on the same."
        ),
    ] = "",
) -> None:
    """Time training steps on made-up examples in the shape of EFCAMDAT; prints JSON."""
    from raysweep.config.training_settings import SIZES
    from raysweep.training.benchmark import benchmark_training

    if config not in SIZES:
        raise ConfigError(f"--config: found '{config}'; must be one of {', '.join(SIZES)}")
    measured = benchmark_training(
        device=device,
        size=config,
        tokenizer=tokenizer,
        batch_size=batch_size,
        steps=steps,
        precision=precision,
        compiled=compiled,
        packing=packing,
        micro_batch=micro_batch,
        window_batches=window_batches,
        like=like,
    )
    say_json(measured)


@app.command("score")
def bench_score(
    device: Annotated[str | None, typer.Option("--device", help="cpu, cuda, cuda:1 …; a GPU if there is one.")] = None,
    config: Annotated[str, typer.Option("--config", help="A size, as in model.size.")] = "small",
    tokenizer: TokenizerOption = "gpt2",
    documents: Annotated[int, typer.Option("--documents", min=1, help="Made-up documents, one mask each.")] = 200,
    like: Annotated[
        Literal["transformers"] | None, typer.Option("--like", help="Also time plain transformers on the same.")
    ] = None,
) -> None:
    """Time the scoring of made-up documents in the shape of EFCAMDAT, in float32; prints JSON."""
    from raysweep.config.training_settings import SIZES
    from raysweep.evaluation.scoring_benchmark import benchmark_scoring
    from raysweep.training.hardware import choose_device
    from raysweep.training.synthetic import benchmark_vocabulary, synthetic_examples

    if config not in SIZES:
        raise ConfigError(f"--config: found '{config:.80}'; must be one of {', '.join(SIZES)}")
    store = synthetic_examples(documents, max_tokens=_MAX_TOKENS, vocabulary=benchmark_vocabulary(tokenizer))
    say_json(
        benchmark_scoring(
            store,
            size=config,
            max_tokens=_MAX_TOKENS,
            device=choose_device(device),
            like_transformers=like is not None,
        )
    )
