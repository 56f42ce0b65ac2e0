"""The report stage: evidence, page, Markdown and tables, from what the run folder holds."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from raysweep.config.schema import Config
from raysweep.evidence.collect import collect_evidence
from raysweep.evidence.evidence_schema import Evidence, evidence_schema
from raysweep.report.infill_samples import Sample, read_samples
from raysweep.report.markdown import render_markdown
from raysweep.report.page import all_tables, render_page
from raysweep.report.tables import to_csv, to_tex
from raysweep.scheduling.trials import Trial, find_roles
from raysweep.storage.atomic_files import atomic_folder, dump_json, write_json, write_text
from raysweep.storage.run_folder import RunFolder

Values = dict[str, Any]


def write_report(folder: RunFolder, config: Config, trials: Mapping[str, Trial]) -> Values:
    """Make the whole report.  evidence.json is renamed into place last: with it, the rest is there.

    Returns:
        The evidence.

    Raises:
        InputError: the models' losses are missing, or cannot be compared.
    """
    evidence = make_evidence(folder, config, trials).json_values()
    samples = read_samples(folder, evidence) if config.report.show_texts else []
    tables, documents = render_tables(evidence), render_documents(evidence, samples)
    folder.evidence.unlink(missing_ok=True)
    with atomic_folder(folder.tables) as beside:
        for name, text in tables.items():
            _write(beside / name, text)
    write_text(folder.report_html, documents[folder.report_html.name])
    write_text(folder.report_markdown, documents[folder.report_markdown.name])
    write_json(folder.evidence_schema, evidence_schema())
    write_json(folder.evidence, evidence)
    return evidence


def make_evidence(folder: RunFolder, config: Config, trials: Mapping[str, Trial]) -> Evidence:
    """The evidence as it is saved: through JSON and back, so that documents are made from exactly that."""
    collected = collect_evidence(folder, config, find_roles(trials, config.data.levels), trials)
    return Evidence.model_validate_json(dump_json(collected.json_values()))


def render_documents(evidence: Values, samples: Sequence[Sample] = ()) -> dict[str, str]:
    """`report.html` and `report.md` by their names; the page alone shows samples, which no evidence holds."""
    tables = all_tables(evidence)
    return {"report.html": render_page(evidence, tables, samples), "report.md": render_markdown(evidence, tables)}


def render_tables(evidence: Values) -> dict[str, str]:
    """Every table that has a row, as CSV and as TeX, by its file's name."""
    files = {}
    for table in all_tables(evidence).values():
        if table.rows:
            files[f"{table.name}.csv"] = to_csv(table)
            files[f"{table.name}.tex"] = to_tex(table)
    return files


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")
