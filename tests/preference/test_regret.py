"""Regret and partial return: closed forms, finite differences, and worlds where one of them cannot know."""

import numpy as np
import pytest
import torch
from scipy.special import expit

from penchant.errors import DataError, NotFittedError, SettingsError
from penchant.preference.regret import (
    PartialReturn,
    Regret,
    SegmentPairs,
    deterministic_regret,
    partial_return,
    read_pairs,
    regret,
    surrogate_values,
)
from penchant.records import Comparisons
from penchant.worlds import (
    from_rules,
    policy_iteration,
    random_grid,
    random_policies,
    random_segments,
    scaled_return,
    segments,
    successor_features,
    value_iteration,
)

WORLD, WEIGHTS = random_grid(7), np.array([-0.4, 0.3, -1.0, 3.0, -2.0])


def choices(world, n, *, by="regret", seed=0, weights=WEIGHTS):
    rng = np.random.default_rng(seed)
    first, second = (random_segments(world, n, 3, rng) for _ in range(2))
    a, b = (
        -regret(world, p, weights) if by == "regret" else partial_return(world, p, weights) for p in (first, second)
    )
    return SegmentPairs(first, second, (rng.random(n) < expit(a - b)).astype(float))


def corridor(discount):
    """States 0 to 3, the goal at 4: action 1 walks on (-1, and 50 into the goal), action 0 picks up a coin for 1."""
    return from_rules(
        5, 2, lambda s, a: [(1.0, s + a, [a * (s < 3), a * (s == 3), 1 - a])], terminal=[4], discount=discount
    )


def test_partial_return_is_the_sum_of_what_every_step_pays():
    paths = segments([[0, 1, 1], [3, 4]], [[1, 0], [1]])
    np.testing.assert_allclose(partial_return(corridor(0.9), paths, np.array([-1.0, 50.0, 1.0])), [0.0, 50.0])


def test_regret_sums_the_gap_between_the_best_and_what_was_done():
    world, weights = corridor(0.5), np.array([-1.0, 50.0, 0.5])
    value = [2.0, 0.0, 0.0, 50.0, 0.0]  # by hand, from the goal back
    value[2] = -1 + 0.5 * 50
    value[1] = -1 + 0.5 * value[2]
    value[0] = -1 + 0.5 * value[1]
    wasted = value[1] - (0.5 + 0.5 * value[1])
    paths = segments([[0, 1, 2], [1, 1, 2], [1, 1, 1]], [[1, 1], [0, 1], [0, 0]])
    np.testing.assert_allclose(regret(world, paths, weights), [0.0, wasted, 2 * wasted])


def test_without_chance_and_discount_regret_is_what_start_and_end_values_leave():
    world, weights = corridor(1.0), np.array([-1.0, 50.0, -0.5])
    value = value_iteration(world, weights)
    paths = random_segments(world, 200, 3, np.random.default_rng(0))
    start, end = value[paths.states[:, 0]], value[paths.states[np.arange(200), paths.lengths]]
    expected = deterministic_regret(partial_return(world, paths, weights), start, end)
    np.testing.assert_allclose(regret(world, paths, weights, value), expected, atol=1e-9)
    assert expected.max() > 1


def test_regret_under_chance_counts_the_decision_and_not_the_luck():
    def outcomes(state, action):  # safe pays 0; the risk pays 1 or -5
        return [(1.0, 1, [0.0])] if action == 0 else [(0.5, 2, [1.0]), (0.5, 3, [-5.0])]

    world = from_rules(4, 2, outcomes, terminal=[1, 2, 3], discount=0.9)
    paths = segments([[0, 1], [0, 2], [0, 3]], [[0], [1], [1]])
    np.testing.assert_allclose(regret(world, paths, np.ones(1)), [0, 2, 2])
    np.testing.assert_allclose(partial_return(world, paths, np.ones(1)), [0, 1, -5])


def test_regret_is_never_negative_and_values_of_another_reward_are_found_out():
    paths = random_segments(WORLD, 500, 3, np.random.default_rng(1))
    assert regret(WORLD, paths, WEIGHTS).min() >= -1e-9
    with pytest.raises(DataError, match="not the optimal ones"):
        regret(WORLD, paths, WEIGHTS, policy_iteration(WORLD, -WEIGHTS)[1] @ WEIGHTS)
    with pytest.raises(DataError, match=r"1 of 2 segments, first in segment 1 \(-1\)"):
        deterministic_regret([0.0, 2.0], [0.0, 1.0], [0.0, 0.0])


