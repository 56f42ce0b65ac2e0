"""Checks a bundle's classifiers: predictions must follow from features, and features from losses and documents.

Levels, splits, characters, learners and the losses of test documents' answers are compared with the bundle's other
tables, and every test document that was scored must have a prediction.  Classifiers that read perplexities or lengths
are fitted again on the stated features and folds.  Classifiers that read texts cannot be, since a bundle holds no
texts; only their metrics are computed again, from their predictions.

Taken as stated, because nothing in a bundle can check them: losses of whole texts, all losses of valid documents and
which of those documents were scored, numbers of words and tokens of whole texts, and the division into folds (except
that no learner may be in two).
"""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
import pyarrow.compute as pc
import pyarrow.parquet as pq

from raysweep.classification.classifier_names import OWN
from raysweep.classification.predictions import (
    TEST,
    WITHIN,
    ZERO_SHOT,
    Predicted,
    feature_models,
    fit_rows,
    read_predictions,
    scored_rows,
)
from raysweep.classification.scored_texts import loss_columns
from raysweep.config.schema import Config
from raysweep.config.scored_metrics import METRIC_PARTS
from raysweep.errors import InputError
from raysweep.evidence.classified_levels import read_classification
from raysweep.publishing.differences import Mismatch
from raysweep.statistics.loss_table import Floats
from raysweep.storage.printable import shown
from raysweep.storage.run_folder import RunFolder

TOLERANCE = 1e-3
"""Largest difference allowed between probabilities: where a fit stops depends slightly on the processor."""
_FEATURES, _PREDICTIONS = "classification/features.parquet", "classification/predictions.parquet"


def refit(folder: RunFolder, config: Config) -> Iterator[Mismatch]:
    """Yield everything that does not follow; nothing if the run has no classifiers."""
    if config.classification is None:
        return
    features, predictions = read_classification(folder)
    places = {OWN: folder, **{name: folder.further(name) for name in config.corpora}}
    wrong = [
        Mismatch(f"{_FEATURES}: corpus", shown(name), "is none of the run")
        for name in {*features["corpus"]} - {*places}
    ]
    for corpus, place in places.items():
        rows = features[features["corpus"] == corpus].reset_index(drop=True)
        wrong += [*_compare_with_documents(place, rows), *_compare_with_losses(place, rows)]
    in_ways = list(read_predictions(features, predictions, config.data.levels))
    zero_shot = {predicted.corpus for predicted in in_ways if predicted.way == ZERO_SHOT}
    wrong += [
        Mismatch(f"{_PREDICTIONS}: {name}, {ZERO_SHOT}", "nothing", "its documents have features")
        for name in sorted({*features.loc[features["split"] == TEST, "corpus"]} & {*places} - zero_shot)
    ]
    wrong += _find_missing_folds(in_ways, config)
    for predicted in in_ways:
        wrong += [*_compare_tested(predicted, features), *_compare_folds(predicted)]
        if not wrong:  # forged values might make the fit fail
            yield from _compare_predictions(predicted, features, config)
    yield from wrong


def _compare_with_documents(folder: RunFolder, features: pd.DataFrame) -> Iterator[Mismatch]:
    """Compare the level, split, length and learner of a corpus's documents with documents.parquet."""
    known = pq.read_table(folder.documents).to_pandas().set_index("document")
    known = known.reindex(features["document"]).reset_index()
    for name in ("level", "split", "characters"):
        if len(wrong := np.flatnonzero((features[name] != known[name]).to_numpy())):
            stated, actual = features[name][wrong[0]], known[name][wrong[0]]
            place = f"{_FEATURES}: {name} of document {features['document'][wrong[0]]}"
            yield Mismatch(place, str(stated), f"{actual} in documents.parquet")
    if not np.array_equal(pd.factorize(features["learner"])[0], pd.factorize(known["learner"])[0]):
        yield Mismatch(f"{_FEATURES}: learner", "other learners", "texts are by others in documents.parquet")


