"""The study of regret in small, its unit facts, and real choices where they are on this machine."""

import json

import numpy as np
import pytest

from penchant.errors import DataError
from penchant.preference.regret import partial_return, read_pairs, regret
from penchant.reproductions import regret as study
from penchant.worlds import policy_iteration, value_iteration


def fake(lead, *, controls=0.05, right=False, error=1e-6, n=6):
    """Runs in which regret leads by so much, with real people and unit facts made up."""
    rng = np.random.default_rng(0)
    runs = []
    for _ in range(n):
        base = 0.6 + 0.05 * rng.random()
        arms = {"regret": {"100": [base + lead]}, "partial return": {"100": [base]}}
        runs.append(
            {
                "study": {model: arms for model in study.LABELS},
                "surrogate_error": error,
                "aligned": {"x": 1.0},
                "any_task": {"x": 1.0},
            }
        )
        runs[-1]["told_apart"] = {"a world": {"regret": True, "partial return": right}}
    cell = {"n": 9, "decided": 8, "accuracy": {"regret": 0.8}, "log_likelihood": {"regret": -0.5}}
    runs[0] |= {"dropped": {}, "people": {c: {**cell, "lead": [controls, controls - 0.01, 1]} for c in study.CONTROLS}}
    return runs


def test_every_part_of_the_claim_can_fail_by_itself():
    assert study.verdict(fake(0.2)).holds
    assert not study.verdict(fake(0.0)).holds
    assert not study.verdict(fake(-0.2)).holds
    assert not study.verdict(fake(0.2, controls=0.005)).holds
    assert not study.verdict(fake(0.2, right=True)).holds
    assert not study.verdict(fake(0.2, error=0.02)).holds
    assert study.verdict(fake(0.2)).interval.estimate == pytest.approx(0.2)


def test_partial_return_cannot_tell_the_twins_apart_and_they_want_different_things():
    for case in study.twins().values():
        ours, theirs = (case.pairs("partial return", w) for w in (case.weights, case.other))
        np.testing.assert_array_equal(ours.strength, theirs.strength)
        best, other = (policy_iteration(case.world, w)[0][0] for w in (case.weights, case.other))
        assert best == case.action != other
        assert not np.array_equal(
            case.pairs("regret", case.weights).strength, case.pairs("regret", case.other).strength
        )


def test_regret_learns_the_right_action_in_every_twin_world_and_partial_return_the_wrong_one():
    found = study.told_apart()
    assert len(found) == 3
    assert all(case == {"regret": True, "partial return": False} for case in found.values())


def test_surrogate_values_reach_the_best_ones_once_the_best_policy_is_mixed_in():
    assert study.surrogate_error(1003) < 1e-2


def test_choices_follow_the_model_that_they_are_drawn_from():
    world, weights = study.task(1001)
    for model, score in (
        ("regret", lambda p: -regret(world, p, weights)),
        ("partial return", lambda p: partial_return(world, p, weights)),
    ):
        pairs = study.labels(world, weights, model, 4000, np.random.default_rng(2))
        expected = 1 / (1 + np.exp(score(pairs.second) - score(pairs.first)))
        assert abs((pairs.strength - expected).mean()) < 0.03
        assert np.corrcoef(pairs.strength, expected)[0, 1] > 0.3


def test_a_goal_task_has_an_end_to_go_for_and_nothing_that_pays_for_ever():
    for seed in range(1000, 1010):
        world, weights = study.task(seed)
        values = policy_iteration(world, weights)[1] @ weights
        assert weights[3] > 2
        assert values.max() <= weights[3] + 1e-9
        paid = (world.expected @ weights)[:, :, None] * (world.transitions > 0)
        assert paid[:, :, ~world.terminal].max() <= 1e-12


def test_one_world_of_the_study_can_be_written_down(monkeypatch):
    monkeypatch.setitem(study._SCALES, "quick", study.Scale((60,), 1))
    found = study.study(1002, "quick")
    assert set(found) == set(study.LABELS)
    assert set(found["regret"]) == {"regret", "regret, surrogate values", "partial return", "regret, labels shuffled"}
    assert json.loads(json.dumps(found)) == found


@pytest.fixture(scope="module")
def real(shared_data):
    if not (shared_data / "delivery_segment_prefs").is_dir():
        pytest.skip("the choices of the delivery task are not on this machine")
    return study.people()


def test_the_delivery_task_is_rebuilt_exactly(real, shared_data):
    world, walk = study.delivery(real.board, discount=1.0)
    weights = np.array(real.board["reward_array"], dtype=float)
    table = np.array(real.board["reward_table"]).reshape(100, 4)
    np.testing.assert_allclose((world.expected @ weights)[~world.terminal], table[~world.terminal])
    value = value_iteration(world, weights)
    pairs, seen = read_pairs(real.comparisons, walk), study.statistics(real.comparisons)
    went_on = np.array(
        [
            any(
                len(walk(json.loads(text))[1]) < sum(move != [0, 0] for move in json.loads(text)["actions"])
                for text in pair
            )
            for pair in zip(*(real.comparisons.table[name].to_pylist() for name in ("chosen", "rejected")), strict=True)
        ]
    )
    ends = [value[p.states[np.arange(len(p)), p.lengths]] for p in (pairs.first, pairs.second)]
    starts = [value[p.states[:, 0]] for p in (pairs.first, pairs.second)]
    returns = [partial_return(world, p, weights) for p in (pairs.first, pairs.second)]
    all_three = seen["all three, weighted"]
    np.testing.assert_allclose((starts[0] - starts[1])[~went_on], all_three[~went_on, 1])
    np.testing.assert_allclose((ends[0] - ends[1])[~went_on], all_three[~went_on, 2])
    off = ~np.isclose(returns[0] - returns[1], all_three[:, 0]) & ~went_on
    assert went_on.sum() < 320
    assert off.sum() <= 21


def test_signs_of_real_choices_are_those_the_card_measured(real):
    found = study.predicted(real)
    assert all(found[c]["accuracy"]["regret"] > found[c]["accuracy"]["partial return"] + 0.05 for c in study.CONTROLS)
    pushed = found["Pr-Privileged"]
    assert pushed["accuracy"]["partial return"] > pushed["accuracy"]["regret"] + 0.05
    assert pushed["lead"][0] < 0
    assert found[study.ALL_CONTROLS]["n"] == sum(found[c]["n"] for c in study.CONTROLS)
    assert 0.0 > found["Trained-Control"]["log_likelihood"]["all three, weighted"] > -0.6


def test_at_full_scale_real_choices_must_be_there(monkeypatch, tmp_path):
    monkeypatch.setenv("PENCHANT_DATA", str(tmp_path))
    monkeypatch.setattr(study, "study", lambda seed, scale: {"regret": {"regret": {"1": [1.0]}}})
    with pytest.raises(DataError, match="set PENCHANT_DATA"):
        study.run(1, "full", lambda line: None)
    assert "people" not in study.run(1, "quick", lambda line: None)
