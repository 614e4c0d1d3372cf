"""Where people stand among a few prototypes: weights on a simplex, found for any number of people at once.

A person is w = softmax(a) and the person's ideal point z = sum_k w_k p_k. What a person needs to know of a response is
one number a prototype: with D_k = |f - p_k|^2 and E_kl = |p_k - p_l|^2,

    |f - z|^2 = sum_k w_k D_k - 1/2 sum_kl w_k w_l E_kl        (weights sum to 1)

and likewise the angle between f and z follows from <f, p_k> and <p_k, p_l>. So a table [responses, K] is all that
leaves the shared part of a model, and its gradient is all that comes back, as sums over people.

Source:
    Chen, Chen, Rege and Vinayak (2024), PAL (scores and losses); Marquardt (1963), An algorithm for least-squares
    estimation of nonlinear parameters; Hunter and Lange (2004), A tutorial on MM algorithms (the hinge).

>>> w, table, between = torch.tensor([[0.5, 0.5]]), torch.tensor([[1.0, 1.0]]), torch.tensor([[[0.0, 4.0], [4.0, 0.0]]])
>>> distance(w, table, between).tolist()  # half-way between prototypes at -1 and 1 on a line, a response at 0
[-9.999999974752427e-07]
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import relu, softplus

from penchant.preference.shards import Arrays
from penchant.preference.votes import Votes

Array = NDArray[np.float64]

_TINY = 1e-12  # under a root, whose slope at 0 is infinite


def squared(weights: Tensor, table: Tensor, between: Tensor) -> Tensor:
    """-|f - z|^2, up to what is the same for all responses to a prompt.

    Args:
        weights: of a person, on the simplex, [n, K].
        table: the same of each response and each prototype, [n, K].
        between: not needed: what prototypes are to each other is the same for all responses.

    Returns:
        [n].
    """
    return (weights * table).sum(-1)


def distance(weights: Tensor, table: Tensor, between: Tensor) -> Tensor:
    """-|f - z|. PAL-A's score of a pair is the difference, positive for the nearer response.

    Args:
        weights: of a person, on the simplex, [n, K].
        table: squared distance of each response to each prototype, [n, K].
        between: squared distances of the prototypes, [n or 1, K, K].
    """
    return -((weights * table).sum(-1) - _form(weights, between) / 2).clamp_min(_TINY).sqrt()


def angle(weights: Tensor, table: Tensor, between: Tensor) -> Tensor:
    """cos(f, z), PAL-B's score; the table and `between` hold inner products with prototypes, f is of length 1."""
    return (weights * table).sum(-1) / _form(weights, between).clamp_min(_TINY).sqrt()


def _form(weights: Tensor, between: Tensor) -> Tensor:
    """W' B w of each row."""
    across = weights @ between[0] if len(between) == 1 else (between @ weights[..., None])[..., 0]
    return (across * weights).sum(-1)


SCORES: Mapping[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "squared": squared,
    "distance": distance,
    "angle": angle,
}


class Penalty(NamedTuple):
    """A loss of each pair, and what Newton's method needs of it, each [pairs]."""

    value: Tensor
    slope: Tensor
    curvature: Tensor


def logistic(ahead: Tensor, strength: Tensor) -> Penalty:
    """Cross-entropy of how far the first is preferred, 0..1, under so many logits; PAL-B's loss."""
    value = strength * softplus(-ahead) + (1 - strength) * softplus(ahead)
    p = torch.sigmoid(ahead)
    return Penalty(value, p - strength, p * (1 - p))


def hinge(ahead: Tensor, strength: Tensor) -> Penalty:
    """max(0, 1 - score) for the preferred response; PAL-A's loss.

    It has no curvature: instead that of the parabola above it which touches it here (Hunter and Lange 2004).
    """
    below, above = relu(1 - ahead), relu(1 + ahead)
    slope = (1 - strength) * (above > 0) - strength * (below > 0)
    curvature = strength / (2 * (1 - ahead).abs().clamp_min(0.05))
    curvature = curvature + (1 - strength) / (2 * (1 + ahead).abs().clamp_min(0.05))
    return Penalty(strength * below + (1 - strength) * above, slope, curvature)


LOSSES: Mapping[str, Callable[[Tensor, Tensor], Penalty]] = {"logistic": logistic, "hinge": hinge}


