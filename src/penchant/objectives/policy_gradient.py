"""Objectives of sampled responses: several responses to each prompt, a reward for each; one loss per response."""

from typing import NamedTuple

import torch
from torch import Tensor

# Beyond this a policy has left the one that sampled; e^20 times an advantage still fits float32 with room for a batch.
_LARGEST_EXPONENT = 20.0


class Advantages(NamedTuple):
    """How much better each response is than the others to its prompt.

    Attributes:
        values: [prompts, n], mean 0 over each prompt.
        n_constant: prompts whose responses all have the same reward, which teach nothing.
    """

    values: Tensor
    n_constant: int


def group_advantages(rewards: Tensor, *, epsilon: float = 1e-6) -> Advantages:
    r"""Rewards relative to the other responses to the same prompt.

    $$A_i = \frac{R_i - \text{mean}_j R_j}{\text{std}_j R_j + \epsilon}$$

    Args:
        rewards: [prompts, n], n >= 2.
        epsilon: keeps a group of nearly equal rewards from exploding; one of equal rewards gets 0 exactly.

    Source:
        Shao et al. 2024, "DeepSeekMath", section 4.1 (group-relative advantages).
    """
    away = rewards - rewards.mean(dim=-1, keepdim=True)
    # Equal rewards leave rounding errors behind, which the division would blow up.
    constant = rewards.amax(dim=-1) == rewards.amin(dim=-1)
    values = away / (rewards.std(dim=-1, keepdim=True) + epsilon)
    return Advantages(torch.where(constant[..., None], 0.0, values), int(constant.sum()))


def clipped(log_ratio: Tensor, advantage: Tensor, *, clip: float = 0.2) -> Tensor:
    r"""Policy gradient on samples of a slightly older policy, which stops paying once the policy has moved enough.

    $$-\min\left(\rho A,\ \text{clip}(\rho, 1-c, 1+c)\,A\right), \qquad \rho = e^{\log\pi - \log\pi_{old}}$$

    Args:
        log_ratio: log policy - log of the policy that sampled, nats, any shape.
        advantage: of the same shape; a constant.
        clip: c, > 0.

    Returns:
        Loss of each response, of the same shape.

    Source:
        Schulman et al. 2017, "Proximal policy optimization algorithms", eq. 7.
    """
    ratio = log_ratio.clamp(max=_LARGEST_EXPONENT).exp()
    return -torch.minimum(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage)


def calibrated(reward: Tensor, baseline: Tensor | float, *, scale: Tensor | float = 1.0) -> Tensor:
    r"""A reward relative to that of a baseline response to the same prompt, on a scale that rewards can share.

    $$\tilde r = \sigma\left(\frac{r(x, y) - r(x, y_0)}{s}\right) - \tfrac12$$

    Rewards of several kinds are weighted only after this: without it a weight of 0.1 means nothing.

    Args:
        reward: r(x, y), any shape.
        baseline: r(x, y_0) of what the reference says, of a shape that fits.
        scale: s, the spread of the reward over responses of the reference, > 0.

    Returns:
        In (-1/2, 1/2), of the shape of `reward`; 0 where the response is as good as the baseline.

    Source:
        Xu et al. 2024, "The perfect blend: redefining RLHF with mixture of judges", calibrated rewards.
    """
    return torch.sigmoid((reward - baseline) / scale) - 0.5
