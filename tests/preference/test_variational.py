"""Hidden wants inferred from a few choices: the mathematics, what is learnt, and what must never happen."""

import itertools

import numpy as np
import pytest
import tiny_model
import torch
from scipy.special import erf, expit
from torch.distributions import Normal, kl_divergence

from penchant.encoders import HiddenState
from penchant.errors import DataError, NotFittedError, SettingsError
from penchant.policies.language import LanguagePolicy
from penchant.preference import BradleyTerry
from penchant.preference.descent import seeded
from penchant.preference.variational import (
    Belief,
    Decoder,
    SetEncoder,
    Variational,
    annealed,
    entropy,
    kl_to_prior,
    mapped,
    negative_elbo,
    pair_features,
)
from penchant.records import Comparisons

DIM = 6
ITEMS = np.random.default_rng(1).standard_normal((600, DIM)).astype(np.float32)


class Pool:
    """Payloads that are numbers of items."""

    name, reads_prompts = "pool", False

    def payload(self, turn):
        return turn.response

    def encode(self, payloads):
        return ITEMS[[int(payload) for payload in payloads]]


def choices(tastes, n, *, seed=0, prefix="u", low=0, high=400):
    """What people of known tastes choose among some of the items; odd items at the end are for testing."""
    rng = np.random.default_rng(seed)
    rows = []
    for person, taste in enumerate(tastes):
        pairs = low + np.array([rng.choice(high - low, 2, replace=False) for _ in range(n)])
        first = rng.random(n) < expit((ITEMS[pairs[:, 0]] - ITEMS[pairs[:, 1]]) @ taste)
        for (a, b), is_first in zip(pairs.tolist(), first.tolist(), strict=True):
            chosen, rejected = (a, b) if is_first else (b, a)
            rows.append({"prompt": "", "chosen": str(chosen), "rejected": str(rejected), "user": f"{prefix}{person}"})
    return Comparisons.from_rows(rows)


def shuffled(comparisons, seed=0):
    """The same choices with people's names dealt out anew."""
    names = np.array(comparisons.table["user"].to_pylist())
    table = comparisons.table
    place = table.schema.get_field_index("user")
    return Comparisons(table.set_column(place, "user", [np.random.default_rng(seed).permutation(names).tolist()]))


def tastes(n, *, apart=3.0):
    """Two kinds of people in turn, who agree on one feature and disagree on another."""
    return [np.array([1.5, apart if person % 2 else -apart, 0, 0, 0, 0]) for person in range(n)]


def model(**settings):
    return Variational(encoder=Pool(), **{"latent": 4, "hidden": 32, "context": 8, "epochs": 60} | settings)


@pytest.fixture(scope="module")
def crowd():
    return choices(tastes(120), 12)


@pytest.fixture(scope="module")
def fitted(crowd):
    return model().fit(crowd)


@pytest.fixture(scope="module")
def newcomers():
    new = tastes(40)
    known = choices(new, 8, seed=5, prefix="new", low=400, high=500)
    asked = choices(new, 20, seed=6, prefix="new", low=500, high=600)
    return known, asked


def accuracy(learnt, known, asked):
    learnt.adapt_each(known)
    return (learnt.probability(asked) > 0.5).mean()


# The mathematics


def test_kl_and_entropy_are_those_of_normal_distributions():
    mean, log_variance = torch.randn(2, 5, 3, dtype=torch.float64)
    peer = Normal(mean, (0.5 * log_variance).exp())
    prior = Normal(torch.zeros_like(mean), torch.ones_like(mean))
    torch.testing.assert_close(kl_to_prior(mean, log_variance), kl_divergence(peer, prior).sum(-1))
    np.testing.assert_allclose(entropy(log_variance.exp().numpy()), peer.entropy().sum(-1).numpy())


def nets(seed=0):
    with seeded(seed):
        encoder, decoder = SetEncoder(3, 5, 2).double(), Decoder(3, 5, 2).double()
        pairs = torch.randn(4, 6, 2, 3, dtype=torch.float64)
        strength = torch.rand(4, 6, dtype=torch.float64)
        present = torch.arange(6) < torch.tensor([6, 3, 1, 4])[:, None]
        noise = torch.randn(4, 2, dtype=torch.float64)
    return encoder, decoder, pairs, strength, present, noise


