"""What a stage of a run is: its targets, what each is made from, and which must be made again.

A target is something that is made, recorded and skipped as a whole: the corpus, the examples, a
trial's model, a model's scores, the report.  Its record holds the settings that it was made with, the digests
of what it was made from, and the digests of what it made; see `pipeline.identities`.  A stage is asked
for its targets just before it runs, when the earlier stages are recorded.

Settings that changed stop a costly stage, unless it is forced; an input that changed does not, since
it changed only because something was made again.  A file that is missing or damaged stops every
stage that would skip its target, with the command that makes it again; only what was deleted of scores and
report is made again without asking.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from raysweep.config.fingerprints import changed_fields, fingerprint
from raysweep.config.schema import Config
from raysweep.errors import ChangedError
from raysweep.pipeline.run_record import StageRecord
from raysweep.pipeline.tasks import Executor, Listener
from raysweep.planning.run_forecast import RunForecast
from raysweep.scheduling.trials import Trial
from raysweep.storage.digests import Damage, Outputs, find_damage
from raysweep.storage.run_folder import RunFolder

STAGES = ("prepare", "mask", "train", "evaluate", "classify", "report")


_STAGE_OF_KIND = {"scores": "evaluate", "text scores": "classify"}


def asked_stages(config: Config) -> tuple[str, ...]:
    """The stages that a run with these settings has, in order."""
    return tuple(stage for stage in STAGES if stage != "classify" or config.classification is not None)


class Recorded(NamedTuple):
    """What a record says its target was made from."""

    fingerprint: str
    identity: Mapping[str, Any]
    made_from: Mapping[str, str]
    outputs: Outputs


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """One thing that a stage makes."""

    name: str
    """As `--force` takes it; the stage's own target has the stage's name and is recorded in run.json."""
    identity: Mapping[str, Any]
    """Its settings now."""
    made_from: Mapping[str, str] = field(default_factory=dict)
    """Digests of its inputs now, by name, as far as they are made."""
    record: Recorded | None
    """What it was made from; None if it was never begun."""
    is_done: bool
    """Its record says so."""
    root: Path
    """The folder that the paths of its outputs are relative to."""
    is_unreadable: bool = False
    """It is forced, and its record cannot be read."""
    kind: str = "stage"
    rests_on: tuple[str, ...] = ()
    """Targets of the same stage that it is made from: a trial's parent, the scores that are merged."""
    is_extendable: bool = False
    """Only its steps were raised, and it can go on from its last state."""
    skip_note: str = ""
    """What is said when it is skipped; '' for nothing."""

    @property
    def fingerprint(self) -> str:
        """The identity, hashed."""
        return fingerprint(self.identity)

    @property
    def work(self) -> str:
        """The identity and the inputs, hashed."""
        return fingerprint({"identity": self.identity, "made_from": self.made_from})

    @property
    def is_changed(self) -> bool:
        """It is recorded, but was made with other settings."""
        return self.record is not None and self.record.fingerprint != self.fingerprint

    @property
    def changed_inputs(self) -> list[str]:
        """The inputs that were made again since it was made, and came out different."""
        before = self.record.made_from if self.record is not None else {}
        return [name for name, digest in self.made_from.items() if name in before and before[name] != digest]

    @property
    def force(self) -> str:
        """The option that makes it again."""
        return f"--force {_STAGE_OF_KIND.get(self.kind, self.name)}"

    def find_damage(self, *, by_size: bool = False) -> list[Damage]:
        """Its files that are missing or not as they were made.

        Args:
            by_size: compare sizes alone, and read nothing.
        """
        return find_damage(self.root, self.record.outputs, by_size=by_size) if self.record is not None else []


@dataclass(frozen=True, kw_only=True, slots=True)
class Decisions:
    """Every target is in exactly one of `skip` and `todo`; both keep the order of the targets."""

    skip: tuple[Target, ...]
    todo: tuple[Target, ...]
    fresh: frozenset[str]
    """Names of those in `todo` whose earlier files must be removed first, because they are forced or stale."""
    reasons: Mapping[str, str]
    """Why what is done and not forced is made again, by name."""


