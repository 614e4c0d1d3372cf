"""Rows by label: which rows belong to the same user, prompt or group."""

from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from penchant.errors import DataError


@dataclass(frozen=True)
class Groups:
    """Rows by label.

    Attributes:
        labels: the distinct labels, sorted, [groups].
        codes: index into `labels` of each row, [rows].
        counts: rows of each label, [groups].
    """

    labels: list[Hashable]
    codes: NDArray[np.int64]
    counts: NDArray[np.int64]


def grouped(labels: ArrayLike | None, n: int, name: str) -> Groups:
    """Group rows by their label; without labels each row is a group of its own.

    Args:
        labels: of each row, text or numbers, [rows].
        n: how many rows there must be.
        name: of the argument, for errors.

    Raises:
        DataError: there is not one label per row, a label is missing, or text and numbers are mixed.

    >>> grouped(["b", "a", "b"], 3, "users").counts.tolist()
    [1, 2]
    """
    if labels is None:
        return Groups(list(range(n)), np.arange(n), np.ones(n, dtype=np.int64))
    array = np.asarray(labels)
    if array.shape != (n,):
        raise DataError(f"{name} has shape {array.shape}, but there are {n} rows; give one label each.")
    missing = np.array([label is None or label != label for label in array.tolist()], dtype=bool)
    if missing.any():
        raise DataError(f"{name}: {missing.sum()} of {n} labels are missing, first at index {missing.argmax()}.")
    try:
        distinct, codes, counts = np.unique(array, return_inverse=True, return_counts=True)
    except TypeError as error:
        raise DataError(
            f"{name}: labels of different types cannot be ordered ({error}); make all of them text."
        ) from error
    return Groups(distinct.tolist(), codes.astype(np.int64), counts.astype(np.int64))
