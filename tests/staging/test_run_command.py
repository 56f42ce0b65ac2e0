"""The commands that messages name can be pasted: they find the run, and repeat what was asked of it."""

import json
import shlex

import pytest

from raysweep.staging.run_command import run_command
from raysweep.storage.run_folder import RunFolder

RECORDED = "python -m raysweep run --profile quick --name pilot --config 'my texts/a.yaml' --storage s3://old/runs"
SETTINGS = ["--set", "data.csv=my texts/a.csv", "--skip-empty"]


@pytest.fixture
def folder(tmp_path):
    """A run that was made elsewhere, as run.json says, and lies in a folder with a space now."""
    folder = RunFolder(tmp_path / "a place" / "copy")
    folder.root.mkdir(parents=True)
    folder.record.write_text(json.dumps({"command": f"{RECORDED} {shlex.join(SETTINGS)}"}))
    return folder


def test_a_command_repeats_what_was_asked_where_the_run_lies(folder, tmp_path, monkeypatch):
    """With the settings of its last command, without the storage and the name that it had."""
    made = ["--profile", "quick", "--config", "my texts/a.yaml", *SETTINGS]
    place = ["raysweep", "run", "--name", "copy", "--storage", str(tmp_path / "a place")]
    assert shlex.split(run_command(folder, "--force", "A1")) == [*place, *made, "--force", "A1"]
    monkeypatch.chdir(folder.root)
    assert shlex.split(run_command(RunFolder(folder.root.relative_to(folder.root)))) == [*place, *made]
    folder.root.parent.rename(tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    moved = RunFolder(tmp_path / "runs" / "copy")
    assert shlex.split(run_command(moved)) == ["raysweep", "run", "--name", "copy", *made]


@pytest.mark.parametrize("record", [None, "{", "[]", "{}", '{"command": "it\'s"}'])
def test_without_a_record_the_command_says_where_the_run_lies(folder, record):
    """Whoever needs the record refuses it by itself."""
    folder.record.unlink() if record is None else folder.record.write_text(record)
    assert shlex.split(run_command(folder)) == [
        "raysweep",
        "run",
        "--name",
        "copy",
        "--storage",
        str(folder.root.parent),
    ]
