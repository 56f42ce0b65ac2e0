"""The commands that execute a run: `run` and its stages."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from raysweep.cli.settings import ExtendOption, ForceOption, Settings, new_group, with_settings
from raysweep.errors import RaysweepError, ThinLevelsError
from raysweep.storage.printable import say, shorten_line, shorten_quotes

if TYPE_CHECKING:
    from raysweep.config.budget_settings import Event
    from raysweep.pipeline.status import Unfinished
    from raysweep.pipeline.tasks import Executor
    from raysweep.staging.run_staging import Staging


app = new_group()
OVER_BUDGET = 3
"""Exit code of a run that stopped at its budget's cap although nothing failed."""
BUDGET = "budget: "
"""Prefix of the reason of a trial that was stopped at the budget's cap."""


InlineOption = Annotated[bool, typer.Option("--inline", help="Work in this process, one task at a time, without Ray.")]
FailFastOption = Annotated[
    bool,
    typer.Option(
        "--fail-fast/--keep-going",
        help="When a trial fails, stop the others at a checkpoint; by default only its children are blocked.",
    ),
]


@app.command()
@with_settings(allow_leaks=True, skip_empty=True, quiet=True)
def run(
    settings: Settings,
    force: ForceOption = None,
    inline: InlineOption = False,
    fail_fast: FailFastOption = False,
    extend: ExtendOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only print the plan, like `raysweep plan`; files are compared by size.")
    ] = False,
) -> None:
    """Execute every stage that is not done, from prepare to report."""
    if dry_run:
        from raysweep.cli.plan_output import print_plan

        with replace(settings, fetches="no checkpoints").fetched() as current:
            raise typer.Exit(print_plan(current, as_json=False, gpus=None, forced=force or (), extended=extend or ()))
    _do_stages(settings, [], force, extend, inline=inline, fail_fast=fail_fast)


@app.command()
@with_settings(skip_empty=True, quiet=True)
def prepare(settings: Settings, force: ForceOption = None) -> None:
    """Turn the corpus into documents, each with its split."""
    _do_stages(settings, ["prepare"], force, inline=True)


@app.command()
@with_settings(skip_empty=True, quiet=True)
def mask(settings: Settings, force: ForceOption = None, inline: InlineOption = False) -> None:
    """Make the masked examples, on CPU workers."""
    _do_stages(settings, ["mask"], force, inline=inline)


@app.command()
@with_settings(skip_empty=True, quiet=True)
def train(
    settings: Settings,
    force: ForceOption = None,
    extend: ExtendOption = None,
    inline: InlineOption = False,
    fail_fast: FailFastOption = False,
) -> None:
    """Train the trials that are not done, in parallel."""
    _do_stages(settings, ["train"], force, extend, inline=inline, fail_fast=fail_fast)


@app.command()
@with_settings(allow_leaks=True, skip_empty=True, quiet=True, needs_run=True)
def evaluate(settings: Settings, force: ForceOption = None, inline: InlineOption = False) -> None:
    """Score every trained model on every level's test documents."""
    _do_stages(settings, ["evaluate"], force, inline=inline)


@app.command()
@with_settings(allow_leaks=True, skip_empty=True, quiet=True, needs_run=True)
def report(settings: Settings, force: ForceOption = None) -> None:
    """Write the report from the saved scores."""
    _do_stages(settings, ["report"], force, inline=True)


def _do_stages(
    settings: Settings,
    stages: list[str],
    force: list[str] | None,
    extend: list[str] | None = None,
    *,
    inline: bool,
    fail_fast: bool = False,
) -> None:
    """Run the stages; if levels with too few texts turn up and may be left out, run again without those levels."""
    try:
        _do_stages_with(settings, stages, force, extend, inline=inline, fail_fast=fail_fast)
    except ThinLevelsError:
        from raysweep.pipeline.thin_levels import find_thin_levels, read_counts

        if not settings.skips_empty or settings.left_out:
            raise
        thin = tuple(find_thin_levels(settings.config, read_counts(settings.folder)))
        if not settings.is_quiet:
            say(f"--skip-empty: without {', '.join(thin)}, whose texts are too few; their texts are left out")
        _do_stages_with(replace(settings, left_out=thin), stages, force, extend, inline=inline, fail_fast=fail_fast)


