"""How documents are divided: in proportion, never across a group, and by the seed alone."""

import tracemalloc
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest

from raysweep.config.data_settings import SplitConfig
from raysweep.corpus.near_duplicates import find_near_duplicates
from raysweep.corpus.normalising import normalise_text
from raysweep.corpus.splits import SPLITS, Strata, group_documents, hash_texts, split_documents
from raysweep.corpus.text_groups import group_by_text

SHARES = SplitConfig(train=0.8, valid=0.1, test=0.1)


def strata_of(levels, first_languages) -> Strata:
    return Strata(levels=np.array(levels), first_languages=np.array(first_languages))


def random_strata(rng, documents: int) -> Strata:
    """Level and first-language shares like EFCAMDAT's."""
    return strata_of(
        rng.choice(5, documents, p=[0.47, 0.30, 0.16, 0.056, 0.014]),
        rng.choice(4, documents, p=[0.6, 0.25, 0.13, 0.02]),
    )


def split_singles(strata: Strata, shares: SplitConfig = SHARES, seed: int = 0) -> np.ndarray:
    """Split documents that have nothing in common."""
    texts = [f"text {number}" for number in range(len(strata.levels))]
    return split_documents(strata, *group_documents(hash_texts(texts, seed)), shares)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("Hello  World", "hello\nworld "),
        ("ﬁne", "FINE"),
        ("Straße", "STRASSE"),
        ("a\u00a0b", "a b"),
        ("Cafe\u0301", "café"),
        ("ＡＢＣ", "abc"),
    ],
)
def test_texts_are_equal_up_to_case_white_space_and_unicode_form(first, second):
    """A copy that was typed in capitals or pasted with other spaces is still the same text."""
    assert normalise_text(first) == normalise_text(second)
    assert len(set(hash_texts([first, second], 5).tolist())) == 1


def test_texts_that_differ_in_a_letter_are_not_equal():
    """Only copies are kept in one split."""
    assert len(set(hash_texts(["a b", "ab", "a c", "á b", "a, b"], 0).tolist())) == 5


def test_every_level_gets_its_shares_within_one_document():
    """0.1 % of the level's documents or one, whichever is more; here one, whatever the level's size."""
    strata = random_strata(np.random.default_rng(0), 20_000)
    splits = split_singles(strata)
    for level in range(5):
        inside = splits[strata.levels == level]
        for index, share in enumerate((0.8, 0.1, 0.1)):
            assert abs((inside == index).sum() - share * len(inside)) <= 1, (level, SPLITS[index])


def test_every_first_language_of_a_level_gets_its_shares():
    """A stratum's splits are in proportion too, or a model would be tested on other writers than it saw."""
    strata = random_strata(np.random.default_rng(1), 20_000)
    splits = split_singles(strata)
    for level in range(5):
        for language in range(4):
            inside = splits[(strata.levels == level) & (strata.first_languages == language)]
            for index, share in enumerate((0.8, 0.1, 0.1)):
                assert abs((inside == index).sum() - share * len(inside)) <= 2


@pytest.mark.parametrize("shares", [(0.6, 0.2, 0.2), (0.98, 0.01, 0.01), (1 / 3, 1 / 3, 1 / 3)])
def test_any_configured_shares_are_reached(shares):
    """The shares come from the config."""
    strata = strata_of([0] * 1000, [0, 1] * 500)
    splits = split_singles(strata, SplitConfig(train=shares[0], valid=shares[1], test=1 - shares[0] - shares[1]))
    counts = np.bincount(splits, minlength=3)
    assert np.abs(counts - 1000 * np.array(shares)).max() <= 1


def group(texts, learners):
    """Groups and hashes of documents whose learners are known."""
    hashes = hash_texts(texts, 0)
    groups = group_documents(hash_texts(learners, 0))
    near = find_near_duplicates(pa.chunked_array([pa.array(texts, pa.large_string())]), threshold=1.0)
    grouped = group_by_text(*groups, np.unique(hashes, return_inverse=True)[1], near, is_near_grouped=False)
    assert grouped.equal_not_tied == 0
    return grouped.groups, grouped.hashes


