"""`raysweep plan`: prints the trials as a tree with the cost of each, a timeline, and total times by number of GPUs."""

import importlib.util
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from raysweep.cli.gantt import draw_gantt
from raysweep.cli.seed_rows import count_words, label_of, rows_of
from raysweep.cli.settings import Settings
from raysweep.cli.terminal import PrintableConsole, amount, duration, plain_table, size
from raysweep.config.schema import Config
from raysweep.config.search_checks import tried_values
from raysweep.errors import ConfigError, DamagedError, EarlierVersionError
from raysweep.pipeline.outlook import Outlook, foresee
from raysweep.pipeline.plan_notes import describe_transfers
from raysweep.planning.plan_file import makespan_json, plan_of, trial_json
from raysweep.planning.rates import ASSUMED_GPU
from raysweep.planning.run_forecast import RunForecast, forecast_run
from raysweep.readers.locations import name_files
from raysweep.scheduling.capacity import gpus_of_trial
from raysweep.scheduling.gpu_specs import find_gpu_spec
from raysweep.scheduling.records import State, read_record
from raysweep.scheduling.sequential_seeds import release_seeds
from raysweep.scheduling.trials import Trial, expand_trials
from raysweep.storage.printable import say, say_json
from raysweep.storage.run_folder import RunFolder

COUNTS = (1.0, 2.0, 4.0, 8.0)
"""Numbers of GPUs in the JSON output if --gpus is not given."""
LONG_ON_CPU_S = 86_400.0
"""Print a warning if trainings on a CPU take longer than this, in seconds."""
SPAN_TIMES = ("makespan_s", "lower_bound_s", "critical_path_s")


def read_counts(text: str) -> list[float]:
    """Read the numbers in `--gpus 1,2,4,8`; raises ConfigError unless all are whole and above 0."""
    words = [word.strip() for word in text.split(",")]
    if not all(word.isascii() and word.isdigit() and int(word) > 0 for word in words):
        raise ConfigError(f"--gpus: found '{text}'; must be whole numbers above 0, such as 1,2,4,8")
    return [float(word) for word in words]


def calibrate_here(settings: Settings, *, quietly: bool) -> None:
    """Measure this machine with the config's model and data, and store the result."""
    from raysweep.planning.calibration import calibrate, local_model
    from raysweep.planning.calibration_cache import cache_file, keep_calibration, keep_overheads
    from raysweep.planning.cpu_precision import choose_precision, with_precision
    from raysweep.planning.devices import find_device
    from raysweep.planning.gpu_sharing import choose_gpu_sharing

    config, began = settings.config, time.monotonic()
    device = find_device(config)
    console = PrintableConsole(highlight=False, stderr=quietly)

    def say(line: str) -> None:
        console.print(line, markup=False)

    with tempfile.TemporaryDirectory(prefix="raysweep-calibration-") as place:
        test = choose_precision(config)
        trained = with_precision(config, test.precision if test else None)
        rates, data = calibrate(trained, device=device, place=Path(place), say=say)
        for asked in (config, trained):  # a run looks it up with the chosen precision, an earlier plan without
            keep_calibration(asked, device, rates, data)
        if config.resources.cluster_address is None and importlib.util.find_spec("ray") is not None:
            from raysweep.cluster.overheads import measure_overheads

            say("calibrate: starting trials under Ray")
            sharing = choose_gpu_sharing(config.resources, rates, cores=device.cores, on_gpu=device.gpus > 0)
            slots, folder = sharing.together * max(1, device.gpus), RunFolder(Path(place))
            keep_overheads(device, measure_overheads(local_model(config), folder, slots=slots, finish_s=rates.finish_s))
    say(f"calibrate: took {time.monotonic() - began:.0f} s, kept in {cache_file()}")


def print_plan(
    settings: Settings,
    *,
    as_json: bool,
    gpus: Sequence[float] | None,
    forced: Sequence[str] = (),
    extended: Sequence[str] = (),
) -> int:
    """Print the plan, also for these numbers of GPUs; return 0, or the code with which `run` would refuse."""
    outlook = foresee(
        settings.config, settings.profile, settings.folder, command=settings.command(), forced=forced, extended=extended
    )
    trials = expand_trials(settings.config)
    states = {name: _read_state(settings.folder, name, outlook) for name in trials}
    todo = {name: trial for name, trial in trials.items() if name in outlook.todo}
    config, folder = settings.config, settings.folder
    everything = forecast_run(config, trials, folder)
    here = everything.of(todo)
    counts = gpus if gpus is not None else (COUNTS if as_json else ())
    spans = [_forecast_on(count, settings, todo) for count in counts]
    if as_json:
        _print_json(settings, outlook, states, everything, here, spans)
        return outlook.refusal.exit_code if outlook.refusal else 0
    console = PrintableConsole(highlight=False)
    data = name_files(config.data.path) or f"{config.data.sample.rows:,} synthetic texts"
    console.print(f"{folder.name}: {len(trials)} trials on {data}, in {folder.root}", markup=False)
    console.print(f"start: {config.model.start}", markup=False)
    console.print(_trial_table(trials, states, everything))
    if todo:
        console.print()
        console.print(draw_gantt(todo, here.makespan, width=min(console.width, 120)))
        console.print()
        console.print(_span_table([makespan_json(here), *spans]))
    console.print()
    transfers = [describe_transfers(here.trials, folder)] if todo and settings.address is not None else []
    lines = [*_closing_lines(everything, here, todo), *_searched_steps_lines(trials), *transfers]
    for line in [*lines, *_reason_lines(outlook, trials)]:
        console.print(line, markup=False)
    if outlook.refusal is None:
        return 0
    say(f"run would refuse to start:\n{outlook.refusal}", to_stderr=True)
    return outlook.refusal.exit_code


