"""The stages that make models and results: train, evaluate, report.

Heavy rooms are imported where they are used, by the executor or inside a function.
"""

from collections.abc import Collection, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from raysweep.errors import ConfigError
from raysweep.pipeline import identities
from raysweep.pipeline.extending import extend_training, why_not_extendable
from raysweep.pipeline.further_corpora import FurtherCorpora
from raysweep.pipeline.jobs import score_tasks, train_tasks
from raysweep.pipeline.run_precision import in_precision, say_if_unlike, trained_precision
from raysweep.pipeline.run_record import StageRecord
from raysweep.pipeline.stages import Decisions, Recorded, Stage, Target, changes_of, read_recorded
from raysweep.pipeline.status import find_unfinished, read_done_trials, read_records, released_trials, spared_trials
from raysweep.pipeline.tasks import Executor, Listener
from raysweep.planning.forecast import expected_costs
from raysweep.scheduling.ledger import write_ledger
from raysweep.scheduling.records import State, TrialRecord
from raysweep.scheduling.scorings import plan_further_scorings, plan_scorings
from raysweep.scheduling.trials import find_roles
from raysweep.storage.atomic_files import write_json
from raysweep.storage.clock import unix_seconds
from raysweep.storage.digests import combine_digests


class TrainStage(Stage):
    """Trains the trials; each trial has its own record, which the executor writes."""

    name = "train"
    needs = ("mask",)
    is_costly = True

    def targets(self, done: Mapping[str, StageRecord]) -> list[Target]:
        """List every trial's model; raises ConfigError if a trial that is to be extended cannot be."""
        settings, _ = identities.trial_identities(self.config, self.trials)
        records, unreadable = read_records(self.folder, self.trials, self.forced)
        targets = []
        for name, trial in released_trials(self.config, self.folder, self.trials).items():
            record = records[name]
            target = Target(
                name=name,
                identity=settings[name],
                made_from=identities.trial_made_from(trial, done, records),
                record=Recorded.of(record),
                is_done=record is not None and record.state is State.DONE,
                root=self.folder.trial(name).root,
                is_unreadable=name in unreadable,
                kind="trial",
                rests_on=(trial.parent,) if trial.parent else (),
                skip_note=f"{_done_ago(record)} with the same config",
            )
            if record is not None and target.is_changed:
                problem = why_not_extendable(target, trial.settings, record.result)
                if problem and name in self.extended:
                    raise ConfigError(f"--extend {name}: {problem}. Train it again with --force {name}")
                target = replace(target, is_extendable=not problem)
            targets.append(target)
        return targets

    def refuse_inputs(self) -> None:
        """Raise if trials that are not forced were trained in different precisions, which 'auto' allows."""
        forced = self.trials if {"prepare", "mask", "train"}.intersection(self.forced) else self.forced
        trained_precision(self.folder, self.trials, apart_from=forced)

    def make(self, decisions: Decisions, executor: Executor, listener: Listener) -> None:
        """Train; a failed trial raises nothing, but trainings in different precisions raise ConfigError."""
        precision = trained_precision(self.folder, self.trials, apart_from=decisions.fresh)
        if precision is not None:
            say_if_unlike(self.config, precision, listener.say)
        for target in decisions.todo:
            if target.name not in self.extended or target.name in decisions.fresh:
                continue
            if target.is_changed:
                listener.say(f"{target.name}: goes on with the training that is done ({changes_of(target)})")
                extend_training(self.folder.trial(target.name), target)
            else:
                steps = self.trials[target.name].settings.steps
                begun = "is not finished" if target.record is not None else "has not begun"
                listener.say(
                    f"{target.name}: --extend changes nothing, since its training {begun}; it goes to step {steps:,}"
                )
        tasks = train_tasks(
            self.config,
            self.folder,
            [in_precision(self.trials[target.name], precision) for target in decisions.todo],
            {target.name: target for target in decisions.todo},
            fresh=decisions.fresh,
            costs=expected_costs(self.forecast().trials),
        )
        try:
            executor.train(tasks, listener)
        finally:
            write_ledger(self.folder, list(self.trials), spared_trials(self.folder, self.trials))
        trained_precision(self.folder, self.trials)


