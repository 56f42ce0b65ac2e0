"""Keeps the trackers named in `track` up to date with a run, from a thread of the process that executes the run.

The thread reads only the run folder, so it does not matter where trainings run, and whatever one command could not
send is sent by the next.  `tracked.json` records what each tracker has received, so a command that changes nothing
does not import a tracker's library.  A tracker's failure is reported at the end and does not fail the run.
"""

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from raysweep.config.schema import Config
from raysweep.scheduling.records import State
from raysweep.scheduling.trials import Trial
from raysweep.storage.atomic_files import read_json, write_json
from raysweep.storage.printable import printable_message, without_secrets
from raysweep.storage.run_folder import RunFolder
from raysweep.tracking.mlflow_tracker import MlflowTracker
from raysweep.tracking.tracked_training import Tracker, find_trainings, progress_digest, read_training
from raysweep.tracking.wandb_tracker import WandbTracker

LOOK_EVERY_S = 30.0
LAST_WAIT_S = 120.0
"""Seconds that the end of a run waits for its trackers."""

TRACKERS: dict[str, type[Tracker]] = {"mlflow": MlflowTracker, "wandb": WandbTracker}

logger = logging.getLogger(__name__)


@contextmanager
def tracked(
    folder: RunFolder, config: Config, trials: Mapping[str, Trial], say: Callable[[str], None]
) -> Iterator[None]:
    """Keep the trackers of `config.track` up to date while the block runs, and send the rest when it ends."""
    if not config.track:
        yield
        return
    feed = _Feed(folder, config, trials)
    feed.start()
    try:
        yield
    finally:
        for line in feed.finish():
            say(line)


class _Feed:
    """The thread, and a record of what each tracker has received."""

    def __init__(self, folder: RunFolder, config: Config, trials: Mapping[str, Trial]) -> None:
        self._folder, self._config, self._trials = folder, config, trials
        self._trackers: dict[str, Tracker] = {}
        self._problems: dict[str, str] = {}
        self._sent: dict[str, set[str]] = {name: set() for name in config.track}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="track", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def finish(self) -> list[str]:
        """Send what is left; return one line per tracker that received something or failed."""
        self._over.set()
        self._thread.join(LAST_WAIT_S)
        if self._thread.is_alive():
            late = f"not everything was sent within {LAST_WAIT_S:.0f} s"
            self._problems = {name: self._problems.get(name, late) for name in self._config.track}
        return [line for name in self._config.track if (line := self._describe(name))]

    def _describe(self, name: str) -> str:
        if problem := self._problems.get(name):
            return f"track: {name}: {problem}; the same command sends what is missing"
        if not (count := len(self._sent[name])):
            return ""
        return f"track: {name}: {count} trainings are up to date; {TRACKERS[name].viewing_hint(self._storage)}"

    def _run(self) -> None:
        while not self._over.wait(LOOK_EVERY_S):
            for name in self._config.track:
                # A tracker that failed is tried once more, at the end.
                if name not in self._problems:
                    self._send(name)
        for name in self._config.track:
            self._send(name)
        for tracker in self._trackers.values():
            tracker.close()

    def _send(self, name: str) -> None:
        try:
            self._send_new(name)
            self._problems.pop(name, None)
        except Exception as error:
            # A tracker may raise anything, and its failure must not end a training.
            first = str(error).strip().partition("\n")[0]
            self._problems[name] = printable_message(f"{type(error).__name__}: {first}")[:300]
            logger.warning("track: %s: %s", name, self._problems[name])

    def _send_new(self, name: str) -> None:
        kind = TRACKERS[name]
        destination = without_secrets(kind.store_of(self._storage))
        for trial, place, record in find_trainings(self._folder, self._trials):
            sent = read_json(self._folder.tracked) if self._folder.tracked.exists() else {}
            digest = progress_digest(self._folder, place, record, destination=destination)
            if sent.get(name, {}).get(record.trial) == digest or (record.state is State.RUNNING and not kind.is_live):
                continue
            if name not in self._trackers:
                self._trackers[name] = kind(self._storage)
            self._trackers[name].send(read_training(self._folder, self._config, trial, place, record))
            self._sent[name].add(record.trial)
            # Written after sending: a kill in between sends a training twice, which changes nothing in a tracker.
            write_json(self._folder.tracked, {**sent, name: {**sent.get(name, {}), record.trial: digest}})

    @property
    def _storage(self) -> Path:
        return self._folder.root.parent
