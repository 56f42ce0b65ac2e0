"""A mixed model of the documents' log ratios: how much of the gain lies with learners, prompts and single documents.

For every test document, log PPL(general) − log PPL(other) of the models for its level, explained by

    fixed    level, first language, length (log characters)
    random   learner and writing prompt, crossed

fitted by restricted maximum likelihood (REML), which for two crossed factors is a function of two ratios of variances
(Harville 1977, JASA 72).  It describes; the verdicts rest on the bootstrap.  Every document counts the same, whatever
its length.  The fit is our own because `verify` repeats it: statsmodels' MixedLM ends elsewhere if the data change in
the fourteenth digit (a spread of 0.158 or of 0.000 on the sample corpus).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp, log, sqrt

import numpy as np
from scipy.linalg import solve_triangular
from scipy.optimize import minimize
from scipy.special import ndtri

from raysweep.seeding import generator_for
from raysweep.statistics.bootstrap import MIN_CLUSTERS
from raysweep.statistics.loss_table import Floats, Ints, LevelLosses
from raysweep.statistics.prompt_clusters import MIN_PROMPTS
from raysweep.statistics.role_models import RoleModels

MOST_DOCUMENTS = 800
"""Above this, a random sample of the learners with all their documents is fitted: time is cubic in the learners."""
MOST_LANGUAGES = 8
"""Number of first languages with an effect of their own; the others share one."""
DIGITS = 3
"""Significant digits that are kept; the optimiser's last digits depend on the machine."""
STEEPEST = 1e-4
"""Largest slope of -2 log likelihood, by the logarithm of a variance, at which the fit counts as converged."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DocumentFacts:
    """What is known about each test document, by document number."""

    learner_of: Mapping[int, str]
    prompt_of: Mapping[int, str]
    language_of: Mapping[int, str]
    characters_of: Mapping[int, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class MixedFit:
    """A fitted model.  Spreads are standard deviations of the log ratio, in nats per token."""

    documents: int
    all_documents: int
    learners: int
    prompts: int
    ratio: float
    """Geometric mean over the documents' levels, first languages and lengths."""
    low: float
    high: float
    learner_spread: float
    prompt_spread: float
    residual_spread: float
    per_doubling: float
    """Factor by which the ratio changes if a text is twice as long."""
    doubling_low: float
    doubling_high: float


def fit_mixed_model(
    losses: Mapping[str, LevelLosses],
    models: Sequence[str],
    roles: RoleModels,
    other: str,
    facts: DocumentFacts,
    *,
    confidence: float,
    seed: int,
) -> MixedFit | None:
    """Fit the log ratios of the general models and those of the role `other`.

    Returns:
        None if learners or prompts are unknown or too few, a role has no model, the documents do not differ, or the fit
        did not converge.
    """
    levels = [level for level in losses if roles.of("general", level) and roles.of(other, level)]
    if not levels or not facts.prompt_of or not facts.learner_of:
        return None
    documents = np.concatenate([losses[level].documents for level in levels])
    ratios = np.concatenate([_log_ratios(losses[level], models, roles, other) for level in levels])
    level_of = np.repeat(np.arange(len(levels)), [len(losses[level].documents) for level in levels])
    chosen = _choose(documents, facts, seed)
    documents, ratios, level_of = documents[chosen], ratios[chosen], level_of[chosen]
    learners = _codes([facts.learner_of.get(document, str(document)) for document in documents.tolist()])
    prompts = _codes([facts.prompt_of[document] for document in documents.tolist()])
    # A level with one prompt says nothing about how prompts differ: its prompt is confounded with the level.
    if learners.max() + 1 < MIN_CLUSTERS or prompts.max() + 1 < len(levels) + MIN_PROMPTS:
        return None
    lengths = np.log2([max(facts.characters_of[document], 1) for document in documents.tolist()])
    languages = _frequent(_codes([facts.language_of[document] for document in documents.tolist()]))
    columns = [np.ones(len(documents)), lengths - lengths.mean(), *_effects(level_of), *_effects(languages)]
    fitted = _fit(ratios, np.column_stack(columns), learners, prompts)
    if fitted is None:
        return None
    means, errors, spreads = fitted
    width = float(ndtri(0.5 + confidence / 2.0))

    ratio, doubling, low, doubling_low, high, doubling_high = (
        _digits(exp(means[place] + side * width * errors[place])) for side in (0.0, -1.0, 1.0) for place in (0, 1)
    )
    return MixedFit(
        documents=len(documents),
        all_documents=len(chosen),
        learners=int(learners.max()) + 1,
        prompts=int(prompts.max()) + 1,
        ratio=ratio,
        low=low,
        high=high,
        learner_spread=_digits(spreads[0]),
        prompt_spread=_digits(spreads[1]),
        residual_spread=_digits(spreads[2]),
        per_doubling=doubling,
        doubling_low=doubling_low,
        doubling_high=doubling_high,
    )


def _log_ratios(table: LevelLosses, models: Sequence[str], roles: RoleModels, other: str) -> Floats:
    """Return (D,) the general models' mean loss per token minus that of the other role's models."""

    def mean_loss(role: str) -> Floats:
        columns = [models.index(model) for model in roles.of(role, table.level).values()]
        return np.asarray(table.nats[:, columns].mean(axis=1) / table.tokens, dtype=np.float64)

    return mean_loss("general") - mean_loss(other)


def _choose(documents: Ints, facts: DocumentFacts, seed: int) -> np.ndarray:
    """Return a (D,) mask of all documents, or of those by as many random learners as stay within the limit."""
    if len(documents) <= MOST_DOCUMENTS:
        return np.ones(len(documents), dtype=np.bool_)
    learners = _codes([facts.learner_of.get(document, str(document)) for document in documents.tolist()])
    order = generator_for(seed, "mixed model").permutation(int(learners.max()) + 1)
    counts = np.bincount(learners)[order].cumsum()
    return np.isin(learners, order[counts <= MOST_DOCUMENTS])


