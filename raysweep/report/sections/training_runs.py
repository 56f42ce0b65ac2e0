"""Section on the trainings: validation loss by step, and a row per trial."""

from collections import Counter
from collections.abc import Collection, Sequence
from math import log
from typing import Any

from markupsafe import Markup

from raysweep.evidence import formats
from raysweep.evidence.evidence_schema import Evidence
from raysweep.evidence.lineup import ROLE_NAMES
from raysweep.evidence.run_schema import Curve, Exposure, SearchSample, SearchTried, Training
from raysweep.report.labels import metric_name
from raysweep.report.layout import (
    Block,
    Figure,
    Folded,
    Panels,
    ReportSection,
    absent,
    folded_if_long,
    key_of,
    paragraph,
)
from raysweep.report.svg import Series, curve_panel
from raysweep.report.tables import Cell, Column, Show, Table, estimates, numbers, words
from raysweep.scheduling.records import State

MOST_LINES = 5
"""Maximum number of seeds of an entry that get their own lines; more are drawn as one line."""
_KEY = (
    ("general", "general"),
    ("specialised", "specialised"),
    ("transfer", "fine-tuned (from the general model)"),
)


def training_section(evidence: Evidence) -> ReportSection:
    """Show the validation curves and the table of trials."""
    blocks: list[Block] = [absent("No validation losses were recorded.")]
    if curves := _curves(evidence):
        text = (
            "Validation loss in nats per token ({}; its exponential is the perplexity), each trial on its own levels; "
            "the dot marks the lowest point of a line.{}"
        )
        seeds = Counter(training.entry for training in evidence.trainings)
        mean = (
            " A line of an entry with many seeds is the mean of those that are trained."
            if max(seeds.values()) > MOST_LINES
            else ""
        )
        blocks = [Panels(key_of(_KEY), curves), paragraph(text, metric_name(evidence), mean)]
    if len(entries := group_by_entry(evidence.trainings)) < len(evidence.trainings):
        by_entry = folded_if_long("The trainings by entry, as a table", _entries(evidence, entries))
        blocks += [by_entry, Folded("Every training, as a table", _trainings(evidence))]
    else:
        blocks.append(folded_if_long("Every training, as a table", _trainings(evidence)))
    blocks += map(folded_if_long, ("What searches chose", "Every sample of the searches"), _searches(evidence))
    if panels := _exposure_panels(evidence):
        text = (
            "Test loss in nats per token by the examples of the level that a model and its parents have seen: the "
            "general model, the level's own and the fine-tuned one. Where the lowest point is also the one that has "
            "seen most, more examples may be the whole reason; the exposure control tests this."
        )
        blocks += [Panels(key_of(_KEY), panels), paragraph(text)]
    return ReportSection(
        "training",
        "How the trainings went",
        [*blocks, Folded("Examples seen and perplexity, as a table", _exposure(evidence))],
    )


def _exposure_panels(evidence: Evidence) -> list[Figure]:
    """Draw a panel per level, with a dot for each kind of model that is meant for it."""
    panels = []
    for place, level in enumerate(evidence.levels):
        seen = [
            exposure
            for exposure in evidence.exposure
            if exposure.level == level and exposure.is_own and exposure.role in ("general", "specialised", "transfer")
        ]
        if seen:
            points = [(exposure.examples, log(exposure.perplexity.value)) for exposure in seen]
            dots = [
                Series(label=exposure.entry, points=[point], style=exposure.role)
                for exposure, point in zip(seen, points, strict=True)
            ]
            description = "; ".join(
                f"{exposure.entry}: {formats.count(examples)} examples, {formats.loss(loss)}"
                for exposure, (examples, loss) in zip(seen, points, strict=True)
            )
            name = f"exposure-{place}"
            title = f"Test loss by examples of the level: {level}"
            panels.append(
                Figure(name, curve_panel(name, title, description, dots, across="examples of the level"), level, _KEY)
            )
    return panels


