"""What the report says about the size of a further corpus, and about what its intervals resample."""

import json

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from raysweep.evidence.beyond import describe_beyond
from raysweep.report.labels import resampling_said
from raysweep.report.writing import write_report
from raysweep.scheduling.records import read_record
from raysweep.scheduling.trials import find_roles
from tests.simulated_run import make_config, make_run


def test_scored_documents_and_those_without_a_learner_are_counted(tmp_path):
    """`documents_per_level` may reduce the scored documents, and only some learners may be known."""
    config = make_config(("A1", "B1"), corpora={"other": {"path": "other.csv"}}, resamples=100)
    folder, config, trials = make_run(tmp_path, config, documents=5)
    place, table = folder.further("other"), pq.read_table(folder.documents)
    for path in (place.documents, place.losses):
        path.parent.mkdir(parents=True, exist_ok=True)
    learners = pc.if_else(pc.equal(pc.bit_wise_and(table["document"], 1), 0), table["learner"], pa.scalar(None))
    pq.write_table(table.set_column(table.column_names.index("learner"), "learner", learners), place.documents)
    place.losses.write_bytes(folder.losses.read_bytes())
    place.splits.write_text(json.dumps({"rows": 5000, "documents": 4000, "bad_rows": {}}))
    records = {name: read_record(folder.trial(name)) for name in trials}
    roles = find_roles(trials, config.data.levels)
    (corpus_facts,) = describe_beyond(folder, config, trials, roles, records)
    scored = set(pq.read_table(folder.losses)["document"].to_pylist())
    assert (corpus_facts.rows, corpus_facts.documents) == (5000, len(scored))
    assert corpus_facts.documents == sum(size.documents for size in corpus_facts.matrix.sizes.values()) == 10
    assert corpus_facts.without_learner == sum(document % 2 for document in scored) == 5


def test_claims_on_a_further_corpus_name_their_levels_if_one_is_missing(tmp_path):
    """A mean over one of two levels is not one over both."""
    config = make_config(("A1", "B1"), corpora={"other": {"path": "other.csv"}}, resamples=100)
    folder, config, trials = make_run(tmp_path, config)
    place, losses = folder.further("other"), pq.read_table(folder.losses)
    for path in (place.documents, place.losses):
        path.parent.mkdir(parents=True, exist_ok=True)
    place.documents.write_bytes(folder.documents.read_bytes())
    pq.write_table(losses.filter(pc.equal(losses["level"], "A1")), place.losses)
    place.splits.write_text(json.dumps({"rows": 50, "documents": 40, "bad_rows": {}}))
    write_report(folder, config, trials)
    assert ", over A1 alone" in folder.report_html.read_text()


@pytest.mark.parametrize(
    ("without_learner", "sentence"),
    [
        (0, "Intervals come from resampling learners."),
        (1990, "Intervals come from resampling learners; 1,990 of 2,000 documents, whose learner is not known, count"),
        (2000, "Intervals come from resampling documents, for learners are not known."),
    ],
)
def test_the_resampling_unit_of_intervals_is_stated(without_learner, sentence):
    """An anonymous corpus with a few known learners does not count as a corpus of learners."""
    assert resampling_said(2000, without_learner).startswith(sentence)
