"""The synthetic corpus: what it may be relied on for."""

import csv
import math
from collections import Counter, defaultdict
from itertools import pairwise

import pytest

from raysweep.corpus.normalising import normalise_text
from raysweep.corpus.sample import COLUMN_NAMES, SYNTHETIC_NOTICE, SYNTHETIC_PREFIX, write_sample
from raysweep.corpus.sample_grammar import phrases, prompts_of
from raysweep.errors import ConfigError
from tests.corpus.odd_csv import LEVELS

ROWS = 6000


def read(path) -> list[dict]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def rows(tmp_path_factory) -> list[dict]:
    path = tmp_path_factory.mktemp("sample") / "sample.csv"
    write_sample(path, rows=ROWS, seed=0, levels=LEVELS)
    return read(path)


def test_the_sample_has_the_corpus_columns_and_says_that_it_is_synthetic(rows):
    """Every id says so, because a CSV file has no comments."""
    assert tuple(rows[0]) == COLUMN_NAMES
    assert all(row["writing_id"].startswith(SYNTHETIC_PREFIX) for row in rows)
    assert len({row["writing_id"] for row in rows}) == ROWS
    assert "synthetic" in SYNTHETIC_NOTICE


def test_the_same_seed_gives_the_same_file_and_another_seed_another(tmp_path):
    """Every run on the sample can be repeated."""
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_sample(tmp_path / name, rows=300, seed=seed, levels=LEVELS)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert (tmp_path / "a").read_bytes() != (tmp_path / "c").read_bytes()


def test_full_chunks_do_not_depend_on_the_number_of_rows(rows, tmp_path):
    """A larger sample begins with the full chunks of a smaller one."""
    write_sample(tmp_path / "more.csv", rows=ROWS + 50, seed=0, levels=LEVELS)
    assert read(tmp_path / "more.csv")[:4096] == rows[:4096]


def test_levels_and_first_languages_have_the_shares_of_efcamdat(rows):
    """Within 1.5 and 3 points: learners come as a whole, about four texts each."""
    levels = Counter(row["cefr_level"] for row in rows)
    for level, share in zip(LEVELS, (0.472, 0.298, 0.161, 0.056, 0.014), strict=True):
        assert levels[level] / ROWS == pytest.approx(share, abs=0.015)
    languages = Counter(row["l1"] for row in rows)
    assert set(languages) == set(phrases()["homes"])
    assert languages["Portuguese"] / ROWS == pytest.approx(0.433, abs=0.03)
    assert languages["Turkish"] / ROWS == pytest.approx(0.014, abs=0.01)


def test_mean_text_length_rises_with_the_level(rows):
    """Mean characters about 145, 270, 425, 620, 790, within a quarter."""
    lengths = defaultdict(list)
    for row in rows:
        lengths[row["cefr_level"]].append(len(row["text"]))
    for level, expected in zip(LEVELS, (145, 270, 425, 620, 790), strict=True):
        assert sum(lengths[level]) / len(lengths[level]) == pytest.approx(expected, rel=0.25)


def test_learners_write_several_texts_mostly_in_one_level(rows):
    """Real learners do so too; grouping by learner is therefore needed."""
    texts, languages = defaultdict(list), defaultdict(set)
    for row in rows:
        texts[row["learner_id"]].append(row["cefr_level"])
        languages[row["learner_id"]].add(row["l1"])
    assert all(len(languages_of_learner) == 1 for languages_of_learner in languages.values())
    assert ROWS / len(texts) > 3
    in_two = sum(len(set(levels)) > 1 for levels in texts.values())
    assert 0 < in_two < 0.06 * len(texts)


def test_prompts_belong_to_a_level(rows):
    """The id of a prompt begins with the name of its level."""
    prompts = {(row["cefr_level"], row["prompt_id"]) for row in rows}
    assert all(prompt.startswith(f"{level}-") for level, prompt in prompts)
    assert all(sum(level == level_of_prompt for level_of_prompt, _ in prompts) >= 4 for level in LEVELS)


def test_texts_are_distinct_except_planted_copies(rows):
    """About one in a hundred is handed in twice, in capitals sometimes; others hardly ever meet by chance."""
    texts = Counter(normalise_text(row["text"]) for row in rows)
    extra = ROWS - len(texts)
    assert 0.005 * ROWS < extra < 0.025 * ROWS
    long = [text for text in texts.elements() if len(text) > 200]
    assert len(long) - len(set(long)) < 0.02 * len(long)


