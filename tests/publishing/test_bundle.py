"""A run's evidence as a zip: complete, without learners' texts, and the same bytes each time."""

import io
import json
import shutil
import subprocess
import sys
import zipfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raysweep.config.loading import dump_config, parse_config
from raysweep.errors import DamagedError, InputError
from raysweep.publishing.bundle import write_bundle
from raysweep.publishing.verify import verify_bundle
from raysweep.report.writing import write_report
from raysweep.scheduling.trials import expand_trials
from raysweep.statistics.loss_table import read_losses
from tests.simulated_run import make_config, make_run

MARKER = "zanzibar quagmire"
TEXT = f"My {MARKER} is very big and it has a red door and two small windows near the street."


@pytest.fixture(scope="module")
def marked(tmp_path_factory):
    """Make a reported run; each document has the marker in its text, id, learner and prompt."""
    return report_marked(tmp_path_factory.mktemp("marked"))


def report_marked(root, **report):
    config = make_config(report={"resamples": 100, **report})
    folder, config, trials = make_run(root, config, documents=15)
    table = pq.read_table(folder.documents)
    for name in ("writing_id", "learner", "prompt"):
        values = [f"{MARKER} {value}" for value in table["document" if name == "prompt" else name].to_pylist()]
        table = table.set_column(table.column_names.index(name), name, pa.array(values))
    texts = pa.array([TEXT] * len(table))
    pq.write_table(table.set_column(table.column_names.index("text"), "text", texts), folder.documents)
    splits = json.loads(folder.splits.read_text())
    splits["lengths"] = {level: {"documents": 150, "mean": float(len(TEXT))} for level in splits["levels"]}
    folder.splits.write_text(json.dumps(splits))
    losses = pq.read_table(folder.losses)
    ids = pa.array([f"{MARKER} {value}" for value in losses["writing_id"].to_pylist()])
    pq.write_table(losses.set_column(losses.column_names.index("writing_id"), "writing_id", ids), folder.losses)
    folder.config.write_text(dump_config(config), encoding="utf-8")
    write_report(folder, config, trials)
    return folder


@pytest.fixture(scope="module")
def zipped(marked, tmp_path_factory):
    path = tmp_path_factory.mktemp("zip") / "evidence.zip"
    write_bundle(marked, path)
    return path


def test_a_bundle_replaces_a_bundle_and_no_other_file(marked, zipped, tmp_path):
    """A wrong --out would cost a corpus, or the private key that was to sign."""
    out = tmp_path / "evidence.zip"
    for content in (b"a private key", b"", zip_of("texts.csv")):
        out.write_bytes(content)
        with pytest.raises(InputError, match=r"evidence\.zip is there already, and is no bundle; name another file"):
            write_bundle(marked, out)
        assert out.read_bytes() == content
    out.write_bytes(zipped.read_bytes())
    write_bundle(marked, out)
    assert out.read_bytes() == zipped.read_bytes()


def zip_of(name):
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr(name, "text\nI like apples.\n")
    return made.getvalue()


def test_a_bundle_with_untrained_settings_does_not_verify(tmp_path):
    """Even if the page follows from its evidence, it may state another learning rate than the trials' records."""
    folder, config, _ = make_run(tmp_path, make_config())
    values = config.model_dump(mode="json", by_alias=True, exclude_none=True)
    values["trials"]["A1"]["learning_rate"] = 0.5
    stated = parse_config(values)
    folder.config.write_text(dump_config(stated), encoding="utf-8")
    write_report(folder, stated, expand_trials(stated))
    with pytest.raises(InputError, match=r"trials/A1/trial\.json: learning_rate: stated 0\.5 in the evidence, trained"):
        write_bundle(folder, tmp_path / "evidence.zip")


def test_no_learner_text_id_or_prompt_is_published(zipped):
    """A marker in every text, id, learner and prompt occurs in no file of the zip, compressed or not."""
    with zipfile.ZipFile(zipped) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
        for name in list(contents):
            if name.endswith(".parquet"):
                with archive.open(name) as file:
                    contents[f"{name}, unpacked"] = str(pq.read_table(file).to_pydict()).encode()
    assert len(contents) > 60
    assert [name for name, content in contents.items() if b"zanzibar" in content.lower()] == []
    assert b"zanzibar" not in zipped.read_bytes()


def test_learners_and_prompts_are_replaced_by_numbers(marked, zipped):
    """Resampling needs to know which documents share a writer, but no names."""
    before = pq.read_table(marked.documents)
    with zipfile.ZipFile(zipped) as archive, archive.open("corpus/documents.parquet") as file:
        after = pq.read_table(file)
    assert after.column_names == ["document", "l1", "level", "split", "learner", "prompt", "characters"]
    pairs = set(zip(before["learner"].to_pylist(), after["learner"].to_pylist(), strict=True))
    assert len(pairs) == len({name for name, _ in pairs}) == len({number for _, number in pairs})
    assert after["learner"].to_pylist()[:4] == ["learner-1", "learner-1", "learner-1", "learner-2"]
    assert set(after["characters"].to_pylist()) == {len(TEXT)}


def test_losses_are_published_bitwise(marked, zipped, tmp_path):
    """Everything else is recomputed from them."""
    with zipfile.ZipFile(zipped) as archive:
        archive.extract("evaluation/losses.parquet", tmp_path)
    levels = ("A1", "A2", "B1", "B2", "C1")
    here, there = read_losses(marked.losses, levels), read_losses(tmp_path / "evaluation/losses.parquet", levels)
    assert (here.nats == there.nats).all()
    assert "writing_id" not in pq.read_schema(tmp_path / "evaluation/losses.parquet").names


