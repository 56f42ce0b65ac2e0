"""`raysweep score`: every text under every model, as the API and the evaluation score it, and through kills."""

import csv
import io
import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from functools import partial
from threading import Event

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

import raysweep
from raysweep.cli import score_output
from raysweep.errors import ConfigError, DamagedError, InputError, ResourceError
from raysweep.inference import text_parts
from raysweep.inference.level_classifier import model_digest_of
from raysweep.pipeline import text_scoring
from raysweep.pipeline.inline_executor import InlineExecutor
from raysweep.pipeline.own_process import OwnProcess
from raysweep.scheduling.records import read_record, write_record
from raysweep.storage.digests import describe_outputs, read_sealed, write_sealed
from raysweep.storage.run_files import tokenizer_digest
from raysweep.storage.run_folder import RunFolder

MODELS = ["start", "A1", "C1", "all", "all-C1"]


@pytest.fixture
def score(run_inline):
    return partial(run_inline, "score")


@pytest.fixture
def corpus(finished_storage, tmp_path):
    """Some of the run's own texts as it was given them, half of them test documents."""
    documents = pd.read_parquet(finished_storage / "tiny/corpus/documents.parquet").set_index("writing_id")["split"]
    with (finished_storage / "tiny/corpus/sample.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    tests = [row for row in rows if documents.get(row["writing_id"]) == "test"]
    others = [row for row in rows if documents.get(row["writing_id"]) == "train"]
    path = tmp_path / "sample.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows([*tests[:6], *others[:6]])
    return path


def test_corpus_scores_equal_those_of_the_api_and_the_evaluation(score, corpus, run, tmp_path):
    """Every text in the file's order; nats of the whole text by the API, infill nats of test documents by the table."""
    out = score(corpus, "--out", "scores.parquet")
    table = pd.read_parquet(tmp_path / "scores.parquet")
    with corpus.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert table["writing_id"].tolist() == [row["writing_id"] for row in rows]
    assert table["level"].tolist() == [row["cefr_level"] for row in rows]
    assert table["learner"].tolist() == [row["learner_id"] for row in rows]
    assert [name[5:] for name in table if name.startswith("nats_")] == MODELS
    texts = [row["text"] for row in rows]
    for model in ("A1", "start"):
        scores = run[model].score(texts, ids=table["writing_id"].tolist())
        for kind in ("", "infill_"):
            tokens = scores[f"{kind}tokens"]
            assert (table[f"{kind}tokens"] == tokens).all()
            assert ((table[f"{kind}nats_{model}"] - scores[f"{kind}nats"]).abs() <= 1e-5 * tokens).all()
            means = (scores[f"{kind}nats"] / tokens).where(tokens > 0)
            np.testing.assert_allclose(table[f"{kind}perplexity_{model}"], np.exp(means), rtol=1e-5)
    losses = run.losses().query("part in ('answer', 'end')").groupby(["model", "writing_id"])[["nats", "tokens"]].sum()
    by_id = table.set_index("writing_id")
    scored = [key for key in losses.index if key[1] in by_id.index]
    assert len(scored) >= 5 * len(MODELS)  # a mask may be empty
    for model, name in scored:
        measured = losses.loc[model, name]
        assert by_id["infill_tokens"][name] == measured["tokens"]
        assert abs(by_id[f"infill_nats_{model}"][name] - measured["nats"]) <= 1e-5 * measured["tokens"]
    levels = run.levels.predict(texts)
    np.testing.assert_allclose(table["probability_C1"], levels["C1"], atol=1e-4)
    assert table["likeliest_level"].tolist() == levels["level"].tolist()
    assert "12 texts under start, A1, C1, all, all-C1" in out
    known = run.levels.accuracy
    right = "the model with the lowest perplexity was that of the right level for"
    assert f"{right} {100 * known.value:.1f} % of the run's {known.documents} test documents" in out
    assert "read without what their masks hide" in out
    predictor = replace(run.levels, accuracy=known.model_copy(update={"value": 0.5, "low": 0.25, "high": 1}))
    sentence = score_output._describe_levels(predictor, 0.9)
    assert f"{right} 50.0 % of" in sentence
    assert "test documents (90 % interval 25.0 % to 100.0 %), read without" in sentence
    assert not (tmp_path / "scores.parquet.parts").exists()


def test_a_table_finished_by_a_concurrent_command_is_not_overwritten(score, tmp_path, monkeypatch):
    """The command looks for it again once it holds the lock."""
    (tmp_path / "texts.csv").write_text("text\nI like apples.\n")
    words = ("texts.csv", "--out", "out.csv", "--model", "A1")
    score(*words)
    before, find, looks = (tmp_path / "out.csv").stat().st_mtime_ns, score_output.find_done, []

    def find_later(*asked, **options):
        looks.append(asked)
        return None if len(looks) == 1 else find(*asked, **options)

    monkeypatch.setattr(score_output, "find_done", find_later)
    assert "out.csv: is up to date, 1 texts under 1 models" in score(*words)
    assert len(looks) == 2
    assert (tmp_path / "out.csv").stat().st_mtime_ns == before
    assert not (tmp_path / "out.csv.parts").exists()


def test_a_large_corpus_is_read_in_a_separate_process(score, corpus, tmp_path, monkeypatch):
    """The table and the errors are the same."""
    score(corpus, "--out", "here.csv", "--model", "A1")
    monkeypatch.setattr(text_scoring, "_READ_HERE_BYTES", 0)
    assert "score: 12 texts of 12 rows" in score(corpus, "--out", "apart.csv", "--model", "A1")
    assert (tmp_path / "apart.csv").read_bytes() == (tmp_path / "here.csv").read_bytes()
    (tmp_path / "texts.csv").write_text("text\n  \n")
    with pytest.raises(InputError, match=r"texts\.csv: none of its 1 rows holds a text"):
        score("texts.csv", "--out", "none.csv", "--model", "A1")


def test_scoring_twice_does_nothing_and_other_texts_are_refused(score, tmp_path):
    """Nothing is done the second time; a table made from something else is not overwritten unasked."""
    (tmp_path / "texts.csv").write_text("text\nI like apples.\nI go to school.\n")
    score("texts.csv", "--out", "out.csv", "--model", "A1")
    before = (tmp_path / "out.csv").stat().st_mtime_ns
    assert "out.csv: is up to date, 2 texts under 1 models" in score("texts.csv", "--out", "out.csv", "--model", "A1")
    assert (tmp_path / "out.csv").stat().st_mtime_ns == before
    (tmp_path / "texts.csv").write_text("text\nI like pears.\n")
    with pytest.raises(ConfigError, match=r"--out: out\.csv is there already, made from other texts.*--force"):
        score("texts.csv", "--out", "out.csv", "--model", "A1")
    score("texts.csv", "--out", "out.csv", "--model", "A1", "--force")
    assert len(pd.read_csv(tmp_path / "out.csv")) == 1
    (tmp_path / "out.csv.json").write_text("{")
    with pytest.raises(DamagedError, match=r"out\.csv\.json: is damaged .*--force"):
        score("texts.csv", "--out", "out.csv", "--model", "A1")


def test_ray_starts_and_stops_in_parallel_with_reading_and_writing(score, tmp_path, monkeypatch):
    """Ray and the corpus do not wait for each other; for two models, at least two parts are scored."""
    (tmp_path / "texts.csv").write_text("text\nI like apples.\n")
    started, written, seen = Event(), Event(), []
    read, write = text_scoring.write_texts, score_output.write_scores

    def warm_up(_executor, tasks, _listener):
        seen.append(tasks)
        started.set()

    def read_once_started(scoring):
        seen.append(started.wait(60))
        return read(scoring)

    def write_and_tell(*work, **options):
        write(*work, **options)
        written.set()

    monkeypatch.setattr(InlineExecutor, "warm_up", warm_up)
    monkeypatch.setattr(text_scoring, "write_texts", read_once_started)
    monkeypatch.setattr(score_output, "write_scores", write_and_tell)
    monkeypatch.setattr(InlineExecutor, "close", lambda _: seen.append(written.wait(60)))
    score("texts.csv", "--out", "out.csv", "--model", "A1", "--model", "C1")
    assert seen == [2, True, True]


@pytest.mark.parametrize("stop", [ResourceError("no cluster at the address"), KeyboardInterrupt()])
def test_a_corpus_already_read_is_kept_if_ray_fails_to_start(score, tmp_path, monkeypatch, stop):
    """Hours of reading may be over; the next command says what was read, and reads it not again."""
    (tmp_path / "texts.csv").write_text("text\nI like apples.\n  \n")
    words = ("texts.csv", "--out", "out.csv", "--model", "A1")

    def fail(*_):
        raise stop

    with monkeypatch.context() as patch, pytest.raises((ResourceError, SystemExit)):
        patch.setattr(InlineExecutor, "warm_up", fail)
        score(*words)
    monkeypatch.setattr(text_scoring, "write_texts", fail)
    assert "score: 1 texts of 2 rows\nscore: set aside 1 empty text" in score(*words)


@pytest.mark.parametrize("moment", ["Ray starts", "the reading begins"])
def test_ctrl_c_while_ray_starts_does_not_wait_for_reading(score, tmp_path, monkeypatch, moment):
    """Reading stops, and leaves no process; the next command reads the corpus from its beginning."""
    (tmp_path / "texts.csv").write_text("text\nI like apples.\n")
    words = ("texts.csv", "--out", "out.csv", "--model", "A1")
    begun, stopped = Event(), Event()

    class Reader:
        def run(self, *_, **__):
            begun.set()
            assert stopped.wait(60)
            raise BrokenProcessPool

        def stop(self):
            stopped.set()

    def interrupt(*_):
        assert begun.wait(60)
        raise KeyboardInterrupt

    class Interrupted(ThreadPoolExecutor):
        def submit(self, *work):
            super().submit(*work)
            interrupt()

    monkeypatch.setattr(text_scoring, "_READ_HERE_BYTES", 0)
    with monkeypatch.context() as patch, pytest.raises(SystemExit) as ended:
        patch.setattr(text_scoring, "OwnProcess", Reader)
        if moment == "Ray starts":
            patch.setattr(InlineExecutor, "warm_up", interrupt)
        else:
            patch.setattr(text_scoring, "ThreadPoolExecutor", Interrupted)
        score(*words)
    assert ended.value.code == 130
    assert "score: 1 texts of 1 rows" in score(*words)


def test_a_killed_reader_is_reported_with_the_fix(score, tmp_path, monkeypatch):
    """The kernel kills a process so if memory is short."""
    (tmp_path / "texts.csv").write_text("text\nI like apples.\n")
    monkeypatch.setattr(text_scoring, "_READ_HERE_BYTES", 0)
    run_in_process = OwnProcess.run
    monkeypatch.setattr(
        OwnProcess, "run", lambda process, *_, **options: run_in_process(process, os._exit, 9, **options)
    )
    with pytest.raises(ResourceError, match=r"texts\.csv: the process that read the corpus .* was killed, .* split"):
        score("texts.csv", "--out", "out.csv", "--model", "A1")


def test_ctrl_c_while_ray_stops_does_not_wait_for_writing(score, tmp_path, monkeypatch):
    """Nothing is in its place then, and what was scored is not scored again."""
    (tmp_path / "texts.csv").write_text("text\nI like apples.\n")
    words = ("texts.csv", "--out", "out.csv", "--model", "A1")
    writes, ends, write = Event(), Event(), score_output.write_scores

    def write_late(*work, **options):
        writes.set()
        assert ends.wait(60)
        write(*work, **options)

    def interrupt(_):
        assert writes.wait(60)
        raise KeyboardInterrupt

    class Over(Event):
        def set(self):
            super().set()
            ends.set()

    with monkeypatch.context() as patch, pytest.raises(SystemExit) as ended:
        patch.setattr(score_output, "write_scores", write_late)
        patch.setattr(InlineExecutor, "close", interrupt)
        patch.setattr(score_output, "Event", Over)
        score(*words)
    assert ended.value.code == 130
    assert not (tmp_path / "out.csv").exists()
    assert "score: 1 of 1 scores are there already" in score(*words)


def test_a_corpus_without_texts_is_refused_before_connecting_to_a_cluster(score, tmp_path, monkeypatch):
    """No file is left behind."""
    (tmp_path / "texts.csv").write_text("text\n  \n")
    monkeypatch.setattr(InlineExecutor, "warm_up", lambda *_: (_ for _ in ()).throw(ResourceError("no cluster")))
    with pytest.raises(InputError, match=r"texts\.csv: none of its 1 rows holds a text"):
        score("texts.csv", "--out", "out.csv", "--model", "A1")
    assert not list(tmp_path.glob("*.parts"))


class KilledError(BaseException):
    """Stands for kill -9: nothing in the code catches it."""


def test_a_killed_command_resumes_with_the_remaining_parts(score, corpus, tmp_path, monkeypatch):
    """Killed at any part, it scores the rest alone, and the file is equal to the byte."""
    monkeypatch.setattr(text_scoring, "PART_TEXTS", 5)
    words = (corpus, "--model", "A1", "--model", "C1", "--tokens")
    score(*words, "--out", "whole.parquet")
    scored = []
    score_part = text_parts.score_part

    def die_at_the_fourth(**task):
        if len(scored) == 4:
            raise KilledError
        scored.append((task["model"], task["texts"]))
        return score_part(**task)

    monkeypatch.setattr(text_parts, "score_part", die_at_the_fourth)
    with pytest.raises(KilledError):
        score(*words, "--out", "killed.parquet")
    assert not (tmp_path / "killed.parquet").exists()
    first = list(scored)
    scored[:] = [None] * 5
    out = score(*words, "--out", "killed.parquet")
    assert "17 of 24 scores are there already" in out  # parts of 5, 5, 2 and 5
    assert len(first + scored[5:]) == len({*first, *scored[5:]}) == 6
    for name in ("{}.parquet", "{}.tokens.parquet"):
        assert (tmp_path / name.format("killed")).read_bytes() == (tmp_path / name.format("whole")).read_bytes()


def test_a_command_killed_before_writing_its_record_resumes_without_overwriting_other_files(
    score, tmp_path, monkeypatch
):
    """The table is in place and the record is not: its parts say whose it is; a table of others is still refused."""
    (tmp_path / "texts.csv").write_text("text\nI like apples.\n")
    words = ("texts.csv", "--model", "A1", "--tokens")
    with monkeypatch.context() as patch:
        patch.setattr(score_output, "finish", lambda *_: (_ for _ in ()).throw(KilledError()))
        with pytest.raises(KilledError):
            score(*words, "--out", "out.csv")
    whole = (tmp_path / "out.csv").read_bytes()
    with pytest.raises(ConfigError, match=r"out\.csv is there already"):
        score("texts.csv", "--model", "C1", "--out", "out.csv")
    assert "1 of 1 scores are there already" in score(*words, "--out", "out.csv")
    assert (tmp_path / "out.csv").read_bytes() == whole
    with monkeypatch.context() as patch:
        patch.setattr(text_scoring.shutil, "rmtree", lambda _: (_ for _ in ()).throw(KilledError()))
        with pytest.raises(KilledError):
            score(*words, "--out", "out.csv", "--force")
    assert (tmp_path / "out.csv.parts").exists()
    assert "is up to date" in score(*words, "--out", "out.csv")
    assert not (tmp_path / "out.csv.parts").exists()
    (tmp_path / "new.tokens.csv").write_text("mine")
    with pytest.raises(ConfigError, match=r"new\.tokens\.csv is there already"):
        score(*words, "--out", "new.csv")


def test_texts_that_change_during_scoring_are_refused(score, tmp_path, monkeypatch):
    """Otherwise the record would name texts that were not scored; the next command scores the present texts."""
    (tmp_path / "texts.csv").write_text("text\nI like apples.\n")
    score_part = text_parts.score_part

    def change(**task):
        (tmp_path / "texts.csv").write_text("text\nI like pears.\nI go.\n")
        return score_part(**task)

    monkeypatch.setattr(text_parts, "score_part", change)
    with pytest.raises(InputError, match=r"out\.csv: texts changed while they were scored"):
        score("texts.csv", "--out", "out.csv", "--model", "A1")
    assert not (tmp_path / "out.csv").exists()
    score("texts.csv", "--out", "out.csv", "--model", "A1")
    assert len(pd.read_csv(tmp_path / "out.csv")) == 2


def test_a_part_is_refused_if_its_model_was_retrained(own_run, tmp_path):
    """A worker on another node fetches the models when it starts, which may be others than the command began with."""
    begun, path = own_run.folder, tmp_path / "texts.parquet"
    pd.DataFrame({"writing_id": ["a"], "text": ["I like apples."]}).to_parquet(path)
    digest = model_digest_of(begun, "A1")
    task = text_scoring.TextTask(
        run=begun.root, model="A1", model_digest=digest, texts=path, out=tmp_path / "o", tokens_out=None
    )
    assert list(InlineExecutor(1).score_texts([task], None)) == [(task, 1)]
    shutil.copytree(begun.trial("C1").model, begun.trial("A1").model, dirs_exist_ok=True)
    record = read_record(begun.trial("A1"))
    outputs = describe_outputs(begun.trial("A1").root, [begun.trial("A1").model])
    write_record(begun.trial("A1"), replace(record, outputs={**record.outputs, **outputs}))
    with pytest.raises(InputError, match=rf"trial 'A1' was trained again .* \(digest {digest[:8]} → \w+\); the same"):
        list(InlineExecutor(1).score_texts([task], None))
    now = replace(task, model_digest=model_digest_of(begun, "A1"))
    assert list(InlineExecutor(1).score_texts([now], None)) == [(now, 1)]


def test_a_part_is_refused_if_the_tokenizer_was_remade(own_run, tmp_path):
    """The start is made by the settings, and the tokens that it scores by the run's own tokenizer."""
    path = tmp_path / "texts.parquet"
    pd.DataFrame({"writing_id": ["a"], "text": ["I like apples."]}).to_parquet(path)
    task = text_scoring.TextTask(
        run=own_run.folder.root, model="start", model_digest="", texts=path, out=tmp_path / "o", tokens_out=None
    )
    assert list(InlineExecutor(1).score_texts([task], None)) == [(task, 1)]
    record = read_sealed(own_run.folder.record, fix="")
    record["stages"]["mask"]["outputs"]["examples/tokenizer/tokenizer.json"] = {"bytes": 1, "digest": "b3:0"}
    write_sealed(own_run.folder.record, record)
    with pytest.raises(InputError, match=r"its tokenizer was made again .* \(digest none → \w+\); the same"):
        list(InlineExecutor(1).score_texts([task], None))
    own = replace(task, model_digest=tokenizer_digest(record["stages"]["mask"]["outputs"]))
    assert list(InlineExecutor(1).score_texts([own], None)) == [(own, 1)]


@pytest.mark.parametrize(("model", "what"), [("start", "its tokenizer was made"), ("A1", "trial 'A1' was trained")])
def test_a_part_is_refused_if_its_model_was_retrained_during_loading(own_run, monkeypatch, model, what):
    """The model is not cached either: a node fetches the run while others write it."""
    buffer, open_run = io.BytesIO(), text_parts.open_run
    pd.DataFrame({"writing_id": ["a"], "text": ["I like apples."]}).to_parquet(buffer)
    part = {"run": own_run.folder.root, "model": model, "texts": buffer.getvalue(), "with_tokens": False}
    digest = model_digest_of(own_run.folder, model)

    def open_and_change(*asked):
        opened = open_run(*asked)
        _ = opened[model].network
        record = read_sealed(own_run.folder.record, fix="")
        record["stages"]["mask"]["outputs"]["examples/tokenizer/tokenizer.json"] = {"bytes": 1, "digest": "b3:0"}
        write_sealed(own_run.folder.record, record)
        shutil.copytree(own_run.folder.trial("C1").root, own_run.folder.trial("A1").root, dirs_exist_ok=True)
        return opened

    with monkeypatch.context() as patch:
        patch.setattr(text_parts, "open_run", open_and_change)
        with pytest.raises(InputError, match=rf"{what} again .* \(digest {digest[:8] or 'none'} → \w+\); the same"):
            text_parts.score_part(**part, model_digest=digest)
    assert text_parts.score_part(**part, model_digest=model_digest_of(own_run.folder, model)).texts == 1


def test_scores_without_levels_are_stale_once_the_run_can_predict_them(score, tmp_path, monkeypatch):
    """The report is made, or made again, after the table: its temperature decides the probabilities."""
    (tmp_path / "texts.csv").write_text("text\nI like apples.\n")
    with monkeypatch.context() as patch:
        patch.setattr(score_output, "_predictor", lambda *_: None)
        score("texts.csv", "--out", "out.csv")
    with pytest.raises(ConfigError, match=r"made from other texts, models or settings"):
        score("texts.csv", "--out", "out.csv")
    score("texts.csv", "--out", "out.csv", "--force")
    assert "probability_C1" in pd.read_csv(tmp_path / "out.csv")


def test_parts_with_another_fingerprint_are_not_reused(score, tmp_path, monkeypatch):
    """The plan's fingerprint holds texts, models, masks and settings."""
    (tmp_path / "texts.csv").write_text("text\nI like apples.\n")
    monkeypatch.setattr(InlineExecutor, "score_texts", lambda *_: (_ for _ in ()).throw(KilledError()))
    with pytest.raises(KilledError):
        score("texts.csv", "--out", "out.jsonl", "--model", "A1")
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "texts.csv").write_text("text\nI like pears.\nI go.\n")
    score("texts.csv", "--out", "out.jsonl", "--model", "A1")
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 2


