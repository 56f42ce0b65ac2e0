"""The models of each role on each level, and contrasts between roles."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from raysweep.statistics.bootstrap import MIN_CLUSTERS, MIN_EFFECTIVE, Resamples
from raysweep.statistics.weighted_parts import Part, SeedModels


@dataclass(frozen=True, kw_only=True, slots=True)
class RoleModels:
    """The models of each role on each level, by seed.  Failed and unplanned models are absent."""

    by_role: Mapping[str, Mapping[str, Mapping[int, str]]]
    """Model by role, level and seed."""
    absent: Mapping[tuple[str, str], str]
    """Why a planned model is missing, by (role, level)."""
    most_seeds: int | None = None
    """With sequential seeds: the maximum number, for the looks at claims; else None."""

    def __post_init__(self) -> None:
        by_role = {
            role: {level: SeedModels(models) for level, models in by_level.items()}
            for role, by_level in self.by_role.items()
        }
        object.__setattr__(self, "by_role", by_role)

    def is_planned(self, role: str) -> bool:
        """Return whether the config has a trial with this role, trained or not."""
        return bool(self.by_role.get(role)) or any(absent == role for absent, _ in self.absent)

    def of(self, role: str, level: str) -> Mapping[int, str]:
        """Return the models of a role on a level, by seed; empty if there is none."""
        return self.by_role.get(role, {}).get(level, {})

    def keep_seeds(self, seeds: Collection[int]) -> "RoleModels":
        """Keep only the models of these seeds."""
        kept = {
            role: {
                level: {seed: model for seed, model in models.items() if seed in seeds}
                for level, models in by_level.items()
            }
            for role, by_level in self.by_role.items()
        }
        return replace(self, by_role=kept)

    def common_seeds(self, roles: Sequence[str], levels: Sequence[str]) -> list[int]:
        """List the seeds for which all these roles have a model on all these levels."""
        return sorted(set.intersection(*(set(self.of(role, level)) for role in roles for level in levels)))

    def fewest_seeds(self, roles: Sequence[str], levels: Sequence[str]) -> int:
        """Return the smallest number of models that one of these roles has on one of these levels."""
        return min(len(self.of(role, level)) for role in roles for level in levels)


def draw_role(role: str, draw: int) -> str:
    """Name the role of a control's models trained on another random draw of documents."""
    return role if draw == 1 else f"{role} {draw}"


def mean_log_ratio(
    numerator: str,
    denominator: str,
    roles: RoleModels,
    levels: Sequence[str],
    shares: Mapping[str, float] | None = None,
) -> list[Part]:
    """Return the contrast whose exp is the geometric mean over levels of two roles' perplexity ratio.

    Args:
        shares: weight of each level, in any unit; equal if None.
    """
    weights = {level: 1.0 if shares is None else shares[level] for level in levels}
    total = sum(weights.values())
    return [
        part
        for level, weight in weights.items()
        for part in (
            Part(weight=weight / total, level=level, models=roles.of(numerator, level)),
            Part(weight=-weight / total, level=level, models=roles.of(denominator, level)),
        )
    ]


def lack_of_writers(resamples: Resamples, level: str) -> str:
    """Say why a level's documents cannot be tested; '' if they can."""
    if level not in resamples.levels:
        return "no test documents"
    drawn = resamples.levels[level]
    if drawn.clusters < MIN_CLUSTERS:
        return (
            f"its test documents are by {drawn.clusters} independent learners only; at least {MIN_CLUSTERS} are needed"
        )
    if not drawn.has_interval:
        return (
            f"a few of its {drawn.clusters} learners wrote nearly all of its test documents: they weigh as "
            f"{drawn.effective:.1f} equal ones; at least {MIN_EFFECTIVE:g} are needed"
        )
    return ""
