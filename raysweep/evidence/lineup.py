"""Lists the rows of the report: each entry of `trials:` with its role, its models, and the models that are missing.

An entry with several seeds is one row.  If several entries have the same role, the first in the
config takes part in the verdicts; the others are shown with the role 'other'.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from raysweep.config.trial_names import CONTROL_KINDS
from raysweep.evidence.published import published_reason
from raysweep.scheduling.records import State, TrialRecord
from raysweep.scheduling.trials import START_MODEL, Roles, Trial
from raysweep.statistics.role_models import RoleModels, draw_role

COMPARED_ROLES = ("start", "general", "specialised", "transfer")
ROLE_NAMES = {
    # In the order of the report's rows.
    "start": "common start",
    "general": "general",
    "specialised": "specialised",
    "transfer": "fine-tuned",
    "size_matched": "size control",
    "step_matched": "step control",
    "placebo": "placebo",
    "compute_matched": "compute control",
    "exposure_matched": "exposure control",
    "other": "other",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Entrant:
    """A row of the report: one entry's models, or the common start."""

    name: str
    role: str
    """One of `ROLE_NAMES`."""
    level: str | None
    """The level of a specialised or fine-tuned entry, or of a control."""
    models: Mapping[int, str]
    """Scored models by seed."""
    missing: Mapping[str, str]
    """Trials without scores, with the reason."""
    draw: int = 1
    """Number of the placebo's random group for its level."""

    @property
    def is_control(self) -> bool:
        """Whether it is a control, which is compared with the other rows but never chosen."""
        return self.role in CONTROL_KINDS

    @property
    def reason(self) -> str:
        """Why there is no model at all; '' if there is one."""
        return "" if self.models else "; ".join(self.missing.values())


def line_up(
    trials: Mapping[str, Trial],
    roles: Roles,
    records: Mapping[str, TrialRecord | None],
    scored: Collection[str],
) -> list[Entrant]:
    """List all rows: the start if it was scored, then by role, level and the config's order."""
    scored = frozenset(scored)
    entries: dict[str, list[Trial]] = {}
    for trial in trials.values():
        entries.setdefault(trial.entry, []).append(trial)
    taken: set[tuple[str, str | None, int]] = set()
    start = Entrant(name=START_MODEL, role="start", level=None, models={0: START_MODEL}, missing={})
    entrants = [start] if START_MODEL in scored else []
    for entry, seeds in entries.items():
        role, level, draw = _role_of(seeds[0], roles)
        if (role, level, draw) in taken:
            role, level, draw = "other", None, 1
        taken.add((role, level, draw))
        entrants.append(
            Entrant(
                name=entry,
                role=role,
                level=level,
                draw=draw,
                models={trial.seed: trial.name for trial in seeds if trial.name in scored},
                missing={t.name: _why_missing(t.name, records[t.name]) for t in seeds if t.name not in scored},
            )
        )
    return sorted(entrants, key=lambda entrant: _rank(entrant, roles.levels))


def role_models(entrants: Sequence[Entrant], levels: Sequence[str]) -> RoleModels:
    """Return the models of each role on each level, including controls."""
    roles = ("general", "specialised", "transfer", *CONTROL_KINDS)
    by_role: dict[str, dict[str, Mapping[int, str]]] = {role: {} for role in roles}
    absent: dict[tuple[str, str], str] = {}
    for entrant in entrants:
        if entrant.role not in by_role:
            continue
        role = draw_role(entrant.role, entrant.draw)
        for level in levels if entrant.level is None else [entrant.level]:
            if entrant.models:
                by_role.setdefault(role, {})[level] = entrant.models
            else:
                absent[role, level] = entrant.reason
    return RoleModels(by_role=by_role, absent=absent)


def _role_of(trial: Trial, roles: Roles) -> tuple[str, str | None, int]:
    """Return the trial's role, level and draw."""
    if trial.control is not None:
        return trial.control.kind, trial.control.level, trial.control.draw
    if trial.name in roles.general:
        return "general", None, 1
    for role, by_level in (("specialised", roles.specialised), ("transfer", roles.transfer)):
        for level, names in by_level.items():
            if trial.name in names:
                return role, level, 1
    return "other", None, 1


def _why_missing(name: str, record: TrialRecord | None) -> str:
    if record is None:
        return f"{name} not trained: not started"
    if record.state is State.DONE:
        return f"{name} trained, but not scored"
    reason = published_reason(record)
    return f"{name} not trained: {record.state}" + (f", {reason}" if reason else "")


def _rank(entrant: Entrant, levels: Sequence[str]) -> tuple[int, int, int]:
    place = levels.index(entrant.level) if entrant.level in levels else 0
    return list(ROLE_NAMES).index(entrant.role), entrant.draw, place