class EvaluateStage(Stage):
    """Scores every trained model and the start they share, merges the scores, and times the models."""

    name = "evaluate"
    needs = ("mask",)

    def targets(self, done: Mapping[str, StageRecord]) -> list[Target]:
        """List every model's scores, and the tables that merge them; raises ConfigError if no model is trained."""
        models = read_done_trials(self.folder, self.trials, self.forced)
        if not models:
            raise ConfigError("stage 'evaluate' needs a trained model; do `raysweep train` or `raysweep run` first")
        scores = []
        for scoring in plan_scorings(self.config, self.trials, models):
            model, path = scoring.model, self.folder.cells_record(scoring.name)
            is_forced = not {"evaluate", model}.isdisjoint(self.forced)
            record = read_recorded(path, fix="make it again with --force evaluate", is_forced=is_forced)
            parent = models.get(self.trials[model].parent or "") if scoring.weight is not None else None
            scores.append(
                Target(
                    name=scoring.name,
                    identity=identities.scores_identity(self.config, self.trials, scoring),
                    made_from=identities.scores_made_from(done, models.get(model), parent),
                    record=record,
                    is_done=record is not None,
                    root=path.parent,
                    kind="scores",
                )
            )
        further = self._corpora.targets(done, models)
        scores += [target for target in further if target.kind == "scores"]
        merged = self.own_target(
            identities.merged_identity(self.config, [target.name for target in scores]),
            done,
            made_from={
                target.name: combine_digests(target.record.outputs, r".*\.parquet$")
                for target in scores
                if target.record is not None
            },
            rests_on=tuple(target.name for target in scores),
            skip_note="every model is scored",
        )
        return [*(target for target in further if target.kind == "corpus"), *scores, merged]

    @cached_property
    def _corpora(self) -> FurtherCorpora:
        return FurtherCorpora(config=self.config, folder=self.folder, trials=self.trials, forced=self.forced)

    def refuse_inputs(self) -> None:
        """Raise if a further corpus cannot be used, which must not be noticed only after the trainings."""
        self._corpora.refuse_inputs()

    def outputs(self) -> list[Path]:
        """Return the tables of all models' scores."""
        further = [self.folder.further(name) for name in self.config.corpora]
        return [
            *self.folder.evaluation_outputs,
            *(path for corpus in further for path in (corpus.losses, corpus.doc_features)),
        ]

    def make(self, decisions: Decisions, executor: Executor, listener: Listener) -> None:
        """Score the models that are not scored, then write `evaluation/` from all models' scores."""
        from raysweep.evaluation.matrix import merge_losses, write_features, write_matrix
        from raysweep.evidence.seed_release import take_look
        from raysweep.tracking.tensorboard_scores import draw_test_scores

        config, folder = self.config, self.folder
        models = read_done_trials(folder, self.trials, self.forced)
        scorings, further = plan_scorings(config, self.trials, models), plan_further_scorings(config, models)
        todo = {target.name: target for target in decisions.todo if target.kind == "scores"}
        for target in decisions.todo:
            if target.kind == "corpus":
                self._corpora.make(target, executor, listener)
        for scoring in further:
            if scoring.name in todo:
                # Known only now, after the corpora were made.
                made_from = self._corpora.made_from(scoring, models)
                todo[scoring.name] = replace(todo[scoring.name], made_from=made_from)
        if todo:
            chosen = [scoring for scoring in (*scorings, *further) if scoring.name in todo]
            executor.score(score_tasks(config, folder, self.trials, chosen, todo), listener)
        tested = [folder.cells(scoring.name) for scoring in scorings if scoring.is_test]
        validated = [folder.cells(scoring.name) for scoring in scorings if scoring.splits == ("valid",)]
        interpolated = [folder.cells(scoring.name) for scoring in scorings if scoring.weight is not None]
        merge_losses(tested, folder.losses)
        merge_losses(validated, folder.valid_losses)
        merge_losses(interpolated, folder.interpolated_losses)
        for corpus in config.corpora:
            place = folder.further(corpus)
            merge_losses([place.cells(scoring.model) for scoring in further if scoring.corpus == corpus], place.losses)
            write_features(place.losses, place.documents, place.doc_features)
        write_matrix(folder.losses, folder.matrix, metric=config.report.metric)
        write_features(folder.losses, folder.documents, folder.doc_features)
        for scoring in scorings:
            if scoring.is_test and scoring.model in self.trials:
                draw_test_scores(folder, config, self.trials[scoring.model])
        self._time_models(executor, listener, scored=todo)
        for sentence in take_look(folder, config, self.trials):
            listener.say(sentence)
        if spared := spared_trials(folder, self.trials):  # known only after the look
            write_ledger(folder, list(self.trials), spared)
        own = sum(scoring.name in todo for scoring in scorings)
        listener.say(f"evaluate: scored {own} of {len(scorings)} models, the others were done")
        if further:
            on = ", ".join(config.corpora)
            listener.say(f"evaluate: scored {len(todo) - own} of {len(further)} models on {on}, the others were done")

    def _time_models(self, executor: Executor, listener: Listener, *, scored: Collection[str]) -> None:
        """Time one model, the general one if there is one, and the levels' own models together."""
        roles, folder = find_roles(self.trials, self.config.data.levels), self.folder
        done, repeats = read_done_trials(folder, self.trials), self.config.evaluation.speed_repeats
        model = next((name for name in roles.general if name in done), next(iter(done)))
        if repeats and (model in scored or not folder.speed.exists()):
            firsts = [next((name for name in names if name in done), None) for names in roles.specialised.values()]
            ensemble = [folder.trial(name).model for name in firsts if name]
            speeds = executor.time_model(folder.trial(model).model, ensemble, repeats, listener)
            write_json(folder.speed, {model: speeds})


