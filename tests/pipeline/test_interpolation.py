"""Models between the general and the fine-tuned one: scored when asked for, stale, resumed and published as others."""

import json
import shutil

import pandas as pd
import pytest

from raysweep.errors import ConfigError, DamagedError, InputError
from raysweep.publishing.bundle import write_bundle
from raysweep.publishing.verify import verify_bundle
from raysweep.storage.run_folder import RunFolder
from tests.pipeline.conftest import make_run
from tests.pipeline.test_run import CountingExecutor, again
from tests.pipeline.test_staleness import flip

ASKED = {
    "evaluation": {
        "examples_per_document": 1,
        "generation_documents": 0,
        "speed_repeats": 0,
        "interpolation": [0.25, 0.75],
    }
}
NEW = ["A1", "C1", "all", "all-C1", "all-C1@0.25", "all-C1@0.75"]
"""What is scored beside the test documents: the models on valid ones, then those in between."""


@pytest.fixture(scope="module")
def interpolated_storage(finished_storage, tmp_path_factory):
    """The finished run, configured for interpolation afterwards, with the work then done and the matrix before."""
    storage = tmp_path_factory.mktemp("asked") / "runs"
    shutil.copytree(finished_storage, storage)
    folder, executor = RunFolder(storage / "tiny"), CountingExecutor()
    before = folder.losses.read_bytes()
    assert make_run(storage, ASKED, executor=executor).do() == []
    return folder, executor.work, before


@pytest.fixture
def folder(interpolated_storage, tmp_path):
    """The same in the test's own folder."""
    shutil.copytree(interpolated_storage[0].root.parent, tmp_path / "runs")
    return RunFolder(tmp_path / "runs" / "tiny")


def test_adding_interpolation_scores_no_existing_model_again(interpolated_storage):
    """The matrix keeps its bytes."""
    folder, work, before = interpolated_storage
    assert work == [f"score {name}" for name in NEW]
    assert folder.losses.read_bytes() == before
    assert "Between the general and the fine-tuned model" in folder.report_html.read_text()
    assert {path.name for path in folder.figures.glob("between-*")} == {"between-0.svg", "between-0.pdf"}


def test_a_second_command_scores_no_interpolation_again(folder, tiny_run):
    assert again(tiny_run, changes=ASKED) == []


def test_interpolation_endpoints_equal_the_models_of_the_matrix(interpolated_storage):
    """Their perplexities agree to the last digit."""
    folder, _, _ = interpolated_storage
    evidence = json.loads(folder.evidence.read_text())
    assert [scope["scope"] for scope in evidence["interpolation"]["scopes"]] == ["overall", "C1"]
    cells = {row["name"]: row["cells"]["C1"]["value"] for row in evidence["matrix"]["rows"]}
    perplexities = {score["weight"]: score["perplexity"]["value"] for score in evidence["interpolation"]["scores"]}
    assert (perplexities[0.0], perplexities[1.0]) == (cells["all"], cells["all-C1"])
    assert len({*perplexities.values()}) == 4
    splits = pd.read_parquet(folder.documents)["split"]
    assert {*splits[pd.read_parquet(folder.valid_losses)["document"]]} == {"valid"}
    assert {*splits[pd.read_parquet(folder.interpolated_losses)["document"]]} == {"valid", "test"}


def test_a_bundle_with_interpolation_verifies_and_a_changed_loss_is_detected(folder, tmp_path):
    write_bundle(folder, tmp_path / "evidence.zip")
    assert verify_bundle(tmp_path / "evidence.zip").is_verified
    table = pd.read_parquet(folder.interpolated_losses)
    table["nats"] *= 1.01
    table.to_parquet(folder.interpolated_losses)
    with pytest.raises(InputError, match="does not follow from the run folder"):
        write_bundle(folder, tmp_path / "other.zip")
    table["tokens"] = 0
    table.to_parquet(folder.interpolated_losses)
    with pytest.raises(
        InputError, match=r"losses\.parquet: level C1: no document has tokens of infill; evaluate again"
    ):
        write_bundle(folder, tmp_path / "other.zip")


def test_a_retrained_fine_tune_is_scored_again_with_its_interpolations(folder, tiny_run, tiny_trials):
    changed = {**ASKED, "trials": {**tiny_trials, "all-C1": {**tiny_trials["all-C1"], "learning_rate": 2e-3}}}
    work = again(tiny_run, changes=changed, forced=["all-C1"])
    assert work == ["train all-C1", "score all-C1", "score all-C1", "score all-C1@0.25", "score all-C1@0.75"]


def test_adding_a_weight_scores_only_it_and_removing_all_deletes_the_tables(folder, tiny_run):
    more = {"evaluation": {**ASKED["evaluation"], "interpolation": [0.25, 0.5]}}
    assert again(tiny_run, changes=more) == ["score all-C1@0.5"]
    assert again(tiny_run) == []
    assert not folder.valid_losses.exists()
    assert not folder.interpolated_losses.exists()
    assert json.loads(folder.evidence.read_text())["interpolation"] is None


def test_interrupted_interpolation_scoring_resumes(done_run, tiny_run):
    """Each model is recorded separately."""

    class CutOff(CountingExecutor):
        def score(self, tasks, listener):
            super().score(tasks[:4], listener)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tiny_run(ASKED, executor=CutOff()).do()
    assert again(tiny_run, changes=ASKED) == [f"score {name}" for name in NEW[4:]]


def test_a_damaged_interpolation_table_is_reported(folder, tiny_run):
    flip(folder.cells("all-C1@0.25"))
    with pytest.raises(DamagedError, match=r"all-C1@0\.25\.parquet is damaged .* --force evaluate"):
        tiny_run(ASKED).do()


def test_interpolation_requires_a_fine_tuned_model(tiny_run, tiny_trials):
    alone = {**ASKED, "trials": {name: tiny_trials[name] for name in ("A1", "C1", "all")}}
    with pytest.raises(ConfigError, match=r"evaluation\.interpolation: needs a trial on one level that starts from"):
        tiny_run(alone)
