"""Section on costs: of each way to serve the levels in training, disk and time per answer; planned and actual time."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from raysweep.evidence import formats
from raysweep.evidence.evidence_schema import Evidence, Strategy
from raysweep.evidence.run_schema import Ledger, LedgerPart, Plan, StageTime, TrialTime
from raysweep.report.labels import compared_levels
from raysweep.report.layout import Block, Figure, Folded, ReportSection, absent, heading, paragraph
from raysweep.report.sections.training_runs import group_by_entry
from raysweep.report.svg import bar_plot
from raysweep.report.tables import Cell, Column, Table, estimates, numbers, words

STRATEGY_NAMES = {
    "start": "No training (common start)",
    "general": "One general model",
    "specialised": "A model per level",
    "transfer": "General model, fine-tuned per level",
}
_PARTS = {
    "useful": "Training steps that count",
    "evaluating": "Validation",
    "checkpointing": "Checkpoints",
    "loading": "Loading and exporting",
    "starting": "Starting and stopping processes",
    "wasted": "Lost work",
}


def cost_section(evidence: Evidence) -> ReportSection:
    """Show the strategies with their costs, training time per trial, planned and actual time, and infilling speed."""
    hours = Figure(
        "hours",
        _hours_plot(evidence),
        "GPU time (without GPUs: time of a core) that each training held, all attempts and all samples of a search "
        "together.",
    )
    blocks: list[Block] = [_strategies(evidence), Folded("Training time, as bars", hours)]
    if evidence.costs.plan:
        blocks += [heading("Planned and actual"), _plan_origin(evidence.costs.plan)]
    blocks += [
        Folded("Planned and actual time of every trial", _planned(evidence)),
        Folded("What the time went into", _ledger(evidence)),
        _speed(evidence),
    ]
    if not evidence.speed:
        blocks.append(absent("The speed of infilling was not measured in this run."))
    return ReportSection("cost", "What it costs", blocks)


def _strategies(evidence: Evidence) -> Table[Strategy]:
    """Compare the strategies to serve all levels: their perplexity and their cost."""
    general = next((strategy for strategy in evidence.strategies if strategy.name == "general"), None)
    kinds = sorted({training.hours_of for training in evidence.trainings if training.hours is not None})

    def gain(strategy: Strategy) -> float | None:
        is_other = general is not None and strategy.name != "general"
        return general.perplexity.value / strategy.perplexity.value if general and is_other else None

    def hours_per_percent(strategy: Strategy) -> float | None:
        """Training time beyond the general model's per percent of perplexity gained over it; None without a gain."""
        if not general or not general.cost or not strategy.cost or strategy.name in ("general", "start"):
            return None
        percent = (general.perplexity.value / strategy.perplexity.value - 1.0) * 100.0
        hours, base = strategy.cost.hours, general.cost.hours
        if hours is None or base is None or hours <= base or percent <= 0.0:
            return None
        return (hours - base) / percent

    def costs(title: str, field: str, show: Any) -> Column[Strategy]:
        return numbers(title, field, show, lambda strategy: getattr(strategy.cost, field, None))

    return Table[Strategy](
        "strategies",
        f"Ways to serve {compared_levels(evidence)}. Perplexity is the geometric mean over the levels. Time is that of "
        "one seed, searches included: the number of tokens times the usual time of a token, so that waiting, and "
        "sharing a machine, do not count",
        evidence.strategies,
        words("Way", "way", lambda strategy: STRATEGY_NAMES[strategy.name]),
        estimates("Perplexity", "ppl", formats.perplexity, lambda strategy: strategy.perplexity),
        numbers("Gain over general", "general_over_this", formats.percent, gain),
        costs("Models", "models", formats.count),
        costs("On disk", "bytes", formats.size),
        costs("Trainings", "trainings", formats.count),
        costs(f"{' and '.join(kinds) or 'CPU'}-time", "hours", formats.hours),
        numbers("Extra time per 1 % gain", "hours_per_percent", formats.hours, hours_per_percent),
    )


def _hours_plot(evidence: Evidence) -> Markup:
    """Plot the training time per trial."""
    role_of = {row.name: row.role for row in evidence.matrix.rows}
    role_of |= {row.name: "other" for row in evidence.controls.rows}
    entries = group_by_entry(evidence.trainings)
    is_folded = len(entries) < len(evidence.trainings)
    rows = []
    for group in entries:
        known = [training for training in group if training.hours is not None]
        total = sum(training.hours or 0.0 for training in known) if known else None
        kinds = " and ".join(sorted({training.hours_of for training in known}))
        shown = f"{formats.hours(total)} {kinds}" if total is not None else group[0].state
        seeds = f" ({formats.counted(len(group), 'seed')})" if is_folded else ""
        rows.append(
            (
                group[0].entry if is_folded else group[0].trial,
                total,
                shown + seeds,
                role_of[group[0].entry],
            )
        )
    title = "Training time per entry, all seeds together" if is_folded else "Training time per trial"
    return bar_plot("hours", title, "The numbers are in the table of trainings.", rows)


