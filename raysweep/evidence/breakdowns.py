"""Perplexities by kind of mask, first language and length of text, and every single score.

A breakdown adds up the tokens of several levels, each level scored by its role's model.  The scores
of single models come added up in three ways: perplexity over all tokens (a long text counts more),
the geometric mean of the documents' perplexities (every text counts the same), and bits per byte of
the text, which does not depend on the tokenizer.  Scores of different levels or metrics are of
different texts: they are never ranked against each other.
"""

from collections.abc import Mapping, Sequence
from math import log

import numpy as np
import numpy.typing as npt

from raysweep.config.scored_metrics import METRICS, perplexity
from raysweep.evidence.evidence_schema import ByKind, ByLanguage, ByLength, ByRole
from raysweep.evidence.lineup import COMPARED_ROLES, Entrant
from raysweep.evidence.robustness_schema import Score
from raysweep.statistics.loss_table import KINDS, LevelLosses, LossTable, count_values, document_values

LANGUAGES_SHOWN = 12
LENGTHS = (0, 200, 400, 800, 1600)
"""Characters from which a group of texts begins."""


class Breakdowns:
    """Perplexities of groups of tokens, by role, on the levels where every role has a model."""

    def __init__(self, table: LossTable, metric: str, entrants: Sequence[Entrant], levels: Sequence[str]) -> None:
        self._table = table
        self._metric = metric
        self._entrants = [entrant for entrant in entrants if entrant.models]
        self._levels = levels
        self._losses = self._select(metric)

    def kinds_of_mask(self) -> tuple[ByKind, ...]:
        """By kind of mask.  The context has no kind: for it, the kinds' infilling losses are shown."""
        metric = "infill" if self._metric == "context" else self._metric
        selected = {kind: self._select(metric, kind) for kind in KINDS}
        return tuple(ByKind(kind=kind, **dict(self._by_role(losses))) for kind, losses in selected.items() if losses)

    def first_languages(self, language_of: Mapping[int, str]) -> tuple[ByLanguage, ...]:
        """By first language, the most frequent ones: does the gain reach every group of learners?"""
        languages = document_values(self._losses, language_of)
        return tuple(
            ByLanguage(
                l1=language,
                documents=documents,
                **dict(self._by_role(self._pick({level: of == language for level, of in languages.items()}))),
            )
            for language, documents in list(count_values(languages).items())[:LANGUAGES_SHOWN]
        )

    def text_lengths(self, characters_of: Mapping[int, int]) -> tuple[ByLength, ...]:
        """By length of the text: is the gain one of short texts, or of long ones?"""
        lengths = document_values(self._losses, characters_of)
        groups = []
        for low, high in zip(LENGTHS, (*LENGTHS[1:], None), strict=True):
            losses = self._pick({level: (of >= low) & (of < (high or np.inf)) for level, of in lengths.items()})
            if losses:
                documents = sum(len(of_level.documents) for of_level in losses.values())
                groups.append(ByLength(from_=low, below=high, documents=documents, **dict(self._by_role(losses))))
        return tuple(groups)

    def _select(self, metric: str, kind: str | None = None) -> dict[str, LevelLosses]:
        selected = self._table.select(metric, kind)
        return {level: selected[level] for level in self._levels if level in selected}

    def _pick(self, wanted: Mapping[str, npt.NDArray[np.bool_]]) -> dict[str, LevelLosses]:
        """The wanted documents; levels without any are left out."""
        return {level: losses.pick(wanted[level]) for level, losses in self._losses.items() if wanted[level].any()}

    def _by_role(self, losses: Mapping[str, LevelLosses]) -> ByRole:
        """Each role's perplexity over all tokens; None if a level lacks the role's model."""
        tokens = sum(int(of_level.tokens.sum()) for of_level in losses.values())
        values: dict[str, float | None] = {}
        for role in COMPARED_ROLES:
            nats = [self._mean_nats(of_level, role) for of_level in losses.values()]
            known = [value for value in nats if value is not None]
            values[role] = perplexity(sum(known) / tokens) if tokens and len(known) == len(nats) else None
        return ByRole(tokens=tokens, **values)

    def _mean_nats(self, losses: LevelLosses, role: str) -> float | None:
        """Nats of a role's model on a level, averaged over its seeds."""
        for entrant in self._entrants:
            if entrant.role == role and entrant.level in (None, losses.level):
                columns = [self._table.models.index(model) for model in entrant.models.values()]
                return float(losses.nats[:, columns].sum() / len(columns))
        return None


def describe_scores(table: LossTable, entrants: Sequence[Entrant]) -> tuple[Score, ...]:
    """A score per metric, model (every seed) and level, in the report's order of models."""
    selected = {metric: table.select(metric) for metric in METRICS}
    return tuple(
        _score(metric, entrant, seed, losses, table.models)
        for metric, by_level in selected.items()
        for entrant in entrants
        for seed in entrant.models
        for losses in by_level.values()
    )


def _score(metric: str, entrant: Entrant, seed: int, losses: LevelLosses, models: Sequence[str]) -> Score:
    nats_D = losses.nats[:, models.index(entrant.models[seed])]
    nats, tokens = float(nats_D.sum()), int(losses.tokens.sum())
    size = None if losses.bytes is None else int(losses.bytes.sum())
    return Score(
        metric=metric,
        entry=entrant.name,
        model=entrant.models[seed],
        seed=seed,
        role=entrant.role,
        level=losses.level,
        documents=len(losses.documents),
        tokens=tokens,
        bytes=size,
        nats=nats,
        perplexity=perplexity(nats / tokens),
        document_perplexity=perplexity(float(np.mean(nats_D / losses.tokens))),
        bits_per_byte=nats / log(2.0) / size if size else None,
    )