def bound(encoder, decoder, pairs, strength, present, noise, beta=0.3):
    """The evidence lower bound of four sets whose pairs are context where present and targets elsewhere."""
    mean, log_variance = encoder(pair_features(pairs[:, :, 0], pairs[:, :, 1], strength), present)
    wants = (mean + (0.5 * log_variance).exp() * noise)[:, None]
    logits = decoder(pairs[:, :, 0], wants) - decoder(pairs[:, :, 1], wants)
    return negative_elbo(logits, strength, ~present, kl_to_prior(mean, log_variance), beta=beta).mean()


def gelu(x):
    return x * (1 + erf(x / np.sqrt(2))) / 2


def bound_by_hand(encoder, decoder, pairs, strength, present, noise, beta):
    """The same, set by set and pair by pair, in NumPy."""

    def linear(layer, x):
        return x @ layer.weight.detach().numpy().T + (0 if layer.bias is None else layer.bias.detach().numpy())

    def extra(x, z):
        here = linear(decoder.response, x)
        shown = [
            linear(decoder.reward, gelu(linear(decoder.wider, gelu(h))))
            for h in (here + linear(decoder.person, z), here)
        ]
        return float((shown[0] - shown[1])[0])

    total = 0.0
    for one in range(len(pairs)):
        each = []
        for (a, b), s in zip(pairs[one][present[one]].numpy(), strength[one][present[one]].numpy(), strict=True):
            features = np.concatenate([(2 * s - 1) * (a - b), (a + b) / 2, [(2 * s - 1) ** 2]])
            each.append(linear(encoder.pair[2], gelu(linear(encoder.pair[0], features))))
        each = np.array(each)
        scores = linear(encoder.query, each) @ linear(encoder.key, each).T / np.sqrt(each.shape[1])
        attention = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
        heads = linear(encoder.heads, (each + attention @ linear(encoder.value, each)).mean(axis=0))
        precision = 1 + len(each) * np.exp(heads[2:])  # prior and n observations
        mean = len(each) * np.exp(heads[2:]) * heads[:2] / precision
        z = mean + noise[one].numpy() / np.sqrt(precision)
        kl = 0.5 * np.sum(1 / precision + mean**2 - 1 + np.log(precision))
        lost = [
            -s * np.log(expit(extra(a, z) - extra(b, z))) - (1 - s) * np.log(expit(extra(b, z) - extra(a, z)))
            for (a, b), s in zip(pairs[one][~present[one]].numpy(), strength[one][~present[one]].numpy(), strict=True)
        ]
        total += (np.mean(lost) if lost else 0.0) + beta * kl
    return total / len(pairs)


def test_the_bound_is_what_it_is_pair_by_pair():
    parts = nets()
    assert bound(*parts, beta=0.3).item() == pytest.approx(bound_by_hand(*parts, beta=0.3), abs=1e-12)


def test_the_gradient_of_the_bound_is_its_finite_difference():
    encoder, decoder, *rest = nets()
    weights = [*encoder.parameters(), *decoder.parameters()]
    gradients = torch.autograd.grad(bound(encoder, decoder, *rest), weights)
    rng = np.random.default_rng(0)
    for weight, gradient in zip(weights, gradients, strict=True):
        at = tuple(rng.integers(size) for size in weight.shape)
        ahead = []
        with torch.no_grad():
            for change in (1e-5, -1e-5):
                weight[at] += change
                ahead.append(bound_by_hand(encoder, decoder, *rest, beta=0.3))
                weight[at] -= change
        assert gradient[at].item() == pytest.approx((ahead[0] - ahead[1]) / 2e-5, abs=1e-7)


