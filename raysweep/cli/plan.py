"""`raysweep plan`: the trials as a tree, and what a run would do with each."""

import json
from typing import Any

from rich.console import Console
from rich.tree import Tree

from raysweep.cli.settings import Settings
from raysweep.scheduling.records import State, read_record
from raysweep.scheduling.trials import Trial, expand_trials
from raysweep.store import RunFolder, read_json


def print_plan(settings: Settings, *, as_json: bool) -> None:
    """Print the plan for a person or, as JSON, for a program."""
    trials = expand_trials(settings.config)
    rows = {name: _row(settings.folder, trial) for name, trial in trials.items()}
    if as_json:
        print(json.dumps({"run": settings.folder.name, "trials": list(rows.values())}, indent=2))
        return
    console = Console(highlight=False)
    data = settings.config.data.csv or f"{settings.config.data.sample.rows:,} synthetic texts"
    console.print(f"{settings.folder.name}: {len(trials)} trials on {data}, in {settings.folder.root}", markup=False)
    tree = Tree("start: " + settings.config.model.start, guide_style="dim")
    branches: dict[str | None, Tree] = {None: tree}
    for name, trial in trials.items():
        branches[name] = branches[trial.parent].add(_line(rows[name]))
    console.print(tree)
    steps = sum(row["steps"] for row in rows.values())
    todo = [row for row in rows.values() if row["state"] != State.DONE]
    console.print(f"{steps:,} steps in all; {len(todo)} of {len(rows)} trials are to be trained")


def _row(folder: RunFolder, trial: Trial) -> dict[str, Any]:
    record = read_record(folder.trial(trial.name))
    settings = trial.settings
    return {
        "trial": trial.name,
        "from": trial.parent,
        "levels": list(settings.levels),
        "seed": trial.seed,
        "steps": settings.steps,
        "examples_seen": settings.steps * settings.batch_size * settings.accumulation,
        "train_documents": _train_documents(folder, settings.levels),
        "state": record.state if record else State.PENDING,
        "samples": settings.search.samples if settings.search else None,
    }


def _train_documents(folder: RunFolder, levels: tuple[str, ...]) -> int | None:
    """Known once the corpus is prepared."""
    if not folder.splits.exists():
        return None
    counts = read_json(folder.splits)["counts"]
    return sum(int(counts.get(level, {}).get("train", 0)) for level in levels)


def _line(row: dict[str, Any]) -> str:
    parts = [f"{row['trial']:<8}", f"{'+'.join(row['levels'])}", f"{row['steps']:,} steps"]
    if row["train_documents"] is not None:
        parts.append(f"{row['train_documents']:,} documents")
    parts.append(f"{row['examples_seen']:,} examples")
    if row["samples"]:
        parts.append(f"search of {row['samples']}")
    return "  ".join([*parts, f"[{row['state']}]".replace("[", "\\[")])
