"""The paths of the classify stage in a run folder.

classification/scores/<corpus>/<model>/00000.parquet    scores of a part of a corpus's texts
classification/scores/<corpus>/<model>.json             their record, written last
classification/features.parquet  predictions.parquet  classifier.skops
"""

from dataclasses import dataclass
from pathlib import Path

from raysweep.storage.run_folder import Below, RunFolder


@dataclass(frozen=True)
class ClassificationFolder:
    """The files of the classify stage."""

    root: Path

    all_scores = Below("scores")
    working = Below(".texts.part")
    """Folder of the texts; its name marks it as a leftover, so that it is neither uploaded nor kept."""
    features = Below("features.parquet")
    """Every document's level, learner, length and losses under every model; no text."""
    predictions = Below("predictions.parquet")
    """The probability of each level for each document, by classifier."""
    classifier = Below("classifier.skops")
    """The logistic regression fitted on the valid documents."""

    @classmethod
    def of(cls, run: RunFolder) -> "ClassificationFolder":
        """Return the folder of a run's classify stage."""
        return cls(run.root / "classification")

    def scores(self, corpus: str, model: str) -> Path:
        """Folder of a model's scores of a corpus."""
        return self.all_scores / corpus / model

    def part(self, corpus: str, model: str, number: int) -> Path:
        """Scores of one part of a corpus's texts."""
        return self.scores(corpus, model) / f"{number:05d}.parquet"

    def begun(self, corpus: str, model: str) -> Path:
        """Fingerprint of the work that the current parts belong to; written before the first part."""
        return self.scores(corpus, model) / "begun"

    def scores_record(self, corpus: str, model: str) -> Path:
        return self.all_scores / corpus / f"{model}.json"

    def texts(self, corpus: str, number: int) -> Path:
        """Return the path of a part of the texts that is being scored; it is not an output."""
        return self.working / f"{corpus}-{number:05d}.parquet"

    @property
    def outputs(self) -> list[Path]:
        """The stage's own output files, as run.json lists them."""
        return [self.features, self.predictions, self.classifier]
