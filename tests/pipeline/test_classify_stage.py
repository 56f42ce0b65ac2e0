"""The classify stage on a real run: every number against scikit-learn, what is made again, and what `verify` finds."""

import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sk
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from typer.testing import CliRunner

import raysweep
from raysweep.classification.level_classifiers import OrdinalByThresholds
from raysweep.cli.app import app
from raysweep.errors import ConfigError, DamagedError, InputError
from raysweep.evidence.evidence_schema import Evidence
from raysweep.inference import level_classifier
from raysweep.inference.learner_likeness import LikenessMeter, shares_by_level
from raysweep.pipeline import identities, text_sources
from raysweep.pipeline.file_check import check_files
from raysweep.pipeline.inline_executor import InlineExecutor
from raysweep.pipeline.status import describe_classification
from raysweep.planning.forecast import forecast_stages
from raysweep.publishing.bundle import write_bundle
from raysweep.publishing.verify import verify_bundle
from raysweep.storage.classification_files import ClassificationFolder
from tests.one_thread import one_thread as one_thread
from tests.pipeline.conftest import TINY, make_run
from tests.pipeline.test_further_corpora import write_corpus
from tests.pipeline.test_run import contents

ASKED = {"classification": {"folds": 3}}
LEVELS = ["A1", "C1"]
MODELS = ["start", "A1", "C1", "all", "all-C1"]


class PartsExecutor(InlineExecutor):
    """Records the parts of texts that it scored; dies after some of them."""

    def __init__(self, lives=None):
        super().__init__()
        self.parts, self._lives = [], lives

    def score_texts(self, tasks, listener):
        for done in super().score_texts(tasks, listener):
            if len(self.parts) == self._lives:
                raise KeyboardInterrupt
            self.parts.append(f"{done[0].model} {done[0].out.stem}")
            yield done


@pytest.fixture(scope="module")
def classified(finished_storage, tmp_path_factory):
    """The finished run, configured for classification afterwards.  For reading only."""
    storage = tmp_path_factory.mktemp("classified") / "runs"
    shutil.copytree(finished_storage, storage)
    run = make_run(storage, ASKED)
    assert run.do() == []
    return run


@pytest.fixture
def own_copy(classified, tmp_path):
    """The same in the test's own folder; returns a function that runs it again, with other settings if given."""
    shutil.copytree(classified.folder.root.parent, tmp_path / "runs")
    return lambda changes=ASKED, **options: make_run(tmp_path / "runs", changes, **options)


def tables(run):
    files = ClassificationFolder.of(run.folder)
    return pd.read_parquet(files.features), pd.read_parquet(files.predictions)


def by_perplexity(last):
    return make_pipeline(SimpleImputer(keep_empty_features=True), StandardScaler(), last)


def tfidf(**options):
    return make_pipeline(TfidfVectorizer(sublinear_tf=True, **options), LogisticRegression(max_iter=2000))


def readers(features, texts, models=MODELS):
    """Return what each classifier reads, and scikit-learn's own classifier, by name."""

    def matrix(models):
        columns = [
            features[f"{kind}nats_{model}"] / features[f"{kind}tokens"] for model in models for kind in ("", "infill_")
        ]
        return np.stack(columns, axis=1)

    every, lengths = matrix(models), np.log1p(features[["characters", "words"]].to_numpy(dtype=float))
    losses_by_model = {
        "logistic": (every, by_perplexity(LogisticRegression(max_iter=2000))),
        "ordinal": (every, by_perplexity(OrdinalByThresholds())),
        "boosting": (every, by_perplexity(HistGradientBoostingClassifier(random_state=0, max_iter=100))),
        "majority": (lengths, DummyClassifier(strategy="prior")),
        "length": (lengths, by_perplexity(LogisticRegression(max_iter=2000))),
        "words": (texts, tfidf(analyzer="word", ngram_range=(1, 2))),
        "characters": (texts, tfidf(analyzer="char_wb", ngram_range=(2, 5))),
        "native": (matrix(["start"]), by_perplexity(LogisticRegression(max_iter=2000))),
    }
    for model in models:
        others = matrix([other for other in models if other != model])
        losses_by_model[f"logistic without {model}"] = (others, by_perplexity(LogisticRegression(max_iter=2000)))
    return losses_by_model


