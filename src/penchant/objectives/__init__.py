"""Losses as pure functions of log-ratios, log-probabilities or rewards: one number per example, no model, no metric.

A *log-ratio* is log policy - log reference of a whole response, in nats, summed over its tokens. A different paper is a
different function; nothing here reduces a batch, so that whoever trains decides how examples are weighted.

- `pairwise.py`, two responses to one prompt, one of them preferred: dpo, robust_dpo, gamma_dpo, length_normalised_dpo,
  ipo, hinge, exponential, apo_zero, apo_down, simpo, orpo
- `unpaired.py`, one response, liked or not: nll, kto
- `listwise.py`, the rewards of two or more responses to one prompt: bradley_terry, davidson, plackett_luce
- `policy_gradient.py`, sampled responses and how much better each was than others: clipped (and, in that file, how
  rewards of several kinds become such advantages)

Every objective of pairs takes `chosen` and `rejected` first and everything else by keyword.

>>> import torch
>>> dpo(torch.tensor([2.0, 0.0]), torch.tensor([1.0, 0.0]), beta=1.0).tolist()  # log(1 + 1/e), log 2
[0.3132616877555847, 0.6931471824645996]
"""

from penchant.objectives.listwise import bradley_terry, davidson, plackett_luce
from penchant.objectives.pairwise import (
    apo_down,
    apo_zero,
    dpo,
    exponential,
    gamma_dpo,
    hinge,
    ipo,
    length_normalised_dpo,
    orpo,
    robust_dpo,
    simpo,
)
from penchant.objectives.policy_gradient import clipped
from penchant.objectives.unpaired import kto, nll

__all__ = [
    "apo_down",
    "apo_zero",
    "bradley_terry",
    "clipped",
    "davidson",
    "dpo",
    "exponential",
    "gamma_dpo",
    "hinge",
    "ipo",
    "kto",
    "length_normalised_dpo",
    "nll",
    "orpo",
    "plackett_luce",
    "robust_dpo",
    "simpo",
]
