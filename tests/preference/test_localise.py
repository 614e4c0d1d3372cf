"""People among prototypes: tables say what ideal points would, and everybody stands at their own optimum."""

import numpy as np
import pytest
import torch
from scipy.optimize import approx_fprime, minimize
from scipy.special import softmax

from penchant.preference.localise import LOSSES, SCORES, Pairs, Rule, localise, pairs_of, slopes, weights
from penchant.preference.votes import Votes

K = 3


def some_pairs(score="squared", *, n=60, n_people=5, seed=0):
    """Pairs of random responses in the plane, where prototypes stand, and the tables of both."""
    rng = np.random.default_rng(seed)
    f, p = rng.standard_normal((20, 2)), rng.standard_normal((K, 2))
    chosen, rejected = rng.integers(20, size=n), rng.integers(20, size=n)
    between, table = ((p[:, None] - p) ** 2).sum(-1), ((f[:, None] - p) ** 2).sum(-1)
    if score == "squared":
        table = -table
    if score == "angle":
        between, table = p @ p.T, f @ p.T / np.linalg.norm(f, axis=1, keepdims=True)
    votes = Votes(
        vectors=f.astype(np.float32),
        chosen=chosen,
        rejected=rejected,
        strength=rng.choice([0.0, 0.5, 1.0], size=n).astype(np.float32),
        margin=rng.normal(scale=0.1, size=n).astype(np.float32),
        user=np.sort(rng.integers(n_people, size=n)),
        people=tuple("abcdefgh"[:n_people]),
    )
    shared = {"table": table, "between": between[None], "sharpness": np.array(1.3), "centre": np.array([0.2, 0, -0.2])}
    return shared, votes


def test_what_tables_say_is_what_the_ideal_point_says():
    rng = np.random.default_rng(1)
    f, p, w = rng.standard_normal((9, 4)), rng.standard_normal((K, 4)), rng.dirichlet(np.ones(K), size=9)
    z = w @ p
    apart = torch.from_numpy(((f[:, None] - p) ** 2).sum(-1))
    between = torch.from_numpy(((p[:, None] - p) ** 2).sum(-1)[None])
    weight = torch.from_numpy(w)
    away = np.linalg.norm(f - z, axis=1)
    np.testing.assert_allclose(SCORES["distance"](weight, apart, between), -away, atol=1e-12)
    of_one = weight[:1].expand(9, K)
    gaps = SCORES["squared"](of_one, -apart, between).numpy() + ((f - z[0]) ** 2).sum(-1)
    np.testing.assert_allclose(gaps, gaps[0], atol=1e-12)  # the same for all responses
    long = f / np.linalg.norm(f, axis=1, keepdims=True)
    cosine = (long * z).sum(1) / np.linalg.norm(z, axis=1)
    inner = torch.from_numpy(long @ p.T), torch.from_numpy((p @ p.T)[None])
    np.testing.assert_allclose(SCORES["angle"](weight, *inner), cosine, atol=1e-12)


def test_a_response_at_the_ideal_point_is_no_division_by_zero():
    weight = torch.tensor([[1.0, 0.0]], dtype=torch.float64, requires_grad=True)
    between = torch.tensor([[[0.0, 1.0], [1.0, 0.0]]], dtype=torch.float64)
    SCORES["distance"](weight, torch.tensor([[0.0, 1.0]], dtype=torch.float64), between).sum().backward()
    assert torch.isfinite(weight.grad).all()


@pytest.mark.parametrize("loss", LOSSES)
def test_a_loss_falls_as_the_preferred_response_gets_ahead_and_says_how_fast(loss):
    ahead = torch.tensor([-2.3, -0.4, 0.1, 0.7, 3.0], dtype=torch.float64, requires_grad=True)
    for strength in (1.0, 0.8, 0.5, 0.0):
        soft = torch.full_like(ahead, strength)
        found = LOSSES[loss](ahead, soft)
        [slope] = torch.autograd.grad(found.value.sum(), ahead)
        torch.testing.assert_close(found.slope, slope)
        assert (found.curvature >= 0).all()
        mirrored = LOSSES[loss](-ahead, 1 - soft)
        torch.testing.assert_close(mirrored.value, found.value)
    assert (LOSSES[loss](ahead, torch.ones_like(ahead)).value.diff() <= 0).all()


def test_the_hinge_is_that_of_the_paper():
    ahead = torch.tensor([-1.0, 0.0, 0.5, 2.0])
    assert LOSSES["hinge"](ahead, torch.ones(4)).value.tolist() == [2.0, 1.0, 0.5, 0.0]


def objective(logits, pairs, rule, centre):
    """Of one person, written down again."""
    w = torch.from_numpy(softmax(logits))[None].expand(len(pairs.person), K)
    fit = LOSSES[rule.loss](pairs.ahead(w, rule.score), pairs.strength).value.sum().item()
    return fit + rule.precision / 2 * ((logits - centre) ** 2).sum()