def test_every_number_of_the_table_agrees_with_scikit_learn(classified):
    """Fit and predict by hand on the features, zero-shot and in the folds; no learner is in two folds."""
    evidence = Evidence.model_validate_json(classified.folder.evidence.read_text())
    features, predictions = tables(classified)
    documents = pd.read_parquet(classified.folder.documents).set_index("document")
    texts = documents["text"].reindex(features["document"]).to_numpy()
    is_fit, truth = features["split"] == "valid", features["level"].map(LEVELS.index).to_numpy()
    tested = np.flatnonzero(~is_fit)
    folds = predictions[(predictions["way"] == "within") & (predictions["classifier"] == "logistic")]
    assert folds["document"].tolist() == features["document"][tested].tolist()
    learners = pd.Series(folds["fold"].to_numpy()).groupby(features["learner"][tested].to_numpy()).nunique()
    assert learners.tolist() == [1] * len(learners)
    zero_shot, within = evidence.classification.corpora
    assert (zero_shot.way, within.way, within.folds, zero_shot.documents) == ("zero-shot", "within", 3, len(tested))
    right = {}
    for name, (matrix, pipeline) in readers(features, texts).items():
        ours = {"zero-shot": pipeline.fit(matrix[is_fit], truth[is_fit]).predict_proba(matrix[tested])}
        ours["within"] = np.zeros((len(tested), 2))
        for fold in range(3):
            fit, test = tested[folds["fold"] != fold], np.flatnonzero(folds["fold"] == fold)
            ours["within"][test] = pipeline.fit(matrix[fit], truth[fit]).predict_proba(matrix[tested[test]])
        for corpus in (zero_shot, within):
            predicted = ours[corpus.way].argmax(axis=1)
            right[corpus.way, name] = sk.accuracy_score(truth[tested], predicted)
            row = next((row for row in corpus.classifiers if row.classifier == name), None)
            if row is None:
                continue
            metrics = {metric: value.value for metric, value in row.metrics.items()}
            assert metrics == pytest.approx(
                {
                    "accuracy": right[corpus.way, name],
                    "adjacent_accuracy": np.mean(np.abs(truth[tested] - predicted) <= 1),
                    "macro_f1": sk.f1_score(truth[tested], predicted, average="macro"),
                    "qwk": sk.cohen_kappa_score(truth[tested], predicted, weights="quadratic"),
                    "rmse": sk.root_mean_squared_error(truth[tested], predicted),
                }
            ), (corpus.way, name)
            assert [list(counts) for counts in row.confusion] == sk.confusion_matrix(truth[tested], predicted).tolist()
            brier = np.mean(np.sum((ours[corpus.way] - np.eye(2)[truth[tested]]) ** 2, axis=1))
            assert row.brier == pytest.approx(brier, abs=1e-6)
    for corpus in (zero_shot, within):
        assert len(corpus.classifiers) == 8
        lost = {ablation.model: ablation.accuracy.value for ablation in corpus.without_model}
        full = right[corpus.way, "logistic"]
        assert lost == pytest.approx({model: full - right[corpus.way, f"logistic without {model}"] for model in MODELS})


def test_features_equal_the_scores_of_the_python_api(classified):
    """Whole texts and answers, including those of test documents, whose answers come from the evaluation."""
    features, _ = tables(classified)
    documents = pd.read_parquet(classified.folder.documents).set_index("document").loc[features["document"]]
    run = raysweep.load(classified.folder.root, device="cpu")
    scores = run["A1"].score(documents["text"], ids=documents["writing_id"].tolist())
    for ours, theirs in (("nats_A1", "nats"), ("infill_nats_A1", "infill_nats")):
        np.testing.assert_allclose(features[ours], scores[theirs], rtol=1e-5)
    assert features["infill_tokens"].tolist() == scores["infill_tokens"].tolist()
    assert set(features["split"]) == {"valid", "test"}
    classifier = run.level_classifier()
    zero_shot = tables(classified)[1].query("way == 'zero-shot' and classifier == 'logistic'")
    test = documents[features["split"].to_numpy() == "test"]
    predicted = classifier.predict(test["text"], ids=test["writing_id"].tolist())
    np.testing.assert_allclose(predicted["C1"], zero_shot["probability_C1"], atol=1e-4)


