"""`raysweep classify`: compares classifiers of levels, on perplexities and baselines, within a corpus and on others."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raysweep.cli.score_output import data_settings, score_texts
from raysweep.cli.settings import Settings
from raysweep.cli.terminal import PrintableConsole, plain_table
from raysweep.errors import ConfigError, InputError
from raysweep.readers.locations import find_files
from raysweep.storage.atomic_files import write_json
from raysweep.storage.printable import say
from raysweep.storage.table_files import refuse_inputs

if TYPE_CHECKING:
    from raysweep.classification.scored_texts import ScoredTexts
    from raysweep.config.data_settings import DataConfig
    from raysweep.statistics.loss_table import Ints

CONFIDENCE = 0.95


@dataclass(frozen=True, kw_only=True, slots=True)
class _Chosen:
    """The texts of a corpus to classify, and counts of those left out."""

    texts: "ScoredTexts"
    """Without features until the texts are scored."""
    rows: "Ints"
    """Row numbers of the texts in the corpus."""
    digest: str
    """Digest of the corpus's files when the texts were chosen."""
    without_level: int
    trained_on: int
    """Number of texts equal to a train document of the run."""
    in_first: int
    """Number of texts that are also in the first corpus, on which the classifiers are fitted."""
    has_learners: bool

    def counts(self) -> dict[str, Any]:
        return {
            "texts": len(self.texts.texts),
            "learners": len(set(self.texts.groups)) if self.has_learners else None,
            "without_level": self.without_level,
            "trained_on": self.trained_on,
            "in_first": self.in_first,
        }


def classify_texts(
    settings: Settings,
    corpus: str,
    others: Sequence[str],
    *,
    out: Path,
    data: Sequence[str],
    folds: int,
    resamples: int,
    inline: bool,
    force: bool,
) -> None:
    """Score the corpora, compare the classifiers, write the results and the fitted classifier, and print a table.

    Raises:
        ConfigError: the suffix of `out` is not .json, or an output would replace a file that is not of an earlier such
            command.
        InputError: there is no such run, or a corpus has too few texts of known level, or changed before it was scored.
    """
    if out.suffix != ".json":
        raise ConfigError(f"--out: found '{out.name[:60]}'; must end in .json")
    from raysweep.classification.comparison import (
        count_unseen,
        fit_logistic,
        predict_across,
        predict_within,
        split_folds,
    )
    from raysweep.classification.level_metrics import judge_predictions
    from raysweep.classification.saved_classifier import save_classifier
    from raysweep.config.loading import read_resolved_config
    from raysweep.inference.level_classifier import model_digest_of

    tables = [out.with_name(f"{out.stem}.{number}.parquet") for number in range(1 + len(others))]
    classifier = out.with_suffix(".skops")
    refuse_inputs([out, classifier, *tables], [file for name in (corpus, *others) for file in find_files(name)])
    if not (force or tables[0].exists()) and (there := [path for path in (out, classifier) if path.exists()]):
        raise ConfigError(f"--out: {there[0]!s:.80} is there already; give --force to overwrite it, or another --out")
    config = read_resolved_config(settings.folder)
    levels = config.data.levels
    options: dict[str, Any] = {"seed": config.seed, "resamples": resamples, "confidence": CONFIDENCE}
    chosen: dict[str, _Chosen] = {}
    read_as = data_settings(config.data, data, command="classify")
    for number, name in enumerate((corpus, *others)):
        first_texts = chosen[corpus].texts.texts if number else ()
        chosen[name] = _choose(settings, name, read_as, levels, first_texts)
    # Divide into folds before anything is scored, which may take hours.
    try:
        fold_D = split_folds(chosen[corpus].texts, folds, config.seed)
    except InputError as error:
        raise InputError(f"{corpus[:80]}: {error}") from error
    scored: dict[str, ScoredTexts] = {}
    for name, table in zip((corpus, *others), tables, strict=True):
        digest = score_texts(
            settings,
            [name],
            out=table,
            data=data,
            models=(),
            with_tokens=False,
            inline=inline,
            force=force,
            with_levels=False,
        )
        if digest != chosen[name].digest:  # hours may have passed since they were chosen
            raise InputError(f"{name[:80]}: changed before it was scored; the same command classifies it as it is now")
        scored[name] = _with_features(chosen[name], table, levels)
    first = scored[corpus]
    models = tuple(first.features)
    within = predict_within(first, fold_D, len(levels), models, config.seed)
    tested = [scored[name] for name in others]
    across = predict_across(first, tested, len(levels), models, config.seed)
    results: dict[str, Any] = {
        "run": settings.folder.name,
        "levels": list(levels),
        "models": list(models),
        **options,
        "within": {
            "corpus": corpus,
            **chosen[corpus].counts(),
            "folds": folds,
            **judge_predictions(first.levels, first.groups, within, **options),
        },
        "across": [
            {
                "corpus": name,
                **chosen[name].counts(),
                **judge_predictions(texts.levels, texts.groups, found, **options),
                "unseen": count_unseen(first, texts, levels),
            }
            for name, texts, found in zip(others, tested, across, strict=True)
        ],
    }
    write_json(out, results)
    digests = {name: model_digest_of(settings.folder, name) for name in models}
    save_classifier(classifier, fit_logistic(first, models), levels=levels, models=digests)
    for part in (results["within"], *results["across"]):
        _print_part(part)
    say(f"{out}: written; the logistic regression on all texts of {corpus}: {classifier}")


