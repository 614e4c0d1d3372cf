"""Intervals of a leaderboard by bootstrap: the same board a thousand times, with every vote or person weighted anew.

Each resample gives every vote (every person, where votes name them) a weight drawn from the exponential distribution
and fits again: the Bayesian bootstrap. Drawing votes with replacement would at times lose a rare system, or leave it
with wins only, so that the resample orders nothing; drawing within each pair of systems keeps them, but takes a pair
that met once for certain. With weights that are never zero, every resample orders what the board orders, and a pair
that met once is as uncertain as it is. All votes of a pair that ended alike share one weight, a gamma draw, so that the
cost is that of the pairs and not of the votes.

Source:
    Rubin (1981), The Bayesian bootstrap. Annals of Statistics 9.
    Newton and Raftery (1994), Approximate Bayesian inference with the weighted likelihood bootstrap. JRSS B 56.

>>> rows = [{"system_a": "x", "system_b": "y", "outcome": outcome} for outcome in ["a"] * 60 + ["b"] * 40]
>>> from penchant.evaluate.leaderboard import leaderboard
>>> from penchant.records import Battles
>>> board = leaderboard(Battles.from_rows(rows))
>>> first = resampled_board(board, n_resamples=500)[0]
>>> first.system, first.ci_low < first.score < first.ci_high
('x', True)
"""

import numpy as np
from numpy.typing import NDArray

from penchant.errors import SettingsError
from penchant.evaluate.leaderboard import Leaderboard, Standing, require_level, standings
from penchant.preference.counts import refits

Array = NDArray[np.float64]

_NUMBERS_AT_ONCE = 1 << 18  # 2 MiB, so that a step's tables stay in the processor's cache
_TOLERANCE = 1e-6  # logits, a five-thousandth of a point


def resampled_board(
    board: Leaderboard, *, n_resamples: int = 1000, level: float = 0.95, seed: int = 0
) -> tuple[Standing, ...]:
    """Rows of a board with percentile intervals of `resampled`, best first.

    Args:
        board: whose votes are weighted anew.
        n_resamples: how often, at least 2.
        level: of the intervals, in (0, 1).
        seed: of the weights.

    Raises:
        SettingsError: a setting is out of range.
    """
    require_level(level)
    found = resampled(board, n_resamples=n_resamples, seed=seed)
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return standings(board.votes, board.fit.abilities, low, high)


def resampled(board: Leaderboard, *, n_resamples: int = 1000, seed: int = 0) -> Array:
    """Abilities in every resample, logits with mean zero, [resamples, systems]; over people where the board is.

    Raises:
        SettingsError: there are fewer than two resamples.
    """
    if n_resamples < 2:
        raise SettingsError(f"n_resamples must be at least 2: got {n_resamples!r}.")
    first, second = board.votes.pairs
    rng = np.random.default_rng(seed)
    step = max(1, _NUMBERS_AT_ONCE // max(len(first), len(board.votes.people) if board.by_person else 0))
    found = np.empty((n_resamples, len(board.systems)))
    for begin in range(0, n_resamples, step):
        n = min(step, n_resamples - begin)
        games, score = _of_people(board, n, rng) if board.by_person else _of_votes(board, n, rng)
        again = refits(
            first,
            second,
            games,
            score,
            start=board.fit.abilities,
            covariance=board.fit.covariance,
            l2=board.prior,
            tolerance=_TOLERANCE,
        )
        found[begin : begin + n] = again.T
    return found


def _of_votes(board: Leaderboard, n: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Weighted votes of each pair, and how much of that its first system won, each [pairs, resamples]."""
    first, second = board.votes.pairs
    counts = board.votes.counts
    shape = (len(first), n)
    won, lost, even = (
        # Single precision draws faster, and seven digits are enough for a random weight.
        rng.standard_gamma(np.broadcast_to(number[:, None].astype(np.float32), shape), dtype=np.float32)
        for number in (counts.wins[first, second], counts.wins[second, first], counts.ties[first, second])
    )
    return (won + lost + even).astype(np.float64), (won + even / 2).astype(np.float64)


def _of_people(board: Leaderboard, n: int, rng: np.random.Generator) -> tuple[Array, Array]:
    games, won = board.votes.by_person
    weights = rng.standard_exponential((len(board.votes.people), n))
    return np.asarray(games.T @ weights), np.asarray(won.T @ weights)
