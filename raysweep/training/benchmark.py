"""Measures training speed on this machine, optionally compared with other ways to train on the same examples.

    python -m raysweep.training.benchmark --size gpt2 --batch-size 64 --like original,hf-trainer

It needs neither Ray nor a corpus: the examples are synthetic, with the lengths of EFCAMDAT's examples.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
import transformers
import typer
from transformers import GPT2LMHeadModel

from raysweep.config.loading import check_file
from raysweep.config.training_settings import (
    GPT2_TOKENIZER,
    ONEDNN,
    SCRATCH,
    ModelConfig,
    ModelSize,
    Precision,
    TrainingConfig,
)
from raysweep.errors import ConfigError
from raysweep.masking.example_store import Examples, ExampleStore
from raysweep.masking.vocabulary import gpt2
from raysweep.model.freed_memory import keep_freed_memory
from raysweep.model.gpt2 import build_model, parameter_count
from raysweep.model.torch_devices import device_name
from raysweep.scheduling.trials import expand_trials
from raysweep.storage.printable import say_json
from raysweep.training.attempt import make_engine
from raysweep.training.baseline_trainers import BASELINES, ORIGINAL, find_baselines
from raysweep.training.batches import BatchOrder, StepExamples
from raysweep.training.distributed import DistributedGroup
from raysweep.training.hardware import (
    DeviceStopwatch,
    autocast_type,
    choose_device,
    flops_share,
    peak_memory,
    refuse_onednn,
)
from raysweep.training.loss import objective_of
from raysweep.training.micro_batch import fit_to_memory
from raysweep.training.optimizer import clipped_step, make_optimizer
from raysweep.training.original_loss import as_original, as_transformers, original_loss
from raysweep.training.step import Engine, step_gradients
from raysweep.training.synthetic import benchmark_vocabulary, synthetic_examples

PROFILE = "efcamdat"
ORIGINAL_BATCH = 8
_STORE_BATCHES = 64
"""Number of synthetic batches."""


def benchmark_training(
    *,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1 …; a GPU if there is one")] = None,
    size: ModelSize = "micro",
    tokenizer: Annotated[str, typer.Option(help="gpt2, or a folder with a tokenizer.json")] = GPT2_TOKENIZER,
    batch_size: int = 16,
    steps: int = 10,
    warmup_steps: int = 3,
    precision: Precision = "auto",
    compiled: Annotated[bool, typer.Option("--compile")] = False,
    packing: Literal["off", "auto", "on"] = "auto",
    cuda_graphs: Literal["off", "auto", "on"] = "auto",
    micro_batch: Annotated[str, typer.Option(help="examples at once, or auto")] = "auto",
    window_batches: Annotated[int, typer.Option(help="batches sorted by length together")] = 64,
    like: Annotated[str, typer.Option(help="also time these, with commas between: " + ", ".join(BASELINES))] = "",
    original_steps: int | None = None,
    original_batch_size: int = ORIGINAL_BATCH,
    max_tokens: int = 256,
    experiments: Path = Path("experiments.yaml"),
) -> dict[str, Any]:
    """Time training steps of a model from scratch on synthetic examples.

    Args:
        packing, micro_batch, window_batches: as in a trial's settings; `micro_batch` as text.
        like: comma-separated names of `BASELINES` to time as well; adds the speed of each, and the ratio of our
            examples per second to those of the baseline (`ratio_to_…`).  Hugging Face's Trainer gets the same examples
            as our steps; baselines are not compiled.
        experiments: the file with the `efcamdat` profile, to estimate the hours that its trainings would take at
            this speed (only steps, without evaluation and start-up); omitted if there is no such file, or if the
            profile has another tokenizer.

    Returns:
        Steps, examples and tokens without padding per second; the share of padding; the model FLOPs utilisation
        (`mfu`; None if the GPU's peak is unknown); peak memory in bytes, on a CPU that of the whole process so far;
        and the configuration.  On a CPU also examples per second of CPU time, which other work on the machine
        disturbs less; the corresponding ratios begin with `cpu_ratio_to_`.

    Raises:
        ConfigError: `micro_batch` is neither 'auto' nor a number above 0, a baseline is unknown or cannot run here,
            there is no such tokenizer, the device does not support the precision or it cannot be compiled, or the file
            has errors.
        InputError: the tokenizer of the folder cannot be used.
    """
    if micro_batch != "auto" and not (micro_batch.isdecimal() and int(micro_batch)):
        raise ConfigError(f"--micro-batch: found '{micro_batch:.80}'; must be 'auto' or a whole number above 0")
    torch_device = choose_device(device)
    if why_not := refuse_onednn(precision, torch_device):
        raise ConfigError(f"--precision: {why_not}")
    if compiled and precision == ONEDNN:
        raise ConfigError(
            f"--compile: found with --precision {ONEDNN}, which cannot be compiled; leave one of them out"
        )
    baselines = find_baselines(like, torch_device)
    settings = TrainingConfig(
        batch_size=batch_size,
        precision=precision,
        compile=compiled,
        packing=packing,
        cuda_graphs=cuda_graphs,
        micro_batch="auto" if micro_batch == "auto" else int(micro_batch),
        window_batches=window_batches,
    )
    source = synthetic_examples(
        _STORE_BATCHES * max(batch_size, original_batch_size),
        max_tokens=max_tokens,
        vocabulary=benchmark_vocabulary(tokenizer),
    )

    def new_model() -> GPT2LMHeadModel:
        model = build_model(
            SCRATCH, model=ModelConfig(size=size), vocabulary=source.vocabulary, max_tokens=max_tokens, seed=0
        )
        model.to(torch_device)  # type: ignore[arg-type]  # the stub accepts no torch.device
        return model

    work = _choose_steps(source, settings, warmup_steps, steps)
    # The baselines come first, because `keep_freed_memory` would speed them up too.
    speeds: dict[str, dict[str, Any]] = {}
    for baseline in baselines:
        if baseline == ORIGINAL:
            step = _original_step(as_original(new_model()), settings, source, torch_device)
            plain = settings.model_copy(update={"batch_size": original_batch_size})
            own_work = _choose_steps(source, plain, 1, original_steps or max(2, steps // 4))
            speeds[baseline] = {"batch_size": original_batch_size, **_time_steps(step, own_work, torch_device)}
        else:
            speeds[baseline] = _time_trainer(
                baseline, as_transformers(new_model()), source, settings, work, torch_device
            )
    keep_freed_memory(torch_device)
    model = new_model()
    timed = _TrainingSteps(model, settings, source, torch_device, max_tokens)
    ours = _time_steps(timed, work, torch_device)
    is_gpu = torch_device.type == "cuda"
    result: dict[str, Any] = {
        "device": device_name(torch_device) if is_gpu else f"cpu, {torch.get_num_threads()} threads",
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "size": size,
        "ids": source.vocabulary.size,
        "parameters": parameter_count(model),
        "batch_size": batch_size,
        "micro_batch": timed.engine.micro_batch,
        "packing": packing,
        "cuda_graphs": cuda_graphs,
        "precision": "float32 by oneDNN"
        if precision == ONEDNN
        else str(autocast_type(precision, torch_device) or torch.float32).removeprefix("torch."),
        "compiled": compiled,
        **ours,
        "padding_share": 1.0 - timed.tokens / timed.positions,
        "mfu": flops_share(model, ours["tokens_per_s"], torch_device),
    }
    if size == "gpt2" and source.vocabulary is gpt2() and (examples := examples_of_profile(experiments)) is not None:
        result[f"{PROFILE}_{'gpu' if is_gpu else 'cpu'}_hours"] = examples / ours["examples_per_s"] / 3600
    for baseline, speed in speeds.items():
        result[baseline] = speed
        for measured, key in (("examples_per_s", "ratio_to"), ("examples_per_cpu_s", "cpu_ratio_to")):
            if measured in speed:
                result[f"{key}_{baseline.replace('-', '_')}"] = ours[measured] / speed[measured]
    return result


def examples_of_profile(experiments: Path) -> int | None:
    """Count the training examples of all trials of the profile, including repeats; None without the file or profile.

    Raises:
        ConfigError: the file has errors.
    """
    config = check_file(experiments).get(PROFILE) if experiments.exists() else None
    if config is None:
        return None
    settings = [trial.settings for trial in expand_trials(config).values()]
    return sum(trial.steps * trial.batch_size * trial.accumulation for trial in settings)


class _TrainingSteps:
    """Runs the steps of the training loop without its reports, and counts tokens and positions."""

    def __init__(
        self,
        model: GPT2LMHeadModel,
        settings: TrainingConfig,
        source: ExampleStore,
        device: torch.device,
        max_tokens: int,
    ) -> None:
        group = DistributedGroup(device=device)
        self.engine: Engine = make_engine("benchmark", model, source, settings, group, max_tokens)
        self._settings, self._objective = settings, objective_of(settings)
        self._optimizer = make_optimizer(model, settings)
        numbers = np.arange(len(source))
        fit_to_memory(self.engine, settings, numbers, source.lengths(numbers), self._objective)
        self.tokens = self.positions = 0

    def __call__(self, examples: StepExamples) -> None:
        batches = self.engine.assemble(examples.numbers, self._objective)
        sums = step_gradients(self.engine, examples.numbers, batches, self._objective, seed=0, step=1)
        clipped_step(self._optimizer, list(self.engine.model.parameters()), self._settings.clip_norm)
        self._optimizer.zero_grad(set_to_none=True)
        self.tokens += sums.tokens
        self.positions += sums.positions


def _original_step(
    model: GPT2LMHeadModel, settings: TrainingConfig, source: ExampleStore, device: torch.device
) -> Callable[[StepExamples], None]:
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.learning_rate, weight_decay=0.0)

    def step(examples: StepExamples) -> None:
        optimizer.zero_grad()
        original_loss(model, source.assemble(examples.numbers), device).backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip_norm)
        optimizer.step()

    return step


@dataclass(frozen=True, kw_only=True, slots=True)
class _Work:
    """The steps of a measurement."""

    warmup: Sequence[StepExamples]
    timed: Sequence[StepExamples]

    def per_second(self, watch: DeviceStopwatch) -> dict[str, float]:
        examples = sum(len(step.numbers) for step in self.timed)
        on_cpu = {} if watch.device.type != "cpu" else {"examples_per_cpu_s": examples / watch.cpu_seconds}
        return {
            "steps_per_s": len(self.timed) / watch.seconds,
            "examples_per_s": examples / watch.seconds,
            "tokens_per_s": sum(step.tokens for step in self.timed) / watch.seconds,
            **on_cpu,
            "peak_memory_bytes": peak_memory(watch.device),
        }


def _choose_steps(source: ExampleStore, settings: TrainingConfig, warmup_steps: int, steps: int) -> _Work:
    numbers = np.arange(_STORE_BATCHES * settings.batch_size, dtype=np.int64)
    order = BatchOrder(
        numbers,
        source.lengths(numbers),
        batch_size=settings.batch_size,
        window_batches=settings.window_batches,
        seed=0,
    )
    chosen = [order.step(number) for number in range(1, warmup_steps + steps + 1)]
    return _Work(warmup=chosen[:warmup_steps], timed=chosen[warmup_steps:])


def _time_steps(step: Callable[[StepExamples], None], work: _Work, device: torch.device) -> dict[str, float]:
    for examples in work.warmup:
        step(examples)
    watch = DeviceStopwatch(device)
    watch.start()
    for examples in work.timed:
        step(examples)
    watch.stop()
    return work.per_second(watch)


def _time_trainer(
    baseline: str,
    model: GPT2LMHeadModel,
    source: ExampleStore,
    settings: TrainingConfig,
    work: _Work,
    device: torch.device,
) -> dict[str, Any]:
    from raysweep.training.hf_trainer import WAYS, time_trainer

    way = WAYS[baseline]
    dtype = (None if way.is_default else autocast_type(settings.precision, device)) or torch.float32
    watch = DeviceStopwatch(device)
    first_batch_loss = time_trainer(
        way,
        model,
        source,
        settings,
        warmup=_numbers_of(work.warmup),
        timed=_numbers_of(work.timed),
        watch=watch,
        dtype=dtype,
    )
    return {
        "batch_size": settings.batch_size,
        "precision": str(dtype).removeprefix("torch."),
        "first_batch_loss": first_batch_loss,
        **work.per_second(watch),
    }


def _numbers_of(steps: Sequence[StepExamples]) -> Examples:
    return np.concatenate([np.zeros(0, dtype=np.int64), *(examples.numbers for examples in steps)])


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the result as JSON; the options of the command are the parameters of `benchmark_training`."""

    @functools.wraps(benchmark_training)
    def command(**options: Any) -> None:
        say_json(benchmark_training(**options))

    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command(help=__doc__.split("\n")[0])(command)
    app(arguments)


if __name__ == "__main__":
    main()
