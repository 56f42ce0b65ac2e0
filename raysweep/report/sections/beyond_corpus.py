"""Section on other corpora: every model's scores there, the hypotheses, and what differs from the run's own corpus."""

from dataclasses import dataclass

from markupsafe import Markup

from raysweep.evidence import formats
from raysweep.evidence.claim_words import claim_reason, compare, count_levels
from raysweep.evidence.evidence_schema import ClaimFinding, Evidence, FurtherCorpusScores
from raysweep.evidence.lineup import ROLE_NAMES
from raysweep.evidence.robustness_schema import Row
from raysweep.report.labels import confidence_level, metric_name, resampling_said, short_verdict, verdict_cell
from raysweep.report.layout import Block, Folded, ReportSection, absent, heading, paragraph
from raysweep.report.sections.model_matrix import level_perplexities
from raysweep.report.tables import Cell, Column, Table, estimates, numbers, words
from raysweep.statistics.claims import OVERALL, Verdict


@dataclass(frozen=True, kw_only=True, slots=True)
class _Pair:
    """A finding on the run's own test documents, and the same claim on those of another corpus."""

    own: ClaimFinding
    there: ClaimFinding

    @property
    def name(self) -> str:
        """The hypothesis, with the level or 'overall'."""
        return f"{self.there.hypothesis} {self.there.scope}"

    @property
    def is_turned(self) -> bool:
        """Whether it is confirmed on one corpus and refuted on the other."""
        return {self.own.verdict, self.there.verdict} == {Verdict.CONFIRMED, Verdict.REFUTED}

    @property
    def is_decided(self) -> bool:
        """Whether it is decided (confirmed or refuted) on both."""
        return {self.own.verdict, self.there.verdict} <= {Verdict.CONFIRMED, Verdict.REFUTED}


def beyond_section(evidence: Evidence) -> ReportSection:
    """Make a part per corpus; empty if there is none."""
    blocks: list[Block] = []
    if evidence.beyond:
        blocks = [
            paragraph(
                "The same models on other corpora. No model of this run was trained or chosen on these texts; texts "
                "that train or valid also have, word for word or almost, were set aside. Whether prompts or learners "
                "are shared with the run's own corpus is not checked. Perplexities of different corpora are of "
                "different texts: compare models within a corpus."
            )
        ]
    for number, corpus in enumerate(evidence.beyond, start=1):
        blocks += _corpus(evidence, corpus, number)
    return ReportSection("beyond", "Beyond the corpus", blocks)


def _corpus(evidence: Evidence, corpus: FurtherCorpusScores, number: int) -> list[Block]:
    pairs = _pairs(evidence, corpus)
    missing = ", ".join(corpus.missing_levels)
    return [
        heading(corpus.name),
        _facts(corpus),
        *([absent(f"No document of {missing}, so nothing is said of it here.")] if missing else []),
        _claims(corpus),
        _change_said(pairs),
        _matrix(evidence, corpus, number),
        _changes(evidence, pairs, corpus, number),
        *([Folded("Rows that were set aside", _set_aside(corpus, number))] if corpus.set_aside else []),
    ]


def _pairs(evidence: Evidence, corpus: FurtherCorpusScores) -> list[_Pair]:
    own = {(finding.hypothesis, finding.scope): finding for finding in evidence.findings}
    return [_Pair(own=own[there.hypothesis, there.scope], there=there) for there in corpus.findings]


def _facts(corpus: FurtherCorpusScores) -> Markup:
    return paragraph(
        "Compared: {} of {}. Set aside because train or valid has (almost) the same text: {:,}. {}",
        formats.counted(corpus.documents, "document"),
        formats.counted(corpus.rows, "row"),
        corpus.near_training,
        resampling_said(corpus.documents, corpus.without_learner),
    )


