"""Forecasts what trainings will take: each trial's parts, the stages, and the time on a number of GPUs.

A trial's time is the sum of its steps, evaluations and checkpoints at the rates of a device, times the
slow-down caused by other trainings on the device, plus Ray's start.  The train stage's time comes from the same
rule that orders the trials when they run (`order.simulate`), and is given with its lower bound: the longest chain
of trials, or all work divided by the GPUs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from raysweep.config.schema import Config
from raysweep.config.search_checks import tried_values
from raysweep.config.training_settings import TrialConfig
from raysweep.planning.rates import ROW_S, DataSize, Rates
from raysweep.scheduling.order import lower_bound, remaining_path, share_of_gpus, simulate
from raysweep.scheduling.scorings import plan_scorings
from raysweep.scheduling.successive_halving import in_rounds, share_of_steps
from raysweep.scheduling.trials import Trial, expand_trials

WORKERS_EFFICIENCY = 0.9
"""Speed-up per additional GPU of a training.  Assumed."""
PADDING = 1.01
"""Positions computed per token: batches hold examples of similar length."""
COMMAND_START_S = 4.0
"""Start and end of a command: imports, cached compiled code, Ray's shutdown; measured on two cores."""
SCORED_MODEL_S = 0.5
"""Loading a model and writing its tables when it is scored."""
CLASSIFIERS_S = 15.0
"""Fitting and testing the classifiers of levels."""
TIMING_S = 5.0
"""The timings of `evaluation.speed_repeats`, which stop after a second for each batch size."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialForecast:
    """What one trial will take; for a search, all its samples together."""

    trial: str
    documents: int | None
    """Number of documents it trains on; None if they were not counted."""
    examples: int
    """Number of examples trained on, including repeats."""
    steps: int
    expected_s: float
    """From its driver's start to its record; the samples of a search are counted one after another."""
    start_s: float
    step_s: float
    evaluation_s: float
    checkpoint_s: float
    gpus: float
    """GPUs as the scheduler counts them: a share if several trials fit on one; 0 on the CPU."""
    slots: float
    """Its share of `Makespan.slots`: its GPUs, or 1 of the trainings that the cores have room for."""
    gpu_hours: float
    disk_bytes: int
    """Size of its models."""
    written_bytes: int
    """The most that its models and checkpoints add up to, also those that are deleted later."""
    samples: int
    """1 without a search."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Makespan:
    """How long the trainings last on a number of GPUs."""

    gpus: float
    """0 on the CPU."""
    slots: float
    """Simultaneous trainings: GPUs, or shares of the cores."""
    makespan_s: float
    lower_bound_s: float
    """max(critical path, work divided by the GPUs): no order is faster."""
    critical_path_s: float
    start: Mapping[str, float]
    """Seconds after the start of the train stage, by trial."""
    end: Mapping[str, float]


def forecast_trial(
    trial: Trial, rates: Rates, data: DataSize, *, gpus: float, together: int, split_train: float
) -> TrialForecast:
    """Forecast one trial; if its steps are searched, every sample is taken to have the most.

    Args:
        gpus: GPUs that it requests; each whole GPU is a worker that shares its steps.
        together: simultaneous trainings on the device, including this one.
        split_train: share of the documents that is trained on.
    """
    settings = trial.settings.model_copy(update={"steps": max(tried_values(trial.settings, "steps"))})
    slow, share = rates.slow_down_of(together), share_of_gpus(gpus)
    search = settings.search
    samples = search.samples if search else 1
    trainings = samples * (share_of_steps(settings, search) if search else 1.0)
    tokens = data.tokens_of(settings.levels) * PADDING
    examples = settings.steps * settings.batch_size * settings.accumulation
    speed_up = 1.0 + WORKERS_EFFICIENCY * (max(1, int(gpus)) - 1)
    evaluations = -(-settings.steps // settings.evaluate_every)
    saves = -(-settings.steps // settings.checkpoint_every)
    start_s = samples * (rates.overheads.trial_start_s + slow * rates.finish_s)
    step_s = trainings * slow * (settings.steps * rates.step_s + examples * tokens * rates.token_s / speed_up)
    validated = evaluations * settings.valid_examples * tokens
    evaluation_s = trainings * slow * validated * rates.evaluation_token_s / speed_up
    # A better model is saved at nearly every evaluation, at a third of a checkpoint's cost (no optimiser state).
    checkpoint_s = trainings * slow * rates.checkpoint_s * (saves + evaluations / 3)
    expected_s = start_s + step_s + evaluation_s + checkpoint_s
    return TrialForecast(
        trial=trial.name,
        documents=_train_documents(settings, data, split_train),
        examples=round(examples * trainings),
        steps=round(settings.steps * trainings),
        expected_s=expected_s,
        start_s=start_s,
        step_s=step_s,
        evaluation_s=evaluation_s,
        checkpoint_s=checkpoint_s,
        gpus=share,
        slots=1.0 if rates.device == "cpu" else share,
        gpu_hours=expected_s * share / 3600,
        disk_bytes=4 * rates.parameters * samples,
        # A checkpoint holds the weights and two moments of AdamW; each better model, and the last, the weights.
        written_bytes=round(4 * rates.parameters * (samples + trainings * (3 * saves + evaluations))),
        samples=samples,
    )


def forecast_makespan(
    trials: Mapping[str, Trial], forecasts: Mapping[str, TrialForecast], rates: Rates, *, slots: float, gpus: float
) -> Makespan:
    """Forecast how long the trials last on a number of slots; parents that are not among them are done.

    The first trials take longer, since Ray has to start their processes.
    """
    durations, waits, needs = _split_searches(trials, forecasts)
    late = rates.overheads.first_trial_start_s - rates.overheads.trial_start_s
    schedule = simulate(durations, waits, gpus=slots, needs=needs)
    durations = {name: seconds + (late if schedule.start[name] == 0.0 else 0.0) for name, seconds in durations.items()}
    schedule = simulate(durations, waits, gpus=slots, needs=needs)
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
        critical_path_s=max(remaining_path(durations, waits).values(), default=0.0),
        start=start,
        end=end,
    )


def forecast_stages(
    config: Config, rates: Rates, data: DataSize, makespan: Makespan, *, cores: int
) -> dict[str, float]:
    """Forecast the wall-clock seconds of each stage on this machine; Ray's start is charged to the mask stage."""
    overheads, evaluation = rates.overheads, config.evaluation
    examples = data.rows * config.masking.examples_per_document
    counts = {level: data.documents.get(level, data.rows / len(config.data.levels)) for level in config.data.levels}

    def scored(split: str, level: str) -> int:
        documents = int(counts[level] * getattr(config.data.split, split))
        return min(documents, evaluation.documents_per_level or documents)

    tested = {level: scored("test", level) for level in config.data.levels}
    trials = expand_trials(config)
    others = [scoring for scoring in plan_scorings(config, trials, trials) if not scoring.is_test]
    models = 1 + len(trials)
    places = max(1, min(models, int(makespan.slots)))
    slow = rates.slow_down_of(places if rates.device == "cpu" else 1)
    model_s = SCORED_MODEL_S + slow * (
        sum(tested.values()) * evaluation.examples_per_document * rates.score_example_s
        + sum(min(count, evaluation.generation_documents) for count in tested.values()) * rates.generate_document_s
    )
    other_documents = sum(
        scored(split, level) for scoring in others for split in scoring.splits for level in scoring.levels
    )
    others_s = SCORED_MODEL_S * len(others) + slow * (
        other_documents * evaluation.examples_per_document * rates.score_example_s
    )
    classify = {}
    if config.classification is not None:
        # The start and one training of each entry score whole texts, and the answers of valid documents.
        valid = sum(scored("valid", level) for level in config.data.levels)
        texts = valid * (1 + evaluation.examples_per_document) + sum(tested.values()) + data.further
        classifiers = 1 + len({trial.entry for trial in trials.values() if trial.control is None})
        of_model_s = SCORED_MODEL_S + slow * texts * rates.score_example_s
        classify["classify"] = CLASSIFIERS_S + of_model_s * -(-classifiers // places)
    further_s = models * (
        SCORED_MODEL_S * len(config.corpora)
        + slow * data.further * evaluation.examples_per_document * rates.score_example_s
    )
    timing_s = TIMING_S if evaluation.speed_repeats else 0.0
    return {
        "prepare": COMMAND_START_S + data.rows * ROW_S,
        "mask": overheads.ray_start_s + rates.mask_start_s + examples * rates.mask_s / max(1, cores),
        "train": overheads.sweep_start_s + makespan.makespan_s,
        "evaluate": overheads.scorer_start_s
        + model_s * -(-models // places)
        + (others_s + further_s) / places
        + timing_s,
        **classify,
        "report": 0.5,
    }


def expected_costs(forecasts: Mapping[str, TrialForecast]) -> dict[str, float]:
    """Return the expected seconds of one training of each trial, by which the scheduler orders them."""
    return {name: forecast.expected_s / forecast.samples for name, forecast in forecasts.items()}


def _train_documents(settings: TrialConfig, data: DataSize, split_train: float) -> int | None:
    if not data.documents:
        return None
    levels = settings.levels if settings.documents is None else (settings.documents.size_of,)
    return round(sum(data.documents.get(level, 0) for level in levels) * split_train)


def _split_searches(
    trials: Mapping[str, Trial], forecasts: Mapping[str, TrialForecast]
) -> tuple[dict[str, float], dict[str, Sequence[str]], dict[str, float]]:
    """Divide the trials into trainings that run one by one: trials, or the samples of a search in their rounds.

    Returns:
        By training: its seconds, what it waits for, its slots.
    """
    durations: dict[str, float] = {}
    waits: dict[str, Sequence[str]] = {}
    needs: dict[str, float] = {}
    last_of: dict[str | None, Sequence[str]] = {}
    for name, forecast in forecasts.items():
        before = last_of.get(trials[name].parent, ())
        samples = range(forecast.samples)
        pieces = [name] if forecast.samples == 1 else [f"{name}/{sample}" for sample in samples]
        for pieces_of_round in in_rounds(pieces):
            for piece in pieces_of_round:
                durations[piece] = forecast.expected_s / forecast.samples
                waits[piece], needs[piece] = before, forecast.slots
            before = pieces_of_round
        last_of[name] = before
    return durations, waits, needs
