"""Compares planned and actual time of the run, from `plan.json`, `ledger.json` and the trials' records."""

from collections.abc import Mapping
from typing import Any

from raysweep.evidence.inputs import read_if_there
from raysweep.evidence.run_schema import Costs, Ledger, LedgerPart, Plan, Saved, StageTime, TrialTime
from raysweep.planning.written_plan import read_plan
from raysweep.scheduling.attempts import PARTS
from raysweep.scheduling.records import State, TrialRecord
from raysweep.storage.run_folder import RunFolder

_TIMED_STAGES = ("prepare", "mask")
"""Stages whose record contains their whole time; the time of the trainings is taken from the trials."""
Values = Mapping[str, Any]


def compare_costs(folder: RunFolder, records: Mapping[str, TrialRecord | None]) -> Costs:
    """Return planned and actual seconds of stages and trials, and how the slots' time was used; None if unknown."""
    plan = read_plan(folder)
    return Costs(
        plan=_summary(plan) if plan else None,
        stages=_stages(folder, plan, records) if plan else (),
        trials=_trials(plan, records) if plan else (),
        ledger=_ledger(ledger := read_if_there(folder.ledger)),
        saved=_saved(ledger),
    )


def _summary(plan: Values) -> Plan:
    """Return the plan's source and totals; its makespan is that of the trainings."""
    makespan = plan["makespans"][0] if plan.get("makespans") else {}
    return Plan(
        source=plan["source"],
        device=plan["device"],
        gpu_hours=plan["gpu_hours"],
        cost=plan["cost"],
        lower_bound_s=makespan.get("lower_bound_s"),
    )


def _stages(folder: RunFolder, plan: Values, records: Mapping[str, TrialRecord | None]) -> tuple[StageTime, ...]:
    done = (read_if_there(folder.record) or {}).get("stages", {})
    took = {name: done[name]["seconds"] for name in _TIMED_STAGES if name in done} | {"train": _train_seconds(records)}
    return tuple(
        StageTime(stage=stage, planned_s=plan["expected_wall_s"].get(stage), actual_s=took.get(stage))
        for stage in (*_TIMED_STAGES, "train")
    )


def _train_seconds(records: Mapping[str, TrialRecord | None]) -> float | None:
    """Return the time from first start to last end if every trial was done at its first attempt, without pauses."""
    known = [record for record in records.values() if record is not None]
    if len(known) < len(records) or any(record.state is not State.DONE or record.attempts != 1 for record in known):
        return None
    starts = [record.started_at for record in known if record.started_at is not None]
    ends = [record.ended_at for record in known if record.ended_at is not None]
    return round(max(ends) - min(starts), 3) if starts and len(starts) == len(ends) == len(known) else None


def _trials(plan: Values, records: Mapping[str, TrialRecord | None]) -> tuple[TrialTime, ...]:
    """Compare the trials' times; an unfinished trial has no actual time, since it would cover only a part."""
    return tuple(
        TrialTime(
            trial=name,
            planned_s=plan["trials"].get(name, {}).get("expected_s"),
            actual_s=round(record.busy_seconds, 3) if record and record.state is State.DONE else None,
        )
        for name, record in records.items()
    )


def _saved(ledger: Values | None) -> Saved | None:
    if not (saved := (ledger or {}).get("saved")):
        return None
    return Saved(trainings=len(saved["trials"]), seconds=saved["seconds"], unit=(ledger or {})["unit"])


def _ledger(ledger: Values | None) -> Ledger | None:
    if ledger is None or not (total := sum(ledger["total"].values())):
        return None
    seconds_of = {part: ledger["total"][part] for part in PARTS if part in ledger["total"]}
    parts = [LedgerPart(part=part, seconds=seconds, share=seconds / total) for part, seconds in seconds_of.items()]
    return Ledger(unit=ledger["unit"], parts=tuple(parts))
