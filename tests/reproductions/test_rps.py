import json

import numpy as np
import pytest

from penchant.reproductions import rps


@pytest.fixture(scope="module")
def runs():
    return [rps.run(seed, "quick", lambda line: None) for seed in (0, 1)]


def test_quadrature_gives_the_known_maximum_of_normals_and_a_fair_coin_at_angle_zero():
    narrow = rps.quadrature(10.0, 1e-6, 5)
    assert narrow.ours == pytest.approx(1 + 1.16296447 * rps.NOISE, abs=1e-5)
    assert narrow.baseline == pytest.approx(narrow.ours, abs=1e-6)
    assert narrow.win_rate == pytest.approx(0.5, abs=1e-4)


def test_simulation_agrees_with_quadrature(runs):
    assert rps.deviation(runs) < 3
    wrong = json.loads(json.dumps(runs))
    for run in wrong:
        run["cells"]["50/30"]["ours"] += 0.05
    assert rps.deviation(wrong) > 3


def test_neighbours_cost_inside_the_cone_and_pay_far_from_it(runs):
    outcome = rps.verdict(runs)
    assert outcome.holds
    assert outcome.ours > 0.6
    assert outcome.interval.estimate == pytest.approx(outcome.ours - outcome.baseline)
    assert runs[0]["cells"]["5/30"]["win_rate"] < 0.5
    assert 20 < rps.crossing_angle() < 35
    assert json.loads(json.dumps(runs)) == runs


def test_the_verdict_is_false_where_the_policy_ignores_directions(monkeypatch):
    monkeypatch.setattr(rps, "mean_answer", lambda directions: np.broadcast_to([0.5, 0.5], np.shape(directions)))
    runs = [rps.run(seed, "quick", lambda line: None) for seed in (0, 1)]
    assert abs(np.mean([run["far"] for run in runs]) - 0.5) < 0.02
    monkeypatch.undo()
    assert not rps.verdict(runs).holds


def test_a_single_sample_and_a_random_neighbour_are_worse_than_the_rule(runs):
    for target in ("50", "65"):
        cell, ours = runs[0]["rules"][target], runs[0]["cells"][f"{target}/30"]["win_rate"]
        assert cell["single sample"] == pytest.approx(0.1, abs=0.03)  # a tie with itself when it is the best of five
        assert cell["random neighbour"] < ours - 0.1
        assert cell["ours, by a second reward model"] < ours + 0.03


def test_the_figure_has_a_curve_and_points_for_each_angle(runs):
    axes = rps.figure(runs).axes[0]
    assert len(axes.get_legend_handles_labels()[1]) == len(rps.MAX_ANGLES) + 1
