"""What is held out, so that nothing which is measured was part of anything that was learnt from.

Votes that stand for themselves are parted in time, each person's earlier ones to learn from. Pairs that were made from
ratings or rankings hang together, so they are parted by response. People who are set aside whole show what a model does
for somebody new, from one example, two, four, and so on.

>>> rows = [{"prompt": "", "chosen": f"a{i}", "rejected": f"b{i}", "user": f"u{i % 8}"} for i in range(96)]
>>> part = known_and_new(Comparisons.from_rows(rows), ["comparison"], examples=(1, 4), seed=0)
>>> len(part.seen.users), len(part.unseen.users), len(part.examples[4])
(6, 2, 8)
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from penchant.errors import DataError
from penchant.preference.votes import codes_of, rows_of
from penchant.records import Comparisons

Array = np.ndarray[Any, np.dtype[Any]]
Split = Callable[[Comparisons], tuple[Comparisons, Comparisons]]
"""Comparisons -> those to learn from, and those held out."""

_STANDING_ALONE = {"comparison", "battle", "edit"}  # records of which each is one vote
_FEWEST_PEOPLE = 6  # of fewer nobody is set aside: who is left would not be a population


def earlier(users: Array, share: float) -> Array:
    """True for the first `share` of each person's rows, in the order they came, bool[n]; at least one row of each."""
    place = np.zeros(len(users))
    order = np.argsort(users, kind="stable")
    _, starts, counts = np.unique(users[order], return_index=True, return_counts=True)
    for start, count in zip(starts, counts, strict=True):
        place[order[start : start + count]] = np.arange(count) / count
    return place < share


def by_time(comparisons: Comparisons, *, share: float = 2 / 3, at_least: int = 3) -> tuple[Comparisons, Comparisons]:
    """Each person's earlier choices, to learn from, and the later ones, held out: for votes that stand for themselves.

    Args:
        comparisons: in the order they were made.
        share: of each person's rows to learn from.
        at_least: people with fewer rows are learnt from, but not tested.

    Raises:
        DataError: nobody has that many rows.
    """
    codes, people = codes_of(comparisons, "user")
    counts = np.bincount(codes[codes >= 0], minlength=len(people) + 1)  # the last is of nobody named
    held_out = (codes >= 0) & (counts[codes] >= at_least) & ~earlier(codes, share)
    return _parts(comparisons, ~held_out, held_out)


def by_response(comparisons: Comparisons, *, share: float = 2 / 3, seed: int = 0) -> tuple[Comparisons, Comparisons]:
    """Pairs of each person's seen responses, and pairs of the others: for pairs made from ratings or rankings.

    Such pairs hang together (a over b and b over c tell a over c), so that a response that is held out must not be in
    any pair that was learnt from. Pairs of one seen and one held-out response are left out of both.

    Args:
        comparisons: any.
        share: of each person's responses to learn from.
        seed: of which.

    Raises:
        DataError: nobody has pairs of both kinds.
    """
    prompts, *sides = (comparisons.table[name].to_pylist() for name in ("prompt", "chosen", "rejected"))
    rng = np.random.default_rng(seed)
    seen = np.array([user is None for user in comparisons.table["user"].to_pylist()], dtype=bool)
    held_out = np.zeros(len(comparisons), dtype=bool)
    for _, own in sorted(rows_of(comparisons).items()):
        judged = sorted({(prompts[row], side[row]) for row in own for side in sides})
        shown = {judged[place] for place in rng.permutation(len(judged))[: round(share * len(judged))]}
        for row in own:
            known = [(prompts[row], side[row]) in shown for side in sides]
            seen[row], held_out[row] = all(known), not any(known)
    return _parts(comparisons, seen, held_out)


def _parts(comparisons: Comparisons, seen: Array, held_out: Array) -> tuple[Comparisons, Comparisons]:
    if not held_out.any() or not seen.any():
        raise DataError(
            f"Nobody has enough choices ({len(comparisons)} rows, {len(comparisons.users)} people) to learn from some "
            "and test on others: per-person models need several choices of the same person. Import feedback "
            "that names its users."
        )
    return comparisons.take(np.flatnonzero(seen)), comparisons.take(np.flatnonzero(held_out))


