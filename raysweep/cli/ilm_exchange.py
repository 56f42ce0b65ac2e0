"""`raysweep ilm-export` and `ilm-import`: exchanges data with the original ILM code."""

import csv
from collections.abc import Iterator
from pathlib import Path

from raysweep.cli.settings import Settings
from raysweep.corpus.documents import read_documents
from raysweep.corpus.splits import SPLITS
from raysweep.errors import ConfigError, InputError
from raysweep.masking.ilm_files import (
    MaskedDocument,
    draw_examples,
    read_examples,
    write_examples,
    write_special_tokens,
)
from raysweep.masking.shards import plan_shards
from raysweep.masking.vocabulary import gpt2
from raysweep.staging.run_command import this_command
from raysweep.storage.atomic_files import atomic_file
from raysweep.storage.printable import say
from raysweep.storage.table_files import refuse_inputs

ROWS_AT_A_TIME = 8192


def export_examples(settings: Settings, out: Path) -> None:
    """Write every split's masks in the original's format, in characters; ConfigError if the corpus is not prepared."""
    from raysweep.corpus.preparing import read_summary

    if not settings.folder.splits.exists():
        fix = this_command(settings.command(), stage="prepare")
        raise ConfigError(f"{settings.folder.root} holds no corpus; do {fix} first")
    total = read_summary(settings.folder).documents
    out.mkdir(parents=True, exist_ok=True)
    for split in SPLITS:
        write_examples(out / f"{split}.pkl", _masked(settings, split, total))
        say(out / f"{split}.pkl")
    write_special_tokens(out / "additional_ids_to_tokens.pkl", gpt2())
    say(out / "additional_ids_to_tokens.pkl")


def _masked(settings: Settings, split: str, total: int) -> Iterator[MaskedDocument]:
    """Yield the split's documents with their masks, drawing a few thousand documents at a time."""
    for rows in plan_shards(total, ROWS_AT_A_TIME):
        documents = read_documents(settings.folder.documents, rows)
        drawn = draw_examples(documents, settings.config.masking, settings.config.seed, settings.config.data.language)
        yield from (masked for masked, where in zip(drawn, documents.splits, strict=True) if where == split)


def import_texts(source: Path, level: str, out: Path, *, force: bool) -> None:
    """Write the documents of an original file as a CSV that `data.path` can name.

    Args:
        source: an examples pickle, or a text file with documents joined by three newlines.
        level: given to all documents, because the original's files hold no levels.
        force: whether to overwrite `out`.

    Raises:
        ConfigError: the output exists already and is not to be overwritten, or is the source itself.
        InputError: the file is neither of these, or the pickle holds types that are not on the allow-list.
    """
    refuse_inputs([out], [source])
    if out.exists() and not force:
        raise ConfigError(f"--out: {out} is there already; give --force to overwrite it, or another name")
    if source.suffix == ".txt":
        try:
            texts = source.read_text(encoding="utf-8").split("\n\n\n")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{source}: cannot be read ({error}); must be a UTF-8 text file") from error
    else:
        texts = [document.text for document in read_examples(source)]
    with atomic_file(out) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["writing_id", "l1", "cefr_level", "text"])
        writer.writerows((f"{source.stem}-{number:07d}", "unknown", level, text) for number, text in enumerate(texts))
    say(f"{out}: {len(texts):,} texts of level {level}")
