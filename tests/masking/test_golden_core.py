"""The golden core: texts of our own with expected segments, tokens, masks and examples, in every clone.

`golden_core.json` was generated once and read by a person.  Its values are checked against the kernels and, except
for where sentences end, against a slow reference below that shares no code with them and follows the published
rules: NLTK's regular expressions for words, the `tokenizers` library for ids, plain Python for masks and examples.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raysweep.config.data_settings import MaskingConfig
from raysweep.masking.mask_sampling import document_seeds, sample_masks
from raysweep.masking.segmentation import hierarchy_of, segment
from raysweep.masking.vocabulary import Kind
from raysweep.seeding import seed_for
from tests.gpt2_tokens import document_tokenizer
from tests.masking.stored_examples import tokenise_texts

CORE = json.loads((Path(__file__).parent / "golden_core.json").read_text(encoding="utf-8"))
RECORDS: list[dict[str, Any]] = CORE["records"]
TEXTS: list[str] = [record["text"] for record in RECORDS]
POLICY = MaskingConfig(**CORE["policy"])
START, END, FIRST_BLANK = 50257, 50258, 50259
Span = tuple[int, int, int]


def test_the_golden_core_contains_unusual_texts():
    """Easy texts alone would prove little."""
    joined = "\n".join(TEXTS)
    assert len(RECORDS) >= 30
    assert {"", "😀", "''", "\r\n", "“", "<|startofinfill|>", "n't", "..."} <= {*TEXTS, *_parts(joined)}
    assert any(example is None for record in RECORDS for example in record["examples"])


def _parts(text: str) -> list[str]:
    return re.findall(r"😀|''|\r\n|“|<\|startofinfill\|>|n't|\.\.\.", text)


def test_segments_equal_the_golden_core():
    """Each part is found from left to right, so its text gives its offset."""
    segments = segment(TEXTS)
    for index, record in enumerate(RECORDS):
        assert hierarchy_of(segments, index) == _with_offsets(record), record["text"]


def test_golden_paragraphs_and_words_follow_the_published_rules():
    """Paragraphs are lines without the space around them; words are NLTK's, written as its regular expressions."""
    for record in RECORDS:
        lines = [line.strip() for line in record["text"].splitlines()]
        assert ["".join("".join(words) for words in p).replace(" ", "") for p in record["paragraphs"]] == [
            "".join(line.split()) for line in lines if line
        ]
        for sentence, words in _sentences(record):
            # `word_tokenize` looks for sentences within the sentence: it finds two in "What.?".
            pieces = re.split(r"(?<=\w\.)(?=[?!])", sentence)
            expected_words = [word for piece in pieces for word in _treebank_words(piece)]
            assert expected_words == [word.replace("''", '"') for word in words]


def test_token_ids_equal_those_of_the_tokenizers_library():
    """Our fast path, the library and the file agree, also where a character is several tokens."""
    expected = [record["token_ids"] for record in RECORDS]
    assert tokenise_texts(TEXTS) == expected
    assert [document_tokenizer().encode(text, add_special_tokens=False).ids for text in TEXTS] == expected


def test_masks_equal_the_golden_core():
    """The kernel, the file, and a walk through the file's hierarchy with Python's own integers agree."""
    names, splits = [str(number) for number in range(len(RECORDS))], ["train"] * len(RECORDS)
    segments = segment(TEXTS)
    masks = sample_masks(segments, document_seeds(CORE["seed"], names, splits), POLICY)
    for index, record in enumerate(RECORDS):
        expected = [[(int(Kind[kind]), start, size) for kind, start, size in mask] for mask in record["masks"]]
        assert list(_draw_masks(record, seed_for(CORE["seed"], names[index], "train"))) == expected
        drawn = []
        for example in range(masks.document_examples[index], masks.document_examples[index + 1]):
            rows = slice(masks.example_spans[example], masks.example_spans[example + 1])
            starts = masks.starts[rows] - segments.documents[index]
            sizes = masks.ends[rows] - masks.starts[rows]
            drawn.append(list(zip(masks.kinds[rows].tolist(), starts.tolist(), sizes.tolist(), strict=True)))
        assert drawn == expected


