"""What moves a judge: recovered from decisions, with folds that leak nothing, and what cannot be told."""

from dataclasses import replace

import numpy as np
import pytest

from penchant.errors import DataError, SettingsError
from penchant.evaluate.dissect import contributions, dissection, folds, kept_together
from penchant.preference.laplace_logistic import laplace_posterior

FAST = {"n_draws": 300, "n_warmup": 200, "n_folds": 4}


def decisions(n=400, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.integers(-1, 2, (n, 4)).astype(float)
    return x, (rng.random(n) < 1 / (1 + np.exp(-x @ [1.5, -1.0, 0.0, 0.5]))).astype(float)


def test_weights_are_found_and_foretell_better_than_length_and_the_majority():
    x, y = decisions()
    found = dissection(x, y, names=("clear", "funny", "novel", "lengthy"), **FAST)
    assert found.ranked == ("clear", "lengthy", "novel", "funny")
    assert found.low[0] > 0 > found.high[1]
    assert found.accuracy.low > max(found.baselines[name].estimate for name in ("majority", "length alone"))
    assert found.log_loss < np.log(2)
    assert found.preferred[0] == pytest.approx(1 / (1 + np.exp(-found.weights[0])))
    assert contributions(x, found.weights).sum(1) == pytest.approx(x @ found.weights)


def test_turning_every_pair_round_turns_nothing():
    x, y = decisions()
    one, other = (dissection(a, b, names="abcd", **FAST) for a, b in ((x, y), (-x, 1 - y)))
    assert one.weights == pytest.approx(other.weights, abs=0.03)


def test_a_property_that_never_varies_keeps_the_prior_and_is_named():
    x, y = decisions(60)
    x[:, 2] = 1.0
    found = dissection(x, y, names=("a", "b", "constant", "d"), **FAST)
    assert found.identified.tolist() == [True, True, False, True]
    assert (found.weights[2], found.low[2], found.high[2]) == pytest.approx((0, -0.1 * np.log(20), 0.1 * np.log(20)))
    assert "constant" not in found.ranked
    assert any("not identified" in said and "constant" in said for said in found.warnings)


def test_few_pairs_and_properties_that_go_together_are_warned_of():
    x, y = decisions(16)
    x[:, 1] = x[:, 0]
    found = dissection(x, y, names="abcd", **FAST)
    assert any("are few" in said for said in found.warnings)
    assert any("a and b go together" in said for said in found.warnings)


def test_ties_are_left_out_and_counted():
    x, y = decisions()
    y[:50] = 0.5
    found = dissection(x, y, names="abcd", **FAST)
    assert (found.n_pairs, found.n_ties) == (350, 50)


@pytest.mark.parametrize(
    ("x", "y", "said"),
    [
        (np.ones((9, 1)), np.ones(9), "are equal"),
        (np.ones((9, 1)), np.arange(9) % 2, "differs both ways"),
        (np.full((9, 1), np.nan), np.arange(9) % 2, "not finite|differs both ways"),
        (np.eye(9)[:, :1], np.full(9, 0.7), "Labels must be"),
    ],
)
def test_what_tells_nothing_is_refused(x, y, said):
    with pytest.raises(DataError, match=said):
        dissection(x, y, names=("a",), n_folds=3)


def test_mirrored_copies_duplicates_and_pairs_of_one_prompt_are_in_one_fold():
    prompts = [f"p{i}" for i in range(30)] * 3 + ["other"]
    first, second = [f"a{i}" for i in range(30)], [f"b{i}" for i in range(30)]
    groups = kept_together(prompts, first + second + first + ["a0"], second + first + second + ["b0"])
    fold = folds(groups, 5)
    assert (fold[:30] == fold[30:60]).all()
    assert (fold[:30] == fold[60:90]).all()
    assert fold[90] == fold[0]  # the same pair under another prompt
    assert np.bincount(fold).max() - np.bincount(fold).min() <= 4


def test_fewer_groups_than_folds_are_refused():
    with pytest.raises(DataError, match="do not fill"):
        folds([0, 0, 1], 3)


def test_a_warning_begins_where_the_page_says():
    x, y = decisions(60)
    found = replace(dissection(x, y, names="abcd", **FAST), n_pairs=20, r_hat=1.01, together=())
    assert found.warnings == ()
    assert "19 pairs for 4 properties are few" in replace(found, n_pairs=19).warnings[0]
    assert "not settled" in replace(found, r_hat=1.011).warnings[0]


def test_properties_go_together_from_a_correlation_of_0_7_on_either_way_round():
    one = np.ones(100)
    near, far, against = one.copy(), one.copy(), -one
    near[:14], far[:16] = -1, -1  # of what varies as much, r = 0.72 and 0.68
    x, y = np.column_stack([one, near, far, against]), np.arange(100) % 2.0
    x[50:] *= -1  # a pair turned round says the same
    found = dissection(x, y, names="abcd", groups=np.arange(100), n_draws=50, n_warmup=20, n_folds=2)
    with_a = {other: r for first, other, r in found.together if first == "a"}
    assert with_a == pytest.approx({"b": 0.72, "d": -1.0})
    assert all(first != other for first, other, _ in found.together)


def test_folds_are_of_decided_rows_and_scores_of_those_who_have_not_seen_them():
    rng = np.random.default_rng(0)
    right = {"own": [], "majority": [], "logistic, L2": []}
    for _ in range(6):
        x, y = rng.integers(-1, 2, (60, 25)).astype(float), (rng.random(60) < 0.5).astype(float)
        found = dissection(x, y, names=[f"p{j}" for j in range(25)], n_draws=100, n_warmup=100, n_folds=5)
        right["own"].append(found.accuracy.estimate)
        for name in ("majority", "logistic, L2"):
            right[name].append(found.baselines[name].estimate)
    assert {name: np.mean(values) < 0.58 for name, values in right.items()} == dict.fromkeys(right, True)
    x, y = decisions(200)
    found = dissection(x, y, names="abcd", n_draws=300, n_warmup=200, n_folds=2)
    assert found.baselines["logistic, L2"].estimate == pytest.approx(found.accuracy.estimate, abs=0.05)
    assert found.accuracy.estimate > 0.7


def test_intervals_of_accuracy_resample_groups_of_the_rows_that_are_decided():
    x, y = decisions(200)
    y[:40] = 0.5
    groups = np.r_[np.arange(100, 140), np.repeat(np.arange(20), 8)]
    alone, together = (dissection(x, y, names="abcd", groups=one, **FAST) for one in (None, groups))
    assert (alone.accuracy.n, together.accuracy.n) == (160, 20)
    assert dissection(x[40:], y[40:], names="abcd", groups=groups[40:], **FAST).accuracy == together.accuracy
    with pytest.raises(DataError, match="20 prompts or pairs do not fill 21"):
        dissection(x, y, names="abcd", groups=groups, n_folds=21)


def test_diagnostics_are_the_worst_of_all_weights():
    x, y = decisions(80)
    groups = np.arange(80)
    found = dissection(x, y, names="abcd", groups=groups, n_draws=60, n_warmup=30, n_folds=4, seed=3)
    fold = folds(groups, 4, seed=3)
    included = np.column_stack([np.ones(80, dtype=bool), *(fold != k for k in range(4))])
    direct = laplace_posterior(x, y, included=included, seed=3, n_draws=60, n_warmup=30)
    assert found.weights == pytest.approx(direct.mean[0])
    assert (found.r_hat, found.effective) == (direct.r_hat[0].max(), direct.effective[0].min())


def test_where_nothing_was_asked_pairs_stand_for_themselves():
    assert kept_together(["", "", ""], ["a", "b", "a"], ["b", "a", "c"]).tolist() == [0, 0, 1]


def test_large_groups_are_dealt_first_into_the_emptiest_fold():
    groups = [0] * 5 + [1] * 4 + [2] * 3 + [3] * 2 + [4, 5]
    for seed in range(5):
        assert sorted(np.bincount(folds(groups, 2, seed=seed))) == [8, 8]
    with pytest.raises(SettingsError, match="at least 2"):
        folds(groups, 1)
