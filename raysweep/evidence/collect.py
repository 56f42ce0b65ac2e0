"""Collects everything that the report states into one record, saved as `report/evidence.json`.

Page, Markdown and tables are made from it alone.  It contains no text of a learner, so it can be
published beside a paper.  The only randomness is the bootstrap's, which is seeded: the same run
folder gives the same evidence, to the bit.  Only files that `inputs.py` lists are read, and no texts:
a new file must be listed there, or bundles of the run could not be verified.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future

from raysweep import __version__
from raysweep.config.schema import Config
from raysweep.evidence.advice import advise
from raysweep.evidence.answer import recommend
from raysweep.evidence.beyond import describe_beyond
from raysweep.evidence.breakdowns import Breakdowns, describe_scores
from raysweep.evidence.cautions import find_cautions, soften
from raysweep.evidence.choices import describe_choices, price_strategies
from raysweep.evidence.classification_schema import Classification
from raysweep.evidence.costs import compare_costs
from raysweep.evidence.evidence_schema import EVIDENCE_VERSION, Evidence, EvidenceSettings, Matrix
from raysweep.evidence.exposure import describe_exposure
from raysweep.evidence.guards import describe_leaks, guard_answer, guard_findings, judge_controls
from raysweep.evidence.inputs import describe_inputs, digesting_tables, read_if_there
from raysweep.evidence.lineup import line_up
from raysweep.evidence.posing import DocumentWriters, hypotheses_of, pose_question, read_writers
from raysweep.evidence.prompts import describe_prompts
from raysweep.evidence.published import published_command, published_config
from raysweep.evidence.robustness_schema import Controls
from raysweep.evidence.run_schema import RunFacts, Training
from raysweep.evidence.scores import Scores
from raysweep.evidence.spreads import describe_spreads
from raysweep.evidence.trainings import describe_trials, read_curves
from raysweep.evidence.unknown_levels import describe_cold_start
from raysweep.evidence.verdict_changes import describe_sensitivity
from raysweep.evidence.weight_interpolation import describe_interpolation, read_valid_losses
from raysweep.scheduling.records import TrialRecord, read_record
from raysweep.scheduling.sequential_seeds import release_seeds
from raysweep.scheduling.trials import Roles, Trial, find_roles
from raysweep.statistics.bootstrap import MIN_CLUSTERS, Resamples
from raysweep.statistics.claims import ADAPTATION_CLAIMS
from raysweep.statistics.loss_table import LossTable, read_losses
from raysweep.statistics.mixed_model import DocumentFacts
from raysweep.statistics.role_models import lack_of_writers
from raysweep.statistics.sensitivity import Question
from raysweep.storage.run_folder import RunFolder


def collect_evidence(folder: RunFolder, config: Config, roles: Roles, trials: Mapping[str, Trial]) -> Evidence:
    """Record everything that the report states; raises InputError if losses are missing, or cannot be compared."""
    trials, table = _started(folder, config, trials), read_losses(folder.losses, config.data.levels)
    with digesting_tables(folder, config.corpora) as digests:
        return _collect(folder, config, roles, trials, table, digests)


def _collect(
    folder: RunFolder,
    config: Config,
    roles: Roles,
    trials: Mapping[str, Trial],
    table: LossTable,
    digests: Future[dict[str, str]],
) -> Evidence:
    levels, settings = config.data.levels, config.report
    losses = table.select(settings.metric)
    writers, corpus = read_writers(folder), read_if_there(folder.splits)
    records = {name: read_record(folder.trial(name)) for name in trials}
    lineup = line_up(trials, roles, records, table.models)
    entrants = [entrant for entrant in lineup if not entrant.is_control]
    controls = [entrant for entrant in lineup if entrant.is_control]
    question, resamples = pose_question(config, table, losses, writers, lineup, corpus)
    judged = question.judge(resamples, predict=True)
    leaks = describe_leaks(folder, config, lineup, losses, resamples)
    control_findings = judge_controls(config, question.roles, losses, resamples, judged, leaks)
    target = settings.hypotheses.specialisation.target
    lacks = {level: lack_of_writers(resamples, level) for level in levels}
    findings = guard_findings(judged, question.hypotheses, leaks, control_findings, target, lacks)
    kinds = guard_findings(question.compare_kinds(resamples), ADAPTATION_CLAIMS, leaks, (), target, lacks)
    advice = advise(findings, kinds)
    scores = Scores(entrants, levels, resamples, settings.confidence)
    control_rows = Scores(controls, levels, resamples, settings.confidence).matrix()
    matrix = scores.matrix()
    trainings = describe_trials(folder, trials, records)
    strategies = price_strategies(scores.strategies(), entrants, trainings)
    prompts = describe_prompts(
        losses,
        table.models,
        question.roles,
        DocumentFacts(
            learner_of=writers.learner_of,
            prompt_of=writers.prompt_of,
            language_of=writers.language_of,
            characters_of=writers.characters_of,
        ),
        confidence=settings.confidence,
        seed=config.seed,
    )
    most_seeds = max((len(entrant.models) for entrant in lineup), default=0)
    answer = recommend(
        findings,
        advice,
        strategies,
        most_seeds=most_seeds,
        learners_known=bool(writers.learner_of),
        prompt_sentences=prompts.sentences,
        fine_tuning_steps=_fine_tuning_steps(trainings, roles),
    )
    cautions = find_cautions(
        findings,
        trainings,
        {entrant.name: entrant.role for entrant in entrants},
        most_seeds=most_seeds,
        has_controls=bool(controls),
        learners_known=bool(writers.learner_of),
        confidence=settings.confidence,
    )
    common_levels = scores.common_levels()
    breakdowns = Breakdowns(table, settings.metric, entrants, common_levels)
    speed = read_if_there(folder.speed)
    return Evidence(
        schema_=folder.evidence_schema.name,
        version=EVIDENCE_VERSION,
        raysweep=__version__,
        run=_describe_run(folder, trainings, records.values()),
        settings=_describe_settings(config, writers),
        levels=levels,
        answer=guard_answer(soften(answer, cautions), advice, findings, leaks, control_findings),
        advice=advice,
        findings=findings,
        leaks=leaks,
        controls=Controls(findings=control_findings, rows=control_rows),
        matrix=Matrix(rows=matrix, leaders=scores.leaders(), sizes=scores.sizes(), levels=scores.levels),
        gains=scores.gains(),
        gaps=scores.gaps(),
        strategies=strategies,
        choices=describe_choices(strategies, speed, trainings),
        for_everyone=scores.for_everyone(),
        common_levels=common_levels,
        kinds=breakdowns.kinds_of_mask(),
        first_languages=breakdowns.first_languages(writers.language_of),
        lengths=breakdowns.text_lengths(writers.characters_of),
        length_effect=breakdowns.length_effect(),
        scores=describe_scores(table, entrants),
        prompts=prompts,
        spreads=describe_spreads(question.roles, resamples, levels),
        sensitivity=describe_sensitivity(question, table, resamples, writers.language_of, findings, advice),
        beyond=describe_beyond(folder, config, trials, roles, records),
        interpolation=describe_interpolation(folder, config, table, question.roles, trials, resamples, leaks, lacks),
        cold_start=describe_cold_start(
            table, entrants, levels, corpus, resamples, settings.confidence, read_valid_losses(folder, config)
        ),
        classification=_describe_classification(folder, config),
        trainings=trainings,
        costs=compare_costs(folder, records),
        exposure=describe_exposure((*matrix, *control_rows), trials, records),
        curves=read_curves(folder, trials, settings.metric),
        scoring={name: record for name in table.models if (record := read_if_there(folder.cells_record(name)))},
        speed=speed,
        corpus=corpus,
        leakage=read_if_there(folder.leakage),
        examples=(read_if_there(folder.manifest) or {}).get("totals"),
        inputs=describe_inputs(folder, trials, config.corpora, digests),
        config=published_config(config),
    )


def ask_question(folder: RunFolder, config: Config, trials: Mapping[str, Trial]) -> tuple[Question, Resamples]:
    """Return the hypotheses on the scored models, and the resamples on which they are judged."""
    table, trials = read_losses(folder.losses, config.data.levels), _started(folder, config, trials)
    records = {name: read_record(folder.trial(name)) for name in trials}
    lineup = line_up(trials, find_roles(trials, config.data.levels), records, table.models)
    losses, corpus = table.select(config.report.metric), read_if_there(folder.splits)
    return pose_question(config, table, losses, read_writers(folder), lineup, corpus)


def _started(folder: RunFolder, config: Config, trials: Mapping[str, Trial]) -> dict[str, Trial]:
    """Return the trials, without those that sequential seeds have not reached."""
    begun = [name for name in trials if folder.trial(name).record.exists()]
    return {name: trials[name] for name in release_seeds(config, trials, done=begun)}


def _describe_classification(folder: RunFolder, config: Config) -> Classification | None:
    if config.classification is None:
        return None
    # Imported here, because pandas takes a quarter of a second.
    from raysweep.evidence.classified_levels import describe_classification

    return describe_classification(folder, config)


def _describe_run(folder: RunFolder, trainings: Sequence[Training], records: Iterable[TrialRecord | None]) -> RunFacts:
    """Return facts of run.json; the date is that of the last training, not of the report."""
    record = read_if_there(folder.record) or {}
    # The report's own time is recorded after the report is written, so it cannot be part of it.
    stages = {name: stage for name, stage in record.get("stages", {}).items() if name != "report"}
    return RunFacts(
        name=folder.name,
        profile=record.get("profile"),
        command=published_command(record.get("command")),
        python=record.get("python"),
        platform=record.get("platform"),
        libraries=record.get("libraries", {}),
        start_digest=next((start for trial in records if trial and (start := _start_digest(trial))), None),
        stage_seconds={name: stage["seconds"] for name, stage in stages.items()},
        ended_at=max((training.ended_at for training in trainings if training.ended_at is not None), default=None),
    )


def _start_digest(record: TrialRecord) -> str | None:
    """Return the digest of a pretrained start, as `start_folder.model_identity` put it into the trial's identity.

    None for a model from scratch, and for anything that is not a digest, because a path must not be published.
    """
    start = str(record.identity.get("model", {}).get("start"))
    return start if re.fullmatch(r"[0-9a-f]{32,}", start) else None


def _fine_tuning_steps(trainings: Sequence[Training], roles: Roles) -> list[int]:
    names = {name for of_level in roles.transfer.values() for name in of_level}
    return [training.steps for training in trainings if training.trial in names and training.steps]


def _describe_settings(config: Config, writers: DocumentWriters) -> EvidenceSettings:
    hypotheses = config.report.hypotheses
    return EvidenceSettings(
        metric=config.report.metric,
        confidence=config.report.confidence,
        resamples=config.report.resamples,
        seed=config.seed,
        min_clusters=MIN_CLUSTERS,
        clusters="learner" if writers.learner_of else "document",
        target=hypotheses.specialisation.target,
        margins={claim.code: claim.margin for claim in hypotheses_of(hypotheses)},
        most_seeds=config.sequential_seeds,
    )
