"""Losses as pure functions of log-ratios: one number per example, no model, no reduction, no metric.

A log-ratio is log policy - log reference of a whole response, in nats. A different paper is a different function.
"""

from torch import Tensor
from torch.nn.functional import logsigmoid, relu


def dpo(chosen: Tensor, rejected: Tensor, *, beta: float = 0.1, label_smoothing: float = 0.0) -> Tensor:
    """Direct preference optimisation (Rafailov et al. 2023, eq. 7; smoothing: Mitchell 2023, eq. 3).

    Args:
        chosen: log-ratio of the preferred response, nats, [pairs].
        rejected: log-ratio of the other response, nats, [pairs].
        beta: strength of the pull to the reference, > 0.
        label_smoothing: probability that a label is flipped, in [0, 0.5).

    Returns:
        Loss of each pair in nats, [pairs].
    """
    margin = beta * (chosen - rejected)
    return -(1 - label_smoothing) * logsigmoid(margin) - label_smoothing * logsigmoid(-margin)


def ipo(chosen: Tensor, rejected: Tensor, *, beta: float = 0.1) -> Tensor:
    """Identity preference optimisation (Azar et al. 2023, eq. 17), also called squared loss.

    Args:
        chosen: log-ratio of the preferred response, nats, [pairs].
        rejected: log-ratio of the other response, nats, [pairs].
        beta: the paper's tau, > 0; the margin is drawn to 1 / (2 beta).

    Returns:
        Loss of each pair in nats squared, [pairs].
    """
    return (chosen - rejected - 1 / (2 * beta)) ** 2


def hinge(chosen: Tensor, rejected: Tensor, *, beta: float = 0.1) -> Tensor:
    """Hinge loss on the margin of log-ratios (SLiC: Zhao et al. 2023, eq. 1, with log-ratios as in Liu et al. 2024).

    Args:
        chosen: log-ratio of the preferred response, nats, [pairs].
        rejected: log-ratio of the other response, nats, [pairs].
        beta: the margin is satisfied from 1 / beta on, > 0.

    Returns:
        Loss of each pair, [pairs].
    """
    return relu(1 - beta * (chosen - rejected))
