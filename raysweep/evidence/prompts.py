"""Describes writing prompts: which the intervals cover, how the gain varies with them, and what is confounded."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

from raysweep.evidence.robustness_schema import MixedModel, Prompts
from raysweep.statistics.loss_table import LevelLosses
from raysweep.statistics.mixed_model import DocumentFacts, fit_mixed_model
from raysweep.statistics.prompt_clusters import MIN_PROMPTS
from raysweep.statistics.role_models import RoleModels

COMPARED = ("specialised", "transfer")


def describe_prompts(
    losses: Mapping[str, LevelLosses],
    models: Sequence[str],
    roles: RoleModels,
    facts: DocumentFacts,
    *,
    confidence: float,
    seed: int,
) -> Prompts:
    """Count the prompts of the test documents, and fit the mixed models; nothing is fitted if prompts are unknown."""
    prompts = {
        level: {facts.prompt_of[document] for document in of_level.documents.tolist()}
        for level, of_level in (losses.items() if facts.prompt_of else ())
    }
    every = [prompt for of_level in prompts.values() for prompt in of_level]
    fits = {
        role: fit_mixed_model(losses, models, roles, role, facts, confidence=confidence, seed=seed)
        for role in (COMPARED if prompts else ())
    }
    return Prompts(
        by_level={level: len(of_level) for level, of_level in prompts.items()},
        shared=len(every) - len(set(every)),
        fits=tuple(MixedModel(other=role, **asdict(fit)) for role, fit in fits.items() if fit is not None),
        sentences=tuple(_say(prompts)),
    )


def _say(prompts: Mapping[str, set[str]]) -> list[str]:
    """Say what a reader must know about the prompts before believing a verdict on levels."""
    if not prompts:
        return []
    sentences = []
    every = [prompt for of_level in prompts.values() for prompt in of_level]
    if len(prompts) > 1 and len(every) == len(set(every)):
        sentences.append(
            "No two levels share a writing prompt, so the effect of a level cannot be told apart from the effects of "
            "its tasks, topics and text lengths."
        )
    few = [level for level, of_level in prompts.items() if len(of_level) < MIN_PROMPTS]
    if few:
        sentences.append(
            f"All test documents of {', '.join(few)} answer one writing prompt, so the intervals there, and those "
            "overall, hold for new learners who answer the same prompts, and not for other prompts."
        )
    return sentences
