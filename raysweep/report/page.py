"""Renders `report.html`: one self-contained file, made from the evidence alone.

It needs no network, script or font.  Everything that comes from a config or a corpus (names of
runs, levels, trials, languages, reasons) is escaped by jinja2's autoescape, and by markupsafe in
the sections' texts and plots.
"""

from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from raysweep.evidence import formats
from raysweep.evidence.claim_words import KINDS_OF_MODEL, claim_sentence, claim_title, compare
from raysweep.evidence.evidence_schema import ClaimFinding, Evidence, Matrix
from raysweep.report.infill_samples import Sample
from raysweep.report.labels import MARKS, confidence_level, is_synthetic
from raysweep.report.layout import MOST_ROWS, Block, Figure, Folded, Panels, ReportSection
from raysweep.report.tables import Table, without_empty_columns

TEMPLATES = Path(__file__).parent / "templates"


def render_page(evidence: Evidence, sections: Sequence[ReportSection]) -> str:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    macros = vars(environment.get_template("blocks.html.j2").module)

    def render_block(block: Block) -> Markup:
        match block:
            case Table():
                shown: Markup = macros["table"](without_empty_columns(block))
            case Figure():
                shown = macros["figure"](block)
            case Panels():
                shown = macros["panels"](block)
            case Folded(content=Table(records=[])):
                shown = Markup("")
            case Folded(content=Table(is_long=True, name=name, records=records)):
                link = '<p>{}: {:,} rows, in <a href="tables/{}.csv">tables/{}.csv</a></p>'
                shown = Markup(link).format(block.summary, len(records), name, name)
            case Folded():
                shown = macros["folded"](block.summary, render_block(block.content))
                if isinstance(block.content, Table) and len(block.content.records) > MOST_ROWS:
                    place = '<p class="on-paper">{}: {:,} rows, in tables/{}.csv</p>'
                    shown += Markup(place).format(block.summary, len(block.content.records), block.content.name)
            case Sample():
                shown = macros["sample"](block)
            case _:
                shown = block
        return shown

    return environment.get_template("page.html.j2").render(
        evidence=evidence,
        sections=[section for section in sections if section.blocks],
        render_block=render_block,
        tiles=_tiles(evidence),
        facts=_facts(evidence),
        is_synthetic=is_synthetic(evidence),
        samples_title=next(
            (section.title for section in sections if section.anchor == "samples" and section.blocks), ""
        ),
        css=Markup((TEMPLATES / "page.css").read_text(encoding="utf-8")),
    )


def _tiles(evidence: Evidence) -> list[dict[str, str]]:
    """Describe each hypothesis in a plain sentence, with its verdict and the number behind it."""
    words = {reason.code: reason.words for reason in evidence.answer.reasons}
    return [
        {
            "code": finding.hypothesis,
            "title": claim_title(finding.hypothesis),
            "claim": claim_sentence(finding),
            "verdict": finding.verdict,
            "words": f"{MARKS[finding.verdict]} {words[finding.hypothesis]}",
            **_measured(finding, confidence_level(evidence)),
            "note": f"{finding.note[0].upper()}{finding.note[1:]}." if finding.note else "",
        }
        for finding in evidence.findings
        if finding.scope == "overall"
    ]


def _measured(finding: ClaimFinding, confidence: str) -> dict[str, str]:
    """Describe the ratio in words, and what it compares."""
    shown = compare(finding)
    if shown.value is None:
        return {"value": "", "label": ""}
    limits = ""
    if shown.low and shown.high:
        limits = f" ({confidence} interval: {formats.change_range(shown.low, shown.high)})"
    label = f"perplexity of {KINDS_OF_MODEL[shown.above]} than of {KINDS_OF_MODEL[shown.below]}{limits}"
    return {"value": formats.change(shown.value), "label": label}


def _facts(evidence: Evidence) -> list[str]:
    """Return the counts shown under the title."""
    matrix, ended = evidence.matrix, evidence.run.ended_at
    facts = [
        f"{sum(bool(row.cells) for row in matrix.rows)} models{_seeds(matrix)}",
        f"{len(matrix.levels)} levels",
        f"{sum(size.documents for size in matrix.sizes.values()):,} test documents",
    ]
    return facts + ([f"last training ended {formats.date(ended)}"] if ended else [])


def _seeds(matrix: Matrix) -> str:
    """Return ` with up to 92 seeds each` if models were trained with several seeds."""
    most = max((len(row.models) for row in matrix.rows), default=0)
    return f" with up to {most} seeds each" if most > 1 else ""
