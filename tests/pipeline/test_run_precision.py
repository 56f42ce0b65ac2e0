"""All trainings of a run have one precision: the one in run.json, or else that of its first training."""

import json
import shutil
from dataclasses import replace

import pytest
import torch

from raysweep.config.fingerprints import fingerprint
from raysweep.config.loading import parse_config
from raysweep.errors import ConfigError, ResourceError
from raysweep.pipeline import run_precision
from raysweep.pipeline.run_precision import settle_precision, trained_precision
from raysweep.planning.calibration_cache import keep_calibration
from raysweep.planning.cpu_precision import PrecisionTest
from raysweep.planning.devices import find_device
from raysweep.planning.rates import assumed_rates
from raysweep.scheduling.records import read_record
from raysweep.scheduling.trials import expand_trials
from raysweep.storage.run_folder import RunFolder
from tests.pipeline.conftest import TINY


@pytest.fixture
def gpu(monkeypatch, tmp_path):
    """This machine's GPU, as listed by the driver."""
    information = tmp_path / "driver" / "0" / "information"
    information.parent.mkdir(parents=True)
    information.write_text("Model: Tesla T4\n")
    monkeypatch.setattr("raysweep.planning.devices.DRIVER", tmp_path / "driver")
    for name in ("CUDA_VISIBLE_DEVICES", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def choices(monkeypatch):
    """Set what the next test of a machine chooses; None if there is nothing to choose."""
    given = []
    monkeypatch.setattr(run_precision, "choose_precision", lambda config: given.pop(0))
    return given


@pytest.fixture
def untrained(finished_storage, tmp_path, tiny_run):
    """A run with examples but no training."""
    shutil.copytree(finished_storage, tmp_path / "runs")
    shutil.rmtree(tiny_run().folder.trials)
    return tiny_run()


def bf16():
    return PrecisionTest(precision="bf16", speedup=2.0)


def test_a_run_records_its_precision_and_all_trials_use_it(untrained, tiny_run, choices):
    """It is recorded in settings, fingerprint and result; a second run, on any machine, neither tests nor trains."""
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


@pytest.mark.usefixtures("gpu")
def test_a_run_and_its_plan_refuse_a_precision_missing_on_the_machine(untrained, tiny_run):
    """So does a plan, which makes the same check; earlier stages do not train, and are not refused."""
    by_onednn = {"training": {**TINY["training"], "precision": "fp32_onednn"}, "resources": {"gpus_per_trial": "auto"}}
    run = tiny_run(by_onednn)
    run.refuse(["prepare", "mask"])
    for refuse in (run.refuse, lambda stages: tiny_run(by_onednn).do(*stages)):
        with pytest.raises(ResourceError, match=r"training.precision: found fp32_onednn.* on Tesla T4; set auto"):
            refuse(["train"])


def test_a_run_started_without_a_precision_choice_stays_in_float32(untrained, tiny_run, choices):
    """It began on a machine with nothing to choose; continuing elsewhere must not mix two types in one comparison."""
    choices.append(None)
    untrained.do("train")
    record = read_record(untrained.folder.trial("A1"))
    assert (record.identity["precision"], record.result["precision"]) == ("auto", "fp32")
    choices.append(bf16())
    tiny_run(forced=["C1"]).do("train")
    assert len(choices) == 1
    assert read_record(untrained.folder.trial("C1")).result["precision"] == "fp32"


@pytest.fixture
def bf16_devices(monkeypatch):
    """Make 'auto' mean bfloat16, as on a GPU, for the trainings whose numbers (from 0) are in a set."""

    def lend(numbers):
        begun = []

        def autocast_type(precision, device):
            begun.append(device)
            is_auto = precision == "auto" and len(begun) - 1 in numbers
            return torch.bfloat16 if precision == "bf16" or is_auto else None

        monkeypatch.setattr("raysweep.training.attempt.autocast_type", autocast_type)

    return lend


def precisions(run):
    records = {name: read_record(run.folder.trial(name)) for name in run.trials}
    return {name: record.result["precision"] for name, record in records.items() if record is not None}


def test_a_run_started_in_bf16_on_a_gpu_stays_in_bf16_on_a_cpu(untrained, tiny_run, choices, bf16_devices):
    """The precision recorded by its trainings decides, not the device; fingerprints are unchanged; and it says so."""
    choices.append(None)
    bf16_devices(range(4))
    untrained.do("train")
    bf16_devices(())
    later = tiny_run(forced=["C1"])
    later.do("train")
    assert set(precisions(later).values()) == {"bf16"}
    assert read_record(later.folder.trial("C1")).identity["precision"] == "auto"
    assert any("precision: bf16, as this run began" in line for line in later.listener.lines)


def test_trainings_of_one_run_in_two_precisions_are_refused(untrained, tiny_run, choices, bf16_devices):
    """At once, and again in the next command; the trial to force is named, and is then trained like the others."""
    choices.append(None)
    bf16_devices({1})  # A1 is the second that begins
    for run in (untrained, tiny_run()):
        with pytest.raises(ConfigError, match=r"trained A1 in bf16 and C1, all, all-C1 in fp32.*with --force A1,"):
            run.do("train")
    healed = tiny_run(forced=["A1"])
    healed.do("train")
    assert set(precisions(healed).values()) == {"fp32"}


@pytest.mark.parametrize(
    ("file", "values", "expected"),
    [
        ("training.json", {"result": {"precision": "bf16", "device": "cpu"}}, "bf16"),
        ("samples/A1_000/training.json", {"result": {"precision": "bf16"}}, "bf16"),
        ("checkpoints/step-00000003/checkpoint.json", {"state": {"precision": "bf16"}}, "bf16"),
        ("trial.json", {"result": {"precision": "", "device": "cpu"}}, "fp32"),
        ("training.json", {"result": {"device": "NVIDIA A100"}}, None),
        ("checkpoints/step-00000003/checkpoint.json", {"state": {"step": 3}}, None),
        ("training.json", ["damaged"], None),
    ],
)
def test_results_and_checkpoints_record_the_precision(tmp_path, file, values, expected):
    """Those of a search's samples count too; earlier versions recorded the device, and used float32 on a CPU."""
    folder, trials = RunFolder(tmp_path), expand_trials(parse_config(TINY))
    path = folder.trial("A1").root / file
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(values))
    assert trained_precision(folder, trials) == expected
    assert trained_precision(folder, trials, apart_from=["A1"]) is None
    own = parse_config({**TINY, "training": {**TINY["training"], "precision": "bf16"}})
    assert trained_precision(folder, expand_trials(own)) is None


