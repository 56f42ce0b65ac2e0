"""Parts of a corpus scored by a pool of actors: the same files as in one process, and errors with their model."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raysweep.cluster.text_scorers import score_parts
from raysweep.errors import DamagedError, TrainingError
from raysweep.inference.text_parts import score_part
from raysweep.pipeline.tasks import TextTask

pytestmark = [
    pytest.mark.ray,
    # Ray Data warns of its own deprecated fields when it makes its own context.
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.data.context"),
]
HERE = "tests.cluster.test_text_scorers"


def fake_part(*, run, model, texts, out, tokens_out, infills, device):
    """Instead of scoring; imported by name in the workers."""
    if model == "damaged":
        raise DamagedError("model.safetensors is damaged; train it again with --force damaged")
    if model == "broken":
        raise ZeroDivisionError("no such thing")
    return 3


def task(run: Path, model: str, texts: Path, out: Path) -> TextTask:
    return TextTask(run=run, model=model, texts=texts, out=out, tokens_out=None)


def test_actors_write_what_one_process_writes(session, finished_storage, tmp_path):
    """To the byte, in any order; each task comes back once with the number of its texts."""
    run, texts = finished_storage / "tiny", tmp_path / "texts.parquet"
    pq.write_table(pa.table({"writing_id": ["a", "b"], "text": ["I like apples. He goes.", "x"]}), texts)
    tasks = [task(run, model, texts, tmp_path / f"{model}.parquet") for model in ("A1", "C1")]
    assert sorted((done.model, count) for done, count in score_parts(session, tasks)) == [("A1", 2), ("C1", 2)]
    for model in ("A1", "C1"):
        inline = tmp_path / f"{model}-inline.parquet"
        score_part(run=run, model=model, texts=texts, out=inline, tokens_out=None, device="cpu")
        assert inline.read_bytes() == (tmp_path / f"{model}.parquet").read_bytes()


@pytest.mark.parametrize(
    ("model", "error", "message"),
    [
        ("damaged", DamagedError, "model.safetensors is damaged"),
        ("broken", TrainingError, "model 'broken': ZeroDivisionError"),
    ],
)
def test_an_error_comes_back_as_itself(session, tmp_path, model, error, message):
    """Ours as it was raised; another with the model's name."""
    with pytest.raises(error) as raised:
        list(score_parts(session, [task(tmp_path, model, tmp_path, tmp_path)], score=f"{HERE}:fake_part"))
    assert message in str(raised.value)
