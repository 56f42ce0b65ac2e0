"""Section with two checks of the verdicts: do controls gain as much, and do test documents leak from another split?"""

from raysweep.evidence import formats
from raysweep.evidence.evidence_schema import Evidence
from raysweep.evidence.guards import LEAK_WORDS
from raysweep.evidence.lineup import ROLE_NAMES
from raysweep.evidence.robustness_schema import LeakEffectRow, MixedModel, Row
from raysweep.report.layout import Block, Folded, ReportSection, absent, alarm, heading, paragraph
from raysweep.report.tables import Cell, Column, Table, estimates, numbers, words
from raysweep.statistics.control_verdicts import ControlFinding

_SIGNS = {
    # by verdict of a control: its sign, and the verdict of a hypothesis whose colour it takes
    "survives": ("✔", "confirmed"),
    "explained": ("✘", "refuted"),
    "open": ("?", "undecided"),
    "no gain": ("–", "not tested"),
    "not tested": ("–", "not tested"),
}


def guard_section(evidence: Evidence) -> ReportSection:
    """Show the controls' findings, and the leaky test documents with their effect."""
    if evidence.controls.findings:
        controls = paragraph(
            "A control is a model that could gain as much for another reason than the level. The <strong>size "
            "control</strong> is trained like the level's own model on as many documents, drawn from all levels; the "
            "<strong>step control</strong> on all documents of all levels, for as many steps; the "
            "<strong>placebo</strong> on random groups as large as the level, and it is scored on random groups too. "
            "The <strong>compute control</strong> and the <strong>exposure control</strong> are general models that "
            "see as many examples as all level models together, the latter as many of each level. What the level's "
            "own model gains more than the control is the gain beyond the control. The control has "
            "<em>explained</em> the gain if this rest is shown to be below the smallest effect of interest and below "
            "half of the gain. The gain <em>survives</em> if the rest is shown to be above one of the two. Otherwise "
            "it is <em>open</em>."
        )
    else:
        controls = absent(
            "No control was trained, so this run cannot tell whether a gain comes from the levels or from size, steps "
            "or chance. See controls in the configuration."
        )
    return ReportSection(
        "guards",
        "Checks of the verdicts: controls and leaks",
        [
            heading("Controls"),
            controls,
            _controls(evidence),
            Folded("Perplexity of the control models", _control_models(evidence)),
            *_prompt_blocks(evidence),
            heading("Leaky test documents"),
            *_leak_blocks(evidence),
        ],
    )


def _prompt_blocks(evidence: Evidence) -> list[Block]:
    if not evidence.prompts.by_level:
        return []
    counts = ", ".join(f"{level}: {count}" for level, count in evidence.prompts.by_level.items())
    text = (
        "Test documents answer writing prompts ({}). Where a level has two or more, learners and prompts are clusters "
        "that cross (Cameron, Gelbach and Miller 2011), so the intervals hold for new learners and new prompts. {}"
    )
    sentences = " ".join(evidence.prompts.sentences)
    return [heading("Writing prompts"), paragraph(text, counts, sentences), _mixed_models(evidence)]


def _mixed_models(evidence: Evidence) -> Table[MixedModel]:
    def doubling(fit: MixedModel) -> Cell:
        values = (fit.per_doubling, fit.doubling_low, fit.doubling_high)
        detail = f"[{formats.percent(fit.doubling_low)}, {formats.percent(fit.doubling_high)}]"
        return Cell(text=formats.percent(fit.per_doubling), values=values, detail=detail)

    def ratio(fit: MixedModel) -> Cell:
        detail = f"[{formats.percent(fit.low)}, {formats.percent(fit.high)}]"
        return Cell(text=formats.percent(fit.ratio), values=(fit.ratio, fit.low, fit.high), detail=detail)

    def share(spread: float, fit: MixedModel) -> float | None:
        total = fit.learner_spread**2 + fit.prompt_spread**2 + fit.residual_spread**2
        return spread**2 / total if total else None

    return Table[MixedModel](
        "mixed_models",
        "Where the gain varies: a mixed model of the log ratio of perplexities of every test document, the general "
        "model's against an adapted one's. Learners and prompts are crossed random effects; level, first language and "
        "length are held constant; every document counts the same",
        evidence.prompts.fits,
        words("General model against", "other", lambda fit: ROLE_NAMES[fit.other]),
        numbers("Documents", "documents", formats.count),
        numbers("Learners", "learners", formats.count),
        numbers("Prompts", "prompts", formats.count),
        Column("Ratio", ("ratio", "ratio_low", "ratio_high"), ratio),
        numbers("Variance of learners", "learner_share", formats.share, lambda fit: share(fit.learner_spread, fit)),
        numbers("Of prompts", "prompt_share", formats.share, lambda fit: share(fit.prompt_spread, fit)),
        numbers("Of single documents", "residual_share", formats.share, lambda fit: share(fit.residual_spread, fit)),
        Column("A text twice as long", ("per_doubling", "doubling_low", "doubling_high"), doubling),
    )


