"""`raysweep init`: inspects a corpus, prints what it found, and writes an experiments.yaml that is ready to run."""

import shlex
import sys
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import typer
import yaml

from raysweep.cli.data_options import data_overrides, options_named
from raysweep.cli.settings import DEFAULT_CONFIG
from raysweep.config.data_settings import DataConfig, SplitConfig
from raysweep.config.loading import check_file
from raysweep.corpus.quarantine import count_by_reason
from raysweep.corpus.survey import FEWEST_TEXTS, FEWEST_WRITERS, Survey, survey_corpus
from raysweep.errors import ConfigError
from raysweep.readers.locations import find_files
from raysweep.storage.atomic_files import write_text
from raysweep.storage.printable import say, shown

MOST_BAD_UNASKED: float = DataConfig().max_bad_fraction
_PASSES = 3
_EXAMPLES, _BATCH = 16, 8
_FEWEST_STEPS, _MOST_STEPS = 500, 60_000


def init_corpus(
    paths: Sequence[str], *, out: Path, overrides: Sequence[str], is_agreed: bool, may_overwrite: bool
) -> None:
    """Inspect the corpus, ask what the files do not tell, and write the config file.

    Raises:
        ConfigError: the config file exists already, or the order of the levels is unknown and nobody can be asked.
        InputError: the corpus cannot be used.
    """
    if out.exists() and not may_overwrite:
        raise ConfigError(f"{out}: is there already; give --force to write it anew, or another name with --out")
    path: Any = paths[0] if len(paths) == 1 else list(paths)
    settings = data_overrides(overrides, command="init")
    files = find_files(path)
    with options_named({}):
        survey = survey_corpus(files, settings)
    for line in describe(survey, files):
        say(line)
    if not survey.is_order_known and "levels" not in settings:
        order = _ask_order(survey, is_agreed=is_agreed)
        if order != survey.levels:
            survey = survey_corpus(files, settings, order=(*order, *survey.thin))
    text = config_text(survey, path)
    write_text(out, text)
    check_file(out)
    say(f"{out}: written, with the profiles quick (minutes, small models from scratch) and paper (GPT-2, on GPUs)")
    config = "" if out.name == DEFAULT_CONFIG.name and out.parent == Path() else f" --config {shlex.quote(str(out))}"
    say(f"next: `raysweep run --profile quick{config}`")


def describe(survey: Survey, files: Sequence[Path]) -> list[str]:
    """Describe what was found and chosen, in about ten lines."""
    corpus, name = survey.corpus, files[0].name if len(files) == 1 else f"{len(files):,} files"
    layout = f", as {survey.layout} has it" if survey.layout else ""
    columns = ", ".join(
        f"{role.removeprefix('writing_')} = {' '.join(column.split())[:40]}" for role, column in corpus.roles.items()
    )
    unused = [
        f"{column[:30]} ({why})" if (why := survey.reasons_unused.get(column)) else column[:30]
        for column in dict.fromkeys(survey.header)
        if column and column not in corpus.roles.values()
    ]
    levels = ", ".join(f"{level} {survey.counts[level]:,}" for level in survey.levels)
    lines = [
        f"{name}: {survey.format}{layout}, {corpus.rows:,} rows, {corpus.documents.num_rows:,} texts",
        f"columns: {columns}",
        f"not used: {', '.join(unused)[:500]}" if unused else "",
        f"levels, lowest first: {levels}",
        f"counted as: {_describe_aliases(survey)}" if survey.data.get("level_aliases") else "",
    ]
    if min(survey.counts[level] for level in survey.levels) < FEWEST_TEXTS:
        lines.append(
            f"few texts: a level has fewer than {FEWEST_TEXTS}; a run shows how it works, and can decide nothing"
        )
    if survey.thin:
        thin = ", ".join(f"{level} ({count:,})" for level, count in survey.thin.items())
        lines.append(f"left out, because too few texts, or none to test on: {thin}")
    if survey.others:
        others = ", ".join(f"{shown(value, 30)} ({rows:,})" for value, rows in list(survey.others.items())[:8])
        lines.append(f"left out, because it is no level: {others}{' …' if len(survey.others) > 8 else ''}")
    lines.append(_people(survey))
    if survey.splits is None:
        by = "learner and text" if survey.learners else "text"
        shares = survey.data.get("split", SplitConfig().model_dump())
        train, valid, test = (round(100 * shares[name]) for name in ("train", "valid", "test"))
        lines.append(f"splits: none published, so {train}, {valid} and {test} % of each level, whole by {by}")
    else:
        counts = ", ".join(f"{split} {count:,}" for split, count in survey.splits.items())
        lines.append(
            f"splits: as published ({counts}){'; valid is taken from train' if not survey.splits['valid'] else ''}"
        )
    if survey.without_learner:
        lines.append(
            f"no writer: {survey.without_learner:,} texts have 'NA' or the like, and each such word counts as one "
            "writer; leave such cells empty, or do without the column: --set data.columns.learner=null"
        )
    if survey.fewest_tested is not None and survey.fewest_tested[1] < FEWEST_WRITERS:
        level, count = survey.fewest_tested
        lines.append(
            f"few writers: level {level} has about {count} to test on; with fewer than {FEWEST_WRITERS} a run shows "
            "how it works, and can decide nothing"
            if count
            else f"too few writers: level {level} has texts of one or two, who cannot be in three splits, so a run is "
            "refused; to divide texts by any writer: --set data.columns.learner=null"
        )
    language = survey.data.get("language", "en")
    mean, longest = survey.lengths
    unsure = "" if survey.language else " (not recognised; say it with --set data.language=CODE)"
    lines.append(f"texts: language {language}{unsure}, {mean:,.0f} characters on average, at most {longest:,}")
    if survey.with_markup:
        lines.append(f"markup: {survey.with_markup:,} texts have tags or entities, which are unwrapped (data.clean)")
    if survey.bad_share:
        reasons = ", ".join(f"{n:,} {why}" for why, n in count_by_reason(corpus.bad_rows).items())
        lines.append(f"set aside: {reasons}")
        if survey.bad_share > MOST_BAD_UNASKED:
            lines.append(
                f"that is {survey.bad_share:.0%} of all rows, which data.max_bad_fraction lets pass. Look first: "
                f"{survey.bad_example}"
            )
    return [line for line in lines if line]


