"""How a model of people stands beside one for all: numbers that can be worked out by hand."""

import numpy as np
import pytest

from penchant.errors import DataError
from penchant.evaluate.standing import agreement, calibration_error, expected_agreement, standing


def test_agreement_by_hand():
    probability = [0.9, 0.1, 0.5, 0.6, 0.4, 0.7]
    strength = [1.0, 1.0, 1.0, 0.5, 0.2, 0.2]
    assert agreement(probability, strength).tolist() == [1.0, 0.0, 0.5, 0.5, 1.0, 0.0]


def test_expected_agreement_is_what_agreement_comes_to_over_many_choices():
    rng = np.random.default_rng(3)
    probability, chance = np.array([0.9, 0.1, 0.5, 0.6]), np.array([0.8, 0.3, 0.9, 0.2])
    drawn = [agreement(probability, (rng.random(4) < chance).astype(float)) for _ in range(20_000)]
    np.testing.assert_allclose(np.mean(drawn, axis=0), expected_agreement(probability, chance), atol=0.02)
    found = standing(["a", "a", "b", "b"], probability, [0.9] * 4, chance, right=expected_agreement)
    assert found.accuracy.estimate == pytest.approx(np.mean([0.8, 0.7, 0.5, 0.2]))
    assert found.gain.estimate == pytest.approx(np.mean([0.8, 0.7, 0.5, 0.2]) - chance.mean())


def test_turning_a_pair_around_changes_nothing():
    rng = np.random.default_rng(0)
    probability, strength = rng.random(200), rng.random(200).round(1)
    np.testing.assert_array_equal(agreement(probability, strength), agreement(1 - probability, 1 - strength))
    assert calibration_error(probability, strength) == pytest.approx(calibration_error(1 - probability, 1 - strength))


def test_calibration_is_of_how_sure_the_model_is_though_the_chosen_always_comes_first():
    # Of 1,000 pairs the model says 80 % for one side; that side was chosen in 80 %, 60 % or all of them.
    for share, error in ((0.8, 0.0), (0.6, 0.2), (1.0, 0.2)):
        right = int(1000 * share)
        assert calibration_error([0.8] * right + [0.2] * (1000 - right), np.ones(1000)) == pytest.approx(error)


def test_a_model_against_itself_gains_nothing_and_nobody_is_worse():
    rng = np.random.default_rng(1)
    users, probability = np.repeat([f"u{i}" for i in range(10)], 8), rng.random(80)
    found = standing(users, probability, probability, np.ones(80))
    assert (found.gain.low, found.gain.high, found.share_worse.estimate) == (0.0, 0.0, 0.0)
    assert found.accuracy.estimate == pytest.approx((probability > 0.5).mean())
    assert found.log_loss.estimate == pytest.approx(-np.log(probability).mean())
    assert found.log_loss.low < found.log_loss.estimate < found.log_loss.high
    assert (found.n_people, found.n_choices) == (10, 80)


def test_gains_and_losses_are_counted_by_person():
    users = np.repeat([f"u{i}" for i in range(10)], 10)
    for_all = np.full(100, 0.6)
    own = np.where(np.arange(100) < 20, 0.4, 0.9)  # two of ten people are predicted wrong now
    found = standing(users, own, for_all, np.ones(100))
    assert found.share_worse.estimate == pytest.approx(0.2)
    assert found.gain.estimate == pytest.approx(-0.2)
    assert found.log_loss_gain.estimate == pytest.approx(np.log(own / for_all).mean())


def test_intervals_are_over_people_not_choices():
    rng = np.random.default_rng(2)
    right = np.repeat(rng.random(20) < 0.5, 200)  # all choices of a person are predicted right, or none
    found = standing(np.repeat(np.arange(20), 200), np.where(right, 0.9, 0.1), np.full(4000, 0.6), np.ones(4000))
    assert found.accuracy.high - found.accuracy.low > 0.3


def test_one_person_is_refused():
    with pytest.raises(DataError, match="One cluster only"):
        standing(["ann"] * 4, [0.5] * 4, [0.5] * 4, [1.0] * 4)
