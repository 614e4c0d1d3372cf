"""Between which places each system lies, for all systems at once; also for a board that is looked at day after day.

Two systems are told apart where the interval of their difference leaves out zero. A system's best place is one below
all that are surely above it, its worst one above all that are surely below. All differences hold at once with
probability `level`, and so do all places.

A board of one fixed set of votes takes the joint distribution of all differences (their largest deviation, simulated).
A board that is looked at while votes come in, and stopped when somebody likes what it shows, needs intervals that hold
at all times at once: the normal mixture in information time below, divided among all pairs. Estimates of an efficient
fit move like a Brownian motion in the information they rest on, 1 / variance; the statement is about large samples, and
the width where little is known (tightest at a standard error of 0.1 logits, 17 points) is what protects early looks.

    |difference - truth| <= se sqrt((1 + m / information) log((1 + information / m) / error^2))    at all times

`head_to_head` needs no model and no large samples: the votes of two systems alone, by betting.

Source:
    Mogstad, Romano, Shaikh and Wilhelm (2024), Inference for ranks with applications to mobility across neighbourhoods
    and academic achievement across countries. Review of Economic Studies 91 (places from differences, all at once).
    Robbins (1970), Statistical methods related to the law of the iterated logarithm; Howard et al. (2021), Annals of
    Statistics 49, eq. 14 (normal mixture); Waudby-Smith et al. (2024), Time-uniform central limit theory and asymptotic
    confidence sequences, Annals of Statistics 52; Jennison and Turnbull (1997), JASA 92 (information time).

>>> gap_error = np.array([[0.0, 0.1], [0.1, 0.0]])
>>> float(anytime_half_width(gap_error, 0.05)[0, 1].round(3))  # looked at once, 1.96 times the standard error
0.304
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import lambertw

from penchant.errors import DataError, UnknownNameError, nearest
from penchant.evaluate.leaderboard import Leaderboard, require_level
from penchant.preference.counts import compared_groups
from penchant.statistics import Interval, anytime_interval

Array = NDArray[np.float64]

_TIGHTEST = 0.1  # standard error, logits, at which anytime intervals lose least
_DRAWS = 4000
_NUMBERS_AT_ONCE = 1 << 22


@dataclass(frozen=True)
class Place:
    """Where a system may stand.

    Attributes:
        system: its name.
        best: the lowest place that the votes allow, from 1 on.
        worst: the highest.
    """

    system: str
    best: int
    worst: int


def ranks(board: Leaderboard, *, level: float = 0.95, anytime: bool = False, seed: int = 0) -> tuple[Place, ...]:
    """Places of all systems, in the order of the board.

    Args:
        board: with the covariance of its abilities.
        level: chance that all places hold, in (0, 1).
        anytime: whether they hold at all times at which a growing board is looked at, and not at this one alone.
        seed: of the simulated deviations; of no matter with `anytime`.

    Raises:
        SettingsError: `level` is not in (0, 1).
    """
    require_level(level)
    error = gap_errors(board.covariance)
    n = len(error)
    if anytime:
        half = anytime_half_width(error, (1 - level) / (n * (n - 1) / 2))
    else:
        half = error * largest_deviation(board.covariance, level, seed=seed)
    gap = board.fit.abilities[:, None] - board.fit.abilities
    above = gap > half
    above &= ~_never_compared(board)
    places = zip(board.systems, 1 + above.sum(axis=0), n - above.sum(axis=1), strict=True)
    found = {system: Place(system, int(best), int(worst)) for system, best, worst in places}
    return tuple(found[row.system] for row in board.standings)


def gap_errors(covariance: Array) -> Array:
    """Standard errors of all differences, logits, [..., systems, systems]."""
    variance = np.diagonal(covariance, axis1=-2, axis2=-1)
    return np.sqrt(np.maximum(variance[..., :, None] + variance[..., None, :] - 2 * covariance, 0.0))


def anytime_half_width(error: Array, miss: float) -> Array:
    """Half the width of intervals that hold at all times at once.

    Args:
        error: standard error of an estimate by now, logits, [...].
        miss: chance that its interval ever leaves out the truth, in (0, 1).
    """
    # The mixture is tightest at information m times -W(-miss^2 / e) - 1, W the lower branch of Lambert's function.
    mixing = 1 / _TIGHTEST**2 / (-float(lambertw(-(miss**2) / np.e, -1).real) - 1)
    information = 1 / np.maximum(error, 1e-12) ** 2
    inside = (1 + mixing / information) * (np.log1p(information / mixing) - 2 * np.log(miss))
    return np.asarray(error * np.sqrt(inside), dtype=np.float64)


def largest_deviation(covariance: Array, level: float, *, seed: int = 0) -> float:
    """How many standard errors all differences stay within at once, by simulation of abilities with this covariance."""
    values, vectors = np.linalg.eigh(covariance)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    i, j = np.triu_indices(len(covariance), 1)
    error = gap_errors(covariance)[i, j]
    rng = np.random.default_rng(seed)
    largest = []
    step = max(1, _NUMBERS_AT_ONCE // len(i))
    for begin in range(0, _DRAWS, step):
        drawn = root @ rng.standard_normal((len(root), min(step, _DRAWS - begin)))
        away = drawn[i]
        away -= drawn[j]
        away /= np.maximum(error, 1e-300)[:, None]
        largest.append(np.maximum(away.max(axis=0), -away.min(axis=0)))
    return float(np.quantile(np.concatenate(largest), level))


def _never_compared(board: Leaderboard) -> NDArray[np.bool_]:
    """Whether only the prior orders two systems, bool[systems, systems]."""
    group = np.empty(len(board.systems), dtype=np.int64)
    for number, members in enumerate(compared_groups(board.votes.counts)):
        group[members] = number
    return np.asarray(group[:, None] != group)


def head_to_head(board: Leaderboard, system: str, other: str, *, level: float = 0.95) -> Interval:
    """How often one system wins against another in their own votes, by now, at whatever time one looks.

    Args:
        board: whose votes are in order of time.
        system: a name.
        other: another name.
        level: coverage over all times together, in (0, 1).

    Returns:
        The mean with ties as half, in [0, 1]; its n is the number of their votes. No model and no large samples: the
        chance of winning must only be the same from vote to vote.

    Raises:
        UnknownNameError: no system has such a name.
        DataError: the two have never met.
    """
    places = []
    for name in (system, other):
        if name not in board.systems:
            raise UnknownNameError(f"No system is called {name!r}: {nearest(name, board.systems)}")
        places.append(board.systems.index(name))
    one, two = places
    votes = board.votes
    forward = (votes.first == one) & (votes.second == two)
    back = (votes.first == two) & (votes.second == one)
    met = forward | back
    if not met.any():
        raise DataError(f"{system!r} and {other!r} have never met in {votes.n_votes} votes.")
    won = np.where(forward, votes.result, 1 - votes.result)[met]
    low, high = anytime_interval(won, level)
    return Interval(float(won.mean()), float(low[-1]), float(high[-1]), level, len(won))