def _choose(
    settings: Settings, name: str, data: "DataConfig", levels: Sequence[str], first_texts: Sequence[str]
) -> _Chosen:
    """Choose the texts that have a level of the run and are in neither its train split nor the first corpus."""
    import numpy as np
    import pyarrow.parquet as pq

    from raysweep.classification.scored_texts import measure_lengths, read_scored_texts
    from raysweep.corpus.new_texts import read_new_texts
    from raysweep.readers.locations import digest_files
    from raysweep.storage.digests import digest_text

    files = find_files(name)
    digest = digest_files(files)  # taken before reading, so that a change in between is noticed
    documents = read_new_texts(files, data).documents.select(["level", "learner", "text"]).to_pandas()
    texts = documents["text"].tolist()
    trained = pq.read_table(settings.folder.documents, columns=["text"], filters=[("split", "=", "train")])
    seen = {digest_text(text) for text in trained["text"].to_pylist()}
    is_seen = np.array([digest_text(text) in seen for text in texts], dtype=np.bool_)
    has_level = documents["level"].isin(levels).to_numpy()
    known = set(first_texts)
    in_first = np.array([text in known for text in texts], dtype=np.bool_)
    rows = np.flatnonzero(has_level & ~is_seen & ~in_first)
    if not len(rows):
        also = "" if not first_texts else ", and is not in the first corpus too"
        raise InputError(
            f"{name[:80]}: none of its {len(texts):,} texts has a level of the run ({', '.join(levels)}) and was not "
            f"trained on{also}; name the column with --set data.columns.level=COLUMN, or give other texts"
        )
    facts, written = documents.iloc[rows].reset_index(drop=True), [texts[row] for row in rows]
    return _Chosen(
        texts=read_scored_texts(facts, levels, lengths=measure_lengths(written), texts=written),
        rows=rows,
        digest=digest,
        without_level=int((~has_level).sum()),
        trained_on=int((has_level & is_seen).sum()),
        in_first=int((has_level & ~is_seen & in_first).sum()),
        has_learners=bool(documents["learner"].notna().any()),
    )


def _with_features(chosen: _Chosen, table: Path, levels: Sequence[str]) -> "ScoredTexts":
    """Add to the chosen texts their perplexities, from the table of the whole corpus's scores."""
    import pandas as pd

    from raysweep.classification.scored_texts import measure_lengths, read_scored_texts

    scores = pd.read_parquet(table, page_checksum_verification=True).iloc[chosen.rows].reset_index(drop=True)
    texts = chosen.texts
    return read_scored_texts(scores, levels, lengths=measure_lengths(texts.texts), texts=texts.texts)


def _print_part(part: Mapping[str, Any]) -> None:
    """Print the table of one corpus."""
    where = f"{part['folds']} folds by learner" if "folds" in part else "zero-shot"
    writers = "learners not known, so folds and intervals count texts" if part["learners"] is None else ""
    say(f"{part['corpus']}: {part['texts']:,} texts, {where}" + (f" ({writers})" if writers else ""))
    if unseen := {level: count for level, count in part.get("unseen", {}).items() if count}:
        shown = ", ".join(f"{count:,} {level}" for level, count in unseen.items())
        say(f"note: the first corpus has no text of their level, so these count as wrong: {shown}")
    left_out = {
        "that the run was trained on": part["trained_on"],
        "that the first corpus holds too": part["in_first"],
        "without a level of the run": part["without_level"],
    }
    if any(left_out.values()):
        say(f"left out: {', '.join(f'{count:,} {what}' for what, count in left_out.items() if count)}")
    table = plain_table()
    table.add_column("classifier")
    names = list(next(iter(part["classifiers"].values()))["metrics"])
    for name in (*names, "calibration_error"):
        table.add_column(name, justify="right")
    for name, row in part["classifiers"].items():
        cells = [_cell(row["metrics"][metric]) for metric in names]
        table.add_row(f"{name}{' (baseline)' if row['is_baseline'] else ''}", *cells, f"{row['calibration_error']:.3f}")
    PrintableConsole(highlight=False).print(table)


def _cell(metric: Mapping[str, float | None]) -> str:
    if metric["value"] is None:
        return "-"
    limits = f" [{metric['low']:.3f}, {metric['high']:.3f}]" if metric["low"] is not None else ""
    return f"{metric['value']:.3f}{limits}"