def _do_stages_with(
    settings: Settings,
    stages: list[str],
    force: list[str] | None,
    extend: list[str] | None,
    *,
    inline: bool,
    fail_fast: bool,
) -> None:
    from raysweep.cli.progress_view import view_for
    from raysweep.config.secrets import refuse_unset
    from raysweep.pipeline.lock import locked
    from raysweep.pipeline.run import Run, refuse_missing
    from raysweep.planning.measured_overheads import measure_overheads_of_run
    from raysweep.staging.run_staging import staged_run
    from raysweep.storage.clock import unix_seconds

    began = unix_seconds()
    refuse_unset(settings.config.notify)
    if settings.address is None and not settings.folder.root.exists():
        # Before the lock, which creates the folder.
        refuse_missing(stages, (), settings.command())
    trains = not stages or "train" in stages
    with (
        locked(settings.folder),
        view_for(settings) as view,
        _failure_notified(settings, trains),
        staged_run(settings.address, settings.folder.name, view.say) as staging,
    ):
        if settings.address is not None:
            # The fetched run may record which levels are left out.
            settings = replace(settings)
        executor = _executor(settings, staging, inline=inline, fail_fast=fail_fast)
        try:
            run = Run(
                config=settings.config,
                profile=settings.profile,
                folder=settings.folder,
                executor=executor,
                listener=view,
                command=settings.command(),
                forced=force or [],
                staging=staging,
                extended=extend or [],
            )
            unfinished = run.do(*stages)
            if trains and not inline:
                measure_overheads_of_run(run.forecast, settings.folder, run.trials, since=began)
        finally:
            executor.close()
    if trains:
        _end_training(settings, unfinished, done=len(run.trials) - len(unfinished))


def _executor(settings: Settings, staging: "Staging", *, inline: bool, fail_fast: bool) -> "Executor":
    from raysweep.pipeline.inline_executor import InlineExecutor
    from raysweep.planning.budget import BudgetWatch
    from raysweep.planning.devices import find_device
    from raysweep.planning.run_forecast import settle_trials_per_gpu

    config = settings.config
    kind = config.resources.accelerator_type or find_device(config).name
    budget = BudgetWatch(settings.folder, config.budget, config.prices, device=kind)
    if inline:
        return InlineExecutor(config.resources.cpus_per_trial, fail_fast=fail_fast, budget=budget)
    from raysweep.cluster.ray_executor import RayExecutor

    return RayExecutor(
        settle_trials_per_gpu(config), settings.folder, fail_fast=fail_fast, budget=budget, staging=staging
    )


def _end_training(settings: Settings, unfinished: "Sequence[Unfinished]", *, done: int) -> None:
    """Notify of the run's end, print the trials that are not done, and exit with the matching code."""
    from raysweep.storage.atomic_files import read_json

    is_over_budget = any(trial.reason.startswith(BUDGET) for trial in unfinished)
    evidence = settings.folder.evidence
    _notify(
        settings,
        "budget" if is_over_budget else "failed" if unfinished else "done",
        reason=f"{unfinished[0].trial}: {unfinished[0].reason}" if unfinished else "",
        done=done,
        verdict=str(read_json(evidence)["answer"]["headline"]) if evidence.exists() else "",
    )
    for trial in unfinished:
        say(_failure_line(settings, trial), to_stderr=True)
    if is_over_budget:
        trials = f"{done} of {done + len(unfinished)} trials are done"
        say(f"{trials}; raise the budget, and the same command continues from the checkpoints", to_stderr=True)
        raise typer.Exit(OVER_BUDGET)
    if unfinished:
        raise typer.Exit(1)


def _failure_line(settings: Settings, trial: "Unfinished") -> str:
    """Describe a failure in one short line, with the command that shows the whole log."""
    from raysweep.cli.progress_view import LONGEST_REASON
    from raysweep.staging.run_command import place_options

    reason = shorten_quotes(trial.reason.strip())
    first = shorten_line(reason.partition("\n")[0], LONGEST_REASON)
    log = f" (`raysweep logs {trial.trial} {place_options(settings.folder)}`)" if first != reason else ""
    return f"{trial.state}: {trial.trial}: {first}{log}"


@contextmanager
def _failure_notified(settings: Settings, trains: bool) -> "Iterator[None]":
    """Notify of an error that ends a training, but not of Ctrl-C."""
    try:
        yield
    except RaysweepError as error:
        if trains and not isinstance(error, ThinLevelsError):
            _notify(settings, "failed", reason=str(error))
        raise


def _notify(settings: Settings, state: "Event", *, reason: str, done: int = 0, verdict: str = "") -> None:
    from raysweep.pipeline.notifications import Message, notify
    from raysweep.scheduling.trials import expand_trials

    trials = len(expand_trials(settings.config))
    message = Message(run=settings.folder.name, state=state, done=done, trials=trials, verdict=verdict, reason=reason)
    notify(settings.config.notify, message)
