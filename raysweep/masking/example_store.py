"""Selects examples from a complete folder of shards and assembles them as batches.

The store holds tokens and spans instead of padded sequences, and no text: examples of any task are assembled
when a batch is requested.  An *example number* counts the examples of the store in the order of
documents.parquet; a *document* is a row of that file.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from raysweep.config.fingerprints import file_fingerprint
from raysweep.config.training_settings import GPT2_TOKENIZER
from raysweep.errors import InputError
from raysweep.masking.assembling import MaskedTokens, expand_runs, lay_out, measure
from raysweep.masking.shards import FIX, Array, Shard, read_manifest, read_shard
from raysweep.masking.tokenizer_folder import read_tokenizer
from raysweep.masking.vocabulary import Vocabulary, gpt2
from raysweep.storage.run_folder import ExamplesFolder

_BLOCK = 1 << 16
"""Number of examples whose lengths are computed at once."""
Examples = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """Examples as rows, padded on the right: B examples, T tokens in the longest of them."""

    ids_BT: npt.NDArray[np.int32]  # noqa: N815
    """Token ids; padding is 0."""
    types_BT: npt.NDArray[np.uint8]  # noqa: N815
    """`TargetType` of each position."""
    kinds_BT: npt.NDArray[np.uint8]  # noqa: N815
    """`Kind` of the span that a position of an answer or its end token belongs to; 255 elsewhere."""
    lengths_B: npt.NDArray[np.int32]  # noqa: N815
    """Number of tokens without padding."""


def store_vocabulary(folder: Path) -> Vocabulary:
    """Read the vocabulary of a complete folder; raises InputError if manifest or tokenizer is missing or damaged."""
    digest, place = read_manifest(folder).get("tokenizer"), ExamplesFolder(folder).tokenizer
    if digest is None:
        return gpt2()
    vocabulary, _ = read_tokenizer(place, str(place))
    if vocabulary.digest != digest:
        raise InputError(f"{place}: not the tokenizer that the examples were made with; do --force mask")
    return vocabulary


def run_vocabulary(folder: Path, tokenizer: str) -> Vocabulary:
    """Read a run's vocabulary as `store_vocabulary` does; for GPT-2's tokenizer its examples may be missing."""
    return gpt2() if tokenizer == GPT2_TOKENIZER else store_vocabulary(folder)


class ExampleStore:
    """A complete folder of examples.

    Tokens and spans are memory-mapped, so that processes share them.  The offsets of documents and examples are kept in
    memory: about 6 bytes per example and 18 per document.
    """

    def __init__(self, shards: Sequence[Shard], vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self._shards = [shard.arrays for shard in shards]
        self._max_tokens = int(shards[0].header["max_tokens"]) if shards else 1
        self._first_examples = _begins([len(arrays["span_counts"]) for arrays in self._shards])
        self._level_names, self._levels = _number_names(shards, "levels")
        self._split_names, self._splits = _number_names(shards, "splits")
        self._document_examples = np.append(self._concatenate_numbers("document_examples", slice(-1)), len(self))
        # Relative to the first token and span of the shard.
        self._document_tokens = self._concatenate("document_tokens", lambda begins: begins[:-1])
        self._token_counts = self._concatenate("document_tokens", np.diff)
        self._example_spans = self._concatenate(
            "span_counts", lambda counts: np.cumsum(counts, dtype=np.uint32) - counts
        )
        self._span_counts = self._concatenate("span_counts")
        # The last entry is not an example number; it ensures that a search always finds an entry.
        self._windows = np.append(self._concatenate_numbers("window_examples", slice(None)), len(self))
        self._window_starts, self._window_ends = self._concatenate("window_starts"), self._concatenate("window_ends")

    @classmethod
    def open(cls, folder: Path, *, verify: bool = True) -> "ExampleStore":
        """Map all shards of a complete folder.

        Args:
            verify: read every shard and compare its checksum (a second per gigabyte).

        Raises:
            InputError: the manifest or a shard is missing, damaged, or of another version.
        """
        shards = []
        for summary in read_manifest(folder)["shards"]:
            path = ExamplesFolder(folder).shard(summary["shard"])
            shards.append(read_shard(path))
            if verify and file_fingerprint(path) != summary["checksum"]:
                raise InputError(f"{path}: damaged, its checksum is not the manifest's; {FIX}")
        return cls(shards, store_vocabulary(folder))

    def __len__(self) -> int:
        """Return the number of examples."""
        return int(self._first_examples[-1])

    def select(
        self,
        levels: Collection[str],
        split: str,
        *,
        examples_per_document: int | None = None,
        documents_per_level: int | None = None,
    ) -> Examples:
        """Select the examples of some levels in one split, in ascending order.

        Args:
            examples_per_document: take only the first examples of each document; all if None.
            documents_per_level: take only so many documents of each level, chosen by their seeds; all if None.
        """
        chosen = np.isin(self._levels, [code for code, name in enumerate(self._level_names) if name in levels])
        chosen &= np.isin(self._splits, [code for code, name in enumerate(self._split_names) if name == split])
        if documents_per_level is not None:
            chosen &= self._are_first_by_seed(chosen, documents_per_level)
        counts = np.diff(self._document_examples)[chosen]
        if examples_per_document is not None:
            counts = np.minimum(counts, examples_per_document)
        return expand_runs(self._document_examples[:-1][chosen], counts)

    def lengths(self, examples: Examples, task: str = "ilm") -> npt.NDArray[np.int32]:
        """Compute the number of tokens of each example, at most the `max_tokens` of its policy."""
        lengths = np.empty(len(examples), dtype=np.int32)
        for start in range(0, len(examples), _BLOCK):
            block = self._check_numbers(examples[start : start + _BLOCK])
            first, last = self._windows_of(block, self.documents_of(block))
            answers = self._answer_tokens[block] if task in {"lm_all", "no_context_ilm"} else 0
            full = measure(task, last - first, self._span_counts[block].astype(np.int64), answers)
            lengths[start : start + len(block)] = np.minimum(full, self._max_tokens)
        return lengths

    def documents_of(self, examples: Examples) -> npt.NDArray[np.int64]:
        """Find the document of each example, as a row in documents.parquet."""
        # A document without examples has the same first example as the next one, so the last of them is the owner.
        return np.asarray(np.searchsorted(self._document_examples, examples, side="right") - 1, dtype=np.int64)

    def levels_of(self, documents: npt.NDArray[np.int64]) -> npt.NDArray[np.str_]:
        """Return the level of each document."""
        return np.array(self._level_names, dtype=np.str_)[self._levels[documents]]

    def assemble(self, examples: Examples, *, task: str = "ilm", pad_multiple: int = 1) -> Batch:
        """Assemble the examples as a batch, in the given order.

        Args:
            task: "ilm", "lm", "reverse_lm", "lm_all" or "no_context_ilm".
            pad_multiple: rows have the length of the longest example, rounded up to a multiple of this.
        """
        numbers = self._check_numbers(examples)
        documents_B = self.documents_of(numbers)
        first_B, last_B = self._windows_of(numbers, documents_B)
        token_counts_B, span_counts_B = last_B - first_B, self._span_counts[numbers].astype(np.int64)
        shards = np.searchsorted(self._first_examples, numbers, side="right") - 1
        spans = (shards, self._example_spans[numbers].astype(np.int64), span_counts_B)
        begins_B = np.cumsum(token_counts_B) - token_counts_B
        source = MaskedTokens(
            vocabulary=self.vocabulary,
            tokens_N=self._gather("tokens", shards, self._document_tokens[documents_B] + first_B, token_counts_B),
            token_counts_B=token_counts_B,
            span_counts_B=span_counts_B,
            span_starts_S=self._gather("span_starts", *spans) + np.repeat(begins_B - first_B, span_counts_B),
            span_lengths_S=self._gather("span_lengths", *spans).astype(np.int64),
            span_kinds_S=self._gather("span_kinds", *spans),
        )
        ids_BT, types_BT, kinds_BT, lengths_B = lay_out(
            source, task, max_tokens=self._max_tokens, pad_multiple=pad_multiple
        )
        return Batch(ids_BT=ids_BT, types_BT=types_BT, kinds_BT=kinds_BT, lengths_B=lengths_B)

    def _check_numbers(self, examples: Examples) -> Examples:
        """Check the numbers and convert them to an array; a negative number would count from the end."""
        numbers = np.asarray(examples, dtype=np.int64)
        if len(numbers) and not 0 <= int(numbers.min()) <= int(numbers.max()) < len(self):
            raise IndexError(f"example numbers must be from 0 to {len(self) - 1}")
        return numbers

    def _windows_of(self, examples: Examples, documents: npt.NDArray[np.int64]) -> tuple[Examples, Examples]:
        """Return the first token and the end of the part of its document that each example uses."""
        first, last = np.zeros(len(examples), dtype=np.int64), self._token_counts[documents].astype(np.int64)
        window = np.searchsorted(self._windows, examples)
        is_part = self._windows[window] == examples
        if is_part.any():
            first[is_part] = self._window_starts[window[is_part]]
            last[is_part] = self._window_ends[window[is_part]]
        return first, last

    @cached_property
    def _answer_tokens(self) -> npt.NDArray[np.uint32]:
        """The number of tokens under the blanks of each example."""
        parts = []
        for arrays in self._shards:
            totals = _begins(arrays["span_lengths"])
            ends = np.cumsum(arrays["span_counts"], dtype=np.int64)
            parts.append((totals[ends] - totals[ends - arrays["span_counts"]]).astype(np.uint32))
        return np.concatenate([*parts, np.zeros(0, dtype=np.uint32)])

    def _gather(self, field: str, shards: Array, begins: Array, counts: Array) -> Array:
        """Concatenate a run of a field for each example; the runs are views until they are concatenated."""
        arrays = [arrays[field] for arrays in self._shards]
        runs = zip(shards.tolist(), begins.tolist(), (begins + counts).tolist(), strict=True)
        return np.concatenate([np.zeros(0, dtype=np.uint8), *(arrays[shard][begin:end] for shard, begin, end in runs)])

    def _concatenate(self, field: str, change: Callable[[Array], Array] = np.asarray) -> Array:
        """Concatenate a field of all shards, after applying `change` to each."""
        return np.concatenate([np.zeros(0, dtype=np.uint8), *(change(arrays[field]) for arrays in self._shards)])

    def _concatenate_numbers(self, field: str, part: slice) -> Examples:
        """Concatenate a field of example numbers of all shards, counted from the store's first example."""
        shards = zip(self._shards, self._first_examples.tolist(), strict=False)
        parts = [arrays[field][part].astype(np.int64) + first for arrays, first in shards]
        return np.concatenate([np.zeros(0, dtype=np.int64), *parts])

    def _are_first_by_seed(self, chosen: npt.NDArray[np.bool_], per_level: int) -> npt.NDArray[np.bool_]:
        """Select the documents with the smallest seeds among the chosen ones of each level: random but reproducible."""
        seeds = self._concatenate("seeds")
        kept = np.zeros(len(chosen), dtype=np.bool_)
        for level in np.unique(self._levels[chosen]):
            rows = np.flatnonzero(chosen & (self._levels == level))
            kept[rows[np.argsort(seeds[rows], kind="stable")[:per_level]]] = True
        return kept


def _begins(counts: Sequence[int] | Array) -> Examples:
    """Return the start of each of several consecutive runs, and the end of the last one."""
    return np.concatenate(([0], np.cumsum(counts, dtype=np.int64)))


def _number_names(shards: Sequence[Shard], field: str) -> tuple[list[str], npt.NDArray[np.uint8]]:
    """Return the distinct names of all shards, and the name of each document as an index into them."""
    names = sorted({name for shard in shards for name in shard.header[field]})
    parts = [
        np.array([names.index(name) for name in shard.header[field]], dtype=np.uint8)[shard.arrays[field]]
        for shard in shards
    ]
    return names, np.concatenate([*parts, np.zeros(0, dtype=np.uint8)])
