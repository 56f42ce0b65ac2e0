"""The commands that publish a run's evidence, and verify what others published."""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from raysweep.cli.settings import Settings, new_group, with_settings

if TYPE_CHECKING:
    from raysweep.publishing.verify import Verification

app = new_group()
_SHOWN_PER_FILE = 5


@app.command()
@with_settings(overrides=False, reads_config=False)
def bundle(
    settings: Settings,
    out: Annotated[Path, typer.Option("--out", help="The zip to write.")] = Path("evidence.zip"),
) -> None:
    """Zip a run's evidence to publish it: losses, report and hashes, no learner's text."""
    from raysweep.publishing.bundle import write_bundle

    manifest = write_bundle(settings.folder, out)
    print(f"{out}: {len(manifest['files'])} files, {out.stat().st_size / 1e6:,.1f} MB, no learner's text")
    print(f"to check it anywhere: raysweep verify {out}")


@app.command()
def verify(zip_: Annotated[Path, typer.Argument(metavar="ZIP", help="What `raysweep bundle` made.")]) -> None:
    """Recompute every number and verdict of a published report from its losses."""
    from raysweep.publishing.verify import verify_bundle

    began = time.monotonic()
    result = verify_bundle(zip_)
    _print_result(result)
    if not result.is_verified:
        print(f"NOT VERIFIED: {len(result.differences):,} differences", file=sys.stderr)
        raise typer.Exit(1)
    print(f"verified in {time.monotonic() - began:.1f} s: every number and verdict follows from the losses")


def _print_result(result: "Verification") -> None:
    from raysweep.publishing.differences import shorten

    made, done = result.manifest["made_with"], result.recomputed
    print(f"run '{result.manifest['run']}', reported by raysweep {made.get('raysweep')}")
    for line in shorten(result.differences, _SHOWN_PER_FILE):
        print(f"  {line}", file=sys.stderr)
    if done.evidence is not None:
        print(f"  {result.files} files compared with their SHA-256")
        print(f"  {done.documents:,} documents counted again")
        print(f"  {done.values:,} values of the evidence recomputed from {done.losses:,} losses")
        print(f"  {done.files} pages and tables rendered again")
        if result.rounding:
            print(f"  {len(result.rounding)} numbers differ by rounding, as they may with other libraries")
        print(f"  digest of the inputs: {done.evidence.inputs.digest}")
        print(f"  answer: {done.evidence.answer.headline}")
