"""The likelihood of several heads against brute force, its maximum against EM, and how many heads are taken."""

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment
from scipy.special import expit, logsumexp

from penchant.preference.crowd import (
    Crowd,
    Prior,
    _parted,
    chosen,
    compact,
    grouped_start,
    maximum,
    moment,
    pair_terms,
    part_sums,
    scores_of,
    some_people,
    wide_start,
)
from penchant.preference.newton import newton
from penchant.preference.pooled import pooled
from penchant.preference.shards import Shards
from penchant.preference.votes import Votes

THREE = 4.0 * np.array([[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], [-0.7, -0.7, 0.0, 0.0]])


def votes_of(tastes, n_people, n_each, *, seed=0, named=True):
    """People of some kinds who vote between random vectors, and the kind of each."""
    rng = np.random.default_rng(seed)
    kind = rng.integers(len(tastes), size=n_people)
    person = np.repeat(np.arange(n_people), n_each)
    vectors = rng.standard_normal((2 * len(person), np.shape(tastes)[1])).astype(np.float32)
    first = np.arange(len(person))
    second = first + len(person)
    ahead = np.einsum("nd,nd->n", vectors[first] - vectors[second], np.asarray(tastes)[kind[person]])
    wins = rng.random(len(person)) < expit(ahead)
    ones = np.ones(len(person), np.float32)
    votes = Votes(
        vectors,
        np.where(wins, first, second),
        np.where(wins, second, first),
        ones,
        0 * ones,
        person if named else np.full(len(person), -1),
        tuple(f"p{i:04d}" for i in range(n_people)) if named else (),
    )
    return votes, kind


def prior_of(votes, precision=1.0, centre=None):
    dim = votes.vectors.shape[1]
    scale = np.linspace(0.5, 2.0, dim)
    return Prior(np.zeros(dim) if centre is None else centre, precision, scale, moment(votes, scale))


def soft(votes, seed=0):
    """The same with labels between 0 and 1, and margins."""
    rng = np.random.default_rng(seed)
    labels = {"strength": rng.random(len(votes)), "margin": rng.standard_normal(len(votes))}
    return Votes(**{**vars(votes), **{name: one.astype(np.float32) for name, one in labels.items()}})


def test_pair_terms_are_log_probabilities_and_their_derivatives():
    votes = soft(votes_of(THREE, 5, 3)[0])
    scores = scores_of(votes.vectors, THREE)
    ahead = scores[votes.chosen] - scores[votes.rejected] - votes.margin[:, None].astype(float)
    s = votes.strength[:, None].astype(float)
    log_likelihood, residual = pair_terms(scores, votes)
    np.testing.assert_allclose(log_likelihood, s * np.log(expit(ahead)) + (1 - s) * np.log(expit(-ahead)), atol=1e-10)
    np.testing.assert_allclose(residual, s - expit(ahead), atol=1e-12)


def test_logits_of_hundreds_neither_overflow_nor_lose_the_way_back():
    votes = votes_of(THREE, 1, 1)[0]
    scores = np.zeros((2, 2))
    scores[votes.chosen[0]] = [800.0, -800.0]
    log_likelihood, residual = pair_terms(scores, votes)
    np.testing.assert_allclose(log_likelihood, [[0.0, -800.0]])
    np.testing.assert_allclose(residual, [[0.0, 1.0]])


def test_sums_over_people_are_the_brute_force_likelihood_and_its_slope_by_finite_differences():
    votes = soft(votes_of(THREE, 4, 3)[0])
    rng = np.random.default_rng(1)
    scores, log_shares = rng.standard_normal((len(votes.vectors), 3)), np.log([0.5, 0.3, 0.2])

    def brute_force(scores):
        total = 0.0
        for person in range(4):
            own = votes.of(votes.user == person)
            total += np.log(np.exp(log_shares + pair_terms(scores, own)[0].sum(axis=0)).sum())
        return total

    sums = part_sums({"scores": scores, "log_prior": log_shares}, votes)
    assert sums["log_likelihood"] == pytest.approx(brute_force(scores))
    assert sums["members"].sum() == pytest.approx(4)
    for item, head in [(0, 0), (3, 1), (13, 2), (20, 0)]:
        step = np.zeros_like(scores)
        step[item, head] = 1e-6
        slope = (brute_force(scores + step) - brute_force(scores - step)) / 2e-6
        assert sums["pull"][item, head] == pytest.approx(slope, abs=1e-6)


@pytest.mark.parametrize("named", [True, False])
def test_a_maximum_is_a_fixed_point_of_em_with_newton_steps(named):
    votes = compact(soft(votes_of(THREE, 120, 5, named=named)[0]))
    centre = np.array([0.3, -0.2, 0.1, 0.0])
    prior = prior_of(votes, 2.0, centre)
    shards = Shards(votes)
    crowd = maximum(shards, wide_start(2, prior, np.random.default_rng(0)), prior, tolerance=1e-9)
    own = shards.votes
    log_likelihood = pair_terms(scores_of(own.vectors, crowd.weights / prior.scale), own)[0]
    joint = crowd.log_shares + np.stack([np.bincount(own.user, one) for one in log_likelihood.T], axis=1)
    belief = np.exp(joint - logsumexp(joint, axis=1, keepdims=True))
    np.testing.assert_allclose(np.exp(crowd.log_shares), (belief.sum(axis=0) + 1) / (len(belief) + 2), atol=1e-5)
    for head in range(2):
        again = newton(
            own.difference / prior.scale,
            own.strength,
            l2=2.0,
            centre=centre,
            margin=own.margin,
            row_weight=belief[own.user, head],
        )
        np.testing.assert_allclose(again.weights, crowd.weights[head], atol=1e-4)


