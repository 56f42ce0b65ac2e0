"""The report stage: evidence, page, Markdown and tables, from what the run folder holds."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from raysweep.config.schema import Config
from raysweep.evidence.collect import collect_evidence
from raysweep.evidence.evidence_schema import Evidence, evidence_schema
from raysweep.report.contents import report_sections
from raysweep.report.figure_files import figure_pdf, figure_svg
from raysweep.report.infill_samples import Sample, read_samples
from raysweep.report.markdown import render_markdown
from raysweep.report.page import render_page
from raysweep.report.tables import to_csv, to_tex
from raysweep.scheduling.trials import Trial, find_roles
from raysweep.storage.atomic_files import atomic_folder, dump_json, write_json, write_text
from raysweep.storage.run_folder import RunFolder


def write_report(folder: RunFolder, config: Config, trials: Mapping[str, Trial]) -> dict[str, Any]:
    """Make the whole report.  evidence.json is renamed into place last: with it, the rest is there.

    Returns:
        What evidence.json holds.

    Raises:
        InputError: the models' losses are missing, or cannot be compared.
    """
    evidence = make_evidence(folder, config, trials)
    samples = read_samples(folder, evidence) if config.report.show_texts else []
    files = render_report(evidence, samples)
    folder.evidence.unlink(missing_ok=True)
    for part in (folder.tables, folder.figures):
        with atomic_folder(part) as beside:
            for name, text in files.items():
                if (path := Path(name)).parent.name == part.name:
                    (beside / path.name).write_text(text, encoding="utf-8", newline="\n")
            if part == folder.figures:
                for figure in (figure for section in report_sections(evidence) for figure in section.figures):
                    (beside / f"{figure.name}.pdf").write_bytes(figure_pdf(figure))
    for path in (folder.report_html, folder.report_markdown, folder.evidence_schema):
        write_text(path, files[path.relative_to(folder.root).as_posix()])
    values = evidence.json_values()
    write_json(folder.evidence, values)
    return values


def make_evidence(folder: RunFolder, config: Config, trials: Mapping[str, Trial]) -> Evidence:
    """The evidence as evidence.json holds it, from which all documents are made."""
    return as_written(collect_exactly(folder, config, trials))


def collect_exactly(folder: RunFolder, config: Config, trials: Mapping[str, Trial]) -> Evidence:
    """The evidence before its numbers are rounded."""
    return collect_evidence(folder, config, find_roles(trials, config.data.levels), trials)


def as_written(evidence: Evidence) -> Evidence:
    """The evidence rounded, through JSON and back, so that documents are made from exactly what evidence.json holds."""
    return Evidence.model_validate_json(dump_json(evidence.json_values()))


def render_report(evidence: Evidence, samples: Sequence[Sample] = ()) -> dict[str, str]:
    """Page, Markdown, tables and schema by their paths in the run folder.

    Args:
        samples: shown on the page alone, because they hold learners' words and the evidence does not.
    """
    sections = report_sections(evidence, samples)
    files = {
        "report/report.html": render_page(evidence, sections),
        "report/report.md": render_markdown(evidence, sections),
        "report/evidence.schema.json": dump_json(evidence_schema()),
    }
    for section in sections:
        for figure in section.figures:
            files[f"report/figures/{figure.name}.svg"] = figure_svg(figure)
        for table in (*section.tables, *section.folded_tables):
            if table.records:
                files[f"report/tables/{table.name}.csv"] = to_csv(table)
                files[f"report/tables/{table.name}.tex"] = to_tex(table)
    return files
