"""The tables that answer the research question, built from the evidence alone.

What the run cost is in `contents_run.py`, what it was made of in `contents_data.py`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from raysweep.evidence import formats
from raysweep.report.tables import (
    Cell,
    Column,
    Table,
    interval,
    interval_column,
    number,
    number_column,
    text_column,
    word,
)

Values = Mapping[str, Any]

MARKS = {"confirmed": "✔", "refuted": "✘", "undecided": "?", "not tested": "–"}
ROLE_NAMES = {
    "start": "common start",
    "general": "general",
    "specialised": "specialised",
    "transfer": "fine-tuned",
    "size_matched": "size control",
    "step_matched": "step control",
    "placebo": "placebo",
    "other": "other",
}
METRIC_NAMES = {
    "infill": "answers and their ends",
    "infill_textonly": "the text of the answers",
    "context": "the text around the blanks",
}


def claim_of(finding: Values) -> str:
    """The hypothesis as one sentence with its margin."""
    margin = f"{finding['margin']:.2f}"
    return {
        "H1": f"Specialisation matters: PPL general ÷ PPL specialised is above {margin}",
        "H2": f"The general model suffices: PPL general ÷ PPL best other is below {margin}",
        "H3": f"Transfer is best: PPL fine-tuned ÷ PPL best other is below {margin}",
    }[str(finding["hypothesis"])]


def verdict_grid(evidence: Values) -> Table:
    """One row per hypothesis: overall, then each level."""
    scopes = ["overall", *evidence["levels"]]
    rows = []
    for code in dict.fromkeys(finding["hypothesis"] for finding in evidence["findings"]):
        found = {one["scope"]: one for one in evidence["findings"] if one["hypothesis"] == code}
        rows.append((word(code, detail=claim_of(found["overall"])), *(_verdict(found[scope]) for scope in scopes)))
    return Table(
        name="verdicts",
        caption=f"Verdicts, overall and per level (at {_level_of(evidence)} confidence, Holm over the levels)",
        columns=(
            text_column("Hypothesis", "hypothesis"),
            *(text_column(scope.capitalize() if scope == "overall" else scope, scope) for scope in scopes),
        ),
        rows=tuple(rows),
    )


def findings_table(evidence: Values) -> Table:
    """Everything a verdict rests on, a row each."""
    clusters = "learners" if evidence["settings"]["clusters"] == "learner" else "independent"
    rows = []
    for one in evidence["findings"]:
        documents = Cell(
            text=formats.count(one["documents"] or None),
            values=(one["documents"], one["clusters"]),
            detail=f"{one['clusters']:,} {clusters}" if one["documents"] != one["clusters"] else "",
        )
        rows.append(
            (
                Cell(text=f"{one['hypothesis']} {one['scope']}", values=(one["hypothesis"], one["scope"])),
                _verdict(one),
                interval(one, formats.ratio),
                word(ROLE_NAMES.get(one["rival"], one["rival"]) or formats.NONE),
                number(one["p_confirm"], formats.p_value),
                number(one["p_refute"], formats.p_value),
                documents,
                word(one["note"]),
            )
        )
    return Table(
        name="findings",
        caption="What each verdict rests on; p-values are one-sided and, on levels, corrected by Holm",
        columns=(
            Column(title="Claim", fields=("hypothesis", "scope"), is_number=False),
            text_column("Verdict", "verdict"),
            interval_column("Ratio", "ratio"),
            text_column("Against", "rival"),
            number_column("p, confirm", "p_confirm"),
            number_column("p, refute", "p_refute"),
            Column(title="Documents", fields=("documents", "clusters")),
            text_column("Note", "note"),
        ),
        rows=tuple(rows),
    )


def matrix_table(evidence: Values) -> Table:
    """Perplexity of every model on every level, the best of each level marked."""
    matrix = evidence["matrix"]
    levels: Sequence[str] = matrix["levels"]
    best = best_by_level(matrix)
    rows = []
    for row in matrix["rows"]:
        cells = [
            interval(row["cells"].get(level), formats.perplexity, mark="best" if best[level] == row["name"] else "")
            for level in levels
        ]
        rows.append((_model(row), *cells))
    return Table(
        name="matrix",
        caption=f"Perplexity on each level's test documents ({METRIC_NAMES[evidence['settings']['metric']]}); "
        "lower is better, the best of a level is bold",
        columns=(
            text_column("Model", "model"),
            *(interval_column(_sized(level, matrix["sizes"]), f"ppl_{level}") for level in levels),
        ),
        rows=tuple(rows),
    )


def best_by_level(matrix: Values) -> dict[str, str]:
    """The row with the lowest perplexity, per level."""
    best: dict[str, str] = {}
    for level in matrix["levels"]:
        values = {row["name"]: row["cells"][level]["value"] for row in matrix["rows"] if level in row["cells"]}
        best[level] = min(values, key=lambda name: values[name])
    return best


def gains_table(evidence: Values) -> Table:
    """Specialisation gain per level, against the plan's target."""
    targets = {one["scope"]: one["target"] for one in evidence["findings"] if one["hypothesis"] == "H1"}
    rows = [
        (word(one["level"]), interval(one["specialised"], formats.percent), word(targets.get(one["level"]) or ""))
        for one in evidence["gains"]
    ]
    target = formats.percent(evidence["settings"]["target"])
    return Table(
        name="gains",
        caption="Specialisation gain: by how much the general model's perplexity exceeds the specialised model's",
        columns=(
            text_column("Level", "level"),
            interval_column("Gain", "general_over_specialised"),
            text_column(f"Target ({target})", "target"),
        ),
        rows=tuple(rows),
    )


