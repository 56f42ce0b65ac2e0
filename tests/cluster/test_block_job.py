"""A real Ray processes the blocks of a corpus: which results come back, in which order, and when it is used."""

import csv
import json
import os
import subprocess
import sys
from dataclasses import replace
from functools import partial

import pyarrow as pa
import pytest
import ray

from raysweep.config.data_settings import ColumnsConfig, DataConfig
from raysweep.config.resource_settings import ResourcesConfig
from raysweep.corpus import near_duplicates, preparing, sorted_documents
from raysweep.corpus.preparing import prepare_corpus
from raysweep.corpus.sample import write_sample
from raysweep.errors import InputError, ResourceError
from raysweep.storage.run_folder import RunFolder
from tests.cluster.conftest import ROOT
from tests.cluster.fake_pieces import double, double_and_die_once, double_or_refuse
from tests.sweep_tasks import RecordingListener

pytestmark = [
    pytest.mark.ray,
    pytest.mark.timeout(600),
    # Ray Data warns of its own deprecated fields when it makes its own context.
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.data.context"),
]
NAMES = ("documents", "splits", "leakage", "leaks", "quarantine", "untied_texts")
DATA = DataConfig(columns=ColumnsConfig(learner="learner_id", prompt="prompt_id"), max_bad_fraction=0.1)


def map_by_ray(session, work, fetch, numbers):
    from raysweep.cluster.block_job import map_blocks

    here = ray.get_runtime_context().get_node_id()
    return map_blocks(session, work, fetch, numbers, cpus=2, spared=here)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Make a sample with a bad row in each tenth of it, and a text that many learners wrote."""
    folder = tmp_path_factory.mktemp("corpus")
    write_sample(folder / "sample.csv", rows=300, seed=1, levels=DATA.levels)
    with (folder / "sample.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for row in rows[::30]:
        row["text"] = " "
    for row in rows[1::15]:
        row["text"] = "Thank you."
    with (folder / "corpus.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return folder / "corpus.csv"


@pytest.fixture(scope="module")
def in_threads(corpus, tmp_path_factory):
    folder = RunFolder(tmp_path_factory.mktemp("threads"))
    bad_rows = prepare_corpus(corpus, folder, DATA, seed=0).bad_rows
    assert bad_rows == {"empty text": 10, "the same text as a document of another split": 2}
    return folder


@pytest.mark.parametrize("blocks", [1, 2, 5])
def test_nodes_prepare_the_same_files_as_threads(session, corpus, in_threads, tmp_path, monkeypatch, blocks):
    """Files are equal to the byte, in one job or several, whatever the number of blocks."""
    from raysweep.cluster import block_job

    monkeypatch.setattr(block_job, "_BLOCKS_AT_ONCE", 2)
    for module in (near_duplicates, preparing, sorted_documents):
        monkeypatch.setattr(module, "BLOCK_DOCUMENTS", -(-290 // blocks))
    folder, counts = RunFolder(tmp_path), []

    def map_blocks(work, fetch, numbers):
        counts.append(len(numbers))
        return map_by_ray(session, work, fetch, numbers)

    prepare_corpus(corpus, folder, DATA, seed=0, map_blocks=map_blocks)
    assert counts == [blocks]
    for name in NAMES:
        assert getattr(folder, name).read_bytes() == getattr(in_threads, name).read_bytes(), name
    assert not list(folder.corpus.glob(".*"))


def test_a_job_is_limited_by_bytes_and_by_blocks(session, monkeypatch):
    """Long texts do not fill the object store, and no block is missing or returned twice."""
    from raysweep.cluster import block_job

    jobs, in_order = [], block_job._in_order
    monkeypatch.setattr(block_job, "_in_order", lambda some, outcomes: jobs.append([*some]) or in_order(some, outcomes))
    monkeypatch.setattr(block_job, "_BLOCKS_AT_ONCE", 3)
    monkeypatch.setattr(block_job, "_BYTES_AT_ONCE", 1000)
    results = list(map_by_ray(session, double, lambda number: [number] * (1000 if number == 1 else 1), range(6)))
    assert [set(result) for result in results] == [{0}, {1}, {2}, {3}, {4}, {5}]
    assert jobs == [[0, 1], [2, 3, 4], [5]]


@pytest.mark.slow
def test_blocks_are_sent_to_the_other_node(tmp_path):
    """Ray alone would choose the node that reads the blocks, which has a free CPU."""
    # Do not use what a session of this process has set for Ray: with its loopback address, two nodes cannot connect.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment |= {"PYTHONPATH": ROOT, "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-m", "tests.cluster.blocks_of_two_nodes", str(tmp_path)]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.returncode == 0, done.stderr
    nodes_by_block = json.loads(done.stdout.splitlines()[-1])
    assert nodes_by_block["nodes"] == [1, 1, 2]
    numbers, places = zip(*nodes_by_block["results"], strict=True)
    assert numbers == (0, 1, 2, 3, 4, 5)
    # The head may get one while both CPUs of the other are taken.
    assert places[0] == nodes_by_block["other"]
    assert places.count(nodes_by_block["other"]) >= 4
    assert nodes_by_block["lines"] == ["prepare: texts are looked at through Ray Data, on 1 other node (2 CPUs)"]


def test_an_error_is_raised_at_its_block_with_its_type(session):
    """Earlier results have been returned; a bug comes with the worker's traceback."""
    results, outcomes = [], map_by_ray(session, double_or_refuse, int, range(4))
    with pytest.raises(InputError, match=r"^row 7: found no text$"):
        results.extend(outcomes)
    assert results == [0, -1]
    with pytest.raises(RuntimeError, match=r"(?s)^ZeroDivisionError: .*double_or_refuse"):
        list(map_by_ray(session, double_or_refuse, int, [4]))
    with pytest.raises(OSError, match=r"^no such block$"):
        list(map_by_ray(session, double, no_block, range(4)))


