"""Compares a start's tokenizer with the run's: the run's token ids must mean the same tokens to the model.

A model of another language often has 50,257 tokens too, so the number of tokens proves nothing.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from blake3 import blake3

from raysweep.config.error_messages import show
from raysweep.config.training_settings import CORPUS_TOKENIZER, GPT2_TOKENIZER, START_TOKENIZER
from raysweep.errors import InputError
from raysweep.masking.tokenizer_folder import read_merges, read_tokenizer
from raysweep.masking.vocabulary import GPT2_SIZE, SPECIAL_TOKENS, Vocabulary, gpt2, read_bpe_files
from raysweep.storage.user_json import MIB, parse_user_json, read_user_bytes, read_user_json

TOKENIZER_FILE = "tokenizer.json"
TOKENIZER_FILES = (TOKENIZER_FILE, "vocab.json", "merges.txt", "added_tokens.json")
_LIMIT_BYTES = 64 * MIB
_LONGEST_SHOWN = 80
_OTHER_TOKENIZERS = ("spiece.model", "tokenizer.model", "sentencepiece.bpe.model", "vocab.txt")
INFILLING_TOKENS = dict(enumerate(SPECIAL_TOKENS, start=GPT2_SIZE))
_GPT2_FILES: dict[bytes, Mapping[int, str]] = {}
"""Digest of a tokenizer.json that equals GPT-2's → its additional tokens.

Every model of a run has the same file of 3.5 MB, and parsing and comparing it takes most of the time to load a small
model.
"""
_ADVICE = "set model.tokenizer: start to use its own, start from a model with GPT-2's, or from scratch"


def named_vocabulary(tokenizer: str) -> Vocabulary | None:
    """Return the vocabulary of a folder, or GPT-2's; None for 'start' and 'corpus', whose tokenizer is found elsewhere.

    Raises:
        InputError: there is no such folder, or its tokenizer cannot be used.
    """
    if tokenizer == GPT2_TOKENIZER:
        return gpt2()
    if tokenizer in {START_TOKENIZER, CORPUS_TOKENIZER}:
        return None
    place, folder = f"model.tokenizer '{shortened(tokenizer)}'", Path(tokenizer).expanduser()
    if not folder.is_dir():
        raise InputError(
            f"{place}: no such folder; must be 'gpt2', 'corpus', 'start' or a folder with a tokenizer.json"
        )
    return own_vocabulary(folder, place)[0]


def own_vocabulary(folder: Path, place: str) -> tuple[Vocabulary, bool]:
    """Read a tokenizer's vocabulary, and whether it has the infilling tokens; raises InputError if it is unusable."""
    vocabulary, has_infilling = read_tokenizer(folder, place)
    return gpt2() if is_gpt2(folder, place) else vocabulary, has_infilling


def read_tokens(
    folder: Path, place: str, vocabulary: Vocabulary | None
) -> tuple[Vocabulary, Mapping[int, str] | None, bool]:
    """Read the tokenizer of a start.

    Args:
        vocabulary: the vocabulary that it must have; None accepts its own, or GPT-2's if the folder has no tokenizer.

    Returns:
        The vocabulary; the tokens that a GPT-2 tokenizer has in addition, by id (None if the folder has no tokenizer);
        and whether the infilling tokens are among its tokens.

    Raises:
        InputError: the start has another vocabulary, or its files cannot be read.
    """
    if vocabulary is gpt2() or (vocabulary is None and (not has_tokenizer(folder) or is_gpt2(folder, place))):
        extra = read_extra_tokens(folder, place)
        return gpt2(), extra, extra is None or extra == INFILLING_TOKENS
    if not has_tokenizer(folder):
        raise InputError(f"{place}: holds no tokenizer to compare with the run's; copy its tokenizer.json there")
    own, has_infilling = own_vocabulary(folder, place)
    if vocabulary is not None and own.digest != vocabulary.digest:
        raise InputError(
            f"{place}: its tokenizer is not the run's: it has {own.own_size:,} tokens and the digest {own.digest}, the "
            f"run's {vocabulary.own_size:,} and {vocabulary.digest}; set model.tokenizer: start, or begin from scratch"
        )
    return own, {}, has_infilling


def has_tokenizer(folder: Path) -> bool:
    """Tell whether the folder has a tokenizer in any format."""
    return any((folder / name).exists() for name in (TOKENIZER_FILE, "vocab.json", *_OTHER_TOKENIZERS))


