"""Objectives on rewards: how likely people's choices and rankings are, given a number for each response.

For a policy instead of a reward model pass beta times the log-ratios: then `bradley_terry` is DPO and `plackett_luce`
is DPO on ranked lists (Rafailov et al. 2023, appendix A.3).
"""

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid


def bradley_terry(
    chosen: Tensor, rejected: Tensor, *, margin: Tensor | float = 0.0, strength: Tensor | float = 1.0
) -> Tensor:
    r"""Negative log-likelihood of a pair, with a margin and a soft label.

    $$-s\log\sigma(R_w - R_l - m) - (1-s)\log\sigma(-(R_w - R_l - m))$$

    Args:
        chosen: reward R of the preferred response, logits, [pairs].
        rejected: reward of the other response, logits, [pairs].
        margin: m, logits by which the preferred response must be ahead to be even, [pairs] or one number; a swapped
            pair takes it negated.
        strength: s, share of people who prefer `chosen`, in [0, 1], [pairs] or one number; 0.5 makes a tie half a win
            for each side (for ties as an outcome of their own see `davidson`).

    Returns:
        Loss of each pair in nats, [pairs].

    Source:
        Bradley and Terry 1952; margin: Touvron et al. 2023, "Llama 2", eq. 2 (equal to TRL's reward trainer).
    """
    ahead = chosen - rejected - margin
    return -(strength * logsigmoid(ahead) + (1 - strength) * logsigmoid(-ahead))


def davidson(chosen: Tensor, rejected: Tensor, *, strength: Tensor, log_tie: Tensor | float = 0.0) -> Tensor:
    r"""Negative log-likelihood of a pair where a tie is an outcome of its own (Davidson's model, not Rao-Kupper's).

    $$P(w) = \frac{e^{d/2}}{Z}, \quad P(l) = \frac{e^{-d/2}}{Z}, \quad P(tie) = \frac{\nu}{Z}, \qquad
      d = R_w - R_l, \quad Z = e^{d/2} + e^{-d/2} + \nu$$

    Args:
        chosen: reward R of the first response, logits, [pairs].
        rejected: reward of the second response, logits, [pairs].
        strength: 1 the first won, 0.5 a tie, 0 the second won, [pairs]; in between, a mixture of the two nearest of
            these outcomes (0.75 is half a win and half a tie).
        log_tie: log nu, how common ties are, one number that may be learnt; nu -> 0 (log_tie -> -inf) is Bradley-Terry.

    Returns:
        Loss of each pair in nats, [pairs].

    Source:
        Davidson 1970, "On extending the Bradley-Terry model to accommodate ties in paired comparison experiments",
        JASA 65. TRL does not have it.
    """
    half = (chosen - rejected) / 2
    tie_logit = torch.as_tensor(log_tie, dtype=half.dtype, device=half.device).expand_as(half)
    logits = torch.stack([half, tie_logit, -half], dim=-1)  # [pairs, 3]
    lean = 2 * torch.as_tensor(strength, dtype=half.dtype, device=half.device) - 1
    weights = torch.stack([lean.clamp(min=0), 1 - lean.abs(), (-lean).clamp(min=0)], dim=-1)
    return -(weights * torch.log_softmax(logits, dim=-1)).sum(dim=-1)


def plackett_luce(rewards: Tensor, *, mask: Tensor | None = None) -> Tensor:
    r"""Negative log-likelihood of a ranking: the best is chosen among all, then the next among the rest, and so on.

    $$-\sum_{i=1}^{k-1} \log\frac{e^{R_i}}{\sum_{j \ge i} e^{R_j}}$$

    Args:
        rewards: of the responses of each list, best first, logits, [lists, k]. Ties are not modelled: leave out all
            but one of the tied responses, or average over their orders.
        mask: True where a place holds a response, bool, [lists, k]; all places without it.

    Returns:
        Loss of each list in nats, [lists]; 0 for a list of one.

    Source:
        Plackett 1975, "The analysis of permutations", Applied Statistics 24; Luce 1959. With two responses it is
        Bradley-Terry. TRL does not have it.
    """
    k = rewards.shape[-1]
    present = torch.ones_like(rewards, dtype=torch.bool) if mask is None else mask.bool()
    # Choices left at place i are the present places j >= i. Place i itself stays in even where it is absent, so that no
    # logsumexp runs over nothing (its gradient would be NaN); its term is zeroed below.
    place = torch.arange(k, device=rewards.device)
    later = (place[None, :] > place[:, None]) & present[..., None, :]
    left = later | (place[None, :] == place[:, None])
    # Absent rewards may hold anything, NaN included.
    scores = torch.where(present, rewards, torch.zeros_like(rewards))
    total = torch.where(left, scores[..., None, :], -torch.inf).logsumexp(dim=-1)  # [lists, k]
    return torch.where(present, total - scores, 0.0).sum(dim=-1)
