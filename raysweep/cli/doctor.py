"""`raysweep doctor`: compares this machine with what the config needs, one line per check."""

import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

from rich.text import Text

from raysweep.cli.settings import Settings
from raysweep.cli.terminal import PrintableConsole
from raysweep.config.secrets import refuse_unset
from raysweep.config.tracker_settings import refuse_missing_trackers
from raysweep.config.training_settings import CORPUS_TOKENIZER, START_TOKENIZER
from raysweep.errors import InputError, RaysweepError
from raysweep.model.start_folder import check_start, refuse_unreachable_hub
from raysweep.pipeline.corpus_survey import survey_corpus
from raysweep.pipeline.further_corpora import survey_corpus_files
from raysweep.pipeline.run_record import LIBRARIES
from raysweep.planning.model_size import model_shape
from raysweep.readers.locations import local_files, name_files
from raysweep.scheduling.gpu_specs import GIB
from raysweep.scheduling.trials import expand_trials
from raysweep.storage.printable import say_json


def examine(settings: Settings, *, as_json: bool = False) -> bool:
    """Print every finding; return whether a run can be expected to work."""
    findings = []
    console = PrintableConsole(highlight=False)
    is_fine = True
    for subject, check in CHECKS.items():
        mark = Text("✔ ", style="green")
        try:
            finding = check(settings)
        except (RaysweepError, OSError, ValueError, RuntimeError, ImportError) as error:
            # Not swallowed: whatever error a check ends in is the finding that the user asked for.
            finding = str(error) if isinstance(error, RaysweepError) else f"{type(error).__name__}: {error}"
            mark, is_fine = Text("✘ ", style="bold red"), False
        findings.append({"check": subject, "ok": mark.plain == "✔ ", "finding": finding})
        if as_json:
            continue
        console.print(mark.append(f"{subject:<12}", style="bold").append(finding, style="default"))
    if as_json:
        say_json({"ok": is_fine, "checks": findings})
    return is_fine


def _python(_: Settings) -> str:
    return _require(sys.version_info >= (3, 11), f"{platform.python_version()} on {platform.platform()}")


def _libraries(_: Settings) -> str:
    return ", ".join(f"{name} {metadata.version(name)}" for name in LIBRARIES)


def _tokenizer(settings: Settings) -> str:
    from raysweep.masking.vocabulary import gpt2
    from raysweep.model.run_tokenizer import configured_vocabulary
    from raysweep.model.start_folder import cached_snapshot, local_folder

    model = settings.config.model
    if model.tokenizer == CORPUS_TOKENIZER:
        return "trained on the texts of the train split, before they are masked"
    if model.tokenizer == START_TOKENIZER and not (local_folder(model.start) or cached_snapshot(model.start)):
        return "the start's own, to be downloaded with it"
    vocabulary = configured_vocabulary(model)
    assert vocabulary is not None
    whose = "GPT-2's" if vocabulary is gpt2() else model.tokenizer
    return f"{whose}, {vocabulary.with_specials.get_vocab_size():,} tokens"


def _data(settings: Settings) -> str:
    for name in settings.config.corpora:
        survey_corpus_files(settings.config, name)
    survey, data = survey_corpus(settings.config), settings.config.data
    if survey is None:
        return f"{data.sample.rows:,} synthetic texts (data.path is not set)"
    return f"{name_files(data.path)}: {survey}"


def _storage(settings: Settings) -> str:
    if settings.address is not None:
        from raysweep.staging.run_view import check_bucket

        return check_bucket(settings.address)
    with tempfile.TemporaryFile(dir=_existing_folder(settings)) as file:
        file.write(b"raysweep")
    return f"{settings.folder.root} is writable"


def _disk(settings: Settings) -> str:
    """Compare free space with the need: a model per trial, and three checkpoints with optimiser state per training."""
    config = settings.config
    weights = 4 * model_shape(config, settings.folder).parameters
    searches = [trial.settings.search for trial in expand_trials(config).values()]
    models = sum(search.samples if search else 1 for search in searches)
    data = sum(file.stat().st_size for file in local_files(config.data.path))
    needed = models * weights + 3 * 3 * weights * max(1, os.cpu_count() or 1) + 4 * data
    free = shutil.disk_usage(_existing_folder(settings)).free
    return _require(free > needed, f"{free / GIB:,.1f} GiB free, about {needed / GIB:,.1f} GiB needed")


def _memory(settings: Settings) -> str:
    """Compare memory with the need: four times the weights (gradients, AdamW's two moments), and 1.3 GiB for Ray."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    weights = 4 * model_shape(settings.config, settings.folder).parameters
    concurrent = max(1, (os.cpu_count() or 1) // settings.config.resources.cpus_per_trial)
    needed = concurrent * (4 * weights + int(1.3 * GIB)) + GIB
    return _require(
        total > needed,
        f"{total / GIB:,.1f} GiB, about {needed / GIB:,.1f} GiB needed for {concurrent} trials at a time on CPU",
    )


def _start(settings: Settings) -> str:
    """Describe the start; if it is on the hub and not in the cache, check that the hub can be reached."""
    return check_start(settings.config) + refuse_unreachable_hub(settings.config.model.start)


def _masks(settings: Settings) -> str:
    from raysweep.masking.mask_function import load_mask_function

    function = settings.config.masking.function
    if function is None:
        return "hierarchical, as in ILM"
    load_mask_function(function)
    return f"function {function}"


def _notify(settings: Settings) -> str:
    notify = settings.config.notify
    refuse_unset(notify)
    return "nobody (notify is not set)" if notify is None else f"on {', '.join(notify.on)}"


def _trackers(settings: Settings) -> str:
    names = settings.config.track
    refuse_missing_trackers(names)
    return ", ".join(names) or "none but TensorBoard (track is not set)"


def _gpus(settings: Settings) -> str:
    import torch

    resources = settings.config.resources
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    names = ", ".join(torch.cuda.get_device_name(index) for index in range(count))
    are_enough = count > 0 or resources.gpus_per_trial in ("auto", 0) or resources.cluster_address is not None
    return _require(are_enough, names or "none; trials run on CPU")


def _ray(settings: Settings) -> str:
    from raysweep.cluster.session import open_session

    with (
        tempfile.TemporaryDirectory() as scratch,
        open_session(settings.config.resources, scratch=Path(scratch)) as session,
    ):
        return session.describe()


CHECKS: dict[str, Callable[[Settings], str]] = {
    "Python": _python,
    "libraries": _libraries,
    "tokenizer": _tokenizer,
    "data": _data,
    "storage": _storage,
    "disk": _disk,
    "memory": _memory,
    "start": _start,
    "masks": _masks,
    "notify": _notify,
    "trackers": _trackers,
    "GPUs": _gpus,
    "Ray": _ray,
}
"""The checks by subject.  A check returns what it found, or raises an error that says what is wrong."""


def _require(is_fine: bool, finding: str) -> str:
    if not is_fine:
        raise InputError(finding)
    return finding


def _existing_folder(settings: Settings) -> Path:
    """Return the run folder, or the nearest parent that exists."""
    root = settings.folder.root
    return next(folder for folder in [root, *root.parents] if folder.is_dir())
