"""Section on classifiers that tell levels from perplexities, beside baselines; empty if not configured."""

from collections.abc import Callable, Iterator

from raysweep.classification.classifier_names import LOGISTIC, OWN
from raysweep.evidence import formats
from raysweep.evidence.classification_schema import (
    Classification,
    ClassifierScore,
    CorpusClassification,
    MetricEstimate,
    ModelAblation,
)
from raysweep.evidence.evidence_schema import Evidence
from raysweep.report.labels import resampling_said
from raysweep.report.layout import Block, Folded, ReportSection, folded_if_long, paragraph
from raysweep.report.tables import Cell, Column, Table, estimates, numbers, words

NAMES = {
    LOGISTIC: "perplexities, logistic regression",
    "ordinal": "perplexities, ordinal thresholds",
    "boosting": "perplexities, gradient boosting",
    "majority": "most frequent level",
    "length": "length",
    "words": "TF-IDF of words",
    "characters": "TF-IDF of characters",
    "native": "perplexity of the start",
}
_BASELINE = "baseline: "
_Row = tuple[CorpusClassification, ClassifierScore]
_True = tuple[CorpusClassification, str, tuple[int, ...]]
_Lost = tuple[CorpusClassification, ModelAblation]


def classification_section(evidence: Evidence) -> ReportSection:
    """Compare every classifier on every corpus, with the predicted levels and what each model contributes."""
    classification = evidence.classification
    blocks: list[Block] = []
    if classification is not None:
        blocks = [
            paragraph(
                "Texts are classified by their perplexities under the models {}: of the whole text, and of the answers "
                "to its masks. <em>Zero-shot</em> classifiers were fitted on the {} valid documents alone; "
                "<em>within</em> a corpus, each text is classified by a classifier fitted on the other folds, which "
                "hold no text of the same learner where learners are known. Baselines are fitted and tested on the "
                "same texts as the classifiers beside them. One corpus tells little about another, whose prompts and "
                "writers differ.",
                ", ".join(classification.models),
                formats.count(classification.fitted_on),
            ),
            *(paragraph("{}", sentence) for corpus in classification.corpora for sentence in _sentences(corpus)),
            folded_if_long("Every classifier, as a table", _classifiers(classification)),
            Folded("Predicted levels, by true level", _confusion(classification)),
            Folded("What each model adds", _ablation(classification)),
        ]
    return ReportSection("classification", "Levels told from perplexities", blocks)


def _sentences(corpus: CorpusClassification) -> Iterator[str]:
    """Compare the logistic regression with the baseline that is right most often."""
    rows = {row.classifier: row for row in corpus.classifiers}
    baselines = [row for row in corpus.classifiers if row.is_baseline]
    best = max(baselines, key=lambda row: row.metrics["accuracy"].value or 0.0)
    own, other = (_share(row.metrics["accuracy"]) for row in (rows[LOGISTIC], best))
    yield (
        f"{_where(corpus)}: perplexities find the level of {own} of {formats.count(corpus.documents)} texts; the best "
        f"baseline ({NAMES[best.classifier]}) of {other}. {resampling_said(corpus.documents, corpus.without_learner)}"
    )
    if unseen := {level: count for level, count in corpus.unseen.items() if count}:
        shown = ", ".join(f"{formats.count(count)} {level}" for level, count in unseen.items())
        yield f"The documents fitted on have no text of some levels, whose texts count as wrong: {shown}."


def _where(corpus: CorpusClassification) -> str:
    name = "Test documents" if corpus.corpus == OWN else corpus.corpus
    return f"{name}, within ({corpus.folds} folds)" if corpus.folds else f"{name}, zero-shot"


def _share(estimate: MetricEstimate) -> str:
    if estimate.low is None or estimate.high is None:
        return formats.share(estimate.value)
    return f"{formats.share(estimate.value)} ({formats.share(estimate.low)} to {formats.share(estimate.high)})"


def _classifiers(classification: Classification) -> Table[_Row]:
    def metric(title: str, name: str, show: Callable[[float | None], str]) -> Column[_Row]:
        return estimates(title, name, show, lambda row: row[1].metrics[name])

    return Table[_Row](
        "classification",
        "Levels told by classifiers. Within one level: a neighbouring level counts as right. Macro F1: mean over the "
        "levels. QWK: Cohen's kappa with quadratic weights. RMSE: in levels. Calibration error: how far the stated "
        "probabilities are from the shares that are right. Brier score: their mean squared error",
        [(corpus, row) for corpus in classification.corpora for row in corpus.classifiers],
        words("Texts", "corpus", lambda row: _where(row[0])),
        words("Classifier", "classifier", lambda row: _BASELINE * row[1].is_baseline + NAMES[row[1].classifier]),
        metric("Accuracy", "accuracy", formats.share),
        metric("Within one level", "adjacent_accuracy", formats.share),
        metric("Macro F1", "macro_f1", formats.loss),
        metric("QWK", "qwk", formats.signed),
        metric("RMSE", "rmse", formats.loss),
        numbers("Calibration error", "calibration_error", formats.loss, lambda row: row[1].calibration_error),
        numbers("Brier score", "brier", formats.loss, lambda row: row[1].brier),
    )


def _confusion(classification: Classification) -> Table[_True]:
    def predicted(place: int, level: str) -> Column[_True]:
        def cell(row: _True) -> Cell:
            count = row[2][place]
            mark = "best" if level == row[1] and count else ""
            return Cell(text=formats.count(count), values=(count,), mark=mark)

        return Column(f"Predicted {level}", (f"found_{level}",), cell)

    return Table[_True](
        "classification_confusion",
        "Texts of each level (row) by the level that the logistic regression on perplexities predicts (column); "
        "correct ones are bold",
        [
            (corpus, level, counts)
            for corpus in classification.corpora
            for row in corpus.classifiers
            if row.classifier == LOGISTIC
            for level, counts in zip(classification.levels, row.confusion, strict=True)
        ],
        words("Texts", "corpus", lambda row: _where(row[0])),
        words("True level", "level", lambda row: row[1]),
        *(predicted(place, level) for place, level in enumerate(classification.levels)),
    )


def _ablation(classification: Classification) -> Table[_Lost]:
    return Table[_Lost](
        "classification_ablation",
        "Accuracy that the logistic regression loses without a model's perplexities, in percentage points",
        [(corpus, lost) for corpus in classification.corpora for lost in corpus.without_model],
        words("Texts", "corpus", lambda row: _where(row[0])),
        words("Without model", "model", lambda row: row[1].model),
        estimates("Accuracy lost", "accuracy_lost", formats.points, lambda row: row[1].accuracy),
    )
