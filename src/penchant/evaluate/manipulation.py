"""Can a judge be pushed by what is known to move it? What to say, what to choose, and what to train on.

Without training: tell a policy to show the judge's most wanted properties (`wish`), or keep the response of n that the
judge is predicted to like best (`standing`). With training: pairs whose labels the judge is predicted to give
(`predicted`), or their opposite; a preference optimiser such as `penchant align --method dpo` learns from these. A gain
in the judge's score then says something of the judge, not of the policy.

Source:
    Li, Zhou, Sun, Zhang, Zhao and Liu (2024), Dissecting Human and LLM Preferences, arXiv 2402.11296, section 5.

>>> labels, decided = predicted([[1.0, 0.0], [0.1, 0.0], [-1.0, 0.0]], [1.0, 0.5])
>>> labels.tolist(), decided.tolist()
([1.0, 1.0, 0.0], [True, False, True])
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from penchant.errors import DataError, SettingsError

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

UNDECIDED = (0.35, 0.65)
"""Predicted probabilities between which a pair teaches nothing."""


def only(weights: ArrayLike, n: int, *, towards: bool = True) -> Floats:
    """The n most wanted (or least wanted) properties' weights, 0 elsewhere.

    >>> only([0.3, -0.2, 0.1], 1, towards=False).tolist()
    [0.0, -0.2, 0.0]
    """
    w = np.asarray(weights, dtype=np.float64)
    if not 1 <= n <= len(w):
        raise SettingsError(f"There are {len(w)} properties: n must lie between 1 and that, got {n!r}.")
    chosen = np.argsort(-w if towards else w, kind="stable")[:n]
    kept = np.zeros_like(w)
    kept[chosen] = w[chosen]
    return kept


def standing(features: ArrayLike, weights: ArrayLike) -> Floats:
    """How well each of m responses to one prompt would do against the others, by the judge's model.

    Args:
        features: of response i minus response j, [..., m, m, properties].
        weights: [properties].

    Returns:
        Mean predicted probability of being preferred to another of the m, [..., m].
    """
    x = np.asarray(features, dtype=np.float64)
    m = x.shape[-2]
    if m < 2 or x.shape[-3] != m:
        raise DataError(f"Features of m responses must be [..., m, m, properties] with m >= 2: shape {x.shape}.")
    wins = expit(x @ np.asarray(weights, dtype=np.float64))
    itself = np.eye(m, dtype=bool)
    return np.asarray(np.where(itself, 0.0, wins).sum(axis=-1) / (m - 1))


def wish(names: Sequence[str], weights: ArrayLike, *, n: int = 3, towards: bool = True) -> str:
    """What to tell a policy so that it shows a judge's most (or least) wanted properties: the test without training.

    >>> wish(("clear", "funny"), [0.5, -0.1], n=1)
    'Let your answer be above all, and plainly: clear.'
    """
    w = np.asarray(weights, dtype=np.float64)
    order = np.argsort(-w if towards else w, kind="stable")[:n]
    return f"Let your answer be above all, and plainly: {', '.join(names[j] for j in order)}."


def predicted(features: ArrayLike, weights: ArrayLike, *, towards: bool = True) -> tuple[Floats, Bools]:
    """Labels that a policy would be trained on to please the judge, or to displease it.

    Args:
        features: of new pairs, first minus second, [pairs, properties].
        weights: of the judge, [properties].
        towards: False turns every label round.

    Returns:
        1 where the first is to be preferred and 0 elsewhere, [pairs]; and which pairs are decided, bool[pairs]: those
        with a predicted probability within `UNDECIDED` are not, and are to be dropped.
    """
    p = expit(np.asarray(features, dtype=np.float64) @ np.asarray(weights, dtype=np.float64))
    decided = (p < UNDECIDED[0]) | (p > UNDECIDED[1])
    return ((p > 0.5) == towards).astype(np.float64), decided
