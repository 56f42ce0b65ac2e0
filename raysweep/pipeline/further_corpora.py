"""The part of the evaluate stage that handles further corpora (`corpora:`): their documents, examples and scores.

A corpus is a target with its own record, `corpora/NAME/corpus.json`, and so is each model's score on it.  If its
files or settings change, it and its scores are made again, and besides them only the tables and the report.  It is
also made again if the run's own documents change, since it must not contain any of their texts.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from raysweep.config.schema import Config
from raysweep.errors import InputError
from raysweep.pipeline import identities
from raysweep.pipeline.corpus_stages import make_examples
from raysweep.pipeline.run_record import StageRecord, read_run
from raysweep.pipeline.stages import Recorded, Target, read_recorded
from raysweep.pipeline.tasks import Executor, Listener
from raysweep.readers.locations import digest_files, find_files
from raysweep.scheduling.records import TrialRecord
from raysweep.scheduling.scorings import Scoring, plan_further_scorings
from raysweep.scheduling.trials import Trial
from raysweep.storage.run_folder import RunFolder

_OWN_SETTINGS = re.compile(
    r"\bdata\.(path|format|encoding|quotes|sheet|layout|clean|columns|level_aliases|leave_out|max_bad_fraction)\b"
)


@dataclass(frozen=True, kw_only=True)
class FurtherCorpora:
    """The further corpora of a run."""

    config: Config
    folder: RunFolder
    trials: Mapping[str, Trial]
    forced: Collection[str]

    @cached_property
    def _digests(self) -> dict[str, str]:
        """Digests of each corpus's files; if they were moved away, the digest with which the corpus was made.

        Raises:
            InputError: there is no such file.
        """
        digests = {}
        for name in self.config.corpora:
            try:
                digests[name] = digest_files(_find_files(self.config, name))
            except InputError:
                if (record := self._recorded(name)) is None:
                    raise
                digests[name] = record.identity["corpus"]["files"]
        return digests

    def refuse_inputs(self) -> None:
        """Read each corpus that will be made, or made again because of --force or changed documents of the run.

        Raises:
            InputError: a file is missing or cannot be used, too many rows are bad, or no document is left.
        """
        run = None if "prepare" in self.forced else read_run(self.folder)
        is_prepared = run is not None and "prepare" in run.stages
        for name in self.config.corpora:
            is_kept = is_prepared and not {"evaluate", name} & {*self.forced}
            if not is_kept or self._identity(name) != getattr(self._recorded(name), "identity", None):
                survey_corpus_files(self.config, name)

    def targets(self, done: Mapping[str, StageRecord], models: Mapping[str, TrialRecord]) -> list[Target]:
        """List every corpus, then the scores on it of every trained model."""
        made_from = {**identities.examples_made_from(done), **identities.tokenizer_made_from(done)}
        corpora = {
            name: Target(
                name=name,
                identity=self._identity(name),
                made_from=made_from,
                record=self._recorded(name),
                is_done=self._recorded(name) is not None,
                root=self.folder.further(name).root,
                kind="corpus",
            )
            for name in self.config.corpora
        }
        scores = [
            self._scores_target(scoring, corpora[scoring.corpus or ""], models)
            for scoring in plan_further_scorings(self.config, models)
        ]
        return [*corpora.values(), *scores]

    def make(self, target: Target, executor: Executor, listener: Listener) -> None:
        """Prepare a corpus, and make its examples; raises InputError if it cannot be used."""
        from raysweep.corpus.further_corpus import prepare_further_corpus

        name, place = target.name, self.folder.further(target.name)
        place.further_record.unlink(missing_ok=True)
        with _naming_corpus_settings(name):
            summary = prepare_further_corpus(
                _find_files(self.config, name),
                place,
                self.config.corpora[name].as_data(self.config.data),
                known=self.folder.documents,
                on_progress=lambda part, done, total: listener.advance("evaluate", done, total, f"{name}: {part}"),
            )
        sizes = ", ".join(f"{level} {count['test']:,}" for level, count in summary.counts.items())
        listener.say(f"{name}: {summary.documents:,} documents of {summary.rows:,} rows ({sizes})")
        for reason, count in summary.bad_rows.items():
            listener.say(f"{name}: {count:,} rows set aside: {reason} (see {place.quarantine})")
        for note, count in summary.notes.items():
            listener.say(f"{name}: note: {count:,} {note}")
        totals = make_examples(
            place,
            self.config,
            executor,
            listener,
            documents=summary.documents,
            work=target.work,
            identity=target.identity,
            anew=True,
            run=self.folder,
        )
        listener.say(f"{name}: {totals['examples']:,} examples of {totals['documents']:,} documents")
        outputs = [place.documents, place.splits, place.quarantine, place.examples]
        target.write_record(place.further_record, outputs)

    def made_from(self, scoring: Scoring, models: Mapping[str, TrialRecord]) -> dict[str, str]:
        """Return the digests of what a model's scores on a corpus are made from now."""
        record = self._recorded(scoring.corpus or "")
        return identities.further_scores_made_from(record and record.outputs, models.get(scoring.model))

    def _scores_target(self, scoring: Scoring, corpus: Target, models: Mapping[str, TrialRecord]) -> Target:
        path = self.folder.further(corpus.name).cells_record(scoring.model)
        is_forced = not {"evaluate", corpus.name, scoring.model}.isdisjoint(self.forced)
        record = read_recorded(path, fix=f"make it again with {corpus.force}", is_forced=is_forced)
        return Target(
            name=scoring.name,
            identity=identities.scores_identity(self.config, self.trials, scoring),
            made_from=self.made_from(scoring, models),
            record=record,
            is_done=record is not None,
            root=path.parent,
            kind="scores",
            rests_on=(corpus.name,),
        )

    def _identity(self, name: str) -> dict[str, Any]:
        return identities.further_identity(self.config, name, self._digests[name])

    def _recorded(self, name: str) -> Recorded | None:
        path, is_forced = self.folder.further(name).further_record, not {"evaluate", name}.isdisjoint(self.forced)
        return read_recorded(path, fix=f"make it again with --force {name}", is_forced=is_forced)


def survey_corpus_files(config: Config, name: str) -> None:
    """Read a further corpus, and raise InputError if its preparation would refuse it."""
    from raysweep.corpus.further_corpus import survey_further_corpus

    with _naming_corpus_settings(name):
        survey_further_corpus(_find_files(config, name), config.corpora[name].as_data(config.data))


def _find_files(config: Config, name: str) -> list[Path]:
    with _naming_corpus_settings(name):
        return find_files(config.corpora[name].path)


@contextmanager
def _naming_corpus_settings(name: str) -> Iterator[None]:
    """Replace names of `data` settings in errors of the readers by those of this corpus's settings."""
    try:
        yield
    except InputError as error:
        message = _OWN_SETTINGS.sub(rf"corpora.{name}.\1", str(error))
        raise InputError(message if f"corpora.{name}." in message else f"corpora.{name}: {message}") from error
