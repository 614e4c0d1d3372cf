"""Tests and intervals of paired differences between judgements: exact where items have few values, shared resamples.

>>> round(sign_flip_p([1, 1, 1, 1, 1, 0, 0, -1]), 6)  # McNemar's exact test, 5 against 1: 2 (1 + 6) / 2^6
0.21875
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binom
from scipy.stats import t as student

from penchant.errors import DataError
from penchant.statistics import Interval, wilson

Floats = NDArray[np.float64]

_UNIT = 24  # differences that are multiples of 1 / 24 are counted exactly: halves, thirds, quarters, sixths, eighths
_ELEMENTS = 1 << 22  # of the table of resamples held at once, 32 MiB


def sign_flip_p(differences: ArrayLike) -> float:
    """Two-sided p-value that paired differences are symmetric about 0.

    Exact, by the distribution of the sum under all flips of signs, where differences are multiples of 1/24 (judgements
    that name options, averaged over a few); of -1, 0 and 1 this is McNemar's exact test. Otherwise Student's.

    Args:
        differences: of each independent unit, [n], n >= 2.

    Raises:
        DataError: there are fewer than two, or one is not finite.

    Source:
        McNemar 1947; Pitman 1937 (randomisation).
    """
    d = np.asarray(differences, dtype=np.float64)
    if d.ndim != 1 or len(d) < 2 or not np.isfinite(d).all():
        raise DataError(f"A paired test needs at least two finite differences: got shape {d.shape}.")
    steps = np.round(d * _UNIT)
    if np.abs(d * _UNIT - steps).max() < 1e-9:
        return _exact(steps.astype(np.int64))
    spread = float(d.std(ddof=1))
    if spread == 0:
        return _exact(np.sign(d).astype(np.int64))
    size = abs(float(d.mean())) / spread * np.sqrt(len(d))
    return float(2 * student.sf(size, len(d) - 1))


def _exact(steps: NDArray[np.int64]) -> float:
    sizes, counts = np.unique(np.abs(steps[steps != 0]), return_counts=True)
    if not len(sizes):
        return 1.0
    unit = int(np.gcd.reduce(sizes))
    chance = np.ones(1)
    for size, count in zip(sizes // unit, counts, strict=True):
        # Sum of `count` flips of one size: size * (2 Binomial - count), on a grid of that step.
        own = np.zeros(2 * int(size) * int(count) + 1)
        own[:: 2 * int(size)] = binom.pmf(np.arange(count + 1), count, 0.5)
        chance = np.convolve(chance, own)
    reach = (len(chance) - 1) // 2
    size = abs(int(steps.sum())) // unit
    return float(min(1.0, chance[reach + size :].sum() + chance[: reach - size + 1].sum())) if size else 1.0


def holm(p: Sequence[float]) -> list[float]:
    """p-values corrected for their number, by Holm's step-down; each is at least what it was.

    Source:
        Holm 1979, "A simple sequentially rejective multiple test procedure".

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    values = np.asarray(p, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    times = len(values) - np.arange(len(values))
    corrected = np.empty(len(values))
    corrected[order] = np.minimum(np.maximum.accumulate(times * values[order]), 1.0)
    return [float(one) for one in corrected]


def intervals(
    values: Floats, among: Floats, *, level: float = 0.95, n_resamples: int = 10_000, seed: int = 0
) -> list[Interval]:
    """Percentile bootstraps of sum(values) / sum(among) of every column, all from the same resamples of rows.

    Values lie in [-1, 1], as shares and their differences do. Where all rows of a mean are alike a bootstrap has no
    width: there it is Wilson's bound for what none of n rows did.

    Args:
        values: float64[n, quantities].
        among: float64[n, quantities]; all 1 for means.
        level: of each interval.
        n_resamples: of the rows, >= 1.
        seed: of the resamples.

    Raises:
        DataError: there are fewer than two rows.
    """
    n, width = values.shape
    if n < 2:
        raise DataError(f"{n} rows, of which a bootstrap needs two at the least.")
    rng = np.random.default_rng([7, seed])
    means = np.empty((n_resamples, width))
    step = max(1, _ELEMENTS // n)
    for start in range(0, n_resamples, step):
        stop = min(start + step, n_resamples)
        weights = rng.multinomial(n, np.full(n, 1 / n), size=stop - start).astype(np.float64)
        below = weights @ among
        means[start:stop] = np.divide(weights @ values, below, out=np.full(below.shape, np.nan), where=below > 0)
    measured = np.isfinite(means).any(axis=0)
    low, high = np.full((2, width), np.nan)
    ends = np.nanquantile(means[:, measured], [(1 - level) / 2, (1 + level) / 2], axis=0)
    low[measured], high[measured] = ends
    total = among.sum(axis=0)
    estimate = np.divide(values.sum(axis=0), total, out=np.full(width, np.nan), where=total > 0)
    nothing = wilson(0, n, level).high
    still = (np.ptp(values, axis=0) < 1e-12) & (np.ptp(among, axis=0) < 1e-12)
    low, high = np.where(still, estimate - nothing, low), np.where(still, estimate + nothing, high)
    low, high = np.clip(low, -1, 1), np.clip(high, -1, 1)
    return [Interval(float(e), float(a), float(b), level, n) for e, a, b in zip(estimate, low, high, strict=True)]
