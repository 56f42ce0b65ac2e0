"""What the processes of `pytest -n 3` share, and what one of them runs, and first."""

import fcntl
import os
from functools import cache
from pathlib import Path

from xdist.scheduler import LoadScopeScheduling

ROOT = Path(__file__).parents[1]
LONGEST = (
    "ray",
    "tests/pipeline/test_classify_stage.py",
    "tests/staging/test_staged_runs.py",
    "tests/training/test_resume.py",
    "tests/cli/test_init.py",
    "tests/publishing/test_verify.py",
    "tests/pipeline/test_seed_rounds.py",
    "tests/training/test_packed_steps.py",
    "tests/training/test_workers.py",
)
"""Begun first: a long group that begins last leaves the other process with nothing to do."""


def group_of(nodeid):
    """The tests of a file share fixtures; those that start Ray are one group, as a second Ray would crowd it out."""
    file = nodeid.partition("::")[0]
    return "ray" if _starts_ray(file) else file


@cache
def _starts_ray(file):
    return "pytest.mark.ray" in (ROOT / file).read_text(encoding="utf-8")


def rank_of(nodeid):
    """The group's place in `LONGEST`; all others come after those."""
    group = group_of(nodeid)
    return LONGEST.index(group) if group in LONGEST else len(LONGEST)


def made_once(tmp_path_factory, name, make):
    """A folder that `make` fills in the first of pytest's processes that asks for it; the others wait, and read it."""
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder, mark = base / f"shared-{name}", base / f"shared-{name}.made"
    with (base / f"shared-{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not mark.exists():
            make(folder)
            mark.touch()
    return folder


class FilesTogether(LoadScopeScheduling):
    """Sends each group to one process, in the order in which tests are collected.

    pytest-xdist's own `--dist loadgroup` divides groups: it renames tests, which pytest 9.2 does not let it.
    """

    def __init__(self, config, log):
        config.option.loadscopereorder = False
        super().__init__(config, log)

    def _split_scope(self, nodeid):
        return group_of(nodeid)
