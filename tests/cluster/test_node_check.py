"""Nodes that see another folder or have another raysweep are named before anything starts, with the fix."""

import re
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from raysweep.cluster import node_check
from raysweep.cluster.node_check import check_nodes, make_probe, new_check
from raysweep.config.resource_settings import ResourcesConfig
from raysweep.errors import ResourceError
from raysweep.scheduling.records import State, read_record
from tests.sweep_tasks import make_task

FIX = "--storage must be a folder that every node has at the same path"


@pytest.fixture
def check(tmp_path):
    return new_check(tmp_path / "nodes")


def test_a_node_with_the_same_folder_and_code_passes(check):
    """Its answer is a file beside the note, which the run reads."""
    assert check.find_problem() == ""
    assert [file.read_text() for file in check.note.parent.iterdir()] == [check.nonce] * 2


def test_nodes_without_a_shared_folder_are_checked_only_for_their_code(check):
    """They fetch what they need themselves, so no file must be visible everywhere."""
    check.note.unlink()
    assert replace(check, note=None).find_problem() == ""
    assert "its raysweep differs from the run's" in of_other_code(replace(check, note=None)).find_problem()


def test_only_the_newest_note_is_kept(check):
    """Every run of the command writes one."""
    again = new_check(check.note.parent)
    assert list(again.note.parent.iterdir()) == [again.note]
    assert again.note.name != check.note.name


def gone(check):
    check.note.unlink()
    return check


def of_another_run(check):
    check.note.write_text("another")
    return check


def under_a_file(check):
    return replace(check, note=check.note / "note")


def of_other_code(check):
    return replace(check, code="0" * 32)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (gone, f"nodes/note-[0-9a-f]{{8}} is not there; {FIX}"),
        (of_another_run, f"nodes/note-[0-9a-f]{{8}} is another file here; {FIX}"),
        (under_a_file, f"nodes/note-[0-9a-f]{{8}}: Not a directory; {FIX}"),
        (
            of_other_code,
            r"its raysweep differs from the run's \(code [0-9a-f]{8}, the run's 00000000\); install the same",
        ),
    ],
)
def test_a_problem_is_reported_with_path_or_code_and_fix(check, change, problem):
    """Otherwise, a file of examples would be missing hours later."""
    assert re.search(problem, change(check).find_problem())


def test_a_node_without_raysweep_is_reported_with_the_install_command(check, monkeypatch):
    """The code that is sent to it does not need raysweep there."""
    monkeypatch.setitem(sys.modules, "raysweep.cluster.node_check", None)
    _, problem = make_probe(check)()
    assert "has not this raysweep (" in problem
    assert "install the same on every node" in problem


@pytest.mark.ray
@pytest.mark.timeout(600)
class TestOnRay:
    """Checks on one node, which is this machine."""

    def test_correct_nodes_pass(self, session, check):
        """Each node has answered."""
        check_nodes(check)
        assert len(list(check.note.parent.iterdir())) == 2

    def test_an_incorrect_node_is_reported_by_name(self, session, check):
        """The message has its host name and the fix."""
        with pytest.raises(ResourceError, match=rf"^node \S+: .* is not there; {FIX}"):
            check_nodes(gone(check))

    def test_a_node_with_another_folder_at_the_same_path_is_reported(self, session, check, monkeypatch):
        """It has a note of its own, as after the folder was copied."""
        monkeypatch.setattr(node_check, "_SEEN_WITHIN_S", 0.0)
        monkeypatch.setattr(node_check, "answer_to", lambda note, host: Path("/nowhere") / host)
        with pytest.raises(ResourceError, match=rf"what it wrote to /nowhere/\S+ is not seen on \S+; {FIX}"):
            check_nodes(check)

    def test_an_unresponsive_node_is_reported(self, session, check, monkeypatch):
        """It is not waited for."""
        monkeypatch.setattr(node_check, "_TIMEOUT_S", 0.0)
        monkeypatch.setattr(node_check.ray, "get", refuse_to_wait)
        with pytest.raises(ResourceError, match=r"^node \S+: did not answer within 0 s"):
            check_nodes(check)

    def test_lost_nodes_are_listed_and_the_rest_counted(self, session, check, monkeypatch):
        """A hundred nodes with one mistake must not fill the terminal."""
        nodes = [{"Alive": True, "NodeID": f"{n:056x}", "NodeManagerHostname": f"n{n}"} for n in range(1, 8)]
        monkeypatch.setattr(node_check.ray, "nodes", lambda: nodes)
        with pytest.raises(ResourceError, match=r"(?s)^node n1: could not be checked: .*node n5: .*and 2 more nodes$"):
            check_nodes(check)

    def test_work_on_an_incorrect_node_fails_with_its_name(self, session, check, run, listener):
        """The autoscaler's nodes join after the run has begun."""
        from raysweep.cluster.scorers import Scorers
        from raysweep.cluster.sweep import run_sweep

        late = replace(session, check=of_other_code(check))
        run_sweep(late, [make_task(run, "late")], listener, storage=run.ray, train="tests.cluster.fake_trainings:train")
        record = read_record(run.trial("late"))
        assert record.state is State.FAILED
        assert "its raysweep differs from the run's" in record.reason
        with (
            closing(Scorers(late)) as scorers,
            pytest.raises(ResourceError, match=r"^model 'A1': node \S+: its raysweep"),
        ):
            scorers.score([score_task(run)], listener)


def refuse_to_wait(task, timeout):
    from ray.exceptions import GetTimeoutError

    raise GetTimeoutError


def score_task(run):
    from raysweep.config.evaluation_settings import EvaluationConfig
    from raysweep.pipeline.tasks import ScoreTask

    return ScoreTask(
        model="A1",
        start=str(run.trial("A1").model),
        job=make_task(run, "A1").job,
        examples=run.examples,
        documents=run.documents,
        levels=("A1",),
        evaluation=EvaluationConfig(),
        seed=0,
        out=run.cells("A1"),
        record=run.cells_record("A1"),
    )


@pytest.mark.parametrize(
    ("address", "variable", "joins"),
    [
        (None, None, None),
        (None, "10.0.0.1:6379", "10.0.0.1:6379"),
        ("auto", "10.0.0.1:6379", "auto"),
        ("local", "10.0.0.1:6379", None),
    ],
)
def test_a_ray_job_joins_its_own_cluster(address, variable, joins, monkeypatch):
    """Ray gives its jobs the address; a Ray of their own on the head would use no worker."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if variable:
        monkeypatch.setenv("RAY_ADDRESS", variable)
    assert ResourcesConfig(address=address).cluster_address == joins
