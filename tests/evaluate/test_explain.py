"""Effects, curves and splits against brute force; reasons that were planted are found; nothing leaks."""

import numpy as np
import pytest
from scipy.special import expit
from sklearn.metrics import roc_auc_score

from penchant.errors import DataError, SettingsError
from penchant.evaluate.explain import (
    ALL,
    BLACK_BOX,
    LENGTH,
    Curve,
    apart,
    effects,
    explanation,
    linked,
    personal,
    principal,
    relearnt,
    rewarded,
    spread,
)


def judged(n=1500, seed=0, *, length_taste=0.0):
    """Sparse features, lengths that go with the first, and votes for which features 1 and 4 are the reasons."""
    rng = np.random.default_rng(seed)
    a = rng.standard_normal((n, 8)) * (rng.random((n, 8)) < 0.4)
    length = 20 * (0.6 * a[:, 0] + rng.standard_normal(n))
    won = rng.random(n) < expit(2 * a[:, 1] - 1.5 * a[:, 4] + length_taste * length)
    return a, length, won.astype(float)


def alone(n):
    return apart(*np.arange(3 * n).reshape(3, n), seed=0)


def test_rows_that_share_anything_through_others_are_one_group():
    prompt, first, second = np.array([0, 0, 1, 2, 3]), np.array([10, 11, 12, 13, 15]), np.array([20, 21, 21, 22, 22])
    assert linked(prompt, first, second).tolist() == [0, 0, 0, 1, 1]
    assert linked(np.arange(4)).tolist() == [0, 1, 2, 3]


def test_no_prompt_and_no_response_is_on_both_sides():
    rng = np.random.default_rng(0)
    prompt = rng.integers(200, size=400)
    first, second = prompt * 5 + rng.integers(5, size=400), prompt * 5 + rng.integers(5, size=400)
    parts = apart(prompt, first, second, seed=1)
    assert parts.by == "group"
    assert parts.n_neither == 0
    assert 0.2 < parts.held_out.mean() <= 0.3
    for column in (prompt, first, second):
        assert not set(column[parts.learn]) & set(column[parts.held_out])


def test_a_response_given_to_two_prompts_in_different_places_ties_them_together():
    parts = apart(np.arange(6), np.array([0, 1, 2, 3, 4, 5]), np.array([1, 7, 8, 9, 10, 11]), seed=0)
    assert parts.groups[0] == parts.groups[1]
    assert len(set(parts.groups.tolist())) == 5


def test_where_all_hangs_together_responses_are_parted_and_pairs_between_are_counted():
    rng = np.random.default_rng(0)
    first = rng.integers(100, size=2000)
    second = (first + rng.integers(1, 100, size=2000)) % 100
    parts = apart(np.zeros(2000, int), first, second, seed=0)
    assert (parts.by, parts.largest) == ("response", 1.0)
    seen, later = (set(first[rows]) | set(second[rows]) for rows in (parts.learn, parts.held_out))
    assert not seen & later
    assert parts.n_neither == 2000 - parts.learn.sum() - parts.held_out.sum() > 0
    with pytest.raises(DataError, match="100 % of them hang together"):
        apart(np.zeros(3, int), np.array([0, 0, 0]), np.array([1, 1, 1]))
    with pytest.raises(SettingsError):
        apart(np.arange(3), np.arange(3), np.arange(3), share=1.0)


def test_the_area_is_that_of_both_orders_together():
    rng = np.random.default_rng(0)
    scores = np.round(rng.standard_normal(60) + 0.4, 1)  # with ties
    both, label = np.concatenate([scores, -scores]), np.repeat([1, 0], 60)
    assert Curve(scores).area() == pytest.approx(roc_auc_score(label, both), abs=1e-12)
    weights = rng.integers(0, 4, 60).astype(float)
    expected = roc_auc_score(label, both, sample_weight=np.tile(weights, 2))
    assert Curve(scores).area(weights) == pytest.approx(expected, abs=1e-12)
    assert Curve(-scores).area() == pytest.approx(1 - Curve(scores).area())


