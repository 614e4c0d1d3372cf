"""How alike judges are, by what moves them, and whether those of one group are more alike than chance.

Source:
    Li, Zhou, Sun, Zhang, Zhao and Liu (2024), Dissecting Human and LLM Preferences, arXiv 2402.11296, section 4.

>>> one, other = [[3.0, 1.0, 0.0]], [[0.0, 1.0, 3.0]]
>>> similarity([one, one, other]).round(2).tolist()
[[1.0, 1.0, -0.93], [1.0, 1.0, -0.93], [-0.93, -0.93, 1.0]]
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from penchant.errors import DataError
from penchant.evaluate.groups import grouped

Floats = NDArray[np.float64]


def similarity(weights: ArrayLike) -> Floats:
    """How alike judges are: the mean over scenarios of Pearson's correlation of their weights.

    Args:
        weights: [judges, scenarios, properties].

    Returns:
        [judges, judges], 1 on the diagonal.

    Raises:
        DataError: a weight is not finite, or a judge's weights are all equal in a scenario.
    """
    w = np.asarray(weights, dtype=np.float64)
    if w.ndim != 3 or not np.isfinite(w).all():
        raise DataError(f"Weights must be finite and [judges, scenarios, properties]: shape {w.shape}.")
    centred = w - w.mean(axis=2, keepdims=True)
    length = np.linalg.norm(centred, axis=2, keepdims=True)
    if not (length > 0).all():
        judge, scenario, _ = np.argwhere(length == 0)[0]
        raise DataError(f"Judge {judge} weighs all properties alike in scenario {scenario}: nothing to correlate with.")
    centred /= length
    return np.asarray(np.einsum("asp,bsp->ab", centred, centred) / w.shape[1])


@dataclass(frozen=True)
class Gap:
    """How much more alike judges of one group are than judges of two.

    Attributes:
        within: mean similarity of two judges of each group.
        inside: mean similarity of two judges of one group, all such pairs.
        across: of two judges of different groups.
        chance: the 99th percentile of inside - across with the groups' labels shuffled.
        p: share of shuffles with a gap at least as large, the observed one counted.
        shuffled: all these gaps.
    """

    within: Mapping[Any, float]
    inside: float
    across: float
    chance: float
    p: float
    shuffled: Floats

    @property
    def gap(self) -> float:
        """Inside - across."""
        return self.inside - self.across


def group_gap(similarities: ArrayLike, groups: ArrayLike, *, n_shuffles: int = 10_000, seed: int = 0) -> Gap:
    """Whether judges of one group (size, maker) are more alike than chance groups of the same sizes.

    Args:
        similarities: [judges, judges].
        groups: of each judge, [judges].
        n_shuffles: of the labels.
        seed: of the shuffles.

    Raises:
        DataError: no pair is inside a group, or none across.
    """
    s = np.asarray(similarities, dtype=np.float64)
    found = grouped(groups, len(s), "groups")
    pairs = np.triu_indices(len(s), 1)
    values = s[pairs]

    def inside_and_across(codes: NDArray[np.int64]) -> tuple[float, float]:
        same = codes[pairs[0]] == codes[pairs[1]]
        return float(values[same].mean()), float(values[~same].mean())

    same = found.codes[pairs[0]] == found.codes[pairs[1]]
    if same.all() or not same.any():
        raise DataError(f"{len(found.labels)} groups of {len(s)} judges leave no pairs inside a group, or none across.")
    inside, across = inside_and_across(found.codes)
    rng = np.random.default_rng(seed)
    shuffles = (inside_and_across(rng.permutation(found.codes)) for _ in range(n_shuffles))
    shuffled = np.array([one - other for one, other in shuffles])
    of_each = {
        label: float(values[same & (found.codes[pairs[0]] == code)].mean())
        for code, label in enumerate(found.labels)
        if found.counts[code] > 1
    }
    p = (1 + (shuffled >= inside - across).sum()) / (1 + n_shuffles)
    return Gap(of_each, inside, across, float(np.quantile(shuffled, 0.99)), float(p), shuffled)
