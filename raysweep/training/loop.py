"""Runs one training from start to end, in one loop that reads from top to bottom, without Ray.

The result depends only on the job.  The examples and dropout masks of a step are determined by (seed, step), and the
learning rate by the step, so a checkpoint needs only the weights, the optimiser state and a few numbers, and a training
that was killed resumes to the same bits on a CPU.

A kill at any time costs work, but never gives a wrong result, because of the order at the end: first the last
checkpoint, then the model folder (by rename), then `training.json` (by rename), which marks the training as done; only
then are the checkpoints deleted.  After a kill before `training.json`, the next call resumes at the last checkpoint,
finds all steps done and writes the same model again; after a later kill it only deletes the checkpoints.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import torch

from raysweep.errors import ChangedError
from raysweep.model.checkpoints import Checkpoint, Checkpoints
from raysweep.model.export import save_model
from raysweep.model.freed_memory import keep_freed_memory
from raysweep.model.gpt2 import parameter_count
from raysweep.model.torch_devices import device_name
from raysweep.storage.atomic_files import read_json, remove_leftovers, write_json
from raysweep.storage.run_folder import TrialFolder
from raysweep.training.attempt import Attempt, prepare
from raysweep.training.card import model_card
from raysweep.training.distributed import DistributedGroup
from raysweep.training.hardware import choose_device, flops_share, has_tf32, peak_memory
from raysweep.training.hyperparameters import hyperparameters
from raysweep.training.job import Evaluation, TrainingJob, TrainingResult
from raysweep.training.metrics import MetricsLog
from raysweep.training.optimizer import clipped_step, copy_tensors, learning_rate, model_tensors, optimizer_tensors
from raysweep.training.reporting import FinishedStep, StepReporter, describe_throughput
from raysweep.training.sigterm import ShouldStop, stop_on_sigterm
from raysweep.training.step import step_gradients, validation_losses

logger = logging.getLogger(__name__)

OnEvaluation = Callable[[Evaluation], None]

FETCH_EVERY = {"cuda": 50}
"""Steps whose losses are fetched from the device together; on other devices the losses of each step are fetched."""
ASK_EVERY = 10
"""Steps between two calls of `should_stop` with several workers; a single worker calls it after each step."""


def train(
    job: TrainingJob,
    *,
    device: str | None = None,
    rank: int = 0,
    world_size: int = 1,
    on_evaluation: OnEvaluation | None = None,
    should_stop: ShouldStop | None = None,
) -> TrainingResult:
    """Train one trial, or resume it at its last checkpoint, or return its result if it is done.

    Args:
        device: 'cpu', 'cuda', 'cuda:1' …; None: a GPU if there is one.
        rank: this worker's rank; with `world_size` > 1, `torch.distributed` must be initialised.  The
            workers share the steps of one training; only rank 0 writes files.
        on_evaluation: called on every worker after each evaluation.
        should_stop: called after each step; if it returns a reason, the training saves a checkpoint and stops.  It
            is then not finished: there is no model yet, and the next call resumes it.  SIGTERM has the same effect in
            the main thread, unless another handler is installed.

    Raises:
        TrainingError: there are no examples, the start cannot be read, or the checkpoint has another precision.
        NonFiniteLossError: a loss is not finite; names the step and its documents.  The checkpoints, which are from
            earlier steps, are valid.
        MemoryShortageError: a single example does not fit into memory.
        ChangedError: the folder has the result of a training with another fingerprint.
    """
    folder = TrialFolder(job.folder)
    group = DistributedGroup(rank=rank, world_size=world_size, device=choose_device(device))
    keep = 2 if job.settings.keep == "resume" else job.settings.keep
    checkpoints = Checkpoints(folder.checkpoints, job.fingerprint, job.trial, keep=keep)
    if (done := finished_result(job)) is not None:
        logger.info("%s: skip, its training is done (%d steps)", job.trial, done.steps)
        if group.is_main:
            _remove_checkpoints(job, checkpoints)
        return done
    if group.is_main:
        for path in (folder.metrics, folder.evaluations, folder.model, folder.result):
            remove_leftovers(folder.root, path.name)
    keep_freed_memory(group.device)
    attempt = prepare(job, group, checkpoints)
    log = MetricsLog(
        folder,
        resume_step=attempt.progress.step,
        is_main=group.is_main,
        hyperparameters=hyperparameters(job.settings, job.model, seed=job.seed, parent=job.parent),
    )
    with stop_on_sigterm(should_stop) as asked_to_stop, log:
        stopped = _train_steps(attempt, log, on_evaluation, asked_to_stop)
    result = _result(attempt, stopped)
    if not stopped and group.is_main:
        _write_model(attempt, folder)
        write_json(folder.result, {"fingerprint": job.fingerprint, "result": asdict(result)})
        _remove_checkpoints(job, checkpoints)
    return result


def finished_result(job: TrainingJob) -> TrainingResult | None:
    """Read the job's result if its training is done.

    Raises:
        ChangedError: the folder has the result of a training with another fingerprint.
    """
    path = TrialFolder(job.folder).result
    if not path.exists():
        return None
    record = read_json(path)
    if record["fingerprint"] != job.fingerprint:
        if Checkpoints(TrialFolder(job.folder).checkpoints, job.fingerprint, job.trial).are_own():
            return None  # the result is that of a shorter training, which this job extends
        raise ChangedError(
            f"{job.trial}: {path} is the result of other work ({record['fingerprint']}, not {job.fingerprint}); "
            f"redo the trial with --force {job.trial}, or give it a new name"
        )
    return TrainingResult(**record["result"])


def _remove_checkpoints(job: TrainingJob, checkpoints: Checkpoints) -> None:
    """Delete the checkpoints of a finished training; the last one is kept if the training may be extended."""
    if job.settings.keep == "resume":
        checkpoints.keep_last()
    else:
        checkpoints.remove_all()


def _train_steps(attempt: Attempt, log: MetricsLog, on_evaluation: OnEvaluation | None, should_stop: ShouldStop) -> str:
    """Run the remaining steps; returns the reason to stop, or '' at the end of the training."""
    job, settings, engine, progress = attempt.job, attempt.job.settings, attempt.engine, attempt.progress
    reporter = StepReporter(
        log,
        trial=job.trial,
        steps=settings.steps,
        objective=attempt.objective,
        documents_of_step=attempt.documents_of_step,
    )
    last_evaluation = progress.to_state()
    while not progress.is_done(settings.steps):
        step = progress.step + 1
        with progress.timed("data"):
            examples = attempt.order.step(step, settings.accumulation)
            batches = engine.assemble(examples.numbers, attempt.objective)
        with progress.timed("step"):
            sums = step_gradients(engine, examples.numbers, batches, attempt.objective, seed=job.seed, step=step)
            rate = learning_rate(step, settings)
            for parameters in attempt.optimizer.param_groups:
                parameters["lr"] = rate
            norm = clipped_step(attempt.optimizer, list(engine.model.parameters()), settings.clip_norm)
            attempt.optimizer.zero_grad(set_to_none=True)
        progress.count_step(
            examples=len(examples.numbers),
            tokens=examples.tokens,
            share_tokens=sums.tokens,
            share_positions=sums.positions,
        )
        reporter.add(FinishedStep(step=step, examples=examples, sums=sums, gradient_norm=norm, learning_rate=rate))

        reason = _reason_to_stop(engine.group, step, should_stop)
        evaluates = step % settings.evaluate_every == 0 or step == settings.steps
        saves = step % settings.checkpoint_every == 0 or step == settings.steps or reason != ""
        if evaluates or saves or len(reporter) >= FETCH_EVERY.get(engine.device.type, 1):
            with progress.timed("step"):
                reporter.report()
        if evaluates:
            evaluation = _evaluate(attempt, log, reporter, last_evaluation)
            last_evaluation = progress.to_state()
            if on_evaluation is not None:
                on_evaluation(evaluation)
        if saves or progress.stopped:
            _save(attempt, log, reporter)
        if reason and not progress.is_done(settings.steps):
            logger.info("%s: stopped after step %d of %d: %s", job.trial, step, settings.steps, reason)
            return reason
    return ""


def _reason_to_stop(group: DistributedGroup, step: int, should_stop: ShouldStop) -> str:
    """Return the reason to stop, or ''.  Several workers agree on it, so that all stop at the same step."""
    if group.world_size == 1:
        return should_stop() or ""
    if step % ASK_EVERY:
        return ""
    reason = should_stop() or ""
    return (reason or "another worker was asked to stop") if group.any_rank(reason != "") else ""


def _evaluate(
    attempt: Attempt, log: MetricsLog, reporter: StepReporter, last_evaluation: Mapping[str, Any]
) -> Evaluation:
    """Compute the validation losses, save the model if it is the best so far, and report.

    Args:
        last_evaluation: the progress at the last evaluation, or at the start of this attempt.
    """
    job, progress = attempt.job, attempt.progress
    with progress.timed("evaluation"):
        losses = validation_losses(attempt.engine, attempt.validation)
    reporter.check(progress.step, **{f"validation loss {part}": loss for part, loss in losses.items()})
    evaluation = progress.add_evaluation(losses, attempt.objective.metric, job.settings.patience)
    if evaluation.is_best and attempt.engine.group.is_main:
        with progress.timed("checkpoint"):
            attempt.checkpoints.save_best(progress.step, model_tensors(attempt.engine.model))
    engine = attempt.engine
    throughput = describe_throughput(progress.since(last_evaluation), engine.model, engine.group)
    log.write_evaluation(evaluation, reporter.summarise(), throughput)
    shown = "  ".join(f"{part} {loss:.3f}" for part, loss in losses.items())
    best = "the best so far" if evaluation.is_best else f"best was step {progress.best_step}"
    logger.info(
        "%s: step %d/%d  validation %s nats/token, %s", job.trial, progress.step, job.settings.steps, shown, best
    )
    return evaluation


def _save(attempt: Attempt, log: MetricsLog, reporter: StepReporter) -> None:
    """Write the metrics, then the checkpoint, which relies on them.

    Raises:
        NonFiniteLossError: a weight is not finite; such weights are never saved.
    """
    engine, progress = attempt.engine, attempt.progress
    with progress.timed("checkpoint"):
        weights_norm = torch.nn.utils.get_total_norm(list(model_tensors(engine.model).values()))
        reporter.check(progress.step, **{"norm of the weights": weights_norm.item()})
    if not engine.group.is_main:
        return
    with progress.timed("checkpoint"):
        log.flush()
        attempt.checkpoints.save(
            Checkpoint(
                step=progress.step,
                state=progress.to_state(),
                model=model_tensors(engine.model),
                optimizer=optimizer_tensors(attempt.optimizer, engine.model),
            )
        )


def _write_model(attempt: Attempt, folder: TrialFolder) -> None:
    """Export the best model, which may be from an earlier step than the last."""
    model, progress = attempt.engine.model, attempt.progress
    copy_tensors(attempt.checkpoints.load_best(progress.best_step), model_tensors(model))
    card = model_card(
        attempt.job,
        parameters=parameter_count(model),
        examples=attempt.order.size,
        step=progress.best_step,
        steps=progress.step,
        losses=progress.best_losses,
        precision=progress.precision,
        has_tf32=has_tf32(attempt.engine.device),
    )
    save_model(model, folder.model, card)


def _result(attempt: Attempt, stopped: str) -> TrainingResult:
    progress, engine = attempt.progress, attempt.engine
    rate = progress.tokens_per_second
    return TrainingResult(
        steps=progress.step,
        best_step=progress.best_step,
        best_losses=progress.best_losses,
        stopped=stopped or progress.stopped,
        resumable=attempt.job.settings.keep == "resume",
        examples=progress.examples,
        tokens=progress.tokens,
        padding_share=progress.padding_share,
        seconds=progress.seconds,
        device=device_name(engine.device),
        precision=progress.precision,
        parameters=parameter_count(engine.model),
        peak_memory_bytes=peak_memory(engine.device),
        tokens_per_second=rate,
        pool=dict(attempt.pool),
        mfu=None if rate is None else flops_share(engine.model, rate, engine.device, engine.group.world_size),
    )
