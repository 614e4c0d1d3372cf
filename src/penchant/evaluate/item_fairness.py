r"""Individual item fairness: does every item of a catalogue get its share of what people are shown?

Exposure-based measures of top-k recommendations in their original and their corrected form. Most originals cannot reach
their fair or unfair end for a given number of users, items and places, so that their values cannot be read or compared;
the corrected form is 0 and 1 at the ends that can be reached. Each value comes with its direction, and where there is
none, with the reason. All are computed from counts, which add up over shards of users.

- What says little: II-D depends on users' lists only through their length, so it cannot compare recommenders. FSat is 1
  whatever is shown while there are fewer places than items, and its correction can fall below 0: the same k items for
  everybody do not always leave the fewest items with their share. VoCD looks at shown items only. The fair end of
  corrected Gini-w is a bound that may not be reachable once there are more places than items.

Source:
    Rampisela, Maistro, Ruotsalo and Lioma (2024), Evaluation measures of individual item fairness for recommender
    systems: a critical study. ACM TORS. Jain et al. (1984) for Jain's index.

>>> lists = [[0, 1], [0, 1], [2, 3]]  # two of eight items for two users, two others for the third
>>> found = measures(exposure(lists, n_items=8))
>>> round(found["QF_our"].value, 3), round(found["Gini_our"].value, 3), found["Gini_our"].fairest
(0.5, 0.667, 0.0)
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from penchant.errors import DataError, SettingsError

Array = NDArray[np.float64]
Counts = NDArray[np.int64]

_ROUNDING = 1e-12  # corrected values may leave [0, 1] by so much, and are put back


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


def exposure(lists: ArrayLike | Sequence[Sequence[int]], n_items: int, *, first: int = 0) -> Exposure:
    """Count who is shown where.

    Args:
        lists: numbers of items, best first, of equal length, none twice in a list, int[users, k].
        n_items: items in the whole catalogue, also those never shown.
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
            f"items of the catalogue, {first} to {n_items - 1 + first} ({int(outside.sum())} such places)."
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
    counts = shown.by_rank.sum(axis=1)
    n, k = shown.n_items, shown.k
    found: dict[str, Measure] = {}
    for name, original, low, high, fairest, remark in _with_ends(counts, shown):
        found[f"{name}_ori"] = original
        found[f"{name}_our"] = _corrected(
            original.value if name != "Ent" else _entropy(counts), low, high, fairest, remark
        )
    found["VoCD_ori"] = _vocd(counts)
    found["II-D_ori"], found["AI-D_ori"] = _discrepancies(shown, patience)
    if k >= n:
        why = f"every list shows the whole catalogue ({n} items, {k} places), so that nothing can be unfair"
        found |= {name: Measure(np.nan, one.fairest, why) for name, one in found.items() if name.endswith("_our")}
    return found


Ends = tuple[str, Measure, float, float, float, str]


def _with_ends(counts: Counts, shown: Exposure) -> list[Ends]:
    """Measures that have a correction: name, original, values of the unfair and the fair end, direction, remark."""
    n, k, m = shown.n_items, shown.k, shown.n_users
    places = m * k
    share, rest = divmod(places, n)  # q items each, and r of them one more
    fair = np.full(n, share) + (np.arange(n) >= n - rest)
    same = np.where(np.arange(n) >= n - k, m, 0)  # the same k items for everybody
    n_shown = int((counts > 0).sum())
    entropy = _entropy(counts)
    never = "" if n_shown == n else f"{n - n_shown} of {n} items are never shown, and 0 log 0 has no value there"
    satisfied = "" if share else "there are fewer places than items: every item has its share of none"
    weights = 1 / np.log2(np.arange(k) + 2)  # of ranks
    weighted = shown.by_rank @ weights
    bound = "" if places <= n else "the fair end is a bound that may not be reachable: there are more places than items"
    spread = np.zeros(n)
    if places <= n:  # every place its own item, the best places last
        spread[n - places :] = np.repeat(weights[::-1], m)
    top = np.concatenate([np.zeros(max(n - k, 0)), m * np.sort(weights)[-min(n, k) :]])
    fair_gini_w = _gini(spread) if places <= n else 0.0
    return [
        ("Jain", Measure(_jain(counts), 1.0), k / n, _jain(fair), 1.0, ""),
        ("QF", Measure(n_shown / n, 1.0), k / n, min(n, places) / n, 1.0, ""),
        ("Ent", Measure(np.nan if never else entropy, 1.0, never), _log(k, n), _entropy(fair), 1.0, ""),
        ("Gini", Measure(_gini(counts), 0.0), _gini(same), _gini(fair), 0.0, ""),
        ("Gini-w", Measure(_gini(weighted), 0.0), _gini(top), fair_gini_w, 0.0, bound),
        ("FSat", Measure(float((counts >= share).mean()), 1.0, satisfied), k / n, 1.0, 1.0, satisfied),
    ]


