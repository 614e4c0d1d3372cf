"""Who won, in the many words that people write it: one of a, b, tie, both_bad.

>>> [outcome(word) for word in ("model_a", "[[B]]", "A=B", "tie (bothbad)", "leftvote", "maybe")]
['a', 'b', 'tie', 'both_bad', 'a', None]
"""

import re
from functools import lru_cache
from typing import Any

from penchant.feedback.formats.layout import RowError, as_word

_A = "a modela responsea answera outputa response1 answer1 output1 summary1 first left leftvote ab win1 assistanta"
_B = "b modelb responseb answerb outputb response2 answer2 output2 summary2 second right rightvote ba win2 assistantb"
_TIE = "tie tied draw equal same both neither tievote tieinconsistent tiebothgood bothgood abgood nopreference c"
_LONGEST = 100  # letters; what is longer is no verdict, and to remember it could fill the memory
_BAD = "bothbad tiebothbad bothbadvote abbad"
_WORDS = {
    word: outcome
    for outcome, words in (("a", _A), ("b", _B), ("tie", _TIE), ("both_bad", _BAD))
    for word in words.split()
}


def outcome(word: str) -> str | None:
    """The outcome that a word stands for, or None if it does not say."""
    return _outcome(word) if len(word) <= _LONGEST else None


@lru_cache(maxsize=4096)
def _outcome(word: str) -> str | None:
    lower = word.lower()
    if re.fullmatch(r"[\[\s]*a\s*(<|<<)\s*b[\]\s]*", lower):
        return "b"
    if re.fullmatch(r"[\[\s]*a\s*=+\s*b[\]\s]*", lower):
        return "tie"
    return _WORDS.get(re.sub(r"[^a-z0-9]", "", lower))


def is_outcome(value: Any) -> bool:
    """Whether a value says who won."""
    return outcome(as_word(value) or "") is not None


def decided(value: Any, name: str) -> str:
    """The outcome that a value stands for.

    Raises:
        RowError: it is missing or does not say who won.
    """
    word = as_word(value)
    if word is None:
        raise RowError(f"`{name}` is missing")
    result = outcome(word)
    if result is None:
        raise RowError(f"`{name}` does not say who won")
    return result


def preferred(first: str, second: str, result: str) -> tuple[str, str, float]:
    """Chosen, rejected and strength of a comparison; a tie keeps the order and has strength one half."""
    if result == "b":
        return second, first, 1.0
    return first, second, 1.0 if result == "a" else 0.5


def likely(first: str, second: str, probability: float) -> tuple[str, str, float]:
    """Chosen, rejected and strength when the second is preferred with a probability in [0, 1]."""
    return (second, first, probability) if probability > 0.5 else (first, second, 1 - probability)
