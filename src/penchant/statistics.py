"""Intervals and agreement for reported numbers: proportions, paired differences, running means and labels."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri

from penchant.errors import DataError, SettingsError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_CHUNK_ELEMENTS = 1 << 20  # drawn indices held at once, 8 MiB


@dataclass(frozen=True)
class Interval:
    """An estimate with its two-sided interval.

    Attributes:
        estimate: the point estimate.
        low: lower bound.
        high: upper bound.
        level: nominal coverage, in (0, 1).
        n: independent units the interval rests on: trials, clusters, or (nested) seeds.
    """

    estimate: float
    low: float
    high: float
    level: float
    n: int


def wilson(successes: int, n: int, level: float = 0.95) -> Interval:
    """Wilson score interval of a proportion, without continuity correction.

    Args:
        successes: number of successes, integer in [0, n].
        n: number of independent trials, integer >= 1.
        level: nominal coverage, in (0, 1).

    Returns:
        Interval of the proportion; its n is the number of trials.

    Raises:
        DataError: n is below 1, or successes is not an integer in [0, n].
        SettingsError: level is outside (0, 1).

    Source:
        Wilson 1927, "Probable inference, the law of succession, and statistical inference", JASA 22.

    >>> interval = wilson(8, 10)
    >>> round(interval.low, 4), round(interval.high, 4)
    (0.4902, 0.9433)
    """
    _check_level(level, "wilson")
    if not _is_integer(n) or n < 1:
        raise DataError(f"Trials must be an integer >= 1, in wilson's n: got {n!r}. Pass at least one trial.")
    if not _is_integer(successes) or not 0 <= successes <= n:
        raise DataError(
            f"Successes must be an integer between 0 and n, in wilson's successes: got {successes!r} of n = {n}. "
            "Pass counts, not rates, and check that both count the same trials."
        )
    z = float(ndtri((1 + level) / 2))
    share = float(successes / n)
    scale = 1 + z * z / n
    centre = (share + z * z / (2 * n)) / scale
    half = z * float(np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))) / scale
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == n else min(1.0, centre + half)
    return Interval(share, low, high, level, int(n))


def paired_bootstrap(
    ours: ArrayLike,
    baseline: ArrayLike | None = None,
    *,
    clusters: ArrayLike | None = None,
    level: float = 0.95,
    n_resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Percentile bootstrap interval of the mean of ours - baseline over records, whole clusters resampled.

    Args:
        ours: our score of each record, [records].
        baseline: the other score of the same record, [records]; without it, the mean of ours.
        clusters: label of each record's cluster (a person, a prompt), [records]; without it, each record is its own.
        level: nominal coverage, in (0, 1).
        n_resamples: number of resamples, >= 1.
        seed: seed of the random generator; the same seed gives the same interval.

    Returns:
        Interval of the mean difference; its n is the number of clusters.

    Raises:
        DataError: values are empty, not finite or mismatched in length, or there is one cluster only.
        SettingsError: level, n_resamples or seed is out of range.

    Source:
        Efron and Tibshirani 1993, "An Introduction to the Bootstrap", ch. 13 (percentile interval);
        Davison and Hinkley 1997, "Bootstrap Methods and their Application", sec. 3.8 (whole clusters).

    >>> paired_bootstrap([2.0, 3.0, 4.0, 5.0], [1.0, 2.0, 3.0, 4.0], clusters=["a", "a", "b", "b"])
    Interval(estimate=1.0, low=1.0, high=1.0, level=0.95, n=2)
    """
    where = "paired_bootstrap"
    _check_resampling(level, n_resamples, seed, where)
    values = _differences(ours, baseline, where)
    groups = np.arange(len(values)) if clusters is None else _codes(clusters, len(values), f"{where}'s clusters")
    counts = np.bincount(groups).astype(np.float64)
    sums = np.bincount(groups, weights=values)
    n = len(counts)
    if n < 2:
        raise DataError(
            f"One cluster only, in {where}'s {'ours' if clusters is None else 'clusters'}: all {len(values)} records "
            "belong to it. Bring a second cluster: one says nothing of the spread between clusters."
        )
    rng = np.random.default_rng(seed)
    means = np.empty(n_resamples)
    step = max(1, _CHUNK_ELEMENTS // n)
    for start in range(0, n_resamples, step):
        stop = min(start + step, n_resamples)
        drawn = rng.integers(n, size=(stop - start, n))  # [resamples of the chunk, clusters]
        means[start:stop] = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    return _percentile(values, means, level, n)


def weighted_bootstrap(
    statistic: Callable[[Floats], float],
    n_records: int,
    *,
    clusters: ArrayLike | None = None,
    level: float = 0.95,
    n_resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Percentile bootstrap interval of anything that can be computed of weighted records, whole clusters resampled.

    Args:
        statistic: weights of the records, how often each was drawn, float64[records] -> a number.
        n_records: how many records there are.
        clusters: label of each record's cluster, [records]; without it, each record is its own.
        level: nominal coverage, in (0, 1).
        n_resamples: number of resamples, >= 1.
        seed: of the random generator; the same seed and clusters give the same resamples to every statistic.

    Returns:
        Interval around the statistic of all records once; its n is the number of clusters. Resamples of which the
        statistic is not finite do not count; without any that is, the bounds are NaN.

    Raises:
        DataError: there is one cluster only, or not one label a record.
        SettingsError: level, n_resamples or seed is out of range.

    Source:
        Davison and Hinkley 1997, "Bootstrap Methods and their Application", sec. 3.8 (whole clusters).

    >>> weighted_bootstrap(lambda w: w @ [2.0, 2.0, 2.0] / w.sum(), 3)
    Interval(estimate=2.0, low=2.0, high=2.0, level=0.95, n=3)
    """
    where = "weighted_bootstrap"
    _check_resampling(level, n_resamples, seed, where)
    groups = np.arange(n_records) if clusters is None else _codes(clusters, n_records, f"{where}'s clusters")
    n = int(groups.max(initial=-1)) + 1
    if n < 2:
        raise DataError(f"{n} clusters of {n_records} records, in {where}: bring a second one to resample.")
    rng = np.random.default_rng(seed)
    drawn = (rng.multinomial(n, np.full(n, 1 / n))[groups].astype(np.float64) for _ in range(n_resamples))
    values = np.array([statistic(weights) for weights in drawn])
    values = values[np.isfinite(values)]
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2]) if len(values) else (np.nan, np.nan)
    return Interval(float(statistic(np.ones(n_records))), float(low), float(high), level, n)


def crossed_bootstrap(
    statistic: Callable[[Floats], float],
    first: ArrayLike,
    second: ArrayLike,
    *,
    level: float = 0.95,
    n_resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Percentile bootstrap interval where each record belongs to two crossed factors, such as a problem and a person.

    The labels of both factors are resampled independently; a record counts as often as the product says (the pigeonhole
    bootstrap). It errs to the wide side where the factors matter little.

    Args:
        statistic: weights of the records, float64[records] -> a number.
        first: label of each record by one factor, [records].
        second: label of each record by the other, [records].
        level: nominal coverage, in (0, 1).
        n_resamples: number of resamples, >= 1.
        seed: of the random generator.

    Returns:
        Interval around the statistic of all records once; its n is the number of labels of the smaller factor.
        Resamples of which the statistic is not finite do not count; without any that is, the bounds are NaN.

    Raises:
        DataError: labels are missing or mismatched in length, or a factor has one label only.
        SettingsError: level, n_resamples or seed is out of range.

    Source:
        Owen 2007, "The pigeonhole bootstrap", Annals of Applied Statistics 1.

    >>> crossed_bootstrap(lambda w: w @ [2.0, 2.0] / w.sum(), ["a", "b"], ["x", "y"], n_resamples=50).high
    2.0
    """
    where = "crossed_bootstrap"
    _check_resampling(level, n_resamples, seed, where)
    n_records = len(np.asarray(first))
    factors = [
        _codes(labels, n_records, f"{where}'s {name}") for labels, name in ((first, "first"), (second, "second"))
    ]
    counts = [int(codes.max()) + 1 for codes in factors]
    if min(counts) < 2:
        raise DataError(f"{counts[0]} and {counts[1]} labels, in {where}: each factor needs two to resample.")
    rng = np.random.default_rng(seed)
    values = np.empty(n_resamples)
    for number in range(n_resamples):
        weights = np.ones(n_records)
        for codes, n in zip(factors, counts, strict=True):
            weights *= rng.multinomial(n, np.full(n, 1 / n))[codes]
        # Where few pairs of the crossing were seen a resample may hold none of them.
        values[number] = statistic(weights) if weights.any() else np.nan
    values = values[np.isfinite(values)]
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2]) if len(values) else (np.nan, np.nan)
    return Interval(float(statistic(np.ones(n_records))), float(low), float(high), level, min(counts))


