"""Prepares one attempt at a training: the data, and the model and optimiser in the state of the last checkpoint."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from transformers import GPT2LMHeadModel

from raysweep.config.training_settings import ONEDNN, TrainingConfig
from raysweep.corpus.subsets import choose_subset
from raysweep.errors import TrainingError
from raysweep.masking.example_store import Examples, ExampleStore
from raysweep.model.checkpoints import Checkpoint, Checkpoints
from raysweep.model.gpt2 import build_model
from raysweep.model.sequence_packing import Packing
from raysweep.model.torch_devices import device_name
from raysweep.seeding import generator_for
from raysweep.training.batches import BatchOrder, choose_validation
from raysweep.training.cuda_graphs import MAX_POSITIONS, GraphedPass
from raysweep.training.distributed import DistributedGroup
from raysweep.training.gradient_pass import GradientPass
from raysweep.training.hardware import autocast_type, make_kernels, pad_multiple, refuse_onednn
from raysweep.training.job import TrainingJob
from raysweep.training.loss import Objective, labels_of, objective_of
from raysweep.training.micro_batch import fit_to_memory
from raysweep.training.optimizer import copy_tensors, make_optimizer, model_tensors, optimizer_tensors
from raysweep.training.progress import Progress
from raysweep.training.step import Engine

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Attempt:
    """One attempt at a training."""

    job: TrainingJob
    store: ExampleStore
    engine: Engine
    optimizer: torch.optim.AdamW
    objective: Objective
    order: BatchOrder
    validation: Examples
    """Sorted by length."""
    checkpoints: Checkpoints
    progress: Progress
    pool: Mapping[str, int]
    """Level → number of examples in one epoch."""

    def documents_of_step(self, step: int) -> list[int]:
        """Return the numbers of the documents whose examples a step trains on."""
        examples = self.order.step(step, self.job.settings.accumulation)
        return sorted(set(self.store.documents_of(examples.numbers).tolist()))


def prepare(job: TrainingJob, group: DistributedGroup, checkpoints: Checkpoints) -> Attempt:
    """Open the examples, build the model and restore the last checkpoint.

    Raises:
        TrainingError: there is nothing to train on or to validate with, the start cannot be read, the
            checkpoint was trained in another precision, or the workers would train in different precisions.
    """
    settings, store = job.settings, ExampleStore.open(job.examples)
    compare_devices(job.trial, settings.precision, group)
    examples = select_training(store, job)
    validation = choose_validation(store.select(job.levels, "valid"), settings.valid_examples, job.levels)
    objective = objective_of(settings)
    _check_examples(job, store, examples, validation, objective)
    resumed = _agree_on_checkpoint(group, checkpoints)
    model = build_model(
        job.start,
        model=job.model,
        vocabulary=store.vocabulary,
        max_tokens=job.max_tokens,
        seed=job.seed,
        start_digest=job.start_digest,
    )
    model.to(group.device)  # type: ignore[arg-type]  # its type says that only another model can be passed
    optimizer = make_optimizer(model, settings)
    if resumed is not None:
        copy_tensors(resumed.model, model_tensors(model))
        copy_tensors(resumed.optimizer, optimizer_tensors(optimizer, model))
        logger.info("%s: resumes after step %d of %d", job.trial, resumed.step, settings.steps)
    lengths = store.lengths(examples, settings.task)
    engine = make_engine(job.trial, model, store, settings, group, job.max_tokens)
    progress = Progress(**resumed.state) if resumed is not None else Progress()
    progress.precision = _keep_precision(job, progress, engine)
    fit_to_memory(engine, settings, examples, lengths, objective)
    return Attempt(
        job=job,
        store=store,
        engine=engine,
        optimizer=optimizer,
        objective=objective,
        order=BatchOrder(
            examples,
            lengths,
            batch_size=settings.batch_size,
            window_batches=settings.window_batches,
            seed=job.seed,
        ),
        validation=validation[np.argsort(store.lengths(validation, settings.task), kind="stable")],
        checkpoints=checkpoints,
        progress=progress,
        pool=_count_by_level(store, examples),
    )


def compare_devices(trial: str, precision: str, group: DistributedGroup) -> None:
    """Warn if the workers of a training have different kinds of GPUs.

    Raises:
        TrainingError: the workers would train in different precisions, or one of them does not support the configured
            precision.
    """
    if precision == ONEDNN:
        # All workers raise, because the others would wait for one that raises alone.
        why_not = [reason for reason in group.gather(refuse_onednn(precision, group.device)) if reason]
        if why_not:
            raise TrainingError(f"{trial}: training.precision: {why_not[0]}")
    if group.world_size == 1:
        return
    here = f"{device_name(group.device)} in {_name_precision(autocast_type(precision, group.device), precision)}"
    kinds = sorted(set(group.gather(here)))
    if len(kinds) == 1:
        return
    workers = f"{trial}: its {group.world_size} workers train on {', '.join(kinds)}"
    fix = "set resources.accelerator_type to one of these GPUs"
    if len({kind.rpartition(" in ")[2] for kind in kinds}) > 1:
        raise TrainingError(f"{workers}; all must have the same precision: {fix}, or training.precision: fp32")
    logger.warning("%s; each step waits for the slowest: %s", workers, fix)


def make_engine(
    trial: str,
    model: GPT2LMHeadModel,
    source: ExampleStore,
    settings: TrainingConfig,
    group: DistributedGroup,
    max_tokens: int,
) -> Engine:
    """Build the engine for a model from the trial's settings and the device."""
    engine = Engine(
        trial=trial,
        model=model,
        source=source,
        task=settings.task,
        group=group,
        autocast=autocast_type(settings.precision, group.device),
        by_onednn=settings.precision == ONEDNN,
        micro_batch=settings.batch_size if settings.micro_batch == "auto" else settings.micro_batch,
        kernels=make_kernels(settings.compile, group.device),
        packing=packing_of(settings.packing, group.device, max_tokens),
        pad_multiple=pad_multiple(group.device),
    )
    if group.device.type == "cuda":
        engine.gradient_pass = GradientPass(model, engine.kernels, group.device, engine.autocast)
        if settings.cuda_graphs != "off":
            largest = None if settings.cuda_graphs == "on" else MAX_POSITIONS
            engine.graphs = GraphedPass(engine.gradient_pass, model, group.device, largest)
    return engine


