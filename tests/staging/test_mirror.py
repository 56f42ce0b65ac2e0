"""The contents of the bucket after each request, and after a kill between any two."""

import json
import random
import shutil
import time

import pytest
from obstore.store import MemoryStore

from raysweep.staging import mirror as mirrors
from raysweep.staging.bucket import Bucket
from raysweep.staging.bucket_address import BucketAddress
from raysweep.staging.mirror import Mirror
from raysweep.staging.mirror_index import MirrorIndex, walk_files
from raysweep.storage.digests import describe_outputs, digest_file
from raysweep.storage.run_files import is_in_checkpoint, is_sealed_record, is_working_file, read_claims
from raysweep.storage.run_folder import RunFolder


class KilledError(Exception):
    """Stands for kill -9."""


class FragileBucket(Bucket):
    """Counts the requests that change something, and dies at one of them."""

    def __init__(self, store):
        super().__init__(BucketAddress(scheme="s3", bucket="memory", prefix="run"), store=store)
        self.left = None
        self.seen = None

    def _change(self):
        if self.seen is not None:
            self.seen()
        if self.left is not None:
            if self.left == 0:
                raise KilledError
            self.left -= 1

    def upload(self, path, source):
        self._change()
        return super().upload(path, source)

    def delete(self, paths):
        paths = list(paths)
        if paths:
            self._change()
        return super().delete(paths)


@pytest.fixture(autouse=True)
def one_at_a_time(monkeypatch):
    """Send one request at a time, so that a kill falls between two known requests."""
    monkeypatch.setattr(mirrors, "in_parallel", lambda work, items: [work(item) for item in sorted(items)])


@pytest.fixture
def folder(tmp_path):
    return RunFolder(tmp_path / "tiny")


def make_mirror(folder, store, name="index"):
    return Mirror(
        bucket=FragileBucket(store),
        root=folder.root,
        index=MirrorIndex.load(folder.root.parent / f"{name}.json"),
    )


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_text(text)
    temporary.replace(path)


def write_run(folder, **stages):
    outputs = {name: {"outputs": describe_outputs(folder.root, paths)} for name, paths in stages.items()}
    write(folder.record, json.dumps({"stages": outputs}))


def write_trial(folder, name, text, state="done"):
    trial = folder.trial(name)
    outputs = describe_outputs(trial.root, trial.outputs) if state == "done" else {}
    write(trial.record, json.dumps({"state": state, "note": text, "outputs": outputs}))


def contents(store):
    bucket = Bucket(BucketAddress(scheme="s3", bucket="memory", prefix="run"), store=store)
    return {path: bucket.read(path)[0] for path in bucket.list()}


def assert_sound(store, tmp_path):
    """Check that every record's files match it, and that every checkpoint with a record is complete."""
    files = contents(store)
    for path, data in files.items():
        if is_sealed_record(path):
            for name, claim in read_claims(path, data).items():
                assert name in files, f"{path} stands for {name}, which is not there"
                (tmp_path / "probe").write_bytes(files[name])
                assert digest_file(tmp_path / "probe") == claim.digest, f"{name} is not as {path} says"
        if path.endswith("/checkpoint.json"):
            assert path.replace("checkpoint.json", "model.safetensors") in files
            step = int(path.split("/")[-2].rpartition("-")[2])
            metrics = files[f"{path.split('/checkpoints')[0]}/metrics.jsonl"].decode().splitlines()
            assert len(metrics) >= step, "the curve is behind the checkpoint"


def save_checkpoint(folder, step, remove=()):
    trial = folder.trial("A1")
    with trial.metrics.open("a") as file:
        file.write("".join("{}\n" for _ in range(10)))
    place = trial.checkpoints / f"step-{step:08d}"
    write(place / "model.safetensors", f"weights {step}")
    write(place / "checkpoint.json", f"{step}")
    for old in remove:
        shutil.rmtree(trial.checkpoints / f"step-{old:08d}")


