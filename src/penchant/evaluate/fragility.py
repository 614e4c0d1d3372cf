"""How few votes, or people, a board's order hangs on: the fewest found whose removal turns two neighbours around.

Removing a vote moves the difference of two systems by about what its score weighs in it, the influence function; votes
are removed in that order until an exact refit without them has the two the other way. The number is verified: that many
votes do turn them. It is no lower bound, as another set might do with fewer; on boards small enough to try all sets the
two agree (see the test).

    theta without votes S = theta - H^-1 sum over S of x (result - p) / (1 - h)
    x = e_i - e_j,    h = p (1 - p) x' H^-1 x

Source:
    Broderick, Giordano and Meager (2020), An automatic finite-sample robustness metric: when can dropping a little data
    make a big difference? Huang, Shen, Wei and Broderick (2025), Dropping just a handful of preferences can change top
    large language model rankings. Cook and Weisberg (1982), Residuals and influence in regression (h).

>>> from penchant.evaluate.leaderboard import leaderboard
>>> from penchant.records import Battles
>>> votes = [{"system_a": "x", "system_b": "y", "outcome": outcome} for outcome in ["a"] * 10 + ["b"] * 8]
>>> swap, = fragility(leaderboard(Battles.from_rows(votes))).swaps
>>> swap.above, swap.below, swap.n_votes
('x', 'y', 3)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from penchant.evaluate.leaderboard import POINTS, Leaderboard, person_scores
from penchant.preference.counts import refits

Array = NDArray[np.float64]
Places = NDArray[np.int64]

_TURNED = -1e-7  # logits; a gap of zero turns nothing
_LEAST_PRIOR = 1e-6  # precision that keeps a fit finite where a removal takes all of a system's wins
_RIVALS = 5  # of the first, by predicted number, for whom the removal is verified
_MOST_TURNS = 80  # exact refits of one pair, with halving: enough for any number of votes
_AT_FIRST, _MANY_TIMES = 2048, 3  # kinds of units put in order, if those are predicted to close a gap so often
_NUMBERS_AT_ONCE = 1 << 18  # 2 MiB, so that a step's tables stay in the processor's cache


@dataclass(frozen=True)
class Swap:
    """Two systems, and what keeps them in their order.

    Attributes:
        above: the one with the higher score.
        below: the other.
        gap: between them, points.
        n_votes: the fewest votes found whose removal turns them around; None if removing every vote that speaks for
            the order does not.
        n_people: likewise of people, with all their votes; None also where not every vote names its person.
    """

    above: str
    below: str
    gap: float
    n_votes: int | None
    n_people: int | None


@dataclass(frozen=True)
class Fragility:
    """What the order of a board hangs on.

    Attributes:
        swaps: neighbours, from the top.
        first: of the leader and whoever could be made first with the fewest votes; None of a single system.
    """

    swaps: tuple[Swap, ...]
    first: Swap | None


def fragility(board: Leaderboard) -> Fragility:
    """The fewest votes, and people, whose removal turns neighbours around or gives another system the first place."""
    order = board.order
    pairs = np.stack([order[:-1], order[1:]], axis=1)
    rivals = np.stack([np.full(len(order) - 1, order[0]), order[1:]], axis=1)
    votes = _Votes(board)
    gaps = _gaps(board, rivals)
    expected = [path.expected(gap) for path, gap in zip(_paths(votes, rivals, gaps), gaps, strict=True)]
    rivals = rivals[np.argsort(expected, kind="stable")[:_RIVALS]]
    # Neighbours and rivals of the first share what their exact refits cost.
    asked, back = np.unique(np.concatenate([pairs, rivals]), axis=0, return_inverse=True)
    n_votes = _fewest(votes, board, asked)
    n_people = _fewest(_People(board), board, asked) if board.by_person else [None] * len(asked)
    points = (POINTS * _gaps(board, asked)).tolist()
    found = [
        Swap(board.systems[above], board.systems[below], *rest)
        for (above, below), *rest in zip(asked.tolist(), points, n_votes, n_people, strict=True)
    ]
    swaps = [found[place] for place in back.ravel()]
    never = board.n_votes + 1
    first = min(swaps[len(pairs) :], key=lambda swap: (swap.n_votes or never, swap.gap))
    return Fragility(tuple(swaps[: len(pairs)]), first)


def _gaps(board: Leaderboard, pairs: Places) -> Array:
    """Logits, [pairs]."""
    return board.fit.abilities[pairs[:, 0]] - board.fit.abilities[pairs[:, 1]]


class _Removal(Protocol):
    """What may be left out, one unit at a time; units of one kind are alike."""

    units: Array

    def influence(self, pairs: Places) -> Array:
        """By how much leaving out one unit of each kind closes each gap, logits, [pairs, kinds]."""

    def without(self, kinds: Places, units: Array) -> tuple[Places, Array, Array]:
        """Pairs of systems that lose votes, how many, and how many of those their first had won."""


class _Votes:
    """Votes: all that ended alike between the same two systems, and weigh the same, are of one kind.

    Where a person's votes share a limited weight, those that stay keep theirs; people are left out exactly.
    """

    def __init__(self, board: Leaderboard):
        first, second = board.votes.pairs
        votes, counts, self.fit = board.votes, board.votes.counts, board.fit
        self.weight: Array | float = 1.0
        if votes.per_person:
            kinds, units = np.unique(np.stack([*votes.oriented, votes.weight]), axis=1, return_counts=True)
            self.units, self.pair = units.astype(np.float64), kinds[0].astype(np.int64)
            self.result, self.weight = kinds[1], kinds[2]
            self.first, self.second = first[self.pair], second[self.pair]
            return
        numbers = np.concatenate([counts.wins[first, second], counts.wins[second, first], counts.ties[first, second]])
        some = np.flatnonzero(numbers)
        self.units = numbers[some]
        self.pair, self.result = some % len(first), np.array([1.0, 0.0, 0.5])[some // len(first)]
        self.first, self.second = first[self.pair], second[self.pair]

    def influence(self, pairs: Places) -> Array:
        found, inverse = self.fit.abilities, self.fit.covariance
        p = expit(found[self.first] - found[self.second])
        spread = np.diag(inverse)[self.first] + np.diag(inverse)[self.second] - 2 * inverse[self.first, self.second]
        left_over = self.weight * (self.result - p) / np.maximum(1 - self.weight * p * (1 - p) * spread, 1e-3)
        weight = inverse[pairs[:, 0]] - inverse[pairs[:, 1]]
        closes = weight[:, self.first]
        closes -= weight[:, self.second]
        closes *= left_over
        return closes

    def without(self, kinds: Places, units: Array) -> tuple[Places, Array, Array]:
        units = units * np.broadcast_to(self.weight, self.units.shape)[kinds]
        return self.pair[kinds], units, units * self.result[kinds]


class _People:
    """People, each with all their votes."""

    def __init__(self, board: Leaderboard):
        self.fit = board.fit
        self.games, self.won = board.votes.by_person  # the same cells in both, also where nothing was won
        self.scores = person_scores(board.votes, board.fit.abilities)
        self.units = np.ones(self.games.shape[0])

    def influence(self, pairs: Places) -> Array:
        weight = self.fit.covariance[pairs[:, 0]] - self.fit.covariance[pairs[:, 1]]
        return np.ascontiguousarray((self.scores @ weight.T).T)

    def without(self, kinds: Places, units: Array) -> tuple[Places, Array, Array]:
        games, won = self.games[kinds], self.won[kinds]
        return games.indices.astype(np.int64), games.data, won.data


@dataclass(frozen=True)
class _Path:
    """In which order units are left out to close one gap.

    Attributes:
        kinds: those that close it, the most influential first.
        units: of these kinds and all before, running sum.
        closed: of the gap by then, as predicted, logits, running sum.
    """

    kinds: Places
    units: Array
    closed: Array

    def expected(self, gap: float) -> float:
        """Units that are predicted to close a gap; infinite if all together do not."""
        at = int(np.searchsorted(self.closed, gap, side="right"))
        if at == len(self.closed):
            return np.inf
        units, closed = (self.units[at - 1], self.closed[at - 1]) if at else (0.0, 0.0)
        each = (self.closed[at] - closed) / (self.units[at] - units)
        return float(min(units + np.floor((gap - closed) / each) + 1, self.units[at]))

    def by(self, n: float) -> float:
        """How much n units are predicted to close."""
        return float(np.interp(n, np.append(0.0, self.units), np.append(0.0, self.closed)))

    def of(self, n: float) -> tuple[Places, Array]:
        """The kinds of the first n units, and how many of each."""
        at = int(np.searchsorted(self.units, n))
        each = np.diff(self.units[: at + 1], prepend=0.0)
        each[-1] -= self.units[at] - n
        return self.kinds[: at + 1], each


def _paths(removal: _Removal, pairs: Places, gaps: Array, *, whole: bool = False) -> list[_Path]:
    """A path for each pair, without its end (unless `whole`) where its start is predicted to close the gap often."""
    paths = []
    for closes, gap in zip(removal.influence(pairs), gaps, strict=True):
        kinds = np.arange(len(closes))
        if len(closes) > 2 * _AT_FIRST and not whole:  # putting all in order would take longer than everything else
            kinds = np.argpartition(closes, -_AT_FIRST)[-_AT_FIRST:]
            if removal.units[kinds] @ np.maximum(closes[kinds], 0.0) < _MANY_TIMES * gap:
                kinds = np.arange(len(closes))
        kinds = kinds[closes[kinds] > 0]
        kinds = kinds[np.argsort(-closes[kinds], kind="stable")]
        units = removal.units[kinds]
        paths.append(_Path(kinds, np.cumsum(units), np.cumsum(units * closes[kinds])))
    return paths


def _fewest(removal: _Removal, board: Leaderboard, pairs: Places, *, whole: bool = False) -> list[int | None]:
    """The fewest units, along each pair's path, without which an exact refit has the pair the other way around."""
    gap = _gaps(board, pairs)
    paths = _paths(removal, pairs, gap, whole=whole)
    most = np.array([path.units[-1] if len(path.units) else 0.0 for path in paths])
    low, high = np.zeros(len(pairs)), np.full(len(pairs), np.inf)  # most units that do not turn a pair, fewest that do
    tried = np.array([min(path.expected(one), end) for path, one, end in zip(paths, gap, most, strict=True)])
    for turn in range(_MOST_TURNS):
        open_ = np.flatnonzero((low < most) & (high - low > 1))
        if not len(open_):
            break
        left = _gaps_without(removal, board, pairs[open_], [paths[place].of(tried[place]) for place in open_])
        turned = left < _TURNED
        high[open_[turned]], low[open_[~turned]] = tried[open_[turned]], tried[open_[~turned]]
        for place, still in zip(open_, left, strict=True):
            top = min(high[place] - 1, most[place])
            # What is still open is closed as predicted; halving takes over where that comes too slowly.
            aim = paths[place].expected(paths[place].by(tried[place]) + still) if turn < _MOST_TURNS // 4 else np.inf
            halved = np.floor((low[place] + top) / 2)
            tried[place] = np.clip(aim if np.isfinite(aim) or top == most[place] else halved, low[place] + 1, top)
    fewest = [int(number) if np.isfinite(number) else None for number in high]
    if None in fewest and not whole and len(removal.units) > 2 * _AT_FIRST:
        never = [at for at, number in enumerate(fewest) if number is None]
        for at, number in zip(never, _fewest(removal, board, pairs[never], whole=True), strict=True):
            fewest[at] = number
    return fewest


def _gaps_without(
    removal: _Removal, board: Leaderboard, pairs: Places, removed: Sequence[tuple[Places, Array]]
) -> Array:
    """Each gap after an exact refit without some units, logits, [pairs]."""
    first, second = board.votes.pairs
    score = board.votes.counts.score
    won, games = score[first, second], (score + score.T)[first, second]
    found = np.empty(len(pairs))
    step = max(1, _NUMBERS_AT_ONCE // len(first))
    for begin in range(0, len(pairs), step):
        some = range(begin, min(begin + step, len(pairs)))
        fewer_games, fewer_won = np.tile(games[:, None], len(some)), np.tile(won[:, None], len(some))
        for column, place in enumerate(some):
            where, n, n_won = removal.without(*removed[place])
            np.subtract.at(fewer_games[:, column], where, n)
            np.subtract.at(fewer_won[:, column], where, n_won)
        again = refits(
            first,
            second,
            fewer_games,
            fewer_won,
            start=board.fit.abilities,
            covariance=board.fit.covariance,
            l2=max(board.prior, _LEAST_PRIOR),
        )
        columns = np.arange(len(some))
        found[begin : begin + step] = again[pairs[some, 0], columns] - again[pairs[some, 1], columns]
    return found
