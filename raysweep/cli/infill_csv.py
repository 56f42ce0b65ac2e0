"""`raysweep infill --csv`: fills every text of a CSV, and measures the answers.

The input is read in batches, and the output is renamed into place at the end, so an interrupted command leaves no file.
A row that cannot be filled stays in place, with the reason in the column `error`.
"""

import csv
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raysweep.cli.infill_models import ChosenModels
from raysweep.cli.terminal import PrintableConsole, plain_table
from raysweep.errors import ConfigError, InputError
from raysweep.readers.csv_files import fields_up_to
from raysweep.storage.atomic_files import atomic_file
from raysweep.storage.clock import unix_seconds
from raysweep.storage.printable import say, say_json, shown, spreadsheet_safe
from raysweep.storage.table_files import refuse_inputs

if TYPE_CHECKING:
    from raysweep.inference.learner_likeness import LikenessMeter

_ROWS = 48
"""Number of samples in a batch, over all its texts."""
_PRINT_EVERY_S = 5.0
_LONGEST_CELL = 10_000_000
_ERRORS_SHOWN = 5
ADDED = ("model", "sample", "filled", "answers", "probabilities", "finished", "error")
"""Columns that the output has in addition to the input's; `answers` and `probabilities` are JSON lists."""

Row = tuple[int, dict[str, str]]
"""The line on which a record of the input begins, and its cells by column."""


@dataclass(kw_only=True, slots=True)
class _Measured:
    """The values collected from one model's answers, for the metrics."""

    scores: list[Any] = field(default_factory=list)
    answers: list[list[str]] = field(default_factory=list)
    """For each blank, the texts of its samples."""
    finished: list[bool] = field(default_factory=list)


