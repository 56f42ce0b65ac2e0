"""The errors raysweep raises for what a user, a file or a machine got wrong.

Each message names the place, the value found and the fix, and is printed without a traceback.
Every constructor hands all its arguments to `super().__init__`, so an error survives pickling
on its way back from a Ray worker.  What *we* guarantee is an `assert`, not one of these.
"""


class RaysweepError(Exception):
    """Something outside our control went wrong; `exit_code` is what the command ends with."""

    exit_code = 1


class ConfigError(RaysweepError):
    """experiments.yaml, a `--set` or a command option is wrong; every problem is listed at once."""

    exit_code = 2

    def __init__(self, *problems: str) -> None:
        super().__init__(*problems)
        self.problems = problems

    def __str__(self) -> str:
        return "\n".join(self.problems)


class InputError(RaysweepError):
    """The corpus, or another file the user gave, cannot be used as it is."""

    exit_code = 2


class ChangedError(ConfigError):
    """What is on disk was built from other settings than those asked for now."""


class ThinLevelsError(ConfigError):
    """Levels of the corpus have too few texts to be compared."""


class DamagedError(InputError):
    """A file that raysweep made is not as it was made: missing, cut short, changed."""


class EarlierVersionError(InputError):
    """A record was written by another version of raysweep."""


class LockedError(RaysweepError):
    """Another process is working in the same run folder."""

    exit_code = 2


class ResourceError(RaysweepError):
    """The machine or the cluster does not have what the run asks for."""

    exit_code = 2


class StorageError(RaysweepError):
    """The object storage does not answer, or refuses; what lies on the local disk stays."""


class LostRayError(RaysweepError):
    """Ray, which was started on this machine for the run, is gone; what was saved stays."""


class TrainingError(RaysweepError):
    """A trial cannot go on: its loss is not finite, its data is empty, its start cannot be read."""


class NonFiniteLossError(TrainingError):
    """A step's loss or gradient is no number; `step` is the first such step, counted from 1.

    Its steps up to the last checkpoint are sound: the caller may resume the training from there once.
    """

    def __init__(self, message: str, step: int, documents: tuple[int, ...]) -> None:
        """Args: `documents` are the numbers, in the corpus, of those that the step trained on."""
        super().__init__(message, step, documents)
        self.step, self.documents = step, documents

    def __str__(self) -> str:
        return str(self.args[0])


class MemoryShortageError(TrainingError):
    """A single example does not fit the device's memory, so there is no smaller micro-batch to try."""