def test_running_the_stage_again_does_nothing(own_copy):
    """Nothing is made again, and `check-run` knows every file."""
    run = own_copy()
    before = contents(run.folder)
    assert run.do() == []
    assert contents(run.folder) == before
    assert "classify: skip, levels are told from the same scores" in run.listener.lines
    assert describe_classification(run.folder, run.config) == "classification: done"
    assert describe_classification(run.folder, make_run(run.folder.root.parent, {}).config) == ""
    states = {file.path: file.state for file in check_files(run.folder) if "classification" in file.path}
    assert states.pop("classification/classifier.skops") == "ok"
    assert {state for path, state in states.items() if not path.endswith("begun")} == {"ok"}


def test_only_a_retrained_model_is_scored_again(own_copy):
    """The classifiers and the report are then made again; the other models' scores are kept."""
    executor = PartsExecutor()
    changes = ASKED | {"trials": {**TINY["trials"], "A1": {"levels": ["A1"], "steps": 2}}}
    run = own_copy(changes, executor=executor, forced=["A1"])
    before = ClassificationFolder.of(run.folder).predictions.read_bytes()
    assert run.do() == []
    assert executor.parts == ["A1 00000", "A1 00001"]
    assert ClassificationFolder.of(run.folder).predictions.read_bytes() != before
    assert any(line.startswith("data:A1: its model changed since it was made") for line in run.listener.lines)
    assert any(line.startswith("report: its ") and " classify" in line for line in run.listener.lines)


def test_status_counts_the_stage_as_done_only_if_its_files_are_current(own_copy):
    """The record alone proves neither that files exist nor that they are current."""
    run = own_copy()
    ClassificationFolder.of(run.folder).features.unlink()
    assert "its files are gone or rest on other scores" in describe_classification(run.folder, run.config)


def test_a_kill_loses_one_part_and_changes_no_byte(own_copy, classified):
    """Finished scores are kept; the tables and the fitted classifier have the same bytes."""
    run = own_copy()
    files, wanted = ClassificationFolder.of(run.folder), ClassificationFolder.of(classified.folder)
    shutil.rmtree(files.root)
    with pytest.raises(KeyboardInterrupt):
        own_copy(executor=PartsExecutor(lives=4), forced=["classify"]).do()
    executor = PartsExecutor()
    assert describe_classification(run.folder, run.config) == (
        "classification: not done; 2 of 5 scorings (corpus × model) are done"
    )
    assert own_copy(executor=executor).do() == []
    assert len(executor.parts) == 2 * len(MODELS) - 5  # the part during which it died is done too
    assert not files.working.exists()
    for ours, theirs in zip(files.outputs, wanted.outputs, strict=True):
        assert ours.read_bytes() == theirs.read_bytes(), ours


def test_damaged_files_and_impossible_settings_are_refused(own_copy):
    """The message names the command that repairs it."""
    run = own_copy()
    files = ClassificationFolder.of(run.folder)
    record = files.scores_record("data", "A1")
    text = record.read_text()
    record.write_text(text.replace('"digest": "', '"digest": "0', 1))
    with pytest.raises(DamagedError, match=r"A1\.json: is damaged .*--force classify"):
        own_copy().do()
    assert {file.path: file.state for file in check_files(run.folder)}[
        "classification/scores/data/A1.json"
    ] == "changed"
    assert own_copy(forced=["classify"]).do() == []
    files.predictions.write_bytes(b"0")
    with pytest.raises(DamagedError, match=r"predictions\.parquet is damaged .*--force classify"):
        own_copy().do()
    files.classifier.write_bytes(b"0")
    with pytest.raises(
        DamagedError,
        match=r"classifier\.skops is damaged .* make it again with `raysweep run --name tiny .*--force classify`$",
    ):
        raysweep.load(run.folder.root).level_classifier()
    with pytest.raises(ConfigError, match=r"stage 'report' rests on .*; do `raysweep run` first"):
        own_copy({"classification": {"folds": 4}}).do("report")


