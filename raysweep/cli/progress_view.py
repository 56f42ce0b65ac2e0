"""Shows a run's progress: a live view on a terminal, plain lines elsewhere.

Both are drawn from the run folder's records, so the view needs nothing from the workers, and shows
the same as `raysweep status` in another terminal.
"""

import logging
import shlex
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from raysweep.cli.seed_rows import MOST_ROWS, count_words, label_of, rows_of
from raysweep.cli.settings import DEFAULT_STORAGE, Settings
from raysweep.cli.terminal import PrintableConsole, duration, is_watched, plain_table
from raysweep.errors import ConfigError
from raysweep.pipeline.run import RunListener
from raysweep.pipeline.stages import asked_stages
from raysweep.pipeline.status import StatusReader, TrialStatus
from raysweep.scheduling.records import State
from raysweep.scheduling.trials import Trial, expand_trials
from raysweep.storage.printable import printable_message, say, say_json, shorten_line

MARKS = {
    State.PENDING: ("·", "dim"),
    State.RUNNING: ("▶", "cyan"),
    State.DONE: ("✔", "green"),
    State.FAILED: ("✘", "bold red"),
    State.BLOCKED: ("⊘", "yellow"),
    State.STOPPED: ("■", "yellow"),
}


NOTE = "note: "
"""Prefix of a warning."""
LONGEST_REASON = 200
"""Maximum length of a reason in characters; the trial's log has the rest."""


class Notes(logging.Handler):
    """Passes raysweep's warnings on to the view, so that they do not break up what it draws."""

    def __init__(self, view: RunListener) -> None:
        super().__init__(logging.WARNING)
        self._view = view

    def emit(self, record: logging.LogRecord) -> None:
        self._view.say(f"{NOTE}{record.getMessage()}")


@contextmanager
def view_for(settings: Settings) -> Iterator[RunListener]:
    """Show a live view on a terminal, plain lines elsewhere, until the block ends."""
    console = PrintableConsole()
    is_live = console.is_terminal and is_watched(sys.stdin, sys.stdout)
    view: LiveView | PlainView = LiveView(settings, console) if is_live else PlainView(settings)
    if settings.is_quiet:
        view = QuietView(settings)
    notes = Notes(view)
    logging.getLogger("raysweep").addHandler(notes)
    try:
        with view.shown():
            yield view
    finally:
        logging.getLogger("raysweep").removeHandler(notes)


def print_status(settings: Settings, *, watch: bool, as_json: bool = False) -> None:
    """Print the state of the run, once or until its process ends.

    Raises:
        ConfigError: there is no such run.
        DamagedError, EarlierVersionError: run.json was changed or written by another version, so no run would start.
    """
    from raysweep.pipeline.lock import is_locked
    from raysweep.pipeline.run_record import read_run
    from raysweep.pipeline.status import (
        describe_classification,
        describe_corpora,
        describe_ledger,
        describe_process,
    )

    if not settings.folder.root.is_dir():
        where = "" if settings.storage == DEFAULT_STORAGE else f" --storage {shlex.quote(settings.storage)}"
        raise ConfigError(
            f"--name: no run '{settings.folder.name}' in {settings.folder.root.parent}; "
            f"`raysweep runs{where}` lists those there are, `raysweep plan` shows what a run would do"
        )
    read_run(settings.folder)
    trials = expand_trials(settings.config)
    reader = StatusReader(settings.folder, trials)
    corpora = describe_corpora(settings.folder, settings.config.corpora, trials)
    if as_json:
        process, ledger = describe_process(settings.folder, trials), describe_ledger(settings.folder, trials)
        rows = [asdict(row) for row in reader.read()]
        classification = describe_classification(settings.folder, settings.config)
        more = {"corpora": corpora, **({"classification": classification} if classification else {})}
        say_json({"run": settings.folder.name, "process": process, "ledger": ledger, **more, "trials": rows})
        return
    console = PrintableConsole()
    if watch and is_locked(settings.folder):
        with Live(console=console, refresh_per_second=2) as live:
            while is_locked(settings.folder):
                live.update(status_table(reader.read(), trials))
                time.sleep(1)
    console.print(status_table(reader.read(), trials))
    lines = describe_process(settings.folder, trials), *corpora, describe_ledger(settings.folder, trials)
    for line in (*lines, describe_classification(settings.folder, settings.config)):
        if line:
            console.print(line, highlight=False, markup=False, soft_wrap=True)


