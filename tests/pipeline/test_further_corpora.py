"""Further corpora: read as the run's own, kept apart from what the models know, scored, stale, published."""

import csv
import io
import json
import os
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import raysweep
from raysweep.config.loading import parse_config
from raysweep.corpus.sample import write_sample
from raysweep.errors import ConfigError, DamagedError, InputError
from raysweep.pipeline.file_check import check_files
from raysweep.pipeline.status import describe_corpora
from raysweep.planning.forecast import SCORED_MODEL_S, forecast_stages
from raysweep.planning.rates import assumed_rates
from raysweep.planning.run_forecast import data_size, forecast_run
from raysweep.publishing.bundle import write_bundle
from raysweep.publishing.verify import verify_bundle
from raysweep.scheduling.records import read_record, write_record
from raysweep.storage.digests import read_sealed
from raysweep.storage.run_folder import RunFolder
from tests.pipeline.conftest import TINY, make_run
from tests.pipeline.test_run import CountingExecutor, again
from tests.pipeline.test_staleness import flip

SHARED = Path(os.environ.get("RAYSWEEP_SHARED", Path(__file__).parents[2] / ".." / "shared"))
MODELS = ["start", "A1", "C1", "all", "all-C1"]


def write_corpus(path, known, *, rows=40, without=()):
    """A CSV with other columns: sample texts of another seed, one text of the run's train split, and one C2 text."""
    write_sample(path.with_suffix(".sample"), rows=rows, seed=9, level_shares={"A1": 1, "C1": 1}, levels=("A1", "C1"))
    texts = pd.read_csv(path.with_suffix(".sample"))
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["essay_id", "cefr", "student", "essay"])
        for number, row in enumerate(texts.itertuples()):
            if row.cefr_level not in without:
                writer.writerow([f"t{number}", row.cefr_level, f"s{number // 2}", row.text])
        writer.writerow(["known", "A1", "s1", known.upper() + " !"])
        writer.writerow(["c2", "C2", "s2", "A text of a level that nobody studies here."])


@pytest.fixture(scope="module")
def scored_run(finished_storage, tmp_path_factory):
    """The finished run, configured for a further corpus afterwards, with the work that was then done."""
    root = tmp_path_factory.mktemp("further")
    shutil.copytree(finished_storage, root / "runs")
    documents = pd.read_parquet(RunFolder(root / "runs" / "tiny").documents)
    write_corpus(root / "other.csv", documents[documents["split"] == "train"]["text"].iloc[0])
    executor = CountingExecutor()
    run = make_run(root / "runs", {"corpora": {"other": {"path": str(root / "other.csv")}}}, executor=executor)
    before = run.folder.losses.read_bytes()
    assert run.do() == []
    return run, executor.work, before


@pytest.fixture
def folder(scored_run, tmp_path):
    """The same in the test's own folder, with the corpus beside it."""
    shutil.copytree(scored_run[0].folder.root.parent.parent, tmp_path, dirs_exist_ok=True)
    return RunFolder(tmp_path / "runs" / "tiny")


@pytest.fixture
def changes(tmp_path):
    return {"corpora": {"other": {"path": str(tmp_path / "other.csv")}}}


def test_every_model_scores_the_further_corpus_and_nothing_else_runs(scored_run):
    run, work, before = scored_run
    assert work == ["mask 0", *(f"score {name}" for name in MODELS)]
    assert run.folder.losses.read_bytes() == before
    losses = pd.read_parquet(run.folder.further("other").losses)
    assert list(losses["model"].unique()) == MODELS
    assert losses["document"].nunique() == 40
    assert "other: 40 documents of 42 rows (A1 20, C1 20)" in run.listener.lines
    message = "other: 1 rows set aside: the same or almost the same as a text of train or valid"
    assert any(line.startswith(message) for line in run.listener.lines)
    assert "evaluate: scored 5 of 5 models on other, the others were done" in run.listener.lines


def test_a_second_command_scores_no_further_corpus_again(folder, tiny_run, changes):
    assert again(tiny_run, changes=changes) == []


