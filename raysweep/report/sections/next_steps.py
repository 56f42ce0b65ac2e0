"""Section on next steps: what would make the answer firmer, and how to use and cite it."""

from collections.abc import Iterator

from raysweep.evidence.evidence_schema import Evidence
from raysweep.report.layout import ReportSection
from raysweep.report.tables import Table, words

Step = tuple[str, str, str]
"""What to do, why, and the setting or command."""
_AGAINST = {
    # by code of a caution: what to do about it
    "low_confidence": (
        "Judge at a higher confidence",
        "At a low one, many claims that do not hold are confirmed by chance.",
        "report: {confidence: 0.95}",
    ),
    "one_seed": (
        "Train every model with several seeds",
        "Only then do the intervals include how another training of the same model would turn out.",
        "seeds: 3",
    ),
    "last_step": (
        "Train for more steps",
        "A model whose last step is its best was still improving; a comparison of unfinished models may turn round.",
        "trials: {A1: {…, steps: more}, …}",
    ),
    "no_controls": (
        "Train the controls",
        "They tell whether the level helps, or only the number of documents, the number of steps, or chance.",
        "controls: {size_matched: true, step_matched: true, placebo: true}",
    ),
    "learners_unknown": (
        "Name the column of the learners",
        "Texts of one learner resemble each other; counted as independent, they make intervals too narrow.",
        "data: {columns: {learner: …}}",
    ),
}


def next_section(evidence: Evidence) -> ReportSection:
    """List the steps as a table, which Markdown shows too."""
    table = Table[Step](
        "next",
        "What would make the answer firmer, and how to use it",
        list(_steps(evidence)),
        words("Do", "what", lambda step: step[0]),
        words("Why", "why", lambda step: step[1]),
        words("How", "how", lambda step: step[2]),
    )
    return ReportSection("next", "Next", [table])


def _steps(evidence: Evidence) -> Iterator[Step]:
    name = evidence.run.name
    for caution in evidence.answer.cautions:
        if caution.code in _AGAINST:
            yield _AGAINST[caution.code]
    open_claims = [finding for finding in evidence.findings if finding.more_documents]
    if open_claims:
        most = max(finding.more_documents or 0 for finding in open_claims)
        yield (
            "Score more test documents",
            f"Up to {most:,} more by new learners would decide the open claims with 80 % power, if the ratios are as "
            "measured; the table of verdicts has the number of each.",
            "data: {csv: …}",
        )
    yield (
        "Repeat it on another corpus",
        "The verdicts hold for learners and prompts like those of this corpus.",
        "raysweep run --set data.csv=other.csv --name other",
    )
    if model := _a_model(evidence):
        yield (
            "Try the models",
            "They fill the blanks of a text that you give them.",
            f"raysweep infill --model runs/{name}/trials/{model}/model 'Yesterday I [word] to school.'",
        )
    yield (
        "Publish the evidence",
        "Others can then recompute every number without your corpus or a GPU.",
        f"raysweep bundle --name {name} --out evidence.zip",
    )
    yield (
        "Cite it",
        "Name the version and the digest, so that a reader can tell which report you mean.",
        f"raysweep {evidence.raysweep}, inputs {evidence.inputs.digest[:16]}…; the infilling method is that of "
        "Donahue, Lee and Liang (ACL 2020)",
    )


def _a_model(evidence: Evidence) -> str:
    """Return a trained model to try, of a single level if there is one."""
    rows = [row for row in evidence.matrix.rows if row.models and row.role != "start"]
    return next((row.models[0] for row in sorted(rows, key=lambda row: row.level is None)), "")
