"""The tables of what the run cost and how it went, built from the evidence alone."""

from collections.abc import Mapping
from typing import Any

from raysweep.evidence import formats
from raysweep.report.contents import ROLE_NAMES, levels_said
from raysweep.report.tables import (
    Cell,
    Column,
    Table,
    interval,
    interval_column,
    number,
    number_column,
    text_column,
    word,
)

Values = Mapping[str, Any]

STRATEGY_NAMES = {
    "start": "No training (common start)",
    "general": "One general model",
    "specialised": "A model per level",
    "transfer": "General model, fine-tuned per level",
}


def strategies_table(evidence: Values) -> Table:
    """The ways to serve all levels: what they give and what they cost."""
    general = _perplexity_of(evidence, "general")
    rows = []
    for one in evidence["strategies"]:
        cost, value = one["cost"] or {}, one["perplexity"]["value"]
        rows.append(
            (
                word(STRATEGY_NAMES[one["name"]]),
                interval(one["perplexity"], formats.perplexity),
                number(general / value if general and one["name"] != "general" else None, formats.percent),
                number(cost.get("models"), formats.count),
                number(cost.get("bytes"), formats.size),
                number(cost.get("trainings"), formats.count),
                number(cost.get("hours"), formats.hours),
                number(_hours_per_percent(evidence, one), formats.hours),
            )
        )
    return Table(
        name="strategies",
        caption=f"Ways to serve {levels_said(evidence)} (perplexity: geometric mean over the levels; one seed's cost)",
        columns=(
            text_column("Way", "way"),
            interval_column("Perplexity", "ppl"),
            number_column("Gain over general", "general_over_this"),
            number_column("Models", "models"),
            number_column("On disk", "bytes"),
            number_column("Trainings", "trainings"),
            number_column(f"{_hours_of(evidence)}-time", "hours"),
            number_column("Extra time per 1 % gain", "hours_per_percent"),
        ),
        rows=tuple(rows),
    )


def unknown_level_table(evidence: Values) -> Table:
    """What a learner of unknown level gets: one model must do for everyone."""
    roles = {row["name"]: ROLE_NAMES[row["role"]] for row in evidence["matrix"]["rows"]}
    rows = [
        (word(one["name"], detail=roles[one["name"]]), interval(one["perplexity"], formats.perplexity))
        for one in evidence["for_everyone"]
    ]
    return Table(
        name="unknown_level",
        caption="If the learner's level is not known: one model for everyone (geometric mean over the levels)",
        columns=(text_column("Model", "model"), interval_column("Perplexity", "ppl")),
        rows=tuple(rows),
    )


def planned_table(evidence: Values) -> Table:
    """Planned and actual time of every stage and trial that a plan was made for."""
    costs = evidence["costs"]
    named = [(f"stage {one['stage']}", one) for one in costs["stages"]] + [
        (one["trial"], one) for one in costs["trials"]
    ]
    rows = []
    for name, one in named:
        planned, actual = one["planned_s"], one["actual_s"]
        rows.append(
            (
                word(name),
                number(None if planned is None else planned / 3600, formats.hours),
                number(None if actual is None else actual / 3600, formats.hours),
                number(actual / planned if planned and actual is not None else None, formats.percent),
            )
        )
    return Table(
        name="planned",
        caption="Time planned before the run and time taken (a trial: all its attempts, from start to record)",
        columns=(
            text_column("What", "what"),
            number_column("Planned", "planned_hours"),
            number_column("Actual", "actual_hours"),
            number_column("Off by", "actual_over_planned"),
        ),
        rows=tuple(rows),
    )


def ledger_table(evidence: Values) -> Table:
    """What the slots' seconds went into."""
    ledger = evidence["costs"]["ledger"] or {"unit": "cpu", "parts": []}
    unit = {"gpu": "GPU", "cpu": "CPU"}.get(ledger["unit"], "Slot")
    rows = [
        (
            word(_PARTS.get(one["part"], one["part"])),
            number(one["seconds"] / 3600, formats.hours),
            number(one["share"], formats.share),
        )
        for one in ledger["parts"]
    ]
    return Table(
        name="ledger",
        caption=f"What every second of the {unit if unit != 'Slot' else 'slot'}s went into, all trainings together",
        columns=(
            text_column("Part", "part"),
            number_column(f"{unit} time", "hours"),
            number_column("Share", "share"),
        ),
        rows=tuple(rows),
    )


_PARTS = {
    "useful": "Steps that are in the models",
    "evaluating": "Validation",
    "checkpointing": "Checkpoints",
    "loading": "Loading and exporting",
    "starting": "Starting and stopping processes",
    "wasted": "Lost work",
}


