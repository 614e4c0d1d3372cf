"""Calibration on numbers: tables by hand, a planted overconfidence, and a temperature that mends it."""

import math

import numpy as np
import pytest

from penchant.errors import DataError, SettingsError
from penchant.evaluate import calibration as cal
from penchant.statistics import wilson


def overconfident(n: int, factor: float, seed: int = 0):
    """Outcomes at the true odds, and probabilities that claim `factor` times the logits."""
    rng = np.random.default_rng(seed)
    z = rng.normal(0, 1.5, size=n)
    outcome = (rng.random(n) < 1 / (1 + np.exp(-z))).astype(float)
    return 1 / (1 + np.exp(-factor * z)), outcome


def test_the_table_by_hand():
    p = [0.1, 0.2, 0.3, 0.6, 0.8, 0.9]
    y = [0, 0, 1, 1, 1, 0]
    table = cal.reliability(p, y, bins=2)
    assert [(b.low, b.high, b.n) for b in table.bins] == [(0.1, 0.3, 3), (0.6, 0.9, 3)]
    assert [b.predicted for b in table.bins] == pytest.approx([0.2, 2.3 / 3])
    assert [b.observed for b in table.bins] == [wilson(1, 3), wilson(2, 3)]
    gaps = [1 / 3 - 0.2, 2.3 / 3 - 2 / 3]
    assert table.expected_error == pytest.approx(np.mean(gaps))
    assert table.largest_error == pytest.approx(max(gaps))
    assert table.brier == pytest.approx(np.mean((np.array(p) - y) ** 2))
    assert table.log_loss == pytest.approx(
        -np.mean([math.log(q if hit else 1 - q) for q, hit in zip(p, y, strict=True)])
    )


def test_bins_hold_about_equally_many_and_equal_predictions_stay_together():
    p, y = overconfident(1000, 1.0)
    assert [b.n for b in cal.reliability(p, y).bins] == [100] * 10
    table = cal.reliability([0.5] * 90 + [0.9] * 10, [1, 0] * 50)
    assert [b.n for b in table.bins] == [90, 10]


def test_a_calibrated_model_has_a_small_error_and_an_overconfident_one_a_large_one():
    assert cal.reliability(*overconfident(20000, 1.0)).expected_error < 0.015
    assert cal.reliability(*overconfident(20000, 3.0)).expected_error > 0.08


def test_the_brier_score_is_refinement_plus_the_squared_gaps_of_the_table():
    # Murphy's decomposition, exact where every bin holds one prediction.
    p = np.repeat([0.2, 0.5, 0.9], [20, 30, 50])
    y = np.random.default_rng(1).random(100).round()
    table = cal.reliability(p, y, bins=3)
    reliability = sum(b.n * (b.predicted - b.observed.estimate) ** 2 for b in table.bins) / 100
    refinement = sum(b.n * b.observed.estimate * (1 - b.observed.estimate) for b in table.bins) / 100
    assert table.brier == pytest.approx(reliability + refinement)


def test_scores_equal_sklearns():
    metrics = pytest.importorskip("sklearn.metrics")
    p, y = overconfident(200, 2.0)
    assert cal.brier(p, y).mean() == pytest.approx(metrics.brier_score_loss(y, p))
    assert cal.log_loss(p, y).mean() == pytest.approx(metrics.log_loss(y, p))


def test_a_certain_error_costs_much_but_not_infinitely_and_certainty_that_is_right_costs_nothing():
    assert cal.log_loss([0.0, 1.0], [1, 1]) == pytest.approx([36.04, 0.0], abs=0.01)


@pytest.mark.parametrize("factor", [0.5, 1.0, 3.0])
def test_the_planted_temperature_is_found_and_is_the_best_one(factor):
    p, y = overconfident(20000, factor)
    z = np.log(p / (1 - p))
    temperature = cal.fit_temperature(z, y)
    assert temperature == pytest.approx(factor, rel=0.05)

    def surprise(t):
        return np.logaddexp(0.0, np.where(y > 0.5, -z, z) / t).mean()

    assert surprise(temperature) <= min(surprise(temperature * 1.02), surprise(temperature / 1.02))


def test_logits_that_point_the_wrong_way_are_cooled_to_a_coin_and_perfect_ones_to_the_limit():
    assert cal.fit_temperature([2.0, -2.0], [0, 1]) == math.inf
    assert cal.fit_temperature([2.0, -2.0], [1, 0], coldest=0.01) == 0.01
    assert cal.fit_temperature([2.0, -2.0, 2.0], [1, 0.0, 0.5]) > 0.01


def test_temperature_is_judged_on_clusters_it_was_not_fitted_on():
    p, y = overconfident(4000, 3.0, seed=2)
    users = np.array([f"user {i % 40}" for i in range(4000)], dtype=object)
    found = cal.held_out_temperature(p, y, clusters=users)
    assert found.temperature == pytest.approx(3.0, rel=0.15)
    assert found.before.n == found.after.n == 2000
    assert found.gain.n == 20
    assert found.gain.low > 0
    assert found.gain.estimate == pytest.approx(found.before.log_loss - found.after.log_loss)
    assert found.after.expected_error < found.before.expected_error / 2


def test_probabilities_of_exactly_zero_and_one_can_be_cooled_too():
    p, y = np.array([0.0, 1.0] * 100), np.array([0, 1] * 70 + [1, 0] * 30)
    found = cal.held_out_temperature(p, y)
    # Seven in ten: the logit of the closest probability over that of 0.7.
    assert found.after.bins[-1].predicted == pytest.approx(0.7, abs=0.1)
    assert found.gain.low > 5


def test_a_calibrated_model_gains_nothing_from_a_temperature():
    found = cal.held_out_temperature(*overconfident(4000, 1.0, seed=3))
    assert found.gain.low < 0.002
    assert abs(found.gain.estimate) < 0.01


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: cal.reliability([], []), "shapes"),
        (lambda: cal.reliability([0.5, 1.2], [1, 0]), r"probability must lie in \[0, 1\]: 1 of 2.*index 1 \(1.2\)"),
        (lambda: cal.brier([0.5], [2]), "outcome must lie"),
        (lambda: cal.fit_temperature([math.inf], [1]), "1 of 1 are not"),
        (lambda: cal.held_out_temperature([0.5, 0.5], [0, 1]), "fewer than 2 to measure on"),
    ],
)
def test_unusable_numbers_are_refused(call, message):
    with pytest.raises(DataError, match=message):
        call()


def test_settings_out_of_range_are_refused():
    with pytest.raises(SettingsError, match="share"):
        cal.held_out_temperature([0.5] * 4, [1] * 4, share=1.0)
    with pytest.raises(SettingsError, match="band"):
        cal.reliability([0.5], [1], bins=0)
    with pytest.raises(SettingsError, match="coldest"):
        cal.fit_temperature([1.0], [1], coldest=0.0)


def test_the_area_under_the_curve_counts_pairs():
    rng = np.random.default_rng(0)
    scores, happened = rng.integers(5, size=60), rng.random(60) < 0.3
    pairs = [(a > b) + 0.5 * (a == b) for a in scores[happened] for b in scores[~happened]]
    assert cal.auroc(scores, happened) == pytest.approx(np.mean(pairs))
    assert np.isnan(cal.auroc([1.0, 2.0], [True, True]))
