"""Small worlds whose rules are known: tabular Markov decision processes, solved exactly.

They are the yardstick of control: what is the best that can be done, what is a policy worth, and would another reward
have led to the same behaviour? A reward is a weight for each feature of a transition. The *successor features* of a
policy are the features that it will collect from a state on, discounted; its value under any weights is one product.

Weights come alone, [features], or many at once, [..., features]; everything else then has the same leading dimensions.

>>> def outcomes(state, action):  # two places and an end; action 1 walks on and pays, action 0 stays
...     return [(1.0, state + action, [1.0, 0.0] if action else [0.0, 1.0])]
>>> corridor = from_rules(3, 2, outcomes, terminal=[2], discount=0.5)
>>> policy, successor = policy_iteration(corridor, np.array([1.0, 0.0]))
>>> policy.tolist(), successor.tolist()
([1, 1, 0], [[1.5, 0.0], [1.0, 0.0], [0.0, 0.0]])
>>> policy_iteration(corridor, np.array([1.0, 0.9]))[0].tolist()  # staying for ever is worth 1.8
[1, 0, 0]

Source:
    Puterman (1994), Markov Decision Processes (value and policy iteration).
    Dayan (1993), Improving generalization for temporal difference learning: the successor representation.
"""

import itertools
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from penchant.errors import DataError, SettingsError

Array = NDArray[np.float64]
Places = NDArray[np.int64]
Outcomes = Callable[[int, int], Iterable[tuple[float, int, ArrayLike]]]
"""(state, action) -> what may happen: probability, next state, features of the transition."""

_MOVES = ((-1, 0), (1, 0), (0, -1), (0, 1))  # up, down, left, right
_CLEARLY_BETTER = 1e-10  # relative; below it a tie and not a reason to change a policy
_MOST_SWEEPS = 20_000


@dataclass(frozen=True)
class World:
    """A finite Markov decision process whose reward is linear in features.

    Attributes:
        transitions: P(next state | state, action), [states, actions, states]; all zero from terminal states.
        features: of each transition, [states, actions, states, features].
        terminal: where nothing more happens and nothing more is paid, bool[states].
        discount: worth of what comes one step later, in (0, 1].

    Raises:
        DataError: shapes disagree, a number is not finite, or probabilities do not add up to one.
        SettingsError: the discount is out of range.
    """

    transitions: Array
    features: Array
    terminal: NDArray[np.bool_]
    discount: float

    def __post_init__(self) -> None:
        """Refuse what is no Markov decision process."""
        if not 0 < self.discount <= 1:
            raise SettingsError(f"The discount must lie in (0, 1]: got {self.discount!r}.")
        n_states, n_actions = self.transitions.shape[:2]
        if self.features.shape[:3] != (n_states, n_actions, n_states) or self.terminal.shape != (n_states,):
            raise DataError(
                f"Transitions {self.transitions.shape}, features {self.features.shape} and terminal states "
                f"{self.terminal.shape} are not of one world."
            )
        bad = ~np.isfinite(self.features).all(axis=(1, 2, 3))
        if bad.any():
            raise DataError(
                f"Features must be finite: they are not in {bad.sum()} of {n_states} states, first in state "
                f"{np.flatnonzero(bad)[0]}."
            )
        wanted = np.where(self.terminal, 0.0, 1.0)[:, None]
        wrong = np.abs(self.transitions.sum(axis=2) - wanted) > 1e-9
        if wrong.any() or (self.transitions < 0).any():
            state, action = np.argwhere(wrong | (self.transitions < 0).any(axis=2))[0]
            raise DataError(
                f"Probabilities of next states must be at least 0 and add up to 1 (to 0 from terminal states): wrong "
                f"in {wrong.sum()} of {wrong.size} pairs of state and action, first in state {state}, action {action}."
            )

    @property
    def n_states(self) -> int:
        """Terminal ones included."""
        return len(self.terminal)

    @property
    def n_actions(self) -> int:
        """The same in every state."""
        return int(self.transitions.shape[1])

    @property
    def n_features(self) -> int:
        """Numbers that describe a transition."""
        return int(self.features.shape[3])

    @cached_property
    def expected(self) -> Array:
        """Features that an action collects on average, [states, actions, features]."""
        return np.asarray(np.einsum("sat,satf->saf", self.transitions, self.features))


