"""Defines a stage of a run: its targets, what each is made from, and which must be made again.

A target is something that is made, recorded and skipped as a whole: the corpus, the examples, a
trial's model, a model's scores, the report.  Its record holds the settings that it was made with, and the digests
of its inputs and outputs; see `pipeline.identities`.  A stage lists its targets
just before it runs, when the earlier stages are recorded.

Changed settings stop a costly stage unless it is forced.  A changed input does not stop it, since
inputs change only when something was made again.  A missing or damaged file stops every
stage that would skip its target, with the command that makes it again; only deleted files of scores and
report are made again without asking.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from raysweep.config.fingerprints import changed_fields, fingerprint
from raysweep.config.schema import Config
from raysweep.errors import ChangedError, DamagedError, EarlierVersionError
from raysweep.pipeline.run_record import StageRecord
from raysweep.pipeline.tasks import Executor, Listener
from raysweep.planning.run_forecast import RunForecast
from raysweep.scheduling.records import TrialRecord
from raysweep.scheduling.trials import Trial
from raysweep.storage.digests import Damage, Outputs, describe_outputs, find_damage, read_sealed, write_sealed
from raysweep.storage.run_folder import RunFolder

STAGES = ("prepare", "mask", "train", "evaluate", "classify", "report")
_STAGE_OF_KIND = {"scores": "evaluate", "text scores": "classify"}


def asked_stages(config: Config) -> tuple[str, ...]:
    """Return the stages that a run with these settings has, in order."""
    return tuple(stage for stage in STAGES if stage != "classify" or config.classification is not None)


class Recorded(NamedTuple):
    """What a target was made from and what it made, according to its record."""

    fingerprint: str
    identity: Mapping[str, Any]
    made_from: Mapping[str, str]
    outputs: Outputs

    @classmethod
    def of(cls, record: StageRecord | TrialRecord | None) -> "Recorded | None":
        """Take these fields from a record; None without one."""
        return cls(record.fingerprint, record.identity, record.made_from, record.outputs) if record else None


def read_recorded(path: Path, *, fix: str, is_forced: bool) -> Recorded | None:
    """Read a target's record; None without one, or if it is forced and unreadable.  Else DamagedError names the fix."""
    if not path.exists():
        return None
    try:
        values = read_sealed(path, fix=fix)
    except EarlierVersionError:
        return None
    except DamagedError:
        if is_forced:
            return None
        raise
    return Recorded(values["fingerprint"], values["identity"], values["made_from"], values["outputs"])


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """One thing that a stage makes."""

    name: str
    """The name that `--force` takes; the stage's own target has the stage's name and is recorded in run.json."""
    identity: Mapping[str, Any]
    """Its settings now."""
    made_from: Mapping[str, str] = field(default_factory=dict)
    """Digests of its inputs now, by name, as far as the inputs are made."""
    record: Recorded | None
    """Its record; None if it was never begun."""
    is_done: bool
    """Whether its record says that it is done."""
    root: Path
    """The folder that the paths of its outputs are relative to."""
    is_unreadable: bool = False
    """Whether it is forced and its record cannot be read."""
    kind: str = "stage"
    rests_on: tuple[str, ...] = ()
    """Targets of the same stage that it is made from: a trial's parent, the scores that are merged."""
    is_extendable: bool = False
    """Whether only its steps were raised, so that it can resume from its last state."""
    skip_note: str = ""
    """Printed when it is skipped; '' for nothing."""

    @property
    def fingerprint(self) -> str:
        """Hash of the identity."""
        return fingerprint(self.identity)

    @property
    def work(self) -> str:
        """Hash of the identity and the inputs."""
        return fingerprint({"identity": self.identity, "made_from": self.made_from})

    @property
    def is_changed(self) -> bool:
        """Whether it is recorded, but was made with other settings."""
        return self.record is not None and self.record.fingerprint != self.fingerprint

    @property
    def changed_inputs(self) -> list[str]:
        """The inputs that have been made again since, with different contents."""
        before = self.record.made_from if self.record is not None else {}
        return [name for name, digest in self.made_from.items() if name in before and before[name] != digest]

    @property
    def force(self) -> str:
        """The option that makes it again."""
        return f"--force {_STAGE_OF_KIND.get(self.kind, self.name)}"

    def find_damage(self, *, by_size: bool = False) -> list[Damage]:
        """List its files that are missing or changed; with `by_size`, compare only sizes, without reading the files."""
        return find_damage(self.root, self.record.outputs, by_size=by_size) if self.record is not None else []

    def write_record(self, path: Path, outputs: Sequence[Path]) -> None:
        """Write the record that `read_recorded` reads; the paths of the outputs are relative to its folder."""
        values = {"fingerprint": self.fingerprint, "identity": self.identity, "made_from": self.made_from}
        write_sealed(path, {**values, "outputs": describe_outputs(path.parent, outputs)})


