"""Measures how well levels are told from perplexities, from the classify stage's tables, without fitting again."""

import pandas as pd

from raysweep.classification.predictions import Predicted, feature_models, fit_rows, read_predictions
from raysweep.config.schema import Config
from raysweep.errors import InputError
from raysweep.evidence.classification_schema import (
    Classification,
    ClassifierScore,
    CorpusClassification,
    MetricEstimate,
    ModelAblation,
)
from raysweep.staging.run_command import run_command
from raysweep.storage.classification_files import ClassificationFolder
from raysweep.storage.run_folder import RunFolder


def describe_classification(folder: RunFolder, config: Config) -> Classification:
    """Return the metrics of every classifier on every corpus; raises InputError if the tables are unusable."""
    features, predictions = read_classification(folder)
    fitted = fit_rows(features)
    shares = fitted["level"].value_counts(normalize=True)
    try:
        corpora = [
            _describe(predicted, config, set(fitted["level"]))
            for predicted in read_predictions(features, predictions, config.data.levels)
        ]
    except ValueError as error:
        raise InputError(f"{ClassificationFolder.of(folder).predictions}: {error}") from error
    return Classification(
        levels=config.data.levels,
        models=feature_models(features),
        fitted_on=len(fitted),
        fitted_share={level: float(shares.get(level, 0.0)) for level in config.data.levels},
        corpora=tuple(corpora),
    )


def read_classification(folder: RunFolder) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read the features and the predictions; raises InputError if they do not exist."""
    files = ClassificationFolder.of(folder)
    for path in (files.features, files.predictions):
        if not path.exists():
            raise InputError(f"{path}: not there; do {run_command(folder, '--force', 'classify')} first")
    return pd.read_parquet(files.features), pd.read_parquet(files.predictions)


def _describe(predicted: Predicted, config: Config, fitted_levels: set[str]) -> CorpusClassification:
    judged = predicted.judge(
        config.data.levels,
        seed=config.seed,
        resamples=config.report.resamples,
        confidence=config.report.confidence,
    )
    rows, folds = predicted.rows, int(predicted.fold_D.max()) + 1
    absent = [level for level in config.data.levels if level not in fitted_levels] if not folds else []
    return CorpusClassification(
        corpus=predicted.corpus,
        way="within" if folds else "zero-shot",
        folds=folds,
        documents=len(rows),
        learners=int(rows["learner"].nunique()) or None,
        without_learner=int(rows["learner"].isna().sum()),
        unseen={level: int((rows["level"] == level).sum()) for level in absent},
        classifiers=tuple(
            ClassifierScore(
                classifier=name,
                is_baseline=row["is_baseline"],
                metrics={metric: MetricEstimate(**values) for metric, values in row["metrics"].items()},
                calibration_error=row["calibration_error"],
                brier=row["brier"],
                confusion=tuple(map(tuple, row["confusion"])),
            )
            for name, row in judged["classifiers"].items()
        ),
        without_model=tuple(
            ModelAblation(model=model, accuracy=MetricEstimate(**values))
            for model, values in judged["without_model"].items()
        ),
    )
