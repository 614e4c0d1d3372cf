r"""Individual item fairness: does every item of a catalogue get its share of what people are shown?

Exposure-based measures of top-k recommendations in their original and their corrected form. Most originals cannot reach
their fair or unfair end for a given number of users, items and places, so that their values cannot be read or compared;
the corrected form is 0 and 1 at the ends that can be reached. Each value comes with its direction, and where there is
none, with the reason. All are computed from counts, which add up over shards of users.

- What says little: II-D depends on users' lists only through their length, so it cannot compare recommenders. FSat is 1
  whatever is shown while there are fewer places than items. VoCD looks at shown items only, so that the same items for
  everybody are perfectly fair to it. The fair end of corrected Gini-w is a bound that may not be reachable where there
  are more places than items.
- What we found: the published correction of FSat takes the same k items for everybody for the least fair lists. They
  are not once m <= (q - 1) (n - k + 1), for m users, n items, k places and a share of q; then it falls below 0, to
  -(k - 1) / (n - k) at worst. `fewest_satisfied` has the end that is reached. We keep the published form and say so.
- What a measure costs: items that got equally much are taken together, so that after counting (one pass over the lists)
  every measure is a sum over the few different amounts; VoCD's pairs of items and II-D's pairs of user and item, too.

Source:
    Rampisela, Maistro, Ruotsalo and Lioma (2024), Evaluation measures of individual item fairness for recommender
    systems: a critical study. ACM TORS. Jain et al. (1984) for Jain's index.

>>> lists = [[0, 1], [0, 1], [2, 3]]  # two of eight items for two users, two others for the third
>>> found = measures(exposure(lists, n_items=8))
>>> round(found["QF_our"].value, 3), round(found["Gini_our"].value, 3), found["Gini_our"].fairest
(0.5, 0.667, 0.0)
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from penchant.errors import DataError, SettingsError

Array = NDArray[np.float64]
Counts = NDArray[np.int64]

CORRECTED = ("Jain", "QF", "Ent", "Gini", "Gini-w", "FSat")
"""Measures that have a corrected form, `_our`, besides the original one, `_ori`."""

LOWER_IS_FAIRER = ("Gini", "Gini-w", "VoCD", "II-D", "AI-D")
"""Measures whose value is 0 for perfectly fair lists; that of all others is 1."""

_ROUNDING = 1e-12  # corrected values may leave [0, 1] by so much, and are put back


# What items got ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Exposure:
    """What items of a catalogue got of some users' lists; those of several shards of users add up.

    Attributes:
        by_rank: how often each item is shown at each rank, int64[items, k].
        n_users: lists.
    """

    by_rank: Counts
    n_users: int

    def __add__(self, other: "Exposure") -> "Exposure":
        """Of the users of both.

        Raises:
            DataError: catalogues or lengths of lists differ.
        """
        if self.by_rank.shape != other.by_rank.shape:
            raise DataError(
                f"Lists of {self.k} out of {self.n_items} items cannot be added to those of {other.k} out of "
                f"{other.n_items}."
            )
        return Exposure(self.by_rank + other.by_rank, self.n_users + other.n_users)

    @property
    def k(self) -> int:
        """Places in a list."""
        return int(self.by_rank.shape[1])

    @property
    def n_items(self) -> int:
        """Items in the catalogue, those never shown among them."""
        return len(self.by_rank)

    @property
    def size(self) -> "Size":
        """Users, items and places."""
        return Size(self.n_users, self.n_items, self.k)

    def counts(self) -> Counts:
        """How often each item is shown, int64[items]."""
        return np.asarray(self.by_rank.sum(axis=1))


class Size(NamedTuple):
    """How many lists of how many places out of how many items.

    >>> Size(n_users=4, n_items=7, k=6).share
    (3, 3)
    """

    n_users: int
    n_items: int
    k: int

    @property
    def places(self) -> int:
        """Places in all lists together."""
        return self.n_users * self.k

    @property
    def share(self) -> tuple[int, int]:
        """(q, r): all items can be shown q times each, and r of them once more."""
        return divmod(self.places, self.n_items)


class Levels(NamedTuple):
    """How many items got how much, from the least to the most.

    Attributes:
        amount: different amounts, ascending, [levels].
        items: how many items got each, int64[levels].

    >>> gini(Levels.of([3, 1, 0, 0])), jain(Levels.of([3, 1, 0, 0]))
    (0.625, 0.4)
    """

    amount: Array
    items: Counts

    @classmethod
    def of(cls, amounts: ArrayLike) -> "Levels":
        """Of what each item got, [items]."""
        amount, items = np.unique(np.asarray(amounts), return_counts=True)
        return cls(amount.astype(np.float64), items.astype(np.int64))

    @classmethod
    def made_of(cls, amounts: ArrayLike, items: ArrayLike) -> "Levels":
        """Of amounts in any order with the number of items that got each; amounts of no items are left out."""
        amount, number = np.asarray(amounts, dtype=np.float64), np.asarray(items, dtype=np.int64)
        order = [place for place in np.argsort(amount, kind="stable") if number[place] > 0]
        return cls(amount[order], number[order])

    @property
    def n_items(self) -> int:
        """All items."""
        return int(self.items.sum())

    @property
    def total(self) -> float:
        """What all got together."""
        return float(self.amount @ self.items)

    def some(self) -> "Levels":
        """Those that got anything."""
        return Levels(self.amount[self.amount > 0], self.items[self.amount > 0])


def exposure(lists: ArrayLike | Sequence[Sequence[int]], n_items: int, *, first: int = 0) -> Exposure:
    """Count who is shown where.

    Args:
        lists: numbers of items, best first, of equal length, none twice in a list, int[users, k].
        n_items: items in the whole catalogue, also those never shown, but no padding item.
        first: the number of its first item.

    Raises:
        DataError: lists differ in length, name an item twice, or name one that is not in the catalogue.
        SettingsError: `n_items` is below 1.
    """
    if n_items < 1:
        raise SettingsError(f"A catalogue has at least one item: got n_items {n_items!r}.")
    table = _table(lists) - first
    outside = (table < 0) | (table >= n_items)
    if outside.any():
        user = int(np.flatnonzero(outside.any(axis=1))[0])
        raise DataError(
            f"List {user} names item {int(table[user][outside[user]][0]) + first}, which is not among the {n_items} "
            f"items of the catalogue, {first} to {n_items - 1 + first} ({int(outside.sum())} such places). An item "
            "that only fills lists up is none of the catalogue: cut lists before it."
        )
    ordered = np.sort(table, axis=1)
    twice = (ordered[:, 1:] == ordered[:, :-1]).any(axis=1)
    if twice.any():
        raise DataError(
            f"List {int(np.flatnonzero(twice)[0])} names an item twice ({int(twice.sum())} of {len(table)} lists); the "
            "measures are about lists of different items."
        )
    m, k = table.shape
    cells = table * k + np.arange(k)
    return Exposure(np.bincount(cells.ravel(), minlength=n_items * k).reshape(n_items, k), m)


def _table(lists: ArrayLike | Sequence[Sequence[int]]) -> Counts:
    if not isinstance(lists, np.ndarray):
        lengths = {len(one) for one in lists} if isinstance(lists, Iterable) else set()  # type: ignore[arg-type]
        if len(lengths) > 1:
            raise DataError(f"Lists have {min(lengths)} to {max(lengths)} items; cut all to the same number of places.")
    table = np.asarray(lists)
    if table.ndim != 2 or not table.size:
        raise DataError(f"Lists have the shape {table.shape}; there must be at least one user and one place.")
    if not np.issubdtype(table.dtype, np.integer):
        raise DataError(f"Items are whole numbers: got {table.dtype}.")
    return table.astype(np.int64)


# The originals -------------------------------------------------------------------------------------------------------


def jain(levels: Levels) -> float:
    """Jain's index, (sum c)^2 / (n sum c^2)."""
    return float(levels.total**2 / (levels.n_items * (levels.items @ levels.amount**2)))


