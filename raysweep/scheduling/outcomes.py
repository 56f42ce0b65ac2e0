"""How an attempt at a training ended: one of four records, exchanged between processes as JSON."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from raysweep.scheduling.failures import Failure


@dataclass(frozen=True, kw_only=True, slots=True)
class Finished:
    """The training is done, and its model is in place."""

    result: Mapping[str, Any]
    """`TrainingResult` as plain values."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Failed:
    """The attempt failed; `failures.decide_after_failure` decides whether another follows."""

    message: str
    failure: Failure = Failure.ERROR


@dataclass(frozen=True, kw_only=True, slots=True)
class Stopped:
    """The training was asked to stop, and saved a checkpoint."""

    reason: str
    steps: int
    """Steps done."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Paused:
    """A sample of a search saved a checkpoint at a rung, and waits there for the other samples of its round."""

    steps: int
    """Steps done."""


Outcome = Finished | Failed | Stopped | Paused
_KINDS: dict[str, type[Outcome]] = {kind.__name__: kind for kind in (Finished, Failed, Stopped, Paused)}


def outcome_to_json(outcome: Outcome) -> str:
    """Encode the outcome as one line of JSON."""
    return json.dumps({"outcome": type(outcome).__name__, **asdict(outcome)})


def outcome_from_json(text: str) -> Outcome:
    """Decode an outcome encoded by `outcome_to_json`."""
    values = json.loads(text)
    kind = _KINDS[values.pop("outcome")]
    if kind is Failed:
        return Failed(message=values["message"], failure=Failure(values["failure"]))
    return kind(**values)
