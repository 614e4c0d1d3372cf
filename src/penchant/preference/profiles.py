"""What was learnt of each person, as a few arrays: a million people are not a million objects.

It reads like a dictionary from a person's name to what is known of them. Who is taken out is gone from the arrays too.

>>> people = Profiles(Known)
>>> people["ann"] = Known(np.array([1.0, 2.0]), 3)
>>> people.put_many(["bob", "cy"], weights=np.zeros((2, 2)), n_pairs=np.array([1, 0]))
>>> people["bob"].n_pairs, list(people), people.column("weights").shape
(1, ['ann', 'bob', 'cy'], (3, 2))
>>> del people["ann"]
>>> people.places(["cy", "nobody"]).tolist(), people.bytes_per_person
([0, -1], 24.0)
"""

import reprlib
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from penchant.errors import DataError, SettingsError, UnknownNameError, nearest

P = TypeVar("P")
_FEWEST_ROWS = 8
_FITTING = {"f": "fiu", "i": "iu", "u": "iu", "b": "b"}  # kinds of numbers that may stand for one of each kind


@dataclass(frozen=True)
class Known:
    """The least that is known of a person; models have richer ones.

    Attributes:
        weights: whatever they mean to the model, [dim].
        n_pairs: comparisons they rest on.
    """

    weights: NDArray[np.float64]
    n_pairs: int


def edited(profile: P, values: Mapping[str, Any]) -> P:
    """A profile with other values in some fields, each of the type and shape that it had.

    Args:
        profile: a dataclass of numbers and arrays.
        values: by field; numbers, or lists as JSON has them.

    Raises:
        UnknownNameError: there is no such field.
        SettingsError: a value has another type or shape, or is not finite.

    >>> edited(Known(np.array([1.0, 2.0]), 3), {"weights": [0, 0.5]}).weights.tolist()
    [0.0, 0.5]
    """
    known = [field.name for field in fields(profile)]  # type: ignore[arg-type]
    for name, value in values.items():
        if name not in known:
            raise UnknownNameError(f"A profile here has no field {name!r}: {nearest(name, known)}")
        old = np.asarray(getattr(profile, name))
        if not _could_be(old, value):
            one = {"f": "finite number", "b": "true or false"}.get(old.dtype.kind, "whole number")
            form = f"of shape {list(old.shape)}, each a {one}" if old.shape else f"a {one}"
            raise SettingsError(f"`{name}` must be {form}: got {reprlib.repr(value)}.")
        new = np.asarray(value).astype(old.dtype)
        changed = new if old.shape else new.item()
        profile = replace(profile, **{name: changed})  # type: ignore[type-var]
    return profile


def _could_be(old: NDArray[Any], value: Any) -> bool:
    """Whether a value has the shape of an array and holds numbers that its type can."""
    try:
        new = np.asarray(value)
    except ValueError:  # lists of different lengths
        return False
    if new.shape != old.shape or new.dtype.kind not in _FITTING[old.dtype.kind]:
        return False
    if old.dtype.kind in "iu":
        kind = np.iinfo(old.dtype)
        return bool(((new >= kind.min) & (new <= kind.max)).all())
    return bool(np.isfinite(new).all())


