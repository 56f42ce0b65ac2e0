"""`raysweep classify` on a real run: what it writes is what scikit-learn gives, and the API predicts the same."""

import csv
import json
import shlex
from functools import partial

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sk

import raysweep
from raysweep.classification import saved_classifier
from raysweep.classification.comparison import fit_logistic, split_folds
from raysweep.classification.saved_classifier import load_classifier, save_classifier
from raysweep.classification.scored_texts import ScoredTexts, measure_lengths
from raysweep.cli import classify_output
from raysweep.errors import ConfigError, InputError


@pytest.fixture
def classify(run_inline):
    return partial(run_inline, "classify")


@pytest.fixture
def corpora(finished_storage, tmp_path):
    """Test documents and a training text; valid documents, one of an odd level, and a text of the first corpus."""
    documents = pd.read_parquet(finished_storage / "tiny/corpus/documents.parquet")
    for name, splits in (("one", ("test",)), ("two", ("valid",))):
        chosen = documents[documents["split"].isin(splits)]
        extra = documents[documents["split"] == ("train" if name == "one" else "test")].head(1)
        rows = pd.concat([chosen, extra])[["writing_id", "level", "text", "learner"]]
        if name == "two":
            rows.loc[rows.index[0], "level"] = "Z9"
        rows.to_csv(tmp_path / f"{name}.csv", index=False, quoting=csv.QUOTE_ALL)
    return tmp_path


def scored(corpora, table, levels, texts):
    frame = pd.read_parquet(corpora / table)
    models = [name[5:] for name in frame if name.startswith("nats_")]
    features = {
        model: np.stack(
            [(frame[f"{kind}nats_{model}"] / frame[f"{kind}tokens"].replace(0, np.nan)) for kind in ("", "infill_")], 1
        )
        for model in models
    }
    codes = np.array([levels.index(level) if level in levels else -1 for level in frame["level"]])
    lengths = measure_lengths(texts).astype(float)
    groups = frame["learner"].tolist()
    return ScoredTexts(texts=texts, lengths=lengths, levels=codes, groups=groups, features=features), models


def test_the_classification_table_agrees_with_one_recomputed_from_scores(classify, corpora, run):
    """Within the corpus and on the other: confusion and metrics, without what was trained on or has no level."""
    out = classify("one.csv", "--on", "two.csv", "--folds", "2", "--resamples", "100")
    results = json.loads((corpora / "classification.json").read_text())
    assert results["within"]["trained_on"] == 1
    counts = results["across"][0]
    assert (counts["without_level"], counts["in_first"], counts["trained_on"]) == (1, 1, 0)
    assert "left out: 1 that the first corpus holds too, 1 without a level of the run" in out
    first_scores, second_scores = (pd.read_csv(corpora / f"{name}.csv") for name in ("one", "two"))
    whole, models = scored(corpora, "classification.0.parquet", ["A1", "C1"], first_scores["text"].tolist())
    first = whole.take(np.arange(len(first_scores) - 1))
    probabilities = np.zeros((len(first.texts), 2))
    fold_D = split_folds(first, 2, 0)
    for fold in (0, 1):
        fit, test = np.flatnonzero(fold_D != fold), np.flatnonzero(fold_D == fold)
        probabilities[test] = fit_logistic(first.take(fit), models).predict_proba(first.take(test).matrix(models))
    results_of_classifier = results["within"]["classifiers"]["logistic"]
    predicted = probabilities.argmax(axis=1)
    assert results_of_classifier["confusion"] == sk.confusion_matrix(first.levels, predicted, labels=[0, 1]).tolist()
    assert results_of_classifier["metrics"]["accuracy"]["value"] == pytest.approx(
        sk.accuracy_score(first.levels, predicted)
    )
    other, _ = scored(corpora, "classification.1.parquet", ["A1", "C1"], second_scores["text"].tolist())
    other = other.take(np.arange(1, len(second_scores) - 1))
    fitted = fit_logistic(first, models)
    zero_shot = fitted.predict(other.matrix(models))
    across = results["across"][0]["classifiers"]["logistic"]["confusion"]
    assert across == sk.confusion_matrix(other.levels, zero_shot, labels=[0, 1]).tolist()
    assert "one.csv: " in out
    assert "zero-shot" in out
    classifier = run.level_classifier(corpora / "classification.skops")
    by_api = classifier.predict(first_scores["text"], ids=first_scores["writing_id"].astype(str).tolist())
    np.testing.assert_allclose(by_api["C1"], fitted.predict_proba(whole.matrix(models))[:, 1], atol=1e-4)
    assert len(classifier.predict([])) == 0
    assert "is up to date" in classify("one.csv", "--on", "two.csv", "--folds", "2", "--resamples", "100")