def nested_bootstrap(
    ours: ArrayLike,
    baseline: ArrayLike | None = None,
    *,
    seeds: ArrayLike,
    clusters: ArrayLike,
    level: float = 0.95,
    n_resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Two-level bootstrap interval of the mean difference: seeds resampled, then clusters within each drawn seed.

    A seed drawn c times contributes c independent resamples of its k clusters, whose counts together are one
    multinomial draw of c k. A cluster label that occurs under two seeds names two clusters.

    Args:
        ours: our score of each record, [records].
        baseline: the other score of the same record, [records]; without it, the mean of ours.
        seeds: label of the training run of each record, [records].
        clusters: label of each record's cluster within its seed, [records].
        level: nominal coverage, in (0, 1).
        n_resamples: number of resamples, >= 1.
        seed: seed of the random generator; the same seed gives the same interval.

    Returns:
        Interval of the mean difference; its n is the number of seeds.

    Raises:
        DataError: values are empty, not finite or mismatched in length, or there is one seed only.
        SettingsError: level, n_resamples or seed is out of range.

    Source:
        Davison and Hinkley 1997, "Bootstrap Methods and their Application", sec. 3.8 (both levels with replacement).

    >>> nested_bootstrap([1.0, 1.0, 1.0, 1.0], seeds=[0, 0, 1, 1], clusters=["a", "b", "a", "b"])
    Interval(estimate=1.0, low=1.0, high=1.0, level=0.95, n=2)
    """
    where = "nested_bootstrap"
    _check_resampling(level, n_resamples, seed, where)
    values = _differences(ours, baseline, where)
    outer = _codes(seeds, len(values), f"{where}'s seeds")
    inner = _codes(clusters, len(values), f"{where}'s clusters")
    n = int(outer.max()) + 1
    if n < 2:
        raise DataError(
            f"One seed only, in {where}'s seeds: all {len(values)} records belong to it. "
            "Bring a second seed, or use paired_bootstrap, whose interval holds for this one seed."
        )
    parts: list[tuple[Floats, Floats]] = []
    for code in range(n):
        mine = outer == code
        groups = np.unique(inner[mine], return_inverse=True)[1]
        parts.append(
            (np.bincount(groups, weights=values[mine]).astype(np.float64), np.bincount(groups).astype(np.float64))
        )
    rng = np.random.default_rng(seed)
    means = np.empty(n_resamples)
    step = max(1, _CHUNK_ELEMENTS // max(n, *(len(sums) for sums, _ in parts)))
    for start in range(0, n_resamples, step):
        stop = min(start + step, n_resamples)
        times = rng.multinomial(n, np.full(n, 1 / n), size=stop - start)  # [resamples of the chunk, seeds]
        total, size = np.zeros(stop - start), np.zeros(stop - start)
        for code, (sums, counts) in enumerate(parts):
            k = len(sums)
            drawn = rng.multinomial(times[:, code] * k, np.full(k, 1 / k))  # [resamples of the chunk, clusters]
            total += drawn @ sums
            size += drawn @ counts
        means[start:stop] = total / size
    return _percentile(values, means, level, n)


def anytime_interval(values: ArrayLike, level: float = 0.95) -> tuple[Floats, Floats]:
    """Predictable plug-in empirical-Bernstein confidence sequence of a mean: peek after every value, stop at will.

    With probability at least `level` the bounds hold the mean at all times at once, where each value lies in [0, 1]
    and has the same mean given those before it. Bounds are intersected over time; low > high is evidence, at error
    1 - level, that the mean was not constant.

    Args:
        values: observations in order of arrival, each in [0, 1], [times].
        level: coverage over all times together, in (0, 1).

    Returns:
        Running lower and upper bounds after each value, [times] and [times].

    Raises:
        DataError: values are empty, not finite or outside [0, 1].
        SettingsError: level is outside (0, 1).

    Source:
        Waudby-Smith and Ramdas 2023, "Estimating means of bounded random variables by betting", JRSS B 86,
        theorem 2 with its predictable plug-in (c = 1/2); bound from Howard et al. 2021, "Time-uniform,
        nonparametric, nonasymptotic confidence sequences", Annals of Statistics 49, theorem 4.

    >>> low, high = anytime_interval([0.5] * 200)
    >>> bool(low[-1] < 0.5 < high[-1]), bool(high[-1] - low[-1] < high[0] - low[0])
    (True, True)
    """
    _check_level(level, "anytime_interval")
    x = _finite(values, "anytime_interval's values")
    outside = np.flatnonzero((x < 0) | (x > 1))
    if len(outside):
        raise DataError(
            f"Values outside [0, 1], in anytime_interval's values: {len(outside)} of {len(x)}, first at index "
            f"{outside[0]} ({x[outside[0]]}). Rescale by bounds known before the data."
        )
    time = np.arange(1, len(x) + 1)
    mean = (0.5 + np.cumsum(x)) / (time + 1)
    variance = (0.25 + np.cumsum((x - mean) ** 2)) / (time + 1)
    # Predictable: what is used at time t has seen the values before t only.
    mean_before = np.concatenate(([0.5], mean[:-1]))
    variance_before = np.concatenate(([0.25], variance[:-1]))
    log_term = np.log(2 / (1 - level))
    bet = np.minimum(np.sqrt(2 * log_term / (variance_before * time * np.log1p(time))), 0.5)
    spread = (x - mean_before) ** 2 * (-np.log1p(-bet) - bet)  # v_i psi_E(bet_i); the paper's 4 and 1/4 cancel
    weight = np.cumsum(bet)
    centre = np.cumsum(bet * x) / weight
    half = (log_term + np.cumsum(spread)) / weight
    low: Floats = np.maximum.accumulate(np.maximum(centre - half, 0.0))
    high: Floats = np.minimum.accumulate(np.minimum(centre + half, 1.0))
    return low, high


def cohen_kappa(first: ArrayLike, second: ArrayLike) -> float:
    """Cohen's kappa, unweighted: agreement of two raters beyond what their label shares alone would give.

    Args:
        first: labels of one rater, [items].
        second: labels of the other rater for the same items, [items].

    Returns:
        Kappa, in [-1, 1]; 0 is agreement by chance.

    Raises:
        DataError: labels are empty, missing, mismatched in length or kind, or both raters use one same label only.

    Source:
        Cohen 1960, "A coefficient of agreement for nominal scales", Educational and Psychological Measurement 20.

    >>> cohen_kappa(["a", "a", "b", "b"], ["a", "a", "b", "a"])
    0.5
    """
    a = _labels(first, "cohen_kappa's first")
    b = _labels(second, "cohen_kappa's second")
    _check_length(len(b), len(a), "cohen_kappa's second")
    if (a.dtype.kind in "US") != (b.dtype.kind in "US"):
        raise DataError(
            f"Text labels against labels that are not text, in cohen_kappa's first and second: {a.dtype} and "
            f"{b.dtype}, {len(a)} items. Convert both to one type."
        )
    codes = _codes(np.concatenate((a, b)), 2 * len(a), "cohen_kappa's first and second")
    one, two = codes[: len(a)], codes[len(a) :]
    k = int(codes.max()) + 1
    if k == 1:
        raise DataError(
            f"Kappa is undefined where both raters use one same label, in cohen_kappa's first and second: all {len(a)} "
            "items. Bring items on which labels vary, or report raw agreement."
        )
    observed = float(np.mean(one == two))
    expected = float(np.bincount(one, minlength=k) / len(a) @ (np.bincount(two, minlength=k) / len(a)))
    return (observed - expected) / (1 - expected)


def _percentile(values: Floats, means: Floats, level: float, n: int) -> Interval:
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(values.mean()), float(low), float(high), level, n)


def _is_integer(value: object) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _check_level(level: float, where: str) -> None:
    if not 0 < level < 1:
        raise SettingsError(
            f"Level must lie strictly between 0 and 1, in {where}'s level: got {level!r}. Use 0.95 for 95 percent."
        )


def _check_resampling(level: float, n_resamples: int, seed: int, where: str) -> None:
    _check_level(level, where)
    for name, value, least in (("n_resamples", n_resamples, 1), ("seed", seed, 0)):
        if not _is_integer(value) or value < least:
            raise SettingsError(
                f"An integer >= {least} is needed, in {where}'s {name}: got {value!r}. Pass one, or leave it out."
            )


def _check_length(length: int, expected: int, where: str) -> None:
    if length != expected:
        raise DataError(
            f"Lengths differ, in {where}: {length} entries where {expected} are needed. Pass one entry per record."
        )


def _check_shape(array: NDArray[Any], where: str) -> None:
    if array.ndim != 1:
        raise DataError(f"One dimension is needed, in {where}: shape is {array.shape}. Flatten it, one entry a record.")
    if len(array) == 0:
        raise DataError(
            f"No data, in {where}: 0 entries. Check the filter or file it comes from and pass at least one."
        )


def _finite(values: ArrayLike, where: str) -> Floats:
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"Not an array of numbers, in {where}: {error}. Pass one number per record.") from error
    _check_shape(array, where)
    bad = np.flatnonzero(~np.isfinite(array))
    if len(bad):
        raise DataError(
            f"NaN or infinite values, in {where}: {len(bad)} of {len(array)}, first at index {bad[0]}. "
            "Drop those records from every argument, or repair them where they are made."
        )
    return array


def _labels(labels: ArrayLike, where: str) -> NDArray[Any]:
    array = np.asarray(labels)
    _check_shape(array, where)
    if array.dtype.kind in "fcO":
        missing = np.flatnonzero([label is None or bool(label != label) for label in array])
        if len(missing):
            raise DataError(
                f"NaN or None labels, in {where}: {len(missing)} of {len(array)}, first at index {missing[0]}. "
                "Drop those records from every argument, or label them."
            )
    return array


def _codes(labels: ArrayLike, expected: int, where: str) -> Ints:
    array = _labels(labels, where)
    _check_length(len(array), expected, where)
    try:
        return np.unique(array, return_inverse=True)[1].astype(np.int64)
    except TypeError as error:
        raise DataError(
            f"Labels of types that cannot be ordered, in {where}: {len(array)} labels ({error}). Convert to one type."
        ) from error


def _differences(ours: ArrayLike, baseline: ArrayLike | None, where: str) -> Floats:
    mine = _finite(ours, f"{where}'s ours")
    if baseline is None:
        return mine
    other = _finite(baseline, f"{where}'s baseline")
    _check_length(len(other), len(mine), f"{where}'s baseline")
    return mine - other