def _compare_with_losses(folder: RunFolder, features: pd.DataFrame) -> Iterator[Mismatch]:
    """Compare the test documents, and the losses and tokens of their answers, with losses.parquet."""
    tested, models = features[features["split"] == TEST].set_index("document"), feature_models(features)
    columns, wanted = ["document", "model", "part", "nats", "tokens"], pc.field("model").isin(models)
    table = pq.read_table(folder.losses, columns=columns, filters=wanted).to_pandas()
    if left_out := {*table["document"]} ^ {*tested.index}:
        place, scored = f"{_FEATURES}: test documents, as document {min(left_out)}", table["document"].nunique()
        yield Mismatch(place, f"{len(tested):,} documents", f"{scored:,} documents in losses.parquet")
        return
    answers = table[table["part"].isin(METRIC_PARTS["infill"])]  # a document has none if its mask blanks nothing
    tokens_of = answers[answers["model"] == models[0]].groupby("document")["tokens"].sum()
    tokens_of = tokens_of.reindex(tested.index, fill_value=0)
    if len(wrong := np.flatnonzero(tested["infill_tokens"] != tokens_of)):
        place = f"{_FEATURES}: infill_tokens of document {tested.index[wrong[0]]}"
        yield Mismatch(
            place, str(tested["infill_tokens"].iloc[wrong[0]]), f"{tokens_of.iloc[wrong[0]]} in losses.parquet"
        )
    for model in models:
        stated = tested[loss_columns(model)[1]]
        summed = answers[answers["model"] == model].groupby("document")["nats"].sum()
        actual = summed.reindex(tested.index, fill_value=0.0)
        if len(wrong := np.flatnonzero(~np.isclose(stated, actual, rtol=1e-9, atol=1e-9))):
            place = f"{_FEATURES}: answers of document {tested.index[wrong[0]]} under {model}"
            yield Mismatch(place, f"{stated.iloc[wrong[0]]:.9g} nats", f"{actual.iloc[wrong[0]]:.9g} in losses.parquet")


def _compare_tested(predicted: Predicted, features: pd.DataFrame) -> Iterator[Mismatch]:
    """Check that each test document of the corpus is predicted exactly once, and no other document."""
    rows = features[(features["corpus"] == predicted.corpus) & (features["split"] == TEST)]
    if sorted(predicted.rows["document"]) != sorted(rows["document"]):
        place = f"{_PREDICTIONS}: documents of {predicted.corpus}, {predicted.way}"
        yield Mismatch(
            place, f"{len(predicted.rows):,} documents", f"must be all {len(rows):,} test documents, once each"
        )


def _find_missing_folds(in_ways: Sequence[Predicted], config: Config) -> Iterator[Mismatch]:
    """Yield the corpora that can be divided into folds but were not."""
    assert config.classification is not None
    from raysweep.classification.comparison import split_folds  # scikit-learn, if there are any

    within = {predicted.corpus for predicted in in_ways if predicted.way == WITHIN}
    for predicted in in_ways:
        if predicted.way == ZERO_SHOT and predicted.corpus not in within:
            texts = scored_rows(predicted.rows, config.data.levels)
            try:
                split_folds(texts, config.classification.folds, config.seed)
            except InputError:
                continue  # the classify stage could not divide it either
            place = f"{_PREDICTIONS}: {predicted.corpus}, {WITHIN}"
            yield Mismatch(place, "nothing", f"its documents can be divided into {config.classification.folds} folds")


def _compare_folds(predicted: Predicted) -> Iterator[Mismatch]:
    """Check that every text is in a fold, and no known learner in two."""
    place = f"{_PREDICTIONS}: folds of {predicted.corpus}, {predicted.way}"
    is_within = predicted.way == WITHIN
    if predicted.way not in (WITHIN, ZERO_SHOT) or ((predicted.fold_D >= 0) != is_within).any():
        yield Mismatch(place, "other folds", "must be -1 for zero-shot alone")
    if is_within:
        learners = predicted.rows["learner"].to_numpy()
        in_folds = pd.Series(predicted.fold_D).groupby(learners).nunique()  # texts without a learner are in no group
        if (in_folds > 1).any():
            yield Mismatch(place, f"{int((in_folds > 1).sum())} learners in two folds", "must be none")


def _compare_predictions(predicted: Predicted, features: pd.DataFrame, config: Config) -> Iterator[Mismatch]:
    """Fit the classifiers that read no text again, and compare their probabilities."""
    from raysweep.classification.comparison import predict_across, predict_within  # scikit-learn, if there are any

    levels, models = config.data.levels, feature_models(features)
    texts = scored_rows(predicted.rows, levels)
    if predicted.way == WITHIN:
        refitted = predict_within(texts, predicted.fold_D, len(levels), models, config.seed, reads_texts=False)
    else:
        first = scored_rows(fit_rows(features), levels)
        (refitted,) = predict_across(first, [texts], len(levels), models, config.seed, reads_texts=False)
    for name, probabilities_DK in refitted.items():
        place = f"{_PREDICTIONS}: {predicted.corpus}, {predicted.way}, {name}"
        stated_DK = predicted.probabilities.get(name)
        if stated_DK is None:
            yield Mismatch(place, "nothing", "fitted again")
        elif (furthest := _distance(stated_DK, probabilities_DK)) > TOLERANCE:
            yield Mismatch(place, "other probabilities", f"fitted again, they differ by up to {furthest:.3g}")


def _distance(stated_DK: Floats, found_DK: Floats) -> float:
    return float(np.nan_to_num(np.abs(stated_DK - found_DK), nan=np.inf).max(initial=0.0))