def _searches(evidence: Evidence) -> list[Table[Any]]:
    """Show where each search looked and what it chose, then every sample."""
    searches = [(training.trial, training.search) for training in evidence.trainings if training.search]
    settings = [(trial, search, name) for trial, search in searches for name in search.space]
    samples = [(trial, search, sample) for trial, search in searches for sample in search.samples]
    return [
        Table[tuple[str, SearchTried, str]](
            "searches",
            "Searches: the settings that were searched, and the value of the sample with the lowest validation loss, "
            "whose model was kept",
            settings,
            words("Trial", "trial", lambda row: row[0]),
            words("Setting", "setting", lambda row: row[2]),
            words("Range or choices", "space", lambda row: row[1].space[row[2]]),
            words("Chosen", "chosen", lambda row: _value(row[1].samples[row[1].winner].settings[row[2]])),
        ),
        Table[tuple[str, SearchTried, SearchSample]](
            "search_samples",
            "Every sample of the searches; the one whose model was kept is named",
            samples,
            words("Trial", "trial", lambda row: row[0]),
            numbers("Sample", "sample", formats.count, lambda row: row[2].sample),
            words("Settings", "settings", lambda row: _settings(row[2])),
            numbers("Validation loss", "valid_nats_per_token", formats.loss, lambda row: row[2].loss),
            words("Outcome", "outcome", lambda row: _outcome(row[1], row[2])),
        ),
    ]


def _settings(sample: SearchSample) -> str:
    return "; ".join(f"{name} {_value(value)}" for name, value in sample.settings.items())


def _value(value: float | int | str | bool) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _outcome(search: SearchTried, sample: SearchSample) -> str:
    if sample.sample == search.winner:
        return "kept"
    if sample.stopped_at is not None:
        return f"stopped at step {sample.stopped_at:,}"
    return "done" if sample.loss is not None else "failed"


def _exposure(evidence: Evidence) -> Table[Exposure]:
    """Compare loss and in-level examples seen, for the models that are meant for the level."""
    return Table[Exposure](
        "exposure",
        "Examples of each level that the models have seen, and their perplexity there: a model that has seen more of a "
        "level may be better for that reason alone",
        [exposure for exposure in evidence.exposure if exposure.is_own],
        words("Level", "level"),
        words("Model", "entry", detail=lambda exposure: ROLE_NAMES.get(exposure.role, exposure.role)),
        numbers("Examples of the level", "in_level_examples", formats.count, lambda exposure: exposure.examples),
        numbers("All examples", "all_examples", formats.count),
        estimates("Perplexity there", "ppl", formats.perplexity, lambda exposure: exposure.perplexity),
    )


def group_by_entry(trainings: Sequence[Training]) -> list[list[Training]]:
    """Group the trainings by entry of the config; those of an entry differ only in their seed."""
    entries: dict[str, list[Training]] = {}
    for training in trainings:
        entries.setdefault(training.entry, []).append(training)
    return list(entries.values())


def _levels(evidence: Evidence, training: Training) -> str:
    is_general = set(training.levels) == set(evidence.levels)
    return f"all {len(training.levels)}" if is_general else ", ".join(training.levels)


def _entries(evidence: Evidence, entries: Sequence[Sequence[Training]]) -> Table[Sequence[Training]]:
    """Make a row per entry: means over its seeds, with the lowest and highest value if they differ."""

    def known(of: Sequence[Training], field: str) -> list[float]:
        if field == "loss":
            return [loss for training in of if (loss := training.best_losses.get(evidence.settings.metric)) is not None]
        return [value for training in of if (value := getattr(training, field)) is not None]

    def mean(title: str, field: str, show: Show) -> Column[Sequence[Training]]:
        def cell(of: Sequence[Training]) -> Cell:
            values = known(of, field)
            if not values:
                return Cell(text=formats.NONE, values=(None, None, None))
            average, low, high = sum(values) / len(values), min(values), max(values)
            detail = f"{show(low)} to {show(high)}" if show(low) != show(high) else ""
            return Cell(text=show(average), values=(average, low, high), detail=detail)

        return Column(title, (field, f"{field}_low", f"{field}_high"), cell)

    def states(of: Sequence[Training]) -> str:
        counts = Counter(training.state for training in of)
        return counts.most_common(1)[0][0] if len(counts) == 1 else ", ".join(f"{n} {s}" for s, n in counts.items())

    def reasons(of: Sequence[Training]) -> str:
        return "; ".join(
            dict.fromkeys(reason for training in of for reason in (training.reason, training.stopped) if reason)
        )

    def total(of: Sequence[Training]) -> float | None:
        return sum(hours) if (hours := known(of, "hours")) else None

    return Table[Sequence[Training]](
        "trainings_by_entry",
        "The trainings, all seeds of an entry together: means, and from the lowest to the highest where they differ; "
        "time is the sum",
        entries,
        words("Entry", "entry", lambda of: of[0].entry),
        numbers("Seeds", "seeds", formats.count, len),
        words("Levels", "levels", lambda of: _levels(evidence, of[0])),
        words("State", "state", states, detail=reasons),
        numbers("Steps", "steps_asked", formats.count, lambda of: of[0].steps_asked),
        mean("Best step", "best_step", formats.count),
        mean("Validation loss", "loss", formats.loss),
        mean("Tokens seen", "tokens", formats.count),
        numbers("Time", "hours", formats.hours, total),
        numbers("Parameters", "parameters", formats.count, lambda of: of[0].parameters),
        mean("Peak memory", "peak_memory_bytes", formats.size),
    )


