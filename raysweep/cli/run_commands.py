"""The commands that do work: `run` and its five stages."""

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from raysweep.cli.settings import Settings, new_group, with_settings

if TYPE_CHECKING:
    from raysweep.pipeline.run import Run, Unfinished


app = new_group()
OVER_BUDGET = 3
"""The exit code of a run that stopped at its budget's cap; nothing failed."""
BUDGET = "budget: "
"""How the reason of a trial begins that a budget stopped."""


ForceOption = Annotated[
    list[str] | None,
    typer.Option("--force", help="A trial or stage to do again, with what depends on it; may be given several times."),
]
InlineOption = Annotated[bool, typer.Option("--inline", help="Work in this process, one piece at a time, without Ray.")]
FailFastOption = Annotated[
    bool,
    typer.Option(
        "--fail-fast/--keep-going",
        help="Whether the first trial that fails stops the others, at a checkpoint; else all but its children go on.",
    ),
]


@app.command()
@with_settings(allow_leaks=True)
def run(
    settings: Settings, force: ForceOption = None, inline: InlineOption = False, fail_fast: FailFastOption = False
) -> None:
    """Do every stage that is not done: prepare, mask, train, evaluate, report."""
    _do_stages(settings, None, force, inline=inline, fail_fast=fail_fast)


@app.command()
@with_settings()
def prepare(settings: Settings, force: ForceOption = None) -> None:
    """Turn the CSV into documents, each with its split; set bad rows aside."""
    _do_stages(settings, ["prepare"], force, inline=True)


@app.command()
@with_settings()
def mask(settings: Settings, force: ForceOption = None, inline: InlineOption = False) -> None:
    """Make the masked examples, on CPU workers."""
    _do_stages(settings, ["mask"], force, inline=inline)


@app.command()
@with_settings()
def train(
    settings: Settings, force: ForceOption = None, inline: InlineOption = False, fail_fast: FailFastOption = False
) -> None:
    """Train the trials that are not done, concurrently."""
    _do_stages(settings, ["train"], force, inline=inline, fail_fast=fail_fast)


@app.command()
@with_settings(allow_leaks=True)
def evaluate(settings: Settings, force: ForceOption = None, inline: InlineOption = False) -> None:
    """Score every trained model on every level's test documents."""
    _do_stages(settings, ["evaluate"], force, inline=inline)


@app.command()
@with_settings(allow_leaks=True)
def report(settings: Settings, force: ForceOption = None) -> None:
    """Write the report from the saved scores."""
    _do_stages(settings, ["report"], force, inline=True)


def _do_stages(
    settings: Settings, stages: list[str] | None, force: list[str] | None, *, inline: bool, fail_fast: bool = False
) -> None:
    from raysweep.cli.progress_view import view_for
    from raysweep.pipeline.inline_executor import InlineExecutor
    from raysweep.pipeline.lock import locked
    from raysweep.pipeline.run import STAGES, Run
    from raysweep.pipeline.tasks import Executor
    from raysweep.planning.budget import BudgetWatch
    from raysweep.planning.devices import find_device
    from raysweep.planning.run_forecast import measure_overheads_of_run, settle_trials_per_gpu

    began, device = time.time(), find_device(settings.config)
    kind = settings.config.resources.accelerator_type or device.name
    budget = BudgetWatch(settings.folder, settings.config.budget, settings.config.prices, device=kind)
    executor: Executor
    if inline:
        executor = InlineExecutor(settings.config.resources.cpus_per_trial, fail_fast=fail_fast, budget=budget)
    else:
        from raysweep.cluster.ray_executor import RayExecutor

        executor = RayExecutor(
            settle_trials_per_gpu(settings.config), settings.folder, fail_fast=fail_fast, budget=budget
        )
    tells = stages is None or "train" in stages
    with locked(settings.folder), view_for(settings) as view, _told_of_failure(settings, tells):
        try:
            work = Run(
                config=settings.config,
                profile=settings.profile,
                folder=settings.folder,
                executor=executor,
                listener=view,
                command=settings.command(),
                forced=force or [],
            )
            if stages is None:
                work.refuse_over_budget()
            for stage in stages or STAGES:
                if stages is None and stage == "evaluate" and not work.has_models:
                    break
                view.begin(stage)
                work.do(stage)
            lost = work.unfinished() if tells else []
            if tells and not inline:
                measure_overheads_of_run(settings.config, settings.folder, work.trials, since=began)
        finally:
            executor.close()
    if tells:
        _tell_end(settings, work, lost)
    for each in lost:
        print(f"{each.state}: {each.trial}: {each.reason}", file=sys.stderr)
    if any(each.reason.startswith(BUDGET) for each in lost):
        done = f"{len(work.trials) - len(lost)} of {len(work.trials)} trials are done"
        print(f"{done}; raise the budget, and the same command goes on from the checkpoints", file=sys.stderr)
        sys.exit(OVER_BUDGET)
    if lost:
        sys.exit(1)


def _tell_end(settings: Settings, work: "Run", lost: "Sequence[Unfinished]") -> None:
    """Notify of the run's end, with the report's verdict if there is one."""
    from raysweep.pipeline.notifications import Message, notify
    from raysweep.storage.atomic_files import read_json

    is_capped = any(each.reason.startswith(BUDGET) for each in lost)
    evidence = settings.folder.evidence
    message = Message(
        run=settings.folder.name,
        state="budget" if is_capped else "failed" if lost else "done",
        done=len(work.trials) - len(lost),
        trials=len(work.trials),
        verdict=str(read_json(evidence)["answer"]["headline"]) if evidence.exists() else "",
        reason=f"{lost[0].trial}: {lost[0].reason}" if lost else "",
    )
    notify(settings.config.notify, message)


@contextmanager
def _told_of_failure(settings: Settings, tells: bool) -> "Iterator[None]":
    """Notify of an error that ends the run; of Ctrl-C nobody needs to be told."""
    from raysweep.errors import RaysweepError
    from raysweep.pipeline.notifications import Message, notify

    try:
        yield
    except RaysweepError as error:
        if tells:
            trials = len(settings.config.trials)
            message = Message(
                run=settings.folder.name, state="failed", done=0, trials=trials, verdict="", reason=str(error)
            )
            notify(settings.config.notify, message)
        raise
