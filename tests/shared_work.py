"""What `pytest -n 3` runs in one process, and first."""

from functools import cache
from pathlib import Path

from xdist.scheduler import LoadScopeScheduling

ROOT = Path(__file__).parents[1]
LONGEST = ("ray", "tests/cli/test_init.py", "tests/publishing/test_verify.py", "tests/staging/test_staged_runs.py")
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


class FilesTogether(LoadScopeScheduling):
    """Sends each group to one process, in the order in which tests are collected.

    pytest-xdist's own `--dist loadgroup` divides groups: it renames tests, which pytest 9.2 does not let it.
    """

    def __init__(self, config, log):
        config.option.loadscopereorder = False
        super().__init__(config, log)

    def _split_scope(self, nodeid):
        return group_of(nodeid)
