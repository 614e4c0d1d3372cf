"""One model for all against one for each: who gains, who loses, and how many would seem to by chance alone.

A mean gain hides people. With a handful of choices per person, though, a model that changed nothing of substance would
still make a good share of people look worse; so every share here stands beside a placebo: the same data with the two
models' scores swapped at random, row by row, which is what "no effect" looks like.

>>> import numpy as np
>>> rng = np.random.default_rng(0)
>>> users, scores = np.repeat(np.arange(50), 8), rng.random((2, 400)) < 0.7
>>> report = per_user_report(users, scores[0], scores[1])
>>> report.share_worse.low < report.placebo.worse.estimate < report.share_worse.high  # nothing happened, and it shows
True
"""

from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from penchant.errors import DataError, SettingsError
from penchant.evaluate.groups import grouped
from penchant.statistics import Interval, paired_bootstrap, wilson

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_CHUNK_ELEMENTS = 1 << 22  # signs held at once, 32 MiB


@dataclass(frozen=True)
class UserGain:
    """One person.

    Attributes:
        user: who.
        n: held-out rows.
        one_for_all: mean score of the shared model on them.
        per_user: mean score of the person's own.
        gain: the difference.
    """

    user: Hashable
    n: int
    one_for_all: float
    per_user: float
    gain: float


@dataclass(frozen=True)
class Placebo:
    """What the report would say if personalising had no effect (scores of both models swapped at random per row).

    Attributes:
        worse: share of users who would seem worse: its mean and central range over swaps.
        better: share who would seem better.
        worst_decile: mean gain of the tenth of users with the lowest gain.
        p_worse: how often at least as many users seem worse as really do.
        p_better: how often at least as many seem better.
        p_gain: how often the mean gain is at least the real one.
    """

    worse: Interval
    better: Interval
    worst_decile: Interval
    p_worse: float
    p_better: float
    p_gain: float


@dataclass(frozen=True)
class PerUserReport:
    """One for all against one for each.

    Attributes:
        by_user: whether intervals resample users and so speak of people like these; of fewer than six users they
            resample rows, and speak of these people only.
        one_for_all: mean score over rows, interval by user.
        per_user: the same of the personal models.
        gain: per_user - one_for_all over rows, interval by user.
        gain_of_users: the same with every user counting once.
        share_worse: users whose own mean score fell, Wilson.
        share_better: users whose own mean score rose, Wilson.
        placebo: what these would be by chance.
        worst: the tenth of users (at least one) with the lowest gain, lowest first.
        worst_decile: their mean gain. They were picked for being low: compare with `placebo.worst_decile`, not with 0.
        users: everybody, in order of label.
    """

    by_user: bool
    one_for_all: Interval
    per_user: Interval
    gain: Interval
    gain_of_users: Interval
    share_worse: Interval
    share_better: Interval
    placebo: Placebo
    worst: tuple[UserGain, ...]
    worst_decile: float
    users: tuple[UserGain, ...]


