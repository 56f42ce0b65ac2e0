"""`raysweep score` with models in a bucket, workers with their own disks, and a table in a bucket."""

import errno
import json

import pandas as pd
import pytest
from typer.testing import CliRunner

from raysweep.cli import score_output
from raysweep.cli.app import app
from raysweep.cluster.staged_tasks import score_staged_part
from raysweep.errors import DamagedError, StorageError
from raysweep.inference import text_parts
from raysweep.inference.level_classifier import model_digest_of
from raysweep.pipeline import text_scoring
from raysweep.pipeline.inline_executor import InlineExecutor
from raysweep.staging import worker_place
from raysweep.staging.bucket import Bucket
from raysweep.staging.bucket_address import parse_bucket_uri
from raysweep.staging.run_staging import ReadStorage
from raysweep.staging.run_view import fetched
from raysweep.staging.worker_place import find_bucket_problem
from raysweep.storage.run_folder import RunFolder
from tests.one_thread import one_thread as one_thread
from tests.staging.elsewhere import on_disk

PARTS = 6


@pytest.fixture
def stored(uri, finished_storage):
    """The finished run in the bucket; returns its objects."""
    bucket = Bucket(parse_bucket_uri(uri))
    for path in (finished_storage / "tiny").rglob("*"):
        if path.is_file():
            bucket.upload(path.relative_to(finished_storage).as_posix(), path)
    return bucket


@pytest.fixture
def texts(tmp_path, monkeypatch):
    """Five texts in three parts."""
    monkeypatch.setattr(text_scoring, "PART_TEXTS", 2)
    path = tmp_path / "texts.csv"
    path.write_text("text\nI like apples.\nI go to school.\nx\nHe goes home.\nWe are here.\n")
    return path


@pytest.fixture
def score(texts, monkeypatch, tmp_path):
    """Run the command on its own disk."""

    def run(storage, out, *more, disk="here"):
        monkeypatch.setenv("RAYSWEEP_STAGING", str(tmp_path / disk))
        words = ["score", texts, "--name", "tiny", "--storage", storage, "--out", out, "--inline", "--tokens"]
        result = CliRunner().invoke(app, [str(word) for word in (*words, "--model", "start", "--model", "A1", *more)])
        if result.exception is not None:
            raise result.exception
        return result.output

    return run


class KilledError(BaseException):
    """Stands for a machine that is gone: nothing in the code catches it."""


class ElsewhereParts(InlineExecutor):
    """Scores parts on another disk; dies after some of them."""

    disk, scored, lives = None, [], PARTS

    def __init__(self, *_, staging, **__):
        super().__init__()
        self._ticket = staging.ticket

    def score_texts(self, tasks, listener):
        for task in tasks:
            if len(self.scored) == self.lives:
                raise KilledError
            with on_disk(self.disk):
                function = "raysweep.inference.text_parts:score_part"
                scores = score_staged_part(function, task.read(), None, self._ticket, device="cpu")
            if isinstance(scores, Exception):
                raise scores
            self.scored.append(task.out.name)
            yield task, task.write(scores)


@pytest.fixture
def elsewhere(monkeypatch, tmp_path):
    """The workers of the command."""
    monkeypatch.setattr(ElsewhereParts, "disk", tmp_path / "worker")
    monkeypatch.setattr(ElsewhereParts, "scored", [])
    monkeypatch.setattr("raysweep.cluster.ray_executor.RayExecutor", lambda *a, **k: ElsewhereParts(*a, **k))
    monkeypatch.setattr(score_output, "InlineExecutor", lambda *_: pytest.fail("the command works in its own process"))
    return ElsewhereParts


@pytest.fixture
def alone(score, finished_storage, tmp_path):
    """The tables of the same texts, scored on a path."""
    score(finished_storage, tmp_path / "alone.parquet")
    return tmp_path / "alone.parquet", tmp_path / "alone.tokens.parquet"


def objects(stored, under="out/"):
    return {path for path in stored.list() if path.startswith(under)}


def test_a_score_table_in_a_bucket_equals_a_local_one_and_is_made_once(score, uri, stored, alone, gate):
    """To the byte; from another machine too, the second command does nothing, and reads no model."""
    out = f"{uri}/out/scores.parquet"
    messages = score(uri, out)
    assert f"{uri}/out/scores.tokens.parquet: 5 texts under start, A1" in messages
    for name, path in zip(("scores.parquet", "scores.tokens.parquet"), alone, strict=True):
        assert stored.read(f"out/{name}")[0] == path.read_bytes()
    left = ("scores.parquet", "scores.parquet.json", "scores.tokens.parquet", "scores.parquet.parts/lease.json")
    assert objects(stored) == {f"out/{name}" for name in left}
    for disk in ("here", "other"):
        gate.requests.clear()
        assert f"{out}: is up to date, 5 texts under 2 models" in score(uri, out, disk=disk)
        assert gate.count("PUT") == 0
    stored.upload("out/scores.parquet", b"damaged")
    with pytest.raises(score_output.ConfigError, match=r"--out: s3://.*/out/scores\.parquet is there already"):
        score(uri, out, disk="third")
    score(uri, out, "--force", disk="third")
    assert stored.read("out/scores.parquet")[0] == alone[0].read_bytes()


