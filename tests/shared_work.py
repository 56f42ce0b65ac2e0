"""What `pytest -n 2` runs in one process, and first."""

from xdist.scheduler import LoadScopeScheduling

LONGEST = ("cluster", "tests/cli/test_init.py", "tests/publishing/test_verify.py", "tests/staging/test_staged_runs.py")
"""Begun first: a long group that begins last leaves the other process with nothing to do."""


def group_of(nodeid):
    """The tests of a file share fixtures; those of tests/cluster, a Ray, whose processes would crowd out a second."""
    file = nodeid.partition("::")[0]
    return "cluster" if file.startswith("tests/cluster/") else file


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
