"""The commands that inspect a config, a run or a machine; `clean` also deletes files that are no longer needed."""

from typing import Annotated

import typer

from raysweep.cli.settings import ExtendOption, ForceOption, Settings, new_group, with_settings
from raysweep.storage.printable import say, say_json, shown

app = new_group()

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for a program.")]


@app.command()
@with_settings(skip_empty=True, fetches="no checkpoints")
def plan(
    settings: Settings,
    json: JsonOption = False,
    gpus: Annotated[
        str | None, typer.Option("--gpus", help="Also forecast these numbers of GPUs, such as 1,2,4,8.")
    ] = None,
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="Measure this machine first (about a minute), and store the result.")
    ] = False,
    force: ForceOption = None,
    power: Annotated[
        str | None,
        typer.Option("--power", help="Print the learners and seeds needed for 80 % power, from this finished run."),
    ] = None,
    effect: Annotated[
        float | None, typer.Option("--effect", help="With --power: the ratio of perplexities to detect.")
    ] = None,
    extend: ExtendOption = None,
) -> None:
    """Show what a run would do, cost and refuse.  Files are compared by size, not by digest."""
    if power is not None:
        from raysweep.cli.power_output import print_power

        print_power(settings, power, effect=effect, as_json=json)
        return
    from raysweep.cli.plan_output import calibrate_here, print_plan, read_counts

    counts = read_counts(gpus) if gpus else None
    if calibrate:
        calibrate_here(settings, quietly=json)
    if code := print_plan(settings, as_json=json, gpus=counts, forced=force or (), extended=extend or ()):
        raise typer.Exit(code)


@app.command()
@with_settings(reads_config=False)
def check(
    settings: Settings,
    schema: Annotated[bool, typer.Option("--schema", help="Print the file's JSON Schema, for editors.")] = False,
) -> None:
    """Report every mistake in the config, the start and the corpus."""
    from raysweep.config.loading import check_file, config_schema
    from raysweep.config.training_settings import SCRATCH
    from raysweep.errors import ConfigError, InputError
    from raysweep.model.start_folder import check_start
    from raysweep.pipeline.corpus_survey import is_at_hand, survey_corpus
    from raysweep.pipeline.further_corpora import survey_corpus_files
    from raysweep.readers.locations import as_list, is_remote, local_files, name_files
    from raysweep.scheduling.trials import expand_trials

    if schema:
        say_json(config_schema())
        return
    is_asked = settings.asked_profile is not None or bool(settings.overrides)
    if not is_asked:
        profiles = check_file(settings.file)
    else:
        settings.refuse_mistakes()
        profiles = {settings.profile: settings.config}
    problems, starts, corpora = [], {}, {}
    for profile, config in profiles.items():
        try:
            starts[profile] = check_start(config)
            if is_at_hand(config) and (is_asked or local_files(config.data.path)):
                survey = survey_corpus(config)
                corpora[profile] = f"; corpus: {survey}" if survey else ""
            elif is_at_hand(config) and config.data.path is not None:
                corpora[profile] = f"; corpus: not read, there is no {shown(name_files(config.data.path))}"
            for name, further in config.corpora.items():
                if not any(map(is_remote, as_list(further.path))) and (is_asked or local_files(further.path)):
                    survey_corpus_files(config, name)
            if config.masking.function is not None:
                from raysweep.masking.mask_function import load_mask_function  # NumPy, which others need not wait for

                load_mask_function(config.masking.function)
        except (ConfigError, InputError) as error:
            problems.append(f"{settings.file.name}: profile {profile}: {error}")
    if problems:
        raise ConfigError(*problems)
    for profile, config in profiles.items():
        start = "" if config.model.start == SCRATCH else f"; start: {starts[profile]}"
        corpus = corpora.get(profile, "")
        say(f"{settings.file.name}: profile {profile}: fine, {len(config.trials)} trials{start}{corpus}")
        trained = {level for trial in expand_trials(config).values() for level in trial.settings.levels}
        if idle := [level for level in config.data.levels if level not in trained]:
            say(f"{settings.file.name}: profile {profile}: note: no trial trains on {', '.join(idle)} of data.levels")


@app.command()
@with_settings(skip_empty=True, fetches="small", needs_run=True)
def status(
    settings: Settings,
    watch: Annotated[bool, typer.Option("--watch", help="Refresh every second until the run ends.")] = False,
    json: JsonOption = False,
) -> None:
    """Show the progress of a run, also from another terminal."""
    from raysweep.cli.progress_view import print_status

    print_status(settings, watch=watch, as_json=json)


