"""A whole run folder as the other stages leave it, with losses whose truth is known."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from raysweep.config.schema import Config
from raysweep.scheduling.trials import START_MODEL, Trial, expand_trials, training_settings
from raysweep.storage.digests import read_sealed, write_sealed
from raysweep.storage.run_folder import RunFolder

LEVELS = ("A1", "A2", "B1", "B2", "C1")
KINDS = {"document": 0.05, "paragraph": 0.05, "sentence": 0.15, "ngram": 0.45, "word": 0.3}
LANGUAGES = ("Portuguese", "Mandarin", "Spanish", "<script>alert(1)</script>", "Russian")


def make_config(levels=LEVELS, *, seeds=(0,), transfer=True, resamples=200, **sections) -> Config:
    """The plan's experiment: a model per level, a general one, and its fine-tunes."""
    trials = {level: {"levels": (level,), "steps": 400, "seeds": seeds} for level in levels}
    trials["all"] = {"levels": tuple(levels), "steps": 800, "seeds": seeds}
    if transfer:
        trials |= {f"all-{lv}": {"levels": (lv,), "steps": 100, "from": "all", "seeds": seeds} for lv in levels}
    values = {"trials": trials, "report": {"resamples": resamples}, **sections}
    if tuple(levels) != LEVELS:
        values["data"] = {"levels": tuple(levels)}
    return Config.model_validate(values)


