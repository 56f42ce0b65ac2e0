"""Writes the synthetic sample corpus: any number of made-up learner texts in the shape of EFCAMDAT.

It lets a run work without a corpus, and its true answer is known: levels differ in words and grammar, so a model
trained on one level must score better on it than the models of other levels.  Levels and first languages have the
shares of EFCAMDAT; texts get longer and mistakes rarer with the level; learners write several texts (mostly at one
level); and about one text in a hundred is submitted twice.

Rows are drawn in chunks, each with its own generator: a full chunk depends only on the seed and its number.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from raysweep.config.data_settings import ColumnsConfig
from raysweep.corpus.sample_grammar import Sentence, Writers, WritingPrompt, phrases, prompts_of
from raysweep.errors import ConfigError
from raysweep.seeding import generator_for
from raysweep.storage.atomic_files import csv_writer

SYNTHETIC_PREFIX = "synthetic-"
SYNTHETIC_NOTICE = (
    "This corpus is synthetic: raysweep generated its texts from word lists, no learner wrote them, "
    "and no finding about it is a finding about learners."
)
SAMPLE_COLUMNS = ColumnsConfig(
    id="writing_id", l1="l1", level="cefr_level", text="text", learner="learner_id", prompt="prompt_id"
)
COLUMN_NAMES = ("writing_id", "l1", "cefr_level", "text", "learner_id", "prompt_id")

LEVEL_DOCUMENTS = (341_155, 215_344, 116_539, 40_238, 10_006)  # EFCAMDAT's per level, lowest first

# One value per grammar, lowest first.
LEAST_CHARACTERS = (145, 270, 425, 620, 790)  # mean length that a text reaches, sentence by sentence
WRONG_CHOICES = (0.45, 0.35, 0.20, 0.08, 0.02)  # probability of a wrong form where one is possible
MISSPELLINGS_PER_SENTENCE = (0.25, 0.20, 0.12, 0.05, 0.01)
KNOWS_AN = 2  # the first grammar that distinguishes "an" from "a"
BEFORE_VOWEL = re.compile(r"\b([Aa])(?= [aeiou])")

CHUNK_ROWS = 4096
MOST_TEXTS_OF_A_LEARNER = 7
MOVES_UP = 0.03  # fraction of learners whose last text is in the next level
EXACT_COPIES = 0.01
NEAR_COPIES = 0.01


def write_sample(
    path: Path,
    *,
    rows: int,
    seed: int,
    level_shares: Mapping[str, float] | None = None,
    levels: tuple[str, ...],
) -> None:
    """Write a synthetic corpus CSV (columns `COLUMN_NAMES`), by rename.

    Args:
        level_shares: relative number of documents per level, 0 for levels not named; EFCAMDAT's if absent.
        levels: names of the levels, lowest first; the first five have a grammar each, others share the fifth.

    Raises:
        ConfigError: a share is given for an unknown level.
    """
    shares = _level_shares(levels, level_shares)
    with csv_writer(path, COLUMN_NAMES) as writer:
        for chunk, start in enumerate(range(0, rows, CHUNK_ROWS)):
            rng = generator_for("sample", seed, chunk)
            plan = _plan_rows(rng, min(CHUNK_ROWS, rows - start), shares)
            texts, prompt_names = _write_texts(rng, plan)
            _plant_copies(rng, plan, texts, prompt_names)
            languages = list(phrases()["homes"])
            writer.writerows(
                (
                    f"{SYNTHETIC_PREFIX}{start + row:07d}",
                    languages[plan.first_languages[place]],
                    levels[plan.levels[place]],
                    texts[place],
                    f"learner-{chunk:04d}-{plan.learners[place]:04d}",
                    f"{levels[plan.levels[place]]}-{prompt_names[place]}",
                )
                for row, place in enumerate(rng.permutation(len(texts)).tolist())
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Plan:
    """The writers and levels of the documents of a chunk, ordered by learner."""

    levels: np.ndarray
    learners: np.ndarray
    first_languages: np.ndarray
    weakness: np.ndarray  # the learner's rate of mistakes relative to the level's rate

    @property
    def grammars(self) -> np.ndarray:
        """The grammar of each document: that of its level, or the highest grammar for higher levels."""
        grammars: np.ndarray = np.minimum(self.levels, len(LEAST_CHARACTERS) - 1)
        return grammars


def _level_shares(levels: tuple[str, ...], asked: Mapping[str, float] | None) -> np.ndarray:
    if asked is None:
        shares = [LEVEL_DOCUMENTS[min(place, len(LEVEL_DOCUMENTS) - 1)] for place in range(len(levels))]
        return np.array(shares) / sum(shares)
    for level in asked:
        if level not in levels:
            raise ConfigError(f"data.sample.level_shares: found {level!r}; known levels are {', '.join(levels)}")
    return np.array([asked.get(level, 0.0) for level in levels]) / sum(asked.values())


def _plan_rows(rng: np.random.Generator, rows: int, shares: np.ndarray) -> _Plan:
    levels = _spread(rng, rows, shares)
    ends = np.cumsum(rng.integers(1, MOST_TEXTS_OF_A_LEARNER + 1, rows))
    writers = np.searchsorted(ends, np.arange(rows), side="right")
    # No learner continues into the next level.
    is_first = (np.diff(writers, prepend=-1) > 0) | (np.diff(levels, prepend=-1) > 0)
    learners = np.cumsum(is_first) - 1
    count = learners[-1] + 1
    is_last = np.append(is_first[1:], True)
    has_next = np.append(shares[1:] > 0, False)[levels]
    moves = is_last & ~is_first & has_next & (rng.random(rows) < MOVES_UP)
    language_shares = np.array([share for share, *_ in phrases()["homes"].values()])
    return _Plan(
        levels=levels + moves,
        learners=learners,
        first_languages=rng.permutation(_spread(rng, count, language_shares / language_shares.sum()))[learners],
        weakness=rng.gamma(4.0, 0.25, count)[learners],
    )


def _spread(rng: np.random.Generator, count: int, shares: np.ndarray) -> np.ndarray:
    """Return `count` ascending indices into `shares`, each as often as its share, within one (systematic sampling)."""
    points = (np.arange(count) + rng.random()) / count
    indices: np.ndarray = np.searchsorted(np.cumsum(shares)[:-1], points, side="right")
    return indices


def _write_texts(rng: np.random.Generator, plan: _Plan) -> tuple[list[str], list[str]]:
    """Write the text of every document; also returns the name of its prompt."""
    texts, names = [""] * len(plan.levels), [""] * len(plan.levels)
    choice = rng.random(len(plan.levels))
    for grammar in np.unique(plan.grammars).tolist():
        prompts = prompts_of(grammar)
        for index, prompt in enumerate(prompts):
            places = np.flatnonzero((plan.grammars == grammar) & ((choice * len(prompts)).astype(int) == index))
            if not len(places):
                continue
            for place, text in zip(places.tolist(), _answer(rng, prompt, grammar, plan, places), strict=True):
                texts[place], names[place] = text, prompt.name
    return texts, names


def _answer(
    rng: np.random.Generator, prompt: WritingPrompt, grammar: int, plan: _Plan, places: np.ndarray
) -> list[str]:
    """Write a text for each of the documents at `places`."""
    writers = Writers(
        first_languages=plan.first_languages[places],
        weakness=np.minimum(0.9, WRONG_CHOICES[grammar] * plan.weakness[places]),
    )
    targets = rng.gamma(4.0, LEAST_CHARACTERS[grammar] / 4.0, len(places))
    sentences = np.maximum(2, np.ceil(targets / prompt.mean_characters)).astype(int)
    closes = np.full(len(places), bool(prompt.closings)) & (prompt.is_letter | (sentences > 2))
    inner = np.maximum(1, sentences - 1 - closes)
    openings = _draw_any(rng, prompt.openings, writers)
    closings = _draw_any(rng, prompt.closings, writers) if prompt.closings else openings
    bodies = _draw_bodies(rng, prompt, writers, inner).tolist()
    ends = np.cumsum(inner).tolist()
    has_paragraphs = (rng.random(len(places)) < 0.3).tolist()
    slips = rng.poisson(MISSPELLINGS_PER_SENTENCE[grammar] * plan.weakness[places] * sentences).tolist()
    misspellings = phrases()["misspellings"]
    picks = rng.integers(0, len(misspellings), sum(slips)).tolist()
    texts = []
    for row, end in enumerate(ends):
        body = bodies[end - inner[row] : end]
        if has_paragraphs[row] and len(body) > 3:
            half = len(body) // 2
            body[half : half + 2] = [f"{body[half]}\n{body[half + 1]}"]
        edge = "\n" if prompt.is_letter else " "
        text = openings[row] + edge + " ".join(body) + (edge + closings[row] if closes[row] else "")
        if grammar >= KNOWS_AN:
            text = BEFORE_VOWEL.sub(r"\1n", text)
        for _ in range(slips[row]):
            text = text.replace(*misspellings[picks.pop()], 1)
        texts.append(text)
    return texts


def _draw_any(rng: np.random.Generator, sentences: tuple[Sentence, ...], writers: Writers) -> np.ndarray:
    """Draw one of the sentences for each writer."""
    return _draw(rng, sentences, rng.integers(0, len(sentences), len(writers.weakness)), writers)


def _draw_bodies(rng: np.random.Generator, prompt: WritingPrompt, writers: Writers, counts: np.ndarray) -> np.ndarray:
    """Draw `counts` sentences for each writer, writer by writer; none is repeated before all were used."""
    order = np.argsort(rng.random((len(counts), len(prompt.bodies))), axis=1)
    owners = np.repeat(np.arange(len(counts)), counts)
    turns = np.arange(len(owners)) - np.repeat(np.cumsum(counts) - counts, counts)
    return _draw(rng, prompt.bodies, order[owners, turns % len(prompt.bodies)], writers.take(owners))


def _draw(
    rng: np.random.Generator, sentences: tuple[Sentence, ...], chosen: np.ndarray, writers: Writers
) -> np.ndarray:
    drawn = np.empty(len(chosen), dtype=object)
    for index, sentence in enumerate(sentences):
        places = np.flatnonzero(chosen == index)
        if len(places):
            drawn[places] = sentence.draw(rng, writers.take(places))
    return drawn


def _plant_copies(rng: np.random.Generator, plan: _Plan, texts: list[str], names: list[str]) -> None:
    """Submit some texts twice within their level: unchanged, in capitals with other spacing, or without one word."""
    draw = rng.random(len(texts))
    copies = np.flatnonzero(draw < EXACT_COPIES + NEAR_COPIES)
    is_copy = np.zeros(len(texts), dtype=bool)
    is_copy[copies] = True
    for copy in copies.tolist():
        sources = np.flatnonzero((plan.levels == plan.levels[copy]) & ~is_copy)
        if not len(sources):
            continue
        source = int(sources[rng.integers(0, len(sources))])
        names[copy], text = names[source], texts[source]
        if draw[copy] < EXACT_COPIES / 2:
            texts[copy] = text
        elif draw[copy] < EXACT_COPIES:
            texts[copy] = text.upper().replace(". ", ".  ")
        else:
            words = text.split(" ")
            del words[int(rng.integers(0, len(words)))]
            texts[copy] = " ".join(words)
