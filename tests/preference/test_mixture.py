"""Kinds of people: the closed forms, what little evidence may do, and who is helped by a router."""

import copy
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import expit, logsumexp

from penchant.encoders import Apart, Attributes
from penchant.errors import SettingsError
from penchant.preference import BradleyTerry, read_votes
from penchant.preference.mixture import Mixture, hedge, hedge_each, irreducible_error
from penchant.preference.shards import Shards
from penchant.records import Comparisons, canonical_json

TASTES = {"short": [4.0, 0.0], "warm": [0.0, 4.0], "cold": [-1.0, -4.0]}


class Words:
    """Texts as counts of some words."""

    name = "words"
    known = ("brief", "terse", "kind", "gentle", "cool", "dry", "please", "now")

    def encode(self, payloads):
        return np.array([[text.split().count(word) for word in self.known] for text in payloads], np.float32)


def voters(kinds, n_each=10, *, seed=0, named=True, asks=None):
    """People of some kinds, who say what they want if `asks` has words for it."""
    rng = np.random.default_rng(seed)
    rows = []
    for person, kind in enumerate(kinds):
        for _ in range(n_each):
            first, second = rng.standard_normal((2, 2))
            if rng.random() > expit((first - second) @ TASTES[kind]):
                first, second = second, first
            chosen, rejected = (
                canonical_json(dict(zip("ab", map(float, one), strict=True))) for one in (first, second)
            )
            rows.append({"prompt": "q", "chosen": chosen, "rejected": rejected})
            if named:
                rows[-1]["user"] = f"{kind}{person}"
            if asks:
                rows[-1]["context"] = str(rng.choice(asks[kind]))
    return Comparisons.from_rows(rows)


def crowd(n=90, **how):
    return voters((list(TASTES) * n)[:n], **how)


def test_a_single_reward_cannot_learn_which_kind_of_person_voted():
    shares, logits = np.array([0.6, 0.4]), np.array([2.0, -1.0])
    p = shares @ expit(logits)
    best = minimize_scalar(lambda z: -p * np.log(expit(z)) - (1 - p) * np.log(expit(-z))).fun
    known = sum(s * -(q * np.log(q) + (1 - q) * np.log(1 - q)) for s, q in zip(shares, expit(logits), strict=True))
    assert irreducible_error(shares, logits) == pytest.approx(best - known)
    assert irreducible_error([0.5, 0.5], [60.0, -60.0]) == pytest.approx(np.log(2))
    assert irreducible_error([0.2, 0.8], [1.5, 1.5]) == pytest.approx(0, abs=1e-15)


losses = st.lists(st.lists(st.floats(0, 50), min_size=3, max_size=3), min_size=1, max_size=30)


@given(losses, st.lists(st.floats(0.01, 1), min_size=3, max_size=3))
def test_for_any_sequence_the_mixture_loses_no_more_than_the_best_head_and_its_price(losses, prior):
    loss, log_prior = np.array(losses), np.log(np.array(prior) / np.sum(prior))
    weights = hedge(log_prior, -loss)
    ours = -logsumexp(weights[:-1] - loss, axis=1).sum()
    assert ours <= (loss.sum(axis=0) - log_prior).min() + 1e-9
    assert ours == pytest.approx(-logsumexp(log_prior - loss.sum(axis=0)))  # it is Bayes' evidence


def test_weights_by_hedge_are_bayes_rule_and_with_drift_part_of_them_returns():
    prior, likelihood = np.array([0.5, 0.3, 0.2]), np.array([[0.9, 0.5, 0.1], [0.2, 0.5, 0.8]])
    posterior = prior * likelihood.prod(axis=0)
    bayes = np.exp(hedge(np.log(prior), np.log(likelihood)))
    np.testing.assert_allclose(bayes[-1], posterior / posterior.sum())
    drifting = np.exp(hedge(np.log(prior), np.log(likelihood[:1]), drift=0.25))
    np.testing.assert_allclose(drifting[-1], 0.75 * bayes[1] + 0.25 * prior)
    careful = np.exp(hedge(np.log(prior), np.log(likelihood[:1]), learning_rate=0.5))
    half = prior * likelihood[0] ** 0.5
    np.testing.assert_allclose(careful[-1], half / half.sum())


@pytest.mark.parametrize("drift", [0.0, 0.2])
def test_many_people_at_once_are_learnt_as_each_alone(drift):
    rng = np.random.default_rng(0)
    person, log_likelihood = rng.integers(5, size=40), -rng.random((40, 3))
    log_prior = np.log([0.5, 0.3, 0.2])
    begin = np.tile(log_prior, (6, 1))  # the last one has no pairs
    at_once = hedge_each(begin, log_likelihood, person, log_prior, drift=drift)
    for row in range(6):
        alone = hedge(log_prior, log_likelihood[person == row], drift=drift)[-1]
        np.testing.assert_allclose(at_once[row], alone, atol=1e-12)


