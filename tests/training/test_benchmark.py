"""The benchmark times our step and the original's on examples of the same shape."""

import json

import numpy as np
import pytest

from raysweep.masking.vocabulary import TargetType
from raysweep.model.token_losses import find_labels
from raysweep.training.benchmark import benchmark_training, main
from raysweep.training.synthetic import SyntheticExamples


def test_made_up_examples_have_the_shape_of_the_corpus():
    """75 tokens in the mean, as many answers as the mask takes; the same for the same seed."""
    numbers = np.arange(2000)
    source = SyntheticExamples(len(numbers))
    assert source.lengths(numbers).mean() == pytest.approx(75, abs=3)
    batch, again = source.assemble(numbers[:32]), SyntheticExamples(2000).assemble(numbers[:32])
    assert np.array_equal(batch.ids_BT, again.ids_BT)
    counts = find_labels(batch.ids_BT, batch.types_BT).counts()
    assert counts[1:].sum() / counts.sum() == pytest.approx(0.15, abs=0.03)
    assert np.array_equal((batch.types_BT != TargetType.PADDING).sum(1), batch.lengths_B)


def test_a_benchmark_says_how_fast_both_ways_are():
    """Ours does the same work on fewer positions, so it is several times as fast on any machine."""
    result = benchmark_training(
        device="cpu", batch_size=2, steps=3, warmup_steps=1, like_original=True, original_steps=1, original_batch_size=1
    )
    # About 15 on a quiet core; another process may slow either of them down.
    assert result["ratio_to_original"] > 1.5
    assert result["tokens_per_s"] > result["examples_per_s"] > result["steps_per_s"] > 0
    assert result["mfu"] is None, "the peak of a CPU is not known"


def test_the_command_prints_json(capsys):
    """For scripts and for the README."""
    main(["--device", "cpu", "--batch-size", "1", "--steps", "1", "--warmup-steps", "0"])
    assert json.loads(capsys.readouterr().out)["size"] == "micro"