@pytest.fixture
def score_elsewhere(score, elsewhere, monkeypatch):
    """The command as on a cluster whose workers have their own disks."""
    run = score_output.score_texts
    monkeypatch.setattr(score_output, "score_texts", lambda *a, inline, **k: run(*a, inline=False, **k))
    return score


def test_another_machine_resumes_scoring_from_the_parts_in_the_bucket(alone, score_elsewhere, elsewhere, uri, stored):
    """The head is lost after four of six parts: a new one with an empty disk scores the rest."""
    out, elsewhere.lives = f"{uri}/out/scores.parquet", 4
    with pytest.raises(KilledError):
        score_elsewhere(uri, out)
    assert not {path for path in objects(stored) if "text" in path}, "learners' texts stay on the disk"
    # The state after a kill between two uploads: the sums of a part, without its tokens.
    stored.delete(["out/scores.parquet.parts/A1-00000.tokens.parquet"])
    elsewhere.lives, elsewhere.scored[:] = PARTS, []
    assert "score: 5 of 10 scores are there already" in score_elsewhere(uri, out, disk="new")
    assert sorted(elsewhere.scored) == ["A1-00000.parquet", "A1-00001.parquet", "A1-00002.parquet"]
    for name, path in zip(("scores.parquet", "scores.tokens.parquet"), alone, strict=True):
        assert stored.read(f"out/{name}")[0] == path.read_bytes()


def test_parts_of_other_texts_in_the_bucket_are_not_reused(score_elsewhere, elsewhere, uri, stored, texts):
    """Even if the machine that began with the new texts was lost before it had scored one."""
    out = f"{uri}/out/scores.csv"
    for lives, content in ((4, texts.read_text()), (0, "text\nThey went.\n")):
        texts.write_text(content)
        elsewhere.lives, elsewhere.scored[:] = lives, []
        with pytest.raises(KilledError):
            score_elsewhere(uri, out, disk=f"disk {lives}")
    assert objects(stored) == {"out/scores.csv.parts/begun", "out/scores.csv.parts/lease.json"}
    elsewhere.lives, elsewhere.scored[:] = PARTS, []
    score_elsewhere(uri, out, disk="new")
    assert elsewhere.scored == ["start-00000.parquet", "A1-00000.parquet"]
    assert len(stored.read("out/scores.csv")[0].splitlines()) == 2


def test_score_workers_only_read_the_run(uri, stored, gate, tmp_path, finished_storage, monkeypatch):
    """They fetch the current model and its records, write nothing, and use no damaged weights."""
    texts = tmp_path / "texts.parquet"
    pd.DataFrame({"writing_id": ["a"], "text": ["I like apples."]}).to_parquet(texts)
    with fetched(parse_bucket_uri(uri), "tiny", "no checkpoints") as root:
        storage = ReadStorage.of(parse_bucket_uri(uri), root)
        storage.push()
        storage.collect(root)
        fields = {"model": "A1", "model_digest": model_digest_of(RunFolder(root), "A1")}
        task = text_scoring.TextTask(run=root, **fields, texts=texts, out=tmp_path / "o", tokens_out=None)

        def scored_on(disk):
            with on_disk(tmp_path / disk):
                function = "raysweep.inference.text_parts:score_part"
                return score_staged_part(function, task.read(), None, storage.ticket, device="cpu")

        gate.requests.clear()
        with on_disk(tmp_path / "worker"):
            assert find_bucket_problem(storage.ticket) == ""
        scores = scored_on("worker")
        assert {method for method, _, _ in gate.requests} <= {"GET", "HEAD"}
        alone = text_parts.score_part(
            run=finished_storage / "tiny", **fields, texts=texts.read_bytes(), with_tokens=False, device="cpu"
        )
        assert (scores.texts, scores.sums, scores.tokens) == (1, alone.sums, None)
        with monkeypatch.context() as full:
            full.setattr(Bucket, "download", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left")))
            refused = scored_on("full disk")
            assert isinstance(refused, StorageError)
            assert "full disk/" in str(refused)
            assert "No space left; make room there, or end the node, and the same command goes on" in str(refused)
        # Trained again since, and then damaged.
        monkeypatch.setattr(worker_place, "_WAIT_S", 0.0)
        record = json.loads(stored.read("tiny/trials/A1/trial.json")[0])
        assert [name for name in record["outputs"] if name.endswith("model.safetensors")]
        stored.upload("tiny/trials/A1/model/model.safetensors", b"damaged")
        damaged = scored_on("other worker")
        assert isinstance(damaged, DamagedError)
        assert "is not as trials/A1/trial.json says" in str(damaged)
        stored.delete(["tiny/run.json"])
        with on_disk(tmp_path / "worker"):
            assert "holds no run here" in find_bucket_problem(storage.ticket)
