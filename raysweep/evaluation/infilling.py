r"""Fills the blanks of a text with a model's answers, in several samples.

A blank is written `[word]`, `[ngram]`, `[sentence]`, `[paragraph]`, `[document]` (in upper or lower case), or
`[blank]`, which is an n-gram: one to eight words.  `\[word]` is literal text, and so is the name of a special token.
A misspelt blank (`[wrod]`) is refused, because it would remain in the text unnoticed; other brackets are text.

The prompt equals the one that training would make of the text with a span in place of the blank.  In GPT-2's
tokens a word includes its leading space, so the space before a blank belongs to the blank; and whitespace
is tokenised differently at the end of a text than before a word.  Both are handled correctly by putting a placeholder
of one character in place of the blank, encoding the whole text at once, and replacing the token of the placeholder.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from math import exp
from typing import Any

from raysweep.errors import InputError
from raysweep.evaluation.answer_words import FREE, Constraints
from raysweep.evaluation.decoding import Answer, Prompt, answer_prompts
from raysweep.evaluation.token_sampling import Sampling
from raysweep.masking.vocabulary import Kind, Vocabulary
from raysweep.model.gpt2 import vocabulary_of
from raysweep.storage.printable import shown

_KINDS = {"blank": Kind.NGRAM, **{kind.name.lower(): kind for kind in Kind}}
_BRACKETS = re.compile(r"(\\?)\[( ?([^\W\d_]{2,20})[ .:]?)\]")
# One of each class that GPT-2's pattern separates (letters, digits, other characters); a token never spans two classes.
_PLACEHOLDERS = ("x", "0", "#")


@dataclass(frozen=True, kw_only=True, slots=True)
class FilledBlank:
    """The answer to one blank in the filled text."""

    kind: Kind
    text: str
    """The answer without surrounding whitespace."""
    start: int
    """Its first character in the filled text; `stop` is its end."""
    stop: int
    finished: bool
    """False if it was cut: its limit was reached, or the model had no position left."""
    nats: float = field(default=0.0, compare=False)
    """See `decoding.Answer`."""

    @property
    def probability(self) -> float:
        """The probability that the model gives to this answer, given the previous answers."""
        return exp(-self.nats)


@dataclass(frozen=True, kw_only=True, slots=True)
class Infilling:
    """One sample of a filled text."""

    text: str
    """The whole filled text."""
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
    constraints: Constraints = FREE,
) -> list[Infilling]:
    r"""Fill a text's blanks: `[blank]`, `[word]`, `[ngram]`, `[sentence]`, `[paragraph]`, `[document]`.

    Sample i depends only on the text, the seed and i.

    Args:
        model: a `GPT2LMHeadModel` in eval mode.
        temperature: with 0 the most likely token is chosen, so all samples are the same.
        max_answer_tokens: limit of an answer in tokens; it depends on the kind if absent (`ANSWER_LIMITS`).
        constraints: constraints on every answer.

    Raises:
        InputError: the text has no blank or is longer than the model's positions, or a setting is out of bounds.
    """
    if samples < 1:
        raise InputError(f"samples: found {samples}; must be at least 1")
    if max_answer_tokens is not None and max_answer_tokens < 1:
        raise InputError(f"max_answer_tokens: found {max_answer_tokens}; must be at least 1, or absent")
    sampling = Sampling(temperature=temperature, top_k=top_k, top_p=top_p)
    options: dict[str, Any] = {"constraints": constraints, "seed": seed, "max_answer_tokens": max_answer_tokens}
    return fill_templates(model, [read_template(text)], samples=samples, sampling=sampling, **options)[0]


def fill_templates(
    model: Any,
    templates: Sequence["Template"],
    *,
    samples: int,
    sampling: Sampling,
    constraints: Constraints = FREE,
    **options: Any,
) -> list[list[Infilling]]:
    """Fill several texts in one batch; returns the samples of each text.

    Args:
        options: options of `answer_prompts`.

    Raises:
        InputError: a text is longer than the model's positions, or its blanks cannot satisfy the constraints.
    """
    for template in templates:
        constraints.refuse_kinds(template.kinds)
    vocabulary = vocabulary_of(model)
    prompts = [
        Prompt(
            ids=template.prompt(vocabulary),
            kinds=template.kinds,
            openings=[constraints.opening(piece, vocabulary) for piece in template.pieces[:-1]],
        )
        for template in templates
    ]
    answered = answer_prompts(model, prompts, samples=samples, sampling=sampling, constraints=constraints, **options)
    return [
        [_fill_sample(template, answers, vocabulary) for answers in rows]
        for template, rows in zip(templates, answered, strict=True)
    ]


def _fill_sample(template: "Template", answers: Sequence[Answer], vocabulary: Vocabulary) -> Infilling:
    text, ranges = template.fill([vocabulary.decode(answer.ids) for answer in answers])
    blanks = (
        FilledBlank(
            kind=kind, text=text[start:stop], start=start, stop=stop, finished=answer.finished, nats=answer.nats
        )
        for kind, answer, (start, stop) in zip(template.kinds, answers, ranges, strict=True)
    )
    return Infilling(text=text, answers=tuple(blanks))


@dataclass(frozen=True, kw_only=True, slots=True)
class Template:
    """A text with n blanks, as the n + 1 pieces of text around them."""

    pieces: tuple[str, ...]
    kinds: tuple[Kind, ...]

    def prompt(self, vocabulary: Vocabulary) -> tuple[int, ...]:
        """Encode the text with a token in place of each blank, followed by the start token."""
        encode = _encode_whole if vocabulary.cuts_like_gpt2 else _encode_apart
        return (*encode(self.pieces, self.kinds, vocabulary), vocabulary.start_of_infill)

    def fill(self, answers: Sequence[str]) -> tuple[str, list[tuple[int, int]]]:
        """Insert the answers into the text.

        Returns:
            The text, and the character range of each answer in it, without surrounding whitespace.  The
            leading space of an answer is kept only if the text has none there: "I like[word]" may
            become "I like pizza".
        """
        text, ranges = self.pieces[0], []
        for answer, piece in zip(answers, self.pieces[1:], strict=True):
            body = answer.strip()
            if body and text and not text[-1].isspace():
                text += answer[: len(answer) - len(answer.lstrip())]
            ranges.append((len(text), len(text) + len(body)))
            text += body + piece
        return text, ranges

    def answers_in(self, original: str) -> list[str] | None:
        """Find the answers, each as short as possible, that turn the template into the original text; None if none."""
        first, *inner, last = self.pieces
        if not original.startswith(first) or not original.endswith(last):
            return None
        answers, start = [], len(first)
        for piece in inner:
            end = original.find(piece, start + 1, len(original) - len(last))
            if end < 0:
                return None
            answers.append(original[start:end])
            start = end + len(piece)
        answers.append(original[start : len(original) - len(last)])
        return answers if all(answer.strip() for answer in answers) else None


def read_template(text: str) -> Template:
    """Read a text with blanks; raises InputError if it has none, or a misspelt one."""
    pieces, kinds = [""], []
    end = 0
    for match in _BRACKETS.finditer(text):
        kind = _KINDS.get(match[2].lower())
        nearest = next(iter(get_close_matches(match[3].lower(), _KINDS, 1)), None)
        if nearest is None:
            continue
        if kind is None and not match[1]:
            raise InputError(
                f"text: found '{match[0]}'; did you mean '[{nearest}]'? Write \\{match[0]} for the brackets themselves"
            )
        pieces[-1] += text[end : match.start()]
        end = match.end()
        if match[1]:
            pieces[-1] += match[0][1:]
        elif kind is not None:
            kinds.append(kind)
            pieces.append("")
    pieces[-1] += text[end:]
    if not kinds:
        raise InputError(
            f"text: found no blank in {shown(text, 60)}; write [blank], [word], [ngram], [sentence], "
            "[paragraph] or [document] where an answer should go"
        )
    return Template(pieces=tuple(pieces), kinds=tuple(kinds))


def _encode_whole(pieces: Sequence[str], kinds: Sequence[Kind], vocabulary: Vocabulary) -> list[int]:
    text, places = pieces[0], {}
    for kind, piece in zip(kinds, pieces[1:], strict=True):
        places[len(text)] = vocabulary.first_blank + kind
        text += _placeholder(text[-1:], piece[:1]) + piece
    encoding = vocabulary.plain.encode(text, add_special_tokens=False)
    ids = []
    for token, (_, stop) in zip(encoding.ids, encoding.offsets, strict=True):
        # The token of a placeholder is the placeholder, including the space before it if there is one.
        if stop in places and text[stop - 1] == " " and len(vocabulary.contents[token]) == 1:
            continue  # the space is a separate token, but still belongs to the blank
        ids.append(places.pop(stop - 1, token))
    assert not places, "every placeholder is a token's last character"
    return ids


def _encode_apart(pieces: Sequence[str], kinds: Sequence[Kind], vocabulary: Vocabulary) -> list[int]:
    """Encode the pieces separately, for a tokenizer that marks the start of a word and has no known pattern."""
    ids = []
    for kind, piece in zip(kinds, pieces[:-1], strict=True):
        ids += [*vocabulary.encode(piece.removesuffix(" ")), vocabulary.first_blank + kind]
    return [*ids, *vocabulary.encode(pieces[-1])]


def _placeholder(before: str, after: str) -> str:
    taken = {_sign_class(before), _sign_class(after)}
    return next(sign for sign in _PLACEHOLDERS if _sign_class(sign) not in taken)


def _sign_class(sign: str) -> str:
    if sign.isalpha():
        return "letter"
    if sign.isnumeric():
        return "digit"
    return "other" if sign.strip() else "space"
