"""Makes a laid-out bundle's report once more, from its losses, and tells what comes out differently.

Two questions are asked apart, so that neither answer leans on the other.  Does the evidence follow
from the losses?  It is collected again and compared value by value.  Do page, Markdown and tables
follow from the evidence?  They are rendered again and compared byte by byte.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import pyarrow.parquet as pq
import yaml

from raysweep.config.loading import parse_config
from raysweep.config.schema import Config
from raysweep.errors import InputError
from raysweep.evidence.evidence_schema import Evidence
from raysweep.evidence.inputs import list_inputs
from raysweep.publishing.archive import MAX_BYTES, list_files, parse_json
from raysweep.publishing.differences import Mismatch, compare_texts, compare_values, count_leaves
from raysweep.publishing.recount import recount
from raysweep.report.writing import make_evidence, render_report
from raysweep.scheduling.trials import expand_trials
from raysweep.storage.atomic_files import dump_json
from raysweep.storage.run_folder import RunFolder

Values = dict[str, Any]
README = "README.txt"


@dataclass(kw_only=True)
class Recomputed:
    """What was looked at, and everything that is not as it must be."""

    differences: list[Mismatch] = field(default_factory=list)
    documents: int = 0
    """Rows of documents.parquet that were counted again."""
    losses: int = 0
    """Rows of losses.parquet that everything was recomputed from."""
    values: int = 0
    """Values of the evidence that were compared."""
    files: int = 0
    """Documents and tables of the report that were compared."""
    evidence: Values | None = None
    """As recomputed."""

    @property
    def serious(self) -> list[Mismatch]:
        """Without numbers that differ by no more than rounding."""
        return [one for one in self.differences if not one.is_rounding]


def recompute(folder: RunFolder) -> Recomputed:
    """Collect, count and render everything again.  Never raises for what stands in the files: they may be forged."""
    done = Recomputed()
    try:
        config = read_resolved_config(folder)
        _check_sizes(folder)
        evidence = make_evidence(folder, config, expand_trials(config)).json_values()
        counts = list(recount(folder))
    except Exception as error:  # whatever a forged file can do to a reader of honest ones
        said = str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
        done.differences.append(Mismatch(place="the bundle", stated="a whole run", found=f"cannot be read: {said}"))
        return done
    done.evidence = evidence
    done.documents = pq.ParquetFile(folder.documents).metadata.num_rows
    done.losses = pq.ParquetFile(folder.losses).metadata.num_rows
    done.values = count_leaves(evidence)
    done.differences.extend(
        Mismatch(place=place, stated=str(stated), found=f"counted {found}")
        for place, stated, found in counts
        if stated != found
    )
    done.differences.extend(_compare_evidence(folder, evidence))
    # Rendered from what is stated, where that is right but for rounding: then every digit must agree.
    stated = parse_json(_read(folder, "report/evidence.json")) if not done.serious else evidence
    expected = report_files(stated)
    done.files = len(expected)
    for name, text in expected.items():
        if (folder.root / name).is_file():
            done.differences.extend(compare_texts(name, _read(folder, name), text))
        else:
            done.differences.append(Mismatch(place=name, stated="no such file", found="recomputed with it"))
    known = {*list_inputs(folder, expand_trials(config)), *expected, "report/evidence.json"}
    done.differences.extend(
        Mismatch(place=name, stated="part of the bundle", found="is nothing that the report is made from")
        for name in list_files(folder.root)
        if name not in known
    )
    return done


def report_files(evidence: Mapping[str, Any]) -> dict[str, str]:
    """Everything that is made from the evidence, by its path in the run folder."""
    return {**render_report(Evidence.model_validate_json(dump_json(evidence))), README: read_me(evidence)}


def read_me(evidence: Mapping[str, Any]) -> str:
    """What a bundle says of itself to whoever unzips it."""
    return f"""The evidence of the raysweep run {evidence["run"]["name"]!r}: {evidence["answer"]["headline"]}

report/report.html          the report; open it in a browser
report/evidence.json        every number in it, as report/evidence.schema.json describes
report/tables/              its tables, as CSV and TeX
evaluation/losses.parquet   nats and tokens of every test document, by model, kind of mask and part
corpus/documents.parquet    the documents: level, split, first language, characters; learners and prompts are numbers
manifest.json               the SHA-256 of every file, and the software that made them
all else                    records of the run that the report rests on too

No learner's text is in here. This recomputes every number and verdict from the losses:

    pip install raysweep=={evidence["raysweep"]}
    raysweep verify evidence.zip

It must print this digest of all inputs:

    {evidence["inputs"]["digest"]}

It finds a changed, missing or added file, digit, verdict or hash. It cannot find a whole that was forged
consistently, losses first: hold the digest against one that was published elsewhere.
"""


def read_resolved_config(folder: RunFolder) -> Config:
    """The settings that a run was made with, from its own config.yaml.

    Raises:
        InputError: there is none, or it is not as raysweep writes it.
    """
    if not folder.config.exists():
        raise InputError(f"{folder.config}: not there; is '{folder.name}' the name of a run? See --storage")
    text = folder.config.read_text(encoding="utf-8")
    try:
        if any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text)):
            raise InputError(f"{folder.config}: holds a YAML alias, which raysweep never writes")
        return parse_config(yaml.safe_load(text), place=folder.config.name)
    except yaml.YAMLError as error:
        raise InputError(f"{folder.config}: not valid YAML ({error})") from error


def _compare_evidence(folder: RunFolder, evidence: Values) -> Iterator[Mismatch]:
    place, text = "report/evidence.json", _read(folder, "report/evidence.json")
    try:
        stated = parse_json(text)
        form = dump_json(stated)
    except (ValueError, RecursionError) as error:
        yield Mismatch(place=place, stated="JSON", found=f"cannot be read: {error}")
        return
    # Values first: they say more than a line.  Then the form, in which a key or a space could hide.
    yield from chain(compare_values(place, stated, evidence), compare_texts(place, text, form))


def _check_sizes(folder: RunFolder) -> None:
    """Parquet can hold billions of equal values in a few bytes."""
    for path in (folder.documents, folder.losses):
        if not path.exists():
            raise InputError(f"{path.name}: not there")
        size = pq.ParquetFile(path).metadata
        if size.num_rows * size.num_columns * 8 > MAX_BYTES:
            raise InputError(f"{path.name}: has {size.num_rows:,} rows; more than a bundle may hold")


def _read(folder: RunFolder, name: str) -> str:
    path = folder.root / name
    return path.read_bytes().decode("utf-8", "surrogateescape") if path.is_file() else ""