def qualification(levels: Levels) -> float:
    """QF: the share of items that are shown at all."""
    return levels.some().n_items / levels.n_items


def entropy(levels: Levels) -> float:
    """Entropy of what shown items got, to the base of the number of all items, which must be 2 or more."""
    some = levels.some()
    share = some.amount / some.total
    return float(-(some.items * share * np.log(share)).sum() / np.log(levels.n_items))


def gini(levels: Levels) -> float:
    """Gini's coefficient, sum_j (2 j - n - 1) c_(j) / (n sum c) over items from the least to the most."""
    n = levels.n_items
    below = np.cumsum(levels.items) - levels.items
    weight = levels.items * (2 * below + levels.items - n)  # sum of 2 j - n - 1 over the items of a level
    return float(weight @ levels.amount / (n * levels.total))


def satisfied(levels: Levels, share: int) -> float:
    """FSat: the share of items that are shown at least so often."""
    return float(levels.items[levels.amount >= share].sum() / levels.n_items)


def vocd(levels: Levels) -> float:
    """VoCD: mean of |c_i - c_j| / max(c_i, c_j) over pairs of shown items; NaN with fewer than two of them."""
    some = levels.some()
    n = some.n_items
    if n < 2:
        return float("nan")
    below = np.cumsum(some.items) - some.items
    given = some.items * some.amount
    total = some.items @ (below - (np.cumsum(given) - given) / some.amount)
    return float(total / (n * (n - 1) / 2))


