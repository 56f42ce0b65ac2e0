"""What is plotted: the evidence turned into rows, cells and lines."""

from collections.abc import Mapping
from math import log
from typing import Any

from markupsafe import Markup

from raysweep.evidence import formats
from raysweep.report.contents import MARKS, ROLE_NAMES, best_by_level, claim_of
from raysweep.report.svg import Interval, Reference, Series, bar_plot, curve_panel, heat_map, interval_plot

Values = Mapping[str, Any]

PALEST = log(2.0)
"""Cells whose perplexity is twice the best's, or more, have no shade."""


def forest(evidence: Values) -> Markup:
    """All verdicts: ratios with intervals, the margins as lines."""
    rows: list[Interval] = []
    for finding in evidence["findings"]:
        if finding["scope"] == "overall":
            rows.append(Interval(label=f"{finding['hypothesis']}  {claim_of(finding)}", text="", is_heading=True))
        verdict = finding["verdict"]
        shown = f"{formats.ratio(finding['value'])} {_limits(finding, formats.ratio)} " if finding["value"] else ""
        rows.append(
            Interval(
                label=finding["scope"],
                text=f"{shown}{MARKS[verdict]} {verdict}",
                value=finding["value"],
                low=finding["low"],
                high=finding["high"],
                style=verdict.replace(" ", "-"),
                is_summary=finding["scope"] == "overall",
            )
        )
    margins = sorted({1.0, *evidence["settings"]["margins"].values()})
    return interval_plot(
        "forest",
        "Forest plot of the hypotheses",
        "For each hypothesis and level the ratio of perplexities with its interval; every number is in the table.",
        rows,
        [Reference(value=margin, label=f"{margin:.2f}") for margin in margins],
        "ratio of perplexities (logarithmic)",
    )


def heat(evidence: Values) -> Markup:
    """The matrix: the stronger the shade, the nearer to the level's best model."""
    matrix = evidence["matrix"]
    best = best_by_level(matrix)
    values = {row["name"]: row["cells"] for row in matrix["rows"]}
    rows = []
    for row in matrix["rows"]:
        cells: list[tuple[str, float, bool] | None] = []
        for level in matrix["levels"]:
            if level not in row["cells"]:
                cells.append(None)
                continue
            value = row["cells"][level]["value"]
            away = log(value / values[best[level]][level]["value"])
            shade = 0.62 * max(0.0, 1.0 - away / PALEST)
            cells.append((formats.perplexity(value), shade, best[level] == row["name"]))
        rows.append((row["name"], ROLE_NAMES[row["role"]], cells, row["reason"]))
    return heat_map(
        "heat",
        "Heat map of perplexities",
        "Rows are models, columns are levels; the best model of each level is outlined. The table has all numbers.",
        matrix["levels"],
        rows,
    )


def heat_against_general(evidence: Values) -> Markup | None:
    """The matrix again, as per cent of the general model: what a reader of one column wants to know."""
    matrix = evidence["matrix"]
    general = next((row for row in matrix["rows"] if row["role"] == "general" and row["cells"]), None)
    if general is None:
        return None
    best = best_by_level(matrix)
    rows = []
    for row in matrix["rows"]:
        cells: list[tuple[str, float, bool] | None] = []
        for level in matrix["levels"]:
            if level not in row["cells"] or row is general:
                cells.append(("equal", 0.0, best[level] == row["name"]) if row is general else None)
                continue
            ratio = row["cells"][level]["value"] / general["cells"][level]["value"]
            shade = max(-0.62, min(0.62, -0.62 * log(ratio) / PALEST))
            cells.append((formats.percent(ratio), shade, best[level] == row["name"]))
        rows.append((row["name"], ROLE_NAMES[row["role"]], cells, row["reason"]))
    return heat_map(
        "heat-general",
        "Heat map of perplexities against the general model",
        "Rows are models, columns are levels; below the general model is better. The table has the perplexities.",
        matrix["levels"],
        rows,
    )


