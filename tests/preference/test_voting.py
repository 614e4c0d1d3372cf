"""The vote on pairs: nobody votes on what they saw, what is doubted is turned round first, and nothing is lost."""

import numpy as np
import pytest

from penchant.preference.votes import Votes
from penchant.preference.voting import GROUPS, cross_fitted, labelled_first, same_pairs, treated, voted


def votes(chosen, rejected, *, strength=None, margin=None, vectors=None):
    n = len(chosen)
    return Votes(
        vectors=np.eye(max(*chosen, *rejected) + 1, dtype=np.float32) if vectors is None else vectors,
        chosen=np.asarray(chosen, np.int64),
        rejected=np.asarray(rejected, np.int64),
        strength=np.asarray(np.ones(n) if strength is None else strength, np.float32),
        margin=np.asarray(np.zeros(n) if margin is None else margin, np.float32),
        user=np.full(n, -1, np.int64),
        people=(),
    )


def noisy(n=400, wrong=0.2, seed=0):
    """Pairs of random vectors of which the one with the greater first number is better, some labelled wrongly."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((2 * n, 4)).astype(np.float32)
    a, b = np.arange(0, 2 * n, 2), np.arange(1, 2 * n, 2)
    is_wrong = rng.random(n) < wrong
    first = (x[a, 0] > x[b, 0]) ^ is_wrong
    return votes(np.where(first, a, b), np.where(first, b, a), vectors=x), is_wrong


FAST = {"members": 4, "folds": 2, "hidden": 8, "epochs": 20, "learning_rate": 1e-2}


def test_each_voter_counts_alike_whatever_its_scale():
    pairs = votes([0, 2, 4], [1, 3, 5])
    differences = np.array([[3.0, -3.0, 3.0], [0.1, 0.1, -0.1]])
    found = voted(differences, pairs)
    np.testing.assert_allclose(found.strength, [1.0, 0.0, 0.0])
    np.testing.assert_allclose(found.spread, [0.0, 1.0, 1.0])
    assert found.scale == pytest.approx(1.55)
    np.testing.assert_allclose(found.logits, found.strength * 1.55)
    assert voted(np.zeros((2, 3)), pairs).strength.tolist() == [0, 0, 0]  # all equal: nobody could vote


def test_groups_are_fifths_of_the_labelled_and_ties_are_in_none_of_them():
    pairs = votes(np.arange(0, 40, 2), np.arange(1, 40, 2), strength=[1.0] * 10 + [0.5] * 10)
    found = voted(np.stack([np.r_[np.arange(10.0), np.full(10, -50.0)]] * 2), pairs)
    assert [GROUPS[g] for g in found.group[:10]] == ["wrong"] * 2 + ["ambiguous"] * 2 + ["normal"] * 6
    assert found.counts == {"wrong": 2, "ambiguous": 2, "normal": 16, "contradictory": 0}


def test_a_pair_labelled_both_ways_is_contradictory_and_kept_both_times():
    pairs = labelled_first(votes([0, 1, 2, 4], [1, 0, 3, 5], strength=[1, 1, 1, 0]))
    found = voted(np.ones((2, 4)) * [1, -9, 1, 1], pairs)
    assert found.counts["contradictory"] == 2
    after, done = treated(pairs, found, "flip+margin")
    assert done[:2].tolist() == ["keep", "keep"]
    assert len(after) == 4
    twice = votes([0, 0], [1, 1])
    assert voted(np.ones((2, 2)), twice).counts["contradictory"] == 0


def test_labels_the_other_way_round_are_the_same_votes():
    one = labelled_first(votes([0, 2], [1, 3], strength=[0.2, 1.0], margin=[0.5, 0.5]))
    assert (one.chosen.tolist(), one.rejected.tolist()) == ([1, 2], [0, 3])
    np.testing.assert_allclose(one.strength, [0.8, 1.0])
    np.testing.assert_allclose(one.margin, [-0.5, 0.5])
    assert same_pairs(votes([0, 1, 0], [1, 0, 2])).tolist() == [0, 0, 1]


def strength_of(values, **columns):
    n = len(values)
    pairs = votes(np.arange(0, 2 * n, 2), np.arange(1, 2 * n, 2), **columns)
    return pairs, voted(np.stack([np.asarray(values, float)] * 2), pairs)


def test_flipping_comes_first_then_the_margin_of_its_size_and_no_margin_is_negative():
    values = [-4.0, -1.0, 1.0, 2.0, 2.0]
    pairs, found = strength_of(values, margin=[0.5, 0, 0, 0, 0])
    after, done = treated(pairs, found, "flip+margin")
    assert done.tolist() == ["flip+margin", "keep", "keep+margin", "keep+margin", "keep+margin"]
    assert (after.chosen[0], after.rejected[0]) == (1, 0)
    own = np.abs(found.logits)
    most = np.quantile(np.abs(found.strength), 0.99, method="lower") * found.scale
    expected = np.minimum([own[0], 0, own[2], own[3], own[4]], most) - [0.5, 0, 0, 0, 0]
    np.testing.assert_allclose(after.margin, expected, rtol=1e-6)
    assert after.margin[0] > after.margin[2]  # what is turned round is asked for as surely as it was doubted


@pytest.mark.parametrize(
    ("treatment", "actions"),
    [
        ("keep", ["keep"] * 5),
        ("flip", ["flip", "keep", "keep", "keep", "keep"]),
        ("soften", ["soften", "soften", "keep", "keep", "keep"]),
        ("margin", ["keep", "keep", "keep+margin", "keep+margin", "keep+margin"]),
        ("soften+margin", ["soften", "soften", "keep+margin", "keep+margin", "keep+margin"]),
    ],
)
def test_every_treatment_does_what_it_says_and_nothing_else(treatment, actions):
    pairs, found = strength_of([-4.0, -1.0, 1.0, 2.0, 2.0])
    after, done = treated(pairs, found, treatment, smoothing=0.1)
    assert done.tolist() == actions
    np.testing.assert_allclose(after.strength, [0.9 if a == "soften" else 1.0 for a in actions])
    assert (after.chosen != pairs.chosen).tolist() == [a == "flip" for a in actions]
    assert ((after.margin > 0) == ["margin" in a for a in actions]).all()


def test_one_wild_vote_does_not_set_its_own_margin():
    pairs, found = strength_of([1.0] * 200 + [1000.0])
    after, _ = treated(pairs, found, "margin")
    assert after.margin[-1] == pytest.approx(after.margin[0])


def test_a_tie_is_never_turned_round_and_gets_no_margin():
    pairs, found = strength_of([-9.0, 1.0, 1.0, 1.0, 1.0], strength=[0.5, 1, 1, 1, 1])
    after, done = treated(pairs, found, "flip+margin")
    assert done[0] == "keep"
    assert after.margin[0] == 0


def test_wrong_labels_are_found_by_voters_who_never_saw_them_though_memory_would_hide_them():
    pairs, is_wrong = noisy()
    found = voted(cross_fitted(pairs, **FAST, seed=0), pairs)
    assert found.strength[is_wrong].mean() < -0.3
    assert found.strength[~is_wrong].mean() > 0.3
    turned, _ = treated(pairs, found, "flip")
    better = pairs.vectors[turned.chosen, 0] > pairs.vectors[turned.rejected, 0]
    assert better.mean() > (~is_wrong).mean() + 0.1


def test_no_voter_has_seen_the_pair_it_votes_on():
    """Labels without any rule: whoever had seen them would know them, so that votes would agree with them."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((300, 60)).astype(np.float32)
    first = rng.random(150) < 0.5
    a, b = np.arange(0, 300, 2), np.arange(1, 300, 2)
    pairs = votes(np.where(first, a, b), np.where(first, b, a), vectors=x)
    settings = FAST | {"hidden": 32, "members": 6}
    assert abs((cross_fitted(pairs, **settings, seed=0) > 0).mean() - 0.5) < 0.1
    doubled = pairs.of(np.r_[np.arange(150), np.arange(150)])  # a copy in the other fold would give it away
    assert abs((cross_fitted(doubled, **settings, seed=0) > 0).mean() - 0.5) < 0.1


def test_votes_are_the_same_for_the_same_seed():
    pairs, _ = noisy(60)
    one, two, other = (cross_fitted(pairs, **FAST, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, two)
    assert np.abs(one - other).max() > 1e-3