@app.command()
def runs(
    storage: Annotated[str, typer.Option("--storage", help="Folder or address of the run folders.")] = "runs",
    json: JsonOption = False,
) -> None:
    """List the runs with their progress and answers."""
    from raysweep.cli.run_list import print_runs
    from raysweep.staging.bucket_address import is_bucket_uri
    from raysweep.staging.run_view import fetch_runs

    print_runs(str(fetch_runs(storage)) if is_bucket_uri(storage) else storage, as_json=json)


@app.command()
@with_settings()
def doctor(settings: Settings, json: JsonOption = False) -> None:
    """Check this machine against what the config needs."""
    from raysweep.cli.doctor import examine

    if not examine(settings, as_json=json):
        raise typer.Exit(1)


@app.command()
@with_settings(fetches="no weights", needs_run=True)
def preview(
    settings: Settings,
    level: Annotated[str | None, typer.Option("--level", help="Only this level.")] = None,
    count: Annotated[int, typer.Option("--count", min=1, help="Number of examples.")] = 5,
) -> None:
    """Show masked examples of a run, in colour."""
    from raysweep.cli.preview_output import print_examples

    print_examples(settings, level=level, count=count)


@app.command()
@with_settings(overrides=False, reads_config=False, fetches="small", needs_run=True)
def logs(
    settings: Settings,
    trial: Annotated[str, typer.Argument(help="A trial, or a sample of a search (A2/samples/03).")],
    lines: Annotated[int, typer.Option("--lines", min=0, help="Number of lines from the end.")] = 50,
    follow: Annotated[bool, typer.Option("--follow", help="Print new lines until the run ends.")] = False,
) -> None:
    """Print the log of a trial's worker."""
    from raysweep.config.loading import read_resolved_config
    from raysweep.pipeline import logs as log_files
    from raysweep.scheduling.trials import expand_trials

    # The run may be of another profile, or have trials that --set gave it.
    is_named = settings.name is not None or settings.folder.config.exists()
    config = read_resolved_config(settings.folder) if is_named else settings.config
    log = log_files.find_log(settings.folder, trial, list(expand_trials(config)))
    last_lines, offset = log_files.read_end(log, lines)
    for line in last_lines:
        say(line)
    if follow:
        for line in log_files.follow(log, offset, settings.folder):
            say(line)


@app.command()
@with_settings(overrides=False, fetches="small")
def diff(
    settings: Settings,
    first: Annotated[str, typer.Argument(help="A run, a trial of the named run, or RUN/TRIAL.")],
    second: Annotated[str, typer.Argument(help="Another of the same kind.")],
    json: JsonOption = False,
) -> None:
    """Show where the settings and results of two runs differ."""
    from raysweep.cli.diff_output import print_differences
    from raysweep.pipeline.run_diff import find_differences, read_compared

    with settings.fetched(*(name.partition("/")[0] for name in (first, second))):
        left, right = (read_compared(name, folder=settings.folder) for name in (first, second))
    print_differences(left.name, right.name, find_differences(left, right), as_json=json)


@app.command()
@with_settings(overrides=False, fetches="all", needs_run=True)
def check_run(settings: Settings) -> None:
    """Compare every file of a run with its records."""
    from collections import Counter

    from raysweep.pipeline.file_check import check_files

    files = check_files(settings.folder)
    for file in files:
        say(f"{file.state:8} {_on_one_line(file.path)}" + (f"  {file.detail}" if file.detail else ""))
    counts = Counter(file.state for file in files)
    say(", ".join(f"{counts[state]:,} {state}" for state in ("ok", "changed", "missing", "other", "unknown")))
    if any(file.is_bad for file in files):
        raise typer.Exit(1)


@app.command()
@with_settings(overrides=False)
def clean(
    settings: Settings,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list what would be deleted.")] = False,
) -> None:
    """Delete unneeded files, never those that the report rests on."""
    from raysweep.pipeline.cleanup import find_removable, remove
    from raysweep.pipeline.lock import locked
    from raysweep.staging.run_staging import staged_run

    folder = settings.folder
    if settings.address is None and not folder.root.exists():
        say(f"{folder.root}: there is no such run, so there is nothing to clean")
        return
    with locked(folder), staged_run(settings.address, folder.name, say):
        items = find_removable(folder)
        for item in items:
            say(f"{_on_one_line(str(item.path.relative_to(folder.root)))}  {item.size_bytes:,} bytes  {item.why}")
        freed = sum(item.size_bytes for item in items) if dry_run else remove(items)
    say(f"{'would free' if dry_run else 'freed'} {freed:,} bytes in {len(items)} places")


def _on_one_line(path: str) -> str:
    """Escape line breaks, so that a file's name cannot look like another line of the list."""
    return path.replace("\n", r"\n")