def test_the_order_of_comparisons_padding_and_the_side_of_a_pair_do_not_matter():
    encoder, _, pairs, strength, *_ = nets()
    there = torch.ones(4, 6, dtype=torch.bool)
    plain = encoder(pair_features(pairs[:, :, 0], pairs[:, :, 1], strength), there)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    mirrored = pair_features(pairs[:, order, 1], pairs[:, order, 0], 1 - strength[:, order])
    torch.testing.assert_close(encoder(mirrored, there), plain)
    filled = torch.cat([pair_features(pairs[:, :, 0], pairs[:, :, 1], strength), torch.full((4, 2, 7), 9.0)], dim=1)
    torch.testing.assert_close(encoder(filled.double(), torch.arange(8).expand(4, 8) < 6), plain)
    said_otherwise = pair_features(pairs[:, :, 0], pairs[:, :, 1], 1 - strength)
    assert not torch.allclose(encoder(said_otherwise, there)[0], plain[0])


def test_the_same_evidence_twice_is_nearer_to_it_and_surer_and_little_is_near_the_prior():
    encoder, _, pairs, strength, *_ = nets()
    features = pair_features(pairs[:, :, 0], pairs[:, :, 1], strength)
    found = [encoder(features.repeat(1, times, 1), torch.ones(4, 6 * times, dtype=torch.bool)) for times in (1, 2, 20)]
    sizes, variances = ([one[part].abs() for one in found] for part in (0, 1))
    for less, more in itertools.pairwise(sizes):
        assert (more > less).all()
    for less, more in itertools.pairwise(variances):
        assert (more > less).all()  # logs of variances below 1
    with torch.no_grad():
        encoder.heads.bias[2:] = -8.0  # each comparison hardly says anything
        mean, log_variance = encoder(features, torch.ones(4, 6, dtype=torch.bool))
    assert mean.abs().max() < 0.01
    assert log_variance.abs().max() < 0.02


def test_the_personal_part_vanishes_at_the_prior_mean():
    _, decoder, pairs, *_ = nets()
    assert not decoder(pairs, torch.zeros(2, dtype=torch.float64)).any()
    assert decoder(pairs, torch.ones(2, dtype=torch.float64)).all()


def test_annealing_starts_at_nothing_and_comes_back_to_it_in_each_cycle():
    rising = [annealed(step, 1000, "warm_up") for step in range(1000)]
    assert rising[0] == 0
    assert rising[200:] == [1.0] * 800
    waves = np.array([annealed(step, 1000, "cyclical", cycles=4) for step in range(1000)])
    assert np.flatnonzero(waves == 0).tolist() == [0, 250, 500, 750]
    assert (waves == 1).mean() == pytest.approx(0.5, abs=0.01)


# What is learnt


def test_a_few_choices_tell_kinds_of_people_apart_and_other_peoples_choices_do_not(crowd, fitted, newcomers):
    known, asked = newcomers
    everybody = (fitted.probability(asked) > 0.5).mean()  # before anybody is known
    placebo = model().fit(shuffled(crowd))
    assert accuracy(fitted, known, asked) > everybody + 0.1
    assert abs(accuracy(placebo, shuffled(known), asked) - everybody) < 0.03
    assert fitted.trust_ >= 0.5
    assert fitted.told_ > 0.1
    assert abs(placebo.told_) < 0.03


def test_everybody_is_bradley_terry_and_so_is_somebody_unknown(crowd, fitted):
    pooled = BradleyTerry(encoder=Pool(), prior_precision=1.0).fit(crowd)
    some = [str(item) for item in range(400, 500)]
    expected = pooled.reward([""] * 100, some)
    np.testing.assert_allclose(fitted.reward([""] * 100, some), expected, rtol=0, atol=1e-9)
    np.testing.assert_array_equal(fitted.reward([""] * 100, some, user="who"), fitted.reward([""] * 100, some))
    assert fitted.belief("who").n_pairs == 0
    assert fitted.belief("who").entropy == pytest.approx(4 * 0.5 * np.log(2 * np.pi * np.e))
    nothing = fitted.adapt("silent", Comparisons.from_rows([]))
    assert (nothing.n_pairs, nothing.mean.any()) == (0, False)


def test_where_people_are_alike_nobody_pays_for_being_personalised():
    alike = tastes(120, apart=0.0)
    learnt = model().fit(choices(alike, 12, seed=3))
    known, asked = choices(alike[:40], 8, seed=5, low=400, high=500), choices(alike[:40], 40, seed=6, low=500, high=600)
    everybody = (learnt.probability(asked) > 0.5).mean()
    assert accuracy(learnt, known, asked) >= everybody - 0.005


