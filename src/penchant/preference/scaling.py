"""Rewards of different people, made comparable: a choice between two says nothing of the size of a person's rewards.

Choices determine a reward up to a shift, and its size says how decided the person is, or how sure the model. A policy
trained on the rewards of many people serves the decided ones and hardly hears the others, unless they are scaled.

Source:
    Poddar et al. (2024), Personalizing Reinforcement Learning from Human Feedback with Variational Preference Learning,
    section 4.2 (batch, max, and the mean of a pairwise classifier over a comparison set).
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

Array = NDArray[np.float64]


def by_largest(rewards: ArrayLike, others: ArrayLike) -> Array:
    """Rewards of one person over the largest size among a comparison set's, [n].

    Args:
        rewards: of what is to be scored, logits, [n].
        others: of the comparison set, by the same person, [m].
    """
    largest = np.abs(np.asarray(others, dtype=np.float64)).max(initial=0.0)
    return np.asarray(rewards, dtype=np.float64) / (largest or 1.0)


def by_spread(rewards: ArrayLike, others: ArrayLike) -> Array:
    """Rewards of one person in standard deviations from the mean of a comparison set's; arguments as `by_largest`."""
    among = np.asarray(others, dtype=np.float64)
    return np.asarray((np.asarray(rewards, dtype=np.float64) - among.mean()) / (among.std() or 1.0))


def win_rate(rewards: ArrayLike, others: ArrayLike) -> Array:
    """How likely each is preferred to something of a comparison set, in [0, 1] for everybody; as `by_largest`.

    The paper trains a classifier p(s > s' | z) for this and calls the result SPO; ours follows from the reward, so that
    it can never prefer in a circle.

    >>> win_rate([0.0, 50.0], [0.0, 0.0]).tolist()
    [0.5, 1.0]
    """
    ahead = np.subtract.outer(np.asarray(rewards, dtype=np.float64), np.asarray(others, dtype=np.float64))
    return np.asarray(expit(ahead).mean(axis=1))
