"""Computes perplexities by kind of mask, first language and length of text, and every single score.

A breakdown adds up the tokens of several levels, each level scored by its role's model.  The scores
of single models are aggregated in three ways: perplexity over all tokens (a long text counts more),
the geometric mean of the documents' perplexities (every text counts the same), and bits per byte of
the text, which does not depend on the tokenizer (only if every scored token spells text, unlike the ends of
answers).  Scores of different levels or metrics cover
different texts, so they are never ranked against each other.
"""

from collections.abc import Mapping, Sequence
from math import log
from statistics import fmean
from typing import Any

import numpy as np
import numpy.typing as npt

from raysweep.config.scored_metrics import METRICS, perplexity
from raysweep.evidence.evidence_schema import ByKind, ByLanguage, ByLength, ByRole, LengthEffect
from raysweep.evidence.lineup import COMPARED_ROLES, Entrant
from raysweep.evidence.robustness_schema import LevelScores
from raysweep.statistics.loss_table import KINDS, LevelLosses, LossTable, count_values, document_values

PUBLISHED = "sentence_textonly"
"""The quantity in the tables of Donahue, Lee and Liang (2020): the text of the answers to sentence blanks."""
_OF_TEXT = ("infill_textonly", "context", PUBLISHED)
"""Metrics whose tokens all spell text, the only ones with bits per byte."""
LANGUAGES_SHOWN = 12
LENGTHS = (0, 200, 400, 800, 1600)
"""Number of characters at which each group of texts begins."""


class Breakdowns:
    """Perplexities of groups of tokens, by role, on the levels where every role has a model."""

    def __init__(self, table: LossTable, metric: str, entrants: Sequence[Entrant], levels: Sequence[str]) -> None:
        self._table = table
        self._columns = {model: column for column, model in enumerate(table.models)}
        self._metric = metric
        self._entrants = [entrant for entrant in entrants if entrant.models]
        self._levels = levels
        self._losses = self._select(metric)

    def kinds_of_mask(self) -> tuple[ByKind, ...]:
        """Break down by kind of mask; the context has no kind, so the kinds' infilling losses are shown for it."""
        metric = "infill" if self._metric == "context" else self._metric
        selected = {kind: self._select(metric, kind) for kind in KINDS}
        return tuple(ByKind(kind=kind, **dict(self._by_role(losses))) for kind, losses in selected.items() if losses)

    def first_languages(self, language_of: Mapping[int, str]) -> tuple[ByLanguage, ...]:
        """Break down by first language, the most frequent ones: does the gain reach every group of learners?"""
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
        """Break down by length of the text: do short texts gain, or long ones?"""
        lengths = document_values(self._losses, characters_of)
        groups = []
        for low, high in zip(LENGTHS, (*LENGTHS[1:], None), strict=True):
            losses = self._pick({level: (of >= low) & (of < (high or np.inf)) for level, of in lengths.items()})
            if losses:
                documents = sum(len(of_level.documents) for of_level in losses.values())
                groups.append(ByLength(from_=low, below=high, documents=documents, **dict(self._by_role(losses))))
        return tuple(groups)

    def length_effect(self) -> LengthEffect | None:
        """Correlate (by rank) a document's tokens and what its level's own model saves; None without these models.

        If it is not 0, weighting tokens and weighting documents give different gains.
        """
        correlations, documents = [], 0
        for losses in self._losses.values():
            general, own = (self._document_nats(losses, role) for role in ("general", "specialised"))
            if general is None or own is None:
                continue
            saved_D = (general - own) / losses.tokens
            if np.ptp(losses.tokens) and np.ptp(saved_D):  # else there are no ranks
                # Spearman's correlation; scipy.stats has it too, but takes half a second to import.
                correlations.append(float(np.corrcoef(_ranks(losses.tokens), _ranks(saved_D))[0, 1]))
                documents += len(losses.documents)
        return LengthEffect(correlation=fmean(correlations), documents=documents) if correlations else None

    def _select(self, metric: str, kind: str | None = None) -> dict[str, LevelLosses]:
        selected = self._table.select(metric, kind)
        return {level: selected[level] for level in self._levels if level in selected}

    def _pick(self, wanted: Mapping[str, npt.NDArray[np.bool_]]) -> dict[str, LevelLosses]:
        """Select the wanted documents; levels without any are left out."""
        return {level: losses.pick(wanted[level]) for level, losses in self._losses.items() if wanted[level].any()}

    def _by_role(self, losses: Mapping[str, LevelLosses]) -> ByRole:
        """Return each role's perplexity over all tokens; None if a level lacks the role's model."""
        tokens = sum(int(of_level.tokens.sum()) for of_level in losses.values())
        values: dict[str, float | None] = {}
        for role in COMPARED_ROLES:
            nats = [self._mean_nats(of_level, role) for of_level in losses.values()]
            known = [value for value in nats if value is not None]
            values[role] = perplexity(sum(known) / tokens) if tokens and len(known) == len(nats) else None
        return ByRole(tokens=tokens, **values)

    def _mean_nats(self, losses: LevelLosses, role: str) -> float | None:
        """Return the nats of a role's model on a level, averaged over its seeds."""
        nats_D = self._document_nats(losses, role)
        return None if nats_D is None else float(nats_D.sum())

    def _document_nats(self, losses: LevelLosses, role: str) -> npt.NDArray[np.float64] | None:
        for entrant in self._entrants:
            if entrant.role == role and entrant.level in (None, losses.level):
                columns = [self._columns[model] for model in entrant.models.values()]
                return np.asarray(losses.nats[:, columns].sum(axis=1) / len(columns))
        return None


def _ranks(values_D: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Return the (D,) ranks of the values, from 1; ties get the mean of their ranks."""
    _, inverse, counts = np.unique(values_D, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - (counts - 1) / 2.0)[inverse])


def describe_scores(table: LossTable, entrants: Sequence[Entrant]) -> tuple[LevelScores, ...]:
    """Return the scores of every model (every seed), by metric and level."""
    selected = {metric: table.select(metric) for metric in METRICS}
    selected[PUBLISHED] = table.select("infill_textonly", "sentence")
    columns = {model: table.models.index(model) for entrant in entrants for model in entrant.models.values()}
    return tuple(_score_level(metric, losses, columns) for metric, of in selected.items() for losses in of.values())


def _score_level(metric: str, losses: LevelLosses, columns: Mapping[str, int]) -> LevelScores:
    """Score the models of these columns."""
    nats_MD = np.ascontiguousarray(losses.nats.T[list(columns.values())])
    tokens = int(losses.tokens.sum())
    # None if tokens may spell no text.
    size = int(losses.bytes.sum()) if metric in _OF_TEXT and losses.bytes is not None else None
    nats = dict(zip(columns, nats_MD.sum(axis=1).tolist(), strict=True))
    means = zip(columns, np.mean(nats_MD / losses.tokens, axis=1).tolist(), strict=True)
    return LevelScores(
        metric=metric,
        level=losses.level,
        documents=len(losses.documents),
        tokens=tokens,
        bytes=size,
        nats=nats,
        perplexity={model: perplexity(of_model / tokens) for model, of_model in nats.items()},
        document_perplexity={model: perplexity(mean) for model, mean in means},
        bits_per_byte={model: of_model / log(2.0) / size for model, of_model in nats.items()} if size else {},
    )
