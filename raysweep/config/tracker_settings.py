"""The names allowed in `track`, and a check that their packages are installed."""

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Literal

from raysweep.errors import ConfigError

TrackerName = Literal["mlflow", "wandb"]


def refuse_missing_trackers(names: Sequence[TrackerName]) -> None:
    """Raise ConfigError with a line for each tracker whose package is not installed; none is imported."""
    if missing := [name for name in names if not _is_installed(name)]:
        fix = "`pip install -c constraints.txt -e '.[{0}]'` installs it; or take {0} out of track"
        raise ConfigError(
            *[f"track: found '{name}'; its package is not installed. {fix.format(name)}" for name in missing]
        )


def _is_installed(name: str) -> bool:
    """Tell whether the package is installed; a folder of this name in the working directory does not count (wandb
    creates one)."""
    spec = find_spec(name)
    return spec is not None and spec.origin is not None
