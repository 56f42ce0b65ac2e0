"""What a run will take: each trial's parts, the stages, and how long it lasts on so many GPUs.  Pure.

A trial's time is that of its steps, evaluations and checkpoints at the rates of a device, times what
the company on the device costs, and the start that Ray takes.  The sweep's length comes from the same
rule that orders the trials when they run (`order.simulate`), beside the lower bound: the longest chain
of trials, or all work divided by the GPUs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from raysweep.config.schema import Config
from raysweep.config.training_settings import TrialConfig
from raysweep.planning.rates import Rates
from raysweep.scheduling.order import expected_cost, lower_bound, remaining_path, simulate
from raysweep.scheduling.successive_halving import rung_steps, share_of_steps
from raysweep.scheduling.trials import Trial, expand_trials

SEARCH_ROUND = 4
"""Samples of a search that are drawn, and may run, together."""
WORKERS_EFFICIENCY = 0.9
"""Of each further GPU that shares a training's steps.  Assumed."""
PADDING = 1.01
"""Positions computed for a real token: batches hold examples of like length."""


COMMAND_START_S = 4.0
"""Of a command that works: imports, compiled code from its cache, and Ray's end; as seen on two cores."""
SCORED_MODEL_S = 0.5
"""Of a model that is scored, beside its examples: it is read, and its tables are written."""
TIMING_S = 5.0
"""Of `evaluation.speed_repeats`, which stop when they have taken a second for each batch size."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DataSize:
    """What a run trains and is tested on, as far as it is known beforehand."""

    tokens: Mapping[str, float]
    """By level: tokens of an example in the mean."""
    documents: Mapping[str, int]
    """By level: documents of the corpus; empty if nobody has counted."""
    rows: int
    """Of the CSV, or of the generated sample; 0 if nobody has counted."""
    is_measured: bool
    """Whether the tokens were counted on this corpus; else they are EFCAMDAT's."""

    def tokens_of(self, levels: Sequence[str]) -> float:
        """Of an example that a trial on these levels sees, in the mean."""
        known = [level for level in levels if level in self.tokens]
        weights = [max(1, self.documents.get(level, 1)) for level in known]
        return sum(weight * self.tokens[level] for weight, level in zip(weights, known, strict=True)) / sum(weights)


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialForecast:
    """What one training will take; a search's is that of all its samples."""

    trial: str
    documents: int | None
    """It trains on; None before anybody has counted."""
    examples: int
    """Gone through, repeats included."""
    steps: int
    expected_s: float
    """From its driver's start to its record; of a search, all samples one after another."""
    start_s: float
    step_s: float
    evaluation_s: float
    checkpoint_s: float
    gpus: float
    """As the scheduler counts: a share where several fit on one; 0 on the CPU."""
    slots: float
    """What it takes of `Makespan.slots`: its GPUs, or 1 of the trainings that the cores have room for."""
    gpu_hours: float
    disk_bytes: int
    """That stay when it is done: its model."""
    samples: int
    """1 without a search."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Makespan:
    """How long the trainings last on so many GPUs."""

    gpus: float
    """0: on the CPU."""
    slots: float
    """Trainings at a time: GPUs, or shares of the cores."""
    makespan_s: float
    lower_bound_s: float
    """max(critical path, work divided by the GPUs): no order is faster."""
    critical_path_s: float
    start: Mapping[str, float]
    """By trial: seconds after the stage's begin."""
    end: Mapping[str, float]


