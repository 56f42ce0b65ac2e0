"""Loads a run's models once, and answers the page's requests: fill blanks, score a text, tell its level.

Filling and scoring each handle several requests at once.  Requests that share a batch change each other's numbers only
in the last digits, so a draw changes only in the rare case that such a digit decides it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import isnan
from typing import Any

import numpy as np

from raysweep.errors import InputError
from raysweep.evaluation.answer_words import Constraints
from raysweep.evaluation.decoding import check_length
from raysweep.evaluation.infilling import Infilling, Template, fill_templates, read_template
from raysweep.evaluation.token_sampling import Sampling
from raysweep.inference.level_classifier import model_digest_of
from raysweep.inference.level_predictor import LevelPredictor
from raysweep.inference.loaded_run import LoadedRun
from raysweep.inference.scoring_rules import ScoringRules
from raysweep.inference.text_tables import read_texts
from raysweep.inference.trained_model import TrainedModel
from raysweep.masking.vocabulary import Kind, Vocabulary
from raysweep.model.gpt2 import vocabulary_of
from raysweep.scheduling.trials import expand_trials, find_roles
from raysweep.staging.run_command import run_command
from raysweep.storage.atomic_files import dump_json
from raysweep.storage.digests import digest_file, digest_text

MAX_BLANKS = 100
MAX_CHARACTERS = 20_000
LEVELS = "what tells levels"
"""Key for the level predictor in `ServedRun.digests`; no trial's name contains spaces."""
_DIGITS = 12
"""Digits of a model's digest shown in an answer."""

Values = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class DrawSettings:
    """How answers are drawn; requests with equal settings share a batch."""

    samples: int
    sampling: Sampling
    seed: int
    constraints: Constraints


