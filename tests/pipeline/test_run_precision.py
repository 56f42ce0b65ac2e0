"""The precision that a run chose for its CPU is kept in run.json, and used by all of its trials, everywhere."""

import shutil

import pytest

from raysweep.config.fingerprints import fingerprint
from raysweep.errors import ConfigError
from raysweep.pipeline import run_precision
from raysweep.planning.cpu_precision import PrecisionTest
from raysweep.scheduling.records import read_record
from tests.pipeline.conftest import TINY


@pytest.fixture
def choices(monkeypatch):
    """What the next test of a machine says; None: there is nothing to choose."""
    given = []
    monkeypatch.setattr(run_precision, "choose_precision", lambda config: given.pop(0))
    return given


@pytest.fixture
def untrained(finished_storage, tmp_path, tiny_run):
    """A run with examples and no training."""
    shutil.copytree(finished_storage, tmp_path / "runs")
    shutil.rmtree(tiny_run().folder.trials)
    return tiny_run()


def bf16():
    return PrecisionTest(precision="bf16", speedup=2.0)


def test_a_run_keeps_what_it_chose_and_all_trials_use_it(untrained, tiny_run, choices):
    """Recorded in settings, fingerprint and result; a second run, on any machine, tests nothing and does nothing."""
    choices.append(bf16())
    untrained.do("train")
    assert untrained.record.precision == "bf16"
    for name in untrained.trials:
        record = read_record(untrained.folder.trial(name))
        assert (record.identity["precision"], record.result["precision"]) == ("bf16", "bf16")
        assert record.fingerprint == fingerprint(record.identity)
    assert any("precision: bf16 on this CPU" in line for line in untrained.listener.lines)
    assert "precision: bf16" in untrained.folder.config.read_text()
    second = tiny_run()
    assert not second.trials_to_do()
    second.do("train")
    with pytest.raises(ConfigError, match=r'precision: "bf16" → "fp32"'):
        tiny_run({"training": {**TINY["training"], "precision": "fp32"}}).do("train")


def test_a_run_whose_trainings_began_without_a_choice_stays_in_float32(untrained, tiny_run, choices):
    """It began on a machine with nothing to choose; going on elsewhere must not mix two types in one comparison."""
    choices.append(None)
    untrained.do("train")
    record = read_record(untrained.folder.trial("A1"))
    assert (record.identity["precision"], record.result["precision"]) == ("auto", "fp32")
    choices.append(bf16())
    tiny_run(forced=["C1"]).do("train")
    assert len(choices) == 1
    assert read_record(untrained.folder.trial("C1")).result["precision"] == "fp32"