def config_text(survey: Survey, path: Any) -> str:
    """Write the text of an experiments.yaml, with comments."""
    data: dict[str, Any] = {"path": path, **survey.data}
    if survey.bad_share > MOST_BAD_UNASKED:
        data["max_bad_fraction"] = round(survey.bad_share * 1.2, 3)
    steps = {level: _steps(count) for level, count in survey.train_counts.items()}
    general = min(_MOST_STEPS, max(_steps(sum(survey.train_counts.values())), max(steps.values())))
    transfer = {level: max(100, count // 10) for level, count in steps.items()}
    corpus = path if isinstance(path, str) else path[0]
    return f"""\
# Written by `raysweep init` for {shown(corpus)}; edit it as you like.  All settings: raysweep check --schema
default: quick

profiles:
  # Minutes on two CPU cores, offline: small models from scratch.  It shows that all of it works, and no more.
  quick:
    seed: 0
    data: &corpus
{_indented(data)}
    masking: {{examples_per_document: 8, max_tokens: 128}}
    model: {{start: scratch, size: micro}}
    training:
      batch_size: 8
      learning_rate: 4e-3
      schedule: linear
      warmup_steps: 5
      evaluate_every: 25
      checkpoint_every: 25
      valid_examples: 48
    trials:                      # one per level, one on all levels, and its fine-tunes
      plan: {{specialised: {{steps: 50}}, general: {{steps: 100}}, transfer: {{steps: 10}}}}
    evaluation: {{examples_per_document: 2, generation_documents: 4}}

  # GPT-2 base from its pretrained weights, on GPUs; `raysweep plan --profile paper` says how long it takes.
  paper:
    seed: 0
    data: *corpus
    masking: {{examples_per_document: {_EXAMPLES}, max_tokens: 256}}
    model: {{start: gpt2}}         # of the Hugging Face hub, or a folder with the weights
    seeds: 3                     # trainings of every trial; verdicts then hold for the method, not for one training
    training:
      batch_size: {_BATCH}
      learning_rate: 5e-5
      evaluate_every: {max(100, min(1000, min(steps.values()) // 5))}
      checkpoint_every: {max(100, min(1000, min(steps.values()) // 5))}
      valid_examples: 500
    trials:
      plan:                      # about {_PASSES} passes over each level's examples
        specialised: {{steps: {_inline(steps)}}}
        general: {{steps: {general}}}
        transfer: {{steps: {_inline(transfer)}}}
    controls: {{size_matched: true, step_matched: true, placebo: true}}   # is it the level that helps?
    evaluation: {{documents_per_level: 1000, examples_per_document: {_EXAMPLES}}}
    report: {{resamples: 10000}}
"""


def _ask_order(survey: Survey, *, is_agreed: bool) -> tuple[str, ...]:
    levels = ", ".join(survey.levels)
    if is_agreed:
        say(f"the order of the levels is not known; taken, lowest first: {levels}")
        return survey.levels
    if not _is_asked():
        raise ConfigError(
            f"the order of the levels is not known ({levels}?). Confirm it with --yes, or say it: "
            f"--set 'data.levels=[{levels}]'"
        )
    while True:
        answer = typer.prompt("Levels, lowest first", default=levels)
        order = tuple(part.strip() for part in answer.split(",") if part.strip())
        if sorted(order) == sorted(survey.levels):
            return order
        say(f"must name each of {levels} once")


def _is_asked() -> bool:
    """Return whether a person can answer a question here."""
    return sys.stdin.isatty()


def _describe_aliases(survey: Survey) -> str:
    aliases = survey.data["level_aliases"]
    examples = ", ".join(f"{shown(spelling, 30)} as {level}" for spelling, level in list(aliases.items())[:8])
    names = {unicodedata.name(letter, "").partition(" ")[0].title() for letter in "".join(aliases)}
    scripts = " and ".join(script for script in ("Cyrillic", "Greek") if script in names)
    return f"{examples}{' …' if len(aliases) > 8 else ''}{f' ({scripts} letters)' if scripts else ''}"


def _people(survey: Survey) -> str:
    counts = [
        f"{count:,} {name}" if count is not None else f"no {name} known"
        for name, count in (
            ("learners", survey.learners), ("first languages", survey.first_languages), ("prompts", survey.prompts),
        )
    ]  # fmt: skip
    consequence = "" if survey.learners else " (so one writer's texts may be in two splits, and intervals count texts)"
    return f"writers: {', '.join(counts)}{consequence}"


def _steps(documents: int) -> int:
    steps = _PASSES * documents * _EXAMPLES // _BATCH
    return max(_FEWEST_STEPS, min(_MOST_STEPS, round(steps, -2)))


def _indented(data: Mapping[str, Any]) -> str:
    text = yaml.safe_dump(dict(data), sort_keys=False, allow_unicode=True, default_flow_style=None, width=100)
    return "\n".join(f"      {line}" for line in text.rstrip().splitlines())


def _inline(steps: Mapping[str, int]) -> str:
    text: str = yaml.safe_dump(dict(steps), sort_keys=False, default_flow_style=True, width=10_000)
    return text.strip()
