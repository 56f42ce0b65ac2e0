"""`report.html`: one self-contained file, made from the evidence alone.

No network, no script, no font to fetch.  Everything that comes from a config or a corpus (names of
runs, levels, trials, languages, reasons) is escaped by jinja2's autoescape, and by markupsafe in
the plots.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from raysweep.evidence import formats
from raysweep.evidence.robustness_schema import Margins
from raysweep.evidence.verdict_changes import margins_said
from raysweep.report import (
    contents,
    contents_cold_start,
    contents_data,
    contents_deployment,
    contents_guards,
    contents_run,
    contents_scores,
    contents_sensitivity,
    plots,
    plots_cold_start,
)
from raysweep.report.infill_samples import Sample
from raysweep.report.tables import Table, without_empty_columns

Values = Mapping[str, Any]
TEMPLATES = Path(__file__).parent / "templates"

TITLES = {
    "verdicts": "Verdicts",
    "matrix": "Every model on every level",
    "gains": "Specialisation gain and cross-level gap",
    "transfer": "Transfer",
    "guards": "Guards against being fooled",
    "sensitivity": "What would flip it",
    "kinds": "By kind of mask, length and first language",
    "unknown": "If the level is not known",
    "training": "How the trainings went",
    "cost": "What it costs",
    "generation": "Generated answers",
    "samples": "Samples",
    "data": "The data",
    "method": "How the numbers were made",
    "reproduce": "How to reproduce this",
}


def all_tables(evidence: Values) -> dict[str, Table]:
    """Every table of the report by its name."""
    built = [
        contents.verdict_grid(evidence),
        contents.findings_table(evidence),
        contents.matrix_table(evidence),
        contents.gains_table(evidence),
        contents.gaps_table(evidence),
        contents.transfer_table(evidence),
        contents_guards.controls_table(evidence),
        contents_guards.control_models_table(evidence),
        contents_guards.leaks_table(evidence),
        contents_guards.leak_effects_table(evidence),
        contents.kinds_table(evidence),
        contents.lengths_table(evidence),
        contents.languages_table(evidence),
        contents_scores.weightings_table(evidence),
        contents_scores.scores_table(evidence),
        contents_sensitivity.sensitivity_table(evidence),
        contents_cold_start.ways_table(evidence),
        contents_cold_start.groups_table(evidence),
        contents_cold_start.confusion_table(evidence),
        contents_run.strategies_table(evidence),
        contents_run.unknown_level_table(evidence),
        contents_run.trainings_table(evidence),
        contents_run.planned_table(evidence),
        contents_run.ledger_table(evidence),
        contents_run.generation_table(evidence),
        contents_run.generation_levels_table(evidence),
        contents_deployment.speed_table(evidence),
        contents_data.splits_table(evidence),
        contents_data.bad_rows_table(evidence),
        contents_data.leakage_table(evidence),
        contents_data.examples_table(evidence),
        contents_data.versions_table(evidence),
        contents_data.inputs_table(evidence),
    ]
    return {table.name: table for table in built}


def render_page(evidence: Values, tables: Mapping[str, Table], samples: Sequence[Sample] = ()) -> str:
    """The whole page."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template("page.html.j2").render(
        evidence=evidence,
        tables={name: without_empty_columns(table) for name, table in tables.items()},
        plots=_plots(evidence),
        tiles=_tiles(evidence),
        titles=TITLES,
        sections=[(name, title) for name, title in TITLES.items() if name != "samples" or samples],
        samples=samples,
        facts=_facts(evidence),
        accuracy_said=contents_cold_start.accuracy_said(evidence),
        margins_said=margins_said(Margins(**evidence["sensitivity"]["margins"])),
        synthetic=is_synthetic(evidence),
        leaks=leaks(evidence),
        metric=contents.METRIC_NAMES[evidence["settings"]["metric"]],
        confidence=f"{evidence['settings']['confidence'] * 100:g} %",
        config_text=json.dumps(evidence["config"], indent=2, ensure_ascii=False),
        css=Markup((TEMPLATES / "page.css").read_text(encoding="utf-8")),
    )


def is_synthetic(evidence: Values) -> bool:
    """Whether no learner wrote the texts."""
    return bool((evidence["corpus"] or {}).get("synthetic"))


def leaks(evidence: Values) -> bool:
    """Whether anything stands in two splits."""
    found = evidence["leakage"] or {}
    return any(found.get(f"{name}_in_two_splits") for name in ("ids", "learners", "texts", "near_duplicates"))


def _plots(evidence: Values) -> dict[str, Any]:
    gains = evidence["gains"]
    return {
        "forest": plots.forest(evidence),
        "heat": plots.heat(evidence),
        "heat_general": plots.heat_against_general(evidence),
        "gains": plots.gains(evidence) if any(one["specialised"] for one in gains) else None,
        "gaps": plots.gaps(evidence) if evidence["gaps"] else None,
        "transfer": plots.transfer(evidence)
        if any(one["transfer_over_general"] or one["transfer_over_specialised"] for one in gains)
        else None,
        "cold_start": plots_cold_start.cold_start(evidence),
        "curves": plots.curves(evidence),
        "hours": plots.hours(evidence),
    }


def _tiles(evidence: Values) -> list[dict[str, str]]:
    """The three overall ratios."""
    labels = {
        "H1": "general model's perplexity against models trained per level",
        "H2": "general model's perplexity against the best other way",
        "H3": "fine-tuned models' perplexity against the best other way",
    }
    return [
        {
            "code": one["hypothesis"],
            "value": formats.percent(one["value"]),
            "label": labels[one["hypothesis"]]
            + (f", {formats.percent(one['low'])} to {formats.percent(one['high'])}" if one["low"] else ""),
            "verdict": one["verdict"],
            "mark": contents.MARKS[one["verdict"]],
        }
        for one in evidence["findings"]
        if one["scope"] == "overall"
    ]


def _facts(evidence: Values) -> list[str]:
    """The line under the title: how much of everything."""
    sizes = evidence["matrix"]["sizes"].values()
    scored = [row for row in evidence["matrix"]["rows"] if row["cells"]]
    ended = evidence["run"]["ended_at"]
    facts = [
        f"{len(scored)} models",
        f"{len(evidence['matrix']['levels'])} levels",
        f"{sum(size['documents'] for size in sizes):,} test documents",
    ]
    return facts + ([f"last training ended {formats.date(ended)}"] if ended else [])