def test_shards_of_any_size_give_the_same_crowd():
    votes = compact(votes_of(THREE, 60, 6)[0])
    prior = prior_of(votes)
    begin = wide_start(3, prior, np.random.default_rng(0))
    at_once, in_shards = (maximum(Shards(votes, people_per_shard=n), begin, prior, tolerance=1e-9) for n in (60, 7))
    np.testing.assert_allclose(at_once.weights, in_shards.weights, atol=1e-5)
    np.testing.assert_allclose(at_once.log_shares, in_shards.log_shares, atol=1e-6)


def test_one_head_is_the_bradley_terry_fit():
    votes = compact(soft(votes_of(THREE, 50, 5)[0]))
    prior = prior_of(votes, 3.0)
    found = maximum(Shards(votes), Crowd(np.zeros((1, 4)), np.zeros(1)), prior, tolerance=1e-10).weights[0]
    exact = newton(votes.difference / prior.scale, votes.strength, l2=3.0, margin=votes.margin).weights
    np.testing.assert_allclose(found, exact, atol=1e-6)


def closeness(found, true):
    """Cosines of the heads, matched so that they are greatest."""
    cosines = found @ np.transpose(true) / np.outer(np.linalg.norm(found, axis=1), np.linalg.norm(true, axis=1))
    return cosines[linear_sum_assignment(-cosines)]


def test_groups_of_people_are_a_start_close_to_their_tastes():
    votes, _ = votes_of(THREE, 300, 12)
    everybody = pooled(votes)
    shards = Shards(compact(votes))
    prior = Prior(everybody.weights, 1.0, everybody.scale, moment(votes, everybody.scale))
    start = grouped_start(3, shards.votes, prior, np.random.default_rng(0))
    assert closeness(start.weights / prior.scale, THREE).min() > 0.8
    few = Shards(compact(votes.of(votes.user < 4)))
    assert grouped_start(3, few.votes, prior, np.random.default_rng(0)) is None


def test_kinds_of_people_are_found_again_and_counted():
    votes, kind = votes_of(THREE, 300, 10)
    everybody = pooled(votes)
    choice = chosen(votes, everybody)
    assert len(choice.crowd) == 3
    assert closeness(choice.crowd.weights / everybody.scale, THREE).min() > 0.97
    shares = np.sort(np.exp(choice.crowd.log_shares))
    np.testing.assert_allclose(shares, np.sort(np.bincount(kind)) / 300, atol=0.06)
    assert choice.held_out[3] > choice.held_out[1] + 0.05


def test_two_kinds_are_found_although_every_vote_is_of_somebody_else():
    tastes = np.array([[5.0, 0.0, 0.0], [-4.0, 3.0, 0.0]])
    votes, _ = votes_of(tastes, 3000, 1, named=False)
    everybody = pooled(votes)
    choice = chosen(votes, everybody)
    assert len(choice.crowd) == 2
    assert closeness(choice.crowd.weights / everybody.scale, tastes).min() > 0.9


@pytest.mark.parametrize(("n_people", "n_each", "named"), [(200, 8, True), (2000, 1, False), (40, 4, True)])
def test_a_crowd_of_one_mind_keeps_one_head(n_people, n_each, named):
    votes, _ = votes_of(THREE[:1], n_people, n_each, named=named, seed=3)
    everybody = pooled(votes)
    choice = chosen(votes, everybody)
    np.testing.assert_array_equal(choice.crowd.weights, everybody.weights[None])


def test_two_people_who_want_opposite_things_are_two_heads():
    votes, kind = votes_of([[3.0, 0.0], [-3.0, 0.0]], 2, 60, seed=1)
    assert set(kind) == {0, 1}
    assert len(chosen(votes, pooled(votes)).crowd) == 2


@pytest.mark.parametrize(("width", "found"), [(2.0, True), (0.001, False)])
def test_heads_that_begin_apart_stay_apart_and_those_that_begin_together_merge(width, found):
    votes, _ = votes_of(THREE, 3000, 1, seed=1000, named=False)
    everybody = pooled(votes)
    prior = Prior(everybody.weights, 1.0, everybody.scale, moment(votes, everybody.scale))
    begin = wide_start(3, prior, np.random.default_rng(0), width=width)
    crowd = maximum(Shards(compact(votes)), begin, prior, tolerance=1e-4, max_steps=60)
    assert (closeness(crowd.weights / everybody.scale, THREE).min() > 0.9) == found


def test_people_are_drawn_whole():
    votes, _ = votes_of(THREE, 50, 4)
    some = some_people(votes, 60, seed=0)
    assert len(some) == 60
    assert (np.bincount(some.user)[np.unique(some.user)] == 4).all()
    assert some_people(votes, 1000, seed=0) is votes


def test_of_very_few_people_no_vote_set_aside_is_about_a_response_that_was_seen():
    rng = np.random.default_rng(0)
    first = rng.integers(12, size=60)
    second = (first + rng.integers(1, 12, size=60)) % 12
    ones = np.ones(60, np.float32)
    votes = Votes(np.eye(12, dtype=np.float32), first, second, ones, 0 * ones, np.repeat([0, 1], 30), ("a", "b"))
    kept, aside = _parted(votes, 2)
    assert aside.any()
    assert not (aside & ~kept).any()
    for person in (0, 1):
        own = votes.user == person
        seen = {*first[own & kept & ~aside], *second[own & kept & ~aside]}
        assert not seen & {*first[own & aside], *second[own & aside]}
