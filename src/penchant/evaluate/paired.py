"""Pairs that are judged both ways, each in a context of its own: does a model turn its preference with the context?

Single accuracy hides blindness: a model that ignores contexts is right on exactly half of such rows, however good it
is, and on none of the pairs as a whole. `paired` counts a pair only where both of its directions are right.

Source:
    Pitis et al. (2024), Improving Context-Aware Preference Modeling for Language Models (reversible preferences).

>>> from penchant.records import Comparisons
>>> rows = [
...     {"prompt": "How do I boil an egg?", "chosen": "Boil it.", "rejected": "First ...", "context": "be brief"},
...     {"prompt": "How do I boil an egg?", "chosen": "First ...", "rejected": "Boil it.", "context": "be thorough"},
... ]
>>> blind = paired_accuracy(Comparisons.from_rows(rows), [0.7, 0.3])
>>> blind.single, blind.paired, blind.n_pairs
(0.5, 0.0, 1)
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from penchant.errors import DataError
from penchant.records import Comparisons


@dataclass(frozen=True)
class Paired:
    """How often a model turns with the context.

    Attributes:
        single: share of the rows of such pairs that are right; 0.5 exactly for a model that ignores contexts.
        paired: share of the pairs all of whose rows are right; 0 for a model that ignores contexts.
        right: which pairs these are, in the order in which they first appear, bool[pairs].
        prompts: of each pair, for intervals by prompt, [pairs].
        n_pairs: pairs that are judged both ways.
        n_alone: rows left out because nobody judged their pair the other way round.
    """

    single: float
    paired: float
    right: NDArray[np.bool_]
    prompts: tuple[str, ...]
    n_pairs: int
    n_alone: int


def paired_accuracy(comparisons: Comparisons, probability: ArrayLike) -> Paired:
    """Accuracy on pairs that are judged in both directions.

    Args:
        comparisons: with contexts; ties are not looked at.
        probability: a model's, that the chosen response is preferred, [rows].

    Raises:
        DataError: there is not one probability a row, a row names no context, or no pair is judged both ways.
    """
    p = np.asarray(probability, dtype=np.float64)
    if p.shape != (len(comparisons),) or not np.isfinite(p).all():
        raise DataError(f"One finite probability a row is needed: got {p.shape} for {len(comparisons)} rows.")
    missing = comparisons.table["context"].null_count
    if missing:
        raise DataError(f"{missing} of {len(comparisons)} rows name no context; leave them out of a paired evaluation.")
    strength = comparisons.numpy("strength")
    pairs: dict[tuple[str, frozenset[str]], dict[str, list[int]]] = {}
    columns = (comparisons.table[name].to_pylist() for name in ("prompt", "chosen", "rejected"))
    for row, (prompt, chosen, rejected) in enumerate(zip(*columns, strict=True)):
        if strength[row] != 0.5:
            winner = chosen if strength[row] > 0.5 else rejected
            pairs.setdefault((prompt, frozenset((chosen, rejected))), {}).setdefault(winner, []).append(row)
    both = {key: [row for rows in ways.values() for row in rows] for key, ways in pairs.items() if len(ways) == 2}
    if not both:
        raise DataError(f"None of {len(pairs)} pairs is judged both ways; a paired evaluation needs both directions.")
    is_right = np.where(strength > 0.5, p > 0.5, p < 0.5)
    rows = np.concatenate([np.array(own) for own in both.values()])
    right = np.array([is_right[own].all() for own in both.values()])
    return Paired(
        single=float(np.where(p[rows] == 0.5, 0.5, is_right[rows]).mean()),
        paired=float(right.mean()),
        right=right,
        prompts=tuple(prompt for prompt, _ in both),
        n_pairs=len(both),
        n_alone=int((strength != 0.5).sum()) - len(rows),
    )
