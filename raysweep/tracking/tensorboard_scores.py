"""A model's scores on the test documents, as metrics by name, and as points in TensorBoard."""

import math
import tempfile
from pathlib import Path

from raysweep.config.schema import Config
from raysweep.evaluation.matrix import build_matrix
from raysweep.scheduling.records import TrialRecord, read_record
from raysweep.scheduling.trials import Trial
from raysweep.storage.digests import read_sealed
from raysweep.storage.run_folder import RunFolder
from raysweep.training.hyperparameters import hyperparameters
from raysweep.training.metrics import draw_hyperparameters

_ENDING = ".scores"
_TRAINED = ("train/loss", "valid/loss")


def read_test_scores(folder: RunFolder, record: TrialRecord, *, metric: str) -> dict[str, float]:
    """`test/loss/LEVEL` (nats per token) and `test/perplexity/LEVEL` of a trial; {} if this model was not scored.

    Raises:
        DamagedError, EarlierVersionError: the record of the scores is not as this version wrote it.
    """
    path = folder.cells_record(record.trial)
    if not record.outputs or not path.exists():
        return {}
    scored = read_sealed(path, fix="score the models again with --force evaluate")
    if scored["made_from"].get("model") != record.model_digest:
        return {}  # an earlier model's
    row = build_matrix(folder.cells(record.trial), metric=metric).loc[record.trial].dropna()
    perplexities = {str(level): float(value) for level, value in zip(row.index, row.to_numpy(), strict=True)}
    losses = {f"test/loss/{level}": math.log(value) for level, value in perplexities.items()}
    return {**losses, **{f"test/perplexity/{level}": value for level, value in perplexities.items()}}


def draw_test_scores(folder: RunFolder, config: Config, trial: Trial) -> None:
    """Give TensorBoard the scores of a trial, in an event file of their own that replaces an earlier one.

    TensorBoard's HParams tab then has the scores as columns, beside the losses of training and validation.
    """
    from tensorboardX import SummaryWriter  # loads NumPy and protobuf, which a plan does not need

    root, record = folder.trial(trial.name).root, read_record(folder.trial(trial.name))
    scores = read_test_scores(folder, record, metric=config.report.metric) if record is not None else {}
    if record is None or not scores:
        return
    values = hyperparameters(trial.settings, config.model, seed=trial.seed, parent=trial.parent)
    with tempfile.TemporaryDirectory(prefix=".scores.", suffix=".part", dir=root) as beside:
        with SummaryWriter(beside, filename_suffix=_ENDING) as board:
            draw_hyperparameters(board, values, metrics=[*_TRAINED, *scores])
            for name, value in scores.items():
                board.add_scalar(name, value, int(record.result["steps"]))
        for earlier in root.glob(f"events.out.tfevents.*{_ENDING}"):
            earlier.unlink()
        for written in Path(beside).iterdir():
            written.replace(root / written.name)
