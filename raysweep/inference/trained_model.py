"""A trained model that fills blanks and scores texts.

Its weights are read, and torch is imported, when they are first needed.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from raysweep.errors import InputError, TrainingError
from raysweep.evaluation.answer_words import Constraints
from raysweep.inference.scoring_rules import ScoringRules
from raysweep.inference.text_tables import document_table, read_texts, token_table
from raysweep.storage.printable import shown

if TYPE_CHECKING:
    from raysweep.evaluation.infilling import Infilling
    from raysweep.inference.text_scores import TextScores


@dataclass(frozen=True, kw_only=True)
class TrainedModel:
    """A named model; get it from `raysweep.load(run)[trial]` or `raysweep.load_model(folder)`."""

    name: str
    rules: ScoringRules = field(repr=False)
    """The settings for masking and scoring texts; for a model of a run, those of its evaluate stage."""
    load: Callable[[], Any] = field(repr=False)
    """Reads the weights, after comparing them with the digests in the record."""

    def infill(
        self,
        text: str,
        n: int = 1,
        *,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = 0.95,
        seed: int = 0,
        max_answer_tokens: int | None = None,
        first_word: str | None = None,
        min_words: int = 0,
        max_words: int | None = None,
        forbidden: Sequence[str] = (),
    ) -> "list[Infilling]":
        r"""Fill a text's blanks, such as `[word]` or `[sentence]`, n times; see `raysweep infill --help`.

        Each filling has `text`, `finished` and `answers`; an answer has `text`, `start`, `stop`, `probability` and
        `finished`.  Filling i depends only on the text, the seed and i.

        Args:
            temperature: with 0 the most likely token is chosen, so all fillings are the same.
            top_k, top_p: draw from the k most likely tokens, or from the most likely ones with this total probability.
            max_answer_tokens: limit of an answer in tokens; it depends on the kind of blank if absent.
            first_word: the word that every answer begins with.
            min_words, max_words: bounds of the number of words of every answer; an answer cut at its limit may have
                fewer.
            forbidden: words that no answer contains; see `answer_words.Constraints`.

        Raises:
            InputError: the text has no blank or is longer than the model's positions, or a setting is out of bounds.
            DamagedError: a file of the model is missing or was changed.
        """
        from raysweep.evaluation.infilling import infill

        if n < 1:
            raise InputError(f"n: found {n}; must be at least 1")
        if not self.can_infill:
            raise InputError(
                f"model '{self.name}': has no tokens for blanks, so it can only score; load one that raysweep trained"
            )
        if isinstance(forbidden, str):
            raise InputError(f"forbidden: found {shown(forbidden)}; must be a list of words")
        return infill(
            self.network,
            text,
            samples=n,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            seed=seed,
            max_answer_tokens=max_answer_tokens,
            constraints=Constraints(
                first_word=first_word, min_words=min_words, max_words=max_words, forbidden=tuple(forbidden)
            ),
        )

    def score(
        self, texts: str | Iterable[str], *, ids: Sequence[str] | None = None, per_token: bool = False
    ) -> pd.DataFrame:
        """Score texts: measure how surprising they are to this model.

        The table has a row per text, in order, with its number as `text`.  `nats`, `tokens` and `bytes` are sums over
        the whole text read from left to right, without its first token, which is not predicted; `infill_nats`,
        `infill_tokens` and `infill_bytes` are sums over the answers to its masks, including their ends.  Add up
        first and then divide: perplexity = exp(nats / tokens), bits per byte = nats / ln 2 / bytes.

        Args:
            ids: names of the texts, which determine their masks.  With the `writing_id` of a test document
                the masks are those of the run's evaluation.  Without ids, equal texts have equal masks.
            per_token: return a row per token instead, with the columns `text`, `token` (its number in the text),
                `start` and `stop` (its range of characters), `piece` and `nats` (NaN for the first token of a text).

        Raises:
            InputError: a text is not a string, or cannot be encoded in UTF-8; or the numbers of ids and texts differ.
            DamagedError: a file of the model is missing or was changed.
            TrainingError: a loss is not finite, because the model's training diverged.
        """
        checked = read_texts(texts, ids)
        if per_token:
            from raysweep.model.gpt2 import vocabulary_of

            return token_table(
                checked.texts, self.score_texts(checked.texts, checked.ids, infills=False), vocabulary_of(self.network)
            )
        return document_table(self.score_texts(checked.texts, checked.ids))

    def score_texts(self, texts: Sequence[str], ids: Sequence[str], *, infills: bool = True) -> "TextScores":
        """Score checked texts; returns arrays.  With `infills=False` the answers to masks are not scored."""
        from raysweep.inference.text_scores import score_texts

        scores = score_texts(self.network, texts, ids, self.rules, infills=infills and self.can_infill)
        if not (np.isfinite(scores.nats) & np.isfinite(scores.infill_nats)).all():
            raise TrainingError(f"model '{self.name}': found a loss that is not a finite number; its training diverged")
        return scores

    @cached_property
    def network(self) -> Any:
        """The `GPT2LMHeadModel` in evaluation mode; read from disk the first time."""
        return self.load()

    @property
    def can_infill(self) -> bool:
        """Whether the model has the infilling tokens."""
        from raysweep.model.gpt2 import has_infilling_tokens

        return has_infilling_tokens(self.network)
