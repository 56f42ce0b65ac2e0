"""The control trials: what a level's model would gain if its level did not matter.

Each is compared with one level's model and copies all its settings, steps included; only the
documents differ:

    size_matched   as many documents as the level has, drawn from all levels
    step_matched   all documents of all levels
    placebo        a random group of documents of all levels, as many as the level has; the groups of
                   two levels share none, and each group has test documents of its own

If one of the first two does as well on the level's test documents as the level's model, the gain comes
from the number of documents or steps; if the placebo beats the general model on its own group by as
much, the gain has nothing to do with levels.
"""

from dataclasses import dataclass

from raysweep.config.control_settings import SubsetConfig
from raysweep.config.schema import Config
from raysweep.config.training_settings import TrialConfig
from raysweep.config.trial_names import CONTROL_KINDS, control_name, entry_on


@dataclass(frozen=True, kw_only=True, slots=True)
class Control:
    """The level whose model a control trial is compared with."""

    kind: str
    """One of `config.trial_names.CONTROL_KINDS`."""
    level: str


def plan_controls(config: Config) -> dict[str, tuple[TrialConfig, Control]]:
    """The control entries that the config asks for, by name; none for a level without a model of its own."""
    general = general_entry(config)
    planned: dict[str, tuple[TrialConfig, Control]] = {}
    for kind in CONTROL_KINDS:
        if not getattr(config.controls, kind) or general is None:
            continue
        for level in config.data.levels:
            if (own := entry_on(config, [level])) is not None:
                planned[control_name(kind, level)] = (
                    _settings(config, general, own, kind, level),
                    Control(kind=kind, level=level),
                )
    return planned


def general_entry(config: Config) -> TrialConfig | None:
    """The first entry on all levels that starts from scratch, if there are several levels."""
    return entry_on(config, config.data.levels) if len(config.data.levels) > 1 else None


def placebo_group(level: str, seed: int) -> SubsetConfig:
    """The random group of documents that replaces a level's, drawn with the run's seed."""
    return SubsetConfig(size_of=level, disjoint=True, seed=seed)


def _settings(config: Config, general: TrialConfig, own: TrialConfig, kind: str, level: str) -> TrialConfig:
    documents = {
        "size_matched": SubsetConfig(size_of=level, seed=config.seed),
        "step_matched": None,
        "placebo": placebo_group(level, config.seed),
    }[kind]
    return own.model_copy(update={"levels": general.levels, "documents": documents})