def test_a_corpus_of_one_level_is_refused_before_preparing(tiny_run):
    """Not after hours of training; nor can the stage be forced if it is not configured."""
    one_level = {"data": {"levels": ["A1"], "sample": {"rows": 90}}, "trials": {"A1": {"levels": ["A1"]}}}
    run = tiny_run({**one_level, **ASKED})
    with pytest.raises(ConfigError, match="classification: found one level, A1"):
        run.do()
    assert run.listener.stages == []
    assert not run.folder.config.exists()
    with pytest.raises(ConfigError, match=r"--force classify: no such stage or trial; known are .*evaluate, report"):
        tiny_run(forced=["classify"])


def test_partial_scores_of_other_documents_are_not_reused(own_copy, classified):
    """Killed while scoring all documents, then configured for fewer: each document gets the losses of its own text."""
    with pytest.raises(KeyboardInterrupt):
        own_copy(executor=PartsExecutor(lives=1), forced=["classify"]).do()
    run = own_copy({**ASKED, "evaluation": {**TINY["evaluation"], "documents_per_level": 4}})
    assert run.do() == []
    features, every = tables(run)[0], tables(classified)[0].set_index("document")
    assert 8 <= len(features) < len(every)
    for column in ("nats_A1", "infill_nats_start", "tokens"):
        np.testing.assert_allclose(features[column], every.loc[features["document"], column], rtol=1e-5)


def test_a_corpus_without_any_chosen_document_is_left_out_with_a_note(own_copy, monkeypatch):
    """The second time there is nothing to do."""

    def with_empty(config, folder, done):
        sources = text_sources.text_sources_before(config, folder, done)
        path = folder.root.parent / "empty.parquet"
        pd.read_parquet(folder.documents).assign(level="B1").to_parquet(path)
        return [*sources, text_sources.TextSource(name="empty", documents=path, splits=("test",))]

    monkeypatch.setattr(text_sources, "text_sources_before", text_sources.text_sources, raising=False)
    monkeypatch.setattr(text_sources, "text_sources", with_empty)
    run = own_copy()
    assert run.do() == []
    assert "classify: note: empty: is left out, none of its documents has an example" in run.listener.lines
    assert set(tables(run)[0]["corpus"]) == {"data"}
    again = own_copy()
    assert again.do() == []
    assert "classify: skip, levels are told from the same scores" in again.listener.lines


def test_scores_of_different_documents_are_never_joined(classified):
    """Scores are joined by position, so a mismatch must be noticed."""
    (own,) = text_sources.text_sources(classified.config, classified.folder, classified.record.stages)
    documents = own.read(classified.config)[0]
    scores = pd.DataFrame({name: [1.0] for name in ("nats", "tokens", "infill_nats", "infill_tokens")})
    with pytest.raises(AssertionError, match="data: A1 has a score for each document"):
        text_sources.feature_rows(own, documents, {"A1": scores})


def test_a_classifier_records_the_tokenizer_of_the_start(own_copy, monkeypatch):
    """If the run is masked again with another tokenizer, it refuses the classifier, as with another model."""
    run = own_copy()
    monkeypatch.setattr(identities, "tokenizer_digest", lambda _: "b3:other")
    monkeypatch.setattr(level_classifier, "tokenizer_digest", lambda _: "b3:other")
    stage = run.stages["classify"]
    pairs = stage._pairs(run.record.stages)
    stage._classify(pairs, {pair.source.name: pair.source.read(run.config) for pair in pairs}, run.listener)
    saved = ClassificationFolder.of(run.folder).classifier
    assert raysweep.load(run.folder.root).level_classifier(saved).models.keys() == set(MODELS)
    monkeypatch.undo()
    with pytest.raises(InputError, match="was fitted on another model 'start' than this run has now"):
        raysweep.load(run.folder.root).level_classifier(saved)


