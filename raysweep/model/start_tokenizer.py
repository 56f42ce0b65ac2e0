"""Compares a start's tokenizer with GPT-2's: raysweep writes GPT-2's ids, which must mean the same to the model.

A model of another language often has 50,257 tokens too, so their number says nothing.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from raysweep.config.error_messages import show
from raysweep.errors import InputError
from raysweep.masking.vocabulary import GPT2_SIZE, SPECIAL_TOKENS, read_bpe_files
from raysweep.storage.user_json import MIB, read_user_json

TOKENIZER_FILE = "tokenizer.json"
TOKENIZER_FILES = (TOKENIZER_FILE, "vocab.json", "merges.txt", "added_tokens.json")
_LIMIT_BYTES = 64 * MIB
_OTHER_TOKENIZERS = ("spiece.model", "tokenizer.model", "sentencepiece.bpe.model", "vocab.txt")
INFILLING_TOKENS = dict(enumerate(SPECIAL_TOKENS, start=GPT2_SIZE))
_ADVICE = "start from a model with GPT-2's own tokenizer, or from scratch"


def read_extra_tokens(folder: Path, place: str) -> dict[int, str] | None:
    """The tokens beyond GPT-2's 50,257, by id; None if the folder has no tokenizer.

    Raises:
        InputError: the tokenizer is not GPT-2's, or its files cannot be read.
    """
    if (folder / TOKENIZER_FILE).is_file():
        vocabulary, merges = _read_tokenizer_json(folder / TOKENIZER_FILE, f"{place}: {TOKENIZER_FILE}")
    elif (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        vocabulary, merges = _read_bpe_pair(folder, place)
    else:
        for name in _OTHER_TOKENIZERS:
            if (folder / name).exists():
                raise InputError(f"{place}: {name}: its tokenizer is not GPT-2's; {_ADVICE}")
        return None
    _compare(vocabulary, merges, place)
    return {number: token for number, token in vocabulary.items() if number >= GPT2_SIZE}


def _compare(vocabulary: Mapping[int, str], merges: list[tuple[str, str]], place: str) -> None:
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


def _read_tokenizer_json(path: Path, place: str) -> tuple[dict[int, str], list[tuple[str, str]]]:
    raw = read_user_json(path, place, limit_bytes=_LIMIT_BYTES)
    model, splitter = _mapping(raw.get("model")), _mapping(raw.get("pre_tokenizer"))
    if model.get("type", "BPE") != "BPE" or splitter.get("type") != "ByteLevel" or raw.get("normalizer") is not None:
        raise InputError(
            f"{place}: its tokenizer is not GPT-2's: model {show(model.get('type'))}, pre_tokenizer "
            f"{show(splitter.get('type'))}, normalizer {show(_mapping(raw.get('normalizer')).get('type'))}; {_ADVICE}"
        )
    added = [_mapping(token) for token in _list(raw.get("added_tokens"))]
    vocabulary = _by_id({token.get("content"): token.get("id") for token in added}, place)
    return vocabulary | _by_id(model.get("vocab"), place), _pairs(model.get("merges"), place)


def _read_bpe_pair(folder: Path, place: str) -> tuple[dict[int, str], list[tuple[str, str]]]:
    vocabulary: dict[int, str] = {}
    for name in ("added_tokens.json", "vocab.json"):
        if (folder / name).is_file():
            here = f"{place}: {name}"
            vocabulary |= _by_id(read_user_json(folder / name, here, limit_bytes=_LIMIT_BYTES), here)
    here = f"{place}: merges.txt"
    if (size := (folder / "merges.txt").stat().st_size) > _LIMIT_BYTES:
        raise InputError(f"{here}: found {size:,} bytes; must be at most {_LIMIT_BYTES:,}: this is no such file")
    try:
        lines = (folder / "merges.txt").read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise InputError(f"{here}: not UTF-8; get the file anew") from error
    return vocabulary, _pairs([line for line in lines if line and not line.startswith("#version")], here)


def _by_id(numbers: Any, place: str) -> dict[int, str]:
    entries = _mapping(numbers).items()
    if not all(isinstance(token, str) and type(number) is int for token, number in entries):
        raise InputError(f"{place}: must give a whole number for each token; get the file anew")
    return {number: token for token, number in entries}


def _pairs(merges: Any, place: str) -> list[tuple[str, str]]:
    """Merges are pairs, or texts with a space between the two in older files."""
    pairs = [tuple(merge.split(" ")) if isinstance(merge, str) else merge for merge in _list(merges)]
    if not all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in pairs):
        raise InputError(f"{place}: merges: must be pairs of tokens; get the file anew")
    return [(pair[0], pair[1]) for pair in pairs]


def _mapping(value: Any) -> Mapping[Any, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
