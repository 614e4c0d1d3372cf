"""Weights of objectives, of a prompt and of a person in one: w^(1-rho) u^rho, and how u and rho are learnt.

A handful of comparisons says little of K weights, so that own weights have to earn their place: each way of blending
is judged by how well it explains the comparisons on average over its prior (Laplace's approximation), not at its best.

>>> log_half = np.log([0.5, 0.5])
>>> twelve_times_the_first = np.tile([1.0, -1.0], (1, 12, 1))
>>> own_weights(
...     np.tile(log_half, (1, 12, 1)), log_half, twelve_times_the_first, np.ones((1, 12)), np.zeros((1, 12)),
...     decisiveness=3.0, spread=1.0, evidence=3.0,
... )["weights"].round(1).tolist()
[[0.9, 0.1]]
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logsumexp, softmax

from penchant.errors import SettingsError
from penchant.preference.pooled import surprise

Array = NDArray[np.float64]

_RHOS = (0.25, 0.5, 0.75, 1.0)
_MOST_STEPS, _HALVINGS = 100, 14
_CLOSE = 1e-9  # nats; a step no longer than this is none


@dataclass(frozen=True)
class UserWeights:
    """What was learnt of a person.

    Attributes:
        weights: the person's own, u, summing to 1, [objectives]; everybody's average where `rho` is 0.
        rho: how far they stand in for the prompt's weights, 0..1; 0 where the evidence is thin.
        log_evidence: log of how much better own weights explain the comparisons than the prompt's alone do, nats.
        n_pairs: comparisons it rests on.
    """

    weights: Array
    rho: float
    log_evidence: float
    n_pairs: int


def blended(weights: ArrayLike, own: ArrayLike, rho: ArrayLike) -> Array:
    """Weights of a prompt and of a person in one, w^(1-rho) u^rho normalised.

    Args:
        weights: above 0, summing to 1, [..., objectives].
        own: a person's, not negative, not all 0; of any sum, [..., objectives].
        rho: how far the person's count, 0..1, [...].

    Raises:
        SettingsError: the person's weights are negative, all 0 or not finite, or rho is outside 0..1.

    >>> blended([0.5, 0.5], [3, 1], 1.0).tolist()
    [0.75, 0.25]
    """
    w, u, share = (np.asarray(value, dtype=np.float64) for value in (weights, own, rho))
    if u.shape[-1] != w.shape[-1] or not (np.isfinite(u).all() and (u >= 0).all() and (u.sum(axis=-1) > 0).all()):
        raise SettingsError(
            f"A person's own weights are {w.shape[-1]} numbers, none negative and not all 0: got {u.tolist()}."
        )
    if not ((share >= 0) & (share <= 1)).all():
        raise SettingsError(f"rho must be in 0..1: got {share.tolist()}.")
    mixed = w ** (1 - share[..., None]) * u ** share[..., None]
    return np.asarray(mixed / mixed.sum(axis=-1, keepdims=True))


def own_weights(
    log_weights: Array,
    centre: Array,
    difference: Array,
    strength: Array,
    margin: Array,
    *,
    decisiveness: float,
    spread: float,
    evidence: float,
) -> dict[str, Array]:
    """People's weights and how far they stand in for the prompt's, where their comparisons ask for any.

    For each rho the log-weights b = log u are the most probable ones under N(centre, spread^2), and Laplace's
    approximation weighs how well they explain the pairs against how finely they had to be chosen.

    Args:
        log_weights: of each pair's prompt, [people, pairs, objectives]; pairs may be 0.
        centre: log of everybody's average weights, [objectives].
        difference: standardised scores, chosen minus rejected, [people, pairs, objectives].
        strength: soft labels, [people, pairs].
        margin: logits the chosen must be ahead by, [people, pairs].
        decisiveness: logits per standard deviation of the weighted sum.
        spread: how far people's log-weights lie from everybody's, nats, > 0.
        evidence: own weights are taken once they explain the pairs so many times better, > 1.

    Returns:
        The columns `weights`, `rho` and `log_evidence` of `UserWeights`, [people, ...].
    """
    problem = _Own(log_weights, centre, decisiveness * difference, strength, margin, spread**-2)
    found = [problem.most_probable(rho) for rho in _RHOS]
    everybody = np.tile(centre, (len(difference), 1))
    explained = np.stack([one for one, _ in found]) - problem.log_likelihood(everybody, 0.0)  # [rhos, people]
    log_evidence = logsumexp(explained, axis=0) - np.log(len(_RHOS))
    is_own, best = log_evidence > np.log(evidence), explained.argmax(axis=0)
    own = np.stack([b for _, b in found])[best, np.arange(len(best))]
    return {
        "weights": np.asarray(softmax(np.where(is_own[:, None], own, everybody), axis=1)),
        "rho": np.where(is_own, np.array(_RHOS)[best], 0.0),
        "log_evidence": np.asarray(log_evidence),
    }


class _Own(NamedTuple):
    """What is maximised over people's log-weights b, [people, objectives]; `difference` is in logits."""

    log_weights: Array
    centre: Array
    difference: Array
    strength: Array
    margin: Array
    precision: float

    def weights(self, b: Array, rho: float) -> Array:
        return np.asarray(softmax((1 - rho) * self.log_weights + rho * b[:, None], axis=-1))

    def log_likelihood(self, b: Array, rho: float) -> Array:
        ahead = (self.weights(b, rho) * self.difference).sum(axis=-1) - self.margin
        return np.asarray(-surprise(ahead, self.strength).sum(axis=-1))

    def posterior(self, b: Array, rho: float) -> Array:
        return np.asarray(self.log_likelihood(b, rho) - 0.5 * self.precision * ((b - self.centre) ** 2).sum(axis=-1))

    def slope(self, b: Array, rho: float) -> tuple[Array, Array]:
        """Of the posterior, with its Fisher information, which unlike the Hessian is positive everywhere."""
        weights = self.weights(b, rho)
        total = (weights * self.difference).sum(axis=-1, keepdims=True)
        jacobian = rho * weights * (self.difference - total)  # of each pair's logit, [people, pairs, objectives]
        p = expit(total[..., 0] - self.margin)
        slope = np.einsum("upk,up->uk", jacobian, self.strength - p) - self.precision * (b - self.centre)
        information = np.einsum("upk,up,upl->ukl", jacobian, p * (1 - p), jacobian)
        return slope, information + self.precision * np.eye(b.shape[1])

    def most_probable(self, rho: float) -> tuple[Array, Array]:
        """Laplace's log-evidence of a rho, [people], and the most probable b under it, [people, objectives]."""
        b = np.tile(self.centre, (len(self.difference), 1))
        value = self.posterior(b, rho)
        moving = np.arange(len(b))
        for _ in range(_MOST_STEPS):
            moving = moving[self.of(moving).moved(b, value, moving, rho)]  # each person as if alone
            if not len(moving):
                break
        _, information = self.slope(b, rho)
        return value - 0.5 * np.linalg.slogdet(information / self.precision)[1], b

    def of(self, people: NDArray[np.int64]) -> "_Own":
        """The problem of some people."""
        per_person = ("log_weights", "difference", "strength", "margin")
        return self._replace(**{name: getattr(self, name)[people] for name in per_person})

    def moved(self, b: Array, value: Array, people: NDArray[np.int64], rho: float) -> NDArray[np.bool_]:
        """Take a damped step with all people of this problem, in `b` and `value`; who may still go on, [people]."""
        here, now = b[people], value[people]
        slope, information = self.slope(here, rho)
        step = np.linalg.solve(information, slope[..., None])[..., 0]
        trial = self.posterior(here + step, rho)
        for _ in range(_HALVINGS):
            worse = np.flatnonzero(trial < now)
            if not len(worse):
                break
            step[worse] /= 2
            trial[worse] = self.of(worse).posterior(here[worse] + step[worse], rho)
        better = trial >= now
        b[people[better]] = (here + step)[better]
        value[people[better]] = trial[better]
        return np.asarray(better & (np.abs(step).max(axis=1, initial=0.0) > _CLOSE))
