"""Win rates of one system against another: with ties as halves, per user and group, peeked at, and freed of length.

An outcome is a number in [0, 1] per comparison: 1 if ours won, 0.5 for a tie, 0 if the other won; a judge's probability
is an outcome too. Comparisons of one prompt (or by one user) go up and down together: give them as `clusters`.

>>> rate = paired_win_rate([1, 1, 0.5, 0, 1, 1])
>>> rate.interval.estimate, (rate.n_wins, rate.n_ties, rate.n_losses)
(0.75, (4, 1, 1))
"""

from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, ndtri

from penchant.errors import DataError
from penchant.evaluate.groups import grouped
from penchant.preference.newton import newton
from penchant.statistics import Interval, anytime_interval, paired_bootstrap, wilson

Floats = NDArray[np.float64]

_STRENGTH_PRECISION = 0.1  # of the prior on a: weak, but a clean sweep stays finite


@dataclass(frozen=True)
class WinRate:
    """A win rate with its counts.

    Attributes:
        interval: of the win rate, ties counting half; its n is the number of clusters.
        n_wins: outcomes above 0.5.
        n_ties: outcomes of 0.5.
        n_losses: outcomes below 0.5.
    """

    interval: Interval
    n_wins: int
    n_ties: int
    n_losses: int


def paired_win_rate(
    outcomes: ArrayLike,
    *,
    clusters: ArrayLike | None = None,
    level: float = 0.95,
    n_resamples: int = 2000,
    seed: int = 0,
) -> WinRate:
    """Win rate over comparisons of both systems on the same prompts, with a bootstrap over clusters.

    Where all clusters agree a bootstrap has width zero whatever their number; there the interval is Wilson's over
    clusters (`score_interval`), so that three wins of three are not called certain.

    Args:
        outcomes: of each comparison, in [0, 1], [comparisons].
        clusters: prompt or user of each comparison, [comparisons]; each its own without it.
        level: of the interval, in (0, 1).
        n_resamples: of the bootstrap, >= 1.
        seed: of the bootstrap.

    Returns:
        The win rate and its counts.

    Raises:
        DataError: there are no outcomes, one is outside [0, 1], or `clusters` is of another length.
        SettingsError: level, n_resamples or seed is out of range.
    """
    scores = _outcomes(outcomes)
    units = grouped(clusters, len(scores), "clusters")
    means = np.bincount(units.codes, weights=scores) / units.counts
    if len(means) == 1 or np.ptp(means) < 1e-12:
        interval = score_interval(means, level)
    else:
        interval = paired_bootstrap(scores, clusters=units.codes, level=level, n_resamples=n_resamples, seed=seed)
    return WinRate(interval, int((scores > 0.5).sum()), int((scores == 0.5).sum()), int((scores < 0.5).sum()))


def win_rates_by(
    groups: ArrayLike, outcomes: ArrayLike, *, clusters: ArrayLike | None = None, level: float = 0.95, seed: int = 0
) -> dict[Hashable, WinRate]:
    """Win rate of every group (user, country, category), each on its own comparisons.

    Args:
        groups: label of each comparison, [comparisons].
        outcomes: of each comparison, in [0, 1], [comparisons].
        clusters: what the bootstrap resamples inside a group, [comparisons].
        level: of each interval; intervals of many groups do not all hold at once.
        seed: of the bootstrap.

    Returns:
        Group -> win rate, sorted by label.
    """
    scores = _outcomes(outcomes)
    members = grouped(groups, len(scores), "groups")
    units = grouped(clusters, len(scores), "clusters").codes
    rates = {}
    for code, label in enumerate(members.labels):
        mine = members.codes == code
        rates[label] = paired_win_rate(scores[mine], clusters=units[mine], level=level, seed=seed)
    return rates


@dataclass(frozen=True)
class RunningWinRate:
    """A win rate that may be looked at after every comparison.

    Attributes:
        mean: win rate so far, [comparisons].
        low: lower bound so far, [comparisons].
        high: upper bound so far, [comparisons].
        decided_at: how many comparisons it took until one half was excluded; None if it never was.
    """

    mean: Floats
    low: Floats
    high: Floats
    decided_at: int | None


def running_win_rate(outcomes: ArrayLike, *, level: float = 0.95) -> RunningWinRate:
    """Win rate with bounds that hold at all times at once: stop whenever they exclude one half.

    Args:
        outcomes: in order of arrival, in [0, 1], independent of each other, [comparisons].
        level: coverage over all times together, in (0, 1).

    Returns:
        Running means and bounds.

    Source:
        Waudby-Smith and Ramdas 2023, through `penchant.statistics.anytime_interval`.
    """
    scores = _outcomes(outcomes)
    low, high = anytime_interval(scores, level)
    outside = np.flatnonzero((low > 0.5) | (high < 0.5))
    mean = np.cumsum(scores) / np.arange(1, len(scores) + 1)
    return RunningWinRate(mean, low, high, int(outside[0]) + 1 if len(outside) else None)