def test_further_corpus_scores_equal_those_of_the_score_command(scored_run):
    """The same model, text, id and seed give the same masks and the same sum, whichever way a text is scored."""
    run, _, _ = scored_run
    place = run.folder.further("other")
    losses, documents = pd.read_parquet(place.losses), pd.read_parquet(place.documents).set_index("document")
    table = raysweep.load(run.folder.root)["A1"].score(
        documents["text"].tolist()[:5], ids=documents["writing_id"].tolist()[:5]
    )
    mine = losses[(losses["model"] == "A1") & losses["part"].isin(["answer", "end"]) & (losses["document"] < 5)]
    assert mine.groupby("document")["nats"].sum().tolist() == pytest.approx(table["infill_nats"].tolist(), abs=1e-4)


def test_the_report_has_a_matrix_and_claims_for_the_further_corpus(scored_run):
    """Recomputed from the table of losses; a learner's several texts are clustered by learner."""
    run, _, _ = scored_run
    (corpus,) = json.loads(run.folder.evidence.read_text())["beyond"]
    assert (corpus["rows"], corpus["near_training"]) == (42, 1)
    assert (corpus["clusters"], corpus["without_learner"], corpus["missing_levels"]) == ("learner", 0, [])
    losses = pd.read_parquet(run.folder.further("other").losses)
    parts = losses[losses["part"].isin(["answer", "end"])].groupby(["model", "level"])[["nats", "tokens"]].sum()
    for row in corpus["matrix"]["rows"]:
        for level in ("A1", "C1"):
            cell = parts.loc[row["name"], level]
            assert row["cells"][level]["value"] == pytest.approx(np.exp(cell["nats"] / cell["tokens"]), rel=1e-8)
    assert corpus["documents"] == losses[losses["part"].isin(["answer", "end"])]["document"].nunique() < 40
    h1 = {finding["scope"]: finding for finding in corpus["findings"] if finding["hypothesis"] == "H1"}
    cells = {row["name"]: row["cells"] for row in corpus["matrix"]["rows"]}
    assert h1["C1"]["value"] == pytest.approx(cells["all"]["C1"]["value"] / cells["C1"]["C1"]["value"], rel=1e-8)
    learners = pd.read_parquet(run.folder.further("other").documents).set_index("document")["learner"]
    answered = losses[losses["part"].isin(["answer", "end"]) & (losses["level"] == "C1")]["document"].unique()
    assert h1["C1"]["clusters"] == learners[answered].nunique() > 10
    page = run.folder.report_html.read_text()
    assert "Beyond the corpus" in page
    assert (run.folder.tables / "beyond_1_verdicts.csv").read_text().startswith("hypothesis,scope,own_verdict,")


def test_no_text_of_a_further_corpus_is_published_and_the_bundle_verifies(folder, tmp_path):
    text = pd.read_parquet(folder.further("other").documents)["text"].iloc[0]
    write_bundle(folder, tmp_path / "evidence.zip")
    with zipfile.ZipFile(tmp_path / "evidence.zip") as bundle:
        names = {name for name in bundle.namelist() if name.startswith("corpora/")}
        assert names == {
            "corpora/other/corpus/documents.parquet",
            "corpora/other/corpus/splits.json",
            "corpora/other/evaluation/losses.parquet",
        }
        assert not [name for name in bundle.namelist() if text.encode() in bundle.read(name)]
        assert str(tmp_path).encode() not in bundle.read("config.yaml")
        with bundle.open("corpora/other/corpus/documents.parquet") as file:
            assert {"text", "writing_id"}.isdisjoint(pd.read_parquet(io.BytesIO(file.read())).columns)
    assert verify_bundle(tmp_path / "evidence.zip").is_verified
    path = folder.further("other").losses
    table = pd.read_parquet(path)
    table["nats"] *= 1.01
    table.to_parquet(path)
    with pytest.raises(InputError, match="does not follow from the run folder"):
        write_bundle(folder, tmp_path / "other.zip")