def fill_csv(
    chosen: ChosenModels,
    source: Path,
    out: Path,
    *,
    column: str,
    reference: str | None,
    as_json: bool,
    options: Mapping[str, Any],
    measures_likeness: bool = False,
    classifier: Path | None = None,
    may_overwrite: bool = False,
) -> int:
    """Fill a CSV's texts, write them to another CSV, and print metrics of the answers; return how many texts failed.

    Args:
        column: the column with the texts to fill.
        reference: the column with what the learners wrote: the whole text, a JSON list of the answers, or, if there is
            only one blank, the answer.
        options: `samples`, `seed`, `constraints` and the fields of `Sampling`.
        measures_likeness: also predict the level of the filled texts with a classifier.
        classifier: the classifier, as `LikenessMeter` takes it; None for the run's own.
        may_overwrite: whether an existing output may be replaced.

    Raises:
        InputError: the file cannot be read, or a column is missing.
        ConfigError: the output would replace the input, or exists already.
    """
    refuse_inputs([out], [source])
    if out.exists() and not may_overwrite:
        raise ConfigError(f"--out: {out} is there already; give --force to overwrite it, or another name")
    meter = None
    if measures_likeness:
        from raysweep.inference.learner_likeness import LikenessMeter
        from raysweep.inference.loaded_run import open_run

        assert chosen.run is not None, "--learner-likeness needs --name"
        meter = LikenessMeter(open_run(chosen.run.root, "cpu"), classifier)
    with (
        _open_rows(source, [column, *([reference] if reference else [])]) as (header, rows),
        atomic_file(out) as temporary,
    ):
        models = chosen.load()
        with temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, [*header, *ADDED], lineterminator="\n")
            writer.writeheader()
            filler = _CsvFiller(models, column, reference, options, meter)
            began = reported = unix_seconds()
            while batch := list(islice(rows, max(1, _ROWS // options["samples"]))):
                writer.writerows(filler.fill(batch))
                if unix_seconds() - reported > _PRINT_EVERY_S:
                    reported = unix_seconds()
                    say(f"{filler.texts:,} texts, {filler.texts / (reported - began):,.1f} texts/s", to_stderr=True)
    metrics = filler.metrics(chosen.language, chosen.levels)
    if as_json:
        of_classifier = {} if meter is None else {"classifier": meter.name, "compared_with": meter.compared_with}
        counts = {"texts": filler.texts, "failed": len(filler.errors), "errors": filler.errors}
        say_json({**counts, **of_classifier, "metrics": metrics})
    else:
        for error in filler.errors[:_ERRORS_SHOWN]:
            say(f"{source}: {error}", to_stderr=True)
        failed = len(filler.errors)
        say(f"{out}: {filler.texts - failed:,} of {filler.texts:,} texts filled, {failed:,} failed")
        if meter is not None:
            say(f"levels: told by the classifier {meter.name}; compared with {meter.compared_with}")
        _print_metrics(metrics)
    return len(filler.errors)


class _CsvFiller:
    """Fills batches of rows with every model, and collects what the metrics need."""

    def __init__(
        self,
        models: Mapping[str, Any],
        column: str,
        reference: str | None,
        options: Mapping[str, Any],
        meter: "LikenessMeter | None" = None,
    ) -> None:
        from raysweep.evaluation.token_sampling import Sampling

        self._models, self._column, self._reference, self._meter = models, column, reference, meter
        draw = {name: options[name] for name in ("temperature", "top_k", "top_p")}
        self._options = {
            **{name: value for name, value in options.items() if name not in draw},
            "sampling": Sampling(**draw),
        }
        self._measured = {name: _Measured() for name in models}
        self._references: list[list[str]] = []
        self.texts = 0
        self.errors: list[str] = []

    def fill(self, batch: Sequence[Row]) -> Iterator[dict[str, Any]]:
        """Yield the output rows of a batch, in the order of its texts."""
        from raysweep.evaluation.infilling import fill_templates

        ready, problems = [], {}
        first = self.texts
        for place, (line, cells) in enumerate(batch, start=first):
            try:
                ready.append((place, *self._read(cells)))
            except InputError as error:
                problems[place] = str(error)
                self.errors.append(f"line {line}: {error}")
        self.texts += len(batch)
        places, templates = [place for place, _, _ in ready], [template for _, template, _ in ready]
        self._references += [[answer] for _, _, references in ready for answer in references]
        filled = {
            name: dict(zip(places, fill_templates(model, templates, places=places, **self._options), strict=True))
            for name, model in self._models.items()
        }
        for name, fillings_of in filled.items():
            for place, _, references in ready:
                self._measure(self._measured[name], fillings_of[place], references)
            if self._meter is not None and ready:
                self._meter.add(name, [filling.text for place in places for filling in fillings_of[place]])
        for place, (_, cells) in enumerate(batch, start=first):
            if place in problems:
                yield {**cells, "error": spreadsheet_safe(problems[place])}
            else:
                yield from ({**cells, **row} for name in filled for row in _output_rows(name, filled[name][place]))

    def _read(self, cells: Mapping[str, str]) -> tuple[Any, list[str]]:
        """Return a row's template and the learner's answers; [] if no reference column was given."""
        from raysweep.evaluation.decoding import check_length
        from raysweep.evaluation.infilling import read_template
        from raysweep.model.gpt2 import vocabulary_of

        template = read_template(cells[self._column])
        self._options["constraints"].refuse_kinds(template.kinds)
        for model in self._models.values():
            check_length(model, template.prompt(vocabulary_of(model)))
        if self._reference is None:
            return template, []
        original = cells[self._reference]
        answers = template.answers_in(original) or _parse_list(original)
        if answers is None and len(template.kinds) == 1 and not _is_other_text(template, original):
            answers = [original]
        if answers is None or len(answers) != len(template.kinds):
            raise InputError(
                f"column '{self._reference}': found {shown(original, 40)}, which does not fit the text with its "
                f"{len(template.kinds)} blanks; must be the whole text, or a JSON list of the answers"
            )
        return template, answers

    def _measure(self, kept: _Measured, fillings: Sequence[Any], references: Sequence[str]) -> None:
        from raysweep.evaluation.generation import score_answer

        for blank in range(len(fillings[0].answers)):
            answers = [filling.answers[blank] for filling in fillings]
            kept.answers.append([answer.text for answer in answers])
            kept.finished += [answer.finished for answer in answers]
            if references:
                kept.scores += [
                    score_answer("", answer.kind, answer.text, references[blank], finished=answer.finished)
                    for answer in answers
                ]

    def metrics(self, language: str, levels: Mapping[str, str]) -> dict[str, dict[str, Any]]:
        """Compute the metrics by model and, as `reference`, of the learners' answers; `levels` are those trained on."""
        from raysweep.evaluation.answer_diversity import describe_diversity
        from raysweep.evaluation.generation import summarise

        described = {}
        for name, kept in self._measured.items():
            values: dict[str, Any] = {"answers": len(kept.finished), "unfinished": kept.finished.count(False)}
            if kept.scores:
                values["exact_match"] = sum(score.is_right for score in kept.scores) / len(kept.scores)
                values |= {key: value for key, value in summarise(kept.scores).items() if key != "unfinished"}
            likeness = {} if self._meter is None else self._meter.describe(name, levels.get(name))
            described[name or "model"] = {**values, **describe_diversity(kept.answers, language), **likeness}
        if self._references:
            described["reference"] = describe_diversity(self._references, language)
        return described


def _is_other_text(template: Any, original: str) -> bool:
    """Tell whether a text cannot be the one blank's answer: it repeats text around the blank, or has too many words."""
    from raysweep.evaluation.answer_words import words_of
    from raysweep.masking.vocabulary import Kind

    before, after, words = words_of(template.pieces[0]), words_of(template.pieces[1]), words_of(original)
    is_around = (bool(before) and words[: len(before)] == before) or (bool(after) and words[-len(after) :] == after)
    return not original.strip() or is_around or (template.kinds[0] is Kind.WORD and len(words) > 1)


@contextmanager
def _open_rows(source: Path, needed: Sequence[str]) -> Iterator[tuple[list[str], Iterator[Row]]]:
    """Open a CSV; yield its header, and its records."""
    try:
        file = source.open(newline="", encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"--csv: {source!s:.80} cannot be read ({error.strerror}); name a CSV") from error
    with file, fields_up_to(_LONGEST_CELL):
        reader = csv.DictReader(file, strict=True, restkey=None, restval=None)
        with _locating_errors(source, reader):
            header = list(reader.fieldnames or [])
        if repeated := [name for name, times in Counter(header).items() if times > 1]:
            raise InputError(
                f"{source}: found the column {shown(repeated[0], 40)} more than once; give each a name of its own"
            )
        for name in needed:
            if name not in header:
                raise InputError(
                    f"{source}: found no column {shown(name, 40)}; its columns are {shown(', '.join(header))}"
                )
        if taken := set(ADDED).intersection(header):
            raise InputError(f"{source}: found the column '{min(taken)}', which the output has too; rename it")
        yield header, _records(source, reader)


def _records(source: Path, reader: Any) -> Iterator[Row]:
    line = reader.line_num + 1
    while True:
        with _locating_errors(source, reader):
            cells = next(reader, None)
        if cells is None:
            return
        if None in cells or None in cells.values():
            raise InputError(f"{source} line {line}: found another number of cells than the header has; mend the line")
        yield line, cells
        line = reader.line_num + 1


@contextmanager
def _locating_errors(source: Path, reader: Any) -> Iterator[None]:
    """Turn errors of decoding or parsing into one that says where in the file they occurred."""
    try:
        yield
    except (csv.Error, UnicodeDecodeError) as error:
        what = "is not UTF-8" if isinstance(error, UnicodeDecodeError) else f"is no CSV ({error})"
        raise InputError(
            f"{source}: after line {reader.line_num} it {what}; export it again as CSV in UTF-8"
        ) from error


def _parse_list(text: str) -> list[str] | None:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return values if isinstance(values, list) and all(isinstance(value, str) for value in values) else None


def _output_rows(name: str, fillings: Sequence[Any]) -> Iterator[dict[str, Any]]:
    for number, filling in enumerate(fillings, start=1):
        yield {
            "model": name,
            "sample": number,
            "filled": spreadsheet_safe(filling.text),
            "answers": json.dumps([answer.text for answer in filling.answers], ensure_ascii=False),
            "probabilities": json.dumps([float(f"{answer.probability:.4g}") for answer in filling.answers]),
            "finished": str(filling.finished).lower(),
        }


def _print_metrics(metrics: Mapping[str, Mapping[str, Any]]) -> None:
    table = plain_table()
    table.add_column("metric")
    for name in metrics:
        table.add_column(name, justify="right")
    for key in dict.fromkeys(key for values in metrics.values() for key in values):
        cells = (values.get(key) for values in metrics.values())
        table.add_row(
            key, *(f"{cell:,}" if isinstance(cell, int) else "-" if cell is None else f"{cell:.4g}" for cell in cells)
        )
    PrintableConsole(highlight=False).print(table)
