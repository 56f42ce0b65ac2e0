"""Files of a finished run that are damaged, cut, deleted or replaced, and records of other versions."""

import json

from tests.chaos.case import Case

RUN = ("run", "--inline", "--name", "tiny")
FORCE = {
    "corpus/documents.parquet": "prepare",
    "corpus/splits.json": "prepare",
    "corpus/leakage.json": "prepare",
    "corpus/leaks.parquet": "prepare",
    "corpus/quarantine.csv": "prepare",
    "examples/manifest.json": "mask",
    "examples/shard-00000.examples": "mask",
    "examples/shard-00000.json": "mask",
    "trials/A1/model/model.safetensors": "A1",
    "trials/A1/model/config.json": "A1",
    "trials/A1/model/tokenizer.json": "A1",
    "trials/A1/metrics.jsonl": "A1",
    "trials/A1/training.json": "A1",
    "trials/A1/trial.json": "A1",
    "evaluation/cells/A1.parquet": "evaluate",
    "evaluation/cells/A1.json": "evaluate",
    "evaluation/losses.parquet": "evaluate",
    "evaluation/matrix.csv": "evaluate",
    "evaluation/doc_features.parquet": "evaluate",
    "report/evidence.json": "report",
    "report/report.html": "report",
}
"""The stage or trial that makes each file again."""
RECORDS = ("trials/A1/trial.json", "evaluation/cells/A1.json")
COSTLY = ("prepare", "mask", "A1")


def _flip(data):
    return data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 8]) + data[len(data) // 2 + 1 :]


DAMAGE = {
    "a flipped bit": _flip,
    "cut in half": lambda data: data[: len(data) // 2],
    "emptied": lambda data: b"",
    "a byte appended": lambda data: data + b"\n",
}


def _at(folder, name):
    return folder / "runs" / "tiny" / name


def _changed(name, change):
    def make(folder):
        path = _at(folder, name)
        path.write_bytes(change(path.read_bytes()))

    return make


def _deleted(name):
    return lambda folder: _at(folder, name).unlink()


def _case(name, make, **more):
    more = {"command": RUN, "exit_code": 2} | more
    return Case(name=name, kind="damage", make=make, after="run", **more)


def _is_there(name):
    def check(folder):
        assert _at(folder, name).stat().st_size > 0

    return check


def _of_another_version(name):
    def change(data):
        values = {key: value for key, value in json.loads(data).items() if key not in ("digest", "version")}
        return (json.dumps(values, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()

    return _changed(name, change)


CASES = [
    *(
        _case(
            f"{name}: {how}",
            _changed(name, change),
            words=(name.rpartition("/")[2], f"--force {force}"),
            in_ci=how == "a flipped bit" and name in ("corpus/documents.parquet", "trials/A1/trial.json"),
        )
        for name, force in FORCE.items()
        for how, change in DAMAGE.items()
        # A file of no bytes cannot lose any.
        if not (name == "corpus/quarantine.csv" and how in ("a flipped bit", "cut in half", "emptied"))
    ),
    *(
        _case(
            f"{name}: a flipped bit, mended by its command",
            _changed(name, _flip),
            command=(*RUN, "--force", force),
            exit_code=0,
            check=_is_there(name),
        )
        for name, force in FORCE.items()
        if name in (*RECORDS, "corpus/documents.parquet", "examples/shard-00000.examples", "evaluation/losses.parquet")
    ),
    *(
        _case(f"{name}: deleted", _deleted(name), exit_code=0, check=_is_there(name))
        if force not in COSTLY
        else _case(
            f"{name}: deleted",
            _deleted(name),
            words=("is missing", f"--force {force}"),
        )
        for name, force in FORCE.items()
        if name not in RECORDS
    ),
    *(_case(f"{name}: deleted", _deleted(name), exit_code=0, check=_is_there(name)) for name in (*RECORDS, "run.json")),
    _case("run.json: a flipped bit", _changed("run.json", _flip), words=("run.json", "delete it and run again")),
    _case("run.json of another version", _of_another_version("run.json"), words=("written by an earlier raysweep",)),
    _case("trial.json of another version", _of_another_version(RECORDS[0]), words=("written by an earlier raysweep",)),
    _case(
        "records of another version, all of it done again",
        lambda folder: [_of_another_version(name)(folder) for name in ("run.json", *RECORDS)],
        command=(*RUN, "--force", "prepare"),
        exit_code=0,
        check=_is_there("report/report.html"),
    ),
    _case(
        "check-run finds a flipped bit",
        _changed("evaluation/losses.parquet", _flip),
        command=("check-run", "--name", "tiny"),
        exit_code=1,
        words=("changed  evaluation/losses.parquet", "1 changed, 0 missing"),
        in_ci=True,
    ),
    _case(
        "the report alone, with a learning rate that was not trained",
        lambda folder: None,
        command=("report", "--name", "tiny", "--set", "training.learning_rate=0.5", "--force", "report"),
        words=("learning_rate", "--force A1"),
    ),
]
