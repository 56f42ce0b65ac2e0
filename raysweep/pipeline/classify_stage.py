"""The stage that tells levels from perplexities: it scores texts under every model, then compares classifiers.

The scores of a corpus under a model are a target with its own record, made in parts, so that a kill costs at most one
part; the stage's own target is the output of the classifiers.  Answers that the evaluate stage scored are taken
from its losses, and only whole texts are scored here.
"""

import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raysweep.errors import ConfigError
from raysweep.pipeline import identities
from raysweep.pipeline.run_record import StageRecord, read_run
from raysweep.pipeline.stages import Decisions, Stage, Target, read_recorded
from raysweep.pipeline.status import read_done_trials
from raysweep.pipeline.tasks import Executor, Listener, TextTask
from raysweep.scheduling.trials import START_MODEL, Trial
from raysweep.storage.atomic_files import atomic_file, write_text
from raysweep.storage.classification_files import ClassificationFolder
from raysweep.storage.digests import combine_digests

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from raysweep.pipeline.text_sources import TextSource

PART_TEXTS = 1000
_KIND = "text scores"


def classified_models(trials: Mapping[str, Trial], done: Mapping[str, Any]) -> tuple[str, ...]:
    """Name the models to score with: the start, and the first trained seed of every entry except controls."""
    first: dict[str, str] = {}
    for name, trial in trials.items():
        if trial.control is None and name in done:
            first.setdefault(trial.entry, name)
    return (START_MODEL, *first.values())


@dataclass(frozen=True, kw_only=True, slots=True)
class _Pair:
    """A corpus to score under a model."""

    source: "TextSource"
    model: str
    tokenizer: str
    """Digest of the run's own tokenizer; '' if it uses GPT-2's."""

    @property
    def name(self) -> str:
        """The target's name; a trial's name never contains a colon."""
        return f"{self.source.name}:{self.model}"


