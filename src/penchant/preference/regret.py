r"""What people want from their choices between stretches of behaviour: by regret, or by what a stretch itself pays.

The usual model (partial return) says that people compare the rewards summed over two segments. People also see where a
segment leads and whether it was well decided: a clip that walks towards the goal can beat one that picks up a coin. The
regret model scores a segment by how far it falls short of the best that could be done, and finds weights of the reward
by which the choices are likely. A reward learnt under the wrong model can be wrong however many choices there are.

1. Partial return: G(sigma) = sum_t w . phi_t, and P(first) = sigmoid(G_1 - G_2). Linear: `newton` finds the optimum.
2. Regret: sum_t [V*(s_t) - Q*(s_t, a_t)] >= 0, and P(first) = sigmoid(regret_2 - regret_1). Where transitions are
   certain (and nothing is discounted) this is V*(s_0) - [G + V*(s_L)], `deterministic_regret`: the start state corrects
   for luck of place, the end state for what was prepared.
3. V* depends on w. `Regret` solves the world anew at every step and takes the envelope gradient,
   dV*(s)/dw = psi(s), the successor features of the best policy; or, given some policies, replaces V* by a smooth
   mixture of what they are worth: V~(s) = sum_i softmax_i(w . psi_i(s) / T) w . psi_i(s).
4. The loss is cross-entropy with soft labels (a tie is half a choice of each). It is not convex in w under regret:
   several starts, one of them what partial return finds, and the weights of the lowest loss seen are kept.

It learns from segments in a world whose rules are known (`penchant.worlds`), not from texts, so it is no
`PreferenceModel`: `fit(pairs)`, `scores(segments)`, `probability(pairs)`, `policy()`. Only the direction of the weights
means something: the length is how decided people are.

Left out: neural rewards on continuous control. Changed: probabilities are computed from logits (no floor is needed),
and both models have the same small Gaussian prior, so that choices without an error leave finite weights.

Source:
    Knox, Hatgis-Kessell, Booth, Niekum, Stone and Allievi (2022), Models of human preference for learning reward
    functions, eqs. 1-5 and section 4 (surrogate values; temperature 0.001).

>>> def outcomes(state, action):  # a road of four cells to the goal; action 1 walks on, action 0 picks up a coin
...     return [(1.0, state + action, [action * (state < 3), action * (state == 3), 1 - action])]
>>> from penchant.worlds import from_rules
>>> road = from_rules(5, 2, outcomes, terminal=[4], discount=0.99)
>>> walk, coin = segments([[0, 1, 2]], [[1, 1]]), segments([[0, 0, 0]], [[0, 0]])
>>> w = np.array([-1.0, 50.0, 0.0])  # walking costs 1, the goal pays 50
>>> partial_return(road, walk, w).tolist(), partial_return(road, coin, w).tolist()  # the coin pays more at once
([-2.0], [0.0])
>>> regret(road, walk, w).round(6).tolist(), bool(regret(road, coin, w)[0] > 0)  # and yet walking is right
([0.0], True)
"""

import json
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit
from torch import Tensor

from penchant.errors import DataError, NotFittedError, SettingsError
from penchant.objectives import bradley_terry
from penchant.preference.descent import descend
from penchant.preference.newton import newton
from penchant.records import Comparisons
from penchant.worlds import (
    ENDED,
    Segments,
    World,
    action_values,
    collected,
    policy_iteration,
    require_possible,
    segments,
    successor_features,
)

Array = NDArray[np.float64]
Places = NDArray[np.int64]
Walk = tuple[Sequence[int], Sequence[int]]
"""States and actions of one segment, one more state than actions."""

_INCONSISTENT = -1e-6


@dataclass(frozen=True)
class SegmentPairs:
    """Pairs of segments and which was preferred.

    Attributes:
        first: one segment of each pair.
        second: the other.
        strength: how far the first is preferred, 0..1, 0.5 a tie, [pairs].

    Raises:
        DataError: numbers of rows differ, or a strength is not in [0, 1].
    """

    first: Segments
    second: Segments
    strength: Array

    def __post_init__(self) -> None:
        """Refuse labels that are none."""
        n = len(self.strength)
        if not n == len(self.first) == len(self.second):
            raise DataError(
                f"{len(self.first)} and {len(self.second)} segments for {n} labels; give one of each a pair."
            )
        bad = np.flatnonzero(~((self.strength >= 0) & (self.strength <= 1)))
        if len(bad):
            raise DataError(
                f"A label must lie in [0, 1] (1: the first is preferred, 0.5: a tie): {len(bad)} of {n} do not, first "
                f"in pair {bad[0]} ({self.strength[bad[0]]})."
            )

    def __len__(self) -> int:
        """How many pairs."""
        return len(self.strength)

    def of(self, rows: Any) -> "SegmentPairs":
        """Some pairs, by number or as a mask."""
        return SegmentPairs(self.first.of(rows), self.second.of(rows), self.strength[rows])


