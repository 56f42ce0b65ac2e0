"""What more the losses say: every score, what would flip the verdicts, and how new learners are served."""

from collections.abc import Mapping, Sequence
from typing import Any

from raysweep.config.schema import Config
from raysweep.evidence.lineup import Entrant, role_models
from raysweep.evidence.score_rows import describe_scores
from raysweep.evidence.unknown_levels import Draws, describe_cold_start
from raysweep.evidence.verdict_changes import describe_sensitivity
from raysweep.statistics.bootstrap import Resamples
from raysweep.statistics.hypotheses import Hypothesis, Verdict
from raysweep.statistics.loss_table import LossTable
from raysweep.statistics.sensitivity import Question, try_variations

Values = dict[str, Any]


def describe_robustness(
    config: Config,
    table: LossTable,
    entrants: Sequence[Entrant],
    hypotheses: Sequence[Hypothesis],
    findings: Sequence[Values],
    resamples: Resamples,
    *,
    learner_of: Mapping[int, str],
    language_of: Mapping[int, str],
    corpus: Mapping[str, Any] | None,
) -> Values:
    """The evidence's `scores`, `sensitivity` and `cold_start`.

    Args:
        findings: as they are told; where nothing was tested nothing is varied.
        corpus: the summary of the splits, for the shares of the levels.
    """
    question = Question(
        hypotheses=hypotheses,
        roles=role_models(entrants, config.data.levels),
        levels=config.data.levels,
        confidence=config.report.confidence,
        metric=config.report.metric,
    )
    is_tested = any(one["verdict"] != Verdict.NOT_TESTED for one in findings)
    varied = (
        try_variations(question, table, resamples, clusters=learner_of, language_of=language_of) if is_tested else []
    )
    draws = Draws(
        resamples=config.report.resamples,
        seed=config.seed,
        confidence=config.report.confidence,
        clusters=learner_of,
    )
    counts = (corpus or {}).get("counts", {})
    shares = {level: float(of_level["train"]) for level, of_level in counts.items()}
    return {
        "scores": describe_scores(table, entrants),
        "sensitivity": describe_sensitivity(findings, varied),
        "cold_start": describe_cold_start(table, entrants, config.data.levels, shares, draws),
    }