def _leak_blocks(evidence: Evidence) -> list[Block]:
    leaks = evidence.leaks
    if not leaks.is_leaky:
        if evidence.settings.clusters == "document":
            unknown = alarm("Learners unknown: it was not checked whether a learner wrote in two splits.")
            text = "No test document shares its id or its text (or nearly its text) with training or validation."
            return [unknown, paragraph(text), _leaks(evidence)]
        unit = evidence.config["data"].get("split", {}).get("unit", "learner")
        shared = {"learner": "or its learner", "prompt": "or its prompt", "both": "its learner or its prompt"}[unit]
        result = paragraph(
            "No test document shares its id, its text (or nearly its text) {} with the training or validation split, "
            "as far as these are known.",
            shared,
        )
        return [result, _leaks(evidence)]
    refused = "No verdict is given, because test documents leak from the training or validation split."
    allowed = "Leaks were allowed, so every verdict of this report rests on a leaky split."
    blocks: list[Block] = [alarm(refused if leaks.is_refused else allowed), _leaks(evidence)]
    if leaks.effects:
        text = (
            "The start, before any training, shows how hard the leaky documents are in themselves. If a trained model "
            "finds them easier than the start does, compared with clean documents, the difference is the effect of the "
            "leak."
        )
        blocks += [paragraph(text), _leak_effects(evidence)]
    return blocks


def _controls(evidence: Evidence) -> Table[ControlFinding]:
    return Table[ControlFinding](
        "controls",
        "Controls: is the gain of a level's own model larger than size, steps or chance would give?",
        evidence.controls.findings,
        words("Control", "control", lambda control: f"{ROLE_NAMES[control.kind].capitalize()}, {control.scope}"),
        Column("Verdict on the gain", ("verdict",), _verdict, is_number=False),
        estimates("Gain of the level's model", "raw", formats.percent),
        estimates("Gain of the control", "own", formats.percent),
        Column("Gain of each group", ("lowest_draw", "highest_draw"), _draws),
        estimates("Gain beyond the control", "remaining", formats.percent),
        Column("Explained", ("explained_share", "share_low", "share_high"), _share, is_number=True),
        numbers("p, beyond", "p_remaining", formats.p_value),
        numbers("p, explained", "p_equivalent", formats.p_value),
        words("Note", "note"),
    )


def _share(control: ControlFinding) -> Cell:
    if control.verdict == "no gain":  # a share of nothing
        return Cell(text=formats.NONE, values=(None, None, None))
    share, low, high = control.explained_share, control.share_low, control.share_high
    detail = "" if low is None else f"{formats.share(low)} to {formats.share(high)}"
    return Cell(text=formats.share(share), values=(share, low, high), detail=detail)


def _draws(control: ControlFinding) -> Cell:
    """List what each random group of a placebo gains."""
    gains = sorted(draw.value for draw in control.draws)
    values = (gains[0], gains[-1]) if gains else (None, None)
    return Cell(text=", ".join(formats.percent(gain) for gain in gains) or formats.NONE, values=values)


def _verdict(control: ControlFinding) -> Cell:
    sign, colour = _SIGNS[control.verdict]
    return Cell(text=f"{sign} {control.verdict}", values=(control.verdict,), mark=colour)


def _control_models(evidence: Evidence) -> Table[Row]:
    """Make the table of the control models' perplexities, which the matrix omits because nobody should use them."""

    def perplexities(level: str) -> Column[Row]:
        return estimates(level, f"ppl_{level}", formats.perplexity, lambda row: row.cells.get(level))

    return Table[Row](
        "control_models",
        "Perplexity of the control models on each level's test documents",
        evidence.controls.rows,
        words(
            "Model",
            "model",
            lambda row: row.name,
            detail=lambda row: "; ".join(part for part in (ROLE_NAMES[row.role], row.reason) if part),
        ),
        *map(perplexities, evidence.matrix.levels),
    )


def _leaks(evidence: Evidence) -> Table[tuple[str, int]]:
    """Count the test documents that share something with train or valid, by kind of leak."""
    total = evidence.leaks.test_documents
    by_kind = evidence.leaks.by_kind
    return Table[tuple[str, int]](
        "leaks",
        "Test documents that share something with the training or validation split",
        [(shared, by_kind[kind]) for kind, shared in LEAK_WORDS.items() if total and kind in by_kind],
        words("What they share", "kind", lambda leak: leak[0].capitalize()),
        numbers("Test documents", "documents", formats.count, lambda leak: leak[1]),
        numbers("Share of all", "share", formats.share, lambda leak: leak[1] / total if total else None),
    )


def _leak_effects(evidence: Evidence) -> Table[LeakEffectRow]:
    """Compare perplexity on leaky and clean test documents, model by model."""
    return Table[LeakEffectRow](
        "leak_effects",
        "Leakage effect: perplexity on leaky test documents against clean ones of the same levels",
        evidence.leaks.effects,
        words("Model", "model", lambda effect: effect.name, detail=lambda effect: ROLE_NAMES[effect.role]),
        numbers("Leaky", "ppl_leaky", formats.perplexity, lambda effect: effect.leaky),
        numbers("Clean", "ppl_clean", formats.perplexity, lambda effect: effect.clean),
        estimates("Leaky against clean", "leaky_over_clean", formats.percent, lambda effect: effect.ratio),
        estimates(
            "The same, relative to the start",
            "leaky_over_clean_against_start",
            formats.percent,
            lambda effect: effect.against_start,
        ),
        numbers("Leaky documents", "documents", formats.count),
    )
