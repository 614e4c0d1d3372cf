"""Which head speaks, read from a text: log-odds of heads that are linear in the vector of a prompt or a context.

A pair labelled with a text says which heads explain it; the gate makes those heads likely for texts like it. Heads stay
as they are. How far texts are trusted is measured on texts that were set aside, and no trust at all is one of the
choices.

>>> said = np.array([[1.0, 0.0], [0.0, 1.0]] * 20)
>>> explains = np.log(np.array([[0.9, 0.2], [0.2, 0.9]] * 20))
>>> found = Gate.learnt(said, np.arange(40), np.log([0.5, 0.5]), explains)
>>> softmax(np.log([0.5, 0.5]) + found(said[:2]), axis=1).argmax(axis=1).tolist()
[0, 1]
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax, logsumexp, softmax

from penchant.preference.votes import Places

Array = NDArray[np.float64]

_PRECISIONS = (0.01, 0.1, 1.0, 10.0)  # of sentence vectors of length one
_FOLDS = 5


@dataclass(frozen=True)
class Gate:
    """Log-odds of heads by what a text says.

    Attributes:
        centre: mean vector of the texts it was learnt from, which changes nothing, [dim].
        weights: log-odds for one unit of a vector, [heads, dim].
    """

    centre: Array
    weights: Array

    def __call__(self, vectors: NDArray[Any]) -> Array:
        """What texts add to the log weight of each head, nats up to a constant, [texts, heads]."""
        return np.asarray((vectors.astype(np.float64) - self.centre) @ self.weights.T)

    @classmethod
    def learnt(
        cls, vectors: NDArray[Any], text: Places, log_prior: Array, log_likelihood: Array, *, seed: int = 0
    ) -> "Gate | None":
        """The gate under which pairs are most likely: maximises sum_i log sum_k w_k(text_i) P_k(pair i).

        Args:
            vectors: of the different texts, [texts, dim].
            text: place of each pair's text among them, [pairs].
            log_prior: log weight of each head before anything is read, [heads] or [pairs, heads].
            log_likelihood: of each pair under each head, nats, [pairs, heads].
            seed: of what is set aside.

        Returns:
            None if pairs set aside are as likely without any.
        """
        if len(vectors) < 2 or not vectors.shape[1]:
            return None
        centre = vectors.mean(axis=0, dtype=np.float64)
        features = vectors.astype(np.float64) - centre
        prior = np.broadcast_to(log_prior, log_likelihood.shape)
        rng = np.random.default_rng(seed)
        # Texts never read before are what a gate is for; of very few texts pairs are set aside instead.
        fold = rng.permutation(len(vectors))[text] if len(vectors) >= 2 * _FOLDS else rng.permutation(len(text))
        surprises = np.zeros(len(_PRECISIONS))
        for number in range(_FOLDS):
            aside = fold % _FOLDS == number
            data = (features, text[~aside], prior[~aside], log_likelihood[~aside])
            found = [_weights(*data, precision) for precision in _PRECISIONS]
            for place, weights in enumerate(found):
                log_odds = features[text[aside]] @ weights.T
                surprises[place] -= _evidence(prior[aside] + log_odds, log_likelihood[aside]).sum()
        nothing = -_evidence(prior, log_likelihood).sum()
        if surprises.min() >= nothing:
            return None
        return cls(centre, _weights(features, text, prior, log_likelihood, _PRECISIONS[int(surprises.argmin())]))


def _evidence(log_weights: Array, log_likelihood: Array) -> Array:
    return np.asarray(logsumexp(log_softmax(log_weights, axis=1) + log_likelihood, axis=1))


def _weights(features: Array, text: Places, prior: Array, log_likelihood: Array, precision: float) -> Array:
    n_heads, (n_texts, dim) = prior.shape[1], features.shape

    def loss(point: Array) -> tuple[float, Array]:
        weights = point.reshape(n_heads, dim)
        log_weights = log_softmax(prior + (features @ weights.T)[text], axis=1)
        joint = log_weights + log_likelihood
        # Again Fisher's identity: how likely each head is after the pair, less how likely it was before.
        moved = softmax(joint, axis=1) - np.exp(log_weights)
        by_text = np.stack([np.bincount(text, one, n_texts) for one in moved.T])
        value = logsumexp(joint, axis=1).sum() - 0.5 * precision * (weights**2).sum()
        return -float(value), -(by_text @ features - precision * weights).ravel()

    found = minimize(loss, np.zeros(n_heads * dim), jac=True, method="L-BFGS-B", options={"maxiter": 200})
    return np.asarray(found.x.reshape(n_heads, dim))
