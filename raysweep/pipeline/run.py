"""A run from a CSV to a report: five stages, each skipped where it is done already.

prepare → mask → train → evaluate → report.  A stage is done when its record stands in run.json (a
trial: in its trial.json; a model's scores: beside them) with the fingerprint of what is asked for
now.  Where settings changed under a corpus, examples or a trained model, the run stops and names
the fields: those may have cost hours.  Scores and report are made again without asking.
"""

import json
import logging
import shutil
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raysweep.config.fingerprints import fingerprint
from raysweep.config.loading import dump_config
from raysweep.config.schema import Config
from raysweep.errors import ConfigError, InputError
from raysweep.pipeline import foreseeing, identities, provenance
from raysweep.pipeline.jobs import score_tasks, train_tasks
from raysweep.pipeline.work import Executor, Listener, MaskTask
from raysweep.scheduling.budget import Spent, refuse_start
from raysweep.scheduling.decisions import decide
from raysweep.scheduling.forecast import expected_costs
from raysweep.scheduling.ledger import write_ledger
from raysweep.scheduling.records import State, TrialRecord, read_record
from raysweep.scheduling.trials import Trial, descendants_of, expand_trials, find_roles
from raysweep.store import RunFolder, read_json, write_json, write_text

if TYPE_CHECKING:  # loads pyarrow, which a run with nothing to do need not wait for
    from raysweep.corpus.preparing import CorpusSummary

logger = logging.getLogger(__name__)

STAGES = ("prepare", "mask", "train", "evaluate", "report")


@dataclass(frozen=True, kw_only=True, slots=True)
class Unfinished:
    """A trial that is not done at the end of a run."""

    trial: str
    state: State
    reason: str