def test_some_texts_have_line_breaks(rows):
    """Letters and texts with paragraphs are quoted in the CSV."""
    assert 0.1 < sum("\n" in row["text"] for row in rows) / ROWS < 0.6


def test_misspellings_become_rarer_with_the_level(rows):
    """Misspellings per word that no correct sentence of the lists holds."""
    misspelt = ("becouse", "freind", "beatiful", "verry", "famili", "wold", "compagny", "belive", "whit ", "wich")
    rates = []
    for level in LEVELS:
        texts = [row["text"] for row in rows if row["cefr_level"] == level]
        words = sum(len(text.split()) for text in texts)
        rates.append(sum(text.count(misspelling) for text in texts for misspelling in misspelt) / words)
    assert rates[0] > 2 * rates[3] > 0
    assert rates[1] > 2 * rates[3]
    assert rates[2] > rates[3] > rates[4]


def test_a_bigram_model_of_a_level_scores_best_on_that_level(rows):
    """The truth that the default run must show, measured with word pairs: an add-one bigram model per level."""
    train, test = defaultdict(list), defaultdict(list)
    seen = set()
    for row in rows:
        if (text := normalise_text(row["text"])) not in seen:  # copies would help a level cheaply
            seen.add(text)
            (test if len(seen) % 5 == 0 else train)[row["cefr_level"]].append(text.split())
    vocabulary = {
        word
        for texts_by_level in (train, test)
        for texts in texts_by_level.values()
        for words in texts
        for word in words
    }

    def loss(level: str, on: str) -> float:
        texts = train[level][:60]  # as many as C1 has, so that no model wins by its size
        pairs = Counter(pair for words in texts for pair in pairwise(words))
        firsts = Counter(word for words in texts for word in words[:-1])
        bigrams = [pair for words in test[on] for pair in pairwise(words)]
        return -sum(math.log((pairs[a, b] + 0.1) / (firsts[a] + 0.1 * len(vocabulary))) for a, b in bigrams) / len(
            bigrams
        )

    for on in LEVELS:
        losses = {level: loss(level, on) for level in LEVELS}
        assert min(losses, key=losses.get) == on, losses
        others = [value for level, value in losses.items() if level != on]
        assert min(others) - losses[on] > 0.3  # nats per word: far from a tie


def test_shares_per_level_are_configurable(tmp_path):
    """A level that is not named gets no documents."""
    write_sample(tmp_path / "s.csv", rows=400, seed=0, levels=LEVELS, level_shares={"A1": 1, "C1": 3})
    counts = Counter(row["cefr_level"] for row in read(tmp_path / "s.csv"))
    assert counts == {"A1": 100, "C1": 300}


def test_a_share_for_an_unknown_level_is_refused(tmp_path):
    """No file is written."""
    with pytest.raises(ConfigError, match=r"data\.sample\.level_shares: found 'D1'; known levels are A1, A2"):
        write_sample(tmp_path / "s.csv", rows=10, seed=0, levels=LEVELS, level_shares={"D1": 1})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("levels", [("beginner", "advanced"), ("A1", "A2", "B1", "B2", "C1", "C2"), ("only",)])
def test_other_levels_use_the_grammars_in_order(tmp_path, levels):
    """Names are the config's; the first five levels differ, further ones speak like the fifth."""
    write_sample(tmp_path / "s.csv", rows=500, seed=0, levels=levels)
    words_by_level = defaultdict(set)
    for row in read(tmp_path / "s.csv"):
        words_by_level[row["cefr_level"]].add(row["prompt_id"].removeprefix(row["cefr_level"] + "-"))
    assert set(words_by_level) == set(levels)
    for place, level in enumerate(levels):
        assert words_by_level[level] <= {prompt.name for prompt in prompts_of(min(place, 4))}


@pytest.mark.parametrize("rows", [1, 10])
def test_a_sample_of_one_row_can_be_generated(tmp_path, rows):
    """Even a sample of one row can be generated."""
    write_sample(tmp_path / "s.csv", rows=rows, seed=0, levels=LEVELS)
    assert len(read(tmp_path / "s.csv")) == rows
