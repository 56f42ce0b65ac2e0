"""Classifiers of levels against scikit-learn itself, their folds, and the file that holds a fitted one."""

from dataclasses import replace

import numpy as np
import pytest
import skops.io
from sklearn import metrics as sk
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression

from raysweep.classification.comparison import (
    count_unseen,
    fit_logistic,
    predict_across,
    predict_within,
    split_folds,
)
from raysweep.classification.level_classifiers import OrdinalByThresholds, candidates, perplexity_pipeline
from raysweep.classification.level_metrics import (
    ablation_of,
    bootstrap_metrics,
    confusion_of,
    judge_predictions,
    metrics_of,
)
from raysweep.classification.saved_classifier import load_classifier, save_classifier
from raysweep.classification.scored_texts import ScoredTexts, measure_lengths
from raysweep.errors import InputError

LEVELS = ("A1", "A2", "B1")
MODELS = ("start", "A1", "B1")
SETTINGS = {"seed": 0, "resamples": 200, "confidence": 0.95}


def make_texts(count=90, seed=0, noise=0.6):
    """Texts whose level the model `A1` knows, two of each learner."""
    rng = np.random.default_rng(seed)
    levels = rng.integers(0, 3, count)
    features = {model: rng.normal(5.0, 1.0, (count, 2)) for model in MODELS}
    features["A1"] += levels[:, None] * 1.5 + rng.normal(0, noise, (count, 2))
    features["B1"][0, 1] = np.nan
    words = np.array(["cat", "dog", "however", "nevertheless"])
    texts = [" ".join(rng.choice(words[: 2 + level], 5 + 3 * level)) for level in levels]
    return ScoredTexts(
        texts=texts,
        lengths=measure_lengths(texts).astype(float),
        levels=levels,
        groups=[f"learner-{row // 2}" for row in range(count)],
        features=features,
    )


def compare_within(corpus, folds=3):
    fold_D = split_folds(corpus, folds, 0)
    predictions = predict_within(corpus, fold_D, 3, MODELS, 0)
    return judge_predictions(corpus.levels, corpus.groups, predictions, **SETTINGS), fold_D


def test_metrics_equal_those_of_scikit_learn():
    """Accuracy, macro F1, QWK and RMSE; adjacent accuracy by its definition."""
    rng = np.random.default_rng(3)
    truth, guessed = rng.integers(0, 4, 200), rng.integers(0, 4, 200)
    ours = metrics_of(confusion_of(truth, guessed, 5))
    assert ours["accuracy"] == pytest.approx(sk.accuracy_score(truth, guessed))
    assert ours["macro_f1"] == pytest.approx(sk.f1_score(truth, guessed, average="macro"))
    assert ours["qwk"] == pytest.approx(sk.cohen_kappa_score(truth, guessed, weights="quadratic"))
    assert ours["rmse"] == pytest.approx(sk.root_mean_squared_error(truth, guessed))
    assert ours["adjacent_accuracy"] == pytest.approx(np.mean(np.abs(truth - guessed) <= 1))
    assert np.isnan(metrics_of(confusion_of(np.zeros(3, int), np.zeros(3, int), 2))["qwk"])


def test_within_corpus_results_equal_those_of_scikit_learn():
    """The same folds, fitted and predicted by hand for each classifier; learners are never divided."""
    corpus = make_texts()
    judged, fold_D = compare_within(corpus)
    results = judged["classifiers"]
    assert list(results) == ["logistic", "ordinal", "boosting", "majority", "length", "words", "characters", "native"]
    splits = [(np.flatnonzero(fold_D != fold), np.flatnonzero(fold_D == fold)) for fold in range(3)]
    for fit, test in splits:
        assert not {corpus.groups[row] for row in fit} & {corpus.groups[row] for row in test}
    matrices = {
        "logistic": (corpus.matrix(MODELS), lambda: perplexity_pipeline(LogisticRegression(max_iter=2000))),
        "native": (corpus.matrix(["start"]), lambda: perplexity_pipeline(LogisticRegression(max_iter=2000))),
        "majority": (np.zeros((90, 1)), DummyClassifier),
    }
    for name, (matrix, make) in matrices.items():
        predicted = np.empty(90, dtype=int)
        for fit, test in splits:
            predicted[test] = make().fit(matrix[fit], corpus.levels[fit]).predict(matrix[test])
        assert results[name]["confusion"] == sk.confusion_matrix(corpus.levels, predicted, labels=[0, 1, 2]).tolist()
        value = results[name]["metrics"]["macro_f1"]
        assert value["value"] == pytest.approx(sk.f1_score(corpus.levels, predicted, average="macro"))
        assert value["low"] <= value["value"] <= value["high"]
    assert results["logistic"]["metrics"]["accuracy"]["value"] > results["native"]["metrics"]["accuracy"]["value"] + 0.2


def test_ablating_the_informative_model_costs_the_most_accuracy():
    """The ablations use the same folds."""
    lost = compare_within(make_texts())[0]["without_model"]
    assert max(lost, key=lambda model: lost[model]["value"]) == "A1"
    assert lost["A1"]["value"] > 0.2
    assert lost["A1"]["low"] > 0 > lost["B1"]["low"]


