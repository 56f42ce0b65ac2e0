"""Decides which trainings start if seeds are sequential: seed after seed, and only those that an open claim needs.

The first two seeds of everything are trained together, since one seed says nothing about the variance between
trainings.  Then the models are scored and every claim is examined (a look); the next seed is trained of the models that
an open claim compares, on the claim's levels.  A control gets the seeds of the model that it copies.  The decision
depends on what is done, never on the order in which it was done.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from raysweep.config.schema import Config
from raysweep.scheduling.trials import Trial, find_roles

FIRST_SEEDS = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenClaim:
    """A claim that is not settled."""

    roles: tuple[str, ...]
    """The kinds of model that it compares: 'general', 'specialised', 'transfer'."""
    levels: tuple[str, ...]


def release_seeds(
    config: Config, trials: Mapping[str, Trial], claims: Iterable[OpenClaim] = (), done: Collection[str] = ()
) -> list[str]:
    """List the trials that may be trained, in order: done trials, the first seeds, and the next seeds of open claims.

    Returns all trials if seeds are not sequential; entries that name their own seeds are always included.

    Args:
        claims: open claims after a look at everything that is done.
        done: trials that are trained.
    """
    if config.sequential_seeds is None:
        return list(trials)
    released = {
        name
        for name, trial in trials.items()
        if name in done or trial.settings.seeds is not None or trial.seed < FIRST_SEEDS
    }
    by_role = _by_role(trials, config.data.levels)
    for claim in claims:
        needed = {name for role in claim.roles for level in claim.levels for name in by_role.get((role, level), ())}
        waiting = [trials[name].seed for name in needed if name not in done]
        released |= {name for name in needed if trials[name].seed == min(waiting, default=None)}
    for name, trial in trials.items():
        if trial.control is not None:
            level = trial.control.level
            copied = by_role.get(("general", config.data.levels[0]) if level is None else ("specialised", level), ())
            if any(trials[other].seed == trial.seed for other in released.intersection(copied)):
                released.add(name)
    released |= {parent for name in released if (parent := trials[name].parent) is not None}
    return [name for name in trials if name in released]


def _by_role(trials: Mapping[str, Trial], levels: Sequence[str]) -> dict[tuple[str, str], tuple[str, ...]]:
    """Group the trials by role and level."""
    roles = find_roles(trials, levels)
    by_role = {("general", level): roles.general for level in levels}
    for role, by_level in (("specialised", roles.specialised), ("transfer", roles.transfer)):
        by_role |= {(role, level): names for level, names in by_level.items()}
    return by_role
