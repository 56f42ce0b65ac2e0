"""Finds what limits a run's answer, in a few words each: the line *Read with care*, and the softened headline."""

from collections.abc import Mapping, Sequence

from raysweep.evidence.advice import CANNOT_ANSWER, NOT_DECIDED
from raysweep.evidence.evidence_schema import Caution, CautionCode, ClaimFinding, Recommendation
from raysweep.evidence.formats import share
from raysweep.evidence.run_schema import Training
from raysweep.statistics.claims import Verdict

LOW_CONFIDENCE = 0.9
"""Verdicts at a lower confidence are cautioned against."""
COMPARED = ("general", "specialised", "transfer")


def find_cautions(
    findings: Sequence[ClaimFinding],
    trainings: Sequence[Training],
    role_of: Mapping[str, str],
    *,
    most_seeds: int,
    has_controls: bool,
    learners_known: bool,
    confidence: float,
) -> tuple[Caution, ...]:
    """List what limits this run, the most important first; () if nothing was tested.

    Args:
        most_seeds: number of seeds of the entry that was trained with the most.
    """
    tested = [finding for finding in findings if finding.verdict is not Verdict.NOT_TESTED]
    if not tested:
        return ()
    steps: dict[str, list[int]] = {role: [] for role in COMPARED}
    last, known = 0, 0
    for training in trainings:
        role = role_of.get(training.entry)
        if role not in steps or not training.steps:
            continue
        steps[role].append(training.steps)
        known += training.best_step is not None
        last += training.best_step == training.steps
    texts: dict[CautionCode, str] = {}
    if confidence < LOW_CONFIDENCE:
        false = share((1.0 - confidence) / 2.0)
        texts["low_confidence"] = (
            f"at {share(confidence)} confidence, up to about {false} of claims that are just false are confirmed"
        )
    if min(finding.seeds for finding in tested) == 1:
        single = "each model was" if most_seeds == 1 else "some models were"
        texts["one_seed"] = f"{single} trained once, so chance in training is not covered"
    if last:
        best = f"the last step was the best in {last} of {known} trainings"
        texts["last_step"] = f"{best}, so these models may need more steps"
    if unequal := _unequal(steps):
        texts["unequal_steps"] = unequal
    if not has_controls:
        texts["no_controls"] = "no control was trained, so the level may not be what helps"
    if not learners_known:
        texts["learners_unknown"] = "the learners are unknown, so intervals may be too narrow"
    return tuple(Caution(code=code, text=text) for code, text in texts.items())


def soften(answer: Recommendation, cautions: Sequence[Caution]) -> Recommendation:
    """Add the cautions to the answer; while there are any, the run only leans to its recommendation."""
    headline = answer.headline
    if cautions and headline not in (CANNOT_ANSWER, NOT_DECIDED):
        headline = f"Leaning to: {headline[0].lower()}{headline[1:]}"
    return answer.model_copy(update={"headline": headline, "cautions": tuple(cautions)})


def _unequal(steps: Mapping[str, Sequence[int]]) -> str:
    """Describe the steps of each kind of model if they differ; '' if all had the same number."""
    spans = {role: (min(taken), max(taken)) for role, taken in steps.items() if taken}
    general, own, tuned = (spans.get(role) for role in COMPARED)
    if len({end for span in spans.values() for end in span}) < 2 or general is None:
        return ""
    parts = [f"the general model had {_steps(general)}"]
    parts += [f"a level's own model {_steps(own)}"] if own else []
    parts += [f"fine-tuning {_steps(tuned)} more"] if tuned else []
    return f"trainings were unequally long: {', '.join(parts)}"


def _steps(span: tuple[int, int]) -> str:
    low, high = span
    return f"{low:,} steps" if low == high else f"{low:,} to {high:,} steps"
