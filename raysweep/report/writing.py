"""The report stage: makes evidence, page, Markdown and tables from the run folder."""

import gc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from raysweep.config.schema import Config
from raysweep.evidence.collect import collect_evidence
from raysweep.evidence.evidence_schema import Evidence, evidence_schema
from raysweep.evidence.rounding import as_text
from raysweep.report.contents import report_sections
from raysweep.report.figure_files import figure_pdf, figure_svg
from raysweep.report.infill_samples import read_samples
from raysweep.report.layout import ReportSection
from raysweep.report.markdown import render_markdown
from raysweep.report.page import render_page
from raysweep.report.tables import to_csv, to_tex
from raysweep.scheduling.trials import Trial, find_roles
from raysweep.storage.atomic_files import atomic_folder, dump_json, write_text
from raysweep.storage.run_folder import RunFolder


def write_report(folder: RunFolder, config: Config, trials: Mapping[str, Trial]) -> dict[str, Any]:
    """Make the whole report.  evidence.json is renamed into place last, so if it exists, everything else does.

    Returns:
        The contents of evidence.json.

    Raises:
        InputError: the models' losses are missing, or cannot be compared.
    """
    with _without_garbage_collector():
        return _write_report(folder, config, trials)


def _write_report(folder: RunFolder, config: Config, trials: Mapping[str, Trial]) -> dict[str, Any]:
    values = collect_exactly(folder, config, trials).json_values()
    evidence = as_written(values)
    sections = report_sections(evidence, read_samples(folder, evidence) if config.report.show_texts else [])
    files = _render(evidence, sections)
    # Before anything is deleted: a value that cannot be written leaves the old report.
    text_of_evidence = as_text(values)
    folder.evidence.unlink(missing_ok=True)
    for part in (folder.tables, folder.figures):
        with atomic_folder(part) as temporary:
            for name, text in files.items():
                if (path := Path(name)).parent.name == part.name:
                    (temporary / path.name).write_text(text, encoding="utf-8", newline="\n")
            if part == folder.figures:
                for figure in (figure for section in sections for figure in section.figures):
                    (temporary / f"{figure.name}.pdf").write_bytes(figure_pdf(figure))
    for path in (folder.report_html, folder.report_markdown, folder.evidence_schema):
        write_text(path, files[path.relative_to(folder.root).as_posix()])
    write_text(folder.evidence, text_of_evidence)
    return values


@contextmanager
def _without_garbage_collector() -> Iterator[None]:
    """Disable Python's cycle collector, which would scan hundreds of thousands of records without finding cycles."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def collect_exactly(folder: RunFolder, config: Config, trials: Mapping[str, Trial]) -> Evidence:
    """Collect the evidence without rounding its numbers."""
    return collect_evidence(folder, config, find_roles(trials, config.data.levels), trials)


def as_written(values: Mapping[str, Any]) -> Evidence:
    """Make the evidence of the values of evidence.json, so that documents are made from exactly what it holds."""
    # Not strictly: JSON has lists for tuples, and texts for the names of verdicts.
    return Evidence.model_validate(values, strict=False)


def render_report(evidence: Evidence) -> dict[str, str]:
    """Render page, Markdown, tables, figures and schema by their paths in the run folder, without samples of texts."""
    return _render(evidence, report_sections(evidence))


def _render(evidence: Evidence, sections: Sequence[ReportSection]) -> dict[str, str]:
    files = {
        "report/report.html": render_page(evidence, sections),
        "report/report.md": render_markdown(evidence, sections),
        "report/evidence.schema.json": dump_json(evidence_schema()),
    }
    for section in sections:
        for figure in section.figures:
            files[f"report/figures/{figure.name}.svg"] = figure_svg(figure)
        shown = section.tables
        for table in (*shown, *section.folded_tables):
            if table.records:
                files[f"report/tables/{table.name}.csv"] = to_csv(table)
                if table in shown or not table.is_long:
                    files[f"report/tables/{table.name}.tex"] = to_tex(table)
    return files
