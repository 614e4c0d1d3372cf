"""Is a reaction worth learning from, does P[love] foretell what people do, and is it being played?

`signals` compares the signs that people can leave: how many replies get one, and whether those who leave more of them
also fare better in the long run. `agreement` compares what a model predicts for policies with what happened when they
were shown. `indicators` are what a policy that chases hearts gives itself away by.

>>> found = indicators(["It is 4.", "Bye for now! Take care!"])
>>> found.farewells, found.exclamations, found.words
(0.5, 1.0, 4.0)
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc
from numpy.typing import ArrayLike, NDArray

from penchant.errors import DataError
from penchant.preference.reactions import NONE, details
from penchant.records import Reactions
from penchant.statistics import Interval, weighted_bootstrap

Floats = NDArray[np.float64]

_FAREWELL = re.compile(
    r"\b(?:bye|goodbye|farewell|take care|see you|until next time|have a (?:great|lovely|nice) (?:day|time))\b",
    re.IGNORECASE,
)
_PICTURES = re.compile("[\u2600-\u27bf\U0001f300-\U0001faff]")
_SENTENCES = re.compile(r"(?<=[.!?])\s+")
_FEWEST_POLICIES = 3


@dataclass(frozen=True)
class Signal:
    """One kind of sign.

    Attributes:
        kind: its name.
        coverage: share of replies that get it.
        people: share of people who ever leave it.
        association: correlation over people between how often they leave it and the long-term outcome; NaN bounds
            where nobody differs.
    """

    kind: str
    coverage: float
    people: float
    association: Interval


def signals(reactions: Reactions, outcome: Mapping[str, float], *, seed: int = 0) -> list[Signal]:
    """Every kind of sign in a log, the one that goes most surely with the outcome first.

    Whether its sentiment is clear is for people to judge: this looks at numbers only.

    Args:
        reactions: one record for each reply shown.
        outcome: what became of each person, such as 1 for coming back within two weeks.
        seed: of the bootstrap over people.

    Raises:
        DataError: fewer than two people have both replies and an outcome.
    """
    users = np.array([user or "" for user in reactions.table["user"].to_pylist()])
    people = sorted(set(users) & set(outcome))
    if len(people) < 2:
        raise DataError(
            f"{len(people)} of {len(outcome)} people with an outcome are in the log; it takes two at least."
        )
    place = {person: number for number, person in enumerate(people)}
    codes = np.array([place.get(user, -1) for user in users])
    known = codes >= 0
    shown = np.bincount(codes[known], minlength=len(people))
    fared = np.array([outcome[person] for person in people], dtype=np.float64)
    signs = np.array(pc.utf8_lower(reactions.table["reaction"]).to_pylist())
    found = []
    for kind in sorted(set(signs.tolist()) - {NONE}):
        rate = np.bincount(codes[known], (signs == kind)[known], minlength=len(people)) / shown
        found.append(
            Signal(kind, float((signs == kind).mean()), float((rate > 0).mean()), correlation(rate, fared, seed=seed))
        )
    return sorted(found, key=lambda signal: -np.nan_to_num(signal.association.low, nan=-1.0))


def correlation(first: ArrayLike, second: ArrayLike, *, level: float = 0.95, seed: int = 0) -> Interval:
    """Pearson's r of two columns, with a bootstrap interval over rows.

    >>> correlation([1, 2, 3, 4], [2, 4, 6, 8]).estimate
    1.0
    """
    x, y = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)

    def weighted(weights: Floats) -> float:
        share = weights / weights.sum()
        dx, dy = x - share @ x, y - share @ y
        spread = np.sqrt((share @ dx**2) * (share @ dy**2))
        return round(float(share @ (dx * dy) / spread), 12) if spread > 0 else float("nan")

    return weighted_bootstrap(weighted, len(x), level=level, seed=seed)


@dataclass(frozen=True)
class Agreement:
    """Whether what was predicted for policies is what happened.

    Attributes:
        r: correlation over policies, bootstrap interval over them.
        slope: change in the observed rate for one unit of the predicted one; 1 is right.
        policies: names, in the order of the two columns below.
        predicted, observed: rate of each policy.
    """

    r: Interval
    slope: float
    policies: tuple[str, ...]
    predicted: tuple[float, ...]
    observed: tuple[float, ...]


def agreement(predicted: Mapping[str, float], observed: Mapping[str, float], *, seed: int = 0) -> Agreement:
    """Predicted against observed rates of the policies that have both.

    Raises:
        DataError: fewer than three policies have both, or all were predicted the same.
    """
    both = sorted(set(predicted) & set(observed))
    if len(both) < _FEWEST_POLICIES:
        raise DataError(f"{len(both)} policies have a predicted and an observed rate; it takes {_FEWEST_POLICIES}.")
    x, y = (np.array([rates[name] for name in both]) for rates in (predicted, observed))
    if np.ptp(x) == 0:
        raise DataError(f"All {len(both)} policies were predicted the same rate ({x[0]:.4g}): nothing can agree.")
    slope = float(((x - x.mean()) @ (y - y.mean())) / ((x - x.mean()) @ (x - x.mean())))
    return Agreement(correlation(x, y, seed=seed), slope, tuple(both), tuple(x.tolist()), tuple(y.tolist()))


def rates_by_version(reactions: Reactions, values: ArrayLike) -> dict[str, float]:
    """Mean of a column over the replies of each policy.

    Args:
        reactions: whose `extra` says the `policy_version`.
        values: of each record, such as whether it was loved, [records].

    Raises:
        DataError: no record says which policy wrote the reply.
    """
    numbers = np.asarray(values, dtype=np.float64)
    versions = [None if version is None else str(version) for version in details(reactions, "policy_version")]
    names = sorted({version for version in versions if version is not None})
    if not names:
        raise DataError(
            f"None of {len(reactions)} records says which policy wrote the reply (`policy_version` in `extra`), so "
            "what is predicted cannot be compared with what happened."
        )
    place = {name: number for number, name in enumerate(names)}
    codes = np.array([-1 if version is None else place[version] for version in versions])
    total = np.bincount(codes[codes >= 0], numbers[codes >= 0], minlength=len(names))
    return dict(zip(names, (total / np.bincount(codes[codes >= 0], minlength=len(names))).tolist(), strict=True))


@dataclass(frozen=True)
class Indicators:
    """What gives a policy away that chases reactions; compare with the policy that it started from.

    Attributes:
        words: mean length of a reply.
        exclamations: exclamation marks and pictures in a reply, mean.
        farewells: share of replies that say goodbye in their last sentence.
        same_closing: share of replies that end with the commonest last sentence.
    """

    words: float
    exclamations: float
    farewells: float
    same_closing: float


def indicators(responses: Sequence[str]) -> Indicators:
    """Indicators of a policy's replies.

    Raises:
        DataError: there are no replies.
    """
    if not responses:
        raise DataError("There are no replies to look at.")
    closings = [_SENTENCES.split(text.strip())[-1].casefold() for text in responses]
    return Indicators(
        words=float(np.mean([len(text.split()) for text in responses])),
        exclamations=float(np.mean([text.count("!") + len(_PICTURES.findall(text)) for text in responses])),
        farewells=float(np.mean([_FAREWELL.search(text) is not None for text in closings])),
        same_closing=Counter(closings).most_common(1)[0][1] / len(closings),
    )