def test_spelling_variants_of_a_learner_id_are_one_learner():
    """Unicode form, case, zero-width characters, soft hyphens and white space do not make another person."""
    spellings = [
        "Jos\u00e9 1",
        "Jose\u0301 1",
        "JOS\u00c9 1",
        "jos\u00e9\u200b 1",
        "Jo\u00ads\u00e9  1",
        "\ufeffJos\u00e9 1\ufe0f",
    ]
    groups, hashes = group([f"text {n}" for n in range(7)], [*spellings, "Jose 1"])
    assert groups.tolist() == [0] * 6 + [1]
    assert len(set(hashes.tolist())) == 2


def test_learners_and_equal_texts_are_never_divided_and_shares_still_hold():
    """Learners of several texts, some in two levels, some who hand in another's text: all stay together."""
    rng = np.random.default_rng(2)
    strata = random_strata(rng, 8000)
    writers = rng.integers(0, 2500, 8000)
    texts = [f"text {number}" for number in range(8000)]
    for copy, source in rng.integers(0, 8000, (100, 2)):
        texts[copy] = texts[source].upper()
    groups, hashes = group(texts, [f"w{writer}" for writer in writers])
    splits = split_documents(strata, groups, hashes, SHARES)
    for same in (writers, np.unique([normalise_text(text) for text in texts], return_inverse=True)[1]):
        first = np.full(8000, -1)
        first[same[::-1]] = splits[::-1]
        assert (first[same] == splits).all()
    largest = np.bincount(groups).max()
    for level in range(5):
        inside = splits[strata.levels == level]
        for index, share in enumerate((0.8, 0.1, 0.1)):
            assert abs((inside == index).sum() - share * len(inside)) <= max(1, 0.001 * len(inside), largest / 2)


def test_learners_linked_by_shared_texts_form_one_group():
    """w1 and w2 share a text, w2 and w3 another: all three belong together; w4 does not."""
    groups, hashes = group(["a", "b", "B ", "c", "C", "d"], ["w1", "w1", "w2", "w2", "w3", "w4"])
    assert len(set(groups[:5].tolist())) == 1
    assert groups[5] != groups[0]
    assert len(hashes) == 2


def test_large_groups_are_spread_over_the_splits_in_proportion():
    """Prolific learners stand in every split in proportion, or train and test would be other people."""
    sizes = np.repeat([10, 5, 1], [200, 400, 2000])
    groups = np.repeat(np.arange(len(sizes)), sizes)
    hashes = np.random.default_rng(3).integers(0, 2**63, len(sizes)).astype(np.uint64)
    splits = split_documents(strata_of(groups * 0, groups * 0), groups, hashes, SHARES)
    for size in (10, 5, 1):
        inside = splits[sizes[groups] == size]
        assert np.abs(np.bincount(inside, minlength=3) - len(inside) * np.array([0.8, 0.1, 0.1])).max() <= 20


def test_small_groups_compensate_for_large_ones():
    """Without single documents too: largest first, so the unevenness left is that of the smallest groups."""
    sizes = np.repeat([2, 7, 30], [100, 20, 9])
    groups = np.repeat(np.arange(len(sizes)), sizes)
    for seed in range(5):
        hashes = np.random.default_rng(seed).integers(0, 2**63, len(sizes)).astype(np.uint64)
        splits = split_documents(strata_of(groups * 0, groups * 0), groups, hashes, SHARES)
        assert np.abs(np.bincount(splits, minlength=3) - len(groups) * np.array([0.8, 0.1, 0.1])).max() <= 2


