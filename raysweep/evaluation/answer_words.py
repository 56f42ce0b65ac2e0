"""Finds the words of an answer, and enforces a user's constraints on them during generation.

A word is a run of letters and digits with their combining marks, and apostrophes inside it.  Constraints apply to the
next token: the tokens that would violate one are determined by the answer so far, and the model chooses among the
others.  With GPT-2's tokenizer no token has more than one word, so a table is sufficient; tokens of a tokenizer that
splits texts in another way may contain several words, or end one and begin another, so their text is examined.
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
"""Tokens allowed for each word of `min_words`, with which the limit of an answer grows."""

Tokens = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, slots=True)
class Constraints:
    """Constraints on every answer of a text.

    Raises:
        InputError: they contradict each other, or a given word is not a single word.
    """

    first_word: str | None = None
    """The word that the answer begins with, exactly as written."""
    min_words: int = 0
    max_words: int | None = None
    forbidden: tuple[str, ...] = ()
    """Words that the answer must not contain, in upper or lower case, with either apostrophe and either form of
    accents; words that begin with all tokens of a forbidden word, such as its plural, are excluded too."""

    def __post_init__(self) -> None:
        for name, word in [("first_word", self.first_word), *(("forbidden", word) for word in self.forbidden)]:
            if word is not None and not _word().fullmatch(word):
                raise InputError(f"{name}: found {shown(word)}; must be one word, without spaces and punctuation")
        if self.min_words < 0 or (self.max_words is not None and self.max_words < 1):
            values = f"min_words {self.min_words}, max_words {self.max_words}"
            raise InputError(f"{values}: min_words must be at least 0, max_words at least 1, or absent")
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
        """Raise InputError if there is a `[word]`, which the constraints require to have several words."""
        if self.min_words > 1 and Kind.WORD in kinds:
            raise InputError(f"min_words: found {self.min_words}; a [word] is one word. Write [ngram] or [sentence]")

    def opening(self, before: str, vocabulary: Vocabulary) -> tuple[int, ...]:
        """Return the tokens that an answer must begin with, after this text; () if there is no first word."""
        if self.first_word is None:
            return ()
        space = " " if before.endswith(" ") else ""  # the space before a blank is part of its answer
        return tuple(vocabulary.encode(space + self.first_word))

    def token_limit(self, limit: int, opening: Sequence[int]) -> int:
        """Return the token limit of an answer, for a kind with the limit `limit` without constraints."""
        return max(limit, len(opening) + 1, _TOKENS_OF_A_WORD * self.min_words)

    def refused_tokens(self, ids: Sequence[int], opening: Sequence[int], vocabulary: Vocabulary) -> Tokens:
        """Determine the tokens that must not follow, as booleans by id; none without constraints.

        Args:
            ids: the answer so far.
            opening: the tokens that the answer must begin with.
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
    """List the words of a text as they are written."""
    return _word().findall(text)


@cache
def _word(end: str = "") -> re.Pattern[str]:
    r"""Compile a pattern that matches a word.

    Combining marks, such as an acute accent after an e, belong to a word; `\w` does not include them.
    """
    marks = "".join(chr(code) for code in range(0x300, 0x20000) if unicodedata.category(chr(code)).startswith("M"))
    letters = rf"\w[\w{marks}]*"
    return re.compile(rf"{letters}(?:['’]{letters})*{end}")


def _last_word(text: str) -> str:
    """Return the word at the end of a text, including an apostrophe after it; '' if the text does not end in a word."""
    # `$` would also match before a final newline, which ends a word.
    match = _word(r"['’]?\Z").search(text)
    return "" if match is None else match[0]


def count_ngrams(text: str, n: int) -> Counter[tuple[str, ...]]:
    """Count the n-grams of a text's words in lower case."""
    words = words_of(text.lower())
    return Counter(zip(*(words[first:] for first in range(n)), strict=False))


class _TokenTables:
    """The effect of each token on the word before it.

    A token with an incomplete character counts as a new word for the maximum, because it may become one.
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
        """Decode tokens; also returns the bytes of an incomplete character at the end."""
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        return decoder.decode(b"".join(self._bytes[number] for number in ids)), decoder.getstate()[0]

    def new_words(self, text: str, rest: bytes) -> npt.NDArray[np.int64]:
        """Return the number of words that each token would add to a text."""
        return self._new_words[2 if rest else _ending(text)]

    def continues(self, text: str) -> Tokens:
        """Tell for each token whether it continues the word, or word with apostrophe, at the end of the text."""
        return self._continues[_ending(text)]

    def completing(self, text: str, rest: bytes, words: Collection[str]) -> list[int]:
        """Find the tokens that would make the last word of the text one of these (casefolded) words."""
        last = _last_word(text.casefold())
        if self._folded is not None:
            return self._spelling(last, rest, words)
        begun = last.encode() + rest
        # An incomplete character has no case, so each word is also spelled with capitals from any letter on.
        spelled = [(word[:at] + word[at:].upper()).encode() for word in words for at in range(len(word) + 1)]
        endings = [b" " + word for word in spelled] + [word[len(begun) :] for word in spelled if word.startswith(begun)]
        endings += spelled if rest else []  # bytes that do not become a character end a word
        return [number for ending in endings for number in self._spelled.get(ending, ())]

    def _spelling(self, last: str, rest: bytes, words: Collection[str]) -> list[int]:
        """Find the tokens that would spell one of these words anywhere, given the word at the end of the text."""
        assert self._folded is not None
        folded = self._folded
        if rest:  # any token may complete the character
            folded = [(rest + content).decode("utf-8", "replace").casefold() for content in self._bytes]
        spelling = []
        for word in words:
            begun = word.startswith(last)
            tail = word[len(last) :] if begun else word
            spelling += [
                number
                for number, token in enumerate(folded)
                if (word in token or (begun and token.startswith(tail))) and word in words_of(last + token)
            ]
        return spelling


def _ending(text: str) -> int:
    """Return 0 if a text ends in a word, 1 if it ends in an apostrophe after a word, and 2 otherwise."""
    last = _last_word(text)
    return int(last.endswith(("'", "’"))) if last else 2


_token_tables = lru_cache(maxsize=2)(_TokenTables)  # a table is some megabytes