def no_block(number):
    raise OSError("no such block")


def test_a_node_of_another_platform_is_refused(session, tmp_path):
    """It would compute other bytes."""
    from raysweep.cluster.node_check import new_check

    check = replace(new_check(tmp_path), code="0" * 32)
    with pytest.raises(ResourceError, match="its raysweep differs from the run's"):
        list(map_by_ray(replace(session, check=check), double, int, range(2)))


@pytest.mark.slow
def test_a_block_whose_process_is_killed_is_retried(session, tmp_path):
    """The other blocks are not processed again, and the order is the same."""
    work = partial(double_and_die_once, mark=tmp_path / "died")
    assert list(map_by_ray(session, work, int, range(5))) == [0, 2, 4, 6, 8]
    assert (tmp_path / "died").exists()


@pytest.mark.parametrize(
    ("here", "elsewhere", "blocks", "saves"),
    [
        (1, 0, 10_000, False),
        (1, 2, 10_000, False),
        (1, 3, 685, False),
        (1, 3, 686, True),
        (1, 4, 177, False),
        (1, 4, 178, True),
        (1, 8, 84, False),
        (1, 8, 85, True),
        (1, 12, 71, False),
        (1, 12, 72, True),
        (1, 1000, 71, False),
        (2, 1000, 10_000, False),
    ],
)
def test_nodes_are_used_only_if_that_saves_time(here, elsewhere, blocks, saves):
    """A head with one CPU uses them only if its own thread would take twice what sending and sharing cost."""
    from raysweep.cluster.block_job import Nodes

    nodes = Nodes(here="here", cpus_here=here, others=1, cpus_elsewhere=elsewhere)
    assert nodes.save_time(blocks) is saves


def test_the_nodes_of_a_joined_cluster_are_counted(session, tmp_path, monkeypatch):
    """This cluster has one node, so its threads work; without a cluster, no node is asked."""
    from raysweep.cluster import block_job
    from raysweep.cluster.ray_executor import RayExecutor
    from raysweep.readers.cpu_threads import map_blocks_in_threads

    listener, executor = RecordingListener(), RayExecutor(ResourcesConfig(), RunFolder(tmp_path))
    assert executor.block_mapper(listener) is map_blocks_in_threads
    executor._session = session
    assert executor.block_mapper(listener) is map_blocks_in_threads
    executor._session = replace(session, local=None)
    assert list(executor.block_mapper(listener)(double, int, range(3))) == [0, 2, 4]
    nodes = block_job.Nodes.find()
    assert (nodes.others, nodes.cpus_elsewhere) == (0, 0)
    assert nodes.cpus_here == pa.cpu_count()
    assert listener.lines == []
    monkeypatch.setattr(pa, "cpu_count", lambda: 16)
    assert block_job.Nodes.find().cpus_here == 16, "threads, whatever Ray has been told of"
    other_nodes = replace(nodes, cpus_here=1, others=3, cpus_elsewhere=8)
    monkeypatch.setattr(block_job.Nodes, "find", lambda: other_nodes)
    monkeypatch.setattr(block_job, "_START_S", 0.1)
    assert list(executor.block_mapper(listener)(double, int, range(3))) == [0, 2, 4]
    assert listener.lines == ["prepare: texts are looked at through Ray Data, on 3 other nodes (8 CPUs)"]