def _claims(corpus: FurtherCorpusScores) -> Markup:
    """State every hypothesis in the words of the answer."""
    items = [
        Markup("<li><strong>{} {}.</strong> {}</li>").format(reason.code, reason.words, reason.text)
        for finding in corpus.findings
        if finding.scope == OVERALL
        for reason in [claim_reason(finding, levels=count_levels(corpus.findings))]
    ]
    return Markup('<ul class="claims">{}</ul>').format(Markup("").join(items))


def _change_said(pairs: list[_Pair]) -> Markup:
    """Say in a sentence what differs from the run's own test documents."""
    turned = [pair.name for pair in pairs if pair.is_turned]
    lost = [pair.name for pair in pairs if _is_open(pair.there) and not _is_open(pair.own)]
    gained = [pair.name for pair in pairs if _is_open(pair.own) and not _is_open(pair.there)]
    kept = sum(pair.is_decided and not pair.is_turned for pair in pairs)
    parts = [f"{kept} of {len(pairs)} claims are decided with the same verdict on both"]
    parts += [f"decided the other way on this corpus: {', '.join(turned)}"] if turned else []
    parts += [f"decided on the run's own documents alone: {', '.join(lost)}"] if lost else []
    parts += [f"decided on this corpus alone: {', '.join(gained)}"] if gained else []
    return paragraph("Against the run's own test documents: {}.", "; ".join(parts))


def _is_open(finding: ClaimFinding) -> bool:
    return finding.verdict in (Verdict.UNDECIDED, Verdict.NOT_TESTED)


def _matrix(evidence: Evidence, corpus: FurtherCorpusScores, number: int) -> Table[Row]:
    matrix = corpus.matrix
    return Table[Row](
        f"beyond_{number}_matrix",
        f"{corpus.name}: perplexity on each level's documents ({metric_name(evidence)}); lower is better. A level's "
        "best model is bold if it is shown to be better than each other one (the interval of their ratio lies above 1)",
        matrix.rows,
        words("Model", "model", lambda row: row.name, detail=lambda row: ROLE_NAMES[row.role]),
        *(level_perplexities(matrix, level) for level in matrix.levels),
    )


def _changes(evidence: Evidence, pairs: list[_Pair], corpus: FurtherCorpusScores, number: int) -> Table[_Pair]:
    def claim(pair: _Pair) -> Cell:
        return Cell(text=pair.name, values=(pair.there.hypothesis, pair.there.scope))

    return Table[_Pair](
        f"beyond_{number}_verdicts",
        f"{corpus.name}: verdicts and ratios of perplexities beside those on the run's own test documents "
        f"({confidence_level(evidence)} confidence, Holm-corrected over the levels of each corpus)",
        pairs,
        Column("Claim", ("hypothesis", "scope"), claim, is_number=False),
        Column("Own documents", ("own_verdict",), lambda pair: _verdict(pair.own), is_number=False),
        estimates("Ratio", "own_ratio", formats.ratio, lambda pair: compare(pair.own)),
        Column("This corpus", ("verdict",), lambda pair: _verdict(pair.there), is_number=False),
        estimates("Ratio on this corpus", "ratio", formats.ratio, lambda pair: compare(pair.there)),
        numbers("Documents", "documents", formats.count, lambda pair: pair.there.documents),
        words("Note", "note", lambda pair: pair.there.note),
    )


def _verdict(finding: ClaimFinding) -> Cell:
    return verdict_cell(finding.verdict, shown=short_verdict(finding))


def _set_aside(corpus: FurtherCorpusScores, number: int) -> Table[tuple[str, int]]:
    return Table[tuple[str, int]](
        f"beyond_{number}_set_aside",
        f"{corpus.name}: rows that were set aside (each is listed in corpora/{corpus.name}/corpus/quarantine.csv)",
        list(corpus.set_aside.items()),
        words("Reason", "reason", lambda row: row[0]),
        numbers("Rows", "rows", formats.count, lambda row: row[1]),
        numbers("Share of all", "share", formats.share, lambda row: row[1] / corpus.rows),
    )
