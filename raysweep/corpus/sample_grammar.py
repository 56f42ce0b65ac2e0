"""Parses the phrases of the synthetic corpus into sentences, and draws many of them at once.

A sentence is a sequence of parts.  Each part draws one string per document from a pool (a NumPy object array),
so thousands of sentences cost a few array operations.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import cycle, islice

import numpy as np

from raysweep.corpus.sample_phrases import HOMES, LEVELS, LISTS

HOME_CHOICES = 20  # per first language: the least common multiple of 4 and 5 entries


@dataclass(frozen=True, kw_only=True, slots=True)
class Writers:
    """The writer of each sentence to draw."""

    first_languages: np.ndarray  # indices into HOMES
    weakness: np.ndarray  # probability of the wrong form of right~wrong

    def take(self, places: np.ndarray) -> "Writers":
        """Select the writers at these indices."""
        return Writers(first_languages=self.first_languages[places], weakness=self.weakness[places])


@dataclass(frozen=True, slots=True)
class Choice:
    """A part that is any string of a pool, equally likely."""

    pool: np.ndarray

    def draw(self, rng: np.random.Generator, writers: Writers) -> np.ndarray:
        return self.pool[rng.integers(0, len(self.pool), len(writers.weakness))]


@dataclass(frozen=True, slots=True)
class HomeChoice:
    """A part that depends on the writer's first language: the pool has a row per language."""

    pool: np.ndarray

    def draw(self, rng: np.random.Generator, writers: Writers) -> np.ndarray:
        choices = rng.integers(0, self.pool.shape[1], len(writers.weakness))
        drawn: np.ndarray = self.pool[writers.first_languages, choices]
        return drawn


@dataclass(frozen=True, slots=True)
class Mistake:
    """A part that weak writers may get wrong: a pool of the right and the wrong string."""

    pool: np.ndarray

    def draw(self, rng: np.random.Generator, writers: Writers) -> np.ndarray:
        return self.pool[(rng.random(len(writers.weakness)) < writers.weakness).astype(np.intp)]


Part = Choice | HomeChoice | Mistake


@dataclass(frozen=True, slots=True)
class Sentence:
    """A template with its pools."""

    parts: tuple[Part, ...]

    def draw(self, rng: np.random.Generator, writers: Writers) -> np.ndarray:
        """One sentence (str) per writer."""
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
        """Mean length of a sentence, with the space after it."""
        return sum(body.mean_characters + 1 for body in self.bodies) / len(self.bodies)


@cache
def prompts_of(grammar: int) -> tuple[WritingPrompt, ...]:
    """The prompts of one of the five grammars, lowest first."""
    sections: list[tuple[str, list[str]]] = []
    for line in re.sub(r"\n +", " ", LEVELS[grammar].strip()).split("\n"):
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
    parts: list[Part] = []
    literal = ""
    for piece in _pieces(template):
        if piece[0] not in "{<":
            literal += piece
            continue
        parts.append(_part(piece, literal))
        literal = ""
    if literal or not parts:
        parts.append(Choice(_pool([literal])))
    return Sentence(tuple(parts))


def _part(piece: str, before: str) -> Part:
    if piece[0] == "<":
        right, wrong = piece[1:-1].split("~")
        return Mistake(_pool([before + right, before + wrong]))
    kind = piece[1:-1]
    if kind in ("name", "city", "country"):
        return HomeChoice(_home_pool(("name", "city", "country").index(kind), before))
    return Choice(_pool([before + option for option in _options(kind)]))


def _pieces(template: str) -> Iterator[str]:
    """Literal text, `{…}` (which may hold others) and `<…~…>`, in order."""
    depth, start = 0, 0
    for place, character in enumerate(template):
        if character in "{<":
            if depth == 0 and place > start:
                yield template[start:place]
            start = place if depth == 0 else start
            depth += 1
        elif character in "}>":
            depth -= 1
            if depth == 0:
                yield template[start : place + 1]
                start = place + 1
    assert depth == 0, template
    if start < len(template):
        yield template[start:]


def _options(kind: str) -> list[str]:
    """All strings that `{kind}` can become, each alternative equally often."""
    if kind in LISTS:
        return [word.replace("_", " ") for word in LISTS[kind].split()]
    if bounds := re.fullmatch(r"(\d+)-(\d+)", kind):
        return [str(number) for number in range(int(bounds[1]), int(bounds[2]) + 1)]
    assert "|" in kind, f"no list {kind!r}"
    alternatives = [_expansions(alternative) for alternative in _split_alternatives(kind)]
    longest = max(map(len, alternatives))
    return [text for texts in alternatives for text in islice(cycle(texts), longest)]


def _split_alternatives(kind: str) -> list[str]:
    alternatives, depth = [""], 0
    for character in kind:
        depth += (character == "{") - (character == "}")
        if character == "|" and depth == 0:
            alternatives.append("")
        else:
            alternatives[-1] += character
    return alternatives


def _expansions(alternative: str) -> list[str]:
    texts = [""]
    for piece in _pieces(alternative):
        texts = [text + more for text in texts for more in (_options(piece[1:-1]) if piece[0] == "{" else [piece])]
    return texts


def _home_pool(kind: int, before: str) -> np.ndarray:
    rows = [islice(cycle(homes[kind].split()), HOME_CHOICES) for homes in HOMES.values()]
    return _pool([[before + word for word in row] for row in rows])


def _pool(words: list[str] | list[list[str]]) -> np.ndarray:
    return np.array(words, dtype=object)
