"""The reproduction of directional preference alignment: its world, its measure and a verdict that can be false."""

import json

import numpy as np
import pytest

from penchant.reproductions import dpa


def test_the_axes_count_what_the_card_counts():
    prompt = "t0 t1 t2 t3"
    answers = ["t0 t1 t2 t3", "t0 t1 t2 t3 t0 t0", "t0 t9 f1", ""]
    expected = [[4.0, 4], [4 - 0.3, 6], [1 - 0.5, 3], [0.0, 0]]
    np.testing.assert_allclose(dpa.true_axes([prompt] * 4, answers), expected)


def test_the_hypervolume_is_the_area_that_monte_carlo_finds():
    rng = np.random.default_rng(0)
    points = rng.random((6, 2))
    draws = rng.random((200_000, 2))
    dominated = (draws[:, None, :] <= points[None]).all(axis=2).any(axis=1).mean()
    assert dpa.hypervolume(points, reference=[0, 0]) == pytest.approx(dominated, abs=5e-3)
    assert dpa.hypervolume(points - 5, reference=[0, 0]) == 0
    assert dpa.hypervolume([[1, 1], [1, 1], [0.5, 0.5]], reference=[0, 0]) == 1


def test_the_reward_model_recovers_the_axes_from_noisy_ratings_with_gaps():
    world = dpa.World(3)
    prompts = world.prompts(400)
    answers = [world.demonstration(prompt) for prompt in prompts]
    learnt, true = world.reward(prompts, answers), dpa.true_axes(prompts, answers)
    for axis in range(2):
        assert np.corrcoef(learnt[:, axis], true[:, axis])[0, 1] > 0.97


def one_run(ours, baseline, spearman):
    return {
        "hypervolume": {"pi_0": 0.1, "dpa": ours, "scalar": baseline},
        "spearman": spearman,
        "changed": [0.9, 0.5],
        "gain": [0.5] * 9,
        "samples_per_prompt": 8,
    }


@pytest.mark.parametrize(
    ("ours", "baseline", "spearman", "holds"),
    [(2.0, 1.0, 0.95, True), (1.0, 2.0, 0.95, False), (2.0, 1.0, 0.5, False)],
)
def test_the_verdict_needs_both_the_front_and_the_control(ours, baseline, spearman, holds):
    runs = [one_run(ours + d, baseline, spearman + d / 10) for d in (-0.1, 0.0, 0.1)]
    conclusion = dpa.verdict(runs)
    assert conclusion.holds is holds
    assert conclusion.interval.estimate == pytest.approx(ours - baseline)
    assert (conclusion.ours, conclusion.baseline) == pytest.approx((ours, baseline))


def test_all_arms_run_in_a_tiny_world_and_say_the_same_twice():
    first = dpa.run(7, "tiny", lambda line: None)
    assert set(first["fronts"]) == {"pi_0", "dpa", "scalar", "dpo", "targets"}
    assert np.shape(first["fronts"]["dpa"]) == (9, 2)
    assert all(np.isfinite(front).all() for front in first["fronts"].values())
    assert json.dumps(first) == json.dumps(dpa.run(7, "tiny", lambda line: None))