def test_a_changed_corpus_file_is_scored_again_and_nothing_else(folder, tiny_run, changes, tmp_path):
    cells = {path: path.read_bytes() for path in folder.evaluation.glob("cells/*")}
    known = pd.read_csv(tmp_path / "other.csv")["essay"].iloc[-2]
    write_corpus(tmp_path / "other.csv", known, rows=24, without=["C1"])
    assert again(tiny_run, changes=changes) == ["mask 0", *(f"score {name}" for name in MODELS)]
    assert {path: path.read_bytes() for path in folder.evaluation.glob("cells/*")} == cells
    assert pd.read_parquet(folder.further("other").losses)["level"].unique().tolist() == ["A1"]
    (corpus,) = json.loads(folder.evidence.read_text())["beyond"]
    assert corpus["missing_levels"] == ["C1"]
    assert "No document of C1, so nothing is said of it here." in folder.report_html.read_text()
    assert again(tiny_run, changes=changes) == []


def test_records_name_the_inputs_of_a_further_corpus_and_its_scores(folder):
    """The run's own documents decide which texts are set aside; a model that is trained again is scored again."""
    place = folder.further("other")
    assert list(read_sealed(place.further_record, fix="")["made_from"]) == ["documents"]
    assert list(read_sealed(place.cells_record("A1"), fix="")["made_from"]) == ["corpus", "model"]
    model = read_record(folder.trial("A1")).model_digest
    assert read_sealed(place.cells_record("A1"), fix="")["made_from"]["model"] == model


def test_removing_a_further_corpus_from_the_config_removes_it_from_the_report(folder, tiny_run):
    assert again(tiny_run) == []
    assert json.loads(folder.evidence.read_text())["beyond"] == []
    assert "Beyond the corpus" not in folder.report_html.read_text()


def test_files_of_a_scored_further_corpus_may_be_moved_away(folder, tiny_run, changes, tmp_path):
    (tmp_path / "other.csv").rename(tmp_path / "elsewhere.csv")
    assert again(tiny_run, changes=changes) == []
    executor = CountingExecutor()
    for forced in ("prepare", "other"):
        with pytest.raises(InputError, match=r"corpora\.other\.path: found .*, no such file"):
            tiny_run(changes, executor=executor, forced=[forced]).do()
    assert executor.work == []
    assert again(tiny_run, changes=changes) == []


def test_a_forced_trial_is_scored_again_even_if_its_score_record_is_damaged(folder, tiny_run, changes):
    """The same holds for scores on the run's own documents."""
    flip(folder.further("other").cells_record("A1"))
    with pytest.raises(DamagedError, match=r"cells/A1\.json"):
        tiny_run(changes).do()
    assert again(tiny_run, changes=changes, forced=["A1"]) == ["train A1", "score A1"]
    assert again(tiny_run, changes=changes) == []


def test_a_damaged_score_file_is_reported_with_the_command_that_repairs_it(folder, tiny_run, changes):
    place = folder.further("other")
    flip(place.cells("A1"))
    with pytest.raises(DamagedError, match=r"other/evaluation/cells/A1\.parquet is damaged .* --force evaluate"):
        tiny_run(changes).do()
    flip(place.cells("A1"))
    flip(place.documents)
    with pytest.raises(DamagedError, match=r"corpora/other/corpus/documents\.parquet is damaged .* --force other"):
        tiny_run(changes).do()
    flip(place.further_record)
    with pytest.raises(DamagedError, match=r"make it again with --force other"):
        tiny_run(changes).do()
    assert again(tiny_run, changes=changes, forced=["other"]) == ["mask 0", *(f"score {name}" for name in MODELS)]


def test_scoring_killed_between_models_resumes(done_run, tiny_run, scored_run, tmp_path):
    class CutOff(CountingExecutor):
        def score(self, tasks, listener):
            super().score(tasks[:2], listener)
            raise KeyboardInterrupt

    changes = {"corpora": {"other": {"path": str(scored_run[0].folder.root.parent.parent / "other.csv")}}}
    with pytest.raises(KeyboardInterrupt):
        tiny_run(changes, executor=CutOff()).do()
    assert again(tiny_run, changes=changes) == [f"score {name}" for name in MODELS[2:]]
    place, whole = done_run.folder.further("other"), scored_run[0].folder.further("other")
    assert place.losses.read_bytes() == whole.losses.read_bytes()


