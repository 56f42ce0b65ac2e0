"""`raysweep verify`: does a published report follow from its losses?  No GPU, no Ray, no corpus.

What it catches: any changed, missing or added file, digit, hash or verdict, also where the hashes were
made to fit.  What it cannot catch: a whole that was forged consistently, losses first and everything
else made from them by raysweep itself.  Against that, the digest of all inputs is printed, here and
on the page: it is the one line to write into the paper.
"""

import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raysweep.errors import InputError
from raysweep.publishing.archive import unpack_archive
from raysweep.publishing.bundle import FORMAT
from raysweep.publishing.differences import Mismatch
from raysweep.publishing.made_with import is_other_code, other_software
from raysweep.publishing.recomputing import Recomputed, recompute
from raysweep.storage.run_folder import open_run_folder

Values = dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Verification:
    """What `verify` found."""

    manifest: Values
    files: int
    """Files whose SHA-256 was held against the manifest."""
    recomputed: Recomputed
    differences: tuple[Mismatch, ...]
    """Everything that speaks against the bundle; none: it is verified."""
    rounding: tuple[Mismatch, ...]
    """Numbers that differ in bits which no page prints, on a machine with other libraries."""

    @property
    def is_verified(self) -> bool:
        return not self.differences


def verify_bundle(path: Path) -> Verification:
    """Unpack a bundle, check its hashes, and make its report once more.

    Raises:
        InputError: it is no bundle, is not fit to be unpacked, or another version of raysweep made it and this
            one's numbers differ.
    """
    with tempfile.TemporaryDirectory(prefix="raysweep-verify-") as scratch:
        unpacked, storage = Path(scratch) / "unpacked", Path(scratch) / "runs"
        unpacked.mkdir()
        storage.mkdir()
        manifest, found = unpack_archive(path, unpacked)
        if manifest["format"] != FORMAT:
            raise InputError(f"{path}: has bundle format {manifest['format']!r}; this raysweep reads format {FORMAT}")
        folder = open_run_folder(str(storage), str(manifest["run"])[:200])
        unpacked.rename(folder.root)
        hashes = _compare_hashes(manifest["files"], found)
        recomputed = recompute(folder)
    if recomputed.serious and not hashes and is_other_code(manifest["made_with"]):
        _refuse_version(path, manifest["made_with"], recomputed.serious)
    elsewhere = other_software(manifest["made_with"])
    counted = recomputed.serious if elsewhere else recomputed.differences
    return Verification(
        manifest=manifest,
        files=len(found),
        recomputed=recomputed,
        differences=(*hashes, *counted),
        rounding=tuple(one for one in recomputed.differences if one.is_rounding) if elsewhere else (),
    )


def shorten(differences: tuple[Mismatch, ...], most: int) -> list[str]:
    """The first differences of every file, as lines; what is left out is counted."""
    shown: list[str] = []
    left_out: Counter[str] = Counter()
    per_file: Counter[str] = Counter()
    for one in differences:
        name = one.place.split(" line ")[0].split(": ")[0]
        per_file[name] += 1
        if per_file[name] <= most:
            shown.append(str(one))
        else:
            left_out[name] += 1
    return shown + [f"{name}: {count:,} more" for name, count in left_out.items()]


def _compare_hashes(stated: Values, found: dict[str, str]) -> list[Mismatch]:
    differences = []
    for name in sorted(stated.keys() | found.keys()):
        if name not in found:
            differences.append(Mismatch(place=name, stated="in the manifest", found="is not in the zip"))
        elif name not in stated:
            differences.append(Mismatch(place=name, stated="nothing of it", found="is in the zip"))
        elif stated[name] != found[name]:
            differences.append(Mismatch(place=name, stated=f"SHA-256 {stated[name]}", found=f"has {found[name]}"))
    return differences


def _refuse_version(path: Path, made_with: Values, differences: list[Mismatch]) -> None:
    raise InputError(
        f"{path}: was made by another raysweep ({'; '.join(other_software(made_with))}), and this one's numbers or "
        f"pages differ in {len(differences):,} places, first {differences[0]}. That proves nothing: verify it with "
        f"the raysweep that made it (pip install raysweep=={made_with.get('raysweep')})"
    )
