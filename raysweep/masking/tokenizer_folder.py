"""Reads and writes the files of a tokenizer in the format of `transformers`: of a run, a model, or the user."""

import json
import zlib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from raysweep.errors import InputError
from raysweep.masking.tokenizer_json import read_vocabulary
from raysweep.masking.vocabulary import SPECIAL_TOKENS, Vocabulary, gpt2
from raysweep.storage.user_json import MIB, read_user_json

TOKENIZER_FILE = "tokenizer.json"
CONFIG_FILE = "tokenizer_config.json"
_LIMIT_BYTES = 64 * MIB
_ADVICE = "where you trust it, transformers.AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER) writes it"


def read_tokenizer(folder: Path, place: str) -> tuple[Vocabulary, bool]:
    """Read the vocabulary of a folder; also returns whether it has the seven infilling tokens.

    Args:
        place: the prefix of messages.

    Raises:
        InputError: the folder cannot be read, or has no usable tokenizer.
    """
    try:
        states = tuple((path.name, path.stat().st_mtime_ns, path.stat().st_size) for path in sorted(folder.iterdir()))
        return _read(folder, place, states)
    except OSError as error:
        raise InputError(f"{place}: {error.strerror or error} ({error.filename}); make it readable") from error


@lru_cache(maxsize=8)
def _read(folder: Path, place: str, states: tuple[object, ...]) -> tuple[Vocabulary, bool]:  # noqa: ARG001 - of the files
    here, config = f"{place}: {TOKENIZER_FILE}", folder / CONFIG_FILE
    if (folder / TOKENIZER_FILE).is_file():
        raw = read_user_json(folder / TOKENIZER_FILE, here, limit_bytes=_LIMIT_BYTES)
    elif (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        raw = _byte_level(folder, place)
    else:
        raise InputError(f"{place}: holds no {TOKENIZER_FILE}; {_ADVICE}")
    eos = read_user_json(config, f"{place}: {CONFIG_FILE}").get("eos_token") if config.is_file() else None
    end = eos.get("content") if isinstance(eos, Mapping) else eos
    return read_vocabulary(raw, here, end if isinstance(end, str) else None)


def pack_vocabulary(vocabulary: Vocabulary) -> bytes | None:
    """Serialise a vocabulary for another process, which may have no access to its files; None for GPT-2's."""
    if vocabulary is gpt2():
        return None
    values = {"end": vocabulary.end_of_text_token, "tokenizer": vocabulary.with_specials.to_str()}
    return zlib.compress(json.dumps(values).encode())


@lru_cache(maxsize=1)
def unpack_vocabulary(packed: bytes | None) -> Vocabulary:
    """Restore a vocabulary from `pack_vocabulary`."""
    if packed is None:
        return gpt2()
    values = json.loads(zlib.decompress(packed))
    return read_vocabulary(json.loads(values["tokenizer"]), "the run's tokenizer", values["end"])[0]


def write_tokenizer(folder: Path, vocabulary: Vocabulary, positions: int) -> None:
    """Write the files that `transformers` reads.

    Args:
        positions: the model's number of positions.
    """
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary.with_specials.save(str(folder / TOKENIZER_FILE))
    ends = dict.fromkeys(("bos_token", "eos_token", "unk_token", "pad_token"), vocabulary.end_of_text_token)
    special = {**ends, "additional_special_tokens": list(SPECIAL_TOKENS)}
    end = (vocabulary.end_of_text, vocabulary.end_of_text_token)
    flags = dict.fromkeys(("lstrip", "rstrip", "single_word", "normalized"), False)
    added = {
        str(number): {"content": token, **flags, "special": True}
        for number, token in [end, *enumerate(SPECIAL_TOKENS, start=vocabulary.start_of_infill)]
    }
    config = {
        **special,
        # All versions of transformers since 4.0 have this class, which reads tokenizer.json.
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": positions,
        # A model generates on the right, so the texts of a batch must be aligned there.
        "padding_side": "left",
        "added_tokens_decoder": added,
        "clean_up_tokenization_spaces": False,
    }
    _write(folder / CONFIG_FILE, config)
    _write(folder / "special_tokens_map.json", special)


def read_merges(folder: Path, place: str) -> list[str]:
    """Read the merges (rules of a BPE, in order) of merges.txt; raises InputError if too large, or not UTF-8."""
    here = f"{place}: merges.txt"
    if (size := (folder / "merges.txt").stat().st_size) > _LIMIT_BYTES:
        raise InputError(f"{here}: found {size:,} bytes; must be at most {_LIMIT_BYTES:,}: this is no such file")
    try:
        lines = (folder / "merges.txt").read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise InputError(f"{here}: not UTF-8; get the file anew") from error
    return [line for line in lines if line and not line.startswith("#version")]


def _byte_level(folder: Path, place: str) -> dict[str, Any]:
    """Read the older files of a byte-level BPE, and convert them to the format of tokenizer.json."""
    vocab = read_user_json(folder / "vocab.json", f"{place}: vocab.json", limit_bytes=_LIMIT_BYTES)
    merges = read_merges(folder, place)
    splitter = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {"pre_tokenizer": splitter, "model": {"type": "BPE", "vocab": vocab, "merges": merges}}


def _write(path: Path, values: Mapping[str, object]) -> None:
    path.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8", newline="\n")