@pytest.mark.parametrize(
    ("rows", "settings", "message"),
    [
        (None, {}, r"corpora\.other\.path: found .*, no such file"),
        (
            ["id,text", "1,A text."],
            {},
            r"no column is recognised as the level\..* Name yours in corpora\.other\.columns",
        ),
        (["id,cefr,text", "1,Q9,A text."], {}, r"corpora\.other\.level_aliases, or to corpora\.other\.leave_out"),
        (["id,cefr,text", "1,C2,A text."], {}, r"levels in corpora\.other\.leave_out"),
        (
            ["id,cefr,text", "1,A1,A text."],
            {"columns": {"text": "essay"}},
            r"no column 'essay'.* Name yours in corpora\.other\.columns",
        ),
    ],
    ids=["file", "level", "unknown", "other level", "column"],
)
def test_an_unreadable_further_corpus_is_refused_before_training(tiny_run, tmp_path, rows, settings, message):
    if rows is not None:
        (tmp_path / "other.csv").write_text("\n".join(rows))
    executor = CountingExecutor()
    run = tiny_run({"corpora": {"other": {"path": str(tmp_path / "other.csv"), **settings}}}, executor=executor)
    with pytest.raises(InputError, match=message):
        run.do()
    assert executor.work == []
    assert not run.folder.config.exists()


def test_a_further_corpus_of_only_known_texts_is_refused(folder, tiny_run, tmp_path):
    documents = pd.read_parquet(folder.documents)
    known = documents[documents["split"] == "valid"][["writing_id", "level", "text"]]
    known.to_csv(tmp_path / "same.csv", index=False)
    with pytest.raises(InputError, match=r"corpora\.same: same\.csv: all \d+ texts are \(almost\) those of train or"):
        tiny_run({"corpora": {"same": {"path": str(tmp_path / "same.csv")}}}).do()


@pytest.mark.parametrize(
    ("corpora", "message"),
    [
        ({"A1": {"path": "x"}}, r"corpora\.A1: the name is that of a trial or a stage"),
        ({"all-Seed1": {"path": "x"}}, r"corpora\.all-Seed1: the name is that of a trial or a stage"),
        ({"control-size-C1": {"path": "x"}}, r"corpora\.control-size-C1: the name is that of a trial or a stage"),
        ({"data": {"path": "x"}}, r"corpora\.data: the name stands for the run's own corpus"),
        ({"b c": {"path": "x"}}, r"corpora: found the name 'b c'; must start with"),
        ({"k": {"path": "x"}, "K": {"path": "x"}}, r"corpora\.K: 'k' is the same on disks that ignore case"),
        ({"k": {"path": "x", "columns": {"split": "set"}}}, r"corpora\.k\.columns\.split: .* all documents are scored"),
        ({"k": {"path": "x", "level_aliases": {"1": "Q"}}}, r"corpora\.k: level_aliases\.1: 'Q' is not one of"),
        ({"k": {}}, r"corpora\.k\.path: is missing"),
    ],
)
def test_invalid_further_corpus_settings_are_reported(tiny_run, corpora, message):
    with pytest.raises(ConfigError, match=message):
        tiny_run({"corpora": corpora, "seeds": 2})


def test_status_and_plan_count_the_further_corpus(folder, changes):
    config = parse_config({**TINY, **changes})
    lines = describe_corpora(folder, config.corpora, TINY["trials"])
    assert lines == ["corpus other: 40 documents, scored by 5 of 5 models"]
    folder.further("other").cells_record("A1").unlink()
    record = read_record(folder.trial("C1"))
    write_record(
        folder.trial("C1"), replace(record, outputs={**record.outputs, "model/model.safetensors": {"digest": "0"}})
    )
    assert describe_corpora(folder, ["other"], TINY["trials"])[0].endswith("scored by 3 of 5 models")
    write_record(folder.trial("C1"), record)
    assert describe_corpora(folder, ["other"], TINY["trials"])[0].endswith("scored by 4 of 5 models")
    for damage in ("{", "{}\n"):  # not JSON; no digest, as an earlier version wrote
        folder.further("other").cells_record("C1").write_text(damage)
        assert describe_corpora(folder, ["other"], TINY["trials"])[0].endswith("scored by 3 of 5 models")
    assert describe_corpora(folder, ["new"], TINY["trials"]) == ["corpus new: not prepared yet"]
    size = data_size(config, folder)
    assert size.further == 40
    rates, span = assumed_rates("cpu", parameters=1000, layers=1), forecast_run(config, {}, folder).makespan
    own, both = (
        forecast_stages(settings, rates, data_size(settings, folder), span, cores=1)
        for settings in (parse_config(TINY), config)
    )
    more = 5 * (SCORED_MODEL_S + 40 * rates.score_example_s)
    assert both["evaluate"] - own["evaluate"] == pytest.approx(more / max(1, min(5, int(span.slots))))
    shutil.rmtree(folder.corpora)
    assert 20 < data_size(config, folder).further < 60


