"""Bradley-Terry: finite differences, closed cases, other packages, published fits and simulated users."""

from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from penchant.errors import DataError, SettingsError
from penchant.preference.newton import (
    gradient,
    hessian,
    negative_log_likelihood,
    newton,
    newton_each,
    optima,
)

REFERENCE = Path(__file__).resolve().parents[3] / "shared" / "data" / "bradley_terry_reference"


def simulated(n=400, dim=3, seed=0, weights=None):
    rng = np.random.default_rng(seed)
    difference = rng.standard_normal((n, dim))
    weights = np.linspace(-1, 1.5, dim) if weights is None else weights
    return difference, (rng.random(n) < expit(difference @ weights)).astype(float)


def problem():
    rng = np.random.default_rng(1)
    arguments = {
        "l2": 0.7,
        "centre": rng.standard_normal(3),
        "margin": rng.standard_normal(20),
        "row_weight": rng.random(20),
    }
    return rng.standard_normal(3), (rng.standard_normal((20, 3)), rng.random(20)), arguments


def central(function, point, eps=1e-5):
    return np.array([(function(point + e) - function(point - e)) / (2 * eps) for e in eps * np.eye(len(point))])


def test_the_gradient_equals_finite_differences_of_the_objective():
    weights, data, arguments = problem()
    numeric = central(lambda x: negative_log_likelihood(x, *data, **arguments), weights)
    np.testing.assert_allclose(gradient(weights, *data, **arguments), numeric, atol=1e-7)


def test_the_hessian_equals_finite_differences_of_the_gradient():
    weights, data, arguments = problem()
    numeric = central(lambda x: gradient(x, *data, **arguments), weights)
    np.testing.assert_allclose(hessian(weights, *data, **arguments), numeric, atol=1e-7)


def test_huge_logits_stay_finite():
    assert negative_log_likelihood(np.array([1e4]), [[1.0], [-1.0]], [1, 1], l2=0) == pytest.approx(1e4)


def test_newton_agrees_with_logistic_regression_without_intercept():
    difference, strength = simulated()
    other = LogisticRegression(C=1 / 0.5, fit_intercept=False, tol=1e-10, max_iter=10000).fit(difference, strength)
    np.testing.assert_allclose(newton(difference, strength, l2=0.5).weights, other.coef_[0], atol=1e-5)


def test_swapping_both_options_changes_nothing():
    _, (difference, strength), arguments = problem()
    swapped = {**arguments, "margin": -arguments["margin"]}
    one, two = newton(difference, strength, **arguments), newton(-difference, 1 - strength, **swapped)
    np.testing.assert_allclose(one.weights, two.weights, atol=1e-10)
    np.testing.assert_allclose(one.covariance, two.covariance, atol=1e-10)
    np.testing.assert_allclose(one.sandwich, two.sandwich, atol=1e-10)


def test_from_near_the_optimum_the_same_optimum_is_found_in_fewer_steps():
    difference, strength = simulated(dim=8)
    cold = newton(difference, strength, l2=0.3)
    one_less = newton(difference[1:], strength[1:], l2=0.3)
    warm = newton(difference[1:], strength[1:], l2=0.3, start=cold.weights)
    np.testing.assert_allclose(warm.weights, one_less.weights, rtol=0, atol=1e-12)
    np.testing.assert_allclose(warm.sandwich, one_less.sandwich, rtol=0, atol=1e-12)
    assert warm.n_steps <= 2 < one_less.n_steps


def test_optima_under_several_priors_are_those_found_one_by_one():
    _, (difference, strength), arguments = problem()
    precisions = [0.1, 1.0, 1e4]
    together = optima(difference, strength, precisions, margin=arguments["margin"])
    alone = [newton(difference, strength, l2=l2, margin=arguments["margin"]).weights for l2 in precisions]
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-10)


def test_indifference_everywhere_gives_zero_weights():
    difference, strength = simulated()
    assert newton(difference, np.full_like(strength, 0.5), l2=0).weights.tolist() == [0, 0, 0]


def test_the_clustered_sandwich_is_within_a_quarter_of_the_bootstrap_over_clusters():
    rng = np.random.default_rng(3)
    people, each = 150, 8
    difference = rng.standard_normal((people, each, 2))
    tastes = np.array([1.0, -0.5]) + 1.5 * rng.standard_normal((people, 2))
    strength = (rng.random((people, each)) < expit(np.einsum("pkd,pd->pk", difference, tastes))).astype(float)
    flat = difference.reshape(-1, 2)
    fit = newton(flat, strength.ravel(), l2=0, clusters=np.repeat(np.arange(people), each))
    draws = [rng.integers(people, size=people) for _ in range(300)]
    spread = np.std([newton(difference[k].reshape(-1, 2), strength[k].ravel(), l2=0).weights for k in draws], axis=0)
    robust = np.sqrt(np.diag(fit.sandwich))
    np.testing.assert_allclose(robust, spread, rtol=0.25)
    assert (robust > 1.15 * np.sqrt(np.diag(fit.covariance))).all()


def test_separated_pairs_and_undetermined_weights_are_refused():
    with pytest.raises(DataError, match="separated"):
        newton([[1.0], [2.0]], [1, 1], l2=0)
    with pytest.raises(DataError, match="do not determine"):
        newton([[1.0, 1.0], [2.0, 2.0]], [1, 0], l2=0)


def test_values_out_of_range_are_refused():
    with pytest.raises(DataError, match="first in row 1"):
        newton([[1.0], [2.0]], [1, 1.5], l2=1)
    with pytest.raises(SettingsError, match="negative"):
        newton([[1.0]], [1], l2=-1)


@pytest.mark.parametrize("n_pairs", [0, 1, 4, 9])
def test_many_small_problems_at_once_have_the_optima_they_have_alone(n_pairs):
    rng = np.random.default_rng(n_pairs)
    difference, margin = 3 * rng.standard_normal((7, n_pairs, 3)), rng.standard_normal((7, n_pairs))
    strength = rng.random((7, n_pairs)).round()  # separated pairs among them
    weights, covariance = newton_each(difference, strength, l2=0.1, margin=margin)
    for place in range(7):
        alone = newton(difference[place], strength[place], l2=0.1, margin=margin[place])
        np.testing.assert_allclose(weights[place], alone.weights, atol=1e-7)
        np.testing.assert_allclose(covariance[place], alone.covariance, atol=1e-7)
    again, _ = newton_each(difference, strength, l2=0.1, margin=margin, start=weights + 0.3)
    np.testing.assert_allclose(again, weights, atol=1e-7)
