"""Ideal points: geometry on numbers, groups found again, nobody worse off where people are alike."""

import copy
import hashlib
from functools import partial

import numpy as np
import pytest
import torch

from penchant.encoders import Attributes
from penchant.errors import SettingsError
from penchant.people import population
from penchant.preference import BradleyTerry
from penchant.preference.ideal_point import IdealPoint, UserPoint
from penchant.preference.localise import SCORES as RATES
from penchant.preference.pooled import pooled
from penchant.preference.profiles import Profiles
from penchant.preference.shards import Shards
from penchant.preference.tastes import Prompts, Space, alike, begin, with_gradient
from penchant.preference.votes import Votes
from penchant.records import Comparisons, canonical_json

SCORES = ("squared", "distance", "angle")


def votes_of(tastes, n_pairs, *, n_items=400, seed=0, vectors=None):
    """Votes of people with linear tastes, [people, dim]."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n_items, tastes.shape[1])) if vectors is None else vectors
    user = np.repeat(np.arange(len(tastes)), n_pairs)
    first, second = rng.integers(n_items, size=len(user)), rng.integers(n_items, size=len(user))
    second = np.where(first == second, (second + 1) % n_items, second)
    ahead = ((x[first] - x[second]) * tastes[user]).sum(1)
    wins = rng.random(len(user)) < 1 / (1 + np.exp(-ahead))
    names = tuple(f"p{place:04d}" for place in range(len(tastes)))
    return Votes(
        x.astype(np.float32),
        np.where(wins, first, second),
        np.where(wins, second, first),
        np.ones(len(user), np.float32),
        np.zeros(len(user), np.float32),
        user,
        names,
    )


def groups(n_people=90, *, dim=6, seed=0):
    people = population(n_people, n_features=dim, kind="groups", n_groups=3, strength=4.0, spread=3.0, seed=seed)
    return people.tastes, people.groups


def expected_accuracy(model, tastes, names, *, seed=99):
    """Of each person, over choices whose probabilities are known."""
    rng = np.random.default_rng(seed)
    a, b = rng.standard_normal((2, 500, tastes.shape[1])).astype(np.float32)
    right = []
    for taste, name in zip(tastes, names, strict=True):
        p = 1 / (1 + np.exp(-(a - b) @ taste))
        says = model.reward_of(a, user=name) > model.reward_of(b, user=name)
        right.append(np.where(says, p, 1 - p).mean())
    return np.array(right)


@pytest.fixture(scope="module")
def fitted():
    """A model of ninety people of three kinds, and what is true of them."""
    tastes, kinds = (known[:90] for known in groups(130))
    votes = votes_of(tastes, 24)
    model = IdealPoint(encoder=Attributes(), n_prototypes=3, steps=120).fit_votes(votes).adapt_votes(votes)
    return model, tastes, kinds, votes


# Geometry -------------------------------------------------------------------------------------------------------------


def some_space(score, *, dim_prompt=0):
    torch.manual_seed(0)
    space = Space(5, 4, 8, 3, dim_prompt, score)
    with torch.no_grad():
        space.log_reach.fill_(np.log(1.7))
    return space


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("dim_prompt", [0, 2])
def test_rewards_are_what_the_distances_say(score, dim_prompt):
    space = some_space(score, dim_prompt=dim_prompt)
    rng = np.random.default_rng(0)
    x, asked = torch.from_numpy(rng.standard_normal((9, 5))), torch.from_numpy(rng.integers(3, size=9))
    prompts = torch.from_numpy(rng.standard_normal((3, dim_prompt))) if dim_prompt else None
    w = rng.dirichlet(np.ones(3))
    with torch.no_grad():
        f = (space.linear(x) + space.curved(x)).numpy()
        p = space.prototypes[None].numpy()
        if dim_prompt:
            p = (p + np.stack([head(prompts).numpy() for head in space.heads], axis=1))[asked]
        tables = space(x, prompts, asked)
        between = tables.between[asked] if dim_prompt else tables.between
        found = RATES[score](torch.from_numpy(w)[None].expand(9, 3), tables.table, between) * tables.sharpness
    z = np.broadcast_to((w[:, None] * p).sum(1), f.shape)
    if score == "angle":
        where = np.concatenate([f, np.full((9, 1), 1.7)], axis=1)
        expected = 1.7 * (f * z).sum(1) / np.linalg.norm(where, axis=1) / np.linalg.norm(z, axis=1)
    else:
        away = np.linalg.norm(f - 1.7 * z, axis=1)
        expected = -away if score == "distance" else -(away**2) / (2 * 1.7)
    gap = found.numpy() - expected
    same_prompt = asked[:, None] == asked[None] if dim_prompt else torch.ones(9, 9, dtype=torch.bool)
    if score == "squared":  # up to what is the same for all responses to a prompt
        gap = np.where(same_prompt, gap[:, None] - gap[None], 0.0)
    np.testing.assert_allclose(gap, 0.0, atol=1e-10)


@pytest.mark.parametrize("score", SCORES)
def test_an_ideal_point_infinitely_far_away_is_the_pooled_reward(score):
    tastes, _ = groups(30)
    votes = votes_of(tastes, 20)
    everybody = pooled(votes)
    space = Space(6, 4, 8, 3, 0, score)
    alike(space, everybody)
    x = torch.from_numpy(votes.vectors / everybody.scale)
    with torch.no_grad():
        tables = space(x)
        rewards = (
            RATES[score](torch.tensor([[0.2, 0.3, 0.5]]).double(), tables.table, tables.between) * tables.sharpness
        )
    linear = x.numpy() @ everybody.weights
    np.testing.assert_allclose(rewards.numpy() - rewards.mean().item(), linear - linear.mean(), atol=0.03)


def test_learning_begins_at_the_pooled_reward_with_prototypes_apart_where_people_differ():
    tastes, kinds = groups(60)
    votes = votes_of(tastes, 40)
    everybody = pooled(votes)
    torch.manual_seed(0)
    space = Space(6, 8, 8, 3, 0, "squared")
    begin(space, votes, everybody)
    x = torch.from_numpy(votes.vectors / everybody.scale)
    with torch.no_grad():
        tables = space(x)
    # The linear part of each prototype's reward, against what each group really wants.
    found = np.linalg.lstsq(np.c_[x.numpy(), np.ones(len(x))], tables.table.numpy(), rcond=None)[0][:6]
    wanted = np.stack([tastes[kinds == kind].mean(axis=0) for kind in range(3)])
    apart, truly = found.T - found.mean(1), wanted - wanted.mean(0)
    cosine = apart @ truly.T / np.linalg.norm(apart, axis=1)[:, None] / np.linalg.norm(truly, axis=1)
    assert sorted(cosine.argmax(axis=1).tolist()) == [0, 1, 2]
    assert (cosine.max(axis=1) > 0.8).all()
    linear = x.numpy() @ everybody.weights
    middle = tables.table.numpy().mean(1)
    assert np.corrcoef(middle, linear)[0, 1] > 0.99


def test_a_gradient_that_was_computed_elsewhere_arrives():
    at = torch.tensor([1.0, 2.0], requires_grad=True)
    value = with_gradient(5.0, [at * 3], [np.array([1.0, -1.0])])
    value.backward()
    assert value.item() == 5.0
    assert at.grad.tolist() == [3.0, -3.0]


# Learning -------------------------------------------------------------------------------------------------------------


def test_groups_are_found_again_and_everybody_is_served_by_their_own(fitted):
    from sklearn.metrics import adjusted_rand_score

    model, tastes, kinds, votes = fitted
    assert model.is_personal_
    found = model.users_.column("weights").argmax(axis=1)
    assert adjusted_rand_score(kinds, found) > 0.9
    own = expected_accuracy(model, tastes, votes.people)
    best = expected_accuracy(Truth(tastes, votes.people), tastes, votes.people)
    for_all = expected_accuracy(model, tastes, [None] * len(tastes))
    assert own.mean() > for_all.mean() + 0.1
    assert own.mean() > best.mean() - 0.03
    assert (own < for_all).mean() <= 0.05


class Truth:
    """Everybody's own taste."""

    def __init__(self, tastes, names):
        self.tastes = dict(zip(names, tastes, strict=True))

    def reward_of(self, vectors, *, user):
        return vectors @ self.tastes[user]


