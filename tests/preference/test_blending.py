"""Own weights of people: blended as written, found again, and left alone where the evidence is thin."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from penchant.errors import SettingsError
from penchant.preference.blending import _Own, blended, own_weights

HALF = np.log(np.full(3, 1 / 3))


def test_weights_are_blended_as_a_geometric_mean():
    w, u = np.array([0.5, 0.3, 0.2]), np.array([2.0, 6.0, 2.0])
    expected = w**0.25 * u**0.75
    np.testing.assert_allclose(blended(w, u, 0.75), expected / expected.sum())
    np.testing.assert_allclose(blended(w, u, 0.0), w)
    np.testing.assert_allclose(blended(w, u, 1.0), u / 10)
    np.testing.assert_allclose(blended(np.stack([w, w]), np.stack([u, u]), np.array([0.0, 1.0])), [w, u / 10])


@pytest.mark.parametrize(
    ("own", "rho", "reason"),
    [
        ([1, -1, 1], 0.5, "none negative"),
        ([0, 0, 0], 0.5, "not all 0"),
        ([np.nan, 1, 1], 0.5, "numbers"),
        ([1, 1], 0.5, "3 numbers"),
        ([1, 1, 1], 1.5, r"0\.\.1"),
    ],
)
def test_what_are_no_weights_is_refused(own, rho, reason):
    with pytest.raises(SettingsError, match=reason):
        blended(np.full(3, 1 / 3), own, rho)


def problem(n_people=5, n_pairs=12, seed=0):
    rng = np.random.default_rng(seed)
    log_weights = log_softmax(rng.standard_normal((n_people, n_pairs, 3)), axis=-1)
    difference = rng.standard_normal((n_people, n_pairs, 3))
    return log_weights, HALF, 3 * difference, rng.random((n_people, n_pairs)), rng.normal(size=(n_people, n_pairs)), 1.0


def test_the_slope_is_that_of_the_posterior():
    own, b = _Own(*problem()), np.random.default_rng(1).standard_normal((5, 3))
    slope, _ = own.slope(b, 0.5)
    for k in range(3):
        step = np.eye(3)[k] * 1e-6
        numeric = (own.posterior(b + step, 0.5) - own.posterior(b - step, 0.5)) / 2e-6
        np.testing.assert_allclose(slope[:, k], numeric, rtol=1e-5, atol=1e-7)


def test_the_most_probable_weights_are_those_of_a_general_optimiser():
    arguments = problem()
    _, found = _Own(*arguments).most_probable(0.75)
    for person in range(5):
        alone = _Own(*(a[person : person + 1] if np.ndim(a) > 1 else a for a in arguments))
        best = minimize(lambda b, alone=alone: -alone.posterior(b[None], 0.75)[0], HALF, tol=1e-12).x
        np.testing.assert_allclose(softmax(found[person]), softmax(best), atol=1e-4)


def learnt(difference, **kwargs):
    n = difference.shape[1]
    log_weights = np.tile(HALF, (len(difference), n, 1))
    ones, zeros = np.ones((len(difference), n)), np.zeros((len(difference), n))
    return own_weights(log_weights, HALF, difference, ones, zeros, decisiveness=4.0, spread=1.0, evidence=3.0, **kwargs)


def test_somebody_to_whom_one_objective_counts_is_found_and_a_flipped_label_would_point_elsewhere():
    rng = np.random.default_rng(3)
    difference = rng.standard_normal((1, 60, 3))
    difference[..., 1] = np.abs(difference[..., 1])  # the second objective decided every time
    found = learnt(difference)
    assert found["weights"][0].argmax() == 1
    assert found["weights"][0, 1] > 0.7
    assert found["rho"][0] > 0
    assert learnt(-difference)["weights"][0, 1] < 0.2


def test_thin_evidence_changes_nobody_and_no_evidence_is_exactly_none():
    one = learnt(np.array([[[0.5, 0.1, -0.2]]]))
    none = learnt(np.empty((2, 0, 3)))
    for found in (one, none):
        np.testing.assert_allclose(found["weights"], 1 / 3)
        assert (found["rho"] == 0).all()
    np.testing.assert_allclose(none["log_evidence"], 0.0, atol=1e-12)