def test_a_belief_that_collapsed_is_seen_and_leaves_everybody(crowd, newcomers):
    collapsed = model(beta=100.0, epochs=30).fit(crowd)
    assert abs(collapsed.told_) < 0.01
    everybody = (collapsed.probability(newcomers[1]) > 0.5).mean()
    assert abs(accuracy(collapsed, *newcomers) - everybody) < 0.03


def test_beliefs_become_surer_with_evidence(fitted, newcomers):
    known, _ = newcomers
    one, eight = (
        np.mean([fitted.adapt("x", known.of(user).take(range(n))).entropy for user in known.users[:20]]) for n in (1, 8)
    )
    prior = fitted.belief(None).entropy
    assert eight < one < prior


def test_the_map_of_hidden_wants_is_the_same_in_use_as_in_training(crowd, newcomers):
    assert mapped(torch.tensor([3.0, 4.0]), "sphere").norm().item() == pytest.approx(2**0.5)
    assert mapped(torch.tensor([3.0, 4.0]), "plain").tolist() == [3.0, 4.0]
    assert not mapped(torch.zeros(2), "sphere").any()
    sphere = model(latent_map="sphere").fit(crowd)
    everybody = (sphere.probability(newcomers[1]) > 0.5).mean()
    assert accuracy(sphere, *newcomers) > everybody + 0.1
    belief = sphere.belief("new0")
    some = ([""] * 3, ["500", "501", "502"])
    before = sphere.reward(*some, user="new0")
    sphere.users_["new0"] = Belief(7 * belief.mean, belief.variance, belief.n_pairs)  # its length never mattered
    np.testing.assert_allclose(sphere.reward(*some, user="new0"), before)


def test_states_of_a_language_model_are_only_another_encoder(tmp_path):
    encoder = HiddenState(LanguagePolicy(tiny_model.write(tmp_path)))
    likes = [("yes yes", "no"), ("no", "yes yes")]

    def said(people, n):
        return Comparisons.from_rows(
            {"prompt": f"{k} {j}?", "chosen": likes[k % 2][0], "rejected": likes[k % 2][1], "user": f"u{k}"}
            for k in people
            for j in range(n)
        )

    learnt = Variational(encoder=encoder, latent=2, hidden=16, epochs=40).fit(said(range(24), 5))
    learnt.adapt_each(said([24, 25, 26, 27], 3))
    for k in (24, 25, 26, 27):
        liked, other = learnt.reward([f"{k} 4?"] * 2, list(likes[k % 2]), user=f"u{k}")
        assert liked > other


# Questions


def answered(questions, rows, answers):
    """Questions with answers, 1 for the side that stands as chosen."""
    asked = questions.take(rows).table.to_pylist()
    return Comparisons.from_rows(
        [row | {"strength": float(answer)} for row, answer in zip(asked, answers, strict=True)]
    )


@pytest.mark.parametrize("size", [1, 2])
def test_information_gain_is_the_expected_fall_of_entropy_over_all_answers(fitted, newcomers, size):
    known, asked = (part.of("new3") for part in newcomers)
    sets = np.array(list(itertools.combinations(range(4), size)))
    found = fitted.information_gain(asked, known, sets=sets, n_draws=500, seed=3)
    moments = fitted.information_gain(asked, known, sets=sets, n_draws=500, seed=3, formula="moment_matched")
    before = fitted.adapt("x", known)
    wants = before.mean + np.sqrt(before.variance) * np.random.default_rng(3).standard_normal((500, 4))
    chances = []
    for want in wants:
        fitted.users_["x"] = Belief(want, before.variance, 1)
        rewards = [fitted.reward([""] * 20, asked.table[side].to_pylist(), user="x") for side in ("chosen", "rejected")]
        chances.append(expit(rewards[0] - rewards[1]))
    for gain, moment, rows in zip(found, moments, sets, strict=True):
        weights, beliefs = [], []
        for answers in itertools.product([0, 1], repeat=size):
            asked_now = answered(asked, rows, answers)
            both = Comparisons.from_rows(known.table.to_pylist() + asked_now.table.to_pylist())
            beliefs.append(fitted.adapt("x", both))
            each = np.array(chances)[:, rows]
            weights.append(np.where(np.array(answers) == 1, each, 1 - each).prod(axis=1).mean())
        assert sum(weights) == pytest.approx(1)
        after = sum(w * one.entropy for w, one in zip(weights, beliefs, strict=True))
        assert gain == pytest.approx(before.entropy - after, abs=1e-9)
        centre = sum(w * one.mean for w, one in zip(weights, beliefs, strict=True))
        total = sum(w * (one.variance + (one.mean - centre) ** 2) for w, one in zip(weights, beliefs, strict=True))
        by_hand = 0.5 * np.log(total).sum()
        by_hand -= sum(w * 0.5 * np.log(one.variance).sum() for w, one in zip(weights, beliefs, strict=True))
        assert moment == pytest.approx(by_hand, abs=1e-9)