def test_eight_choices_of_a_newcomer_bring_most_of_what_many_do_and_touch_nothing_shared(fitted):
    model = copy.copy(fitted[0])
    model.users_ = Profiles(UserPoint)
    before = digest(model)
    newcomers, names = groups(130)[0][90:], [f"p{place:04d}" for place in range(40)]
    few, many = (
        expected_accuracy(model.adapt_votes(votes_of(newcomers, n, seed=7)), newcomers, names) for n in (8, 200)
    )
    for_all = expected_accuracy(model, newcomers, [None] * 40)
    assert few.mean() - for_all.mean() > 0.75 * (many.mean() - for_all.mean()) > 0.1
    assert digest(model) == before


def digest(model):
    arrays = model._state()[0]
    shared = [arrays[name].tobytes() for name in sorted(arrays) if not name.startswith("users")]
    return hashlib.sha256(b"".join(shared)).hexdigest()


def test_people_who_are_alike_keep_exactly_the_pooled_reward():
    people = population(60, n_features=6, kind="alike", strength=3.0, seed=1)
    votes = votes_of(people.tastes, 20)
    model = IdealPoint(encoder=Attributes()).fit_votes(votes).adapt_votes(votes)
    assert not model.is_personal_
    everybody = pooled(votes)
    rng = np.random.default_rng(2)
    a, b = rng.standard_normal((2, 500, 6)).astype(np.float32)
    linear = ((a - b) / everybody.scale @ everybody.weights) > 0
    assert (((model.reward_of(a, user="p0003") > model.reward_of(b, user="p0003")) == linear).mean()) > 0.99


