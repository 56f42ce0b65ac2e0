"""Reads samples for the page: a learner's text with blanks, and what each kind of model wrote into them.

They contain learners' words, so they are read only if `report.show_texts` is set, are shown only on the page,
and are never part of the evidence, of bundles, of Markdown or of tables.
"""

from dataclasses import dataclass
from typing import Any

from raysweep.evidence.evidence_schema import Evidence
from raysweep.evidence.inputs import read_if_there
from raysweep.evidence.lineup import ROLE_NAMES
from raysweep.storage.run_folder import RunFolder, samples_beside

Question = dict[str, Any]
_ROLES = ("general", "specialised", "transfer")


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """The first question about one document."""

    title: str
    pieces: tuple[tuple[str, str], ...]
    """Pieces of text, each with 'context' or 'blank', in order."""
    models: tuple[str, ...]
    """The models that answered."""
    answers: tuple[tuple[str, str, tuple[str, ...]], ...]
    """For each blank: its name, the learner's words, the models' answers."""


def read_samples(folder: RunFolder, evidence: Evidence) -> list[Sample]:
    """Read the questions that all models of a level were asked, level by level; [] if none were kept."""
    samples = []
    for level in evidence.matrix.levels:
        models = _models_of_level(evidence, level)
        questions_of = {role: _questions(folder, model, level) for role, model in models.items()}
        shared = {role: questions for role, questions in questions_of.items() if questions}
        for number, together in enumerate(zip(*shared.values(), strict=False), start=1):
            samples.append(_sample(f"{level}, text {number}", tuple(ROLE_NAMES[role] for role in shared), together))
    return samples


def _sample(title: str, models: tuple[str, ...], together: tuple[Question, ...]) -> Sample:
    first = together[0]
    names = [f"[{number} {kind}]" for number, kind in enumerate(first["kinds"], start=1)]
    pieces = [(first["context"][0], "context")]
    for name, after in zip(names, first["context"][1:], strict=True):
        pieces += [(name, "blank"), (after, "context")]
    answers = [
        (name, reference, tuple(question["answers"][place] for question in together))
        for place, (name, reference) in enumerate(zip(names, first["references"], strict=True))
    ]
    return Sample(title=title, pieces=tuple(pieces), models=models, answers=tuple(answers))


def _models_of_level(evidence: Evidence, level: str) -> dict[str, str]:
    """Find the first model of each role that serves the level."""
    models: dict[str, str] = {}
    for row in evidence.matrix.rows:
        if row.role in _ROLES and row.level in (None, level) and row.models:
            models.setdefault(row.role, row.models[0])
    return models


def _questions(folder: RunFolder, model: str, level: str) -> list[Question]:
    questions = read_if_there(samples_beside(folder.cells(model))) or []
    return [question for question in questions if question["level"] == level]
