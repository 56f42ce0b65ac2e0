"""`raysweep doctor`: this machine against what the config needs, a line per finding."""

import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from rich.console import Console
from rich.text import Text

from raysweep.cli.settings import Settings
from raysweep.config.schema import Config
from raysweep.errors import RaysweepError
from raysweep.pipeline.run_record import LIBRARIES
from raysweep.planning.model_size import model_shape
from raysweep.scheduling.trials import expand_trials

GIB = 1 << 30


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """What was looked at, whether it will do, and what was seen."""

    subject: str
    is_fine: bool
    seen: str


def examine(settings: Settings) -> bool:
    """Print every finding; returns whether a run can be expected to work."""
    console = Console(highlight=False)
    fine = True
    for finding in _findings(settings):
        mark = Text("✔ ", style="green") if finding.is_fine else Text("✘ ", style="bold red")
        console.print(mark.append(f"{finding.subject:<12}", style="bold").append(finding.seen, style="default"))
        fine = fine and finding.is_fine
    return fine


def _findings(settings: Settings) -> Iterator[Check]:
    yield _python()
    yield _libraries()
    yield _tokenizer()
    yield _csv(settings.config)
    yield _storage(settings.folder.root)
    yield _disk(settings)
    yield _memory(settings.config)
    yield _start(settings.config)
    yield _gpus(settings.config)
    yield _ray(settings)


def _python() -> Check:
    return Check(
        subject="Python",
        is_fine=sys.version_info >= (3, 11),
        seen=f"{platform.python_version()} on {platform.platform()}",
    )


def _libraries() -> Check:
    return Check(
        subject="libraries", is_fine=True, seen=", ".join(f"{name} {metadata.version(name)}" for name in LIBRARIES)
    )


def _tokenizer() -> Check:
    from raysweep.masking.vocabulary import VOCABULARY_SIZE, load_tokenizer

    return _tried("tokenizer", lambda: f"GPT-2's, {load_tokenizer().get_vocab_size():,} of {VOCABULARY_SIZE:,} tokens")


def _csv(config: Config) -> Check:
    if config.data.csv is None:
        return Check(
            subject="data", is_fine=True, seen=f"{config.data.sample.rows:,} synthetic texts (data.csv is not set)"
        )
    path = Path(config.data.csv).expanduser()
    if not path.is_file():
        return Check(subject="data", is_fine=False, seen=f"data.csv: no file {path}; give it with --set data.csv=FILE")
    return Check(subject="data", is_fine=True, seen=f"{path}, {path.stat().st_size / 1e6:,.1f} MB")


def _storage(root: Path) -> Check:
    def write() -> str:
        parent = next(each for each in [root, *root.parents] if each.is_dir())
        with tempfile.TemporaryFile(dir=parent) as file:
            file.write(b"raysweep")
        return f"{root} is writable"

    return _tried("storage", write)


def _disk(settings: Settings) -> Check:
    """A trial keeps its model, and while it trains three checkpoints of model and optimiser state."""
    config = settings.config
    weights = _weights_bytes(config)
    settled = [trial.settings for trial in expand_trials(config).values()]
    entries = sum(each.search.samples if each.search else 1 for each in settled)
    data = Path(config.data.csv).stat().st_size if config.data.csv and Path(config.data.csv).is_file() else 0
    needed = entries * weights + 3 * 3 * weights * max(1, os.cpu_count() or 1) + 4 * data
    parent = next(each for each in [settings.folder.root, *settings.folder.root.parents] if each.is_dir())
    free = shutil.disk_usage(parent).free
    return Check(
        subject="disk", is_fine=free > needed, seen=f"{free / GIB:,.1f} GiB free, about {needed / GIB:,.1f} GiB needed"
    )


def _memory(config: Config) -> Check:
    """Weights, gradients and the two moments of AdamW are four times the weights; Ray adds 1.3 GiB a trial."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    concurrent = max(1, (os.cpu_count() or 1) // config.resources.cpus_per_trial)
    needed = concurrent * (4 * _weights_bytes(config) + int(1.3 * GIB)) + GIB
    return Check(
        subject="memory",
        is_fine=total > needed,
        seen=f"{total / GIB:,.1f} GiB, about {needed / GIB:,.1f} GiB needed for {concurrent} trials at a time on CPU",
    )


def _start(config: Config) -> Check:
    start = config.model.start
    if start == "scratch":
        return Check(subject="start", is_fine=True, seen=f"from scratch, size {config.model.size}")
    if Path(start).expanduser().is_dir():
        found = (Path(start).expanduser() / "config.json").is_file()
        return Check(
            subject="start", is_fine=found, seen=f"folder {start}" + ("" if found else " holds no config.json")
        )

    def cached() -> str:
        from huggingface_hub import try_to_load_from_cache

        where = try_to_load_from_cache(start, "config.json")
        return f"hub model {start}, " + (
            "in the local cache" if isinstance(where, str) else "to be downloaded at the start"
        )

    return _tried("start", cached)


def _gpus(config: Config) -> Check:
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    asked = config.resources.gpus_per_trial
    seen = ", ".join(torch.cuda.get_device_name(index) for index in range(count)) or "none; trials run on CPU"
    elsewhere = config.resources.address is not None
    return Check(subject="GPUs", is_fine=elsewhere or asked in ("auto", 0) or count > 0, seen=seen)


def _ray(settings: Settings) -> Check:
    def start() -> str:
        from raysweep.cluster.session import open_session

        with (
            tempfile.TemporaryDirectory() as scratch,
            open_session(settings.config.resources, scratch=Path(scratch)) as session,
        ):
            return session.describe()

    return _tried("Ray", start)


def _tried(subject: str, attempt: Callable[[], str]) -> Check:
    """What the attempt says, or the error it ends in: this is where a doctor reports, so nothing is hidden."""
    try:
        return Check(subject=subject, is_fine=True, seen=attempt())
    except (RaysweepError, OSError, ValueError, RuntimeError, ImportError) as error:
        return Check(subject=subject, is_fine=False, seen=f"{type(error).__name__}: {error}")


def _weights_bytes(config: Config) -> int:
    """Of one model in float32."""
    return 4 * model_shape(config).parameters
