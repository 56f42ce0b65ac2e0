"""The commands that make texts, fill their blanks, and exchange them with the original ILM code."""

from pathlib import Path
from typing import Annotated

import typer

from raysweep.cli.settings import DEFAULT_CONFIG, Settings, new_group, with_settings
from raysweep.storage.printable import say

app = new_group()


@app.command()
@with_settings()
def sample(
    settings: Settings,
    out: Annotated[Path, typer.Option("--out", help="The CSV to write.")] = Path("sample.csv"),
    rows: Annotated[int | None, typer.Option("--rows", min=1, help="Texts; data.sample.rows if absent.")] = None,
) -> None:
    """Write a synthetic corpus in the shape of EFCAMDAT."""
    from raysweep.corpus.sample import SYNTHETIC_NOTICE, write_sample

    data = settings.config.data
    count = rows or data.sample.rows
    write_sample(out, rows=count, seed=settings.config.seed, level_shares=data.sample.level_shares, levels=data.levels)
    say(f"{out}: {count:,} texts. {SYNTHETIC_NOTICE}")


@app.command()
def init(
    corpus: Annotated[
        list[str], typer.Argument(metavar="CORPUS...", help="A file, several, a glob, a folder or an address.")
    ],
    out: Annotated[Path, typer.Option("--out", help="The file to write.")] = DEFAULT_CONFIG,
    yes: Annotated[bool, typer.Option("--yes", help="Take what is shown, ask nothing.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="data.key=value, such as data.encoding=cp1252; several times."),
    ] = None,
) -> None:
    """Look at your corpus, and write an experiments.yaml for it."""
    from raysweep.cli.init_corpus import init_corpus

    init_corpus(corpus, out=out, overrides=set_ or (), is_agreed=yes, may_overwrite=force)


@app.command()
def infill(
    text: Annotated[str | None, typer.Argument(help="A text with blanks; asked for if absent.")] = None,
    model: Annotated[
        str, typer.Option("--model", help="A folder with a trained model; s3://… or gs://… too.")
    ] = "model",
    samples: Annotated[int, typer.Option("--samples", min=1, help="Fillings to draw.")] = 3,
    temperature: Annotated[float, typer.Option("--temperature", min=0.0, help="0: the likeliest token.")] = 1.0,
    top_k: Annotated[int | None, typer.Option("--top-k", min=1, help="Draw from the k likeliest tokens.")] = None,
    top_p: Annotated[
        float | None, typer.Option("--top-p", min=0.0, max=1.0, help="Draw from the likeliest tokens of this mass.")
    ] = 0.95,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Another one draws other fillings.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="Print JSON, for a program.")] = False,
) -> None:
    """Fill the blanks of a text with a trained model.

    Blanks are [blank], [word], [ngram], [sentence], [paragraph] and [document].
    """
    from raysweep.cli.infill_prompt import fill_texts
    from raysweep.staging.bucket_address import is_bucket_uri
    from raysweep.staging.run_view import fetch_folder

    folder = fetch_folder(model) if is_bucket_uri(model) else Path(model)
    draw = {"samples": samples, "temperature": temperature, "top_k": top_k, "top_p": top_p, "seed": seed}
    fill_texts(folder, text, as_json=json, **draw)


@app.command("ilm-export")
@with_settings(fetches="no weights")
def ilm_export(
    settings: Settings,
    out: Annotated[Path, typer.Option("--out", help="The folder for the pickles.")] = Path("ilm"),
) -> None:
    """Write a run's examples as the original ILM code reads them."""
    from raysweep.cli.ilm_exchange import export_examples

    export_examples(settings, out)


@app.command("ilm-import")
def ilm_import(
    source: Annotated[Path, typer.Argument(help="The original's examples (.pkl) or texts (.txt).")],
    level: Annotated[str, typer.Option("--level", help="The level of all its documents.")],
    out: Annotated[Path, typer.Option("--out", help="The CSV to write.")] = Path("imported.csv"),
) -> None:
    """Turn files of the original ILM code into a CSV."""
    from raysweep.cli.ilm_exchange import import_texts

    import_texts(source, level, out)