def gains(evidence: Values) -> Markup:
    """Specialisation gain per level, with the target."""
    target = evidence["settings"]["target"]
    rows = [_interval(one["level"], one["specialised"]) for one in evidence["gains"] if one["specialised"]]
    return interval_plot(
        "gain",
        "Specialisation gain per level",
        "Ratio of the general model's perplexity to the specialised model's; right of 1 the specialised is better.",
        rows,
        [Reference(value=1.0, label="equal"), Reference(value=target, label=f"target {target:g}")],
        "PPL general ÷ PPL specialised (logarithmic)",
    )


def gaps(evidence: Values) -> Markup:
    """The gap of every specialised model, and of strangers on its level."""
    rows: list[Interval] = []
    for one in evidence["gaps"]:
        rows.append(Interval(label=f"Model {one['level']}", text="", is_heading=True))
        rows.append(_interval("elsewhere", one["gap"]))
        if one["wrong_model"]:
            rows.append(_interval("strangers here", one["wrong_model"]))
    return interval_plot(
        "gap",
        "Cross-level gap",
        "Per level: its model on the other levels against its own, and the other levels' models on its texts.",
        rows,
        [Reference(value=1.0, label="no gap")],
        "ratio of perplexities (logarithmic)",
    )


def transfer(evidence: Values) -> Markup:
    """Fine-tuned models against both alternatives, per level."""
    rows: list[Interval] = []
    for one in evidence["gains"]:
        pairs = (("vs level alone", "transfer_over_specialised"), ("vs general", "transfer_over_general"))
        found = [_interval(label, one[name]) for label, name in pairs if one[name]]
        if found:
            rows += [Interval(label=one["level"], text="", is_heading=True), *found]
    return interval_plot(
        "transfer-plot",
        "Transfer gain per level",
        "Ratio of the other model's perplexity to the fine-tuned model's; right of 1 the fine-tuned one is better.",
        rows,
        [Reference(value=1.0, label="equal")],
        "PPL other ÷ PPL fine-tuned (logarithmic)",
    )


def curves(evidence: Values) -> list[tuple[str, Markup]]:
    """A panel for the general models, one per level, one for the rest: validation loss by step."""
    by_trial = {curve["trial"]: curve["valid"] for curve in evidence["curves"] if curve["valid"]}
    entry_of = {row["trial"]: row["entry"] for row in evidence["trainings"]}
    role_of = {row["name"]: (row["role"], row["level"]) for row in evidence["matrix"]["rows"]}
    # Controls are evaluated on all levels' validation texts, so they stand in no level's panel.
    role_of |= {row["name"]: ("other", "Controls") for row in evidence["controls"]["rows"]}
    panels: dict[str, list[Series]] = {}
    for trial, points in by_trial.items():
        role, level = role_of[entry_of[trial]]
        panel = "All levels" if role == "general" else level or "Other trials"
        panels.setdefault(panel, []).append(Series(label=trial, points=points, style=role))
    order = ["All levels", *evidence["levels"], "Controls", "Other trials"]
    return [
        (
            panel,
            curve_panel(
                f"curve-{order.index(panel)}",
                f"Validation loss: {panel}",
                "; ".join(f"{one.label}: best {min(point[1] for point in one.points):.3f}" for one in panels[panel]),
                panels[panel],
            ),
        )
        for panel in order
        if panel in panels
    ]


def hours(evidence: Values) -> Markup:
    """Training time per trial."""
    role_of = {row["name"]: row["role"] for row in evidence["matrix"]["rows"]}
    role_of |= {row["name"]: "other" for row in evidence["controls"]["rows"]}
    rows = [
        (
            one["trial"],
            one["hours"],
            f"{formats.hours(one['hours'])} {one['hours_of']}" if one["hours"] is not None else one["state"],
            role_of[one["entry"]],
        )
        for one in evidence["trainings"]
    ]
    return bar_plot("hours", "Training time per trial", "The numbers are in the table of trainings.", rows)


def _interval(label: str, found: Values) -> Interval:
    text = f"{formats.percent(found['value'])} {_limits(found, formats.percent)}"
    return Interval(label=label, text=text, value=found["value"], low=found["low"], high=found["high"])


def _limits(found: Values, show: Any) -> str:
    return "" if found["low"] is None else f"[{show(found['low'])}, {show(found['high'])}]"
