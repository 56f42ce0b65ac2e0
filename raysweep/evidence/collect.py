"""Everything the report says, as one JSON document: `report/evidence.json`.

Page, Markdown and tables are made from it alone.  It holds no text of a learner, so it can be
published beside a paper.  Collecting it takes no randomness but the bootstrap's, which is seeded: the
same run folder gives the same evidence, to the bit.  It is collected from the files that `inputs.py`
lists, and never from a text: whoever reads one more file here lists it there, or no bundle of the run
can be verified.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from raysweep import __version__
from raysweep.config.evaluation_settings import HypothesesConfig
from raysweep.config.schema import Config
from raysweep.errors import InputError
from raysweep.evidence.answer import recommend
from raysweep.evidence.choices import describe_choices
from raysweep.evidence.costs import compare_costs
from raysweep.evidence.evidence_schema import Evidence
from raysweep.evidence.guarding import guard, guard_answer
from raysweep.evidence.guards import is_control
from raysweep.evidence.inputs import describe_inputs, read_documents
from raysweep.evidence.lineup import Entrant, line_up, role_models
from raysweep.evidence.robustness import describe_robustness
from raysweep.evidence.scores import Scores, first_languages, kinds_of_mask, text_lengths
from raysweep.evidence.trainings import cost_of, describe_trials, read_curves, read_if_there
from raysweep.scheduling.records import read_record
from raysweep.scheduling.trials import Roles, Trial
from raysweep.statistics.bootstrap import Resamples, resample_levels
from raysweep.statistics.hypotheses import MIN_CLUSTERS, Finding, Hypothesis, assess, target_status
from raysweep.statistics.loss_table import LevelLosses, LossTable, read_losses
from raysweep.storage.atomic_files import dump_json
from raysweep.storage.run_folder import RunFolder

EVIDENCE_VERSION = 1
Values = dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Writers:
    """Of every test document: who wrote it, if known, with which first language, and how much."""

    learner_of: Mapping[int, str]
    language_of: Mapping[int, str]
    characters_of: Mapping[int, int]


def collect_evidence(folder: RunFolder, config: Config, roles: Roles, trials: Mapping[str, Trial]) -> Evidence:
    """Read the run folder, do the statistics, and record all that the report says.

    Raises:
        InputError: the models' losses are missing, or cannot be compared.
    """
    levels = config.data.levels
    table = read_losses(folder.losses, levels)
    losses = table.select(config.report.metric)
    writers = _read_writers(folder)
    records = {name: read_record(folder.trial(name)) for name in trials}
    lineup = line_up(trials, roles, records, table.models)
    entrants = [one for one in lineup if not is_control(one)]
    resamples = resample_levels(
        losses,
        table.models,
        resamples=config.report.resamples,
        seed=config.seed,
        clusters=writers.learner_of,
    )
    unguarded = _assess_all(config, entrants, resamples)
    guarded = guard(folder, config, lineup, losses, resamples, writers.learner_of, unguarded)
    findings = guarded.findings
    scores = Scores(entrants, levels, resamples, config.report.confidence)
    trainings = describe_trials(folder, config, trials, records)
    strategies = [
        {**strategy, "cost": cost_of(strategy, entrants, trainings) if strategy["name"] != "start" else None}
        for strategy in scores.strategies()
    ]
    values = {
        "$schema": folder.evidence_schema.name,
        "version": EVIDENCE_VERSION,
        "raysweep": __version__,
        "run": _describe_run(folder, trainings),
        "settings": _describe_settings(config, writers),
        "levels": list(levels),
        "answer": guard_answer(recommend(findings, strategies), guarded),
        "findings": findings,
        "matrix": {"rows": scores.matrix(), "sizes": scores.sizes(), "levels": scores.levels},
        "gains": scores.gains(),
        "gaps": scores.gaps(),
        "strategies": strategies,
        "choices": describe_choices(strategies, read_if_there(folder.speed), trainings),
        "for_everyone": scores.for_everyone(),
        **_breakdowns(config, table, losses, entrants, scores.common_levels(), writers),
        **describe_robustness(
            config,
            table,
            entrants,
            hypotheses_of(config.report.hypotheses),
            findings,
            resamples,
            learner_of=writers.learner_of,
            language_of=writers.language_of,
            corpus=read_if_there(folder.splits),
        ),
        "trainings": trainings,
        "costs": compare_costs(folder, records),
        "curves": read_curves(folder, trials, config.report.metric),
        "scoring": {name: record for name in table.models if (record := read_if_there(folder.cells_record(name)))},
        "speed": read_if_there(folder.speed),
        "corpus": read_if_there(folder.splits),
        "leakage": read_if_there(folder.leakage),
        "leaks": guarded.leaks,
        "controls": guarded.controls,
        "examples": (read_if_there(folder.manifest) or {}).get("totals"),
        "inputs": describe_inputs(folder, trials),
        "config": config.model_dump(mode="json", by_alias=True, exclude_none=True),
    }
    return Evidence.model_validate_json(dump_json(values))


def hypotheses_of(config: HypothesesConfig) -> list[Hypothesis]:
    """The three claims with the config's margins."""
    return [
        Hypothesis(
            code="H1",
            name="specialisation",
            numerator="general",
            against=("specialised",),
            above=True,
            margin=config.specialisation.margin,
        ),
        Hypothesis(
            code="H2",
            name="sufficiency",
            numerator="general",
            against=("specialised", "transfer"),
            above=False,
            margin=config.sufficiency.margin,
        ),
        Hypothesis(
            code="H3",
            name="transfer",
            numerator="transfer",
            against=("general", "specialised"),
            above=False,
            margin=config.transfer.margin,
        ),
    ]