@pytest.fixture(scope="module")
def batches(store_of):
    """Every example of the core, one batch for each, in order."""
    masks = [[[(int(Kind[kind]), *place) for kind, *place in mask] for mask in record["masks"]] for record in RECORDS]
    store = store_of(TEXTS, masks, POLICY)
    return [store.assemble(np.array([example])) for example in range(len(store))]


def test_examples_equal_the_golden_core(batches):
    """Ids and target types, cut at `max_tokens`; an example with overlapping token spans is dropped."""
    examples = [example for record in RECORDS for example in record["examples"] if example is not None]
    assert [batch.ids_BT[0].tolist() for batch in batches] == [example["ids"] for example in examples]
    assert ["".join(map(str, batch.types_BT[0])) for batch in batches] == [example["types"] for example in examples]


def test_golden_examples_follow_the_published_rules():
    """Context with blanks, start token, answers with their ends; laid out in plain Python."""
    for record in RECORDS:
        for mask, example in zip(record["masks"], record["examples"], strict=True):
            laid_out = _lay_out(record, [(int(Kind[kind]), start, size) for kind, start, size in mask])
            assert laid_out == (example and (example["ids"], example["types"]))


def _sentences(record: dict[str, Any]) -> Iterator[tuple[str, list[str]]]:
    """Each sentence's text, from its first word to its last, and its words."""
    at = 0
    for words in (sentence for paragraph in record["paragraphs"] for sentence in paragraph):
        start = record["text"].index(words[0], at)
        for word in words:
            at = record["text"].index(word, at) + len(word)
        yield record["text"][start:at], words


def _with_offsets(record: dict[str, Any]) -> list[Any]:
    """The file's nested words as `[offset, length, parts]`."""
    text, at = record["text"], 0
    paragraphs = []
    for sentences in record["paragraphs"]:
        placed = []
        for words in sentences:
            rows = []
            for word in words:
                offset = text.index(word, at)
                assert not text[at:offset].strip(), "every character but space belongs to a word"
                rows.append([offset, len(word)])
                at = offset + len(word)
            placed.append([rows[0][0], at - rows[0][0], rows])
        paragraphs.append([placed[0][0], at - placed[0][0], placed])
    return [0, len(text), paragraphs]


# The rules of NLTK 3.10's `word_tokenize`, in their order; every quotation mark, two apostrophes too, is `"`.
_RULES: list[tuple[str, str]] = [
    (r"([«“‘„]|`+)", r" \1 "),
    (r"^\"", '" '),
    (r"([ (\[{<])\"", r'\1 " '),
    (r"(?i)(')(?!(?:re|ve|ll|m|t|s|d|n)\b)(?=\w)(?<!\w')", r" \1 "),
    (r"([^.])(\.)([\])}>\"'»”’ ]*)\s*$", r"\1 \2 \3 "),
    (r"([:,])([^\d])", r" \1 \2"),
    (r"([:,])$", r" \1 "),
    (r"\.{2,}", r" \g<0> "),
    (r"[;@#$%&?!*\]\[(){}<>]|--|[»”’\u2012-\u2015]", r" \g<0> "),
    (r"([^'])' ", r"\1 ' "),
    (r"\"", ' " '),
    (r"([^' ])('[sSmMdD]|') ", r"\1 \2 "),
    (r"([^' ])('ll|'LL|'re|'RE|'ve|'VE|n't|N'T) ", r"\1 \2 "),
    (r"(?i)\b(can)(not)\b", r" \1 \2 "),
    (r"(?i)\b(gim|lem)(me)\b", r" \1 \2 "),
    (r"(?i)\b(gon|wan)(na)\b", r" \1 \2 "),
    (r"(?i)\b(got)(ta)\b", r" \1 \2 "),
]


