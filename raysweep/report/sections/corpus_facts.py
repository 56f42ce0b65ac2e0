"""Section on the data: documents and splits, rows set aside, the leak check, and the masked examples."""

from collections.abc import Iterator, Mapping
from typing import Any

from raysweep.evidence import formats
from raysweep.evidence.evidence_schema import Evidence
from raysweep.report.layout import Block, Folded, ReportSection, absent, alarm, heading, paragraph
from raysweep.report.tables import Column, Table, numbers, words

Named = tuple[str, float]
_LEAKS = {
    "ids": "Document ids",
    "exact_texts": "Texts, letter by letter",
    "texts": "Texts, normalised",
    "near_duplicates": "Documents with a near duplicate",
    "learners": "Learners",
    "prompts": "Prompts (shared by design: no leak)",
}
_COUNTED = {
    "test_documents_with_passages_of_train": "Test documents that share a passage of 13 words with a train document",
    "test_documents_mostly_of_train": "Of these, with at least half of their passages in train",
    "documents_with_passages_of_prompts": "Documents that share a passage of 13 words with their prompt",
    "texts_not_tied": "Links between equal short texts that were not followed, since the group would be too large",
    "near_pairs_not_compared": "Pairs of texts that may be near duplicates and were not compared: too many look alike",
}
_NOT_FOUND = (
    "The check compares ids, texts and passages. It cannot find translations, paraphrases, or a learner with two ids."
)
_ALARM = "Documents leak between splits: the scores above cannot be trusted."


def data_section(evidence: Evidence) -> ReportSection:
    """Describe the documents, their splits and the examples made from them."""
    set_aside, leak_check, examples = _set_aside(evidence), _leak_check(evidence), _examples(evidence)
    is_leaking = _is_leaking(evidence)
    blocks: list[Block] = [absent("The corpus has no summary.")]
    if corpus := evidence.corpus:
        facts = [_grouping(corpus)]
        if language := corpus.get("language"):
            facts.append(paragraph("Language of the texts: <code>{}</code> (ISO 639).", language))
        blocks = [*facts, _splits(evidence), set_aside if set_aside.records else paragraph("No row was set aside.")]
    result = alarm(_ALARM) if is_leaking else paragraph("Nothing that would be a leak is in two splits.")
    counted = _counted(evidence)
    checked = (
        [leak_check, result, *([counted] if counted.records else [])]
        if leak_check.records
        else [absent("The leak check left no record.")]
    )
    blocks += [heading("Leak check"), *checked, paragraph(_NOT_FOUND)]
    if examples.records:
        blocks += [Folded("The masked examples", examples)]
    return ReportSection("data", "The data", blocks, alarm=_ALARM if is_leaking else "")


def _grouping(corpus: Mapping[str, Any]) -> Block:
    """Say how many documents there are, and what decided their splits."""
    made = "{:,} rows gave {:,} documents. Every document is in one split, the same for all models. "
    if corpus["grouped_by"] == "published splits":
        by = "The splits are those that were published with the corpus."
        return paragraph(made + by, corpus["rows"], corpus["documents"])
    return paragraph(
        made + "Documents with the same {} are kept in one split: {:,} groups, the largest with {:,} documents.",
        corpus["rows"],
        corpus["documents"],
        corpus["grouped_by"].replace(" and ", " or the same "),
        corpus["groups"],
        corpus["largest_group"],
    )


def _is_leaking(evidence: Evidence) -> bool:
    """Return whether anything is in two splits that must not be."""
    leakage = evidence.leakage or {}
    return any(leakage.get(f"{name}_in_two_splits") for name in ("ids", "learners", "texts", "near_duplicates"))


def _splits(evidence: Evidence) -> Table[tuple[str, dict[str, int]]]:
    """Count documents per level and split."""
    corpus = evidence.corpus or {"levels": ()}

    def documents(split: str) -> Column[tuple[str, dict[str, int]]]:
        return numbers(split.capitalize(), split, formats.count, lambda row: row[1][split])

    return Table[tuple[str, dict[str, int]]](
        "splits",
        "Documents per level and split",
        [(level, counts) for level in corpus["levels"] if (counts := corpus["counts"].get(level))],
        words("Level", "level", lambda row: row[0]),
        *map(documents, ("train", "valid", "test")),
        numbers("All", "all", formats.count, lambda row: sum(row[1].values())),
        numbers("Mean characters", "mean_characters", formats.count, lambda row: corpus["lengths"][row[0]]["mean"]),
    )


def _set_aside(evidence: Evidence) -> Table[Named]:
    """Count the rows of the corpus that were set aside, by reason."""
    corpus = evidence.corpus or {"bad_rows": {}}
    return Table[Named](
        "set_aside",
        "Rows of the corpus that were set aside (each is listed in corpus/quarantine.csv)",
        sorted(corpus["bad_rows"].items(), key=lambda row: -row[1]),
        words("Reason", "reason", lambda row: row[0]),
        numbers("Rows", "rows", formats.count, lambda row: row[1]),
        numbers("Share of all", "share", formats.share, lambda row: row[1] / corpus["rows"]),
    )


def _leak_check(evidence: Evidence) -> Table[str]:
    """List what is in two splits, which must be nothing except prompts."""
    leakage = evidence.leakage or {}
    return Table[str](
        "leakage",
        "What is in two splits of the finished corpus",
        [name for name in _LEAKS if leakage.get(name) is not None],
        words("What", "what", lambda name: _LEAKS[name]),
        numbers("Distinct", "distinct", formats.count, lambda name: leakage[name]),
        numbers("In two splits", "in_two_splits", formats.count, lambda name: leakage[f"{name}_in_two_splits"]),
    )


def _counted(evidence: Evidence) -> Table[str]:
    """Count what documents share without being kept in one split."""
    leakage = evidence.leakage or {}
    return Table[str](
        "passages",
        "What documents share without being kept in one split",
        [name for name in _COUNTED if leakage.get(name) is not None],
        words("What", "what", lambda name: _COUNTED[name]),
        numbers("Number", "number", formats.count, lambda name: leakage[name]),
    )


def _examples(evidence: Evidence) -> Table[Named]:
    """List the counts of the mask stage."""
    return Table[Named](
        "examples",
        "Masked examples of all splits, as counted when they were made",
        list(_flatten(evidence.examples or {})),
        words("What", "what", lambda row: row[0]),
        numbers("Number", "number", formats.count, lambda row: row[1]),
    )


def _flatten(counts: Mapping[str, Any], group: str = "") -> Iterator[Named]:
    """Yield whole numbers with their titles, prefixed by the name of their group."""
    for name, value in counts.items():
        title = group + name.replace("_", " ")
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{title}: ")
        elif isinstance(value, int):
            yield title, value
