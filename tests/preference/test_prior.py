"""How strongly people are drawn to everybody: chosen from their choices, on the side of caution."""

import numpy as np
import pytest

from penchant.encoders import Attributes
from penchant.preference import BradleyTerry
from penchant.preference.pooled import FOLDS, apart, least_bold, pooled
from penchant.preference.votes import read_votes
from penchant.records import Comparisons, canonical_json


def crowd(spread, *, n_users=40, n_votes=30, dim=6, seed=0, n_responses=None):
    """Votes of people around a common taste; with a number of responses, all choose among these."""
    rng = np.random.default_rng(seed)
    shared = rng.standard_normal(dim)
    pool = None if n_responses is None else rng.standard_normal((n_responses, dim)).round(3)
    rows = []
    for user in range(n_users):
        taste = shared + spread * rng.standard_normal(dim)
        for _ in range(n_votes):
            a, b = rng.standard_normal((2, dim)).round(3) if pool is None else pool[rng.permutation(len(pool))[:2]]
            if rng.random() > 1 / (1 + np.exp(-(a - b) @ taste)):
                a, b = b, a
            chosen, rejected = (canonical_json({f"x{k}": float(v) for k, v in enumerate(x)}) for x in (a, b))
            rows.append({"prompt": "q", "chosen": chosen, "rejected": rejected, "user": f"u{user}"})
    return Comparisons.from_rows(rows)


def test_the_strongest_prior_within_one_standard_error_by_hand():
    # Two people: beyond the best (column 0), column 1 costs 1 +- sqrt(2), column 2 costs 5 +- sqrt(2).
    surprise = np.array([[1.0, 1.0, 3.0], [1.0, 2.0, 4.0]])
    assert least_bold(surprise) == 1
    assert least_bold(surprise[:1]) == 1, "one unit has no error: equal is as good"
    assert least_bold(np.array([[3.0, 2.0, 1.0]])) == 2


def test_what_changes_nothing_is_left_only_for_what_is_better_by_two_standard_errors_where_that_is_asked():
    ahead = np.array([0.0, 1.0, -0.4, 0.6, 0.2])  # 1.4 in all, with an error of 1.2
    surprises = np.stack([np.zeros(5), ahead], axis=1)
    assert least_bold(surprises) == 0
    assert least_bold(surprises, to_leave=2.0) == 1


@pytest.mark.parametrize("n_users", [3, 40])
def test_people_who_do_not_differ_are_served_by_one_model_and_those_who_do_by_their_own(n_users):
    alike, apart = (
        BradleyTerry(encoder=Attributes()).fit(crowd(spread, n_users=n_users, n_votes=60)).prior_precision_
        for spread in (0.0, 2.0)
    )
    assert alike >= 100
    assert apart <= 1


def test_the_pooled_reward_is_what_bradley_terry_learns_of_everybody():
    votes = crowd(1.0, n_users=12)
    alone, model = pooled(read_votes(Attributes(), votes)), BradleyTerry(encoder=Attributes(), prior_precision=1.0)
    model.fit(votes)
    assert alone.l2 == model.l2_
    np.testing.assert_allclose(alone.weights, model.weights_, rtol=0, atol=1e-9)
    np.testing.assert_array_equal(alone.scale, model.scale_)


def test_pairs_that_share_even_some_responses_are_set_aside_by_response():
    # Ties left out, a person who rated 30 things may have 25 pairs: fewer than responses, and yet they hang together.
    rng = np.random.default_rng(0)
    for n_responses in (12, 30, 60):
        judged = np.stack([rng.permutation(n_responses)[:2] for _ in range(25)])
        for fold in range(FOLDS):
            late, used = apart(judged, fold)
            assert late.any()
            assert (used & ~late).any()
            assert not set(judged[late].ravel()) & set(judged[used & ~late].ravel())
    alone = np.arange(50).reshape(25, 2)
    assert [int(apart(alone, fold)[0].sum()) for fold in range(FOLDS)] == [9, 8, 8]


def test_a_choice_that_is_taken_back_is_set_aside_together_with_what_was_said_before():
    once = np.arange(24).reshape(12, 2)
    for fold in range(FOLDS):
        late, used = apart(np.concatenate([once, once[:, ::-1]]), fold)
        assert late.sum() == 8
        assert used.all()
        np.testing.assert_array_equal(late[:12], late[12:])


def test_as_few_pairs_as_can_be_are_lost_where_responses_are_shared():
    rng = np.random.default_rng(1)

    def left(n_responses, n_pairs):
        judged = np.stack([rng.permutation(n_responses)[:2] for _ in range(n_pairs)])
        parts = [apart(judged, fold) for fold in range(FOLDS)]
        return sum(late.sum() for late, _ in parts), min((used & ~late).sum() for late, used in parts)

    tested, learnt_from = left(160, 60)  # most responses are in one pair
    assert tested == 60
    assert learnt_from >= 12
    tested, learnt_from = left(24, 60)  # every response is in five
    assert tested >= 12
    assert learnt_from >= 15


@pytest.mark.parametrize("n_responses", [None, 160, 30])
def test_people_who_differ_are_told_from_people_who_do_not_whether_or_not_they_judged_things_often(n_responses):
    def believed(spread):
        votes = crowd(spread, n_users=20, n_votes=60, seed=3, n_responses=n_responses)
        return BradleyTerry(encoder=Attributes()).fit(votes).prior_precision_

    assert believed(0.0) >= 100
    assert believed(2.0) <= 10