def write_json(path, value):
    """Without waiting for the disk, as the real one does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")


def truth_of(trial: Trial | None, level: str, levels: tuple[str, ...]) -> float:
    """Nats per token: the general model is fair everywhere, a specialised one good at home and poor away."""
    base = 2.6 + 0.08 * levels.index(level)
    if trial is None:
        return base + 4.0
    own = trial.settings.levels
    if len(own) > 1:
        return base
    if own != (level,):
        return base + 0.25 + 0.1 * abs(levels.index(own[0]) - levels.index(level))
    gain = {None: (0.12, 0.03, 0.05, -0.02, -0.15)}.get(trial.parent, (0.15, 0.12, 0.10, 0.11, 0.16))
    return base - gain[levels.index(level) % 5]


def make_run(
    root,
    config=None,
    *,
    failed=None,
    documents=45,
    seed=0,
    truth=truth_of,
    learners=True,
    name="pilot",
    prompts=0,
):
    """Write a run folder under `root`.

    Args:
        failed: reasons by trial.
        truth: may replace `truth_of`.
        prompts: writing prompts of each level; 0: unknown.
    """
    config = config or make_config()
    folder, trials = RunFolder(root / name), expand_trials(config)
    rng = np.random.default_rng(seed)
    table = write_corpus(folder, config, rng, documents, learners, prompts)
    for trial in trials.values():
        write_trial(folder, trial, (failed or {}).get(trial.name), rng)
    write_ledger(folder, trials)
    scored = [None, *(trial for trial in trials.values() if trial.name not in (failed or {}))]
    write_losses(folder, config, table, scored, rng, truth)
    write_sealed(
        folder.record,
        {
            "name": folder.name,
            "profile": "local",
            "command": "python -m raysweep run",
            "raysweep": "0.1.0",
            "python": "3.11.9",
            "platform": "Linux-6.1-x86_64",
            "libraries": {"ray": "2.60.0", "torch": "2.9.0"},
            "started_at": 1.7e9,
            "stages": {
                "mask": {
                    "fingerprint": "f",
                    "identity": {},
                    "ended_at": 1.7e9,
                    "seconds": 12.5,
                    "made_from": {},
                    "outputs": {},
                },
            },
        },
    )
    return folder, config, trials


def write_ledger(folder, trials):
    """As the sweep leaves it: a core each, held for its time and a tenth more."""
    times = {name: read_sealed(folder.trial(name).record, fix="")["busy_seconds"] for name in trials}
    entries = {
        name: {
            "unit": "cpu",
            "slots": 1.0,
            "attempts": 1,
            "failures": {},
            "seconds": {"useful": seconds, "starting": seconds / 10},
        }
        for name, seconds in times.items()
    }
    total = {part: sum(entry["seconds"][part] for entry in entries.values()) for part in ("useful", "starting")}
    write_json(folder.ledger, {"unit": "cpu", "total": total, "searches": {}, "trials": entries})


def write_corpus(folder, config, rng, documents, learners, prompts=0):
    """Documents of every level, three to a learner, and the summaries beside them; gives those of the test split."""
    levels = config.data.levels
    count = documents * len(levels)
    others = [(level, split) for level in levels for split in ["train"] * documents * 8 + ["valid"] * documents]
    columns = {
        "document": np.arange(count),
        "writing_id": [f"<script>w{index}</script>" for index in range(count)],
        "l1": [LANGUAGES[index] for index in rng.choice(len(LANGUAGES), count, p=[0.4, 0.25, 0.15, 0.12, 0.08])],
        "level": np.repeat(levels, documents),
        "split": ["test"] * count,
        "learner": [f"l{index // 3}" for index in range(count)] if learners else pa.nulls(count, pa.string()),
        "prompt": [f"{index // documents}-{index % prompts}" if prompts else None for index in range(count)],
        "text": ["I <b>like</b> it."] * count,
    }
    table = pa.table(columns)
    table = table.set_column(6, "prompt", table["prompt"].cast(pa.string()))
    rest = {
        "document": np.arange(count, count * 10),
        "writing_id": [f"w{index}" for index in range(count, count * 10)],
        "l1": ["Spanish"] * len(others),
        "level": [level for level, _ in others],
        "split": [split for _, split in others],
        "learner": [f"{row[0]}-{row[1]}-{index // 3}" if learners else None for index, row in enumerate(others)],
        "prompt": [f"{row[0]}-{index % prompts}" if prompts else None for index, row in enumerate(others)],
        "text": ["I <b>like</b> it."] * len(others),
    }
    folder.corpus.mkdir(parents=True)
    pq.write_table(pa.concat_tables([table, pa.table(rest, schema=table.schema)]), folder.documents)
    counts = {level: {"train": documents * 8, "valid": documents, "test": documents} for level in levels}
    write_json(
        folder.splits,
        {
            "rows": count * 10 + 7,
            "documents": count * 10,
            "bad_rows": {"empty text": 5, "unknown level": 2},
            "synthetic": True,
            "notice": "This corpus is synthetic.",
            "seed": 0,
            "levels": list(levels),
            "counts": counts,
            "first_languages": {},
            "asked": {"train": 0.8, "valid": 0.1, "test": 0.1},
            "reached": {},
            "grouped_by": "learner and text",
            "groups": count * 3,
            "largest_group": 9,
            "lengths": {level: {"documents": documents * 10, "mean": 17.0} for level in levels},
        },
    )
    write_json(
        folder.leakage,
        {
            "documents": count * 10,
            "ids": count * 10,
            "ids_in_two_splits": 0,
            "learners": len(set(columns["learner"]) | set(rest["learner"])) if learners else None,
            "learners_in_two_splits": 0 if learners else None,
            "texts": count * 9,
            "texts_in_two_splits": 0,
            "repeated_texts": 3,
            "documents_with_repeated_texts": 6,
            "most_documents_with_one_text": 2,
        },
    )
    write_json(folder.manifest, {"totals": {"documents": count * 10, "examples": count * 80, "dropped": {"empty": 4}}})
    return table


def write_trial(folder, trial, reason, rng):
    """A record as the training leaves it: done with a falling loss, or failed."""
    place = folder.trial(trial.name)
    state = "done" if reason is None else reason.split(":")[0]
    hours = 0.4 if len(trial.settings.levels) > 1 else 0.05 if trial.parent else 0.2
    best = {"infill": 2.5, "infill_textonly": 3.1, "context": 2.2}
    result = {
        "steps": trial.settings.steps,
        "best_step": trial.settings.steps * 3 // 4,
        "best_losses": best,
        "stopped": "",
        "examples": trial.settings.steps * 16,
        "tokens": trial.settings.steps * 1200,
        "padding_share": 0.08,
        "seconds": {"data": 1.0, "step": hours * 3600, "evaluation": 2.0, "checkpoint": 0.5},
        "device": "cpu",
        "parameters": 3_500_000,
        "peak_memory_bytes": 700_000_000,
        "pool": dict.fromkeys(trial.settings.levels, 2400),
    }
    write_sealed(
        place.record,
        {
            "trial": trial.name,
            "failures": {reason.partition(": ")[2]: 1} if state == "failed" else {},
            "state": state,
            "fingerprint": "f",
            "identity": training_settings(trial),
            "reason": "" if reason is None else reason.split(": ", 1)[1],
            "attempts": 1,
            "started_at": 1.7e9,
            "ended_at": 1.7e9 + hours * 3600,
            "busy_seconds": hours * 3600,
            "result": result if reason is None else {},
        },
    )
    if reason is None:
        place.model.mkdir(parents=True)
        (place.model / "model.safetensors").write_bytes(b"0" * 4096)
        start = 3.2 if trial.parent else 7.0
        losses = 2.5 + (start - 2.5) * np.exp(-np.linspace(0, 4, trial.settings.steps)) + rng.normal(0, 0.02)
        with place.metrics.open("w") as file:
            for step, loss in enumerate(losses.tolist(), start=1):
                file.write(json.dumps({"kind": "step", "step": step, "loss": loss * 2, "infill": loss}) + "\n")
                if step % 20 == 0:
                    file.write(json.dumps({"kind": "evaluation", "step": step, "infill": loss + 0.05}) + "\n")


def write_losses(folder, config, corpus, scored, rng, truth):
    """Losses of every model on every document, by kind and part; the same tokens for all models."""
    levels = config.data.levels
    level_of = corpus["level"].to_pylist()
    count = len(level_of)
    learner = np.arange(count) // 3
    hardness = rng.normal(0, 0.3, count)[learner] + rng.normal(0, 0.1, count)
    tokens = {kind: rng.poisson(40 * share, count) + (kind == "word") for kind, share in KINDS.items()}
    ends = {kind: np.minimum(tokens[kind], 2) for kind in KINDS}
    frames = []
    for trial in scored:
        mean = np.array([truth(trial, level, levels) for level in level_of]) + hardness
        own = rng.normal(0, 0.08, count)[learner] + rng.normal(0, 0.1, count)
        name = START_MODEL if trial is None else trial.name
        parts = [("", "context", np.full(count, 60), -0.3)]
        for kind, shift in zip(KINDS, (0.9, 0.6, 0.4, 0.0, -0.4), strict=True):
            parts += [(kind, "answer", tokens[kind], shift), (kind, "end", ends[kind], -1.2)]
        parts += [("", "first_context", np.where(np.arange(count) % 15, 60, 0), -0.3)]
        parts += [("", "first_answer", tokens["word"], 0.0), ("", "first_end", ends["word"], -1.2)]
        for kind, part, number, shift in parts:
            kept = np.flatnonzero(number)
            frames.append(
                pa.table(
                    {
                        "model": [name] * len(kept),
                        "level": [level_of[row] for row in kept],
                        "document": kept,
                        "writing_id": [f"<script>w{row}</script>" for row in kept],
                        "kind": [kind] * len(kept),
                        "part": [part] * len(kept),
                        "nats": np.maximum((mean + own + shift)[kept], 0.05) * number[kept],
                        "tokens": number[kept],
                        "bytes": number[kept] * (0 if part.endswith("end") else 4),
                    }
                )
            )
        score = {"words": 31, "top1_accuracy": 0.412, "longer_answers": 44, "unigram_recall": 0.31, "unigram_f1": 0.3}
        score |= {"bigram_recall": 0.11, "bigram_f1": 0.1, "unfinished": 2}
        # Later seeds answer a little better.
        score["top1_accuracy"] += 0.01 * int(name.rpartition("-seed")[2]) if "-seed" in name else 0.0
        write_sealed(
            folder.cells_record(name),
            {
                "outputs": {},
                "fingerprint": "f",
                "model": name,
                "seconds": 9.1,
                "generation": {"overall": score, "levels": dict.fromkeys(levels, score)},
            },
        )
    pq.write_table(pa.concat_tables(frames), folder.losses)


SHAPES = {
    "whole": {},
    "failures": {"failed": {"B1": "failed: out of <b>memory</b>", "all-C1": "blocked: all failed"}},
    "seeds": {"config": make_config(("A1", "C1"), seeds=(0, 1))},
    "no transfer": {"config": make_config(("A1", "C1"), transfer=False)},
    "one level": {"config": make_config(("B1",), transfer=False)},
    "few documents": {"documents": 9},
    "no learners": {"learners": False},
}
"""Arguments of `make_run` for runs of which the reports differ in their parts."""
