"""Executes a run from a CSV to a report: prepare → mask → train → evaluate → classify → report, skipping what is done.

Before anything is written, the run refuses what it must not do: a stage whose inputs are missing or out of
date, a corpus, examples or a trained model whose settings changed (those may have cost
hours; the message names the fields), a damaged file (the message names the command that makes it again), trainings
that are expected to exceed the budget.  Scores and report are made again without asking.  `pipeline.stages`
decides what is skipped and what is made again.
"""

import logging
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Protocol

from raysweep.config.loading import dump_config
from raysweep.config.schema import Config
from raysweep.config.tracker_settings import refuse_missing_trackers
from raysweep.config.training_settings import CORPUS_TOKENIZER, GPT2_TOKENIZER, SCRATCH
from raysweep.errors import ConfigError, DamagedError
from raysweep.pipeline import run_record
from raysweep.pipeline.classify_stage import ClassifyStage
from raysweep.pipeline.corpus_stages import MaskStage, PrepareStage
from raysweep.pipeline.model_stages import EvaluateStage, ReportStage, TrainStage
from raysweep.pipeline.plan_notes import describe_long_steps, describe_transfers
from raysweep.pipeline.run_precision import settle_precision
from raysweep.pipeline.stages import STAGES, Decisions, Stage, Target, asked_stages, decide
from raysweep.pipeline.status import Unfinished, find_unfinished, read_done_trials, released_trials
from raysweep.pipeline.tasks import Executor, Listener
from raysweep.pipeline.thin_levels import read_counts, refuse_thin_levels
from raysweep.planning.budget import Spent, refuse_start
from raysweep.planning.cpu_precision import refuse_onednn_here, with_precision
from raysweep.planning.plan_file import write_plan
from raysweep.planning.run_forecast import RunForecast, forecast_run
from raysweep.scheduling.trials import Trial, expand_trials, remaining_trials
from raysweep.staging.run_command import this_command
from raysweep.staging.run_staging import LocalStorage, Staging
from raysweep.storage.atomic_files import write_text
from raysweep.storage.digests import Damage
from raysweep.storage.run_folder import RunFolder

logger = logging.getLogger(__name__)

_KINDS: tuple[type[Stage], ...] = (PrepareStage, MaskStage, TrainStage, EvaluateStage, ClassifyStage, ReportStage)


class RunListener(Listener, Protocol):
    """A listener that also receives the start of each stage."""

    def begin(self, stage: str) -> None:
        """Handle the start of a stage."""


