"""Scores a corpus of new texts under a run's models, in parts, so that a kill costs at most one part of one model.

During the work, a folder of parts lies beside the output file:

    OUT.parts/begun                       a digest of everything that decides a score, which identifies the work
    OUT.parts/.texts.part/00000.parquet   a part of the texts, which stays on this disk
    OUT.parts/.texts.part/plan.json       says that the texts are complete, and for which work; written last
    OUT.parts/MODEL-00000.parquet         scores of a part under a model, renamed into place when complete
    OUT.parts/merge.json                  says that the output is being written from these parts

The texts are read first and then dropped, so that memory holds one part, not the corpus.  When every part is scored,
they are merged in the order of the texts, the file is renamed into place, its record `OUT.json` last, and the parts are
deleted.  Object storage receives the parts during the work, so another machine can read the texts again and go on.
"""

import shutil
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from raysweep.config.data_settings import DataConfig
from raysweep.config.fingerprints import EXAMPLES_VERSION, SCORES_VERSION, fingerprint
from raysweep.corpus.new_texts import read_new_texts
from raysweep.corpus.quarantine import count_by_reason, write_quarantine
from raysweep.errors import InputError, RaysweepError
from raysweep.pipeline.identities import CORPUS_VERSION, tokenizer_made_from
from raysweep.pipeline.own_process import OwnProcess
from raysweep.pipeline.run_record import read_run
from raysweep.pipeline.tasks import Executor, Listener, TextTask
from raysweep.readers.locations import digest_files
from raysweep.scheduling.records import read_model_digest
from raysweep.scheduling.trials import START_MODEL
from raysweep.storage.atomic_files import atomic_file, write_text
from raysweep.storage.digests import read_sealed, write_sealed
from raysweep.storage.run_folder import RunFolder
from raysweep.storage.table_files import table_writer

if TYPE_CHECKING:
    from raysweep.inference.level_predictor import LevelPredictor

PART_TEXTS = 1000
_READ_HERE_BYTES = 8 << 20
"""Larger files are read in another process: reading takes several times their size, which would not be freed here."""
FACTS = ("writing_id", "level", "learner", "l1", "prompt")
"""The known properties of a text, which are copied to the scores."""