def test_questions_that_are_not_there_and_formulas_nobody_knows_are_clear_errors(fitted, newcomers):
    known, asked = (part.of("new3") for part in newcomers)
    for wrong in ([[20]], [[-1]], [0, 1]):
        with pytest.raises(DataError, match="20 questions"):
            fitted.information_gain(asked, known, sets=wrong)
    with pytest.raises(DataError, match="no comparisons"):
        fitted.information_gain(asked.take([]), known.take([]))
    with pytest.raises(SettingsError, match="formula"):
        fitted.information_gain(asked, known, formula="guess")


def test_many_answers_are_drawn_by_how_likely_they_are(fitted, newcomers):
    known, asked = (part.of("new3") for part in newcomers)
    all_of_them = fitted.information_gain(asked, known, sets=[range(5)], n_draws=2000)
    drawn = fitted.information_gain(asked, known, sets=[range(5)], n_answers=31, n_draws=2000, seed=1)
    assert drawn[0] == pytest.approx(all_of_them[0], abs=0.25)
    assert fitted.information_gain(asked, Comparisons.from_rows([])).shape == (20,)


# What must never happen


def test_a_target_that_is_known_is_refused_on_either_side(fitted, newcomers):
    known, asked = (part.of("new3") for part in newcomers)
    assert fitted.probability_after(known, asked) == pytest.approx(
        fitted.adapt_each(known).probability(asked), abs=1e-12
    )
    assert fitted.probability_after(Comparisons.from_rows([]), asked).shape == (20,)
    mirrored = known.table.rename_columns(
        ["rejected" if n == "chosen" else "chosen" if n == "rejected" else n for n in known.table.column_names]
    )
    for leaked in (known, Comparisons(mirrored)):
        with pytest.raises(DataError, match="8 of 8 targets"):
            fitted.probability_after(known, leaked)


def test_people_with_one_comparison_and_one_person_alone_are_served_by_everybodys_reward(caplog):
    for few in (choices(tastes(50), 1), choices(tastes(1), 50)):
        caplog.clear()
        learnt = model().fit(few)
        assert (learnt.trust_, learnt.told_) == (0.0, 0.0)
        assert "everybody's reward serves for all" in caplog.text
        learnt.adapt("u0", few.of("u0"))
        np.testing.assert_array_equal(learnt.reward([""], ["7"], user="u0"), learnt.reward([""], ["7"]))


def test_settings_out_of_range_and_vectors_of_another_length_are_clear_errors(fitted):
    for wrong in (
        {"latent": 0},
        {"beta": -1.0},
        {"learning_rate": float("nan")},
        {"schedule": "sudden"},
        {"latent_map": "cube"},
    ):
        with pytest.raises(SettingsError, match=next(iter(wrong))):
            model(**wrong)
    with pytest.raises(NotFittedError):
        model().belief("ann")
    fitted.adapt("ann", choices(tastes(1), 3))
    with pytest.raises(SettingsError, match="variance"):
        fitted.edit("ann", variance=[1.0, 1.0, 0.0, 1.0])

    class Other(Pool):
        def encode(self, payloads):
            return ITEMS[[int(payload) for payload in payloads], :3]

    other = model()
    other.__dict__.update(fitted.__dict__, encoder=Other())
    with pytest.raises(DataError, match="3 numbers a payload"):
        other.adapt("ann", choices(tastes(1), 3))
