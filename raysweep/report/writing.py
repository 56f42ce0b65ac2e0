"""The report stage: evidence, page, Markdown and tables, from what the run folder holds."""

import json
from collections.abc import Mapping
from typing import Any

from raysweep.config.schema import Config
from raysweep.report.evidence import collect_evidence
from raysweep.report.markdown import render_markdown
from raysweep.report.page import all_tables, render_page
from raysweep.report.tables import to_csv, to_tex
from raysweep.scheduling.trials import Trial, find_roles
from raysweep.store import RunFolder, folder_written_beside, write_json, write_text


def write_report(folder: RunFolder, config: Config, trials: Mapping[str, Trial]) -> dict[str, Any]:
    """Make the whole report.  evidence.json is renamed into place last: with it, the rest is there.

    Returns:
        The evidence.

    Raises:
        InputError: the models' losses are missing, or cannot be compared.
    """
    collected = collect_evidence(folder, config, find_roles(trials, config.data.levels), trials)
    # Through JSON and back, so that the documents are made from exactly what is saved.
    evidence: dict[str, Any] = json.loads(json.dumps(collected, sort_keys=True, allow_nan=False))
    tables = all_tables(evidence)
    page, markdown = render_page(evidence, tables), render_markdown(evidence, tables)
    folder.evidence.unlink(missing_ok=True)
    with folder_written_beside(folder.tables) as beside:
        for table in tables.values():
            if table.rows:
                (beside / f"{table.name}.csv").write_text(to_csv(table), encoding="utf-8", newline="\n")
                (beside / f"{table.name}.tex").write_text(to_tex(table), encoding="utf-8", newline="\n")
    write_text(folder.report_html, page)
    write_text(folder.report_markdown, markdown)
    write_json(folder.evidence, evidence)
    return evidence