def transfer_table(evidence: Values) -> Table:
    """What fine-tuning the general model gains over both alternatives."""
    rows = [
        (
            word(one["level"]),
            interval(one["transfer_over_specialised"], formats.percent),
            interval(one["transfer_over_general"], formats.percent),
        )
        for one in evidence["gains"]
    ]
    return Table(
        name="transfer",
        caption="Transfer gain: by how much the other's perplexity exceeds the fine-tuned model's",
        columns=(
            text_column("Level", "level"),
            interval_column("Over training on the level alone", "specialised_over_transfer"),
            interval_column("Over the general model", "general_over_transfer"),
        ),
        rows=tuple(rows),
    )


def gaps_table(evidence: Values) -> Table:
    """How badly a level's model does elsewhere, and strangers on its texts."""
    rows = [
        (
            word(one["level"]),
            interval(one["own"], formats.perplexity),
            interval(one["others"], formats.perplexity),
            interval(one["gap"], formats.percent),
            interval(one["wrong_model"], formats.percent),
        )
        for one in evidence["gaps"]
    ]
    return Table(
        name="gaps",
        caption="Cross-level gap of the specialised models (geometric means over the other levels)",
        columns=(
            text_column("Level", "level"),
            interval_column("PPL on its own level", "own"),
            interval_column("PPL on the others", "others"),
            interval_column("Gap", "gap_ratio"),
            interval_column("Other levels' models on its texts", "wrong_model_ratio"),
        ),
        rows=tuple(rows),
    )


def kinds_table(evidence: Values) -> Table:
    """Perplexity by kind of mask."""
    total = sum(one["tokens"] for one in evidence["kinds"])
    rows = [
        (word(one["kind"]), number(one["tokens"] / total, formats.share), *_roles(one)) for one in evidence["kinds"]
    ]
    return Table(
        name="kinds",
        caption=f"Perplexity by kind of mask: the tokens of {levels_said(evidence)} together, each level by its model",
        columns=(text_column("Kind", "kind"), number_column("Tokens", "share_of_tokens"), *_ROLE_COLUMNS),
        rows=tuple(rows),
    )


def languages_table(evidence: Values) -> Table:
    """Perplexity by first language."""
    rows = [
        (word(one["l1"]), number(one["documents"], formats.count), *_roles(one)) for one in evidence["first_languages"]
    ]
    return Table(
        name="first_languages",
        caption=f"Perplexity by first language: {levels_said(evidence)}, each by its model (the most frequent)",
        columns=(text_column("First language", "l1"), number_column("Documents", "documents"), *_ROLE_COLUMNS),
        rows=tuple(rows),
    )


def lengths_table(evidence: Values) -> Table:
    """Perplexity by length of text."""
    rows = [
        (
            Cell(text=_characters(one), values=(one["from"], one["below"])),
            number(one["documents"], formats.count),
            *_roles(one),
        )
        for one in evidence["lengths"]
    ]
    return Table(
        name="lengths",
        caption=f"Perplexity by length of the text: {levels_said(evidence)}, each by its model",
        columns=(
            Column(title="Characters", fields=("from_characters", "below_characters"), is_number=False),
            number_column("Documents", "documents"),
            *_ROLE_COLUMNS,
        ),
        rows=tuple(rows),
    )


def _characters(group: Values) -> str:
    if group["below"] is None:
        return f"{group['from']:,} and more"
    return f"{group['from']:,} to {group['below'] - 1:,}" if group["from"] else f"under {group['below']:,}"


_ROLE_COLUMNS: tuple[Column, ...] = tuple(
    number_column(ROLE_NAMES[role].capitalize(), f"ppl_{role}")
    for role in ("start", "general", "specialised", "transfer")
)


def _roles(row: Values) -> list[Cell]:
    values = [row[role] for role in ("start", "general", "specialised", "transfer")]
    known = [value for value in values if value is not None]
    return [
        Cell(
            text=formats.perplexity(value),
            values=(value,),
            mark="best" if value is not None and value == min(known) else "",
        )
        for value in values
    ]


def levels_said(evidence: Values) -> str:
    """The levels on which the ways are compared; those that lack a model are left out."""
    common = evidence["common_levels"]
    return "all levels" if common == evidence["levels"] else ", ".join(common) or "no level"


def _verdict(finding: Values) -> Cell:
    verdict = str(finding["verdict"])
    said = ["leaky split"] if finding.get("leaky") else []
    said += [f"explained by: {ROLE_NAMES[kind]}" for kind in finding.get("explained_by", ())]
    return Cell(text=f"{MARKS[verdict]} {verdict}", values=(verdict,), mark=verdict, detail="; ".join(said))


def _model(row: Values) -> Cell:
    seeds = f", mean of {len(row['models'])} seeds" if len(row["models"]) > 1 else ""
    missing = f"; {'; '.join(row['missing'].values())}" if row["missing"] else ""
    return word(row["name"], detail=ROLE_NAMES[row["role"]] + seeds + missing)


def _sized(level: str, sizes: Values) -> str:
    return f"{level} (n = {sizes[level]['documents']:,})".replace(" = ", f"{formats.SPACE}={formats.SPACE}")


def _level_of(evidence: Values) -> str:
    return f"{evidence['settings']['confidence'] * 100:g} %"
