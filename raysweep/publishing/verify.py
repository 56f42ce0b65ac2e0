"""`raysweep verify`: does a published report follow from its losses?  It needs no GPU, no Ray and no corpus.

It finds every changed, missing or added file, digit, hash or verdict, even if the hashes were changed
to match.  It cannot find a forgery that is consistent throughout: false losses from which raysweep itself
made everything else.  For that case the digest of all inputs is printed, here and on the page; it is
the one line to print in the paper.  Nor can it know which software made a bundle: `made_with` is the bundle's
own claim, so it excuses nothing.  A signature shows who vouches for a bundle, `made_with` included.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from raysweep import __version__
from raysweep.publishing.archive import Unpacked, unpack_archive
from raysweep.publishing.differences import Mismatch
from raysweep.publishing.manifest import MANIFEST, SIGNATURE, Manifest, bundle_digest
from raysweep.publishing.recomputing import Recomputed, recompute
from raysweep.publishing.signatures import Signature, check_signature, read_public_key
from raysweep.publishing.software import describe_software, other_software
from raysweep.storage.named_folder import open_run_folder


@dataclass(frozen=True, kw_only=True, slots=True)
class Verification:
    """The result of `verify`."""

    manifest: Manifest
    digest: str
    """SHA-256 of the manifest, which covers the whole bundle."""
    files: int
    """Number of files whose SHA-256 was compared with the manifest."""
    recomputed: Recomputed
    differences: tuple[Mismatch, ...]
    """Every difference that counts against the bundle."""
    rounding: tuple[Mismatch, ...]
    """Last digits that could be rounded either way, because the value lies within 1e-12 of the boundary."""
    signature: Signature | None
    """None if the bundle has no valid signature."""
    is_key_checked: bool
    other_software: tuple[str, ...]
    """Software stated in the bundle that differs from this machine's."""

    @property
    def is_verified(self) -> bool:
        return not self.differences


def verify_bundle(path: Path, key: Path | None = None) -> Verification:
    """Check a bundle's hashes and signature, and compute its report again; InputError if it or `key` is unusable."""
    asked = read_public_key(key) if key is not None else None
    with tempfile.TemporaryDirectory(prefix="raysweep-verify-") as scratch:
        unpacked, storage = Path(scratch) / "unpacked", Path(scratch) / "runs"
        unpacked.mkdir()
        storage.mkdir()
        bundle = unpack_archive(path, unpacked)
        folder = open_run_folder(str(storage), bundle.manifest.run)
        unpacked.rename(folder.root)
        recomputed = recompute(folder)
    signature, unsigned = _check_signature(bundle, asked)
    stated_elsewhere = [*unsigned, *_compare_hashes(bundle), *_compare_software(bundle.manifest, recomputed)]
    return Verification(
        manifest=bundle.manifest,
        digest=bundle_digest(bundle.manifest_bytes),
        files=len(bundle.digests),
        recomputed=recomputed,
        differences=(*stated_elsewhere, *recomputed.beyond_rounding),
        rounding=tuple(difference for difference in recomputed.differences if difference.is_rounding),
        signature=signature,
        is_key_checked=asked is not None and signature == asked,
        other_software=tuple(other_software(bundle.manifest.made_with).values()),
    )


def _check_signature(bundle: Unpacked, asked: Signature | None) -> tuple[Signature | None, list[Mismatch]]:
    """Return the bundle's signature if it is valid, and the objections: a missing, invalid or different signature."""
    if bundle.signature is None:
        missing = Mismatch(SIGNATURE, "no signature", f"asked for one by {asked.fingerprint}") if asked else None
        return None, [missing] if missing else []
    try:
        signature = check_signature(bundle.manifest_bytes, bundle.signature)
    except ValueError as error:
        return None, [Mismatch(SIGNATURE, "a signature", str(error))]
    if asked is not None and signature != asked:
        return signature, [Mismatch(SIGNATURE, f"by {signature.fingerprint}", f"asked for one by {asked.fingerprint}")]
    return signature, []


def _compare_hashes(bundle: Unpacked) -> list[Mismatch]:
    differences, stated, actual = [], bundle.manifest.files, bundle.digests
    for name in sorted(stated.keys() | actual.keys()):
        if name not in actual:
            differences.append(Mismatch(name, "in the manifest", "is not in the zip"))
        elif name not in stated:
            differences.append(Mismatch(name, "nothing", "is in the zip"))
        elif stated[name] != actual[name]:
            differences.append(Mismatch(name, f"SHA-256 {stated[name]}", f"has {actual[name]}"))
    return differences


def _compare_software(manifest: Manifest, recomputed: Recomputed) -> list[Mismatch]:
    """Compare the names in `made_with` with those expected, and raysweep's version with that in the evidence."""
    if recomputed.evidence is None or _is_of_another_version(recomputed):
        return []
    place, made_with = f"{MANIFEST}: made_with", manifest.made_with
    known = describe_software().keys()
    other = (
        [Mismatch(place, ", ".join(made_with), f"must name {', '.join(known)}")] if made_with.keys() != known else []
    )
    stated = made_with.get("raysweep", "nothing")
    if stated != __version__:
        other.append(Mismatch(f"{place}.raysweep", stated, f"the evidence says {__version__}"))
    return other


def _is_of_another_version(recomputed: Recomputed) -> bool:
    return any(difference.place == "report/evidence.json: raysweep" for difference in recomputed.differences)
