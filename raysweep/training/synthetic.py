"""Synthetic examples with the lengths, blanks and answers of EFCAMDAT's, for timing."""

import numpy as np
import numpy.typing as npt

from raysweep.masking.example_store import Batch
from raysweep.masking.vocabulary import END_OF_INFILL, FIRST_BLANK, GPT2_SIZE, START_OF_INFILL, Kind, TargetType
from raysweep.seeding import generator_for
from raysweep.training.batches import Examples

MEAN_TOKENS, SPREAD, SHORTEST = 75.0, 0.45, 12
"""Parameters of a log-normal distribution; EFCAMDAT's examples have 75 tokens on average."""
ANSWER_SHARE = 0.15
"""Share of a document's tokens that answers take."""


class SyntheticExamples:
    """`count` examples, a function of the seed, as an `ExampleSource`."""

    def __init__(self, count: int, *, max_tokens: int = 256, seed: int = 0) -> None:
        """Args: `max_tokens` bounds an example's length."""
        lengths = generator_for(seed, "lengths").lognormal(np.log(MEAN_TOKENS) - SPREAD**2 / 2, SPREAD, size=count)
        self._lengths = np.clip(lengths, SHORTEST, max_tokens).astype(np.int32)
        self._seed = seed

    @property
    def count(self) -> int:
        """Number of examples."""
        return len(self._lengths)

    def lengths(self, examples: Examples, task: str = "ilm") -> npt.NDArray[np.int32]:
        """Tokens of each example; the task makes no difference."""
        assert task == "ilm"
        return self._lengths[examples]

    def assemble(self, examples: Examples, *, task: str = "ilm", pad_multiple: int = 1) -> Batch:
        """Padded rows: text with two blanks, the start token, and two answers."""
        lengths_B = self.lengths(examples, task)
        columns = -(-int(lengths_B.max()) // pad_multiple) * pad_multiple
        ids_BT = np.zeros((len(examples), columns), dtype=np.int32)
        types_BT = np.zeros((len(examples), columns), dtype=np.uint8)
        for row, (example, length) in enumerate(zip(examples, lengths_B, strict=True)):
            ids_BT[row, :length], types_BT[row, :length] = self._example(int(example), int(length))
        return Batch(
            ids_BT=ids_BT,
            types_BT=types_BT,
            kinds_BT=np.zeros_like(types_BT),
            lengths_B=lengths_B,
            documents_B=np.asarray(examples, dtype=np.int64),
        )

    def _example(self, example: int, length: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.uint8]]:
        answers = max(4, int(ANSWER_SHARE * length))
        context = length - answers - 1
        ids = generator_for(self._seed, "ids", example).integers(0, GPT2_SIZE, size=length, dtype=np.int32)
        types = np.full(length, TargetType.CONTEXT, dtype=np.uint8)
        blanks, ends = [context // 3, 2 * context // 3], [context + 1 + answers // 2, length - 1]
        types[context + 1 :] = TargetType.INFILL
        ids[blanks], types[blanks] = FIRST_BLANK + Kind.WORD, TargetType.CONTEXT_SPECIAL
        ids[context], types[context] = START_OF_INFILL, TargetType.START
        ids[ends], types[ends] = END_OF_INFILL, TargetType.INFILL_SPECIAL
        return ids, types
