"""Computes generation scores: compares a model's greedy answers with the learners' words.

Word blanks are right or wrong (top-1 accuracy: the same characters, without surrounding spaces).  Longer
answers are compared by their unigrams and bigrams: recall is the share of the learner's n-grams that the
model produced; F1 is the harmonic mean of recall and precision.  Words are compared in lower case,
punctuation is ignored, and means are over answers.

One example of each chosen document is answered; blanks of whole documents have no context and are left
out.  Recall and F1 of bigrams are over answers whose reference has at least two words.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from raysweep.evaluation.answer_words import count_ngrams
from raysweep.evaluation.decoding import Answer, Prompt, answer_prompts
from raysweep.evaluation.token_sampling import GREEDY
from raysweep.masking.example_store import ExampleStore
from raysweep.masking.vocabulary import Kind, TargetType, Vocabulary
from raysweep.seeding import generator_for

Ints = npt.NDArray[np.int64]

SAMPLES_PER_LEVEL = 2
_BATCH_PROMPTS = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class AnswerScore:
    """The comparison of the model's answer to one blank with the learner's words."""

    level: str
    kind: Kind
    finished: bool
    is_right: bool
    """Whether the answer has the same characters."""
    unigram: tuple[float, float] | None
    """Recall and F1; None if the reference has no unigram."""
    bigram: tuple[float, float] | None


def score_generation(
    model: Any,
    store: ExampleStore,
    examples: Mapping[str, Ints],
    *,
    documents: int,
    seed: int,
    samples: list[dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """Answer blanks of some test documents greedily, and score the answers.

    Args:
        examples: the test examples of each level.
        documents: number of documents of each level, drawn by the seed; they are the same for every model.
        samples: a list to which the first questions of each level are added with their answers as texts; these
            contain learners' words, which the scores never do.

    Returns:
        Plain values: `overall`, `levels` and `kinds`, each with the number of answers and means
        (None if there are no values).
    """
    questions = [
        (level, *question)
        for level, level_examples in examples.items()
        for question in _pick_questions(store, level_examples, documents, generator_for(seed, "generation", level))
    ]
    scores: list[AnswerScore] = []
    decode = store.vocabulary.decode
    for start in range(0, len(questions), _BATCH_PROMPTS):
        batch = questions[start : start + _BATCH_PROMPTS]
        answered = answer_prompts(model, [prompt for _, prompt, _ in batch], sampling=GREEDY)
        for (level, prompt, references), (answers,) in zip(batch, answered, strict=True):
            scores.extend(
                score_answer(level, kind, decode(answer.ids), reference, finished=answer.finished)
                for kind, answer, reference in zip(prompt.kinds, answers, references, strict=True)
            )
            if samples is not None and sum(sample["level"] == level for sample in samples) < SAMPLES_PER_LEVEL:
                samples.append(_as_text(level, prompt, references, answers, store.vocabulary))
    return {
        "overall": summarise(scores),
        "levels": {level: summarise([score for score in scores if score.level == level]) for level in examples},
        "kinds": {
            kind.name.lower(): summarise([score for score in scores if score.kind is kind])
            for kind in Kind
            if kind is not Kind.DOCUMENT
        },
    }


def summarise(scores: Sequence[AnswerScore]) -> dict[str, Any]:
    """Compute the means over answers, and their numbers."""
    words = [score.is_right for score in scores if score.kind is Kind.WORD]
    longer = [score for score in scores if score.kind is not Kind.WORD]
    unigrams = [score.unigram for score in longer if score.unigram is not None]
    bigrams = [score.bigram for score in longer if score.bigram is not None]
    return {
        "words": len(words),
        "top1_accuracy": _mean(words),
        "longer_answers": len(longer),
        "unigram_recall": _mean([recall for recall, _ in unigrams]),
        "unigram_f1": _mean([f1 for _, f1 in unigrams]),
        "bigram_recall": _mean([recall for recall, _ in bigrams]),
        "bigram_f1": _mean([f1 for _, f1 in bigrams]),
        "unfinished": sum(not score.finished for score in scores),
    }


def overlap(answer: str, reference: str, n: int) -> tuple[float, float] | None:
    """Compute recall and F1 of n-grams of words, counting repeats; None if the reference has none."""
    produced, expected = count_ngrams(answer, n), count_ngrams(reference, n)
    if not expected:
        return None
    shared = (produced & expected).total()
    return shared / expected.total(), 2 * shared / (produced.total() + expected.total())


def score_answer(level: str, kind: Kind, text: str, reference: str, *, finished: bool) -> AnswerScore:
    """Compare an answer with the learner's words."""
    return AnswerScore(
        level=level,
        kind=kind,
        finished=finished,
        is_right=finished and text.strip() == reference.strip(),
        unigram=overlap(text, reference, 1),
        bigram=overlap(text, reference, 2),
    )


def read_question(
    ids_T: npt.NDArray[Any], types_T: npt.NDArray[Any], vocabulary: Vocabulary
) -> tuple[Prompt, list[str]] | None:
    """Split an example into its prompt and the learner's answers.

    Returns:
        None if there is nothing to answer: no blank, a whole document, or an answer that was
        truncated with its example.
    """
    starts = np.flatnonzero(types_T == TargetType.START)
    kinds = [Kind(token - vocabulary.first_blank) for token in ids_T[types_T == TargetType.CONTEXT_SPECIAL].tolist()]
    ends = np.flatnonzero(types_T == TargetType.INFILL_SPECIAL)
    if not kinds or Kind.DOCUMENT in kinds or not len(starts) or len(ends) != len(kinds):
        return None
    bounds = [int(starts[0]), *ends.tolist()]
    references = [vocabulary.decode(ids_T[first + 1 : last].tolist()) for first, last in pairwise(bounds)]
    return Prompt(ids=ids_T[: bounds[0] + 1].tolist(), kinds=kinds), references


def _pick_questions(
    store: ExampleStore, examples: Ints, documents: int, random: np.random.Generator
) -> list[tuple[Prompt, list[str]]]:
    """Pick the first answerable example of each of some randomly drawn documents."""
    questions: list[tuple[Prompt, list[str]]] = []
    owners = store.documents_of(examples)
    for document in random.permutation(np.unique(owners)):
        if len(questions) == documents:
            break
        batch = store.assemble(examples[owners == document])
        asked = (read_question(*row, store.vocabulary) for row in zip(batch.ids_BT, batch.types_BT, strict=True))
        questions.extend([question for question in asked if question is not None][:1])
    return questions


def _as_text(
    level: str, prompt: Prompt, references: Sequence[str], answers: Sequence[Answer], vocabulary: Vocabulary
) -> dict[str, Any]:
    """Convert a question and its answers to text; `context` is the text before, between and after the blanks."""
    ids = np.array(prompt.ids[:-1])
    blanks = np.flatnonzero(ids >= vocabulary.first_blank)
    return {
        "level": level,
        "context": [vocabulary.decode(part[part < vocabulary.own_size].tolist()) for part in np.split(ids, blanks)],
        "kinds": [kind.name.lower() for kind in prompt.kinds],
        "references": list(references),
        "answers": [vocabulary.decode(answer.ids) for answer in answers],
    }


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None
