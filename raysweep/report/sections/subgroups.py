"""Section on perplexity by kind of mask, by length of the text, and by first language."""

from raysweep.evidence import formats
from raysweep.evidence.evidence_schema import ByKind, ByLanguage, ByLength, ByRole, Evidence
from raysweep.evidence.lineup import COMPARED_ROLES, ROLE_NAMES
from raysweep.report.labels import compared_levels
from raysweep.report.layout import Block, Folded, ReportSection, absent
from raysweep.report.tables import Cell, Column, Table, numbers, words


def subgroup_section(evidence: Evidence) -> ReportSection:
    """Break the perplexities down by parts of the test documents, each level scored with its role's model."""
    blocks: list[Block] = [_kinds(evidence), _first_languages(evidence)]
    if evidence.lengths:
        blocks.append(Folded("By length of the text", _lengths(evidence)))
    if not evidence.kinds:
        reason = "No level has a model of every kind, so the kinds of model cannot be compared here."
        blocks.insert(0, absent(reason))
    return ReportSection("kinds", "By kind of mask, length and first language", blocks)


def _kinds(evidence: Evidence) -> Table[ByKind]:
    total = sum(group.tokens for group in evidence.kinds)
    return Table[ByKind](
        "kinds",
        f"Perplexity by kind of mask: {compared_levels(evidence)} together, each level scored with its own model",
        evidence.kinds,
        words("Kind", "kind"),
        numbers("Tokens", "share_of_tokens", formats.share, lambda group: group.tokens / total),
        *map(_role_column, COMPARED_ROLES),
    )


def _lengths(evidence: Evidence) -> Table[ByLength]:
    fields = ("from_characters", "below_characters")
    return Table[ByLength](
        "lengths",
        f"Perplexity by length of the text: {compared_levels(evidence)}, each level scored with its own model",
        evidence.lengths,
        Column("Characters", fields, _characters, is_number=False),
        numbers("Documents", "documents", formats.count),
        *map(_role_column, COMPARED_ROLES),
    )


def _first_languages(evidence: Evidence) -> Table[ByLanguage]:
    return Table[ByLanguage](
        "first_languages",
        f"Perplexity by first language: {compared_levels(evidence)}, each level scored with its own model (the most "
        "frequent languages)",
        evidence.first_languages,
        words("First language", "l1"),
        numbers("Documents", "documents", formats.count),
        *map(_role_column, COMPARED_ROLES),
    )


def _characters(group: ByLength) -> Cell:
    text = f"{group.from_:,} to {(group.below or 0) - 1:,}" if group.from_ else f"under {group.below or 0:,}"
    if group.below is None:
        text = f"{group.from_:,} and more"
    return Cell(text=text, values=(group.from_, group.below))


def _role_column(role: str) -> Column[ByRole]:
    """Make the column of a role's perplexity; none is marked as best, because there are no intervals."""
    return numbers(ROLE_NAMES[role].capitalize(), f"ppl_{role}", formats.perplexity, lambda group: getattr(group, role))
