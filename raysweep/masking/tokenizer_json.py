"""Converts a `tokenizer.json` to a vocabulary: byte-level BPE and SentencePiece, each made lossless.

The tokens of a text must decode to exactly its bytes, because spans are found by counting bytes.  Therefore three
things that tokenizers do to a text are disabled: adding a space before it, adding tokens at its ends, and recognising
special tokens in it.  Other changes of a text, such as those of a normaliser, are found by comparing (`tokens.py`).
"""

import json
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from tokenizers import Tokenizer

from raysweep.config.error_messages import show
from raysweep.config.fingerprints import fingerprint
from raysweep.errors import InputError
from raysweep.masking.vocabulary import BYTE_OF, SPECIAL_TOKENS, Vocabulary

_SPACE = "▁"
"""Stands for a space in the tokens of SentencePiece."""
_REPLACE_SPACE = {"type": "Replace", "pattern": {"String": _SPACE}, "content": " "}
_SENTENCEPIECE_DECODER = {"type": "Sequence", "decoders": [_REPLACE_SPACE, {"type": "ByteFallback"}, {"type": "Fuse"}]}
_BYTES_DECODER = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": True}
_UNWRITTEN = "\U0010ffff"
"""A noncharacter that is put before the name of a control token, so that no text can contain the token."""
_ENDS = ("<|endoftext|>", "</s>", "<eos>", "<|end_of_text|>")
_MOST_TOKENS = 1_000_000
_BPE_DEFAULTS = {
    "dropout": (None, 0),
    "continuing_subword_prefix": (None, ""),
    "end_of_word_suffix": (None, ""),
    "byte_fallback": (None, False),
    "ignore_merges": (None, False),
}


def read_vocabulary(raw: Mapping[str, Any], place: str, end_of_text: str | None = None) -> tuple[Vocabulary, bool]:
    """Convert a `tokenizer.json` to a vocabulary; also returns whether it has the seven infilling tokens at its end.

    Args:
        place: the prefix of messages.
        end_of_text: the name of the end-of-text token, if another file gives it.

    Raises:
        InputError: it is neither byte-level BPE nor SentencePiece, or has no end-of-text token.
    """
    try:
        return _read(raw, place, end_of_text)
    except (AttributeError, KeyError, TypeError, ValueError, IndexError) as error:
        fault = f"{type(error).__name__}: {error}"[:80]
        raise InputError(f"{place}: not as the `tokenizers` library writes it ({fault}); save it anew") from error


def _read(raw: Mapping[str, Any], place: str, end_of_text: str | None) -> tuple[Vocabulary, bool]:
    added = {int(token["id"]): dict(token) for token in raw.get("added_tokens") or []}
    last = max([-1, *added])
    names = tuple(
        added[number]["content"] for number in range(last - len(SPECIAL_TOKENS) + 1, last + 1) if number in added
    )
    has_infilling = names == SPECIAL_TOKENS
    if has_infilling:
        added = {number: token for number, token in added.items() if token["content"] not in SPECIAL_TOKENS}
    pieces = dict(_pieces_of(raw["model"]))
    own = pieces | {number: token["content"] for number, token in added.items()}
    size = max(own) + 1
    if size > _MOST_TOKENS or min(own) < 0 or set(own.values()) & set(SPECIAL_TOKENS):
        raise InputError(
            f"{place}: found {size:,} tokens; must be at most {_MOST_TOKENS:,}, and those of infilling the last"
        )
    is_bytes = _is_byte_level(raw, place)
    controls = {number for number, token in added.items() if token.get("special")} | (set(range(size)) - own.keys())
    if not is_bytes and raw["model"].get("type") == "Unigram" and raw["model"].get("unk_id") is not None:
        controls.add(int(raw["model"]["unk_id"]))
    end, number = _end_of_text(own, controls, place, end_of_text)
    canonical = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [added[number] for number in sorted(added)],
        "normalizer": _without_prefix(raw.get("normalizer")),
        "pre_tokenizer": _without_prefix(raw.get("pre_tokenizer")),
        "post_processor": None,
        "decoder": _BYTES_DECODER if is_bytes else _SENTENCEPIECE_DECODER,
        "model": {**raw["model"], "dropout": None} if "dropout" in raw["model"] else dict(raw["model"]),
    }
    contents = [_content(own.get(id_), is_bytes, id_ in controls, id_ in added) for id_ in range(size)]
    has_words = any(not token.get("special") for token in added.values())
    # Use the library's serialisation, so that a tokenizer has the same digest before and after it is saved.
    tokenizer = _tokenizer(json.dumps(canonical))
    text = tokenizer.to_str()
    canonical = json.loads(text)
    plain = json.dumps(_plain(canonical, controls))
    _tokenizer(plain)  # raise now if the library cannot load it
    if (
        len(own) < size
        and tokenizer.add_tokens([SPECIAL_TOKENS[0]])
        and tokenizer.token_to_id(SPECIAL_TOKENS[0]) != size
    ):
        missing = min(set(range(size)) - own.keys())
        raise InputError(
            f"{place}: found {len(own):,} tokens with ids up to {size - 1:,}, none with the id {missing:,}, so those "
            "of infilling cannot follow; number the tokens without gaps"
        )
    vocabulary = Vocabulary(
        digest=fingerprint({"tokenizer": canonical, "end": end}),
        own_size=size,
        end_of_text=number,
        end_of_text_token=end,
        controls=frozenset(controls),
        cuts_like_gpt2=is_bytes and not has_words and _cuts_like_gpt2(canonical, own),
        spell=partial(tuple, contents),
        make_plain=partial(_tokenizer, plain),
        make_own=partial(_tokenizer, text),
    )
    return vocabulary, has_infilling