def from_rules(
    n_states: int, n_actions: int, outcomes: Outcomes, *, terminal: Collection[int], discount: float
) -> World:
    """A world from its rules; they are not asked about terminal states.

    Raises:
        DataError: all states are terminal, or one transition is described in two ways.
    """
    ends = np.isin(np.arange(n_states), list(terminal))
    transitions = np.zeros((n_states, n_actions, n_states))
    features: Array | None = None
    for state in np.flatnonzero(~ends).tolist():
        for action in range(n_actions):
            for probability, following, described in outcomes(state, action):
                if features is None:
                    features = np.zeros((n_states, n_actions, n_states, len(np.atleast_1d(described))))
                cell = (state, action, following)
                if transitions[cell] and not np.array_equal(features[cell], np.atleast_1d(described)):
                    raise DataError(
                        f"The transition from state {state} by action {action} to {following} has two descriptions: "
                        "give different outcomes different next states."
                    )
                transitions[cell] += probability
                features[cell] = described
    if features is None:
        raise DataError(f"All {n_states} states are terminal: nothing ever happens in this world.")
    return World(transitions, features, ends, discount)


def random_grid(
    seed: int, *, size: int = 6, n_features: int = 5, slip: float = 0.0, plain: float = 0.6, discount: float = 0.97
) -> World:
    """A square of cells with things on some of them, and two ends.

    Feature 0 is a step; to enter a cell with a thing of kind k is feature k besides. Entering an end is nothing but the
    feature of that end, the last or the last but one; there is one cell of each.

    Args:
        seed: of where things are.
        size: cells along a side, >= 2; states are cells, row by row.
        n_features: >= 3.
        slip: probability that a move goes in a random direction instead.
        plain: share of cells without a thing.
        discount: of the world.

    Raises:
        SettingsError: a number is out of range.
    """
    if size < 2 or n_features < 3 or not 0 <= slip <= 1 or not 0 <= plain <= 1:
        raise SettingsError(
            f"A grid needs a size of at least 2, 3 features, shares in [0, 1]: got {size}, {n_features}, {slip}, "
            f"{plain}."
        )
    rng = np.random.default_rng(seed)
    n_things = n_features - 3
    chances = [plain, *[(1 - plain) / n_things] * n_things] if n_things else [1.0]
    kinds = rng.choice(n_things + 1, size=size * size, p=chances)
    ends = rng.choice(size * size, size=2, replace=False)
    kinds[ends] = n_features - 2, n_features - 1
    entered = np.eye(n_features)
    entered[1 : n_things + 1, 0] = 1.0  # things do not spare the step

    def outcomes(state: int, action: int) -> list[tuple[float, int, Array]]:
        went = [(1 - slip, action), *[(slip / len(_MOVES), other) for other in range(len(_MOVES))]]
        reached = [(probability, step(state, move, (size, size))) for probability, move in went if probability > 0]
        return [(probability, to, entered[kinds[to]]) for probability, to in reached]

    return from_rules(size * size, len(_MOVES), outcomes, terminal=ends.tolist(), discount=discount)


def step(state: int, move: int, shape: tuple[int, int]) -> int:
    """The cell one reaches by a move (up, down, left, right) on a board of rows and columns; its own at the edge."""
    row, column = divmod(state, shape[1])
    down, right = _MOVES[move]
    inside = 0 <= row + down < shape[0] and 0 <= column + right < shape[1]
    return (row + down) * shape[1] + column + right if inside else state


def action_values(world: World, weights: Array, values: Array) -> Array:
    """Q(s, a) = w . E[phi] + discount E[V(s')], [..., states, actions].

    Args:
        world: the world.
        weights: of the features, [..., features].
        values: V of each state, [..., states].
    """
    paid = np.tensordot(weights, world.expected, axes=(-1, 2))
    return np.asarray(paid + world.discount * np.tensordot(values, world.transitions, axes=(-1, 2)))


def successor_features(world: World, policy: NDArray[Any]) -> Array:
    """What a policy will collect of each feature from each state on, discounted, [..., states, features].

    Args:
        world: the world.
        policy: an action for each state, int[..., states], or probabilities, float[..., states, actions].

    Raises:
        DataError: without a discount, the policy goes on for ever from some state.
    """
    if np.issubdtype(policy.dtype, np.integer):
        rows = np.arange(world.n_states)
        moves, collected = world.transitions[rows, policy], world.expected[rows, policy]
    else:
        moves = np.einsum("...sa,sat->...st", policy, world.transitions)
        collected = np.einsum("...sa,saf->...sf", policy, world.expected)
    if world.discount == 1:
        _require_ends(world, moves)
    return np.asarray(np.linalg.solve(np.eye(world.n_states) - world.discount * moves, collected))


