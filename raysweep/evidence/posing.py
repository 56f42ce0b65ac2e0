"""Poses the report's question on scored documents: who wrote them, the resamples of writers, and the claims.

The run's own test documents and those of further corpora are treated alike.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from raysweep.config.evaluation_settings import HypothesesConfig
from raysweep.config.schema import Config
from raysweep.errors import InputError
from raysweep.evidence.inputs import read_documents
from raysweep.evidence.lineup import Entrant, role_models
from raysweep.statistics.bootstrap import Resamples, resample_levels
from raysweep.statistics.claims import Hypothesis
from raysweep.statistics.loss_table import LevelLosses, LossTable
from raysweep.statistics.sensitivity import Question
from raysweep.storage.run_folder import RunFolder


@dataclass(frozen=True, kw_only=True, slots=True)
class DocumentWriters:
    """Facts about each test document, by document number."""

    learner_of: Mapping[int, str]
    """Documents without a known learner are left out."""
    language_of: Mapping[int, str]
    """First language."""
    characters_of: Mapping[int, int]
    prompt_of: Mapping[int, str]
    """Empty unless every document's prompt is known."""


def pose_question(
    config: Config,
    table: LossTable,
    losses: Mapping[str, LevelLosses],
    writers: DocumentWriters,
    lineup: Sequence[Entrant],
    corpus: Mapping[str, Any] | None,
) -> tuple[Question, Resamples]:
    """Return the hypotheses on the scored models, and the resamples on which they are judged.

    Args:
        losses: of the report's metric, from the table.
        corpus: counts of its documents by level and split, for the levels' shares.
    """
    levels, settings = config.data.levels, config.report
    resamples = resample_levels(
        losses,
        table.models,
        resamples=settings.resamples,
        seed=config.seed,
        clusters=writers.learner_of,
        prompts=writers.prompt_of,
        # With sequential seeds, looks are taken after each seed.
        folds=() if config.sequential_seeds else [set(entrant.models.values()) for entrant in lineup],
    )
    question = Question(
        hypotheses=hypotheses_of(settings.hypotheses),
        roles=replace(role_models(lineup, levels), most_seeds=config.sequential_seeds),
        levels=levels,
        confidence=settings.confidence,
        metric=settings.metric,
        shares=_corpus_shares(corpus, levels, losses),
    )
    return question, resamples


def hypotheses_of(config: HypothesesConfig) -> list[Hypothesis]:
    """Return the three claims with the config's margins."""
    return [
        Hypothesis(
            code="H1",
            name="specialisation",
            numerator="general",
            against=("specialised",),
            above=True,
            margin=config.specialisation.margin,
        ),
        Hypothesis(
            code="H2",
            name="sufficiency",
            numerator="general",
            against=("specialised", "transfer"),
            above=False,
            margin=config.sufficiency.margin,
        ),
        Hypothesis(
            code="H3",
            name="transfer",
            numerator="transfer",
            against=("general", "specialised"),
            above=False,
            margin=config.transfer.margin,
        ),
    ]


def _corpus_shares(
    corpus: Mapping[str, Any] | None, levels: Sequence[str], losses: Mapping[str, LevelLosses]
) -> dict[str, float]:
    """Count the documents of each level over all splits; only the scored ones if the corpus is not described."""
    counts = (corpus or {}).get("counts") or {
        level: {"test": len(losses[level].documents) if level in losses else 0} for level in levels
    }
    return {level: float(sum(counts.get(level, {}).values())) for level in levels}


def read_writers(folder: RunFolder) -> DocumentWriters:
    """Read who wrote the test documents; raises InputError if the documents do not exist."""
    if not folder.documents.exists():
        raise InputError(f"{folder.documents}: not there; run the prepare stage first")
    table = read_documents(folder, "test").to_pydict()
    learners = zip(table["document"], table["learner"], strict=True)
    return DocumentWriters(
        learner_of={document: learner for document, learner in learners if learner is not None},
        language_of=dict(zip(table["document"], table["l1"], strict=True)),
        characters_of=dict(zip(table["document"], table["characters"], strict=True)),
        prompt_of={} if None in table["prompt"] else dict(zip(table["document"], table["prompt"], strict=True)),
    )