def test_the_same_run_gives_the_same_zip(marked, zipped, tmp_path):
    """It contains no times, owners or directory order, so its hash can be printed in a paper."""
    write_bundle(marked, tmp_path / "again.zip")
    assert (tmp_path / "again.zip").read_bytes() == zipped.read_bytes()


def test_a_bundle_contains_no_samples_even_if_the_report_shows_them(tmp_path):
    """The samples are not published: the zip's page is made without them, and verifies."""
    folder = report_marked(tmp_path, show_texts=True)
    folder.report_html.write_text(folder.report_html.read_text() + f"<p>{TEXT}</p>")
    write_bundle(folder, tmp_path / "evidence.zip")
    with zipfile.ZipFile(tmp_path / "evidence.zip") as archive:
        assert all(b"zanzibar" not in archive.read(name) for name in archive.namelist())
    assert verify_bundle(tmp_path / "evidence.zip").is_verified


def test_a_learner_text_in_any_published_file_stops_bundling(tmp_path):
    """This second guard covers whatever later stages may write: eight consecutive words are refused."""
    folder = report_marked(tmp_path)
    leakage = json.loads(folder.leakage.read_text())
    folder.leakage.write_text(json.dumps({**leakage, "found": ["it has a red door and two small windows"]}))
    config = make_config(report={"resamples": 100})
    from raysweep.scheduling.trials import expand_trials

    write_report(folder, config, expand_trials(config))
    with pytest.raises(InputError, match="words of a learner's text"):
        write_bundle(folder, tmp_path / "evidence.zip")
    assert not (tmp_path / "evidence.zip").exists()


def test_a_text_of_a_further_corpus_in_any_published_file_stops_bundling(tmp_path):
    """Its learners are protected in the same way as those of the run's own corpus."""
    text = "Nobody else in our village had ever seen a purple elephant dance before breakfast."
    config = make_config(report={"resamples": 100}, corpora={"other": {"path": "other.csv"}})
    folder, config, trials = make_run(tmp_path, config, documents=3)
    place = folder.further("other")
    place.documents.parent.mkdir(parents=True)
    pq.write_table(pa.table({"text": [text]}), place.documents)
    folder.config.write_text(dump_config(config), encoding="utf-8")
    folder.leakage.write_text(json.dumps({**json.loads(folder.leakage.read_text()), "found": [text.upper()]}))
    write_report(folder, config, trials)
    with pytest.raises(InputError, match="would put 8 words of a learner's text"):
        write_bundle(folder, tmp_path / "evidence.zip")
    assert not (tmp_path / "evidence.zip").exists()


def test_a_report_older_than_its_run_is_not_bundled(tmp_path):
    """Otherwise readers would find that nothing matches; the author is told first, and how to fix it."""
    folder = report_marked(tmp_path)
    losses = pq.read_table(folder.losses)
    pq.write_table(losses.set_column(6, "nats", pa.array(losses["nats"].to_numpy() * 1.01)), folder.losses)
    with pytest.raises(InputError, match=r"`raysweep report .* --force report`"):
        write_bundle(folder, tmp_path / "evidence.zip")


def test_a_report_of_another_version_is_named_in_one_line(marked, tmp_path):
    """A message for each of its thousand numbers filled the terminal."""
    folder = type(marked)(shutil.copytree(marked.root, tmp_path / "run"))
    folder.evidence.write_text(folder.evidence.read_text().replace('"confidence"', '"of_another_version"'))
    with pytest.raises(InputError, match=r"evidence\.json was written by another version of raysweep") as refused:
        write_bundle(folder, tmp_path / "evidence.zip")
    assert len(str(refused.value)) < 600


@pytest.mark.parametrize("name", ["losses", "documents"])
def test_a_truncated_table_is_reported_as_damaged(marked, tmp_path, name):
    """It is a fault of the disk, and not of raysweep, and nothing is published."""
    folder = type(marked)(shutil.copytree(marked.root, tmp_path / "run"))
    table = getattr(folder, name)
    table.write_bytes(table.read_bytes()[:-100])
    with pytest.raises(DamagedError, match=rf"{table.name}: is damaged, and cannot be read as Parquet") as raised:
        write_bundle(folder, tmp_path / "evidence.zip")
    assert f"`raysweep check-run --name run --storage {tmp_path}`" in str(raised.value)
    assert not (tmp_path / "evidence.zip").exists()


def test_a_run_without_a_report_is_refused_with_the_command_that_writes_it(make_run, tmp_path):
    """There is nothing to bundle yet."""
    folder, _, _ = make_run()
    with pytest.raises(InputError, match="not there; do `raysweep run --name pilot"):
        write_bundle(folder, tmp_path / "evidence.zip")


def test_bundling_and_verifying_import_neither_torch_nor_ray(zipped):
    """A reader of the paper has only a laptop and the zip."""
    code = f"""
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "ray", "transformers", "tokenizers"):
            raise ImportError(f"{{name}} is not to be loaded")
sys.meta_path.insert(0, Refuse())
from raysweep.cli.app import main
sys.argv = ["raysweep", "verify", {str(zipped)!r}]
main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert "verified in" in done.stdout
