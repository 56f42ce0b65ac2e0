"""The names that `track` takes, and whether what they need is installed."""

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Literal

from raysweep.errors import ConfigError

TrackerName = Literal["mlflow", "wandb"]


def refuse_missing_trackers(names: Sequence[TrackerName]) -> None:
    """Look whether the package of every tracker is installed, without importing it.

    Raises:
        ConfigError: a line for each that is not, with the command that installs it.
    """
    missing = [name for name in names if not _is_installed(name)]
    if missing:
        fix = "`pip install 'raysweep[{0}]'` installs it; or take {0} out of track"
        raise ConfigError(
            *[f"track: found '{name}'; its package is not installed. {fix.format(name)}" for name in missing]
        )


def _is_installed(name: str) -> bool:
    """Whether there is such a package; a mere folder of that name where the command runs (wandb makes one) is none."""
    spec = find_spec(name)
    return spec is not None and spec.origin is not None
