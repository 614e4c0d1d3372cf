"""Relevance of top-k recommendations: does a list hold what its user turned out to want, and how far up?

HR, MRR, P, MAP, R and NDCG at k with binary relevance, of each user, so that they can be averaged, compared in pairs
and given an interval. A user with nothing relevant has no value (NaN) and has to be left out and counted.

Conventions differ between toolkits; ours: MAP and the ideal list of NDCG know that no more than k items fit into a list
(both divide by what min(k, |relevant|) hits would give), P divides by k, R by the number of relevant items.

Source:
    Herlocker et al. (2004), Evaluating collaborative filtering recommender systems. ACM TOIS; Jarvelin and Kekalainen
    (2002), Cumulated gain-based evaluation of IR techniques. ACM TOIS.

>>> found = relevance([[7, 3], [1, 2]], users=[0, 0, 1], items=[3, 5, 9])  # one of two wanted items at rank 2; none
>>> {name: value.tolist() for name, value in found.items() if name != "NDCG"}
{'HR': [1.0, 0.0], 'MRR': [0.5, 0.0], 'P': [0.5, 0.0], 'MAP': [0.25, 0.0], 'R': [0.5, 0.0]}
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from penchant.errors import DataError

Array = NDArray[np.float64]
NAMES = ("HR", "MRR", "P", "MAP", "R", "NDCG")


def relevance(lists: ArrayLike, users: ArrayLike, items: ArrayLike) -> dict[str, Array]:
    """All measures of each user's list.

    Args:
        lists: numbers of items from 0 on, best first, int[users, k].
        users: the row of `lists` that each relevant item belongs to, int[pairs].
        items: the relevant items, int[pairs]; the same pair twice counts once.

    Returns:
        Name -> value of each user, in [0, 1], NaN without relevant items, float64[users].

    Raises:
        DataError: lists are no table of whole numbers, or a pair is of no list or no item.
    """
    table, user, item = np.asarray(lists), np.asarray(users), np.asarray(items)
    if table.ndim != 2 or not table.size or not np.issubdtype(table.dtype, np.integer) or table.min() < 0:
        raise DataError(f"Lists must be whole numbers from 0 on, [users, k]: got {table.dtype} of shape {table.shape}.")
    if user.shape != item.shape or user.ndim != 1:
        raise DataError(f"Each relevant item needs its user: got {user.shape} users and {item.shape} items.")
    if user.size and (user.min() < 0 or user.max() >= len(table) or item.min() < 0):
        raise DataError(f"Relevant items are of users {user.min()} to {user.max()}; there are {len(table)} lists.")
    hits, n_relevant = _hits(table, user, item)
    return _measured(hits, n_relevant)


def _hits(table: NDArray[np.int64], user: NDArray[np.int64], item: NDArray[np.int64]) -> tuple[Array, Array]:
    """Whether each place holds something relevant, [users, k], and how many items are relevant, [users]."""
    n_items = int(max(table.max(), item.max(initial=0))) + 1
    wanted = np.unique(user.astype(np.int64) * n_items + item)
    keys = np.arange(len(table))[:, None] * n_items + table
    # `wanted` is sorted: a search costs less than the sorting of all places that `isin` would do
    place = np.minimum(np.searchsorted(wanted, keys), max(len(wanted) - 1, 0))
    found = wanted[place] == keys if len(wanted) else np.zeros(keys.shape, dtype=bool)
    return found.astype(np.float64), np.bincount(wanted // n_items, minlength=len(table)).astype(np.float64)


def _measured(hits: Array, n_relevant: Array) -> dict[str, Array]:
    k = hits.shape[1]
    ranks = np.arange(1, k + 1)
    discount = 1 / np.log2(ranks + 1)
    so_far = hits.cumsum(axis=1)
    n_hits = so_far[:, -1]
    first = np.where(n_hits > 0, hits.argmax(axis=1) + 1, np.inf)
    has_any = n_relevant > 0
    most = np.minimum(n_relevant, k)[has_any].astype(np.int64)  # hits of an ideal list
    found = {name: np.full(len(hits), np.nan) for name in NAMES}
    found["HR"][has_any] = n_hits[has_any] > 0
    found["MRR"][has_any] = 1 / first[has_any]
    found["P"][has_any] = n_hits[has_any] / k
    found["MAP"][has_any] = (hits * so_far / ranks).sum(axis=1)[has_any] / most
    found["R"][has_any] = n_hits[has_any] / n_relevant[has_any]
    found["NDCG"][has_any] = (hits @ discount)[has_any] / np.cumsum(discount)[most - 1]
    return found