def read_pairs(comparisons: Comparisons, walk: Callable[[Any], Walk]) -> SegmentPairs:
    """Pairs from comparisons whose payloads are JSON, as `penchant import` makes them of segments.

    Args:
        comparisons: `chosen` is the first segment of each pair.
        walk: what JSON says of a segment -> its states and actions as numbers.

    Raises:
        DataError: a payload is no JSON.
    """
    found: dict[str, Walk] = {}
    sides = []
    for column in ("chosen", "rejected"):
        payloads = comparisons.table[column].to_pylist()
        for row, payload in enumerate(payloads):
            if payload not in found:
                try:
                    found[payload] = walk(json.loads(payload))
                except (ValueError, RecursionError) as error:
                    raise DataError(f"`{column}` of row {row} is no segment ({error}): {payload[:60]!r}.") from error
        walks = [found[payload] for payload in payloads]
        sides.append(segments([states for states, _ in walks], [actions for _, actions in walks]))
    return SegmentPairs(sides[0], sides[1], comparisons.numpy("strength").astype(np.float64))


# The mathematics


def partial_return(world: World, paths: Segments, weights: Array) -> Array:
    """G, the reward summed over each segment, [segments] (eq. 1)."""
    return np.asarray(collected(world, paths) @ weights)


def deterministic_regret(returned: ArrayLike, start_value: ArrayLike, end_value: ArrayLike) -> Array:
    """V*(s_0) - [G + V*(s_L)], how far each segment falls short where transitions are certain, [segments] (eq. 3).

    Args:
        returned: G of each segment.
        start_value: V* where it starts.
        end_value: V* where it ends.

    Raises:
        DataError: it is negative: these values are not the optimal ones of the reward that was summed.

    >>> deterministic_regret([-3.0], [48.0], [50.0]).tolist()
    [1.0]
    """
    reached = np.asarray(returned, np.float64) + np.asarray(end_value, np.float64)
    short = np.asarray(np.asarray(start_value, np.float64) - reached)
    bad = np.flatnonzero(~(short >= _INCONSISTENT))
    if len(bad):
        raise DataError(
            f"Regret must not be negative: it is in {len(bad)} of {short.size} segments, first in segment {bad[0]} "
            f"({short[bad[0]]:.4g}). The values given are not the optimal ones of this reward."
        )
    return short


def regret(world: World, paths: Segments, weights: Array, values: Array | None = None) -> Array:
    """sum_t [V*(s_t) - Q*(s_t, a_t)], [segments] (eq. 4): 0 where every step was the best one.

    Args:
        world: the world.
        paths: in it.
        weights: of the reward, [features].
        values: V* of the reward, [states]; found by policy iteration without them.

    Raises:
        DataError: it is negative, so that the values are not the optimal ones of this reward.
    """
    if values is None:
        values = policy_iteration(world, weights)[1] @ weights
    short = np.append((values[:, None] - action_values(world, weights, values)).ravel(), 0.0)
    if (short[:-1].reshape(world.n_states, -1)[~world.terminal] < _INCONSISTENT).any():
        raise DataError(
            f"Regret must not be negative: an action is better than the value of its state by {-short.min():.4g}. The "
            "values given are not the optimal ones of this reward."
        )
    return np.asarray(short[_cells(world, paths)].sum(axis=1))


def _cells(world: World, paths: Segments) -> Places:
    """Which pair of state and action each step is, one past the last after a segment's end, [segments, steps]."""
    cells = paths.states[:, :-1] * world.n_actions + paths.actions
    return np.where(paths.actions != ENDED, cells, world.n_states * world.n_actions)


def surrogate_values(weights: Tensor, successor: Tensor, temperature: float) -> Tensor:
    """V~, a smooth stand-in for V*: what each of some policies is worth, mixed in favour of the best at each state.

    Args:
        weights: [starts, features].
        successor: features of the policies, [policies, states, features].
        temperature: of the mixture, reward; the smaller, the closer to the greatest.

    Returns:
        [starts, states]. The softmax is taken of float64 after the greatest is subtracted: at temperature 0.001 values
        of 50 would overflow otherwise.
    """
    worth = torch.einsum("bf,psf->bps", weights, successor)
    return (torch.softmax(worth / temperature, dim=1) * worth).sum(dim=1)