class Rule(NamedTuple):
    """How preference falls with distance, what a wrong order costs, and how alike people are.

    Attributes:
        score: a key of `SCORES`.
        loss: a key of `LOSSES`.
        precision: of the prior on the logits of a person's weights, > 0.
    """

    score: str
    loss: str
    precision: float


class Pairs(NamedTuple):
    """Pairs as people see them: how both responses stand to each prototype.

    Attributes:
        chosen, rejected: rows of the table, [pairs, K].
        between: how the prototypes stand to each other, [pairs or 1, K, K].
        strength, margin: soft labels, and logits the first must be ahead by, [pairs].
        person: numbered from 0, [pairs].
        sharpness: logits a unit of score, [].
    """

    chosen: Tensor
    rejected: Tensor
    between: Tensor
    strength: Tensor
    margin: Tensor
    person: Tensor
    sharpness: Tensor

    def of(self, rows: Tensor) -> "Pairs":
        """Some pairs."""
        between = self.between if len(self.between) == 1 else self.between[rows]
        sides = (self.chosen[rows], self.rejected[rows], between)
        return Pairs(*sides, self.strength[rows], self.margin[rows], self.person[rows], self.sharpness)

    def ahead(self, weights: Tensor, score: str) -> Tensor:
        """Logits that the chosen response is ahead of the margin, [pairs], by the weights of each pair, [pairs, K]."""
        rate = SCORES[score]
        gap = rate(weights, self.chosen, self.between) - rate(weights, self.rejected, self.between)
        return self.sharpness * gap - self.margin


def pairs_of(shared: Arrays, votes: Votes, leaves: Mapping[str, Tensor] | None = None) -> Pairs:
    """Votes as pairs, out of the tables of all responses.

    Args:
        shared: `table` [responses, K], `between` [prompts, K, K], `sharpness` [] and, where there are several prompts,
            `asked`, the prompt of each response, [responses].
        votes: of some people, numbered from 0.
        leaves: the first three as tensors, if gradients are wanted.
    """
    given = leaves or {name: _tensor(shared[name]) for name in LEAVES}
    chosen, rejected = _tensor(votes.chosen), _tensor(votes.rejected)
    prompts = _tensor(shared["asked"])[chosen] if "asked" in shared else torch.zeros(1, dtype=torch.int64)
    return Pairs(
        chosen=given["table"][chosen],
        rejected=given["table"][rejected],
        between=given["between"][prompts],
        strength=_tensor(votes.strength).double(),
        margin=_tensor(votes.margin).double(),
        person=_tensor(votes.user),
        sharpness=given["sharpness"],
    )


LEAVES = ("table", "between", "sharpness")


def _tensor(array: Any) -> Tensor:
    return torch.from_numpy(np.array(array))  # a copy: what is mapped from a file must not be written to


class Localised(NamedTuple):
    """Where people stand.

    Attributes:
        logits: a, whose softmax are the weights, [people, K].
        covariance: of the logits, from Laplace's posterior, [people, K, K].
    """

    logits: Tensor
    covariance: Tensor


@torch.no_grad()
def localise(
    pairs: Pairs, n_people: int, rule: Rule, centre: Tensor, *, tolerance: float = 1e-8, max_steps: int = 60
) -> Localised:
    """Weights of people, each at the optimum of their own pairs under a Gaussian prior on the logits.

    Levenberg-Marquardt on all people at once; a person is done when a step is short, so that nobody's result depends on
    who else is there.

    Args:
        pairs: of these people.
        n_people: how many.
        rule: score, loss and precision of the prior.
        centre: mean of the prior, [K].
        tolerance: a step of no greater length is the last.
        max_steps: most steps.
    """
    logits = centre.repeat(n_people, 1)
    value, slope, curvature = _around(pairs, logits, rule, centre)
    damping = torch.zeros(n_people, dtype=logits.dtype)
    unit = torch.eye(len(centre), dtype=logits.dtype)
    active, own = torch.arange(n_people), pairs
    for _ in range(max_steps):
        damped = curvature[active] + (damping[active] * rule.precision)[:, None, None] * unit
        step = -torch.linalg.solve(damped, slope[active])
        trial = logits[active] + step
        there = _around(own, trial, rule, centre)
        better = there[0] <= value[active] + 1e-12 * (1 + value[active].abs())
        moved = active[better]
        logits[moved] = trial[better]
        value[moved], slope[moved], curvature[moved] = (new[better] for new in there)
        damping[active] = torch.where(better, damping[active] / 8, (damping[active] * 8).clamp_min(1.0))
        is_going_on = (step.abs().amax(1) > tolerance) & (damping[active] < 1e12)
        if not is_going_on.any():
            break
        if not is_going_on.all():
            place = torch.where(is_going_on, is_going_on.cumsum(0) - 1, -1)
            active, person = active[is_going_on], place[own.person]
            rows = torch.nonzero(person >= 0)[:, 0]
            own = own.of(rows)._replace(person=person[rows])
    return Localised(logits, torch.linalg.inv(curvature))


