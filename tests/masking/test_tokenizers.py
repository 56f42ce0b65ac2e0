"""Other tokenizers than GPT-2's: a text stays what its tokens spell, and no text becomes a special token."""

import json
from dataclasses import replace

import numpy as np
import pytest

from raysweep.config.data_settings import MaskingConfig
from raysweep.errors import InputError
from raysweep.evaluation.infilling import Template
from raysweep.masking.characters import join_texts
from raysweep.masking.corpus_tokenizer import train_on_texts, train_tokenizer
from raysweep.masking.custom_masks import masks_from_lists
from raysweep.masking.encoding import encode_masks
from raysweep.masking.example_store import ExampleStore
from raysweep.masking.mask_shard import pack_examples
from raysweep.masking.segmentation import segment
from raysweep.masking.shards import Shard
from raysweep.masking.tokenizer_folder import pack_vocabulary, read_tokenizer, unpack_vocabulary, write_tokenizer
from raysweep.masking.tokens import tokenise
from raysweep.masking.vocabulary import SPECIAL_TOKENS, Kind, gpt2
from raysweep.masking.vocabulary_size import corpus_vocabulary_size, recorded_size
from tests.tokenizers_of_tests import TEXTS, write_byte_level, write_sentencepiece

KINDS = ("corpus", "byte-level", "Unigram", "BPE")


@pytest.fixture(scope="module")
def vocabularies(tmp_path_factory):
    root = tmp_path_factory.mktemp("tokenizers")
    folders = {
        "byte-level": write_byte_level(root / "byte-level"),
        "Unigram": write_sentencepiece(root / "Unigram"),
        "BPE": write_sentencepiece(root / "BPE", kind="BPE"),
    }
    read = {kind: read_tokenizer(folder, "x")[0] for kind, folder in folders.items()}
    return {"corpus": train_on_texts(TEXTS, 420), **read}


def ids_of(text, vocabulary):
    return tokenise(*join_texts([text]), vocabulary)[0]


@pytest.mark.parametrize("kind", KINDS)
def test_tokens_decode_to_the_text_and_never_contain_a_special_token(vocabularies, kind):
    """Byte for byte, and the same as the exported tokenizer decodes; what looks like a command is ordinary text."""
    vocabulary = vocabularies[kind]
    for text in [*TEXTS, f" <s> </s> <unk> {' '.join(SPECIAL_TOKENS)} <|endoftext|>  x\n ", "", " "]:
        ids = ids_of(text, vocabulary)
        assert ids.tolist() == vocabulary.encode(text)
        assert vocabulary.decode(ids.tolist()) == vocabulary.with_specials.decode(ids.tolist()) == text
        assert vocabulary.byte_counts[ids].sum() == len(text.encode())
        assert vocabulary.is_text[ids].all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_tokenizer_loads_with_the_same_bytes(vocabularies, kind, tmp_path):
    """A digest can therefore compare the tokenizers of a parent's model, of the user's start and of the run."""
    vocabulary = vocabularies[kind]
    write_tokenizer(tmp_path, vocabulary, 64)
    saved, has_infilling = read_tokenizer(tmp_path, "x")
    assert has_infilling
    assert saved.digest == unpack_vocabulary(pack_vocabulary(vocabulary)).digest == vocabulary.digest
    assert recorded_size(tmp_path) == saved.size == vocabulary.size
    assert [saved.with_specials.token_to_id(token) for token in SPECIAL_TOKENS] == list(
        range(saved.start_of_infill, saved.size)
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("before", "answer", "after"),
    [
        ("I like my ", "school", " very much."),
        ("", "Dear", " Sir,\nI am"),
        ("a\n\n", "Best", ", Anna"),
        ("two  ", "cats", " x"),
        ("xq ", "7", "zb"),
        ("the ", "quick xylo", " job"),
    ],
)
def test_a_prompt_is_tokenised_like_the_training_text(vocabularies, kind, before, answer, after):
    """The space before a blank belongs to it; where the answer's first token is without it, training leaves it."""
    vocabulary = vocabularies[kind]
    segments = segment([before + answer + after])
    tokens, offsets = tokenise(segments.codes, segments.documents, vocabulary)
    masks = masks_from_lists(segments, [[[(Kind.NGRAM, len(before), len(answer))]]], ["x"])
    seeds, plain = np.zeros(1, dtype=np.uint64), np.zeros(1, dtype=np.uint8)
    encoded = encode_masks(segments, tokens, offsets, masks, seeds, policy=MaskingConfig(), vocabulary=vocabulary)
    arrays = pack_examples(tokens, offsets, encoded) | {"levels": plain, "splits": plain, "seeds": seeds}
    shard = Shard(header={"levels": ["A1"], "splits": ["train"], "max_tokens": 256}, arrays=arrays)
    ids = ExampleStore([shard], vocabulary).assemble(np.array([0])).ids_BT[0].tolist()
    expected = ids[: ids.index(vocabulary.start_of_infill) + 1]
    first = int(encoded.starts[0])
    if before.endswith(" ") and vocabulary.decode(tokens[:first].tolist()) == before:
        assert vocabulary.contents[expected[first - 1]] == b" "
        del expected[first - 1]
    assert list(Template(pieces=(before, after), kinds=(Kind.NGRAM,)).prompt(vocabulary)) == expected