def status_table(rows: list[TrialStatus], trials: Mapping[str, Trial]) -> Group:
    """Make a table with a row per trial, or per entry if there are more than `MOST_ROWS` trials."""
    return trial_table(rows) if len(trials) <= MOST_ROWS else entry_table(rows, trials)


def entry_table(rows: list[TrialStatus], trials: Mapping[str, Trial]) -> Group:
    """Make a row per entry: its seeds by state, their steps and time, and mean loss; below, the first reasons."""
    table = plain_table()
    for header in ("entry", "state"):
        table.add_column(header, no_wrap=True)
    for header in ("steps", "mean loss", "took"):
        table.add_column(header, justify="right", no_wrap=True)
    status_of = {row.trial: row for row in rows}
    for entry, names in rows_of(trials).items():
        # With sequential seeds, some seeds may never be trained.
        seeds = [status_of[name] for name in names if name in status_of]
        losses = [row.loss for row in seeds if row.loss is not None]
        steps, busy_s = sum(row.step for row in seeds), sum(row.busy_seconds for row in seeds)
        table.add_row(
            label_of(entry, [row.trial for row in seeds]),
            count_words(f"{MARKS[row.state][0]} {row.state}" for row in seeds),
            f"{steps:,}/{sum(row.steps for row in seeds):,}" if steps else "",
            f"{sum(losses) / len(losses):.3f}" if losses else "",
            duration(busy_s) if busy_s else "",
        )
    explained = [row for row in rows if row.reason]
    lines = [_reason(row) for row in explained[:MOST_ROWS]]
    if (more := len(explained) - MOST_ROWS) > 0:
        lines.append(Text(f"… {more:,} more have a reason; --json lists every trial", style="dim"))
    return Group(table, *lines)


def _reason(row: TrialStatus) -> Text:
    reason = shorten_line(row.reason, LONGEST_REASON)
    return Text(f"{MARKS[row.state][0]} {row.trial}: {reason}", style="dim")


def trial_table(rows: list[TrialStatus]) -> Group:
    """Make a table with a row per trial: state, step, loss, speed, time left; below it, each trial's reason if any."""
    table = plain_table()
    for header in ("trial", "state"):
        table.add_column(header, no_wrap=True)
    for header in ("step", "loss", "tokens/s"):
        table.add_column(header, justify="right", no_wrap=True)
    for header in ("left", "took"):
        table.add_column(header, justify="right")  # these may take two lines on a narrow terminal
    for row in rows:
        mark, style = MARKS[row.state]
        table.add_row(
            row.trial,
            Text(f"{mark} {row.state}", style=style),
            f"{row.step:,}/{row.steps:,}" if row.step else "",
            "" if row.loss is None else f"{row.loss:.3f}",
            "" if row.tokens_per_second is None else f"{row.tokens_per_second:,.0f}",
            "" if row.seconds_left is None else duration(row.seconds_left),
            "" if not row.busy_seconds else duration(row.busy_seconds),
        )
    return Group(table, *(_reason(row) for row in rows if row.reason))


