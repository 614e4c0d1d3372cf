import copy
import json

import numpy as np
import pytest
import torch
from scipy.special import expit

from penchant.reproductions import distributional, two_goals, vpl
from penchant.reproductions.vpl import SCALES, World


@pytest.fixture(scope="module")
def runs():
    return [vpl.run(seed, "tiny", lambda line: None) for seed in (900, 901)]


def test_every_arm_is_there_and_the_verdict_is_the_sum_of_its_parts(runs):
    assert json.loads(json.dumps(runs)) == runs
    outcome = vpl.verdict(runs)
    assert outcome.interval.estimate == pytest.approx(outcome.ours - outcome.baseline)
    assert [note[1] for note in outcome.notes if note.startswith("(")] == list("abcdef")
    for run in runs:
        assert np.mean(run["accuracy"]["oracle"]["8"]) > np.mean(run["accuracy"]["btl"]["8"]) + 0.15
        assert {len(people) for arm in run["accuracy"].values() for people in arm.values()} == {20}


def winning(runs):
    """The same runs, as they would be if everything held."""
    won = copy.deepcopy(runs)
    for run in won:
        accuracy, control = run["accuracy"], run["control"]
        accuracy["vpl"] = {str(n): (np.array(accuracy["btl"]["8"]) + 0.02 * n).tolist() for n in vpl.CONTEXTS}
        accuracy["placebo"] = {str(n): accuracy["btl"]["8"] for n in vpl.CONTEXTS}
        run["alike"]["vpl"] = run["alike"]["btl"]
        run["active"]["exact"] = run["active"]["random"]
        control["returns"]["win rate"] = (np.array(control["returns"]["unscaled"]) + 0.1).tolist()
    return won


@pytest.mark.parametrize(
    ("part", "spoil"),
    [
        ("a", lambda run: run["accuracy"].update(vpl=run["accuracy"]["placebo"])),
        ("b", lambda run: run["accuracy"]["vpl"].update({"1": run["accuracy"]["vpl"]["8"]})),
        (
            "c",
            lambda run: run["accuracy"]["placebo"].update({"8": [x - 0.05 for x in run["accuracy"]["btl"]["8"]]}),
        ),
        ("d", lambda run: run["alike"].update(vpl=[x - 0.01 for x in run["alike"]["btl"]])),
        ("e", lambda run: run["control"]["returns"].update({"win rate": run["control"]["returns"]["unscaled"]})),
        ("f", lambda run: run["active"].update(exact=[x - 0.1 for x in run["active"]["random"]])),
    ],
)
def test_each_part_of_the_claim_can_fail(runs, part, spoil):
    won = winning(runs)
    assert vpl.verdict(won).holds
    for run in won:
        spoil(run)
    outcome = vpl.verdict(won)
    assert not outcome.holds
    assert any(note.startswith(f"({part}) does not hold") for note in outcome.notes)


def test_controversial_pairs_are_those_that_many_would_choose_either_way():
    world = World(1, SCALES["tiny"], "groups")
    pairs = world.pairs(200, 0)
    found = world.controversial(pairs)
    for (a, b), is_one in zip(pairs, found, strict=True):
        share = np.mean(
            [world.aspects[a] @ world.people.tastes[p] > world.aspects[b] @ world.people.tastes[p] for p in world.old]
        )
        assert is_one == (0.2 <= share <= 0.8)
    votes = world.votes(world.new, 5, 2, controversial=True)
    numbers = np.array([vpl._numbers(votes, side) for side in ("chosen", "rejected")]).T
    assert world.controversial(numbers).all()
    assert (numbers >= 2 * 400).all()  # a pool of its own
    assert expit(world.oracle(votes)).mean() > 0.7  # people choose by their taste
    assert not World(1, SCALES["tiny"], "alike").controversial(pairs).any()


def test_both_distributional_rewards_are_their_formulas():
    rng = np.random.default_rng(0)
    first, second = rng.standard_normal((2, 7, 2))
    by_hand = np.sqrt(2 * np.pi) * (first[:, 0] - second[:, 0]) / np.sqrt(np.exp(first[:, 1]) + np.exp(second[:, 1]))
    found = distributional.normal_logits(torch.tensor(first), torch.tensor(second))
    np.testing.assert_allclose(found.numpy(), by_hand)
    one, two = torch.tensor(rng.standard_normal((2, 7, 4)))
    p, q = one.softmax(-1).numpy(), two.softmax(-1).numpy()
    ahead = sum(p[:, i] * q[:, j] * (1.0 if i > j else 0.5 if i == j else 0.0) for i in range(4) for j in range(4))
    np.testing.assert_allclose(distributional.level_probability(one, two).numpy(), ahead)


def test_a_policy_leaves_random_actions_by_the_budget_and_a_scale_common_to_all_changes_nothing():
    world = two_goals.grid()
    rewards = np.random.default_rng(0).standard_normal((3, 25))
    advantage = two_goals.advantages(world, rewards)
    assert np.abs(advantage.max(axis=2)).max() < 1e-9
    policy = two_goals.regularised(advantage)
    np.testing.assert_allclose(policy.sum(axis=2), 1)
    divergence = (policy * np.log(4 * np.maximum(policy, 1e-300))).sum(axis=2).mean()
    assert divergence == pytest.approx(two_goals.BUDGET, abs=1e-6)
    np.testing.assert_allclose(two_goals.regularised(two_goals.advantages(world, 7 * rewards + 3)), policy, atol=1e-6)
    # A scale of one person's own does change things, unless people are solved greedily.
    louder = two_goals.advantages(world, rewards * np.array([[10.0], [1.0], [1.0]]))
    assert np.abs(two_goals.regularised(louder) - policy).max() > 0.05
    np.testing.assert_array_equal(louder.argmax(axis=2), advantage.argmax(axis=2))


def test_people_of_the_grid_want_to_be_near_their_goal_and_some_hardly():
    votes = two_goals.choices(np.array([0, 1]), 4000, "p", np.random.default_rng(0))
    shares = []
    for person, goal in ((0, 0), (1, 24)):
        own = votes.of(f"p-{person}")
        chosen, rejected = (np.array(own.table[side].to_pylist(), dtype=int) for side in ("chosen", "rejected"))
        steps = [abs(one // 5 - goal // 5) + abs(one % 5 - goal % 5) for one in (chosen, rejected)]
        shares.append((steps[0] < steps[1]).sum() / (steps[0] != steps[1]).sum())
    assert shares[0] > 0.9
    assert 0.6 < shares[1] < 0.75
