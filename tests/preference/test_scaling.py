"""Rewards of different people, made comparable."""

import numpy as np
import pytest
from scipy.special import expit

from penchant.preference.scaling import by_largest, by_spread, win_rate

REWARDS, OTHERS = np.array([3.0, -1.0, 0.5]), np.array([4.0, -8.0, 1.0, 1.0])


def test_each_scale_is_its_formula():
    np.testing.assert_allclose(by_largest(REWARDS, OTHERS), REWARDS / 8)
    np.testing.assert_allclose(by_spread(REWARDS, OTHERS), (REWARDS + 0.5) / np.sqrt((20.25 + 56.25 + 2.25 * 2) / 4))
    by_hand = [np.mean([expit(r - other) for other in OTHERS]) for r in REWARDS]
    np.testing.assert_allclose(win_rate(REWARDS, OTHERS), by_hand)


@pytest.mark.parametrize(
    ("scale", "size", "shift"), [(by_largest, 7.0, 0.0), (by_spread, 7.0, 3.0), (win_rate, 1.0, 3.0)]
)
def test_what_choices_leave_open_makes_no_difference(scale, size, shift):
    np.testing.assert_allclose(scale(size * REWARDS + shift, size * OTHERS + shift), scale(REWARDS, OTHERS))


def test_the_order_stays_and_people_without_preferences_are_no_division_by_zero():
    for scale in (by_largest, by_spread, win_rate):
        assert np.argsort(scale(REWARDS, OTHERS)).tolist() == np.argsort(REWARDS).tolist()
        assert np.isfinite(scale(np.zeros(3), np.zeros(4))).all()
    assert (win_rate(1e3 * REWARDS, OTHERS) <= 1).all()
