"""Which of the levels' models should answer a new learner whose level is unknown?

Only the visible text of one mask (a document's first) is known.  Its loss under every level's model
gives the probability of each level,

    p(level k | visible) ∝ share of the training documents of k × exp(−nats of the visible text under model k)

Four ways to answer are compared, all by the nats of the same mask's answers:

    general   the general model, which needs no level
    chosen    the model with the lowest perplexity on the visible text; without any text, the general model
              (or, where there is none, the most frequent level's)
    mixture   −ln Σ_k p(k | visible) · exp(−nats of the answers under model k)
    oracle    the true level's model

The mixture's formula needs only sums: mixing the models' next-token probabilities and updating the
weights by Bayes' rule after every token gives exactly this, because the product over tokens
telescopes.  The mixture costs at most −ln p(k | visible) more than model k, and never more than the
worst of the models.

A document whose first mask hides all of it has no visible text: then the shares alone decide.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import logsumexp

from raysweep.statistics.loss_table import Floats, Ints, LevelLosses, LossTable

WAYS = ("general", "chosen", "mixture", "oracle")


@dataclass(frozen=True, kw_only=True, slots=True)
class ColdStart:
    """Every test document, scored as if its level were unknown.  D documents, K levels."""

    levels: tuple[str, ...]
    documents: Ints
    """(D,) ascending within a level."""
    truth: Ints
    """(D,) indices into `levels`."""
    visible_tokens: Ints
    answer_tokens: Ints
    chosen: Ints
    """(D,) indices into `levels`."""
    posterior: Floats
    """(D, K) rows add up to 1."""
    visible_nats: Floats
    """(D, K) nats of the visible text under each level's model."""
    log_prior: Floats
    """(K,) log share of each level."""
    nats: Mapping[str, Floats]
    """(D,) nats of the answers by way; without a general model there is no `general`."""

    @property
    def is_seen(self) -> npt.NDArray[np.bool_]:
        """(D,) whether there is any visible text."""
        is_seen_D: npt.NDArray[np.bool_] = self.visible_tokens > 0
        return is_seen_D

    @property
    def is_right(self) -> npt.NDArray[np.bool_]:
        """(D,) whether the chosen level is the true one."""
        is_right_D: npt.NDArray[np.bool_] = self.chosen == self.truth
        return is_right_D

    def confusion(self) -> Ints:
        """Return (K, K) counts of documents with visible text: true level by row, chosen level by column."""
        count = len(self.levels)
        cells = (self.truth * count + self.chosen)[self.is_seen]
        return np.bincount(cells, minlength=count**2).reshape(count, count).astype(np.int64)


def log_posterior(visible_nats_DK: Floats, shares_K: Sequence[float]) -> Floats:
    """Return the (D, K) log probability of every level, given the nats of the visible text under its model."""
    prior_K = np.log(np.asarray(shares_K, dtype=np.float64) / np.sum(shares_K))
    joint_DK = prior_K - visible_nats_DK
    posterior_DK: Floats = joint_DK - logsumexp(joint_DK, axis=1, keepdims=True)
    return posterior_DK


def mix(log_weights_DK: Floats, nats_DK: Floats) -> Floats:
    """Return the (D,) nats of the mixture: −ln Σ weight · exp(−nats)."""
    mixed_D: Floats = -logsumexp(log_weights_DK - nats_DK, axis=1)
    return mixed_D


def score_unknown_levels(
    table: LossTable, experts: Mapping[str, str], general: str | None, shares: Mapping[str, float]
) -> ColdStart | None:
    """Score every test document in each of the ways to answer.

    Args:
        experts: the model of each level, in the levels' order; documents of other levels are left out.
        general: the general model, if there is one.
        shares: frequency of each level, in any unit above 0.

    Returns:
        None if the losses contain no first masks of these levels, because an earlier version wrote them.
    """
    levels = tuple(experts)
    answers, visible = table.select("first_infill"), table.select("first_context")
    parts = [level for level in levels if level in answers]
    if not parts:
        return None
    columns = [table.models.index(experts[level]) for level in levels]
    documents = np.concatenate([answers[level].documents for level in parts])
    truth = np.concatenate([np.full(len(answers[level].documents), levels.index(level)) for level in parts])
    answer_nats_DM = np.concatenate([answers[level].nats for level in parts])
    tokens_D, visible_DM = _align(documents, [visible[level] for level in parts if level in visible], len(table.models))
    shares_K = [shares[level] for level in levels]
    weights_DK = log_posterior(visible_DM[:, columns], shares_K)
    lowest_D = np.argmin(visible_DM[:, columns], axis=1)
    chosen = np.where(tokens_D > 0, lowest_D, int(np.argmax(shares_K)))
    expert_nats_DK = answer_nats_DM[:, columns]
    rows = np.arange(len(documents))
    ways = {
        "chosen": expert_nats_DK[rows, chosen],
        "mixture": mix(weights_DK, expert_nats_DK),
        "oracle": expert_nats_DK[rows, truth],
    }
    if general is not None:
        general_nats_D = answer_nats_DM[:, table.models.index(general)]
        ways["chosen"] = np.where(tokens_D > 0, ways["chosen"], general_nats_D)
        ways = {"general": general_nats_D, **ways}
    return ColdStart(
        levels=levels,
        documents=documents,
        truth=truth,
        visible_tokens=tokens_D,
        answer_tokens=np.concatenate([answers[level].tokens for level in parts]),
        chosen=chosen,
        posterior=np.exp(weights_DK),
        visible_nats=visible_DM[:, columns],
        log_prior=np.log(np.asarray(shares_K) / np.sum(shares_K)),
        nats=ways,
    )


def _align(documents: Ints, visible: Sequence[LevelLosses], models: int) -> tuple[Ints, Floats]:
    """Return tokens and nats of these documents' visible text; 0 if there is none."""
    tokens_D, nats_DM = np.zeros(len(documents), dtype=np.int64), np.zeros((len(documents), models))
    for losses in visible:
        # A document without a blank has visible text but nothing to answer, so it is not among `documents`.
        _, targets, rows = np.intersect1d(documents, losses.documents, assume_unique=True, return_indices=True)
        tokens_D[targets], nats_DM[targets] = losses.tokens[rows], losses.nats[rows]
    return tokens_D, nats_DM
