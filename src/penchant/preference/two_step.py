r"""Two steps to a preference: which context is meant, then preference in it; and the error that each step makes.

$$p(a \succ b \mid x) = \sum_z q(z)\,P(a \succ b \mid x, z), \qquad
  |p - p^*| \le \sum_z q(z)\,|P_z - P^*_z| + \mathrm{TV}(q, p^*)$$

Source:
    Pitis, Xiao, Le Roux and Sordoni (2024), Improving Context-Aware Preference Modeling for Language Models, section 3.
    The bound is elementary: p - p* = sum q (P - P*) + sum (q - p*) P*, and P* lies between 0 and 1.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, softmax

from penchant.errors import DataError

Array = NDArray[np.float64]


def marginal(probabilities: ArrayLike, weights: ArrayLike) -> Array:
    """P(chosen is preferred) where the context is uncertain: the average probability, never the average reward.

    Args:
        probabilities: of each pair under each context, [contexts, pairs].
        weights: q, of each context, [contexts], or for each pair, [contexts, pairs]; each sums to 1.

    Raises:
        DataError: there is no context, or the weights are no probabilities.

    >>> marginal([[0.9, 0.2], [0.1, 0.4]], [0.75, 0.25]).round(3).tolist()
    [0.7, 0.25]
    """
    p, q = np.asarray(probabilities, dtype=np.float64), np.asarray(weights, dtype=np.float64)
    require_distribution(q)
    return np.asarray((p * (q if q.ndim == 2 else q[:, None])).sum(axis=0))


def borda(rewards: ArrayLike, weights: ArrayLike) -> Array:
    """Mean share of the alternatives that each response beats, over contexts, in [0, 1], [n].

    Args:
        rewards: of each response in each context, logits, [contexts, n]; n at least 2.
        weights: q, of each context, summing to 1, [contexts].

    Raises:
        DataError: there is no context, the weights are no probabilities, or there is nothing to compare with.

    >>> borda([[50.0, 0.0, -50.0], [0.0, 1e6, 1e7]], [0.8, 0.2]).round(2).tolist()  # the scale of one says nothing
    [0.8, 0.5, 0.2]
    """
    r, q = np.asarray(rewards, dtype=np.float64), np.asarray(weights, dtype=np.float64)
    require_distribution(q)
    if r.shape[1] < 2:
        raise DataError(f"A response is compared with others: got {r.shape[1]} responses, give at least 2.")
    wins = expit(r[:, :, None] - r[:, None, :]).sum(axis=2) - 0.5  # less the half win over itself
    return np.asarray(q @ wins / (r.shape[1] - 1))


def posterior(log_likelihood: ArrayLike, prior: ArrayLike) -> Array:
    """Which context explains what a person preferred, [contexts].

    Args:
        log_likelihood: sum over the person's pairs of log P(label | x, z) under each context, nats, [contexts].
        prior: of each context, summing to 1, [contexts].

    Raises:
        DataError: there is no context, or the prior is no distribution.

    >>> posterior(np.log([0.9, 0.1]) * 2, [0.5, 0.5]).round(3).tolist()
    [0.988, 0.012]
    """
    likely, before = np.asarray(log_likelihood, dtype=np.float64), np.asarray(prior, dtype=np.float64)
    require_distribution(before)
    with np.errstate(divide="ignore"):  # a context that was ruled out stays so
        return np.asarray(softmax(likely + np.log(before)))


@dataclass(frozen=True)
class ErrorTerms:
    """Why a preference that was predicted without a context is wrong.

    Attributes:
        actual: |p - p*| of each pair, [pairs].
        preference: wrong preferences in contexts, sum q |P - P*|, [pairs].
        context: wrongly guessed contexts, half the L1 distance of q and p*, [pairs].
    """

    actual: Array
    preference: Array
    context: Array

    @property
    def bound(self) -> Array:
        """The most that the error can be, [pairs]."""
        return self.preference + self.context


def error_terms(guessed: ArrayLike, predicted: ArrayLike, true_weights: ArrayLike, true: ArrayLike) -> ErrorTerms:
    """The two-term bound on the error of a two-step prediction.

    Args:
        guessed: q, of each context, [contexts] or [contexts, pairs].
        predicted: P, that the first is preferred in each context, [contexts, pairs].
        true_weights: p*(z), likewise as `guessed`.
        true: P*, likewise as `predicted`.

    Raises:
        DataError: weights are no probabilities.

    >>> terms = error_terms([0.5, 0.5], [[0.9], [0.1]], [1.0, 0.0], [[0.9], [0.1]])  # the context was not known
    >>> terms.preference.tolist(), terms.context.tolist(), terms.actual.round(2).tolist()
    ([0.0], [0.5], [0.4])
    """
    p, p_star = (np.asarray(value, dtype=np.float64) for value in (predicted, true))
    q, q_star = (np.asarray(value, dtype=np.float64) for value in (guessed, true_weights))
    require_distribution(q)
    require_distribution(q_star)
    q, q_star = (np.broadcast_to(w if w.ndim == 2 else w[:, None], p.shape) for w in (q, q_star))
    return ErrorTerms(
        actual=np.abs((q * p).sum(axis=0) - (q_star * p_star).sum(axis=0)),
        preference=(q * np.abs(p - p_star)).sum(axis=0),
        context=0.5 * np.abs(q - q_star).sum(axis=0),
    )


def require_distribution(weights: Array) -> None:
    """Refuse what is no distribution over contexts.

    Raises:
        DataError: there is no context, or weights are negative, not finite, or do not sum to 1.
    """
    if not len(weights):
        raise DataError("There is no context to choose among: give at least one, and the weight of each.")
    total = weights.sum(axis=0)
    if not (np.isfinite(weights).all() and (weights >= 0).all() and np.allclose(total, 1.0, atol=1e-6)):
        raise DataError(
            f"Weights of contexts must be at least 0 and sum to 1: got {weights.tolist()!r:.200}, sum "
            f"{np.unique(np.round(total, 6))[:3].tolist()}. Divide them by their sum."
        )
