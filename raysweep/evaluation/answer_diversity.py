"""Measures the diversity of answers: distinct n-grams, self-BLEU of samples, words per sentence.

Words are compared in lower case, and punctuation is ignored.  A measure is None if there is nothing to measure.

Sources: distinct-n of Li et al. 2016 (NAACL), of which distinct-1 is the type-token ratio; self-BLEU of Zhu et al.
2018 (SIGIR), with BLEU of Papineni et al. 2002 (ACL) up to 4-grams and 1 added to the counts of n-grams longer than one
word (Lin and Och 2004, COLING), because most answers are shorter than four words.
"""

from collections import Counter
from collections.abc import Sequence
from math import exp, log

import numpy as np

from raysweep.evaluation.answer_words import count_ngrams
from raysweep.masking.languages import ENGLISH
from raysweep.masking.segmentation import segment

_BLEU_ORDER = 4


def describe_diversity(groups: Sequence[Sequence[str]], language: str = ENGLISH) -> dict[str, float | None]:
    """Compute all measures.

    Args:
        groups: the samples of each blank.
    """
    answers = [answer for group in groups for answer in group]
    return {
        "words_per_sentence": words_per_sentence(answers, language),
        "type_token_ratio": distinct(answers, 1),
        "distinct_2": distinct(answers, 2),
        "distinct_3": distinct(answers, 3),
        "self_bleu": self_bleu(groups),
    }


def distinct(answers: Sequence[str], n: int) -> float | None:
    """Compute distinct n-grams ÷ all n-grams; it falls with the number of answers, so compare equal numbers of them."""
    ngrams = Counter[tuple[str, ...]]()
    for answer in answers:  # `sum` would copy the counter for every answer
        ngrams.update(count_ngrams(answer, n))
    return len(ngrams) / ngrams.total() if ngrams else None


def self_bleu(groups: Sequence[Sequence[str]]) -> float | None:
    """Compute the mean BLEU, from 0 to 1, of each sample against the other samples of its blank; 1 if all are the same.

    Args:
        groups: the samples of each blank; blanks with a single sample, and samples without a word, are left out.
    """
    scores = [
        bleu(sample, [*group[:place], *group[place + 1 :]])
        for group in groups
        if len(group) > 1
        for place, sample in enumerate(group)
        if count_ngrams(sample, 1)
    ]
    return float(np.mean(scores)) if scores else None


def bleu(answer: str, references: Sequence[str]) -> float:
    """Compute the BLEU, from 0 to 1, of an answer with at least one word."""
    length = count_ngrams(answer, 1).total()
    nearest = min((count_ngrams(text, 1).total() for text in references), key=lambda n: (abs(n - length), n))
    logs = []
    for n in range(1, _BLEU_ORDER + 1):
        produced, most = count_ngrams(answer, n), Counter[tuple[str, ...]]()
        for text in references:
            most |= count_ngrams(text, n)
        added = int(n > 1)
        matched = (produced & most).total() + added
        logs.append(log(matched / (produced.total() + added)) if matched else -np.inf)
    return exp(float(np.mean(logs)) + min(0.0, 1.0 - nearest / length))


def words_per_sentence(answers: Sequence[str], language: str = ENGLISH) -> float | None:
    """Compute the mean number of words, without punctuation, of the sentences in the answers."""
    segments = segment(answers, language)
    starts, ends = segments.sentence_starts.tolist(), segments.sentence_ends.tolist()
    text = "".join(answers)
    counts = [count_ngrams(text[start:end], 1).total() for start, end in zip(starts, ends, strict=True)]
    return float(np.mean(counts)) if counts else None
