"""What is made again when something it rests on has changed, and what is refused when a file is damaged: a table."""

import random
from dataclasses import replace

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from raysweep.cli.app import app
from raysweep.config.loading import read_resolved_config
from raysweep.errors import ChangedError, ConfigError, DamagedError, EarlierVersionError, InputError
from raysweep.pipeline import identities
from raysweep.pipeline.file_check import check_files
from raysweep.pipeline.run_record import read_run
from raysweep.scheduling.records import read_record, write_record
from raysweep.storage.atomic_files import read_json
from raysweep.storage.digests import read_sealed
from raysweep.storage.run_folder import RunFolder
from tests.pipeline.conftest import TINY
from tests.pipeline.test_run import CountingExecutor, again


def flip(path, bit=4):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1 << bit
    path.write_bytes(data)


@pytest.fixture
def folder(done_run):
    return done_run.folder


def when(folder):
    """Return the time at which the report was last written."""
    return read_run(folder).stages["report"].ended_at


FILES = {
    "corpus/documents.parquet": "prepare",
    "corpus/splits.json": "prepare",
    "examples/manifest.json": "mask",
    "examples/shard-00001.examples": "mask",
    "trials/A1/model/model.safetensors": "A1",
    "trials/all/metrics.jsonl": "all",
    "evaluation/cells/A1.parquet": "evaluate",
    "evaluation/losses.parquet": "evaluate",
    "report/evidence.json": "report",
}


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_is_reported_with_the_command_that_repairs_it(folder, tiny_run, name):
    """Nothing is done before that, since no stage reads the file."""
    flip(folder.root / name)
    executor = CountingExecutor()
    with pytest.raises(DamagedError) as caught:
        tiny_run(executor=executor).do()
    assert caught.value.exit_code == 2
    assert str(caught.value) == (
        f"{folder.root / name} is damaged (its digest differs); make it again with `raysweep run --force {FILES[name]}`"
    )
    assert executor.work == []


@pytest.mark.parametrize(("name", "force"), [("trials/A1/trial.json", "A1"), ("evaluation/cells/A1.json", "evaluate")])
def test_a_damaged_record_is_reported_with_a_command_that_repairs_it(folder, tiny_run, name, force):
    """A record notices damage to itself; with --force it need not be readable."""
    flip(folder.root / name)
    with pytest.raises(DamagedError, match=f"--force {force}"):
        tiny_run().do()
    assert again(tiny_run, forced=[force])
    assert again(tiny_run) == []


@pytest.mark.parametrize("name", ["corpus/documents.parquet", "examples/shard-00000.examples", "trials/C1/model"])
def test_a_deleted_file_of_an_expensive_target_is_reported(folder, tiny_run, name):
    """It is not silently skipped with exit code 0."""
    path = folder.root / name
    (path / "config.json" if path.is_dir() else path).unlink()
    with pytest.raises(DamagedError, match=r"is missing; make it again with `raysweep run --force"):
        tiny_run().do()


@pytest.mark.parametrize(
    ("name", "work"),
    [("evaluation/cells/A1.parquet", ["score A1"]), ("evaluation/matrix.csv", []), ("report/report.html", [])],
)
def test_deleted_scores_and_reports_are_remade(folder, tiny_run, name, work):
    """They are made again without asking, as if their settings had changed."""
    before = (folder.root / name).read_bytes()
    (folder.root / name).unlink()
    assert again(tiny_run) == work
    assert (folder.root / name).read_bytes() == before


@pytest.mark.parametrize("content", ["{}", "[]", '{"total": {"useful": 1e9}, "unit": "gpu"}', None])
def test_a_ledger_that_was_edited_or_lost_is_restored(folder, tiny_run, content):
    """It follows from what the trainings recorded, so no figure of the report rests on an edited one."""
    before = folder.ledger.read_bytes(), folder.evidence.read_bytes()
    folder.ledger.unlink() if content is None else folder.ledger.write_text(content)
    assert again(tiny_run) == []
    assert (folder.ledger.read_bytes(), folder.evidence.read_bytes()) == before
    written = when(folder)
    assert again(tiny_run) == []
    assert when(folder) == written


def test_an_edited_plan_is_named_and_one_of_an_earlier_version_left_out(folder, tiny_run):
    """The report compares it with what the run took, so one digit counts."""
    text = folder.plan.read_text()
    folder.plan.write_text(text.replace('"expected_s": ', '"expected_s": 9', 1))
    with pytest.raises(DamagedError, match=r"plan.json: is damaged or was edited .*; delete it and run again"):
        tiny_run().do()
    folder.plan.write_text("{}\n")
    assert again(tiny_run) == []
    assert read_json(folder.evidence)["costs"]["plan"] is None


def test_a_damaged_model_is_neither_scored_nor_reported(folder, tiny_run):
    """A stage that runs alone checks everything that it rests on."""
    flip(folder.trial("A1").model / "model.safetensors")
    for stage in ("evaluate", "report"):
        with pytest.raises(DamagedError, match="--force A1"):
            tiny_run(forced=[stage]).do(stage)