def test_the_gradient_of_the_best_value_is_its_successor_features():
    successor = policy_iteration(WORLD, WEIGHTS)[1]
    for feature in range(5):
        nudge = 1e-5 * np.eye(5)[feature]
        up, down = (policy_iteration(WORLD, WEIGHTS + sign * nudge)[1] @ (WEIGHTS + sign * nudge) for sign in (1, -1))
        np.testing.assert_allclose((up - down) / 2e-5, successor[:, feature], atol=1e-6)


def test_the_learnt_loss_is_the_cross_entropy_of_the_regret_model():
    pairs = choices(WORLD, 80)
    pairs = SegmentPairs(pairs.first, pairs.second, np.where(np.arange(80) % 5 == 0, 0.5, pairs.strength))
    model = Regret(WORLD, steps=20, l2=0.3).fit(pairs)
    ahead = regret(WORLD, pairs.second, model.weights_) - regret(WORLD, pairs.first, model.weights_)
    expected = -pairs.strength * np.log(expit(ahead)) - (1 - pairs.strength) * np.log(expit(-ahead))
    assert model.loss_ == pytest.approx(expected.mean() + 0.3 / 160 * (model.weights_**2).sum(), abs=1e-9)
    np.testing.assert_allclose(model.probability(pairs), expit(ahead), atol=1e-9)
    np.testing.assert_allclose(model.scores(pairs.first), -regret(WORLD, pairs.first, model.weights_), atol=1e-9)


def test_surrogate_values_are_those_of_the_best_policy_mixed_and_never_overflow():
    best, successor = policy_iteration(WORLD, WEIGHTS)
    mixed = np.concatenate([random_policies(WORLD, 10, seed=3), best[None]])
    found = surrogate_values(
        torch.from_numpy(1000 * WEIGHTS)[None], torch.from_numpy(successor_features(WORLD, mixed)), temperature=1e-3
    )[0]
    np.testing.assert_allclose(found, 1000 * successor @ WEIGHTS, rtol=1e-2, atol=1e-6)
    # With two policies worth 1 and 0 the mixture has a closed form.
    two = torch.tensor([[[1.0]], [[0.0]]], dtype=torch.float64)
    soft = surrogate_values(torch.ones(1, 1, dtype=torch.float64), two, temperature=0.5)
    assert soft.item() == pytest.approx(expit(2.0))


def test_what_people_want_is_found_again_from_choices_by_regret_and_not_by_partial_return():
    pairs = choices(WORLD, 600)
    exact, mixed = Regret(WORLD).fit(pairs), Regret(WORLD, policies=random_policies(WORLD, 40, seed=1)).fit(pairs)
    assert scaled_return(WORLD, exact.policy(), WEIGHTS) > 0.95
    assert scaled_return(WORLD, mixed.policy(), WEIGHTS) > 0.9

    def alike(found):  # cosine: only the direction means something
        return found @ WEIGHTS / np.linalg.norm(found) / np.linalg.norm(WEIGHTS)

    assert alike(exact.weights_) > 0.9  # how bad the bad end is hardly shows: nobody goes there
    assert alike(PartialReturn(WORLD).fit(pairs).weights_) < 0.8


def test_partial_return_recovers_the_weights_of_its_own_kind_of_choices():
    model = PartialReturn(WORLD).fit(choices(WORLD, 4000, by="partial return"))
    np.testing.assert_allclose(model.weights_, WEIGHTS, atol=0.35)


def test_segments_of_one_length_cannot_tell_a_reward_from_one_with_a_constant_added():
    # Nobody reaches an end within these steps, so that every segment has the same length.
    world = corridor(0.9)
    paths = segments([[0, 1], [0, 0], [1, 2], [1, 1]], [[1], [0], [1], [0]])
    low, high = np.array([-1.0, -1.0, -3.0]), np.array([3.0, 3.0, 1.0])  # the same but for 4 a step
    returns, regrets = ([score(world, paths, w) for w in (low, high)] for score in (partial_return, regret))
    np.testing.assert_allclose(np.diff(returns[0]), np.diff(returns[1]))
    assert not np.allclose(np.diff(regrets[0]), np.diff(regrets[1]))
    walk, coin = (policy_iteration(world, w)[0].tolist() for w in (low, high))
    assert walk[:4] == [1, 1, 1, 1]
    assert coin[3] == 0  # and never to the goal


