"""`raysweep bundle`: a run's evidence as one zip that can be published, and verified without the corpus.

It holds what the report rests on (`inputs.py`), the report, and a manifest with the SHA-256 of each
file.  No learner's text is in it: texts and ids are left out, learners and prompts are numbers, and
where `report.show_texts` printed samples on the page, the page is made again without them.  Two
guards stand before the zip: the report must follow from the run, or a reader would be told so; and no
eight words in a row of a document may stand in any file.
"""

import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from raysweep.errors import InputError
from raysweep.evidence.inputs import copy_inputs
from raysweep.publishing.archive import file_sha256, list_files, write_archive
from raysweep.publishing.made_with import describe_software
from raysweep.publishing.recomputing import README, read_me, read_resolved_config, recompute, report_files
from raysweep.scheduling.trials import expand_trials
from raysweep.storage.atomic_files import read_json, write_text
from raysweep.storage.run_folder import RunFolder

FORMAT = 1
WORDS_IN_A_ROW = 8
DOCUMENTS_LOOKED_AT = 5_000
_WORD = re.compile(r"\w+")
Values = dict[str, Any]


def write_bundle(folder: RunFolder, out: Path) -> Values:
    """Make the zip of a run whose report is written.

    Returns:
        The manifest.

    Raises:
        InputError: there is no report, it does not follow from the run, or a text would get out.
    """
    if not folder.evidence.exists():
        raise InputError(f"{folder.evidence}: not there; write the report first (`raysweep report`)")
    trials = expand_trials(read_resolved_config(folder))
    with tempfile.TemporaryDirectory(prefix="raysweep-bundle-") as scratch:
        laid_out = RunFolder(Path(scratch) / folder.name)
        copy_inputs(folder, trials, laid_out)
        _copy_report(folder, laid_out)
        _refuse_stale(folder, laid_out)
        _refuse_texts(folder, laid_out.root)
        manifest = {
            "format": FORMAT,
            "run": folder.name,
            "made_with": describe_software(),
            "files": {name: file_sha256(laid_out.root / name) for name in list_files(laid_out.root)},
        }
        write_archive(laid_out.root, manifest, out)
    return manifest


def _copy_report(folder: RunFolder, target: RunFolder) -> None:
    """The report's files as they are; pages that show texts are rendered anew, from the evidence alone."""
    shutil.copytree(folder.tables, target.tables)
    for source, path in ((folder.evidence, target.evidence), (folder.evidence_schema, target.evidence_schema)):
        shutil.copyfile(source, path)
    write_text(target.root / README, read_me(read_json(folder.evidence)))
    shows_texts = read_resolved_config(folder).report.show_texts
    rendered = report_files(read_json(folder.evidence)) if shows_texts else {}
    for source, path in ((folder.report_html, target.report_html), (folder.report_markdown, target.report_markdown)):
        if shows_texts:
            write_text(path, rendered[f"report/{path.name}"])
        else:
            shutil.copyfile(source, path)


def _refuse_stale(folder: RunFolder, laid_out: RunFolder) -> None:
    if found := recompute(laid_out).differences:
        raise InputError(
            f"{folder.report}: the report does not follow from the run folder as it is now ({found[0]}; "
            f"{len(found):,} differences). Write it again with `raysweep report --force report`, then bundle it"
        )


def _refuse_texts(folder: RunFolder, root: Path) -> None:
    """Look for eight words in a row of any document, or of thousands spread over a large corpus."""
    texts = pq.read_table(folder.documents, columns=["text"])["text"]
    step = -(-len(texts) // DOCUMENTS_LOOKED_AT)
    shingles: dict[str, str] = {}
    for name in list_files(root):
        for words in _words_of(root / name):
            shingles.update(dict.fromkeys(words, name))
    for text in texts.take(list(range(0, len(texts), step))).to_pylist():
        for words in _shingles(text):
            if words in shingles:
                raise InputError(
                    f"{shingles[words]}: would put {WORDS_IN_A_ROW} words of a learner's text into the bundle; "
                    "none is written. Please report this: no file of a bundle may hold a text"
                )


def _words_of(path: Path) -> Iterator[Iterable[str]]:
    if path.suffix != ".parquet":
        yield _shingles(path.read_text(encoding="utf-8"))
        return
    table = pq.read_table(path)
    for name in table.column_names:
        if str(table[name].type).endswith("string"):
            yield from (_shingles(value) for value in table[name].unique().to_pylist() if value is not None)


def _shingles(text: str) -> Iterator[str]:
    words = _WORD.findall(text.lower())
    return (" ".join(words[first : first + WORDS_IN_A_ROW]) for first in range(len(words) - WORDS_IN_A_ROW + 1))