def _read_state(folder: RunFolder, name: str, outlook: Outlook) -> str:
    """Return the state of a trial as the plan shows it."""
    if name in outlook.states:
        return outlook.states[name]
    try:
        record = read_record(folder.trial(name))
    except (DamagedError, EarlierVersionError):
        return "unreadable"  # the printed refusal names the file
    return str(record.state if record else State.PENDING)


def _print_json(
    settings: Settings,
    outlook: Outlook,
    states: Mapping[str, str],
    everything: RunForecast,
    here: RunForecast,
    spans: Sequence[Mapping[str, Any]],
) -> None:
    plan = plan_of(here, spans)
    rows = [
        {
            "trial": name,
            "from": trial.parent,
            "levels": list(trial.settings.levels),
            "seed": trial.seed,
            "steps": trial.settings.steps,
            "examples_seen": trial.settings.steps * trial.settings.batch_size * trial.settings.accumulation,
            "train_documents": everything.trials[name].documents,
            "state": states[name],
            "reason": outlook.reasons.get(name),
            "samples": trial.settings.search.samples if trial.settings.search else None,
            "forecast": trial_json(everything.trials[name]),
            "starts_at_s": plan["trials"].get(name, {}).get("starts_at_s"),
            "ends_at_s": plan["trials"].get(name, {}).get("ends_at_s"),
        }
        for name, trial in expand_trials(settings.config).items()
    ]
    refusal = str(outlook.refusal).splitlines() if outlook.refusal else []
    say_json({"run": settings.folder.name, "refusal": refusal, **plan, "trials": rows})


def _forecast_on(gpus: float, settings: Settings, todo: Mapping[str, Trial]) -> dict[str, Any]:
    """Forecast the trainings on a number of GPUs, as one of `makespans`; no times if a trial needs more GPUs."""
    resources = settings.config.resources
    if any(gpus_of_trial(resources, trial.settings.gpus, gpus=gpus) > gpus for trial in todo.values()):
        unknown = dict.fromkeys((*SPAN_TIMES, "gpu_hours", "cost"))
        return {"gpus": gpus, "slots": gpus, "device": "", "source": "a trial asks for more GPUs", **unknown}
    return makespan_json(forecast_run(settings.config, todo, settings.folder, gpus=gpus))


def _trial_table(trials: Mapping[str, Trial], states: Mapping[str, str], everything: RunForecast) -> Table:
    table = plain_table()
    table.add_column("trial", no_wrap=True)
    for header in ("documents", "examples", "steps", "time", "GPU-hours", "disk"):
        table.add_column(header, justify="right", no_wrap=True)
    table.add_column("state", no_wrap=True)
    rows = rows_of(trials)
    for row, branch in _branches(rows, trials):
        # All shown values but the state are the same for the seeds of an entry.
        names, forecast = rows[row], everything.trials[rows[row][0]]
        gpu_hours = forecast.gpu_hours * len(names)
        samples = f" ×{forecast.samples}" if forecast.samples > 1 else ""
        table.add_row(
            Text(branch, style="dim").append(label_of(row, names) + samples, style="none"),
            "?" if forecast.documents is None else f"{forecast.documents:,}",
            f"{forecast.examples:,}",
            f"{forecast.steps:,}",
            duration(forecast.expected_s * len(names)),
            f"{gpu_hours:,.2f}" if gpu_hours else "-",
            size(forecast.disk_bytes * len(names)),
            count_words(states[name] for name in names),
        )
    return table


def _branches(rows: Mapping[str, Sequence[str]], trials: Mapping[str, Trial]) -> Iterator[tuple[str, str]]:
    """Return the rows with the tree lines that lead to each; children follow their parents."""
    row_of: dict[str | None, str | None] = {name: row for row, names in rows.items() for name in names}
    children: dict[str | None, list[str]] = {}
    for row, names in rows.items():
        children.setdefault(row_of.get(trials[names[0]].parent), []).append(row)

    def below(parent: str | None, before: str) -> Iterator[tuple[str, str]]:
        for row in children.get(parent, ()):
            is_last = row == children[parent][-1]
            yield row, before + ("└─ " if is_last else "├─ ")
            yield from below(row, before + ("   " if is_last else "│  "))

    return below(None, "")