def test_length_is_held_so_that_what_only_stands_for_it_has_no_weight():
    a, length, won = judged(6000, length_taste=0.1)
    found = effects(a, length, won)
    assert found[0].win_rate.low > 0.5, "alone it looks preferred, because it goes with length"
    assert found[0].coefficient.low < 0.05 < 0.3 < found[1].coefficient.low
    assert found[4].coefficient.high < -0.3


def test_turning_pairs_round_changes_nothing_and_turning_a_feature_round_turns_its_sign():
    a, length, won = judged(400)
    turn = np.where(np.arange(400) % 3 == 0, -1, 1)
    there = effects(a, length, won)
    back = effects(a * turn[:, None], length * turn, np.where(turn < 0, 1 - won, won))
    other = effects(-a, length, won)
    for one, same, opposite in zip(there, back, other, strict=True):
        assert one.coefficient.estimate == pytest.approx(same.coefficient.estimate)
        assert one.win_rate.estimate == same.win_rate.estimate
        assert one.coefficient.estimate == pytest.approx(-opposite.coefficient.estimate)
        assert one.win_rate.estimate == pytest.approx(1 - opposite.win_rate.estimate)


def test_few_features_are_the_reasons_and_reach_most_of_the_black_box():
    a, length, won = judged(3000)
    mixing = np.random.default_rng(1).standard_normal((8, 20))
    found = explanation(a, length, won, parts=alone(3000), black_box=a @ mixing, counts=(2, 5, 99))
    assert found.few[2] == (1, 4)
    assert set(found.auc) == {LENGTH, "2 features", "5 features", ALL, BLACK_BOX}
    assert found.auc[LENGTH].low < 0.52 < 0.7 < found.auc["2 features"].low
    assert set(found.share) == set(found.auc) - {BLACK_BOX}
    assert found.share[LENGTH].high < 0.2
    assert found.share["2 features"].low > 0.9
    assert found.share["2 features"].low < found.share["2 features"].estimate < found.share["2 features"].high


def test_a_black_box_that_knows_nothing_explains_nothing():
    a, length, _ = judged(400)
    coin = np.random.default_rng(5).integers(2, size=400).astype(float)
    found = explanation(a, length, coin, parts=alone(400), black_box=a, counts=(2,))
    assert set(found.share.values()) == {None}
    assert found.auc[BLACK_BOX].low < 0.5


def test_ties_count_for_what_can_be_measured_but_not_for_what_is_preferred():
    a, length, won = judged(900)
    tied = won.copy()
    tied[::3] = 0.5
    found = explanation(a, length, tied, parts=alone(900), counts=(2,))
    assert found.n_ties == 300
    assert found.n_learnt + found.n_held_out == 600
    assert found.effects[0].prevalence == pytest.approx((a[:, 0] != 0).mean())
    without = effects(a[tied != 0.5], length[tied != 0.5], won[tied != 0.5])
    assert found.effects[1].coefficient.estimate == pytest.approx(without[1].coefficient.estimate)
    with pytest.raises(DataError, match="All 900 pairs are ties"):
        explanation(a, length, np.full(900, 0.5), parts=alone(900))


def test_an_interval_by_cluster_is_wider_where_pairs_of_a_cluster_agree():
    a, length, won = judged(200)
    a, length, won = (np.repeat(column, 5, axis=0) for column in (a, length, won))
    apart_, together = effects(a, length, won), effects(a, length, won, clusters=np.repeat(np.arange(200), 5))
    width = [one[1].coefficient.high - one[1].coefficient.low for one in (apart_, together)]
    assert width[1] == pytest.approx(width[0] * np.sqrt(5), rel=0.02)


def test_separable_pairs_get_a_finite_weight():
    a = np.linspace(-1, 1, 60)[:, None]
    [effect] = effects(a, np.zeros(60), (a[:, 0] > 0).astype(float))
    assert np.isfinite(effect.coefficient.estimate)
    assert effect.win_rate.estimate == 1.0


