"""A real run from a CSV to a zip that may be given to anybody."""

import csv
import zipfile

import pyarrow.parquet as pq

from raysweep.corpus.sample import SAMPLE_COLUMNS, write_sample
from raysweep.publishing.bundle import write_bundle
from raysweep.publishing.verify import verify_bundle

MARKER = "Zanzibar"


def write_corpus(path):
    """Write the sample's texts, with the marker in every text, id, learner and prompt, and a script in every text."""
    write_sample(path, rows=120, seed=0, level_shares={"A1": 1.0, "C1": 1.0}, levels=("A1", "C1"))
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        for name in (SAMPLE_COLUMNS.id, SAMPLE_COLUMNS.learner, SAMPLE_COLUMNS.prompt):
            row[name] = f"{MARKER} {row[name]}"
        words = row[SAMPLE_COLUMNS.text].split(" ")
        words[2:2] = [MARKER, "<script>alert(1)</script>"]
        row[SAMPLE_COLUMNS.text] = " ".join(words)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def test_published_files_contain_no_learner_text_and_verify(tiny_run, tmp_path):
    """Every stage has written its files, and texts were even requested for the local page."""
    write_corpus(tmp_path / "texts.csv")
    columns = {**SAMPLE_COLUMNS.model_dump(), "date": SAMPLE_COLUMNS.learner, "score": SAMPLE_COLUMNS.prompt}
    changes = {
        "data": {"csv": str(tmp_path / "texts.csv"), "levels": ["A1", "C1"], "columns": columns},
        "evaluation": {"examples_per_document": 1, "generation_documents": 3, "speed_repeats": 0},
        "report": {"resamples": 100, "show_texts": True},
    }
    run = tiny_run(changes)
    run.do()
    assert MARKER in run.folder.report_html.read_text(encoding="utf-8")  # the samples, at home
    assert "<script" not in run.folder.report_html.read_text(encoding="utf-8")
    out = tmp_path / "evidence.zip"
    write_bundle(run.folder, out)
    with zipfile.ZipFile(out) as archive:
        for name in archive.namelist():
            content = archive.read(name)
            if name.endswith(".parquet"):
                with archive.open(name) as file:
                    content += str(pq.read_table(file).to_pydict()).encode()
            assert MARKER.lower().encode() not in content.lower(), name
    verification = verify_bundle(out)
    assert verification.differences == ()
    assert verification.recomputed.documents == 120