def _codes(values: Sequence[str]) -> Ints:
    return np.unique(np.array(values), return_inverse=True)[1].astype(np.int64)


def _frequent(codes: Ints) -> Ints:
    """Keep the most frequent codes, and merge all others into one."""
    kept = np.argsort(-np.bincount(codes), kind="stable")[:MOST_LANGUAGES]
    return np.unique(np.where(np.isin(codes, kept), codes, -1), return_inverse=True)[1].astype(np.int64)


def _effects(codes: Ints) -> list[Floats]:
    """Make a centred column for each code but the first, so that the intercept is the mean over the documents."""
    columns = [(codes == code).astype(np.float64) for code in range(1, int(codes.max()) + 1)]
    return [column - column.mean() for column in columns]


def _fit(
    ratios: Floats, fixed: Floats, learners: Ints, prompts: Ints
) -> tuple[list[float], list[float], list[float]] | None:
    """Estimate fixed effects, their standard errors, and the spreads of learners, prompts and residuals."""
    # Drop linearly dependent columns, such as a language that occurs on one level only: their effect is not identified.
    fixed = fixed[:, _independent(fixed)]
    unexplained = ratios - fixed @ np.linalg.lstsq(fixed, ratios)[0]
    scale = float(ratios.std())
    # Only rounding errors are left to divide among learners, prompts and residuals.
    if unexplained.std() <= 1e-9 * max(scale, float(np.abs(ratios).max())):
        return None
    likelihood = _Likelihood(ratios / scale, fixed, learners, prompts)
    optimum = minimize(
        likelihood.value_and_gradient,
        np.full(2, 0.1),
        jac=True,
        method="L-BFGS-B",
        bounds=[(0.0, None)] * 2,
        options={"ftol": 0.0, "gtol": 1e-9, "maxiter": 500},
    )
    # At a spread of 0, only a falling likelihood would lead elsewhere.
    slope = np.where(optimum.x > 0.0, optimum.jac, np.minimum(optimum.jac, 0.0)) * np.maximum(optimum.x, 1e-3)
    if not np.all(np.abs(slope) < STEEPEST):
        return None
    means, errors, variance = likelihood.effects(optimum.x)
    spreads = [*np.sqrt(optimum.x * variance).tolist(), sqrt(variance)]
    return (means * scale).tolist(), (errors * scale).tolist(), [spread * scale for spread in spreads]


class _Likelihood:
    """The restricted likelihood of two crossed random factors, by the ratios of their variances to the residual's.

    With V = I + Z D Z' everything is computed from Z'Z, Z'X and Z'y, whose size is the number of learners and prompts.
    """

    def __init__(self, values: Floats, fixed: Floats, learners: Ints, prompts: Ints) -> None:
        indicators = [np.eye(int(codes.max()) + 1)[codes] for codes in (learners, prompts)]
        random, data = np.hstack(indicators), np.column_stack([fixed, values])
        self._factor = np.repeat((0, 1), [indicator.shape[1] for indicator in indicators])
        self._zz, self._za, self._aa = random.T @ random, random.T @ data, data.T @ data
        self._free = len(values) - fixed.shape[1]

    def value_and_gradient(self, variances: Floats) -> tuple[float, Floats]:
        """Return -2 log restricted likelihood, up to a constant, and its gradient."""
        triangle, zz, za, inverse, means, rest = self._solve(variances)
        value = 2.0 * np.log(np.diag(triangle)).sum() - np.linalg.slogdet(inverse)[1] + self._free * log(rest)
        zx, misfit = za[:, :-1], za[:, -1] - za[:, :-1] @ means
        slopes = np.diag(zz) - ((zx @ inverse) * zx).sum(axis=1) - self._free * misfit**2 / rest
        return float(value), np.bincount(self._factor, slopes, minlength=2).astype(np.float64)

    def effects(self, variances: Floats) -> tuple[Floats, Floats, float]:
        """Return fixed effects, their standard errors, and the residual variance."""
        *_, inverse, means, rest = self._solve(variances)
        variance = rest / self._free
        return means, np.sqrt(np.diag(inverse) * variance), variance

    def _solve(self, variances: Floats) -> tuple[Floats, Floats, Floats, Floats, Floats, float]:
        """Return chol(I + √D Z'Z √D), Z'V⁻¹Z, Z'V⁻¹[X y], (X'V⁻¹X)⁻¹, fixed effects, and residual sum of squares."""
        roots = np.sqrt(variances)[self._factor]
        triangle = np.linalg.cholesky(np.eye(len(roots)) + roots[:, None] * self._zz * roots)
        half_zz = solve_triangular(triangle, roots[:, None] * self._zz, lower=True)
        half_za = solve_triangular(triangle, roots[:, None] * self._za, lower=True)
        aa = self._aa - half_za.T @ half_za
        inverse = np.linalg.inv(aa[:-1, :-1])
        means = inverse @ aa[:-1, -1]
        rest = max(float(aa[-1, -1] - aa[:-1, -1] @ means), np.finfo(np.float64).tiny)
        return triangle, self._zz - half_zz.T @ half_zz, self._za - half_zz.T @ half_za, inverse, means, rest


def _independent(fixed: Floats) -> list[int]:
    kept: list[int] = []
    for column in range(fixed.shape[1]):
        if np.linalg.matrix_rank(fixed[:, [*kept, column]]) == len(kept) + 1:
            kept.append(column)
    return kept


def _digits(value: float) -> float:
    return float(f"{value:.{DIGITS - 1}e}")
