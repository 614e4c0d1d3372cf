r"""What one response may have more of than another, measured without a model: attributes with words that say so.

About two hundred attributes: what `penchant.style` sees, marks and layout, and lists of words by meaning (the file
`phrases.txt` beside this one). Each is crude: a list of words knows no context. Their use is to give a name to a
direction that was found without them, and the name is only as good as the fidelity that is measured beside it.

>>> found = dict(zip(names(), measured(["Sorry, I can't help with that."])[0].round().tolist(), strict=True))
>>> found["apologises"], found["declines to answer"], found["greets"]
(6.0, 12.0, 0.0)
"""

import re
from collections import defaultdict
from collections.abc import Sequence
from functools import cache, lru_cache
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray

from penchant.style import Style, per_hundred, said, words_of

Rates = NDArray[np.float32]

# Marks and layout: how often the expression is found, as a count or, where it grows with the text, in a hundred words.
_MARKS: dict[str, str] = {
    "has headings": r"(?m)^\s*#{1,6}\s|^\s*\*\*[^*\n]+\*\*:?\s*$",
    "sets words in bold": r"\*\*[^*\n]+\*\*",
    "has blocks of code": r"```",
    "sets code in a line": r"(?<!`)`[^`\n]+`(?!`)",
    "gives links": r"https?://|www\.",
    "gives e-mail addresses": r"[\w.]+@[\w.]+\.\w|\[email\]",
    "has tables": r"(?m)^\s*\|.+\|\s*$",
    "has formulas": r"\\\(|\\\[|\$[^$\n]+\$|\b\w\s*=\s*\w",
    "uses emoji": r"[\U0001F300-\U0001FAFF\u2600-\u27BF]",
    "has several paragraphs": r"\n\s*\n",
    "breaks lines": r"\n",
    "quotes words": r"[\"\u201c\u201d\u00ab\u00bb]",
    "adds remarks in brackets": r"\([^)]*\)",
    "introduces with a colon": r":\s",
    "uses semicolons": r";",
    "uses dashes": r"\u2014|\u2013|\s-\s",
    "trails off": r"\.\.\.|\u2026",
    "writes in capitals": r"\b[A-Z]{3,}\b",
    "names people and places": r"(?<=[a-z,] )[A-Z][a-z]+",
    "gives amounts of money": r"[$\u20ac\u00a3]\s?\d|\bdollars?\b",
    "gives percentages": r"\d\s?%|\bper ?cent\b",
    "gives years": r"\b(?:1[5-9]|20)\d\d\b",
    "contracts words": r"\b[A-Za-z]+['\u2019](?:t|s|re|ll|ve|d|m)\b",
    "uses many commas": r",",
    "ends with a question": r"\?\W*$",
    "ends with an exclamation": r"!\W*$",
    "ends without a full stop": r"\w\s*$",
    "begins with yes": r"^\W*(?:[Yy]es|[Ss]ure|[Oo]kay|OK|Ok)\b",
    "begins with no": r"^\W*(?:[Nn]o|[Nn]ope|[Nn]ot)\b",
    "begins with I": r"^\W*I\b",
    "begins in lower case": r"^\s*[a-z]",
    "begins with a greeting": r"^\W*(?:[Hh]i|[Hh]ello|[Hh]ey|[Dd]ear)\b",
    "stretches letters": r"([A-Za-z])\1{2,}",
    "leaves blanks to fill in": r"_{3,}|\[[A-Z][^\]]*\]",
    "has letters of other scripts": r"[\u0370-\u1FFF\u3040-\uD7AF]",
    "is empty": r"^\s*$",
}
_RATES = {"uses many commas", "contracts words", "names people and places", "breaks lines"}


@cache
def names() -> tuple[str, ...]:
    """The phrase of each attribute; a response has more of it or less."""
    return (*(said(column, 1.0) for column in Style.columns), *_MARKS, *_lists())


def measured(texts: Sequence[str]) -> Rates:
    """How much of each attribute each text has, float32[texts, attributes]; each in a unit of its own."""
    expressions = [(re.compile(pattern), name in _RATES) for name, pattern in _MARKS.items()]
    style = Style().encode(texts)
    rates = np.zeros((len(texts), len(names())), np.float32)
    for row, text in enumerate(texts):
        words = words_of(text.replace("\u2019", "'"))
        marks = [
            per_hundred(count, len(words)) if is_rate else count
            for expression, is_rate in expressions
            for count in [sum(1 for _ in expression.finditer(text))]
        ]
        rates[row] = [*style[row], *marks, *(per_hundred(count, len(words)) for count in _counts(words))]
    return rates


@cache
def _lists() -> dict[str, tuple[str, ...]]:
    """The phrases of the file, each with its words."""
    lines = files("penchant.evaluate").joinpath("phrases.txt").read_text(encoding="utf-8").splitlines()
    named = (line.partition(":") for line in lines if line and not line.startswith("#"))
    return {name: tuple(word.strip() for word in words.split(",")) for name, _, words in named}


@cache
def _index() -> tuple[dict[str, list[int]], dict[str, list[int]]]:
    """Which lists a run of up to four words is in, and which a word is in by how it begins."""
    whole: dict[str, list[int]] = defaultdict(list)
    begins: dict[str, list[int]] = defaultdict(list)
    for place, words in enumerate(_lists().values()):
        for word in words:
            (begins if word.endswith("*") else whole)[word.rstrip("*")].append(place)
    return dict(whole), dict(begins)


@lru_cache(maxsize=100_000)
def _of_word(word: str) -> tuple[int, ...]:
    whole, begins = _index()
    found = {*whole.get(word, ())}
    for length in range(2, len(word) + 1):
        found.update(begins.get(word[:length], ()))
    return tuple(found)


def _counts(words: Sequence[str]) -> list[int]:
    """How many words, or runs of words, are in each list."""
    whole, _ = _index()
    counts = [0] * len(_lists())
    for start, word in enumerate(words):
        for place in _of_word(word):
            counts[place] += 1
        for length in (2, 3, 4):
            for place in whole.get(" ".join(words[start : start + length]), ()) if start + length <= len(words) else ():
                counts[place] += 1
    return counts
