import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from penchant.errors import DataError
from penchant.preference.two_step import borda, error_terms, marginal, posterior

unit = st.floats(0, 1)


@given(
    arrays(float, 4, elements=st.floats(1e-3, 1)),
    arrays(float, 4, elements=st.floats(1e-3, 1)),
    arrays(float, (4, 3), elements=unit),
    arrays(float, (4, 3), elements=unit),
)
def test_the_error_never_exceeds_what_wrong_preferences_and_wrong_contexts_add_up_to(q, q_star, p, p_star):
    terms = error_terms(q / q.sum(), p, q_star / q_star.sum(), p_star)
    assert (terms.actual <= terms.bound + 1e-12).all()


def test_the_bound_is_reached_where_contexts_were_confused_and_decide_everything():
    terms = error_terms([1.0, 0.0], [[1.0], [0.0]], [0.0, 1.0], [[1.0], [0.0]])
    assert terms.actual.tolist() == terms.bound.tolist() == terms.context.tolist() == [1.0]
    assert terms.preference.tolist() == [0.0]


def test_each_term_vanishes_where_its_step_is_right():
    rng = np.random.default_rng(0)
    q, p, p_star = rng.dirichlet(np.ones(3)), rng.random((3, 5)), rng.random((3, 5))
    assert error_terms(q, p, q, p_star).context.tolist() == [0.0] * 5
    assert error_terms(q, p, rng.dirichlet(np.ones(3)), p).preference.tolist() == [0.0] * 5


def test_weights_may_differ_from_pair_to_pair():
    p = np.array([[0.9, 0.2], [0.1, 0.4]])
    np.testing.assert_allclose(marginal(p, [[1.0, 0.0], [0.0, 1.0]]), [0.9, 0.4])


def test_a_context_whose_rewards_are_large_has_no_more_to_say_than_its_weight():
    loud, quiet = np.array([-1e3, 0.0, 1e3]), np.array([50.0, 0.0, -50.0])
    assert borda([quiet, loud], [0.6, 0.4]).argmax() == 0
    assert (0.6 * quiet + 0.4 * loud).argmax() == 2  # what averaging rewards would choose
    np.testing.assert_allclose(borda([quiet], [1.0]), borda([100 * quiet], [1.0]), atol=1e-12)


def test_borda_is_the_mean_chance_against_each_of_the_others():
    rewards, weights = np.array([[0.3, -1.0, 2.0]]), [1.0]
    by_hand = [
        np.mean([1 / (1 + np.exp(other - own)) for j, other in enumerate(rewards[0]) if j != i])
        for i, own in enumerate(rewards[0])
    ]
    np.testing.assert_allclose(borda(rewards, weights), by_hand)


def test_the_posterior_is_bayes_rule():
    prior, likelihood = np.array([0.7, 0.2, 0.1]), np.array([0.01, 0.3, 0.0])
    with np.errstate(divide="ignore"):
        found = posterior(np.log(likelihood), prior)
    np.testing.assert_allclose(found, prior * likelihood / (prior * likelihood).sum())


@pytest.mark.parametrize(
    ("weights", "says"),
    [([0.5, 0.6], "sum to 1"), ([1.5, -0.5], "at least 0"), ([], "no context"), ([np.nan, 1], "sum")],
)
def test_weights_that_are_no_distribution_are_refused(weights, says):
    p = np.full((len(weights), 2), 0.5)
    for ask in (
        lambda: marginal(p, weights),
        lambda: borda(p, weights),
        lambda: posterior(np.zeros(len(weights)), weights),
        lambda: error_terms(weights, p, weights, p),
    ):
        with pytest.raises(DataError, match=says):
            ask()


def test_one_response_alone_has_no_standing():
    with pytest.raises(DataError, match="at least 2"):
        borda([[1.0]], [1.0])
