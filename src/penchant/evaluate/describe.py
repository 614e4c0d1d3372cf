r"""What a feature of responses is called, and how far the name may be trusted.

A description is a hypothesis. A `Describer` proposes some from pairs in which the feature is strongest; then it says of
other pairs, without seeing the feature, which response has more of what the description says. The correlation of the
two is the description's fidelity, and it stands beside every description. A chat model describes in words of its own
(`ByChat`); without one, the nearest phrase of a list that can be measured will do (`ByPhrases`).

Pairs are independent of each other: one of each cluster, those for proposing and those for measuring from different
clusters. p-values count every description that was tried, of every feature.

Source:
    Movva, Milli, Min and Pierson (2025), What's In My Human Feedback?, section 3.2 and appendix. Theirs takes the best
    of five candidates and corrects for the number of features only.

>>> texts = [(f"Fish {n} is there.", f"Lamp {n} is there.") for n in range(40)]
>>> pairs = [pair if n % 2 else pair[::-1] for n, pair in enumerate(texts)]
>>> activation = np.where(np.arange(40) % 2, 1.0, -1.0) * np.linspace(1, 2, 40)
>>> found = description(ByPhrases(), pairs, activation)
>>> found.text, found.fidelity.estimate > 0.9, found.kept
('animals', True, True)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import pydantic
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri
from scipy.stats import t as student

from penchant.chat.protocol import ChatError, ChatModel
from penchant.chat.structured import structured
from penchant.errors import DataError
from penchant.evaluate import phrases
from penchant.statistics import Interval

Floats = NDArray[np.float64]
Places = NDArray[np.int64]
Pairs = Sequence[tuple[str, str]]

_STRONGEST = 0.05  # share of the pairs from which examples are shown to a chat model
_WORDS_READ = 128  # of each response, by a chat model
_LEVEL = 0.05  # of a description that is kept, before correcting for how many were tried


class Describer(Protocol):
    """Who names features."""

    @property
    def name(self) -> str:
        """Which one, for the page."""

    def propose(self, pairs: Pairs, activation: Floats, *, n: int, seed: int) -> list[str]:
        """Up to n descriptions of what the first response has more of where the activation is above zero."""

    def compare(self, description: str, pairs: Pairs, *, seed: int) -> Floats:
        """1 where the first response has more of it, -1 where the second has, 0 for neither, NaN without an answer."""


@dataclass(frozen=True)
class Description:
    """A name for a feature.

    Attributes:
        text: what the response has more of on whose side the activation, times `sign`, is above zero; empty if nobody
            had a word for it.
        sign: 1, or -1 where the feature must be turned round for the text to fit.
        fidelity: correlation of activation and description on pairs that it was not made from; its n are these pairs.
        p: of so large a correlation by chance, times all descriptions tried (at most 1).
        n_unanswered: pairs the describer had no answer for.
    """

    text: str
    sign: int
    fidelity: Interval
    p: float
    n_unanswered: int = 0

    @property
    def kept(self) -> bool:
        """Whether the evidence for it is beyond what so many tries would give by chance."""
        return bool(self.text) and self.p < _LEVEL


def correlation(activation: ArrayLike, annotation: ArrayLike, level: float = 0.95) -> tuple[Interval, float]:
    """Pearson's correlation with Fisher's interval, and its two-sided p-value; pairs must be independent.

    Where one of the two is constant there is no correlation: 0 in [-1, 1], p 1.

    >>> round(correlation([1.0, 2.0, 3.0, 4.0], [-1.0, 0.0, 0.0, 1.0])[0].estimate, 3)
    0.949
    """
    x, y = np.asarray(activation, dtype=np.float64), np.asarray(annotation, dtype=np.float64)
    n = len(x)
    if n < 4 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return Interval(0.0, -1.0, 1.0, level, n), 1.0
    r = float(np.clip(np.corrcoef(x, y)[0, 1], -1, 1))
    inside = np.clip(r, -1 + 1e-12, 1 - 1e-12)
    half = float(ndtri((1 + level) / 2)) / np.sqrt(n - 3)
    low, high = np.tanh([np.arctanh(inside) - half, np.arctanh(inside) + half])
    size = abs(inside) * np.sqrt((n - 2) / (1 - inside**2))
    return Interval(r, float(low), float(high), level, n), float(2 * student.sf(size, n - 2))


def description(
    describer: Describer,
    pairs: Pairs,
    activation: ArrayLike,
    *,
    clusters: ArrayLike | None = None,
    n_candidates: int = 5,
    n_measured: int = 300,
    n_features: int = 1,
    seed: int = 0,
) -> Description:
    """The candidate of greatest fidelity.

    Args:
        describer: who proposes and compares.
        pairs: texts of first and second responses.
        activation: of the feature, signed, [pairs].
        clusters: what depends on each other, such as a prompt, [pairs]; each pair its own if not given.
        n_candidates: descriptions to try.
        n_measured: pairs to measure each on at most, half of them above the median of the active ones.
        n_features: features that are described in all, for p.
        seed: of what is drawn.

    Raises:
        DataError: there is not one activation and one cluster for each pair.
    """
    a = np.asarray(activation, dtype=np.float64)
    groups = np.arange(len(pairs)) if clusters is None else np.asarray(clusters)
    if not len(a) == len(pairs) == len(groups):
        raise DataError(f"{len(pairs)} pairs, {len(a)} activations and {len(groups)} clusters; give one each.")
    rng = np.random.default_rng(seed)
    to_propose, to_measure = _two_halves(a, groups, rng)
    to_measure = _balanced(to_measure, a, n_measured)
    own = [pairs[row] for row in to_measure]
    candidates = describer.propose([pairs[row] for row in to_propose], a[to_propose], n=n_candidates, seed=seed)
    found = [Description("", 1, Interval(0.0, -1.0, 1.0, 0.95, len(own)), 1.0)]
    for text in dict.fromkeys(candidates):
        said = describer.compare(text, own, seed=seed)
        answered = np.isfinite(said)
        fidelity, p = correlation(a[to_measure][answered], said[answered])
        sign = -1 if fidelity.estimate < 0 else 1
        ends = sorted((sign * fidelity.low, sign * fidelity.high))
        turned = Interval(abs(fidelity.estimate), ends[0], ends[1], fidelity.level, fidelity.n)
        p = min(1.0, p * n_features * n_candidates)
        found.append(Description(text, sign, turned, p, int((~answered).sum())))
    return max(found, key=lambda one: one.fidelity.estimate)


def _two_halves(activation: Floats, clusters: NDArray[Any], rng: np.random.Generator) -> tuple[Places, Places]:
    """Active pairs in an order drawn at random, for proposing and for measuring; no cluster is in both or in one twice.

    Where there are hardly any clusters at all, pairs stand for themselves.
    """
    rows = rng.permutation(np.flatnonzero(activation))
    alone = rows[np.sort(np.unique(clusters[rows], return_index=True)[1])]
    if len(np.unique(clusters)) < _FEWEST_CLUSTERS:
        alone = rows
    return alone[1::2], alone[::2]


_FEWEST_CLUSTERS = 20


def _balanced(rows: Places, activation: Floats, n: int) -> Places:
    """At most n rows, half of them above the median size."""
    size = np.abs(activation[rows])
    above = size > np.median(size) if len(size) else np.empty(0, dtype=bool)
    return np.concatenate([rows[above][: n // 2], rows[~above][: n - n // 2]])


class ByPhrases:
    """Names from a built-in list of attributes that can be measured in a text; no model.

    Proposed are the phrases whose measured difference goes most with the feature; a response has more of an attribute
    if the measure is higher.
    """

    name = "built-in phrases"

    def __init__(self) -> None:
        self._known: dict[str, NDArray[np.float32]] = {}

    def propose(self, pairs: Pairs, activation: Floats, *, n: int, seed: int) -> list[str]:
        """The n phrases of greatest correlation; see `Describer`."""
        if len(pairs) < 4:
            return []
        more = self._more(pairs)
        centred = more - more.mean(axis=0)
        length = np.sqrt((centred**2).sum(axis=0))
        away = activation - activation.mean()
        together = np.divide(away @ centred, length, out=np.zeros_like(length), where=length > 0)
        order = np.argsort(-np.abs(together), kind="stable")[:n]
        return [phrases.names()[place] for place in order if together[place] != 0]

    def compare(self, description: str, pairs: Pairs, *, seed: int) -> Floats:
        """By the measure of the phrase; see `Describer`."""
        return np.asarray(self._more(pairs)[:, phrases.names().index(description)])

    def _more(self, pairs: Pairs) -> Floats:
        """Sign of the difference in each attribute, [pairs, attributes]."""
        new = list(dict.fromkeys(text for pair in pairs for text in pair if text not in self._known))
        self._known |= dict(zip(new, phrases.measured(new), strict=True))
        if not pairs:
            return np.empty((0, len(phrases.names())))
        one, other = (np.stack([self._known[pair[side]] for pair in pairs]) for side in (0, 1))
        return np.asarray(np.sign(one - other), dtype=np.float64)


class _Attribute(pydantic.BaseModel):
    attribute: str


class _Which(pydantic.BaseModel):
    more: Literal["A", "B", "tie"]


class ByChat:
    """Names from a chat model, which then judges pairs by them without seeing the feature.

    Args:
        chat: who names and judges; `penchant.chat.Cached` remembers what was answered.
        n_examples: pairs shown for a proposal, from the strongest twentieth.

    A response is shown up to its 128th word. Which response is called A is drawn anew for each judgement.
    """

    def __init__(self, chat: ChatModel, *, n_examples: int = 8):
        self.chat, self.n_examples = chat, n_examples

    @property
    def name(self) -> str:
        """The chat model's."""
        return self.chat.name

    def n_calls(self, n_features: int, *, n_candidates: int = 5, n_measured: int = 300) -> int:
        """How often the chat model will be asked at least; failed answers are asked for again."""
        return n_features * n_candidates * (1 + n_measured)

    def propose(self, pairs: Pairs, activation: Floats, *, n: int, seed: int) -> list[str]:
        """One attribute for each of n draws of strong pairs; a draw without an answer gives none; see `Describer`."""
        strong = np.argsort(-np.abs(activation))[: max(self.n_examples, round(_STRONGEST * len(pairs)))]
        found = []
        for draw in range(n if len(strong) else 0):
            rng = np.random.default_rng([seed, draw])
            rows = rng.permutation(strong)[: self.n_examples]
            shown = [pairs[row] if activation[row] > 0 else pairs[row][::-1] for row in rows]
            examples = "\n\n".join(
                f"Pair {number}\nA: {_cut(a)}\nB: {_cut(b)}" for number, (a, b) in enumerate(shown, start=1)
            )
            asked = (
                "Each pair holds two responses to one prompt. Name one concrete attribute that the A responses have "
                f"and the B responses lack, in at most ten words that begin with a verb.\n\n{examples}"
            )
            try:
                answer = structured(self.chat, [{"role": "user", "content": asked}], _Attribute, seed=seed + draw)
            except ChatError:
                continue
            found.append(" ".join(answer.attribute.split()))
        return [text for text in found if text]

    def compare(self, description: str, pairs: Pairs, *, seed: int) -> Floats:
        """By asking of each pair; see `Describer`."""
        turned = np.random.default_rng(seed).random(len(pairs)) < 0.5
        said = [
            self._which(description, *reversed(pair)) if turn else self._which(description, *pair)
            for pair, turn in zip(pairs, turned, strict=True)
        ]
        return np.asarray(said, dtype=np.float64) * np.where(turned, -1, 1)

    def _which(self, description: str, a: str, b: str) -> float:
        asked = f"Which response has more of this attribute: {description}?\n\nA: {_cut(a)}\n\nB: {_cut(b)}"
        try:
            said = structured(self.chat, [{"role": "user", "content": asked}], _Which, temperature=0.0)
        except ChatError:
            return float("nan")
        return {"A": 1.0, "B": -1.0, "tie": 0.0}[said.more]


def _cut(text: str) -> str:
    words = text.split()
    return " ".join(words) if len(words) <= _WORDS_READ else " ".join([*words[:_WORDS_READ], "…"])
