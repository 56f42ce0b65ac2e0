"""The errors that raysweep raises for mistakes of a user, and for problems with files or machines.

Each message names the place, the value found and the fix, and is printed without a traceback.
Every constructor passes all its arguments to `super().__init__`, so that an error survives pickling
on its way back from a Ray worker.  Guarantees of our own code are checked by `assert` instead.
"""


class RaysweepError(Exception):
    """A problem outside our code; `exit_code` is the exit code of the command."""

    exit_code = 1


class ConfigError(RaysweepError):
    """experiments.yaml, a `--set` or a command option is wrong; all problems are listed at once."""

    exit_code = 2

    def __init__(self, *problems: str) -> None:
        super().__init__(*problems)
        self.problems = problems

    def __str__(self) -> str:
        return "\n".join(self.problems)


class InputError(RaysweepError):
    """The corpus, or another file of the user, cannot be used as it is."""

    exit_code = 2


class ChangedError(ConfigError):
    """The results on disk were made with other settings than the present ones."""


class ThinLevelsError(ConfigError):
    """Levels of the corpus have too few texts to be compared."""


class DamagedError(InputError):
    """A file that raysweep wrote is missing, truncated or was changed."""


class EarlierVersionError(InputError):
    """A record was written by another version of raysweep."""


class LockedError(RaysweepError):
    """Another process is working in the same run folder."""

    exit_code = 2


class ResourceError(RaysweepError):
    """The machine or the cluster does not have the resources that the run needs."""

    exit_code = 2


class StorageError(RaysweepError):
    """The object storage does not respond or refuses a request; files on the local disk are kept."""


class LostRayError(RaysweepError):
    """Ray, which was started on this machine for the run, has died; what was saved is kept."""


class TrainingError(RaysweepError):
    """A trial cannot continue, such as if its loss is not finite, its data is empty, or its start cannot be read."""


class NonFiniteLossError(TrainingError):
    """A loss or gradient is not finite; `step` is the first such step, counted from 1.

    The last checkpoint is valid: the caller may resume the training from it once.
    """

    def __init__(self, message: str, step: int, documents: tuple[int, ...]) -> None:
        """Args: `documents`: the corpus numbers of the documents that the step trained on."""
        super().__init__(message, step, documents)
        self.step, self.documents = step, documents

    def __str__(self) -> str:
        return str(self.args[0])


class MemoryShortageError(TrainingError):
    """A single example does not fit into the device's memory, so there is no smaller micro-batch to try."""
