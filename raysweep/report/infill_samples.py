"""Samples for the page: a learner's text with blanks, and what each kind of model wrote into them.

They hold learners' words, so they are read only if `report.show_texts` asks for it, are handed to the
page beside the evidence, never in it, and stay out of bundles, Markdown and tables.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from raysweep.evidence.inputs import read_if_there
from raysweep.report.contents import ROLE_NAMES
from raysweep.storage.run_folder import RunFolder, samples_beside

Values = Mapping[str, Any]
_ROLES = ("general", "specialised", "transfer")


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """One document's first question."""

    title: str
    pieces: tuple[tuple[str, str], ...]
    """Text, and 'context' or 'blank', in order."""
    models: tuple[str, ...]
    """Who answered."""
    answers: tuple[tuple[str, str, tuple[str, ...]], ...]
    """A blank each: its name, the learner's words, the models' answers."""


def read_samples(folder: RunFolder, evidence: Values) -> list[Sample]:
    """The questions that all models of a level were asked, level by level; none where they were not kept."""
    found = []
    for level in evidence["matrix"]["levels"]:
        asked = {role: _questions(folder, model, level) for role, model in _players(evidence, level).items()}
        shared = {role: questions for role, questions in asked.items() if questions}
        for number, together in enumerate(zip(*shared.values(), strict=False), start=1):
            found.append(_sample(f"{level}, text {number}", tuple(ROLE_NAMES[role] for role in shared), together))
    return found


def _sample(title: str, models: tuple[str, ...], together: tuple[Values, ...]) -> Sample:
    first = together[0]
    names = [f"[{number} {kind}]" for number, kind in enumerate(first["kinds"], start=1)]
    pieces = [(first["context"][0], "context")]
    for name, after in zip(names, first["context"][1:], strict=True):
        pieces += [(name, "blank"), (after, "context")]
    answers = [
        (name, reference, tuple(one["answers"][place] for one in together))
        for place, (name, reference) in enumerate(zip(names, first["references"], strict=True))
    ]
    return Sample(title=title, pieces=tuple(pieces), models=models, answers=tuple(answers))


def _players(evidence: Values, level: str) -> dict[str, str]:
    """The first model of each role that is for the level."""
    players: dict[str, str] = {}
    for row in evidence["matrix"]["rows"]:
        if row["role"] in _ROLES and row["level"] in (None, level) and row["models"]:
            players.setdefault(row["role"], row["models"][0])
    return players


def _questions(folder: RunFolder, model: str, level: str) -> list[Values]:
    return [one for one in read_if_there(samples_beside(folder.cells(model))) or [] if one["level"] == level]
