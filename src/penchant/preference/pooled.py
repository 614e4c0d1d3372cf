"""What everybody prefers: one linear reward, under a prior as strong as pairs of people set aside ask for.

Personal models begin here and fall back to it: `pooled` is what `BradleyTerry` learns of everybody, number for number.

>>> from penchant.encoders import Attributes
>>> from penchant.preference.votes import read_votes
>>> from penchant.records import Comparisons
>>> rows = [{"prompt": "q", "chosen": '{"x": 2}', "rejected": '{"x": 1}', "user": user} for user in ("ann", "bob")]
>>> everybody = pooled(read_votes(Attributes(), Comparisons.from_rows(rows)))
>>> everybody.weights.round(2).tolist(), everybody.scale.tolist()
([0.74], [0.5])
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from penchant.preference.newton import newton, optima
from penchant.preference.votes import Votes, first_and_place

Array = NDArray[np.float64]

STRENGTHS_OF_PRIOR = tuple(float(10.0**power) for power in np.arange(-1.0, 4.01, 1.0))
FOLDS = 3
_SHARE_SET_ASIDE = 0.3
_FEWEST_PAIRS = 30  # below this an inner split says less than a fixed prior


@dataclass(frozen=True)
class Pooled:
    """One linear reward.

    Attributes:
        weights: logits per standard deviation of each feature, [dim].
        scale: standard deviation of each feature, 1 where there is none, [dim].
        l2: precision of the prior on the weights.
    """

    weights: Array
    scale: Array
    l2: float


def pooled(votes: Votes, *, l2: float | None = None) -> Pooled:
    """The reward of everybody.

    Args:
        votes: comparisons as numbers; rows of nobody stand for themselves.
        l2: precision of the prior; None measures it on pairs of people set aside.
    """
    chosen, rejected = (votes.vectors[side].astype(np.float64) for side in (votes.chosen, votes.rejected))
    scale = spread_of(chosen, rejected)
    difference = (chosen - rejected) / scale
    strength, margin = votes.strength.astype(np.float64), votes.margin.astype(np.float64)
    near = None
    if l2 is None:
        users = np.where(votes.user < 0, len(votes.people) + np.arange(len(votes)), votes.user)
        l2, near = measured_l2(difference, strength, margin, users)
    return Pooled(newton(difference, strength, l2=l2, margin=margin, start=near).weights, scale, l2)


def spread_of(chosen: Array, rejected: Array) -> Array:
    """Standard deviation of each feature over both sides, 1 where there is none, [dim]."""
    spread = np.concatenate([chosen, rejected]).std(axis=0)
    return np.where(spread > 1e-12 * max(1.0, spread.max(initial=0.0)), spread, 1.0)


def measured_l2(difference: Array, strength: Array, margin: Array, users: NDArray[Any]) -> tuple[float, Array]:
    """The prior under which pairs of people set aside are least surprising, and the weights of the others.

    Args:
        difference: chosen minus rejected, [pairs, dim].
        strength: soft labels, [pairs].
        margin: logits the chosen must be ahead by, [pairs].
        users: whose pair it is, as anything that can be sorted, [pairs].
    """
    aside = set_aside(users)
    if aside is None:
        return 1.0, np.zeros(difference.shape[1])
    found = optima(difference[~aside], strength[~aside], STRENGTHS_OF_PRIOR, margin=margin[~aside])
    ahead = found @ difference[aside].T - margin[aside]  # [priors, pairs]
    best = int(np.argmin(surprise(ahead, strength[aside]).mean(axis=1)))
    return STRENGTHS_OF_PRIOR[best], found[best]


def surprise(logits: Array, strength: Array) -> Array:
    """Cross-entropy of soft labels under logits that the first is preferred, nats, of their common shape."""
    return np.asarray(strength * np.logaddexp(0.0, -logits) + (1 - strength) * np.logaddexp(0.0, logits))


SURELY = 2.0  # standard errors: the best of many tries seems better by one by chance alone


def least_bold(surprises: Array, *, to_leave: float = 1.0) -> int:
    """The last choice that is not clearly worse than the best one (the rule of one standard error).

    Args:
        surprises: of each person (or pair) under each choice, boldest choice first, nats, [people, choices].
        to_leave: standard errors by which the very last choice must be worse for any other to be taken. Where nothing
            is to be found, chance alone makes something look better by one in a sixth of all cases, by two in a
            fortieth.
    """
    best = int(np.argmin(surprises.sum(axis=0)))
    beyond = surprises - surprises[:, [best]]
    n, n_choices = surprises.shape
    error = beyond.std(axis=0, ddof=1) * np.sqrt(n) if n > 1 else np.zeros(n_choices)
    error[-1] *= to_leave
    return int(np.flatnonzero(beyond.sum(axis=0) <= error).max())


def apart(judged: NDArray[np.int64], fold: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which of one person's pairs are set aside in a fold, and which are used at all, each bool[pairs].

    Pairs that share responses hang together (a over b and b over c tell a over c), so no response of a pair set aside
    is in one that is left. Where pairs fall into groups that share nothing with each other (one for each prompt, say),
    a third of the pairs is set aside in whole groups, and nothing is lost. Where all hang together a third of the
    responses is set aside instead, and pairs of both parts are not used. What leaves more to learn from and to test on
    is taken.

    Args:
        judged: number of each side's response, equal for equal responses, [pairs, 2].
        fold: 0 to FOLDS - 1.
    """
    responses, places = np.unique(judged, return_inverse=True)
    first, second = places.reshape(judged.shape).T
    links = coo_array((np.ones(len(judged)), (first, second)), shape=(len(responses), len(responses)))
    group = first_and_place(connected_components(links, directed=False)[1][first])[1]  # in the order they came
    sizes = np.bincount(group)
    of_groups = ((np.cumsum(sizes) - sizes) * FOLDS // len(judged))[group] == fold
    drawn = np.random.default_rng(0).permutation(len(responses))
    aside = np.empty(len(responses), dtype=bool)
    aside[drawn] = np.arange(len(drawn)) * FOLDS // len(drawn) == fold
    inside = aside[np.stack([first, second], axis=1)]
    ways = [(of_groups, ~of_groups), (inside.all(axis=1), ~inside.any(axis=1))]
    late, early = max(ways, key=lambda way: int(way[0].sum()) * int(way[1].sum()))
    return np.asarray(late), np.asarray(late | early)


def set_aside(users: NDArray[Any]) -> NDArray[np.bool_] | None:
    """Rows of some people (or just some rows, if there is one person), the same for the same data; None if too few."""
    if len(users) < _FEWEST_PAIRS:
        return None
    people = np.unique(users)
    rng = np.random.default_rng(0)
    if len(people) < 5:
        return np.asarray(rng.random(len(users)) < _SHARE_SET_ASIDE)
    chosen = rng.permutation(people)[: max(1, round(_SHARE_SET_ASIDE * len(people)))]
    aside = np.isin(users, chosen)
    return None if aside.all() or not aside.any() else aside
