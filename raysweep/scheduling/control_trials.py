"""Plans the control trials: what a level's model would gain if its level did not matter.

Three kinds are compared with one level's model and copy all its settings, including steps; only the
documents differ:

    size_matched   as many documents as the level has, drawn from all levels
    step_matched   all documents of all levels
    placebo        a random group of documents of all levels, as many as the level has; the groups of
                   two levels are disjoint, and each group has its own test documents

Two kinds are a single model for all levels, which copies the general model's settings and sees as many examples
as all level models together:

    compute_matched    drawn from all documents alike
    exposure_matched   from each level as many as the level's own model sees

If one of these does as well on the level's test documents as the level's model, the gain comes from the
number of documents, steps or examples; if the placebos beat the general model on their own groups by as
much, the gain is unrelated to levels.
"""

from raysweep.config.control_settings import SubsetConfig
from raysweep.config.schema import Config
from raysweep.config.training_settings import TrialConfig
from raysweep.config.trial_names import Control, entry_on, planned_controls


def plan_controls(config: Config) -> dict[str, tuple[TrialConfig, Control]]:
    """Return the control entries that the config asks for, by name; none for a level without its own model."""
    return {control.name: (_settings(config, control, copied), control) for control, copied in planned_controls(config)}


def placebo_group(level: str, seed: int, draw: int = 1) -> SubsetConfig:
    """Define a random group of documents that replaces a level's documents; the first draw uses the run's seed."""
    return SubsetConfig(size_of=level, disjoint=True, seed=(seed + draw - 1) % 2**63)


def _settings(config: Config, control: Control, copied: TrialConfig) -> TrialConfig:
    if control.level is None:
        return _settings_for_all(config, control.kind, copied)
    documents = {
        "size_matched": SubsetConfig(size_of=control.level, seed=config.seed),
        "step_matched": None,
        "placebo": placebo_group(control.level, config.seed, control.draw),
    }[control.kind]
    return copied.model_copy(update={"levels": config.data.levels, "documents": documents})


def _settings_for_all(config: Config, kind: str, general: TrialConfig) -> TrialConfig:
    """Return the general model's settings, with enough steps to see as many examples as all level models together."""
    seen = {
        level: own.steps * own.batch_size * own.accumulation
        for level in config.data.levels
        if (own := entry_on(config, [level])) is not None
    }
    steps = -(-sum(seen.values()) // (general.batch_size * general.accumulation))
    by_level = seen if kind == "exposure_matched" else None
    warmup = min(general.warmup_steps, steps - 1)
    return general.model_copy(update={"steps": steps, "warmup_steps": warmup, "examples_per_level": by_level})
