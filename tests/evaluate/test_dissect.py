"""What moves a judge: recovered from decisions, with folds that leak nothing, and what cannot be told."""

import numpy as np
import pytest

from penchant.errors import DataError
from penchant.evaluate.dissect import contributions, dissection, folds, kept_together

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
    assert (found.weights[2], found.high[2]) == (0, pytest.approx(0.1 * np.log(20)))
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
