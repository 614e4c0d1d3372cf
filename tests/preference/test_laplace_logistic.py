"""The posterior under a Laplace prior: against integration, against another sampler, and at its limits."""

import numpy as np
import pytest

from penchant.errors import DataError, SettingsError
from penchant.preference.laplace_logistic import effective_sample_size, laplace_posterior, split_r_hat


def pairs(n, weights, seed):
    rng = np.random.default_rng(seed)
    x = rng.integers(-1, 2, (n, len(weights))).astype(float)
    x[:, 1] = np.where(rng.random(n) < 0.6, x[:, 0], x[:, 1])
    return x, (rng.random(n) < 1 / (1 + np.exp(-x @ weights))).astype(float)


def test_mean_and_interval_are_those_of_dense_integration():
    x, y = pairs(150, [1.2, -0.6], 3)
    grid = np.linspace(-2, 2.5, 901)
    a, b = np.meshgrid(grid, grid, indexing="ij")
    eta = x[:, 0, None, None] * a + x[:, 1, None, None] * b
    log_density = (y[:, None, None] * eta - np.logaddexp(0, eta)).sum(0) - (np.abs(a) + np.abs(b)) / 0.1
    density = np.exp(log_density - log_density.max())
    density /= density.sum()
    found = laplace_posterior(x, y, seed=1)
    assert found.converged
    assert found.mean[0] == pytest.approx([(density * a).sum(), (density * b).sum()], abs=0.006)
    for feature, marginal in enumerate((density.sum(1), density.sum(0))):
        ends = grid[np.searchsorted(np.cumsum(marginal), [0.025, 0.975])]
        assert [found.low[0, feature], found.high[0, feature]] == pytest.approx(ends, abs=0.025)


def test_mean_is_that_of_a_long_random_walk_in_five_dimensions():
    x, y = pairs(120, [0.8, -0.4, 0.0, 0.6, 0.0], 5)
    rng, here = np.random.default_rng(0), np.zeros((200, 5))

    def density(alpha):
        eta = alpha @ x.T
        return (y * eta - np.logaddexp(0, eta)).sum(1) - np.abs(alpha).sum(1) / 0.2

    value, total = density(here), np.zeros(5)
    for step in range(3000):
        new = here + 0.09 * rng.standard_normal(here.shape)
        new_value = density(new)
        taken = np.log(rng.random(len(here))) < new_value - value
        here, value = np.where(taken[:, None], new, here), np.where(taken, new_value, value)
        total += here.mean(0) * (step >= 1000)
    assert laplace_posterior(x, y, scale=0.2, seed=0).mean[0] == pytest.approx(total / 2000, abs=0.012)


def test_without_pairs_the_posterior_is_the_prior():
    found = laplace_posterior([[1.0], [1.0]], [1.0, 0.0], included=[[False], [False]], n_draws=4000, seed=0)
    assert found.mean[0, 0] == pytest.approx(0, abs=0.005)
    assert [found.low[0, 0], found.high[0, 0]] == pytest.approx([-0.1 * np.log(20), 0.1 * np.log(20)], abs=0.02)


def test_the_mean_shrinks_but_is_never_the_sparse_estimate():
    x, y = pairs(200, [1.0, 0.0, 0.0], 2)
    found = laplace_posterior(x, y, seed=0)
    assert (found.mean != 0).all()
    wide = laplace_posterior(x, y, scale=100.0, seed=0)
    assert np.abs(found.mean).sum() < np.abs(wide.mean).sum()


def test_problems_side_by_side_are_each_what_they_are_alone():
    x, y = pairs(200, [1.0, 0.0, -0.5], 2)
    labels = np.stack([y, 1 - y, y], axis=1)
    included = np.ones((200, 3), bool)
    included[:100, 2] = False
    together = laplace_posterior(x, labels, included=included, seed=0)
    assert together.mean[0] == pytest.approx(-together.mean[1], abs=0.02)  # labels turned round
    assert together.mean[2] == pytest.approx(laplace_posterior(x[100:], y[100:], seed=1).mean[0], abs=0.02)


def test_diagnostics_know_chains_that_agree_and_chains_that_creep():
    rng = np.random.default_rng(0)
    draws = rng.standard_normal((1, 4, 2000))
    assert split_r_hat(draws)[0] == pytest.approx(1, abs=0.005)
    assert effective_sample_size(draws)[0] == pytest.approx(8000, rel=0.1)
    slow = np.zeros((1, 4, 2000))
    for t in range(1, 2000):
        slow[..., t] = 0.9 * slow[..., t - 1] + draws[..., t]
    assert effective_sample_size(slow)[0] == pytest.approx(8000 * 0.1 / 1.9, rel=0.3)
    assert split_r_hat(draws + np.arange(4)[None, :, None])[0] > 1.3


@pytest.mark.parametrize(
    ("x", "y", "said"),
    [([[np.nan]], [1.0], "not finite"), ([[1.0]], [2.0], "neither 0 nor 1"), ([[1.0]], [1.0, 0.0], "label each")],
)
def test_bad_numbers_are_refused(x, y, said):
    with pytest.raises(DataError, match=said):
        laplace_posterior(x, y)


def test_a_scale_must_be_above_zero():
    with pytest.raises(SettingsError, match="scale"):
        laplace_posterior([[1.0]], [1.0], scale=0.0)