@dataclass(frozen=True, kw_only=True)
class Stage(ABC):
    """One stage of one run."""

    name: ClassVar[str]
    needs: ClassVar[tuple[str, ...]] = ()
    """Stages that must be recorded in run.json before this one can say what its targets are made from."""
    has_command: ClassVar[bool] = True
    """A command of its name does this stage alone."""
    is_costly: ClassVar[bool] = False
    """Targets may have cost hours: stop, rather than make them again, when their settings changed."""

    config: Config
    folder: RunFolder
    trials: Mapping[str, Trial]
    forced: Collection[str]
    """Stages and trials to do again; their records need not be readable."""
    extended: Collection[str]
    """Finished trials to go on with, where their steps were raised."""
    forecast: Callable[[], RunForecast]
    """What all trials of the run are expected to take; it is computed when it is first asked for."""
    push: Callable[[], None] = lambda: None
    """Bring object storage up to date, for workers that read what the stage has made so far."""

    @abstractmethod
    def targets(self, done: Mapping[str, StageRecord]) -> list[Target]:
        """All that the stage makes, what a target rests on before it.

        Args:
            done: the stages recorded in run.json.
        """

    @abstractmethod
    def make(self, decisions: Decisions, executor: Executor, listener: Listener) -> None:
        """Make the targets to do."""

    def outputs(self) -> list[Path]:
        """Files and folders that the stage's own target consists of; none if every target has a record of its own."""
        return []

    def refuse_inputs(self) -> None:
        """Raise if what the user gave the stage cannot be used."""
        return

    def own_target(self, identity: Mapping[str, Any], done: Mapping[str, StageRecord], **fields: Any) -> Target:
        """The target that run.json records under the stage's name."""
        record = done.get(self.name)
        values = {"is_done": record is not None, "skip_note": "done with the same config", **fields}
        recorded = Recorded(record.fingerprint, record.identity, record.made_from, record.outputs) if record else None
        return Target(name=self.name, identity=identity, record=recorded, root=self.folder.root, **values)


def decide(
    targets: Sequence[Target],
    *,
    forced: Collection[str] = (),
    extended: Collection[str] = (),
    may_change: bool = True,
) -> Decisions:
    """Skip what is done, do the rest, and do again what is forced, changed, or rests on something done again.

    Args:
        forced: names of targets.
        extended: names of targets that go on from where they ended if their settings changed.
        may_change: make targets again whose settings changed, instead of raising.

    Raises:
        ChangedError: names every target that is not forced and whose settings changed, with the fields that differ.
    """
    redo: set[str] = set()
    longer: set[str] = set()
    below = {*extended}  # what is extended, and what rests on it
    todo: set[str] = set()
    changed: list[Target] = []
    reasons: dict[str, str] = {}
    for target in targets:
        if rests_below := below.intersection(target.rests_on):
            below.add(target.name)
        if target.name in forced or target.is_unreadable:
            redo.add(target.name)
        elif rests := (redo | longer).intersection(target.rests_on):
            redo.add(target.name)
            reasons[target.name] = _made_again(rests)
        elif rests_below and target.is_changed and _changed_with_parent(target):
            # Its parent was extended by an earlier attempt at the same command.
            redo.add(target.name)
            reasons[target.name] = _made_again(rests_below)
        elif target.is_changed and target.name in extended:
            longer.add(target.name)
        elif target.is_changed:
            changed.append(target)
            if may_change:
                redo.add(target.name)
                reasons[target.name] = f"its settings changed ({changes_of(target)})"
        elif inputs := target.changed_inputs:
            redo.add(target.name)
            reasons[target.name] = f"its {' and '.join(inputs)} changed since it was made"
        elif target.is_done and (rests := todo.intersection(target.rests_on)):
            redo.add(target.name)
            reasons[target.name] = _made_again(rests)
        if target.name in redo | longer or not target.is_done:
            todo.add(target.name)
    if changed and not may_change:
        names = {target.name for target in changed}
        raise ChangedError(*[line for target in changed if (line := _changed_line(target, names))])
    return Decisions(
        skip=tuple(target for target in targets if target.name not in todo),
        todo=tuple(target for target in targets if target.name in todo),
        fresh=frozenset(redo),
        reasons={target.name: reasons[target.name] for target in targets if target.is_done and target.name in reasons},
    )


def _made_again(rests: Collection[str]) -> str:
    return f"what it rests on is made again ({', '.join(sorted(rests))})"


def _changed_with_parent(target: Target) -> bool:
    """Whether nothing but its parent changed."""
    assert target.record is not None
    fields = changed_fields(target.record.identity, target.identity)
    return all(field.startswith("parent:") for field in fields)


def changes_of(target: Target) -> str:
    """The settings that changed since it was made, old and new."""
    assert target.record is not None
    return "; ".join(changed_fields(target.record.identity, target.identity)) or "a part of raysweep that makes it"


def _changed_line(target: Target, changed: Collection[str]) -> str:
    """What changed, and what the user can do; '' for a child that changed only because its parent did."""
    if set(target.rests_on) & set(changed) and _changed_with_parent(target):
        return ""
    what = changes_of(target)
    extend = f"--extend {target.name} to go on with it, or " if target.is_extendable else ""
    rename = "give it a new name" if target.kind == "trial" else "give the run a new --name"
    return (
        f"{target.kind} '{target.name}': its config differs from the one that built it ({what}). "
        f"Use {extend}{target.force}, or {rename}"
    )