def story(folder):
    """Do what a run does to its folder, pausing where a push may happen; yield True for an explicit push."""
    write(folder.documents, "documents")
    write_run(folder, prepare=[folder.documents])
    yield True
    write(folder.examples_fingerprint, "first")
    write(folder.examples / "shard-00000.examples", "first shard")
    write(folder.examples / "shard-00000.json", "first")
    write(folder.examples / "shard-00001.examples", "second shard")
    write(folder.examples / "shard-00001.json", "first")
    yield False
    # Settings changed: the same names, other contents, one shard fewer.
    shutil.rmtree(folder.examples)
    write(folder.examples_fingerprint, "second")
    write(folder.examples / "shard-00000.examples", "other shard")
    write(folder.examples / "shard-00000.json", "second")
    write(folder.manifest, "manifest of the second")
    write_run(folder, prepare=[folder.documents], mask=[folder.examples])
    yield True
    trial = folder.trial("A1")
    write_trial(folder, "A1", "began", "running")
    write(trial.metrics, "")
    save_checkpoint(folder, 10)
    yield False
    save_checkpoint(folder, 20)
    save_checkpoint(folder, 30, remove=[10])
    yield False
    write(trial.model / "model.safetensors", "weights of A1")
    write(trial.result, "result")
    shutil.rmtree(trial.checkpoints)
    write_trial(folder, "A1", "done")
    yield False
    write(folder.report_html, "report")
    write_run(folder, prepare=[folder.documents], mask=[folder.examples], report=[folder.report])
    yield True
    write_run(folder, prepare=[folder.documents], mask=[folder.examples])
    yield True
    write(folder.report_html, "another report")
    write_run(folder, prepare=[folder.documents], mask=[folder.examples], report=[folder.report])
    yield True
    # The same, but the thread's push sees only its end.
    write_run(folder, prepare=[folder.documents], mask=[folder.examples])
    write(folder.report_html, "a third report")
    yield False
    write_run(folder, prepare=[folder.documents], mask=[folder.examples], report=[folder.report])
    yield True
    # Forced: trained again.
    trial.clear()
    write_trial(folder, "A1", "began again", "running")
    write(trial.model / "model.safetensors", "new weights of A1")
    write(trial.metrics, "{}\n" * 40)
    write(trial.result, "new result")
    write_trial(folder, "A1", "done again")
    yield True


def changes_of(folder, store):
    """Run the whole story; return the number of changing requests."""
    mirror, count = make_mirror(folder, store), 0

    def seen():
        nonlocal count
        count += 1

    mirror.bucket.seen = seen
    for is_boundary in story(folder):
        mirror.push(everything=is_boundary)
    return count


def test_records_are_pushed_only_after_the_files_they_list(folder, tmp_path):
    """The order of requests is the protocol."""
    store = MemoryStore()
    mirror = make_mirror(folder, store)
    newest = [0]

    def check():
        assert_sound(store, tmp_path)
        steps = [int(path.split("/")[-2][5:]) for path in contents(store) if path.endswith("/checkpoint.json")]
        if "trials/A1/training.json" not in contents(store):
            assert max(steps, default=0) >= newest[0], "the last checkpoint went before the next one came"
            newest[0] = max(steps, default=0)
        else:
            newest[0] = 0

    mirror.bucket.seen = check
    for is_boundary in story(folder):
        mirror.push(everything=is_boundary)
        assert_sound(store, tmp_path)
    files = set(walk_files(folder.root))
    assert set(contents(store)) == files
    assert all(contents(store)[path] == (folder.root / path).read_bytes() for path in files)


def test_a_kill_at_any_request_leaves_a_state_that_both_disks_can_resume(tmp_path):
    """The same disk sends what is missing; another one finds a consistent state, without old files among new ones."""
    total = changes_of(RunFolder(tmp_path / "whole"), MemoryStore())
    assert total > 30
    for fatal in range(total):
        folder, store = RunFolder(tmp_path / f"run-{fatal}"), MemoryStore()
        mirror = make_mirror(folder, store, f"index-{fatal}")
        mirror.bucket.left = fatal
        with pytest.raises(KilledError):
            for is_boundary in story(folder):
                mirror.push(everything=is_boundary)
        assert_sound(store, tmp_path)
        fingerprint = contents(store).get("examples/begun")
        shards = {
            data for path, data in contents(store).items() if path.startswith("examples/shard-0000") and "json" in path
        }
        assert not (fingerprint == b"second" and b"first" in shards), "an old shard among new ones"

        other = RunFolder(tmp_path / f"other-{fatal}")
        make_mirror(other, store, f"other-{fatal}").pull(reset=True)
        assert {path: (other.root / path).read_bytes() for path in walk_files(other.root)} == contents(store)

        again = make_mirror(folder, store, f"index-{fatal}")
        again.pull()
        local = {path: (folder.root / path).read_bytes() for path in walk_files(folder.root)}
        again.push()
        assert contents(store) == {path: data for path, data in local.items() if not is_working_file(path)}