def test_the_stage_does_nothing_if_it_is_not_configured(own_copy, finished_storage):
    """The stage is off by default; once removed from the config, the report does without it."""
    run = make_run(finished_storage)
    assert "classify" not in run.record.stages
    with pytest.raises(
        InputError, match=r"has no classifier of its own; do `raysweep run --name tiny .*--set classification\.folds=5`"
    ):
        raysweep.load(run.folder.root).level_classifier()
    off = own_copy({})
    assert off.do() == []
    evidence = json.loads(off.folder.evidence.read_text())
    assert evidence["classification"] is None
    assert not any(name.startswith("classification/") for name in evidence["inputs"]["files"])
    assert "classify" not in off.listener.stages


def test_too_few_learners_for_the_folds_are_reported(own_copy):
    """The zero-shot results are still given."""
    run = own_copy({"classification": {"folds": 90}})
    assert run.do() == []
    assert any(
        line.startswith("classify: note: data: is not divided into folds (folds: found 90")
        for line in run.listener.lines
    )
    assert [
        corpus.way for corpus in Evidence.model_validate_json(run.folder.evidence.read_text()).classification.corpora
    ] == ["zero-shot"]


def test_a_bundle_with_classification_verifies_and_a_forged_table_is_detected(classified, tmp_path):
    """Predictions are fitted again from the features, and features are compared with losses and documents."""
    folder = classified.folder
    write_bundle(folder, tmp_path / "evidence.zip")
    assert verify_bundle(tmp_path / "evidence.zip").differences == ()
    with zipfile.ZipFile(tmp_path / "evidence.zip") as archive:
        archive.extractall(tmp_path / "honest")
    names = [path.relative_to(tmp_path / "honest").as_posix() for path in (tmp_path / "honest").rglob("*")]
    assert "classification/classifier.skops" not in names
    features = pd.read_parquet(tmp_path / "honest/classification/features.parquet")
    assert set(features["learner"]) == {f"learner-{number + 1}" for number in range(features["learner"].nunique())}


@pytest.fixture
def find_forgery(classified, tmp_path):
    """Return a function that lists what is found in a bundle's folder after a table was changed."""
    from raysweep.config.loading import read_resolved_config
    from raysweep.evidence.inputs import copy_inputs
    from raysweep.publishing.refitting import refit
    from raysweep.storage.run_folder import RunFolder

    copy = RunFolder(tmp_path / "tiny")
    copy_inputs(classified.folder, classified.trials, copy)
    files = ClassificationFolder.of(copy)

    def after(path_of, change):
        path = path_of(files)
        table = pd.read_parquet(path)
        left = change(table)
        (table if left is None else left).to_parquet(path)
        return [str(mismatch) for mismatch in refit(copy, read_resolved_config(copy))]

    return after


def changed(column, value, where=slice(0, 1)):
    def change(table):
        table.loc[table.index[where], column] = value

    return change


@pytest.mark.parametrize(
    ("table", "change", "message"),
    [
        ("features", lambda table: None, []),
        ("features", changed("level", "C1", slice(None)), ["features.parquet: level of document"]),
        ("features", changed("characters", 3), ["features.parquet: characters of document"]),
        ("features", changed("learner", "x", slice(None)), ["features.parquet: learner: stated other learners"]),
        ("features", changed("infill_nats_A1", 1.0, slice(-1, None)), ["features.parquet: answers of document"]),
        (
            "features",
            changed("nats_A1", 1e4, slice(0, 5)),
            ["predictions.parquet: data, zero-shot, logistic: stated other"],
        ),
        (
            "predictions",
            changed("probability_C1", 0.5),
            ["predictions.parquet: data, zero-shot, logistic: stated other"],
        ),
        ("predictions", changed("fold", 1, slice(0, 1)), ["folds of data, zero-shot: stated other folds"]),
    ],
)
def test_each_forged_value_is_reported(find_forgery, table, change, message):
    """Each forged value is found by the check responsible for it."""
    if "fold" in str(message):
        change = lambda rows: rows.loc.__setitem__((rows["way"] == "zero-shot", "fold"), 1)  # noqa: E731
    differences = find_forgery(lambda files: getattr(files, table), change)
    assert bool(differences) == bool(message)
    for part in message:
        assert any(part in line for line in differences), differences


