"""The names of trials: those that an entry may have, and those that are derived from seeds and controls.

A trial's name is the name of its folder, so two names that differ only in upper and lower case are the same on many
disks.  Every name that follows from a config is checked here, before the run begins.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from raysweep.config.schema import Config
from raysweep.config.section import NAME
from raysweep.config.training_settings import TrialConfig

CONTROL_KINDS = {
    "size_matched": "size",
    "step_matched": "steps",
    "placebo": "placebo",
    "compute_matched": "compute",
    "exposure_matched": "exposure",
}
"""Kind of control trial → its short name in the names of trials."""
ONE_FOR_ALL = ("compute_matched", "exposure_matched")
"""Kinds with one model for all levels; the other kinds have one model per level."""
RESERVED_NAMES = {"start", "prepare", "mask", "train", "evaluate", "classify", "report"}
"""The name of the baseline, and the stages, which `--force` accepts in addition to trials."""
_CONTROL_NAME = re.compile(rf"control-({'|'.join(CONTROL_KINDS.values())})(-|\Z)")
LONGEST_NAME = 80
MOST_TRIALS = 10_000


def trial_name(entry: str, settings: TrialConfig, seed: int) -> str:
    """Return the name of an entry's training with this seed.

    The first training of an entry without its own seeds has the entry's name, so that a run with one seed keeps its
    models when `seeds` is increased.
    """
    is_alone = seed == 0 if settings.seeds is None else len(settings.seeds) == 1
    return entry if is_alone else f"{entry}-seed{seed}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Control:
    """A control trial, and the level it is compared with."""

    kind: str
    """One of `CONTROL_KINDS`."""
    level: str | None
    """The level whose model it is compared with; None for the models of all levels."""
    draw: int = 1
    """The number of the placebo's random group for the level."""

    @property
    def name(self) -> str:
        """The name of the control's entry."""
        parts = ["control", CONTROL_KINDS[self.kind], str(self.draw) if self.draw > 1 else "", self.level or ""]
        return "-".join(part for part in parts if part)


def planned_controls(config: Config) -> Iterator[tuple[Control, TrialConfig]]:
    """Yield every enabled control and the entry that it copies; none for a level without its own model."""
    general = general_entry(config)
    own = {level: entry for level in config.data.levels if (entry := entry_on(config, [level])) is not None}
    if general is None or not own:
        return
    for kind in config.controls.asked:
        if kind in ONE_FOR_ALL:
            yield Control(kind=kind, level=None), general
            continue
        for draw in range(1, (config.controls.placebo_draws if kind == "placebo" else 1) + 1):
            yield from ((Control(kind=kind, level=level, draw=draw), entry) for level, entry in own.items())


def general_entry(config: Config) -> TrialConfig | None:
    """Return the first entry on all levels that starts from no other trial, if there are several levels."""
    return entry_on(config, config.data.levels) if len(config.data.levels) > 1 else None


def entry_on(config: Config, levels: Sequence[str]) -> TrialConfig | None:
    """Return the first entry on all documents of exactly these levels that starts from no other trial."""
    for entry in config.trials.values():
        is_whole = entry.parent is None and entry.documents is None and entry.examples_per_level is None
        if is_whole and set(entry.levels) == set(levels):
            return entry
    return None


def find_wrong_names(config: Config) -> list[tuple[str, str]]:
    """Find names that no trial may have or that two trials would have; returns paths and messages."""
    problems = [problem for name in config.trials for problem in _check_entry(name)]
    total = sum(len(config.seeds_of(trial)) for trial in config.trials.values())
    if total > MOST_TRIALS:
        return [*problems, ("trials", f"found {total:,} trainings, one for each seed; must be at most {MOST_TRIALS:,}")]
    places = defaultdict(list)
    for name, place in _all_names(config):
        places[name.casefold()].append((name, place))
    for (first, its_place), *others in places.values():
        for name, place in others:
            clash = "it too" if name == first else f"{first!r}, the same on disks that ignore case"
            problems.append((place, f"gives the name {name!r}, and {its_place} gives {clash}; rename one"))
    return problems


def is_taken(config: Config, name: str) -> bool:
    """Tell whether `--force` accepts the name already, or would with a control that is not enabled yet."""
    small = name.casefold()
    entries = {entry.casefold(): settings for entry, settings in config.trials.items()}
    if small in {*RESERVED_NAMES, *entries} or _CONTROL_NAME.match(small):
        return True
    entry, _, seed = small.rpartition("-seed")
    return entry in entries and seed in map(str, config.seeds_of(entries[entry]))


def _check_entry(name: str) -> Iterator[tuple[str, str]]:
    if not NAME.match(name):
        yield "trials", f"found the name {name!r}; must start with a letter or digit, then also . _ + -"
    if len(name) > LONGEST_NAME:
        yield "trials", f"found the name '{name[:20]}…' of {len(name):,} characters; must be at most {LONGEST_NAME}"
    if name.casefold() in RESERVED_NAMES or _CONTROL_NAME.match(name.casefold()):
        yield f"trials.{name}", "the name is raysweep's own; choose another"


def _all_names(config: Config) -> Iterator[tuple[str, str]]:
    """Yield the name of every training, and the place in the config from which it comes."""
    for entry, settings in config.trials.items():
        for seed in config.seeds_of(settings):
            name = trial_name(entry, settings, seed)
            by_seed = "seeds" if settings.seeds is None else f"trials.{entry}.seeds"
            yield name, f"trials.{entry}" if name == entry else by_seed
    for control, copied in planned_controls(config):
        place = f"controls.{control.kind}" + (f" for level {control.level}" if control.level else "")
        yield from ((trial_name(control.name, copied, seed), place) for seed in config.seeds_of(copied))