def test_scores_of_an_older_version_are_refused_and_remade(score, tmp_path, monkeypatch):
    """The version tells that the same settings give other numbers: neither a table nor a part of both is made."""
    (tmp_path / "texts.csv").write_text("text\nI like apples.\n")
    words = ("texts.csv", "--out", "out.csv", "--model", "A1")
    with monkeypatch.context() as patch:
        patch.setattr(score_output, "finish", lambda *_: (_ for _ in ()).throw(KilledError()))
        with pytest.raises(KilledError):
            score(*words)
    for version in ("SCORES_VERSION", "EXAMPLES_VERSION", "CORPUS_VERSION"):
        monkeypatch.setattr(text_scoring, version, 99)
        with pytest.raises(ConfigError, match=r"out\.csv is there already, .*, by another version"):
            score(*words)
        assert "are there already" not in score(*words, "--force")
        assert "is up to date" in score(*words)


def test_a_corpus_that_changes_while_it_is_read_is_read_again(score, tmp_path, monkeypatch):
    """If not, new texts would be scored under the old digest, and taken for the old texts once those are back."""
    (tmp_path / "texts.csv").write_text("text\nI like apples.\n")
    read = text_scoring.read_new_texts

    def change_after_reading(files, data):
        (tmp_path / "texts.csv").write_text("text\nI like pears.\n")
        return read(files, data)

    with monkeypatch.context() as patch:
        patch.setattr(text_scoring, "read_new_texts", change_after_reading)
        with pytest.raises(
            InputError, match=r"texts\.csv: changed while it was read; the same command reads it again$"
        ):
            score("texts.csv", "--out", "out.csv", "--model", "A1")
    assert not (tmp_path / "out.csv.parts").exists()
    assert "1 texts of 1 rows" in score("texts.csv", "--out", "out.csv", "--model", "A1")