def test_checking_an_unchanged_run_reads_no_record(folder, monkeypatch):
    """A check every two seconds must cost next to nothing; a replaced record is read again."""
    store = MemoryStore()
    mirror = make_mirror(folder, store)
    for is_boundary in story(folder):
        mirror.push(everything=is_boundary)
    assert folder.record.exists()
    read, reader = set(), mirrors.read_claims
    monkeypatch.setattr(mirrors, "read_claims", lambda path, data: read.add(path) or reader(path, data))
    mirror.push()
    assert read == set()
    write(folder.record, folder.record.read_text())
    mirror.push()
    assert read == {folder.record.name}


def test_a_file_deleted_after_a_kill_is_not_restored(folder):
    """Each upload is recorded first; otherwise an old shard would look like another process's and be restored."""
    store = MemoryStore()
    write(folder.examples_fingerprint, "first")
    write(folder.examples / "shard-00000.examples", "first shard")
    write(folder.examples / "shard-00000.json", "first")
    mirror = make_mirror(folder, store)
    mirror.bucket.left = 2
    with pytest.raises(KilledError):
        mirror.push()
    assert "examples/shard-00000.examples" in contents(store)
    shutil.rmtree(folder.examples)
    write(folder.examples_fingerprint, "second")
    again = make_mirror(folder, store)
    again.pull()
    assert set(walk_files(folder.root)) == {"examples/begun"}
    again.push()
    assert contents(store) == {"examples/begun": b"second"}


def test_a_push_without_changes_sends_nothing(folder):
    """A second run costs only a listing."""
    store = MemoryStore()
    changes_of(folder, store)
    mirror = make_mirror(folder, store)
    before = mirror.bucket.traffic.requests
    mirror.push()
    assert mirror.bucket.traffic.requests == before


def test_files_that_differ_from_their_record_are_not_pushed(folder):
    """A damaged report, or one that is being written, is not sent; the bucket's contents stay consistent."""
    store = MemoryStore()
    write(folder.report_html, "report")
    write_run(folder, report=[folder.report])
    mirror = make_mirror(folder, store)
    mirror.push()
    write(folder.report_html, "edited")
    mirror.push()
    assert contents(store)["report/report.html"] == b"report"
    assert mirror.held == ("report/report.html",)
    folder.report_html.unlink()
    mirror.push()
    assert contents(store)["report/report.html"] == b"report"
    write(folder.report_html, "report")
    mirror.push()
    assert mirror.held == ()


@pytest.mark.parametrize(
    "damaged", ["{", "[]", '{"stages": {"report": 3}}', '{"stages": {"report": {"outputs": {"a": {}}}}}']
)
def test_a_damaged_record_is_not_pushed(folder, damaged):
    """The bucket keeps the sound record; a record that is damaged in the bucket is replaced."""
    store = MemoryStore()
    write(folder.report_html, "report")
    write_run(folder, report=[folder.report])
    sound = folder.record.read_bytes()
    mirror = make_mirror(folder, store)
    mirror.push()
    write(folder.record, damaged)
    write(folder.config, "1")
    mirror.push()
    assert contents(store)["run.json"] == sound
    assert contents(store)["config.yaml"] == b"1"
    mirror.bucket.upload("run.json", damaged.encode())
    write(folder.record, sound.decode())
    mirror.push()
    assert contents(store)["run.json"] == sound


def test_growing_files_are_sent_every_twenty_seconds(folder, monkeypatch):
    """But at once before a checkpoint that follows them, and whenever everything is requested."""
    store, trial = MemoryStore(), folder.trial("A1")
    mirror = make_mirror(folder, store)
    for size, everything in ((1, False), (2, False), (3, True), (4, False)):
        write(trial.metrics, "{}\n" * size)
        mirror.push(everything=everything)
        seen = contents(store)["trials/A1/metrics.jsonl"].count(b"\n")
        assert seen == {1: 1, 2: 1, 3: 3, 4: 3}[size]
    monkeypatch.setattr(mirrors, "GROWING_EVERY_S", 0.1)
    time.sleep(0.2)
    mirror.push(everything=False)
    assert contents(store)["trials/A1/metrics.jsonl"].count(b"\n") == 4