@pytest.mark.parametrize(
    "settings", [{"score": "distance", "loss": "hinge"}, {"score": "distance"}, {"score": "angle"}]
)
def test_every_score_and_loss_serves_groups_better_than_one_reward(settings):
    tastes, _ = groups()
    votes = votes_of(tastes, 24)
    model = IdealPoint(encoder=Attributes(), n_prototypes=3, steps=60, **settings).fit_votes(votes).adapt_votes(votes)
    own = expected_accuracy(model, tastes, votes.people)
    for_all = expected_accuracy(model, tastes, [None] * len(tastes))
    assert own.mean() > for_all.mean() + 0.08
    p = 1 / (1 + np.exp(-model.reward_of(votes.vectors[votes.chosen], user="p0000")))
    assert np.isfinite(p).all()


def test_ideal_points_may_depend_on_what_was_asked():
    # Half of all people want x where the prompt says 1 and the opposite where it says -1; the others the reverse.
    rng = np.random.default_rng(0)
    n_people, n = 40, 40 * 30
    user = np.repeat(np.arange(n_people), 30)
    x, said = rng.standard_normal((n, 2)), rng.integers(2, size=n)
    likes = np.where(user % 2, 1, -1) * np.where(said, 1, -1)
    high, low = x.max(1), x.min(1)
    chosen = np.where(likes > 0, high, low)
    vectors = np.concatenate([chosen, np.where(likes > 0, low, high)])[:, None].astype(np.float32)
    votes = Votes(
        vectors,
        np.arange(n),
        np.arange(n, 2 * n),
        np.ones(n, np.float32),
        np.zeros(n, np.float32),
        user,
        tuple(f"p{i:02d}" for i in range(n_people)),
    )
    prompts = Prompts(np.array([[-1.0], [1.0]], dtype=np.float32), np.tile(said, 2))
    by_prompt = IdealPoint(encoder=Attributes(), n_prototypes=2, steps=100, ideals="prompt")
    by_prompt.fit_votes(votes, prompts=prompts)
    by_prompt.adapt_votes(votes, prompts=prompts)
    asked = [Prompts(prompts.vectors, np.array([place, place])) for place in (0, 1)]
    two = np.array([[1.0], [-1.0]], dtype=np.float32)
    for person, sign in (("p01", 1), ("p02", -1)):
        low_prompt, high_prompt = (by_prompt.reward_of(two, user=person, prompts=one) for one in asked)
        assert sign * (high_prompt[0] - high_prompt[1]) > 0.5
        assert sign * (low_prompt[0] - low_prompt[1]) < -0.5


