"""Fills the blanks of a text: the model's answers, in their places, several samples of them."""

from dataclasses import dataclass
from typing import Any

from raysweep.errors import InputError
from raysweep.evaluation.blanks import read_template
from raysweep.evaluation.decoding import Prompt, answer_prompts
from raysweep.evaluation.token_sampling import Sampling
from raysweep.masking.vocabulary import Kind, document_tokenizer


@dataclass(frozen=True, kw_only=True, slots=True)
class FilledBlank:
    """One blank's answer in the filled text."""

    kind: Kind
    text: str
    """Without whitespace around it."""
    start: int
    """Its first character in the filled text, and `stop` the one after its last."""
    stop: int
    finished: bool
    """False if it was cut: its limit was reached, or the model had no position left."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Infilling:
    """One sample."""

    text: str
    """The whole text, filled."""
    answers: tuple[FilledBlank, ...]
    """In text order."""

    @property
    def finished(self) -> bool:
        return all(answer.finished for answer in self.answers)


def infill(
    model: Any,
    text: str,
    *,
    samples: int = 1,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = 0.95,
    seed: int = 0,
    max_answer_tokens: int | None = None,
) -> list[Infilling]:
    r"""Fill a text's blanks: `[blank]`, `[word]`, `[ngram]`, `[sentence]`, `[paragraph]`, `[document]`.

    Sample i depends on the text, the seed and i alone, and stands at place i.

    Args:
        model: a `GPT2LMHeadModel` in eval mode.
        temperature: 0 takes the likeliest token always, so all samples are the same.
        max_answer_tokens: tokens in the longest answer; by kind if absent (`answering.ANSWER_LIMITS`).

    Raises:
        InputError: the text has no blank or is longer than the model's positions, or a setting is out of bounds.
    """
    if samples < 1:
        raise InputError(f"samples: found {samples}; must be at least 1")
    if max_answer_tokens is not None and max_answer_tokens < 1:
        raise InputError(f"max_answer_tokens: found {max_answer_tokens}; must be at least 1, or absent")
    sampling = Sampling(temperature=temperature, top_k=top_k, top_p=top_p)
    template = read_template(text)
    prompt = Prompt(ids=template.prompt, kinds=template.kinds)
    (rows,) = answer_prompts(
        model, [prompt], samples=samples, sampling=sampling, seed=seed, max_answer_tokens=max_answer_tokens
    )
    filled = []
    for answers in rows:
        texts = [document_tokenizer().decode(answer.ids) for answer in answers]
        whole, ranges = template.fill(texts)
        filled.append(
            Infilling(
                text=whole,
                answers=tuple(
                    FilledBlank(kind=kind, text=whole[start:stop], start=start, stop=stop, finished=answer.finished)
                    for kind, answer, (start, stop) in zip(template.kinds, answers, ranges, strict=True)
                ),
            )
        )
    return filled