def trainings_table(evidence: Values) -> Table:
    """Every trial, the failed ones included."""
    rows = []
    for one in evidence["trainings"]:
        steps = f"{one['steps']:,} of {one['steps_asked']:,}".replace(" ", formats.SPACE) if one["steps"] else ""
        is_general = set(one["levels"]) == set(evidence["levels"])
        note = "; ".join(part for part in (one["reason"], one["stopped"]) if part)
        rows.append(
            (
                word(one["trial"], detail=f"from{formats.SPACE}{one['parent']}" if one["parent"] else ""),
                word(f"all {len(one['levels'])}" if is_general else ", ".join(one["levels"])),
                word(one["state"], detail=note),
                word(steps),
                number(one["best_step"], formats.count),
                number(one["best_losses"].get(evidence["settings"]["metric"]), formats.loss),
                number(one["tokens"], formats.count),
                number(one["hours"], formats.hours),
                word(one["device"] or formats.NONE),
                number(one["parameters"], formats.count),
                number(one["bytes"], formats.size),
                number(one["peak_memory_bytes"], formats.size),
            )
        )
    return Table(
        name="trainings",
        caption="The trainings: how far they went, what they cost, what they weigh",
        columns=(
            text_column("Trial", "trial"),
            text_column("Levels", "levels"),
            text_column("State", "state"),
            text_column("Steps", "steps"),
            number_column("Best step", "best_step"),
            number_column("Validation loss", "best_valid_nats_per_token"),
            number_column("Tokens seen", "tokens"),
            number_column("Time", "hours"),
            text_column("Device", "device"),
            number_column("Parameters", "parameters"),
            number_column("On disk", "bytes"),
            number_column("Peak memory", "peak_memory_bytes"),
        ),
        rows=tuple(rows),
    )


def generation_table(evidence: Values) -> Table:
    """How near the greedy answers come to what the learners wrote."""
    measures = {
        "top1_accuracy": "Words right",
        "unigram_recall": "Unigram recall",
        "unigram_f1": "Unigram F1",
        "bigram_recall": "Bigram recall",
        "bigram_f1": "Bigram F1",
    }
    rows = []
    for model, found in _generated(evidence, "overall"):
        if found["words"] or found["longer_answers"]:
            answers = found["words"] + found["longer_answers"]
            rows.append(
                (
                    word(model),
                    number(answers, formats.count),
                    *(number(found[name], formats.share) for name in measures),
                    number(found["unfinished"], formats.count),
                )
            )
    return Table(
        name="generation",
        caption="Infilling scores of greedy answers, all levels together",
        columns=(
            text_column("Model", "model"),
            number_column("Answers", "answers"),
            *(number_column(title, name) for name, title in measures.items()),
            number_column("Unfinished", "unfinished"),
        ),
        rows=tuple(rows),
    )


def generation_levels_table(evidence: Values) -> Table:
    """The same by level: words right, and unigram F1 of longer answers."""
    levels = evidence["matrix"]["levels"]
    rows = []
    for model, found in _generated(evidence, "levels"):
        cells = []
        for level in levels:
            one = found.get(level) or {"top1_accuracy": None, "unigram_f1": None}
            right, f1 = one["top1_accuracy"], one["unigram_f1"]
            cells.append(Cell(text=formats.share(right), values=(right, f1), detail=f"F1 {formats.share(f1)}"))
        rows.append((word(model), *cells))
    return Table(
        name="generation_levels",
        caption="Words right by level, and below it the unigram F1 of longer answers",
        columns=(
            text_column("Model", "model"),
            *(Column(title=level, fields=(f"top1_{level}", f"unigram_f1_{level}")) for level in levels),
        ),
        rows=tuple(rows),
    )


def _generated(evidence: Values, part: str) -> list[tuple[str, Any]]:
    """A part of each model's generation scores, in the order of the matrix."""
    order = [name for row in evidence["matrix"]["rows"] for name in row["models"]]
    records = [(name, evidence["scoring"].get(name, {}).get("generation")) for name in order]
    return [(name, record[part]) for name, record in records if record]


def _perplexity_of(evidence: Values, strategy: str) -> float | None:
    return next((one["perplexity"]["value"] for one in evidence["strategies"] if one["name"] == strategy), None)


def _hours_of(evidence: Values) -> str:
    kinds = {one["hours_of"] for one in evidence["trainings"] if one["hours"] is not None}
    return " and ".join(sorted(kinds)) or "CPU"


def _hours_per_percent(evidence: Values, strategy: Values) -> float | None:
    """Training time beyond the general model's, per percent of perplexity gained over it; None without a gain."""
    general = next((one for one in evidence["strategies"] if one["name"] == "general"), None)
    if general is None or strategy["name"] in ("general", "start"):
        return None
    gain = (general["perplexity"]["value"] / strategy["perplexity"]["value"] - 1.0) * 100.0
    hours, base = strategy["cost"]["hours"], general["cost"]["hours"]
    return (hours - base) / gain if gain > 0.0 and hours is not None and base is not None and hours > base else None
