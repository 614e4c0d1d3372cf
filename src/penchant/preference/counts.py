"""Bradley-Terry on counts: how often each item beat each other one is all that a fit needs, however many the votes.

Newton's method on a small dense table; a million votes between a hundred systems take as long as a thousand. Many
tables of the same items, such as those of a bootstrap, are fitted at once.

A tie is half a win for each side. That is an approximation to the tie model of Davidson (1970), which gives ties a
parameter of their own: abilities come out close, the probability of a tie is not modelled.

Source:
    Bradley and Terry (1952), Rank analysis of incomplete block designs. Biometrika 39.
    Hunter (2004), MM algorithms for generalized Bradley-Terry models. Annals of Statistics 32 (when a fit exists).
    Davidson (1970), On extending the Bradley-Terry model to accommodate ties. JASA 65.

>>> fit = abilities(Counts.of([0, 1], [1, 0], [3, 1], 2))  # the first won three times of four
>>> fit.abilities.round(4).tolist()  # log 3, halved each way
[0.5493, -0.5493]
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components
from scipy.special import expit

from penchant.errors import DataError, SettingsError

Array = NDArray[np.float64]
Places = NDArray[np.int64]

_LARGEST_STEP = 2.0  # logits; where an item won almost everything a full step from afar goes much too far


@dataclass(frozen=True)
class Counts:
    """What a number of votes add up to.

    Attributes:
        wins: how often the row's item beat the column's, [items, items].
        ties: how often the two were even, in both cells, [items, items].
    """

    wins: Array
    ties: Array

    @classmethod
    def of(
        cls, first: ArrayLike, second: ArrayLike, wins: ArrayLike, n_items: int, *, ties: ArrayLike = 0.0
    ) -> "Counts":
        """Add up rows.

        Args:
            first: index of an item, 0..n_items-1, int[rows].
            second: index of another, int[rows].
            wins: how often `first` beat `second`, [rows].
            n_items: number of items, at least 2.
            ties: how often the two were even, [rows] or one number for all.

        Raises:
            DataError: an index or count is wrong.
            SettingsError: there are fewer than two items.
        """
        if n_items < 2:
            raise SettingsError(f"Items are compared with each other, so there must be at least two: got {n_items!r}.")
        i, j, won = np.asarray(first), np.asarray(second), np.asarray(wins, dtype=np.float64)
        even = np.broadcast_to(np.asarray(ties, dtype=np.float64), won.shape)
        if not (i.ndim == 1 and i.shape == j.shape == won.shape):
            raise DataError(f"first, second and wins have shapes {i.shape}, {j.shape}, {won.shape}; they must agree.")
        if len(i) and not (np.issubdtype(i.dtype, np.integer) and np.issubdtype(j.dtype, np.integer)):
            raise DataError("first and second must be whole numbers.")
        i, j = i.astype(np.int64), j.astype(np.int64)
        is_count = np.isfinite(won) & (won >= 0) & np.isfinite(even) & (even >= 0)
        bad = (np.minimum(i, j) < 0) | (np.maximum(i, j) >= n_items) | (i == j) | ~is_count
        if bad.any():
            raise DataError(
                f"{bad.sum()} of {len(i)} rows, first row {np.flatnonzero(bad)[0]}, have an item outside "
                f"0..{n_items - 1}, an item against itself or a count that is negative or not finite."
            )
        cells = i * n_items + j
        table, halves = (
            np.asarray(np.bincount(cells, n, n_items**2).reshape(n_items, n_items), dtype=np.float64)
            for n in (won, even)
        )
        return cls(table, halves + halves.T)

    @property
    def score(self) -> Array:
        """Wins with half of the ties, [items, items]."""
        return self.wins + self.ties / 2

    @property
    def votes(self) -> Array:
        """Votes that each item took part in, [items]."""
        return np.asarray((self.wins + self.wins.T + self.ties).sum(axis=1))


@dataclass(frozen=True)
class Abilities:
    """Abilities of items.

    Attributes:
        abilities: logits with mean zero, [items].
        covariance: inverse Hessian at the optimum, singular along the constant vector, [items, items].
        sandwich: the same, robust to a wrong model; every vote stands for itself, [items, items].
        n_steps: Newton steps taken.
    """

    abilities: Array
    covariance: Array
    sandwich: Array
    n_steps: int

    @property
    def standard_errors(self) -> Array:
        """Of each ability against the mean of all, from the covariance, logits, [items]."""
        return np.sqrt(np.maximum(np.diag(self.covariance), 0.0))


def abilities(counts: Counts, *, l2: float = 0.0, squares: Counts | None = None) -> Abilities:
    """Mean-zero abilities of items.

    Args:
        counts: votes.
        l2: prior precision of each ability.
        squares: the same votes with their weights squared, where they have weights; the sandwich rests on these.

    Raises:
        DataError: with l2 = 0 the comparisons fall into groups that were never compared, or some items never lose to
            the others, so that no finite fit exists; or the optimum was not reached.
        SettingsError: `l2` is negative.
    """
    if not l2 >= 0:
        raise SettingsError(f"l2 must not be negative: got {l2!r}.")
    if l2 == 0:
        require_finite_fit(counts)
    found, n_steps = optimum(counts.score, l2=l2)
    p = expit(found[:, None] - found)
    covariance = _inverse(_curvature(counts.score, p, l2))
    each = squares or counts
    residual = each.wins * (1 - p) ** 2
    spread = residual + residual.T + each.ties * (0.5 - p) ** 2
    sandwich = covariance @ _laplacian(spread) @ covariance
    return Abilities(found, covariance, sandwich, n_steps)


def optimum(
    score: Array, *, l2: float = 0.0, start: Array | None = None, tolerance: float = 1e-9, max_steps: int = 100
) -> tuple[Array, int]:
    """Abilities of one table of wins (ties counted half), or of many at once.

    Args:
        score: [..., items, items].
        l2: prior precision of each ability.
        start: abilities to start from, [..., items]; all equal if None.
        tolerance: stop when no ability moves by more, logits.
        max_steps: most steps taken.

    Returns:
        Logits with mean zero, [..., items], and the steps taken.

    Raises:
        DataError: the optimum was not reached in `max_steps`.
    """
    games = score + np.swapaxes(score, -1, -2)
    won = score.sum(axis=-1)
    found = np.zeros(score.shape[:-1]) if start is None else np.broadcast_to(start, score.shape[:-1]).copy()
    for n_steps in range(max_steps + 1):
        p = expit(found[..., :, None] - found[..., None, :])
        slope = (games * p).sum(axis=-1) - won + l2 * found
        curvature = _laplacian(games * p * (1 - p), l2) + _level(games)
        step = -np.linalg.solve(curvature, slope[..., None])[..., 0]
        moved = np.abs(step).max(axis=-1, keepdims=True, initial=0.0)
        found += step * np.minimum(1.0, _LARGEST_STEP / np.maximum(moved, 1e-300))
        if (moved <= tolerance).all():
            return found - found.mean(axis=-1, keepdims=True), n_steps
    raise DataError(
        f"No optimum in {max_steps} steps for {games.shape[-1]} items: some may have won or lost everything; set l2 "
        "above 0."
    )


def refits(
    first: Places,
    second: Places,
    games: Array,
    score: Array,
    *,
    start: Array,
    covariance: Array,
    l2: float = 0.0,
    tolerance: float = 1e-8,
    max_steps: int = 40,
) -> Array:
    """Abilities of many tables that all lie near one whose abilities are known, such as those of a bootstrap.

    Steps go by the inverse Hessian of the known table (the chord method), so that a step costs no equations to solve:
    the optima are the same, each step leaves a share of the distance that is as small as the tables are alike. Tables
    that are not that near are solved by `optimum`.

    Args:
        first: one item of each pair that has met, int64[pairs].
        second: the other.
        games: how often they met, weighted, [pairs, tables].
        score: wins of `first` with half of the ties, [pairs, tables].
        start: abilities to start from, [items] or [items, tables].
        covariance: inverse Hessian of the known table, [items, items].
        l2: prior precision of each ability.
        tolerance: stop when no ability moves by more, logits.
        max_steps: by the known Hessian; what has not settled then is solved anew.

    Returns:
        Logits with mean zero, [items, tables].

    Raises:
        DataError: a table has no finite optimum.
    """
    n_items, n_tables = len(covariance), games.shape[1]
    found = np.broadcast_to(start[:, None] if start.ndim == 1 else start, (n_items, n_tables)).copy()
    rows = np.arange(len(first))
    signs, ends = np.repeat([1.0, -1.0], len(first)), np.concatenate([first, second])
    incidence = csr_array((signs, (ends, np.concatenate([rows, rows]))), shape=(n_items, len(first)))
    left, now, some_games, some_score = np.arange(n_tables), found, games, score
    far: list[int] = []
    for _ in range(max_steps):
        slope = now[second]
        slope -= now[first]
        with np.errstate(over="ignore"):  # a probability of zero is what comes of it
            np.exp(slope, out=slope)
        slope += 1
        np.divide(some_games, slope, out=slope)
        slope -= some_score
        step = covariance @ (incidence @ slope + l2 * now)
        now = now - step
        moved = np.abs(step).max(axis=0, initial=0.0)
        is_far = ~(moved <= _LARGEST_STEP)
        open_ = (moved > tolerance) & ~is_far
        if 2 * open_.sum() <= len(left) or is_far.any():  # the rest goes on alone
            found[:, left] = now
            far += left[is_far].tolist()
            left, now, some_games, some_score = left[open_], now[:, open_], some_games[:, open_], some_score[:, open_]
        if not len(left):
            break
    far += left.tolist()
    found -= found.mean(axis=0)
    at_once = max(1, (1 << 22) // n_items**2)
    for some in np.split(np.array(far, dtype=np.int64), range(at_once, len(far), at_once)):
        tables = np.zeros((len(some), n_items, n_items))
        tables[:, first, second] = score[:, some].T
        tables[:, second, first] = (games[:, some] - score[:, some]).T
        found[:, some] = optimum(tables, l2=l2, tolerance=tolerance)[0].T
    return found


def _laplacian(weights: Array, l2: float = 0.0) -> Array:
    """Sum over pairs of weight (e_i - e_j)(e_i - e_j)', plus l2 for each item, [..., items, items]."""
    n = weights.shape[-1]
    found = -weights
    found[..., np.arange(n), np.arange(n)] += weights.sum(axis=-1) + l2
    return found


