"""manifest.json of a bundle: the SHA-256 of every file, and the software that made them.

The manifest's bytes represent the whole bundle: their SHA-256 is the bundle's digest, and they are what is signed.
They are therefore written in one canonical form, and any other encoding of the same values is refused.
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
    """What a bundle states about itself."""

    format: Literal[1]
    run: Annotated[str, StringConstraints(max_length=200)]
    made_with: Annotated[dict[Word, Word], Field(max_length=50)]
    """Versions by name; only a signature can vouch for them."""
    files: dict[Word, Sha256Digest]

    def to_bytes(self) -> bytes:
        """Encode the manifest in its canonical form."""
        return json.dumps(self.model_dump(), indent=2, sort_keys=True, ensure_ascii=False).encode() + b"\n"


def read_manifest(content: bytes) -> Manifest:
    """Read a manifest in the canonical form of `to_bytes`; raises ValueError if it is anything else."""
    manifest = Manifest.model_validate(parse_json(content.decode("utf-8")))
    if manifest.to_bytes() != content:
        raise ValueError("is not written as `raysweep bundle` writes it")
    return manifest


def bundle_digest(manifest: bytes) -> str:
    """Return the digest of a bundle, which changes with any byte of any file, and with `made_with`."""
    return hashlib.sha256(manifest).hexdigest()


def parse_json(text: str) -> Any:
    """Parse JSON as raysweep writes it; raises ValueError for NaN, a duplicate key or anything else."""
    return json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_distinct_keys)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"found {name}, which is not a number")


def _distinct_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("a key is used twice")
    return values
