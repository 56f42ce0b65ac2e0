"""Parses the phrases of the synthetic corpus (`sample_phrases.toml`) into sentences, and draws many of them at once.

A sentence is a sequence of parts.  Each part draws one string per document from a pool (a NumPy object array),
so thousands of sentences cost a few array operations.
"""

import re
import tomllib
from dataclasses import dataclass
from functools import cache
from itertools import cycle, islice, product
from pathlib import Path
from typing import Any, Literal

import numpy as np

HOME_CHOICES = 20  # per first language: the least common multiple of 4 and 5 entries
HOMES = ("name", "city", "country")
_PIECE = re.compile(r"\{(?:[^{}]|\{[^{}]*\})*\}|<[^>]*>|[^{<]+")
"""Literal text, `{…}` (which may be nested) or `<…~…>`."""
_ALTERNATIVE = re.compile(r"(?:[^{}|]|\{[^{}]*\})+")


@cache
def phrases() -> dict[str, Any]:
    """Read `sample_phrases.toml`, which explains its own format."""
    return tomllib.loads(Path(__file__).with_name("sample_phrases.toml").read_text(encoding="utf-8"))


@dataclass(frozen=True, kw_only=True, slots=True)
class Writers:
    """The writer of each sentence to draw."""

    first_languages: np.ndarray  # indices into the `homes` of the phrases
    weakness: np.ndarray  # probability of the wrong form of right~wrong

    def take(self, places: np.ndarray) -> "Writers":
        """Select the writers at these indices."""
        return Writers(first_languages=self.first_languages[places], weakness=self.weakness[places])


@dataclass(frozen=True, slots=True)
class SentencePart:
    """A part of a sentence with the strings that it can become."""

    pool: np.ndarray
    chosen_by: Literal["chance", "first language", "mistake"] = "chance"
    """`chance`: all strings are equally likely; `first language`: all strings in the row of the writer's first language
    are; `mistake`: the pool is the right and the wrong string."""

    def draw(self, rng: np.random.Generator, writers: Writers) -> np.ndarray:
        """Draw one string per writer."""
        if self.chosen_by == "mistake":
            return self.pool[(rng.random(len(writers.weakness)) < writers.weakness).astype(np.intp)]
        choices = rng.integers(0, self.pool.shape[-1], len(writers.weakness))
        if self.chosen_by == "chance":
            return self.pool[choices]
        drawn: np.ndarray = self.pool[writers.first_languages, choices]
        return drawn


@dataclass(frozen=True, slots=True)
class Sentence:
    """A template with its pools."""

    parts: tuple[SentencePart, ...]

    def draw(self, rng: np.random.Generator, writers: Writers) -> np.ndarray:
        """Draw one sentence (str) per writer."""
        drawn = self.parts[0].draw(rng, writers)
        for part in self.parts[1:]:
            drawn = np.add(drawn, part.draw(rng, writers))
        return drawn

    @property
    def mean_characters(self) -> float:
        return sum(sum(map(len, part.pool.flat)) / part.pool.size for part in self.parts)


@dataclass(frozen=True, kw_only=True, slots=True)
class WritingPrompt:
    """A writing task of one level, with the sentences of its answers."""

    name: str
    is_letter: bool
    openings: tuple[Sentence, ...]
    bodies: tuple[Sentence, ...]
    closings: tuple[Sentence, ...]

    @property
    def mean_characters(self) -> float:
        """Mean length of a sentence, including the space after it."""
        return sum(body.mean_characters + 1 for body in self.bodies) / len(self.bodies)


@cache
def prompts_of(grammar: int) -> tuple[WritingPrompt, ...]:
    """Parse the prompts of one of the five grammars, which are numbered from the lowest."""
    sections: list[tuple[str, list[str]]] = []
    for line in re.sub(r"\n +", " ", phrases()["levels"][grammar].strip()).split("\n"):
        if line[0] in "*#":
            sections.append((line, []))
        else:
            sections[-1][1].append(line)
    (_, shared), *prompts = sections
    return tuple(_parse_prompt(header, lines, shared) for header, lines in prompts)


def _parse_prompt(header: str, lines: list[str], shared: list[str]) -> WritingPrompt:
    def sentences(mark: str) -> tuple[Sentence, ...]:
        return tuple(_parse_sentence(line[1:]) for line in lines if line[0] == mark)

    bodies = [line for line in lines if line[0] not in "^$"]
    return WritingPrompt(
        name=header.removeprefix("# ").removesuffix(" [letter]"),
        is_letter=header.endswith("[letter]"),
        openings=sentences("^"),
        bodies=tuple(_parse_sentence(line) for line in [*bodies, *shared]),
        closings=sentences("$"),
    )


def _parse_sentence(template: str) -> Sentence:
    parts: list[SentencePart] = []
    literal = ""
    for piece in _pieces(template):
        if piece[0] in "{<":
            parts.append(_parse_part(piece, literal))
            literal = ""
        else:
            literal = piece
    if literal:
        parts.append(SentencePart(_pool([literal])))
    return Sentence(tuple(parts))


def _parse_part(piece: str, before: str) -> SentencePart:
    kind = piece[1:-1]
    if piece[0] == "<":
        return SentencePart(_pool([before + form for form in kind.split("~")]), "mistake")
    if kind in HOMES:
        homes = [home[1 + HOMES.index(kind)].split() for home in phrases()["homes"].values()]
        return SentencePart(
            _pool([[before + word for word in islice(cycle(home), HOME_CHOICES)] for home in homes]), "first language"
        )
    return SentencePart(_pool([before + option for option in _options(kind)]))


def _pieces(template: str) -> list[str]:
    pieces = _PIECE.findall(template)
    assert "".join(pieces) == template, template
    return pieces


def _options(kind: str) -> list[str]:
    """List all strings that `{kind}` can become, with equally many strings for each alternative."""
    if words := phrases()["lists"].get(kind):
        return [word.replace("_", " ") for word in words.split()]
    if bounds := re.fullmatch(r"(\d+)-(\d+)", kind):
        return [str(number) for number in range(int(bounds[1]), int(bounds[2]) + 1)]
    assert "|" in kind, f"no list {kind!r}"
    alternatives = [_expansions(alternative) for alternative in _ALTERNATIVE.findall(kind)]
    longest = max(map(len, alternatives))
    return [text for texts in alternatives for text in islice(cycle(texts), longest)]


def _expansions(alternative: str) -> list[str]:
    options = [_options(piece[1:-1]) if piece[0] == "{" else [piece] for piece in _pieces(alternative)]
    return ["".join(pieces) for pieces in product(*options)]


def _pool(words: list[str] | list[list[str]]) -> np.ndarray:
    return np.array(words, dtype=object)
