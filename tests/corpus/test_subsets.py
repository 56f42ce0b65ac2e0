"""Random parts of the documents: of the size asked for, and the same whoever draws them."""

import numpy as np
import pytest

from raysweep.config.control_settings import SubsetConfig
from raysweep.corpus.subsets import choose_subset

LEVELS = ("A1", "A2", "B1")


@pytest.fixture
def corpus():
    """Documents of three levels, 500, 300 and 100, in no order."""
    rng = np.random.default_rng(0)
    numbers = rng.choice(5000, 900, replace=False)
    return numbers, rng.permutation(np.repeat(LEVELS, [500, 300, 100]))


def choose(corpus, level, *, disjoint=False, seed=0):
    return choose_subset(*corpus, LEVELS, SubsetConfig(size_of=level, disjoint=disjoint, seed=seed))


def test_a_random_subset_has_the_size_of_its_level_and_represents_all_levels(corpus):
    """Levels are represented in proportion, up to chance."""
    part = choose(corpus, "A2")
    assert len(part) == len(set(part.tolist())) == 300
    level_of = dict(zip(*(column.tolist() for column in corpus), strict=True))
    assert np.mean([level_of[document] == "A1" for document in part.tolist()]) == pytest.approx(500 / 900, abs=0.08)


def test_disjoint_subsets_use_every_document_once(corpus):
    """The disjoint subsets together cover the corpus, as levels do."""
    parts = [choose(corpus, level, disjoint=True) for level in LEVELS]
    assert [len(part) for part in parts] == [500, 300, 100]
    assert sorted(np.concatenate(parts).tolist()) == sorted(corpus[0].tolist())


def test_subsets_depend_on_the_seed_but_not_on_document_order(corpus):
    """Workers that list the documents otherwise choose the same ones."""
    order = np.random.default_rng(1).permutation(900)
    shuffled = corpus[0][order], corpus[1][order]
    for disjoint in (False, True):
        same = choose(shuffled, "B1", disjoint=disjoint).tolist()
        assert same == choose(corpus, "B1", disjoint=disjoint).tolist()
        assert same != choose(corpus, "B1", disjoint=disjoint, seed=1).tolist()
