"""L1 that spares some columns, against scikit-learn's and against its own conditions."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from penchant.errors import SettingsError
from penchant.preference.few import few, lasso
from penchant.preference.newton import gradient, newton


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((800, 8))
    x[:, 7] = 0.8 * x[:, 0] + 0.6 * x[:, 7]  # the spared column stands for the first one, in part
    logits = x @ [0.2, 1.0, 0, -0.8, 0, 0, 0.4, 1.0]
    return x, (rng.random(800) < 1 / (1 + np.exp(-logits))).astype(float)


def test_it_is_scikit_learns_lasso(data):
    x, won = data
    peer = LogisticRegression(l1_ratio=1.0, solver="saga", C=1 / 30.0, fit_intercept=False, tol=1e-9, max_iter=20000)
    np.testing.assert_allclose(lasso(x, won, 30.0), peer.fit(x, won).coef_[0], atol=1e-5)


def test_a_spared_column_has_no_slope_left_and_the_others_none_beyond_the_penalty(data):
    x, won = data
    penalty = np.where(np.arange(8) == 7, 0.0, 25.0)
    weights = lasso(x, won, penalty)
    slope = gradient(weights, x, won, l2=0.0)
    assert abs(slope[7]) < 1e-6
    assert (np.abs(slope) <= penalty + 1e-6).all()
    np.testing.assert_allclose(slope[weights != 0], -penalty[weights != 0] * np.sign(weights[weights != 0]), atol=1e-6)
    np.testing.assert_allclose(lasso(x, won, 0.0), newton(x, won, l2=0.0).weights, atol=1e-6)


def test_exactly_so_many_are_kept_and_the_spared_column_is_not_counted(data):
    x, won = data
    free = np.arange(8) == 7
    assert few(x, won, 2, free=free).tolist() == [1, 3]
    for count in range(1, 8):
        assert len(few(x, won, count, free=free)) == count
        assert 7 not in few(x, won, count, free=free)


def test_twins_drop_out_together_and_never_more_than_asked_for_are_kept(data):
    x, won = data
    twins = np.column_stack([x[:, [1, 1, 1]], x[:, 2]])
    assert len(few(twins, won, 2)) <= 2
    with pytest.raises(SettingsError, match="1 to 4"):
        few(twins, won, 5)


def test_separated_pairs_end():
    x = np.column_stack([np.linspace(-1, 1, 40), np.ones(40)])
    assert few(x, (x[:, 0] > 0).astype(float), 1).tolist() == [0]
