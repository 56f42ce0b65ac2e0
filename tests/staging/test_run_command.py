"""The commands named in messages can be pasted: they find the run, and repeat what was requested."""

import json
import shlex

import pytest

from raysweep.config.secrets import recorded_override
from raysweep.staging.run_command import run_command, this_command
from raysweep.storage.run_folder import RunFolder

RECORDED = "python -m raysweep run --profile quick --name pilot --config 'my texts/a.yaml' --storage s3://old/runs"
SETTINGS = ["--set", "data.csv=my texts/a.csv", "--skip-empty"]


def words(command):
    """Extract the command from its backticks."""
    assert command[0] == command[-1] == "`"
    return shlex.split(command[1:-1])


@pytest.fixture
def folder(tmp_path):
    """A run that was made elsewhere, according to run.json, and now lies in a folder with a space."""
    folder = RunFolder(tmp_path / "a place" / "copy")
    folder.root.mkdir(parents=True)
    folder.record.write_text(json.dumps({"command": f"{RECORDED} {shlex.join(SETTINGS)}"}))
    return folder


def test_the_advised_command_repeats_the_settings_for_the_runs_location(folder, tmp_path, monkeypatch):
    """With the settings of its last command, but not with the storage and name that it had."""
    made = ["--profile", "quick", "--config", "my texts/a.yaml", *SETTINGS]
    place = ["raysweep", "run", "--name", "copy", "--storage", str(tmp_path / "a place")]
    assert words(run_command(folder, "--force", "A1")) == [*place, *made, "--force", "A1"]
    monkeypatch.chdir(folder.root)
    assert words(run_command(RunFolder(folder.root.relative_to(folder.root)))) == [*place, *made]
    folder.root.parent.rename(tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    moved = RunFolder(tmp_path / "runs" / "copy")
    assert words(run_command(moved)) == ["raysweep", "run", "--name", "copy", *made]


@pytest.mark.parametrize("record", [None, "{", "[]", "{}", '{"command": "it\'s"}'])
def test_without_a_record_the_advised_command_names_only_the_location(folder, record):
    """Code that needs the record refuses it itself."""
    folder.record.unlink() if record is None else folder.record.write_text(record)
    assert words(run_command(folder)) == [
        "raysweep",
        "run",
        "--name",
        "copy",
        "--storage",
        str(folder.root.parent),
    ]


def test_the_advised_command_changes_to_the_folder_of_relative_paths(folder, tmp_path, monkeypatch):
    """Its config and data are read there, so their paths need not be written in full."""
    record = json.loads(folder.record.read_text())
    folder.record.write_text(json.dumps({**record, "working_folder": str(folder.root.parent)}))
    made = ["--profile", "quick", "--config", "my texts/a.yaml", *SETTINGS]
    elsewhere = ["cd", str(tmp_path / "a place"), "&&", "raysweep", "run", "--name", "copy"]
    assert words(run_command(folder)) == [*elsewhere, "--storage", str(tmp_path / "a place"), *made]
    (tmp_path / "a place" / "runs").mkdir()
    moved = RunFolder(folder.root.rename(tmp_path / "a place" / "runs" / "copy"))
    assert words(run_command(moved)) == [*elsewhere, *made]
    monkeypatch.chdir(tmp_path / "a place")
    assert words(run_command(moved)) == [*elsewhere[3:], *made]


def test_a_missing_working_directory_is_stated_beside_the_command(folder):
    """As for a run from another machine: the config in another folder must not be read by mistake."""
    record = json.loads(folder.record.read_text())
    folder.record.write_text(json.dumps({**record, "working_folder": "/not here/at all"}))
    command, _, note = run_command(folder).rpartition("` (")
    assert command.startswith("`raysweep run --name copy --storage ")
    assert note == "in a folder like '/not here/at all' of the machine where it ran)"


@pytest.mark.parametrize("setting", ["notify.webhook=https://h/SECRET", "model.start=https://u:SECRET@h/x"])
def test_a_redacted_setting_is_not_repeated(folder, setting):
    """`***` in its place would be taken for its value."""
    command = [RECORDED, "--set", shlex.quote(recorded_override(setting)), *map(shlex.quote, SETTINGS)]
    note = f"` (with --set {setting.partition('=')[0]} as before, since secrets are not recorded)"
    assert this_command(command, stage="mask") == (
        f"`{RECORDED.replace(' run ', ' mask ')} {shlex.join(SETTINGS)}{note}"
    )
    folder.record.write_text(json.dumps({"command": " ".join(command)}))
    assert run_command(folder, "--force", "A1").endswith(f" --skip-empty --force A1{note}")
