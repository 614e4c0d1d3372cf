"""The space of tastes: where responses and ideal points lie, and what people need to know of both.

What a person needs is one number for each response and prototype (`Tables`), so that sums over a million people never
see a vector; the formulas are in `penchant.preference.ideal_point`. Learning begins with prototypes far away in the
direction of everybody's reward (`begin`), which is that reward; `alike` puts them there for good.

Source:
    Chen, Chen, Rege and Vinayak (2024), PAL: Pluralistic alignment framework for learning from heterogeneous
    preferences.

>>> from penchant.preference.descent import seeded
>>> with seeded(0):
...     space = Space(dim_in=2, dim=3, hidden=4, n_prototypes=2, dim_prompt=0, score="squared")
>>> space(torch.zeros(5, 2, dtype=torch.float64)).table.shape
torch.Size([5, 2])
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.cluster.vq import kmeans2
from torch import Tensor, nn

from penchant.preference.descent import multilayer
from penchant.preference.pooled import Pooled
from penchant.preference.votes import Places, Vectors, Votes, rows_by

Array = NDArray[np.float64]

_FAR = 50.0  # reach at which learning begins
_FARTHEST = 1e4  # so far away that an ideal point is but a direction


class Prompts(NamedTuple):
    """What responses answer to.

    Attributes:
        vectors: of the different prompts, float32[prompts, dim].
        asked: place of each response's prompt among them, int64[responses].
    """

    vectors: Vectors
    asked: Places


class Tables(NamedTuple):
    """All that people need to know of responses.

    Attributes:
        table: how each response stands to each prototype, [responses, K].
        between: how the prototypes stand to each other, [prompts, K, K].
        sharpness: logits a unit of score, [].
    """

    table: Tensor
    between: Tensor
    sharpness: Tensor


class Space(nn.Module):
    """The space of tastes: the map f into it, the prototypes or their heads, and how far away ideal points are.

    Args:
        dim_in: of responses' vectors.
        dim: of the space.
        hidden: units of each hidden layer.
        n_prototypes: K.
        dim_prompt: of prompts' vectors; 0 where ideal points do not depend on prompts.
        score: a key of `SCORES`.
    """

    def __init__(self, dim_in: int, dim: int, hidden: int, n_prototypes: int, dim_prompt: int, score: str):
        super().__init__()
        self.score = score
        self.linear = nn.Linear(dim_in, dim, bias=False)
        self.curved = multilayer(dim_in, hidden, dim, activation=nn.ReLU)
        self.prototypes = nn.Parameter(torch.randn(n_prototypes, dim))
        heads = n_prototypes if dim_prompt else 0
        self.heads = nn.ModuleList(multilayer(dim_prompt, hidden, dim, activation=nn.ReLU) for _ in range(heads))
        self.log_reach = nn.Parameter(torch.tensor(float(np.log(_FAR))))
        self.double()

    def ideals(self, prompts: Tensor | None = None) -> Tensor:
        """Prototypes at each prompt, in units of the reach, [prompts or 1, K, dim]."""
        if prompts is None or not len(self.heads):
            return self.prototypes[None]
        return self.prototypes + torch.stack([head(prompts) for head in self.heads], dim=1)

    def forward(self, responses: Tensor, prompts: Tensor | None = None, asked: Tensor | None = None) -> Tables:
        """Tables of standardised vectors [responses, dim_in], of prompts [prompts, dim_prompt], asked [responses]."""
        return self.tables(self.linear(responses) + self.curved(responses), prompts, asked)

    def tables(self, f: Tensor, prompts: Tensor | None = None, asked: Tensor | None = None) -> Tables:
        """The same of responses that are in the space already, [responses, dim]."""
        p, reach = self.ideals(prompts), self.log_reach.exp()
        length = f.square().sum(1, keepdim=True)
        along = f @ p[0].T if len(p) == 1 else (p[asked] @ f[:, :, None])[..., 0]
        one = torch.ones_like(reach)
        if self.score == "angle":  # the reach is f's last coordinate too, in which no ideal point has a part
            return Tables(along / (length + reach.square()).sqrt(), p @ p.mT, reach)
        if self.score == "squared":  # over 2 reach, without the length of ideal points, which cancels in every pair
            return Tables(along - length / (2 * reach), torch.zeros(len(p), 1, 1).to(f), one)
        z = reach * p
        ideal = z.square().sum(-1)
        table = length - 2 * reach * along + (ideal if len(p) == 1 else ideal[asked])
        return Tables(table, ideal[:, :, None] + ideal[:, None, :] - 2 * z @ z.mT, one)


def begin(space: Space, votes: Votes, everybody: Pooled) -> None:
    """Put prototypes far away in the direction of everybody's reward, apart from each other as people seem to differ.

    One Newton step of each person from everybody's weights, in coordinates in which its noise is white; people are
    drawn apart along the directions in which these steps vary most, and prototypes are the centres of K clusters.

    Args:
        space: whose f and prototypes are set; what is curved in f begins at zero.
        votes: as many as this should rest on.
        everybody: the pooled reward.
    """
    k, dim = space.prototypes.shape
    x = votes.difference.astype(np.float64) / everybody.scale
    ahead = x @ everybody.weights - votes.margin
    p = 1 / (1 + np.exp(-ahead))
    rows = [own for own in rows_by(votes.user, len(votes.people)) if len(own)]
    axes, steps = _differences(x, votes.strength - p, p * (1 - p), rows, max(0, min(k - 1, dim - 1)))
    with torch.no_grad():
        space.linear.weight[0] = torch.from_numpy(everybody.weights)
        space.linear.weight[1 : 1 + len(axes)] = torch.from_numpy(axes)
        space.prototypes.mul_(0.1).sub_(space.prototypes.mean(0))
        if len(axes):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # an empty cluster: its prototype stands where it was drawn
                centres = kmeans2(steps, min(k, len(steps)), rng=np.random.default_rng(0), minit="++")[0]
            centres = np.resize(centres, (k, len(axes)))
            space.prototypes[:, 1 : 1 + len(axes)] = torch.from_numpy(centres - centres.mean(0))
        space.prototypes[:, 0] = 1.0
        for layers in (space.curved, *space.heads):
            for weight in list(layers.parameters())[-2:]:  # of the last layer: nothing is curved yet
                weight.zero_()


def _differences(x: Array, residual: Array, spread: Array, rows: Sequence[Places], most: int) -> tuple[Array, Array]:
    """Directions in which people differ most from everybody, and everybody's step along each.

    Returns:
        Weights [directions, dim] along which logits vary about as everybody's do, and [people, directions].
    """
    n = len(x)
    curvature = (x * spread[:, None]).T @ x / n
    values, vectors = np.linalg.eigh(curvature + 1e-3 * np.trace(curvature) / len(curvature) * np.eye(len(curvature)))
    if not most or len(rows) < 2 or values[0] <= 0:
        return np.empty((0, x.shape[1])), np.empty((len(rows), 0))
    whitened = x @ (vectors / np.sqrt(values))
    slopes = np.stack([residual[own] @ whitened[own] for own in rows])
    counts = np.array([len(own) for own in rows], dtype=np.float64)[:, None]
    _, lengths, axes = np.linalg.svd(slopes / np.sqrt(counts), full_matrices=False)
    axes = axes[:most][lengths[:most] > 1e-9]
    return axes @ (vectors / np.sqrt(values)).T, slopes / counts @ axes.T


def alike(space: Space, everybody: Pooled) -> None:
    """Put every prototype so far away in the direction of everybody's reward that it is that reward."""
    with torch.no_grad():
        for weight in space.parameters():
            weight.zero_()
        space.linear.weight[0] = torch.from_numpy(everybody.weights)
        space.prototypes[:, 0] = 1.0
        space.log_reach.fill_(np.log(_FARTHEST))