def test_every_file_of_a_further_corpus_is_recorded(folder):
    states = {file.path: file.state for file in check_files(folder) if file.path.startswith("corpora/")}
    assert states["corpora/other/corpus/documents.parquet"] == "ok"
    assert {*states.values()} == {"ok"}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_numbers_of_a_further_ellipse_corpus_follow_from_its_losses(tmp_path):
    """Trained on essays on other prompts, scored on those about technology, with known texts planted among them."""
    path = SHARED / "data" / "ellipse.csv"
    if not path.exists():
        pytest.skip(f"{path} is not there; set RAYSWEEP_SHARED to the folder that holds data/ellipse.csv")
    essays = pd.read_csv(path, dtype=str)
    about = essays["text"].str.contains("technology", case=False)
    essays = pd.concat([essays[about].head(150), essays[~about].head(450)])
    about = about[essays.index]
    essays[~about].to_csv(tmp_path / "own.csv", index=False)
    levels = [level for level, count in essays[~about]["cefr_level"].value_counts().items() if count >= 60]
    settings = {
        "data": {"path": str(tmp_path / "own.csv"), "levels": sorted(levels)},
        "trials": {**{level: {"levels": [level]} for level in levels}, "all": {"levels": sorted(levels)}},
    }
    settings["data"]["leave_out"] = sorted({*essays["cefr_level"]} - {*levels})
    run = make_run(tmp_path / "runs", settings)
    run.do("prepare")
    splits = pd.read_parquet(run.folder.documents).set_index("writing_id")["split"]
    planted = essays[essays["writing_id"].map(splits).eq("train")].head(20).copy()
    planted["text"] = planted["text"] + " Indeed."
    planted["writing_id"] = "planted-" + planted["writing_id"]
    pd.concat([essays[about], planted]).to_csv(tmp_path / "other.csv", index=False)
    run = make_run(tmp_path / "runs", {**settings, "corpora": {"technology": {"path": str(tmp_path / "other.csv")}}})
    assert run.do() == []
    (corpus,) = json.loads(run.folder.evidence.read_text())["beyond"]
    place = run.folder.further("technology")
    aside = pd.read_csv(place.quarantine, dtype=str)
    assert {*planted["writing_id"]} <= {*aside["writing_id"]}
    assert corpus["near_training"] == aside["reason"].str.contains("train or valid").sum() < 60
    losses, texts = pd.read_parquet(place.losses), pd.read_parquet(place.documents)
    kept = essays[about & essays["cefr_level"].isin(levels) & ~essays["writing_id"].isin(aside["writing_id"])]
    assert len(texts) == len(kept)
    assert corpus["documents"] == losses[losses["part"].isin(["answer", "end"])]["document"].nunique()
    sums = losses[losses["part"].isin(["answer", "end"])].groupby(["model", "level"])[["nats", "tokens"]].sum()
    mean = sums["nats"] / sums["tokens"]
    for finding in corpus["findings"]:
        if finding["hypothesis"] == "H1" and finding["value"] is not None:
            ratios = [mean["all", level] - mean[level, level] for level in finding["levels"]]
            assert finding["value"] == pytest.approx(np.exp(np.mean(ratios)), rel=1e-7)
    rows = {row["name"]: row["cells"] for row in corpus["matrix"]["rows"]}
    for (model, level), nats in mean.items():
        assert rows[model][level]["value"] == pytest.approx(np.exp(nats), rel=1e-7)
    write_bundle(run.folder, tmp_path / "evidence.zip")
    assert verify_bundle(tmp_path / "evidence.zip").is_verified