def test_first_languages_get_their_shares_although_learners_are_not_divided():
    """Groups of two to six documents and none of one: every stratum is within a group of its shares."""
    rng = np.random.default_rng(4)
    sizes = rng.integers(2, 7, 600)
    groups = np.repeat(np.arange(600), sizes)
    first_languages = rng.choice(8, 600)[groups]
    hashes = rng.integers(0, 2**63, 600).astype(np.uint64)
    splits = split_documents(strata_of(groups * 0, first_languages), groups, hashes, SHARES)
    for language in range(8):
        inside = splits[first_languages == language]
        off = np.abs(np.bincount(inside, minlength=3) - len(inside) * np.array([0.8, 0.1, 0.1]))
        assert off.max() <= 6


def test_a_group_larger_than_a_splits_share_goes_to_train():
    """One text handed in by half of the learners goes to train, and valid and test are filled from the rest."""
    groups = np.array([0] * 50 + list(range(1, 51)))
    hashes = np.arange(51, dtype=np.uint64)
    splits = split_documents(strata_of([0] * 100, [0] * 100), groups, hashes, SHARES)
    assert set(splits[:50].tolist()) == {0}
    assert np.bincount(splits).tolist() == [80, 10, 10]


def test_splits_depend_only_on_the_seed():
    """The same seed gives the same splits; another one gives others, independent of the first."""
    strata = strata_of([0] * 2000, [0] * 2000)
    first, again, other = (split_singles(strata, seed=seed) for seed in (1, 1, 2))
    assert (first == again).all()
    both_test = ((first == 2) & (other == 2)).sum()
    assert 5 <= both_test <= 40  # 20 expected of 2,000 if independent, standard deviation 4.2


def test_most_documents_keep_their_split_when_the_corpus_grows():
    """Documents go by the order of their hashes, so new ones move only those at the borders."""
    small = split_singles(strata_of([0] * 2000, [0] * 2000))
    grown = split_singles(strata_of([0] * 2100, [0] * 2100))
    assert (small == grown[:2000]).mean() > 0.97


def test_a_single_document_goes_to_train():
    """Splitting does not fail on a corpus of one document."""
    assert split_singles(strata_of([0], [0])).tolist() == [0]


def random_groups(learners: int, documents: int):
    """Strata, groups and hashes of documents by learners who wrote in several levels."""
    rng = np.random.default_rng(learners)
    names = pa.array(rng.integers(0, learners, documents).astype(str), pa.large_string())
    return random_strata(rng, documents), *group_documents(hash_texts(names, 3))


def test_learners_are_placed_in_the_split_that_is_furthest_behind():
    """As the rule reads, in plain Python: the largest learner first, each in the split that is furthest behind."""
    strata, groups, hashes = random_groups(200, 900)
    splits = split_documents(strata, groups, hashes, SHARES)
    members = {group: np.flatnonzero(groups == group) for group in range(len(hashes))}
    placed: dict[tuple, list[int]] = {}
    order = sorted((group for group in members if len(members[group]) > 1), key=lambda g: (-len(members[g]), hashes[g]))
    assert len(order) > 150
    for group in order:
        cells = Counter(
            (int(strata.levels[document]), int(strata.first_languages[document])) for document in members[group]
        )
        behind = [0.0, 0.0, 0.0]
        for cell, count in cells.items():
            for key in (cell, cell[:1]):
                there = placed.setdefault(key, [0, 0, 0])
                for split, share in enumerate((SHARES.train, SHARES.valid, SHARES.test)):
                    behind[split] += count * (share * (sum(there) + count) - there[split])
        chosen = behind.index(max(behind))
        for cell, count in cells.items():
            placed[cell][chosen] += count
            placed[cell[:1]][chosen] += count
        assert set(splits[members[group]].tolist()) == {chosen}


def test_splitting_by_learner_takes_little_memory():
    """Python objects for every learner took 130 bytes a document and more: 0.45 GB for 1,000,000 learners of three."""
    strata, groups, hashes = random_groups(30_000, 90_000)
    split_documents(strata, groups, hashes, SHARES)
    tracemalloc.start()
    split_documents(strata, groups, hashes, SHARES)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 50 * 90_000
