"""Writes `report.md`: the same report without plots, for GitHub, a mail or a pull request."""

import re
from collections.abc import Sequence
from typing import Any

from raysweep.evidence.evidence_schema import Evidence
from raysweep.report.labels import is_synthetic
from raysweep.report.layout import ReportSection
from raysweep.report.sections.provenance import config_text
from raysweep.report.tables import Cell, Table, without_empty_columns

LONGEST_FOLDED = 30
"""Maximum number of rows of a folded table that Markdown shows; for a longer one it names the CSV file."""
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~])")


def render_markdown(evidence: Evidence, sections: Sequence[ReportSection]) -> str:
    """Render the whole document; sections without rows are left out."""
    answer = evidence.answer
    lines = ["# Is a language model per level worth training?", ""]
    lines += [f"raysweep report, run {_escape(evidence.run.name)}", ""]
    if is_synthetic(evidence):
        lines += ["> **Synthetic texts:** this run shows the tool, and proves nothing about learners.", ""]
    lines += [f"**{_escape(answer.headline)}**", ""]
    if answer.cautions:
        cautions = "; ".join(caution.text for caution in answer.cautions)
        lines += [f"> **Read with care:** {_escape(cautions)}.", ""]
    lines += [f"- **{reason.code} {reason.words}.** {_escape(reason.text)}" for reason in answer.reasons]
    notes = (*answer.exceptions, *answer.warnings, evidence.sensitivity.sentence)
    lines += [f"- {_escape(note)}" for note in notes]
    if evidence.choices:
        lines += ["", "What each choice costs:", "", *(f"- {_escape(choice)}" for choice in evidence.choices)]
    for section in sections:
        lines += _section(section)
    lines += ["", f"Digest of all inputs (`raysweep verify` must print the same): `{evidence.inputs.digest}`"]
    if evidence.run.command:
        lines += ["", "Command:", "", *_fenced(evidence.run.command, "sh")]
    lines += ["", "Configuration:", "", *_fenced(config_text(evidence), "json")]
    return "\n".join(lines) + "\n"


def _section(section: ReportSection) -> list[str]:
    short = [table for table in section.folded_tables if len(table.records) <= LONGEST_FOLDED]
    tables = [without_empty_columns(table) for table in (*section.tables, *short) if table.records]
    left_out = [
        f"{_escape(summary)}: {len(table.records):,} rows, in [tables/{table.name}.csv](tables/{table.name}.csv)"
        for summary, table in section.summaries
        if len(table.records) > LONGEST_FOLDED
    ]
    lines = ["", f"## {section.title}"] if tables or left_out else []
    for table in tables:
        lines += ["", f"*{_escape(table.caption)}*", "", *_table(table)]
    for line in left_out:
        lines += ["", line]
    return lines + (["", f"**{section.alarm}**"] if section.alarm else [])


def _table(table: Table[Any]) -> list[str]:
    header = [_escape(column.title) for column in table.columns]
    rule = ["---:" if column.is_number else "---" for column in table.columns]
    rows = [header, rule, *([_cell(cell) for cell in row] for row in table.rows)]
    return [f"| {' | '.join(cells)} |" for cells in rows]


def _cell(cell: Cell) -> str:
    text = f"**{_escape(cell.text)}**" if cell.mark == "best" else _escape(cell.text)
    return f"{text}<br>{_escape(cell.detail)}" if cell.detail else text


def _escape(text: str) -> str:
    """Escape text so that GitHub shows it literally, on one line."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))


def _fenced(text: str, language: str) -> list[str]:
    """Make a code block whose fence is longer than any run of backticks inside."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return [f"{fence}{language}", text, fence]
