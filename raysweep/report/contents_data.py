"""The tables of what the run was made of: splits, rows set aside, leak check, examples, software."""

from collections.abc import Mapping
from typing import Any

from raysweep.evidence import formats
from raysweep.report.tables import Cell, Table, number, number_column, text_column, word

Values = Mapping[str, Any]


def splits_table(evidence: Values) -> Table:
    """Documents per level and split."""
    corpus = evidence["corpus"] or {}
    rows = [
        (
            word(level),
            *(number(counts[split], formats.count) for split in ("train", "valid", "test")),
            number(sum(counts.values()), formats.count),
            number(corpus["lengths"][level]["mean"], formats.count),
        )
        for level in corpus.get("levels", ())
        if (counts := corpus["counts"].get(level))
    ]
    return Table(
        name="splits",
        caption="Documents per level and split",
        columns=(
            text_column("Level", "level"),
            *(number_column(split.capitalize(), split) for split in ("train", "valid", "test")),
            number_column("All", "all"),
            number_column("Mean characters", "mean_characters"),
        ),
        rows=tuple(rows),
    )


def bad_rows_table(evidence: Values) -> Table:
    """Rows of the CSV that were set aside, by reason."""
    corpus = evidence["corpus"] or {}
    rows = [
        (word(reason), number(count, formats.count), number(count / corpus["rows"], formats.share))
        for reason, count in sorted(corpus.get("bad_rows", {}).items(), key=lambda each: -each[1])
    ]
    return Table(
        name="set_aside",
        caption="Rows of the CSV that were set aside (each is listed in corpus/quarantine.csv)",
        columns=(
            text_column("Reason", "reason"),
            number_column("Rows", "rows"),
            number_column("Share of all", "share"),
        ),
        rows=tuple(rows),
    )


_LEAKS = {
    "ids": "Document ids",
    "exact_texts": "Texts, to the letter",
    "texts": "Texts, normalised",
    "near_duplicates": "Documents with a near duplicate",
    "learners": "Learners",
    "prompts": "Prompts (shared by design: no leak)",
}


def leakage_table(evidence: Values) -> Table:
    """What stands in two splits: must be nothing, prompts aside."""
    found = evidence["leakage"] or {}
    rows = [
        (word(title), number(found[name], formats.count), number(found[f"{name}_in_two_splits"], formats.count))
        for name, title in _LEAKS.items()
        if found.get(name) is not None
    ]
    return Table(
        name="leakage",
        caption="What is known to two splits, looked for in the finished corpus",
        columns=(
            text_column("What", "what"),
            number_column("Distinct", "distinct"),
            number_column("In two splits", "in_two_splits"),
        ),
        rows=tuple(rows),
    )


def examples_table(evidence: Values) -> Table:
    """What the mask stage counted."""
    return Table(
        name="examples",
        caption="Masked examples of all splits, as counted when they were made",
        columns=(text_column("What", "what"), number_column("Number", "number")),
        rows=tuple(
            (word(title), number(value, formats.count)) for title, value in _flatten(evidence["examples"] or {})
        ),
    )


def versions_table(evidence: Values) -> Table:
    """The software."""
    run = evidence["run"]
    versions = {"raysweep": evidence["raysweep"], "Python": run["python"], **run["libraries"]}
    versions["System"] = run["platform"]
    return Table(
        name="versions",
        caption="Software of the run",
        columns=(text_column("What", "what"), text_column("Version", "version")),
        rows=tuple((word(name), word(version)) for name, version in versions.items() if version),
    )


def inputs_table(evidence: Values) -> Table:
    """The files that everything was computed from."""
    return Table(
        name="inputs",
        caption="What the report was computed from; of each file the SHA-256, of tables that of their values",
        columns=(text_column("File", "file"), text_column("Digest", "sha256")),
        rows=tuple(
            (word(name), Cell(text=f"{digest[:16]}…", values=(digest,)))
            for name, digest in evidence["inputs"]["files"].items()
        ),
    )


def _flatten(counts: Values) -> list[tuple[str, float]]:
    """Whole numbers with their titles, those of a group behind its name."""
    found: list[tuple[str, float]] = []
    for name, value in counts.items():
        title = name.replace("_", " ")
        if isinstance(value, Mapping):
            found += [(f"{title}: {inner}", number) for inner, number in _flatten(value)]
        elif isinstance(value, int):
            found.append((title, value))
    return found
