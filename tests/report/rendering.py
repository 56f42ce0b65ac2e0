"""Render the report as texts and tables, from values as in evidence.json."""

import json

from raysweep.evidence.evidence_schema import Evidence
from raysweep.report.contents import report_sections
from raysweep.report.writing import render_report


def parse(values) -> Evidence:
    return Evidence.model_validate_json(json.dumps(values))


def render_page(values) -> str:
    return render_report(parse(values))["report/report.html"]


def render_markdown(values) -> str:
    return render_report(parse(values))["report/report.md"]


def tables_of(values) -> dict:
    """Return every table by name."""
    sections = report_sections(parse(values))
    return {table.name: table for section in sections for table in (*section.tables, *section.folded_tables)}
