"""The stages that need no model: prepare (the corpus becomes documents) and mask (documents become examples).

Heavy rooms are imported where they are used, so that a run with nothing to do does not wait for pyarrow.
"""

import shutil
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from raysweep.config.schema import Config
from raysweep.config.training_settings import CORPUS_TOKENIZER, GPT2_TOKENIZER, START_TOKENIZER
from raysweep.errors import InputError
from raysweep.pipeline import identities
from raysweep.pipeline.run_record import StageRecord
from raysweep.pipeline.stages import Decisions, Stage, Target
from raysweep.pipeline.tasks import Executor, Listener, MaskTask
from raysweep.pipeline.thin_levels import find_thin_levels, thin_level_problems
from raysweep.readers.locations import find_files
from raysweep.storage.atomic_files import write_text
from raysweep.storage.run_folder import ExamplesFolder, RunFolder

_ILM_TEXTS = "ILM texts"
_ORIGINS = {
    CORPUS_TOKENIZER: "a tokenizer trained on the texts of the train split",
    START_TOKENIZER: "the start's own tokenizer",
}
"""What is said of each value of `model.tokenizer`, except of a folder."""


class PrepareStage(Stage):
    """Turns the corpus, or the synthetic sample, into documents with their splits."""

    name = "prepare"
    is_costly = True

    @cached_property
    def _files(self) -> list[Path]:
        """The files of the corpus; [] for the synthetic sample.  Raises InputError if there is no such file."""
        path = self.config.data.path
        return [] if path is None else find_files(path)

    @cached_property
    def _identity(self) -> dict[str, Any]:
        return identities.corpus_identity(self.config, self._files)

    def outputs(self) -> list[Path]:
        """Return the files of `corpus/` except ILM's text files, which no other stage reads."""
        return self.folder.corpus_outputs

    def refuse_inputs(self) -> None:
        """Raise if a file of the corpus does not exist."""
        _ = self._files

    def targets(self, done: Mapping[str, StageRecord]) -> list[Target]:
        """Return the targets: the corpus, and ILM's text files if they are requested or exist."""
        targets = [self.own_target(self._settings(done), done)]
        has_ilm_texts = self.folder.ilm_texts.exists()
        if self.config.data.export_ilm or has_ilm_texts:
            targets.append(
                Target(
                    name=_ILM_TEXTS,
                    identity={},
                    record=None,
                    is_done=has_ilm_texts,
                    root=self.folder.root,
                    rests_on=(self.name,),
                )
            )
        return targets

    def _settings(self, done: Mapping[str, StageRecord]) -> Mapping[str, Any]:
        """Return the current settings, with the recorded digest if the corpus was moved, so that later stages run."""
        record = done.get(self.name)
        try:
            return self._identity
        except InputError:
            if record is None or "files" not in record.identity["data"]:
                raise
            return identities.corpus_identity(self.config, [], digest=record.identity["data"]["files"])

    def make(self, decisions: Decisions, executor: Executor, listener: Listener) -> None:
        """Write `corpus/`."""
        names = {target.name for target in decisions.todo}
        if self.name in names:
            self._make_corpus(executor, listener)
        if _ILM_TEXTS in names:
            self._export_ilm_texts(listener)

    def _make_corpus(self, executor: Executor, listener: Listener) -> None:
        from raysweep.corpus.preparing import prepare_corpus
        from raysweep.corpus.sample import SAMPLE_COLUMNS, write_sample

        data, seed = self.config.data, self.config.seed
        if not self._files:
            rows, shares = data.sample.rows, data.sample.level_shares
            listener.say(f"prepare: no data.path, so {rows:,} synthetic texts are generated")
            write_sample(self.folder.sample_csv, rows=rows, seed=seed, level_shares=shares, levels=data.levels)
        summary = prepare_corpus(
            self._files or [self.folder.sample_csv],
            self.folder,
            data,
            seed=seed,
            columns=None if self._files else SAMPLE_COLUMNS,
            on_progress=lambda part, done, total: listener.advance("prepare", done, total, part),
            map_blocks=executor.block_mapper(listener),
        )
        sizes = ", ".join(f"{level} {sum(counts.values()):,}" for level, counts in summary.counts.items())
        listener.say(f"prepare: {summary.documents:,} documents of {summary.rows:,} rows ({sizes})")
        for reason, count in summary.bad_rows.items():
            listener.say(f"prepare: {count:,} rows set aside: {reason} (see {self.folder.quarantine})")
        for note, count in summary.notes.items():
            listener.say(f"prepare: note: {count:,} {note}")
        if thin := find_thin_levels(self.config, summary.counts):
            for line in thin_level_problems(self.config, thin, summary.counts):
                listener.say(f"prepare: note: {line}")

    def _export_ilm_texts(self, listener: Listener) -> None:
        from raysweep.corpus.preparing import export_ilm_texts

        shutil.rmtree(self.folder.ilm_texts, ignore_errors=True)
        if self.config.data.export_ilm:
            models = {name: trial.levels for name, trial in self.config.trials.items() if trial.parent is None}
            export_ilm_texts(self.folder, models)
            listener.say(f"prepare: ILM's train.txt, valid.txt and test.txt per model are in {self.folder.ilm_texts}")


