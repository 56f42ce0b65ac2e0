"""What to do with each trial, from its record and what is asked for now: pure."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from raysweep.config.fingerprints import changed_fields
from raysweep.errors import ChangedError
from raysweep.scheduling.records import State, TrialRecord
from raysweep.scheduling.trials import Trial, descendants_of


@dataclass(frozen=True, kw_only=True, slots=True)
class Decisions:
    """Every trial is in exactly one of the two."""

    skip: tuple[str, ...]
    """Done with the same fingerprint."""
    todo: tuple[str, ...]
    """Parents before children."""
    fresh: tuple[str, ...]
    """Those of `todo` whose earlier files must go first: forced, or made from a forced parent."""


def decide(
    trials: Mapping[str, Trial],
    records: Mapping[str, TrialRecord | None],
    identities: Mapping[str, Mapping[str, Any]],
    fingerprints: Mapping[str, str],
    forced: Collection[str] = (),
) -> Decisions:
    """Skip what is done, do the rest, and stop where a finished or begun trial would change unasked.

    Args:
        forced: trials to redo; what starts from them is redone too.

    Raises:
        ChangedError: a trial on disk was built from other settings and is not forced; every such
            trial is named with the fields that differ.
    """
    redo = set(forced)
    for name in forced:
        redo.update(descendants_of(trials, name))
    changed = [
        name
        for name in trials
        if name not in redo and (record := records[name]) is not None and record.fingerprint != fingerprints[name]
    ]
    # A child whose own settings are the same changed only because its parent did; the parent's line says it.
    if problems := [_changed_line(trials[name], records[name], identities[name], changed) for name in changed]:
        raise ChangedError(*[problem for problem in problems if problem])
    skip = [
        name
        for name in trials
        if name not in redo and (record := records[name]) is not None and record.state is State.DONE
    ]
    todo = [name for name in trials if name not in skip]
    return Decisions(skip=tuple(skip), todo=tuple(todo), fresh=tuple(name for name in todo if name in redo))


def _changed_line(
    trial: Trial, record: TrialRecord | None, identity: Mapping[str, Any], changed: Collection[str]
) -> str:
    assert record is not None
    fields = changed_fields(record.identity, identity)
    if trial.parent in changed and all(field.startswith("parent:") for field in fields):
        return ""
    what = "; ".join(fields) or "a part of raysweep that makes it"
    return (
        f"trial '{trial.name}': its config differs from the one that built it ({what}). "
        f"Use --force {trial.name}, or give it a new name"
    )
