"""Sections on what the models write into the blanks: scores of greedy answers, and samples if texts may be shown."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from raysweep.evidence import formats
from raysweep.evidence.evidence_schema import Evidence
from raysweep.report.infill_samples import Sample
from raysweep.report.layout import Block, Folded, ReportSection, absent, paragraph
from raysweep.report.tables import Cell, Column, Table, numbers, words

_MEASURES = {
    "top1_accuracy": "Words right",
    "unigram_recall": "Unigram recall",
    "unigram_f1": "Unigram F1",
    "bigram_recall": "Bigram recall",
    "bigram_f1": "Bigram F1",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class _Answers:
    """A model's scores of generated answers."""

    model: str
    overall: dict[str, Any]
    levels: dict[str, dict[str, Any]]
    seeds: Sequence[dict[str, Any]]
    """Scores of each seed over all levels."""

    def seed_range(self, measure: str) -> tuple[float | None, float | None]:
        """Return the lowest and the highest seed's value; (None, None) if one is unknown, or there is one seed."""
        values = [score.get(measure) for score in self.seeds]
        known = [value for value in values if value is not None]
        return (min(known), max(known)) if len(known) == len(values) > 1 else (None, None)


def generation_section(evidence: Evidence) -> ReportSection:
    """Measure how close the greedy answers come to what the learners wrote."""
    scored = [
        (row, [score for name in row.models if (score := evidence.scoring.get(name, {}).get("generation"))])
        for row in evidence.matrix.rows
    ]
    answers = [
        _Answers(
            model=row.models[0]
            if len(row.models) == 1
            else f"{row.name}, mean of {len(scores)} seed{'s' * (len(scores) != 1)}",
            overall=_mean([score["overall"] for score in scores]),
            levels={level: _mean([score["levels"][level] for score in scores]) for level in scores[0]["levels"]},
            seeds=[score["overall"] for score in scores],
        )
        for row, scores in scored
        if scores
    ]
    text = absent("No answers were generated in this run.")
    if answers:
        text = paragraph(
            "Every model fills the same blanks with its most likely words. A one-word answer is right or wrong. A "
            "longer answer is compared with what the learner wrote, by the words (unigrams) and the pairs of words "
            "(bigrams) that both have.{}",
            " Below a mean of several seeds stand its lowest and highest seed, where they differ."
            if any(len(row.seeds) > 1 for row in answers)
            else "",
        )
    blocks: list[Block] = [text, _overall(answers)]
    if answers:
        blocks.append(Folded("The same by level", _by_level(answers, evidence.matrix.levels)))
    return ReportSection("generation", "Generated answers", blocks)


def sample_section(samples: Sequence[Sample]) -> ReportSection:
    """Show some texts with every model's answers; empty without samples."""
    text = (
        "Some held-out texts with their blanks, the learner's words there, and each model's most likely answer. The "
        "seed chooses the texts, not the results."
    )
    return ReportSection("samples", "Samples", [paragraph(text), *samples] if samples else [])


def _mean(scores: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Average every measure that all seeds have; a single seed's scores are returned unchanged."""
    if len(scores) == 1:
        return scores[0]
    return {
        name: None if any(score.get(name) is None for score in scores) else sum(s[name] for s in scores) / len(scores)
        for name in scores[0]
    }


def _overall(answers: Sequence[_Answers]) -> Table[_Answers]:
    def measure(name: str) -> Column[_Answers]:
        def cell(row: _Answers) -> Cell:
            low, high = row.seed_range(name)
            ends = list(dict.fromkeys(formats.share(end) for end in (low, high) if end is not None))
            detail = " to ".join(ends) if len(ends) > 1 else ""
            return Cell(text=formats.share(row.overall[name]), values=(row.overall[name], low, high), detail=detail)

        return Column(_MEASURES[name], (name, f"{name}_lowest_seed", f"{name}_highest_seed"), cell)

    def count(row: _Answers) -> int:
        return int(row.overall["words"] + row.overall["longer_answers"])

    return Table[_Answers](
        "generation",
        "Infilling scores of greedy answers, all levels together",
        [row for row in answers if count(row)],
        words("Model", "model"),
        numbers("Answers", "answers", formats.count, count),
        *map(measure, _MEASURES),
        numbers("Unfinished", "unfinished", formats.count, lambda row: row.overall["unfinished"]),
    )


def _by_level(answers: Sequence[_Answers], levels: Sequence[str]) -> Table[_Answers]:
    """Make a table of accuracy on words, and unigram F1 of longer answers."""

    def scores(level: str) -> Column[_Answers]:
        def cell(row: _Answers) -> Cell:
            score = row.levels.get(level, {})
            right, f1 = score.get("top1_accuracy"), score.get("unigram_f1")
            return Cell(text=formats.share(right), values=(right, f1), detail=f"F1 {formats.share(f1)}")

        return Column(level, (f"top1_{level}", f"unigram_f1_{level}"), cell)

    return Table[_Answers](
        "generation_levels",
        "Words right by level, and below it the unigram F1 of longer answers",
        answers,
        words("Model", "model"),
        *map(scores, levels),
    )
