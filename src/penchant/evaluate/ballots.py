"""Votes between systems as numbers: who met whom, what came of it, and whose vote it was.

Everything a leaderboard needs is counted in one pass over the columns; votes stay one row each only where something
asks for them (people, covariates, time, weights).

Where `per_person` is set, nobody counts for more than so many votes: each vote of a person with n > N of them weighs
N / n. Whoever votes a thousand times then says what they think more surely, not louder.

>>> rows = [{"system_a": "x", "system_b": "y", "outcome": outcome} for outcome in ("a", "a", "tie", "both_bad")]
>>> cast = ballots(Battles.from_rows(rows))
>>> cast.systems, cast.n_votes, cast.both_bad_rates
(('x', 'y'), 3, {'x': 0.25, 'y': 0.25})
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from penchant.errors import DataError, SettingsError
from penchant.preference.counts import Counts
from penchant.preference.votes import codes_of, codes_of_all
from penchant.records import Battles

Array = NDArray[np.float64]
Places = NDArray[np.int64]

_KINDS = {"a": 0, "b": 1, "tie": 2, "both_bad": 3}
_RESULTS = np.array([1.0, 0.0, 0.5])


@dataclass(frozen=True)
class Ballots:
    """Votes that order systems, those that found both bad apart.

    Attributes:
        battles: where they come from.
        systems: that some vote orders, as they first appear.
        both_bad_rates: share of each system's battles that found both bad, also of systems that no vote orders.
        n_votes: that prefer one or find both even.
        n_both_bad: that found both bad.
        place: of each known name among `systems`, -1 if no vote orders it, int64[names].
        codes: name of each battle's first system and of its second, int64[battles] each.
        kind: 0 the first won, 1 the second, 2 a tie, 3 both bad, int64[battles].
        cells: how often each pair of systems ended how, int64[systems, systems, 3].
        per_person: the most votes that one person counts for; 0 for all that they cast.
    """

    battles: Battles
    systems: tuple[str, ...]
    both_bad_rates: dict[str, float]
    n_votes: int
    n_both_bad: int
    place: Places
    codes: tuple[Places, Places]
    kind: Places
    cells: NDArray[np.int64]
    per_person: int = 0

    @cached_property
    def counts(self) -> Counts:
        """Wins and ties of each pair, with the weights of votes."""
        if self.per_person:
            return self._added(self.weight)
        won, lost, even = np.moveaxis(self.cells, 2, 0).astype(np.float64)
        return Counts(won + lost.T, even + even.T)

    @cached_property
    def squares(self) -> Counts:
        """The same with weights squared: what the variance of a weighted sum of votes is made of."""
        return self._added(self.weight**2) if self.per_person else self.counts

    def _added(self, weight: Array) -> Counts:
        n, is_tie, lost = len(self.systems), self.result == 0.5, self.result == 0
        winner, loser = np.where(lost, self.second, self.first), np.where(lost, self.first, self.second)
        return Counts.of(winner, loser, np.where(is_tie, 0.0, weight), n, ties=np.where(is_tie, weight, 0.0))

    @cached_property
    def system_votes(self) -> Places:
        """Votes that each system took part in, whatever they weigh, int64[systems]."""
        return np.asarray(self.cells.sum(axis=(0, 2)) + self.cells.sum(axis=(1, 2)))

    @cached_property
    def weight(self) -> Array:
        """What each vote counts for: 1, or less where its person has more than `per_person`, [votes]."""
        found = np.ones(self.n_votes)
        if self.per_person:
            named = self.person >= 0
            share = self.per_person / np.maximum(self._n_by_person, self.per_person)
            found[named] = share[self.person[named]]
        return found

    @property
    def n_capped(self) -> int:
        """People with more votes than count."""
        return int((self._n_by_person > self.per_person).sum()) if self.per_person else 0

    @cached_property
    def _n_by_person(self) -> Places:
        return np.bincount(self.person[self.person >= 0], minlength=len(self.people))

    @cached_property
    def rows(self) -> Places:
        """Which battles these votes are, int64[votes]."""
        return np.flatnonzero(self.kind < 3)

    @cached_property
    def first(self) -> Places:
        """Place of each vote's first system, int64[votes]."""
        return self.place[self.codes[0][self.rows]]

    @cached_property
    def second(self) -> Places:
        """Place of the other, int64[votes]."""
        return self.place[self.codes[1][self.rows]]

    @cached_property
    def result(self) -> Array:
        """1 if the first won, 0 if the second, 0.5 for a tie, [votes]."""
        return _RESULTS[self.kind[self.rows]]

    @cached_property
    def people(self) -> tuple[str, ...]:
        """Names of those who voted, as they first appear."""
        return tuple(self._named[1])

    @cached_property
    def person(self) -> Places:
        """Place of each vote's person among `people`, -1 where nobody is named, int64[votes]."""
        return self._named[0][self.rows]

    @cached_property
    def _named(self) -> tuple[Places, list[str]]:
        return codes_of(self.battles, "user")

    @cached_property
    def pairs(self) -> tuple[Places, Places]:
        """Both systems of every pair that met, the earlier one first, int64[pairs] each."""
        met = self.counts.score + self.counts.score.T
        first, second = np.nonzero(np.triu(met))
        return first.astype(np.int64), second.astype(np.int64)

    @cached_property
    def oriented(self) -> tuple[Places, Array]:
        """Which of `pairs` each vote is on, int64[votes], and 1 if that pair's first won, 0.5 for a tie, [votes]."""
        first, second = self.pairs
        n = len(self.systems)
        number = np.full(n * n, -1)
        number[first * n + second] = number[second * n + first] = np.arange(len(first))
        won = np.where(self.first < self.second, self.result, 1 - self.result)
        return number[self.first * n + self.second], won

    @cached_property
    def by_person(self) -> tuple[csr_array, csr_array]:
        """Weight of each person's votes on each pair, and of what its first won (ties half), [people, pairs] each."""
        pair, won = self.oriented
        shape = (len(self.people), len(self.pairs[0]))
        whose = self.person
        named = whose >= 0
        where = (whose[named], pair[named])
        weight = self.weight[named]
        return csr_array((weight, where), shape), csr_array((weight * won[named], where), shape)

    def kept(self, votes: NDArray[np.bool_]) -> Battles:
        """The battles without some votes.

        Args:
            votes: whether each vote stays, bool[votes]; those that found both bad all stay.
        """
        stays = np.ones(len(self.kind), dtype=bool)
        stays[self.rows[~votes]] = False
        return self.battles.take(np.flatnonzero(stays))


