"""Reads the log of a trial's worker: its last lines, and the lines that follow while it runs."""

import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from raysweep.errors import ConfigError
from raysweep.pipeline.lock import is_locked
from raysweep.storage.run_folder import RunFolder

_LOOK_S = 0.5
_CHUNK_BYTES = 1 << 16


def find_log(folder: RunFolder, trial: str, trials: Collection[str]) -> Path:
    """Find the log of a trial, or of a sample of a search ('A2/samples/03'); ConfigError lists the existing ones."""
    name, _, sample = trial.partition("/samples/")
    if name not in trials:
        raise ConfigError(f"'{trial}': no such trial; known are {', '.join(trials)}")
    log = folder.trial(trial).log
    if log.exists():
        return log
    samples = [sample.root.name for sample in folder.trial(name).samples() if sample.log.exists()]
    known = f"{name}/samples/{samples[0]} … {samples[-1]}" if samples else "none"
    if sample:
        raise ConfigError(f"'{trial}': no log of such a sample; there are {known}")
    if samples:
        raise ConfigError(f"'{trial}' has no log of its own; those of its search are {known}")
    raise ConfigError(f"'{trial}' has no log yet: no worker of it has started in {folder.root}")


def read_end(path: Path, lines: int) -> tuple[list[str], int]:
    """Read the last complete lines; return them, and the byte offset at which they end."""
    with path.open("rb") as file:
        position = file.seek(0, 2)
        text = b""
        while position and text.count(b"\n") <= lines:
            step = min(_CHUNK_BYTES, position)
            position = file.seek(position - step)
            text = file.read(step) + text
    complete, _, _ = text.rpartition(b"\n")
    last = complete.decode("utf-8", errors="replace").split("\n")[-lines:] if complete and lines else []
    return last, position + len(complete) + (1 if complete else 0)


def follow(path: Path, offset: int, folder: RunFolder, *, sleep: Callable[[float], None] = time.sleep) -> Iterator[str]:
    """Yield complete lines from the offset on, until no process works in the run folder any more."""
    with path.open("rb") as file:
        file.seek(offset)
        partial = b""
        while True:
            # Checked before the last read, so that lines written just before the end are still shown.
            is_over = not is_locked(folder)
            *complete, partial = (partial + file.read()).split(b"\n")
            yield from (line.decode("utf-8", errors="replace") for line in complete)
            if is_over:
                return
            sleep(_LOOK_S)