def _trainings(evidence: Evidence) -> Table[Training]:
    """List every trial, including the failed ones."""
    metric = evidence.settings.metric

    return Table[Training](
        "trainings",
        "The trainings: steps, losses, time, size and memory",
        evidence.trainings,
        words("Trial", "trial", detail=_parent),
        words("Levels", "levels", lambda training: _levels(evidence, training)),
        Column("State", ("state",), _state, is_number=False),
        words("Steps", "steps", _steps),
        numbers("Best step", "best_step", formats.count),
        numbers(
            "Validation loss",
            "best_valid_nats_per_token",
            formats.loss,
            lambda training: training.best_losses.get(metric),
        ),
        numbers("Tokens seen", "tokens", formats.count),
        numbers("Time", "hours", formats.hours),
        words("Device", "device", lambda training: training.device or formats.NONE),
        numbers("Parameters", "parameters", formats.count),
        numbers("On disk", "bytes", formats.size),
        numbers("Peak memory", "peak_memory_bytes", formats.size),
    )


def _parent(training: Training) -> str:
    return f"from{formats.SPACE}{training.parent}" if training.parent else ""


def _state(training: Training) -> Cell:
    reasons = [reason for reason in (training.reason, training.stopped) if reason]
    return Cell(text=training.state, values=(training.state,), detail="; ".join(reasons))


def _steps(training: Training) -> str:
    if not training.steps:
        return ""
    return f"{training.steps:,} of {training.steps_asked:,}".replace(" ", formats.SPACE)


def _curves(evidence: Evidence) -> list[Figure]:
    """Draw a panel for the general models, one per level, one for the controls, and one for the rest."""
    entry_of = {training.trial: training.entry for training in evidence.trainings}
    done = {training.trial for training in evidence.trainings if training.state == State.DONE}
    place_of = {row.name: (row.role, row.level) for row in evidence.matrix.rows}
    # Controls are evaluated on all levels' validation texts, so they belong to no level's panel.
    place_of |= {row.name: ("other", "Controls") for row in evidence.controls.rows}
    by_entry: dict[tuple[str, str, str], list[Curve]] = {}
    for curve in evidence.curves:
        if curve.valid:
            role, level = place_of[entry_of[curve.trial]]
            panel = "All levels" if role == "general" else level or "Other trials"
            by_entry.setdefault((panel, role, entry_of[curve.trial]), []).append(curve)
    panels: dict[str, list[Series]] = {}
    for (panel, role, entry), curves in by_entry.items():
        panels.setdefault(panel, []).extend(_lines(entry, role, curves, done))
    order = ["All levels", *evidence.levels, "Controls", "Other trials"]
    return [
        Figure(f"curve-{place}", _curve_panel(place, panel, panels[panel]), panel, _KEY)
        for place, panel in enumerate(order)
        if panel in panels
    ]


def _lines(entry: str, role: str, curves: Sequence[Curve], done: Collection[str]) -> list[Series]:
    """Make a line per seed; for more than `MOST_LINES` seeds, the mean of the done ones at the steps that all have."""
    if len(curves) <= MOST_LINES:
        return [Series(label=curve.trial, points=curve.valid, style=role) for curve in curves]
    known = [dict(curve.valid) for curve in curves if curve.trial in done]
    steps = sorted(set.intersection(*(set(losses) for losses in known))) if known else []
    points = [(step, sum(losses[step] for losses in known) / len(known)) for step in steps]
    return [Series(label=f"{entry}, mean of {len(known)} seeds", points=points, style=role)] if points else []


def _curve_panel(number: int, panel: str, series: list[Series]) -> Markup:
    best = "; ".join(f"{line.label}: best {min(loss for _, loss in line.points):.3f}" for line in series)
    return curve_panel(f"curve-{number}", f"Validation loss: {panel}", best, series)
