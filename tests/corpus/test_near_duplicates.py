"""Texts that are almost the same: all of them are found, and nothing else, however they are looked for."""

import csv
import tracemalloc
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations, pairwise

import numpy as np
import pyarrow as pa
import pytest

from raysweep.corpus import bucket_mates, candidate_pairs, near_duplicates, near_kernels
from raysweep.corpus.candidate_pairs import CandidatePairs
from raysweep.corpus.distinct_pairs import DistinctPairs
from raysweep.corpus.near_duplicates import NearDuplicates, find_near_duplicates
from raysweep.corpus.splits import join_groups
from raysweep.corpus.text_groups import find_divided, group_by_text, near_in_other_splits

TEXT = "Last summer I went to the sea with my family and we saw many beautiful birds over the water every morning"


def words_of(text):
    """An independent reading of what a word is."""
    kept = "".join(c for c in text.casefold() if c not in "'\N{RIGHT SINGLE QUOTATION MARK}")
    return "".join(c if c.isalnum() else " " for c in kept).split()


def similarity(first, second):
    """1 − Levenshtein distance in words over the longer text's words, cell by cell."""
    row = list(range(len(second) + 1))
    for i, word in enumerate(first, start=1):
        last, row[0] = row[0], i
        for j, candidate in enumerate(second, start=1):
            last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (word != candidate))
    return 1 - row[-1] / max(len(first), len(second), 1)


def find(texts, threshold=0.9) -> NearDuplicates:
    return find_near_duplicates(pa.chunked_array([pa.array(texts, pa.large_string())]), threshold=threshold)


def pairs_of(near: NearDuplicates) -> set[tuple[int, int]]:
    """Pairs of documents, those of equal words included."""
    members = defaultdict(list)
    for document, code in enumerate(near.words.tolist()):
        members[code].append(document)
    linked = [(code, code) for code in members] + [tuple(pair) for pair in near.pairs.tolist()]
    return {(min(a, b), max(a, b)) for left, right in linked for a in members[left] for b in members[right] if a != b}


def true_pairs(texts, threshold):
    """All pairs that are similar enough; those that share too few words are not measured."""
    words = [words_of(text) for text in texts]
    bags = [set(text_words) for text_words in words]
    pairs = set()
    for text in range(len(texts)):
        for other in range(text + 1, len(texts)):
            longer = max(len(words[text]), len(words[other]))
            if abs(len(words[text]) - len(words[other])) > (1 - threshold) * longer + 1e-6:
                continue
            if len(bags[text] - bags[other]) > (1 - threshold) * longer + 1e-6:
                continue
            if longer and similarity(words[text], words[other]) >= threshold - 1e-6:
                pairs.add((text, other))
    return pairs


@pytest.mark.parametrize(
    ("other", "is_near"),
    [
        (TEXT.replace("beautiful", "small"), True),
        (TEXT.replace("beautiful ", ""), True),
        (TEXT + " again", True),
        (TEXT.upper(), True),
        (TEXT.replace(" ", "\n  "), True),
        (TEXT.replace("I went", "I, went,") + "!", True),
        (TEXT.replace("Last", "\N{LEFT DOUBLE QUOTATION MARK}Last\N{RIGHT DOUBLE QUOTATION MARK}"), True),
        (TEXT.replace("beautiful birds over", "ugly fish in"), False),
        (" ".join(reversed(TEXT.split())), False),
        ("", False),
    ],
)
def test_texts_with_at_most_one_changed_word_in_ten_are_near_duplicates(other, is_near):
    """Case, white space and punctuation make no difference."""
    assert pairs_of(find([TEXT, "Something else entirely", other])) == ({(0, 2)} if is_near else set())


def test_the_search_finds_the_pairs_of_an_exhaustive_comparison(sample_csv):
    """No near duplicate or copy in the sample is missed, and none is invented."""
    with sample_csv.open(newline="", encoding="utf-8") as file:
        texts = [row["text"] for row in csv.DictReader(file)]
    expected = true_pairs(texts, 0.9)
    assert len(expected) > 20
    assert pairs_of(find(texts)) == expected