def test_every_output_format_has_the_same_contents(score, run, tmp_path):
    """CSV, JSON Lines and Parquet; a row per token with the surprisal under each model."""
    texts = ["I like apples, “really”.", "x"]
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps({"essay": text}) + "\n" for text in texts))
    for suffix in ("parquet", "csv", "jsonl"):
        score(
            "texts.jsonl",
            "--out",
            f"out.{suffix}",
            "--model",
            "A1",
            "--model",
            "C1",
            "--tokens",
            "--text-column",
            "essay",
        )
    parquet = pd.read_parquet(tmp_path / "out.parquet")
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    table = pd.read_csv(tmp_path / "out.csv")
    for name in ("nats_A1", "perplexity_C1", "infill_nats_A1", "probability_A1"):
        expected = parquet[name].tolist()
        np.testing.assert_allclose(table[name], expected, rtol=1e-12)
        np.testing.assert_allclose([np.nan if row[name] is None else row[name] for row in lines], expected, rtol=1e-12)
    assert parquet["perplexity_A1"].isna().tolist() == [False, True]
    assert lines[1]["perplexity_A1"] is lines[0]["level"] is None
    tokens = pd.read_parquet(tmp_path / "out.tokens.parquet")
    by_api = run["C1"].score(texts, per_token=True)
    assert tokens["piece"].tolist() == by_api["piece"].tolist()
    assert tokens["document"].tolist() == by_api["text"].tolist()
    np.testing.assert_allclose(tokens["nats_C1"], by_api["nats"], atol=1e-4)
    assert pq.read_schema(tmp_path / "out.tokens.parquet").names[-2:] == ["nats_A1", "nats_C1"]
    score("texts.jsonl", "--out", "out.parquet", "--force", "--model", "A1", "--text-column", "essay")
    assert not (tmp_path / "out.tokens.parquet").exists(), "it was of scores that are no more"