@dataclass(frozen=True, kw_only=True)
class TextScoring:
    """What to score, and where the scores go."""

    run: RunFolder
    rules: Mapping[str, Any]
    """`ScoringRules` as plain values."""
    models: tuple[str, ...]
    start: Mapping[str, Any]
    """Settings of the models' common start, not counting the run's tokenizer."""
    files: tuple[Path, ...]
    data: DataConfig
    out: Path
    with_tokens: bool = False
    place: str = ""
    """Folder of `out` in object storage, if `out` is a local copy; otherwise ''."""

    def shown(self, path: Path) -> str:
        """Return the address of a file beside the output, as shown to the user."""
        return f"{self.place}/{path.name}" if self.place else str(path)

    @property
    def parts(self) -> Path:
        return self.out.with_name(f"{self.out.name}.parts")

    @property
    def tokens_out(self) -> Path:
        """Table of token scores, if they are requested."""
        return self.out.with_name(f"{self.out.stem}.tokens{self.out.suffix}")

    @property
    def record(self) -> Path:
        return self.out.with_name(f"{self.out.name}.json")

    @property
    def quarantine(self) -> Path:
        """Table of rows that hold no text that can be scored."""
        return self.out.with_name(f"{self.out.name}.quarantine.csv")

    @property
    def outputs(self) -> list[Path]:
        return [self.out, *([self.tokens_out] if self.with_tokens else [])]

    @property
    def begun(self) -> Path:
        """File with the digest of the parts' work; written before the first part."""
        return self.parts / "begun"

    @property
    def working(self) -> Path:
        """Folder of the texts; its name marks it as a leftover, so that it is not uploaded to a bucket."""
        return self.parts / ".texts.part"

    @property
    def plan(self) -> Path:
        """File that identifies the work of the texts."""
        return self.working / "plan.json"

    @property
    def merge(self) -> Path:
        """File that says from what an output was made whose record is missing because of a kill."""
        return self.parts / "merge.json"

    def texts(self, part: int) -> Path:
        return self.working / f"{part:05d}.parquet"

    def scores(self, model: str, part: int) -> Path:
        return self.parts / f"{model}-{part:05d}.parquet"

    def token_scores(self, model: str, part: int) -> Path:
        return self.parts / f"{model}-{part:05d}.tokens.parquet"

    def identity(self) -> dict[str, Any]:
        """Return what decides a score; reads the corpus and the models once.

        Raises:
            DamagedError: a model, or the run's record, was changed since it was made.
        """
        data = self.data.model_dump(mode="json", exclude={"path", "csv", "sample", "split", "near_duplicates"})
        trained = [model for model in self.models if model != START_MODEL]
        start = {}
        if START_MODEL in self.models:
            # With the current digest of the run's tokenizer, which may have been made again.
            record = read_run(self.run)
            start = {START_MODEL: {**self.start, **tokenizer_made_from({} if record is None else record.stages)}}
        return {
            "texts": digest_files(self.files),
            "data": data,
            "rules": dict(self.rules),
            "models": {model: read_model_digest(self.run.trial(model)) for model in trained} | start,
            "order": list(self.models),
            "tokens": self.with_tokens,
            "part": PART_TEXTS,
            "version": [CORPUS_VERSION, EXAMPLES_VERSION, SCORES_VERSION],
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class TextCounts:
    """How many texts there are, and how many rows hold no text."""

    texts: int
    rows: int
    set_aside: dict[str, int]
    """Number of rows without a text, by reason."""
    notes: dict[str, int]


def score_corpus(
    scoring: TextScoring,
    identity: Mapping[str, Any],
    executor: Executor,
    listener: Listener,
    push: Callable[[], None] = lambda: None,
) -> TextCounts:
    """Read the texts, unless an earlier attempt did, and score missing parts; the caller holds the parts' lock.

    Raises:
        InputError: a file cannot be used, or holds no text.
    """
    mark = fingerprint(identity)
    if not scoring.begun.exists() or scoring.begun.read_text(errors="replace") != mark:
        for path in scoring.parts.iterdir():
            if path != RunFolder(scoring.parts).lock:  # the caller holds it
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        # Another machine must not take old parts in object storage for parts of this work.
        push()
        write_text(scoring.begun, mark)
    plan = read_sealed(scoring.plan, fix="delete its folder") if scoring.plan.exists() else None
    if plan is None or plan["fingerprint"] != mark:
        if scoring.working.exists():
            shutil.rmtree(scoring.working)
        # Warm up early: Ray takes seconds to start, and the scoring processes some more to import torch.
        to_score = sum(not scoring.scores(model, 0).exists() for model in scoring.models)
        reader = OwnProcess()
        with ThreadPoolExecutor(1) as thread:
            try:
                reading = thread.submit(_make_plan, scoring, mark, identity["texts"], reader)
                executor.warm_up(to_score, listener)
                counts = reading.result()
            except RaysweepError:
                if isinstance(error := reading.exception(), InputError):  # another corpus is needed first
                    shutil.rmtree(scoring.parts)
                    raise error from None
                raise
            finally:
                # Runs after Ctrl-C and SIGTERM too, wherever in the `try`; only a small corpus is then still read to
                # its end.
                reader.stop()
    else:
        counts = TextCounts(**plan["counts"])
    listener.say(f"score: {counts.texts:,} texts of {counts.rows:,} rows")
    if counts.set_aside:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in counts.set_aside.items())
        listener.say(f"score: set aside {reasons}; see {scoring.shown(scoring.quarantine)}")
    _score_parts(scoring, counts.texts, identity["models"], executor, listener)
    return counts


def write_scores(
    scoring: TextScoring,
    identity: Mapping[str, Any],
    counts: TextCounts,
    is_stopped: Callable[[], bool],
    predictor: "LevelPredictor | None",
) -> None:
    """Merge the parts into the output, in the order of the texts.

    Args:
        is_stopped: called between two parts; True raises KeyboardInterrupt before an output is in place.
        predictor: adds the probability of each level; its models are among those that scored.
    """
    from raysweep.config.loading import read_resolved_config
    from raysweep.inference.score_tables import score_table, token_scores_table
    from raysweep.masking.example_store import run_vocabulary

    write_sealed(scoring.merge, {"fingerprint": fingerprint(identity)})
    with ExitStack() as stack:
        write, *write_tokens = [stack.enter_context(table_writer(path)) for path in scoring.outputs]
        for part in range(_count_parts(counts.texts)):
            if is_stopped():
                raise KeyboardInterrupt
            texts = _read(scoring.texts(part))
            scores = {model: _read(scoring.scores(model, part)) for model in scoring.models}
            write(score_table(texts, scores, predictor))
            if write_tokens:
                vocabulary = run_vocabulary(scoring.run.examples, read_resolved_config(scoring.run).model.tokenizer)
                nats = {model: _read(scoring.token_scores(model, part))["nats"].to_numpy() for model in scoring.models}
                # A text that can be scored has one token more, the first, which is not predicted.
                counts_D = scores[scoring.models[0]]["tokens"].to_numpy() + 1
                write_tokens[0](token_scores_table(texts, nats, counts_D, vocabulary))