@dataclass(frozen=True, kw_only=True)
class ServedRun:
    """A run with the models that are served."""

    run: LoadedRun
    models: Mapping[str, TrainedModel]
    """By trial, in display order: each level's own model, lowest level first, then the general model."""
    level_of: Mapping[str, str]
    """The level of each level's own model."""
    predictor: LevelPredictor | None
    no_levels: str
    """Why levels cannot be told; '' if they can be."""
    report_digest: str
    """Digest of the report that belongs to these models; '' if there is none."""

    @property
    def vocabulary(self) -> Vocabulary:
        """The vocabulary that all models share."""
        return vocabulary_of(next(iter(self.models.values())).network)

    def load(self) -> None:
        """Read all weights now, so that no request waits for them; raises InputError if a model changes meanwhile."""
        digests = self.digests
        for name, model in self.models.items():
            _ = model.network
            if model_digest_of(self.run.folder, name) != digests[name]:
                raise InputError(
                    f"{self.run.folder.root}: trial '{name:.40}' was trained again while its model was loaded; "
                    "give the same command again"
                )

    @cached_property
    def digests(self) -> dict[str, str]:
        """Digests of all that decides an answer: of each model by name, and of the level predictor under `LEVELS`.

        The predictor's digest also covers how texts are read: the maximum number of tokens in a window, and the
        language.
        """
        levels, scoring = self.predictor, ScoringRules.of_run(self.run.config)
        rules: list[Any] = [scoring.masking.max_tokens, scoring.language]
        rules += [] if levels is None else [list(levels.shares.items()), list(levels.models), levels.temperature]
        models = {name: model_digest_of(self.run.folder, name) for name in self.models}
        return {**models, LEVELS: digest_text(dump_json(rules))}

    def has_same_report(self) -> bool:
        """Return whether the report in the run folder is still the one that belongs to these models."""
        return self.report_digest == _digest_of_report(self.run)

    def describe(self) -> Values:
        """Return what the page needs to know before its first request."""
        accuracy = None if self.predictor is None else self.predictor.accuracy
        level_accuracy = None
        if accuracy is not None:
            confidence = self.run.evidence.settings.confidence
            level_accuracy = {**accuracy.model_dump(mode="json"), "confidence": confidence}
        return {
            "run": self.run.folder.name,
            "language": self.run.config.data.language,
            "is_synthetic": not self.run.config.data.path,
            "models": [{**self._identify(name), "level": self.level_of.get(name)} for name in self.models],
            "positions": min(int(model.network.config.n_positions) for model in self.models.values()),
            "levels": None if self.predictor is None else list(self.predictor.models),
            "no_levels": self.no_levels,
            "level_accuracy": level_accuracy,
            "has_report": bool(self.report_digest),
            "max_blanks": MAX_BLANKS,
            "max_characters": MAX_CHARACTERS,
        }

    def check_template(
        self, text: str, blanks: Sequence[tuple[int, int, str]] | None, constraints: Constraints
    ) -> Template:
        """Make the template of a text: from the blanks spelled in the text, or from the character ranges to blank.

        Raises:
            InputError: it has no blank, too many blanks or overlapping ones, or is too long for a model.
        """
        read_texts(text)
        template = read_template(text) if blanks is None else _template_of(text, sorted(blanks))
        if len(template.kinds) > MAX_BLANKS:
            raise InputError(f"text: found {len(template.kinds):,} blanks; a request may have {MAX_BLANKS}")
        constraints.refuse_kinds(template.kinds)
        for model in self.models.values():
            check_length(model.network, template.prompt(self.vocabulary))
        return template

    def check_text(self, text: str) -> None:
        """Raise InputError for a text that the models cannot score: invalid, blank, or with fewer than two tokens."""
        read_texts(text)
        if not text.strip():
            raise InputError("text: found white space alone, which has no level; write some words")
        if len(self.vocabulary.encode(text)) < 2:
            raise InputError("text: found a single token; a model needs a word before the one that surprises it")

    def fill(self, templates: Sequence[Template], draw: DrawSettings) -> list[Values]:
        """Return every model's samples for each text."""
        places = [0] * len(templates)  # draw for each template as if it were the only one
        filled = {
            name: fill_templates(
                model.network,
                templates,
                samples=draw.samples,
                sampling=draw.sampling,
                constraints=draw.constraints,
                seed=draw.seed,
                places=places,
            )
            for name, model in self.models.items()
        }
        return [
            {
                "models": [
                    {**self._identify(name), "samples": [_sample(filling) for filling in rows[place]]}
                    for name, rows in filled.items()
                ]
            }
            for place in range(len(templates))
        ]

    def read(self, texts: Sequence[str]) -> list[Values]:
        """Return every model's surprisal at each token, and the probability of each level, for each text."""
        checked = read_texts(texts)
        scores = {
            name: model.score_texts(checked.texts, checked.ids, infills=False) for name, model in self.models.items()
        }
        levels = self._levels({name: each.nats for name, each in scores.items()})
        answers = []
        for place, text in enumerate(texts):
            offsets = next(iter(scores.values())).offsets
            tokens = slice(int(offsets[place]), int(offsets[place + 1]))
            pieces, groups = _pieces(text, self.vocabulary)
            answers.append(
                {
                    "tokens": pieces,
                    "levels": levels[place],
                    "models": [
                        {
                            **self._identify(name),
                            "nats": float(each.nats[place]),
                            "tokens": int(each.tokens[place]),
                            "bytes": int(each.bytes[place]),
                            "surprisal": _summed(each.token_nats[tokens], groups, len(pieces)),
                        }
                        for name, each in scores.items()
                    ],
                }
            )
        return answers

    def _identify(self, name: str) -> Values:
        """Return the model's name and digest, which tells its answers apart from those of an earlier training."""
        return {"name": name, "digest": self.digests[name][:_DIGITS]}

    def _levels(self, nats_of: Mapping[str, Any]) -> list[dict[str, float] | None]:
        count = len(next(iter(nats_of.values())))
        if self.predictor is None:
            return [None] * count
        nats_DK = np.stack([nats_of[model.name] for model in self.predictor.models.values()], axis=1)
        names = list(self.predictor.models)
        return [dict(zip(names, row, strict=True)) for row in self.predictor.posterior(nats_DK).tolist()]