def test_a_lossy_tokenizer_is_refused(tmp_path):
    """Without bytes to fall back on it has no token for a rare character; a normaliser writes another text."""
    lossy = write_sentencepiece(tmp_path / "no bytes", byte_fallback=False)
    with pytest.raises(
        InputError, match=r"model.tokenizer: it is not lossless: its tokens of the text with .*😀.* spell"
    ):
        ids_of("a dog 😀", read_tokenizer(lossy, "x")[0])
    folder = write_sentencepiece(tmp_path / "NFKC", normalizer={"type": "NFKC"})
    vocabulary, _ = read_tokenizer(folder, "x")
    assert len(ids_of("a dog", vocabulary))
    with pytest.raises(InputError, match=r"not lossless.*'a dog…'.*'a dog\.\.\.'"):
        ids_of("a dog…", vocabulary)


def test_a_folder_without_a_usable_tokenizer_is_refused(tmp_path):
    """The message names the place, what was found, and the fix."""
    with pytest.raises(InputError, match=r"x: holds no tokenizer.json; where you trust it, transformers"):
        read_tokenizer(tmp_path, "x")
    with pytest.raises(InputError, match=r"x: No such file or directory.*make it readable"):
        read_tokenizer(tmp_path / "none", "x")
    with pytest.raises(InputError, match=r"has no token that ends a text; name it as eos_token"):
        read_tokenizer(write_byte_level(tmp_path / "endless", end=""), "x")
    for values, message in {
        "[]": "its JSON must be an object",
        '{"model": {"type": "WordPiece", "vocab": {"a": 0}}, "pre_tokenizer": {"type": "Whitespace"}}': "'WordPiece'",
        '{"model": {"type": "BPE", "vocab": 3}}': "not as the `tokenizers` library writes it",
        json.dumps(
            {"added_tokens": [{"id": 9, "content": "<|infill_word|>"}], "model": {"vocab": {"a": 0}}}
        ): "infilling",
        json.dumps(
            {"pre_tokenizer": {"type": "ByteLevel"}, "model": {"vocab": {"</s>": 0}}}
        ): "as the `tokenizers` libr",
    }.items():
        (tmp_path / "tokenizer.json").write_text(values)
        with pytest.raises(InputError, match=message):
            read_tokenizer(tmp_path, "x")
    (tmp_path / "vocab.json").write_text("{}")
    (tmp_path / "tokenizer.json").unlink()
    (tmp_path / "merges.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match=r"merges.txt: not UTF-8"):
        read_tokenizer(tmp_path, "x")
    with (tmp_path / "merges.txt").open("r+b") as file:
        file.truncate(1 << 30)
    with pytest.raises(InputError, match=r"merges.txt: found 1,073,741,824 bytes"):
        read_tokenizer(tmp_path, "x")


def test_a_corpus_tokenizer_depends_only_on_train_texts(corpus, write_documents, texts, tmp_path):
    """Order, a second call and texts of other splits do not change it; a corpus without train texts is an error."""
    first = train_tokenizer(corpus)
    assert first.digest == train_tokenizer(corpus).digest
    train = [text for number, text in enumerate(texts) if number % 3 < 2]
    assert train_on_texts(train[::-1], 2048).digest == first.digest
    assert first.cuts_like_gpt2
    other = write_documents(tmp_path / "other.parquet", ["only a test"], ids=["w00002"])
    with pytest.raises(InputError, match=r"no text in the train split; model.tokenizer 'corpus' needs some"):
        train_tokenizer(other)


@pytest.mark.parametrize(
    ("train_bytes", "size"), [(0, 2048), (1_000_000, 2048), (4_000_000, 4096), (64_000_000, 16_000), (10**9, 16_000)]
)
def test_the_vocabulary_size_grows_with_the_corpus(train_bytes, size):
    """The vocabulary grows with the square root of the corpus's size, within bounds, in steps of 64."""
    assert corpus_vocabulary_size(train_bytes) == size


def test_token_ids_above_65535_are_stored_with_four_bytes():
    """A store keeps and returns ids above 65,535."""
    large = replace(gpt2(), own_size=70_000, digest="large", spell=lambda: (b"a",) * 70_000)
    assert (gpt2().id_type, large.id_type) == (np.uint16, np.uint32)
    ones, none = np.array([1]), np.zeros(0, dtype=np.int64)
    arrays = {
        "tokens": np.array([69_999, 3, 69_998], dtype=large.id_type),
        "document_tokens": np.array([0, 3]), "document_examples": np.array([0, 1]), "document_spans": np.array([0, 1]),
        "span_counts": ones, "span_starts": ones, "span_lengths": ones, "span_kinds": np.array([4], dtype=np.uint8),
        "window_examples": none, "window_starts": none, "window_ends": none,
        "levels": np.zeros(1, np.uint8), "splits": np.zeros(1, np.uint8), "seeds": ones,
    }  # fmt: skip
    store = ExampleStore([Shard(header={"levels": ["A1"], "splits": ["train"], "max_tokens": 9}, arrays=arrays)], large)
    ids = store.assemble(np.array([0])).ids_BT[0].tolist()
    assert ids == [69_999, 70_006, 69_998, 70_000, 3, 70_001]


def renumbered(folder, numbers):
    """Give tokens of a vocabulary other ids."""
    values = json.loads((folder / "tokenizer.json").read_text())
    vocab = values["model"]["vocab"]
    vocab |= {name: number for name, number in vocab.items() if number not in numbers} | {
        name: numbers[number] for name, number in vocab.items() if number in numbers
    }
    (folder / "tokenizer.json").write_text(json.dumps(values))


def test_token_ids_with_gaps_are_refused(tmp_path):
    """Infilling's tokens could not follow; it ended in an assertion."""
    folder = write_sentencepiece(tmp_path, kind="BPE")
    size = read_tokenizer(folder, "x")[0].own_size
    renumbered(folder, {size - 1: size + 4})
    with pytest.raises(
        InputError, match=rf"^x: tokenizer.json: .* ids up to {size + 4}, none with the id {size - 1}, so"
    ):
        read_tokenizer(folder, "x")
