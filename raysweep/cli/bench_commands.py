"""`raysweep bench`: measure this machine, as JSON."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from raysweep.errors import ConfigError
from raysweep.storage.printable import say_json

_MAX_TOKENS = 256
"""Maximum number of tokens in a synthetic example."""

TokenizerOption = Annotated[
    str,
    typer.Option("--tokenizer", help="Tokenizer of the synthetic texts: gpt2, or a folder, such as that of a model."),
]
app = typer.Typer(help="Measure this machine; print JSON.", no_args_is_help=True, rich_markup_mode=None)


@app.command("mask")
def bench_mask(
    csv: Annotated[Path, typer.Option("--csv", help="The corpus.")],
    rows: Annotated[int | None, typer.Option("--rows", min=1, help="Read only this many rows.")] = None,
    column: Annotated[str, typer.Option("--column", help="The column that holds the texts.")] = "text",
    like: Annotated[
        Literal["original-shape"] | None,
        typer.Option("--like", help="Also time plain Python written like the original's code, on 1,000 of the texts."),
    ] = None,
) -> None:
    """Time masking and tokenising on one core; print JSON."""
    from raysweep.masking.masking_benchmark import benchmark_masking, read_texts

    say_json(benchmark_masking(read_texts(csv, column, rows), like_original_shape=like is not None))


@app.command("train")
def bench_train(
    device: Annotated[str | None, typer.Option("--device", help="cpu, cuda, cuda:1 …; a GPU if there is one.")] = None,
    config: Annotated[str, typer.Option("--config", help="Model size, as in model.size.")] = "small",
    tokenizer: TokenizerOption = "gpt2",
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Examples per step.")] = 8,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Timed steps.")] = 10,
    precision: Annotated[
        Literal["auto", "fp32", "fp32_onednn", "bf16"],
        typer.Option("--precision", help="Precision of matrix products, as in training.precision."),
    ] = "auto",
    compiled: Annotated[bool, typer.Option("--compile", help="Use torch.compile.")] = False,
    packing: Annotated[Literal["off", "auto", "on"], typer.Option("--packing", help="Pack sequences.")] = "auto",
    micro_batch: Annotated[str, typer.Option("--micro-batch", help="Examples per forward pass, or auto.")] = "auto",
    window_batches: Annotated[int, typer.Option("--window-batches", min=1, help="Batches sorted by length.")] = 64,
    like: Annotated[
        str,
        typer.Option(
            "--like",
            help="Also time original, hf-trainer, hf-default or hf-liger (comma-separated) on the same examples.",
        ),
    ] = "",
) -> None:
    """Time training steps on synthetic examples; print JSON."""
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
    config: Annotated[str, typer.Option("--config", help="Model size, as in model.size.")] = "small",
    tokenizer: TokenizerOption = "gpt2",
    documents: Annotated[
        int, typer.Option("--documents", min=1, help="Number of synthetic documents, one mask each.")
    ] = 200,
    like: Annotated[
        Literal["transformers"] | None,
        typer.Option("--like", help="Also time plain transformers on the same documents."),
    ] = None,
) -> None:
    """Time scoring of synthetic documents in float32; print JSON."""
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
