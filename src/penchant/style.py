r"""What can be seen of a text at a glance, as named numbers: an encoder whose weights can be said in words.

>>> Style().encode(["Yes! You can.", "1. Boil water.\n2. Wait."]).shape
(2, 11)
>>> said("words", -1.2)
'shorter answers'
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from penchant.turns import Turn

Array = np.ndarray[Any, np.dtype[np.float32]]

_WORD = re.compile(r"[^\W\d_]+(?:['\u2019][^\W\d_]+)*")
_SENTENCE_END = re.compile(r"[.!?]+(?:\s|$)")
_LIST_LINE = re.compile(r"^\s*(?:[-*•]|\d+[.)])\s+", re.MULTILINE)
_HEDGES = frozenset(
    {"maybe", "perhaps", "might", "could", "may", "probably", "possibly", "seems", "likely", "usually", "however"}
)
_WARM = frozenset(
    {"please", "thanks", "thank", "sorry", "glad", "happy", "great", "wonderful", "love", "enjoy", "hope", "kind"}
)


def words_of(text: str) -> list[str]:
    """The words of a text in lower case, numbers and marks left out.

    >>> words_of("It's 5 o'clock!")
    ["it's", "o'clock"]
    """
    return [word.lower() for word in _WORD.findall(text)]


def list_lines(text: str) -> int:
    r"""How many lines of a text are items of a list.

    >>> list_lines("Take:\n- tea\n2. water")
    2
    """
    return len(_LIST_LINE.findall(text))


def per_hundred(count: int, n_words: int) -> float:
    """How often something comes in a hundred words.

    >>> per_hundred(1, 15)
    4.0
    """
    # One imagined sentence of ten words keeps a two-word answer from having extreme rates.
    return 100 * count / (n_words + 10)


_COLUMNS: dict[str, tuple[str, str, Callable[[str, list[str]], float]]] = {
    "words": ("longer answers", "shorter answers", lambda text, words: float(np.log1p(len(words)))),
    "sentence_length": (
        "long sentences",
        "short sentences",
        lambda text, words: float(np.log1p(len(words) / max(1, len(_SENTENCE_END.findall(text))))),
    ),
    "lists": ("lists", "running text instead of lists", lambda text, words: float(list_lines(text))),
    "exclamations": (
        "exclamation marks",
        "no exclamation marks",
        lambda text, words: per_hundred(text.count("!"), len(words)),
    ),
    "questions": (
        "questions back",
        "no questions back",
        lambda text, words: per_hundred(text.count("?"), len(words)),
    ),
    "numbers": (
        "numbers and figures",
        "few numbers",
        lambda text, words: per_hundred(len(re.findall(r"\d+", text)), len(words)),
    ),
    "you": (
        "being addressed as you",
        "not being addressed directly",
        lambda text, words: per_hundred(sum(word in ("you", "your", "yours") for word in words), len(words)),
    ),
    "first_person": (
        "answers that say I",
        "impersonal answers",
        lambda text, words: per_hundred(
            sum(word in ("i", "me", "my", "we", "our", "us") for word in words), len(words)
        ),
    ),
    "hedges": (
        "careful wording (maybe, might)",
        "firm wording",
        lambda text, words: per_hundred(sum(word in _HEDGES for word in words), len(words)),
    ),
    "warmth": (
        "a warm tone",
        "a matter-of-fact tone",
        lambda text, words: per_hundred(sum(word in _WARM for word in words), len(words)),
    ),
    "long_words": (
        "long words",
        "plain short words",
        lambda text, words: sum(map(len, words)) / (len(words) + 1),
    ),
}


class Style:
    """Encodes a text as eleven surface numbers, none of which needs a model.

    Attributes:
        name: identity for caches; changes when the numbers change.
        columns: name of each number, in order.
    """

    name = "style-1"
    reads_prompts = False
    columns = tuple(_COLUMNS)

    def payload(self, turn: Turn) -> str:
        """Only the response is looked at."""
        return turn.answer()

    def encode(self, payloads: Sequence[str]) -> Array:
        """The numbers of each text.

        Args:
            payloads: n texts.

        Returns:
            float32[n, 11], not standardised.
        """
        out = np.empty((len(payloads), len(_COLUMNS)), dtype=np.float32)
        for row, text in enumerate(payloads):
            words = words_of(text)
            out[row] = [measure(text, words) for _, _, measure in _COLUMNS.values()]
        return out


def said(column: str, weight: float) -> str:
    """What a positive or negative weight of a column means, in words."""
    more, less, _ = _COLUMNS[column]
    return more if weight > 0 else less