def crowd(n_people=20, each=60, *, apart_by=2.5, seed=0):
    rng = np.random.default_rng(seed)
    n = n_people * each
    a = rng.standard_normal((n, 6)) * (rng.random((n, 6)) < 0.5)
    person = np.tile(np.arange(n_people), each)
    taste = np.where(person % 2 == 0, apart_by, -apart_by)
    won = rng.random(n) < expit(taste * a[:, 0] + 1.5 * a[:, 3])
    return a, np.zeros(n), won.astype(float), [f"p{k:02}" for k in person]


def test_people_of_two_tastes_are_told_apart_and_predicted_better():
    a, length, won, users = crowd()
    found = personal(a, length, won, users, parts=alone(len(won)))
    assert found.accuracy.gain.low > 0
    assert found.auc.low > 0
    assert (np.sign(found.weights[:, 0]) == np.where(np.arange(20) % 2 == 0, 1, -1)).all()
    assert (found.weights[:, 3] > 0).all()
    assert found.spread.argmax() == 0


def test_how_far_people_differ_is_measured_by_moments():
    rng = np.random.default_rng(0)
    n_people, each = 400, 40
    a = rng.standard_normal((n_people * each, 3))
    person = np.repeat(np.arange(n_people), each)
    weights = 0.5 + np.array([0.0, 0.2, 0.4]) * rng.standard_normal((n_people, 3))
    chance = expit(np.einsum("nd,nd->n", a, weights[person]))
    won = rng.random(len(a)) < chance
    p = expit(a @ [0.5, 0.5, 0.5])
    found = spread(a, won - p, p * (1 - p), np.split(np.arange(len(a)), n_people))
    assert found == pytest.approx([0.0, 0.2, 0.4], abs=0.06)


def test_people_who_agree_are_not_made_worse():
    a, length, won, users = crowd(apart_by=0.0, seed=3)
    found = personal(a, length, won, users, parts=alone(len(won)))
    assert found.accuracy.gain.estimate > -0.005
    assert (found.spread > 0).sum() <= 1


def test_people_with_too_little_to_learn_from_are_refused():
    a, length, won, users = crowd(2, 10)
    with pytest.raises(DataError, match="0 people have 8"):
        personal(a, length, won, [None] * 20, parts=alone(20))
    with pytest.raises(DataError, match="1 people"):
        personal(a, length, won, [user if user == "p00" else None for user in users], parts=alone(20), at_least=4)


def test_turned_labels_unteach_a_feature_and_leave_the_rest():
    a, length, won = judged(3000)
    rows = rewarded(a[:, 1], won, beyond=0.0)
    assert ((a[rows, 1] > 0) == (won[rows] > 0.5)).all()
    assert (np.diff(np.abs(a[rows, 1])) <= 0).all()
    changed = won.copy()
    changed[rows] = 1 - changed[rows]
    assert effects(a, length, won)[1].coefficient.low > 0 > effects(a, length, changed)[1].coefficient.high
    found = relearnt(a, length, won, changed, a[:, 1], parts=alone(3000))
    assert found.target.low > 0.3
    assert found.target.estimate == pytest.approx(found.target_after - found.target_before)
    assert found.others_after > found.others_before - 0.03
    with pytest.raises(DataError, match="active in 0"):
        relearnt(a, length, won, changed, np.zeros(3000), parts=alone(3000))


def test_only_plain_rows_are_changed_beyond_a_quantile():
    activation, won = np.array([1.0, 2.0, 3.0, 4.0, -5.0, 0.0]), np.array([1.0, 1, 1, 1, 1, 1])
    assert rewarded(activation, won, beyond=0.0).tolist() == [3, 2, 1, 0]
    assert rewarded(activation, won).tolist() == [3, 2]
    assert rewarded(-activation, won).tolist() == [4]
    with pytest.raises(SettingsError, match="beyond"):
        rewarded(activation, won, beyond=1.0)


def test_principal_directions_are_those_of_the_differences_and_the_same_turned_round():
    x = np.random.default_rng(0).standard_normal((50, 5)) * [3, 1, 2, 0.1, 0.1]
    both = np.concatenate([x, -x])
    _, _, expected = np.linalg.svd(both)
    np.testing.assert_allclose(np.abs(principal(x, 2) @ expected[:2].T), np.eye(2), atol=1e-8)