def test_the_fit_is_the_same_however_people_are_cut_into_shards():
    votes = votes_of(groups(40)[0], 20)
    fits = [
        IdealPoint(encoder=Attributes(), steps=10, prior_precision=1.0).fit_votes(
            votes, shards=partial(Shards, people_per_shard=size)
        )
        for size in (4096, 7)
    ]
    some = votes.vectors[:50]
    np.testing.assert_allclose(fits[0].reward_of(some), fits[1].reward_of(some), atol=1e-8)


def test_vectors_are_read_as_they_are_with_the_same_result_as_standardised(fitted):
    model, _, _, votes = fitted
    slow, fast = (read(votes.vectors, None) for read in (model.shared_.tables, model.shared_.final_tables))
    np.testing.assert_allclose(fast["table"], slow["table"], atol=1e-10)


# Records and what is kept ---------------------------------------------------------------------------------------------


def rows(user, n=12, *, likes=1.0, seed=0):
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(n):
        low, high = sorted(rng.standard_normal(2).round(3).tolist())
        first, second = (high, low) if likes > 0 else (low, high)
        payloads = {side: canonical_json({"x": v}) for side, v in (("chosen", first), ("rejected", second))}
        made.append({"prompt": "q", "user": user, **payloads})
    return made


def test_an_encoder_that_reads_no_prompts_makes_ideal_points_fixed():
    comparisons = Comparisons.from_rows([row for i in range(6) for row in rows(f"u{i}", seed=i)])
    fixed, asked = (
        IdealPoint(encoder=Attributes(), ideals=ideals, steps=10).fit(comparisons) for ideals in ("fixed", "prompt")
    )
    np.testing.assert_array_equal(fixed.probability(comparisons), asked.probability(comparisons))


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"n_prototypes": 0}, "n_prototypes"),
        ({"n_prototypes": 9, "dim": 8}, "dim"),
        ({"score": "cosine"}, "score"),
        ({"loss": "square"}, "loss"),
        ({"ideals": "other"}, "ideals"),
        ({"prior_precision": 0.0}, "prior_precision"),
        ({"learning_rate": float("nan")}, "learning_rate"),
    ],
)
def test_settings_out_of_range_are_named(settings, word):
    with pytest.raises(SettingsError, match=word):
        IdealPoint(encoder=Attributes(), **settings)


@pytest.mark.parametrize(
    "made",
    [
        [row for likes in (1, -1) for row in rows("only", 20, likes=likes)],
        [row for i in range(500) for row in rows(f"u{i}", 1, seed=i)],
        [row for i in range(5) for likes in (1, -1) for row in rows(f"u{i}", 6, likes=likes, seed=i)],
        [{**row, "user": None} for row in rows("", 40)],
    ],
    ids=["one undecided person", "one comparison each", "contradictions", "nobody named"],
)
def test_thin_or_contradictory_votes_leave_everybody_with_the_pooled_reward(made):
    comparisons = Comparisons.from_rows(made)
    model = IdealPoint(encoder=Attributes(), steps=20).fit(comparisons).adapt_each(comparisons)
    linear = BradleyTerry(encoder=Attributes()).fit(comparisons)
    some = [canonical_json({"x": float(v)}) for v in np.linspace(-1, 1, 5)]
    gaps = [np.diff(one.reward(["q"] * 5, some)) for one in (model, linear)]
    np.testing.assert_allclose(gaps[0], gaps[1], rtol=0.01, atol=0.02)


def test_weights_written_by_hand_must_lie_on_the_simplex():
    comparisons = Comparisons.from_rows([row for i in range(6) for row in rows(f"u{i}", seed=i)])
    model = IdealPoint(encoder=Attributes(), n_prototypes=2, steps=5).fit(comparisons).adapt_each(comparisons)
    assert model.edit("u1", weights=[0.25, 0.75]).weights.tolist() == [0.25, 0.75]
    with pytest.raises(SettingsError, match="sum to 1"):
        model.edit("u1", weights=[0.5, 0.75])


def test_nobody_without_pairs_moves_from_the_population(fitted):
    model, *_ = fitted
    nothing = Comparisons.from_rows([])
    assert model.adapt("new", nothing).n_pairs == 0
    np.testing.assert_allclose(model.users_["new"].weights, model.population_)
    del model.users_["new"]