def _corrected(value: float, unfair: float, fair: float, fairest: float, remark: str) -> Measure:
    """The place of a value between the ends that can be reached, at the fair one `fairest`."""
    if abs(fair - unfair) < _ROUNDING:
        why = "the fairest and the least fair lists of this size are the same"
        return Measure(np.nan, fairest, why)
    place = (value - unfair) / (fair - unfair)
    place = place if fairest else 1 - place
    if -_ROUNDING < place < 0 or 1 < place < 1 + _ROUNDING:
        place = float(np.clip(place, 0, 1))
    if not 0 <= place <= 1:
        remark = "it lies beyond the unfair end of the published correction, which these lists show to be none"
    return Measure(float(place), fairest, remark)


def _jain(counts: Counts) -> float:
    """Jain's index, (sum c)^2 / (n sum c^2)."""
    as_float = counts.astype(np.float64)
    return float(as_float.sum() ** 2 / (len(counts) * (as_float @ as_float)))


def _entropy(counts: Counts) -> float:
    """Entropy of the shown items to the base of the catalogue's size."""
    share = counts[counts > 0] / counts.sum()
    return float(-(share * np.log(share)).sum() / np.log(len(counts))) if len(counts) > 1 else 0.0


def _log(value: int, base: int) -> float:
    return float(np.log(value) / np.log(base)) if base > 1 else 0.0


def _gini(exposed: NDArray[np.generic]) -> float:
    """Gini's coefficient of what items got."""
    ordered = np.sort(np.asarray(exposed, dtype=np.float64))
    n = len(ordered)
    return float((2 * np.arange(1, n + 1) - n - 1) @ ordered / (n * ordered.sum()))


def _vocd(counts: Counts) -> Measure:
    """Mean of |c_i - c_j| / max(c_i, c_j) over pairs of shown items, from sorted counts."""
    ordered = np.sort(counts[counts > 0]).astype(np.float64)
    n = len(ordered)
    if n < 2:
        return Measure(np.nan, 0.0, "only one item is shown, so there is no pair of shown items")
    before = np.cumsum(ordered) - ordered
    total = (np.arange(n) - before / ordered).sum()
    return Measure(float(total / (n * (n - 1) / 2)), 0.0)


def _discrepancies(shown: Exposure, patience: float) -> tuple[Measure, Measure]:
    """II-D and AI-D: how far exposure by a user who goes on with some patience is from that of a random list."""
    n, k, m = shown.n_items, shown.k, shown.n_users
    seen = patience ** np.arange(k)
    target = seen.sum() / n
    of_users = ((seen - target) ** 2).sum() / n + (n - k) / n * target**2
    of_items = ((shown.by_rank @ seen / m - target) ** 2).mean()
    remark = "it depends on the length of lists alone: it cannot compare recommenders"
    return Measure(float(of_users), 0.0, remark), Measure(float(of_items), 0.0)