def _planned(evidence: Evidence) -> Table[tuple[str, StageTime | TrialTime]]:
    """Compare planned and actual time of every stage and trial that was planned."""
    times: list[tuple[str, StageTime | TrialTime]] = [(f"stage {time.stage}", time) for time in evidence.costs.stages]
    times += [(time.trial, time) for time in evidence.costs.trials]

    def ratio(row: tuple[str, StageTime | TrialTime]) -> float | None:
        planned_s, actual_s = row[1].planned_s, row[1].actual_s
        return actual_s / planned_s if planned_s and actual_s is not None else None

    return Table[tuple[str, StageTime | TrialTime]](
        "planned",
        "Time planned before the run and time taken (for a trial: all its attempts, from start to record)",
        times,
        words("What", "what", lambda row: row[0]),
        numbers("Planned", "planned_hours", formats.hours, lambda row: _hours(row[1].planned_s)),
        numbers("Actual", "actual_hours", formats.hours, lambda row: _hours(row[1].actual_s)),
        numbers("Difference", "actual_over_planned", formats.percent, ratio),
    )


def _plan_origin(plan: Plan) -> Markup:
    is_measured = plan.source == "measured"
    source = (
        "from a calibration of this machine"
        if is_measured
        else "from data sheets, without a calibration of the machine"
    )
    price = ""
    if plan.cost:
        amount = "less than 0.01" if plan.cost["amount"] < 0.01 else f"{plan.cost['amount']:,.2f}"
        price = f" At the prices in the configuration, it was to cost {amount} {plan.cost['currency']}."
    return paragraph("The plan was made before the run, {} ({}).{}", source, plan.device, price)


def _ledger(evidence: Evidence) -> Table[LedgerPart]:
    """Show what the seconds of the GPUs, or of the CPU slots, were used for."""
    ledger = evidence.costs.ledger or Ledger(unit="cpu", parts=())
    unit = {"gpu": "GPU", "cpu": "CPU"}.get(ledger.unit, "slot")
    return Table[LedgerPart](
        "ledger",
        f"How the time of the {unit}s was used, all trainings together",
        ledger.parts,
        words("Part", "part", lambda part: _PARTS.get(part.part, part.part)),
        numbers(f"{unit[0].upper()}{unit[1:]} time", "hours", formats.hours, lambda part: part.seconds / 3600),
        numbers("Share", "share", formats.share),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Timing:
    """Timing of one model, or of the levels' models together, for one batch size."""

    name: str
    device: str
    size: dict[str, Any]
    batch: str
    timing: dict[str, Any]


def _speed(evidence: Evidence) -> Table[_Timing]:
    """Show size, memory, latency and throughput of infilling."""
    return Table[_Timing](
        "speed",
        "Size and speed of infilling (a prompt of 64 tokens, an answer of 16; of the levels' models, all in memory, "
        "the visible text decides which one answers)",
        list(_timings(evidence)),
        words("Model", "model", lambda row: row.name, detail=lambda row: row.device),
        numbers("Parameters", "parameters", formats.count, lambda row: row.size.get("parameters")),
        numbers("On disk", "bytes", formats.size, lambda row: row.size.get("bytes")),
        numbers("In memory", "memory_bytes", formats.size, lambda row: row.size.get("memory_bytes")),
        numbers("Loading", "load_hours", formats.hours, lambda row: _hours(row.size.get("load_seconds"))),
        Column(title="Texts at once", fields=("batch",), cell=lambda row: Cell(text=row.batch, values=(row.batch,))),
        numbers("Median time", "latency_p50_hours", formats.hours, lambda row: _hours(row.timing["latency_p50_s"])),
        numbers("95th percentile", "latency_p95_hours", formats.hours, lambda row: _hours(row.timing["latency_p95_s"])),
        numbers("Tokens/s", "tokens_per_second", formats.count, lambda row: row.timing["tokens_per_second"]),
    )


def _timings(evidence: Evidence) -> Iterator[_Timing]:
    for model, timed in (evidence.speed or {}).items():
        served = {model: timed}
        if together := timed.get("ensemble"):
            served[f"{together['models']} levels' models, chosen by the text"] = together
        for name, size in served.items():
            for batch, timing in size["batches"].items():
                yield _Timing(name=name, device=timed["device"], size=size, batch=batch, timing=timing)


def _hours(seconds: float | None) -> float | None:
    return None if seconds is None else seconds / 3600.0
