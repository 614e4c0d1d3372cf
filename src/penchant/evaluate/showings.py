"""Who was shown what, as rows of user, item and rank: counted file by file, and files added up.

Rows become counts of items by rank (`item_fairness.Exposure`), which is all that measures of item fairness need. Counts
of several files are added, in any order and any grouping, on one machine or many: a catalogue of items is all that has
to fit into memory, with a digest of eight bytes for each user, by which users that two files share are found.

>>> import pyarrow as pa
>>> rows = pa.table({"user": ["a", "a", "b", "b"], "item": ["x", "y", "x", "z"], "rank": [1, 2, 1, 2]})
>>> shown = showings(rows["user"], rows["item"], rows["rank"])
>>> shown.items, shown.by_rank.tolist(), shown.exposure(5).n_items
(('x', 'y', 'z'), [[2, 0], [0, 1], [0, 1]], 5)
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from penchant.errors import DataError, SettingsError
from penchant.evaluate.item_fairness import Exposure, exposure
from penchant.parts import OnError

Ints = NDArray[np.int64]
Column: TypeAlias = Any  # a pa.Array or pa.ChunkedArray; pyarrow has no types

MISSING = "an item or a rank is missing"
GAPS = "the ranks are not 1, 2, 3 and so on"
TWICE = "an item is there twice"
SHORT = "there are fewer items than places"


@dataclass(frozen=True)
class Showings:
    """How often each item was shown at each rank; those of several files add up.

    Attributes:
        items: that were shown, sorted.
        by_rank: int64[items, k].
        people: a digest of each user who has a list, ascending, uint64[users].
        dropped: reason -> lists left out.
    """

    items: tuple[str, ...]
    by_rank: Ints
    people: NDArray[np.uint64]
    dropped: Mapping[str, int] = field(default_factory=dict)

    @property
    def k(self) -> int:
        """Places in a list."""
        return int(self.by_rank.shape[1])

    def __add__(self, other: "Showings") -> "Showings":
        """Of the users of both.

        Raises:
            DataError: lists differ in length, or a user has rows in both.
        """
        if self.k != other.k:
            raise DataError(
                f"Some files have lists of {self.k} places, others of {other.k}; say to how many all are cut (k)."
            )
        both = np.intersect1d(self.people, other.people, assume_unique=True)
        if both.size:
            raise DataError(
                f"{both.size} users have rows in more than one file (of {len(self.people)} and {len(other.people)} "
                "users); a list must stand in one file as a whole."
            )
        items = tuple(sorted({*self.items, *other.items}))
        place = {item: number for number, item in enumerate(items)}
        by_rank = np.zeros((len(items), self.k), dtype=np.int64)
        for one in (self, other):
            by_rank[[place[item] for item in one.items]] += one.by_rank
        people = np.sort(np.concatenate([self.people, other.people]))
        return Showings(items, by_rank, people, dict(Counter(self.dropped) + Counter(other.dropped)))

    def exposure(self, catalogue: int | Sequence[str] | None = None) -> Exposure:
        """What each item of a whole catalogue got.

        Args:
            catalogue: how many items there are, also those never shown, or their names; None takes those that were
                shown for all, which makes any lists look fairer than they are.

        Raises:
            DataError: there are no lists, or items were shown that are not in the catalogue.
        """
        if not self.people.size:
            raise DataError(f"There are no whole lists; left out: {dict(self.dropped)}.")
        n_shown = len(self.items)
        if catalogue is None or isinstance(catalogue, int):
            n_items = n_shown if catalogue is None else catalogue
            if n_items < n_shown:
                raise DataError(f"{n_shown} different items are shown, but the catalogue is said to have {n_items}.")
        else:
            names = set(catalogue)
            n_items = len(names)
            unknown = [item for item in self.items if item not in names]
            if unknown:
                raise DataError(
                    f"{len(unknown)} of {n_shown} items that are shown are not among the {n_items} of the catalogue, "
                    f"such as {unknown[0]!r}."
                )
        by_rank = np.zeros((n_items, self.k), dtype=np.int64)
        by_rank[:n_shown] = self.by_rank  # which of the others is which makes no difference
        return Exposure(by_rank, len(self.people))


def showings(
    user: Column, item: Column, rank: Column | None = None, *, k: int | None = None, on_error: OnError = "stop"
) -> Showings:
    """Count rows, one for each item that a user was shown.

    Args:
        user: whose list a row belongs to, words or whole numbers, [rows].
        item: what was shown, likewise.
        rank: its place, whole numbers from 1 (or 0) on without gaps; None takes the order of the rows.
        k: places that count; None if all lists have as many.
        on_error: "stop" at a list that is not whole, or "drop" such lists and count them.

    Raises:
        DataError: ids are neither words nor whole numbers; a list is not whole; or lengths differ and `k` is not given.
        SettingsError: `k` is below 1.
    """
    if k is not None and k < 1:
        raise SettingsError(f"k must be at least 1: got {k!r}.")
    (owner, users), (what, items) = _numbered(user, "users"), _numbered(item, "items")
    if owner.min(initial=0) < 0:
        raise DataError(f"{int((owner < 0).sum())} of {len(user)} rows do not say whose list they belong to.")
    ranks = np.zeros(len(owner), dtype=np.int64) if rank is None else _ranks(rank)
    order = np.lexsort((ranks, owner))  # stable: without ranks the order of the rows
    owner, what, ranks = owner[order], what[order], ranks[order]
    lengths = np.bincount(owner, minlength=len(users))
    length = _places(lengths, k)
    place = np.arange(len(owner)) - (np.cumsum(lengths) - lengths)[owner]
    top = place < length
    owner, what, ranks, place = owner[top], what[top], ranks[top], place[top]
    problems = {
        MISSING: owner[(what < 0) | (ranks < 0)],
        GAPS: owner[ranks != place + _first(ranks)] if rank is not None else owner[:0],
        TWICE: _twice(owner, what, len(items)),
        SHORT: np.flatnonzero(lengths < length),
    }
    good, dropped = _whole_lists(problems, users, on_error)
    table = what[good[owner]].reshape(-1, length)
    by_rank = exposure(table, len(items)).by_rank if len(table) else np.zeros((len(items), length), dtype=np.int64)
    shown = sorted(np.flatnonzero(by_rank.any(axis=1)).tolist(), key=items.__getitem__)
    names = tuple(items[number] for number in shown)
    return Showings(names, by_rank[shown], _digests(users[number] for number in np.flatnonzero(good)), dropped)


def _numbered(column: Column, what: str) -> tuple[Ints, list[str]]:
    """A number for each value, -1 where there is none, and the names of the numbers."""
    kind = column.type
    if not any(is_kind(kind) for is_kind in (pa.types.is_integer, pa.types.is_string, pa.types.is_large_string)):
        raise DataError(f"The {what} are {kind}; they must be words or whole numbers.")
    column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    encoded = column.cast(pa.large_string()).dictionary_encode()
    return encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64), encoded.dictionary.to_pylist()


def _ranks(column: Column) -> Ints:
    """Whole numbers, -1 where there is none."""
    column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    try:
        whole = column.cast(pa.int64())
    except pa.ArrowInvalid as error:
        raise DataError(f"Ranks are whole numbers from 1 on: {error}.") from error
    return np.asarray(pc.fill_null(whole, -1).to_numpy(zero_copy_only=False))


def _first(ranks: Ints) -> int:
    """Whether the best place is called 0 or 1."""
    return 0 if (ranks == 0).any() else 1


def _places(lengths: Ints, k: int | None) -> int:
    if not lengths.size:
        raise DataError("There are no rows.")
    if k is None and lengths.min() < lengths.max():
        raise DataError(
            f"Lists have {lengths.min()} to {lengths.max()} items; the measures need as many of each user. Say how "
            "many places count (k)."
        )
    return int(lengths.max()) if k is None else k


def _twice(owner: Ints, what: Ints, n_items: int) -> Ints:
    """Owners of lists that name an item more than once."""
    known = what >= 0
    pair, times = np.unique(owner[known] * n_items + what[known], return_counts=True)
    return np.asarray(pair[times > 1] // max(n_items, 1))


def _whole_lists(
    problems: Mapping[str, Ints], users: Sequence[str], on_error: OnError
) -> tuple[NDArray[np.bool_], dict[str, int]]:
    """Which lists are whole, and how many are not, each for the first of its reasons."""
    good, dropped = np.ones(len(users), dtype=bool), {}
    for reason, owners in problems.items():
        bad = np.unique(owners)
        bad = bad[good[bad]]
        if bad.size and on_error == "stop":
            raise DataError(
                f"In the list of user {users[bad[0]]!r} {reason} ({len(bad)} of {len(users)} lists). To leave such "
                "lists out and count them use --on-error drop."
            )
        if bad.size:
            dropped[reason] = len(bad)
        good[bad] = False
    return good, dropped


def _digests(names: Iterable[str]) -> NDArray[np.uint64]:
    joined = b"".join(hashlib.blake2b(name.encode(), digest_size=8).digest() for name in names)
    return np.sort(np.frombuffer(joined, dtype=np.uint64))