@dataclass(kw_only=True)
class Run:
    """One run folder, what is asked of it, and who carries the work."""

    config: Config
    profile: str
    folder: RunFolder
    executor: Executor
    listener: Listener
    command: Sequence[str]
    forced: Collection[str] = ()
    """Stages and trials to do again."""
    trials: dict[str, Trial] = field(init=False)
    record: provenance.RunRecord = field(init=False)

    def __post_init__(self) -> None:
        self.trials = expand_trials(self.config)
        self.record = provenance.open_run(self.folder, profile=self.profile, command=self.command)
        for name in self.forced:
            if name not in self.trials and name not in STAGES:
                known = ", ".join([*STAGES, *self.trials])
                raise ConfigError(f"--force {name}: no such stage or trial; known are {known}")

    def everything(self) -> list[Unfinished]:
        """Do every stage that is not done.  Returns the trials that could not be trained."""
        self.refuse_over_budget()
        for stage in STAGES:
            if stage == "evaluate" and not self.has_models:
                break
            self.do(stage)
        return self.unfinished()

    @property
    def has_models(self) -> bool:
        """Whether there is anything to score and to report."""
        return bool(self._done_trials())

    def refuse_over_budget(self) -> None:
        """Before anything is done, hold what the trainings are expected to take against the budget.

        Raises:
            ConfigError: with the figures and the ways on.
        """
        todo = self._trials_to_do()
        if not todo:
            return
        spent, prices = Spent.read(self.folder), self.config.prices
        expected = foreseeing.expected_spending(self.config, todo, self.folder)
        if problems := refuse_start(self.config.budget, spent, expected, currency=prices.currency):
            raise ConfigError(*problems)

    def do(self, stage: str) -> None:
        """Do one stage, if it is not done.

        Raises:
            ConfigError: an earlier stage is not done, or its settings changed.
        """
        if stage in ("prepare", "mask", "train"):
            self._foretell()
        if stage == "train":
            self.refuse_over_budget()
        resolved = dump_config(self.config)
        if not self.folder.config.exists() or self.folder.config.read_text(encoding="utf-8") != resolved:
            write_text(self.folder.config, resolved)
        {
            "prepare": self._prepare,
            "mask": self._mask,
            "train": self._train,
            "evaluate": self._evaluate,
            "report": self._report,
        }[stage]()

    def unfinished(self) -> list[Unfinished]:
        """Trials that are not done, the failed ones before the blocked ones."""
        found = []
        for name in self.trials:
            record = read_record(self.folder.trial(name))
            if record is None:
                found.append(Unfinished(trial=name, state=State.PENDING, reason="not started"))
            elif record.state is not State.DONE:
                found.append(Unfinished(trial=name, state=record.state, reason=record.reason))
        order = [State.FAILED, State.BLOCKED, State.STOPPED, State.RUNNING, State.PENDING]
        return sorted(found, key=lambda each: order.index(each.state))

    # --- the stages -------------------------------------------------------------------------

    def _prepare(self) -> None:
        csv = self._csv()
        identity = identities.corpus_identity(self.config, csv)
        if self._is_skipped("prepare", identity):
            self._export_ilm()
            return
        from raysweep.corpus.preparing import prepare_corpus
        from raysweep.corpus.sample import SAMPLE_COLUMNS, write_sample

        with self._stage("prepare", identity):
            if csv is None:
                sample = self.config.data.sample
                self.listener.say(f"prepare: no data.csv, so {sample.rows:,} synthetic texts are generated")
                write_sample(
                    self.folder.sample_csv,
                    rows=sample.rows,
                    seed=self.config.seed,
                    level_shares=sample.level_shares,
                    levels=self.config.data.levels,
                )
            summary = prepare_corpus(
                csv or self.folder.sample_csv,
                self.folder,
                self.config.data,
                seed=self.config.seed,
                columns=SAMPLE_COLUMNS if csv is None else None,
                on_progress=lambda part, done, total: self.listener.advance("prepare", done, total, part),
            )
            shutil.rmtree(self.folder.ilm_texts, ignore_errors=True)
            self._export_ilm()
        self._tell_corpus(summary)

    def _mask(self) -> None:
        identity = self._examples_identity()
        if self._is_skipped("mask", identity):
            return
        from raysweep.corpus.preparing import read_summary
        from raysweep.masking.store import plan_shards, read_shard_summary, write_manifest

        begun = self.folder.examples / "begun"
        if not begun.exists() or begun.read_text() != fingerprint(identity):
            shutil.rmtree(self.folder.examples, ignore_errors=True)
            write_text(begun, fingerprint(identity))
        with self._stage("mask", identity):
            documents = read_summary(self.folder).documents
            tasks = [
                MaskTask(
                    documents=self.folder.documents,
                    rows=rows,
                    shard=shard,
                    folder=self.folder.examples,
                    policy=self.config.masking,
                    seed=self.config.seed,
                )
                for shard, rows in enumerate(plan_shards(documents, self.config.masking.shard_documents))
            ]
            found = {task.shard: read_shard_summary(self.folder.examples, task.shard) for task in tasks}
            made = self.executor.mask([task for task in tasks if found[task.shard] is None], self.listener)
            summaries = [summary for summary in found.values() if summary is not None] + made
            summaries.sort(key=lambda summary: int(summary["shard"]))
            manifest = write_manifest(
                self.folder.examples, fingerprint=fingerprint(identity), identity=identity, summaries=summaries
            )
        totals = manifest["totals"]
        self.listener.say(f"mask: {totals['examples']:,} examples of {totals['documents']:,} documents")
        for reason, count in totals["dropped"].items():
            if count:
                self.listener.say(f"mask: {count:,} examples left out: {reason.replace('_', ' ')}")

    def _train(self) -> None:
        examples = self._fingerprint_of("mask", needed_by="train")
        made_of, prints = identities.trial_identities(self.config, self.trials, examples)
        records = {name: read_record(self.folder.trial(name)) for name in self.trials}
        decisions = decide(self.trials, records, made_of, prints, self._forced_trials(records, prints))
        for name in decisions.skip:
            self.listener.say(f"{name}: skip, {_ago(records[name])} with the same config")
        if not decisions.todo:
            return
        tasks = train_tasks(
            self.config,
            self.folder,
            [self.trials[name] for name in decisions.todo],
            identities=made_of,
            fingerprints=prints,
            fresh=decisions.fresh,
            costs=self._costs(decisions.todo),
        )
        try:
            self.executor.train(tasks, self.listener)
        finally:
            write_ledger(self.folder, list(self.trials))

    def _costs(self, names: Sequence[str]) -> dict[str, float]:
        """Expected seconds of each trial, by which those that could start are ordered."""
        todo = {name: self.trials[name] for name in names}
        return expected_costs(todo, foreseeing.foresee(self.config, todo, self.folder).trials)

    def _evaluate(self) -> None:
        examples = self._fingerprint_of("mask", needed_by="evaluate")
        tasks = score_tasks(self.config, self.folder, self._done_trials(), examples=examples)
        if not tasks:
            raise ConfigError("stage 'evaluate' needs a trained model; do `raysweep train` or `raysweep run` first")
        todo = [task for task in tasks if "evaluate" in self.forced or self._scored(task.model) != task.fingerprint]
        if todo:
            self.executor.score(todo, self.listener)
        identity = {"scores": {task.model: task.fingerprint for task in tasks}, "metric": self.config.report.metric}
        if not todo and provenance.is_done(self.record, "evaluate", identity):
            self.listener.say("evaluate: skip, every model is scored")
            return
        from raysweep.evaluation.merging import merge_losses, write_features, write_matrix

        with self._stage("evaluate", identity):
            merge_losses([task.out for task in tasks], self.folder.losses)
            write_matrix(self.folder.losses, self.folder.matrix, metric=self.config.report.metric)
            write_features(self.folder.losses, self.folder.documents, self.folder.doc_features)
        self._time_model({task.model for task in todo})
        self.listener.say(f"evaluate: scored {len(todo)} of {len(tasks)} models, the others were done")

    def _time_model(self, scored: Collection[str]) -> None:
        """Time one model, the general one if there is one, and the levels' own models together."""
        repeats = self.config.evaluation.speed_repeats
        done = list(self._done_trials())
        roles = find_roles(self.trials, self.config.data.levels)
        general = [name for name in roles.general if name in done]
        model = (general or done)[0]
        if repeats and (model in scored or not self.folder.speed.exists()):
            firsts = [next((name for name in names if name in done), None) for names in roles.specialised.values()]
            ensemble = [self.folder.trial(name).model for name in firsts if name]
            folder = self.folder.trial(model).model
            measured = self.executor.time_model(folder, ensemble, repeats, self.listener)
            write_json(self.folder.speed, {model: measured})

    def _report(self) -> None:
        self._fingerprint_of("evaluate", needed_by="report")
        scores = dict(self.record.stages["evaluate"].identity["scores"])
        states = {each.trial: f"{each.state}: {each.reason}" for each in self.unfinished()}
        identity = identities.report_identity(self.config, scores, states)
        is_done = provenance.is_done(self.record, "report", identity) and self.folder.report_html.exists()
        if is_done and "report" not in self.forced:
            self.listener.say(f"report: skip, {self.folder.report_html} is up to date")
            return
        from raysweep.report.writing import write_report

        with self._stage("report", identity):
            answer = write_report(self.folder, self.config, self.trials)["answer"]
        self.listener.say(f"answer: {answer['headline']}")
        for reason in answer["reasons"]:
            self.listener.say(f"answer: {reason['code']} {reason['verdict']}. {reason['text']}")
        self.listener.say(f"report: {self.folder.report_html}")

    def _export_ilm(self) -> None:
        """Write ILM's text files, if they are asked for and not there."""
        if not self.config.data.export_ilm or self.folder.ilm_texts.exists():
            return
        from raysweep.corpus.preparing import export_ilm_texts

        models = {name: trial.levels for name, trial in self.config.trials.items() if trial.parent is None}
        export_ilm_texts(self.folder, models)
        self.listener.say(f"prepare: ILM's train.txt, valid.txt and test.txt per model are in {self.folder.ilm_texts}")

    def _tell_corpus(self, summary: "CorpusSummary") -> None:
        sizes = ", ".join(f"{level} {sum(counts.values()):,}" for level, counts in summary.counts.items())
        self.listener.say(f"prepare: {summary.documents:,} documents of {summary.rows:,} rows ({sizes})")
        for reason, count in summary.bad_rows.items():
            self.listener.say(f"prepare: {count:,} rows set aside: {reason} (see {self.folder.quarantine})")

    # --- what the stages share --------------------------------------------------------------

    def _is_skipped(self, stage: str, identity: Mapping[str, Any]) -> bool:
        """Whether the stage is done; if it is not, whether it may be made.

        Raises:
            ChangedError: it was made from other settings, and neither it nor what it is made from is forced.
        """
        if stage in self.forced:
            return False
        if provenance.is_done(self.record, stage, identity):
            self.listener.say(f"{stage}: skip, done with the same config")
            return True
        if not (stage == "mask" and "prepare" in self.forced):
            provenance.refuse_change(self.record, stage, identity)
        return False

    @contextmanager
    def _stage(self, stage: str, identity: Mapping[str, Any]) -> Iterator[None]:
        started = time.monotonic()
        # Taken out first: a kill between the new files and the new record must not leave the old record standing.
        self.record = provenance.forget(self.folder, self.record, stage)
        yield
        seconds = time.monotonic() - started
        self.record = provenance.mark_done(self.folder, self.record, stage, identity, seconds=seconds)
        logger.info("%s: done in %.1f s", stage, seconds)

    def _csv(self) -> Path | None:
        if self.config.data.csv is None:
            return None
        path = Path(self.config.data.csv).expanduser()
        if not path.is_file():
            what = "is a folder" if path.is_dir() else "no such file"
            raise InputError(f"data.csv: found '{path}', {what}; must be a .csv or .csv.gz file")
        return path.resolve()

    def _fingerprint_of(self, stage: str, *, needed_by: str) -> str:
        record = self.record.stages.get(stage)
        if record is None:
            raise ConfigError(f"stage '{needed_by}' needs '{stage}', which is not done; do `raysweep run` first")
        return record.fingerprint

    def _examples_identity(self) -> dict[str, Any]:
        corpus = self._fingerprint_of("prepare", needed_by="mask")
        return identities.examples_identity(self.config, corpus)

    def _forced_trials(self, records: Mapping[str, TrialRecord | None], prints: Mapping[str, str]) -> list[str]:
        """Trials to redo: named ones, and all that a forced earlier stage changed."""
        if "train" in self.forced:
            return list(self.trials)
        named = [name for name in self.forced if name in self.trials]
        if not {"prepare", "mask"} & set(self.forced):
            return named
        changed = [name for name, record in records.items() if record and record.fingerprint != prints[name]]
        return named + changed

    def _trials_to_do(self) -> dict[str, Trial]:
        """Those that are not done, and those that are forced; a changed one is refused later."""
        done = self._done_trials()
        redo = {name for name in self.forced if name in self.trials}
        for name in tuple(redo):
            redo.update(descendants_of(self.trials, name))
        everything = any(stage in self.forced for stage in ("prepare", "mask", "train"))
        return {name: trial for name, trial in self.trials.items() if everything or name in redo or name not in done}

    def _foretell(self) -> None:
        """Write down what the whole run is expected to take, once, before it begins: plan.json."""
        beside = {"budget", "notify", "report"}
        print_of_config = fingerprint(json.loads(self.config.model_dump_json(by_alias=True, exclude=beside)))
        if self.folder.plan.exists() and read_json(self.folder.plan)["config"] == print_of_config:
            return
        if self._trials_to_do():
            here = foreseeing.foresee(self.config, self.trials, self.folder)
            plan = foreseeing.plan_of(self.config, here)
            write_json(self.folder.plan, {**plan, "config": print_of_config})
            minutes, source = plan["expected_wall_s"]["total"] / 60, plan["source"]
            self.listener.say(f"plan: the whole run takes about {max(1.0, minutes):,.0f} min, by {source} rates")

    def _done_trials(self) -> dict[str, TrialRecord]:
        records = {name: read_record(self.folder.trial(name)) for name in self.trials}
        return {name: record for name, record in records.items() if record and record.state is State.DONE}

    def _scored(self, model: str) -> str | None:
        path = self.folder.cells_record(model)
        if not path.exists() or not self.folder.cells(model).exists():
            return None
        return str(read_json(path)["fingerprint"])


def _ago(record: TrialRecord | None) -> str:
    if record is None or record.ended_at is None:
        return "done"
    minutes = (time.time() - record.ended_at) / 60
    return f"done {minutes:,.0f} min ago" if minutes < 120 else f"done {minutes / 60:,.0f} h ago"
