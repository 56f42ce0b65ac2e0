"""Evaluates the models between the general and each fine-tuned model: which is best, and is it better than both?

Their losses are in separate files, which exist only with `evaluation.interpolation`.  The ends'
test losses are those of the matrix, so that they agree to the last digit.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from raysweep.config.schema import Config
from raysweep.config.scored_metrics import perplexity
from raysweep.errors import InputError
from raysweep.evidence.guards import guard_findings
from raysweep.evidence.robustness_schema import BetweenScope, Interpolation, Leaks, WeightScore
from raysweep.scheduling.scorings import interpolated_name
from raysweep.scheduling.trials import Trial
from raysweep.statistics.bootstrap import Resamples
from raysweep.statistics.claims import OVERALL
from raysweep.statistics.contrasts import Estimate, estimate_ratio
from raysweep.statistics.loss_table import LevelLosses, LossTable, read_losses
from raysweep.statistics.role_models import RoleModels
from raysweep.statistics.weight_curves import (
    CLAIM,
    WeightCurve,
    assess_curves,
    level_parts,
    make_curve,
    weight_parts,
)
from raysweep.storage.run_folder import RunFolder


def describe_interpolation(
    folder: RunFolder,
    config: Config,
    table: LossTable,
    roles: RoleModels,
    trials: Mapping[str, Trial],
    resamples: Resamples,
    leaks: Leaks,
    lacks: Mapping[str, str],
) -> Interpolation | None:
    """Return the curves of all levels with a fine-tuned model; None if not configured, or if there are none.

    Args:
        table: losses of the matrix.
        lacks: per level why its test documents are by too few learners, or ''.

    Raises:
        InputError: the interpolated models were scored on other documents, or without the report's metric.
    """
    if not config.evaluation.interpolation or not folder.interpolated_losses.exists():
        return None
    curves = list(_curves(folder, config, table, roles, trials))
    if not curves:
        return None
    confidence, levels = config.report.confidence, tuple(curve.level for curve in curves)
    drawn = resamples.again({curve.level: curve.test for curve in curves}, curves[0].columns)
    tested = assess_curves(curves, drawn, confidence)
    findings = guard_findings(tested, (CLAIM,), leaks, (), config.report.hypotheses.specialisation.target, lacks)

    def ratio(of: Sequence[WeightCurve], end: float) -> Estimate | None:
        if all(curve.best == end for curve in of):
            return None
        return estimate_ratio(drawn, weight_parts(of, end, None), confidence)

    scopes = []
    for finding in findings:
        of = curves if finding.scope == OVERALL else [curve for curve in curves if curve.level == finding.scope]
        scopes.append(
            BetweenScope(
                scope=finding.scope,
                weight=None if finding.scope == OVERALL else of[0].best,
                documents=sum(len(curve.test.documents) for curve in of),
                valid_documents=sum(curve.valid_documents for curve in of),
                general_over_best=ratio(of, 0.0),
                transfer_over_best=ratio(of, 1.0),
                verdict=finding.verdict,
                p_value=finding.p_confirm,
                note=finding.note,
            )
        )
    scores = tuple(
        WeightScore(
            level=curve.level,
            weight=weight,
            valid_perplexity=perplexity(float(loss)),
            perplexity=estimate_ratio(drawn, level_parts(curve, weight), confidence),
            is_chosen=weight == curve.best,
        )
        for curve in curves
        for weight, loss in zip(curve.weights, curve.valid, strict=True)
    )
    return Interpolation(levels=levels, seeds=len(curves[0].seeds), scopes=tuple(scopes), scores=scores)


def read_valid_losses(folder: RunFolder, config: Config) -> LossTable | None:
    """Read the losses of the compared models on valid documents; None if they were not scored there."""
    if not config.evaluation.interpolation or not folder.valid_losses.exists():
        return None
    return read_losses(folder.valid_losses, config.data.levels)


def _curves(
    folder: RunFolder, config: Config, table: LossTable, roles: RoleModels, trials: Mapping[str, Trial]
) -> Iterator[WeightCurve]:
    """Yield a curve per level with a fine-tuned model and valid documents, over the seeds that all levels have."""
    metric, between = config.report.metric, sorted(config.evaluation.interpolation)
    if (valid := read_valid_losses(folder, config)) is None:
        return
    on_test, on_valid = table.select(metric), valid.select(metric)
    levels = [
        level for level in config.data.levels if level in on_test and level in on_valid and roles.of("transfer", level)
    ]
    seeds = sorted(set.intersection(*(set(roles.of("transfer", level)) for level in levels))) if levels else []
    for level in levels if seeds else ():
        mixed = read_losses(folder.interpolated_losses, [level], only=level)
        if (on_both := mixed.select(metric).get(level)) is None:
            raise InputError(f"{mixed.place}: level {level}: no document has tokens of {metric}; evaluate again")
        test = _endpoint_losses(on_test[level], table, roles, trials, seeds)
        chosen = _endpoint_losses(on_valid[level], valid, roles, trials, seeds)
        for seed in seeds:
            for weight in between:
                column = _column(on_both, mixed, interpolated_name(roles.of("transfer", level)[seed], weight))
                test[weight, seed] = column.pick(np.isin(column.documents, on_test[level].documents))
                chosen[weight, seed] = column.pick(np.isin(column.documents, on_valid[level].documents))
        try:
            yield make_curve([0.0, *between, 1.0], seeds, chosen, test)
        except ValueError as error:
            raise InputError(f"{folder.interpolated_losses}: level {level}: {error}; evaluate again") from error


def _endpoint_losses(
    losses: LevelLosses, table: LossTable, roles: RoleModels, trials: Mapping[str, Trial], seeds: Sequence[int]
) -> dict[tuple[float, int], LevelLosses]:
    """Return the general model's losses at weight 0, and the fine-tuned one's at 1."""
    ends = {}
    for seed in seeds:
        tuned = roles.of("transfer", losses.level)[seed]
        parent = trials[tuned].parent
        assert parent is not None, "a fine-tuned model starts from the general one"
        ends[0.0, seed], ends[1.0, seed] = _column(losses, table, parent), _column(losses, table, tuned)
    return ends


def _column(losses: LevelLosses, table: LossTable, model: str) -> LevelLosses:
    """Return the losses of one model."""
    column = table.models.index(model)
    return LevelLosses(
        level=losses.level,
        documents=losses.documents,
        tokens=losses.tokens,
        nats=losses.nats[:, column : column + 1],
    )