@dataclass(kw_only=True)
class Run:
    """A run folder, the requested work, and the executor that does it."""

    config: Config
    profile: str
    folder: RunFolder
    executor: Executor
    listener: RunListener
    command: Sequence[str]
    forced: Collection[str] = ()
    """Stages and trials to do again."""
    extended: Collection[str] = ()
    """Finished trials to extend if their steps were raised."""
    looks_only: bool = False
    """Write nothing: compare files by size, and download no model."""
    staging: Staging = field(default_factory=LocalStorage)
    """Updated whenever the contents of the records have changed."""
    trials: dict[str, Trial] = field(init=False)
    record: run_record.RunRecord = field(init=False)
    stages: dict[str, Stage] = field(init=False)
    _sound: set[tuple[str, str, str]] = field(init=False, default_factory=set)

    def __post_init__(self) -> None:
        anew = "prepare" in self.forced
        self._plan_work(run_record.open_run(self.folder, profile=self.profile, command=self.command, anew=anew))

    def _plan_work(self, record: run_record.RunRecord) -> None:
        """Make trials and stages with the record's precision, and drop the forecast made without it."""
        self.__dict__.pop("forecast", None)
        self.record, self.config = record, with_precision(self.config, record.precision)
        self.trials = expand_trials(self.config)
        makes = [*asked_stages(self.config), *self.trials, *self.config.corpora]
        for name in self.forced:
            if name not in makes:
                raise ConfigError(f"--force {name}: no such stage or trial; known are {', '.join(makes)}")
        for name in self.extended:
            if name not in self.trials:
                raise ConfigError(f"--extend {name}: no such trial; known are {', '.join(self.trials)}")
        self.stages = {
            kind.name: kind(
                config=self.config,
                folder=self.folder,
                trials=self.trials,
                forced=self.forced,
                extended=self.extended,
                forecast=lambda: self.forecast,
                push=self.staging.push,
            )
            for kind in _KINDS
        }

    @cached_property
    def forecast(self) -> RunForecast:
        """The expected cost of all trials, computed on first use."""
        return forecast_run(self.config, self.trials, self.folder)

    def do(self, *stages: str) -> list[Unfinished]:
        """Do what is not done of these stages, or of all stages if none is named.

        Returns:
            The trials that are not done, the failed ones first.

        Raises:
            ConfigError: a stage's inputs are missing, their settings changed, or the budget is too small.
        """
        stages = stages or asked_stages(self.config)
        self.refuse(stages)
        if "train" in stages and self.trials_to_do():
            settled = settle_precision(self.config, self.folder, self.record, self.trials, self.listener.say)
            if settled is not None:
                self._plan_work(settled)
        self._write_state(stages)
        with self._tracking():
            for name in stages:
                if name == "evaluate" and "train" in stages and not read_done_trials(self.folder, self.trials):
                    break
                released = self._released()
                self.listener.begin(name)
                self._do_stage(self.stages[name])
                if name == "evaluate" and "train" in stages:
                    self._train_next_seeds(released)
                if name == "prepare" and "train" in stages:
                    refuse_thin_levels(self.config, read_counts(self.folder))
        return find_unfinished(self.folder, self._released())

    def _released(self) -> dict[str, Trial]:
        return released_trials(self.config, self.folder, self.trials)

    def _train_next_seeds(self, trained: Mapping[str, Trial]) -> None:
        """Train and score more rounds of seeds, as long as a look releases seeds and every trial of a round is done."""
        forced, stages = self.forced, self.stages
        # What was forced has been made again in the first round.
        self.forced, self.stages = (), {name: replace(stage, forced=()) for name, stage in stages.items()}
        while not find_unfinished(self.folder, trained) and self._released().keys() - trained.keys():
            trained = self._released()
            for name in ("train", "evaluate"):
                self.listener.begin(name)
                self._do_stage(self.stages[name])
        self.forced, self.stages = forced, stages

    def _tracking(self) -> AbstractContextManager[None]:
        if not self.config.track:
            return nullcontext()
        from raysweep.tracking.feed import tracked  # pandas, which a plan does not need

        return tracked(self.folder, self.config, self.trials, self.listener.say)

    def refuse(self, stages: Sequence[str]) -> None:
        """Raise everything that can be known to be wrong before anything is done or written.

        The stages before the requested ones are checked too, so that nothing is made from stale or damaged files.
        """
        refuse_missing_trackers(self.config.track)
        model = self.config.model
        is_own = model.start != SCRATCH or model.tokenizer not in {GPT2_TOKENIZER, CORPUS_TOKENIZER}
        if is_own and {"prepare", "mask", "train"}.intersection(stages) and self.trials_to_do():
            from raysweep.model.start_folder import check_start  # NumPy, which a start from scratch does not need

            check_start(self.config, may_download="train" in stages and not self.looks_only)
        if "mask" in stages and self.config.masking.function is not None:
            from raysweep.masking.mask_function import load_mask_function  # NumPy, which others need not wait for

            load_mask_function(self.config.masking.function)
        if "train" in stages:
            refuse_onednn_here(self.config, self.trials_to_do())
            self._refuse_over_budget()
        refuse_missing(stages, self.record.stages, self.command)
        known = True
        for name in STAGES[: max(STAGES.index(name) for name in stages) + 1]:
            stage, is_asked = self.stages[name], name in stages
            if is_asked:
                stage.refuse_inputs()
            if not known and not stage.is_costly:
                continue
            # If an earlier stage has work to do, the settings of later stages are known, but not their inputs.
            decisions = self._decide(stage, check_files=known)
            if not is_asked:
                self._refuse_stale(stage, decisions, asked=next(asked for asked in STAGES if asked in stages))
            known = known and not (is_asked and decisions.todo)
            if name == "prepare" and known and "train" in stages:
                refuse_thin_levels(self.config, read_counts(self.folder))
        if {"mask", "train"}.intersection(stages) and self.trials_to_do():
            self.executor.check(self.listener)

    def _refuse_stale(self, stage: Stage, decisions: Decisions, *, asked: str) -> None:
        """Raise if a stage that was not requested has something to make again; unfinished trials are allowed."""
        for target in decisions.todo:
            if target.is_done or target.name == stage.name:
                reason = decisions.reasons.get(target.name, "its settings or inputs changed, or it was never made")
                fix = this_command(self.command, stage=stage.name if stage.has_command else "run")
                raise ConfigError(
                    f"stage '{asked}' rests on {target.kind} '{target.name}', which is not up to date: {reason}; "
                    f"do {fix} first"
                )

    def _refuse_over_budget(self) -> None:
        """Raise ConfigError if the trainings are expected to exceed the budget."""
        if todo := self.trials_to_do():
            expected = self.forecast.of(todo).spending
            currency = self.config.prices.currency
            if problems := refuse_start(self.config.budget, Spent.read(self.folder), expected, currency=currency):
                raise ConfigError(*problems)

    def _write_state(self, stages: Sequence[str]) -> None:
        """Write the resolved config, and plan.json if anything will be trained."""
        resolved = dump_config(self.config)
        if not self.folder.config.exists() or self.folder.config.read_text(encoding="utf-8") != resolved:
            write_text(self.folder.config, resolved)
        if not {"prepare", "mask", "train"}.intersection(stages) or not (todo := self.trials_to_do()):
            return
        trials = self.forecast.of(todo).trials
        if plan := write_plan(self.forecast, self.folder):
            minutes, source = plan["expected_wall_s"]["total"] / 60, plan["source"]
            self.listener.say(f"plan: the whole run takes about {max(1.0, minutes):,.0f} min, by {source} rates")
            if not isinstance(self.staging, LocalStorage):
                self.listener.say(f"plan: {describe_transfers(trials, self.folder)}")
        for message in describe_long_steps(trials):
            self.listener.say(message)

    def _do_stage(self, stage: Stage) -> None:
        decisions = self._decide(stage)
        for target in decisions.skip:
            if target.skip_note:
                self.listener.say(f"{target.name}: skip, {target.skip_note}")
        for name, reason in decisions.reasons.items():
            self.listener.say(f"{name}: {reason}, so it is made again")
        if not decisions.todo:
            return
        own = next((target for target in decisions.todo if target.name == stage.name), None)
        if own is None:
            stage.make(decisions, self.executor, self.listener)
        else:
            with self._recorded(own, stage):
                stage.make(decisions, self.executor, self.listener)

    def _decide(self, stage: Stage, *, check_files: bool = True) -> Decisions:
        """Decide what to skip and do; raises if settings changed, or a file that would be kept is damaged."""
        targets = stage.targets(self.record.stages)
        is_forced = stage.name in self.forced
        forced = {
            target.name
            for target in targets
            if is_forced or (target.kind in ("trial", "corpus") and target.name in self.forced)
        }
        earlier = STAGES[: STAGES.index(stage.name)]
        may_change = not stage.is_costly or bool({*earlier} & {*self.forced}) or self._is_only_prepared(stage)
        extended = self.extended if stage.name == "train" else ()
        decisions = decide(targets, forced=forced, extended=extended, may_change=may_change)
        if not check_files or not (damaged := self._find_damage(decisions.skip)):
            return decisions
        if stage.is_costly or not all(damage.is_missing for files in damaged.values() for damage in files):
            raise DamagedError(
                "\n".join(
                    f"{damage.path} {damage.what}; "
                    f"make it again with {this_command(self.command, *target.force.split())}"
                    for target in targets
                    for damage in damaged.get(target.name, ())
                )
            )
        targets = [replace(target, is_done=target.name not in damaged) for target in targets]
        return decide(targets, forced=forced, may_change=may_change)

    def _is_only_prepared(self, stage: Stage) -> bool:
        """Tell whether nothing rests on the corpus yet, so that it may be made again with other settings."""
        is_first = stage.name == "prepare" and "mask" not in self.record.stages
        return is_first and not any(self.folder.trial(name).record.exists() for name in self.trials)

    def _find_damage(self, targets: Sequence[Target]) -> dict[str, list[Damage]]:
        """Find missing or damaged files by target; each target is read only once in a run."""
        damaged = {}
        for target in targets:
            if (key := (target.kind, target.name, target.work)) in self._sound:
                continue
            if damages := target.find_damage(by_size=self.looks_only):
                damaged[target.name] = damages
            else:
                self._sound.add(key)
        return damaged

    @contextmanager
    def _recorded(self, target: Target, stage: Stage) -> Iterator[None]:
        """Record the target in run.json when the block ends."""
        began = time.monotonic()
        # The old record is removed first: a kill between the new files and the new record must not leave it in place.
        self.record = run_record.forget(self.folder, self.record, target.name)
        self.staging.push()
        yield
        seconds = time.monotonic() - began
        # The targets are listed again, because the stage may itself have made the inputs of its own target.
        now = next(made for made in stage.targets(self.record.stages) if made.name == target.name)
        self.record = run_record.mark_done(
            self.folder,
            self.record,
            target.name,
            target.identity,
            seconds=seconds,
            made_from=now.made_from,
            outputs=stage.outputs(),
        )
        self.staging.push()
        logger.info("%s: done in %.1f s", target.name, seconds)

    def trials_to_do(self) -> dict[str, Trial]:
        """Trials that are not done or are forced, as far as is known before the earlier stages have run."""
        if {"prepare", "mask", "train"}.intersection(self.forced):
            return self._released()
        done = read_done_trials(self.folder, self.trials, self.forced)
        longer = [
            name
            for name in self.extended
            if name in done and done[name].identity["steps"] != self.trials[name].settings.steps
        ]
        return remaining_trials(self._released(), done, [*self.forced, *longer])


def refuse_missing(stages: Collection[str], done: Collection[str], command: Sequence[str]) -> None:
    """Raise ConfigError if a stage needs another one that is neither done nor among these stages."""
    for kind in _KINDS:
        for need in set(kind.needs if kind.name in stages else ()).difference(done, stages):
            fix = this_command(command, stage=need)
            raise ConfigError(f"stage '{kind.name}' needs '{need}', which is not done; do {fix} first")
