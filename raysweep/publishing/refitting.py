"""Checks the classifiers of a bundle: do features follow from the losses, and predictions from the features?

Classifiers that read perplexities or lengths are fitted again on the stated features and folds.  Those that read texts
cannot be, since a bundle holds none; of these the metrics alone are computed again, from what they predicted.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd
import pyarrow.compute as pc
import pyarrow.parquet as pq

from raysweep.classification.predictions import (
    OWN,
    TEST,
    WITHIN,
    ZERO_SHOT,
    Predicted,
    feature_models,
    fit_rows,
    read_predictions,
    scored_rows,
)
from raysweep.classification.scored_texts import group_codes, loss_columns
from raysweep.config.schema import Config
from raysweep.config.scored_metrics import METRIC_PARTS
from raysweep.evidence.classified_levels import read_classification
from raysweep.publishing.differences import Mismatch
from raysweep.statistics.loss_table import Floats
from raysweep.storage.printable import shown
from raysweep.storage.run_folder import RunFolder

TOLERANCE = 1e-3
"""Probabilities may differ by so much: a fit ends where its gradient is small, elsewhere on another processor."""
_FEATURES, _PREDICTIONS = "classification/features.parquet", "classification/predictions.parquet"


def refit(folder: RunFolder, config: Config) -> Iterator[Mismatch]:
    """All that does not follow; nothing if the run has no classifiers."""
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
    for predicted in read_predictions(features, predictions, config.data.levels):
        wrong += _compare_folds(predicted)
        if not wrong:  # what is forged here may not even be fitted
            yield from _compare_predictions(predicted, features, config)
    yield from wrong


def _compare_with_documents(folder: RunFolder, features: pd.DataFrame) -> Iterator[Mismatch]:
    """Level, split, length and learner of a corpus's documents."""
    known = pq.read_table(folder.documents).to_pandas().set_index("document")
    known = known.reindex(features["document"]).reset_index()
    for name in ("level", "split", "characters"):
        if len(wrong := np.flatnonzero((features[name] != known[name]).to_numpy())):
            stated, found = features[name][wrong[0]], known[name][wrong[0]]
            place = f"{_FEATURES}: {name} of document {features['document'][wrong[0]]}"
            yield Mismatch(place, str(stated), f"{found} in documents.parquet")
    if not np.array_equal(pd.factorize(features["learner"])[0], pd.factorize(known["learner"])[0]):
        yield Mismatch(f"{_FEATURES}: learner", "other learners", "texts are by others in documents.parquet")


def _compare_with_losses(folder: RunFolder, features: pd.DataFrame) -> Iterator[Mismatch]:
    """Losses of the answers of test documents, which the evaluate stage scored."""
    tested = features[features["split"] == TEST].set_index("document")
    wanted = pc.field("part").isin(METRIC_PARTS["infill"])
    table = pq.read_table(folder.losses, columns=["document", "model", "nats"], filters=wanted).to_pandas()
    summed = table.groupby(["model", "document"])["nats"].sum()
    for model in feature_models(features):
        stated = tested[loss_columns(model)[1]]
        found = summed[model].reindex(tested.index, fill_value=0.0)
        if len(wrong := np.flatnonzero(~np.isclose(stated, found, rtol=1e-9, atol=1e-9))):
            place = f"{_FEATURES}: answers of document {tested.index[wrong[0]]} under {model}"
            yield Mismatch(place, f"{stated.iloc[wrong[0]]:.9g} nats", f"{found.iloc[wrong[0]]:.9g} in losses.parquet")


def _compare_folds(predicted: Predicted) -> Iterator[Mismatch]:
    """Every text is in a fold, and no learner in two."""
    place = f"{_PREDICTIONS}: folds of {predicted.corpus}, {predicted.way}"
    is_within = predicted.way == WITHIN
    if predicted.way not in (WITHIN, ZERO_SHOT) or ((predicted.fold_D >= 0) != is_within).any():
        yield Mismatch(place, "other folds", "must be -1 for zero-shot alone")
    learners = group_codes(["" if pd.isna(name) else str(name) for name in predicted.rows["learner"]])
    if is_within and predicted.rows["learner"].notna().all():
        in_folds = pd.Series(predicted.fold_D).groupby(learners).nunique()
        if (in_folds > 1).any():
            yield Mismatch(place, f"{int((in_folds > 1).sum())} learners in two folds", "must be none")


def _compare_predictions(predicted: Predicted, features: pd.DataFrame, config: Config) -> Iterator[Mismatch]:
    """Fit again what reads no text."""
    from raysweep.classification.comparison import predict_across, predict_within  # scikit-learn, if there are any

    levels, models = config.data.levels, feature_models(features)
    texts = scored_rows(predicted.rows, levels)
    if predicted.way == WITHIN:
        found = predict_within(texts, predicted.fold_D, len(levels), models, config.seed, reads_texts=False)
    else:
        first = scored_rows(fit_rows(features), levels)
        (found,) = predict_across(first, [texts], len(levels), models, config.seed, reads_texts=False)
    for name, probabilities_DK in found.items():
        place = f"{_PREDICTIONS}: {predicted.corpus}, {predicted.way}, {name}"
        stated_DK = predicted.probabilities.get(name)
        if stated_DK is None:
            yield Mismatch(place, "nothing", "fitted again")
        elif (furthest := _distance(stated_DK, probabilities_DK)) > TOLERANCE:
            yield Mismatch(place, "other probabilities", f"fitted again, they differ by up to {furthest:.3g}")


def _distance(stated_DK: Floats, found_DK: Floats) -> float:
    return float(np.nan_to_num(np.abs(stated_DK - found_DK), nan=np.inf).max(initial=0.0))
