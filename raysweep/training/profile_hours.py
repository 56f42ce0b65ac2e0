"""How many examples the plan's trainings go through: what a measured speed is turned into hours with."""

from pathlib import Path

from raysweep.config.loading import check_file
from raysweep.scheduling.trials import expand_trials

PROFILE = "efcamdat"


def examples_of_profile(experiments: Path) -> int | None:
    """Training examples of all the profile's trials, repeats included; None without that file or that profile.

    Raises:
        ConfigError: the file has mistakes.
    """
    if not experiments.exists():
        return None
    config = check_file(experiments).get(PROFILE)
    if config is None:
        return None
    settings = [trial.settings for trial in expand_trials(config).values()]
    return sum(one.steps * one.batch_size * one.accumulation for one in settings)
