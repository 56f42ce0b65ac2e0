"""Measuring a machine: real trainings that run at the same time, the results, and how they are stored."""

from dataclasses import replace
from pathlib import Path

import pytest

from raysweep.config.loading import parse_config
from raysweep.errors import ResourceError
from raysweep.masking.example_store import ExampleStore
from raysweep.planning import calibration, calibration_cache
from raysweep.planning.devices import Device, find_device
from raysweep.planning.model_size import model_shape
from raysweep.planning.rates import Overheads, assumed_rates
from raysweep.planning.run_forecast import forecast_run
from raysweep.scheduling.trials import expand_trials
from raysweep.storage.run_folder import RunFolder

VALUES = {
    "data": {"levels": ["A1", "C1"], "sample": {"rows": 400, "level_shares": {"A1": 1, "C1": 1}}},
    "masking": {"examples_per_document": 2, "max_tokens": 96},
    "training": {"steps": 40, "batch_size": 4, "learning_rate": 1e-3, "evaluate_every": 10, "valid_examples": 8},
    "trials": {"A1": {"levels": ["A1"]}, "all": {"levels": ["A1", "C1"]}, "all-C1": {"from": "all", "levels": ["C1"]}},
    "evaluation": {"examples_per_document": 1, "generation_documents": 1},
}
TWO_CORES = Device(name="cpu", gpus=0, cores=2, memory_bytes=8 << 30)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    path = tmp_path / "cache" / "calibration.json"
    monkeypatch.setenv("RAYSWEEP_CALIBRATION", str(path))
    return path


def test_a_calibration_times_the_real_training_alone_and_concurrently(tmp_path, monkeypatch):
    """The results make the plan's times measured ones, for this machine, model and data."""
    monkeypatch.setattr(calibration, "PHASE_S", 1.0)
    config = parse_config(VALUES)
    place = tmp_path / "place"
    place.mkdir()
    rates, data = calibration.calibrate(config, device=TWO_CORES, place=place, say=lambda _: None, limit_s=240.0)
    for part in ("token_s", "evaluation_token_s", "checkpoint_s", "score_example_s", "mask_s", "memory_bytes"):
        assert getattr(rates, part) > 0.0, part
    assert set(rates.slow_down) == {1, 2}
    assert 12.0 < data.tokens["A1"] < data.tokens["C1"] <= 96.0
    assert sum(data.documents.values()) == pytest.approx(400, abs=2)

    here = find_device(config)
    trials, folder = expand_trials(config), RunFolder(tmp_path / "run")
    assert forecast_run(config, trials, folder).rates.source == "assumed"
    calibration_cache.keep_calibration(config, here, rates, data)
    seen = forecast_run(config, trials, folder)
    assert replace(seen.rates, overheads=rates.overheads) == rates
    assert seen.trials["all"].documents == pytest.approx(320, abs=2)


def some_rates():
    return replace(assumed_rates("cpu", parameters=10**6, layers=2), source="measured", slow_down={1: 1.0, 2: 1.5})


@pytest.mark.parametrize(
    "changes",
    [{"masking": {"max_tokens": 64}}, {"training": {"batch_size": 8}}, {"model": {"size": "small"}}],
    ids=["other lengths", "other batches", "another model"],
)
def test_measurements_of_other_settings_are_not_used(changes):
    """A step with another batch or model takes another time."""
    config = parse_config(VALUES)
    rates = some_rates()
    data = forecast_run(config, expand_trials(config), RunFolder(Path("nowhere"))).data
    calibration_cache.keep_calibration(config, TWO_CORES, rates, data)
    assert calibration_cache.read_rates(config, TWO_CORES) == rates
    other = parse_config({**VALUES, **{name: {**VALUES.get(name, {}), **section} for name, section in changes.items()}})
    assert calibration_cache.read_rates(other, TWO_CORES) is None
    assert calibration_cache.read_rates(config, replace(TWO_CORES, cores=4)) is None


def test_measured_ray_overhead_replaces_the_assumed_one(tmp_path):
    """Every run on the machine improves the next plan."""
    config = parse_config(VALUES)
    calibration_cache.keep_overheads(find_device(config), Overheads(trial_start_s=1.25))
    assert forecast_run(config, expand_trials(config), RunFolder(tmp_path)).rates.overheads.trial_start_s == 1.25


@pytest.mark.parametrize("text", ["", "{", "[]", '{"rates": {}}'])
def test_a_damaged_calibration_cache_is_ignored(cache, text):
    """Measuring again costs a minute, whereas a plan that crashes costs an evening."""
    cache.parent.mkdir()
    cache.write_text(text)
    config = parse_config(VALUES)
    assert calibration_cache.read_rates(config, TWO_CORES) is None
    calibration_cache.keep_overheads(TWO_CORES, Overheads())
    assert calibration_cache.read_overheads(TWO_CORES) == Overheads()


@pytest.mark.parametrize(("together", "slow_down"), [(1, 1.0), (2, 1.5), (3, 2.0), (4, 2.5), (8, 5.0)])
def test_unmeasured_concurrency_is_interpolated(together, slow_down):
    """Beyond the measured numbers, the trainings share the device equally."""
    rates = replace(some_rates(), slow_down={1: 1.0, 2: 1.5, 4: 2.5})
    assert rates.slow_down_of(together) == pytest.approx(slow_down)


def test_a_plan_for_an_unknown_gpu_uses_assumed_rates(tmp_path):
    """It uses the assumptions for a common GPU, and says so."""
    config = parse_config({**VALUES, "resources": {"accelerator_type": "Voodoo"}})
    seen = forecast_run(config, expand_trials(config), RunFolder(tmp_path), gpus=2)
    assert (seen.rates.source, seen.device.name) == ("assumed", "Voodoo")
    assert seen.makespan.makespan_s > 0


def test_a_gpu_on_which_trainings_run_out_of_memory_is_measured_with_fewer(tmp_path, monkeypatch):
    """Running out of memory with four is a result and not a failure; with one, nothing else can be tried."""
    tried = []

    def run_workers(root, together, **_):
        tried.append(list(together))
        assert not (root / "phase").exists()
        (root / "phase").write_text("4")
        raise ResourceError("calibration: a training failed: out of memory")

    monkeypatch.setattr(calibration, "_run_workers", run_workers)
    place = tmp_path / "place"
    place.mkdir()
    gpu = Device(name="NVIDIA T4", gpus=1, cores=4, memory_bytes=16 << 30)
    with pytest.raises(ResourceError, match="out of memory"):
        calibration.calibrate(parse_config(VALUES), device=gpu, place=place, say=lambda _: None, limit_s=240.0)
    assert tried == [[1, 2, 4], [1, 2], [1]]


def test_a_calibration_uses_the_runs_vocabulary_size(tmp_path):
    """Sixty texts per level have too few words for it, so the tokenizer is trained on all texts that are read."""
    levels = {"data": {**VALUES["data"], "sample": {"rows": 9000, "level_shares": {"A1": 1, "C1": 1}}}}
    config = parse_config({**VALUES, **levels, "model": {"tokenizer": "corpus"}})
    folder = RunFolder(tmp_path)
    calibration._make_examples(config, folder)
    vocabulary = ExampleStore.open(folder.examples).vocabulary
    assert 1000 < vocabulary.size <= model_shape(config).vocabulary
    from_hub = parse_config({**VALUES, "model": {"start": "gpt2", "tokenizer": "start"}})
    here = calibration.local_model(from_hub).model
    assert (here.start, here.size, here.tokenizer) == ("scratch", "gpt2", "gpt2")
