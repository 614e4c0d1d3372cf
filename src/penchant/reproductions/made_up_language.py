"""A made-up language, simulated people with tastes in it, and a small model of it: text preferences in seconds.

Everything here is simulated and says so. Words follow each other by a sparse chain and answers end at random, so that
likelihood is mostly fluency and length, as in real text; what people like in an answer is another matter.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from penchant.records import Comparisons

Floats = NDArray[np.float64]
_N_WORDS, _N_TOPICS, _N_VOTERS, _LONGEST = 60, 6, 9, 12


@dataclass(frozen=True)
class Pairs:
    """Comparisons with the share of people who prefer `chosen` (0.75 where nobody counted)."""

    comparisons: Comparisons
    share: Floats


class Language:
    """A made-up language: which word follows which, and what people think of a word under a topic.

    Args:
        rng: everything is drawn from it.
    """

    def __init__(self, rng: np.random.Generator):
        self.rng = rng
        # Each word is followed by a few others, some much more often than the rest, as in real text.
        self.follows = rng.dirichlet(np.full(_N_WORDS, 0.1), size=_N_WORDS).cumsum(axis=1)
        self.follows /= self.follows[:, -1:]
        self.taste = (rng.normal(size=(1, _N_WORDS)) + rng.normal(size=(_N_TOPICS, _N_WORDS))) / np.sqrt(2)

    def sentence(self, first: int, least: int) -> list[int]:
        """Words that follow `first`, at least `least` of them."""
        words: list[int] = []
        last = first
        while len(words) < _LONGEST and (len(words) < least or self.rng.random() > 0.2):
            last = int(np.searchsorted(self.follows[last], self.rng.random(), side="right"))
            words.append(last)
        return words

    def prompt(self) -> tuple[int, list[int]]:
        """A topic and the words of a prompt."""
        topic = int(self.rng.integers(_N_TOPICS))
        return topic, self.sentence(int(self.rng.integers(_N_WORDS)), 3)[:6]

    def texts(self, n: int) -> list[dict[str, str]]:
        """Prompts with one answer each, that nobody has judged."""
        rows = []
        for _ in range(n):
            topic, words = self.prompt()
            rows.append({"prompt": _text(topic, words), "response": _text(None, self.sentence(words[-1], 3))})
        return rows

    def pairs(self, n: int) -> Pairs:
        """Prompts with two answers on which nine people have voted; most of them prefer `chosen`."""
        rows: list[dict[str, str]] = []
        shares: list[float] = []
        while len(rows) < n:
            topic, words = self.prompt()
            first, second = (self.sentence(words[-1], 3) for _ in range(2))
            if first == second:
                continue
            advantage = self.taste[topic, first].sum() - self.taste[topic, second].sum()
            # One half: two of three people then agree on a typical pair, and nearly all on a clear one.
            votes = int(self.rng.binomial(_N_VOTERS, 1 / (1 + np.exp(-advantage / 2))))
            chosen, rejected = (first, second) if 2 * votes > _N_VOTERS else (second, first)
            rows.append(
                {"prompt": _text(topic, words), "chosen": _text(None, chosen), "rejected": _text(None, rejected)}
            )
            shares.append(max(votes, _N_VOTERS - votes) / _N_VOTERS)
        return Pairs(Comparisons.from_rows(rows), np.array(shares))


def _text(topic: int | None, words: Sequence[int]) -> str:
    return " ".join([*([] if topic is None else [f"topic{topic}"]), *(f"word{word}" for word in words)])


def word_differences(comparisons: Comparisons) -> Floats:
    """How much more often each word stands in `chosen` than in `rejected`, [pairs, words * (1 + topics)].

    First whatever the topic, then once more under the pair's own topic.
    """
    table = np.zeros((len(comparisons), 1 + _N_TOPICS, _N_WORDS))
    for row, pair in enumerate(comparisons.table.to_pylist()):
        topic = _ids(pair["prompt"])[0] - 2
        for name, sign in (("chosen", 1), ("rejected", -1)):
            counts = np.bincount(np.array(_ids(pair[name])) - 2 - _N_TOPICS, minlength=_N_WORDS)
            table[row, [0, 1 + topic]] += sign * counts
    return table.reshape(len(table), -1)


VOCABULARY = {
    word: 2 + number
    for number, word in enumerate([f"topic{i}" for i in range(_N_TOPICS)] + [f"word{i}" for i in range(_N_WORDS)])
}


def _ids(text: str) -> tuple[int, ...]:
    return tuple(VOCABULARY[word] for word in text.split())
