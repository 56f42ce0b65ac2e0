"""Guesses the language of texts by their script, and by the share of the language's most frequent words in them."""

import re
from collections import Counter
from collections.abc import Sequence

_WORDS = {
    "en": "the and is to of in my was it have you for with are this but they we not on",
    "de": "und ich ist nicht die der das ein eine zu mit auch wir sie aber sehr für den haben auf",
    "it": "di che non è per una un con sono mi il la ho anche ma molto della si piace perché",
    "cs": "a je se na že to jsem by ale jako není jsou mám byl pro když tak velmi moje ve",
    "es": "de que y el la en los un una es por con para mi me muy las no pero está",
    "pt": "de que e o a não uma um com para é por muito os as eu minha mas também está",
    "fr": "de et je le la les est un une des que pas dans pour avec mon très sont mais nous",
    "sv": "och att jag det är som en på inte för med har av till den ett men vi mycket om",
    "nl": "de het een en ik van is niet dat op te met voor zijn maar ook wij aan heb naar",
    "et": "ja on ei et see ma oli kui mis ka aga oma väga me nad seda kes minu siis ning",
    "cy": "y yn i a mae ar ac o wedi fod am ei roedd gan bod dw hefyd iawn oedd ond",
    "pl": "i w nie na się jest że to z do jak ale bardzo są mam moja był co dla po",
}
_SCRIPTS = (
    ("ja", r"[\u3040-\u30ff]", 0.1),
    ("zh", r"[\u4e00-\u9fff]", 0.3),
    ("ko", r"[\uac00-\ud7af]", 0.3),
    ("th", r"[\u0e00-\u0e7f]", 0.3),
    ("ar", r"[\u0600-\u06ff]", 0.3),
    ("hi", r"[\u0900-\u097f]", 0.3),
    ("ru", r"[\u0400-\u04ff]", 0.3),
    ("el", r"[\u0370-\u03ff]", 0.3),
    ("he", r"[\u0590-\u05ff]", 0.3),
)
"""A language, its characters, and their least share of all letters in a text of the language; most specific first."""
SURE = 0.05
"""The least share of words that must be among a language's most frequent words."""


def guess_language(texts: Sequence[str]) -> str | None:
    """Return the ISO 639 code of the language of the texts together; None if no language is likely."""
    letters = re.sub(r"[\W\d_]", "", "".join(text[:2000] for text in texts))
    for language, characters, share in _SCRIPTS:
        if letters and len(re.findall(characters, letters)) > share * len(letters):
            return language
    words = Counter(word for text in texts for word in re.findall(r"[^\W\d_]+", text[:2000].casefold()))
    total = max(1, words.total())
    scores = {language: sum(words[word] for word in known.split()) / total for language, known in _WORDS.items()}
    best = max(scores, key=lambda language: scores[language])
    return best if scores[best] > SURE else None