class ClassifyStage(Stage):
    """Scores texts, and compares classifiers of levels on them."""

    name = "classify"
    needs = ("evaluate",)
    has_command = False

    def targets(self, done: Mapping[str, StageRecord]) -> list[Target]:
        """List every model's scores of every corpus, then the classifiers' output; [] without this stage."""
        if self.config.classification is None:
            return []
        trained = read_done_trials(self.folder, self.trials, self.forced)
        pairs = self._pairs(done)
        targets = []
        for pair in pairs:
            digest = {"model": trained[pair.model].model_digest} if pair.model in trained else {}
            path = self._files.scores_record(pair.source.name, pair.model)
            is_forced = not {self.name, pair.model}.isdisjoint(self.forced)
            record = read_recorded(path, fix="score the texts again with --force classify", is_forced=is_forced)
            targets.append(
                Target(
                    name=pair.name,
                    identity=identities.text_scores_identity(self.config, self.trials, pair.model),
                    made_from={**pair.source.made_from, **digest},
                    record=record,
                    is_done=record is not None,
                    root=path.parent,
                    kind=_KIND,
                )
            )
        corpora, models = dict.fromkeys(pair.source.name for pair in pairs), dict.fromkeys(pair.model for pair in pairs)
        own = self.own_target(
            identities.classify_identity(self.config, list(corpora), list(models)),
            done,
            made_from={
                "losses": combine_digests(done["evaluate"].outputs, identities.LOSSES) if "evaluate" in done else "",
                **{scores.name: combine_digests(scores.record.outputs) for scores in targets if scores.record},
            },
            rests_on=tuple(target.name for target in targets),
            skip_note="levels are told from the same scores",
        )
        return [*targets, own]

    def outputs(self) -> list[Path]:
        """Features, predictions and the fitted classifier."""
        return self._files.outputs

    def refuse_inputs(self) -> None:
        """Refuse a corpus with a single level."""
        levels = self.config.data.levels
        if self.config.classification is not None and len(levels) < 2:
            raise ConfigError(f"classification: found one level, {levels[0]:.40}; levels are told apart from two on")

    def make(self, decisions: Decisions, executor: Executor, listener: Listener) -> None:
        """Score the texts that are not scored, then classify."""
        record = read_run(self.folder)
        assert record is not None, "the stages before this one are recorded"
        pairs = {pair.name: pair for pair in self._pairs(record.stages)}
        documents = {pair.source.name: pair.source.read(self.config) for pair in pairs.values()}
        todo = {target.name: target for target in decisions.todo if target.kind == _KIND}
        self._score({name: pairs[name] for name in todo}, todo, documents, executor, listener, decisions.fresh)
        self._classify(list(pairs.values()), documents, listener)

    @property
    def _files(self) -> ClassificationFolder:
        return ClassificationFolder.of(self.folder)

    def _pairs(self, done: Mapping[str, StageRecord]) -> list[_Pair]:
        from raysweep.pipeline.text_sources import text_sources  # pandas, which a plan without this stage needs not

        models = classified_models(self.trials, read_done_trials(self.folder, self.trials, self.forced))
        tokenizer = identities.tokenizer_made_from(done).get("tokenizer", "")
        return [
            _Pair(source=source, model=model, tokenizer=tokenizer)
            for source in text_sources(self.config, self.folder, done)
            for model in models
        ]

    def _score(
        self,
        pairs: Mapping[str, _Pair],
        targets: Mapping[str, Target],
        documents: Mapping[str, "Sequence[pa.Table]"],
        executor: Executor,
        listener: Listener,
        fresh: frozenset[str],
    ) -> None:
        """Score what is missing of these pairs, and record each pair as soon as its parts are complete.

        The texts left by a killed command are written again, because its documents may have been different.
        """
        import pyarrow.parquet as pq

        if self._files.working.exists():
            shutil.rmtree(self._files.working)
        self._begin(pairs, targets, fresh)
        waiting: dict[str, set[Path]] = {}
        tasks: dict[Path, TextTask] = {}
        pair_of: dict[Path, str] = {}
        for name, pair in pairs.items():
            waiting[name] = set()
            digest = pair.tokenizer if pair.model == START_MODEL else targets[name].made_from["model"]
            for task in self._tasks(pair, digest, documents[pair.source.name]):
                if not task.out.exists():
                    tasks[task.out], pair_of[task.out] = task, name
                    waiting[name].add(task.out)
        for name in [name for name, left in waiting.items() if not left]:
            self._record(pairs[name], targets[name])
        total = sum(pq.read_metadata(task.texts).num_rows for task in tasks.values())
        done, began = 0, time.monotonic()
        listener.advance(self.name, 0, total, "texts × models")
        for task, count in executor.score_texts(list(tasks.values()), listener):
            done += count
            rate = done / max(time.monotonic() - began, 1e-9)
            listener.advance(self.name, done, total, f"texts × models  {rate:,.1f} a second")
            waiting[name := pair_of[task.out]].discard(task.out)
            if not waiting[name]:
                self._record(pairs[name], targets[name])
        shutil.rmtree(self._files.working, ignore_errors=True)

    def _tasks(self, pair: _Pair, model_digest: str, splits: "Sequence[pa.Table]") -> Iterator[TextTask]:
        """Write the corpus's texts in parts of one split each, and yield a task per part under a model."""
        import pyarrow.parquet as pq

        number = 0
        for split, documents in zip(pair.source.splits, splits, strict=True):
            for start in range(0, documents.num_rows, PART_TEXTS):
                texts = self._files.texts(pair.source.name, number)
                if not texts.exists():
                    with atomic_file(texts) as temporary:
                        part = documents.slice(start, PART_TEXTS).select(["writing_id", "text"])
                        pq.write_table(part, temporary, write_page_checksum=True)
                yield TextTask(
                    run=self.folder.root,
                    model=pair.model,
                    model_digest=model_digest,
                    texts=texts.absolute(),
                    out=self._files.part(pair.source.name, pair.model, number).absolute(),
                    tokens_out=None,
                    infills=split not in pair.source.scored_splits,
                )
                number += 1

    def _begin(self, pairs: Mapping[str, _Pair], targets: Mapping[str, Target], fresh: frozenset[str]) -> None:
        """Delete parts that were scored with other settings, texts or models, and keep those of the same work."""
        anew: dict[Path, str] = {}
        for name, pair in pairs.items():
            begun = self._files.begun(pair.source.name, pair.model)
            if name in fresh or not begun.exists() or begun.read_text(errors="replace") != targets[name].work:
                self._files.scores_record(pair.source.name, pair.model).unlink(missing_ok=True)
                shutil.rmtree(begun.parent, ignore_errors=True)
                anew[begun] = targets[name].work
        # A machine that resumes from object storage must not take old parts there for parts of the new work.
        if anew:
            self.push()
        for begun, work in anew.items():
            write_text(begun, work)

    def _record(self, pair: _Pair, target: Target) -> None:
        parts = sorted(self._files.scores(pair.source.name, pair.model).glob("*.parquet"))
        target.write_record(self._files.scores_record(pair.source.name, pair.model), parts)

    def _classify(
        self, pairs: Sequence[_Pair], documents: Mapping[str, "Sequence[pa.Table]"], listener: Listener
    ) -> None:
        """Write the features, the classifiers' predictions, and the fitted logistic regression."""
        import pandas as pd
        import pyarrow as pa

        from raysweep.classification.corpus_predictions import classify_corpora
        from raysweep.classification.saved_classifier import save_classifier
        from raysweep.pipeline.text_sources import feature_rows

        assert self.config.classification is not None
        models = list(dict.fromkeys(pair.model for pair in pairs))
        sources = {pair.source.name: pair.source for pair in pairs}
        texts = {name: pa.concat_tables(splits) for name, splits in documents.items()}
        for name in [name for name in sources if not texts[name].num_rows]:
            listener.say(f"classify: note: {name}: is left out, none of its documents has an example")
            del sources[name]
        features = pd.concat(
            [
                feature_rows(source, texts[name], {model: self._scores(name, model) for model in models})
                for name, source in sources.items()
            ],
            ignore_index=True,
        )
        classified = classify_corpora(
            features,
            [text for name in sources for text in texts[name]["text"].to_pylist()],
            self.config.data.levels,
            folds=self.config.classification.folds,
            seed=self.config.seed,
        )
        files = self._files
        _write_table(files.features, features)
        predictions = [prediction.table(self.config.data.levels) for prediction in classified.predicted]
        _write_table(files.predictions, pd.concat(predictions))
        digests = {pair.model: pair.tokenizer for pair in pairs if pair.model == START_MODEL}
        trained = read_done_trials(self.folder, self.trials)
        digests |= {model: trained[model].model_digest for model in models if model in trained}
        save_classifier(files.classifier, classified.fitted, levels=self.config.data.levels, models=digests)
        for sentence in classified.sentences:
            listener.say(f"classify: {sentence}")

    def _scores(self, corpus: str, model: str) -> "pd.DataFrame":
        """Read all parts of a corpus's scores under a model, in order."""
        import pandas as pd

        parts = sorted(self._files.scores(corpus, model).glob("*.parquet"))
        tables = [pd.read_parquet(part, page_checksum_verification=True) for part in parts]
        return pd.concat(tables, ignore_index=True)


def _write_table(path: Path, table: "pd.DataFrame") -> None:
    with atomic_file(path) as temporary:
        table.to_parquet(temporary, index=False, compression="zstd", write_page_checksum=True)
