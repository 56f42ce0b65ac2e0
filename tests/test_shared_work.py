"""Two processes share the tests by files, the longest first."""

from types import SimpleNamespace

import pytest

from tests.shared_work import LONGEST, FilesTogether, group_of, made_once, rank_of


class Process:
    """What the scheduler sees of one of pytest-xdist's processes."""

    shutting_down = False

    def __init__(self, name):
        self.gateway = SimpleNamespace(id=name)
        self.sent, self.done = [], []

    def send_runtest_some(self, indices):
        self.sent += indices

    def next(self):
        self.done.append(self.sent.pop(0))
        return self.done[-1]

    def shutdown(self):
        self.shutting_down = True


def test_tests_of_a_file_share_a_process_and_so_do_all_that_start_ray():
    """They were divided: each process made every module's fixtures, and two Rays crowded each other out."""
    ray, others = (
        ["tests/cluster/test_sweep.py", "tests/cluster/test_interrupt.py"],
        ["tests/test_house.py", "tests/cluster/test_kuberay.py"],
    )
    files = [ray[0], others[0], ray[1], others[1]]
    collected = [f"{file}::test_{number}[a@b]" for number in range(4) for file in files]
    collected.sort(key=rank_of)
    options = SimpleNamespace(tx=["popen"] * 2, loadscopereorder=True)
    config = SimpleNamespace(option=options, getvalue=lambda name: getattr(options, name))
    scheduler = FilesTogether(config, SimpleNamespace(loadscopesched=print))
    processes = [Process("gw0"), Process("gw1")]
    for process in processes:
        scheduler.add_node(process)
        scheduler.add_node_collection(process, collected)
    scheduler.schedule()
    while scheduler.has_pending:
        for process in processes:
            scheduler.mark_test_complete(process, process.next())
    groups = [list(dict.fromkeys(group_of(collected[index]) for index in process.done)) for process in processes]
    assert groups == [["ray"], others]
    assert sum(len(process.done) for process in processes) == len(collected)


def test_a_shared_resource_is_made_by_the_first_process_alone(tmp_path, monkeypatch):
    """One that fails leaves it to the next, which sees what is there."""
    monkeypatch.setenv("PYTEST_XDIST_WORKER", "gw1")
    factories = [SimpleNamespace(getbasetemp=lambda name=name: tmp_path / name) for name in ("gw0", "gw1")]
    made = []

    def make(folder):
        folder.mkdir(exist_ok=True)
        made.append(folder)
        if len(made) == 1:
            raise ValueError("no luck")

    with pytest.raises(ValueError, match="no luck"):
        made_once(factories[0], "run", make)
    folders = [made_once(factory, "run", make) for factory in factories]
    assert made == [tmp_path / "shared-run"] * 2
    assert folders == made


def test_longest_lists_existing_groups(request):
    """A renamed file would silently come last."""
    root = request.config.rootpath
    assert [name for name in LONGEST if name != "ray" and not (root / name).exists()] == []