# The models


class SegmentReward(ABC):
    """Weights of a reward, learnt from choices between segments.

    Attributes:
        world: the world.
        weights_: of its features, logits per unit, [features].
    """

    world: World
    weights_: Array

    @abstractmethod
    def fit(self, pairs: SegmentPairs) -> Self:
        """Learn the weights.

        Raises:
            DataError: there are no pairs or only ties, or a segment cannot happen in the world.
        """

    @abstractmethod
    def scores(self, paths: Segments) -> Array:
        """How good each segment is, logits up to a constant, [segments]."""

    def probability(self, pairs: SegmentPairs) -> Array:
        """P(the first is preferred), [pairs]."""
        return np.asarray(expit(self.scores(pairs.first) - self.scores(pairs.second)))

    def policy(self) -> Places:
        """The best policy under the learnt reward, int[states]."""
        self._require_fitted()
        return policy_iteration(self.world, self.weights_)[0]

    def _require_fitted(self) -> None:
        if not hasattr(self, "weights_"):
            raise NotFittedError(f"This {type(self).__name__} has learnt nothing yet: call fit(pairs) first.")

    def _require_choices(self, pairs: SegmentPairs) -> None:
        n = len(pairs)
        if not n or (pairs.strength == 0.5).all():
            raise DataError(f"There is nothing to learn from: {n} pairs, of which {n} are ties. Bring choices.")
        for paths in (pairs.first, pairs.second):
            require_possible(self.world, paths)


class PartialReturn(SegmentReward):
    """People compare what segments pay.

    Args:
        world: the world.
        l2: precision of the prior on the weights.
        per_step: compare the mean reward of a step instead, for segments of different lengths.

    Raises:
        SettingsError: `l2` is not above 0.
    """

    def __init__(self, world: World, *, l2: float = 1e-2, per_step: bool = False):
        _require_positive(l2=l2)
        self.world, self.l2, self.per_step = world, l2, per_step

    def fit(self, pairs: SegmentPairs) -> Self:
        """Find the optimum; see `SegmentReward.fit`."""
        self._require_choices(pairs)
        both = (pairs.first, pairs.second)
        longest = max(paths.actions.shape[1] for paths in both)
        n_cut = sum(self._n_cut(paths, longest) for paths in both)
        if not self.per_step and n_cut:
            warnings.warn(
                f"{n_cut} of {2 * len(pairs)} segments are shorter than others without having reached an end; sums "
                "over them are not comparable. Cut all to one length, or set per_step=True.",
                stacklevel=2,
            )
        difference = self._features(pairs.first) - self._features(pairs.second)
        self.weights_ = newton(difference, pairs.strength, l2=self.l2).weights
        return self

    def scores(self, paths: Segments) -> Array:
        """What each segment pays, or pays a step; see `SegmentReward.scores`."""
        self._require_fitted()
        return np.asarray(self._features(paths) @ self.weights_)

    def _features(self, paths: Segments) -> Array:
        total = collected(self.world, paths)
        return total / paths.lengths[:, None] if self.per_step else total

    def _n_cut(self, paths: Segments, longest: int) -> int:
        """Segments that are shorter than the longest one although they could have gone on."""
        last = np.take_along_axis(paths.states, paths.lengths[:, None], axis=1)[:, 0]
        return int(((paths.lengths < longest) & ~self.world.terminal[last]).sum())


