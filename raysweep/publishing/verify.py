"""`raysweep verify`: does a published report follow from its losses?  It needs no GPU, no Ray and no corpus.

It finds every changed, missing or added file, digit, hash or verdict, also if the hashes were changed
to fit.  It cannot find a forgery that is consistent throughout: false losses from which raysweep itself
made everything else.  For that case the digest of all inputs is printed, here and on the page: it is
the one line to print in the paper.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raysweep.errors import InputError
from raysweep.publishing.archive import unpack_archive
from raysweep.publishing.bundle import FORMAT
from raysweep.publishing.differences import Mismatch
from raysweep.publishing.recomputing import Recomputed, recompute
from raysweep.publishing.software import other_software
from raysweep.storage.run_folder import open_run_folder


@dataclass(frozen=True, kw_only=True, slots=True)
class Verification:
    """The result of `verify`."""

    manifest: dict[str, Any]
    files: int
    """Files whose SHA-256 was compared with the manifest."""
    recomputed: Recomputed
    differences: tuple[Mismatch, ...]
    """Every difference that counts against the bundle."""
    rounding: tuple[Mismatch, ...]
    """Numbers that differ, on a machine with other libraries, in bits that no page prints."""

    @property
    def is_verified(self) -> bool:
        return not self.differences


def verify_bundle(path: Path) -> Verification:
    """Unpack a bundle, check its hashes, and compute its report again.

    Raises:
        InputError: it is no bundle, or is not safe to unpack, or was made by another version of raysweep and this
            version's numbers differ.
    """
    with tempfile.TemporaryDirectory(prefix="raysweep-verify-") as scratch:
        unpacked, storage = Path(scratch) / "unpacked", Path(scratch) / "runs"
        unpacked.mkdir()
        storage.mkdir()
        manifest, digests = unpack_archive(path, unpacked)
        if manifest["format"] != FORMAT:
            raise InputError(f"{path}: has bundle format {manifest['format']!r}; this raysweep reads format {FORMAT}")
        folder = open_run_folder(str(storage), str(manifest["run"])[:200])
        unpacked.rename(folder.root)
        wrong_hashes = _compare_hashes(manifest["files"], digests)
        recomputed = recompute(folder)
    other = other_software(manifest["made_with"])
    if recomputed.serious and not wrong_hashes and other.keys() & {"raysweep", "code"}:
        raise InputError(
            f"{path}: was made by another raysweep ({'; '.join(other.values())}), and this one's numbers or pages "
            f"differ in {len(recomputed.serious):,} places, first {recomputed.serious[0]}. That proves nothing: verify "
            f"it with the raysweep that made it (pip install raysweep=={manifest['made_with'].get('raysweep')})"
        )
    return Verification(
        manifest=manifest,
        files=len(digests),
        recomputed=recomputed,
        differences=(*wrong_hashes, *(recomputed.serious if other else recomputed.differences)),
        rounding=tuple(difference for difference in recomputed.differences if difference.is_rounding and other),
    )


def _compare_hashes(stated: dict[str, str], found: dict[str, str]) -> list[Mismatch]:
    differences = []
    for name in sorted(stated.keys() | found.keys()):
        if name not in found:
            differences.append(Mismatch(name, "in the manifest", "is not in the zip"))
        elif name not in stated:
            differences.append(Mismatch(name, "nothing", "is in the zip"))
        elif stated[name] != found[name]:
            differences.append(Mismatch(name, f"SHA-256 {stated[name]}", f"has {found[name]}"))
    return differences
