"""Generates a model's answers to prompts with blanks: token ids, in the order of the blanks.

Rows (prompts × samples) are run as one batch with a key–value cache.  Prompts of different lengths are
padded on the left, and a row leaves the batch when it has answered its last blank.  Each row has its own
random stream, so the number of rows and the order in which they finish change no answer.  Inside an answer
the only special token allowed is the one that ends it, and not at its start: a span has at least one token.

An answer that reaches its limit is cut, and the row continues with its next blank; when the model's
positions run out, the current and the remaining answers are cut.  Cut answers are marked unfinished.

Axes: R rows, T positions, V vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache

from raysweep.errors import InputError
from raysweep.evaluation.answer_words import FREE, Constraints
from raysweep.evaluation.token_sampling import Sampling, choose_tokens
from raysweep.masking.vocabulary import Kind, Vocabulary
from raysweep.model.gpt2 import vocabulary_of
from raysweep.seeding import generator_for

ANSWER_LIMITS: dict[Kind, int] = {
    Kind.DOCUMENT: 256,
    Kind.PARAGRAPH: 160,
    Kind.SENTENCE: 96,
    Kind.NGRAM: 32,
    Kind.WORD: 8,
}
"""Kind → default limit of an answer in tokens."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Prompt:
    """A model's input (context, blanks and the start token), and the kinds of the blanks."""

    ids: Sequence[int]
    kinds: Sequence[Kind]
    openings: Sequence[Sequence[int]] | None = None
    """Tokens that each answer must begin with; None if there is no constraint."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """The answer to one blank."""

    ids: tuple[int, ...]
    finished: bool
    """False if it was cut: its limit was reached, or the model had no position left."""
    nats: float = field(default=0.0, compare=False)
    """−log of the model's own probability of these tokens and, if it is finished, of its end, regardless of the
    sampling settings.  It is not compared, because its last digits depend on the batch."""


@dataclass(kw_only=True, slots=True)
class _Row:
    """One sample of one prompt during generation."""

    limits: list[int]
    """Maximum tokens of each blank's answer."""
    free_positions: int
    """Tokens that still fit in the model's positions."""
    random: np.random.Generator
    openings: Sequence[Sequence[int]]
    """The tokens that each blank's answer must begin with."""
    end: int
    """The token that ends an answer."""
    answers: list[Answer] = field(default_factory=list)
    ids: list[int] = field(default_factory=list)
    """The current answer."""
    nats: float = 0.0

    @property
    def is_done(self) -> bool:
        return len(self.answers) == len(self.limits)

    @property
    def opening(self) -> Sequence[int]:
        return self.openings[len(self.answers)]

    def take(self, token: int, nats: float) -> int:
        """Add the chosen token and its nats; returns the model's next input token."""
        is_cut = token != self.end and len(self.ids) == self.limits[len(self.answers)]
        self.nats += 0.0 if is_cut else nats
        if is_cut or token == self.end:
            self._close(finished=not is_cut)
            token = self.end
        else:
            self.ids.append(token)
        while not self.free_positions and not self.is_done:
            self._close(finished=False)
        self.free_positions -= 1
        return token

    def _close(self, *, finished: bool) -> None:
        self.answers.append(Answer(ids=tuple(self.ids), finished=finished, nats=self.nats))
        self.ids, self.nats = [], 0.0


def answer_prompts(
    model: Any,
    prompts: Sequence[Prompt],
    *,
    samples: int = 1,
    sampling: Sampling,
    seed: int = 0,
    max_answer_tokens: int | None = None,
    constraints: Constraints = FREE,
    places: Sequence[int] | None = None,
) -> list[list[list[Answer]]]:
    """Generate answers for every prompt, sample and blank, in this order.

    Sample i depends only on the seed, the number of the prompt and i: three samples are the first three of five.

    Args:
        model: a `GPT2LMHeadModel` in eval mode.
        max_answer_tokens: replaces `ANSWER_LIMITS`.
        constraints: constraints on all answers; an answer that is cut may have too few words.
        places: the numbers of the prompts among those of several calls; 0, 1, 2 … if absent.

    Raises:
        InputError: a prompt is longer than the model's positions.
    """
    for prompt in prompts:
        assert prompt.kinds, "a prompt has a blank"
        check_length(model, prompt.ids)
    rows = [
        _new_row(prompt, model, max_answer_tokens, constraints, generator_for("answer", seed, place, sample))
        for place, prompt in zip(range(len(prompts)) if places is None else places, prompts, strict=True)
        for sample in range(samples)
    ]
    if rows:
        _run(model, prompts, rows, samples, sampling, constraints)
    return [[row.answers for row in rows[start : start + samples]] for start in range(0, len(rows), samples)]


def check_length(model: Any, ids: Sequence[int]) -> None:
    """Raise InputError if a prompt is longer than the model's positions."""
    positions = int(model.config.n_positions)
    if len(ids) > positions:
        raise InputError(
            f"text: found {len(ids):,} tokens; the model has {positions:,} positions. "
            f"Shorten it by {len(ids) - positions:,} tokens or more, to leave room for the answers"
        )