def test_another_corpus_is_classified_without_fitting_on_it():
    """Nothing of it is fitted on; a level that the first lacks is never predicted."""
    first, other = make_texts(seed=1), make_texts(seed=2)
    first = first.take(np.flatnonzero(first.levels < 2))
    (predicted,) = predict_across(first, [other], 3, MODELS, 0)
    assert count_unseen(first, other, LEVELS) == {"B1": int((other.levels == 2).sum())}
    results = judge_predictions(other.levels, other.groups, predicted, **SETTINGS)["classifiers"]["logistic"]
    by_hand = fit_logistic(first, MODELS).predict(other.matrix(MODELS))
    assert results["confusion"] == sk.confusion_matrix(other.levels, by_hand, labels=[0, 1, 2]).tolist()
    assert [row[2] for row in results["confusion"]] == [0, 0, 0]


def test_intervals_resample_learners_and_not_texts():
    """A learner's texts come together: ten copies of each text make no interval narrower."""
    truth, guessed = make_texts(seed=4).levels, make_texts(seed=5).levels
    groups = [str(row) for row in range(len(truth))]
    options = {"levels": 3, "resamples": 500, "seed": 0}
    once = bootstrap_metrics(truth, guessed[None], groups, **options)["accuracy"]
    tenfold = bootstrap_metrics(np.repeat(truth, 10), np.repeat(guessed, 10)[None], np.repeat(groups, 10), **options)
    assert tenfold["accuracy"] == pytest.approx(once)
    renamed = bootstrap_metrics(truth, guessed[None], [f"z{-int(name)}" for name in groups], **options)["accuracy"]
    np.testing.assert_array_equal(renamed, once)
    assert np.isnan(bootstrap_metrics(truth, guessed[None], ["one"] * len(truth), **options)["accuracy"]).all()


def test_bootstrapping_in_parts_gives_the_same_draws(monkeypatch):
    """The parts of a large corpus are the same draws, and their means are about the value."""
    truth, guessed = make_texts(seed=4).levels, make_texts(seed=5).levels
    groups = [str(row) for row in range(len(truth))]
    whole = bootstrap_metrics(truth, guessed[None], groups, 3, resamples=300, seed=0)
    monkeypatch.setattr("raysweep.classification.level_metrics._NUMBERS_AT_ONCE", 1000)
    in_parts = bootstrap_metrics(truth, guessed[None], groups, 3, resamples=300, seed=0)
    assert in_parts["qwk"].shape == (300, 1)
    np.testing.assert_array_equal(in_parts["accuracy"], whole["accuracy"])
    assert whole["accuracy"].mean() == pytest.approx(sk.accuracy_score(truth, guessed), abs=0.01)


def test_ordinal_probabilities_are_differences_of_cumulative_ones():
    """They add up to 1, and the thresholds are plain logistic regressions."""
    texts = make_texts()
    matrix = np.nan_to_num(texts.matrix(MODELS))
    model = OrdinalByThresholds().fit(matrix, texts.levels)
    above = [
        LogisticRegression(max_iter=2000).fit(matrix, texts.levels > k).predict_proba(matrix)[:, 1] for k in (0, 1)
    ]
    expected = np.maximum(np.stack([1 - above[0], above[0] - above[1], above[1]], axis=1), 1e-12)
    np.testing.assert_allclose(model.predict_proba(matrix), expected / expected.sum(axis=1, keepdims=True))


def test_too_few_texts_for_the_folds_are_refused():
    """The message gives the counts."""
    with pytest.raises(InputError, match=r"folds: found 40, with 2. texts of the rarest level and 45 learners"):
        split_folds(make_texts(), 40, 0)
    texts = make_texts()
    by_one = replace(
        texts, groups=["one" if level == 0 else own for level, own in zip(texts.levels, texts.groups, strict=True)]
    )
    with pytest.raises(InputError, match="folds: found 3; a fold would hold all texts of a level"):
        split_folds(by_one, 3, 0)
    assert [candidate.name for candidate in candidates(("A1",), 0)][-1] == "characters"  # no native without the start
    assert [candidate.name for candidate in candidates(("start", "A1"), 0)][-2:] == [
        ablation_of("start"),
        ablation_of("A1"),
    ]


def test_a_saved_classifier_gives_the_same_probabilities(tmp_path):
    """Without pickle; another file is refused, and so is one with other types in it."""
    texts = make_texts()
    fitted, path = fit_logistic(texts, MODELS), tmp_path / "levels.skops"
    save_classifier(path, fitted, levels=LEVELS, models=dict.fromkeys(MODELS, "digest"))
    save_classifier(other := tmp_path / "again.skops", fitted, levels=LEVELS, models=dict.fromkeys(MODELS, "digest"))
    assert other.read_bytes() == path.read_bytes()
    loaded, levels, models = load_classifier(path, fix="")
    assert (levels, models) == (LEVELS, dict.fromkeys(MODELS, "digest"))
    np.testing.assert_array_equal(
        loaded.predict_proba(texts.matrix(MODELS)), fitted.predict_proba(texts.matrix(MODELS))
    )
    path.write_bytes(b"no zip")
    with pytest.raises(InputError, match=r"levels\.skops: is no classifier that raysweep saved"):
        load_classifier(path, fix="")
    skops.io.dump({"pipeline": OrdinalByThresholds()}, path)
    with pytest.raises(InputError, match=r"holds raysweep.*OrdinalByThresholds, which is not trusted"):
        load_classifier(path, fix="")
