"""The Python API: what it is called, and what it answers."""

import dataclasses
import inspect
import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

import raysweep
from raysweep.errors import ConfigError, DamagedError, InputError, TrainingError
from raysweep.evaluation.answer_words import Constraints
from raysweep.evaluation.infilling import infill
from raysweep.inference.level_classifier import LevelClassifier
from raysweep.inference.level_predictor import LevelPredictor
from raysweep.inference.loaded_run import LoadedRun
from raysweep.inference.scoring_rules import ScoringRules
from raysweep.inference.trained_model import TrainedModel
from raysweep.model.gpt2 import load_model
from raysweep.scheduling.records import read_record, write_record
from raysweep.storage.digests import read_sealed, write_sealed
from tests.gpt2_tokens import document_tokenizer

TEXTS = ["I like apples. They are good.", "", "x", "A “curly” 😀 day,\nthen another."]
LONG = " ".join(f"Sentence {number} is about my friend and his dog." for number in range(60))


def signature_of(callable_):
    """Names and kinds, without annotations; a default that is no plain value as `…`."""
    plain = (type(None), bool, int, float, str, type(inspect.Parameter.empty))
    parameters = [
        parameter.replace(
            annotation=inspect.Parameter.empty,
            default=parameter.default if isinstance(parameter.default, plain) else SimpleNamespace(),
        )
        for parameter in inspect.signature(callable_).parameters.values()
    ]
    return str(inspect.Signature(parameters)).replace("namespace()", "…")


def test_public_names_and_signatures_are_unchanged():
    """Notebooks and other people's code rest on these names and arguments; change them in a new major version only."""
    assert raysweep.__all__ == ["__version__", "load", "load_model"]
    functions = [raysweep.load, raysweep.load_model, TrainedModel.infill, TrainedModel.score, LevelPredictor.predict]
    functions += [LevelClassifier.predict, LoadedRun.losses, LoadedRun.level_predictor, LoadedRun.level_classifier]
    assert {function.__qualname__: signature_of(function) for function in functions} == {
        "load": "(run, *, device=None)",
        "load_model": "(model, *, device=None)",
        "TrainedModel.infill": "(self, text, n=1, *, temperature=1.0, top_k=None, top_p=0.95, seed=0, "
        "max_answer_tokens=None, first_word=None, min_words=0, max_words=None, forbidden=…)",
        "TrainedModel.score": "(self, texts, *, ids=None, per_token=False)",
        "LevelPredictor.predict": "(self, texts)",
        "LevelClassifier.predict": "(self, texts, *, ids=None)",
        "LoadedRun.losses": "(self)",
        "LoadedRun.level_classifier": "(self, path=None)",
        "LoadedRun.level_predictor": "(self, family)",
    }
    assert {"models", "levels", "evidence", "config"} <= set(vars(LoadedRun))
    assert {field.name for field in dataclasses.fields(LevelPredictor)} == {
        "family",
        "models",
        "shares",
        "temperature",
        "accuracy",
    }


def nats_by_hand(model, text):
    """Compute nats with transformers: the mean loss for `labels=input_ids`, times the number of predicted tokens."""
    ids = torch.tensor([document_tokenizer().encode(text).ids])
    if ids.shape[1] < 2:
        return 0.0, 0
    with torch.inference_mode():
        return model(input_ids=ids, labels=ids).loss.item() * (ids.shape[1] - 1), ids.shape[1] - 1


def test_scores_equal_those_of_transformers(run):
    """They agree to 1e-5 nats per token, text by text, with transformers loading the model's folder itself."""
    plain = GPT2LMHeadModel.from_pretrained(run.folder.trial("A1").model).eval()
    scores = run["A1"].score(TEXTS)
    assert scores["text"].tolist() == [0, 1, 2, 3]
    for text, row in zip(TEXTS, scores.itertuples(), strict=True):
        nats, tokens = nats_by_hand(plain, text)
        assert row.tokens == tokens
        assert abs(row.nats - nats) <= 1e-5 * tokens
    first = document_tokenizer().decode(document_tokenizer().encode(TEXTS[3]).ids[:1])
    assert scores["bytes"][3] == len(TEXTS[3].encode()) - len(first.encode())