def forecast_trial(
    trial: Trial,
    rates: Rates,
    data: DataSize,
    *,
    gpus: float,
    slots: float,
    workers: int,
    together: int,
    split_train: float,
) -> TrialForecast:
    """What one trial will take.

    Args:
        gpus, slots: what the scheduler counts for it.
        workers: processes that share its steps.
        together: trainings on the device at the same time, itself included.
        split_train: share of the documents that is trained on.
    """
    settings, slow = trial.settings, rates.slow_down_of(together)
    tokens = data.tokens_of(settings.levels) * PADDING
    examples = settings.steps * settings.batch_size * settings.accumulation
    speed_up = 1.0 + WORKERS_EFFICIENCY * (workers - 1)
    evaluations = -(-settings.steps // settings.evaluate_every)
    saves = -(-settings.steps // settings.checkpoint_every)
    step_s = slow * (settings.steps * rates.step_s + examples * tokens * rates.token_s / speed_up)
    evaluation_s = slow * evaluations * settings.valid_examples * tokens * rates.evaluation_token_s / speed_up
    # A better model is kept at nearly every evaluation, and costs a third of a checkpoint (no optimiser state).
    checkpoint_s = slow * rates.checkpoint_s * (saves + evaluations / 3)
    start_s = rates.overheads.trial_start_s + slow * rates.finish_s
    samples, share = (settings.search.samples, _share_of_steps(settings)) if settings.search else (1, 1.0)
    step_s, evaluation_s, checkpoint_s = step_s * share, evaluation_s * share, checkpoint_s * share
    expected = start_s + step_s + evaluation_s + checkpoint_s
    return TrialForecast(
        trial=trial.name,
        documents=_train_documents(settings, data, split_train),
        examples=round(examples * samples * share),
        steps=round(settings.steps * samples * share),
        expected_s=expected * samples,
        start_s=start_s * samples,
        step_s=step_s * samples,
        evaluation_s=evaluation_s * samples,
        checkpoint_s=checkpoint_s * samples,
        gpus=gpus,
        slots=slots,
        gpu_hours=expected * samples * gpus / 3600,
        disk_bytes=4 * rates.parameters * samples,
        samples=samples,
    )


def forecast_makespan(
    trials: Mapping[str, Trial], forecasts: Mapping[str, TrialForecast], rates: Rates, *, slots: float, gpus: float
) -> Makespan:
    """How long the trials last on so many slots; parents that are not among them are done.

    The first trials, which start on processes that Ray has not yet at hand, take longer.
    """
    durations, waits, needs = _pieces(trials, forecasts)
    late = rates.overheads.first_trial_start_s - rates.overheads.trial_start_s
    schedule = simulate(durations, waits, gpus=slots, needs=needs)
    first = [name for name, start in schedule.start.items() if start == 0.0]
    durations = {name: seconds + (late if name in first else 0.0) for name, seconds in durations.items()}
    schedule = simulate(durations, waits, gpus=slots, needs=needs)
    paths = remaining_path(durations, {name: list(each) for name, each in waits.items()})
    start: dict[str, float] = {}
    end: dict[str, float] = {}
    for piece in durations:
        name = piece.partition("/")[0]
        start[name] = min(start.get(name, float("inf")), schedule.start[piece])
        end[name] = max(end.get(name, 0.0), schedule.end[piece])
    return Makespan(
        gpus=gpus,
        slots=slots,
        makespan_s=schedule.makespan,
        lower_bound_s=lower_bound(durations, waits, gpus=slots, needs=needs),
        critical_path_s=max(paths.values(), default=0.0),
        start=start,
        end=end,
    )


def forecast_stages(
    config: Config, rates: Rates, data: DataSize, makespan: Makespan, *, cores: int
) -> dict[str, float]:
    """Wall seconds of each stage of a whole run on this machine, the first including Ray's start."""
    overheads, evaluation = rates.overheads, config.evaluation
    examples = data.rows * config.masking.examples_per_document
    tested: dict[str, int] = {}
    for level in config.data.levels:
        documents = int(data.documents.get(level, data.rows / len(config.data.levels)) * config.data.split.test)
        tested[level] = min(documents, evaluation.documents_per_level or documents)
    models = 1 + len(expand_trials(config))
    places = max(1, min(models, int(makespan.slots)))
    slow = rates.slow_down_of(places if rates.device == "cpu" else 1)
    model_s = SCORED_MODEL_S + slow * (
        sum(tested.values()) * evaluation.examples_per_document * rates.score_example_s
        + sum(min(count, evaluation.generation_documents) for count in tested.values()) * rates.generate_document_s
    )
    timing_s = TIMING_S if evaluation.speed_repeats else 0.0
    return {
        "prepare": COMMAND_START_S + data.rows * rates.row_s,
        "mask": overheads.ray_start_s + rates.mask_start_s + examples * rates.mask_s / max(1, cores),
        "train": overheads.sweep_start_s + makespan.makespan_s,
        "evaluate": overheads.scorer_start_s + model_s * -(-models // places) + timing_s,
        "report": 0.5,
    }


def expected_costs(trials: Mapping[str, Trial], forecasts: Mapping[str, TrialForecast] | None) -> dict[str, float]:
    """What orders the trials: expected seconds of one training, or examples where nothing is foretold."""
    if forecasts is None:
        return {name: expected_cost(trial.settings) for name, trial in trials.items()}
    return {name: each.expected_s / each.samples for name, each in forecasts.items()}


def as_json(forecast: TrialForecast) -> dict[str, Any]:
    """Plain values, seconds to the hundredth."""
    rounded = {key: round(value, 3) if isinstance(value, float) else value for key, value in asdict(forecast).items()}
    return {**rounded, "gpu_hours": round(forecast.gpu_hours, 4)}


def _train_documents(settings: TrialConfig, data: DataSize, split_train: float) -> int | None:
    if not data.documents:
        return None
    levels = settings.levels if settings.documents is None else (settings.documents.size_of,)
    return round(sum(data.documents.get(level, 0) for level in levels) * split_train)


def _share_of_steps(settings: TrialConfig) -> float:
    """Of a search's samples: with ASHA most do not come to their end."""
    assert settings.search is not None
    asha = settings.search.asha
    if asha is None:
        return 1.0
    rungs = rung_steps(
        steps=settings.steps,
        evaluate_every=settings.evaluate_every,
        grace_evaluations=asha.grace_evaluations,
        reduction=asha.reduction,
    )
    return share_of_steps(
        samples=settings.search.samples,
        together=SEARCH_ROUND,
        rungs=rungs,
        steps=settings.steps,
        reduction=asha.reduction,
    )


def _pieces(
    trials: Mapping[str, Trial], forecasts: Mapping[str, TrialForecast]
) -> tuple[dict[str, float], dict[str, tuple[str, ...]], dict[str, float]]:
    """The trainings that run one by one: trials, or a search's samples in their rounds; what each waits for."""
    durations: dict[str, float] = {}
    waits: dict[str, tuple[str, ...]] = {}
    needs: dict[str, float] = {}
    last_of: dict[str, tuple[str, ...]] = {}
    for name, each in forecasts.items():
        parent = trials[name].parent
        before = last_of.get(parent, ()) if parent is not None else ()
        pieces = [name] if each.samples == 1 else [f"{name}/{sample}" for sample in range(each.samples)]
        for first in range(0, len(pieces), SEARCH_ROUND):
            now = tuple(pieces[first : first + SEARCH_ROUND])
            for piece in now:
                durations[piece], waits[piece] = each.expected_s / each.samples, before
                needs[piece] = each.slots
            before = now
        last_of[name] = before
    return durations, waits, needs
