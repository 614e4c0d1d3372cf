"""The reproduction of the preference orchestrator: its world, its arms, and a verdict that can be false."""

import json

import numpy as np
import pytest

from penchant.reproductions import pro_orchestrator as pro
from penchant.reproductions.kinds_of_prompts import KINDS, prompts


class Kinds:
    """Knows the kind of every prompt: what a perfect reader would."""

    name = "kinds"

    def __init__(self):
        self.kind = {prompt.text: prompt.kind for prompt in prompts()}

    def payload(self, turn):
        return turn.prompt

    def encode(self, payloads):
        return np.eye(len(KINDS), dtype=np.float32)[[self.kind[payload] for payload in payloads]]


@pytest.fixture(scope="module")
def runs():
    return [pro.run(seed, "quick", lambda line: None, words=Kinds()) for seed in (50, 51)]


def test_no_phrasing_that_is_tested_on_was_learnt_from_and_all_kinds_are_tested():
    world = pro.World.drawn("agreeing", np.random.default_rng(0))
    parts = {}
    for prompt, part in zip(prompts(), world.parts, strict=True):
        parts.setdefault((prompt.kind, prompt.phrasing), set()).add(str(part))
    assert all(len(part) == 1 for part in parts.values())
    assert sum(part == {"test"} for part in parts.values()) == 2 * len(KINDS)
    assert len({prompt.text for prompt in prompts()}) == len(prompts())


def test_objectives_score_high_where_they_count_in_one_regime_and_low_in_the_other():
    for regime, sign in pro.REGIMES.items():
        world = pro.World.drawn(regime, np.random.default_rng(1))
        assert sign * np.corrcoef(world.weights.ravel(), world.level.ravel())[0, 1] > 0.7


def test_measured_scores_keep_the_order_of_true_ones_on_scales_of_their_own():
    world = pro.World.drawn("agreeing", np.random.default_rng(2))
    true, measured = world.responses(np.arange(200), 4, np.random.default_rng(3))
    for k in range(4):
        assert (
            np.corrcoef(np.argsort(np.argsort(true[..., k].ravel())), np.argsort(np.argsort(measured[..., k].ravel())))[
                0, 1
            ]
            > 0.9
        )
    assert measured[..., 3].std() / measured[..., 2].std() > 1000


def test_the_grid_holds_every_corner_and_only_weights():
    grid = pro.simplex(0.25)
    np.testing.assert_allclose(grid.sum(axis=1), 1.0)
    assert all(corner.tolist() in grid.tolist() for corner in np.eye(4))
    assert len(grid) == 35  # 4 quarters among 4 objectives


def test_the_best_response_is_the_one_the_weights_like_best():
    z = np.array([[[1.0, 0, 0, 0], [0, 2, 0, 0]], [[1.0, 0, 0, 0], [0, 2, 0, 0]]])
    assert pro.picked(z, np.array([[1.0, 0, 0, 0], [0.5, 0.5, 0, 0]])).tolist() == [0, 1]


def test_weights_that_follow_from_the_prompt_lose_less_and_dealt_out_prompts_teach_nothing(runs):
    for ours, regime in (("PRO plain", "agreeing"), ("PRO margin", "conflict")):
        assert pro.regret(runs, regime, ours) < pro.regret(runs, regime, "placebo (prompts dealt out at random)")
    for regime in pro.REGIMES:
        arms = runs[0][regime]["regret"]
        assert min(arms, key=lambda arm: pro.regret(runs, regime, arm)) == "oracle"
    # A perfect reader of prompts learns the reverse perfectly, too.
    assert pro.regret(runs, "conflict", "PRO plain") > pro.regret(runs, "conflict", "uniform")
    assert all(run["conflict"]["in_conflict"] for run in runs)
    assert json.loads(json.dumps(runs)) == runs


@pytest.mark.parametrize(("plain", "margin", "holds"), [(0.2, 0.2, True), (0.4, 0.2, False), (0.2, 0.4, False)])
def test_the_verdict_needs_both_regimes(runs, plain, margin, holds):
    made = json.loads(json.dumps(runs))
    for run in made:
        for regime, arm, value in (("agreeing", "PRO plain", plain), ("conflict", "PRO margin", margin)):
            n = len(run[regime]["regret"]["best fixed"])
            run[regime]["regret"][arm] = [value + 0.001 * k for k in range(n)]
            run[regime]["regret"]["best fixed"] = [0.3 + 0.0011 * k for k in range(n)]
    found = pro.verdict(made)
    assert found.holds is holds
    assert found.interval.estimate == pytest.approx(found.ours - found.baseline)


def test_the_figure_has_a_row_for_each_arm(runs):
    assert all(len(axes.get_yticks()) == len(runs[0]["agreeing"]["regret"]) for axes in pro.figure(runs).axes)
