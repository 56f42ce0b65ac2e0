"""Executes stages of the tiny run with its folder in object storage; as a separate program it can be killed."""

import sys

from raysweep.pipeline.run import Run
from raysweep.staging import run_staging
from raysweep.staging.bucket_address import parse_bucket_uri
from raysweep.staging.local_copies import LocalCopies
from raysweep.staging.run_staging import staged_run
from raysweep.storage.digests import digest_file
from raysweep.storage.run_folder import RunFolder
from tests.pipeline.conftest import make_run

SHORT = {
    "trials": {"A1": {"levels": ["A1"], "steps": 8}},
    "training": {
        "steps": 8,
        "batch_size": 4,
        "learning_rate": 1e-3,
        "evaluate_every": 4,
        "checkpoint_every": 2,
        "valid_examples": 8,
    },
}
"""One training with four checkpoints."""


def open_run(storage, changes=None, forced=(), executor=None, extended=()) -> Run:
    return make_run(storage, changes, forced, executor, extended)


def do_staged(uri, *stages, changes=None, forced=(), executor=None, extended=()):
    """Do the stages; return the run, the messages, and the traffic."""
    address, messages = parse_bucket_uri(uri), []
    with staged_run(address, "tiny", messages.append) as staging:
        run = open_run(LocalCopies.of(address).folder, changes, forced, executor, extended)
        run.staging = staging
        if executor is not None:
            executor.staging = staging
        run.do(*stages)
    return run, [*messages, *run.listener.lines], staging.traffic


def results_of(folder: RunFolder) -> dict[str, str]:
    """Return digests of what must not depend on where a run is stored, or how often it was killed."""
    patterns = [
        "corpus/documents.parquet",
        "examples/*.examples",
        "trials/*/metrics.jsonl",
        "trials/*/model/*",
        "evaluation/losses.parquet",
        "evaluation/matrix.csv",
        "classification/**/*.parquet",
        "corpora/*/corpus/documents.parquet",
        "corpora/*/examples/*.examples",
        "corpora/*/evaluation/losses.parquet",
    ]
    files = [path for pattern in patterns for path in folder.root.glob(pattern)]
    return {path.relative_to(folder.root).as_posix(): digest_file(path) for path in files}


if __name__ == "__main__":
    run_staging._LOOK_EVERY_S = 0.05
    do_staged(sys.argv[1], *sys.argv[2:], changes=SHORT)
