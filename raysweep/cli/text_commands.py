"""The commands that make texts, fill their blanks, and exchange them with the original ILM code."""

import json
from pathlib import Path
from typing import Annotated

import typer

from raysweep.cli.settings import DEFAULT_CONFIG, Settings, new_group, with_settings
from raysweep.errors import ConfigError
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
        str | None,
        typer.Option("--model", help="A trial of the run; without --name a folder, s3://… or gs://…"),
    ] = None,
    name: Annotated[str | None, typer.Option("--name", metavar="NAME", help="The run whose models are asked.")] = None,
    storage: Annotated[str, typer.Option("--storage", metavar="FOLDER", help="Where run folders lie.")] = "runs",
    all_levels: Annotated[
        bool, typer.Option("--all-levels", help="Ask each level's own model of the run, side by side.")
    ] = False,
    csv: Annotated[Path | None, typer.Option("--csv", metavar="FILE", help="Fill every text of this CSV.")] = None,
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="With --csv: the CSV to write.")] = None,
    force: Annotated[bool, typer.Option("--force", help="With --csv: overwrite --out.")] = False,
    column: Annotated[str, typer.Option("--column", help="With --csv: the column of the texts.")] = "text",
    reference: Annotated[
        str | None, typer.Option("--reference", metavar="COLUMN", help="With --csv: the column of what was written.")
    ] = None,
    learner_likeness: Annotated[
        bool,
        typer.Option(
            "--learner-likeness",
            help="With --csv: the level that a classifier takes filled texts for, and the run's test texts.",
        ),
    ] = False,
    classifier: Annotated[
        Path | None,
        typer.Option(
            "--classifier",
            metavar="FILE|FOLDER",
            help="For --learner-likeness: what classify saved, or another run's folder; the run's own if absent. "
            "The run's test texts are held out from its own alone: another may have been fitted on them.",
        ),
    ] = None,
    samples: Annotated[int | None, typer.Option("--samples", min=1, help="Fillings; 3, of a CSV's texts 1.")] = None,
    temperature: Annotated[float, typer.Option("--temperature", min=0.0, help="0: the likeliest token.")] = 1.0,
    top_k: Annotated[int | None, typer.Option("--top-k", min=1, help="Draw from the k likeliest tokens.")] = None,
    top_p: Annotated[
        float | None, typer.Option("--top-p", min=0.0, max=1.0, help="Draw from the likeliest tokens of this mass.")
    ] = 0.95,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Another one draws other fillings.")] = 0,
    first_word: Annotated[
        str | None, typer.Option("--first-word", metavar="WORD", help="With which every answer begins.")
    ] = None,
    min_words: Annotated[int, typer.Option("--min-words", min=0, help="Words in the shortest answer.")] = 0,
    max_words: Annotated[int | None, typer.Option("--max-words", min=1, help="Words in the longest answer.")] = None,
    forbid: Annotated[
        list[str] | None, typer.Option("--forbid", metavar="WORD", help="A word that no answer has; several times.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for a program.")] = False,
) -> None:
    """Fill the blanks of a text, or of a CSV of texts, with a model.

    Blanks are [blank], [word], [ngram], [sentence], [paragraph] and [document].
    """
    if csv is not None and (text is not None or out is None):
        raise ConfigError("--csv: needs --out FILE, and no text")
    if csv is None and (out is not None or reference is not None or force or learner_likeness):
        raise ConfigError("--out, --force, --reference and --learner-likeness: need --csv FILE")
    if classifier is not None and not learner_likeness:
        raise ConfigError("--classifier: needs --learner-likeness, whose levels it tells")
    if learner_likeness and name is None:
        raise ConfigError("--learner-likeness: needs --name, the run whose classifier tells levels")
    from raysweep.cli.infill_models import choose_models
    from raysweep.cli.infill_prompt import fill_texts
    from raysweep.evaluation.answer_words import Constraints
    from raysweep.model.heavy_imports import import_quickly

    options = {
        "samples": samples or (3 if csv is None else 1),
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "seed": seed,
        "constraints": Constraints(
            first_word=first_word, min_words=min_words, max_words=max_words, forbidden=tuple(forbid or ())
        ),
    }
    settings = Settings(name=name, storage=storage, fetches="no checkpoints")
    with choose_models(settings, model, all_levels=all_levels) as chosen:
        import_quickly("raysweep.evaluation.infilling")
        if csv is None or out is None:
            fill_texts(chosen, text, as_json=as_json, **options)
            return
        from raysweep.cli.infill_csv import fill_csv

        failed = fill_csv(
            chosen,
            csv,
            out,
            column=column,
            reference=reference,
            as_json=as_json,
            options=options,
            measures_likeness=learner_likeness,
            classifier=classifier,
            may_overwrite=force,
        )
    if failed:
        raise typer.Exit(1)