def test_a_test_document_has_the_scores_of_the_evaluation(run):
    """Under its own id the masks are the same, so infill nats, tokens and bytes are those of losses.parquet."""
    documents = pd.read_parquet(run.folder.documents).query("split == 'test'")
    scores = run["all"].score(documents["text"], ids=documents["writing_id"].tolist()).set_index(documents["document"])
    losses = run.losses().query("model == 'all' and part in ('answer', 'end')")
    measured = losses.groupby("document")[["nats", "tokens", "bytes"]].sum().reindex(scores.index, fill_value=0)
    assert (scores["infill_tokens"] == measured["tokens"]).all()
    assert (scores["infill_bytes"] == measured["bytes"]).all()
    assert measured["tokens"].sum() > 0
    assert ((scores["infill_nats"] - measured["nats"]).abs() <= 1e-5 * measured["tokens"]).all()


def test_masks_depend_only_on_the_id(run):
    """Order and other texts have no influence; without ids the masks depend on the text."""
    texts = [LONG, TEXTS[0], LONG[:300]]
    together = run["A1"].score(texts)
    for number, text in enumerate(texts):
        alone = run["A1"].score(text)
        assert alone["infill_tokens"][0] == together["infill_tokens"][number]
        assert alone["infill_nats"][0] == pytest.approx(together["infill_nats"][number], abs=1e-4)
    named = [run["A1"].score(LONG, ids=[name])["infill_nats"][0] for name in ("a", "b", "a")]
    assert named[0] == named[2] != named[1]


