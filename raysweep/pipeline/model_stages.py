"""The stages that make models and what is said of them: train, evaluate, report.

Heavy rooms are imported where they are used, by the executor or in the function.
"""

from collections.abc import Collection, Mapping

from raysweep.errors import ConfigError
from raysweep.pipeline import identities
from raysweep.pipeline.jobs import score_tasks, train_tasks
from raysweep.pipeline.run_record import StageRecord
from raysweep.pipeline.stages import Decisions, Recorded, Stage, Target
from raysweep.pipeline.status import find_unfinished, read_done_trials
from raysweep.pipeline.tasks import Executor, Listener
from raysweep.planning.forecast import expected_costs
from raysweep.scheduling.ledger import write_ledger
from raysweep.scheduling.records import State, TrialRecord, read_record
from raysweep.scheduling.trials import find_roles
from raysweep.storage.atomic_files import read_json, write_json
from raysweep.storage.clock import unix_seconds


class TrainStage(Stage):
    """Trains the trials; each has a record of its own, which the executor writes."""

    name = "train"
    needs = ("mask",)
    is_costly = True

    def targets(self, done: Mapping[str, StageRecord]) -> list[Target]:
        """Every trial's model."""
        made_from, _ = identities.trial_identities(self.config, self.trials, done["mask"].fingerprint)
        targets = []
        for name, trial in self.trials.items():
            record = read_record(self.folder.trial(name))
            targets.append(
                Target(
                    name=name,
                    identity=made_from[name],
                    record=Recorded(record.fingerprint, record.identity) if record else None,
                    is_done=record is not None and record.state is State.DONE,
                    kind="trial",
                    rests_on=(trial.parent,) if trial.parent else (),
                    skip_note=f"{_done_ago(record)} with the same config",
                )
            )
        return targets

    def make(self, decisions: Decisions, executor: Executor, listener: Listener) -> None:
        """Train; a trial that fails is recorded as failed and does not raise."""
        tasks = train_tasks(
            self.config,
            self.folder,
            [self.trials[target.name] for target in decisions.todo],
            identities={target.name: target.identity for target in decisions.todo},
            fingerprints={target.name: target.fingerprint for target in decisions.todo},
            fresh=decisions.fresh,
            costs=expected_costs(self.forecast().trials),
        )
        try:
            executor.train(tasks, listener)
        finally:
            write_ledger(self.folder, list(self.trials))


class EvaluateStage(Stage):
    """Scores every trained model and the start they share, merges the scores, and times the models."""

    name = "evaluate"
    needs = ("mask",)

    def targets(self, done: Mapping[str, StageRecord]) -> list[Target]:
        """Every model's scores, and the tables in which they are merged.

        Raises:
            ConfigError: no model is trained.
        """
        models = {name: record.fingerprint for name, record in read_done_trials(self.folder, self.trials).items()}
        if not models:
            raise ConfigError("stage 'evaluate' needs a trained model; do `raysweep train` or `raysweep run` first")
        made_from = identities.scores_identities(self.config, self.trials, models, done["mask"].fingerprint)
        scores = [
            Target(
                name=model,
                identity=identity,
                record=self._recorded_scores(model),
                is_done=self.folder.cells_record(model).exists() and self.folder.cells(model).exists(),
                kind="scores",
            )
            for model, identity in made_from.items()
        ]
        identity = {
            "scores": {target.name: target.fingerprint for target in scores},
            "metric": self.config.report.metric,
        }
        merged = self.own_target(
            identity, done, rests_on=tuple(target.name for target in scores), skip_note="every model is scored"
        )
        return [*scores, merged]

    def make(self, decisions: Decisions, executor: Executor, listener: Listener) -> None:
        """Score the models to do, then write `evaluation/` from all models' scores."""
        from raysweep.evaluation.matrix import merge_losses, write_features, write_matrix

        config, folder = self.config, self.folder
        todo = {target.name: target.identity for target in decisions.todo if target.kind == "scores"}
        merged = decisions.todo[-1]
        if todo:
            executor.score(score_tasks(config, folder, self.trials, todo), listener)
        merge_losses([folder.cells(model) for model in merged.rests_on], folder.losses)
        write_matrix(folder.losses, folder.matrix, metric=config.report.metric)
        write_features(folder.losses, folder.documents, folder.doc_features)
        self._time_models(executor, listener, scored=todo)
        listener.say(f"evaluate: scored {len(todo)} of {len(merged.rests_on)} models, the others were done")

    def _recorded_scores(self, model: str) -> Recorded | None:
        path = self.folder.cells_record(model)
        return Recorded(str(read_json(path)["fingerprint"]), {}) if path.exists() else None

    def _time_models(self, executor: Executor, listener: Listener, *, scored: Collection[str]) -> None:
        """Time one model, the general one if there is one, and the levels' own models together."""
        roles, folder = find_roles(self.trials, self.config.data.levels), self.folder
        done, repeats = read_done_trials(folder, self.trials), self.config.evaluation.speed_repeats
        model = next((name for name in roles.general if name in done), next(iter(done)))
        if repeats and (model in scored or not folder.speed.exists()):
            firsts = [next((name for name in names if name in done), None) for names in roles.specialised.values()]
            ensemble = [folder.trial(name).model for name in firsts if name]
            write_json(
                folder.speed,
                {model: executor.time_model(folder.trial(model).model, ensemble, repeats, listener)},
            )


class ReportStage(Stage):
    """Writes the report, from the scores and from how every trial ended."""

    name = "report"
    needs = ("evaluate",)

    def targets(self, done: Mapping[str, StageRecord]) -> list[Target]:
        """The report."""
        states = {trial.trial: f"{trial.state}: {trial.reason}" for trial in find_unfinished(self.folder, self.trials)}
        identity = identities.report_identity(self.config, done["evaluate"].identity["scores"], states)
        page = self.folder.report_html
        is_done = self.name in done and page.exists()
        return [self.own_target(identity, done, is_done=is_done, skip_note=f"{page} is up to date")]

    def make(self, decisions: Decisions, executor: Executor, listener: Listener) -> None:  # noqa: ARG002 - runs here
        """Write `report/`, and say the answer."""
        from raysweep.report.writing import write_report

        answer = write_report(self.folder, self.config, self.trials)["answer"]
        listener.say(f"answer: {answer['headline']}")
        for reason in answer["reasons"]:
            listener.say(f"answer: {reason['code']} {reason['words']}. {reason['text']}")
        for warning in answer["warnings"]:
            listener.say(f"answer: read with care: {warning}")
        listener.say(f"report: {self.folder.report_html}")


def _done_ago(record: TrialRecord | None) -> str:
    if record is None or record.ended_at is None:
        return "done"
    minutes = max(0.0, unix_seconds() - record.ended_at) / 60
    return f"done {minutes:,.0f} min ago" if minutes < 120 else f"done {minutes / 60:,.0f} h ago"