def packing_of(setting: str, device: torch.device, max_tokens: int) -> Packing | None:
    """Return the sequence packing for a setting; None gives every example its own row.

    'auto' packs only on GPUs, and only if that saves a tenth of the positions, because packed rows need a mask, which
    rules out the fastest attention.  On a CPU, batches of similar length were as fast (BENCHMARKS.md).
    """
    if setting == "off" or (setting == "auto" and device.type != "cuda"):
        return None
    return Packing(widest=max_tokens, least_saving=0.1 if setting == "auto" else 0.0)


def select_training(store: ExampleStore, job: TrainingJob) -> Examples:
    """Select the examples of an epoch, ascending, from all train documents of the job's levels or from its subset.

    Raises:
        TrainingError: a level of `examples_per_level` has no examples.
    """
    examples = store.select(job.levels, "train")
    if job.documents is not None:
        owners = store.documents_of(examples)
        documents = np.unique(owners)
        chosen = choose_subset(documents, store.levels_of(documents), job.levels, job.documents)
        examples = examples[np.isin(owners, chosen)]
    return examples if job.examples_per_level is None else _repeat_by_level(store, examples, job)


def _repeat_by_level(store: ExampleStore, examples: Examples, job: TrainingJob) -> Examples:
    """Repeat each level's examples up to the configured number: all equally often, and a random choice once more."""
    assert job.examples_per_level is not None
    levels = store.levels_of(store.documents_of(examples))
    parts = []
    for level in job.levels:
        own = examples[levels == level]
        asked = job.examples_per_level.get(level, len(own))
        if not asked:
            continue
        if not len(own):
            raise TrainingError(f"{job.trial}: no examples in the train split of {level}, and {asked:,} are asked for")
        rest = generator_for(job.seed, "examples_per_level", level).choice(own, asked % len(own), replace=False)
        parts += [np.tile(own, asked // len(own)), rest]
    return np.sort(np.concatenate(parts))


def _count_by_level(store: ExampleStore, examples: Examples) -> dict[str, int]:
    documents, counts = np.unique(store.documents_of(examples), return_counts=True)
    levels = store.levels_of(documents)
    return {str(level): int(counts[levels == level].sum()) for level in np.unique(levels)}


def _check_examples(
    job: TrainingJob, store: ExampleStore, examples: Examples, validation: Examples, objective: Objective
) -> None:
    levels = ", ".join(job.levels)
    for split, chosen in (("train", examples), ("valid", validation)):
        if not len(chosen):
            raise TrainingError(
                f"{job.trial}: no examples in the {split} split of {levels}; "
                "give it more documents, another data.split or other levels"
            )
    labels = labels_of(store.assemble(validation, task=job.settings.task), objective).counts()
    if not (labels[1:].any() if objective.infill else labels.any()):
        raise TrainingError(
            f"{job.trial}: none of the {len(validation)} validation examples of {levels} has a token of the "
            f"'{objective.metric}' loss; raise valid_examples or the masking probabilities"
        )


def _name_precision(autocast: torch.dtype | None, asked: str) -> str:
    return "bf16" if autocast is not None else ONEDNN if asked == ONEDNN else "fp32"


def _keep_precision(job: TrainingJob, progress: Progress, engine: Engine) -> str:
    """Return the precision of the engine; raise if the steps done so far had another one."""
    here = _name_precision(engine.autocast, job.settings.precision)
    if progress.precision not in ("", here):
        raise TrainingError(
            f"{job.trial}: training.precision: {job.settings.precision} means {here} on this device "
            f"({device_name(engine.device)}), and the checkpoint of step {progress.step} was trained in "
            f"{progress.precision}; run again to go on in {progress.precision}, or train it again with "
            f"--force {job.trial}"
        )
    return here


def _agree_on_checkpoint(group: DistributedGroup, checkpoints: Checkpoints) -> Checkpoint | None:
    """Let rank 0 choose the checkpoint, so that all workers resume at the same step."""
    chosen = None
    if group.is_main:
        checkpoints.sweep()
        chosen = checkpoints.newest()
    step = group.broadcast(chosen.step if chosen else 0)
    return checkpoints.load(step) if step and chosen is None else chosen
