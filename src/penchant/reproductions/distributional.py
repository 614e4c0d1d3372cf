"""Reward models that admit that people differ without asking how: baselines of whoever says that asking helps.

One net gives each response a distribution of rewards instead of a number: a normal one (mean and variance), or one over
a few fixed levels. They know when people disagree, and have nothing to say about who would choose what.

Source:
    Siththaranjan, Laidlaw and Hadfield-Menell (2024), Distributional Preference Learning, ICLR.

>>> import torch
>>> round(normal_logits(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 0.0])).item() ** 2, 4)  # 2 pi / 2
3.1416
>>> round(level_probability(torch.tensor([0.0, 50.0]), torch.tensor([50.0, 0.0])).item(), 4)
1.0
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import binary_cross_entropy, binary_cross_entropy_with_logits

from penchant.preference.descent import descend, multilayer, seeded
from penchant.preference.pooled import spread_of
from penchant.preference.votes import Votes

N_LEVELS = 10
_ENTROPY_BONUS = 0.1
_EPOCHS, _HIDDEN = 30, 64

Predict = Callable[[NDArray[np.float32], NDArray[np.float32]], NDArray[np.float64]]
"""Vectors of chosen and of rejected responses -> P(chosen is preferred), [pairs]."""


def normal_logits(first: Tensor, second: Tensor) -> Tensor:
    """Logits sqrt(2 pi) (mean - mean') / sqrt(variance + variance') that the first is preferred, [...].

    Args:
        first: mean and log variance of its reward, [..., 2].
        second: likewise.
    """
    variance = first[..., 1].exp() + second[..., 1].exp()
    return math.sqrt(2 * math.pi) * (first[..., 0] - second[..., 0]) / variance.sqrt()


def level_probability(first: Tensor, second: Tensor) -> Tensor:
    """P(level of the first's reward > the second's) + half of P(equal), [...].

    Args:
        first: logits of the levels, lowest first, [..., levels].
        second: likewise.
    """
    p, q = first.softmax(dim=-1), second.softmax(dim=-1)
    below = q.cumsum(dim=-1) - q / 2
    return (p * below).sum(dim=-1).clamp(1e-6, 1 - 1e-6)


def mean_variance(votes: Votes, *, seed: int) -> Predict:
    """Learn a normal reward for each response, by cross-entropy."""

    def loss(first: Tensor, second: Tensor, strength: Tensor) -> Tensor:
        return binary_cross_entropy_with_logits(normal_logits(first, second), strength)

    return _learnt(votes, 2, loss, lambda first, second: normal_logits(first, second).sigmoid(), seed)


def categorical(votes: Votes, *, seed: int) -> Predict:
    """Learn a reward of several levels for each response, by cross-entropy and a bonus for entropy."""

    def loss(first: Tensor, second: Tensor, strength: Tensor) -> Tensor:
        both = torch.cat([first, second])
        entropy = -(both.softmax(dim=-1) * both.log_softmax(dim=-1)).sum(dim=-1).mean()
        return binary_cross_entropy(level_probability(first, second), strength) - _ENTROPY_BONUS * entropy

    return _learnt(votes, N_LEVELS, loss, level_probability, seed)


def _learnt(
    votes: Votes,
    n_outputs: int,
    loss: Callable[[Tensor, Tensor, Tensor], Tensor],
    probability: Callable[[Tensor, Tensor], Tensor],
    seed: int,
) -> Predict:
    chosen, rejected = (votes.vectors[side].astype(np.float64) for side in (votes.chosen, votes.rejected))
    scale = spread_of(chosen, rejected)
    with seeded(seed):
        net = multilayer(votes.vectors.shape[1], _HIDDEN, _HIDDEN, n_outputs)
    first, second = (torch.from_numpy((side / scale).astype(np.float32)) for side in (chosen, rejected))
    strength = torch.from_numpy(votes.strength)
    descend(
        lambda rows: loss(net(first[rows]), net(second[rows]), strength[rows]),
        net.parameters(),
        len(votes),
        epochs=_EPOCHS,
        weight_decay=1e-2,
        seed=seed,
    )

    def predict(liked: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float64]:
        with torch.no_grad():
            sides = (net(torch.from_numpy((side / scale).astype(np.float32))) for side in (liked, other))
            return np.asarray(probability(*sides).double().numpy())

    return predict
