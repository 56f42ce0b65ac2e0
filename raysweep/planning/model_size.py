"""Computes the size of the model that trials start from, without loading torch or the model."""

from dataclasses import dataclass

from raysweep.config.schema import Config
from raysweep.config.training_settings import (
    CORPUS_TOKENIZER,
    GPT2_TOKENIZER,
    SCRATCH,
    SIZES,
    START_TOKENIZER,
    ModelSize,
)
from raysweep.errors import DamagedError, EarlierVersionError
from raysweep.masking.vocabulary_size import GPT2_IDS, corpus_vocabulary_size, recorded_size
from raysweep.readers.locations import local_files
from raysweep.storage.digests import read_sealed
from raysweep.storage.run_folder import ExamplesFolder, RunFolder

_SAMPLE_BYTES = 440
"""Average number of bytes in a generated document's text."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelShape:
    """The dimensions that rates and memory depend on."""

    layers: int
    width: int
    positions: int
    vocabulary: int
    """Rows of the token embedding."""

    @property
    def parameters(self) -> int:
        """Number of parameters in the embeddings and the layers' matrices, without biases and norms."""
        return (self.vocabulary + self.positions) * self.width + self.layers * 12 * self.width * self.width


def model_shape(config: Config, folder: RunFolder | None = None) -> ModelShape:
    """Return the shape of the start; raises InputError if its folder holds no model, or one unfit for the config."""
    start, size = config.model.start, config.model.size
    vocabulary, positions = vocabulary_size(config, folder), config.masking.max_tokens
    if start != SCRATCH:
        # Imported here: a plan from scratch needs neither numpy nor the tokenizer, a third of its time.
        from raysweep.model.start_folder import local_folder, place_of, read_start, refuse_long_examples

        if local := local_folder(start):
            start_model = read_start(local, place_of(start), vocabulary=None)
            refuse_long_examples(start_model, config.masking.max_tokens)
            shape = start_model.config
            return ModelShape(layers=shape.n_layer, width=shape.n_embd, positions=positions, vocabulary=vocabulary)
        size = size_of_hub_model(start)
    layers, width, _ = SIZES[size]
    return ModelShape(layers=layers, width=width, positions=positions, vocabulary=vocabulary)


def vocabulary_size(config: Config, folder: RunFolder | None = None) -> int:
    """Return the size of the run's vocabulary: of its examples, its tokenizer, or estimated from its corpus.

    Raises:
        InputError: the tokenizer cannot be used.
    """
    model = config.model
    if model.tokenizer == GPT2_TOKENIZER:
        return GPT2_IDS
    if model.tokenizer == CORPUS_TOKENIZER:
        recorded = recorded_size(ExamplesFolder(folder.examples).tokenizer) if folder else None
        if folder and recorded is not None and _was_trained_on_corpus(folder):
            return recorded
        return corpus_vocabulary_size(round(_text_bytes(config, folder) * config.data.split.train))
    from raysweep.model.start_folder import cached_snapshot, local_folder, place_of, read_start
    from raysweep.model.start_tokenizer import named_vocabulary

    if model.tokenizer == START_TOKENIZER:
        local = local_folder(model.start) or cached_snapshot(model.start)
        return GPT2_IDS if local is None else read_start(local, place_of(model.start), vocabulary=None).vocabulary.size
    vocabulary = named_vocabulary(model.tokenizer)
    assert vocabulary is not None
    return vocabulary.size


def _was_trained_on_corpus(folder: RunFolder) -> bool:
    """Return whether the tokenizer of the run's examples is of the kind that the config requests now."""
    try:
        mask = read_sealed(folder.record, fix="")["stages"].get("mask", {}) if folder.record.exists() else {}
    except (DamagedError, EarlierVersionError):
        return False  # a run refuses the damaged file and names it; a forecast works without it
    return bool(mask) and mask["identity"].get("tokenizer") == CORPUS_TOKENIZER


def _text_bytes(config: Config, folder: RunFolder | None) -> float:
    """Return the UTF-8 bytes of the corpus's text: as prepared, or estimated from its files or the generated sample."""
    if folder and folder.documents.exists():
        import pyarrow as pa
        import pyarrow.compute as pc
        import pyarrow.parquet as pq

        try:
            with pq.ParquetFile(folder.documents) as file:
                texts = (batch["text"] for batch in file.iter_batches(columns=["text"]))
                size = sum(pc.sum(pc.binary_length(text)).as_py() or 0 for text in texts)
        except (pa.ArrowException, OSError):
            size = 0  # a run refuses the damaged file and names it; a forecast works without it
        if size:
            return float(size)
    if config.data.path is None:
        return float(config.data.sample.rows * _SAMPLE_BYTES)
    return float(sum(file.stat().st_size for file in local_files(config.data.path)))


def size_of_hub_model(name: str) -> ModelSize:
    """Return the size contained in a hub model's name, such as 'gpt2-medium'; GPT-2 base if it contains none."""
    sizes: list[ModelSize] = [size for size in SIZES if "gpt2" in size and size in name]
    return max(sizes, key=len, default="gpt2")
