"""The commands that look at a config, a run or a machine, and change nothing."""

import sys
from typing import Annotated

import typer

from raysweep.cli.options import (
    DEFAULT_CONFIG,
    DEFAULT_STORAGE,
    ConfigOption,
    NameOption,
    ProfileOption,
    SetOption,
    StorageOption,
    new_group,
    settings_of,
)

app = new_group()


@app.command()
def plan(
    config: ConfigOption = DEFAULT_CONFIG,
    profile: ProfileOption = None,
    name: NameOption = None,
    storage: StorageOption = DEFAULT_STORAGE,
    set_: SetOption = None,
    json: Annotated[bool, typer.Option("--json", help="For a program.")] = False,
    gpus: Annotated[str | None, typer.Option("--gpus", help="Also on so many GPUs, such as 1,2,4,8.")] = None,
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="Measure this machine first (under a minute), and remember it.")
    ] = False,
) -> None:
    """Show the trials, what each takes, when it would run, and how long a run lasts."""
    from raysweep.cli.plan_output import calibrate_here, print_plan, read_counts

    settings, counts = settings_of(config, profile, name, storage, set_), read_counts(gpus) if gpus else None
    if calibrate:
        calibrate_here(settings, quietly=json)
    print_plan(settings, as_json=json, gpus=counts)


@app.command()
def check(
    config: ConfigOption = DEFAULT_CONFIG,
    profile: ProfileOption = None,
    name: NameOption = None,
    storage: StorageOption = DEFAULT_STORAGE,
    set_: SetOption = None,
    schema: Annotated[bool, typer.Option("--schema", help="Print the file's JSON Schema, for editors.")] = False,
) -> None:
    """Say everything that is wrong with the config; nothing is run."""
    import json

    from raysweep.config.loading import check_file, config_schema

    if schema:
        print(json.dumps(config_schema(), indent=2))
        return
    if profile is None and not set_:
        for each, found in check_file(config).items():
            print(f"{config.name}: profile {each}: fine, {len(found.trials)} trials")
    else:
        settings = settings_of(config, profile, name, storage, set_)
        print(f"{config.name}: profile {settings.profile}: fine, {len(settings.config.trials)} trials")


@app.command()
def status(
    config: ConfigOption = DEFAULT_CONFIG,
    profile: ProfileOption = None,
    name: NameOption = None,
    storage: StorageOption = DEFAULT_STORAGE,
    set_: SetOption = None,
    watch: Annotated[bool, typer.Option("--watch", help="Go on showing it until the run ends.")] = False,
) -> None:
    """Show where a run stands; from another terminal too."""
    from raysweep.cli.progress_view import print_status

    print_status(settings_of(config, profile, name, storage, set_), watch=watch)


@app.command()
def doctor(
    config: ConfigOption = DEFAULT_CONFIG,
    profile: ProfileOption = None,
    name: NameOption = None,
    storage: StorageOption = DEFAULT_STORAGE,
    set_: SetOption = None,
) -> None:
    """Check this machine against what the config needs."""
    from raysweep.cli.doctor import examine

    if not examine(settings_of(config, profile, name, storage, set_)):
        sys.exit(1)


@app.command()
def preview(
    config: ConfigOption = DEFAULT_CONFIG,
    profile: ProfileOption = None,
    name: NameOption = None,
    storage: StorageOption = DEFAULT_STORAGE,
    set_: SetOption = None,
    level: Annotated[str | None, typer.Option("--level", help="Of this level only.")] = None,
    count: Annotated[int, typer.Option("--count", min=1, help="Examples to show.")] = 5,
) -> None:
    """Show masked examples of a run in colour: context, blanks, answers."""
    from raysweep.cli.preview_output import print_examples

    print_examples(settings_of(config, profile, name, storage, set_), level=level, count=count)
