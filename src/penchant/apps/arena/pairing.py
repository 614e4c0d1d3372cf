"""Which two systems answer a request, and which of them is A: drawn among those that can, those that tell most rather.

>>> from penchant.apps.arena.systems import Artefact, System
>>> def quiet(request: Request, /) -> Artefact:
...     return Artefact("text/plain", b"hm")
>>> registry = Registry({name: System(name, quiet) for name in ("x", "y", "z")}, {("x", "y"): 0.0, ("y", "z"): 0.0})
>>> sorted(draw(registry, Request("hello")))
['x', 'z']
"""

import random
from collections.abc import Collection, Mapping
from itertools import combinations
from typing import Literal

from penchant.apps.arena.registry import Registry
from penchant.apps.arena.systems import Request
from penchant.errors import DataError
from penchant.evaluate.pairing import shrinkage
from penchant.preference.counts import Counts
from penchant.records import Battles

Pairing = Literal["weights", "informative"]
PairOf = tuple[str, str]

_UNIFORM = 0.1  # share of draws that ask nothing of the votes, so that no pair is starved by a wrong early fit
_DRAWN = random.SystemRandom()  # who plays next must not be foreseen


def qualified(registry: Registry, request: Request, *, excluded: Collection[str] = ()) -> dict[PairOf, float]:
    """Pairs that may meet, with their weights.

    Args:
        registry: who takes part.
        request: what both must be able to do.
        excluded: systems that are not well, or paused.

    Raises:
        DataError: no two systems can do that.
    """
    able = [name for name, system in registry.systems.items() if system.can(request) and name not in excluded]
    pairs = {pair: registry.weight(*pair) for pair in combinations(able, 2)}
    pairs = {pair: weight for pair, weight in pairs.items() if weight > 0}
    if not pairs:
        wish = " with a voice" if request.wants_voice else ""
        wish += f" of {request.duration:g} seconds" if request.duration else ""
        raise DataError(
            f"No two systems can make {request.modality}{wish} at the moment: {len(able)} of {len(registry.systems)} "
            "can. Ask for something else, or later."
        )
    return pairs


def informed(pairs: Mapping[PairOf, float], votes: Battles | None) -> dict[PairOf, float]:
    """Weights times what a vote of each pair is expected to tell, given the votes so far.

    Args:
        pairs: from `qualified`.
        votes: of the same board; systems that left the arena count along.
    """
    names = sorted({name for pair in pairs for name in pair})
    place = {name: number for number, name in enumerate(names)}
    gain = shrinkage(_counts(votes, place))
    told = {pair: weight * float(gain[place[pair[0]], place[pair[1]]]) for pair, weight in pairs.items()}
    total, weights = sum(told.values()), sum(pairs.values())
    return {pair: (1 - _UNIFORM) * told[pair] / total + _UNIFORM * pairs[pair] / weights for pair in pairs}


def _counts(votes: Battles | None, place: dict[str, int]) -> Counts:
    none: list[int] = []
    if votes is None or not len(votes):
        return Counts.of(none, none, none, len(place))
    a, b, outcome = (votes.table[name].to_pylist() for name in ("system_a", "system_b", "outcome"))
    rows = [
        (place[x], place[y], float(o == "a"), float(o == "b"), float(o == "tie"))
        for x, y, o in zip(a, b, outcome, strict=True)
        if x in place and y in place and o != "both_bad"
    ]
    if not rows:
        return Counts.of(none, none, none, len(place))
    i, j, won, lost, even = zip(*rows, strict=True)
    return Counts.of([*i, *j], [*j, *i], [*won, *lost], len(place), ties=[*even, *([0.0] * len(even))])


def draw(
    registry: Registry,
    request: Request,
    *,
    votes: Battles | None = None,
    pairing: Pairing = "informative",
    excluded: Collection[str] = (),
    drawn: random.Random = _DRAWN,
) -> PairOf:
    """Two systems, the first of which is A.

    Args:
        registry: who takes part.
        request: what both must be able to do.
        votes: so far, of the same board.
        pairing: by the weights of pairs alone, or also by what a vote would tell.
        excluded: systems that are not well, or paused.
        drawn: where chance comes from.

    Raises:
        DataError: no two systems can do that.
    """
    pairs = qualified(registry, request, excluded=excluded)
    weights = informed(pairs, votes) if pairing == "informative" else pairs
    [pair] = drawn.choices(list(weights), list(weights.values()))
    return pair if drawn.random() < 0.5 else (pair[1], pair[0])