def test_learners_in_two_folds_and_missing_classifiers_are_reported(find_forgery):
    """A fold that splits a learner would make the within-corpus numbers too good."""

    def scramble(table):
        rows = table["way"] == "within"
        order = table[rows].groupby("classifier").cumcount()
        table.loc[rows, "fold"] = order % 3

    assert any("learners in two folds" in line for line in find_forgery(lambda files: files.predictions, scramble))

    def rename(table):
        table["classifier"] = table["classifier"].replace("length", "width")

    assert any(
        "length: stated nothing, fitted again" in line for line in find_forgery(lambda files: files.predictions, rename)
    )


def test_leaving_out_the_hardest_test_texts_is_detected(classified, find_forgery):
    """Neither from the predictions alone, nor from the features too: the losses show which texts were tested."""
    features, _ = tables(classified)
    tested = features[features["split"] == "test"]
    hardest = tested.nlargest(3, "nats_start")["document"].tolist()

    def leave_out(table):
        return table[~table["document"].isin(hardest)]

    missing = f"documents of data, zero-shot: stated {len(tested) - 3} documents, must be all {len(tested)} test"
    assert any(missing in line for line in find_forgery(lambda files: files.predictions, leave_out))
    lines = find_forgery(lambda files: files.features, leave_out)
    assert any(
        f"as document {min(hardest)}: stated {len(tested) - 3} documents, {len(tested)}" in line for line in lines
    )


def test_testing_on_fitted_texts_is_detected(classified, find_forgery):
    """Predictions of valid texts would be too good."""
    features, _ = tables(classified)
    fitted = features.loc[features["split"] == "valid", "document"].iloc[0]

    def swap(table):
        table.loc[table["document"] == table["document"].iloc[0], "document"] = fitted

    lines = find_forgery(lambda files: files.predictions, swap)
    assert any("documents of data, zero-shot: stated" in line for line in lines)


def test_missing_zero_shot_predictions_and_changed_token_counts_are_reported(find_forgery):
    """What is missing cannot be judged, and perplexities are per token."""

    def drop(table):
        return table[table["way"] != "zero-shot"]

    lines = find_forgery(lambda files: files.features, changed("infill_tokens", 1, slice(-1, None)))
    assert any("features.parquet: infill_tokens of document" in line for line in lines)
    lines = find_forgery(lambda files: files.predictions, drop)
    assert any("predictions.parquet: data, zero-shot: stated nothing" in line for line in lines)


def test_a_corpus_without_within_corpus_folds_is_reported(find_forgery):
    """Otherwise the harder half of the table could be left out unnoticed."""
    lines = find_forgery(lambda files: files.predictions, lambda table: table[table["way"] != "within"])
    assert any(
        "predictions.parquet: data, within: stated nothing, its documents can be divided" in line for line in lines
    )


def test_unknown_learners_do_not_hide_a_learner_in_two_folds(classified, find_forgery):
    """The folds of the other learners are still compared."""
    copied = changed("learner", None, slice(-1, None))
    find_forgery(lambda files: files.features, copied)

    def scramble(table):
        rows = table["way"] == "within"
        table.loc[rows, "fold"] = table[rows].groupby("classifier").cumcount() % 3

    assert any("learners in two folds" in line for line in find_forgery(lambda files: files.predictions, scramble))