def _treebank_words(sentence: str) -> list[str]:
    sentence = sentence.replace("''", '"')
    for pattern, replacement in _RULES[:9]:
        sentence = re.sub(pattern, replacement, sentence)
    sentence = f" {sentence} "
    for pattern, replacement in _RULES[9:]:
        sentence = re.sub(pattern, replacement, sentence)
    return sentence.split()


def _random_numbers(seed: int, example: int, draw: int) -> Iterator[float]:
    """Splitmix64 (Steele, Lea and Flood 2014), started from the document's seed, the example and the draw."""
    modulus, gamma = 1 << 64, 0x9E3779B97F4A7C15

    def mix(value: int) -> int:
        value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9 % modulus
        value = (value ^ (value >> 27)) * 0x94D049BB133111EB % modulus
        return value ^ (value >> 31)

    state = mix(seed ^ mix(((example << 32) + draw + 1) * gamma % modulus))
    while True:
        state = (state + gamma) % modulus
        yield (mix(state) >> 11) / 2**53


def _draw_masks(record: dict[str, Any], seed: int) -> Iterator[list[Span]]:
    """The masks of one document; a repeated one is drawn again."""
    hierarchy = _with_offsets(record)
    kept: list[list[Span]] = []
    for number in range(POLICY.examples_per_document if hierarchy[2] else 0):
        for draw in range(POLICY.max_draws):
            mask = list(_draw_mask(hierarchy, _random_numbers(seed, number, draw)))
            if mask not in kept:
                kept.append(mask)
                yield mask
                break


def _draw_mask(hierarchy: list[Any], numbers: Iterator[float]) -> Iterator[Span]:
    if next(numbers) < POLICY.document:
        yield Kind.DOCUMENT, 0, hierarchy[1]
        return
    for offset, size, sentences in hierarchy[2]:
        if next(numbers) < POLICY.paragraph:
            yield Kind.PARAGRAPH, offset, size
            continue
        for offset, size, words in sentences:
            if next(numbers) < POLICY.sentence:
                yield Kind.SENTENCE, offset, size
                continue
            rest = list(words)
            while rest:
                taken, kind = 0, Kind.WORD
                if next(numbers) < POLICY.word:
                    taken = 1
                    if next(numbers) < POLICY.ngram:
                        kind, taken = Kind.NGRAM, 1 + int(next(numbers) * min(POLICY.max_ngram, len(rest)))
                    yield kind, rest[0][0], rest[taken - 1][0] + rest[taken - 1][1] - rest[0][0]
                rest = rest[max(taken, 1) :]


def _lay_out(record: dict[str, Any], mask: list[Span]) -> tuple[list[int], str] | None:
    """An example's ids and target types; None if two spans share a token."""
    text, ids = record["text"], record["token_ids"]
    names = {number: token for token, number in document_tokenizer().get_vocab().items()}
    # In byte-level BPE, one character of a token's name is one byte of the text.
    ends = np.cumsum([len(names[number]) for number in ids]).tolist()
    begins = [0, *ends[:-1]]
    spans, taken = [], set[int]()
    for kind, offset, size in mask:
        first, last = len(text[:offset].encode()), len(text[: offset + size].encode())
        covered = [t for t in range(len(ids)) if begins[t] < last and ends[t] > first]
        if taken & set(covered):
            return None
        taken |= set(covered)
        spans.append((kind, covered))
    positions = []
    for t, number in enumerate(ids):
        positions += [(FIRST_BLANK + kind, 2) for kind, covered in spans if covered[0] == t]
        positions += [(number, 1)] if t not in taken else []
    positions.append((START, 3))
    for _, covered in spans:
        positions += [*((ids[t], 4) for t in covered), (END, 5)]
    positions = positions[: POLICY.max_tokens]
    return [number for number, _ in positions], "".join(str(target) for _, target in positions)