@pytest.fixture(scope="module")
def fitted():
    return Mixture(encoder=Attributes()).fit(crowd())


def test_kinds_are_found_and_each_person_is_given_theirs(fitted):
    assert len(fitted.heads_) == 3
    new = voters(["short", "warm", "cold"] * 10, 8, seed=7)
    fitted.adapt_each(new)
    held_out = voters(["short", "warm", "cold"] * 10, 40, seed=8)
    for_all = BradleyTerry(encoder=Attributes()).fit(crowd()).probability(held_out)
    for_each = fitted.probability(held_out)
    assert (for_each > 0.5).mean() > (for_all > 0.5).mean() + 0.15
    likeliest = {
        kind: {int(fitted.users_[f"{kind}{i}"].weights.argmax()) for i in range(30) if f"{kind}{i}" in fitted.users_}
        for kind in TASTES
    }
    assert sorted(len(heads) for heads in likeliest.values()) == [1, 1, 1]
    assert len(set.union(*likeliest.values())) == 3


def test_probabilities_are_averaged_and_not_rewards(fitted):
    pair = crowd(3, n_each=1, named=False)
    z = np.stack([fitted.rewards(["q"] * 3, pair.table[side].to_pylist()) for side in ("chosen", "rejected")])
    expected = expit(z[0] - z[1]) @ fitted.shares_
    np.testing.assert_allclose(fitted.probability(pair), expected, atol=1e-6)
    rewards = fitted.reward(["q"] * 3, pair.table["chosen"].to_pylist())
    np.testing.assert_allclose(rewards, z[0] @ fitted.shares_, atol=1e-6)


def test_no_pairs_leave_a_person_like_everybody_and_one_pair_moves_them_by_its_likelihood(fitted):
    nothing = fitted.adapt("new", crowd().take([]))
    np.testing.assert_allclose(nothing.weights, fitted.shares_)
    one = voters(["warm"], 1)
    z = np.subtract(*(fitted.rewards(["q"], one.table[side].to_pylist())[0] for side in ("chosen", "rejected")))
    expected = fitted.shares_ * expit(z)
    np.testing.assert_allclose(fitted.adapt("new", one).weights, expected / expected.sum(), atol=1e-6)


@pytest.mark.parametrize("drift", [0.0, 0.3])
def test_what_is_observed_later_adds_to_what_was_known(fitted, drift):
    pairs = voters(["warm"], 6)
    fitted = copy.copy(fitted)
    fitted.drift = drift
    at_once = fitted.adapt("new", pairs)
    fitted.adapt("new", pairs.take([0, 1]))
    later = fitted.observe("new", pairs.take([2, 3, 4, 5]))
    np.testing.assert_allclose(later.weights, at_once.weights, atol=1e-9)
    assert later.n_pairs == at_once.n_pairs == 6
    assert drift or later.log_evidence == pytest.approx(at_once.log_evidence)


def test_a_person_who_was_sure_of_one_kind_can_still_turn_out_to_be_another(fitted):
    fitted.adapt("new", voters(["warm"], 300))
    assert fitted.users_["new"].weights.min() >= 1e-13
    assert fitted.observe("new", voters(["short"], 300)).weights.min() >= 1e-13


def test_weights_are_written_by_hand_as_shares(fitted):
    fitted.adapt("new", voters(["warm"], 2))
    np.testing.assert_allclose(fitted.edit("new", weights=[2.0, 1.0, 1.0]).weights, [0.5, 0.25, 0.25])
    with pytest.raises(SettingsError, match="negative"):
        fitted.edit("new", weights=[2.0, -1.0, 0.0])


def test_people_of_one_mind_keep_the_reward_of_everybody():
    alike = voters(["warm"] * 60)
    mixture, pooled = Mixture(encoder=Attributes()).fit(alike), BradleyTerry(encoder=Attributes()).fit(alike)
    assert len(mixture.heads_) == 1
    mixture.adapt_each(alike)
    new = voters(["warm"] * 60, 3, seed=1)
    np.testing.assert_allclose(mixture.probability(new), pooled.probability(new), atol=1e-6)


def test_a_router_understands_wishes_in_other_words():
    asks = {"short": ["brief", "brief please"], "warm": ["kind", "kind now"], "cold": ["cool", "cool please"]}
    other = {"short": ["brief now"], "warm": ["kind please"], "cold": ["cool now"]}
    model = Mixture(encoder=Apart(Attributes(), Words()), n_heads=3).fit(crowd())
    assert model.router_ is None
    model.route(voters(list(TASTES), 20, named=False, asks=asks, seed=3))
    new = voters(list(TASTES), 100, named=False, asks=other, seed=4)
    plain = Comparisons(new.table.drop_columns(["context"]))
    assert (model.probability(new) > 0.5).mean() > (model.probability(plain) > 0.5).mean() + 0.15
    texts = new.table["chosen"].to_pylist()[:5]
    np.testing.assert_array_equal(model.reward(["q"] * 5, texts, context=""), model.reward(["q"] * 5, texts))
    assert np.abs(model.reward(["q"] * 5, texts, context="brief") - model.reward(["q"] * 5, texts)).max() > 0.1