@pytest.mark.parametrize("score", SCORES)
def test_everybody_stands_at_the_optimum_of_their_own_pairs(score):
    shared, votes = some_pairs(score)
    pairs, rule, centre = pairs_of(shared, votes), Rule(score, "logistic", 0.3), torch.from_numpy(shared["centre"])
    found = localise(pairs, 5, rule, centre)
    for person in range(5):
        own = pairs.of(torch.nonzero(pairs.person == person)[:, 0])
        at, given = found.logits[person].numpy(), (own, rule, shared["centre"])
        np.testing.assert_allclose(approx_fprime(at, objective, 1e-6, *given), 0.0, atol=1e-4)
        begin = at if score == "distance" else shared["centre"]  # of which there may be several optima
        best = minimize(objective, begin, args=given, method="BFGS")
        assert objective(at, *given) == pytest.approx(best.fun, abs=1e-6)


def test_the_spread_of_a_person_is_that_of_the_curvature_at_the_optimum():
    shared, votes = some_pairs()
    pairs, rule, centre = pairs_of(shared, votes), Rule("squared", "logistic", 0.3), torch.from_numpy(shared["centre"])
    found = localise(pairs, 5, rule, centre)
    own = pairs.of(torch.nonzero(pairs.person == 0)[:, 0])

    def slope(logits):
        return approx_fprime(logits, objective, 1e-5, own, rule, shared["centre"])

    at = found.logits[0].numpy()
    curvature = np.stack([(slope(at + step) - slope(at - step)) / 2e-3 for step in 1e-3 * np.eye(K)])
    np.testing.assert_allclose(np.linalg.inv(found.covariance[0].numpy()), curvature, atol=2e-2)


def test_the_hinge_comes_to_rest_where_hardly_a_step_helps():
    shared, votes = some_pairs("distance")
    pairs, rule, centre = pairs_of(shared, votes), Rule("distance", "hinge", 0.3), torch.from_numpy(shared["centre"])
    found = localise(pairs, 5, rule, centre)
    rng = np.random.default_rng(0)
    for person in range(5):
        own = pairs.of(torch.nonzero(pairs.person == person)[:, 0])
        here = objective(found.logits[person].numpy(), own, rule, shared["centre"])
        around = found.logits[person].numpy() + 0.2 * rng.standard_normal((100, K))
        assert here <= 1.002 * min(objective(one, own, rule, shared["centre"]) for one in around)


def test_nobody_depends_on_who_else_is_there():
    shared, votes = some_pairs("angle")
    pairs, rule, centre = pairs_of(shared, votes), Rule("angle", "logistic", 1.0), torch.from_numpy(shared["centre"])
    together = localise(pairs, 5, rule, centre)
    for person in range(5):
        own = pairs.of(torch.nonzero(pairs.person == person)[:, 0])
        alone = localise(own._replace(person=torch.zeros_like(own.person)), 1, rule, centre)
        torch.testing.assert_close(alone.logits[0], together.logits[person], rtol=0, atol=1e-9)


def test_without_pairs_or_under_a_strong_prior_a_person_stands_where_the_population_does():
    shared, votes = some_pairs()
    pairs, centre = pairs_of(shared, votes), torch.from_numpy(shared["centre"])
    strong = localise(pairs, 6, Rule("squared", "logistic", 1e6), centre)
    torch.testing.assert_close(strong.logits, centre.repeat(6, 1), rtol=0, atol=1e-4)
    weak = localise(pairs, 6, Rule("squared", "logistic", 1.0), centre)
    torch.testing.assert_close(weak.logits[5], centre)  # has no pairs
    assert (weak.logits[:5] - centre).abs().max() > 0.1


@pytest.mark.parametrize("score", SCORES)
def test_the_gradient_of_what_is_shared_is_that_of_everybody_at_their_optimum(score):
    shared, votes = some_pairs(score)
    rule, centre = Rule(score, "logistic", 0.5), torch.from_numpy(shared["centre"])

    def profiled(**changed):
        now = {**shared, **changed}
        pairs = pairs_of(now, votes)
        found = localise(pairs, 5, rule, centre)
        ahead = pairs.ahead(found.logits.softmax(1)[pairs.person], score)
        prior = rule.precision / 2 * (found.logits - centre).square().sum()
        return (LOSSES["logistic"](ahead, pairs.strength).value.sum() + prior).item()

    sums = slopes(shared, votes, rule, tolerance=1e-8, max_steps=60)
    assert sums["pairs"] == len(votes)
    rough = slopes(shared, votes, rule)["table"]
    assert (rough * sums["table"]).sum() > 0.99 * np.linalg.norm(rough) * np.linalg.norm(sums["table"])
    for place in ((0, 0), (7, 2), (13, 1)):
        step = np.zeros_like(shared["table"])
        step[place] = 1e-4
        by_table = (profiled(table=shared["table"] + step) - profiled(table=shared["table"] - step)) / 2e-4
        assert sums["table"][place] == pytest.approx(by_table, abs=2e-3)
    by_sharpness = (profiled(sharpness=np.array(1.301)) - profiled(sharpness=np.array(1.299))) / 2e-3
    assert sums["sharpness"] == pytest.approx(by_sharpness, rel=3e-3)


def test_weights_are_added_up_over_people():
    shared, votes = some_pairs("distance")
    rule = Rule("distance", "logistic", 0.5)
    sums = weights(shared, votes, rule)
    assert sums["people"] == 5
    assert sums["weights"].sum() == pytest.approx(5.0)
    assert isinstance(pairs_of(shared, votes), Pairs)