def _searched_steps_lines(trials: Mapping[str, Trial]) -> list[str]:
    searches = {label_of(row, names): trials[names[0]].settings for row, names in rows_of(trials).items()}
    return [
        f"{label}: its steps are searched; the forecast takes every sample to have the most, "
        f"{max(tried_values(settings, 'steps')):,}"
        for label, settings in searches.items()
        if settings.search is not None and "steps" in settings.search.space
    ]


def _reason_lines(outlook: Outlook, trials: Mapping[str, Trial]) -> list[str]:
    """Say why each trial will be trained: one line per trial, or per reason shared by an entry's seeds."""
    names_of: dict[tuple[str, str], list[str]] = {}
    for row, names in rows_of(trials).items():
        for name in names:
            if name in outlook.reasons:
                names_of.setdefault((row, outlook.reasons[name]), []).append(name)
    others = [f"{name}: {reason}" for name, reason in outlook.reasons.items() if name not in trials]
    lines = [
        f"{names[0] if len(names) == 1 else label_of(row, names)}: {reason}"
        for (row, reason), names in names_of.items()
    ]
    return [*others, *lines]


def _span_table(spans: Sequence[Mapping[str, Any]]) -> Table:
    """Make a table of the train stage's duration, this machine first."""
    table = plain_table()
    table.add_column("trainings on", no_wrap=True)
    for header in ("take", "at best", "longest chain", "cost"):
        table.add_column(header, justify="right", no_wrap=True)
    table.add_column("rates", no_wrap=True)
    for span in spans:
        table.add_row(
            f"{span['gpus']:g} × {_gpu_model(span['device'])}" if span["gpus"] else f"CPU, {span['slots']:g} at a time",
            *("-" if span[key] is None else duration(span[key]) for key in SPAN_TIMES),
            amount(span["cost"]),
            span["source"],
        )
    return table


def _closing_lines(everything: RunForecast, here: RunForecast, todo: Mapping[str, Trial]) -> list[str]:
    steps = sum(trial.steps for trial in everything.trials.values())
    lines = [f"{steps:,} steps in all; {len(todo)} of {len(everything.trials)} trials are to be trained"]
    if plan_of_seeds := _describe_sequential_seeds(everything.config, list(everything.trials)):
        lines.append(plan_of_seeds)
    plan = plan_of(here)
    disk = sum(trial.disk_bytes for trial in everything.trials.values())
    hours = f"{plan['gpu_hours']:,.2f} GPU-hours, " if plan["gpu_hours"] else ""
    cost = f", {amount(plan['cost'])} for what the trainings take" if plan["cost"] else ""
    lines.append(f"{hours}{size(disk)} of models{cost}")
    stages = plan["expected_wall_s"]
    if todo and not here.data.rows:
        trainings = duration(stages["train"])
        lines.append(f"the trainings: about {trainings}; the other stages depend on the corpus, which is not here")
    elif todo:
        parts = ", ".join(f"{stage} {duration(seconds)}" for stage, seconds in stages.items() if stage != "total")
        lines.append(f"the whole run: about {duration(stages['total'])} ({parts})")
    if here.sharing.together > 1 and here.device.gpus:
        lines.append(f"{here.sharing.together} trainings share a GPU: {here.sharing.reason}")
    kind = everything.device.name
    if kind != "cpu" and find_gpu_spec(kind) is None:
        lines.append(
            f"GPU '{_gpu_model(kind)}': its kind is not known here; where nothing is measured, taken as {ASSUMED_GPU}"
        )
    if here.device.gpus == 0 and here.makespan.makespan_s > LONG_ON_CPU_S:
        lines.append(
            f"On this CPU the trainings need {here.makespan.makespan_s / 86400:,.0f} days. Use GPUs (cluster.yaml; "
            "`plan --gpus 1,2,4`), or a smaller model: --set model.start=scratch --set model.size=micro"
        )
    if everything.rates.source == "assumed":
        lines.append(
            "These times are assumed, not measured, and rough. `raysweep plan --calibrate` "
            "measures this machine for this model and data in about a minute, and remembers it."
        )
    return lines


def _describe_sequential_seeds(config: Config, trials: Sequence[str]) -> str:
    """Explain how trials are counted if seeds are sequential; '' if they are not."""
    if config.sequential_seeds is None:
        return ""
    first = len(release_seeds(config, expand_trials(config)))
    return (
        f"Seeds are sequential: all {len(trials)} trials are counted, which is an upper bound. {first} are trained "
        "first, the others only as long as a claim that needs them is open."
    )


def _gpu_model(device: str) -> str:
    return device.removeprefix("NVIDIA ").partition("-")[0]