def test_scoring_again_rewrites_the_report(folder, tiny_run):
    """The page shows its times."""
    before = when(folder)
    assert {work.split()[0] for work in again(tiny_run, forced=["evaluate"])} == {"score"}
    assert when(folder) > before


def test_changed_code_rewrites_only_the_report(folder, tiny_run, monkeypatch):
    """That takes seconds; costly targets are made again only if their version constant says results would differ."""
    before = when(folder)
    monkeypatch.setattr(identities, "digest_code", lambda: "that of an edited section")
    run = tiny_run()
    assert run.do() == []
    assert "report: its code changed since it was made, so it is made again" in run.listener.lines
    assert when(folder) > before


def test_a_trial_retrained_to_other_weights_is_scored_and_reported_again(folder, tiny_run, monkeypatch):
    """Even though no setting changed: the start's weights may have."""
    from raysweep.training import loop

    before, train = when(folder), loop.train
    monkeypatch.setattr(loop, "train", lambda job, **how: train(_with_seed(job, 7), **how))
    assert again(tiny_run, forced=["A1"]) == ["train A1", "score A1"]
    assert when(folder) > before


def _with_seed(job, seed):
    from dataclasses import replace

    return replace(job, seed=seed)


def test_examples_remade_from_other_documents_retrain_everything(folder, tiny_run):
    """`--force prepare` alone leaves examples made from other documents; the next run says so and continues."""
    other = {"data": {**tiny_run().config.data.model_dump(), "split": {"train": 0.6, "valid": 0.2, "test": 0.2}}}
    tiny_run(other, forced=["prepare"]).do("prepare")
    with pytest.raises(
        ConfigError, match=r"rests on stage 'mask', .*: its documents changed.*; do `raysweep mask` first"
    ):
        tiny_run(other).do("train")
    run = tiny_run(other)
    assert run.do() == []
    lines = run.listener.lines
    assert "mask: its documents changed since it was made, so it is made again" in lines
    assert "A1: its examples changed since it was made, so it is made again" in lines


def test_remade_targets_with_equal_content_keep_their_dependants(folder, tiny_run):
    """Content decides: equal documents and examples, made again, cost no training."""
    assert again(tiny_run, forced=["prepare", "mask"]) == ["mask 0", "mask 1"]


def test_a_child_started_from_another_parent_restarts(folder, tiny_run):
    """Its record identifies its parent by content."""
    record = read_record(folder.trial("all-C1"))
    assert record.made_from["parent"] == read_record(folder.trial("all")).model_digest
    scores = read_sealed(folder.cells_record("all-C1"), fix="")
    assert scores["made_from"]["model"] == record.model_digest


@pytest.mark.parametrize("stages", [["report"], ["evaluate"], []])
def test_a_report_with_settings_that_were_not_trained_is_refused(folder, tiny_run, stages):
    """`report --set training.learning_rate=…` is refused, and the folder is unchanged."""
    before = folder.config.read_text()
    changes = {"training": {**tiny_run().config.training.model_dump(), "learning_rate": 0.5}}
    with pytest.raises(ChangedError, match=r"learning_rate: 0\.001 → 0\.5"):
        tiny_run(changes, forced=["report"]).do(*stages)
    assert folder.config.read_text() == before


def test_check_run_reports_changed_missing_and_unrecorded_files(folder):
    """`raysweep check-run` finds changed, missing and unrecorded files."""
    states = {file.path: file.state for file in check_files(folder)}
    assert set(states.values()) == {"ok", "other"}
    flip(folder.losses)
    flip(folder.trial("C1").record)
    flip(folder.cells_record("start"))
    folder.report_html.unlink()
    bad = {file.path: file.state for file in check_files(folder) if file.is_bad}
    assert bad == {
        "evaluation/losses.parquet": "changed",
        "trials/C1/trial.json": "changed",
        "evaluation/cells/start.json": "changed",
        "report/report.html": "missing",
    }


def test_swapped_trial_folders_are_reported(folder):
    """Every file has its digest, but `run` would refuse the trials: each folder holds the other's model."""
    first, second = folder.trial("A1").root, folder.trial("C1").root
    first.rename(folder.trials / "aside")
    second.rename(first)
    (folder.trials / "aside").rename(second)
    bad = {file.path: file.detail for file in check_files(folder) if file.is_bad}
    assert bad == {
        "trials/A1/trial.json": "is the record of trial 'C1'",
        "trials/C1/trial.json": "is the record of trial 'A1'",
    }


def test_a_trial_record_copied_from_another_run_is_reported(folder):
    """A trial's folder was copied from a run with other settings."""
    record = read_record(folder.trial("A1"))
    write_record(folder.trial("A1"), replace(record, identity={**record.identity, "steps": 5}))
    bad = {file.path: file.detail for file in check_files(folder) if file.is_bad}
    steps = read_resolved_config(folder).trials["A1"].steps
    assert bad == {"trials/A1/trial.json": f"was trained with other settings than config.yaml has (steps: 5 → {steps})"}


