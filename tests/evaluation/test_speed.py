"""Size and speed of a saved model."""

import pytest

from raysweep.evaluation import speed
from raysweep.evaluation.speed import ANSWER_TOKENS, measure_speed


@pytest.fixture
def folder(tmp_path, hand_made):
    hand_made.model(positions=128).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_a_models_size_counts_parameters_and_file_bytes(folder):
    """Shared weights count once; bytes are those on disk."""
    speed = measure_speed(folder, 0, "cpu")
    width, layers = 8, 2
    block = 4 * width + (3 + 1 + 4 + 4) * width * width + (3 + 1 + 4 + 1) * width
    assert speed["parameters"] == (50_264 + 128) * width + layers * block + 2 * width
    assert speed["bytes"] == sum(file.stat().st_size for file in folder.iterdir())
    assert speed["batches"] == {}


def test_speed_is_measured_for_one_text_and_for_a_batch(folder):
    """Latency is of one infilling, tokens a second of the whole batch."""
    speed = measure_speed(folder, 2, "cpu")
    assert list(speed["batches"]) == ["1", "32"]
    for size, timing in speed["batches"].items():
        assert 0 < timing["latency_p50_s"] <= timing["latency_p95_s"]
        assert timing["tokens_per_second"] == pytest.approx(int(size) * ANSWER_TOKENS / timing["latency_p50_s"])


def test_the_level_models_are_timed_together(folder):
    """All of them are in memory, all look at the text, one answers each: that costs more than one model alone."""
    speed = measure_speed(folder, 2, "cpu", ensemble=[folder] * 3)
    together = speed["ensemble"]
    assert (together["models"], speed["models"]) == (3, 1)
    for size in ("parameters", "bytes", "memory_bytes"):
        assert together[size] == 3 * speed[size]
    assert speed["memory_bytes"] == pytest.approx(4 * speed["parameters"], rel=0.05)
    assert together["load_seconds"] > 0
    for size, timing in together["batches"].items():
        assert timing["latency_p50_s"] > 0
        assert timing["tokens_per_second"] == pytest.approx(int(size) * ANSWER_TOKENS / timing["latency_p50_s"])


def test_a_model_with_few_positions_is_timed_on_fewer_tokens(tmp_path, hand_made):
    """An example is a model of `masking.max_tokens: 64`; the result reports the number of tokens."""
    hand_made.model(positions=24).save_pretrained(tmp_path / "model")
    speed = measure_speed(tmp_path / "model", 1, "cpu", ensemble=[tmp_path / "model"] * 2)
    assert (speed["prompt_tokens"], speed["answer_tokens"]) == (12, 12)
    assert speed["ensemble"]["batches"]["32"]["tokens_per_second"] > 0


def test_a_single_level_model_has_no_ensemble_timing(folder):
    """With a single model there is nothing to choose among."""
    assert measure_speed(folder, 0, "cpu", ensemble=[folder])["ensemble"] is None


def test_slow_measurements_are_repeated_less_often(folder, monkeypatch):
    """A measurement must not take longer than what it is for; how often it was repeated is told."""
    monkeypatch.setattr(speed, "_BUDGET_S", 0.0)
    assert {timing["repeats"] for timing in measure_speed(folder, 50, "cpu")["batches"].values()} == {2}
    assert {timing["repeats"] for timing in measure_speed(folder, 1, "cpu")["batches"].values()} == {1}
