"""Several small reward nets of one shape, computed at once: ten of them cost little more than one.

>>> from penchant.preference.descent import seeded
>>> with seeded(0):
...     nets = Nets(10, dim=3, hidden=4)
>>> nets(torch.zeros(7, 3)).shape, nets(torch.zeros(10, 5, 3)).shape  # the same responses for all, or each its own
(torch.Size([10, 7]), torch.Size([10, 5]))
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import gelu

from penchant.objectives import bradley_terry
from penchant.preference.votes import Votes

_NUMBERS_AT_ONCE = 1 << 24
_COLUMNS = ("vectors", "chosen", "rejected", "strength", "margin")


class Nets(nn.Module):
    """Nets with one hidden layer and a number at the end.

    Args:
        n: nets, each drawn on its own.
        dim: numbers of a response.
        hidden: width of the layer in between.
    """

    def __init__(self, n: int, *, dim: int, hidden: int):
        super().__init__()
        within = max(dim, 1) ** -0.5
        self.inner = nn.Parameter(torch.empty(n, dim, hidden).uniform_(-within, within))
        self.bias = nn.Parameter(torch.empty(n, hidden).uniform_(-within, within))
        self.outer = nn.Parameter(torch.empty(n, hidden).uniform_(-(hidden**-0.5), hidden**-0.5))

    def features(self, x: Tensor) -> Tensor:
        """What each net makes of responses, [nets, responses, hidden].

        Args:
            x: of the same responses for all, [responses, dim], or each net's own, [nets, responses, dim].
        """
        return gelu(torch.matmul(x, self.inner) + self.bias[:, None])

    def forward(self, x: Tensor) -> Tensor:
        """Rewards, [nets, responses]; Args as `features`."""
        return torch.einsum("nrh,nh->nr", self.features(x), self.outer)


@dataclass(frozen=True)
class Pairs:
    """Votes as tensors.

    Attributes:
        x: vectors of the responses, [responses, dim].
        chosen: place of each pair's preferred response among them, [pairs].
        rejected: place of the other one, [pairs].
        strength: soft labels, [pairs].
        margin: logits the chosen must be ahead by, [pairs].
    """

    x: Tensor
    chosen: Tensor
    rejected: Tensor
    strength: Tensor
    margin: Tensor

    @classmethod
    def of(cls, votes: Votes) -> "Pairs":
        """The same as tensors."""
        return cls(*(torch.from_numpy(getattr(votes, name)) for name in _COLUMNS))

    def loss(self, nets: Callable[[Tensor], Tensor], rows: Tensor) -> Tensor:
        """Of the nets' own rows, int64[nets, batch], nats, [nets, batch]."""
        if len(self.x) <= rows.shape[1]:  # few responses in many pairs: each is scored once
            every = nets(self.x)
            chosen, rejected = (every.gather(1, side[rows]) for side in (self.chosen, self.rejected))
        else:
            chosen, rejected = (nets(self.x[side[rows]]) for side in (self.chosen, self.rejected))
        return bradley_terry(chosen, rejected, margin=self.margin[rows], strength=self.strength[rows])


def rewards_of(nets: Nets, vectors: NDArray[Any]) -> Tensor:
    """Rewards by each net, without slopes, [nets, responses]; bounded memory for any number of responses."""
    n, dim, hidden = nets.inner.shape
    with torch.no_grad():
        at_once = max(1, _NUMBERS_AT_ONCE // (n * max(dim, hidden)))
        parts = torch.split(torch.from_numpy(vectors).to(nets.inner.dtype), at_once)
        return torch.cat([nets(part) for part in parts], dim=1)


def differences_of(nets: Nets, votes: Votes) -> Tensor:
    """Rewards of chosen minus those of rejected responses, without slopes, [nets, pairs]."""
    rewards = rewards_of(nets, votes.vectors)
    return rewards[:, torch.from_numpy(votes.chosen)] - rewards[:, torch.from_numpy(votes.rejected)]


def batch_size(n_rows: int) -> int:
    """Rows of a step: about twenty steps a pass, within reason."""
    return int(np.clip(n_rows // 20, 16, 4096))
