r"""Texts with blanks: from what a person types to the model's prompt, and back to a filled text.

A blank is written `[word]`, `[ngram]`, `[sentence]`, `[paragraph]`, `[document]` (any case), or
`[blank]`, which is an n-gram: one to eight words.  `\[word]` is text.  Everything else a person
types is text too: a special token spelled out has no effect.

The prompt is what training would have made of the text with a span at the blank's place.  In
GPT-2's tokens a word brings its leading space along, so the space before a blank belongs to the
blank; and whitespace is cut differently at a text's end than before a word.  Both come out right
if a stand-in of one character is put in the blank's place, the whole text is encoded at once, and
the stand-in's token is replaced.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from raysweep.errors import InputError
from raysweep.masking.vocabulary import FIRST_BLANK, START_OF_INFILL, Kind, document_tokenizer

_BLANK = re.compile(r"\\?\[(blank|word|ngram|sentence|paragraph|document)\]", re.IGNORECASE)
_KINDS = {"blank": Kind.NGRAM, **{kind.name.lower(): kind for kind in Kind}}
# One of each class that GPT-2's pattern keeps apart (letters, digits, other signs): a token never spans two.
_STAND_INS = ("x", "0", "#")


@dataclass(frozen=True, kw_only=True, slots=True)
class Template:
    """A text with n blanks: n + 1 pieces of text around them, and the prompt that asks for answers."""

    pieces: tuple[str, ...]
    kinds: tuple[Kind, ...]
    prompt: tuple[int, ...]
    """Token ids: the text with a blank's token in each blank's place, then the start token."""

    def fill(self, answers: Sequence[str]) -> tuple[str, list[tuple[int, int]]]:
        """Put the answers in the blanks' places.

        Returns:
            The text, and each answer's character range in it, without whitespace around it.  An
            answer's own leading space is kept only where the text has none: "I like[word]" may
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


def read_template(text: str) -> Template:
    """Read a text with blanks.

    Raises:
        InputError: it has no blank.
    """
    pieces, kinds = [""], []
    end = 0
    for match in _BLANK.finditer(text):
        pieces[-1] += text[end : match.start()]
        end = match.end()
        if match[0].startswith("\\"):
            pieces[-1] += match[0][1:]
        else:
            kinds.append(_KINDS[match[1].lower()])
            pieces.append("")
    pieces[-1] += text[end:]
    if not kinds:
        raise InputError(
            f"text: found no blank in {_shorten(text)!r}; write [blank], [word], [ngram], [sentence], "
            "[paragraph] or [document] where an answer should go"
        )
    return Template(pieces=tuple(pieces), kinds=tuple(kinds), prompt=tuple(_encode(pieces, kinds)))


def _encode(pieces: Sequence[str], kinds: Sequence[Kind]) -> list[int]:
    whole, places = pieces[0], {}
    for kind, piece in zip(kinds, pieces[1:], strict=True):
        places[len(whole)] = FIRST_BLANK + kind
        whole += _stand_in(whole[-1:], piece[:1]) + piece
    encoding = document_tokenizer().encode(whole)
    ids = []
    for token, (_, stop) in zip(encoding.ids, encoding.offsets, strict=True):
        # A stand-in's token is the stand-in, with the space before it if there is one.
        ids.append(places.pop(stop - 1, token))
    assert not places, "every stand-in is a token's last character"
    return [*ids, START_OF_INFILL]


def _stand_in(before: str, after: str) -> str:
    taken = {_sign_class(before), _sign_class(after)}
    return next(sign for sign in _STAND_INS if _sign_class(sign) not in taken)


def _sign_class(sign: str) -> str:
    if sign.isalpha():
        return "letter"
    if sign.isnumeric():
        return "digit"
    return "other" if sign.strip() else "space"


def _shorten(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "…"