class MaskStage(Stage):
    """Makes the masked examples, one shard at a time."""

    name = "mask"
    needs = ("prepare",)
    is_costly = True

    def targets(self, done: Mapping[str, StageRecord]) -> list[Target]:
        """Return the target of the example store."""
        made_from = identities.examples_made_from(done)
        return [self.own_target(identities.examples_identity(self.config), done, made_from=made_from)]

    def outputs(self) -> list[Path]:
        """Return the shards, their records and the manifest."""
        return [self.folder.examples]

    def make(self, decisions: Decisions, executor: Executor, listener: Listener) -> None:
        """Make the missing shards, and the manifest of all shards."""
        import pyarrow.compute as pc
        import pyarrow.parquet as pq

        from raysweep.corpus.preparing import read_summary

        (target,) = decisions.todo
        totals = make_examples(
            self.folder,
            self.config,
            executor,
            listener,
            documents=read_summary(self.folder).documents,
            work=target.work,
            identity=target.identity,
            anew=target.name in decisions.fresh,
        )
        listener.say(f"mask: {totals['examples']:,} examples of {totals['documents']:,} documents")
        if (
            (language := self.config.data.language) != "en"
            and totals["tokens"]
            and self.config.model.tokenizer == GPT2_TOKENIZER
        ):
            texts = pq.read_table(self.folder.documents, columns=["text"])["text"]
            per_token = int(pc.sum(pc.binary_length(texts)).as_py() or 0) / totals["tokens"]
            listener.say(
                f"mask: note: {per_token:.1f} bytes of text per token: GPT-2's tokenizer was made for English (4.7 "
                f"there), so texts in '{language}' take more tokens; compare languages in bits per byte, not per token"
            )
        for reason, count in totals["dropped"].items():
            if count:
                listener.say(f"mask: {count:,} examples left out: {reason.replace('_', ' ')}")


def make_examples(
    folder: RunFolder,
    config: Config,
    executor: Executor,
    listener: Listener,
    *,
    documents: int,
    work: str,
    identity: Mapping[str, Any],
    anew: bool,
    run: RunFolder | None = None,
) -> Mapping[str, Any]:
    """Make the missing shards, and the manifest of all shards; return its totals.

    Args:
        folder: the documents to mask, and where the examples go.
        work: hash of what the examples are made from and how; shards with another hash are deleted first.
        identity: the settings, for the manifest.
        anew: delete shards with the same hash too.
        run: the run whose tokenizer is used; None to make the tokenizer that the config asks for.
    """
    from raysweep.masking.shards import plan_shards, read_shard_summary, write_manifest
    from raysweep.masking.tokenizer_folder import pack_vocabulary, write_tokenizer
    from raysweep.masking.vocabulary import gpt2
    from raysweep.model.run_tokenizer import copy_tokenizer, make_tokenizer

    if run is None:
        vocabulary = make_tokenizer(config, folder.documents, folder.examples)
    else:
        vocabulary = copy_tokenizer(config, run.examples, folder.documents, folder.examples)
    # Another version of `tokenizers` may train a different tokenizer on the same texts; then no existing shard fits it.
    begun, mark = folder.examples_fingerprint, work if vocabulary is gpt2() else f"{work} {vocabulary.digest}"
    if anew or not begun.exists() or begun.read_text(errors="replace") != mark:
        shutil.rmtree(folder.examples, ignore_errors=True)
        if vocabulary is not gpt2():
            write_tokenizer(ExamplesFolder(folder.examples).tokenizer, vocabulary, config.masking.max_tokens)
        write_text(begun, mark)
    tokenizer = pack_vocabulary(vocabulary)
    if tokenizer is not None and run is None:
        origin = _ORIGINS.get(config.model.tokenizer, "the tokenizer of a folder")
        listener.say(f"mask: {origin}, {vocabulary.size:,} tokens")
    tasks = [
        MaskTask(
            documents=folder.documents,
            rows=rows,
            shard=shard,
            folder=folder.examples,
            policy=config.masking,
            seed=config.seed,
            language=config.data.language,
            tokenizer=tokenizer,
        )
        for shard, rows in enumerate(plan_shards(documents, config.masking.shard_documents))
    ]
    kept = {task.shard: read_shard_summary(folder.examples, task.shard) for task in tasks}
    made = executor.mask([task for task in tasks if kept[task.shard] is None], listener)
    summaries = [summary for summary in kept.values() if summary is not None] + made
    summaries.sort(key=lambda summary: int(summary["shard"]))
    digest = None if tokenizer is None else vocabulary.digest
    manifest = write_manifest(
        folder.examples, fingerprint=work, identity=identity, summaries=summaries, tokenizer=digest
    )
    totals: Mapping[str, Any] = manifest["totals"]
    return totals