def _around(pairs: Pairs, logits: Tensor, rule: Rule, centre: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Objective of each person, its slope and its curvature: [people], [people, K], [people, K, K].

    The curvature is exact for a score that is linear in the weights; of others, what is curved in them is left out.
    """
    weights = logits.softmax(1)
    ahead, by_logit = _by_logit(pairs, weights[pairs.person], rule.score)
    penalty = LOSSES[rule.loss](ahead, pairs.strength)
    away, (n, k) = logits - centre, logits.shape
    value = logits.new_zeros(n).index_add_(0, pairs.person, penalty.value)
    slope = logits.new_zeros(n, k).index_add_(0, pairs.person, penalty.slope[:, None] * by_logit)
    outer = penalty.curvature[:, None, None] * by_logit[:, :, None] * by_logit[:, None, :]
    curvature = logits.new_zeros(n, k, k).index_add_(0, pairs.person, outer)
    across = weights[:, :, None] * slope[:, None, :]
    curvature += torch.diag_embed(slope) - across - across.mT  # of the softmax
    prior, unit = rule.precision, torch.eye(k, dtype=logits.dtype)
    return value + prior * away.square().sum(1) / 2, slope + prior * away, curvature + prior * unit


def _by_logit(pairs: Pairs, weights: Tensor, score: str) -> tuple[Tensor, Tensor]:
    """Logits that the chosen response is ahead, [pairs], and their slope by the logits of the weights, [pairs, K]."""
    with torch.enable_grad():
        leaf = weights.requires_grad_()
        ahead = pairs.ahead(leaf, score)
        [slope] = torch.autograd.grad(ahead.sum(), leaf)
    weights = weights.detach()
    return ahead.detach(), weights * (slope - (weights * slope).sum(1, keepdim=True))


# The sums that fitting asks shards of people for ----------------------------------------------------------------------


def slopes(
    shared: Arrays, votes: Votes, rule: Rule, *, tolerance: float = 1e-2, max_steps: int = 5
) -> dict[str, NDArray[Any]]:
    """The loss of some people, each at their own optimum, its gradient by everything shared, and how many pairs.

    A person's weights stand where the person's own objective is level, so that they add nothing to the gradient (the
    envelope theorem). A rough optimum will do for learning: what it lacks changes the gradient by about a per cent.
    """
    centre = _tensor(shared["centre"])
    pairs, n_people = pairs_of(shared, votes), len(votes.people)
    found = localise(pairs, n_people, rule, centre, tolerance=tolerance, max_steps=max_steps)
    leaves = {name: _tensor(shared[name]).requires_grad_() for name in LEAVES}
    pairs = pairs_of(shared, votes, leaves)
    ahead = pairs.ahead(found.logits.softmax(1)[pairs.person], rule.score)
    value = LOSSES[rule.loss](ahead, pairs.strength).value.sum()
    gradients = torch.autograd.grad(value, list(leaves.values()), allow_unused=True)
    by_name = {
        name: np.zeros(leaf.shape) if gradient is None else gradient.numpy()
        for (name, leaf), gradient in zip(leaves.items(), gradients, strict=True)
    }
    return {"loss": value.detach().numpy(), "pairs": np.array(len(votes)), **by_name}


def weights(shared: Arrays, votes: Votes, rule: Rule) -> dict[str, NDArray[Any]]:
    """The sum of people's weights, [K], and how many people there are."""
    centre = _tensor(shared["centre"])
    found = localise(pairs_of(shared, votes), len(votes.people), rule, centre, tolerance=1e-4)
    return {"weights": found.logits.softmax(1).sum(0).numpy(), "people": np.array(len(votes.people))}
