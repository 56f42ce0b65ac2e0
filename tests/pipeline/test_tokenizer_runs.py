"""A whole run with a tokenizer other than GPT-2's: every model shares it, and changing it makes everything stale."""

import math
import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer
from typer.testing import CliRunner

import raysweep
from raysweep.cli.app import app
from raysweep.config.loading import parse_config
from raysweep.corpus.sample import SAMPLE_COLUMNS, write_sample
from raysweep.errors import ChangedError, ConfigError, InputError
from raysweep.masking.example_store import ExampleStore
from raysweep.masking.tokenizer_folder import read_tokenizer, write_tokenizer
from raysweep.masking.vocabulary_size import GPT2_IDS
from raysweep.pipeline import identities
from raysweep.pipeline.corpus_stages import make_examples
from raysweep.pipeline.run_record import read_run
from raysweep.pipeline.text_sources import _made_from
from raysweep.planning.model_size import _text_bytes, model_shape
from raysweep.storage.atomic_files import read_json
from raysweep.storage.digests import combine_digests, read_sealed, write_sealed
from raysweep.storage.run_folder import RunFolder
from tests.pipeline.conftest import make_run
from tests.tokenizers_of_tests import write_sentencepiece

SMALL = {
    "data": {"levels": ["A1", "C1"], "sample": {"rows": 120, "level_shares": {"A1": 1, "C1": 1}}},
    "trials": {"all": {"levels": ["A1", "C1"], "steps": 2}, "all-C1": {"from": "all", "levels": ["C1"], "steps": 1}},
    "evaluation": {"examples_per_document": 1, "generation_documents": 1, "speed_repeats": 0},
}


def run_with(storage, forced=(), **model):
    return make_run(storage, {**SMALL, "model": model}, forced=forced)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run whose tokenizer was trained on its corpus.  For reading only."""
    storage = tmp_path_factory.mktemp("corpus")
    assert run_with(storage, tokenizer="corpus").do() == []
    return storage


@pytest.fixture
def folder(tmp_path):
    return write_sentencepiece(tmp_path / "sentencepiece")


def test_every_model_of_a_run_uses_the_tokenizer_of_its_examples(finished):
    """Store, models, exports and scores have the same ids, and a second run does nothing."""
    run = run_with(finished, tokenizer="corpus")
    size = ExampleStore.open(run.folder.examples).vocabulary.size
    assert 300 < size < 2049
    for name in ("all", "all-C1"):
        model = run.folder.trial(name).model
        tokenizer = AutoTokenizer.from_pretrained(model)
        assert len(tokenizer) == AutoModelForCausalLM.from_pretrained(model).config.vocab_size == size
        text = "My friend's 2 dogs like it… 😀\n <|endoftext|"
        ids = tokenizer(text)["input_ids"]
        assert ids == read_tokenizer(run.folder.examples / "tokenizer", "x")[0].encode(text)
        assert tokenizer.decode(ids) == text
    assert run.do() == []
    assert all("skip" in line for line in run.listener.lines)
    losses = pd.read_parquet(run.folder.losses)
    answers = losses[(losses["model"] == "start") & (losses["part"] == "answer")]
    # Random weights know nothing: about log2(V) bits a token.
    assert answers["nats"].sum() / answers["tokens"].sum() == pytest.approx(math.log(size), rel=0.02)


def test_models_with_a_corpus_tokenizer_fill_and_score_texts(finished):
    """With the run's own tokens: bytes are those of the text without its first token, however it is tokenised."""
    run = raysweep.load(finished / "tiny")
    for name in ("start", "all-C1"):
        table = run[name].score("I like it 😀", per_token=True)
        assert "".join(dict.fromkeys(table["piece"])).startswith("I like it")
        (row,) = run[name].score("I like it 😀").to_dict("records")
        assert row["bytes"] == len("I like it 😀".encode()) - 1
    (filling, _) = run["all-C1"].infill("I like [word] and [ngram].", n=2)
    assert filling.text.startswith("I like ")


def test_the_forecast_uses_the_vocabulary_size(finished, folder, tmp_path):
    """A model with 2,000 tokens is a twentieth of one with GPT-2's; before the corpus is read the size is estimated."""
    run = run_with(finished, tokenizer="corpus")
    size = ExampleStore.open(run.folder.examples).vocabulary.size
    parameters = read_json(run.folder.trial("all").result)["result"]["parameters"]
    shape = model_shape(run.config, run.folder)
    assert shape.vocabulary == size
    assert shape.parameters == pytest.approx(parameters, rel=0.02)
    assert model_shape(run.config).vocabulary == 2048
    own = run_with(tmp_path, tokenizer=str(folder))
    assert model_shape(own.config, own.folder).vocabulary == read_tokenizer(folder, "x")[0].size
    assert model_shape(run_with(tmp_path).config).vocabulary == GPT2_IDS
    start = run_with(tmp_path, start=str(run.folder.trial("all").model), tokenizer="start")
    assert model_shape(start.config, start.folder).vocabulary == size