def test_filled_texts_are_compared_with_held_out_texts_of_their_level(classified):
    """The model's own test documents match themselves fully; shares and distance are computed by hand."""
    run = raysweep.load(classified.folder.root, device="cpu")
    documents = pd.read_parquet(classified.folder.documents)
    test = documents[(documents["split"] == "test") & (documents["level"] == "A1")]
    texts = [*test["text"], "However, nevertheless, the aforementioned considerations notwithstanding."]
    meter = LikenessMeter(run)
    assert meter.describe("A1", "A1") == {}
    meter.add("A1", [*texts, " "])  # an empty text has no level, and is not counted
    taken = run.level_classifier().predict(texts)["level"].value_counts(normalize=True)
    zero_shot = tables(classified)[1].query("way == 'zero-shot' and classifier == 'logistic'")
    own = zero_shot[zero_shot["document"].isin(test["document"])]
    held_out = (own["probability_A1"] >= own["probability_C1"]).mean()
    description = meter.describe("A1", "A1")
    assert description["taken for A1"] == pytest.approx(taken.get("A1", 0.0))
    assert description["held-out A1 taken for A1"] == pytest.approx(held_out)
    assert description["learner_likeness"] == pytest.approx(1 - abs(taken.get("A1", 0.0) - held_out))
    assert set(meter.describe("A1", None)) == {"taken for A1", "taken for C1"}


def test_filled_texts_are_not_compared_without_test_documents(own_copy):
    """The message says what to do."""
    run = own_copy()
    path, predictions = ClassificationFolder.of(run.folder).predictions, tables(run)[1]
    predictions[predictions["way"] == "within"].to_parquet(path)
    with pytest.raises(InputError, match=r"predictions\.parquet: found no test document .* raise data\.split\.test"):
        LikenessMeter(raysweep.load(run.folder.root, device="cpu"))


def test_another_classifier_is_also_applied_to_the_test_texts(classified, tmp_path):
    """The run's own classifier, named as a file or as another run's folder, gives the run's own shares.

    They are not called held-out, because such a classifier may have been fitted on these texts.
    """
    run = raysweep.load(classified.folder.root, device="cpu")
    own, file = LikenessMeter(run), ClassificationFolder.of(run.folder).classifier
    copy = Path(shutil.copy(file, tmp_path / "saved.skops"))
    assert own.name == f"of {run.folder.root}"
    texts = ["I like my school.", "Notwithstanding the aforementioned considerations, it persists."]
    own.add("A1", texts)
    assert own.compared_with == "the run's test documents, held out"
    expected = {key.replace("held-out A1", "test A1"): value for key, value in own.describe("A1", "A1").items()}
    assert "test A1 taken for A1" in expected
    for place in (copy, run.folder.root):
        meter = LikenessMeter(run, place)
        meter.add("A1", [*texts, " "])  # an empty text has no level, and is not counted
        assert meter.describe("A1", "A1") == pytest.approx(expected, abs=1e-6)
        assert meter.name == f"in {place}"
        assert meter.compared_with.endswith("which this classifier may have been fitted on (not checked)")
    with pytest.raises(InputError, match=r"none\.skops: is no classifier that raysweep saved"):
        LikenessMeter(run, tmp_path / "none.skops")


def test_texts_for_another_classifier_are_sampled_by_the_runs_seed(classified):
    """The first texts of a corpus may be of one prompt or one learner."""
    run = raysweep.load(classified.folder.root, device="cpu")
    asked = []

    class Recording:
        levels = run.config.data.levels

        def predict(self, texts, ids):
            asked.append(ids)
            return pd.DataFrame({"level": ["A1"] * len(ids)})

    for most in (3, 3, 1000):
        taken_for_a1 = {"A1": 1.0, "C1": 0.0}
        assert shares_by_level(run, Recording(), most) == {"A1": taken_for_a1, "C1": taken_for_a1}
    documents = pd.read_parquet(classified.folder.documents).query("split == 'test'")
    first = documents.groupby("level").head(3)["writing_id"].astype(str).tolist()
    assert asked[0] == asked[1]
    assert len(asked[0]) == len(first) == 6
    assert set(asked[0]) < set(documents["writing_id"].astype(str))
    assert asked[0] != first
    assert asked[2] == documents["writing_id"].astype(str).tolist()


