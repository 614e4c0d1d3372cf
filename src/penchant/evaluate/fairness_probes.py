"""Probes of fairness measures: lists whose fairness is known, to see what a measure makes of them.

(a) `swaps` goes from the same items for everybody to equal shares, one place at a time: does a measure only rise, and
does it reach its ends? (b) `windows` slides along the ranks of long lists: further down, recommenders know less.
(c) `agreement` says how alike measures order recommenders. (d) `same_for_all` and `in_turns` are the extremes.

Source:
    Rampisela et al. (2024), Evaluation measures of individual item fairness for recommender systems. ACM TORS.

>>> size = Size(n_users=2, n_items=4, k=2)
>>> same_for_all(size).tolist(), in_turns(size).tolist()
([[0, 1], [0, 1]], [[0, 1], [2, 3]])
>>> [lists.tolist() for lists in swaps(size)]
[[[0, 1], [0, 1]], [[0, 1], [0, 2]], [[0, 1], [3, 2]]]
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import kendalltau

from penchant.errors import DataError, SettingsError
from penchant.evaluate.item_fairness import Measure, Size, exposure, measures

Array = NDArray[np.float64]
Lists = NDArray[np.int64]

_ROUNDING = 1e-12


def same_for_all(size: Size) -> Lists:
    """The same k items for everybody, int[users, k]."""
    return np.tile(np.arange(size.k), (size.n_users, 1))


def in_turns(size: Size) -> Lists:
    """Items one after the other, from the first again after the last, int[users, k]."""
    return np.asarray((np.arange(size.places) % size.n_items).reshape(size.n_users, size.k))


def swaps(size: Size) -> Iterator[Lists]:
    """From the same items for everybody to equal shares: each table differs from the one before in one place.

    A place of a most shown item is given to a least shown one, in the last list that has the one and not the other;
    among equals the item furthest down gives, and the first one takes.

    Yields:
        Tables, int[users, k], until no two items differ by more than one showing.
    """
    lists = same_for_all(size)
    counts = np.bincount(lists.ravel(), minlength=size.n_items)
    yield lists.copy()
    while counts.max() - counts.min() > 1:
        gives = size.n_items - 1 - int(counts[::-1].argmax())
        takes = int(counts.argmin())
        has = (lists == gives).any(axis=1) & ~(lists == takes).any(axis=1)
        user = int(np.flatnonzero(has)[-1])  # there is one: who gives is shown more often than who takes
        lists[user, lists[user] == gives] = takes
        counts[gives] -= 1
        counts[takes] += 1
        yield lists.copy()


@dataclass(frozen=True)
class Course:
    """What a measure makes of lists that become fairer step by step.

    Attributes:
        values: of each table.
        never_less_fair: whether no step between two values makes it less fair.
        largest: the largest change by one swap, as a share of the whole change; NaN if there is none.
    """

    values: tuple[float, ...]
    never_less_fair: bool
    largest: float


def courses(size: Size, *, patience: float = 0.8) -> dict[str, Course]:
    """Every measure along `swaps`, by name.

    Args:
        size: with more items than places in a list.
        patience: as for `measures`.
    """
    found = [measures(exposure(lists, size.n_items), patience=patience) for lists in swaps(size)]
    return {name: _course(name, found) for name in found[0]}


def _course(name: str, found: Sequence[Mapping[str, Measure]]) -> Course:
    fairest = found[0][name].fairest
    values = np.array([one[name].value for one in found])
    step = np.diff(values) * (1 if fairest else -1)
    whole = abs(values[-1] - values[0])
    largest = float(np.nanmax(np.abs(step)) / whole) if len(step) and whole > _ROUNDING else float("nan")
    return Course(tuple(values.tolist()), not bool((step < -_ROUNDING).any()), largest)


def windows(lists: ArrayLike, k: int, *, step: int) -> dict[int, Lists]:
    """Tables of k neighbouring ranks out of longer lists, by how many ranks stand before them.

    Raises:
        SettingsError: there are not so many places, or the step is below 1.
    """
    table = np.asarray(lists)
    if step < 1 or not 1 <= k <= table.shape[1]:
        raise SettingsError(f"Windows of {k} places in steps of {step}: lists have {table.shape[1]} places.")
    return {start: table[:, start : start + k] for start in range(0, table.shape[1] - k + 1, step)}


def agreement(values: Mapping[str, Sequence[float]]) -> Array:
    """Kendall's tau-b between measures over recommenders, [measures, measures].

    Args:
        values: name -> value of each recommender, in the direction in which it is to be read (fairer is higher).

    Returns:
        In the order of the names; NaN where a measure has no value, or the same one for all.

    Raises:
        DataError: measures are not of the same recommenders, or of fewer than two.
    """
    lengths = {len(one) for one in values.values()}
    if len(lengths) != 1 or min(lengths) < 2:
        raise DataError(f"Measures must be of the same recommenders, of two at least: got {sorted(lengths)} values.")
    # Rounding must not break ties: what is equal but for its last digits is equal.
    table = [np.round(np.asarray(one, dtype=np.float64), 12) for one in values.values()]
    found = np.full((len(table), len(table)), np.nan)
    for i, one in enumerate(table):
        for j, other in enumerate(table):
            if np.isfinite(one).all() and np.isfinite(other).all() and np.ptp(one) > 0 and np.ptp(other) > 0:
                found[i, j] = kendalltau(one, other).statistic
    return found