def test_the_forecast_uses_the_vocabulary_size_of_the_configured_tokenizer(finished, folder, tmp_path):
    """The tokenizer stored with the examples may be another; texts are counted in bytes of the training data."""
    of_folder = run_with(finished, tokenizer=str(folder))
    assert model_shape(of_folder.config, of_folder.folder).vocabulary == read_tokenizer(folder, "x")[0].size
    shutil.copytree(finished, tmp_path / "runs")
    run = run_with(tmp_path / "runs", tokenizer="corpus")
    record = read_sealed(run.folder.record, fix="")
    record["stages"]["mask"]["identity"]["tokenizer"] = "0" * 32
    write_sealed(run.folder.record, record)
    assert model_shape(run.config, run.folder).vocabulary == 2048
    for damaged in ("{", "[]\n"):
        run.folder.record.write_text(damaged)
        assert model_shape(run.config, run.folder).vocabulary == 2048
    texts = pd.read_parquet(run.folder.documents)["text"]
    assert _text_bytes(run.config, run.folder) == texts.str.encode("utf-8").str.len().sum()
    run.folder.documents.write_bytes(b"x")
    assert _text_bytes(run.config, run.folder) == 120 * 440


def test_changing_the_end_of_text_token_makes_trials_stale(finished):
    """It occurs only in the tokenizer's config, which the trials' identity did not cover."""
    stages = read_run(run_with(finished, tokenizer="corpus").folder).stages
    files, path = stages["mask"].outputs, "examples/tokenizer/tokenizer_config.json"
    changed = replace(stages["mask"], outputs={**files, path: {**files[path], "digest": "0" * 32}})
    assert identities.examples_digest({"mask": changed}) != identities.examples_digest(stages)
    assert identities.tokenizer_made_from({"mask": changed}) != identities.tokenizer_made_from(stages)


