"""Bradley-Terry for all and for each: known tastes are found again, and a few pairs never outweigh everybody."""

import numpy as np
import pytest

from penchant.encoders import Attributes
from penchant.errors import SettingsError
from penchant.preference import BradleyTerry, newton
from penchant.preference.bradley_terry import user_posterior
from penchant.records import Comparisons, canonical_json


def voters(tastes, n_each=80, *, seed=0, flip=0.0):
    """People who vote by their taste between random payloads of as many numbers."""
    rng = np.random.default_rng(seed)
    rows = []
    for person, taste in enumerate(tastes):
        for _ in range(n_each):
            first, second = rng.standard_normal((2, len(taste)))
            wins = rng.random() < 1 / (1 + np.exp(-(first - second) @ np.array(taste)))
            if rng.random() < flip:
                wins = not wins
            chosen, rejected = (first, second) if wins else (second, first)
            payloads = [canonical_json({f"x{k}": float(v) for k, v in enumerate(side)}) for side in (chosen, rejected)]
            rows.append({"prompt": "", "chosen": payloads[0], "rejected": payloads[1], "user": f"p{person}"})
    return Comparisons.from_rows(rows)


def test_a_persons_posterior_equals_the_full_newton_fit_with_that_prior():
    rng = np.random.default_rng(1)
    centre, difference = rng.standard_normal(6), rng.standard_normal((4, 6))
    strength, margin = np.array([1, 0, 0.5, 1.0]), np.array([0.0, 0.2, 0.0, -0.3])
    ours = user_posterior(centre, difference, strength, margin, precision=2.5)
    full = newton(difference, strength, l2=2.5, centre=centre, margin=margin)
    np.testing.assert_allclose(ours.weights, full.weights, atol=1e-7)
    np.testing.assert_allclose(ours.standard_errors, np.sqrt(np.diag(full.covariance)), atol=1e-7)


def test_common_tastes_are_found_again():
    taste = np.array([1.5, -1.0, 0.0])
    model = BradleyTerry(encoder=Attributes()).fit(voters([taste] * 25))
    np.testing.assert_allclose(model.weights_ / model.scale_, taste, atol=0.15)


def test_people_who_differ_are_told_apart_and_people_who_are_alike_are_not():
    differ = voters([[2.0, 0.0]] * 10 + [[-2.0, 0.0]] * 10)
    alike = voters([[2.0, 0.0]] * 20)
    apart, together = (BradleyTerry(encoder=Attributes()).fit(votes) for votes in (differ, alike))
    assert apart.prior_precision_ < together.prior_precision_
    for user in differ.users:
        apart.adapt(user, differ.of(user))
    found = np.array([apart.users_[f"p{i}"].weights[0] for i in range(20)])
    assert (found[:10] > 0).all()
    assert (found[10:] < 0).all()


def test_adapting_a_person_leaves_everybody_else_as_they_were():
    votes = voters([[2.0, 0.0], [0.0, 2.0], [1.0, 1.0]])
    model = BradleyTerry(encoder=Attributes(), prior_precision=1.0).fit(votes)
    before = model.probability(votes.of("p1"))
    model.adapt("p0", votes.of("p0"))
    np.testing.assert_array_equal(model.probability(votes.of("p1")), before)


def test_no_pairs_leave_a_person_like_everybody_with_the_priors_uncertainty():
    votes = voters([[1.0, 0.0]] * 3)
    model = BradleyTerry(encoder=Attributes(), prior_precision=4.0).fit(votes)
    found = model.adapt("new", votes.take([]))
    np.testing.assert_array_equal(found.weights, model.weights_)
    np.testing.assert_allclose(found.standard_errors, 0.5)
    assert found.n_pairs == 0


def test_a_margin_is_what_the_chosen_must_be_ahead_by():
    row = {"prompt": "", "chosen": '{"x": 1}', "rejected": '{"x": 0}', "user": "a"}
    votes = Comparisons.from_rows([row | {"margin": 1.0}] * 40 + [row | {"chosen": '{"x": 0}', "rejected": '{"x": 1}'}])
    plain = votes.table.drop_columns(["margin"])
    with_margin = BradleyTerry(encoder=Attributes(), l2=0.1).fit(votes)
    without = BradleyTerry(encoder=Attributes(), l2=0.1).fit(Comparisons(plain))
    assert with_margin.weights_[0] > without.weights_[0] + 0.3


def test_stated_label_noise_makes_the_model_less_sure_of_flipped_votes():
    votes = voters([[3.0, 0.0]] * 10, flip=0.2, seed=3)
    naive = BradleyTerry(encoder=Attributes(), l2=0.1).fit(votes)
    told = BradleyTerry(encoder=Attributes(), l2=0.1, noise=0.2).fit(votes)
    assert abs(told.weights_[0]) < abs(naive.weights_[0])


def test_predicted_probabilities_are_calibrated_on_new_votes():
    tastes = [[1.0, -0.5]] * 30
    model = BradleyTerry(encoder=Attributes()).fit(voters(tastes, seed=1))
    new = voters(tastes, n_each=200, seed=2)
    # Each vote is shown in a random order, so that outcomes of both kinds exist.
    first = np.random.default_rng(0).random(len(new)) < 0.5
    shown = np.where(first, model.probability(new), 1 - model.probability(new))
    for low in (0.1, 0.3, 0.5, 0.7):
        inside = (shown >= low) & (shown < low + 0.2)
        assert abs(shown[inside].mean() - first[inside].mean()) < 0.04


@pytest.mark.parametrize("wrong", [{"l2": 0.0}, {"l2": -1}, {"prior_precision": float("nan")}, {"noise": 0.5}])
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(SettingsError):
        BradleyTerry(encoder=Attributes(), **wrong)
