"""`bench` from the command line."""

import json
import math

import pytest

from raysweep.errors import ConfigError
from tests.tokenizers_of_tests import write_byte_level


def test_bench_mask_times_the_rows_of_a_csv(command, tmp_path):
    """The times are printed as JSON; a missing column is an error."""
    assert command("sample", "--rows", 12, "--out", tmp_path / "texts.csv").exit_code == 0
    report = json.loads(command("bench", "mask", "--csv", tmp_path / "texts.csv", "--rows", 10).stdout)
    assert report["documents"] == 10
    assert report["documents_per_s"] > 0
    assert "a column 'essay'" in str(
        command("bench", "mask", "--csv", tmp_path / "texts.csv", "--column", "essay").exception
    )


def test_bench_train_times_steps(command):
    """The options reach the benchmark."""
    options = ("--config", "micro", "--steps", 1, "--batch-size", 2, "--device", "cpu", "--micro-batch", 1)
    report = json.loads(command("bench", "train", *options, "--packing", "off").stdout)
    assert (report["size"], report["batch_size"], report["micro_batch"], report["packing"]) == ("micro", 2, 1, "off")
    assert report["tokens_per_s"] > 0


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--config", "huge"),
        ("--precision", "fp8"),
        ("--packing", "maybe"),
        ("--micro-batch", "0"),
        ("--like", "theirs"),
    ],
)
def test_bench_train_refuses_unknown_options(command, option, value):
    """The exit code is 2, and the message names the option."""
    result = command("bench", "train", option, value)
    if isinstance(result.exception, ConfigError):
        assert result.exception.exit_code == 2
        assert option in str(result.exception)
    else:
        assert result.exit_code == 2
        assert option in result.output


def test_bench_score_compares_with_plain_transformers(command):
    """Both score the same labels; an untrained model's loss is that of a uniform guess among 50,264 tokens."""
    options = ("--device", "cpu", "--config", "micro", "--documents", 6)
    report = json.loads(command("bench", "score", *options, "--like", "transformers").stdout)
    assert report["nats_per_label"] == pytest.approx(10.83, rel=0.02)
    ratio = report["examples_per_s"] / report["transformers"]["examples_per_s"]
    assert report["ratio_to_transformers"] == pytest.approx(ratio)
    assert report["cpu_ratio_to_transformers"] > 0
    assert "transformers" not in json.loads(command("bench", "score", *options).stdout)


@pytest.mark.parametrize(("kind", "options"), [("score", ("--documents", 6)), ("train", ("--steps", 1))])
def test_bench_uses_the_tokenizer_of_a_folder(command, tmp_path, kind, options):
    """A run's own tokenizer is an example: it sets the size of the models' output layer. Here, none is trained."""
    folder = write_byte_level(tmp_path / "tokenizer", size=400)
    options = ("bench", kind, "--device", "cpu", "--config", "micro", *options, "--tokenizer")
    ids = len(json.loads((folder / "vocab.json").read_text())) + 7
    report = json.loads(command(*options, folder).stdout)
    assert report["ids"] == ids
    if kind == "score":
        assert report["nats_per_label"] == pytest.approx(math.log(ids), rel=0.02), "untrained: any token"
    error = command(*options, "corpus").exception
    assert isinstance(error, ConfigError)
    assert "--tokenizer: found 'corpus'; must be 'gpt2' or a folder with a tokenizer.json" in str(error)


def test_bench_score_refuses_an_unknown_size(command):
    """The exit code is 2, and the message names the option."""
    error = command("bench", "score", "--config", "huge").exception
    assert isinstance(error, ConfigError)
    assert "--config: found 'huge'" in str(error)
