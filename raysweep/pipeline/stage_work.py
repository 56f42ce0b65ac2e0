"""What the stages make: documents, examples, scores.  When they are made, and whether again, is for `run.py`.

Heavy rooms are imported where they are used: a run with nothing to do need not wait for pyarrow.
"""

import shutil
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raysweep.config.fingerprints import fingerprint
from raysweep.config.schema import Config
from raysweep.errors import InputError
from raysweep.pipeline.tasks import Executor, Listener, MaskTask
from raysweep.scheduling.trials import Roles
from raysweep.storage.atomic_files import write_json, write_text
from raysweep.storage.run_folder import RunFolder

if TYPE_CHECKING:
    from raysweep.corpus.preparing import CorpusSummary


def find_csv(config: Config) -> Path | None:
    """The corpus as an absolute path; None: the synthetic sample.

    Raises:
        InputError: there is no such file.
    """
    if config.data.csv is None:
        return None
    path = Path(config.data.csv).expanduser()
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "no such file"
        raise InputError(f"data.csv: found '{path}', {what}; must be a .csv or .csv.gz file")
    return path.resolve()


def make_corpus(config: Config, folder: RunFolder, csv: Path | None, listener: Listener) -> "CorpusSummary":
    """Turn the CSV, or the synthetic sample, into documents with their splits."""
    from raysweep.corpus.preparing import prepare_corpus
    from raysweep.corpus.sample import SAMPLE_COLUMNS, write_sample

    if csv is None:
        sample = config.data.sample
        listener.say(f"prepare: no data.csv, so {sample.rows:,} synthetic texts are generated")
        write_sample(
            folder.sample_csv,
            rows=sample.rows,
            seed=config.seed,
            level_shares=sample.level_shares,
            levels=config.data.levels,
        )
    return prepare_corpus(
        csv or folder.sample_csv,
        folder,
        config.data,
        seed=config.seed,
        columns=SAMPLE_COLUMNS if csv is None else None,
        on_progress=lambda part, done, total: listener.advance("prepare", done, total, part),
    )


def tell_corpus(summary: "CorpusSummary", folder: RunFolder, listener: Listener) -> None:
    """Say how many documents there are, and what was set aside."""
    sizes = ", ".join(f"{level} {sum(counts.values()):,}" for level, counts in summary.counts.items())
    listener.say(f"prepare: {summary.documents:,} documents of {summary.rows:,} rows ({sizes})")
    for reason, count in summary.bad_rows.items():
        listener.say(f"prepare: {count:,} rows set aside: {reason} (see {folder.quarantine})")


def export_ilm(config: Config, folder: RunFolder, listener: Listener) -> None:
    """Write ILM's text files, if they are asked for and not there."""
    if not config.data.export_ilm or folder.ilm_texts.exists():
        return
    from raysweep.corpus.preparing import export_ilm_texts

    models = {name: trial.levels for name, trial in config.trials.items() if trial.parent is None}
    export_ilm_texts(folder, models)
    listener.say(f"prepare: ILM's train.txt, valid.txt and test.txt per model are in {folder.ilm_texts}")


def keep_shards_of(folder: RunFolder, identity: Mapping[str, Any]) -> None:
    """Remove shards that were begun from other settings; those of the same are gone on with."""
    begun = folder.examples_fingerprint
    if not begun.exists() or begun.read_text() != fingerprint(identity):
        shutil.rmtree(folder.examples, ignore_errors=True)
        write_text(begun, fingerprint(identity))


def make_examples(
    config: Config, folder: RunFolder, identity: Mapping[str, Any], executor: Executor, listener: Listener
) -> dict[str, Any]:
    """Make the shards that are not there, and the manifest of all of them."""
    from raysweep.corpus.preparing import read_summary
    from raysweep.masking.shards import plan_shards, read_shard_summary, write_manifest

    tasks = [
        MaskTask(
            documents=folder.documents,
            rows=rows,
            shard=shard,
            folder=folder.examples,
            policy=config.masking,
            seed=config.seed,
        )
        for shard, rows in enumerate(plan_shards(read_summary(folder).documents, config.masking.shard_documents))
    ]
    found = {task.shard: read_shard_summary(folder.examples, task.shard) for task in tasks}
    made = executor.mask([task for task in tasks if found[task.shard] is None], listener)
    summaries = [summary for summary in found.values() if summary is not None] + made
    summaries.sort(key=lambda summary: int(summary["shard"]))
    return write_manifest(folder.examples, fingerprint=fingerprint(identity), identity=identity, summaries=summaries)


def tell_examples(totals: Mapping[str, Any], listener: Listener) -> None:
    """Say how many examples there are, and what was left out."""
    listener.say(f"mask: {totals['examples']:,} examples of {totals['documents']:,} documents")
    for reason, count in totals["dropped"].items():
        if count:
            listener.say(f"mask: {count:,} examples left out: {reason.replace('_', ' ')}")


def merge_scores(config: Config, folder: RunFolder, cells: Sequence[Path]) -> None:
    """Lay the models' scores together: losses.parquet, matrix.csv, doc_features.parquet."""
    from raysweep.evaluation.matrix import merge_losses, write_features, write_matrix

    merge_losses(cells, folder.losses)
    write_matrix(folder.losses, folder.matrix, metric=config.report.metric)
    write_features(folder.losses, folder.documents, folder.doc_features)


def time_models(
    config: Config,
    folder: RunFolder,
    roles: Roles,
    *,
    done: Sequence[str],
    scored: Collection[str],
    executor: Executor,
    listener: Listener,
) -> None:
    """Time one model, the general one if there is one, and the levels' own models together.

    Args:
        done: the trained models.
        scored: those that were scored just now; the others' times stand.
    """
    repeats = config.evaluation.speed_repeats
    model = ([name for name in roles.general if name in done] or list(done))[0]
    if repeats and (model in scored or not folder.speed.exists()):
        firsts = [next((name for name in names if name in done), None) for names in roles.specialised.values()]
        ensemble = [folder.trial(name).model for name in firsts if name]
        measured = executor.time_model(folder.trial(model).model, ensemble, repeats, listener)
        write_json(folder.speed, {model: measured})