@dataclass(frozen=True)
class LengthControlled:
    """A win rate as it would be between answers of equal length.

    Attributes:
        interval: of the controlled win rate.
        raw: the plain win rate of the same outcomes.
        length_effect: logits by which a much longer answer of ours is ahead for its length alone, with its interval.
    """

    interval: Interval
    raw: float
    length_effect: Interval


def length_controlled_win_rate(
    outcomes: ArrayLike,
    length_difference: ArrayLike,
    *,
    clusters: ArrayLike | None = None,
    l2: float = 10.0,
    level: float = 0.95,
) -> LengthControlled:
    r"""What the win rate would be if both answers were always equally long.

    $$P(\text{ours wins}) = \sigma\left(a + b\tanh\frac{\Delta}{sd(\Delta)}\right),
      \qquad \text{controlled win rate} = \sigma(a)$$

    This is AlpacaEval 2's model of length without its third term: one system's strength a and one effect b of the
    length difference, but no difficulty of each instruction (which AlpacaEval estimates from many other systems).
    Where lengths and quality go together for other reasons, controlling removes some of the quality as well.

    Args:
        outcomes: of each comparison, in [0, 1], [comparisons].
        length_difference: length of our answer minus the other's, in any one unit, [comparisons].
        clusters: prompt or user of each comparison, for intervals robust to dependence inside them.
        l2: precision of a Gaussian prior on b, 1 / logits squared, > 0. Where one side's answers are always shorter, a
            and b are hardly told apart without it. 10 was chosen on 40 models of AlpacaEval 2, where it comes within
            1.2 points of the published length-controlled rates on average (4.0 at most; raw rates are 4.6 away).
        level: of the intervals, in (0, 1).

    Returns:
        The controlled win rate; its interval is the sandwich's in logits, mapped through sigma.

    Raises:
        DataError: shapes differ, an outcome is outside [0, 1], or a length is not finite.

    Source:
        Dubois et al. 2024, "Length-controlled AlpacaEval", eq. 2 (first two terms).
    """
    scores = _outcomes(outcomes)
    difference = np.asarray(length_difference, dtype=np.float64)
    if difference.shape != scores.shape or not np.isfinite(difference).all():
        raise DataError(
            f"length_difference needs one finite number for each of {len(scores)} outcomes: its shape is "
            f"{difference.shape}, {int((~np.isfinite(difference)).sum())} are not finite."
        )
    units = grouped(clusters, len(scores), "clusters")
    spread = difference.std()
    lean = np.tanh(difference / spread) if spread > 0 else np.zeros(len(scores))
    fit = newton(
        np.column_stack([np.ones(len(scores)), lean]), scores, l2=[_STRENGTH_PRECISION, l2], clusters=units.codes
    )
    n = len(units.labels)
    # The sandwich shrinks to nothing where residuals vanish (few clusters, a clean sweep): never below the posterior.
    deviation = np.sqrt(np.maximum(np.diag(fit.sandwich), np.diag(fit.covariance)))
    half = float(ndtri((1 + level) / 2)) * deviation
    a, b = (float(weight) for weight in fit.weights)
    return LengthControlled(
        Interval(float(expit(a)), float(expit(a - half[0])), float(expit(a + half[0])), level, n),
        float(scores.mean()),
        Interval(b, b - float(half[1]), b + float(half[1]), level, n),
    )


def score_interval(scores: ArrayLike, level: float = 0.95) -> Interval:
    """Wilson's interval for a mean of scores in [0, 1], with the sum of scores rounded outward to whole successes.

    A score that may lie between 0 and 1 varies less than a coin of the same mean, so that this errs to the wide side.

    Args:
        scores: of independent units, in [0, 1], [units].
        level: in (0, 1).

    Returns:
        Interval of the mean.

    >>> interval = score_interval([1.0, 1.0, 1.0])
    >>> interval.estimate, round(interval.low, 2), interval.high
    (1.0, 0.44, 1.0)
    """
    values = _outcomes(scores)
    n, total = len(values), float(values.sum())
    low = wilson(int(np.floor(total + 1e-9)), n, level).low
    high = wilson(int(np.ceil(total - 1e-9)), n, level).high
    return Interval(total / n, low, high, level, n)


def _outcomes(outcomes: ArrayLike) -> Floats:
    scores = np.asarray(outcomes, dtype=np.float64)
    if scores.ndim != 1 or len(scores) == 0:
        raise DataError(f"Outcomes must be a list of at least one number: the shape is {scores.shape}.")
    bad = np.flatnonzero(~((scores >= 0) & (scores <= 1)))
    if len(bad):
        raise DataError(
            f"Outcomes must lie in [0, 1] (1 ours, 0.5 tie, 0 theirs): {len(bad)} of {len(scores)} do not, first at "
            f"index {bad[0]} ({scores[bad[0]]}). Map votes to these numbers, and leave out those without an answer."
        )
    return scores
