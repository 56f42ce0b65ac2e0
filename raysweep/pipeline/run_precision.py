"""Settles the precision of a run's trainings once, and keeps it in run.json."""

from collections.abc import Callable, Iterable
from dataclasses import asdict, replace

from raysweep.config.schema import Config
from raysweep.pipeline.run_record import RunRecord
from raysweep.planning.cpu_precision import choose_precision
from raysweep.storage.digests import write_sealed
from raysweep.storage.run_folder import RunFolder


def settle_precision(
    config: Config, folder: RunFolder, record: RunRecord, trials: Iterable[str], say: Callable[[str], None]
) -> bool:
    """Choose what 'auto' means on this CPU, unless the run has chosen or a training has begun.

    A training that began without a choice, on another machine or under an earlier version, was in float32, and its
    run stays so.

    Returns:
        Whether a choice was made, and written to run.json.

    Raises:
        ResourceError: the test failed.
    """
    if record.precision is not None or any(folder.trial(name).root.exists() for name in trials):
        return False
    test = choose_precision(config)
    if test is None:
        return False
    say(test.describe())
    write_sealed(folder.record, asdict(replace(record, precision=test.precision)))
    return True
