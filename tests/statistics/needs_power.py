"""How often new experiments decide with the documents that an undecided overall claim is said to need.

    python -m tests.statistics.needs_power [PILOTS]

A pilot has 40 learners on each of three levels. If its claim is undecided and a number is printed, new experiments of
that size are made whose truth is what the pilot measured: 80 % of them should decide. They are judged by Student's t on
sums per learner, which shares no code with the bootstrap.
"""

import sys
from math import log

import numpy as np
from scipy.special import stdtr

from raysweep.statistics.bootstrap import resample_levels
from raysweep.statistics.claims import OVERALL, Hypothesis, Verdict
from raysweep.statistics.contrasts import measure
from raysweep.statistics.hypotheses import assess
from raysweep.statistics.role_models import RoleModels, mean_log_ratio
from tests.statistics.conftest import simulate_losses

LEVELS = ("A1", "B1", "C1")
ROLES = ("general", "specialised", "transfer")
WRITERS, TAIL = 40, 0.025
CLAIMS = {
    claim.code: claim
    for claim in (
        Hypothesis(code="H1", name="H1", numerator="general", against=("specialised",), above=True, margin=1.0),
        Hypothesis(code="H2", name="H2", numerator="general", against=ROLES[1:], above=False, margin=1.1),
        Hypothesis(code="H3", name="H3", numerator="transfer", against=ROLES[:2], above=False, margin=1.0),
    )
}
ROLES_OF_ALL = RoleModels(by_role={role: {level: {0: role} for level in LEVELS} for role in ROLES}, absent={})


def draw_gains(code, rng):
    """Draw by how many nats a pilot's specialised and transferred models are better than the general one."""
    if code == "H3":
        return 0.05, 0.05 + rng.uniform(-0.05, 0.05)
    own = rng.uniform(0.01, 0.05) if code == "H1" else rng.uniform(0.03, 0.16)
    return own, own - 0.05


def pilot(code, seed):
    """Return the overall finding and the contrast with each role; the need is only stated if the claim is undecided."""
    own, tuned = draw_gains(code, np.random.default_rng([seed, 5]))
    truth = {level: {"general": 3.0, "specialised": 3.0 - own, "transfer": 3.0 - tuned} for level in LEVELS}
    losses, clusters = simulate_losses(truth, seed=seed, writers=WRITERS)
    drawn = resample_levels(losses, ROLES, resamples=2000, seed=0, clusters=clusters)
    claim = CLAIMS[code]
    finding = next(finding for finding in assess(claim, ROLES_OF_ALL, drawn, LEVELS, 0.95) if finding.scope == OVERALL)
    contrasts = {role: mean_log_ratio(claim.numerator, role, ROLES_OF_ALL, LEVELS) for role in claim.against}
    return finding, {role: measure(drawn, parts).estimate for role, parts in contrasts.items()}


def share_decided(claim, contrasts, writers, experiments, rng):
    """Return the share of new experiments, made like `simulate_losses`, that decide if the contrasts are true."""
    shape = (experiments, len(LEVELS), writers)
    tokens_EL3 = rng.integers(5, 60, (*shape, 3))
    tokens, squares = tokens_EL3.sum(axis=-1).astype(float), (tokens_EL3**2).sum(axis=-1)

    def chance():
        return 0.15 * tokens * rng.normal(size=shape) + 0.2 * np.sqrt(squares) * rng.normal(size=shape)

    numerator = chance()
    shares = tokens / tokens.sum(axis=-1, keepdims=True)
    effective = 1.0 / (shares**2).sum(axis=-1)
    above, below = [], []
    for contrast in contrasts.values():
        nats = tokens * contrast + numerator - chance()
        ratios = nats.sum(axis=-1) / tokens.sum(axis=-1)
        influences = nats / tokens.sum(axis=-1, keepdims=True) - ratios[..., None] * shares
        variances = (influences**2).sum(axis=-1) * effective / (effective - 1.0)
        freedom = variances.sum(axis=-1) ** 2 / (variances**2 / (effective - 1.0)).sum(axis=-1)
        away = ratios.mean(axis=-1) - log(claim.margin)
        t_values = away / np.sqrt(variances.sum(axis=-1)) * len(LEVELS)
        above.append(stdtr(freedom, -t_values))
        below.append(stdtr(freedom, t_values))
    confirm, refute = (above, below) if claim.above else (below, above)
    return float(np.mean((np.max(confirm, axis=0) <= TAIL) | (np.min(refute, axis=0) * len(refute) <= TAIL)))


def powers(code, *, pilots, experiments):
    """Return, per pilot that needs less than eight times its documents more, the share of experiments that decide."""
    shares = []
    for seed in range(pilots):
        finding, contrasts = pilot(code, seed)
        need, documents = finding.more_documents, finding.documents
        if finding.verdict is not Verdict.UNDECIDED or need is None or need > 8 * documents:
            continue
        assert finding.more_documents_low <= need <= (finding.more_documents_high or np.inf)
        writers = round(WRITERS * (1 + need / documents))
        shares.append(share_decided(CLAIMS[code], contrasts, writers, experiments, np.random.default_rng([seed, 6])))
    return shares


def main(pilots):
    for code in CLAIMS:
        shares = powers(code, pilots=pilots, experiments=800)
        low, middle, high = np.quantile(shares, (0.25, 0.5, 0.75))
        print(
            f"{code}: {len(shares)} of {pilots} pilots name a need; power {np.mean(shares):.1%} in the mean, "
            f"{middle:.1%} in the median, quartiles {low:.1%} to {high:.1%}",
            flush=True,
        )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