class LiveView:
    """Draws the stages, the current stage's progress and a row per trial, twice a second."""

    def __init__(self, settings: Settings, console: Console) -> None:
        self._settings = settings
        self._trials = expand_trials(settings.config)
        # The run itself refuses a damaged record, unless it is forced and replaced while this shows it.
        self._reader = StatusReader(settings.folder, self._trials, forced=self._trials)
        self._console = console
        self._stage = ""
        self._progress: tuple[str, int, int, str] | None = None
        self._started = time.monotonic()
        self._rows: list[TrialStatus] = []
        self._read_at = 0.0

    @contextmanager
    def shown(self) -> Iterator[None]:
        with Live(console=self._console, get_renderable=self._draw, refresh_per_second=2, redirect_stderr=False):
            yield

    def begin(self, stage: str) -> None:
        self._stage, self._progress = stage, None

    def advance(self, stage: str, done: int, total: int, unit: str) -> None:
        self._progress = (stage, done, total, unit)

    def say(self, message: str) -> None:
        self._console.print(printable_message(message), highlight=False, markup=False)

    def _draw(self) -> RenderableType:
        parts: list[RenderableType] = [self._stages_line()]
        if self._progress is not None and self._stage != "train":
            _, done, total, unit = self._progress
            bar = Table.grid(padding=(0, 1))
            bar.add_row(ProgressBar(total=total, completed=done, width=40), f"{done:,}/{total:,} {unit}")
            parts.append(bar)
        if self._stage == "train":
            if time.monotonic() - self._read_at > 0.9:
                self._rows = self._reader.read()
                self._read_at = time.monotonic()
            parts.append(status_table(self._rows, self._trials))
        return Group(*parts)

    def _stages_line(self) -> Text:
        line = Text(f"{self._settings.folder.name}  ", style="bold")
        stages = asked_stages(self._settings.config)
        reached = stages.index(self._stage) if self._stage else 0
        for index, stage in enumerate(stages):
            mark, style = ("✔", "green") if index < reached else ("▶", "cyan") if index == reached else ("·", "dim")
            line.append(f"{mark} {stage}  ", style=style)
        line.append(duration(time.monotonic() - self._started), style="dim")
        return line


class PlainView:
    """Prints a line per event, for logs, pipes and batch jobs."""

    EVERY_SECONDS = 10.0
    """Minimum seconds between two lines about the same trial or stage."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        trials = expand_trials(settings.config)
        self._reader = StatusReader(settings.folder, trials, forced=trials)  # see `LiveView`
        self._stage = ""
        self._last_reported: dict[str, float] = {}
        self._advanced: dict[str, float] = {}
        self._lock = threading.Lock()

    @contextmanager
    def shown(self) -> Iterator[None]:
        over = threading.Event()
        watcher = threading.Thread(target=self._watch, args=(over,), daemon=True)
        watcher.start()
        try:
            yield
        finally:
            over.set()
            watcher.join()

    def begin(self, stage: str) -> None:
        self._stage = stage

    def advance(self, stage: str, done: int, total: int, unit: str) -> None:
        now = time.monotonic()
        since = self._advanced.setdefault(stage, now)
        if now - since >= self.EVERY_SECONDS and done < total:
            self._advanced[stage] = now
            self.say(f"{stage}: {done:,}/{total:,} {unit}")

    def say(self, message: str) -> None:
        with self._lock:
            say(message)

    def _watch(self, over: threading.Event) -> None:
        while not over.wait(1.0):
            if self._stage == "train":
                self._report_running()

    def _report_running(self) -> None:
        """Print the step and time left of running trials; the executor reports their starts and ends."""
        now = time.monotonic()
        for row in self._reader.read():
            if (
                row.state is State.RUNNING
                and row.step
                and now - self._last_reported.get(row.trial, 0.0) > self.EVERY_SECONDS
            ):
                self._last_reported[row.trial] = now
                self.say(_line(row))


class QuietView(PlainView):
    """Prints only warnings, on stderr."""

    @contextmanager
    def shown(self) -> Iterator[None]:
        yield

    def advance(self, stage: str, done: int, total: int, unit: str) -> None:
        """Print nothing."""

    def say(self, message: str) -> None:
        """Print the message if it is a warning."""
        if message.startswith(NOTE):
            say(message, to_stderr=True)


def _line(row: TrialStatus) -> str:
    parts = [f"{row.trial}: step {row.step:,}/{row.steps:,}"]
    if row.loss is not None:
        parts.append(f"loss {row.loss:.3f} nats/token")
    if row.tokens_per_second is not None:
        parts.append(f"{row.tokens_per_second:,.0f} tokens/s")
    if row.seconds_left is not None:
        parts.append(f"{duration(row.seconds_left)} left")
    return "  ".join(parts)
