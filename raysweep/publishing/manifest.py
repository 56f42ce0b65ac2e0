"""manifest.json of a bundle: the SHA-256 of every file, and the software that made them.

Its bytes stand for the whole bundle: their SHA-256 is the digest of the bundle, and they are what is signed.
So they are written in one way only, and any other spelling of the same values is refused.
"""

import hashlib
import json
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from raysweep.config.section import Section

MANIFEST = "manifest.json"
SIGNATURE = "manifest.json.sig"
FORMAT: Literal[1] = 1
MAX_MANIFEST_BYTES = 10_000_000
Word = Annotated[str, StringConstraints(max_length=500)]
Sha256Digest = Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]


class Manifest(Section):
    """What a bundle says about itself."""

    format: Literal[1]
    run: Annotated[str, StringConstraints(max_length=200)]
    made_with: Annotated[dict[Word, Word], Field(max_length=50)]
    """Nothing proves it but a signature."""
    files: dict[Word, Sha256Digest]

    def to_bytes(self) -> bytes:
        """The one way to write it."""
        return json.dumps(self.model_dump(), indent=2, sort_keys=True, ensure_ascii=False).encode() + b"\n"


def read_manifest(content: bytes) -> Manifest:
    """Read the manifest, as `to_bytes` writes it.

    Raises:
        ValueError: it is anything else.
    """
    manifest = Manifest.model_validate(parse_json(content.decode("utf-8")))
    if manifest.to_bytes() != content:
        raise ValueError("is not written as `raysweep bundle` writes it")
    return manifest


def bundle_digest(manifest: bytes) -> str:
    """The digest of a bundle: it changes with any byte of any file, and with `made_with`."""
    return hashlib.sha256(manifest).hexdigest()


def parse_json(text: str) -> Any:
    """JSON as raysweep writes it: no NaN, and no key twice.

    Raises:
        ValueError: says what is wrong.
    """
    return json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_distinct_keys)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"found {name}, which is not a number")


def _distinct_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("a key is used twice")
    return values