@pytest.mark.parametrize(("kept", "is_said"), [("fp32", True), ("bf16", False)])
def test_a_recorded_precision_that_differs_from_the_machines_choice_is_reported(
    done_run, tmp_path, monkeypatch, kept, is_said
):
    """A choice of float32 made on a laptop must not silently follow the run to a GPU."""
    (tmp_path / "gpus" / "0").mkdir(parents=True)
    (tmp_path / "gpus" / "0" / "information").write_text("Model: NVIDIA A100-SXM4-40GB\n")
    monkeypatch.setattr("raysweep.planning.devices.DRIVER", tmp_path / "gpus")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    messages, record = [], replace(done_run.record, precision=kept)
    assert settle_precision(done_run.config, done_run.folder, record, done_run.trials, messages.append) is None
    assert [line.startswith(f"precision: {kept}, as this run began") for line in messages] == [True] * is_said
    assert all("'auto' would be bf16" in line for line in messages)


def test_the_plan_of_a_new_run_uses_the_rates_of_its_precision(untrained, choices, tmp_path, monkeypatch):
    """A calibration for 'auto' does not apply to a run that chose bfloat16 afterwards."""
    monkeypatch.setenv("RAYSWEEP_CALIBRATION", str(tmp_path / "calibration.json"))
    rates = replace(assumed_rates("cpu", parameters=10**6, layers=2), source="measured")
    keep_calibration(untrained.config, find_device(untrained.config), rates, untrained.forecast.data)
    del untrained.forecast
    assert untrained.forecast.rates.source == "measured"
    untrained.folder.plan.unlink()
    choices.append(bf16())
    untrained.do("train")
    plan = json.loads(untrained.folder.plan.read_text())
    assert plan["source"] == "assumed"
