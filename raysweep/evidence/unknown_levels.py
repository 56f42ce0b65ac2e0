"""Evaluates how a new learner of unknown level is served: by way, level and length of the visible text.

Two families of models are judged, those trained on a single level and the fine-tuned ones, if they
have models for two or more levels.  Perplexities are of the answers to each document's first mask;
the ways to answer are those of `statistics.level_posterior`.  Over all levels, perplexities are
geometric means with equal weights; by length, they are over all tokens of the group.  With several
seeds, the first is used.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt

from raysweep.evidence.lineup import Entrant
from raysweep.evidence.robustness_schema import Calibration, GroupOfLearners, Share, UnknownLevels, Ways
from raysweep.statistics.bootstrap import Resamples
from raysweep.statistics.calibration_of_levels import calibrate_levels
from raysweep.statistics.contrasts import Estimate, estimate_ratio, measure
from raysweep.statistics.level_posterior import WAYS, ColdStart, score_unknown_levels
from raysweep.statistics.loss_table import LevelLosses, LossTable
from raysweep.statistics.weighted_parts import Part

FAMILIES = ("specialised", "transfer")
LENGTHS = (0, 1, 25, 50, 100, 200)
"""Minimum number of visible tokens of each group; the first group has none."""
LONG = 50

Mask = npt.NDArray[np.bool_]


def describe_cold_start(
    table: LossTable,
    entrants: Sequence[Entrant],
    levels: Sequence[str],
    corpus: Mapping[str, Any] | None,
    resamples: Resamples,
    confidence: float,
    valid: LossTable | None = None,
) -> tuple[UnknownLevels, ...]:
    """Return one record per family; none if it lacks models of two levels, or the scores lack first masks.

    Args:
        valid: the models' losses on valid documents, on which the temperature is fitted; None to fit it on
            the test documents of other learners.
        corpus: corpus/splits.json, for the number of training documents of each level; a level that it
            lacks counts as one document.
    """
    trained = {level: of_level["train"] for level, of_level in (corpus or {}).get("counts", {}).items()}
    shares = {level: max(float(trained.get(level, 1.0)), 1.0) for level in levels}
    general = next((_first(entrant) for entrant in entrants if entrant.role == "general" and entrant.models), None)
    families = []
    for family in FAMILIES:
        models = {entrant.level: _first(entrant) for entrant in entrants if entrant.role == family and entrant.models}
        experts = {level: models[level] for level in levels if level in models}
        scored = score_unknown_levels(table, experts, general, shares) if len(experts) > 1 else None
        if scored is not None:
            known = score_unknown_levels(valid, experts, None, shares) if valid is not None else None
            families.append(_Family(scored, resamples, confidence, known).describe(family, experts, shares))
    return tuple(families)


def _first(entrant: Entrant) -> str:
    return entrant.models[min(entrant.models)]


class _Family:
    """The scored documents of one family, in groups, with their resamples."""

    def __init__(self, scored: ColdStart, drawn: Resamples, confidence: float, valid: ColdStart | None) -> None:
        self._scored = scored
        self._confidence = confidence
        self._ways = [way for way in WAYS if way in scored.nats]
        by_level = {level: scored.truth == index for index, level in enumerate(scored.levels)}
        by_length = _by_length(scored.visible_tokens)
        is_long = scored.visible_tokens >= LONG
        self._groups = {name: mask for name, mask in (by_level | by_length).items() if mask.any()}
        self._seen = {
            name: mask & scored.is_seen
            for name, mask in (self._groups | {"all": scored.is_seen, "long": is_long}).items()
        }
        self._levels = [level for level in by_level if level in self._groups]
        self._lengths = [length for length in by_length if length in self._groups]
        nats_DW = np.stack([scored.nats[way] for way in self._ways], axis=1)
        ways = {name: _losses(name, mask, scored, scored.answer_tokens, nats_DW) for name, mask in self._groups.items()}
        self._resamples = drawn.again(ways, self._ways)
        # Accuracy is resampled like a loss: a document's loss is 1, in one token, if its level was found.
        ones_D, right_D1 = np.ones_like(scored.answer_tokens), scored.is_right.astype(np.float64)[:, None]
        rights = {
            name: _losses(name, mask, scored, ones_D, right_D1) for name, mask in self._seen.items() if mask.any()
        }
        self._right = drawn.again(rights, ["right"])
        calibration = calibrate_levels(scored, self._resamples.clusters.codes(scored.documents), drawn.seed, valid)
        self._calibration = None if calibration is None else Calibration(**asdict(calibration))

    def describe(self, family: str, experts: Mapping[str, str], shares: Mapping[str, float]) -> UnknownLevels:
        scored = self._scored
        return UnknownLevels(
            family=family,
            experts=dict(experts),
            shares=dict(shares),
            levels=scored.levels,
            documents=len(scored.documents),
            unseen=int((~scored.is_seen).sum()),
            ways=tuple(self._ways),
            overall=self._served(self._levels, len(scored.documents)),
            by_level=tuple(self._group(level) for level in self._levels),
            by_length=tuple(self._group(length) for length in self._lengths),
            accuracy=self._accuracy("all"),
            accuracy_long=self._accuracy("long"),
            long=LONG,
            long_documents=int((scored.visible_tokens >= LONG).sum()),
            confusion=tuple(map(tuple, scored.confusion().tolist())),
            calibration=self._calibration,
            mean_weight_of_truth=float(scored.posterior[np.arange(len(scored.truth)), scored.truth].mean()),
        )

    def _group(self, name: str) -> GroupOfLearners:
        served = self._served([name], int(self._groups[name].sum()))
        return GroupOfLearners(name=name, accuracy=self._accuracy(name), **dict(served))

    def _served(self, groups: Sequence[str], documents: int) -> Ways:
        """Return every way's perplexity, and its ratio to the oracle's and to the general model's."""
        return Ways(
            documents=documents,
            perplexity={way: self._ratio(groups, way) for way in self._ways},
            over_oracle={way: self._ratio(groups, way, "oracle") for way in self._ways if way != "oracle"},
            over_general={
                way: self._ratio(groups, way, "general")
                for way in self._ways
                if "general" in self._ways and way != "general"
            },
        )

    def _ratio(self, groups: Sequence[str], above: str, below: str | None = None) -> Estimate:
        share = 1.0 / len(groups)
        parts = [Part(weight=share, level=group, models={0: above}) for group in groups]
        if below is not None:
            parts += [Part(weight=-share, level=group, models={0: below}) for group in groups]
        return estimate_ratio(self._resamples, parts, self._confidence)

    def _accuracy(self, group: str) -> Share | None:
        """Return the share of levels found; if all or none are found, with the exact interval for as many writers."""
        is_right = self._scored.is_right[self._seen[group]]
        if not len(is_right):
            return None
        low, high = None, None
        if self._right.has_interval([group]):
            measured = measure(self._right, [Part(weight=1.0, level=group, models={0: "right"})])
            low, high = measured.interval(self._confidence)
            low, high = max(0.0, low), min(1.0, high)
            if is_right.all() or not is_right.any():
                # All draws are equal, which is uninformative; Clopper and Pearson's limit is not.
                edge = ((1.0 - self._confidence) / 2.0) ** (1.0 / self._right.levels[group].clusters)
                low, high = (edge, 1.0) if is_right.all() else (0.0, 1.0 - edge)
        return Share(value=float(is_right.mean()), low=low, high=high, documents=len(is_right))


def _by_length(visible_tokens: npt.NDArray[np.int64]) -> dict[str, Mask]:
    groups: dict[str, Mask] = {}
    for least, above in zip(LENGTHS, (*LENGTHS[1:], None), strict=True):
        name = "no" if least == 0 else f"{least} or more" if above is None else f"{least} to {above - 1}"
        groups[name] = (visible_tokens >= least) & (visible_tokens < (above or np.inf))
    return groups


def _losses(
    name: str, mask: Mask, scored: ColdStart, tokens_D: npt.NDArray[np.int64], nats_DW: npt.NDArray[np.float64]
) -> LevelLosses:
    return LevelLosses(level=name, documents=scored.documents[mask], tokens=tokens_D[mask], nats=nats_DW[mask])