def test_temporary_files_are_not_pushed(folder):
    """Locks, Ray's folder, and files being written."""
    store = MemoryStore()
    for path in (
        folder.lock,
        folder.ray / "session.json",
        folder.root / "lease.json",
        folder.root / ".x.1.part",
        folder.config,
    ):
        write(path, "x")
    (folder.root / ".folder.1.part").mkdir()
    write(folder.root / ".folder.1.part" / "inside", "x")
    make_mirror(folder, store).push()
    assert set(contents(store)) == {"config.yaml"}


def test_files_of_other_workers_are_fetched_and_local_changes_kept(folder, tmp_path):
    """A worker sends into the same run; the driver fetches what it lacks."""
    store = MemoryStore()
    mine, theirs = make_mirror(folder, store), make_mirror(RunFolder(tmp_path / "worker"), store, "theirs")
    for name in ("a", "b", "c"):
        write(folder.root / name, "1")
    mine.push()
    theirs.pull(reset=True)
    write(theirs.root / "a", "2")
    write(theirs.root / "new" / "x", "1")
    (theirs.root / "b").unlink()
    theirs.push()
    write(folder.root / "c", "3")
    assert mine.pull() == 2
    assert (folder.root / "a").read_text() == "2"
    assert (folder.root / "new" / "x").read_text() == "1"
    assert not (folder.root / "b").exists()
    assert (folder.root / "c").read_text() == "3"
    mine.push()
    assert contents(store) == {"a": b"2", "c": b"3", "new/x": b"1"}
    # If another disk has been used since, the bucket decides.
    write(folder.root / "a", "local")
    write(folder.root / "deep" / "y", "local")
    mine.pull(reset=True)
    assert {path: (folder.root / path).read_text() for path in walk_files(folder.root)} == {
        "a": "2",
        "c": "3",
        "new/x": "1",
    }
    assert not (folder.root / "deep").exists()


def test_objects_can_be_excluded_and_a_single_folder_requested(folder, tmp_path):
    """Read-only commands need no weights."""
    store = MemoryStore()
    for path in ("trials/A/checkpoints/step-1/model.safetensors", "trials/A/x", "trials/B/x", "y"):
        write(folder.root / path, "1")
    make_mirror(folder, store).push()
    reader = make_mirror(RunFolder(tmp_path / "reader"), store, "reader")
    assert reader.pull(under="trials/A", without=is_in_checkpoint) == 1
    assert set(walk_files(reader.root)) == {"trials/A/x"}
    assert reader.pull(reset=True) == 3
    assert reader.pull(reset=True, without=is_in_checkpoint) == 0
    assert len(set(walk_files(reader.root))) == 4


def test_a_growing_file_is_appended_in_place_for_open_readers(folder, tmp_path):
    """`logs --follow` continues reading the file that it opened."""
    store = MemoryStore()
    mirror = make_mirror(folder, store)
    reader = make_mirror(RunFolder(tmp_path / "reader"), store, "reader")
    reader.appends = True
    write(folder.trial("A").log, "one\n")
    mirror.push()
    reader.pull(reset=True)
    with (reader.root / "trials/A/worker.log").open() as file:
        assert file.read() == "one\n"
        write(folder.trial("A").log, "one\ntwo\n")
        mirror.push()
        reader.pull(reset=True)
        assert file.read() == "two\n"


def test_a_truncated_index_falls_back_to_the_bucket(folder):
    """The index is a cache: without it more is fetched, but nothing is lost."""
    store = MemoryStore()
    write(folder.config, "1")
    mirror = make_mirror(folder, store)
    mirror.push()
    mirror.index.path.write_text("{")
    assert make_mirror(folder, store).index.files == {}
    assert make_mirror(folder, store).pull(reset=True) == 1


@pytest.mark.parametrize("seed", range(20))
def test_files_changed_during_a_push_are_sent_by_a_later_push(folder, seed):
    """Anything may be written, replaced or deleted between two requests; in the end both sides are equal."""
    store, rng = MemoryStore(), random.Random(seed)
    names = [
        f"trials/A/{name}"
        for name in ("metrics.jsonl", "model/w", "training.json", "checkpoints/step-1/checkpoint.json")
    ]

    def disturb():
        path = folder.root / rng.choice(names)
        if rng.random() < 0.3:
            path.unlink(missing_ok=True)
        else:
            write(path, str(rng.random()))

    mirror = make_mirror(folder, store)
    mirror.bucket.seen = disturb
    for _ in range(10):
        disturb()
        mirror.push()
    mirror.bucket.seen = None
    mirror.push()
    mirror.push()
    files = {path: (folder.root / path).read_bytes() for path in walk_files(folder.root)}
    assert contents(store) == files