def discrepancies(shown: Exposure, patience: float) -> tuple[float, float]:
    """II-D and AI-D: how far exposure by a user who goes on with some patience is from that of a random list.

    Args:
        shown: what items got.
        patience: chance that a user goes on from one place to the next, gamma.
    """
    m, n, k = shown.size
    seen = patience ** np.arange(k)
    target = seen.sum() / n
    cells = shown.by_rank.sum(axis=0) @ (seen - target) ** 2 + (m * n - m * k) * target**2
    of_items = ((shown.by_rank @ seen / m - target) ** 2).mean()
    return float(cells / (m * n)), float(of_items)


def lorenz(levels: Levels) -> tuple[Array, Array]:
    """Lorenz's curve: the share of items, from the least to the most, and the share of everything that they got.

    Returns:
        Points from (0, 0) to (1, 1), float64[levels + 1] each. Twice the area over the curve is 1 + Gini.
    """
    items = np.concatenate([[0], np.cumsum(levels.items)]) / levels.n_items
    got = np.concatenate([[0], np.cumsum(levels.items * levels.amount)]) / levels.total
    return items, got


# Ends that can be reached --------------------------------------------------------------------------------------------


def ends(size: Size) -> dict[str, tuple[float, float]]:
    """Values of the originals at the least fair and at the fairest lists of a size, as their corrections take them.

    Args:
        size: with more items than places in a list.

    Source:
        Rampisela et al. (2024), table 3.
    """
    m, n, k = size
    q, r = size.share
    same = Levels.made_of([0, m], [n - k, k])  # the same k items for everybody
    fair = Levels.made_of([q, q + 1], [n - r, r])
    weights = _rank_weights(k)
    # Every place has its own item, or nobody knows: then no inequality at all is the bound.
    apart = gini(Levels.made_of([0, *weights], [n - m * k, *[m] * k])) if m * k <= n else 0.0
    return {
        "Jain": (jain(same), jain(fair)),
        "QF": (qualification(same), qualification(fair)),
        "Ent": (entropy(same), entropy(fair)),
        "Gini": (gini(same), gini(fair)),
        "Gini-w": (gini(Levels.made_of([0, *(m * weights)], [n - k, *[1] * k])), apart),
        "FSat": (k / n, 1.0),
    }


