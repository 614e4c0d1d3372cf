"""What a leaderboard is compared with: the raw win rate, Elo after each vote, and a model in which ties have a part.

Pure functions on who met whom and what came of it, so that tables of methods can be made of the same votes.

Source:
    Elo (1978), The rating of chessplayers, past and present.
    Davidson (1970), On extending the Bradley-Terry model to accommodate ties in paired comparison experiments. JASA 65.

>>> first, second, result = np.array([0, 0, 1]), np.array([1, 1, 0]), np.array([1.0, 0.5, 0.0])
>>> raw_win_rate(first, second, result, 2).round(3).tolist()
[0.833, 0.167]
>>> online_elo(first, second, result, 2, step=32).round(1).tolist()
[1029.2, 970.8]
"""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import logsumexp

from penchant.errors import DataError, SettingsError
from penchant.preference.counts import Counts, abilities

Array = NDArray[np.float64]
Places = NDArray[np.int64]

_FURTHEST = 10.0  # logarithm of a tie parameter; of real votes it is between -3 and 3

_SCALE, _CENTRE = 400.0, 1000.0


def raw_win_rate(first: Places, second: Places, result: Array, n_systems: int) -> Array:
    """Share of its votes that each system won, ties as half, whoever it met.

    Args:
        first: one system of each vote, int64[votes].
        second: the other.
        result: 1 for the first, 0 for the second, 0.5 for a tie, [votes].
        n_systems: how many there are.

    Returns:
        In [0, 1], [systems]; NaN for a system without votes.
    """
    ends = np.concatenate([first, second])
    won = np.bincount(ends, np.concatenate([result, 1 - result]), n_systems)
    played = np.bincount(ends, minlength=n_systems)
    return np.asarray(np.divide(won, played, out=np.full(n_systems, np.nan), where=played > 0))


def online_elo(first: Places, second: Places, result: Array, n_systems: int, *, step: float = 4.0) -> Array:
    """Ratings after each vote moved both systems: what came last counts most, and another order gives others.

    Args:
        first: one system of each vote, in order of time, int64[votes].
        second: the other.
        result: 1 for the first, 0 for the second, 0.5 for a tie, [votes].
        n_systems: how many there are.
        step: K, points that a certain surprise moves; arenas took 4, chess 32.

    Returns:
        Points, all starting from 1000, [systems].

    Raises:
        SettingsError: `step` is not positive.
    """
    if not step > 0:
        raise SettingsError(f"step must be above 0: got {step!r}.")
    rating = [_CENTRE] * n_systems
    for i, j, won in zip(first.tolist(), second.tolist(), result.tolist(), strict=True):
        move = step * (won - 1 / (1 + 10.0 ** ((rating[j] - rating[i]) / _SCALE)))
        rating[i] += move
        rating[j] -= move
    return np.array(rating)


def davidson(counts: Counts) -> tuple[Array, float]:
    """Abilities where a tie is an outcome of its own: P(tie) is proportional to tie sqrt(worth_i worth_j).

    Args:
        counts: votes; without a tie the tie parameter is 0 and abilities are those of Bradley and Terry.

    Returns:
        Logits (log worth) with mean zero, [systems], and the tie parameter.

    Raises:
        DataError: there is no finite fit: see `abilities`; or ties and wins fit ever better the more common ties are
            and the further systems are apart.
    """
    start = abilities(counts).abilities
    i, j = np.nonzero(np.triu(counts.wins + counts.wins.T + counts.ties))
    seen = np.stack([counts.wins[i, j], counts.wins[j, i], counts.ties[i, j]], axis=1)
    if not seen[:, 2].any():
        return start, 0.0
    n = len(start)

    def surprise(point: Array) -> tuple[float, Array]:
        """Negative log-likelihood, nats, and its slope in the abilities and the log of the tie parameter."""
        middle = (point[i] + point[j]) / 2 + point[n]
        logits = np.stack([point[i], point[j], middle], axis=1)
        total = logsumexp(logits, axis=1, keepdims=True)
        over = seen.sum(axis=1, keepdims=True) * np.exp(logits - total) - seen
        up, down = over[:, 0] + over[:, 2] / 2, over[:, 1] + over[:, 2] / 2
        slope = np.append(np.bincount(i, up, n) + np.bincount(j, down, n), over[:, 2].sum())
        return float((seen * (total - logits)).sum()), slope.astype(np.float64)

    share = seen[:, 2].sum() / max(seen[:, :2].sum(), 1.0)
    # Per vote, so that the tolerance means the same however many there are.
    found = minimize(
        lambda point: tuple(part / seen.sum() for part in surprise(point)),
        np.append(start, np.log(2 * share)),
        jac=True,
        method="BFGS",
        options={"gtol": 1e-10, "maxiter": 10_000},
    )
    # Where nothing holds it back, the tie parameter grows until the slope is lost in rounding.
    if np.abs(found.jac).max() > 1e-7 or abs(found.x[n]) > _FURTHEST:
        raise DataError(
            f"Davidson's model has no finite fit to these {int(seen.sum())} votes: some systems only won and tied "
            "against others. Get more votes between them, or take Bradley-Terry with ties as half a win."
        )
    return found.x[:n] - found.x[:n].mean(), float(np.exp(found.x[n]))
