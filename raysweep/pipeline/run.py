"""A run from a CSV to a report: five stages, each skipped where it is done already.

prepare → mask → train → evaluate → report.  A stage is done when its record stands in run.json (a
trial: in its trial.json; a model's scores: beside them) with the fingerprint of what is asked for
now.  Where settings changed under a corpus, examples or a trained model, the run stops and names
the fields: those may have cost hours.  Scores and report are made again without asking.
"""

import logging
import shutil
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from raysweep.config.loading import dump_config
from raysweep.config.schema import Config
from raysweep.errors import ConfigError
from raysweep.pipeline import identities, run_record, stage_work
from raysweep.pipeline.jobs import score_tasks, train_tasks
from raysweep.pipeline.tasks import Executor, Listener
from raysweep.planning import run_forecast
from raysweep.planning.budget import Spent, refuse_start
from raysweep.planning.forecast import expected_costs
from raysweep.scheduling.ledger import write_ledger
from raysweep.scheduling.records import State, TrialRecord, read_record
from raysweep.scheduling.trial_decisions import decide
from raysweep.scheduling.trials import Trial, descendants_of, expand_trials, find_roles
from raysweep.storage.atomic_files import read_json, write_text
from raysweep.storage.run_folder import RunFolder

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
    record: run_record.RunRecord = field(init=False)

    def __post_init__(self) -> None:
        self.trials = expand_trials(self.config)
        self.record = run_record.open_run(self.folder, profile=self.profile, command=self.command)
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
        expected = run_forecast.expected_spending(self.config, todo, self.folder)
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
        csv = stage_work.find_csv(self.config)
        identity = identities.corpus_identity(self.config, csv)
        if self._is_skipped("prepare", identity):
            stage_work.export_ilm(self.config, self.folder, self.listener)
            return
        with self._stage("prepare", identity):
            summary = stage_work.make_corpus(self.config, self.folder, csv, self.listener)
            shutil.rmtree(self.folder.ilm_texts, ignore_errors=True)
            stage_work.export_ilm(self.config, self.folder, self.listener)
        stage_work.tell_corpus(summary, self.folder, self.listener)

    def _mask(self) -> None:
        identity = self._examples_identity()
        if self._is_skipped("mask", identity):
            return
        stage_work.keep_shards_of(self.folder, identity)
        with self._stage("mask", identity):
            manifest = stage_work.make_examples(self.config, self.folder, identity, self.executor, self.listener)
        stage_work.tell_examples(manifest["totals"], self.listener)

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
        return expected_costs(todo, run_forecast.forecast_run(self.config, todo, self.folder).trials)

    def _evaluate(self) -> None:
        examples = self._fingerprint_of("mask", needed_by="evaluate")
        tasks = score_tasks(self.config, self.folder, self._done_trials(), examples=examples)
        if not tasks:
            raise ConfigError("stage 'evaluate' needs a trained model; do `raysweep train` or `raysweep run` first")
        todo = [task for task in tasks if "evaluate" in self.forced or self._scored(task.model) != task.fingerprint]
        identity = {"scores": {task.model: task.fingerprint for task in tasks}, "metric": self.config.report.metric}
        if not todo and run_record.is_done(self.record, "evaluate", identity):
            self.listener.say("evaluate: skip, every model is scored")
            return
        with self._stage("evaluate", identity):
            if todo:
                self.executor.score(todo, self.listener)
            stage_work.merge_scores(self.config, self.folder, [task.out for task in tasks])
            stage_work.time_models(
                self.config,
                self.folder,
                find_roles(self.trials, self.config.data.levels),
                done=list(self._done_trials()),
                scored={task.model for task in todo},
                executor=self.executor,
                listener=self.listener,
            )
        self.listener.say(f"evaluate: scored {len(todo)} of {len(tasks)} models, the others were done")

    def _report(self) -> None:
        self._fingerprint_of("evaluate", needed_by="report")
        scores = dict(self.record.stages["evaluate"].identity["scores"])
        states = {each.trial: f"{each.state}: {each.reason}" for each in self.unfinished()}
        identity = identities.report_identity(self.config, scores, states)
        is_done = run_record.is_done(self.record, "report", identity) and self.folder.report_html.exists()
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

    # --- what the stages share --------------------------------------------------------------

    def _is_skipped(self, stage: str, identity: Mapping[str, Any]) -> bool:
        """Whether the stage is done; if it is not, whether it may be made.

        Raises:
            ChangedError: it was made from other settings, and neither it nor what it is made from is forced.
        """
        if stage in self.forced:
            return False
        if run_record.is_done(self.record, stage, identity):
            self.listener.say(f"{stage}: skip, done with the same config")
            return True
        if not (stage == "mask" and "prepare" in self.forced):
            run_record.refuse_change(self.record, stage, identity)
        return False

    @contextmanager
    def _stage(self, stage: str, identity: Mapping[str, Any]) -> Iterator[None]:
        started = time.monotonic()
        # Taken out first: a kill between the new files and the new record must not leave the old record standing.
        self.record = run_record.forget(self.folder, self.record, stage)
        yield
        seconds = time.monotonic() - started
        self.record = run_record.mark_done(self.folder, self.record, stage, identity, seconds=seconds)
        logger.info("%s: done in %.1f s", stage, seconds)

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
        if self._trials_to_do() and (plan := run_forecast.write_plan(self.config, self.trials, self.folder)):
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
