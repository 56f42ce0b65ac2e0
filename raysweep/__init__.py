"""raysweep: is it worth training a language model per CEFR level?

One CSV of learner texts becomes masked infilling examples, eleven GPT-2 models, a matrix of
test scores and a report that answers three hypotheses with intervals.  The rooms are described in
README.md.

From Python, finished models are used through `load` and `load_model`:

    run = raysweep.load("runs/paper")
    run["A1"].infill("I like [word] because [sentence].", n=3)
    run["A1"].score(["I like apples."])          # nats, tokens and bytes, as a pandas table
    run.levels.predict(["I like apples."])       # the probability of each level
    run.losses(), run.evidence                   # what was measured, and what the report says

Importing the package loads nothing heavy: torch comes with the first model.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from raysweep.inference.loaded_run import LoadedRun
    from raysweep.inference.trained_model import TrainedModel

__all__ = ["__version__", "load", "load_model"]
__version__ = "0.1.0"


def load(run: str | os.PathLike[str], *, device: str | None = None) -> "LoadedRun":
    """Load a run from its folder, such as "runs/paper", or from "s3://bucket/runs/paper" (gs:// too).

    `load("runs/paper")["A1"]` is the model of a trial, with the methods `infill` and `score`; `.models` names them all.
    `.levels.predict(texts)` gives the probability of each level.

    Args:
        device: "cpu", "cuda" …; a GPU if there is one.

    Raises:
        InputError: there is no run, or no such device.
        ConfigError: the address is not one of object storage.
        StorageError: the object storage does not answer, or refuses.
    """
    from raysweep.errors import InputError
    from raysweep.inference.loaded_run import open_run
    from raysweep.staging.bucket_address import is_bucket_uri
    from raysweep.staging.run_view import fetch_run
    from raysweep.storage.printable import shown
    from raysweep.storage.run_folder import RunFolder

    place = os.fspath(run)
    folder = fetch_run(place) if is_bucket_uri(place) else Path(place).expanduser()
    if not RunFolder(folder).config.is_file():
        raise InputError(
            f"run: found {shown(place)}, which holds no run (no config.yaml); must be a run's folder, such as "
            "'runs/paper', or its s3:// or gs:// address"
        )
    return open_run(folder, device)


def load_model(model: str | os.PathLike[str], *, device: str | None = None) -> "TrainedModel":
    """Load one model: a folder, such as "runs/paper/trials/A1/model", an s3:// or gs:// address, or a name on the hub.

    Only a name that is no folder is looked for on the Hugging Face hub, in its local cache first.  No code
    that comes with a model is run.  Texts are masked with raysweep's default settings and the seed 0.

    Args:
        device: "cpu", "cuda" …; a GPU if there is one.

    Raises:
        InputError: there is no such model or device, or it is no GPT-2.
        ConfigError: the address is not one of object storage.
        StorageError: the object storage does not answer, or refuses.
    """
    from raysweep.inference.loaded_run import open_model
    from raysweep.staging.bucket_address import is_bucket_uri
    from raysweep.staging.run_view import fetch_folder

    place = os.fspath(model)
    return open_model(str(fetch_folder(place, option="model")) if is_bucket_uri(place) else place, device)