def ballots(battles: Battles, *, per_person: int = 0) -> Ballots:
    """Count votes.

    Args:
        battles: votes.
        per_person: the most votes that one person counts for, those that found both bad not among them; 0 for all
            that they cast. Votes that name nobody weigh 1.

    Raises:
        DataError: no vote prefers a system or finds two even; or `per_person` is set and no vote names its person.
        SettingsError: `per_person` is negative.
    """
    if per_person < 0:
        raise SettingsError(f"per_person must be 0 (all votes count) or the most that one person has: {per_person!r}.")
    if per_person and battles.table["user"].null_count == len(battles) > 0:
        raise DataError(
            f"None of {len(battles)} votes names its person, so that no person's votes can be limited to {per_person}; "
            "add a `user` to every vote, or leave the limit out."
        )
    (first, second), names = codes_of_all([battles.table["system_a"], battles.table["system_b"]])
    codes, outcomes = codes_of(battles, "outcome")
    kind = np.array([_KINDS[outcome] for outcome in outcomes], dtype=np.int64)[codes]
    n = len(names)
    table = np.bincount((first * n + second) * 4 + kind, minlength=4 * n * n).reshape(n, n, 4)
    fought = table.sum(axis=(0, 2)) + table.sum(axis=(1, 2))
    bad = table[..., 3].sum(axis=0) + table[..., 3].sum(axis=1)
    known = fought > bad
    if not known.any():
        raise DataError(
            f"None of {len(battles)} votes prefers a system or finds two even; a leaderboard needs votes for `a`, `b` "
            "or `tie`."
        )
    n_bad = int(bad.sum()) // 2
    return Ballots(
        battles=battles,
        systems=tuple(str(names[place]) for place in np.flatnonzero(known)),
        both_bad_rates={
            str(name): float(share) for name, share in zip(names, bad / np.maximum(fought, 1), strict=True)
        },
        n_votes=len(battles) - n_bad,
        n_both_bad=n_bad,
        place=np.where(known, np.cumsum(known) - 1, -1),
        codes=(first, second),
        kind=kind,
        cells=table[np.ix_(known, known)][..., :3],
        per_person=per_person,
    )
