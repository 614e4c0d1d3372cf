"""What is measured of a response: several attributes, learnt from ratings, on scales that are fixed once.

>>> standardise = Standardisation.of(np.array([[1.0, 100.0], [3.0, 500.0]]), ["kind", "long"])
>>> standardise(np.array([[2.0, 500.0]])).tolist()
[[0.0, 1.0]]
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penchant.encoders import Encoder
from penchant.errors import DataError
from penchant.preference.votes import encoded_sides
from penchant.records import Ratings

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Standardisation:
    """Mean and spread of each axis over some responses, frozen: whatever is scored later is put on the same scale.

    Attributes:
        mean: [axes].
        scale: standard deviation, > 0, [axes].
    """

    mean: Array
    scale: Array

    @classmethod
    def of(cls, scores: Array, axes: Sequence[str]) -> "Standardisation":
        """Measured on axis scores, [n, axes].

        Raises:
            DataError: an axis is the same everywhere, so that nothing could be weighed or selected by it.
        """
        scale = scores.std(axis=0)
        largest = np.abs(scores).max(axis=0, initial=0.0)
        flat = [name for name, s, most in zip(axes, scale, largest, strict=True) if not s > 1e-9 * most]
        if flat:
            raise DataError(
                f"Axis {', '.join(flat)}: the same score for all {len(scores)} responses, so nothing can be weighed or "
                "selected by it. Leave the axis out, or bring responses that differ (sampled ones at a higher "
                "temperature)."
            )
        return cls(scores.mean(axis=0), scale)

    def __call__(self, scores: Array) -> Array:
        """Standard deviations above the mean of the responses it was measured on, [n, axes]."""
        return np.asarray((scores - self.mean) / self.scale)


@dataclass(frozen=True)
class Heads:
    """One linear head for each attribute on frozen encodings: closed-form minima of the masked squared error.

    Attributes:
        names: of the attributes.
        centre: mean of the rated responses' vectors, [dim].
        scale: their standard deviations, 1 where there is none, [dim].
        weights: of the standardised vectors and a constant, [attributes, dim + 1].
    """

    names: tuple[str, ...]
    centre: Array
    scale: Array
    weights: Array

    @classmethod
    def learnt(cls, encoder: Encoder, ratings: Ratings, *, l2: float) -> tuple["Heads", Array]:
        """Heads for all rated attributes; a rating that is missing counts nowhere.

        Args:
            encoder: payloads to vectors.
            ratings: with an `aspect` each; a response may lack any of them.
            l2: precision of the prior on the weights, relative to one rating.

        Returns:
            The heads, and the vectors of the different rated responses, [responses, dim].

        Raises:
            DataError: there are no ratings, or some lack an aspect.
        """
        aspects = ratings.table["aspect"].to_pylist()
        if not len(ratings) or any(aspect is None for aspect in aspects):
            missing = sum(aspect is None for aspect in aspects)
            raise DataError(
                f"Attributes are measured by ratings that say their `aspect`: {missing} of {len(ratings)} do not."
            )
        names = sorted(set(aspects))
        responses, [rows] = encoded_sides(encoder, ratings, ("response",))
        vectors = responses.astype(np.float64)
        column = {name: place for place, name in enumerate(names)}
        cells = rows * len(names) + np.array([column[aspect] for aspect in aspects])
        shape = (len(vectors), len(names))
        total, count = (
            np.bincount(cells, weights, minlength=shape[0] * shape[1]).astype(np.float64).reshape(shape)
            for weights in (ratings.numpy("score"), np.ones(len(ratings)))
        )
        spread = vectors.std(axis=0)
        centre, scale = vectors.mean(axis=0), np.where(spread > 1e-12, spread, 1.0)
        features = _features(vectors, centre, scale)
        weights = np.stack([_ridge(features, total[:, k], count[:, k], l2) for k in range(len(names))])
        return cls(tuple(names), centre, scale, weights), vectors

    def __call__(self, vectors: Array) -> Array:
        """Attributes on the raters' own scale, [n, attributes].

        Raises:
            DataError: vectors of another length than were measured.
        """
        return np.asarray(_features(vectors, self.centre, self.scale) @ self.weights.T)

    def arrays(self) -> dict[str, Array]:
        """What a model of people saves of it, beside the names."""
        return {"centre": self.centre, "scale": self.scale, "heads": self.weights}

    @classmethod
    def restored(cls, arrays: Mapping[str, Any], names: Sequence[str]) -> "Heads":
        """The reverse of `arrays`."""
        return cls(tuple(names), arrays["centre"], arrays["scale"], arrays["heads"])


def _features(vectors: Array, centre: Array, scale: Array) -> Array:
    if vectors.shape[1] != len(centre):
        raise DataError(f"The encoder gives {vectors.shape[1]} numbers a payload; {len(centre)} were measured.")
    return np.concatenate([(vectors - centre) / scale, np.ones((len(vectors), 1))], axis=1)


def _ridge(features: Array, total: Array, count: Array, l2: float) -> Array:
    """Weights that minimise sum of count (features . w - mean rating)^2 + l2 |w|^2, the last weight (constant) free."""
    penalty = np.full(features.shape[1], l2)
    penalty[-1] = 1e-9  # not zero: an attribute rated once still has one solution
    gram = (features.T * count) @ features + np.diag(penalty)
    return np.asarray(np.linalg.solve(gram, features.T @ total))
