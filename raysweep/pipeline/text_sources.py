"""The corpora whose texts the classify stage scores: the run's own valid and test documents, and further corpora."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from raysweep.classification.classifier_names import OWN
from raysweep.classification.predictions import FIT, TEST
from raysweep.classification.scored_texts import loss_columns, measure_lengths
from raysweep.config.schema import Config
from raysweep.config.scored_metrics import METRIC_PARTS
from raysweep.masking.example_store import ExampleStore
from raysweep.pipeline.identities import FURTHER_CORPUS, documents_digest, examples_digest
from raysweep.pipeline.run_record import StageRecord
from raysweep.statistics.loss_table import Ints
from raysweep.storage.digests import combine_digests, read_sealed
from raysweep.storage.run_folder import RunFolder

_INFILL_PARTS = METRIC_PARTS["infill"]


@dataclass(frozen=True, kw_only=True, slots=True)
class TextSource:
    """A corpus whose documents are classified."""

    name: str
    documents: Path
    """A table with the columns `writing_id`, `level`, `split`, `learner` and `text`; documents are numbered by row."""
    splits: tuple[str, ...]
    made_from: Mapping[str, str] = field(default_factory=dict)
    """Digests of everything that its texts and masks are made from, by name."""
    examples: Path | None = None
    """The documents' example store; if given, the documents that the evaluate stage chooses are used."""
    losses: Path | None = None
    """A table of losses as the evaluate stage writes it."""
    scored_splits: tuple[str, ...] = ()
    """Splits whose losses on answers are in that table, so that they are not scored again."""

    def read(self, config: Config) -> list[pa.Table]:
        """Read the documents to classify, one table per split, each in order and with `document` numbers."""
        table = pq.read_table(self.documents, page_checksum_verification=True)
        if "document" not in table.column_names:
            table = table.append_column("document", pa.array(range(table.num_rows), pa.int64()))
        table = table.filter(pc.is_in(table["level"], pa.array(config.data.levels)))
        table = table.filter(pc.is_in(table["document"], pa.array(self._chosen(config, table))))
        return [table.filter(pc.equal(table["split"], split)) for split in self.splits]

    def read_infills(self, models: list[str]) -> pd.DataFrame:
        """Read the known losses of answers: a row per document and model, with `nats` and `tokens`."""
        if self.losses is None:
            return pd.DataFrame({"document": [], "model": [], "nats": [], "tokens": []})
        wanted = pc.field("part").isin(_INFILL_PARTS) & pc.field("model").isin(models)
        columns = ["document", "model", "nats", "tokens"]
        table = pq.read_table(self.losses, columns=columns, filters=wanted, page_checksum_verification=True)
        known: pd.DataFrame = table.to_pandas()
        return known.groupby(["document", "model"], as_index=False).sum()

    def _chosen(self, config: Config, table: pa.Table) -> Ints:
        if self.examples is None:
            return np.asarray(table["document"].to_numpy(), dtype=np.int64)
        store, evaluation = ExampleStore.open(self.examples), config.evaluation
        chosen = [
            store.select(
                config.data.levels,
                split,
                examples_per_document=1,
                documents_per_level=evaluation.documents_per_level,
            )
            for split in self.splits
        ]
        return np.unique(store.documents_of(np.concatenate(chosen)))


def text_sources(config: Config, folder: RunFolder, done: Mapping[str, StageRecord]) -> list[TextSource]:
    """List the run's own documents, then each corpus of `corpora`, all scored by the evaluate stage."""
    assert config.classification is not None
    digests = {"documents": documents_digest(done), "examples": examples_digest(done)}
    own = [
        TextSource(
            name=OWN,
            documents=folder.documents,
            splits=(FIT, TEST),
            made_from=digests,
            examples=folder.examples,
            losses=folder.losses,
            scored_splits=(TEST,),
        )
    ]
    further = {name: folder.further(name) for name in config.corpora}
    return own + [
        TextSource(
            name=name,
            documents=place.documents,
            splits=(TEST,),
            made_from=_made_from(place),
            examples=place.examples,
            losses=place.losses,
            scored_splits=(TEST,),
        )
        for name, place in further.items()
    ]


def feature_rows(source: TextSource, documents: pa.Table, scores: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Make a row per document: its known properties, its length, and its losses under every model.

    Args:
        documents: the documents of all splits.
        scores: by model, a row per document: nats and tokens of the whole text and of the answers; the latter are 0
            if the source knows them.
    """
    first, *_ = scores
    lengths_D2 = measure_lengths(documents["text"].to_pylist())
    facts: pd.DataFrame = documents.select(["document", "split", "level", "learner"]).to_pandas()
    facts = facts.assign(
        corpus=source.name, characters=lengths_D2[:, 0], words=lengths_D2[:, 1], tokens=scores[first]["tokens"]
    )
    known = source.read_infills(list(scores))
    answers = {model: _answers(facts["document"], scores[model], known[known["model"] == model]) for model in scores}
    columns = {"infill_tokens": answers[first]["tokens"].astype("int64")}
    for model, of_model in scores.items():
        assert len(of_model) == documents.num_rows, f"{source.name}: {model} has a score for each document, by position"
        text_column, infill_column = loss_columns(model)
        columns |= {text_column: of_model["nats"], infill_column: answers[model]["nats"]}
    return pd.concat([facts, pd.DataFrame(columns)], axis=1)


def _made_from(place: RunFolder) -> dict[str, str]:
    """Return the digest of a further corpus's documents and examples; {} if they are not made."""
    if not place.further_record.exists():
        return {}
    outputs = read_sealed(place.further_record, fix=f"make it again with --force {place.name}")["outputs"]
    return {"corpus": combine_digests(outputs, FURTHER_CORPUS)}


def _answers(documents: pd.Series, scored: pd.DataFrame, known: pd.DataFrame) -> pd.DataFrame:
    """Return nats and tokens of the answers, taken from the source where it knows them."""
    before = known.set_index("document").reindex(documents)
    is_known = before["tokens"].notna().to_numpy()
    return pd.DataFrame(
        {
            name: np.where(is_known, before[name].to_numpy(), scored[f"infill_{name}"].to_numpy())
            for name in ("nats", "tokens")
        }
    )
