"""Section on a learner of unknown level: who answers best, how often the level is found, and what not knowing costs."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from markupsafe import Markup

from raysweep.evidence import formats
from raysweep.evidence.claim_words import inverse
from raysweep.evidence.evidence_schema import Evidence, Way
from raysweep.evidence.lineup import ROLE_NAMES
from raysweep.evidence.robustness_schema import GroupOfLearners, Share, UnknownLevels, Ways
from raysweep.report.layout import Block, Figure, Folded, ReportSection, absent, heading, paragraph
from raysweep.report.svg import Interval, Reference, interval_plot, percent_interval
from raysweep.report.tables import Cell, Column, Table, estimates, numbers, words
from raysweep.statistics.contrasts import Estimate

FAMILY_NAMES = {"specialised": "models trained per level", "transfer": "models fine-tuned per level"}
WAY_NAMES = {
    "general": "the general model",
    "chosen": "the model chosen by the visible text",
    "mixture": "the mixture of the levels' models",
    "oracle": "the true level's model (oracle)",
}
Family = UnknownLevels
_Group = tuple[Family, str, GroupOfLearners]


def new_learner_section(evidence: Evidence) -> ReportSection:
    """Compare the ways to serve a new learner with the oracle, and show the levels found and one model for everyone."""
    blocks: list[Block] = [
        paragraph(
            "A new learner's level is not known at first. One general model can serve everyone, or the level can be "
            "estimated from the visible text; but the model of a wrong level can be much worse."
        )
    ]
    if evidence.cold_start:
        blocks.append(
            paragraph(
                "The model that finds the text around a new learner's blanks most likely can be <em>chosen</em>. Or "
                "the models of all levels can be <em>mixed</em>, each weighted with the probability of its level "
                "given the visible text (by Bayes' rule, from the levels' shares of the training documents, and again "
                "after every token). The <em>oracle</em> knows the true level. Only a document's first mask counts, "
                "because another mask would show the words behind its blanks."
            )
        )
        blocks += [paragraph("{}", sentence) for family in evidence.cold_start for sentence in _accuracy(family)]
        caption = (
            "Right of 1, the answers are less likely than under the true level's model. Diamonds: all levels together."
        )
        for family in evidence.cold_start:
            blocks += [
                heading(FAMILY_NAMES[family.family].capitalize()),
                Figure(f"cold-start-{family.family}", _plot(family), caption),
            ]
    else:
        blocks.append(
            absent(
                "Fewer than two levels have models of their own, or the scores were made by an earlier version that "
                "did not record first masks."
            )
        )
    blocks.append(_ways(evidence))
    if evidence.cold_start:
        blocks.append(_calibration(evidence))
        blocks.append(Folded("By level, and by length of the visible text", _groups(evidence)))
        blocks.append(Folded("The levels found, by true level", _confusion(evidence)))
    blocks += [Folded("One model for everyone", _everyone(evidence))]
    return ReportSection("unknown", "If the level is not known", blocks)


def _calibration(evidence: Evidence) -> Table[Family]:
    """Show how confident the probabilities of levels are, and how often they are right."""

    def number(field: str) -> Callable[[Family], float | None]:
        return lambda family: getattr(family.calibration, field)

    calibrated = [family for family in evidence.cold_start if family.calibration is not None]
    fitted_on = " and ".join({family.calibration.fitted_on: 0 for family in calibrated if family.calibration})
    return Table[Family](
        "calibration",
        "How well the probabilities of a learner's level fit what is true: as they are, and if the visible text counts "
        f"only one part in so many (the temperature, fitted on {fitted_on}). Calibration error: how far the "
        "probabilities are from the shares that are right. Brier score: their mean squared error. Lower is better",
        calibrated,
        words("Models", "family", lambda family: FAMILY_NAMES[family.family]),
        numbers("Documents", "documents", formats.count, number("documents")),
        numbers("Level found", "accuracy", formats.share, number("accuracy")),
        numbers("Mean probability", "confidence", formats.share, number("confidence")),
        numbers("Temperature", "temperature", formats.ratio, number("temperature")),
        numbers("Mean with temperature", "tempered_confidence", formats.share, number("tempered_confidence")),
        numbers("Calibration error", "error", formats.ratio, number("error")),
        numbers("With temperature", "tempered_error", formats.ratio, number("tempered_error")),
        numbers("Brier score", "brier", formats.ratio, number("brier")),
        numbers("With temperature", "tempered_brier", formats.ratio, number("tempered_brier")),
    )


def _ways(evidence: Evidence) -> Table[tuple[Family, str]]:
    """Compare every way's perplexity with the oracle's and the general model's, over all levels."""

    def general_over(row: tuple[Family, str]) -> Estimate | None:
        over = row[0].overall.over_general.get(row[1])
        if over is None:
            return None
        return Estimate(value=1.0 / over.value, low=inverse(over.high), high=inverse(over.low))

    return Table[tuple[Family, str]](
        "cold_start",
        "A learner of unknown level, by the model that answers (answers of the first mask and their ends; geometric "
        "mean over the levels)",
        [(family, way) for family in evidence.cold_start for way in family.ways],
        words("Models", "family", lambda row: FAMILY_NAMES[row[0].family]),
        words("Answered by", "way", lambda row: WAY_NAMES[row[1]]),
        estimates("Perplexity", "ppl", formats.perplexity, lambda row: row[0].overall.perplexity[row[1]]),
        estimates(
            "Above the oracle's", "over_oracle", formats.percent, lambda row: row[0].overall.over_oracle.get(row[1])
        ),
        estimates("General model's above this", "general_over_this", formats.percent, general_over),
    )