@app.command()
def score(
    corpus: Annotated[
        list[str], typer.Argument(metavar="CORPUS...", help="A file, several, a glob, a folder or an address.")
    ],
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="The run whose models score.")],
    out: Annotated[
        str, typer.Option("--out", metavar="FILE", help="The table to write, .parquet, .csv or .jsonl; or s3://….")
    ] = "scores.parquet",
    storage: Annotated[str, typer.Option("--storage", metavar="FOLDER", help="Where run folders lie.")] = "runs",
    model: Annotated[
        list[str] | None,
        typer.Option("--model", metavar="MODEL", help="A trial, or start; several times. All if absent."),
    ] = None,
    tokens: Annotated[bool, typer.Option("--tokens", help="Also write the surprisal of every token.")] = False,
    layout: Annotated[str | None, typer.Option("--layout", help="Of a known corpus, as data.layout.")] = None,
    format_: Annotated[str | None, typer.Option("--format", help="As data.format; recognised if absent.")] = None,
    text_column: Annotated[str | None, typer.Option("--text-column", help="As data.columns.text.")] = None,
    id_column: Annotated[str | None, typer.Option("--id-column", help="As data.columns.id.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="data.key=value, such as data.encoding=cp1252; several times."),
    ] = None,
    inline: Annotated[bool, typer.Option("--inline", help="Work in this process, without Ray.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Score again, and overwrite the table.")] = False,
) -> None:
    """Score every text of a corpus under every model of a run.

    Stopped or killed, the same command goes on where it was.
    """
    from raysweep.cli.score_output import score_texts

    given = {"layout": layout, "format": format_, "columns.text": text_column, "columns.id": id_column}
    data = [*(set_ or ()), *(f"data.{key}={json.dumps(value)}" for key, value in given.items() if value is not None)]
    with Settings(name=name, storage=storage, fetches="no checkpoints").fetched() as settings:
        score_texts(
            settings, corpus, out=out, data=data, models=model or (), with_tokens=tokens, inline=inline, force=force
        )


@app.command()
def classify(
    corpus: Annotated[str, typer.Argument(metavar="CORPUS", help="Texts of known level; the run was not trained on.")],
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="The run whose models' perplexities count.")],
    on: Annotated[
        list[str] | None,
        typer.Option("--on", metavar="CORPUS", help="Another corpus to test on, fitted on the first; several times."),
    ] = None,
    out: Annotated[
        Path, typer.Option("--out", metavar="FILE", help="The results; the classifier lies beside it.")
    ] = Path("classification.json"),
    storage: Annotated[str, typer.Option("--storage", metavar="FOLDER", help="Where run folders lie.")] = "runs",
    folds: Annotated[int, typer.Option("--folds", min=2, help="Parts of the corpus that are tested in turn.")] = 5,
    resamples: Annotated[int, typer.Option("--resamples", min=100, help="Bootstrap resamples of learners.")] = 2000,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="data.key=value, such as data.encoding=cp1252; several times."),
    ] = None,
    inline: Annotated[bool, typer.Option("--inline", help="Work in this process, without Ray.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Score again, and overwrite the tables.")] = False,
) -> None:
    """Tell texts' levels from perplexities, beside baselines."""
    from raysweep.cli.classify_output import classify_texts

    with Settings(name=name, storage=storage, fetches="no checkpoints").fetched() as settings:
        classify_texts(
            settings,
            corpus,
            on or (),
            out=out,
            data=set_ or (),
            folds=folds,
            resamples=resamples,
            inline=inline,
            force=force,
        )


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
