"""Looks at the claims after each seed, if seeds are sequential: what was spent, decided and not trained."""

from dataclasses import dataclass

from markupsafe import Markup

from raysweep.evidence import formats
from raysweep.evidence.evidence_schema import ClaimFinding, Evidence
from raysweep.evidence.robustness_schema import SeedLookRow
from raysweep.report.layout import Block, Folded, paragraph
from raysweep.report.tables import Table, numbers, words
from raysweep.statistics.group_sequential import MOST_MEASURED_ERROR


@dataclass(frozen=True, kw_only=True, slots=True)
class _Look:
    finding: ClaimFinding
    look: SeedLookRow


def seed_look_blocks(evidence: Evidence) -> list[Block]:
    """Make a paragraph and a folded table; [] if seeds are fixed."""
    most = evidence.settings.most_seeds
    if most is None:
        return []
    return [_said(evidence, most), Folded("The looks at each claim, as a table", _table(evidence))]


def _said(evidence: Evidence, most: int) -> Markup:
    saved = evidence.costs.saved
    unit = {"gpu": "GPU-hours", "cpu": "core-hours"}.get(saved.unit, "hours") if saved is not None else ""
    spared = (
        f"Not started, because no claim needed them: {formats.counted(saved.trainings, 'training')}. That saved about "
        f"{formats.hours(saved.seconds / 3600)} ({unit})."
        if saved is not None
        else "No training was left out."
    )
    return paragraph(
        "Seeds were trained one after another, up to {}, and every claim was looked at after each from the second on. "
        "The p-values and intervals of the claims allow for the looks: each look may use up a part of the error rate "
        "(alpha spending of Lan and DeMets, in proportion to the seeds), so it needs a smaller p-value than a fixed "
        "number of seeds would. For 95 % intervals and at most five seeds, one side of a claim erred in at most {} of "
        "5,000 simulated experiments; that is measured, not proven, for the bootstrap's p-values are not exact. All "
        "other intervals of this report are as if the number of seeds had been fixed. An undecided "
        "claim was given up where the seeds left would have decided it with a probability below 20 %. {}",
        most,
        formats.share(MOST_MEASURED_ERROR),
        spared,
    )


def _table(evidence: Evidence) -> Table[_Look]:
    return Table[_Look](
        "seed_looks",
        "The looks at each claim. Spent: how much of the error rate of each side of the test (confirm, refute) was "
        "used up to this look. p-values allow for all looks up to it, and are not yet corrected by Holm",
        [_Look(finding=finding, look=look) for finding in evidence.findings for look in finding.looks],
        words("Claim", "hypothesis", lambda row: row.finding.hypothesis),
        words("Scope", "scope", lambda row: row.finding.scope),
        numbers("Seeds", "seeds", formats.count, lambda row: row.look.seeds),
        numbers("Share of all seeds", "time", formats.share, lambda row: row.look.time),
        numbers(
            "Spent",
            "spent",
            lambda spent: formats.NONE if spent is None else f"{spent:.5f}",
            lambda row: row.look.spent,
        ),
        numbers("p, confirm", "p_confirm", formats.p_value, lambda row: row.look.p_confirm),
        numbers("p, refute", "p_refute", formats.p_value, lambda row: row.look.p_refute),
        words("In the end", "verdict", lambda row: row.finding.verdict),
    )