def test_scores_of_the_start_with_another_vocabulary_are_stale(finished, tmp_path, monkeypatch):
    """Settings and seed of a start from scratch stay the same when its tokenizer is made again."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(finished, tmp_path / "runs")
    (tmp_path / "texts.csv").write_text("text\nI like it.\n")
    words = ["score", "texts.csv", "--model", "start", "--out", "out.csv", "--name", "tiny", "--inline"]

    def score():
        return CliRunner().invoke(app, words)

    assert score().exit_code == 0
    assert "is up to date" in score().output
    path = tmp_path / "runs/tiny/run.json"
    record = read_sealed(path, fix="")
    outputs = record["stages"]["mask"]["outputs"]
    outputs["examples/tokenizer/tokenizer.json"]["digest"] = "0" * 32
    write_sealed(path, record)
    assert isinstance(refused := score().exception, ConfigError)
    assert "out.csv is there already, made from other texts, models or settings" in str(refused)


def test_scores_of_a_further_corpus_depend_on_the_runs_tokenizer(tmp_path):
    """Its documents and shards may be identical under other merges, if none of its words is split differently."""
    place = RunFolder(tmp_path).further("other")
    place.further_record.parent.mkdir(parents=True)
    paths = ("corpus/documents.parquet", "examples/0.examples", "examples/tokenizer/tokenizer.json")
    outputs = {path: {"bytes": 1, "digest": "0" * 32} for path in paths}

    def made_from():
        write_sealed(place.further_record, {"outputs": outputs})
        return _made_from(place)["corpus"]

    before = made_from()
    for path in paths:
        outputs[path] = {"bytes": 1, "digest": "1" * 32}
        assert made_from() != before
        before = made_from()
    assert before == identities.further_scores_made_from(outputs, None)["corpus"]


def test_examples_with_another_vocabulary_are_remade(finished, tmp_path):
    """A killed mask stage may be continued with another version of `tokenizers`, which trains other merges."""
    shutil.copytree(finished, tmp_path / "runs")
    run = run_with(tmp_path / "runs", tokenizer="corpus")
    begun = run.folder.examples_fingerprint
    work, digest = begun.read_text().split()
    vocabulary = ExampleStore.open(run.folder.examples).vocabulary
    assert digest == vocabulary.digest
    # A file system may give a new file the inode of the one that was deleted, so the times are compared.
    shards = {path: path.stat().st_mtime_ns for path in run.folder.examples.rglob("*.examples")}
    options = {"documents": 120, "work": work, "identity": {}, "anew": False}
    make_examples(run.folder, run.config, run.executor, run.listener, **options)
    assert {path: path.stat().st_mtime_ns for path in shards} == shards
    begun.write_text(f"{work} {'0' * 32}")
    make_examples(run.folder, run.config, run.executor, run.listener, **options)
    assert all(path.stat().st_mtime_ns != made_at for path, made_at in shards.items())
    assert read_tokenizer(run.folder.examples / "tokenizer", "x")[0].digest == vocabulary.digest


def test_changing_the_tokenizer_makes_everything_stale(finished, folder, tmp_path):
    """The setting is named and nothing is done; with --force, every model is trained again with the new tokens."""
    shutil.copytree(finished, tmp_path / "runs")
    for other, tokenizer in ({}, "absent"), ({"tokenizer": str(folder)}, read_tokenizer(folder, "x")[0].digest):
        with pytest.raises(ChangedError, match=rf"stage 'mask': .*tokenizer: \"corpus\" → \"?{tokenizer}"):
            run_with(tmp_path / "runs", **other).do()
    run = run_with(tmp_path / "runs", forced=["mask"], tokenizer=str(folder))
    assert run.do() == []
    assert {"all: its examples changed since it was made, so it is made again"} <= set(run.listener.lines)
    vocabulary = ExampleStore.open(run.folder.examples).vocabulary
    assert read_tokenizer(run.folder.trial("all-C1").model, "x")[0].digest == vocabulary.digest
    # The folder is part of the run now, and its content what counts.
    moved = Path(shutil.move(folder, tmp_path / "moved"))
    again = run_with(tmp_path / "runs", tokenizer=str(moved))
    assert again.do() == []
    write_tokenizer(run.folder.examples / "tokenizer", ExampleStore.open(finished / "tiny/examples").vocabulary, 64)
    with pytest.raises(InputError, match="not the tokenizer that the examples were made with; do --force mask"):
        ExampleStore.open(run.folder.examples)


def test_a_further_corpus_is_tokenised_with_the_runs_tokenizer(finished, tmp_path):
    """Never with its own, whose ids would mean other tokens to the models; a new tokenizer makes it stale."""
    shutil.copytree(finished, tmp_path / "runs")
    write_sample(tmp_path / "other.csv", rows=40, seed=9, level_shares={"A1": 1, "C1": 1}, levels=("A1", "C1"))
    columns = SAMPLE_COLUMNS.model_dump(exclude_none=True)
    corpora = {"other": {"path": str(tmp_path / "other.csv"), "columns": columns}}
    run = make_run(tmp_path / "runs", {**SMALL, "model": {"tokenizer": "corpus"}, "corpora": corpora})
    assert run.do() == []
    place = run.folder.further("other")
    own, other = (ExampleStore.open(folder).vocabulary for folder in (run.folder.examples, place.examples))
    assert own.digest == other.digest
    made_from = read_json(place.further_record)["made_from"]
    outputs = read_json(run.folder.record)["stages"]["mask"]["outputs"]
    assert made_from["tokenizer"] == combine_digests(outputs, r"examples/tokenizer/")


def test_a_pretrained_start_requires_its_own_tokenizer(finished, folder, tmp_path):
    """Its ids belong to its tokens: `start` uses them, and any other setting is refused with the fix."""
    model = run_with(finished).folder.trial("all").model
    run = run_with(tmp_path, start=str(model), tokenizer="start")
    run.do("prepare", "mask", "train")
    assert read_tokenizer(run.folder.trial("all").model, "x")[0].digest == read_tokenizer(model, "x")[0].digest
    with pytest.raises(
        InputError, match=r"^model.start '.*': its tokenizer is not the run's.*set model.tokenizer: start"
    ):
        run_with(tmp_path / "other", start=str(model), tokenizer=str(folder)).do()
    with pytest.raises(InputError, match=r"its tokenizer is not GPT-2's.*set model.tokenizer: start to use its own"):
        run_with(tmp_path / "other", start=str(model)).do()
    with pytest.raises(
        InputError, match=r"^model.tokenizer '.*/none': no such folder; must be 'gpt2', 'corpus', 'start' or"
    ):
        run_with(tmp_path / "other", tokenizer=str(tmp_path / "none")).do()
    (bare := tmp_path / "bare").mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copy(model / name, bare)
    with pytest.raises(InputError, match="holds no tokenizer to compare with the run's"):
        run_with(tmp_path / "other", start=str(bare), tokenizer=str(folder)).do()


def test_a_text_that_the_tokenizer_cannot_encode_stops_the_run_before_masking(tmp_path):
    """The message shows the document's words; nothing is trained on altered text."""
    lossy = write_sentencepiece(tmp_path / "lossy", normalizer={"type": "Lowercase"})
    run = run_with(tmp_path, tokenizer=str(lossy))
    with pytest.raises(InputError, match=r"model.tokenizer: it is not lossless"):
        run.do("prepare", "mask")
    assert not list(run.folder.examples.glob("*.examples"))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            {"tokenizer": "start"},
            "tokenizer 'start' needs a start with one; with start 'scratch' set tokenizer: corpus",
        ),
        (
            {"start": "gpt2", "tokenizer": "corpus"},
            "tokenizer 'corpus' is for start 'scratch'; a pretrained start needs",
        ),
        ({"tokenizer": ""}, "tokenizer"),
    ],
)
def test_tokenizers_that_do_not_fit_the_start_are_refused(model, message):
    """They are refused when the file is read."""
    with pytest.raises(ConfigError, match=message):
        parse_config({**SMALL, "model": model})
