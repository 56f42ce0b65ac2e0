"""The words of an answer, and the constraints that a user may put on them while the model writes.

A word is a run of letters and digits with their combining marks, and apostrophes inside of it.  Constraints work on
the next token: which tokens would break one is looked up by what is written so far, so a model chooses among the others
only.  GPT-2 cuts a text so that no token holds more than one word, so a table answers; tokens of a tokenizer that cuts
otherwise may hold several words, or end one and begin another, so what they would spell is looked at.
"""

import codecs
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
import numpy.typing as npt

from raysweep.errors import InputError
from raysweep.masking.vocabulary import Kind, Vocabulary
from raysweep.storage.printable import shown

_TOKENS_OF_A_WORD = 8
"""Room for each word of `min_words`: an answer's limit grows with it."""

Tokens = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, slots=True)
class Constraints:
    """What every answer of a text must be like.

    Raises:
        InputError: they contradict each other, or a word is none.
    """

    first_word: str | None = None
    """The word that it begins with, as it is written here."""
    min_words: int = 0
    max_words: int | None = None
    forbidden: tuple[str, ...] = ()
    """Words that it does not contain, in any case, with either apostrophe and either form of accents; nor words that
    begin with all tokens of one, such as its plural."""

    def __post_init__(self) -> None:
        for name, word in [("first_word", self.first_word), *(("forbidden", word) for word in self.forbidden)]:
            if word is not None and not _word().fullmatch(word):
                raise InputError(f"{name}: found {shown(word)}; must be one word, without spaces and punctuation")
        if self.min_words < 0 or (self.max_words is not None and self.max_words < 1):
            found = f"min_words {self.min_words}, max_words {self.max_words}"
            raise InputError(f"{found}: min_words must be at least 0, max_words at least 1, or absent")
        if self.max_words is not None and self.max_words < self.min_words:
            raise InputError(
                f"max_words: found {self.max_words}; must be at least min_words, which is {self.min_words}"
            )
        if self.first_word is not None and self.first_word.casefold() in self._forbidden:
            raise InputError(
                f"first_word: found {shown(self.first_word)}, which is forbidden too; leave one of them out"
            )

    @property
    def _forbidden(self) -> set[str]:
        forms = (unicodedata.normalize(form, word) for word in self.forbidden for form in ("NFC", "NFD"))
        words = {word.casefold().replace("’", "'") for word in forms}
        return words | {word.replace("'", "’") for word in words}

    def refuse_kinds(self, kinds: Sequence[Kind]) -> None:
        """Refuse a text whose blanks cannot keep to them.

        Raises:
            InputError: a `[word]` is to have several words.
        """
        if self.min_words > 1 and Kind.WORD in kinds:
            raise InputError(f"min_words: found {self.min_words}; a [word] is one word. Write [ngram] or [sentence]")

    def opening(self, before: str, vocabulary: Vocabulary) -> tuple[int, ...]:
        """Tokens that an answer must begin with, after this text; () if it is free."""
        if self.first_word is None:
            return ()
        space = " " if before.endswith(" ") else ""  # the space before a blank is part of its answer
        return tuple(vocabulary.encode(space + self.first_word))

    def token_limit(self, limit: int, opening: Sequence[int]) -> int:
        """Tokens in the longest answer, for a kind that has this limit without constraints."""
        return max(limit, len(opening) + 1, _TOKENS_OF_A_WORD * self.min_words)

    def refused_tokens(self, ids: Sequence[int], opening: Sequence[int], vocabulary: Vocabulary) -> Tokens:
        """The tokens that must not come after these, by id; without constraints none.

        Args:
            ids: the answer so far.
            opening: what it must begin with.
        """
        if len(ids) < len(opening):
            refused = np.ones(vocabulary.size, dtype=np.bool_)
            refused[opening[len(ids)]] = False
            return refused
        refused = np.zeros(vocabulary.size, dtype=np.bool_)
        own, tables = refused[: vocabulary.own_size], _token_tables(vocabulary)
        text, rest = tables.decode(ids)
        words = len(words_of(text))
        if opening and words == 1:
            own |= tables.continues(text)
        if self.max_words is not None:
            own |= words + tables.new_words(text, rest) > self.max_words
        refused[vocabulary.end_of_infill] = words < self.min_words
        refused[tables.completing(text, rest, self._forbidden)] = True
        return refused


FREE = Constraints()


def words_of(text: str) -> list[str]:
    """The words of a text as they are written."""
    return _word().findall(text)


