"""The benchmark times our step and the original's on examples of the same shape."""

import json
from pathlib import Path

import numpy as np
import pytest

from raysweep.config.training_settings import SIZES
from raysweep.errors import ConfigError
from raysweep.masking.vocabulary import TargetType
from raysweep.model.cpu_products import has_onednn
from raysweep.model.token_losses import find_labels
from raysweep.training import hardware
from raysweep.training.benchmark import benchmark_training, examples_of_profile, main
from raysweep.training.synthetic import synthetic_examples


def run(options, capsys):
    """Run the command; returns what it prints."""
    with pytest.raises(SystemExit, match="0"):
        main(options)
    return json.loads(capsys.readouterr().out)


ROOT = Path(__file__).parents[2]


def test_synthetic_examples_have_the_length_distribution_of_the_corpus():
    """75 tokens in the mean, as many answers as the mask takes; the same for the same seed."""
    numbers = np.arange(2000)
    source = synthetic_examples(len(numbers))
    assert source.lengths(numbers).mean() == pytest.approx(75, abs=3)
    batch, again = source.assemble(numbers[:32]), synthetic_examples(2000).assemble(numbers[:32])
    assert np.array_equal(batch.ids_BT, again.ids_BT)
    counts = find_labels(batch.ids_BT, batch.types_BT).counts()
    assert counts[1:].sum() / counts.sum() == pytest.approx(0.15, abs=0.03)
    assert np.array_equal((batch.types_BT != TargetType.PADDING).sum(1), batch.lengths_B)


def test_the_benchmark_times_our_steps_and_the_baseline():
    """Both are timed on the same examples; how much faster ours is depends on the machine (BENCHMARKS.md)."""
    result = benchmark_training(
        device="cpu", batch_size=2, steps=3, warmup_steps=1, like="original", original_steps=1, original_batch_size=1
    )
    assert result["ratio_to_original"] == result["examples_per_s"] / result["original"]["examples_per_s"]
    assert result["original"]["batch_size"] == 1
    assert result["tokens_per_s"] > result["examples_per_s"] > result["steps_per_s"] > 0
    assert result["mfu"] is None, "the peak of a CPU is not known"


def test_the_benchmark_prints_json(capsys):
    """For scripts and for the README; the switches of a trial's settings are its own."""
    short = ["--device", "cpu", "--batch-size", "4", "--steps", "1", "--warmup-steps", "0"]
    plain = run([*short, "--micro-batch", "2"], capsys)
    assert (plain["size"], plain["micro_batch"], plain["packing"]) == ("micro", 2, "auto")
    options = ["--packing", "on", "--window-batches", "1", "--precision", "bf16"]
    packed = run([*short, *options], capsys)
    assert (packed["packing"], packed["precision"], packed["micro_batch"]) == ("on", "bfloat16", 4)
    assert 0 <= packed["padding_share"] < 0.25


def test_hours_are_forecast_from_the_profile_and_the_measured_speed(tmp_path, capsys, monkeypatch):
    """The plan's own model is forecast; its 225,000 steps of 8 are read from experiments.yaml, not repeated here."""
    assert examples_of_profile(ROOT / "experiments.yaml") == 225_000 * 8
    assert examples_of_profile(tmp_path / "no such file.yaml") is None
    (tmp_path / "other.yaml").write_text("default: a\nprofiles: {a: {trials: {A1: {levels: [A1]}}}}")
    assert examples_of_profile(tmp_path / "other.yaml") is None

    # The plan's model takes a gigabyte and seconds a step; a micro one under its name tells the same.
    monkeypatch.setitem(SIZES, "gpt2", SIZES["micro"])
    options = ["--device", "cpu", "--size", "gpt2", "--batch-size", "1", "--steps", "1", "--warmup-steps", "0"]
    printed = run([*options, "--experiments", str(ROOT / "experiments.yaml")], capsys)
    assert printed["efcamdat_cpu_hours"] == pytest.approx(1_800_000 / printed["examples_per_s"] / 3600)
    assert "efcamdat_cpu_hours" not in run([*options, "--experiments", str(tmp_path / "no such file.yaml")], capsys)


def test_onednn_steps_are_timed_only_where_supported(monkeypatch):
    """Elsewhere the option, what was found and the fix are named; MKL's time under its name would be a wrong figure."""
    short = {"device": "cpu", "precision": "fp32_onednn", "batch_size": 2, "steps": 1, "warmup_steps": 0}
    if has_onednn():
        assert benchmark_training(**short)["precision"] == "float32 by oneDNN"
    monkeypatch.setattr(hardware, "has_onednn", lambda: True)
    with pytest.raises(ConfigError, match=r"--compile: found with --precision fp32_onednn, .* leave one of them out"):
        benchmark_training(**short, compiled=True)
    monkeypatch.setattr(hardware, "has_onednn", lambda: False)
    with pytest.raises(ConfigError, match=r"--precision: found fp32_onednn, .* AVX-512, .* set auto or fp32"):
        benchmark_training(**short)