class ReportStage(Stage):
    """Writes the report, from the scores and from how every trial ended."""

    name = "report"
    needs = ("evaluate",)

    def targets(self, done: Mapping[str, StageRecord]) -> list[Target]:
        released = released_trials(self.config, self.folder, self.trials)
        states = {trial.trial: f"{trial.state}: {trial.reason}" for trial in find_unfinished(self.folder, released)}
        return [
            self.own_target(
                identities.report_identity(self.config, states),
                done,
                made_from=identities.report_made_from(self.config, self.folder, done, self.trials),
                skip_note=f"{self.folder.report_html} is up to date",
            )
        ]

    def outputs(self) -> list[Path]:
        return [self.folder.report]

    def make(self, decisions: Decisions, executor: Executor, listener: Listener) -> None:  # noqa: ARG002 - runs here
        """Write `report/`, and print the answer."""
        from raysweep.report.writing import write_report

        # A ledger that was changed or lost is restored.
        write_ledger(self.folder, list(self.trials), spared_trials(self.folder, self.trials))
        answer = write_report(self.folder, self.config, self.trials)["answer"]
        listener.say(f"answer: {answer['headline']}")
        if cautions := [caution["text"] for caution in answer["cautions"]]:
            listener.say(f"answer: read with care: {'; '.join(cautions)}")
        for reason in answer["reasons"]:
            listener.say(f"answer: {reason['code']} {reason['words']}. {reason['text']}")
        for warning in answer["warnings"]:
            listener.say(f"answer: note: {warning}")
        listener.say(f"report: {self.folder.report_html}")


def _done_ago(record: TrialRecord | None) -> str:
    if record is None or record.ended_at is None:
        return "done"
    minutes = max(0.0, unix_seconds() - record.ended_at) / 60
    return f"done {minutes:,.0f} min ago" if minutes < 120 else f"done {minutes / 60:,.0f} h ago"
