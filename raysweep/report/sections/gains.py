"""Sections on gains: of a level's own model, of it on other levels, and of fine-tuning the general model."""

from markupsafe import Markup

from raysweep.evidence import formats
from raysweep.evidence.evidence_schema import Evidence, Gain, Gap
from raysweep.report.layout import Block, Figure, Folded, ReportSection, absent, heading, paragraph
from raysweep.report.svg import Interval, Reference, interval_plot, percent_interval
from raysweep.report.tables import Table, estimates, words


def gain_section(evidence: Evidence) -> ReportSection:
    """Compare specialised models with the general one, and with themselves on other levels."""
    blocks: list[Block] = [absent("There is no level with both a general and a specialised model.")]
    if any(gain.specialised for gain in evidence.gains):
        caption = (
            "Right of 1, the level's own model is better than the general model. The configuration sets the target."
        )
        blocks = [Figure("gain", _gain_plot(evidence), caption), Folded("The gains as a table", _gains(evidence))]
    blocks.append(heading("Cross-level gap"))
    if not evidence.gaps:
        blocks.append(absent("The gap cannot be measured without two levels and a specialised model."))
    else:
        explanation = paragraph(
            "“On other levels” tests a level's model on the other levels' texts, which may be harder or easier in "
            "themselves. “Other models here” tests the other levels' models on this level's texts, so that the texts "
            "are the same."
        )
        caption = (
            "How much worse a specialised model is outside its own level, and how much worse the other levels' models "
            "are on its level."
        )
        blocks += [
            explanation,
            Figure("gap", _gap_plot(evidence), caption),
            Folded("The gaps as a table", _gaps(evidence)),
        ]
    return ReportSection("gains", "Specialisation gain and cross-level gap", blocks)


def transfer_section(evidence: Evidence) -> ReportSection:
    """Compare fine-tuned models with both alternatives."""
    blocks: list[Block] = [absent("There is no fine-tuned model with another model to compare it with.")]
    if any(gain.transfer_over_general or gain.transfer_over_specialised for gain in evidence.gains):
        caption = "Right of 1, the general model fine-tuned on the level is better than the alternative named."
        blocks = [
            Figure("transfer-plot", _transfer_plot(evidence), caption),
            Folded("The gains of fine-tuning as a table", _transfer(evidence)),
        ]
    return ReportSection("transfer", "Transfer", blocks)


def _gains(evidence: Evidence) -> Table[Gain]:
    targets = {finding.scope: finding.target for finding in evidence.findings if finding.hypothesis == "H1"}
    return Table[Gain](
        "gains",
        "Specialisation gain: by how much the general model's perplexity exceeds the specialised model's",
        evidence.gains,
        words("Level", "level"),
        estimates("Gain", "general_over_specialised", formats.percent, lambda gain: gain.specialised),
        words(
            f"Target ({formats.percent(evidence.settings.target)})",
            "target",
            lambda gain: targets.get(gain.level) or "",
        ),
    )


def _gaps(evidence: Evidence) -> Table[Gap]:
    return Table[Gap](
        "gaps",
        "Cross-level gap of the specialised models (geometric means over the other levels)",
        evidence.gaps,
        words("Level", "level"),
        estimates("PPL on its own level", "own", formats.perplexity),
        estimates("PPL on the others", "others", formats.perplexity),
        estimates("Gap", "gap_ratio", formats.percent, lambda gap: gap.gap),
        estimates(
            "Other levels' models on its texts", "wrong_model_ratio", formats.percent, lambda gap: gap.wrong_model
        ),
    )


def _transfer(evidence: Evidence) -> Table[Gain]:
    return Table[Gain](
        "transfer",
        "Transfer gain: by how much the other model's perplexity exceeds the fine-tuned model's",
        evidence.gains,
        words("Level", "level"),
        estimates(
            "Over training on the level alone",
            "specialised_over_transfer",
            formats.percent,
            lambda gain: gain.transfer_over_specialised,
        ),
        estimates(
            "Over the general model", "general_over_transfer", formats.percent, lambda gain: gain.transfer_over_general
        ),
    )


def _gain_plot(evidence: Evidence) -> Markup:
    """Plot the specialisation gain per level, with the target."""
    target = evidence.settings.target
    return interval_plot(
        "gain",
        "Specialisation gain per level",
        "Ratio of the general model's perplexity to the specialised model's; right of 1, the specialised model is "
        "better.",
        [percent_interval(gain.level, gain.specialised) for gain in evidence.gains if gain.specialised],
        [Reference(value=1.0, label="equal"), Reference(value=target, label=f"target {target:g}")],
        "PPL general ÷ PPL specialised (logarithmic)",
    )


def _gap_plot(evidence: Evidence) -> Markup:
    """Plot every specialised model on the other levels, and the other levels' models on its level."""
    rows: list[Interval] = []
    for gap in evidence.gaps:
        rows.append(Interval(label=f"Model {gap.level}", text="", is_heading=True))
        rows.append(percent_interval("on other levels", gap.gap))
        if gap.wrong_model:
            rows.append(percent_interval("other models here", gap.wrong_model))
    return interval_plot(
        "gap",
        "Cross-level gap",
        "Per level: its model on the other levels against its own, and the other levels' models on its texts.",
        rows,
        [Reference(value=1.0, label="no gap")],
        "ratio of perplexities (logarithmic)",
    )


def _transfer_plot(evidence: Evidence) -> Markup:
    """Plot fine-tuned models against both alternatives, per level."""
    rows: list[Interval] = []
    for gain in evidence.gains:
        pairs = (("vs level alone", gain.transfer_over_specialised), ("vs general", gain.transfer_over_general))
        known = [percent_interval(label, estimate) for label, estimate in pairs if estimate]
        if known:
            rows += [Interval(label=gain.level, text="", is_heading=True), *known]
    return interval_plot(
        "transfer-plot",
        "Transfer gain per level",
        "Ratio of the other model's perplexity to the fine-tuned model's; right of 1, the fine-tuned model is better.",
        rows,
        [Reference(value=1.0, label="equal")],
        "PPL other ÷ PPL fine-tuned (logarithmic)",
    )
