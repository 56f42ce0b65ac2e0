"""The commands that do work: `run` and its five stages."""

import sys
from typing import TYPE_CHECKING

from raysweep.cli.options import (
    DEFAULT_CONFIG,
    DEFAULT_STORAGE,
    ConfigOption,
    FailFastOption,
    ForceOption,
    InlineOption,
    NameOption,
    ProfileOption,
    SetOption,
    StorageOption,
    new_group,
    settings_of,
)

if TYPE_CHECKING:
    from raysweep.cli.settings import Settings


app = new_group()
OVER_BUDGET = 3
"""The exit code of a run that stopped at its budget's cap; nothing failed."""


@app.command()
def run(
    config: ConfigOption = DEFAULT_CONFIG,
    profile: ProfileOption = None,
    name: NameOption = None,
    storage: StorageOption = DEFAULT_STORAGE,
    set_: SetOption = None,
    force: ForceOption = None,
    inline: InlineOption = False,
    fail_fast: FailFastOption = False,
) -> None:
    """Do every stage that is not done: prepare, mask, train, evaluate, report."""
    _do_stages(settings_of(config, profile, name, storage, set_), force, inline, stages=None, fail_fast=fail_fast)


@app.command()
def prepare(
    config: ConfigOption = DEFAULT_CONFIG,
    profile: ProfileOption = None,
    name: NameOption = None,
    storage: StorageOption = DEFAULT_STORAGE,
    set_: SetOption = None,
    force: ForceOption = None,
) -> None:
    """Turn the CSV into documents, each with its split; set bad rows aside."""
    _do_stages(settings_of(config, profile, name, storage, set_), force, True, stages=["prepare"])


@app.command()
def mask(
    config: ConfigOption = DEFAULT_CONFIG,
    profile: ProfileOption = None,
    name: NameOption = None,
    storage: StorageOption = DEFAULT_STORAGE,
    set_: SetOption = None,
    force: ForceOption = None,
    inline: InlineOption = False,
) -> None:
    """Make the masked examples, on CPU workers."""
    _do_stages(settings_of(config, profile, name, storage, set_), force, inline, stages=["mask"])


@app.command()
def train(
    config: ConfigOption = DEFAULT_CONFIG,
    profile: ProfileOption = None,
    name: NameOption = None,
    storage: StorageOption = DEFAULT_STORAGE,
    set_: SetOption = None,
    force: ForceOption = None,
    inline: InlineOption = False,
    fail_fast: FailFastOption = False,
) -> None:
    """Train the trials that are not done, concurrently."""
    _do_stages(settings_of(config, profile, name, storage, set_), force, inline, stages=["train"], fail_fast=fail_fast)


@app.command()
def evaluate(
    config: ConfigOption = DEFAULT_CONFIG,
    profile: ProfileOption = None,
    name: NameOption = None,
    storage: StorageOption = DEFAULT_STORAGE,
    set_: SetOption = None,
    force: ForceOption = None,
    inline: InlineOption = False,
) -> None:
    """Score every trained model on every level's test documents."""
    _do_stages(settings_of(config, profile, name, storage, set_), force, inline, stages=["evaluate"])


@app.command()
def report(
    config: ConfigOption = DEFAULT_CONFIG,
    profile: ProfileOption = None,
    name: NameOption = None,
    storage: StorageOption = DEFAULT_STORAGE,
    set_: SetOption = None,
    force: ForceOption = None,
) -> None:
    """Write the report from the saved scores."""
    _do_stages(settings_of(config, profile, name, storage, set_), force, True, stages=["report"])


def _do_stages(
    settings: "Settings", force: list[str] | None, inline: bool, *, stages: list[str] | None, fail_fast: bool = False
) -> None:
    from raysweep.cli.view import view_for
    from raysweep.pipeline.devices import find_device
    from raysweep.pipeline.foreseeing import with_packing
    from raysweep.pipeline.inline import InlineExecutor
    from raysweep.pipeline.lock import locked
    from raysweep.pipeline.run import STAGES, Run
    from raysweep.pipeline.work import Executor
    from raysweep.scheduling.budget import Purse

    device = find_device(settings.config)
    purse = Purse(settings.folder, settings.config.budget, settings.config.prices, device=device.name)
    executor: Executor
    if inline:
        executor = InlineExecutor(settings.config.resources.cpus_per_trial, fail_fast=fail_fast, purse=purse)
    else:
        from raysweep.cluster.executor import RayExecutor

        executor = RayExecutor(with_packing(settings.config), settings.folder, fail_fast=fail_fast, purse=purse)
    with locked(settings.folder), view_for(settings) as view:
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
            lost = work.unfinished() if stages is None or "train" in stages else []
        finally:
            executor.close()
    for each in lost:
        print(f"{each.state}: {each.trial}: {each.reason}", file=sys.stderr)
    if any(each.reason.startswith("budget: ") for each in lost):
        done = f"{len(work.trials) - len(lost)} of {len(work.trials)} trials are done"
        print(f"{done}; raise the budget, and the same command goes on from the checkpoints", file=sys.stderr)
        sys.exit(OVER_BUDGET)
    if lost:
        sys.exit(1)
