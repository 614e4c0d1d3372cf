"""Calibration: when a model says 70 %, does it happen seven times in ten, and what single number would mend it?

>>> table = reliability([0.9] * 10 + [0.1] * 10, [1] * 7 + [0] * 3 + [0] * 10, bins=2)
>>> [(round(b.predicted, 2), b.observed.estimate, b.n) for b in table.bins], round(table.expected_error, 3)
([(0.1, 0.0, 10), (0.9, 0.7, 10)], 0.15)
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import expit, logit
from scipy.stats import rankdata

from penchant.errors import DataError, SettingsError
from penchant.evaluate.groups import grouped
from penchant.evaluate.ranking_accuracy import equal_mass_bins
from penchant.evaluate.win_rate import score_interval
from penchant.statistics import Interval, paired_bootstrap

Floats = NDArray[np.float64]

# A probability of exactly 0 or 1 that turns out wrong would cost infinitely much; it is taken as this close to it.
_CLOSEST = float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class Bin:
    """One row of the reliability table.

    Attributes:
        low: smallest predicted probability in the bin.
        high: largest.
        predicted: mean predicted probability.
        observed: mean outcome, with an interval.
        n: examples.
    """

    low: float
    high: float
    predicted: float
    observed: Interval
    n: int


@dataclass(frozen=True)
class Reliability:
    """How predicted probabilities compare with what happened.

    Attributes:
        bins: the table, from the lowest predictions to the highest.
        expected_error: ECE, mean over examples of |predicted - observed| of their bin; above 0 by chance even for a
            perfect model, the more so the fewer examples a bin has.
        largest_error: the same of the worst bin.
        brier: mean squared error of the probabilities.
        log_loss: mean surprise, nats.
        n: examples.
    """

    bins: list[Bin]
    expected_error: float
    largest_error: float
    brier: float
    log_loss: float
    n: int


def reliability(probability: ArrayLike, outcome: ArrayLike, *, bins: int = 10, level: float = 0.95) -> Reliability:
    """Reliability table with bins of equal mass, ECE, Brier score and log loss.

    Args:
        probability: predicted, in [0, 1], [examples].
        outcome: what happened: 1, 0, or a share in between, [examples].
        bins: most bins, >= 1; equal predictions stay in one bin.
        level: of the intervals of observed rates, in (0, 1).

    Raises:
        DataError: there are no examples, lengths differ, or a value is outside [0, 1].
        SettingsError: `bins` or `level` is out of range.

    Source:
        Naeini, Cooper and Hauskrecht 2015, "Obtaining well calibrated probabilities using Bayesian binning"; bins of
        equal mass as in Nguyen and O'Connor 2015, whose ECE is less biased than that of bins of equal width.
    """
    p, y = _pairs(probability, outcome)
    table, gaps = [], []
    for rows in equal_mass_bins(p, bins):
        observed = score_interval(y[rows], level)
        table.append(Bin(float(p[rows].min()), float(p[rows].max()), float(p[rows].mean()), observed, len(rows)))
        gaps.append(abs(table[-1].predicted - observed.estimate))
    sizes = np.array([row.n for row in table])
    return Reliability(
        table,
        float(np.dot(gaps, sizes) / len(p)),
        float(max(gaps)),
        float(brier(p, y).mean()),
        float(log_loss(p, y).mean()),
        len(p),
    )


def brier(probability: ArrayLike, outcome: ArrayLike) -> Floats:
    """Squared error of each probability, in [0, 1], [examples] (Brier 1950).

    >>> brier([0.8, 0.8], [1, 0]).round(2).tolist()
    [0.04, 0.64]
    """
    p, y = _pairs(probability, outcome)
    return np.asarray((p - y) ** 2)


def log_loss(probability: ArrayLike, outcome: ArrayLike) -> Floats:
    """Surprise at each outcome, nats, [examples]; probabilities within 2.2e-16 of 0 or 1 count as that close.

    >>> log_loss([0.5, 1.0], [1, 0]).round(2).tolist()
    [0.69, 36.04]
    """
    p, y = _pairs(probability, outcome)
    p = np.clip(p, _CLOSEST, 1 - _CLOSEST)
    return np.asarray(-(y * np.log(p) + (1 - y) * np.log1p(-p)))


def auroc(scores: ArrayLike, happened: ArrayLike) -> float:
    """How often what happened is scored above what did not, ties half; NaN unless some did and some did not.

    Args:
        scores: higher is more likely, [examples].
        happened: [examples].

    >>> auroc([0.1, 0.4, 0.35, 0.8], [False, False, True, True])
    0.75
    """
    score, did = np.asarray(scores, dtype=np.float64), np.asarray(happened, dtype=bool)
    n, n_others = int(did.sum()), int((~did).sum())
    above = rankdata(score)[did].sum() - n * (n + 1) / 2  # Mann-Whitney's U
    return float(above / (n * n_others)) if n and n_others else float("nan")


def fit_temperature(logits: ArrayLike, outcome: ArrayLike, *, coldest: float = 1e-3) -> float:
    r"""The one number T for which sigma(logit / T) surprises least.

    The log loss is convex in 1 / T, so that the fit is the root of its slope. T above 1 says the model is too sure.

    Args:
        logits: log-odds that the outcome is 1, [examples].
        outcome: 1, 0, or a share in between, [examples].
        coldest: smallest temperature returned, > 0, where every logit has the right sign and more certainty always
            pays.

    Returns:
        T in [coldest, inf]; infinity where the logits point the wrong way on the whole and 1/2 is the best answer.

    Raises:
        DataError: there are no examples, lengths differ, a logit is not finite or an outcome is outside [0, 1].
        SettingsError: `coldest` is not positive.

    Source:
        Guo, Pleiss, Sun and Weinberger 2017, "On calibration of modern neural networks", section 4.2.

    >>> round(fit_temperature([2.0] * 10, [1] * 7 + [0] * 3), 3)  # 2 / logit(0.7)
    2.36
    """
    if not coldest > 0:
        raise SettingsError(f"The coldest temperature must be above 0: got {coldest!r}.")
    z = np.asarray(logits, dtype=np.float64)
    y = _pairs(np.full(z.shape, 0.5), outcome)[1]
    if not np.isfinite(z).all():
        raise DataError(f"Logits must be finite: {int((~np.isfinite(z)).sum())} of {len(z)} are not.")

    def slope(sharpness: float) -> float:
        return float(z @ (expit(sharpness * z) - y))

    if slope(0.0) >= 0:
        return float("inf")
    sharpest = 1 / coldest
    if slope(sharpest) <= 0:
        return coldest
    return float(1 / brentq(slope, 0.0, sharpest, xtol=1e-12))


@dataclass(frozen=True)
class HeldOutTemperature:
    """Temperature scaling, judged on examples it was not fitted on.

    Attributes:
        temperature: fitted on the first part.
        before: calibration of the second part as it came.
        after: calibration of the second part at that temperature.
        gain: drop in log loss on the second part, nats, interval by cluster; above 0 is better.
    """

    temperature: float
    before: Reliability
    after: Reliability
    gain: Interval


def held_out_temperature(
    probability: ArrayLike,
    outcome: ArrayLike,
    *,
    clusters: ArrayLike | None = None,
    share: float = 0.5,
    bins: int = 10,
    level: float = 0.95,
    seed: int = 0,
) -> HeldOutTemperature:
    """Fit a temperature on some clusters (users), and measure calibration before and after on the others.

    Args:
        probability: predicted, in [0, 1], [examples].
        outcome: 1, 0, or a share in between, [examples].
        clusters: user or prompt of each example; none is on both sides. Each example its own without it.
        share: of clusters to fit on, in (0, 1).
        bins: of the reliability tables.
        level: of the intervals.
        seed: of the split and the bootstrap.

    Raises:
        DataError: there are fewer than 2 clusters to measure on, or values are wrong as in `reliability`.
        SettingsError: `share` is not in (0, 1).
    """
    if not 0 < share < 1:
        raise SettingsError(f"The share to fit on must lie strictly between 0 and 1: got {share!r}.")
    p, y = _pairs(probability, outcome)
    units = grouped(clusters, len(p), "clusters")
    n = len(units.labels)
    chosen = np.random.default_rng(seed).permutation(n)[: max(1, round(share * n))]
    fitted = np.isin(units.codes, chosen)
    if n - len(chosen) < 2:
        raise DataError(f"{n} clusters leave fewer than 2 to measure on; bring more, or lower `share`.")
    z = logit(np.clip(p, _CLOSEST, 1 - _CLOSEST))
    temperature = fit_temperature(z[fitted], y[fitted])
    cooled = expit(z / temperature)
    rest = ~fitted
    return HeldOutTemperature(
        temperature,
        reliability(p[rest], y[rest], bins=bins, level=level),
        reliability(cooled[rest], y[rest], bins=bins, level=level),
        paired_bootstrap(
            log_loss(p[rest], y[rest]),
            log_loss(cooled[rest], y[rest]),
            clusters=units.codes[rest],
            level=level,
            seed=seed,
        ),
    )


def _pairs(probability: ArrayLike, outcome: ArrayLike) -> tuple[Floats, Floats]:
    p, y = np.asarray(probability, dtype=np.float64), np.asarray(outcome, dtype=np.float64)
    if p.ndim != 1 or p.shape != y.shape or len(p) == 0:
        raise DataError(f"One probability and one outcome per example are needed: the shapes are {p.shape}, {y.shape}.")
    for name, values in (("probability", p), ("outcome", y)):
        bad = np.flatnonzero(~((values >= 0) & (values <= 1)))
        if len(bad):
            raise DataError(
                f"{name} must lie in [0, 1]: {len(bad)} of {len(values)} do not, first at index {bad[0]} "
                f"({values[bad[0]]}). Pass probabilities (a logit goes through expit first)."
            )
    return p, y
