"""The commands that make texts, fill their blanks, score them, and exchange them with the original ILM code."""

import json
from pathlib import Path
from typing import Annotated

import typer

from raysweep.cli.settings import DEFAULT_CONFIG, Settings, new_group, with_settings
from raysweep.errors import ConfigError
from raysweep.storage.printable import say

app = new_group()

CorpusArgument = Annotated[
    list[str], typer.Argument(metavar="CORPUS...", help="A file, several, a glob, a folder or an address.")
]
StorageOption = Annotated[str, typer.Option("--storage", metavar="FOLDER", help="Where run folders are stored.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Setting of the corpus, such as data.encoding=cp1252; repeatable."),
]
InlineOption = Annotated[bool, typer.Option("--inline", help="Work in this process, without Ray.")]
OverwriteOption = Annotated[bool, typer.Option("--force", help="Overwrite the file.")]


@app.command()
@with_settings()
def sample(
    settings: Settings,
    out: Annotated[Path, typer.Option("--out", help="The CSV to write.")] = Path("sample.csv"),
    rows: Annotated[
        int | None, typer.Option("--rows", min=1, help="Number of texts [default: data.sample.rows].")
    ] = None,
    force: OverwriteOption = False,
) -> None:
    """Write a synthetic corpus in the shape of EFCAMDAT."""
    from raysweep.corpus.sample import SYNTHETIC_NOTICE, write_sample

    if out.is_file() and not force:
        raise ConfigError(f"{out}: is there already; give --force to write it anew, or another name with --out")
    data = settings.config.data
    count = rows or data.sample.rows
    write_sample(out, rows=count, seed=settings.config.seed, level_shares=data.sample.level_shares, levels=data.levels)
    say(f"{out}: {count:,} texts. {SYNTHETIC_NOTICE}")


@app.command()
def init(
    corpus: CorpusArgument,
    out: Annotated[Path, typer.Option("--out", help="The file to write.")] = DEFAULT_CONFIG,
    yes: Annotated[bool, typer.Option("--yes", help="Accept what is shown without asking.")] = False,
    force: OverwriteOption = False,
    set_: SetOption = None,
) -> None:
    """Inspect your corpus, and write an experiments.yaml for it."""
    from raysweep.cli.init_corpus import init_corpus

    init_corpus(corpus, out=out, overrides=set_ or (), is_agreed=yes, may_overwrite=force)