def _make_plan(scoring: TextScoring, mark: str, digest: str, reader: OwnProcess) -> TextCounts:
    """Read the corpus and record that its texts are complete; runs in a thread, since the caller may be interrupted."""
    size = sum(path.stat().st_size for path in scoring.files)
    killed = (
        f"{scoring.files[0]}: the process that read the corpus ({size / 1e6:,.0f} MB) was killed, most likely for its "
        "memory; use a machine with more, or split the corpus and score the parts one by one"
    )
    counts = write_texts(scoring) if size <= _READ_HERE_BYTES else reader.run(write_texts, scoring, if_killed=killed)
    if digest_files(scoring.files) != digest:  # otherwise a changed corpus's texts would be kept under the old digest
        raise InputError(f"{scoring.files[0]}: changed while it was read; the same command reads it again")
    write_sealed(scoring.plan, {"fingerprint": mark, "counts": asdict(counts)})
    return counts


def write_texts(scoring: TextScoring) -> TextCounts:
    """Read the corpus and write its texts in parts; InputError if a file cannot be used, or holds no text."""
    corpus = read_new_texts(scoring.files, scoring.data)
    documents = corpus.documents
    if corpus.bad_rows:
        write_quarantine(scoring.quarantine, corpus.bad_rows)
    else:
        scoring.quarantine.unlink(missing_ok=True)  # it may be an earlier corpus's
    if not documents.num_rows:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in count_by_reason(corpus.bad_rows).items())
        raise InputError(f"{scoring.files[0]}: none of its {corpus.rows:,} rows holds a text ({reasons})")
    for part, start in enumerate(range(0, documents.num_rows, PART_TEXTS)):
        chosen = documents.slice(start, PART_TEXTS)
        columns = {name: chosen[name] for name in (*FACTS, "text")}
        numbers = pa.array(range(start, start + chosen.num_rows), pa.int64())
        with atomic_file(scoring.texts(part)) as temporary:
            pq.write_table(
                pa.table({"document": numbers, **columns}), temporary, compression="zstd", write_page_checksum=True
            )
    counts = count_by_reason(corpus.bad_rows)
    return TextCounts(texts=documents.num_rows, rows=corpus.rows, set_aside=counts, notes=dict(corpus.notes))


def _score_parts(
    scoring: TextScoring, texts: int, digests: Mapping[str, Any], executor: Executor, listener: Listener
) -> None:
    """Score the missing parts; `digests` are the identity's digests by model."""
    parts = range(_count_parts(texts))
    tasks = [
        TextTask(
            run=scoring.run.root,
            model=model,
            model_digest=digests[START_MODEL].get("tokenizer", "") if model == START_MODEL else digests[model],
            # Absolute paths: a cluster's workers may have another working directory than this command.
            texts=scoring.texts(part).absolute(),
            out=scoring.scores(model, part).absolute(),
            tokens_out=scoring.token_scores(model, part).absolute() if scoring.with_tokens else None,
        )
        for model in scoring.models
        for part in parts
    ]
    # Tokens are written before the sums, but a bucket may have received the sums first.
    todo = [task for task in tasks if not task.out.exists() or (task.tokens_out and not task.tokens_out.exists())]
    total = texts * len(scoring.models)
    done = at_first = total - sum(_size(texts, task) for task in todo)
    if at_first:
        listener.say(f"score: {at_first:,} of {total:,} scores are there already")
    began = time.monotonic()
    listener.advance("score", done, total, "texts × models")
    for _, count in executor.score_texts(todo, listener):
        done += count
        rate = (done - at_first) / max(time.monotonic() - began, 1e-9)
        listener.advance("score", done, total, f"texts × models  {rate:,.1f} a second")


def _read(path: Path) -> pa.Table:
    return pq.read_table(path, page_checksum_verification=True)


def _count_parts(texts: int) -> int:
    return -(-texts // PART_TEXTS)


def _size(texts: int, task: TextTask) -> int:
    return min(PART_TEXTS, texts - int(task.texts.stem) * PART_TEXTS)
