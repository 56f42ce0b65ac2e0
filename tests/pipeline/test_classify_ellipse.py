"""Trained on ELLIPSE (stand-in levels), classified on a second corpus with other prompts: numbers by scikit-learn."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn import metrics as sk

from raysweep.corpus.sample import write_sample
from raysweep.evidence.evidence_schema import Evidence
from raysweep.pipeline import text_sources
from tests.one_thread import one_thread as one_thread
from tests.pipeline.conftest import make_run
from tests.pipeline.test_classify_stage import readers, tables

SHARED = Path(os.environ.get("RAYSWEEP_SHARED", Path(__file__).parents[3] / "shared"))
LEVELS, MODELS = ["A2", "B1"], ["start", "A2", "B1", "all"]
TRIALS = {"A2": {"levels": ["A2"]}, "B1": {"levels": ["B1"]}, "all": {"levels": LEVELS}}


@pytest.fixture
def other_corpus(tmp_path):
    """Synthetic texts on other prompts, as a table of documents."""
    write_sample(tmp_path / "other.csv", rows=60, seed=3, level_shares={"A2": 1, "B1": 1}, levels=("A2", "B1"))
    rows = pd.read_csv(tmp_path / "other.csv", dtype=str)
    columns = {"writing_id": rows["writing_id"], "level": rows["cefr_level"], "split": ["test"] * len(rows)}
    learners = [f"writer {number // 2}" for number in range(len(rows))]
    pq.write_table(pa.table({**columns, "learner": learners, "text": rows["text"]}), tmp_path / "other.parquet")
    return tmp_path / "other.parquet"


@pytest.mark.slow
def test_a_second_corpus_is_classified_by_classifiers_fitted_on_ellipse(tmp_path, other_corpus, monkeypatch):
    """Zero-shot and within, every classifier: accuracies, macro F1, QWK, RMSE and confusion."""
    path = SHARED / "data" / "ellipse.csv"
    if not path.exists():
        pytest.skip(f"{path} is not there; set RAYSWEEP_SHARED to the folder that holds data/ellipse.csv")
    ellipse = pd.read_csv(path, dtype=str)
    chosen = pd.concat([ellipse[ellipse["cefr_level"] == level].head(120) for level in LEVELS])
    chosen.assign(text=chosen["text"].str[:600]).to_csv(tmp_path / "ellipse.csv", index=False)
    own = text_sources.text_sources

    def with_other(*args):
        other = text_sources.TextSource(
            name="other", documents=other_corpus, splits=("test",), made_from={"texts": "1"}
        )
        return [*own(*args), other]

    monkeypatch.setattr(text_sources, "text_sources", with_other)
    data = {"levels": LEVELS, "csv": str(tmp_path / "ellipse.csv")}
    run = make_run(tmp_path / "runs", {"data": data, "trials": TRIALS, "classification": {"folds": 3}})
    assert run.do() == []
    features, predictions = tables(run)
    rows = features["corpus"] == "other"
    own_texts = pd.read_parquet(run.folder.documents)["text"]
    texts = np.append(own_texts[features["document"][~rows]], pq.read_table(other_corpus)["text"].to_pylist())
    truth = features["level"].map(LEVELS.index).to_numpy()
    is_fit, tested = ~rows & (features["split"] == "valid"), np.flatnonzero(rows)
    fold = predictions.query("corpus == 'other' and way == 'within' and classifier == 'logistic'")["fold"].to_numpy()
    evidence = Evidence.model_validate_json(run.folder.evidence.read_text())
    results = {corpus.way: corpus for corpus in evidence.classification.corpora if corpus.corpus == "other"}
    assert (results["within"].learners, results["within"].documents, len(results["within"].classifiers)) == (30, 60, 8)
    for name, (matrix, pipeline) in readers(features, texts, MODELS).items():
        ours = {"zero-shot": pipeline.fit(matrix[is_fit], truth[is_fit]).predict(matrix[tested])}
        ours["within"] = np.zeros(len(tested), dtype=int)
        for number in range(3):
            fit, test = tested[fold != number], np.flatnonzero(fold == number)
            ours["within"][test] = pipeline.fit(matrix[fit], truth[fit]).predict(matrix[tested[test]])
        for way, predicted in ours.items():
            for row in (row for row in results[way].classifiers if row.classifier == name):
                assert {metric: value.value for metric, value in row.metrics.items()} == pytest.approx(
                    {
                        "accuracy": sk.accuracy_score(truth[tested], predicted),
                        "adjacent_accuracy": 1.0,
                        "macro_f1": sk.f1_score(truth[tested], predicted, average="macro"),
                        "qwk": sk.cohen_kappa_score(truth[tested], predicted, weights="quadratic"),
                        "rmse": sk.root_mean_squared_error(truth[tested], predicted),
                    }
                ), (way, name)
                assert [*map(list, row.confusion)] == sk.confusion_matrix(truth[tested], predicted).tolist()
