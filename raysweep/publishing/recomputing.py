"""Computes the report of an unpacked bundle again, from its losses, and lists every difference.

Four questions are answered separately.  Does the evidence follow from the losses?  It is collected again
and compared value by value.  Were the models trained with the settings that the evidence states?  They are compared
with the trials' records.  Do the classifiers' predictions follow from their features?  See `refitting`.
Do the page, the Markdown and the tables follow from the evidence?  They are rendered again and compared byte by byte.
"""

import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
import pyarrow.parquet as pq

from raysweep.config.loading import read_resolved_config
from raysweep.errors import InputError
from raysweep.evidence.evidence_schema import Evidence
from raysweep.evidence.inputs import list_inputs
from raysweep.evidence.rounding import as_text, in_order
from raysweep.publishing.archive import MAX_BYTES, list_files
from raysweep.publishing.differences import Mismatch, compare_texts, compare_values, count_leaves
from raysweep.publishing.manifest import parse_json
from raysweep.publishing.refitting import refit
from raysweep.report.tables import LONGEST_TABLE
from raysweep.report.writing import as_written, collect_exactly, render_report
from raysweep.scheduling.records import read_record
from raysweep.scheduling.trials import Trial, expand_trials, training_settings
from raysweep.storage.atomic_files import read_json
from raysweep.storage.classification_files import ClassificationFolder
from raysweep.storage.run_folder import RunFolder

README = "README.txt"
_EVIDENCE = "report/evidence.json"
_LONGEST_REASON = 300


@dataclass(frozen=True, kw_only=True, slots=True)
class Recomputed:
    """All differences, and how much was compared."""

    differences: tuple[Mismatch, ...]
    documents: int = 0
    """Rows of documents.parquet that were counted again."""
    losses: int = 0
    """Rows of losses.parquet that everything was recomputed from."""
    values: int = 0
    """Values of the evidence that were compared."""
    files: int = 0
    """Files made from the evidence that were compared."""
    evidence: Evidence | None = None
    """The recomputed evidence; None if the files could not be read."""

    @property
    def beyond_rounding(self) -> tuple[Mismatch, ...]:
        """The differences that rounding does not explain."""
        return tuple(difference for difference in self.differences if not difference.is_rounding)


def recompute(folder: RunFolder) -> Recomputed:
    """Collect, count and render everything again.  Never raises for what the files hold, since they may be forged."""
    try:
        return _recompute(folder)
    except Exception as error:  # a forged file can make a reader of honest files fail in any way
        reason = str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
        reason = textwrap.shorten(reason.replace(f"{folder.root}/", ""), _LONGEST_REASON, placeholder=" …")
        return Recomputed(differences=(Mismatch("the bundle", "a whole run", f"cannot be read: {reason}"),))


def _recompute(folder: RunFolder) -> Recomputed:
    config = read_resolved_config(folder)
    further = [folder.further(name) for name in config.corpora if folder.further(name).losses.exists()]
    for place in (folder, *further):
        _check_sizes(place)
    trials = expand_trials(config)
    exact = collect_exactly(folder, config, trials)
    evidence = as_written(exact.json_values())
    recounted = [difference for place in (folder, *further) for difference in _recount(place)]
    differences = [*recounted, *_compare_settings(folder, trials), *refit(folder, config)]
    differences += _compare_evidence(folder, evidence, exact)
    expected = bundle_texts(evidence)
    if differences and all(difference.is_rounding for difference in differences):
        # The stated evidence is right except for rounding, so the report must follow from it to the last digit.
        expected = bundle_texts(Evidence.model_validate_json(_read(folder, _EVIDENCE)))
    differences += _compare_files(
        folder, expected, {*list_inputs(folder, trials, config.corpora), *expected, _EVIDENCE}
    )
    return Recomputed(
        differences=tuple(differences),
        documents=pq.ParquetFile(folder.documents).metadata.num_rows,
        losses=pq.ParquetFile(folder.losses).metadata.num_rows,
        values=count_leaves(evidence.json_values()),
        files=len(expected),
        evidence=evidence,
    )


def bundle_texts(evidence: Evidence) -> dict[str, str]:
    """Render every file of a bundle that is made from the evidence, by its path."""
    return {**render_report(evidence), README: _read_me(evidence)}


def _read_me(evidence: Evidence) -> str:
    """Write the text that explains a bundle to a person who unzips it."""
    return f"""The evidence of the raysweep run {evidence.run.name!r}: {evidence.answer.headline}

report/report.html          the report; open it in a browser
report/evidence.json        every number in it, as report/evidence.schema.json describes
report/tables/              its tables, as CSV and TeX (folded ones of more than {LONGEST_TABLE} rows as CSV alone)
report/figures/             its figures, as SVG (the PDFs that the page names stay in the run folder)
evaluation/losses.parquet   nats and tokens of every test document, by model, kind of mask and part
corpus/documents.parquet    the documents: level, split, first language, characters; learners and prompts are numbers
manifest.json               the SHA-256 of every file, and the software that made them
all other files             further records of the run from which the report is made

No learner's text is in here. With raysweep {evidence.raysweep} installed (see its README), this recomputes
every number and verdict from the tables:

    raysweep verify evidence.zip

It must print this digest of all inputs:

    {evidence.inputs.digest}

It finds a changed, missing or added file, digit, verdict or hash. If levels are told by classifiers, those that
read no text are fitted again; losses of whole texts and of valid documents, numbers of words and tokens, folds, and
what classifiers of texts predicted are taken as stated. It cannot find a forgery that is consistent throughout,
from the losses on: compare the digest with one that was published elsewhere. If manifest.json.sig is
here, OpenSSH can tell with the authors' public key that nothing was changed since they signed it:

    echo "authors $(cat key.pub)" > signers
    ssh-keygen -Y verify -f signers -I authors -n raysweep-bundle -s manifest.json.sig < manifest.json
"""