def test_swapping_the_segments_swaps_the_probability_and_leaves_the_weights():
    pairs = choices(WORLD, 200)
    back = SegmentPairs(pairs.second, pairs.first, 1 - pairs.strength)
    for new in (lambda: PartialReturn(WORLD), lambda: Regret(WORLD, steps=30)):
        model, other = new().fit(pairs), new().fit(back)
        np.testing.assert_allclose(model.weights_, other.weights_, atol=1e-7)
        np.testing.assert_allclose(model.probability(pairs), 1 - model.probability(back), atol=1e-12)


def test_the_same_seed_gives_the_same_weights_and_fitting_again_forgets():
    once = Regret(WORLD, steps=30).fit(choices(WORLD, 100))
    twice = Regret(WORLD, steps=30).fit(choices(WORLD, 100, seed=4)).fit(choices(WORLD, 100))
    np.testing.assert_array_equal(once.weights_, twice.weights_)


def test_lengths_that_differ_for_no_reason_are_warned_of_and_can_be_evened_out():
    world = corridor(0.9)
    mixed = SegmentPairs(segments([[0, 1, 2]], [[1, 1]]), segments([[0, 0]], [[0]]), np.ones(1))
    with pytest.warns(UserWarning, match="1 of 2 segments are shorter"):
        PartialReturn(world).fit(mixed)
    even = PartialReturn(world, per_step=True).fit(mixed)
    np.testing.assert_allclose(even.scores(mixed.first), even.weights_[0])
    # An end is a reason.
    PartialReturn(world).fit(SegmentPairs(segments([[2, 3, 4]], [[1, 1]]), segments([[3, 4]], [[1]]), np.ones(1)))


def test_what_cannot_be_learnt_from_is_a_clear_error():
    pairs = choices(WORLD, 10)
    for model in (PartialReturn(WORLD), Regret(WORLD)):
        with pytest.raises(NotFittedError):
            model.scores(pairs.first)
        with pytest.raises(NotFittedError):
            model.policy()
        with pytest.raises(DataError, match="nothing to learn from: 10 pairs"):
            model.fit(SegmentPairs(pairs.first, pairs.second, np.full(10, 0.5)))
        with pytest.raises(DataError, match="nothing to learn from: 0 pairs"):
            model.fit(pairs.of([]))
        with pytest.raises(DataError, match="not there"):
            model.fit(SegmentPairs(segments([[0, 99]], [[1]]), pairs.second.of([0]), np.ones(1)))
    with pytest.raises(DataError, match=r"1 of 10 do not, first in pair 3 \(1.5\)"):
        SegmentPairs(pairs.first, pairs.second, np.where(np.arange(10) == 3, 1.5, 1.0))
    with pytest.raises(DataError, match="one of each a pair"):
        SegmentPairs(pairs.first, pairs.second, np.ones(9))
    with pytest.raises(SettingsError, match="no policies"):
        Regret(WORLD, policies=np.empty((0, 36), dtype=np.int64))
    with pytest.raises(SettingsError, match="discount below 1"):
        Regret(corridor(1.0))
    with pytest.raises(SettingsError, match="l2 must be above 0"):
        PartialReturn(WORLD, l2=0)


def test_pairs_are_read_from_comparisons():
    rows = [
        {"prompt": "", "chosen": '{"s": [0, 1], "a": [1]}', "rejected": '{"s": [0, 0, 0], "a": [0, 0]}'},
        {"prompt": "", "chosen": '{"s": [1, 2], "a": [1]}', "rejected": '{"s": [0, 1], "a": [1]}', "strength": 0.5},
    ]
    pairs = read_pairs(Comparisons.from_rows(rows), lambda segment: (segment["s"], segment["a"]))
    assert pairs.first.states.tolist() == [[0, 1], [1, 2]]
    assert pairs.second.lengths.tolist() == [2, 1]
    assert pairs.strength.tolist() == [1.0, 0.5]
    assert len(read_pairs(Comparisons.from_rows(rows).take([]), lambda segment: ([], []))) == 0
    with pytest.raises(DataError, match="`chosen` of row 0 is no segment"):
        read_pairs(Comparisons.from_rows([rows[0] | {"chosen": "walk"}]), lambda segment: ([], []))
