"""Exact sign flips, Holm and shared resamples, each against another way to the same number."""

import itertools

import numpy as np
import pytest
from scipy.stats import binomtest, ttest_1samp

from penchant.errors import DataError
from penchant.evaluate.paired_tests import holm, intervals, sign_flip_p
from penchant.statistics import paired_bootstrap


@pytest.mark.parametrize("differences", [[0.5, -1, 1, 1, 0, 0.5], [1 / 3, 2 / 3, 2 / 3, -1 / 3], [1, 1, 1, -0.25, 0]])
def test_the_sign_flip_test_is_the_count_over_all_flips(differences):
    d = np.array(differences)
    sums = np.array([np.dot(signs, d) for signs in itertools.product([-1, 1], repeat=len(d))])
    assert sign_flip_p(d) == pytest.approx((np.abs(sums) >= abs(d.sum()) - 1e-9).mean())


def test_of_single_choices_it_is_the_exact_test_of_mcnemar():
    d = np.repeat([1, -1, 0], [14, 5, 60])
    assert sign_flip_p(d) == pytest.approx(binomtest(14, 19).pvalue)


def test_of_probabilities_it_is_students_test():
    d = np.random.default_rng(0).normal(0.1, 1, size=50)
    assert sign_flip_p(d) == pytest.approx(ttest_1samp(d, 0).pvalue)
    assert sign_flip_p(np.full(12, 0.123456)) == pytest.approx(2 / 2**12)  # all one way: no spread to divide by
    assert sign_flip_p([0, 0, 0]) == 1.0
    for bad in ([1.0], [np.nan, 1.0]):
        with pytest.raises(DataError, match="at least two finite"):
            sign_flip_p(bad)


def test_under_no_difference_it_is_right_in_so_many_as_it_says():
    rng = np.random.default_rng(1)
    p = [sign_flip_p(rng.choice([-1, -0.5, 0, 0.5, 1], p=[0.1, 0.1, 0.6, 0.1, 0.1], size=80)) for _ in range(1500)]
    assert 0.035 < np.mean(np.array(p) <= 0.05) <= 0.062


def test_holm_steps_down_and_never_turns_the_order_round():
    assert holm([0.01, 0.02, 0.03, 0.5]) == pytest.approx([0.04, 0.06, 0.06, 0.5])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_intervals_are_those_of_a_bootstrap_over_rows_and_ratios_divide_sums():
    rng = np.random.default_rng(2)
    values = rng.normal(0.1, 0.3, size=(150, 1)).clip(-1, 1)
    some = (rng.random((150, 1)) < 0.4).astype(float)
    mean, ratio = intervals(np.hstack([values, values * some]), np.hstack([np.ones((150, 1)), some]))
    other = paired_bootstrap(values[:, 0], n_resamples=10_000)
    assert (mean.estimate, mean.low, mean.high) == pytest.approx((other.estimate, other.low, other.high), abs=2e-3)
    assert ratio.estimate == pytest.approx(values[some > 0].mean())
    assert ratio.high - ratio.low > mean.high - mean.low


def test_where_no_row_differs_an_interval_still_has_a_width_and_of_nothing_there_is_none():
    still, nothing = intervals(np.zeros((50, 2)), np.column_stack([np.ones(50), np.zeros(50)]), n_resamples=50)
    assert still.low < 0 < still.high < 0.1
    assert np.isnan([nothing.estimate, nothing.low, nothing.high]).all()