def per_user_report(
    users: ArrayLike,
    one_for_all: ArrayLike,
    per_user: ArrayLike,
    *,
    level: float = 0.95,
    n_swaps: int = 2000,
    seed: int = 0,
) -> PerUserReport:
    """Compare two models on the same held-out rows, person by person.

    Args:
        users: whose row it is, [rows].
        one_for_all: the shared model's score of each row, higher is better (1 right, 0 wrong, 0.5 undecided; or a
            negative log loss), [rows].
        per_user: the personal model's score of the same rows, [rows].
        level: of the intervals and the placebo's range, in (0, 1).
        n_swaps: random swaps of the placebo, >= 1. Rows of one person are swapped independently of each other; if they
            depend on each other beyond what both models see, the placebo's range is too narrow.
        seed: of bootstrap and swaps.

    Raises:
        DataError: there are no rows or one user only, lengths differ, or a score is not finite.
        SettingsError: level, n_swaps or seed is out of range.
    """
    ours, shared = np.asarray(per_user, dtype=np.float64), np.asarray(one_for_all, dtype=np.float64)
    if ours.ndim != 1 or ours.shape != shared.shape:
        raise DataError(f"one_for_all and per_user must score the same rows: shapes {shared.shape}, {ours.shape}.")
    people = grouped(users, len(ours), "users")
    codes, counts = people.codes, people.counts
    if n_swaps < 1:
        raise SettingsError(f"n_swaps must be at least 1: got {n_swaps!r}.")
    by_user = len(counts) >= _FEWEST_USERS
    bootstrap = {"level": level, "seed": seed}
    by_row = bootstrap | ({"clusters": codes} if by_user else {})
    mean_all = np.bincount(codes, weights=shared) / counts
    mean_each = np.bincount(codes, weights=ours) / counts
    gains = _user_gains(ours - shared, codes, counts)
    everybody = tuple(
        UserGain(user, int(n), float(a), float(e), float(g))
        for user, n, a, e, g in zip(people.labels, counts, mean_all, mean_each, gains, strict=True)
    )
    n_worst = _decile(len(everybody))
    order = np.argsort(gains, kind="stable")[:n_worst]
    return PerUserReport(
        by_user=by_user,
        one_for_all=paired_bootstrap(shared, **by_row),  # type: ignore[arg-type]
        per_user=paired_bootstrap(ours, **by_row),  # type: ignore[arg-type]
        gain=paired_bootstrap(ours, shared, **by_row),  # type: ignore[arg-type]
        gain_of_users=paired_bootstrap(gains, **bootstrap),  # type: ignore[arg-type]
        share_worse=wilson(int((gains < 0).sum()), len(gains), level),
        share_better=wilson(int((gains > 0).sum()), len(gains), level),
        placebo=_placebo(ours - shared, codes, counts, level=level, n_swaps=n_swaps, seed=seed),
        worst=tuple(everybody[i] for i in order),
        worst_decile=float(gains[order].mean()),
        users=everybody,
    )


# Resampling two users gives three different means, whose spread says nothing.
_FEWEST_USERS = 6


def _decile(n_users: int) -> int:
    return max(1, n_users // 10)


def _user_gains(difference: Floats, codes: Ints, counts: Ints) -> Floats:
    gains = np.bincount(codes, weights=difference, minlength=len(counts)) / counts
    # Sums of thirds and tenths that should cancel leave 1e-17: that is no gain and no loss.
    return np.where(np.abs(gains) < 1e-12 * max(1.0, float(np.abs(difference).max())), 0.0, gains)


def _placebo(difference: Floats, codes: Ints, counts: Ints, *, level: float, n_swaps: int, seed: int) -> Placebo:
    """Swap the two models' scores of each row with probability 1/2 (flip the sign of its difference), many times."""
    n_users, n_worst = len(counts), _decile(len(counts))
    order = np.argsort(codes, kind="stable")
    signed = difference[order]
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    tiny = 1e-12 * max(1.0, float(np.abs(difference).max()))
    rng = np.random.default_rng(seed)
    worse, better, lowest, total = (np.empty(n_swaps) for _ in range(4))
    step = max(1, _CHUNK_ELEMENTS // len(signed))
    for start in range(0, n_swaps, step):
        stop = min(start + step, n_swaps)
        flips = rng.integers(0, 2, size=(stop - start, len(signed)), dtype=np.int8) * 2 - 1
        gains = np.add.reduceat(flips * signed, starts, axis=1) / counts  # [swaps of the chunk, users]
        worse[start:stop] = (gains < -tiny).sum(axis=1) / n_users
        better[start:stop] = (gains > tiny).sum(axis=1) / n_users
        lowest[start:stop] = np.partition(gains, n_worst - 1, axis=1)[:, :n_worst].mean(axis=1)
        total[start:stop] = gains @ counts
    real = _user_gains(difference, codes, counts)

    def at_least(simulated: Floats, observed: float) -> float:
        # What was observed is one of the possible swaps, so that no p-value is 0.
        return float((1 + (simulated >= observed - 1e-9 * max(1.0, abs(observed))).sum()) / (1 + n_swaps))

    def middle(simulated: Floats) -> Interval:
        low, high = np.quantile(simulated, [(1 - level) / 2, (1 + level) / 2])
        return Interval(float(simulated.mean()), float(low), float(high), level, n_users)

    return Placebo(
        worse=middle(worse),
        better=middle(better),
        worst_decile=middle(lowest),
        p_worse=at_least(worse, float((real < 0).mean())),
        p_better=at_least(better, float((real > 0).mean())),
        p_gain=at_least(total, float(difference.sum())),
    )