@cache
def _word(end: str = "") -> re.Pattern[str]:
    r"""Matches a word.

    A letter with its marks, such as an e with an acute accent of its own, is no end of a word; `\w` has no marks.
    """
    marks = "".join(chr(code) for code in range(0x300, 0x20000) if unicodedata.category(chr(code)).startswith("M"))
    letters = rf"\w[\w{marks}]*"
    return re.compile(rf"{letters}(?:['’]{letters})*{end}")


def _last_word(text: str) -> str:
    """The word that a text ends in, with an apostrophe after it; '' if it ends in none."""
    # `$` would also match before a newline, which ends a word.
    found = _word(r"['’]?\Z").search(text)
    return "" if found is None else found[0]


def count_ngrams(text: str, n: int) -> Counter[tuple[str, ...]]:
    """The n-grams of a text's words in lower case."""
    words = words_of(text.lower())
    return Counter(zip(*(words[first:] for first in range(n)), strict=False))


class _TokenTables:
    """What each token does to the word before it.

    A token that holds a part of a character counts as a word of its own at the maximum, since it may become one.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._bytes = vocabulary.contents
        texts = [content.decode("utf-8", "replace") for content in self._bytes]
        self._folded = None if vocabulary.cuts_like_gpt2 else [text.casefold() for text in texts]
        is_part = np.array(["�" in text for text in texts])
        self._new_words: list[npt.NDArray[np.int64]] = [
            np.array([len(words_of(before + text)) for text in texts]) - len(words_of(before)) + is_part
            for before in ("a", "a'", " ")
        ]
        self._continues: list[Tokens] = [
            np.array([len(words_of(before + text)[0]) > 1 for text in texts]) | is_part for before in ("a", "a'")
        ] + [np.zeros(vocabulary.own_size, dtype=np.bool_)]
        self._spelled: dict[bytes, list[int]] = {}
        for number, (text, content) in enumerate(zip(texts, self._bytes, strict=True)):
            self._spelled.setdefault(content if is_part[number] else text.casefold().encode(), []).append(number)

    def decode(self, ids: Sequence[int]) -> tuple[str, bytes]:
        """The text of tokens, and the bytes at its end that are no whole character yet."""
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        return decoder.decode(b"".join(self._bytes[number] for number in ids)), decoder.getstate()[0]

    def new_words(self, text: str, rest: bytes) -> npt.NDArray[np.int64]:
        """How many words more a text has with each token."""
        return self._new_words[2 if rest else _ending(text)]

    def continues(self, text: str) -> Tokens:
        """Whether each token goes on with the word that the text ends in, or with its apostrophe."""
        return self._continues[_ending(text)]

    def completing(self, text: str, rest: bytes, words: Collection[str]) -> list[int]:
        """The tokens after which the text's last word is one of these (casefolded)."""
        last = _last_word(text.casefold())
        if self._folded is not None:
            return self._spelling(last, rest, words)
        begun = last.encode() + rest
        # A part of a character has no case to fold, so each word is spelled with capitals from any letter on too.
        spelled = [(word[:at] + word[at:].upper()).encode() for word in words for at in range(len(word) + 1)]
        endings = [b" " + word for word in spelled] + [word[len(begun) :] for word in spelled if word.startswith(begun)]
        endings += spelled if rest else []  # a part that does not become a character ends a word
        return [number for ending in endings for number in self._spelled.get(ending, ())]

    def _spelling(self, last: str, rest: bytes, words: Collection[str]) -> list[int]:
        """The tokens that spell one of these words anywhere, after the word that the text ends in."""
        assert self._folded is not None
        folded = self._folded
        if rest:  # a character that has begun may end in any token
            folded = [(rest + content).decode("utf-8", "replace").casefold() for content in self._bytes]
        found = []
        for word in words:
            begun = word.startswith(last)
            tail = word[len(last) :] if begun else word
            found += [
                number
                for number, token in enumerate(folded)
                if (word in token or (begun and token.startswith(tail))) and word in words_of(last + token)
            ]
        return found


def _ending(text: str) -> int:
    """Whether a text ends in a word (0), in an apostrophe after one (1), or in neither (2)."""
    last = _last_word(text)
    return int(last.endswith(("'", "’"))) if last else 2


@lru_cache(maxsize=2)  # a table is some megabytes
def _token_tables(vocabulary: Vocabulary) -> _TokenTables:
    return _TokenTables(vocabulary)
