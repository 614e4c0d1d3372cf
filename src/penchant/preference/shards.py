"""Sums over people, shard by shard, here or over Ray: a fit that asks people only for sums fits any number of them.

A model hands over a function from what is shared and some people's votes to arrays (a loss, its gradient, statistics);
the arrays of all shards are added up, always in the order of the shards, so that it makes no difference, not in the
last bit, where and by how many they were computed.

>>> from penchant.encoders import Attributes
>>> from penchant.preference.votes import read_votes
>>> from penchant.records import Comparisons
>>> rows = [{"prompt": "", "chosen": '{"x": 2}', "rejected": '{"x": 1}', "user": user} for user in "abcabc"]
>>> def wins(shared, votes):
...     return {"wins": (votes.difference @ shared["weights"] > 0).sum()}
>>> shards = Shards(read_votes(Attributes(), Comparisons.from_rows(rows)), people_per_shard=2)
>>> len(shards), int(shards.total(wins, {"weights": np.ones(1)})["wins"])
(2, 6)
"""

import contextlib
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penchant.errors import SettingsError
from penchant.parts import cluster, torch_threads
from penchant.preference.votes import Places, Votes

Arrays = Mapping[str, NDArray[Any]]
Part = Callable[[Arrays, Votes], Mapping[str, Any]]
"""(what is shared, votes of some people) -> what they add to each sum. It may be run in another process: a function of
a module (or a `functools.partial` of one), which depends on nothing but its arguments."""

PEOPLE_PER_SHARD = 4096
_COLUMNS = ("vectors", "chosen", "rejected", "strength", "margin", "user")


class Shards:
    """Votes in shards of people, and sums over them, computed in this process.

    A shard's votes stand person by person; its people are numbered from 0 and have no names, and a vote of nobody named
    is a person of its own. Vectors are shared by all.

    Args:
        votes: of everybody.
        people_per_shard: how many people a shard has, the last one fewer.

    Raises:
        SettingsError: that is below 1.
    """

    def __init__(self, votes: Votes, *, people_per_shard: int = PEOPLE_PER_SHARD):
        if people_per_shard < 1:
            raise SettingsError(f"people_per_shard must be at least 1: got {people_per_shard!r}.")
        person, self.n_people = _numbered(votes.user)
        order = np.argsort(person, kind="stable")
        self.votes = replace(votes.of(order), user=person[order], people=("",) * self.n_people)
        self.people_per_shard = people_per_shard

    def __len__(self) -> int:
        """How many shards."""
        return -(-self.n_people // self.people_per_shard)

    def total(self, part: Part, shared: Arrays, numbers: Iterable[int] | None = None) -> dict[str, NDArray[Any]]:
        """The sum of what a function gives for each shard.

        Args:
            part: of what is shared and one shard's votes.
            shared: arrays that are the same for all shards.
            numbers: of the shards to sum over; all if None.
        """
        wanted = range(len(self)) if numbers is None else sorted(numbers)
        with torch_threads(1):  # as in a worker: with more, sums differ in their last bits
            return _added(part(shared, shard_of(self.votes, number, self.people_per_shard)) for number in wanted)


def shard_of(votes: Votes, number: int, people_per_shard: int) -> Votes:
    """The votes of the people of one shard, numbered from 0, out of votes that are sorted by person."""
    first = number * people_per_shard
    begin, end = np.searchsorted(votes.user, [first, first + people_per_shard])
    own = votes.of(slice(begin, end))
    return replace(own, user=own.user - first, people=("",) * (int(own.user[-1]) - first + 1))


@contextlib.contextmanager
def over_ray(
    workers: int, *, address: str | None = None, people_per_shard: int = PEOPLE_PER_SHARD
) -> Iterator[Callable[[Votes], Shards]]:
    """Shards whose sums Ray workers compute, one thread each, while this is open.

    The votes are written once to a folder that the workers map into memory (and must see), so that they take the
    memory of one copy, however many workers there are.

    Args:
        workers: how many.
        address: of a Ray cluster; without it one is started here, on loopback only.
        people_per_shard: how many people a shard has.

    Yields:
        What `Shards` is here: from votes to their shards.

    Raises:
        SettingsError: there are no workers, or the cluster is not there.
        MissingExtraError: Ray is not installed.
    """
    if workers < 1:
        raise SettingsError(f"workers must be at least 1: got {workers!r}.")
    with tempfile.TemporaryDirectory(prefix="penchant-shards-") as folder, cluster(workers, address) as ray:
        crew = [ray.remote(num_cpus=1)(_Worker).remote() for _ in range(workers)]

        def shards(votes: Votes) -> Shards:
            place = Path(tempfile.mkdtemp(dir=folder))
            return _RayShards(votes, place, ray, crew, people_per_shard)

        yield shards


class _RayShards(Shards):
    """The same, computed by Ray workers."""

    def __init__(self, votes: Votes, folder: Path, ray: Any, crew: Sequence[Any], people_per_shard: int):
        super().__init__(votes, people_per_shard=people_per_shard)
        for name in _COLUMNS:
            np.save(folder / f"{name}.npy", getattr(self.votes, name))
        self._folder, self._ray, self._crew = folder, ray, crew

    def total(self, part: Part, shared: Arrays, numbers: Iterable[int] | None = None) -> dict[str, NDArray[Any]]:
        """As here; shards are given to the workers in turn, and added in order as they come."""
        wanted = list(range(len(self)) if numbers is None else sorted(numbers))
        given = self._ray.put((part, dict(shared)))
        waiting = [
            self._crew[place % len(self._crew)].part.remote(given, str(self._folder), number, self.people_per_shard)
            for place, number in enumerate(wanted)
        ]
        return _added(self._ray.get(result) for result in waiting)


class _Worker:
    """Computes what shards add to sums, in a process of its own."""

    def __init__(self) -> None:
        self._votes: dict[str, Votes] = {}

    def part(self, given: tuple[Part, Arrays], folder: str, number: int, people_per_shard: int) -> Mapping[str, Any]:
        """What one shard of the votes in a folder adds."""
        if folder not in self._votes:
            columns = {name: np.load(Path(folder) / f"{name}.npy", mmap_mode="r") for name in _COLUMNS}
            self._votes[folder] = Votes(**columns, people=())
        part, shared = given
        with torch_threads(1):
            return part(shared, shard_of(self._votes[folder], number, people_per_shard))


def _numbered(user: Places) -> tuple[Places, int]:
    """A number for each person who has votes, in their order, and for each vote of nobody named; and how many."""
    named = np.unique(user[user >= 0])
    place = np.searchsorted(named, user)
    nobody = np.flatnonzero(user < 0)
    place[nobody] = len(named) + np.arange(len(nobody))
    return place.astype(np.int64), len(named) + len(nobody)


def _added(parts: Iterable[Mapping[str, Any]]) -> dict[str, NDArray[Any]]:
    """Sums by name, in the order of the parts."""
    sums: dict[str, NDArray[Any]] = {}
    for part in parts:
        for name, value in part.items():
            sums[name] = np.asarray(sums[name] + value if name in sums else value)
    return sums