def _new_row(
    prompt: Prompt, model: Any, limit: int | None, constraints: Constraints, random: np.random.Generator
) -> _Row:
    openings = [()] * len(prompt.kinds) if prompt.openings is None else prompt.openings
    pairs = zip(prompt.kinds, openings, strict=True)
    return _Row(
        limits=[limit or constraints.token_limit(ANSWER_LIMITS[kind], opening) for kind, opening in pairs],
        free_positions=int(model.config.n_positions) - len(prompt.ids),
        random=random,
        openings=openings,
        end=vocabulary_of(model).end_of_infill,
    )


@torch.inference_mode()
def _run(
    model: Any,
    prompts: Sequence[Prompt],
    rows: Sequence[_Row],
    samples: int,
    sampling: Sampling,
    constraints: Constraints,
) -> None:
    vocabulary = vocabulary_of(model)
    batch = TokenBatch(model, [prompt.ids for prompt in prompts])
    batch.keep(torch.arange(len(prompts)).repeat_interleave(samples))
    batch_rows = list(rows)
    while True:
        logits_RV = _forbid(batch.logits_RV, [not row.ids for row in batch_rows], vocabulary)
        if constraints != FREE:
            refused = [constraints.refused_tokens(row.ids, row.opening, vocabulary) for row in batch_rows]
            refused_RV = np.stack(refused)
            logits_RV.masked_fill_(torch.from_numpy(refused_RV).to(logits_RV.device), -torch.inf)
        draws_R = torch.tensor([row.random.random() for row in batch_rows], dtype=torch.float64)
        chosen_R = choose_tokens(logits_RV, draws_R.to(logits_RV.device), sampling)
        nats_R = torch.nn.functional.cross_entropy(batch.logits_RV, chosen_R, reduction="none")
        taken = zip(batch_rows, chosen_R.tolist(), nats_R.tolist(), strict=True)
        next_tokens = [row.take(token, nats) for row, token, nats in taken]
        unfinished = [place for place, row in enumerate(batch_rows) if not row.is_done]
        if not unfinished:
            return
        if len(unfinished) < len(batch_rows):
            batch.keep(torch.tensor(unfinished))
            batch_rows = [batch_rows[place] for place in unfinished]
        batch.step([next_tokens[place] for place in unfinished])


def _forbid(logits_RV: Tensor, is_empty: Sequence[bool], vocabulary: Vocabulary) -> Tensor:
    """Mask all special tokens except the end of an answer, and this one too while an answer is empty."""
    logits_RV = logits_RV.clone()
    ends_R = logits_RV[:, vocabulary.end_of_infill].clone()
    logits_RV.masked_fill_(~torch.from_numpy(vocabulary.is_text).to(logits_RV.device), -torch.inf)
    empty_R = torch.tensor(is_empty, device=logits_RV.device)
    logits_RV[:, vocabulary.end_of_infill] = ends_R.masked_fill(empty_R, -torch.inf)
    return logits_RV


class TokenBatch:
    """The rows of a generation, with their key–value cache."""

    def __init__(self, model: Any, prompts: Sequence[Sequence[int]]) -> None:
        self._model = model
        self._device = next(model.parameters()).device
        self._cache = DynamicCache(config=model.config)
        longest = max(len(ids) for ids in prompts)
        ids_RT = torch.tensor([[0] * (longest - len(ids)) + list(ids) for ids in prompts], device=self._device)
        self._lengths_R = torch.tensor([len(ids) for ids in prompts], device=self._device)
        columns_T = torch.arange(longest, device=self._device)
        self._mask_RT = (columns_T >= longest - self._lengths_R[:, None]).long()
        self.logits_RV = self._forward(ids_RT, (self._mask_RT.cumsum(dim=-1) - 1).clamp(min=0))

    def keep(self, places_R: Tensor) -> None:
        """Select the rows at these places, in this order; a place may occur more than once."""
        places_R = places_R.to(self._device)
        self._cache.batch_select_indices(places_R)
        self._lengths_R, self._mask_RT = self._lengths_R[places_R], self._mask_RT[places_R]
        self.logits_RV = self.logits_RV[places_R]

    def step(self, tokens: Sequence[int]) -> None:
        """Feed one more token to every row and update `logits_RV`."""
        tokens_R1 = torch.tensor(tokens, device=self._device)[:, None]
        self._mask_RT = torch.nn.functional.pad(self._mask_RT, (0, 1), value=1)
        self.logits_RV = self._forward(tokens_R1, self._lengths_R[:, None])
        self._lengths_R = self._lengths_R + 1

    def _forward(self, ids_RT: Tensor, positions_RT: Tensor) -> Tensor:
        output = self._model(
            input_ids=ids_RT,
            position_ids=positions_RT,
            attention_mask=self._mask_RT,
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        )
        logits: Tensor = output.logits[:, -1].float()
        return logits