def _assess_all(config: Config, entrants: Sequence[Entrant], resamples: Resamples) -> list[Values]:
    roles = role_models(entrants, config.data.levels)
    settings = config.report.hypotheses
    return [
        _plain(finding, hypothesis, settings.specialisation.target)
        for hypothesis in hypotheses_of(settings)
        for finding in assess(hypothesis, roles, resamples, config.data.levels, config.report.confidence)
    ]


def _plain(finding: Finding, hypothesis: Hypothesis, target: float) -> Values:
    return {
        "hypothesis": finding.hypothesis,
        "name": hypothesis.name,
        "claim": "above" if hypothesis.above else "below",
        "numerator": hypothesis.numerator,
        "scope": finding.scope,
        "verdict": finding.verdict.value,
        "margin": finding.margin,
        "value": finding.ratio,
        "low": finding.low,
        "high": finding.high,
        "p_confirm": finding.p_confirm,
        "p_refute": finding.p_refute,
        "against": list(finding.against),
        "rival": finding.rival,
        "levels": list(finding.levels),
        "documents": finding.documents,
        "clusters": finding.clusters,
        "more_documents": finding.more_documents,
        "more_seeds": finding.more_seeds,
        "note": finding.note,
        "target": target_status(finding, target) if hypothesis.code == "H1" else None,
    }


def _breakdowns(
    config: Config,
    table: LossTable,
    losses: Mapping[str, LevelLosses],
    entrants: Sequence[Entrant],
    levels: Sequence[str],
    writers: _Writers,
) -> Values:
    """By kind of mask and first language, on the levels where the ways can be compared."""
    losses = {level: losses[level] for level in levels}
    return {
        "common_levels": list(levels),
        "kinds": kinds_of_mask(table, config.report.metric, entrants, levels),
        "first_languages": first_languages(losses, table.models, entrants, levels, writers.language_of),
        "lengths": text_lengths(losses, table.models, entrants, levels, writers.characters_of),
    }


def _describe_run(folder: RunFolder, trainings: Sequence[Values]) -> Values:
    """What was run, where it is recorded; the day is that of the last training, not of the report."""
    record = read_if_there(folder.record) or {}
    ended = [row["ended_at"] for row in trainings if row["ended_at"] is not None]
    return {
        "name": folder.name,
        "profile": record.get("profile"),
        "command": record.get("command"),
        "python": record.get("python"),
        "platform": record.get("platform"),
        "libraries": record.get("libraries", {}),
        # The report's own time is recorded after the report is written, so it is never part of it.
        "stage_seconds": {
            name: stage["seconds"] for name, stage in record.get("stages", {}).items() if name != "report"
        },
        "ended_at": max(ended, default=None),
    }


def _describe_settings(config: Config, writers: _Writers) -> Values:
    hypotheses = config.report.hypotheses
    return {
        "metric": config.report.metric,
        "confidence": config.report.confidence,
        "resamples": config.report.resamples,
        "seed": config.seed,
        "min_clusters": MIN_CLUSTERS,
        "clusters": "learner" if writers.learner_of else "document",
        "target": hypotheses.specialisation.target,
        "margins": {
            "H1": hypotheses.specialisation.margin,
            "H2": hypotheses.sufficiency.margin,
            "H3": hypotheses.transfer.margin,
        },
    }


def _read_writers(folder: RunFolder) -> _Writers:
    if not folder.documents.exists():
        raise InputError(f"{folder.documents}: not there; run the prepare stage first")
    table = read_documents(folder, "test").to_pydict()
    pairs = zip(table["document"], table["learner"], strict=True)
    return _Writers(
        learner_of={document: learner for document, learner in pairs if learner is not None},
        language_of=dict(zip(table["document"], table["l1"], strict=True)),
        characters_of=dict(zip(table["document"], table["characters"], strict=True)),
    )
