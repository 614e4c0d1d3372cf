"""Tabular worlds: closed forms, brute force over all policies, and what cannot be a world."""

from itertools import product

import numpy as np
import pytest

from penchant.errors import DataError, SettingsError
from penchant.worlds import (
    ENDED,
    Segments,
    World,
    collected,
    from_rules,
    policy_iteration,
    random_grid,
    random_policies,
    random_segments,
    require_possible,
    scaled_return,
    segments,
    step,
    successor_features,
    value_iteration,
)


def slippery(discount=0.8):
    """Four states and an end; actions lead to two places each, by chance."""
    rng = np.random.default_rng(3)
    chances = rng.dirichlet(np.ones(2), size=(4, 2))
    places = [[rng.choice(5, 2, replace=False) for _ in range(2)] for _ in range(4)]

    def outcomes(state, action):
        return [
            (chance, int(to), [state, action, to])
            for chance, to in zip(chances[state, action], places[state][action], strict=True)
        ]

    return from_rules(5, 2, outcomes, terminal=[4], discount=discount)


def value_by_playing(world, policy, weights, steps=400):
    """What a policy collects, summed step by step over the distribution of states."""
    there, total = np.eye(world.n_states), np.zeros(world.n_states)
    for time in range(steps):
        for state in range(world.n_states):
            moves = world.transitions[state, policy[state]]
            paid = world.features[state, policy[state]] @ weights
            total += world.discount**time * there[:, state] * (moves @ paid)
        there = sum(np.outer(there[:, s], world.transitions[s, policy[s]]) for s in range(world.n_states))
    return total


def test_successor_features_are_what_a_policy_collects():
    world, weights = slippery(), np.array([1.0, -2.0, 0.5])
    for policy in ([0, 1, 0, 1, 0], [1, 1, 1, 1, 0]):
        found = successor_features(world, np.array(policy)) @ weights
        np.testing.assert_allclose(found, value_by_playing(world, policy, weights), atol=1e-9)


def test_no_policy_is_better_than_the_one_that_policy_iteration_finds():
    world = slippery()
    for weights in np.random.default_rng(0).standard_normal((20, 3)):
        policy, successor = policy_iteration(world, weights)
        every = [successor_features(world, np.array([*some, 0])) @ weights for some in product(range(2), repeat=4)]
        np.testing.assert_allclose(successor @ weights, np.max(every, axis=0), atol=1e-9)
        np.testing.assert_allclose(value_iteration(world, weights), successor @ weights, atol=1e-7)
        np.testing.assert_allclose(successor_features(world, policy), successor)


def test_many_rewards_are_solved_at_once_as_one_by_one_and_from_any_start():
    world = random_grid(1, slip=0.2)
    weights = np.random.default_rng(1).standard_normal((4, 2, 5))
    policies, successor = policy_iteration(world, weights)
    assert policies.shape == (4, 2, 36)
    for row in np.ndindex(4, 2):
        alone = policy_iteration(world, weights[row], start=policies[3, 1])
        np.testing.assert_allclose(successor[row] @ weights[row], alone[1] @ weights[row], atol=1e-9)
        np.testing.assert_allclose(value_iteration(world, weights)[row], successor[row] @ weights[row], atol=1e-6)


def test_probabilities_of_actions_mix_what_actions_are_worth():
    world, weights = slippery(), np.array([1.0, 1.0, 1.0])
    sure = np.zeros((5, 2))
    sure[np.arange(5), [0, 1, 1, 0, 0]] = 1
    np.testing.assert_allclose(
        successor_features(world, sure), successor_features(world, np.array([0, 1, 1, 0, 0])), atol=1e-12
    )
    assert np.isfinite(successor_features(world, np.full((5, 2), 0.5)) @ weights).all()


def line(pay, discount=1.0):
    """States 0, 1, 2 and an end at 3; action 1 walks on for -1, action 0 stays for `pay`."""
    return from_rules(4, 2, lambda s, a: [(1.0, s + a, [-1.0 if a else pay])], terminal=[3], discount=discount)


def test_without_a_discount_values_are_the_way_to_the_end():
    np.testing.assert_allclose(value_iteration(line(-2.0), np.ones(1)), [-3, -2, -1, 0])
    np.testing.assert_allclose(value_iteration(line(0.0), np.ones(1)), 0)  # to stay costs nothing
    np.testing.assert_allclose(successor_features(line(-2.0), np.array([1, 1, 1, 0]))[:, 0], [-3, -2, -1, 0])


