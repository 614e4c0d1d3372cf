"""Which two systems should meet next: how much one more vote between them would tell about all.

A vote between i and j adds the information w = p (1 - p) along d = e_i - e_j, so that the covariance C of the abilities
becomes C - w C d d'C / (1 + w d'C d), and the sum of their variances shrinks by w |C d|^2 / (1 + w d'C d).

Source:
    Kim et al. (2025), Music Arena, draws pairs by fixed weights; Chiang et al. (2024), Chatbot Arena, section 5, by
    what a vote would tell. Sherman and Morrison (1950), for the update.

>>> from penchant.preference.counts import Counts
>>> seen = Counts.of([0, 1], [1, 0], [50, 50], 3)  # nobody has heard the third
>>> gain = shrinkage(seen)
>>> bool(gain[0, 2] > gain[0, 1])
True
"""

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from penchant.preference.counts import Counts, abilities

Array = NDArray[np.float64]


def shrinkage(counts: Counts, *, l2: float = 1.0) -> Array:
    """By how much a vote of each pair is expected to shrink the sum of the abilities' variances.

    Args:
        counts: votes so far; there may be none.
        l2: prior precision of each ability, above 0, so that a system without votes has a variance.

    Returns:
        Squared logits, [systems, systems], symmetric, 0 on the diagonal.
    """
    fit = abilities(counts, l2=l2)
    p = expit(fit.abilities[:, None] - fit.abilities)
    information = p * (1 - p)
    covariance = fit.covariance
    gain = information * _spread(covariance @ covariance) / (1 + information * _spread(covariance))
    np.fill_diagonal(gain, 0.0)
    return np.asarray(gain)


def _spread(matrix: Array) -> Array:
    """D' M d for d = e_i - e_j of every pair, [systems, systems]."""
    diagonal = np.diag(matrix)
    return np.asarray(diagonal[:, None] + diagonal - 2 * matrix)