def split_for(kinds: Iterable[str], *, seed: int = 0) -> Split:
    """How comparisons that came from records of these kinds are held out without a leak."""
    return by_time if set(kinds) <= _STANDING_ALONE else partial(by_response, seed=seed)


def new_people(
    comparisons: Comparisons, *, split: Split = by_time, share: float = 0.3, seed: int = 0
) -> tuple[Comparisons, Comparisons, Comparisons]:
    """People set aside: everybody else's choices, their own earlier ones, and their later ones, held out.

    Args:
        comparisons: in the order they were made.
        split: how the choices of those who were set aside are parted.
        share: of the people to set aside.
        seed: of who.
    """
    others, aside = comparisons.split(share, by="user", seed=seed)
    return others, *split(aside)


@dataclass(frozen=True)
class KnownAndNew:
    """One way to part comparisons between people who are learnt from and people who come later.

    Attributes:
        shared: what everybody's model is learnt from: the earlier choices of those who were not set aside.
        seen: their later choices, held out.
        examples: number of examples -> the first so many choices of each person set aside.
        shown: all choices that may be learnt of them.
        unseen: their later choices, held out.
        n_too_few: people set aside with too few choices to be measured.
        why_nobody: why nobody is set aside, if so.
    """

    shared: Comparisons
    seen: Comparisons
    examples: Mapping[int, Comparisons]
    shown: Comparisons
    unseen: Comparisons
    n_too_few: int = 0
    why_nobody: str = ""


def known_and_new(
    comparisons: Comparisons,
    kinds: Iterable[str],
    *,
    examples: Sequence[int] = (1, 2, 4, 8, 16),
    share: float = 0.3,
    seed: int = 0,
) -> KnownAndNew:
    """People seen and people unseen, each with choices held out, without a leak.

    The same people are measured at every number of examples, so that a curve over them is about examples alone: those
    who have the largest number that at least half of the people set aside have.

    Args:
        comparisons: in the order they were made.
        kinds: of the records that they came from.
        examples: numbers of examples to show of somebody new, rising.
        share: of the people to set aside.
        seed: of who, of which responses are held out, and of the order of examples that have none.

    Raises:
        DataError: nobody has enough choices to learn from some and test on others.
    """
    kinds = set(kinds)
    split = split_for(kinds, seed=seed)
    nothing = comparisons.take([])
    n_people = len(comparisons.users)
    if n_people < _FEWEST_PEOPLE:
        why = f"{n_people} people are too few to set any aside (it takes {_FEWEST_PEOPLE})"
        return KnownAndNew(*split(comparisons), {}, nothing, nothing, why_nobody=why)
    others, aside = comparisons.split(share, by="user", seed=seed)
    shared, seen = split(others)
    try:
        shown, unseen = split(aside)
    except DataError:
        shown, unseen = nothing, nothing
    if not kinds <= _STANDING_ALONE:  # pairs made of ratings stand in the order of responses, not of time
        shown = shown.take(np.random.default_rng(seed).permutation(len(shown)))
    tested = set(unseen.users)
    rows = {user: own for user, own in rows_of(shown).items() if user in tested}
    enough = [n for n in examples if sum(len(own) >= n for own in rows.values()) >= len(aside.users) / 2]
    measured = sorted(user for user, own in rows.items() if enough and len(own) >= enough[-1])
    n_too_few = len(aside.users) - len(measured)
    if len(measured) < 2:
        why = f"of {len(aside.users)} people set aside, {n_too_few} have too few choices"
        return KnownAndNew(shared, seen, {}, nothing, nothing, n_too_few, why)
    return KnownAndNew(
        shared,
        seen,
        {n: _taken(shown, [rows[user][:n] for user in measured]) for n in enough},
        _taken(shown, [rows[user] for user in measured]),
        _taken(unseen, [own for user, own in rows_of(unseen).items() if user in set(measured)]),
        n_too_few,
    )


def _taken(comparisons: Comparisons, rows: Sequence[Array]) -> Comparisons:
    return comparisons.take(np.sort(np.concatenate(rows)))
