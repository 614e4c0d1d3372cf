"""Which of two responses a language model prefers, read off its probabilities of A and B in both orders.

Small models like a position more than a response: so every pair is shown both ways round, and probabilities are added.
How much of the probability falls on A or B at all says whether the question was understood. The numbers come from
`penchant.policies.options`.

Source:
    Li, Zhou, Sun, Zhang, Zhao and Liu (2024), Dissecting Human and LLM Preferences, section 3.1 and appendix.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from penchant.errors import DataError

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

QUESTION = (
    "Here are two responses to one request.\n\n[Request]\n{prompt}\n\n[Response A]\n{first}\n\n"
    "[Response B]\n{second}\n\nWhich response is better, A or B?"
)
OPENING, OPTIONS = "The better response is Response", (" A", " B")


@dataclass(frozen=True)
class Judged:
    """What a language model says of pairs, read off its probabilities in both orders.

    Attributes:
        probability: that it prefers the first response, both orders together, [pairs].
        mass: probability that falls on A or B at all, mean of both orders, [pairs].
        position: probability of A given A or B, mean of both orders; 0.5 without a bias of position, [pairs].
        agrees: whether both orders prefer the same response, bool[pairs].
    """

    probability: Floats
    mass: Floats
    position: Floats
    agrees: Bools

    @property
    def labels(self) -> Floats:
        """1 for the first response, 0 for the second, 0.5 where both are equally likely."""
        return np.asarray((np.sign(self.probability - 0.5) + 1) / 2)


def both_orders(as_given: ArrayLike, turned: ArrayLike) -> Judged:
    """Take out a judge's liking for a position: probabilities are added over both orders, not labels.

    Args:
        as_given: log-probability of A and of B where the first response is A, nats, [pairs, 2].
        turned: the same where the second response is A, nats, [pairs, 2].

    Raises:
        DataError: shapes differ, or a value is not a log-probability.

    >>> found = both_orders(np.log([[0.6, 0.2]]), np.log([[0.5, 0.3]]))
    >>> round(float(found.probability[0]), 4), found.labels.tolist(), found.agrees.tolist()
    (0.5625, [1.0], [False])
    """
    one, other = np.asarray(as_given, dtype=np.float64), np.asarray(turned, dtype=np.float64)
    if one.shape != other.shape or one.ndim != 2 or one.shape[1] != 2:
        raise DataError(f"Log-probabilities of A and B must be [pairs, 2] in both orders: {one.shape}, {other.shape}.")
    for values in (one, other):
        bad = np.isnan(values).any(axis=1) | (np.logaddexp(*values.T) > 1e-6)
        if bad.any():
            raise DataError(
                f"Row {bad.argmax()}: {values[bad.argmax()].tolist()} are no log-probabilities ({bad.sum()})."
            )
    p, q = np.exp(one), np.exp(other)
    first, second = p[:, 0] + q[:, 1], p[:, 1] + q[:, 0]
    total = first + second
    share_of_a = np.stack([expit(one[:, 0] - one[:, 1]), expit(other[:, 0] - other[:, 1])])
    return Judged(
        np.divide(first, total, out=np.full(len(first), 0.5), where=total > 0),
        total / 2,
        share_of_a.mean(axis=0),
        (one[:, 0] > one[:, 1]) == (other[:, 1] > other[:, 0]),
    )