def test_a_corpus_that_changes_between_selection_and_scoring_is_refused(classify, corpora, monkeypatch):
    """Otherwise the chosen rows would be other texts: the second corpus waits while the first is scored."""
    rows = pd.read_csv(corpora / "two.csv")
    rows.iloc[1:].to_csv(corpora / "two.csv", index=False)
    score, words = classify_output.score_texts, ("one.csv", "--on", "two.csv", "--folds", "2", "--resamples", "100")

    def score_and_change(*asked, **options):
        digest = score(*asked, **options)
        rows.to_csv(corpora / "two.csv", index=False)
        return digest

    with monkeypatch.context() as patch:
        patch.setattr(classify_output, "score_texts", score_and_change)
        with pytest.raises(InputError, match=r"^two\.csv: changed before it was scored; the same command"):
            classify(*words)
    assert not (corpora / "classification.json").exists()
    assert "1 without a level of the run" in classify(*words)


def test_the_results_replace_neither_a_corpus_nor_another_file(classify, corpora):
    """A corpus in JSON, or any other file of this name, was overwritten without --force."""
    options = ("--folds", "2", "--resamples", "100")
    pd.read_csv(corpora / "two.csv").to_json(corpora / "two.json", orient="records")
    (corpora / "mine.json").write_text("{}")
    (corpora / "model.skops").write_text("mine")
    before = {path.name: path.read_bytes() for path in corpora.iterdir()}
    for words, message in [
        (("one.csv", "--on", "two.json", "--out", "two.json", "--force"), r"would replace two\.json, which is a file"),
        (("one.csv", "--out", "mine.json"), r"mine\.json is there already; give --force"),
        (("one.csv", "--out", "model.json"), r"model\.skops is there already; give --force"),
    ]:
        with pytest.raises(ConfigError, match=message):
            classify(*words, *options)
    assert {path.name: path.read_bytes() for path in corpora.iterdir()} == before


def test_corpora_that_cannot_be_classified_are_refused(classify, corpora, tmp_path, run, monkeypatch):
    """The message gives the fix."""
    with pytest.raises(ConfigError, match=r"--out: found 'a\.csv'; must end in \.json"):
        classify("one.csv", "--out", "a.csv")
    with pytest.raises(ConfigError, match=r"--set seed: classify takes settings of data alone"):
        classify("one.csv", "--set", "seed=1")
    (tmp_path / "none.csv").write_text("id,text\n1,I like apples.\n")
    with pytest.raises(InputError, match=r"none\.csv: none of its 1 texts has a level of the run .A1, C1."):
        classify("none.csv")
    with pytest.raises(InputError, match=r"one\.csv: none of its .* texts .*, and is not in the first corpus too; "):
        classify("one.csv", "--on", "one.csv", "--folds", "2")
    with pytest.raises(InputError, match=r"^one\.csv: folds: found 90, with .* texts of the rarest level"):
        classify("one.csv", "--folds", "90")
    assert not list(tmp_path.glob("classification*")), "it was told before anything was scored"
    other = tmp_path / "other.skops"
    save_classifier(other, None, levels=("A1",), models={"B7": "0" * 32})
    assert load_classifier(other, fix="")[2] == {"B7": "0" * 32}
    with pytest.raises(InputError, match="reads perplexities of 'B7', which is no model of this run"):
        raysweep.load(run.folder.root).level_classifier(other)
    with monkeypatch.context() as earlier:
        earlier.setattr(saved_classifier, "_PERPLEXITIES", [2, 4])
        save_classifier(other, None, levels=("A1",), models={"start": "", "A1": "0" * 32})
    with pytest.raises(InputError) as refused:
        raysweep.load(run.folder.root).level_classifier(other)
    assert str(refused.value).endswith(
        "other.skops: was fitted on perplexities of another version of raysweep; classify again with "
        f"`raysweep classify CORPUS --name tiny --storage {shlex.quote(str(run.folder.root.parent))} "
        f"--out {shlex.quote(str(other.with_suffix('.json')))} --force`"
    )
    save_classifier(other, None, levels=("A1",), models={"start": "0" * 32})
    with pytest.raises(InputError, match="fitted on another model 'start' than this run has now; classify again with"):
        raysweep.load(run.folder.root).level_classifier(other)
    save_classifier(other, None, levels=("A1",), models={"start": "", "A1": "0" * 32})
    with pytest.raises(InputError, match="fitted on another model 'A1' than this run has now; classify again with"):
        raysweep.load(run.folder.root).level_classifier(other)