class Profiles(MutableMapping[str, P], Generic[P]):
    """People by name.

    Args:
        kind: a dataclass of numbers and arrays, each of the same shape for everybody.
    """

    def __init__(self, kind: type[P]):
        self.kind = kind
        self._names: list[str] = []
        self._place: dict[str, int] = {}
        self._columns: dict[str, NDArray[Any]] = {}

    def __getitem__(self, name: str) -> P:
        """What was learnt of a person; numbers as plain values, arrays as copies."""
        place = self._place[name]
        values = {field: column[place] for field, column in self._columns.items()}
        return self.kind(**{field: v.item() if v.ndim == 0 else v.copy() for field, v in values.items()})

    def __setitem__(self, name: str, profile: P) -> None:
        """Learn or replace a person."""
        names = [field.name for field in fields(self.kind)]  # type: ignore[arg-type]
        self.put_many([name], **{field: np.asarray(getattr(profile, field))[None] for field in names})

    def __delitem__(self, name: str) -> None:
        """Take a person out; the last one moves into the place, and nothing of the person stays in the arrays."""
        place, last = self._place.pop(name), len(self._names) - 1
        for column in self._columns.values():
            column[place] = column[last]
            column[last] = 0
        moved = self._names.pop()
        if place < last:
            self._names[place], self._place[moved] = moved, place

    def __iter__(self) -> Iterator[str]:
        """Names, in the order of the arrays."""
        return iter(self._names)

    def __len__(self) -> int:
        """How many people."""
        return len(self._names)

    def __contains__(self, name: object) -> bool:
        """Whether something was learnt of a person."""
        return name in self._place

    def put_many(self, names: Sequence[str], **columns: Any) -> None:
        """Learn or replace many people at once.

        Args:
            names: different people.
            columns: for each field of the dataclass an array, [people, ...].

        Raises:
            DataError: a field is missing or has another shape than for the people who are there.
        """
        given = {field: np.asarray(column) for field, column in columns.items()}
        self._require_fitting(names, given)
        fresh = [name for name in names if name not in self._place]
        self._make_room(len(self._names) + len(fresh), given)
        for name in fresh:
            self._place[name] = len(self._names)
            self._names.append(name)
        places = self.places(names)
        for field, column in given.items():
            self._columns[field][places] = column

    def column(self, field: str) -> NDArray[Any]:
        """One field of everybody, in the order of iteration; a view, [people, ...].

        Raises:
            KeyError: there is nobody, or no such field.
        """
        return self._columns[field][: len(self._names)]

    def places(self, names: Sequence[str | None]) -> NDArray[np.int64]:
        """Where people stand in the columns, -1 for those of whom nothing is known, int64[names]."""
        place = self._place
        return np.fromiter((place.get(name, -1) for name in names), np.int64, len(names))  # type: ignore[arg-type]

    @property
    def bytes_per_person(self) -> float:
        """Size of what is kept of one person, names apart."""
        return float(sum(column[0].nbytes for column in self._columns.values())) if self._names else 0.0

    def state(self) -> tuple[dict[str, NDArray[Any]], list[str]]:
        """The arrays, named `users.field`, and the names, as a model of people saves them."""
        return {f"users.{field}": self.column(field) for field in self._columns if self._names}, list(self._names)

    @classmethod
    def restored(cls, kind: type[P], arrays: Mapping[str, Any], names: Sequence[str]) -> "Profiles[P]":
        """The reverse of `state`; arrays of other names are left alone."""
        people = cls(kind)
        if names:
            mine = [field.name for field in fields(kind)]  # type: ignore[arg-type]
            people.put_many(names, **{field: arrays[f"users.{field}"] for field in mine})
        return people

    def _require_fitting(self, names: Sequence[str], given: Mapping[str, NDArray[Any]]) -> None:
        wanted = {field.name for field in fields(self.kind)}  # type: ignore[arg-type]
        if given.keys() != wanted:
            raise DataError(f"A {self.kind.__name__} has the fields {sorted(wanted)}: got {sorted(given)}.")
        for field, column in given.items():
            there = self._columns[field].shape[1:] if field in self._columns else column.shape[1:]
            if column.shape != (len(names), *there):
                raise DataError(
                    f"`{field}` of {len(names)} people has shape {column.shape}; it must be {(len(names), *there)}."
                )

    def _make_room(self, n: int, given: Mapping[str, NDArray[Any]]) -> None:
        for field, column in given.items():
            old = self._columns.get(field)
            if old is None or n > len(old):
                room = max(n, _FEWEST_ROWS if old is None else 2 * len(old))
                self._columns[field] = np.zeros((room, *column.shape[1:]), column.dtype if old is None else old.dtype)
                if old is not None:
                    self._columns[field][: len(old)] = old