def _require_ends(world: World, moves: Array) -> None:
    ends = np.broadcast_to(world.terminal, moves.shape[:-1])
    for _ in range(world.n_states):
        ends = ends | ((moves > 0) & ends[..., None, :]).any(axis=-1)
    if not ends.all():
        stuck = np.unique(np.nonzero(~ends)[-1])
        raise DataError(
            f"The policy goes on for ever from {len(stuck)} of {world.n_states} states (first: {stuck[0]}), and "
            "without a discount what it collects has no end; give the world a discount below 1."
        )


def policy_iteration(world: World, weights: Array, start: Places | None = None) -> tuple[Places, Array]:
    """A best policy and its successor features, exactly; V*(s) is their product with the weights.

    Args:
        world: a world with a discount below 1.
        weights: of the features, [..., features].
        start: policies to start from, int[..., states]; near the best ones it takes one step.

    Returns:
        int[..., states] (0 in terminal states) and [..., states, features].

    Raises:
        SettingsError: the world has no discount.
        DataError: a weight is not finite.
    """
    if world.discount == 1:
        raise SettingsError("Policy iteration needs a discount below 1 (0.999 is common); see `value_iteration`.")
    _require_finite(weights)
    policy = np.zeros((*weights.shape[:-1], world.n_states), dtype=np.int64) if start is None else start
    while True:
        successor = successor_features(world, policy)
        values = np.einsum("...sf,...f->...s", successor, weights)
        better = _improved(policy, action_values(world, weights, values))
        if np.array_equal(better, policy):
            return policy, successor
        policy = better


def _improved(policy: Places, values: Array) -> Places:
    """The policy with another action wherever one is clearly better: ties never make it go round in circles."""
    now = np.take_along_axis(values, policy[..., None], axis=-1)[..., 0]
    slack = _CLEARLY_BETTER * (1 + np.abs(values).max(axis=(-2, -1), keepdims=True)[..., 0])
    return np.where(values.max(axis=-1) > now + slack, values.argmax(axis=-1), policy)


def value_iteration(world: World, weights: Array, *, tolerance: float = 1e-10) -> Array:
    """V*, also without a discount, where it is the most that can be had before an end; [..., states].

    Args:
        world: the world.
        weights: of the features, [..., features].
        tolerance: stop when no value changes by more.

    Raises:
        DataError: a weight is not finite, or the values have no bound (a loop that pays, or costs, for ever).
    """
    _require_finite(weights)
    values = np.zeros((*weights.shape[:-1], world.n_states))
    for _ in range(_MOST_SWEEPS):
        following = np.asarray(action_values(world, weights, values).max(axis=-1))
        change = np.abs(following - values)
        values = following
        if change.max(initial=0.0) <= tolerance:
            return values
    worst = np.unravel_index(int(change.argmax()), change.shape)
    one = weights[worst[:-1]]
    loop, paid = _loop(world, action_values(world, one, values[worst[:-1]]).argmax(axis=-1), int(worst[-1]), one)
    raise DataError(
        f"The values have no bound after {_MOST_SWEEPS} sweeps: at discount {world.discount:g} the loop of states "
        f"{' -> '.join(map(str, loop))} pays {paid:+.3g} each round. Give the world a discount below 1, or an end that "
        "can be reached."
    )


def _loop(world: World, policy: Places, state: int, weights: Array) -> tuple[list[int], float]:
    """Where a policy goes round and what a round pays, along its likeliest steps."""
    path = [state]
    while True:
        following = int(world.transitions[path[-1], policy[path[-1]]].argmax())
        if following in path:
            loop = [*path[path.index(following) :], following]
            paid = sum(world.features[a, policy[a], b] @ weights for a, b in itertools.pairwise(loop))
            return loop, float(paid)
        path.append(following)


def _require_finite(weights: Array) -> None:
    if not np.isfinite(weights).all():
        raise DataError(f"Weights must be finite: got {np.asarray(weights).tolist()}.")


def random_policies(world: World, n: int, seed: int = 0) -> Places:
    """Policies that are best for random weights, without repeats, int[at most n, states]."""
    drawn = np.random.default_rng(seed).standard_normal((n, world.n_features))
    return np.unique(policy_iteration(world, drawn)[0], axis=0)


def scaled_return(world: World, policy: NDArray[Any], weights: Array) -> float:
    """How good a policy is from a random start: 1 is optimal, 0 is as good as random actions, below 0 worse.

    Args:
        world: a world with a discount below 1.
        policy: int[states] or float[states, actions].
        weights: of the true reward, [features].

    Raises:
        DataError: nothing that one does makes any difference.
    """
    uniform = np.full((world.n_states, world.n_actions), 1 / world.n_actions)
    worth = [successor_features(world, p) for p in (policy, uniform)] + [policy_iteration(world, weights)[1]]
    starts = ~world.terminal
    ours, random, best = (float((successor[starts] @ weights).mean()) for successor in worth)
    if best - random <= 1e-9 * (1 + abs(best)):
        raise DataError("Nothing makes any difference in this world under these weights: all policies are equal.")
    return (ours - random) / (best - random)


