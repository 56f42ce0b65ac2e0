"""Keeps the trackers that `track` names in step with a run, from a thread of the process that carries it out.

It reads the run folder and nothing else, so it does not matter where trainings run, and what one command could not
send is sent by the next.  `tracked.json` says what each tracker has, so that a command which changes nothing imports
nothing.  A tracker that fails is told of at the end; the run's own end does not depend on it.
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
from raysweep.tracking.tracked_training import Tracker, find_trainings, mark_of, read_training
from raysweep.tracking.wandb_tracker import WandbTracker

LOOK_EVERY_S = 30.0
LAST_WAIT_S = 120.0
"""How long the end of a run waits for its trackers."""

TRACKERS: dict[str, type[Tracker]] = {"mlflow": MlflowTracker, "wandb": WandbTracker}

logger = logging.getLogger(__name__)


@contextmanager
def tracked(
    folder: RunFolder, config: Config, trials: Mapping[str, Trial], say: Callable[[str], None]
) -> Iterator[None]:
    """Keep the config's trackers in step while the block runs, and bring them up to date at its end."""
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
    """The thread, and what each tracker has."""

    def __init__(self, folder: RunFolder, config: Config, trials: Mapping[str, Trial]) -> None:
        self._folder, self._config, self._trials = folder, config, trials
        self._trackers: dict[str, Tracker] = {}
        self._problems: dict[str, str] = {}
        self._sent: dict[str, set[str]] = {name: set() for name in config.track}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="track", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def finish(self) -> list[str]:
        """Send what is left; returns a line per tracker that got something or failed."""
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
        return f"track: {name}: {count} trainings are up to date; {TRACKERS[name].how_to_look(self._storage)}"

    def _run(self) -> None:
        while not self._over.wait(LOOK_EVERY_S):
            for name in self._config.track:
                # One that failed is tried once more, at the end.
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
            # A tracker may raise anything, and no training may end for it.
            first = str(error).strip().partition("\n")[0]
            self._problems[name] = printable_message(f"{type(error).__name__}: {first}")[:300]
            logger.warning("track: %s: %s", name, self._problems[name])

    def _send_new(self, name: str) -> None:
        kind = TRACKERS[name]
        destination = without_secrets(kind.store_of(self._storage))
        for trial, place, record in find_trainings(self._folder, self._trials):
            marks = read_json(self._folder.tracked) if self._folder.tracked.exists() else {}
            mark = mark_of(self._folder, place, record, destination=destination)
            if marks.get(name, {}).get(record.trial) == mark or (record.state is State.RUNNING and not kind.is_live):
                continue
            if name not in self._trackers:
                self._trackers[name] = kind(self._storage)
            self._trackers[name].send(read_training(self._folder, self._config, trial, place, record))
            self._sent[name].add(record.trial)
            # After it was sent: a kill in between sends a training twice, which changes nothing for a tracker.
            write_json(self._folder.tracked, {**marks, name: {**marks.get(name, {}), record.trial: mark}})

    @property
    def _storage(self) -> Path:
        return self._folder.root.parent
