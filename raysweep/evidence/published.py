"""Defines what may be published of a run: the allow-list for page, evidence and bundle.

Settings, records and the command are copied field by field from the lists below; everything else
stays in the run folder.  Not listed are the locations of files, clusters and notification receivers, and
error messages (which may quote a file name, an address or a text).  Paths in listed settings are cut to
the name of the file, because the file itself is identified by its digest: those of corpora always, and in other
settings those that are absolute or begin at the home or the working folder.
"""

import json
import re
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from raysweep.config.safe_yaml import parse_yaml
from raysweep.config.schema import Config
from raysweep.scheduling.records import State, TrialRecord

Values = dict[str, Any]

CONFIG: dict[str, tuple[str, ...] | None] = {
    # section: its published fields; None for all of them
    "seed": None,
    "seeds": None,
    "data": (
        "path",
        "csv",  # the other name of `path` in commands
        "format",
        "encoding",
        "quotes",
        "sheet",
        "layout",
        "clean",
        "language",
        "leave_out",
        "split_names",
        "sample",
        "columns",
        "levels",
        "level_aliases",
        "max_bad_fraction",
        "split",
        "near_duplicates",
        "export_ilm",
    ),
    "corpora": None,
    "masking": None,
    "model": None,
    "training": None,
    "trials": None,
    "controls": None,
    "evaluation": None,
    "classification": None,
    "report": None,
    "resources": ("gpus_per_trial", "cpus_per_trial", "trials_per_gpu", "accelerator_type"),
}
RUN = (
    "name",
    "profile",
    "command",
    "raysweep",
    "python",
    "platform",
    "libraries",
    "started_at",
    "stages",
)
TRIAL = (
    "trial",
    "state",
    "fingerprint",
    "identity",
    "reason",
    "attempts",
    "started_at",
    "ended_at",
    "busy_seconds",
    "failures",
    "ledger",
    "result",
)
_PATHS = ("path", "csv")
"""Settings that are paths of a corpus, in its section; other text with a slash may be a name on the hub."""
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+://")
_OPTIONS = ("--profile", "--name", "--config", "--set")


def published_config(config: Config) -> Values:
    """Return the settings that decide the numbers, as plain values; applying this again changes nothing."""
    values = config.model_dump(mode="json", by_alias=True, exclude_none=True)
    return {
        section: _file_names(values[section] if fields is None else _picked(values[section], fields))
        for section, fields in CONFIG.items()
        if section in values
    }


def published_run(record: Mapping[str, Any]) -> Values:
    """Return run.json for a bundle."""
    values = _picked(record, RUN)
    return {**_file_names(values), "command": published_command(values.get("command"))}


def published_trial(record: Mapping[str, Any]) -> Values:
    """Return trial.json for a bundle."""
    reason = _reason(State(record["state"]), str(record.get("reason", "")), record.get("failures", {}))
    return {**_file_names(_picked(record, TRIAL)), "reason": reason}


def published_reason(record: TrialRecord) -> str:
    """Say why a trial has no model; for a failed one by the kinds of its failures, not by the error messages."""
    return _reason(record.state, record.reason, record.failures)


def published_command(command: str | None) -> str | None:
    """Return the command without unlisted options and settings, and with file names instead of paths."""
    if command is None:
        return None
    words = shlex.split(command)
    start = next((place for place, word in enumerate(words) if word.startswith("--")), len(words))
    kept = words[:start]
    for option, value in zip(words[start::2], words[start + 1 :: 2], strict=False):
        if option in _OPTIONS and (option != "--set" or _is_listed(value.partition("=")[0])):
            key, equals, setting = value.partition("=") if option == "--set" else ("", "", value)
            kept += [
                option,
                Path(value).name if option == "--config" else f"{key}{equals}{_published_setting(key, setting)}",
            ]
    return shlex.join(kept)


def _published_setting(key: str, text: str) -> str:
    """Return a value as it was typed; one that names folders is written anew, without them, and quoted if need be."""
    value = parse_yaml(text)
    published = _file_names(value, key.rpartition(".")[2])
    if published == value:
        return text
    return published if _reads_as_itself(published) else json.dumps(published, ensure_ascii=False)


def _reads_as_itself(value: Any) -> bool:
    """Return whether YAML reads the bare text as that text, and not as a number or a mapping."""
    try:
        return isinstance(value, str) and parse_yaml(value) == value
    except ValueError:
        return False


def _is_listed(key: str) -> bool:
    section, _, field = key.partition(".")
    fields = CONFIG.get(section, ())
    return fields is None or field.partition(".")[0] in fields


def _reason(state: State, reason: str, failures: Mapping[str, int]) -> str:
    if state is not State.FAILED:
        return _file_name(reason)
    return ", ".join(sorted(failures)) or "error"


def _picked(values: Mapping[str, Any], fields: Iterable[str]) -> Values:
    return {name: values[name] for name in fields if name in values}


def _file_names(value: Any, setting: str = "") -> Any:
    """Cut every path in the value of a setting, at any depth, to the name of its file."""
    if isinstance(value, dict):
        return {key: _file_names(inner, key) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_file_names(inner, setting) for inner in value]
    if not isinstance(value, str):
        return value
    return Path(_file_name(value).replace("\\", "/")).name if setting in _PATHS else _file_name(value)


def _file_name(text: str) -> str:
    """Return the last part of an address, or of an absolute, home or parent path; other text unchanged."""
    if _ADDRESS.match(text):
        return re.sub(r"[?#].*", "", text).rstrip("/").rpartition("/")[2]
    is_path = text.startswith(("/", "~", "./", "../")) or (len(text) > 2 and text[1:3] in (":\\", ":/"))
    return Path(text.replace("\\", "/")).name if is_path else text