@dataclass(frozen=True)
class Shared:
    """Everything that people share, once learnt.

    Attributes:
        space: f and the prototypes.
        mean, scale: of responses' vectors, [dim].
        prompt_mean, prompt_scale: of prompts' vectors, [dim or 0].
        centre: logits of the population's weights, [K].
        factor: logits a unit of what the loss sees; 1 but for the hinge.
    """

    space: Space
    mean: Array
    scale: Array
    prompt_mean: Array
    prompt_scale: Array
    centre: Array
    factor: float = 1.0

    def tensors(self, vectors: Vectors, prompts: Prompts | None) -> list[Tensor]:
        """What the space takes: standardised vectors and, where ideal points depend on prompts, theirs."""
        x = [torch.from_numpy((vectors - self.mean) / self.scale)]
        if prompts is None:
            return x
        standard = (prompts.vectors - self.prompt_mean) / self.prompt_scale
        return [*x, torch.from_numpy(standard), torch.from_numpy(prompts.asked)]

    @cached_property
    def first_layers(self) -> tuple[Array, Array]:
        """Both layers that read vectors, as one that takes them as they are: [dim_in, dim + hidden], [dim + hidden]."""
        linear, hidden = self.space.linear.weight, self.space.curved[0]
        weight = torch.cat([linear, cast(nn.Linear, hidden).weight]).detach().numpy().T / self.scale[:, None]
        bias = np.concatenate([np.zeros(len(linear)), cast(nn.Linear, hidden).bias.detach().numpy()])
        return np.ascontiguousarray(weight), bias - self.mean @ weight

    def tables(self, vectors: Vectors, prompts: Prompts | None) -> dict[str, NDArray[Any]]:
        """All that people need to know of responses, and where they stand without evidence."""
        with torch.no_grad():
            return self.as_arrays(self.space(*self.tensors(vectors, prompts)), prompts)

    def final_tables(self, vectors: Vectors, prompts: Prompts | None) -> dict[str, NDArray[Any]]:
        """The same in a third of the time, once nothing shared is learnt any more."""
        weight, bias = self.first_layers
        first = torch.from_numpy(vectors.astype(np.float64) @ weight + bias)
        with torch.no_grad():
            dim = self.space.prototypes.shape[1]
            f = first[:, :dim] + self.space.curved[1:](first[:, dim:])
            return self.as_arrays(self.space.tables(f, *self.tensors(vectors[:0], prompts)[1:]), prompts)

    def as_arrays(self, tables: Tables, prompts: Prompts | None) -> dict[str, NDArray[Any]]:
        """Tables as sums over people want them."""
        arrays = {name: value.detach().numpy() for name, value in tables._asdict().items()} | {"centre": self.centre}
        return arrays | ({} if prompts is None else {"asked": prompts.asked})


def with_gradient(value: float, at: Sequence[Tensor], slope: Sequence[Array]) -> Tensor:
    """A number whose gradient by some tensors was computed elsewhere."""
    level = torch.stack([(one * torch.as_tensor(by)).sum() for one, by in zip(at, slope, strict=True)]).sum()
    return level - level.detach() + value