def _check_sizes(folder: RunFolder) -> None:
    """Refuse tables with too many values: Parquet can hold billions of equal values in a few bytes."""
    classified = ClassificationFolder.of(folder)
    further = (folder.valid_losses, folder.interpolated_losses, classified.features, classified.predictions)
    for path in (folder.documents, folder.losses, *further):
        if not path.exists():
            if path in (folder.documents, folder.losses):
                raise InputError(f"{path.name}: not there")
            continue
        size = pq.ParquetFile(path).metadata
        if size.num_rows * size.num_columns * 8 > MAX_BYTES:
            raise InputError(f"{path.name}: has {size.num_rows:,} rows; more than a bundle may hold")


def _recount(folder: RunFolder) -> Iterator[Mismatch]:
    """Count the documents again, and compare the counts with the summaries of the corpus.

    The summaries were made from the texts; these counts come from the rows of documents.parquet alone.
    """
    documents = pq.read_table(folder.documents).to_pandas()
    if folder.splits.exists():
        stated = read_json(folder.splits)
        yield from _compare_counts("corpus/splits.json", stated, _count_splits(documents, stated["levels"]))
    if folder.leakage.exists():
        yield from _compare_counts("corpus/leakage.json", read_json(folder.leakage), _count_learners(documents))


def _count_splits(documents: pd.DataFrame, levels: list[str]) -> dict[str, Any]:
    by_level = {level: documents[documents["level"] == level] for level in levels}
    return {
        "documents": len(documents),
        "counts": {
            level: {split: int((rows["split"] == split).sum()) for split in ("train", "valid", "test")}
            for level, rows in by_level.items()
        },
        "lengths": {
            level: {"documents": len(rows), "mean": round(float(rows["characters"].to_numpy().mean()), 2)}
            for level, rows in by_level.items()
            if len(rows)
        },
    }


def _count_learners(documents: pd.DataFrame) -> dict[str, Any]:
    splits = documents.dropna(subset=["learner"]).groupby("learner")["split"].nunique()
    learners = len(splits) or None
    in_two = int((splits > 1).sum()) if learners else None
    return {"documents": len(documents), "learners": learners, "learners_in_two_splits": in_two}


def _compare_settings(folder: RunFolder, trials: Mapping[str, Trial]) -> Iterator[Mismatch]:
    """Compare the settings that the evidence states with those in each trial's record."""
    for name, trial in trials.items():
        record = read_record(folder.trial(name))
        stated = training_settings(trial)
        trained = {} if record is None else record.identity
        for field in stated:
            if record is not None and trained.get(field) != stated[field]:
                place = f"trials/{name}/trial.json: {field}"
                yield Mismatch(place, f"{stated[field]!r} in the evidence", f"trained with {trained.get(field)!r}")


def _compare_counts(place: str, stated: Any, counted: Any) -> Iterator[Mismatch]:
    """Compare what is both stated and counted; a digest protects the rest of a summary."""
    if isinstance(counted, dict):
        for name in sorted(counted.keys() & stated.keys()):
            inner = f"{place}.{name}" if ": " in place else f"{place}: {name}"
            yield from _compare_counts(inner, stated[name], counted[name])
    elif stated != counted:
        yield Mismatch(place, str(stated), f"counted {counted}")


def _compare_evidence(folder: RunFolder, evidence: Evidence, exact: Evidence) -> Iterator[Mismatch]:
    text = _read(folder, _EVIDENCE)
    try:
        stated = parse_json(text)
        canonical = as_text(in_order(stated))
    except (ValueError, RecursionError) as error:
        yield Mismatch(_EVIDENCE, "JSON", f"cannot be read: {error}")
        return
    # Values first, because they say more than a line does; then the text, in which a key or a space could hide.
    yield from compare_values(_EVIDENCE, stated, evidence.json_values(), exact.exact_values())
    yield from compare_texts(_EVIDENCE, text, canonical)


def _compare_files(folder: RunFolder, expected: dict[str, str], known: set[str]) -> Iterator[Mismatch]:
    for name, text in expected.items():
        if (folder.root / name).is_file():
            yield from compare_texts(name, _read(folder, name), text)
        else:
            yield Mismatch(name, "no such file", "recomputed with it")
    for name in list_files(folder.root):
        if name not in known:
            yield Mismatch(name, "part of the bundle", "is not a file that the report is made from")


def _read(folder: RunFolder, name: str) -> str:
    path = folder.root / name
    return path.read_bytes().decode("utf-8", "surrogateescape") if path.is_file() else ""
