"""A fault or a hostile input, the command that meets it, and how that command must end."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

CONFIG = """
default: tiny
profiles:
  tiny:
    data: {levels: [A1, C1], sample: {rows: 40, level_shares: {A1: 1, C1: 1}}}
    masking: {examples_per_document: 1}
    evaluation: {examples_per_document: 1, generation_documents: 0, speed_repeats: 0}
    report: {resamples: 100}
    trials: {A1: {levels: [A1], steps: 2}}
"""
"""experiments.yaml of every case, unless the case writes another."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One row of the suite; see `test_faults`.

    Every command must end within `within_s` seconds of CPU, and three times that by the clock, and print no traceback.
    """

    name: str
    kind: str
    """The file of cases that it stands in: 'storage', 'config', …"""
    make: Callable[[Path], None] = lambda folder: None
    """Makes the fault in the case's own folder, which the command runs in."""
    command: tuple[str, ...]
    """The words after `raysweep`."""
    exit_code: int
    words: tuple[str, ...] = ()
    """Texts that the command must print, each on stdout or stderr."""
    unprinted: tuple[str, ...] = ()
    """Texts that must not be printed: secrets, or more than 80 characters of the input."""
    check: Callable[[Path], None] = lambda folder: None
    """Asserts what holds in the folder afterwards."""
    after: str = ""
    """'prepare' or 'run': a run named 'tiny' that has done this lies in runs/ before `make` is called."""
    variables: Mapping[str, str] = field(default_factory=dict)
    """Environment variables; '{folder}' in a value stands for the case's folder."""
    as_plain_user: bool = False
    """Whether the root user's right to read and write everything is taken away."""
    in_ci: bool = False
    """Whether it is quick and one of the sample that every test run does."""
    within_s: float = 60.0
