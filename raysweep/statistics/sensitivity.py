"""The same claims, judged in other ways: which choices of ours carry a verdict, and which do not matter?

A choice is varied alone, all others as they are:

    margin          H2's, from 5 to 15 %
    weighting       every document the same weight, instead of every token
    metric          the other ways to count: answers without their ends, the text around the blanks
    kind of mask    one kind alone
    first language  all documents but those of one first language

All variations are drawn with the same resamples of the same writers, so that they differ by what was
varied and by nothing else, and cost little more than one.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from raysweep.config.scored_metrics import METRICS
from raysweep.statistics.bootstrap import Resamples
from raysweep.statistics.hypotheses import Finding, Hypothesis, RoleModels, assess
from raysweep.statistics.loss_table import KINDS, LevelLosses, LossTable

MARGINS = (1.05, 1.075, 1.10, 1.125, 1.15)
ENOUGH_DOCUMENTS = 20
"""Of a first language with fewer, leaving them out says nothing."""
MOST_LANGUAGES = 12

Selection = Mapping[str, LevelLosses]


@dataclass(frozen=True, kw_only=True, slots=True)
class Variation:
    """One choice made otherwise, and what is found then."""

    group: str
    name: str
    documents: int
    findings: tuple[Finding, ...]
    """Of every hypothesis: overall, then each level."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """What was judged, as it was judged."""

    hypotheses: Sequence[Hypothesis]
    roles: RoleModels
    levels: Sequence[str]
    confidence: float
    metric: str

    def judge(self, resamples: Resamples, *, predict: bool = False) -> tuple[Finding, ...]:
        """Test every hypothesis; `predict` as in `assess`."""
        return tuple(
            finding
            for hypothesis in self.hypotheses
            for finding in assess(hypothesis, self.roles, resamples, self.levels, self.confidence, predict=predict)
        )


def try_variations(
    question: Question, table: LossTable, drawn: Resamples, language_of: Mapping[int, str]
) -> list[Variation]:
    """Judge the question in every other way.

    Args:
        drawn: the resamples that the verdicts rest on; other margins need no others.
        language_of: the first language of every document's writer.
    """
    found = [
        Variation(
            group="margin",
            name=f"H2's margin {(margin - 1) * 100:g} %",
            documents=sum(one.documents for one in drawn.levels.values()),
            findings=_with_margin(question, margin).judge(drawn),
        )
        for margin in MARGINS
        if not any(one.code == "H2" and abs(one.margin - margin) < 1e-9 for one in question.hypotheses)
    ]
    selections = list(_select(table, question.metric, language_of))
    together = drawn.again_together([selection for _, _, selection in selections])
    for (group, name, selection), resamples in zip(selections, together, strict=True):
        documents = sum(len(one.documents) for one in selection.values())
        findings = question.judge(resamples)
        found.append(Variation(group=group, name=name, documents=documents, findings=findings))
    return found


def _with_margin(question: Question, margin: float) -> Question:
    changed = [replace(one, margin=margin) if one.code == "H2" else one for one in question.hypotheses]
    return replace(question, hypotheses=changed)


def _select(table: LossTable, metric: str, language_of: Mapping[int, str]) -> Iterator[tuple[str, str, Selection]]:
    """Group, name and losses of every variation; one that nothing is left of is no variation."""
    base = table.select(metric)
    yield "weighting", "every document the same weight", weigh_documents(base)
    for other in METRICS:
        if other != metric and (losses := table.select(other)):
            yield "metric", other, losses
    for kind in KINDS:
        # The context has no kind; the kinds' answers are looked at.
        if losses := table.select("infill" if metric == "context" else metric, kind):
            yield "kind of mask", f"{kind} masks only", losses
    languages = {level: _languages(one, language_of) for level, one in base.items()}
    for language in _frequent(languages):
        without = {level: one.pick(languages[level] != language) for level, one in base.items()}
        if kept := {level: one for level, one in without.items() if len(one.documents)}:
            yield "first language", f"without {language}", kept


def weigh_documents(losses: Selection) -> dict[str, LevelLosses]:
    """Count every document as one token of its mean loss, long or short.

    exp of the mean is then the geometric mean of the documents' perplexities.
    """
    return {
        level: replace(one, tokens=np.ones_like(one.tokens), nats=one.nats / one.tokens[:, None], bytes=None)
        for level, one in losses.items()
    }


def _languages(losses: LevelLosses, language_of: Mapping[int, str]) -> npt.NDArray[np.str_]:
    return np.array([language_of[document] for document in losses.documents.tolist()])


def _frequent(languages: Mapping[str, npt.NDArray[Any]]) -> list[str]:
    if not languages:
        return []
    names, counts = np.unique(np.concatenate(list(languages.values())), return_counts=True)
    order = np.argsort(-counts, kind="stable")[:MOST_LANGUAGES]
    return [str(names[place]) for place in order if counts[place] >= ENOUGH_DOCUMENTS]