def fewest_satisfied(size: Size) -> int:
    """The fewest items that can have their share, over all lists of a size: the true unfair end of n FSat.

    Where q >= 1, s items with their share are shown at most m times each, all others at most q - 1 times, so that
    s m + (n - s) (q - 1) >= m k = n q + r, and s >= (n + r) / (m - q + 1). Lists like that exist: any counts of at most
    m with the sum m k are those of m lists of k different items (Gale and Ryser 1957). That is below k, the number of
    the published correction, exactly if m <= (q - 1) (n - k + 1).

    Args:
        size: with more items than places in a list.

    >>> fewest_satisfied(Size(n_users=4, n_items=7, k=6))  # one item never: six items are shown to all but one user
    5
    """
    m, n, _ = size
    q, r = size.share
    return -(-(n + r) // (m - q + 1)) if q else n


def _rank_weights(k: int) -> Array:
    return np.asarray(1 / np.log2(np.arange(k) + 2))


# All of them ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Measure:
    """One measure of one set of lists.

    Attributes:
        value: NaN where it is not defined.
        fairest: the value of perfectly fair lists, 1 or 0; for originals the end they strive to.
        why_not: why there is no value, or what the value cannot say; empty if all is well.
    """

    value: float
    fairest: float
    why_not: str = ""


def measures(shown: Exposure, *, patience: float = 0.8) -> dict[str, Measure]:
    """All measures of some lists, by name; `_ori` is the original form, `_our` the corrected one.

    Args:
        shown: what items got.
        patience: chance that a user goes on from one place to the next, in [0, 1); gamma of II-D and AI-D.

    Raises:
        SettingsError: `patience` is out of range.

    Source:
        Rampisela et al. (2024), tables 1 and 3.
    """
    if not 0 <= patience < 1:
        raise SettingsError(f"patience must be in [0, 1): got {patience!r}.")
    size, levels = shown.size, Levels.of(shown.counts())
    values = {
        "Jain": jain(levels),
        "QF": qualification(levels),
        "Ent": entropy(levels) if size.n_items > 1 else 0.0,
        "Gini": gini(levels),
        "Gini-w": gini(Levels.of(shown.by_rank @ _rank_weights(size.k))),
        "FSat": satisfied(levels, size.share[0]),
    }
    remarks = _remarks(levels, size)
    reached = ends(size) if size.k < size.n_items else {}
    found: dict[str, Measure] = {}
    for name in CORRECTED:
        undefined = name == "Ent" and "Ent_ori" in remarks
        original = Measure(np.nan if undefined else values[name], fairest(name), remarks.get(f"{name}_ori", ""))
        found |= {f"{name}_ori": original, f"{name}_our": _corrected(name, values[name], reached.get(name), remarks)}
    found["VoCD_ori"] = Measure(vocd(levels), fairest("VoCD"), remarks.get("VoCD_ori", ""))
    of_users, of_items = discrepancies(shown, patience)
    found["II-D_ori"] = Measure(of_users, fairest("II-D"), remarks["II-D_ori"])
    found["AI-D_ori"] = Measure(of_items, fairest("AI-D"))
    return found


def fairest(name: str) -> float:
    """The value of perfectly fair lists, 0 or 1, of a measure without its ending."""
    return 0.0 if name in LOWER_IS_FAIRER else 1.0


def _remarks(levels: Levels, size: Size) -> dict[str, str]:
    """By name of a measure in one of its forms: why it has no value, or what its value cannot say."""
    n_shown, n = levels.some().n_items, size.n_items
    found = {"II-D_ori": "it depends on the length of lists alone: it cannot compare recommenders"}
    if n_shown < n:
        found["Ent_ori"] = f"{n - n_shown} of {n} items are never shown, and 0 log 0 has no value there"
    if n_shown < 2:
        found["VoCD_ori"] = "only one item is shown, so there is no pair of shown items"
    if size.places > n and size.n_users % n:  # else each item can be shown as often at every rank
        found["Gini-w_our"] = "the fair end is a bound that may not be reachable: there are more places than items"
    if not size.share[0]:
        why = "there are fewer places than items: every item has its share of none"
        found |= {"FSat_ori": why, "FSat_our": why}
    elif size.k < n and (fewest := fewest_satisfied(size)) < size.k:
        found["FSat_our"] = (
            f"its 0 is not the least fair: as few as {fewest} of {n} items can have their share, fewer than the "
            f"{size.k} of the published correction, so that it can fall below 0"
        )
    return found


def _corrected(name: str, value: float, reached: tuple[float, float] | None, remarks: Mapping[str, str]) -> Measure:
    """The place of a value between the ends that can be reached."""
    best = fairest(name)
    if reached is None:
        return Measure(np.nan, best, "every list shows the whole catalogue, so that nothing can be unfair")
    unfair, fair = reached
    if abs(fair - unfair) < _ROUNDING:
        return Measure(np.nan, best, "the fairest and the least fair lists of this size are the same")
    place = (value - unfair) / (fair - unfair)
    place = place if best else 1 - place
    if -_ROUNDING < place < 0 or 1 < place < 1 + _ROUNDING:
        place = float(np.clip(place, 0, 1))
    return Measure(float(place), best, remarks.get(f"{name}_our", ""))