def test_a_loop_that_pays_for_ever_is_named():
    with pytest.raises(DataError, match=r"loop of states (\d) -> \1 pays \+0\.5 each round"):
        value_iteration(line(0.5), np.ones(1))
    with pytest.raises(DataError, match="goes on for ever from 2 of 4 states"):
        successor_features(line(-2.0), np.array([1, 0, 1, 0]))
    with pytest.raises(SettingsError, match="discount below 1"):
        policy_iteration(line(-2.0), np.ones(1))
    with pytest.raises(DataError, match="finite"):
        value_iteration(line(-2.0), np.array([np.nan]))


def test_scaled_return_is_one_for_the_best_policy_and_zero_for_random_actions():
    world, weights = random_grid(5), np.random.default_rng(5).standard_normal(5)
    best = policy_iteration(world, weights)[0]
    assert scaled_return(world, best, weights) == pytest.approx(1)
    assert scaled_return(world, np.full((36, 4), 0.25), weights) == pytest.approx(0)
    assert scaled_return(world, policy_iteration(world, -weights)[0], weights) < 0
    assert scaled_return(world, best, 7 * weights) == pytest.approx(1)
    with pytest.raises(DataError, match="any difference"):
        scaled_return(world, best, np.zeros(5))


def test_random_policies_are_best_for_some_reward_and_differ():
    policies = random_policies(random_grid(0), 20, seed=1)
    assert len(np.unique(policies, axis=0)) == len(policies) > 3


def test_what_is_no_world_is_refused():
    good = slippery()
    with pytest.raises(DataError, match="add up to 1"):
        World(good.transitions * 0.9, good.features, good.terminal, 0.9)
    features = good.features.copy()
    features[2, 0, 0, 0] = np.nan
    with pytest.raises(DataError, match="not in 1 of 5 states, first in state 2"):
        World(good.transitions, features, good.terminal, 0.9)
    with pytest.raises(DataError, match="not of one world"):
        World(good.transitions, good.features[:3], good.terminal, 0.9)
    with pytest.raises(SettingsError, match="discount"):
        World(good.transitions, good.features, good.terminal, 1.5)
    with pytest.raises(DataError, match="two descriptions"):
        from_rules(2, 1, lambda s, a: [(0.5, 1, [1.0]), (0.5, 1, [2.0])], terminal=[1], discount=1)
    with pytest.raises(DataError, match="terminal"):
        from_rules(1, 1, lambda s, a: [], terminal=[0], discount=1)
    with pytest.raises(SettingsError, match="grid"):
        random_grid(0, size=1)


def test_a_step_off_the_board_stays():
    assert [step(0, move, (2, 3)) for move in range(4)] == [0, 3, 0, 1]
    assert [step(5, move, (2, 3)) for move in range(4)] == [2, 5, 4, 5]


def test_random_segments_follow_the_rules_and_stop_at_an_end():
    world = random_grid(2, slip=0.3)
    paths = random_segments(world, 400, 3, np.random.default_rng(0))
    require_possible(world, paths)
    assert paths.lengths.min() >= 1
    short = paths.lengths < 3
    last = paths.states[np.arange(400), paths.lengths]
    assert short.any()
    assert world.terminal[last[short]].all()
    # Every step is a step (feature 0) or enters an end (the last two features).
    np.testing.assert_array_equal(collected(world, paths)[:, [0, 3, 4]].sum(axis=1), paths.lengths)


def test_segments_that_cannot_be_are_named():
    world = line(-2.0)
    for states, actions, what in (
        ([[0, 1], [2, 3, 3]], [[1], [1, 0]], "Segment 1 goes on after a terminal state"),
        ([[0, 2]], [[1]], "does not allow"),
        ([[0, 9]], [[1]], "not there"),
        ([[0, 0]], [[2]], "not there"),
    ):
        with pytest.raises(DataError, match=what):
            require_possible(world, segments(states, actions))
    with pytest.raises(DataError, match="Segment 1 has 1 states and 0 actions"):
        segments([[0, 1], [0]], [[1], []])
    assert segments([[0, 1], [0, 1, 2]], [[1], [1, 1]]).states.tolist() == [[0, 1, ENDED], [0, 1, 2]]
    assert isinstance(segments([], []), Segments)
