"""`raysweep bundle`: writes a run's evidence into one zip that can be published, and verified without the corpus.

The zip holds the report, the files that the report is made from (`evidence/inputs.py`), a manifest with
the SHA-256 of each file, and the manifest's signature if a key was given.  It holds no learner's text:
texts and ids are left out, learners and prompts are numbers, and a page that shows samples is rendered
again without them.  Two checks come before the zip is written: the report must follow from the run in its
current state, and no file may hold eight consecutive words of a document of the run or of a further corpus.
"""

import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pyarrow.parquet as pq
from pydantic import ValidationError

from raysweep.config.loading import read_resolved_config
from raysweep.config.schema import Config
from raysweep.errors import InputError
from raysweep.evidence.evidence_schema import Evidence
from raysweep.evidence.inputs import copy_inputs
from raysweep.publishing.archive import file_sha256, is_bundle, list_files, write_archive
from raysweep.publishing.manifest import FORMAT, MANIFEST, SIGNATURE, Manifest
from raysweep.publishing.recomputing import README, bundle_texts, recompute
from raysweep.publishing.software import describe_software
from raysweep.scheduling.trials import expand_trials
from raysweep.staging.run_command import run_command
from raysweep.storage.atomic_files import write_text
from raysweep.storage.run_folder import RunFolder

WORDS_IN_A_ROW = 8
MAX_DOCUMENTS_CHECKED = 5_000
_WORD = re.compile(r"\w+")


def write_bundle(folder: RunFolder, out: Path, sign: Callable[[bytes], bytes] | None = None) -> Manifest:
    """Write the zip of a run whose report is written.

    Args:
        sign: returns the signature of the manifest's bytes.

    Raises:
        DamagedError: a table cannot be read.
        InputError: `out` is a folder or a file that is no bundle, there is no report, it does not follow from the run,
            or a learner's text would be published.
    """
    if out.is_dir():
        raise InputError(f"--out: found '{out}', a folder; name a file, such as {out / 'evidence.zip'}")
    if out.exists() and not is_bundle(out):
        raise InputError(f"--out: {out} is there already, and is no bundle; name another file")
    if not folder.evidence.exists():
        raise InputError(f"{folder.evidence}: not there; do {run_command(folder)} first")
    config = read_resolved_config(folder)
    with tempfile.TemporaryDirectory(prefix="raysweep-bundle-") as scratch:
        target = RunFolder(Path(scratch) / folder.name)
        copy_inputs(folder, expand_trials(config), target, config.corpora)
        _copy_report(folder, config, target)
        _refuse_stale(folder, target)
        _refuse_texts((folder, *map(folder.further, config.corpora)), target.root)
        names = list_files(target.root)
        digests = {name: file_sha256(target.root / name) for name in names}
        manifest = Manifest(format=FORMAT, run=folder.name, made_with=describe_software(), files=digests)
        content = manifest.to_bytes()
        signature = {SIGNATURE: sign(content)} if sign is not None else {}
        write_archive({MANIFEST: content, **signature, **{name: target.root / name for name in names}}, out)
    return manifest


def _copy_report(folder: RunFolder, config: Config, target: RunFolder) -> None:
    """Copy the report's files as they are; if the page shows texts, render them again from the evidence."""
    try:
        evidence = Evidence.model_validate_json(folder.evidence.read_text(encoding="utf-8"))
    except ValidationError:  # a message for every number, thousands in all
        raise _stale(folder, "evidence.json was written by another version of raysweep") from None
    for name, text in bundle_texts(evidence).items():
        source, path = folder.root / name, target.root / name
        if config.report.show_texts or name == README:
            write_text(path, text)
        elif source.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, path)
    shutil.copyfile(folder.evidence, target.evidence)


def _refuse_stale(folder: RunFolder, target: RunFolder) -> None:
    if differences := recompute(target).differences:
        raise _stale(folder, f"{differences[0]}; {len(differences):,} differences")


def _stale(folder: RunFolder, reason: str) -> InputError:
    return InputError(
        f"{folder.report}: the report does not follow from the run folder as it is now ({reason}). Write it again "
        f"with {run_command(folder, '--force', 'report', stage='report')}, then bundle it"
    )


def _refuse_texts(places: Iterable[RunFolder], root: Path) -> None:
    """Search the files for eight consecutive words of any document; of a large corpus, check 5,000 spread documents."""
    file_of: dict[str, str] = {}
    for name in list_files(root):
        for phrases in _phrases_of_file(root / name):
            file_of.update(dict.fromkeys(phrases, name))
    for phrase in (phrase for place in places for text in _sample_texts(place) for phrase in _phrases(text)):
        if phrase in file_of:
            raise InputError(
                f"{file_of[phrase]}: would put {WORDS_IN_A_ROW} words of a learner's text into the bundle, so no "
                "bundle was written. Please report this: no file of a bundle may hold a text"
            )


def _sample_texts(place: RunFolder) -> list[str]:
    """Take texts spread evenly over the documents of a corpus; [] for a further corpus that was never prepared."""
    if not place.documents.exists():
        return []
    texts = pq.read_table(place.documents, columns=["text"])["text"]
    sampled: list[str] = texts[:: max(1, -(-len(texts) // MAX_DOCUMENTS_CHECKED))].to_pylist()
    return sampled


def _phrases_of_file(path: Path) -> Iterator[Iterable[str]]:
    if path.suffix != ".parquet":
        yield _phrases(path.read_text(encoding="utf-8"))
        return
    table = pq.read_table(path)
    for name in table.column_names:
        if str(table[name].type).endswith("string"):
            yield from (_phrases(value) for value in table[name].unique().to_pylist() if value is not None)


def _phrases(text: str) -> Iterator[str]:
    words = _WORD.findall(text.lower())
    return (" ".join(words[first : first + WORDS_IN_A_ROW]) for first in range(len(words) - WORDS_IN_A_ROW + 1))
