"""`raysweep plan --power PILOT`: prints how large an experiment must be to find an effect, from a pilot's spreads."""

from collections.abc import Sequence
from math import log
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from raysweep.cli.settings import Settings
from raysweep.cli.terminal import PrintableConsole, amount, plain_table
from raysweep.errors import ConfigError, InputError
from raysweep.planning.power import LevelSpread, plan_levels
from raysweep.planning.run_forecast import forecast_run
from raysweep.scheduling.trials import expand_trials
from raysweep.staging.run_command import run_command
from raysweep.storage.atomic_files import read_json
from raysweep.storage.named_folder import open_run_folder
from raysweep.storage.printable import say_json
from raysweep.storage.run_folder import RunFolder

SEEDS = (1, 3, 5, 10)
"""Numbers of trainings of each model to compare."""
KINDS = {"specialised": "own model", "transfer": "fine-tuned"}


def print_power(settings: Settings, pilot: str, *, effect: float | None, as_json: bool) -> None:
    """Print the learners that each level needs for several numbers of seeds, and what those trainings cost.

    Args:
        pilot: the name of a finished run, or its folder.
        effect: a ratio of perplexities; None for the config's smallest effect of interest.

    Raises:
        ConfigError: the effect is not above 1.
        InputError: the pilot has no report, or one of an earlier version.
    """
    config = settings.config
    ratio = config.report.hypotheses.specialisation.smallest_effect if effect is None else effect
    if not ratio > 1.0:
        raise ConfigError(f"--effect: found {ratio:g}; must be a ratio of perplexities above 1, such as 1.05")
    path = Path(pilot).expanduser()
    folder = RunFolder(path.resolve()) if path.is_dir() else open_run_folder(settings.storage, pilot)
    spreads = _read_spreads(folder)
    options = [_option(settings, spreads, seeds, log(ratio)) for seeds in SEEDS]
    if as_json:
        say_json({"pilot": folder.name, "effect": ratio, "confidence": config.report.confidence, "options": options})
        return
    console = PrintableConsole(highlight=False)
    confidence = f"{config.report.confidence * 100:g} %"
    console.print(
        f"For 80 % power at a ratio of perplexities of {ratio:g} on each level ({confidence} confidence, corrected "
        f"over the levels), by the spreads of the pilot {folder.name}:",
        markup=False,
    )
    console.print(_needs_table(spreads, options))
    console.print(_cost_table(options))
    for line in _notes(spreads):
        console.print(line, markup=False)


def _read_spreads(folder: RunFolder) -> list[LevelSpread]:
    if not folder.evidence.exists():
        raise InputError(f"--power: {folder.evidence}: not there; finish the pilot, or name a run that has a report")
    rows = read_json(folder.evidence).get("spreads")
    if rows is None:
        again = run_command(folder, "--force", "report", stage="report")
        raise InputError(f"--power: {folder.evidence} is of an earlier version; do {again}")
    if not rows:
        raise InputError(
            f"--power: {folder.evidence}: no level has a general model, one of its own or a fine-tuned one, and enough "
            "learners; a pilot needs these"
        )
    return [LevelSpread(**row) for row in rows]


def _option(settings: Settings, spreads: Sequence[LevelSpread], seeds: int, effect: float) -> dict[str, Any]:
    """Compute what an experiment with this number of seeds needs and costs."""
    config = settings.config.model_copy(update={"seeds": seeds})
    needs = plan_levels(spreads, effect=effect, seeds=seeds, confidence=config.report.confidence)
    trials = expand_trials(config)
    forecast = forecast_run(config, trials, settings.folder)
    return {
        "seeds": seeds,
        "levels": [
            {"level": need.level, "other": need.other, "learners": need.learners, "documents": need.documents}
            for need in needs
        ],
        "trainings": len(trials),
        "gpu_hours": forecast.gpu_hours,
        "cpu_hours": sum(trial.expected_s for trial in forecast.trials.values() if not trial.gpus) / 3600,
        "cost": forecast.cost,
    }


def _needs_table(spreads: Sequence[LevelSpread], options: Sequence[dict[str, Any]]) -> Table:
    table = plain_table()
    for header in ("level", "general model against", "in the pilot"):
        table.add_column(header)
    for option in options:
        table.add_column(f"{option['seeds']} seed{'s' if option['seeds'] > 1 else ''}", justify="right")
    for place, spread in enumerate(spreads):
        needs = [option["levels"][place] for option in options]
        cells = [
            "never" if need["learners"] is None else f"{need['learners']:,} ({need['documents']:,})" for need in needs
        ]
        table.add_row(spread.level, KINDS[spread.other], f"{spread.learners:,}", *map(Text, cells))
    table.caption = "test learners, and in brackets their test documents"
    return table


def _cost_table(options: Sequence[dict[str, Any]]) -> Table:
    table = plain_table()
    for header in ("seeds", "trainings", "GPU-hours", "CPU-hours", "cost"):
        table.add_column(header, justify="right")
    for option in options:
        table.add_row(
            str(option["seeds"]),
            f"{option['trainings']:,}",
            f"{option['gpu_hours']:,.1f}",
            f"{option['cpu_hours']:,.1f}",
            amount(option["cost"]),
        )
    return table


def _notes(spreads: Sequence[LevelSpread]) -> list[str]:
    notes = ["With 1 seed a verdict is one about the trained models: another training may come out differently."]
    if all(spread.seed_spread is None for spread in spreads):
        notes.append(
            "The pilot trained each model once, so what trainings add is unknown and not counted. Give it seeds: 3."
        )
    if any(spread.prompt_error > 0.0 for spread in spreads):
        notes.append("Writing prompts: as many as the pilot had.")
    notes.append("'never': trainings, or writing prompts, differ so much that no number of learners is enough.")
    return notes