@pytest.mark.parametrize("name", ["trials/A1/model/model.safetensors", "evaluation/matrix.csv"])
def test_a_run_with_a_damaged_file_is_not_bundled(folder, tmp_path, name):
    """Neither a model nor its scores are in a bundle, but its report rests on them."""
    flip(folder.root / name)
    out = tmp_path / "evidence.zip"
    words = ["bundle", "--name", folder.name, "--storage", str(folder.root.parent), "--out", str(out)]
    done = CliRunner().invoke(app, words)
    assert isinstance(done.exception, DamagedError)
    assert f"{folder.root / name}: is damaged (its digest differs) (changed files: 1)" in str(done.exception)
    assert not out.exists()


def test_checking_a_run_that_does_not_exist_is_refused(tmp_path):
    """A typing error must not look like a sound run."""
    with pytest.raises(InputError, match="there is no such run"):
        check_files(RunFolder(tmp_path / "pilto"))


def test_every_parquet_file_has_page_checksums(folder):
    """A second safeguard beside the records' digests, for readers of a table without raysweep."""
    tables = [path for path in sorted(folder.root.rglob("*.parquet")) if pq.read_metadata(path).num_rows]
    assert {path.name for path in tables} >= {"documents.parquet", "losses.parquet", "A1.parquet"}
    for path in tables:
        column = pq.read_metadata(path).row_group(0).column(0)
        first = column.dictionary_page_offset or column.data_page_offset
        data = bytearray(path.read_bytes())
        data[first + column.total_compressed_size - 1] ^= 1
        path.write_bytes(data)
        with pytest.raises(OSError, match="CRC checksum verification failed"):
            pq.read_table(path, page_checksum_verification=True)


@pytest.mark.slow
def test_forcing_everything_equals_a_fresh_run_byte_for_byte(done_run, tiny_run, tmp_path):
    """Covers models, losses and tables; records and the report contain times."""
    kept = {path: path.read_bytes() for path in _results(done_run.folder)}
    assert again(tiny_run, forced=["prepare", "mask", "train", "evaluate", "report", *done_run.trials])
    assert {path: path.read_bytes() for path in _results(done_run.folder)} == kept


def _results(folder):
    names = ("*.parquet", "*.examples", "model/*", "metrics.jsonl", "matrix.csv", "splits.json", "leakage.json")
    return [path for name in names for path in sorted(folder.root.rglob(name)) if path.is_file()]


@pytest.mark.slow
@pytest.mark.parametrize("name", [*FILES, "trials/A1/trial.json", "run.json"])
def test_two_hundred_bit_flips_of_every_kind_of_file_are_reported(folder, tiny_run, name):
    """Whichever bit is flipped."""
    path, flips = folder.root / name, random.Random(name)
    whole = path.read_bytes()
    for _ in range(200):
        data = bytearray(whole)
        data[flips.randrange(len(data))] ^= 1 << flips.randrange(8)
        path.write_bytes(data)
        executor = CountingExecutor()
        with pytest.raises((DamagedError, EarlierVersionError), match=path.name):
            tiny_run(executor=executor).do()
        assert executor.work == []


OTHER = {
    "config.yaml": "settings of the run",
    "run.lock": "lock",
    "corpus/ilm/all/train.txt": "texts for the original ILM code",
    "ray/tune/searcher.pkl": "working files of Ray",
    "trials/all/worker.log": "log",
    "trials/all/events.out.tfevents.1.host.2": "curves for TensorBoard",
    "trials/all/checkpoints/step-4/checkpoint.json": "checkpoint",
    "trials/new/metrics.jsonl": "of a training that is not done",
    "trials/new/model/model.safetensors": "of a training that is not done",
    "trials/new/samples/00/worker.log": "log",
    "trials/new/samples/00/rungs.json": "losses of a search",
}
UNKNOWN = ["notes.txt", "corpus/copy.csv", "trials/all/model.bak", "events.out.tfevents.1", "report/tables/mine.csv"]


def test_unrecorded_files_are_listed_by_name(folder):
    """Nothing in an ordinary run is unknown; a file that the user put there is."""
    for path in [*OTHER, *UNKNOWN]:
        (folder.root / path).parent.mkdir(parents=True, exist_ok=True)
        (folder.root / path).touch()
    files = {file.path: file for file in check_files(folder)}
    assert {path: files[path].detail for path in OTHER} == OTHER
    assert [path for path, file in files.items() if file.state == "unknown"] == sorted(UNKNOWN)


def test_nothing_of_a_new_run_is_reported_as_remade(tiny_run):
    """ILM's text files are made on request, also later, and deleted when no longer requested."""
    run = tiny_run()
    run.do("prepare")
    assert not any("made again" in line for line in run.listener.lines)
    asked = {"data": {**TINY["data"], "export_ilm": True}}
    tiny_run(asked).do("prepare")
    assert run.folder.ilm_texts.is_dir()
    tiny_run(forced=["prepare"]).do("prepare")
    assert not run.folder.ilm_texts.exists()
