"""Objectives of single responses: one response to one prompt, liked or not; one loss per response."""

import torch
from torch import Tensor


def nll(log_probability: Tensor) -> Tensor:
    r"""Negative log-likelihood of responses worth imitating (supervised fine-tuning).

    $$-\log\pi(y|x)$$

    Args:
        log_probability: of each response under the policy, nats, [responses]; pass the mean per token for a loss that
            does not grow with length.

    Returns:
        Loss of each response in nats, [responses].
    """
    return -log_probability


def kto(
    log_ratio: Tensor,
    desirable: Tensor,
    *,
    reference_kl: Tensor | float,
    beta: float = 0.1,
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
) -> Tensor:
    r"""Kahneman-Tversky optimisation: each response is judged against what the policy gained on average.

    $$\lambda_D\,(1 - \sigma(\beta(r - z_0))) \text{ if desirable}, \qquad
      \lambda_U\,(1 - \sigma(\beta(z_0 - r))) \text{ if not}$$

    Args:
        log_ratio: of each response, nats, [responses].
        desirable: whether each response was liked, bool, [responses].
        reference_kl: z_0, nats, one number for the batch: the mean log-ratio of responses shown after *other* prompts
            of the batch, clamped at 0 from below; it enters as a constant (its gradient is dropped here).
        beta: strength of the pull to the reference, > 0.
        desirable_weight: lambda_D, >= 0.
        undesirable_weight: lambda_U, >= 0; choose lambda_D n_D / (lambda_U n_U) in [1, 4/3] as the paper advises.

    Returns:
        Loss of each response, in [0, its weight], [responses].

    Source:
        Ethayarajh et al. 2024, "KTO: model alignment as prospect theoretic optimization", section 4. Equal to TRL's
        `kto`, which returns the mean over the batch.
    """
    anchor = torch.as_tensor(reference_kl, dtype=log_ratio.dtype, device=log_ratio.device).detach()
    advantage = beta * (log_ratio - anchor)
    return torch.where(
        desirable.bool(), desirable_weight * torch.sigmoid(-advantage), undesirable_weight * torch.sigmoid(advantage)
    )