def is_gpt2(folder: Path, place: str) -> bool:
    """Tell if a tokenizer is GPT-2's, maybe with additional tokens; raises InputError if its files are unreadable."""
    if (folder / TOKENIZER_FILE).is_file():
        here = f"{place}: {TOKENIZER_FILE}"
        content = read_user_bytes(folder / TOKENIZER_FILE, here, limit_bytes=_LIMIT_BYTES)
        if blake3(content).digest() in _GPT2_FILES:
            return True
        raw = parse_user_json(content, here)
        if not _is_plain_byte_level(raw):
            return False
        vocabulary, merges = _tokens_of(raw, here)
    elif (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        vocabulary, merges = _read_bpe_pair(folder, place)
    else:
        return False
    known, known_merges = read_bpe_files()
    return merges == known_merges and all(vocabulary.get(number) == token for token, number in known.items())


def read_extra_tokens(folder: Path, place: str) -> Mapping[int, str] | None:
    """Read the tokens beyond GPT-2's 50,257, by id; None if the folder has no tokenizer.

    Raises:
        InputError: the tokenizer is not GPT-2's, or its files cannot be read.
    """
    if (folder / TOKENIZER_FILE).is_file():
        here = f"{place}: {TOKENIZER_FILE}"
        content = read_user_bytes(folder / TOKENIZER_FILE, here, limit_bytes=_LIMIT_BYTES)
        digest = blake3(content).digest()
        if digest not in _GPT2_FILES:
            _GPT2_FILES[digest] = _beyond_gpt2(*_parse_tokenizer_json(content, here), place)
        return _GPT2_FILES[digest]
    if (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        return _beyond_gpt2(*_read_bpe_pair(folder, place), place)
    for name in _OTHER_TOKENIZERS:
        if (folder / name).exists():
            raise InputError(f"{place}: {name}: its tokenizer is not GPT-2's; {_ADVICE}")
    return None


def _beyond_gpt2(vocabulary: Mapping[int, str], merges: list[tuple[str, str]], place: str) -> dict[int, str]:
    known, known_merges = read_bpe_files()
    different = [number for token, number in known.items() if vocabulary.get(number) != token]
    if different:
        number = min(different)
        ours = next(token for token, index in known.items() if index == number)
        raise InputError(
            f"{place}: its tokenizer is not GPT-2's: {len(different):,} of {GPT2_SIZE:,} tokens differ "
            f"(token {number} is {show(vocabulary.get(number, 'absent'))}, GPT-2's is {show(ours)}), so the ids of "
            f"English GPT-2 would mean other tokens to it; {_ADVICE}"
        )
    if merges != known_merges:
        raise InputError(f"{place}: its tokenizer is not GPT-2's: it has other merges (rules of its BPE); {_ADVICE}")
    return {number: token for number, token in vocabulary.items() if number >= GPT2_SIZE}


def _parse_tokenizer_json(content: bytes, place: str) -> tuple[dict[int, str], list[tuple[str, str]]]:
    raw = parse_user_json(content, place)
    if not _is_plain_byte_level(raw):
        model, splitter = _mapping(raw.get("model")), _mapping(raw.get("pre_tokenizer"))
        raise InputError(
            f"{place}: its tokenizer is not GPT-2's: model {show(model.get('type'))}, pre_tokenizer "
            f"{show(splitter.get('type'))}, normalizer {show(_mapping(raw.get('normalizer')).get('type'))}; {_ADVICE}"
        )
    return _tokens_of(raw, place)


def _is_plain_byte_level(raw: Mapping[str, Any]) -> bool:
    model, splitter = _mapping(raw.get("model")), _mapping(raw.get("pre_tokenizer"))
    return model.get("type", "BPE") == "BPE" and splitter.get("type") == "ByteLevel" and raw.get("normalizer") is None


def _tokens_of(raw: Mapping[str, Any], place: str) -> tuple[dict[int, str], list[tuple[str, str]]]:
    model = _mapping(raw.get("model"))
    added = [_mapping(token) for token in _list(raw.get("added_tokens"))]
    vocabulary = _by_id({token.get("content"): token.get("id") for token in added}, place)
    return vocabulary | _by_id(model.get("vocab"), place), _pairs(model.get("merges"), place)


def _read_bpe_pair(folder: Path, place: str) -> tuple[dict[int, str], list[tuple[str, str]]]:
    vocabulary: dict[int, str] = {}
    for name in ("added_tokens.json", "vocab.json"):
        if (folder / name).is_file():
            here = f"{place}: {name}"
            vocabulary |= _by_id(read_user_json(folder / name, here, limit_bytes=_LIMIT_BYTES), here)
    return vocabulary, _pairs(read_merges(folder, place), f"{place}: merges.txt")


def _by_id(numbers: Any, place: str) -> dict[int, str]:
    entries = _mapping(numbers).items()
    if not all(isinstance(token, str) and type(number) is int for token, number in entries):
        raise InputError(f"{place}: must give a whole number for each token; get the file anew")
    return {number: token for token, number in entries}


def _pairs(merges: Any, place: str) -> list[tuple[str, str]]:
    """Convert merges to pairs; older files have a string with a space between the two tokens."""
    pairs = [tuple(merge.split(" ")) if isinstance(merge, str) else merge for merge in _list(merges)]
    if not all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in pairs):
        raise InputError(f"{place}: merges: must be pairs of tokens; get the file anew")
    return [(pair[0], pair[1]) for pair in pairs]


def _mapping(value: Any) -> Mapping[Any, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def shortened(path: str) -> str:
    """Shorten a path for a message; a long path is cut to its end."""
    return path if len(path) <= _LONGEST_SHOWN else f"…{path[1 - _LONGEST_SHOWN :]}"
