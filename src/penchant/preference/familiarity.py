"""How far something is from what was learnt from: what a net says of a prompt in another language is a guess.

>>> rng = np.random.default_rng(0)
>>> seen, aside = rng.standard_normal((400, 3)), rng.standard_normal((100, 3))
>>> Neighbours.of(seen, aside).share_nearer(np.array([[0.0, 0.0, 0.0], [9.0, 0.0, 0.0]])).tolist()
[0.0, 1.0]
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_COMPONENTS = 32


@dataclass(frozen=True)
class Neighbours:
    """What was seen, by its main directions and the mean variance across them.

    Attributes:
        components: main directions, [k, dim].
        variances: along them, [k].
        rest: mean variance along all others.
        reference: distances of what was set aside, sorted.

    Source:
        Tipping and Bishop (1999), Probabilistic principal component analysis: the distance is that of its density.
    """

    components: Array
    variances: Array
    rest: float
    reference: Array

    @classmethod
    def of(cls, seen: Array, aside: Array) -> "Neighbours":
        """Measured on centred vectors of what was learnt from and of what was set aside, each [n, dim]."""
        values, vectors = np.linalg.eigh(seen.T @ seen / len(seen))
        k = min(_COMPONENTS, max(1, len(seen) // 4), len(values))
        rest = float(values[:-k].mean()) if k < len(values) else 1.0
        found = cls(vectors[:, -k:].T, np.maximum(values[-k:], 1e-9), max(rest, 1e-9), np.empty(0))
        return replace(found, reference=np.sort(found.distance(aside)))

    def distance(self, features: Array) -> Array:
        """Mahalanobis distance from the middle of what was seen, [n]."""
        along = features @ self.components.T
        across = np.maximum((features**2).sum(axis=1) - (along**2).sum(axis=1), 0.0)
        return np.asarray(np.sqrt((along**2 / self.variances).sum(axis=1) + across / self.rest))

    def share_nearer(self, features: Array) -> Array:
        """Share of what was set aside that is nearer than these, [n]: 1 is further than any of it."""
        return np.asarray(np.searchsorted(self.reference, self.distance(features)) / len(self.reference))
