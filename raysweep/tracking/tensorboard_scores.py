"""Reads a model's scores on the test documents as named metrics, and writes them as points for TensorBoard."""

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
    """Read a trial's `test/loss/LEVEL` (nats per token) and `test/perplexity/LEVEL`; {} if this model was not scored.

    Raises:
        DamagedError, EarlierVersionError: the record of the scores was changed, or another version wrote it.
    """
    path = folder.cells_record(record.trial)
    if not record.outputs or not path.exists():
        return {}
    scored = read_sealed(path, fix="score the models again with --force evaluate")
    if scored["made_from"].get("model") != record.model_digest:
        return {}  # these are the scores of an earlier model
    row = build_matrix(folder.cells(record.trial), metric=metric).loc[record.trial].dropna()
    perplexities = {str(level): float(value) for level, value in zip(row.index, row.to_numpy(), strict=True)}
    losses = {f"test/loss/{level}": math.log(value) for level, value in perplexities.items()}
    return {**losses, **{f"test/perplexity/{level}": value for level, value in perplexities.items()}}


def draw_test_scores(folder: RunFolder, config: Config, trial: Trial) -> None:
    """Write a trial's scores for TensorBoard into a separate event file, which replaces any earlier one.

    TensorBoard's HParams tab then shows the scores as columns beside the training and validation losses.
    """
    from tensorboardX import SummaryWriter  # loads NumPy and protobuf, which a plan does not need

    root, record = folder.trial(trial.name).root, read_record(folder.trial(trial.name))
    scores = read_test_scores(folder, record, metric=config.report.metric) if record is not None else {}
    if record is None or not scores:
        return
    values = hyperparameters(trial.settings, config.model, seed=trial.seed, parent=trial.parent)
    with tempfile.TemporaryDirectory(prefix=".scores.", suffix=".part", dir=root) as temporary:
        with SummaryWriter(temporary, filename_suffix=_ENDING) as board:
            draw_hyperparameters(board, values, metrics=[*_TRAINED, *scores])
            for name, value in scores.items():
                board.add_scalar(name, value, int(record.result["steps"]))
        for earlier in root.glob(f"events.out.tfevents.*{_ENDING}"):
            earlier.unlink()
        for written in Path(temporary).iterdir():
            written.replace(root / written.name)