def test_the_edit_distance_equals_that_of_the_full_table():
    """Texts of three words, so that many paths lead through it, up to each number of edits; −1 beyond it."""
    rng = np.random.default_rng(0)
    distances = set()
    for _ in range(400):
        first = rng.integers(0, 3, rng.integers(1, 30)).astype(np.uint32)
        other = np.delete(first, rng.integers(0, len(first), rng.integers(0, 4)))
        other = np.insert(other, rng.integers(0, len(other) + 1, rng.integers(1, 5)), rng.integers(0, 3)).astype(
            np.uint32
        )
        longer = max(len(first), len(other))
        true = round((1 - similarity(first.tolist(), other.tolist())) * longer)
        for most in (0, max(0, true - 1), min(true, longer // 2), longer // 2):
            room = np.full((2, 2 * most + 3), 77, dtype=np.int32)
            assert near_kernels.edit_distance(first, other, most, room) == (true if true <= most else -1)
        distances.add(true)
    assert len(distances) > 4


def test_similarity_is_the_fraction_of_unchanged_words():
    """One word of twenty-one is changed."""
    near = find([TEXT, TEXT.replace("beautiful", "small")])
    assert near.pairs.tolist() == [[0, 1]]
    assert near.similarities[0] == pytest.approx(
        similarity(words_of(TEXT), words_of(TEXT.replace("beautiful", "small")))
    )


def test_texts_without_words_have_no_near_duplicates():
    """Texts of a single letter are not near duplicates of each other either."""
    assert pairs_of(find(["", "!!", "...", "a", "b", " ", ""])) == set()


def test_letters_beyond_ascii_are_words_and_case_is_ignored():
    """This holds in all languages; full-width letters are letters too."""
    text = "Žluťoučký kůň úpěl ďábelské ódy a potom šel domů spát"
    assert pairs_of(find([text, text.upper(), text.replace("kůň", "pes"), "Ａ ｂ", "a B"])) == {
        (0, 1),
        (0, 2),
        (1, 2),
        (3, 4),
    }


@pytest.mark.parametrize(
    ("letters", "marks"),
    [
        ([chr(0x4E00 + 7 * n) for n in range(600)], "，。"),
        ([chr(0x3042 + n) for n in range(70)] + [chr(0x4E00 + 31 * n) for n in range(200)], "、。"),
        ([chr(0x0E01 + n) for n in range(44)] + [chr(0x20000 + n) for n in range(200)], " "),
    ],
    ids=["Chinese", "Japanese", "Thai, and Han beyond 16 bits"],
)
def test_near_duplicates_are_found_in_scripts_without_spaces(letters, marks):
    """A character is a word: between two marks lie whole clauses, and a changed one would make the texts strangers."""
    rng = np.random.default_rng(0)
    texts = []
    for _ in range(40):
        text = rng.choice(letters, rng.integers(60, 160))
        other = text.copy()
        other[rng.choice(len(text), len(text) // 15, replace=False)] = rng.choice(letters)
        for characters in (text, other):
            is_marked = rng.random(len(text)) < 0.08  # other punctuation makes no difference
            marked = [
                character + marks[number % len(marks)] * bool(is_marked[number])
                for number, character in enumerate(characters)
            ]
            texts.append("".join(marked))
    near = find(texts)
    assert pairs_of(near) == {(2 * number, 2 * number + 1) for number in range(40)}


def test_scripts_with_spaces_are_divided_into_words_at_spaces():
    """Hindi and Korean have them; their characters take three bytes too."""
    for text in ("मैं आज सुबह अपने दोस्त के साथ बाज़ार गया था", "저는 오늘 아침에 친구와 함께 시장에 가서 과일을 샀습니다"):
        sequences = find([text]).sequences
        assert len(sequences.words) == len(text.split())
    # A word in Latin letters inside of a Chinese text, and a middle dot between two kana words.
    assert len(find(["我用Python写字"]).sequences.words) == 5
    assert len(find(["ア・イ"]).sequences.words) == 2


def test_a_large_bucket_of_similar_texts_is_not_compared_in_full_but_is_counted(monkeypatch):
    """The work stays bounded where thousands answer a task in nearly the same words."""
    texts = [f"{TEXT} number{n}" for n in range(60)]
    everything = find(texts)
    assert len(everything.pairs) == 60 * 59 // 2
    assert everything.not_compared == 0
    monkeypatch.setattr(bucket_mates, "_REACH", 4)
    bounded = find(texts)
    assert bounded.not_compared > 0
    assert 59 <= len(bounded.pairs) < len(everything.pairs)


def test_pairs_found_by_every_band_take_the_memory_of_one_band():
    """Near-equal texts share their bucket in all bands, and a crowd of them has millions of pairs."""
    rng = np.random.default_rng(0)
    count, bands = 1000, 60
    pairs = np.stack(np.triu_indices(200), axis=1)

    def similarity_of(some):
        return (some[:, 0] / (1 + some[:, 1])).astype(np.float32)

    distinct, expected = DistinctPairs(count), set()
    tracemalloc.start()
    for _ in range(bands):
        others = np.sort(rng.integers(0, count, (10, 2)), axis=1)
        some = rng.permutation(np.concatenate([pairs, others]))
        distinct.add(some, similarity_of(some))
        expected |= set(map(tuple, others.tolist()))
    merged, similarities = distinct.merged()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert merged.tolist() == sorted(map(list, expected | set(map(tuple, pairs.tolist()))))
    assert np.array_equal(similarities, similarity_of(merged))
    of_all = bands * len(pairs) * (8 + 4)  # a number of 64 bits and a similarity
    assert peak < of_all / 2


def test_merging_no_pairs_gives_no_pairs():
    """A corpus may have no similar texts."""
    merged, similarities = DistinctPairs(0).merged()
    assert merged.shape == (0, 2)
    assert similarities.shape == (0,)


CANDIDATES_AT_ONCE = (bucket_mates, "_CANDIDATES_AT_ONCE")
PAIRS_OF_RUN, PAIRS_AT_ONCE = (candidate_pairs, "_PAIRS_OF_RUN"), (candidate_pairs, "_PAIRS_AT_ONCE")
CANDIDATES_IN_FILE = (near_duplicates, "_CANDIDATES_IN_FILE")


@pytest.mark.parametrize(
    "limits",
    [
        [CANDIDATES_AT_ONCE],
        [(bucket_mates, "_ROWS_AT_ONCE")],
        [(candidate_pairs, "_WORDS_OF_RANGE")],
        [PAIRS_OF_RUN],
        [PAIRS_AT_ONCE],
        [CANDIDATES_IN_FILE],
        [CANDIDATES_AT_ONCE, PAIRS_OF_RUN, CANDIDATES_IN_FILE],
        [(near_duplicates, "BLOCK_DOCUMENTS")],
    ],
    ids=lambda limits: " ".join(name for _, name in limits),
)
def test_blocks_parts_and_threads_do_not_change_the_pairs(monkeypatch, limits, sample_csv):
    """Texts are sketched a block at a time, bands compared a part at a time, and candidates measured some at a time."""
    with sample_csv.open(newline="", encoding="utf-8") as file:
        texts = [row["text"] for row in csv.DictReader(file)][:400]
    texts += [f"{TEXT} number{n}" for n in range(30)]
    monkeypatch.setattr(pa, "cpu_count", lambda: 1)
    whole = find(texts)
    assert len(whole.pairs) >= 30 * 29 // 2
    monkeypatch.setattr(bucket_mates, "_REACH", 40)
    for module, limit in limits:
        monkeypatch.setattr(module, limit, 64)
    monkeypatch.setattr(pa, "cpu_count", lambda: 3)
    pairs = find(texts)
    for name in ("words", "pairs", "similarities"):
        assert np.array_equal(getattr(pairs, name), getattr(whole, name))


def test_candidates_are_compared_before_they_fill_the_disk(monkeypatch):
    """One bucket may hold the whole corpus, so even a part of a band stops at the limit, and later continues there."""
    texts = [f"{TEXT} number{n}" for n in range(300)]
    monkeypatch.setattr(bucket_mates, "_REACH", 100)
    whole = find(texts)
    assert whole.not_compared > 0
    counts, running = [], []

    class NotedPairs(CandidatePairs):
        def add(self, pairs):
            running.append(self)
            super().add(pairs)

        def blocks(self):
            counts.append(self.count)
            running.clear()
            yield from super().blocks()
            assert not running, "nobody adds while pairs are read"

    monkeypatch.setattr(near_duplicates, "CandidatePairs", NotedPairs)
    for module, limit, value in ((*CANDIDATES_AT_ONCE, 200), (*PAIRS_OF_RUN, 500), (*CANDIDATES_IN_FILE, 3000)):
        monkeypatch.setattr(module, limit, value)
    for threads in (1, 3):
        counts.clear()
        monkeypatch.setattr(pa, "cpu_count", lambda threads=threads: threads)
        actual = find(texts)
        assert len(counts) > 10
        assert max(counts) < 3000 + threads * 200
        assert np.array_equal(actual.pairs, whole.pairs)
        assert actual.not_compared == whole.not_compared


def test_pairs_added_by_several_threads_at_once_are_all_kept(monkeypatch):
    """Whichever thread fills a run writes it, while the others go on adding."""
    for module, limit, value in ((*PAIRS_OF_RUN, 1000), (*PAIRS_AT_ONCE, 300)):
        monkeypatch.setattr(module, limit, value)
    texts = 1 << 18
    some = np.sort(np.random.default_rng(0).integers(0, texts, (40, 500, 2)), axis=2)
    for words in (texts, texts << 10):  # one block, and many
        candidates = CandidatePairs(None, texts=texts, words=words)
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(candidates.add, [*some, *some]))
        assert candidates.count == 2 * 40 * 500
        blocks = list(candidates.blocks())
        assert max(map(len, blocks)) <= 300
        every = list(map(tuple, np.concatenate(blocks).tolist()))
        assert len(every) == len(set(every)), "each pair comes once, however many runs it is in"
        assert set(every) == set(map(tuple, some.reshape(-1, 2).tolist()))


def test_a_pair_of_removed_texts_is_not_counted():
    """The last text of the corpus may have been set aside."""
    near = find([TEXT, "Something else", TEXT + " here"]).filtered(np.array([True, True, False]))
    others, any_near = near_in_other_splits(near, np.array([0, 2]), np.array([0, 1]))
    assert not others.any()
    assert not any_near.any()


def test_groups_are_joined_by_links_up_to_a_maximum_size():
    """A chain of similar texts must not join the whole corpus into one group."""
    groups, hashes = np.arange(6), np.arange(10, 16, dtype=np.uint64)
    links = np.array([[0, 1], [2, 3], [1, 2], [4, 5]])
    joined, joined_hashes, refused = join_groups(groups, hashes, links, largest=3)
    assert joined.tolist() == [0, 0, 1, 1, 2, 2]
    assert joined_hashes.tolist() == [10, 12, 14]
    assert refused.tolist() == [False, False, True, False]
    assert join_groups(groups, hashes, links, largest=4)[0].tolist() == [0, 0, 0, 0, 1, 1]


def test_the_most_similar_texts_are_grouped_first():
    """If not all texts can be in one group, the most similar ones are."""
    texts = [f"{TEXT} {TEXT}", f"{TEXT} {TEXT} once more or so", f"{TEXT} {TEXT} once more or so here"]
    near = find(texts)
    assert len(near.pairs) == 3 - (similarity(words_of(texts[0]), words_of(texts[2])) < 0.9)
    grouped = group_by_text(np.arange(3), np.arange(3, dtype=np.uint64), np.arange(3), near, is_near_grouped=True)
    assert grouped.groups.tolist() == [0, 0, 0]
    assert grouped.near_not_tied == grouped.equal_not_tied == 0
    apart = group_by_text(np.arange(3), np.arange(3, dtype=np.uint64), np.arange(3), near, is_near_grouped=False)
    assert apart.groups.tolist() == [0, 1, 2]
    order = np.concatenate([near.pairs[np.argsort(-near.similarities)]])
    assert join_groups(np.arange(3), np.arange(3, dtype=np.uint64), order, largest=2)[0].tolist() == [0, 1, 1]


def test_documents_that_a_split_still_divides_are_listed_outside_train():
    """Valid gives way to train, and test to both; equal texts are told from almost equal ones."""
    near = find([TEXT, TEXT + " here", TEXT + " there", "Something else", TEXT])
    texts = np.array([0, 1, 2, 3, 0])

    def divided(*splits, is_near_grouped=True):
        both = find_divided(near, np.array(splits), texts, is_near_grouped=is_near_grouped)
        return [np.flatnonzero(mask).tolist() for mask in both]

    assert divided(0, 1, 2, 2, 0) == [[], [1, 2]]
    assert divided(1, 1, 2, 2, 1) == [[], [2]]
    assert divided(2, 2, 2, 0, 2) == [[], []]
    assert divided(0, 0, 0, 0, 2) == [[4], []]
    assert divided(1, 2, 2, 0, 2) == [[4], [1, 2]]
    assert divided(1, 2, 2, 0, 2, is_near_grouped=False) == [[4], []]


def group_learners(texts, learners):
    near = find(texts)
    codes = np.unique([text.casefold() for text in texts], return_inverse=True)[1]
    groups = np.asarray(learners)
    hashes = np.arange(groups.max() + 1, dtype=np.uint64)
    return group_by_text(groups, hashes, codes, near, is_near_grouped=True)


def test_a_short_text_by_ten_learners_does_not_group_them():
    """Such a text does not prove copying; a text of nine learners, or a longer one, joins their groups."""
    for text, learners, is_tied in [
        ("Thank you.", 10, False),
        ("Thank you.", 9, True),
        ("I was at home all day with my cat.", 10, True),
    ]:
        grouped = group_learners([text] * learners, range(learners))
        assert len(set(grouped.groups.tolist())) == (1 if is_tied else learners)
        assert grouped.equal_not_tied == (0 if is_tied else learners - 1)
        assert grouped.untied.tolist() == [not is_tied] * learners


def test_a_short_text_with_other_punctuation_does_not_group_its_learners():
    """Otherwise the rule would hold for equal texts and be undone for almost equal ones."""
    grouped = group_learners(["Thank you!", "thank, you."] * 10, range(20))
    assert len(set(grouped.groups.tolist())) == 20
    assert (grouped.equal_not_tied, grouped.near_not_tied) == (18, 19)


def test_a_text_copied_by_everyone_groups_at_most_a_fiftieth_of_the_corpus():
    """The rarest texts are tied first, so a pair who copied from each other stays together."""
    common = "this is the model answer that our teacher wrote on the board"
    rare = "only two of us have handed in this one and it is long"
    texts = [common] * 100 + [rare, rare] + [f"text number {n} of the others" for n in range(400)]
    grouped = group_learners(texts, [*range(100), 0, 99, *range(100, 500)])
    assert grouped.groups[100] == grouped.groups[101]
    assert np.bincount(grouped.groups).max() == 20
    assert grouped.equal_not_tied > 0
    assert set(np.flatnonzero(grouped.untied).tolist()) <= set(range(100))


def test_the_prefix_and_suffix_filter_never_drops_a_pair_within_the_edit_limit():
    """Texts of up to 40 words of an alphabet of three, edited at any place, against their edit distance."""
    rng = np.random.default_rng(0)
    texts = []
    for _ in range(60):
        text = rng.integers(0, 3, rng.integers(1, 41)).tolist()
        texts.append(text)
        for _ in range(int(rng.integers(1, 8))):
            place = int(rng.integers(0, len(text)))
            text = text[:place] + rng.integers(0, 3, rng.integers(0, 3)).tolist() + text[place + rng.integers(0, 2) :]
            texts.append(text or [0])
    block = near_duplicates.sketch(pa.array([" ".join(map(str, text)) for text in texts], pa.large_string()))
    pairs, at = np.empty((len(texts) ** 2, 2), dtype=np.int64), np.zeros(2, dtype=np.int64)
    begins, lengths = np.array([0, len(texts)]), block.lengths.astype(np.int32)
    count = near_kernels.find_candidates(block.packed, lengths, begins, len(texts), 0, 0, 0.2, at, pairs)
    actual = set(map(tuple, pairs[:count].tolist()))
    expected = {
        (left, right)
        for left, right in combinations(range(len(texts)), 2)
        if similarity(texts[left], texts[right]) >= 0.8 - 1e-6
    }
    assert len(expected) > 100
    assert expected <= actual
    assert len(actual) < 4 * len(expected) < len(texts) ** 2 / 10


def test_buckets_stay_whole_if_keys_differ_only_in_low_bits():
    """Rows replace the low bits of mixed keys before they are sorted, so such keys come to lie between each other."""
    mixed = np.array([8, 9, 8, 9, 800], dtype=np.uint64)
    halves = mixed * np.uint64(pow(0x9E3779B97F4A7C15, -1, 1 << 64))
    rows, begins = bucket_mates._buckets(halves ^ (halves >> np.uint64(32)))
    assert [sorted(rows[begin:end].tolist()) for begin, end in pairwise(begins.tolist())] in (
        [[0, 2], [1, 3]],
        [[1, 3], [0, 2]],
    )