@dataclass(frozen=True, kw_only=True, slots=True)
class Decisions:
    """The targets to skip and to do; each target is in exactly one of them, in the original order."""

    skip: tuple[Target, ...]
    todo: tuple[Target, ...]
    fresh: frozenset[str]
    """Names of targets in `todo` whose earlier files must be deleted first, because they are forced or stale."""
    reasons: Mapping[str, str]
    """By name, why a target that is done and not forced is made again."""


@dataclass(frozen=True, kw_only=True)
class Stage(ABC):
    """One stage of one run."""

    name: ClassVar[str]
    needs: ClassVar[tuple[str, ...]] = ()
    """Stages that must be recorded in run.json before this stage can list the inputs of its targets."""
    has_command: ClassVar[bool] = True
    """Whether the CLI has a command that runs this stage alone."""
    is_costly: ClassVar[bool] = False
    """Targets may have cost hours: stop when their settings changed, instead of making them again."""

    config: Config
    folder: RunFolder
    trials: Mapping[str, Trial]
    forced: Collection[str]
    """Stages and trials to do again; their records may be unreadable."""
    extended: Collection[str]
    """Finished trials to extend if their steps were raised."""
    forecast: Callable[[], RunForecast]
    """Returns the expected cost of all trials of the run, computed on first use."""
    push: Callable[[], None] = lambda: None
    """Updates object storage, for workers that read what the stage has made so far."""

    @abstractmethod
    def targets(self, done: Mapping[str, StageRecord]) -> list[Target]:
        """List everything that the stage makes; a target comes after those that it rests on."""

    @abstractmethod
    def make(self, decisions: Decisions, executor: Executor, listener: Listener) -> None:
        """Make the targets in `decisions.todo`."""

    def outputs(self) -> list[Path]:
        """Files and folders of the stage's own target; [] if every target has its own record."""
        return []

    def refuse_inputs(self) -> None:
        """Raise if the user's input to this stage cannot be used."""
        return

    def own_target(self, identity: Mapping[str, Any], done: Mapping[str, StageRecord], **fields: Any) -> Target:
        """Make the target that run.json records under the stage's name."""
        record = done.get(self.name)
        values = {"is_done": record is not None, "skip_note": "done with the same config", **fields}
        return Target(name=self.name, identity=identity, record=Recorded.of(record), root=self.folder.root, **values)


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
        extended: names of targets that resume from where they ended if their settings changed.
        may_change: make targets with changed settings again, instead of raising.

    Raises:
        ChangedError: names every unforced target whose settings changed, with the fields that differ.
    """
    redo: set[str] = set()
    longer: set[str] = set()
    below = {*extended}  # extended targets, and those that rest on them
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
            # An earlier attempt at the same command extended its parent.
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


def _changed_settings(target: Target) -> list[str]:
    assert target.record is not None
    return changed_fields(target.record.identity, target.identity)


def _changed_with_parent(target: Target) -> bool:
    return all(field.startswith("parent:") for field in _changed_settings(target))


def changes_of(target: Target) -> str:
    """Describe the settings that changed since the target was made, old and new."""
    return "; ".join(_changed_settings(target)) or "a part of raysweep that makes it"


def _changed_line(target: Target, changed: Collection[str]) -> str:
    """Say what changed and what the user can do; '' for a child that changed only because its parent did."""
    if set(target.rests_on) & set(changed) and _changed_with_parent(target):
        return ""
    what = changes_of(target)
    extend = f"--extend {target.name} to go on with it, or " if target.is_extendable else ""
    rename = "give it a new name" if target.kind == "trial" else "give the run a new --name"
    return (
        f"{target.kind} '{target.name}': its config differs from the one that built it ({what}). "
        f"Use {extend}{target.force}, or {rename}"
    )