def test_another_classifier_is_not_applied_without_test_documents(own_copy):
    """The message says what to do, as for the run's own classifier."""
    folder = own_copy().folder
    documents = pd.read_parquet(folder.documents)
    documents[documents["split"] != "test"].to_parquet(folder.documents)
    run = raysweep.load(folder.root, device="cpu")
    with pytest.raises(InputError, match=r"documents\.parquet: found no test document"):
        LikenessMeter(run, ClassificationFolder.of(folder).classifier)


def test_infill_predicts_the_level_of_filled_texts(classified, tmp_path):
    """For a CSV, with the run's classifier, beside the other metrics."""
    (tmp_path / "in.csv").write_text("text\nI like [word] very much.\n")
    words = ["infill", "--name", "tiny", "--storage", str(classified.folder.root.parent), "--all-levels", "--json"]
    files = ["--csv", str(tmp_path / "in.csv"), "--out", str(tmp_path / "out.csv"), "--learner-likeness"]
    result = CliRunner().invoke(app, [*words, *files, "--samples", "2"])
    assert result.exit_code == 0, result.exception
    assert json.loads(result.stdout)["classifier"] == f"of {classified.folder.root}"
    assert json.loads(result.stdout)["compared_with"] == "the run's test documents, held out"
    metrics = json.loads(result.stdout)["metrics"]
    for level in ("A1", "C1"):
        assert metrics[level]["taken for A1"] + metrics[level]["taken for C1"] == pytest.approx(1.0)
        assert 0.0 <= metrics[level]["learner_likeness"] <= 1.0


def test_further_corpora_are_classified_by_the_runs_classifiers(own_copy, tmp_path):
    """Their answers come from the evaluation; the run's own scores are kept; the bundle holds it all and verifies."""
    documents = pd.read_parquet(own_copy().folder.documents)
    write_corpus(tmp_path / "other.csv", documents[documents["split"] == "train"]["text"].iloc[0])
    executor = PartsExecutor()
    run = own_copy({**ASKED, "corpora": {"other": {"path": str(tmp_path / "other.csv")}}}, executor=executor)
    assert run.do() == []
    assert executor.parts == [f"{model} 00000" for model in MODELS]
    features, _ = tables(run)
    other = features[features["corpus"] == "other"]
    texts = pd.read_parquet(run.folder.further("other").documents).set_index("document").loc[other["document"]]
    scores = raysweep.load(run.folder.root, device="cpu")["C1"].score(texts["text"], ids=texts["writing_id"].tolist())
    np.testing.assert_allclose(other["nats_C1"], scores["nats"], rtol=1e-5)
    np.testing.assert_allclose(other["infill_nats_C1"], scores["infill_nats"], rtol=1e-5)
    corpora = Evidence.model_validate_json(run.folder.evidence.read_text()).classification.corpora
    assert [(corpus.corpus, corpus.way) for corpus in corpora] == [
        ("data", "zero-shot"),
        ("other", "zero-shot"),
        ("data", "within"),
        ("other", "within"),
    ]
    assert corpora[1].documents == len(other) > 30
    write_bundle(run.folder, tmp_path / "evidence.zip")
    assert verify_bundle(tmp_path / "evidence.zip").differences == ()
    again = own_copy({**ASKED, "corpora": {"other": {"path": str(tmp_path / "other.csv")}}}, executor=PartsExecutor())
    before = contents(run.folder)
    assert again.do() == []
    assert contents(run.folder) == before


def test_the_plan_includes_the_classify_stage_if_configured(classified):
    """It counts whole texts of valid and test documents under every model, and the answers of valid ones."""

    def seconds(run):
        forecast = run.forecast
        return forecast_stages(run.config, forecast.rates, forecast.data, forecast.makespan, cores=2)

    assert seconds(classified)["classify"] > 0.5 * len(MODELS)
    assert "classify" not in seconds(make_run(classified.folder.root.parent))