class Regret(SegmentReward):
    """People compare how far segments fall short of the best.

    Args:
        world: the world, with a discount below 1.
        policies: instead of the exact V*, mix what these policies are worth, int[policies, states], such as
            `worlds.random_policies` finds. The best policy of the true reward must not be handed in among them.
        temperature: of that mixture.
        l2: precision of the prior on the weights.
        restarts: random starts, besides the one where partial return ends.
        steps: steps of each.
        learning_rate: of Adam.
        seed: of the starts.

    Attributes:
        loss_: the lowest mean loss seen, nats a pair.

    Raises:
        SettingsError: a number is out of range, the world has no discount, or there are no policies.
    """

    def __init__(
        self,
        world: World,
        *,
        policies: Places | None = None,
        temperature: float = 1e-3,
        l2: float = 1e-2,
        restarts: int = 3,
        steps: int = 200,
        learning_rate: float = 0.3,
        seed: int = 0,
    ):
        _require_positive(temperature=temperature, l2=l2, restarts=restarts, steps=steps, learning_rate=learning_rate)
        if world.discount == 1:
            raise SettingsError("Regret needs a world with a discount below 1, such as 0.999.")
        if policies is not None and not len(policies):
            raise SettingsError("There are no policies to mix; leave `policies` out for the exact values.")
        self.world, self.policies, self.temperature, self.l2 = world, policies, temperature, l2
        self.restarts, self.steps, self.learning_rate = restarts, steps, learning_rate
        self.seed = seed

    def fit(self, pairs: SegmentPairs) -> Self:
        """Descend from several starts, keep the lowest loss seen; see `SegmentReward.fit`."""
        self._require_choices(pairs)
        n = len(pairs)
        values = self._values()
        first, second = (torch.from_numpy(_cells(self.world, paths)) for paths in (pairs.first, pairs.second))
        strength = torch.from_numpy(pairs.strength)
        weights = torch.from_numpy(self._starts(pairs)).requires_grad_()

        def losses() -> Tensor:
            """Mean loss of each start, [starts]."""
            better = self._advantages(weights, values(weights))
            chosen, rejected = better[:, first].sum(dim=-1), better[:, second].sum(dim=-1)
            surprise = bradley_terry(chosen, rejected, strength=strength).mean(dim=-1)
            return surprise + self.l2 / (2 * n) * weights.square().sum(dim=-1)

        # Starts do not touch each other: the gradient of the sum is the gradient of each.
        descend(
            lambda rows: losses().sum(),
            [weights],
            n,
            epochs=self.steps,
            learning_rate=self.learning_rate,
            batch_size=n,
            measure=lambda: losses().min().item(),
        )
        with torch.no_grad():
            found = losses()
        self.loss_ = float(found.min())
        self.weights_ = weights[int(found.argmin())].detach().numpy().copy()
        return self

    def _starts(self, pairs: SegmentPairs) -> Array:
        """Where partial return ends, then random ones, [starts, dim].

        Random starts alone were caught in valleys worse than a coin on choices of real people.
        """
        drawn = np.random.default_rng(self.seed).standard_normal((self.restarts, self.world.n_features))
        total = [collected(self.world, paths) for paths in (pairs.first, pairs.second)]
        near = newton(total[0] - total[1], pairs.strength, l2=self.l2).weights
        return np.concatenate([near[None], drawn])

    def scores(self, paths: Segments) -> Array:
        """Minus the regret of each segment; see `SegmentReward.scores`."""
        self._require_fitted()
        with torch.no_grad():
            weights = torch.from_numpy(self.weights_)[None]
            better = self._advantages(weights, self._values()(weights))
        return np.asarray(better[0, torch.from_numpy(_cells(self.world, paths))].sum(dim=-1).numpy())

    def _advantages(self, weights: Tensor, values: Tensor) -> Tensor:
        """Q(s, a) - V(s) in one row for each start, and a last 0 for steps after an end, [starts, cells + 1]."""
        world = self.world
        expected, transitions = torch.from_numpy(world.expected), torch.from_numpy(world.transitions)
        paid = torch.einsum("saf,bf->bsa", expected, weights)
        gained = paid + world.discount * torch.einsum("sat,bt->bsa", transitions, values) - values[..., None]
        return torch.nn.functional.pad(gained.flatten(1), (0, 1))

    def _values(self) -> Callable[[Tensor], Tensor]:
        """Weights [starts, features] -> values [starts, states], with their gradient."""
        if self.policies is None:
            return _ExactValues(self.world)
        successor = torch.from_numpy(successor_features(self.world, self.policies))
        return lambda weights: surrogate_values(weights, successor, self.temperature)


class _ExactValues:
    """V*(s) = w . psi(s), whose gradient is psi(s) itself although the best policy depends on w (envelope theorem)."""

    def __init__(self, world: World):
        self.world = world
        self.solved: tuple[Array, Places, Array] | None = None

    def __call__(self, weights: Tensor) -> Tensor:
        asked = weights.detach().numpy()
        # Every step's weights are looked at twice, for the gradient and before it for the measure.
        if self.solved is None or not np.array_equal(self.solved[0], asked):
            near = None if self.solved is None else self.solved[1]
            self.solved = (asked.copy(), *policy_iteration(self.world, asked, near))
        return torch.einsum("bf,bsf->bs", weights, torch.from_numpy(self.solved[2]))


def _require_positive(**settings: float) -> None:
    for name, value in settings.items():
        if not value > 0:
            raise SettingsError(f"{name} must be above 0: got {value!r}.")