def _tokenizer(text: str) -> Tokenizer:
    try:
        return Tokenizer.from_str(text)
    except Exception as error:  # the library raises no more specific class
        raise ValueError(str(error)[:80]) from error


def _pieces_of(model: Mapping[str, Any]) -> Iterator[tuple[int, str]]:
    vocab = model["vocab"]
    if isinstance(vocab, Mapping):
        yield from ((int(number), name) for name, number in vocab.items())
    else:
        yield from ((number, name) for number, (name, _) in enumerate(vocab))


def _parts(part: Any) -> list[Mapping[str, Any]]:
    """List the steps of a normaliser or a pre-tokenizer."""
    if not part:
        return []
    inner = part.get("normalizers") or part.get("pretokenizers")
    return [step for each in inner for step in _parts(each)] if inner else [part]


def _is_byte_level(raw: Mapping[str, Any], place: str) -> bool:
    """Return True for a byte-level BPE and False for SentencePiece."""
    model, steps = raw["model"], _parts(raw.get("pre_tokenizer"))
    if model.get("type", "BPE") == "BPE" and any(step.get("type") == "ByteLevel" for step in steps):
        return True
    marks = [*steps, *_parts(raw.get("normalizer"))]
    if model.get("type", "BPE") in {"BPE", "Unigram"} and any(
        step.get("type") == "Metaspace" or step.get("content") == _SPACE for step in marks
    ):
        return False
    kinds = ", ".join(str(step.get("type")) for step in steps) or "none"
    raise InputError(
        f"{place}: found the model {show(model.get('type'))} with the pre_tokenizer {show(kinds)}; must be a "
        "byte-level BPE (such as GPT-2's) or SentencePiece (BPE or Unigram). Take another tokenizer, or `corpus`"
    )


def _without_prefix(part: Any) -> Any:
    """Return a normaliser or pre-tokenizer without steps that add a space before a text or lose white space."""
    steps = []
    for step in _parts(part):
        if step["type"] in {"Prepend", "WhitespaceSplit"}:
            continue
        changed = dict(step)
        if step["type"] in {"ByteLevel", "Metaspace"}:
            changed["add_prefix_space"] = False
        if step["type"] == "Metaspace":
            changed["prepend_scheme"] = "never"
        steps.append(changed)
    if len(steps) < 2:
        return steps[0] if steps else None
    name = "normalizers" if "normalizers" in part else "pretokenizers"
    return {"type": "Sequence", name: steps}


def _plain(canonical: Mapping[str, Any], controls: set[int]) -> dict[str, Any]:
    """Return the tokenizer without special tokens, and without pieces that turn text into a control token."""
    model = dict(canonical["model"])
    if model.get("type") == "Unigram":
        model["vocab"] = [
            [_UNWRITTEN + name if number in controls else name, score]
            for number, (name, score) in enumerate(model["vocab"])
        ]
    words = [token for token in canonical["added_tokens"] if not token.get("special")]
    return {**canonical, "model": model, "added_tokens": words}


def _end_of_text(own: Mapping[int, str], controls: set[int], place: str, end_of_text: str | None) -> tuple[str, int]:
    by_name = {name: number for number, name in own.items()}
    for name in (end_of_text, *_ENDS):
        if name in by_name and name is not None:
            controls.add(by_name[name])
            return name, by_name[name]
    raise InputError(
        f"{place}: has no token that ends a text; name it as eos_token in tokenizer_config.json, beside it"
    )


def _cuts_like_gpt2(canonical: Mapping[str, Any], own: Mapping[int, str]) -> bool:
    """Tell whether texts are split by GPT-2's pattern and each piece is merged by itself, without any loss."""
    model, splitter = canonical["model"], canonical["pre_tokenizer"]
    return (
        canonical["normalizer"] is None
        and splitter["type"] == "ByteLevel"
        and splitter.get("use_regex", True)
        and all(model.get(name) in usual for name, usual in _BPE_DEFAULTS.items())
        and set(BYTE_OF) <= set(own.values())
    )


def _content(name: str | None, is_bytes: bool, is_control: bool, is_added: bool) -> bytes:
    """Return the bytes that a token stands for in a text."""
    if name is None or is_control:
        return b""
    if is_added:
        return name.encode()
    if is_bytes:
        return bytes(BYTE_OF[sign] for sign in name)
    if len(name) == 6 and name.startswith("<0x") and name.endswith(">"):
        return bytes([int(name[3:5], 16)])
    return name.replace(_SPACE, " ").encode()
