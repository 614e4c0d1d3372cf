"""A grid with two goals: a policy that acts on what was inferred of each person, with rewards scaled and as they are.

Simulated people want to be near one corner or the other and compare places; those of the first corner are decided,
those of the second hardly so. The reward of a person with a few comparisons is solved exactly (policy iteration), and
the policy may leave the random one only so far: pi(a | s) ~ exp(A(s, a) / temperature), one temperature for all people
such that the mean divergence from random actions is a fixed number of nats, the same whatever the scale. That is the
shape of the paper's advantage-weighted policies, and it is where scale matters: an exact greedy policy is the same
under any scale, which the result shows too.

Source:
    Poddar et al. (2024), Personalizing Reinforcement Learning from Human Feedback with Variational Preference Learning,
    sections 4.2 and 5.1.

>>> world = grid()
>>> world.n_states, world.n_actions
(25, 4)
"""

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit, log_softmax

from penchant.encoders import Items
from penchant.preference.scaling import by_largest, by_spread, win_rate
from penchant.preference.variational import Variational
from penchant.records import Comparisons
from penchant.worlds import World, action_values, from_rules, policy_iteration, scaled_return, step

Array = NDArray[np.float64]
Places = NDArray[np.int64]

SIZE = 5
STATES = [str(state) for state in range(SIZE * SIZE)]
GOALS = (0, SIZE * SIZE - 1)
DECIDED = (2.0, 0.25)  # logits a step nearer, of the people of each goal
BUDGET = 0.5  # nats of divergence from random actions, on average over people and places
N_PAIRS, N_KNOWN = 12, 8
SCALES = {
    "unscaled": lambda rewards, others: rewards,
    "max": by_largest,
    "batch": by_spread,
    "win rate": win_rate,
}


def grid() -> World:
    """A square without an end; each place is a feature."""
    every = np.eye(SIZE * SIZE)

    def outcomes(state: int, action: int) -> list[tuple[float, int, Array]]:
        reached = step(state, action, (SIZE, SIZE))
        return [(1.0, reached, every[reached])]

    return from_rules(SIZE * SIZE, 4, outcomes, terminal=[], discount=0.9)


def choices(goals: Places, n: int, prefix: str, rng: np.random.Generator) -> Comparisons:
    """Which of two places people would rather be in, n times each."""
    row, column = np.divmod(np.arange(SIZE * SIZE), SIZE)
    steps = np.stack([abs(row - goal // SIZE) + abs(column - goal % SIZE) for goal in GOALS])  # [goals, states]
    person = np.repeat(np.arange(len(goals)), n)
    first = rng.integers(SIZE * SIZE, size=len(person))
    second = (first + rng.integers(1, SIZE * SIZE, size=len(person))) % (SIZE * SIZE)
    whose = goals[person]
    nearer = steps[whose, second] - steps[whose, first]
    is_first = rng.random(len(person)) < expit(np.array(DECIDED)[whose] * nearer)
    chosen, rejected = np.where(is_first, (first, second), (second, first))
    return Comparisons(
        pa.table(
            {
                "prompt": [""] * len(person),
                "chosen": [STATES[state] for state in chosen],
                "rejected": [STATES[state] for state in rejected],
                "user": [f"{prefix}-{one}" for one in person],
            }
        )
    )


def advantages(world: World, rewards: Array) -> Array:
    """A*(s, a) for the rewards of entering each place, of several people, [people, states, actions]."""
    _, successor = policy_iteration(world, rewards)
    values = np.einsum("psf,pf->ps", successor, rewards)
    return np.asarray(action_values(world, rewards, values) - values[..., None])


def regularised(advantage: Array, budget: float = BUDGET) -> Array:
    """exp(A / temperature), normalised, where one temperature makes the mean divergence from random actions `budget`.

    Args:
        advantage: [people, states, actions].
        budget: nats; where even the greedy policies stay below it they are taken.

    Returns:
        Probabilities of actions, [people, states, actions].
    """

    def policy(log_temperature: float) -> Array:
        return np.asarray(np.exp(log_softmax(advantage / np.exp(log_temperature), axis=-1)))

    def beyond(log_temperature: float) -> float:
        p = policy(log_temperature)
        divergence = np.log(p.shape[-1]) + (p * np.log(np.maximum(p, 1e-300))).sum(axis=-1)
        return float(divergence.mean()) - budget

    low, high = -30.0, 30.0
    return policy(low if beyond(low) < 0 else float(brentq(beyond, low, high)))


def run(seed: int, *, n_people: int, n_new: int, epochs: int) -> dict[str, Any]:
    """Scaled returns (1 optimal, 0 random) of each new person, by scale of the reward, regularised and greedy.

    Args:
        seed: of people, choices and weights.
        n_people: to learn from.
        n_new: to act for, after a few comparisons each.
        epochs: most passes of learning.
    """
    rng = np.random.default_rng([23, seed])
    goals, new = (np.arange(n) % 2 for n in (n_people, n_new))
    model = Variational(encoder=Items(STATES), latent=4, hidden=64, context=N_KNOWN, epochs=epochs, seed=seed)
    model.fit(choices(goals, N_PAIRS, "person", rng)).adapt_each(choices(new, N_KNOWN, "new", rng))
    rewards = np.stack([model.reward([""] * len(STATES), STATES, user=f"new-{one}") for one in range(n_new)])
    everybody = np.broadcast_to(model.reward([""] * len(STATES), STATES), rewards.shape)
    world, truth = grid(), np.eye(SIZE * SIZE)[np.array(GOALS)]
    regular: dict[str, list[float]] = {}
    greedy: dict[str, list[float]] = {}
    arms = {name: np.stack([scale(one, one) for one in rewards]) for name, scale in SCALES.items()}
    for name, scaled in (arms | {"everybody's": everybody}).items():
        advantage = advantages(world, scaled)
        for found, policies in ((regular, regularised(advantage)), (greedy, advantage.argmax(axis=-1))):
            found[name] = [
                scaled_return(world, policy, truth[goal]) for policy, goal in zip(policies, new, strict=True)
            ]
    return {
        "goals": new.tolist(),
        "returns": regular,
        "greedy": greedy,
        "size": [float(rewards[new == goal].std(axis=1).mean()) for goal in (0, 1)],
        "trust": model.trust_,
    }