@app.command()
def infill(
    text: Annotated[str | None, typer.Argument(help="A text with blanks; if absent, you are asked for texts.")] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", help="Trial of the run; without --name, a folder, s3://… or gs://…"),
    ] = None,
    name: Annotated[str | None, typer.Option("--name", metavar="NAME", help="Run whose models are used.")] = None,
    storage: StorageOption = "runs",
    all_levels: Annotated[
        bool, typer.Option("--all-levels", help="Use each level's own model of the run, side by side.")
    ] = False,
    csv: Annotated[Path | None, typer.Option("--csv", metavar="FILE", help="Fill every text of this CSV.")] = None,
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="With --csv: the CSV to write.")] = None,
    force: Annotated[bool, typer.Option("--force", help="With --csv: overwrite --out.")] = False,
    column: Annotated[str, typer.Option("--column", help="With --csv: column of the texts.")] = "text",
    reference: Annotated[
        str | None, typer.Option("--reference", metavar="COLUMN", help="With --csv: column of what the learner wrote.")
    ] = None,
    learner_likeness: Annotated[
        bool,
        typer.Option(
            "--learner-likeness",
            help="With --csv: predict the level of filled texts and of the run's test texts with a classifier.",
        ),
    ] = False,
    classifier: Annotated[
        Path | None,
        typer.Option(
            "--classifier",
            metavar="FILE|FOLDER",
            help="For --learner-likeness: a file saved by classify, or another run's folder [default: the run's own]. "
            "Only the run's own is sure not to have been fitted on the run's test texts.",
        ),
    ] = None,
    samples: Annotated[
        int | None, typer.Option("--samples", min=1, help="Fillings per text [default: 3; with --csv: 1].")
    ] = None,
    temperature: Annotated[
        float, typer.Option("--temperature", min=0.0, help="0: always the most likely token.")
    ] = 1.0,
    top_k: Annotated[int | None, typer.Option("--top-k", min=1, help="Draw from the k most likely tokens.")] = None,
    top_p: Annotated[
        float | None,
        typer.Option("--top-p", min=0.0, max=1.0, help="Draw from the most likely tokens that hold this probability."),
    ] = 0.95,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Random seed.")] = 0,
    first_word: Annotated[
        str | None, typer.Option("--first-word", metavar="WORD", help="First word of every answer.")
    ] = None,
    min_words: Annotated[int, typer.Option("--min-words", min=0, help="Minimum number of words in an answer.")] = 0,
    max_words: Annotated[
        int | None, typer.Option("--max-words", min=1, help="Maximum number of words in an answer.")
    ] = None,
    forbid: Annotated[
        list[str] | None, typer.Option("--forbid", metavar="WORD", help="Word that no answer may contain; repeatable.")
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
    settings = Settings(name=name, storage=storage, fetches="no checkpoints", needs_run=True)
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
    corpus: CorpusArgument,
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="Run whose models score.")],
    out: Annotated[
        str, typer.Option("--out", metavar="FILE", help="Table to write: .parquet, .csv or .jsonl, or s3://…")
    ] = "scores.parquet",
    storage: StorageOption = "runs",
    model: Annotated[
        list[str] | None,
        typer.Option("--model", metavar="MODEL", help="Trial, or start; repeatable [default: all]."),
    ] = None,
    tokens: Annotated[bool, typer.Option("--tokens", help="Also write the surprisal of every token.")] = False,
    layout: Annotated[str | None, typer.Option("--layout", help="Layout of a known corpus, as in data.layout.")] = None,
    format_: Annotated[str | None, typer.Option("--format", help="As in data.format; recognised if absent.")] = None,
    text_column: Annotated[str | None, typer.Option("--text-column", help="As in data.columns.text.")] = None,
    id_column: Annotated[str | None, typer.Option("--id-column", help="As in data.columns.id.")] = None,
    set_: SetOption = None,
    inline: InlineOption = False,
    force: Annotated[bool, typer.Option("--force", help="Score again, and overwrite the table.")] = False,
) -> None:
    """Score every text of a corpus under every model of a run.

    If it is stopped or killed, the same command resumes.
    """
    from raysweep.cli.data_options import options_named
    from raysweep.cli.score_output import score_texts

    given = {"layout": layout, "format": format_, "columns.text": text_column, "columns.id": id_column}
    data = [*(set_ or ()), *(f"data.{key}={json.dumps(value)}" for key, value in given.items() if value is not None)]
    columns = {"--text-column": text_column, "--id-column": id_column}
    run = Settings(name=name, storage=storage, fetches="no checkpoints", needs_run=True)
    with run.fetched() as settings, options_named(columns):
        score_texts(
            settings, corpus, out=out, data=data, models=model or (), with_tokens=tokens, inline=inline, force=force
        )


@app.command()
def classify(
    corpus: Annotated[
        str, typer.Argument(metavar="CORPUS", help="Texts of known level that the run was not trained on.")
    ],
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="Run whose models' perplexities are used.")],
    on: Annotated[
        list[str] | None,
        typer.Option(
            "--on",
            metavar="CORPUS",
            help="Another corpus to test the classifiers on, which are fitted on the first; repeatable.",
        ),
    ] = None,
    out: Annotated[
        Path, typer.Option("--out", metavar="FILE", help="File for the results; the classifier is saved beside it.")
    ] = Path("classification.json"),
    storage: StorageOption = "runs",
    folds: Annotated[int, typer.Option("--folds", min=2, help="Number of cross-validation folds.")] = 5,
    resamples: Annotated[int, typer.Option("--resamples", min=100, help="Bootstrap resamples of learners.")] = 2000,
    set_: SetOption = None,
    inline: InlineOption = False,
    force: Annotated[bool, typer.Option("--force", help="Score again, and overwrite the tables.")] = False,
) -> None:
    """Predict levels of texts from perplexities and baselines."""
    from raysweep.cli.classify_output import classify_texts
    from raysweep.cli.data_options import options_named

    run = Settings(name=name, storage=storage, fetches="no checkpoints", needs_run=True)
    with run.fetched() as settings, options_named({}):
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
@with_settings(fetches="no weights", needs_run=True)
def ilm_export(
    settings: Settings,
    out: Annotated[Path, typer.Option("--out", help="Folder for the pickles.")] = Path("ilm"),
) -> None:
    """Write a run's examples in the format of the original ILM code."""
    from raysweep.cli.ilm_exchange import export_examples

    export_examples(settings, out)


@app.command("ilm-import")
def ilm_import(
    source: Annotated[Path, typer.Argument(help="Examples (.pkl) or texts (.txt) of the original code.")],
    level: Annotated[str, typer.Option("--level", help="Level of all its documents.")],
    out: Annotated[Path, typer.Option("--out", help="The CSV to write.")] = Path("imported.csv"),
    force: OverwriteOption = False,
) -> None:
    """Convert files of the original ILM code to a CSV."""
    from raysweep.cli.ilm_exchange import import_texts

    import_texts(source, level, out, force=force)
