"""Sensitivity analysis: tests the same claims after changing one choice at a time.

The varied choices are:

    margin          H2's, from 5 to 15 %
    weighting       equal weights for documents instead of tokens
    metric          the other metrics: answers without their ends, the text around the blanks
    kind of mask    one kind alone
    first language  all documents except those of one first language

All variations use the same resamples of the same writers, so that they differ only by the varied choice,
and cost little more than one.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from raysweep.config.scored_metrics import METRICS
from raysweep.statistics.bootstrap import Resamples
from raysweep.statistics.claims import ADAPTATION_CLAIMS, Finding, Hypothesis
from raysweep.statistics.hypotheses import assess
from raysweep.statistics.loss_table import KINDS, LevelLosses, LossTable, count_values, document_values
from raysweep.statistics.role_models import RoleModels

MARGINS = (1.05, 1.075, 1.10, 1.125, 1.15)
ENOUGH_DOCUMENTS = 20
"""A first language with fewer documents is not left out as a variation."""
MOST_LANGUAGES = 12

Selection = Mapping[str, LevelLosses]


@dataclass(frozen=True, kw_only=True, slots=True)
class Variation:
    """The findings after one choice was changed."""

    group: str
    name: str
    documents: int
    findings: tuple[Finding, ...]
    """For every hypothesis: overall, then each level, which has no limits."""
    kinds: tuple[Finding, ...]
    """The same for the claims of `Question.compare_kinds`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """The tested hypotheses with all choices of the report."""

    hypotheses: Sequence[Hypothesis]
    roles: RoleModels
    levels: Sequence[str]
    confidence: float
    metric: str
    shares: Mapping[str, float] | None = None
    """Each level's share of the corpus, in any unit."""

    def judge(self, resamples: Resamples, *, predict: bool = False, limit_levels: bool = True) -> tuple[Finding, ...]:
        """Test every hypothesis; `predict` and `limit_levels` as in `assess`."""
        return self._assess(self.hypotheses, resamples, predict=predict, limit_levels=limit_levels, shares=self.shares)

    def compare_kinds(self, resamples: Resamples) -> tuple[Finding, ...]:
        """Test the claims that the advice needs in addition to the hypotheses, without limits on single levels."""
        return self._assess(ADAPTATION_CLAIMS, resamples, limit_levels=False)

    def _assess(
        self,
        claims: Sequence[Hypothesis],
        resamples: Resamples,
        *,
        predict: bool = False,
        limit_levels: bool,
        shares: Mapping[str, float] | None = None,
    ) -> tuple[Finding, ...]:
        return tuple(
            finding
            for claim in claims
            for finding in assess(
                claim,
                self.roles,
                resamples,
                self.levels,
                self.confidence,
                predict=predict,
                limit_levels=limit_levels,
                shares=shares,
            )
        )


def try_variations(
    question: Question, table: LossTable, drawn: Resamples, language_of: Mapping[int, str]
) -> list[Variation]:
    """Test the hypotheses under every variation.

    Args:
        drawn: the resamples of the verdicts; varied margins need no others.
        language_of: first language of every document's writer.
    """
    question, kinds = replace(question, shares=None), question.compare_kinds(drawn)
    variations = [
        Variation(
            group="margin",
            name=f"H2's margin {(margin - 1) * 100:g} %",
            documents=sum(level.documents for level in drawn.levels.values()),
            findings=_with_margin(question, margin).judge(drawn, limit_levels=False),
            kinds=kinds,
        )
        for margin in MARGINS
        if not any(claim.code == "H2" and abs(claim.margin - margin) < 1e-9 for claim in question.hypotheses)
    ]
    selections = list(_select(table, question.metric, language_of))
    together = drawn.again_together([selection for _, _, selection in selections])
    for group, name, selection in selections:
        # Measurements cached on the resamples are freed with them.
        resamples = together.pop(0)
        documents = sum(len(losses.documents) for losses in selection.values())
        findings = question.judge(resamples, limit_levels=False)
        kinds = question.compare_kinds(resamples)
        variations.append(Variation(group=group, name=name, documents=documents, findings=findings, kinds=kinds))
    return variations


def _with_margin(question: Question, margin: float) -> Question:
    hypotheses = [replace(claim, margin=margin) if claim.code == "H2" else claim for claim in question.hypotheses]
    return replace(question, hypotheses=hypotheses)


def _select(table: LossTable, metric: str, language_of: Mapping[int, str]) -> Iterator[tuple[str, str, Selection]]:
    """Yield group, name and losses of every variation that has documents."""
    base = table.select(metric)
    yield "weighting", "every document the same weight", weigh_documents(base)
    for other in METRICS:
        if other != metric and (losses := table.select(other)):
            yield "metric", other, losses
    for kind in KINDS:
        # Context losses have no kind of mask, so the kinds' infilling losses are used.
        if losses := table.select("infill" if metric == "context" else metric, kind):
            yield "kind of mask", f"{kind} masks only", losses
    languages = document_values(base, language_of)
    for language, documents in list(count_values(languages).items())[:MOST_LANGUAGES]:
        if documents < ENOUGH_DOCUMENTS:
            break
        without = {level: of_level.pick(languages[level] != language) for level, of_level in base.items()}
        if kept := {level: of_level for level, of_level in without.items() if len(of_level.documents)}:
            yield "first language", f"without {language}", kept


def weigh_documents(losses: Selection) -> dict[str, LevelLosses]:
    """Count every document as one token with its mean loss, whatever its length.

    exp of the mean is then the geometric mean of the documents' perplexities.
    """
    return {
        level: replace(
            of_level, tokens=np.ones_like(of_level.tokens), nats=of_level.nats / of_level.tokens[:, None], bytes=None
        )
        for level, of_level in losses.items()
    }
