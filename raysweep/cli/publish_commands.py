"""The commands that publish a run's evidence, and verify what others published."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from raysweep.cli.settings import Settings, new_group, with_settings
from raysweep.storage.printable import say

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
    say(f"{out}: {len(manifest['files'])} files, {out.stat().st_size / 1e6:,.1f} MB, no learner's text")
    say(f"to check it anywhere: raysweep verify {out}")


@app.command()
def verify(zip_: Annotated[Path, typer.Argument(metavar="ZIP", help="What `raysweep bundle` made.")]) -> None:
    """Recompute every number and verdict of a published report from its losses."""
    from raysweep.publishing.verify import verify_bundle

    began = time.monotonic()
    result = verify_bundle(zip_)
    _print_result(result)
    if not result.is_verified:
        say(f"NOT VERIFIED: {len(result.differences):,} differences", to_stderr=True)
        raise typer.Exit(1)
    say(f"verified in {time.monotonic() - began:.1f} s: every number and verdict follows from the losses")


def _print_result(result: "Verification") -> None:
    from raysweep.publishing.differences import shorten

    made, done = result.manifest["made_with"], result.recomputed
    say(f"run '{result.manifest['run']}', reported by raysweep {made.get('raysweep')}")
    for line in shorten(result.differences, _SHOWN_PER_FILE):
        say(f"  {line}", to_stderr=True)
    if done.evidence is not None:
        say(f"  {result.files} files compared with their SHA-256")
        say(f"  {done.documents:,} documents counted again")
        say(f"  {done.values:,} values of the evidence recomputed from {done.losses:,} losses")
        say(f"  {done.files} pages and tables rendered again")
        if result.rounding:
            say(f"  {len(result.rounding)} numbers differ by rounding, as they may with other libraries")
        say(f"  digest of the inputs: {done.evidence.inputs.digest}")
        say(f"  answer: {done.evidence.answer.headline}")