def test_rows_without_a_text_are_listed_and_not_scored(score, tmp_path):
    """They are counted, and named in a file beside the output; the rest is scored."""
    (tmp_path / "texts.csv").write_text("id,text\na,I like apples.\nb,\nc,I go.\n")
    out = score("texts.csv", "--out", "out.csv", "--model", "A1")
    assert "score: 2 texts of 3 rows" in out
    assert "set aside 1 empty text; see out.csv.quarantine.csv" in out
    assert "no levels: they need the scores of C1 too" in out
    assert "b" in (tmp_path / "out.csv.quarantine.csv").read_text()
    assert pd.read_csv(tmp_path / "out.csv")["writing_id"].tolist() == ["a", "c"]
    (tmp_path / "texts.csv").write_text("id,text\na,I like apples.\n")
    score("texts.csv", "--out", "out.csv", "--model", "A1", "--force")
    assert not (tmp_path / "out.csv.quarantine.csv").exists()


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        (
            ["texts.csv", "--out", "out.xlsx"],
            ConfigError,
            "--out: found 'out.xlsx'; must end in .parquet, .csv, .jsonl",
        ),
        (["texts.csv", "--out", "s3://b/out.xlsx"], ConfigError, "--out: found 'out.xlsx'; must end in .parquet"),
        (["texts.csv", "--out", "s3://b"], ConfigError, "--out: found 's3://b'; must name a file in the bucket"),
        (["texts.csv", "--out", "http://b/c.csv"], ConfigError, "--out: found 'http://b/c.csv'; must be a path, s3:"),
        (["texts.csv", "--model", "A2"], ConfigError, "--model: found 'A2'; trained in 'tiny' are start, A1, C1"),
        (["texts.csv", "--set", "training.steps=3"], ConfigError, "--set training.steps: score takes settings of data"),
        (["texts.csv", "--set", "data.quotes=odd"], ConfigError, "--set data.quotes: found 'odd'"),
        (["none.csv"], InputError, "found 'none.csv', no such file"),
        (["empty.csv"], InputError, "none of its 1 rows holds a text (1 empty text)"),
        (
            ["columns.csv", "--text-column", "essay"],
            InputError,
            "no column 'essay'. Found the columns 'a', 'b'. Name yours in data.columns (here: --text-column COLUMN)",
        ),
        (["columns.csv", "--text-column", "a", "--id-column", "c"], InputError, "(here: --id-column COLUMN)"),
        (["columns.csv", "--set", "data.columns.text=c"], InputError, "(here: --set data.columns.ROLE=COLUMN)"),
        (["columns.csv"], InputError, "Name yours in data.columns, such as --set data.columns.text=COLUMN"),
    ],
)
def test_invalid_score_arguments_are_refused(score, tmp_path, words, error, message):
    """Before a model is loaded, with the place and the fix; nothing is left behind."""
    (tmp_path / "texts.csv").write_text("text\nI like apples.\n")
    (tmp_path / "empty.csv").write_text("id,text\n1,\n")
    (tmp_path / "columns.csv").write_text("a,b\n1,2\n")
    with pytest.raises(error) as raised:
        score(*words)
    assert message in str(raised.value)
    assert not list(tmp_path.glob("*.parts"))


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["essays.csv", "--out", "essays.csv"], "essays.csv"),
        (["essays.csv", "--out", "link.csv"], "link.csv"),
        (["folder", "--out", "folder/a.csv"], "folder/a.csv"),
        (["a.tokens.csv", "--out", "a.csv", "--tokens"], "a.tokens.csv"),
    ],
)
def test_a_corpus_is_never_replaced_by_its_scores(score, tmp_path, words, name):
    """--force overwrites earlier scores; where --out named the corpus itself, the learners' texts were gone."""
    (tmp_path / "folder").mkdir()
    texts = "text\nI like apples.\n"
    for path in ("essays.csv", "folder/a.csv", "folder/b.csv", "a.tokens.csv"):
        (tmp_path / path).write_text(texts)
    (tmp_path / "link.csv").symlink_to("essays.csv")
    with pytest.raises(ConfigError, match=rf"^--out: would replace {name}, which is a file that is read; give another"):
        score(*words, "--model", "A1", "--force")
    assert (tmp_path / name).read_text() == texts


def test_a_run_without_a_model_is_refused(own_run, tmp_path):
    """The message says what to do."""
    (tmp_path / "texts.csv").write_text("text\nI like apples.\n")
    shutil.rmtree(own_run.folder.trials)
    settings = score_output.Settings(name="tiny", storage=str(tmp_path))
    options = {"out": tmp_path / "out.csv", "data": [], "models": [], "with_tokens": False, "force": False}
    with pytest.raises(InputError, match="no model is trained yet"):
        score_output.score_texts(settings, [str(tmp_path / "texts.csv")], inline=True, **options)


def test_the_command_scores_with_the_model_of_the_api(finished_storage):
    """A part is scored by the model that `raysweep.load` gives, so its numbers cannot differ."""
    folder = RunFolder(finished_storage / "tiny")
    loaded = text_parts._load(folder.root, "A1", "cpu", model_digest_of(folder, "A1"))
    assert loaded.rules == raysweep.load(finished_storage / "tiny")["A1"].rules