def _groups(evidence: Evidence) -> Table[_Group]:
    """Show by level, and by length of the visible text, how often the level is found and what not knowing it costs."""

    def over_oracle(way: str) -> Column[_Group]:
        title, field = way.capitalize(), f"{way}_over_oracle"
        return estimates(title, field, formats.percent, lambda row: row[2].over_oracle.get(way))

    groups: list[_Group] = []
    for family in evidence.cold_start:
        groups += [(family, group.name, group) for group in family.by_level]
        groups += [(family, f"{group.name} tokens", group) for group in family.by_length]
    return Table[_Group](
        "cold_start_groups",
        "The same by level, and by length of the visible text: share of levels found, and perplexity against the "
        "oracle",
        groups,
        words("Models", "family", lambda row: FAMILY_NAMES[row[0].family]),
        words("Level, or visible text", "group", lambda row: row[1]),
        numbers("Documents", "documents", formats.count, lambda row: row[2].documents),
        estimates("Level found", "accuracy", formats.share, lambda row: row[2].accuracy),
        *map(over_oracle, ("general", "chosen", "mixture")),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _TrueLevel:
    """Number of documents of one level, by the level found for them."""

    family: str
    level: str
    counts: dict[str, float]


def _confusion(evidence: Evidence) -> Table[_TrueLevel]:
    """Make the confusion matrix of levels told from perplexity: true level by row, found level by column."""
    levels = dict.fromkeys(level for family in evidence.cold_start for level in family.levels)

    def found(level: str) -> Column[_TrueLevel]:
        def cell(row: _TrueLevel) -> Cell:
            count, total = row.counts.get(level), sum(row.counts.values())
            return Cell(
                text=formats.count(count),
                values=(count,),
                detail=formats.share(count / total) if count and total else "",
                mark="best" if level == row.level and count else "",
            )

        return Column(f"Found {level}", (f"found_{level}",), cell)

    return Table[_TrueLevel](
        "confusion",
        "Perplexity as a classifier of levels: documents of each level (row) by the level whose model finds their "
        "visible text most likely (column); correct ones are bold",
        [
            _TrueLevel(family=family.family, level=level, counts=dict(zip(family.levels, counts, strict=True)))
            for family in evidence.cold_start
            for level, counts in zip(family.levels, family.confusion, strict=True)
        ],
        words("Models", "family", lambda row: FAMILY_NAMES[row.family]),
        words("True level", "level"),
        *map(found, levels),
    )


def _everyone(evidence: Evidence) -> Table[Way]:
    """Show what a learner of unknown level gets if one model must serve everyone."""
    roles = {row.name: ROLE_NAMES[row.role] for row in evidence.matrix.rows}
    return Table[Way](
        "unknown_level",
        "If the learner's level is not known: one model for everyone (geometric mean over the levels)",
        evidence.for_everyone,
        words("Model", "model", lambda way: way.name, detail=lambda way: roles[way.name]),
        estimates("Perplexity", "ppl", formats.perplexity, lambda way: way.perplexity),
    )


def _accuracy(family: Family) -> Iterator[str]:
    """Say in a sentence how often the level was found; nothing if it was not looked for."""
    if family.accuracy is None:
        return
    every, long = family.accuracy, family.accuracy_long
    text = f"By {FAMILY_NAMES[family.family]}, the level of {_share(every)} of {every.documents:,} documents is found"
    if long is not None:
        text += f", and of {_share(long)} of the {long.documents:,} with {family.long} visible tokens or more"
    if family.unseen:
        text += f"; {family.unseen:,} more show no text at all"
    yield f"{text}."


def _share(share: Share) -> str:
    bounds = f" ({formats.share(share.low)} to {formats.share(share.high)})" if share.low is not None else ""
    return f"{formats.share(share.value)}{bounds}"


def _plot(family: Family) -> Markup:
    """Plot every way's perplexity relative to the oracle's, over all levels and by length of the visible text."""
    groups: list[tuple[str, Share | None, Ways]] = [("all levels", family.accuracy, family.overall)]
    groups += [(f"{group.name} visible tokens", group.accuracy, group) for group in family.by_length]
    rows: list[Interval] = []
    for name, accuracy, ways in groups:
        level_found = f", level found for {formats.share(accuracy.value)}" if accuracy else ""
        rows.append(Interval(label=f"{name}{level_found}", text="", is_heading=True))
        rows += [
            percent_interval(way, ratio, is_summary=name == "all levels") for way, ratio in ways.over_oracle.items()
        ]
    return interval_plot(
        f"cold-start-{family.family}",
        "Perplexity against the oracle, by the model that answers",
        "Ratio of each way's perplexity to that of the true level's model; every number is in the table.",
        rows,
        [Reference(value=1.0, label="oracle")],
        "PPL of the way ÷ PPL of the true level's model (logarithmic)",
    )