# Stretches of behaviour

ENDED = -1  # fills up segments that are shorter than others


@dataclass(frozen=True)
class Segments:
    """Stretches of behaviour.

    Attributes:
        states: where each was before its steps, and where it ended, int[segments, steps + 1]; `ENDED` after its end.
        actions: what was done, int[segments, steps]; `ENDED` after its end.
    """

    states: Places
    actions: Places

    def __len__(self) -> int:
        """How many."""
        return len(self.actions)

    @property
    def lengths(self) -> Places:
        """Steps of each."""
        return np.asarray((self.actions != ENDED).sum(axis=1))

    def of(self, rows: Any) -> "Segments":
        """Some of them, by number or as a mask."""
        return Segments(self.states[rows], self.actions[rows])


def segments(states: Sequence[Sequence[int]], actions: Sequence[Sequence[int]]) -> Segments:
    """Segments of any lengths.

    Raises:
        DataError: a segment has no step, or not one state more than actions.
    """
    counts = [(len(s), len(a)) for s, a in zip(states, actions, strict=True)]
    wrong = [row for row, (n_states, n_actions) in enumerate(counts) if n_actions < 1 or n_states != n_actions + 1]
    if wrong:
        n_states, n_actions = counts[wrong[0]]
        raise DataError(
            f"Segment {wrong[0]} has {n_states} states and {n_actions} actions ({len(wrong)} of {len(counts)} segments "
            "are wrong): give at least one action, and the states before each and after the last."
        )
    longest = max((n_actions for _, n_actions in counts), default=0)
    filled = [np.full((len(counts), longest + extra), ENDED, dtype=np.int64) for extra in (1, 0)]
    for row, (s, a) in enumerate(zip(states, actions, strict=True)):
        filled[0][row, : len(s)], filled[1][row, : len(a)] = s, a
    return Segments(*filled)


def require_possible(world: World, paths: Segments) -> None:
    """Refuse segments that cannot happen in a world.

    Raises:
        DataError: a number of a state or action is out of range, a segment goes on after a terminal state, or a step
            has probability zero.
    """
    taken = paths.actions != ENDED
    before, after = paths.states[:, :-1], paths.states[:, 1:]
    outside = taken & ~(
        (before >= 0)
        & (before < world.n_states)
        & (after >= 0)
        & (after < world.n_states)
        & (paths.actions >= 0)
        & (paths.actions < world.n_actions)
    )
    steps = np.where(taken & ~outside, (before, paths.actions, after), 0)
    dead = taken & ~outside & world.terminal[steps[0]]
    never = taken & ~outside & ~dead & (world.transitions[tuple(steps)] <= 0)
    for bad, what in (
        (outside, f"names a state or action that is not there ({world.n_states} states, {world.n_actions} actions)"),
        (dead, "goes on after a terminal state; end it there"),
        (never, "makes a step that this world does not allow"),
    ):
        rows = np.flatnonzero(bad.any(axis=1))
        if len(rows):
            raise DataError(f"Segment {rows[0]} {what} ({len(rows)} of {len(paths)} segments).")


def collected(world: World, paths: Segments) -> Array:
    """Features that each segment collects, sum_t phi(s_t, a_t, s_{t+1}), [segments, features]."""
    taken = paths.actions != ENDED
    steps = np.where(taken, (paths.states[:, :-1], paths.actions, paths.states[:, 1:]), 0)
    return np.asarray((world.features[tuple(steps)] * taken[..., None]).sum(axis=1))


def random_segments(world: World, n: int, steps: int, rng: np.random.Generator) -> Segments:
    """Random actions from random starts that are no ends; a segment that reaches an end is shorter."""
    states = np.full((n, steps + 1), ENDED, dtype=np.int64)
    actions = np.full((n, steps), ENDED, dtype=np.int64)
    states[:, 0] = rng.choice(np.flatnonzero(~world.terminal), size=n)
    running = np.arange(n)
    for step_ in range(steps):
        now = states[running, step_]
        running, now = running[~world.terminal[now]], now[~world.terminal[now]]
        actions[running, step_] = rng.integers(world.n_actions, size=len(running))
        reach = world.transitions[now, actions[running, step_]].cumsum(axis=1)
        reach[:, -1] = 1.0  # sums of probabilities may end a hair below one
        states[running, step_ + 1] = (reach > rng.random((len(running), 1))).argmax(axis=1)
    return Segments(states, actions)
