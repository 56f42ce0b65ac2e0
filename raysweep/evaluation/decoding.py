"""Generates a model's answers to prompts with blanks: token ids, in the order of the blanks.

Rows (prompts × samples) run as one batch with a key–value cache.  Prompts of different length are
padded on the left, and a row leaves the batch when it has answered its last blank.  Each row has its own
random stream, so the number of rows and the order in which they end change no answer.  Inside an answer
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
from raysweep.evaluation.token_sampling import Sampling, choose_tokens
from raysweep.masking.vocabulary import END_OF_INFILL, Kind
from raysweep.model.gpt2 import END_OF_TEXT
from raysweep.seeding import generator_for

ANSWER_LIMITS: dict[Kind, int] = {
    Kind.DOCUMENT: 256,
    Kind.PARAGRAPH: 160,
    Kind.SENTENCE: 96,
    Kind.NGRAM: 32,
    Kind.WORD: 8,
}
"""Tokens in the longest answer of each kind, by default."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Prompt:
    """A model's input: context, blanks and the start token; and the kinds of the blanks."""

    ids: Sequence[int]
    kinds: Sequence[Kind]


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """One blank's answer."""

    ids: tuple[int, ...]
    finished: bool
    """False if it was cut: its limit was reached, or the model had no position left."""


@dataclass(kw_only=True, slots=True)
class _Row:
    """One sample of one prompt during generation."""

    limits: list[int]
    """Maximum tokens of each blank's answer."""
    free_positions: int
    """Tokens that still fit in the model's positions."""
    random: np.random.Generator
    answers: list[Answer] = field(default_factory=list)
    ids: list[int] = field(default_factory=list)
    """The current answer."""

    @property
    def is_done(self) -> bool:
        return len(self.answers) == len(self.limits)

    def take(self, token: int) -> int:
        """Add the chosen token; returns the model's next input token."""
        is_cut = token != END_OF_INFILL and len(self.ids) == self.limits[len(self.answers)]
        if is_cut or token == END_OF_INFILL:
            self._close(finished=not is_cut)
            token = END_OF_INFILL
        else:
            self.ids.append(token)
        while not self.free_positions and not self.is_done:
            self._close(finished=False)
        self.free_positions -= 1
        return token

    def _close(self, *, finished: bool) -> None:
        self.answers.append(Answer(ids=tuple(self.ids), finished=finished))
        self.ids = []


def answer_prompts(
    model: Any,
    prompts: Sequence[Prompt],
    *,
    samples: int = 1,
    sampling: Sampling,
    seed: int = 0,
    max_answer_tokens: int | None = None,
) -> list[list[list[Answer]]]:
    """Answers for every prompt, sample and blank, in this order.

    Sample i depends on the seed, the prompt's place and i alone: three samples are the first three of five.

    Args:
        model: a `GPT2LMHeadModel` in eval mode.
        max_answer_tokens: replaces `ANSWER_LIMITS`.

    Raises:
        InputError: a prompt is longer than the model's positions.
    """
    positions = int(model.config.n_positions)
    for prompt in prompts:
        assert prompt.kinds, "a prompt has a blank"
        if len(prompt.ids) > positions:
            raise InputError(
                f"text: found {len(prompt.ids):,} tokens; the model has {positions:,} positions. "
                f"Shorten it by {len(prompt.ids) - positions:,} tokens or more, to leave room for the answers"
            )
    rows = [
        _Row(
            limits=[max_answer_tokens or ANSWER_LIMITS[kind] for kind in prompt.kinds],
            free_positions=positions - len(prompt.ids),
            random=generator_for("answer", seed, number, sample),
        )
        for number, prompt in enumerate(prompts)
        for sample in range(samples)
    ]
    if rows:
        _run(model, prompts, rows, samples, sampling)
    return [[row.answers for row in rows[start : start + samples]] for start in range(0, len(rows), samples)]


@torch.inference_mode()
def _run(model: Any, prompts: Sequence[Prompt], rows: Sequence[_Row], samples: int, sampling: Sampling) -> None:
    batch = TokenBatch(model, [prompt.ids for prompt in prompts])
    batch.keep(torch.arange(len(prompts)).repeat_interleave(samples))
    batch_rows = list(rows)
    while True:
        logits_RV = _forbid(batch.logits_RV, [not row.ids for row in batch_rows])
        draws_R = torch.tensor([row.random.random() for row in batch_rows], dtype=torch.float64)
        chosen = choose_tokens(logits_RV, draws_R.to(logits_RV.device), sampling).tolist()
        next_tokens = [row.take(token) for row, token in zip(batch_rows, chosen, strict=True)]
        unfinished = [place for place, row in enumerate(batch_rows) if not row.is_done]
        if not unfinished:
            return
        if len(unfinished) < len(batch_rows):
            batch.keep(torch.tensor(unfinished))
            batch_rows = [batch_rows[place] for place in unfinished]
        batch.step([next_tokens[place] for place in unfinished])


def _forbid(logits_RV: Tensor, is_empty: Sequence[bool]) -> Tensor:
    """Mask all special tokens except the end of an answer, and that one too while an answer is empty."""
    logits_RV = logits_RV.clone()
    ends_R = logits_RV[:, END_OF_INFILL].clone()
    logits_RV[:, END_OF_TEXT:] = -torch.inf
    empty_R = torch.tensor(is_empty, device=logits_RV.device)
    logits_RV[:, END_OF_INFILL] = ends_R.masked_fill(empty_R, -torch.inf)
    return logits_RV


class TokenBatch:
    """Rows in generation, with their key–value cache."""

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
