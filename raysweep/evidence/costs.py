"""What the run was expected to take, beside what it took: from `plan.json`, `ledger.json` and the trials' records."""

from collections.abc import Mapping
from typing import Any

from raysweep.evidence.trainings import read_if_there
from raysweep.scheduling.account import PARTS
from raysweep.scheduling.records import State, TrialRecord
from raysweep.storage.run_folder import RunFolder

Values = dict[str, Any]
_TIMED_STAGES = ("prepare", "mask")
"""Stages whose record has their whole time; that of the trainings is taken from the trials."""


def compare_costs(folder: RunFolder, records: Mapping[str, TrialRecord | None]) -> Values:
    """Planned and actual seconds of stages and trials, and what the slots' time went into; None where unknown."""
    plan = read_if_there(folder.plan)
    return {
        "plan": _headline(plan) if plan else None,
        "stages": _stages(folder, plan, records) if plan else [],
        "trials": _trials(plan, records) if plan else [],
        "ledger": _ledger(read_if_there(folder.ledger)),
    }


def _headline(plan: Values) -> Values:
    """How the plan came about; its makespan is that of the trainings."""
    first = plan["makespans"][0] if plan.get("makespans") else {}
    return {
        "source": plan["source"],
        "device": plan["device"],
        "gpu_hours": plan["gpu_hours"],
        "cost": plan["cost"],
        "lower_bound_s": first.get("lower_bound_s"),
    }


def _stages(folder: RunFolder, plan: Values, records: Mapping[str, TrialRecord | None]) -> list[Values]:
    done = (read_if_there(folder.record) or {}).get("stages", {})
    took = {name: done[name]["seconds"] for name in _TIMED_STAGES if name in done} | {"train": _train_seconds(records)}
    return [
        {"stage": stage, "planned_s": plan["expected_wall_s"].get(stage), "actual_s": took.get(stage)}
        for stage in (*_TIMED_STAGES, "train")
    ]


def _train_seconds(records: Mapping[str, TrialRecord | None]) -> float | None:
    """From the first start to the last end, where every trial is done at its first attempt: else there were pauses."""
    found = [record for record in records.values() if record is not None]
    if len(found) < len(records) or any(one.state is not State.DONE or one.attempts != 1 for one in found):
        return None
    starts = [one.started_at for one in found if one.started_at is not None]
    ends = [one.ended_at for one in found if one.ended_at is not None]
    return round(max(ends) - min(starts), 3) if starts and len(starts) == len(ends) == len(found) else None


def _trials(plan: Values, records: Mapping[str, TrialRecord | None]) -> list[Values]:
    """What was not done has no actual time: it would be that of a part."""
    return [
        {
            "trial": name,
            "planned_s": plan["trials"].get(name, {}).get("expected_s"),
            "actual_s": round(record.busy_seconds, 3) if record and record.state is State.DONE else None,
        }
        for name, record in records.items()
    ]


def _ledger(ledger: Values | None) -> Values | None:
    if ledger is None or not sum(ledger["total"].values()):
        return None
    whole = sum(ledger["total"].values())
    return {
        "unit": ledger["unit"],
        "parts": [
            {"part": part, "seconds": ledger["total"][part], "share": ledger["total"][part] / whole}
            for part in PARTS
            if part in ledger["total"]
        ],
    }
