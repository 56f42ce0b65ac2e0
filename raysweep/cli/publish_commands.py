"""The commands that publish a run's evidence, and verify evidence published by others."""

import shlex
import time
from functools import partial
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
@with_settings(overrides=False, reads_config=False, fetches="no checkpoints", needs_run=True)
def bundle(
    settings: Settings,
    out: Annotated[Path, typer.Option("--out", help="The zip to write.")] = Path("evidence.zip"),
    sign: Annotated[
        Path | None, typer.Option("--sign", help="Sign it with this private key (`ssh-keygen -t ed25519 -f KEY`).")
    ] = None,
) -> None:
    """Zip a run's evidence to publish: no learner's text is in it."""
    from raysweep.pipeline.file_check import refuse_changed_files
    from raysweep.publishing.bundle import write_bundle
    from raysweep.publishing.manifest import bundle_digest
    from raysweep.publishing.signatures import sign as sign_bytes

    signer = partial(sign_bytes, key_file=sign, ask_passphrase=_ask_passphrase) if sign is not None else None
    if missing := refuse_changed_files(settings.folder):
        say(f"note: {missing:,} recorded files of the run are not here, so they were not checked")
    manifest = write_bundle(settings.folder, out, signer)
    say(f"{out}: {len(manifest.files)} files, {out.stat().st_size / 1e6:,.1f} MB, no learner's text")
    say(f"digest of the bundle: {bundle_digest(manifest.to_bytes())}")
    key = ["--key", f"{sign}.pub"] if sign is not None else []
    say(f"to check it anywhere: `{shlex.join(['raysweep', 'verify', str(out), *key])}`")


def _ask_passphrase() -> str:
    return str(typer.prompt("passphrase of the key", hide_input=True, err=True))


@app.command()
def verify(
    zip_: Annotated[
        str, typer.Argument(metavar="ZIP", help="A bundle made by `raysweep bundle`; may be s3://… or gs://…")
    ],
    key: Annotated[
        Path | None, typer.Option("--key", help="The public key (.pub) with which it must be signed.")
    ] = None,
) -> None:
    """Recompute a published report from its losses."""
    from raysweep.publishing.verify import verify_bundle
    from raysweep.staging.bucket_address import is_bucket_uri
    from raysweep.staging.run_view import fetch_file

    began = time.monotonic()
    result = verify_bundle(fetch_file(zip_) if is_bucket_uri(zip_) else Path(zip_), key)
    _print_result(result)
    if not result.is_verified:
        if result.other_software:
            say("  it says it was made with other software, which would have to be used to tell whether that is why:")
            say(f"  {'; '.join(result.other_software)}")
        say(f"NOT VERIFIED: {len(result.differences):,} differences", to_stderr=True)
        raise typer.Exit(1)
    signed = f", signed by {key}" if result.is_key_checked else ""
    say(f"verified in {time.monotonic() - began:.1f} s: every number and verdict follows from its tables{signed}")


@app.command()
@with_settings(overrides=False, reads_config=False, fetches="no checkpoints", needs_run=True)
def push(
    settings: Settings,
    model: Annotated[str, typer.Option("--model", metavar="TRIAL", help="The trial whose model is pushed.")],
    to: Annotated[str, typer.Option("--to", metavar="USER/NAME", help="The repository on the hub.")],
    licence: Annotated[
        str, typer.Option("--licence", "--license", metavar="ID", help="Licence of the texts, such as cc-by-nc-4.0.")
    ],
    public: Annotated[bool, typer.Option("--public", help="Make the repository public [default: private].")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the files and the card without sending anything.")
    ] = False,
) -> None:
    """Push a trained model, with its card, to the Hugging Face hub."""
    from raysweep.cli.terminal import size
    from raysweep.config.loading import read_resolved_config
    from raysweep.pipeline.model_check import refuse_unsound_model
    from raysweep.publishing.hub import prepare_model, push_model

    config = read_resolved_config(settings.folder)
    refuse_unsound_model(settings.folder, config, model)
    prepared = prepare_model(settings.folder, config, model, to, licence)
    for name, count in prepared.sizes().items():
        say(f"  {name}: {size(count)}")
    if dry_run:
        say(
            f"\n{prepared.card}\nnothing was sent; without --dry-run this goes to {to}, "
            f"{'for everybody' if public else 'private'}"
        )
        return
    say(f"pushed: {push_model(prepared, is_public=public)}")


def _print_result(result: "Verification") -> None:
    from raysweep.publishing.differences import shorten

    done = result.recomputed
    say(
        f"run '{result.manifest.run}', by its own word reported by raysweep {result.manifest.made_with.get('raysweep')}"
    )
    for line in shorten(result.differences, _SHOWN_PER_FILE):
        say(f"  {line}", to_stderr=True)
    if done.evidence is not None:
        say(f"  {result.files} files compared with their SHA-256")
        say(f"  {done.documents:,} documents counted again")
        say(f"  {done.values:,} values of the evidence recomputed from {done.losses:,} losses")
        say(f"  {done.files} pages and tables rendered again")
        if result.rounding:
            say(f"  {len(result.rounding)} numbers lie between two ninth digits; the bundle has the other one")
        say(f"  digest of the inputs: {done.evidence.inputs.digest}")
        say(f"  digest of the bundle: {result.digest}")
        say(f"  answer: {done.evidence.answer.headline}")
    if result.signature is not None:
        whose = "the key asked for" if result.is_key_checked else "give --key to hold it against a key that you trust"
        say(f"  signed by {result.signature.fingerprint}: {whose}")