def serve_run(run: LoadedRun, *, report_digest: str | None = None) -> ServedRun:
    """Choose the models to serve: each level's own model, the general one, and the models that tell levels.

    Args:
        report_digest: digest of the only report to show; None for the report that is there now.

    Raises:
        InputError: no model is trained.
    """
    if report_digest is None:
        report_digest = _digest_of_report(run)
    roles = find_roles(expand_trials(run.config), run.config.data.levels)
    own = {
        level: next((name for name in names if name in run.models), None) for level, names in roles.specialised.items()
    }
    level_of = {name: level for level, name in own.items() if name is not None}
    general = [name for name in roles.general if name in run.models][:1]
    predictor, no_levels = None, ""
    try:
        predictor = run.levels
    except InputError as error:
        no_levels = str(error)
    experts = {} if predictor is None else {model.name: level for level, model in predictor.models.items()}
    names = dict.fromkeys([*level_of, *experts, *general])
    if not names:
        raise InputError(
            f"{run.folder.root}: has neither a level's own model nor a general one; do {run_command(run.folder)} first"
        )
    models = {name: run.models[name] for name in names}
    return ServedRun(
        run=run,
        models=models,
        level_of={**experts, **level_of},
        predictor=predictor,
        no_levels=no_levels,
        report_digest=report_digest,
    )


def _digest_of_report(run: LoadedRun) -> str:
    """Digest of the report's evidence, which is deleted before a report is rewritten and written last; '' if absent."""
    evidence = run.folder.evidence
    return digest_file(evidence) if evidence.is_file() else ""


def _template_of(text: str, blanks: Sequence[tuple[int, int, str]]) -> Template:
    pieces, kinds, end = [], [], 0
    for start, stop, kind in blanks:
        if not end <= start < stop <= len(text):
            raise InputError(
                f"blanks: found characters {start:,} to {stop:,} of a text of {len(text):,}; "
                "blanks must lie in the text, and not overlap"
            )
        pieces.append(text[end:start])
        kinds.append(Kind[kind.upper()])
        end = stop
    if not kinds:
        raise InputError("blanks: found none; mark a word, or leave `blanks` out and write [word] in the text")
    return Template(pieces=(*pieces, text[end:]), kinds=tuple(kinds))


def _sample(filling: Infilling) -> Values:
    return {
        "text": filling.text,
        "finished": filling.finished,
        "answers": [
            {
                "kind": answer.kind.name.lower(),
                "text": answer.text,
                "start": answer.start,
                "stop": answer.stop,
                "finished": answer.finished,
                "probability": answer.probability,
            }
            for answer in filling.answers
        ],
    }


def _pieces(text: str, vocabulary: Vocabulary) -> tuple[list[str], list[int]]:
    """Cut the text at token ends, but not within a character; return the pieces and each token's piece number."""
    pieces: list[str] = []
    groups: list[int] = []
    end = 0
    for start, stop in vocabulary.plain.encode(text, add_special_tokens=False).offsets:
        if start >= end or not pieces:
            pieces.append(text[end:stop])
        elif stop > end:
            pieces[-1] += text[end:stop]
        groups.append(len(pieces) - 1)
        end = max(end, stop)
    return pieces, groups


def _summed(nats: Any, groups: Sequence[int], count: int) -> list[float | None]:
    """Sum the nats of each piece; None for a text's first token, which is not predicted."""
    sums: list[float | None] = [None] * count
    for group, value in zip(groups, nats.tolist(), strict=True):
        if not isnan(value):
            sums[group] = (sums[group] or 0.0) + value
    return sums
