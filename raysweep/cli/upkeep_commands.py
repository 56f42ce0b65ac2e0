"""The commands that look after runs: read a trial's log, compare, clean up."""

from typing import Annotated

import typer

from raysweep.cli.options import (
    DEFAULT_CONFIG,
    DEFAULT_STORAGE,
    ConfigOption,
    NameOption,
    ProfileOption,
    StorageOption,
    new_group,
    settings_of,
)

app = new_group()


@app.command()
def logs(
    trial: Annotated[str, typer.Argument(help="A trial, or a sample of a search (A2/samples/03).")],
    config: ConfigOption = DEFAULT_CONFIG,
    profile: ProfileOption = None,
    name: NameOption = None,
    storage: StorageOption = DEFAULT_STORAGE,
    lines: Annotated[int, typer.Option("--lines", min=0, help="From its end.")] = 50,
    follow: Annotated[bool, typer.Option("--follow", help="Go on while the run goes on.")] = False,
) -> None:
    """Print the log of a trial's worker."""
    from raysweep.pipeline import logs as log_files
    from raysweep.scheduling.trials import expand_trials

    settings = settings_of(config, profile, name, storage, None)
    log = log_files.find_log(settings.folder, trial, list(expand_trials(settings.config)))
    last, offset = log_files.read_end(log, lines)
    for line in last:
        print(line)
    if follow:
        for line in log_files.follow(log, offset, settings.folder):
            print(line, flush=True)


@app.command()
def diff(
    first: Annotated[str, typer.Argument(help="A run, a trial of the run at hand, or RUN/TRIAL.")],
    second: Annotated[str, typer.Argument(help="Another of the same kind.")],
    config: ConfigOption = DEFAULT_CONFIG,
    profile: ProfileOption = None,
    name: NameOption = None,
    storage: StorageOption = DEFAULT_STORAGE,
    json: Annotated[bool, typer.Option("--json", help="For a program.")] = False,
) -> None:
    """Show the settings and results in which two runs, or two trials, differ."""
    from raysweep.cli.diff_output import print_differences
    from raysweep.pipeline.run_diff import find_differences, read_compared

    folder = settings_of(config, profile, name, storage, None).folder
    one, other = (read_compared(each, folder=folder) for each in (first, second))
    print_differences(one.name, other.name, find_differences(one, other), as_json=json)


@app.command()
def clean(
    config: ConfigOption = DEFAULT_CONFIG,
    profile: ProfileOption = None,
    name: NameOption = None,
    storage: StorageOption = DEFAULT_STORAGE,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
) -> None:
    """Remove what nothing needs any more, and nothing that the report rests on."""
    from raysweep.pipeline.cleanup import find_removable, remove
    from raysweep.pipeline.lock import locked

    folder = settings_of(config, profile, name, storage, None).folder
    if not folder.root.exists():
        print(f"{folder.root}: there is no such run, so there is nothing to clean")
        return
    with locked(folder):
        items = find_removable(folder)
        for item in items:
            print(f"{item.path.relative_to(folder.root)}  {item.size_bytes:,} bytes  {item.why}")
        freed = sum(item.size_bytes for item in items) if dry_run else remove(items)
    print(f"{'would free' if dry_run else 'freed'} {freed:,} bytes in {len(items)} places")