def test_wishes_that_tell_nothing_are_no_router():
    anything = {kind: ["please", "now", "please now"] for kind in TASTES}
    model = Mixture(encoder=Apart(Attributes(), Words()), n_heads=3).fit(crowd())
    assert model.route(voters(list(TASTES), 20, named=False, asks=anything)).router_ is None


def prompted(kinds, n_each, seed=0):
    """Votes of nobody named, whose prompt is typical of the kind of person who asks."""
    words = {"short": "brief now", "warm": "kind please", "cold": "cool dry"}
    asked = voters(kinds, n_each, seed=seed, named=False, asks={kind: [word] for kind, word in words.items()})
    names = [
        "context" if name == "prompt" else "prompt" if name == "context" else name for name in asked.table.column_names
    ]
    return Comparisons(asked.table.rename_columns(names).drop_columns(["context"]))


def test_where_nobody_is_named_a_gate_reads_the_prompt(tmp_path):
    encoder = Apart(Attributes(), Words())
    learnt = prompted(list(TASTES) * 10, 50)
    model = Mixture(encoder=encoder, n_heads=3).fit(learnt)
    new = prompted(list(TASTES), 200, seed=5)
    place = new.table.schema.get_field_index("prompt")
    unread = Comparisons(new.table.set_column(place, "prompt", [["q"] * len(new)]))
    assert (model.probability(new) > 0.5).mean() > (model.probability(unread) > 0.5).mean() + 0.1
    model.save(tmp_path)
    again = Mixture.load(tmp_path, encoder=encoder)
    np.testing.assert_array_equal(again.probability(new), model.probability(new))
    np.testing.assert_allclose(
        model.reward(["kind please", "cool dry"], new.table["chosen"].to_pylist()[:2])[0],
        model.reward(["kind please"], new.table["chosen"].to_pylist()[:1])[0],
    )


def test_named_people_have_no_gate():
    learnt = prompted(list(TASTES) * 10, 10)
    users = [[f"u{i // 10}" for i in range(len(learnt))]]
    named = Comparisons(learnt.table.set_column(learnt.table.schema.get_field_index("user"), "user", users))
    encoder = Apart(Attributes(), Words())
    assert Mixture(encoder=encoder, n_heads=3).fit(named).gate_ is None
    assert Mixture(encoder=encoder, n_heads=3, by_person=False).fit(named).gate_ is not None


def test_votes_that_are_numbers_already_give_the_same_in_shards_of_any_size():
    votes = read_votes(Attributes(), crowd())
    plain = Mixture(encoder=Attributes(), n_heads=3).fit(crowd())
    in_shards = Mixture(encoder=Attributes(), n_heads=3).fit_votes(votes, shards=partial(Shards, people_per_shard=4))
    np.testing.assert_allclose(in_shards.heads_, plain.heads_, atol=1e-4)
    plain.adapt_each(crowd())
    in_shards.adapt_votes(votes)
    np.testing.assert_allclose(in_shards.users_.column("weights"), plain.users_.column("weights"), atol=1e-5)


def test_more_votes_than_decide_the_number_of_heads_still_say_what_they_are(monkeypatch):
    exact = Mixture(encoder=Attributes(), n_heads=3, l2=1.0, prior_precision=1.0).fit(crowd())
    monkeypatch.setattr("penchant.preference.mixture._MEASURED_ON", 300)
    sampled = Mixture(encoder=Attributes(), n_heads=3, l2=1.0, prior_precision=1.0).fit(crowd())
    tastes = [model.heads_ / model.scale_ for model in (exact, sampled)]
    nearest = np.abs(tastes[0][:, None] - tastes[1][None]).max(axis=2).min(axis=1)
    assert nearest.max() < 0.05


def test_a_model_can_be_fitted_again_on_payloads_of_other_columns():
    model = Mixture(encoder=Attributes()).fit(crowd(6))
    wider = crowd(6).table.to_pylist()
    rows = [row | {side: row[side][:-1] + ',"c":1.0}' for side in ("chosen", "rejected")} for row in wider]
    assert model.fit(Comparisons.from_rows(rows)).heads_.shape[1] == 3


def test_more_heads_than_pairs_can_tell_apart_are_warned_of():
    with pytest.warns(UserWarning, match="6 pairs for 5 heads of 2 numbers"):
        Mixture(encoder=Attributes(), n_heads=5).fit(crowd(3, n_each=2))


@pytest.mark.parametrize(
    "wrong",
    [{"n_heads": 0}, {"restarts": 0}, {"learning_rate": 0.0}, {"drift": 1.0}, {"l2": 0.0}, {"prior_precision": -1.0}],
)
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(SettingsError):
        Mixture(encoder=Attributes(), **wrong)
