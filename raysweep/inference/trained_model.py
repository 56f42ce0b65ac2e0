"""One trained model: it fills blanks and scores texts.

Its weights are read when something first needs them, and torch is imported with them.
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
    """A model by name.  Get it from `raysweep.load(run)[trial]` or `raysweep.load_model(folder)`."""

    name: str
    rules: ScoringRules = field(repr=False)
    """How texts are masked and scored; of a run, as its evaluate stage did."""
    load: Callable[[], Any] = field(repr=False)
    """Reads the weights, after comparing them with what the record says."""

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

        Filling i depends on the text, the seed and i alone.

        Args:
            temperature: with 0 the likeliest token is taken, so all fillings are the same.
            top_k, top_p: draw from the k likeliest tokens, or from the likeliest with this much probability.
            max_answer_tokens: tokens in the longest answer; by kind of blank if absent.
            first_word: with which every answer begins.
            min_words, max_words: in every answer; one that its limit cuts may have fewer.
            forbidden: words that no answer has; see `answer_words.Constraints`.

        Raises:
            InputError: the text has no blank or is longer than the model's positions, or a setting is out of bounds.
            DamagedError: the model's files are not as they were made.
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
        """Score texts: how surprising they are to this model.

        A row per text, in order, with its number as `text`.  `nats`, `tokens` and `bytes` are sums over the whole
        text read from left to right, without its first token, which nothing predicts; `infill_nats`,
        `infill_tokens` and `infill_bytes` are sums over the answers to its masks, their ends included.  Add up
        first and divide then: perplexity = exp(nats / tokens), bits per byte = nats / ln 2 / bytes.

        Args:
            ids: names of the texts, which decide where the masks lie.  With the `writing_id` of a test document
                the masks are those of the run's evaluation.  Without ids, equal texts have equal masks.
            per_token: a row per token instead, with the columns `text`, `token` (its number in the text), `start`
                and `stop` (its characters), `piece` and `nats` (NaN for a text's first token).

        Raises:
            InputError: a text is no string, or cannot be written in UTF-8; there are not as many ids as texts.
            DamagedError: the model's files are not as they were made.
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
        """The scores of checked texts as arrays; with `infills=False` without masks."""
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
        """False for a GPT-2 without the infilling tokens."""
        from raysweep.model.gpt2 import has_infilling_tokens

        return has_infilling_tokens(self.network)
