"""The best weight between two models is chosen on valid documents, and claimed for test documents."""

import numpy as np
import pytest

from raysweep.statistics.bootstrap import resample_levels
from raysweep.statistics.claims import Verdict
from raysweep.statistics.contrasts import estimate_ratio
from raysweep.statistics.loss_table import LevelLosses
from raysweep.statistics.weight_curves import assess_curves, make_curve, weight_parts

WEIGHTS = (0.0, 0.5, 1.0)


def losses(level, nats, *, seed, documents=120, first=0):
    """Return documents of 40 writers, three each, with this mean loss and a little noise."""
    rng = np.random.default_rng(seed)
    hardness = np.repeat(np.random.default_rng(99).normal(0.0, 0.3, documents // 3), 3)
    tokens = np.full(documents, 50)
    per_token = nats + hardness + rng.normal(0.0, 0.02, documents)
    numbers = np.arange(first, first + documents)
    return LevelLosses(level=level, documents=numbers, tokens=tokens, nats=(per_token * tokens)[:, None])


def curve(level, on_valid, on_test, *, first=0, seeds=(0,)):
    cells = [(weight, seed) for weight in WEIGHTS for seed in seeds]
    truth = {"valid": dict(zip(WEIGHTS, on_valid, strict=True)), "test": dict(zip(WEIGHTS, on_test, strict=True))}
    made = {
        split: {
            cell: losses(level, truth[split][cell[0]], seed=100 * place + number, first=first)
            for number, cell in enumerate(cells)
        }
        for place, split in enumerate(truth)
    }
    return make_curve(WEIGHTS, seeds, made["valid"], made["test"])


def drawn(*curves):
    tested = {curve.level: curve.test for curve in curves}
    writers = {
        document: f"{curve.level}-{document // 3}" for curve in curves for document in curve.test.documents.tolist()
    }
    return resample_levels(tested, curves[0].columns, resamples=400, seed=0, clusters=writers)


def test_a_better_interpolation_weight_is_found_and_claimed():
    """It is claimed overall and on each level, against both ends."""
    both = curve("A1", (2.6, 2.5, 2.6), (2.6, 2.5, 2.6)), curve("B1", (2.6, 2.5, 2.6), (2.6, 2.5, 2.6), first=120)
    assert [claim.best for claim in both] == [0.5, 0.5]
    findings = assess_curves(both, drawn(*both), 0.95)
    assert [finding.scope for finding in findings] == ["overall", "A1", "B1"]
    assert {finding.verdict for finding in findings} == {Verdict.CONFIRMED}
    assert findings[0].value == pytest.approx(np.exp(-0.1), rel=0.01)


def test_the_weight_is_chosen_on_valid_and_tested_on_test_documents():
    """If valid and test disagree, the weight chosen on valid is tested, and found worse."""
    single_curve = curve("A1", (2.6, 2.5, 2.6), (2.5, 2.6, 2.6))
    assert single_curve.best == 0.5
    overall, level = assess_curves([single_curve], drawn(single_curve), 0.95)
    assert overall.verdict is level.verdict is Verdict.REFUTED


def test_a_chosen_endpoint_is_not_better_than_itself():
    """The ratio to itself is 1, so nothing is decided."""
    single_curve = curve("A1", (2.4, 2.5, 2.6), (2.4, 2.5, 2.6))
    assert single_curve.best == 0.0
    resamples = drawn(single_curve)
    assert {finding.verdict for finding in assess_curves([single_curve], resamples, 0.95)} == {Verdict.UNDECIDED}
    assert estimate_ratio(resamples, weight_parts([single_curve], 0.0, None), 0.95).value == 1.0
    assert estimate_ratio(resamples, weight_parts([single_curve], 1.0, None), 0.95).low > 1.1


def test_a_weight_is_chosen_by_the_mean_over_seeds():
    single_curve = curve("A1", (2.6, 2.5, 2.4), (2.6, 2.5, 2.4), seeds=(0, 1))
    assert single_curve.columns == ("0.0 0", "0.0 1", "0.5 0", "0.5 1", "1.0 0", "1.0 1")
    assert single_curve.valid == pytest.approx([2.6 + 0.0, 2.5, 2.4], abs=0.1)
    assert single_curve.best == 1.0


def test_models_scored_on_different_documents_are_refused():
    by_weight = {(0.0, 0): losses("A1", 2.5, seed=0), (1.0, 0): losses("A1", 2.5, seed=1, first=3)}
    same = {cell: losses("A1", 2.5, seed=0) for cell in by_weight}
    for valid, test in ((by_weight, same), (same, by_weight)):
        with pytest.raises(ValueError, match="different documents"):
            make_curve((0.0, 1.0), (0,), valid, test)
