"""What the common options mean: a profile, a run folder, and the command that gets there again."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from raysweep.config.loading import load_config
from raysweep.config.schema import Config
from raysweep.storage.run_folder import RunFolder, open_run_folder


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """One command's settings."""

    file: Path
    profile: str
    config: Config
    folder: RunFolder
    overrides: tuple[str, ...]
    storage: str

    def command(self) -> list[str]:
        """The words that do this run again, for the report."""
        words = ["python -m raysweep run", "--profile", self.profile, "--name", self.folder.name]
        if self.file.name != "experiments.yaml":
            words += ["--config", self.file.name]
        for override in self.overrides:
            words += ["--set", shlex.quote(override)]
        return words


def read_settings(
    file: Path, *, profile: str | None, name: str | None, storage: str, overrides: Sequence[str]
) -> Settings:
    """Read the profile and find the run folder; the run is named after its profile unless told otherwise.

    Raises:
        ConfigError: everything that is wrong with the file, the overrides, or the name.
    """
    found, config = load_config(file, profile, overrides)
    return Settings(
        file=file,
        profile=found,
        config=config,
        folder=open_run_folder(storage, name or found),
        overrides=tuple(overrides),
        storage=storage,
    )
