"""Tests the three hypotheses, on each level and over all of them.

    H1 specialisation   PPL(general) / PPL(specialised)   lies above the margin (1.00)
    H2 sufficiency      PPL(general) / PPL(best other)    lies below the margin (1.10)
    H3 transfer         PPL(transfer) / PPL(best other)   lies below the margin (1.00)

"The best other" is never chosen on the test data: the claim is tested against every other role and
holds only if it holds against each (an intersection-union test, which needs no correction).  It is
refuted if it fails against any of them (Bonferroni over the roles).

A claim is CONFIRMED or REFUTED at half of 1 − confidence on either side, so a confirmed one has its
whole interval beyond the margin.  The levels' verdicts are corrected by Holm over the levels, and so
are their intervals (Strassburger and Bretz 2008), so that a verdict and its interval always agree:

    decided     limit at tail / levels, and never on the wrong side of the margin
    undecided   limit at tail / levels not decided, where Holm stopped: the margin is inside

"Overall" is a separate test: the mean over the levels of the log ratio, each level with the
same weight, which is the geometric mean of the levels' ratios.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import log

from raysweep.config.scored_metrics import perplexity
from raysweep.statistics.bootstrap import Resamples
from raysweep.statistics.claims import OVERALL, Finding, Hypothesis, SeedLook, SharedMean, Verdict, holm, not_tested
from raysweep.statistics.contrasts import Measured, measure_once
from raysweep.statistics.group_sequential import LEAST_SEEDS, LookedAt, look_at
from raysweep.statistics.role_models import RoleModels, lack_of_writers, mean_log_ratio
from raysweep.statistics.sample_size import Rule, predict_need


@dataclass(frozen=True, kw_only=True, slots=True)
class _Tested:
    finding: Finding
    p_confirm: float
    p_refute: float
    measured: tuple[Measured, ...]
    """The contrast with every compared role."""


def assess(
    hypothesis: Hypothesis,
    roles: RoleModels,
    resamples: Resamples,
    levels: Sequence[str],
    confidence: float,
    *,
    predict: bool = True,
    limit_levels: bool = True,
    shares: Mapping[str, float] | None = None,
) -> list[Finding]:
    """Return the overall finding, then one per level of `levels`, in their order.

    Args:
        shares: each level's share of the corpus, in any unit, for the weighted mean in addition to the plain one.
        predict: whether to predict the sample size that would decide an undecided claim, which takes most of the time.
        limit_levels: whether single levels get limits, which their verdicts do not need.
    """
    tested: dict[str, _Tested] = {}
    findings: dict[str, Finding] = {}
    obstacle_of = {level: _obstacle(hypothesis, roles, resamples, level) for level in levels}
    testable = [level for level in levels if not obstacle_of[level]]
    for level in levels:
        if reason := obstacle_of[level]:
            findings[level] = not_tested(hypothesis, level, reason)
        else:
            tested[level] = _test(hypothesis, roles, resamples, [level], confidence, alike=testable, limit=limit_levels)
    confirm = holm([test.p_confirm for test in tested.values()])
    refute = holm([test.p_refute for test in tested.values()])
    tail = (1.0 - confidence) / 2.0
    # Holm divides by the number of levels that are not decided yet.
    open_to = (len(tested) - sum(p <= tail for p in confirm), len(tested) - sum(p <= tail for p in refute))
    for (level, test), p_confirm, p_refute in zip(tested.items(), confirm, refute, strict=True):
        adjusted = replace(test, p_confirm=p_confirm, p_refute=p_refute)
        findings[level] = _decide(hypothesis, adjusted, tail, open_to, len(tested), predict=predict)
    ordered = [findings[level] for level in levels]
    obstacles = [f"{finding.scope}: {finding.note}" for finding in ordered if finding.verdict is Verdict.NOT_TESTED]
    overall = _overall(hypothesis, roles, resamples, tuple(tested), confidence, obstacles, predict=predict)
    if overall.verdict is not Verdict.NOT_TESTED and shares is not None:
        by_share = _weigh_by_share(hypothesis, roles, resamples, overall.levels, confidence, shares)
        overall = replace(overall, by_share=by_share)
    return [overall, *ordered]


def _obstacle(hypothesis: Hypothesis, roles: RoleModels, resamples: Resamples, level: str) -> str:
    """Say why a level cannot be tested; '' if it can."""
    for role in (hypothesis.numerator, *hypothesis.against):
        if reason := roles.absent.get((role, level)):
            return reason
    if level not in resamples.levels:
        return lack_of_writers(resamples, level)
    if not roles.of(hypothesis.numerator, level):
        return f"no {hypothesis.numerator} model in the trials"
    if not any(roles.of(role, level) for role in hypothesis.against):
        return f"no {' or '.join(hypothesis.against)} model in the trials"
    return lack_of_writers(resamples, level)


def _test(
    hypothesis: Hypothesis,
    roles: RoleModels,
    resamples: Resamples,
    levels: Sequence[str],
    confidence: float,
    *,
    alike: Sequence[str] = (),
    limit: bool = True,
    shares: Mapping[str, float] | None = None,
) -> _Tested:
    """Test a claim about the mean over `levels` of the log ratio, against every role with models on all of them.

    Args:
        shares: the levels' weights; equal if None.
        alike: levels whose trainings also contribute to the estimated variance between seeds of a single level.
    """
    compared = [role for role in hypothesis.against if all(roles.of(role, level) for level in levels)]
    tail = (1.0 - confidence) / 2.0

    def measure_all(roles: RoleModels) -> dict[str, Measured]:
        return {role: measure_ratio_to(role, roles) for role in compared}

    def measure_ratio_to(role: str, roles: RoleModels) -> Measured:
        # Two claims that compare the same roles either way round share what takes the time.
        above, below = sorted((hypothesis.numerator, role))
        contrast, *others = (
            mean_log_ratio(above, below, roles, of_levels, shares)
            for of_levels in (levels, *([level] for level in alike if level not in levels))
        )
        return measure_once(resamples, contrast, others, is_negated=above == role)

    seeds = [] if roles.most_seeds is None else roles.common_seeds((hypothesis.numerator, *compared), levels)
    measured: Mapping[str, Measured]
    if roles.most_seeds is not None and len(seeds) >= LEAST_SEEDS:
        rounds = [measure_all(roles.keep_seeds(seeds[:count])) for count in range(LEAST_SEEDS, len(seeds) + 1)]
        by_look = {role: look_at([by_role[role] for by_role in rounds], roles.most_seeds) for role in compared}
        looks = _seed_looks(hypothesis, list(zip(*by_look.values(), strict=True)), tail)
        measured = {role: contrasts[-1] for role, contrasts in by_look.items()}
        p_confirm, p_refute = looks[-1].p_confirm, looks[-1].p_refute
    else:
        looks, measured = (), measure_all(roles)
        p_confirm, p_refute = _p_values(hypothesis, list(measured.values()))
    hardest = (min if hypothesis.above else max)(compared, key=lambda role: measured[role].estimate)
    low, high = _limits(hypothesis, list(measured.values()), tail, tail) if limit else (None, None)
    finding = Finding(
        hypothesis=hypothesis.code,
        scope=levels[0],
        verdict=Verdict.UNDECIDED,
        margin=hypothesis.margin,
        value=perplexity(measured[hardest].estimate),
        low=low,
        high=high,
        alone_low=low,
        alone_high=high,
        against=tuple(compared),
        rival=hardest,
        levels=tuple(levels),
        documents=measured[hardest].documents,
        clusters=measured[hardest].clusters,
        effective=measured[hardest].effective,
        prompts=measured[hardest].prompts,
        seeds=looks[-1].seeds if looks else roles.fewest_seeds((hypothesis.numerator, *compared), levels),
        looks=looks,
        without_one=perplexity(measured[hardest].estimate + measured[hardest].sources.largest_shift),
    )
    return _Tested(finding=finding, p_confirm=p_confirm, p_refute=p_refute, measured=tuple(measured.values()))


def _seed_looks(hypothesis: Hypothesis, rounds: Sequence[tuple[LookedAt, ...]], tail: float) -> tuple[SeedLook, ...]:
    """Return the looks at a claim, each with the smallest p-value so far, since a decided claim stays decided."""
    looks, p_confirm, p_refute = [], 1.0, 1.0
    for contrasts in rounds:
        p_values = _p_values(hypothesis, contrasts)
        p_confirm, p_refute = min(p_confirm, p_values[0]), min(p_refute, p_values[1])
        first = contrasts[0].look
        look = SeedLook(
            seeds=first.seeds, time=first.time, spent=first.spent(tail), p_confirm=p_confirm, p_refute=p_refute
        )
        looks.append(look)
    return tuple(looks)


def _limits(
    hypothesis: Hypothesis, measured: Sequence[Measured], confirm_tail: float, refute_tail: float
) -> tuple[float, float]:
    """Return the limits of the ratio to the hardest role; Bonferroni over the roles on the refuting side."""
    refute_tail = refute_tail / len(measured)
    if hypothesis.above:
        extreme, low, high = min, confirm_tail, 1.0 - refute_tail
    else:
        extreme, low, high = max, refute_tail, 1.0 - confirm_tail
    limits = [extreme(contrast.limit(share) for contrast in measured) for share in (low, high)]
    return perplexity(limits[0]), perplexity(limits[1])


def _p_values(hypothesis: Hypothesis, measured: Sequence[Measured]) -> tuple[float, float]:
    """Return the p-values of confirming, which needs every compared role, and of refuting, for which one is enough."""
    margin = log(hypothesis.margin)
    if hypothesis.above:
        confirm = max(contrast.p_not_above(margin) for contrast in measured)
        refute = min(contrast.p_not_below(margin) for contrast in measured)
    else:
        confirm = max(contrast.p_not_below(margin) for contrast in measured)
        refute = min(contrast.p_not_above(margin) for contrast in measured)
    return confirm, min(1.0, len(measured) * refute)


def _overall(
    hypothesis: Hypothesis,
    roles: RoleModels,
    resamples: Resamples,
    levels: tuple[str, ...],
    confidence: float,
    obstacles: Sequence[str],
    *,
    predict: bool,
) -> Finding:
    if not levels:
        return not_tested(hypothesis, OVERALL, "; ".join(obstacles))
    # A role without a model on some level cannot be compared over all of them.
    if not any(all(roles.of(role, level) for level in levels) for role in hypothesis.against):
        return not_tested(hypothesis, OVERALL, "no other role has a model on every tested level")
    test = _test(hypothesis, roles, resamples, levels, confidence)
    finding = _decide(hypothesis, test, (1.0 - confidence) / 2.0, (1, 1), 1, predict=predict)
    return replace(finding, scope=OVERALL)


def _weigh_by_share(
    hypothesis: Hypothesis,
    roles: RoleModels,
    resamples: Resamples,
    levels: Sequence[str],
    confidence: float,
    shares: Mapping[str, float],
) -> SharedMean:
    test = _test(hypothesis, roles, resamples, levels, confidence, shares=shares)
    finding = _decide(hypothesis, test, (1.0 - confidence) / 2.0, (1, 1), 1, predict=False)
    assert finding.value is not None
    assert finding.low is not None
    assert finding.high is not None
    return SharedMean(
        verdict=finding.verdict, value=finding.value, low=finding.low, high=finding.high, rival=finding.rival
    )


def _decide(
    hypothesis: Hypothesis, test: _Tested, tail: float, open_to: tuple[int, int], scopes: int, *, predict: bool
) -> Finding:
    """Decide the verdict; `open_to`: how many of the `scopes` scopes are not confirmed, and how many not refuted."""
    verdict = (
        Verdict.CONFIRMED if test.p_confirm <= tail else Verdict.REFUTED if test.p_refute <= tail else Verdict.UNDECIDED
    )
    finding = replace(test.finding, verdict=verdict, p_confirm=test.p_confirm, p_refute=test.p_refute)
    if finding.low is not None:
        low, high = _joint_limits(hypothesis, test, tail, open_to, scopes)
        finding = replace(finding, low=low, high=high)
    if verdict is Verdict.UNDECIDED and finding.looks:
        power = _seed_power(hypothesis, test.measured, tail, open_to)
        if power is None:
            return replace(finding, note=f"still open after all {finding.seeds} seeds")
        note = f"the seeds left would decide it with a probability of {power:.0%}, if the ratio is as measured"
        return replace(finding, seed_power=power, note=note)
    if verdict is not Verdict.UNDECIDED or not predict:
        return finding
    if note := _too_coarse(test, tail, open_to):
        return replace(finding, note=note)

    rule = Rule(
        margin=log(hypothesis.margin),
        above=hypothesis.above,
        confirm_tail=tail / open_to[0],
        refute_tail=tail / open_to[1] / len(test.measured),
    )
    need = predict_need(test.measured, rule, is_sign_open=min(test.p_confirm, test.p_refute) > 2.0 * tail)
    return replace(
        finding,
        more_documents=need.documents,
        more_documents_low=need.documents_low,
        more_documents_high=need.documents_high,
        more_seeds=need.seeds,
        note=need.note,
    )


def _seed_power(
    hypothesis: Hypothesis, measured: Sequence[Measured], tail: float, open_to: tuple[int, int]
) -> float | None:
    """Return the probability that the remaining seeds decide the claim; None if there are none."""
    looked_at = [contrast for contrast in measured if isinstance(contrast, LookedAt)]
    margin, roles = log(hypothesis.margin), len(measured)

    def power(*, above: bool, alpha: float) -> list[float | None]:
        return [contrast.power_of_more(margin, above=above, alpha=alpha) for contrast in looked_at]

    confirm = power(above=hypothesis.above, alpha=tail / open_to[0])
    refute = power(above=not hypothesis.above, alpha=tail / open_to[1] / roles)
    known = [chance for chance in confirm if chance is not None]
    return max(min(known), *(chance for chance in refute if chance is not None)) if known else None


def _joint_limits(
    hypothesis: Hypothesis, test: _Tested, tail: float, open_to: tuple[int, int], scopes: int
) -> tuple[float, float]:
    """Return limits of the ratio that agree with Holm's verdicts; see the top of this file."""
    is_confirmed, is_refuted = test.p_confirm <= tail, test.p_refute <= tail
    confirm_tail = tail / (scopes if is_confirmed else open_to[0])
    refute_tail = tail / (scopes if is_refuted else open_to[1])
    low, high = _limits(hypothesis, test.measured, confirm_tail, refute_tail)
    is_above, is_below = (is_confirmed, is_refuted) if hypothesis.above else (is_refuted, is_confirmed)
    margin = hypothesis.margin
    return max(low, margin) if is_above else min(low, margin), min(high, margin) if is_below else max(high, margin)


def _too_coarse(test: _Tested, tail: float, open_to: tuple[int, int]) -> str:
    """Say why the draws could not decide whatever the ratio; '' if they could."""
    is_refuting = test.p_refute < test.p_confirm
    least = max(contrast.least_p() for contrast in test.measured) * (len(test.measured) if is_refuting else 1)
    if least <= tail / open_to[is_refuting]:
        return ""
    return (
        f"too few resamples for a verdict: {len(test.measured[0].draws):,} resamples of {test.finding.clusters} "
        f"independent learners cannot give a p-value below {least:.4f}, and {tail / open_to[is_refuting]:.4f} is "
        "needed; set report.resamples higher, or test on texts by more learners"
    )
