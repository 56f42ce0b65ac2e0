"""The record of a table of scores and what it was made from; it prevents computing twice and overwriting."""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from raysweep.config.fingerprints import fingerprint
from raysweep.errors import ConfigError, InputError
from raysweep.pipeline.text_scoring import TextCounts, TextScoring
from raysweep.storage.digests import describe_outputs, find_damage, read_sealed, write_sealed


def find_done(scoring: TextScoring, identity: Mapping[str, Any], *, force: bool) -> TextCounts | None:
    """Return the counts of existing scores with this identity; None if there are none.

    Raises:
        ConfigError: the file exists and was made from something else.
        DamagedError: its record is damaged.
    """
    if force:
        return None
    mark, fix = fingerprint(identity), "give --force to score again, or another --out"
    if scoring.record.exists():
        record = read_sealed(scoring.record, fix=fix)
        if record["fingerprint"] == mark and not find_damage(scoring.out.parent, record["outputs"]):
            return TextCounts(**record["counts"])
    if is_merged(scoring, identity):
        return None
    for path in scoring.outputs:
        if path.exists():
            raise ConfigError(
                f"--out: {scoring.shown(path):.80} is there already, made from other texts, models or settings, by "
                f"another version, or changed since; {fix}"
            )
    return None


def is_merged(scoring: TextScoring, identity: Mapping[str, Any]) -> bool:
    """Return whether a killed command left parts from which this output was being written, or had been written.

    Raises:
        DamagedError: the parts' record is damaged.
    """
    if not scoring.merge.exists():
        return False
    return bool(read_sealed(scoring.merge, fix="delete its folder")["fingerprint"] == fingerprint(identity))


def refuse_changes(scoring: TextScoring, identity: Mapping[str, Any]) -> None:
    """Raise InputError if the corpus or a model changed while it was scored."""
    now = scoring.identity()
    if changed := [name for name in identity if now[name] != identity[name]]:
        raise InputError(
            f"{scoring.shown(scoring.out):.80}: {' and '.join(changed)} changed while they were scored; "
            "the same command scores again"
        )


def finish(
    scoring: TextScoring, identity: Mapping[str, Any], counts: TextCounts, send: Callable[[], None] = lambda: None
) -> None:
    """Record that the output is complete, send it and its record to object storage, and delete the parts."""
    if scoring.record.exists() and not scoring.with_tokens:
        scoring.tokens_out.unlink(missing_ok=True)  # it belongs to an earlier command's scores
    write_sealed(
        scoring.record,
        {
            "fingerprint": fingerprint(identity),
            "identity": identity,
            "counts": asdict(counts),
            "outputs": describe_outputs(scoring.out.parent, scoring.outputs),
        },
    )
    send()
    shutil.rmtree(scoring.parts)