def _level(games: Array) -> Array:
    """What is added along the constant vector, in which nothing is known: as much as elsewhere, [..., items, items]."""
    n = games.shape[-1]
    amount = np.maximum(games.sum(axis=(-1, -2)) / n**2, 1.0)
    return np.asarray(amount[..., None, None] * np.ones((n, n)) / n)


def _curvature(score: Array, p: Array, l2: float) -> Array:
    games = score + score.T
    return _laplacian(games * p * (1 - p), l2)


def _inverse(curvature: Array) -> Array:
    """Inverse on the abilities that add up to zero."""
    n = len(curvature)
    level = np.full((n, n), 1 / n)
    size = float(np.trace(curvature)) / n
    inverse = np.linalg.inv(curvature + size * level)
    centre = np.eye(n) - level
    return np.asarray(centre @ inverse @ centre)


def require_finite_fit(counts: Counts) -> None:
    """Refuse tables whose abilities have no finite optimum.

    Raises:
        DataError: the items fall into groups never compared, or some always win against all others.
    """
    groups = compared_groups(counts)
    if len(groups) > 1:
        parts = "; ".join(map(str, groups))
        raise DataError(f"The comparison graph is disconnected: items {parts} are never compared; add pairs or l2 > 0.")
    n_groups, group = _components(counts, "strong")
    if n_groups > 1:
        winner, loser = np.nonzero(counts.score)
        beaten = set(group[loser[group[winner] != group[loser]]].tolist())
        top = [k for k in range(len(group)) if int(group[k]) not in beaten]
        raise DataError(f"Items {top} always win against all others, so abilities are without bound; set l2 > 0.")


def compared_groups(counts: Counts) -> list[list[int]]:
    """Items that are connected by comparisons, group by group; one group is what a fit needs."""
    n_groups, group = _components(counts, "weak")
    return [np.flatnonzero(group == number).tolist() for number in range(n_groups)]


def _components(counts: Counts, connection: str) -> tuple[int, NDArray[np.int64]]:
    n_groups, group = connected_components(csr_array(counts.score > 0), directed=True, connection=connection)
    return int(n_groups), np.asarray(group)
