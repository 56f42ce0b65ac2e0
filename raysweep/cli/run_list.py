"""`raysweep runs`: lists the runs in a folder, the newest first."""

from datetime import datetime
from pathlib import Path
from typing import Any

from rich.text import Text

from raysweep.cli.terminal import PrintableConsole, plain_table
from raysweep.errors import ConfigError, RaysweepError
from raysweep.pipeline.lock import is_locked
from raysweep.pipeline.run_record import read_run
from raysweep.pipeline.stages import STAGES
from raysweep.scheduling.records import State, read_record
from raysweep.storage.atomic_files import read_json
from raysweep.storage.printable import say, say_json
from raysweep.storage.run_folder import RunFolder


def print_runs(storage: str, *, as_json: bool) -> None:
    """Print a row per run, including runs that cannot be read; raises ConfigError without the folder."""
    place = Path(storage).expanduser()
    if not place.is_dir():
        raise ConfigError(f"--storage: no folder '{storage}'; `raysweep run` makes it, or name another")
    folders = [RunFolder(path) for path in place.iterdir() if RunFolder(path).record.is_file()]
    rows = sorted((_describe(folder) for folder in folders), key=lambda row: -(row["started_at"] or 0.0))
    if as_json:
        say_json(rows)
    elif not rows:
        say(f"no runs in {place}")
    else:
        table = plain_table()
        for header in ("run", "profile", "began", "done"):
            table.add_column(header, no_wrap=True)
        table.add_column("answer", overflow="fold")
        for row in rows:
            began = row["started_at"]
            date = "" if began is None else f"{datetime.fromtimestamp(began):%Y-%m-%d %H:%M}"
            cells = (row["run"], row["profile"], date, row["reached"], row["answer"])
            table.add_row(*(Text(cell) for cell in cells))
        PrintableConsole(highlight=False).print(table)


def _describe(folder: RunFolder) -> dict[str, Any]:
    try:
        record = read_run(folder)
        assert record is not None, "run.json is there"
        names = sorted(path.name for path in folder.trials.glob("*") if (path / "trial.json").is_file())
        states = [trial.state for name in names if (trial := read_record(folder.trial(name))) is not None]
        answer = str(read_json(folder.evidence)["answer"]["headline"]) if folder.evidence.exists() else ""
    except RaysweepError as error:
        # List a damaged run too, or nobody would notice it.
        return {"run": folder.name, "profile": "", "started_at": None, "reached": "unreadable", "answer": f"{error}"}
    reached = [stage for stage in STAGES if stage in record.stages]
    done = f"{states.count(State.DONE)} of {len(states)} trials" if states and "report" not in reached else ""
    last = "running" if is_locked(folder) else reached[-1] if reached else "nothing"
    return {
        "run": folder.name,
        "profile": record.profile,
        "started_at": record.started_at,
        "reached": f"{last}, {done}" if done else last,
        "answer": answer,
    }