def test_long_texts_are_scored_in_windows_that_overlap_by_half(run):
    """Every token but the first is predicted once, from at least half a window."""
    network, window = run["A1"].network, run.config.masking.max_tokens
    tokens = run["A1"].score(LONG, per_token=True)
    ids = torch.tensor(document_tokenizer().encode(LONG).ids)
    assert len(ids) > 2 * window
    logarithms = np.full(len(ids), np.nan)
    with torch.inference_mode():
        for begin in range(0, len(ids), window // 2):
            part = ids[begin : begin + window]
            losses = torch.nn.functional.cross_entropy(network(part[None]).logits[0, :-1], part[1:], reduction="none")
            new = np.arange(begin + 1, begin + len(part))
            new = new[np.isnan(logarithms[new])]
            logarithms[new] = losses[new - begin - 1]
    np.testing.assert_allclose(tokens["nats"], logarithms, atol=1e-4)
    assert run["A1"].score(LONG)["nats"][0] == pytest.approx(np.nansum(logarithms), abs=1e-2)


def test_per_token_losses_sum_to_the_loss_of_the_text(run):
    """Pieces stand at their characters, and their losses sum to the text's."""
    tokens, scores = run["C1"].score(TEXTS, per_token=True), run["C1"].score(TEXTS)
    for number, text in enumerate(TEXTS):
        of_text = tokens[tokens["text"] == number]
        assert of_text["nats"].sum() == pytest.approx(scores["nats"][number], abs=1e-6)
        assert of_text["nats"].isna().sum() == (1 if text else 0)
        assert of_text["token"].tolist() == list(range(len(of_text)))
        for row in of_text.itertuples():
            assert row.piece == text[row.start : row.stop]
    assert "".join(tokens[tokens["text"] == 0]["piece"]) == TEXTS[0]


def test_level_probabilities_follow_bayes_rule_with_prior_and_temperature(run):
    """p(level | text) ∝ share × exp(−nats / T); a text of a single token leaves the shares."""
    texts = [text for text in TEXTS if text]
    (family,) = [group for group in run.evidence.cold_start if group.family == "specialised"]
    for predictor in (run.levels, dataclasses.replace(run.levels, temperature=20.0)):
        predicted = predictor.predict(texts)
        nats = np.stack([run[family.experts[level]].score(texts)["nats"] for level in family.levels], axis=1)
        weights = np.array([family.shares[level] for level in family.levels]) * np.exp(-nats / predictor.temperature)
        expected = weights / weights.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(predicted[list(family.levels)], expected, atol=1e-9)
        assert predicted["level"].tolist() == [family.levels[place] for place in expected.argmax(axis=1)]
    assert run.levels.temperature == (family.calibration.temperature if family.calibration else 1.0)
    assert run.levels.accuracy == family.accuracy
    with pytest.raises(InputError, match="specialised or transfer"):
        run.level_predictor("best")
    with pytest.raises(InputError, match="by transfer models; they need the scores of two"):
        run.level_predictor("transfer")


@pytest.mark.parametrize("text", ["", " \n"])
def test_an_empty_text_has_no_level(run, text):
    """The shares of the levels alone would give it the most frequent one, as if something were known about it."""
    classifier = LevelClassifier(pipeline=None, levels=("A1", "C1"), models=run.levels.models)
    for predict in (run.levels.predict, classifier.predict):
        with pytest.raises(InputError, match=r"text 1: found '.*'; it is empty and has no level"):
            predict(["I like apples.", text])


def test_infill_of_the_api_equals_that_of_the_command(run):
    """It returns as many fillings as requested, the same as the function behind the command."""
    text = "I like [word] because [ngram]."
    network = load_model(run.folder.trial("A1").model)
    assert run["A1"].infill(text, n=2, seed=3) == infill(network, text, samples=2, seed=3)
    with pytest.raises(InputError, match=r"forbidden: found 'tea'; must be a list of words"):
        run["A1"].infill("I like [ngram].", forbidden="tea")
    asked = {"first_word": "green", "max_words": 2, "forbidden": ("tea",)}
    (filled,) = run["A1"].infill(text, **asked)
    assert [filled] == infill(network, text, constraints=Constraints(**asked))
    assert all(answer.text.startswith("green") for answer in filled.answers)


def test_models_are_listed_by_trial_name(run):
    """The start is one of them; another name is answered with those that there are."""
    assert list(run.models) == ["start", "A1", "C1", "all", "all-C1"]
    assert len(run.models) == 5
    assert (repr(run.models), repr(run["A1"])) == ("Models(start, A1, C1, all, all-C1)", "TrainedModel(name='A1')")
    assert run["start"].score(TEXTS[0])["nats"][0] == pytest.approx(7 * math.log(50264), rel=0.02)
    with pytest.raises(KeyError, match="A3: no such model; trained are start, A1, C1, all, all-C1"):
        run["A3"]


def test_a_model_is_loaded_from_its_folder(run):
    """It has its trial's name and the same scores of whole texts."""
    model = raysweep.load_model(run.folder.trial("all-C1").model, device="cpu")
    assert model.name == "all-C1"
    pd.testing.assert_series_equal(model.score(TEXTS)["nats"], run["all-C1"].score(TEXTS)["nats"])


def test_a_gpt2_without_infilling_tokens_scores_but_refuses_to_infill(tmp_path):
    """Native GPT-2: its own 50,257 tokens share the probability, as in transformers."""
    plain = GPT2LMHeadModel(GPT2Config(n_positions=32, n_embd=8, n_layer=1, n_head=1, initializer_range=0.3)).eval()
    plain.save_pretrained(tmp_path / "native")
    model = raysweep.load_model(tmp_path / "native", device="cpu")
    nats, tokens = nats_by_hand(plain, TEXTS[0])
    row = model.score(TEXTS[0]).iloc[0]
    assert abs(row["nats"] - nats) <= 1e-5 * tokens
    assert row["infill_tokens"] == 0
    with pytest.raises(InputError, match="model 'native': has no tokens for blanks"):
        model.infill("I like [word].")


@pytest.mark.parametrize(
    ("texts", "ids", "message"),
    [
        (["a", None], None, "text 1: found NoneType; must be a string"),
        (["a\ud800b"], None, "text 0, character 1: found '.ud800', half of a character"),
        (["a", "b"], ["1"], "ids: found 1 for 2 texts"),
        (pd.DataFrame({"essay": ["a"]}), None, "texts: found a DataFrame; must be a string, or a list or column"),
        ({"essay": "a"}, None, "texts: found a dict; must be a string"),
    ],
)
def test_a_value_that_is_not_a_text_is_refused_with_its_index_and_type(run, texts, ids, message):
    """The message gives its number and type."""
    with pytest.raises(InputError, match=message):
        run["A1"].score(texts, ids=ids)


def test_an_empty_list_gives_an_empty_table(run):
    """Without texts there are no rows, but the same columns."""
    assert run["A1"].score([]).columns.tolist() == run["A1"].score("a").columns.tolist()
    assert len(run["A1"].score([])) == len(run["A1"].score([], per_token=True)) == len(run.levels.predict([])) == 0


def test_damaged_files_are_reported_and_not_loaded(own_run):
    """One byte is enough; the message says what makes the file again."""
    weights = own_run.folder.trial("A1").model / "model.safetensors"
    for path, read, fix in [
        (
            weights,
            lambda: own_run["A1"].score("a"),
            "make it again with `raysweep run --name tiny --storage .* --force A1`",
        ),
        (own_run.folder.losses, own_run.losses, "`raysweep run --name tiny --storage .* --force evaluate`"),
        (
            own_run.folder.evidence,
            lambda: own_run.evidence,
            "`raysweep report --name tiny --storage .* --force report`",
        ),
    ]:
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
        with pytest.raises(DamagedError, match=rf"{path.name} is damaged .its digest differs.*{fix}"):
            read()
    (own_run.folder.trial("C1").record).write_text("{}x")
    with pytest.raises(
        DamagedError, match=r"trial\.json: is damaged .*`raysweep run --name tiny --storage .* --force C1`"
    ):
        _ = raysweep.load(own_run.folder.root).models
    own_run.folder.record.unlink()
    with pytest.raises(InputError, match=r"losses\.parquet: not there; do `raysweep run --name tiny"):
        own_run.losses()


def test_levels_are_not_predicted_with_a_report_of_other_models(own_run):
    """The report's temperature, and its share of correct levels, hold only for the models that it compared."""
    folder = own_run.folder
    assert list(own_run.levels.models) == ["A1", "C1"]
    run_json, reason = folder.record.read_bytes(), "rests on other models or scores than those that are there now"
    values = read_sealed(folder.record, fix="")
    values["stages"]["evaluate"]["outputs"]["evaluation/losses.parquet"]["digest"] = "0" * 32
    write_sealed(folder.record, values)
    with pytest.raises(InputError, match=reason):
        own_run.level_predictor("specialised")
    folder.record.write_bytes(run_json)
    own_run.level_predictor("specialised")
    record = read_record(folder.trial("A1"))
    weights = {**record.outputs["model/model.safetensors"], "digest": "0" * 32}
    write_record(
        folder.trial("A1"),
        dataclasses.replace(record, outputs={**record.outputs, "model/model.safetensors": weights}),
    )
    with pytest.raises(InputError, match=reason):
        own_run.level_predictor("specialised")


def test_levels_are_not_predicted_if_one_of_the_models_is_missing(own_run):
    """One of the models is being trained again, or failed, after the report was made."""
    own_run.folder.trial("C1").record.unlink()
    with pytest.raises(InputError, match=r"tells levels by 'C1' too, which is not trained now; do `raysweep run"):
        own_run.level_predictor("specialised")


def test_a_folder_without_a_run_is_refused(tmp_path):
    """The message names the argument and the requirement."""
    with pytest.raises(
        InputError, match=r"^run: found '.*', which holds no run .no config\.yaml.; must be a run's folder"
    ):
        raysweep.load(tmp_path)


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda _: raysweep.load("ftp://a/b"), "run: found 'ftp://a/b'; must be a path, s3://"),
        (lambda _: raysweep.load_model("s3://"), "model: found 's3://'; must name a bucket"),
        (lambda _: raysweep.load_model("./none"), "model './none': no such folder; give a folder"),
        (lambda _: raysweep.load_model("a b"), "model 'a b': neither a folder nor a name on the hub; must be a folder"),
        (
            lambda run: raysweep.load(run.folder.root, device="cuda:99"),
            "device: found 'cuda:99', which torch cannot use",
        ),
        (lambda run: raysweep.load_model(run.folder.root, device="gpu"), "device: found 'gpu', which torch cannot use"),
        (lambda run: run["A1"].infill("I like [word].", n=0), "n: found 0; must be at least 1"),
    ],
)
def test_api_errors_name_arguments_and_not_command_options(run, ask, message):
    """A Python user has given neither `--storage` nor `model.start`."""
    with pytest.raises((InputError, ConfigError)) as raised:
        ask(run)
    assert str(raised.value).startswith(message)


def test_a_diverged_model_gives_an_error_and_no_score(run):
    """NaN in a table would be taken for a missing number."""
    network = load_model(run.folder.trial("A1").model)
    with torch.no_grad():
        network.transformer.wte.weight[:] = float("nan")
    broken = TrainedModel(name="broken", rules=ScoringRules.of_run(run.config), load=lambda: network)
    with pytest.raises(TrainingError, match="model 'broken': found a loss that is not a finite number"):
        broken.score(TEXTS[0])
