"""Ranking accuracy on numbers: definitions by hand, the theorem on a fine grid, and pairs that cannot be measured."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penchant.errors import DataError, SettingsError
from penchant.evaluate import ranking_accuracy as ra
from penchant.statistics import wilson

NATS = st.floats(-200, 200)


def likelihoods(chosen, rejected, chosen_tokens=None, rejected_tokens=None):
    ten = np.full(len(chosen), 10)
    return ra.Likelihoods(
        np.array(chosen, dtype=float),
        np.array(rejected, dtype=float),
        ten if chosen_tokens is None else np.array(chosen_tokens),
        ten if rejected_tokens is None else np.array(rejected_tokens),
    )


def test_accuracy_counts_strictly_likelier_answers_and_ties_apart():
    found = ra.ranked_right([3.0, 0.2, 0.0, -0.1, -5.0])
    assert (found.n_right, found.n_tied, found.n_wrong) == (2, 1, 2)
    assert found.accuracy == wilson(2, 5)
    banded = ra.ranked_right([3.0, 0.2, 0.0, -0.1, -5.0], tie_band=0.2)
    assert (banded.n_right, banded.n_tied, banded.n_wrong) == (1, 3, 1)


def test_length_decides_raw_margins_but_not_those_per_token():
    pair = likelihoods([-10.0], [-12.0], [5], [10])
    assert pair.margin().tolist() == [2.0]
    assert pair.margin(per_token=True).tolist() == pytest.approx([-2.0 + 1.2])


def test_a_ranking_is_right_only_as_a_whole_and_absent_places_do_not_count():
    lists = [[-1.0, -2.0, -3.0], [-1.0, -3.0, -2.0], [-1.0, -1.0, -2.0], [-1.0, -2.0, 0.0]]
    assert ra.whole_ranking_right(lists).tolist() == [True, False, False, False]
    mask = np.ones((4, 3), bool)
    mask[3, 2] = False
    assert ra.whole_ranking_right(lists, mask=mask).tolist() == [True, False, False, True]


@pytest.mark.parametrize(("share", "beta"), [(0.6, 0.5), (0.75, 0.1), (0.9, 2.0)])
def test_the_idealised_margin_is_that_of_the_reference_reweighted_by_exponentiated_rewards(share, beta):
    # Two answers only: pi* is proportional to pi_ref exp(r / beta), where sigmoid(r_w - r_l) is the share.
    p_chosen = 0.2
    reward = math.log(share / (1 - share))
    weights = np.array([p_chosen * math.exp(reward / beta), 1 - p_chosen])
    ideal = weights / weights.sum()
    got = ra.idealised_margin(np.array([math.log(p_chosen / (1 - p_chosen))]), strength=share, beta=beta)
    assert got[0] == pytest.approx(math.log(ideal[0] / ideal[1]))


def test_the_idealised_margin_survives_a_tiny_beta_and_a_unanimous_vote():
    got = ra.idealised_margin(np.array([-500.0, -500.0]), strength=[0.75, 1.0], beta=1e-3)
    assert got.tolist() == pytest.approx([-500 + 1000 * math.log(3), -500 + 1000 * math.log(999)])


def test_shares_of_at_most_one_half_have_no_idealised_ranking():
    with pytest.raises(DataError, match=r"1 of 2 do not, first 0.5. Turn round"):
        ra.idealised_margin([0.0, 0.0], strength=[0.5, 0.7], beta=0.1)
    with pytest.raises(SettingsError, match="beta"):
        ra.idealised_margin([0.0], strength=0.7, beta=0.0)


@settings(deadline=None)
@given(NATS, NATS, NATS, NATS, st.floats(0.01, 5))
def test_a_pair_is_ranked_right_exactly_if_its_dpo_loss_is_below_the_threshold(cw, cl, rw, rl, beta):
    after, c = cw - cl, rl - rw
    if abs(after) < 1e-6 or beta * max(c, after + c) > 600:  # beyond, both losses are zero in float64
        return
    loss = np.logaddexp(0.0, -beta * (after + c))
    assert (loss < ra.loss_threshold(c, beta=beta)) == (after > 0)


def test_a_loss_that_belongs_to_another_margin_is_noticed():
    before, after = np.array([-3.0, -1.0, 2.0, 4.0]), np.array([1.0, -2.0, -1.0, 3.0])
    loss = np.log1p(np.exp(-0.2 * (after - before)))
    assert ra.threshold_agreement(loss, before, after, beta=0.2) == 1.0
    assert ra.threshold_agreement(loss, before, -after, beta=0.2) == 0.0
    assert ra.threshold_agreement(loss[::-1], before, after, beta=0.2) < 1.0


def test_difficulty_is_how_far_the_reference_prefers_the_rejected_answer():
    assert ra.difficulty(likelihoods([-5.0, -9.0], [-7.0, -3.0])).tolist() == [-2.0, 6.0]


def test_the_flip_matrix_counts_what_training_mended_and_broke():
    before = [-1.0, -1.0, -1.0, 0.0, 1.0, 1.0]
    after = [2.0, -1.0, 0.0, 3.0, -1.0, 5.0]
    assert ra.flip_matrix(before, after).tolist() == [[2, 2], [1, 1]]


def test_bands_of_difficulty_hold_only_wrong_pairs_and_all_of_them():
    rng = np.random.default_rng(0)
    before = rng.normal(size=400)
    # Only mild errors are mended.
    after = np.where((before < 0) & (before > -0.5), 1.0, before)
    bands = ra.flips_by(-before, before, after)
    assert sum(band.n for band in bands) == (before <= 0).sum()
    assert len(bands) == 10
    assert [band.low for band in bands] == sorted(band.low for band in bands)
    assert bands[0].mended.estimate == 1.0
    assert bands[-1].mended.estimate == 0.0
    assert ra.flips_by([1.0], [2.0], [3.0]) == []


def test_equal_values_are_never_torn_apart_by_bands():
    rows = ra.equal_mass_bins(np.array([1.0] * 50 + [2.0] * 3 + list(range(3, 10))), 10)
    assert sorted(np.concatenate(rows).tolist()) == list(range(60))
    assert any(set(range(50)) <= set(band.tolist()) for band in rows)
    even = ra.equal_mass_bins(np.random.default_rng(1).normal(size=100), 10)
    assert [len(band) for band in even] == [10] * 10


def test_the_trend_is_negative_and_certain_where_difficulty_decides_and_uncertain_where_it_does_not():
    rng = np.random.default_rng(3)
    c = rng.exponential(size=200)
    decided = ra.difficulty_trend(c, -c, np.where(c < 0.7, 1.0, -1.0))
    assert decided.spearman < -0.8
    assert decided.p_below == pytest.approx(1 / 2001)
    rising = ra.difficulty_trend(c, -c, np.where(c < 0.7, -1.0, 1.0))
    assert rising.spearman == pytest.approx(-decided.spearman)
    assert rising.p_below == 1.0
    assert ra.difficulty_trend(c, -c, rng.choice([-1.0, 1.0], size=200)).p_below > 0.01


def test_the_trend_equals_scipys_spearman():
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(4)
    c, mended = rng.exponential(size=60), rng.random(60) < 0.4
    got = ra.difficulty_trend(c, -c, np.where(mended, 1.0, -1.0))
    assert got.spearman == pytest.approx(stats.spearmanr(c, mended).statistic)


def test_no_trend_is_claimed_where_none_can_be_seen():
    trend = ra.difficulty_trend([1.0, 2.0, 3.0], [-1.0, -1.0, -1.0], [1.0, 1.0, 1.0])
    assert math.isnan(trend.spearman)
    assert trend.p_below == 1.0


def test_the_audit_leaves_out_and_counts_what_cannot_be_ranked():
    nan = float("nan")
    policy = likelihoods([-5.0, 0.0, -4.0, -4.0, nan, -9.0], [-6.0, -6.0, -4.0, -5.0, -3.0, -3.0], [9, 0, 9, 9, 9, 9])
    reference = likelihoods([-7.0] * 6, [-6.0] * 6, [9, 0, 9, 9, 9, 9])
    report = ra.audit(
        policy,
        reference,
        strength=[0.8, 0.8, 0.8, 0.5, 0.8, 0.2],
        same_text=[False, False, True, False, False, False],
    )
    assert report.excluded == {
        "an answer is empty": 1,
        "both answers are the same": 1,
        "nobody prefers either (share 0.5)": 1,
        "a log-probability is not a finite number": 1,
    }
    assert report.n_pairs + sum(report.excluded.values()) == 6
    # The last pair was turned round: most people prefer its `rejected`, and so does the policy.
    assert report.raw.n_right == 2
    assert report.flips.tolist() == [[0, 1], [0, 1]]
    # Turned with it: its chosen answer is now the one of ten tokens against nine.
    assert report.shorter.n_right == 1


def test_the_audit_says_what_the_parts_say():
    rng = np.random.default_rng(5)
    n, beta = 300, 0.1
    tokens = rng.integers(1, 30, size=(2, n))
    reference = likelihoods(*(-2.0 * tokens + rng.normal(size=(2, n))), *tokens)
    policy = likelihoods(reference.chosen + rng.normal(2, 3, n), reference.rejected, *tokens)
    share = rng.uniform(0.55, 1.0, n)
    report = ra.audit(policy, reference, strength=share, beta=beta, seed=1)
    assert report.n_pairs == n
    assert report.excluded == {}
    assert report.threshold_holds == 1.0
    assert report.flips.sum() == n
    assert report.flips[:, 1].sum() == report.raw.n_right
    assert report.flips[1].sum() == report.reference_raw.n_right
    ideal = ra.idealised_margin(reference.margin(), strength=share, beta=beta) > 0
    assert report.idealised[beta].n_right == ideal.sum()
    assert report.gap.estimate == pytest.approx(ideal.mean() - (policy.margin() > 0).mean())
    assert report.gap.low < report.gap.estimate < report.gap.high
    assert report.shorter.n_right + report.longer.n_right + report.shorter.n_tied == n
    # Two tokens a nat: the reference is a rule of length, nearly.
    assert report.reference_raw.accuracy.estimate == pytest.approx(report.shorter.accuracy.estimate, abs=0.05)
    # A smaller beta lets the ideal policy go further from a bad reference.
    accuracies = [report.idealised[b].accuracy.estimate for b in (0.01, 0.1, 1.0, 10.0)]
    assert accuracies == sorted(accuracies, reverse=True)


def test_models_that_count_tokens_differently_are_compared_per_token_only():
    policy = likelihoods([-5.0, -6.0], [-6.0, -5.0])
    report = ra.audit(policy, likelihoods([-5.0, -6.0], [-6.0, -5.0], [7, 7], [9, 9]))
    assert not report.same_tokens
    assert report.reference_per_token is not None
    assert report.gap is None
    assert report.flips is None


def test_the_audit_refuses_what_leaves_nothing_and_shapes_that_disagree():
    pair = likelihoods([-5.0], [-6.0])
    with pytest.raises(DataError, match="No pair is left to audit: of 1 pairs"):
        ra.audit(pair, pair, strength=0.5)
    with pytest.raises(DataError, match="one number per pair"):
        ra.audit(pair, likelihoods([-5.0, -5.0], [-6.0, -6.0]))
    with pytest.raises(DataError, match=r"\[0, 1\]"):
        ra.audit(pair, pair, strength=1.5)
    with pytest.raises(DataError, match="NaN"):
        ra.ranked_right([float("nan")])
