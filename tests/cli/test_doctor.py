"""`raysweep doctor` prints a line per check; its exit code says whether a run can be expected to work."""

from pathlib import Path

import pytest

from raysweep.cli import doctor

ROOT = Path(__file__).parents[2]


@pytest.fixture
def without_ray(monkeypatch):
    """Skip starting Ray, which takes seconds and has a test of its own."""
    monkeypatch.delitem(doctor.CHECKS, "Ray")


def lines(result):
    """Return the finding of each check, by subject."""
    return {line[2:14].strip(): (line[0], line[14:]) for line in result.stdout.splitlines()}


def test_a_suitable_machine_passes_every_check(command, without_ray):
    """Everything that a default run needs is present."""
    result = command("doctor")
    assert result.exit_code == 0
    assert list(lines(result)) == list(doctor.CHECKS)
    assert {mark for mark, _ in lines(result).values()} == {"✔"}
    assert lines(result)["data"] == ("✔", "40 synthetic texts (data.path is not set)")
    assert lines(result)["start"] == ("✔", "from scratch, size micro")


def test_a_failed_check_is_marked_and_the_command_exits_with_1(command, without_ray, tmp_path):
    """Every check is made, even after another has failed."""
    (tmp_path / "empty").mkdir()
    result = command("doctor", "--set", "data.csv=none.csv", "--set", f"model.start={tmp_path}/empty")
    assert result.exit_code == 1
    findings = lines(result)
    assert findings["data"] == ("✘", "data.path: found 'none.csv', no such file; must be a file, a glob or an address")
    assert findings["start"][0] == "✘"
    assert (
        "empty': holds no config.json; must be a folder with config.json and model.safetensors" in findings["start"][1]
    )
    assert findings["tokenizer"][0] == "✔"


def test_a_library_error_is_reported_as_a_failed_check(command, without_ray, monkeypatch):
    """The error's type is named, since the message alone may say little."""

    def break_down(settings):
        raise OSError("no such device")

    monkeypatch.setitem(doctor.CHECKS, "storage", break_down)
    result = command("doctor")
    assert result.exit_code == 1
    assert lines(result)["storage"] == ("✘", "OSError: no such device")


def test_a_larger_model_needs_more_disk_and_memory(command, without_ray):
    """gpt2-medium is counted at its own size, not that of GPT-2 base."""
    needed = {}
    for start in ("gpt2", "gpt2-medium"):
        findings = lines(command("doctor", "--set", f"model.start={start}"))
        needed[start] = [
            float(findings[subject][1].split("about ")[1].split()[0].replace(",", "")) for subject in ("disk", "memory")
        ]
    assert needed["gpt2-medium"][0] > 2 * needed["gpt2"][0]
    assert needed["gpt2-medium"][1] > needed["gpt2"][1]
