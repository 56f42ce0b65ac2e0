"""Words the hypotheses and their verdicts in plain sentences, with the same direction for every ratio.

A comparison always says by how much the perplexity of the less adapted kind of model is higher than
that of the more adapted kind, in the order of `_BY_ADAPTATION`.  So above 0 % (a ratio above 1) the
more adapted kind is better, wherever a comparison is shown.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from raysweep.evidence.evidence_schema import ClaimFinding, Reason
from raysweep.evidence.formats import SPACE, change, change_range, listed
from raysweep.statistics.claims import OVERALL, Verdict

TOO_FEW = "too few learners"
KINDS_OF_MODEL = {
    "start": "the start before any training",
    "general": "the general model",
    "specialised": "models trained on their level alone",
    "transfer": "fine-tuned models",
}
_BY_ADAPTATION = tuple(KINDS_OF_MODEL)
_OTHER_END = {"low": "high", "high": "low", "alone_low": "alone_high", "alone_high": "alone_low"}
_TITLES = {"H1": "Specialisation matters", "H2": "One general model suffices", "H3": "Fine-tuning is best"}
_WHETHER = {
    "H1": "a model trained on the texts of one level alone predicts them better than the general model",
    "H2": "the general model is good enough for every level",
    "H3": "fine-tuning the general model on the texts of a level gives the best model for that level",
}
_SENTENCES = {
    "H1": {
        Verdict.CONFIRMED: "A model trained on the texts of one level alone predicts them better than the general "
        "model",
        Verdict.REFUTED: "A model trained on the texts of one level alone does not predict them better than the "
        "general model",
    },
    "H2": {
        Verdict.CONFIRMED: "The general model is good enough",
        Verdict.REFUTED: "The general model is not good enough",
    },
    "H3": {
        Verdict.CONFIRMED: "Fine-tuning the general model on the texts of a level{configured} gives the best model",
        Verdict.REFUTED: "Fine-tuning the general model on the texts of a level{configured} does not give the best "
        "model",
    },
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """A finding's ratio in the report's direction."""

    above: str
    """The less adapted kind, whose perplexity is the numerator."""
    below: str
    """The more adapted kind, whose perplexity is the denominator."""
    value: float | None
    low: float | None
    high: float | None
    alone_low: float | None
    alone_high: float | None
    without_one: float | None
    margin: float


def compare(finding: ClaimFinding) -> Comparison:
    """Return the finding's numbers, inverted if its ratio has the more adapted kind as numerator."""
    numerator = finding.numerator
    rival = finding.rival or ("general" if numerator == "transfer" else "transfer")
    names = ("value", "low", "high", "alone_low", "alone_high", "without_one")
    values = {name: getattr(finding, name) for name in names}
    if _BY_ADAPTATION.index(numerator) <= _BY_ADAPTATION.index(rival):
        return Comparison(above=numerator, below=rival, margin=finding.margin, **values)
    turned = {_OTHER_END.get(name, name): inverse(value) for name, value in values.items()}
    return Comparison(above=rival, below=numerator, margin=1.0 / finding.margin, **turned)


def in_one_direction(code: str, value: float | None) -> float | None:
    """Return an overall ratio of a hypothesis in the report's direction."""
    return inverse(value) if code == "H3" else value


def inverse(value: float | None) -> float | None:
    """Return one divided by a ratio; None for None."""
    return None if value is None else 1.0 / value


def claim_title(code: str) -> str:
    """Return the hypothesis in a few words."""
    return _TITLES[code]


def claim_sentence(finding: ClaimFinding) -> str:
    """Return the hypothesis in one plain sentence, with its margin."""
    bound = change(compare(finding).margin)
    if finding.hypothesis == "H1":
        by = "" if finding.margin == 1.0 else f", by {bound} perplexity or more"
        return f"A model trained on the texts of one level alone predicts that level better than one general model{by}."
    if finding.hypothesis == "H2":
        return (
            "One general model is good enough: its perplexity is less than "
            f"{bound} than that of the best models made for a level."
        )
    by = "" if finding.margin == 1.0 else f": the perplexity of any other kind of model is {bound} or more"
    return f"Fine-tuning the general model on the texts of a level gives the best model for that level{by}."


def claim_reason(finding: ClaimFinding, fine_tuning_steps: Sequence[int] = (), *, levels: int) -> Reason:
    """Word an overall finding as a sentence with its numbers.

    Args:
        fine_tuning_steps: numbers of steps for which the fine-tuned models were trained.
        levels: number of the run's levels; those tested are named if they are fewer.
    """
    code, verdict, note = finding.hypothesis, finding.verdict, finding.note
    as_asked = " by as much as was asked" if _asks_more(finding) else ""
    if verdict is Verdict.NOT_TESTED:
        text = f"It was not tested whether {_WHETHER[code]}."
    elif verdict is Verdict.UNDECIDED:
        text = f"It is open whether {_WHETHER[code]}{as_asked}: {_numbers(finding, levels)}."
    else:
        sentence = _SENTENCES[code][verdict].format(configured=_configured(fine_tuning_steps))
        if verdict is Verdict.REFUTED:
            sentence += as_asked
        text = f"{sentence}: {_numbers(finding, levels)}."
    if note:
        text += f" {note[0].upper()}{note[1:]}."
    return Reason(code=code, verdict=verdict, words=verdict_words(finding), text=text)


def count_levels(findings: Iterable[ClaimFinding]) -> int:
    """Return the number of levels that findings are about, tested or not."""
    return len({finding.scope for finding in findings} - {OVERALL})


def verdict_words(finding: ClaimFinding) -> str:
    """Return the verdict; with one training of each model it holds for these models only, and says so."""
    if finding.too_few:
        return TOO_FEW
    is_decided = finding.verdict in (Verdict.CONFIRMED, Verdict.REFUTED)
    return f"{finding.verdict} for these trained models" if is_decided and finding.seeds == 1 else str(finding.verdict)


def _asks_more(finding: ClaimFinding) -> bool:
    """Return whether H1 or H3 asks for more than a difference."""
    return finding.hypothesis != "H2" and finding.margin != 1.0


def _numbers(finding: ClaimFinding, levels: int) -> str:
    compared = compare(finding)
    assert compared.value is not None
    limits = ""
    if compared.low is not None and compared.high is not None:
        limits = f" (interval: {change_range(compared.low, compared.high)})"
    bound = f"; less than {change(compared.margin)} was asked" if finding.hypothesis == "H2" else ""
    if _asks_more(finding):
        bound = f"; {change(compared.margin)} or more was asked"
    if 0 < len(finding.levels) < levels:
        bound = f", over {listed(finding.levels)} alone{bound}"
    above, below = KINDS_OF_MODEL[compared.above], KINDS_OF_MODEL[compared.below]
    return f"the perplexity of {above} is {change(compared.value)}{limits} than that of {below}{bound}"


def _configured(steps: Sequence[int]) -> str:
    if not steps:
        return ""
    least, most = min(steps), max(steps)
    shown = f"{least:,}" if least == most else f"{least:,} to {most:,}"
    return f", as configured ({shown} steps),".replace(" steps", f"{SPACE}steps")
