"""`report.md`: the same report for GitHub, a mail or a pull request, without the plots."""

import json
import re
from collections.abc import Mapping
from typing import Any

from raysweep.report.page import TITLES, is_synthetic, leaks
from raysweep.report.tables import Cell, Table, without_empty_columns

Values = Mapping[str, Any]

_SECTIONS = {
    "verdicts": ("verdicts", "findings"),
    "matrix": ("matrix", "weightings"),
    "gains": ("gains", "gaps"),
    "transfer": ("transfer",),
    "guards": ("controls", "control_models", "leaks", "leak_effects"),
    "sensitivity": ("sensitivity",),
    "kinds": ("kinds", "lengths", "first_languages"),
    "unknown": ("cold_start", "cold_start_groups", "confusion", "unknown_level"),
    "training": ("trainings",),
    "cost": ("strategies", "planned", "ledger", "speed"),
    "generation": ("generation", "generation_levels"),
    "data": ("splits", "set_aside", "leakage", "examples"),
    "reproduce": ("versions",),
}
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~])")


def render_markdown(evidence: Values, tables: Mapping[str, Table]) -> str:
    """The whole document; sections without a row are left out."""
    answer = evidence["answer"]
    lines = ["# Is a language model per level worth training?", ""]
    lines += [f"raysweep report, run {_escape(evidence['run']['name'])}", ""]
    if is_synthetic(evidence):
        lines += ["> **Synthetic texts:** this run shows the tool, and proves nothing about learners.", ""]
    lines += [f"**{_escape(answer['headline'])}**", ""]
    lines += [f"- **{said['code']} {said['verdict']}.** {_escape(said['text'])}" for said in answer["reasons"]]
    lines += [f"- {_escape(said)}" for said in answer["exceptions"] + answer["warnings"]]
    lines += [f"- {_escape(evidence['sensitivity']['sentence'])}"]
    if evidence["choices"]:
        lines += ["", "What each choice costs:", "", *(f"- {_escape(said)}" for said in evidence["choices"])]
    for section, names in _SECTIONS.items():
        found = [without_empty_columns(tables[name]) for name in names if tables[name].rows]
        if found:
            lines += ["", f"## {TITLES[section]}"]
        for table in found:
            lines += ["", f"*{_escape(table.caption)}*", "", *_table(table)]
        if section == "data" and leaks(evidence):
            lines += ["", "**Documents leak between splits: the scores above cannot be trusted.**"]
    lines += ["", f"Digest of all inputs (`raysweep verify` must print the same): `{evidence['inputs']['digest']}`"]
    if evidence["run"]["command"]:
        lines += ["", "Command:", "", *_fenced(evidence["run"]["command"], "sh")]
    lines += ["", "Configuration:", "", *_fenced(json.dumps(evidence["config"], indent=2, ensure_ascii=False), "json")]
    return "\n".join(lines) + "\n"


def _table(table: Table) -> list[str]:
    header = [_escape(column.title) for column in table.columns]
    rule = ["---:" if column.is_number else "---" for column in table.columns]
    return [_row(header), _row(rule), *(_row([_cell(cell) for cell in row]) for row in table.rows)]


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(cell: Cell) -> str:
    text = f"**{_escape(cell.text)}**" if cell.mark == "best" else _escape(cell.text)
    return f"{text}<br>{_escape(cell.detail)}" if cell.detail else text


def _escape(text: str) -> str:
    """Text as GitHub shows it literally, on one line."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))


def _fenced(text: str, language: str) -> list[str]:
    """A code block whose fence is longer than any run of backticks inside."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return [f"{fence}{language}", text, fence]
