"""Which few features say most of what people prefer: logistic regression whose L1 penalty spares some columns.

The penalty is found by bisection so that exactly so many penalised columns are left. What must be held constant
(length, say) is not penalised, so that it can never be dropped in favour of something that stands for it.

Source:
    Tibshirani (1996), Regression shrinkage and selection via the lasso; Lee, Sun and Saunders (2014), Proximal
    Newton-type methods (the steps).

>>> rng = np.random.default_rng(0)
>>> x = rng.standard_normal((500, 6))
>>> few(x, (x[:, 2] - x[:, 4] > 0).astype(float), 2).tolist()
[2, 4]
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from penchant.errors import SettingsError
from penchant.preference.newton import gradient, hessian, negative_log_likelihood, newton

Array = NDArray[np.float64]

_HALVINGS = 60
_STEPS = 100
_SWEEPS = 200


def lasso(
    difference: ArrayLike,
    strength: ArrayLike,
    penalty: ArrayLike,
    *,
    start: Array | None = None,
    tolerance: float = 1e-8,
) -> Array:
    """Weights that minimise the cross-entropy of the pairs plus the sum of penalty times size of each weight.

    Args:
        difference: first option minus second, [pairs, dim].
        strength: how far the first is preferred, 0..1, [pairs].
        penalty: of each weight, nats for a unit of it, 0 for those that are not penalised, [dim].
        start: weights to begin with, [dim].
        tolerance: stop when no weight moves by more.

    Returns:
        [dim]; weights that the penalty took are exactly 0.
    """
    d, s = np.asarray(difference, dtype=np.float64), np.asarray(strength, dtype=np.float64)
    pays = np.broadcast_to(np.asarray(penalty, dtype=np.float64), (d.shape[1],))
    weights = np.zeros(d.shape[1]) if start is None else start.copy()

    def value(at: Array) -> float:
        return negative_log_likelihood(at, d, s, l2=0.0) + float(pays @ np.abs(at))

    before = value(weights)
    for _ in range(_STEPS):
        slope, curve = gradient(weights, d, s, l2=0.0), hessian(weights, d, s, l2=_FLAT)
        step = _quadratic(weights, slope, curve, pays) - weights
        size = 1.0
        while (after := value(weights + size * step)) > before + 1e-12 * abs(before) and size > 1e-6:
            size /= 2
        weights, before = weights + size * step, after
        if np.abs(step).max(initial=0.0) <= tolerance:
            break
    return weights


_FLAT = 1e-9  # a column of zeros has no curvature, and no weight


def _quadratic(weights: Array, slope: Array, curve: Array, pays: Array) -> Array:
    """The minimum of the quadratic around the weights plus the penalty, one coordinate after the other."""
    new, pull = weights.copy(), slope.copy()  # pull: gradient of the quadratic at `new`
    for _ in range(_SWEEPS):
        most = 0.0
        for k in range(len(new)):
            wanted = new[k] - pull[k] / curve[k, k]
            wanted = np.sign(wanted) * max(abs(wanted) - pays[k] / curve[k, k], 0.0)
            moved = wanted - new[k]
            if moved:
                new[k] = wanted
                pull += moved * curve[:, k]
                most = max(most, abs(moved))
        if most < 1e-10:
            break
    return new


def few(difference: ArrayLike, strength: ArrayLike, n_kept: int, *, free: ArrayLike | None = None) -> NDArray[np.int64]:
    """The columns, exactly so many if any penalty leaves that many, that tell most of what is preferred.

    Args:
        difference: first option minus second, columns of like scale, [pairs, dim].
        strength: how far the first is preferred, 0..1, [pairs].
        n_kept: columns to keep, not counting the free ones.
        free: columns that are never penalised and always there, bool[dim].

    Returns:
        Numbers of the kept columns without the free ones, in order; where columns drop out together, the largest set
        that is not larger than asked for.

    Raises:
        SettingsError: more columns are asked for than there are.
    """
    d, s = np.asarray(difference, dtype=np.float64), np.asarray(strength, dtype=np.float64)
    spared = np.zeros(d.shape[1], dtype=bool) if free is None else np.asarray(free, dtype=bool)
    if not 1 <= n_kept <= (~spared).sum():
        raise SettingsError(f"n_kept must be 1 to {(~spared).sum()}, the columns that may be kept: got {n_kept!r}.")
    weights = np.zeros(d.shape[1])
    if spared.any():
        weights[spared] = newton(d[:, spared], s, l2=_FLAT).weights
    high = float(np.abs(gradient(weights, d, s, l2=0.0))[~spared].max())  # the least penalty that leaves none
    low, best = 1e-4 * high, np.empty(0, dtype=np.int64)
    for _ in range(_HALVINGS):
        middle = float(np.sqrt(low * high))
        weights = lasso(d, s, np.where(spared, 0.0, middle), start=weights, tolerance=1e-5)
        found = np.flatnonzero((weights != 0) & ~spared)
        if len(best) < len(found) <= n_kept:
            best = found
        if len(found) == n_kept or high - low < 1e-6 * high:
            break
        low, high = (middle, high) if len(found) > n_kept else (low, middle)
    return best
