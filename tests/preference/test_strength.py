"""Strength: what is learnt after a vote, the terms added to the loss, and what leaves the model for others."""

import numpy as np
import pytest
import torch
from torch.func import functional_call

from penchant.encoders import Attributes
from penchant.errors import DataError, SettingsError
from penchant.objectives import bradley_terry
from penchant.preference import Strength
from penchant.preference.descent import seeded
from penchant.preference.ensemble import Nets, Pairs, differences_of, rewards_of
from penchant.preference.strength import apartness, contrastive, looked_ahead
from penchant.preference.votes import read_votes
from penchant.records import Comparisons, Rankings, canonical_json

FAST = {"members": 4, "folds": 2, "hidden": 16, "epochs": 25, "learning_rate": 1e-2}
ENCODER = Attributes([f"x{k}" for k in range(4)])
TASTE = np.array([2.0, -1.0, 0.0, 0.0])


def payload(x):
    return canonical_json({f"x{k}": float(v) for k, v in enumerate(x)})


def pairs(n=300, *, wrong=0.0, seed=0, taste=TASTE, user="ann"):
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(n):
        a, b = sorted(rng.standard_normal((2, 4)), key=lambda x: -float(x @ taste))
        if rng.random() < wrong:
            a, b = b, a
        rows.append({"prompt": "", "chosen": payload(a), "rejected": payload(b), "user": user})
    return Comparisons.from_rows(rows)


def nets(n=2, dim=3, hidden=5, seed=0):
    with seeded(seed):
        return Nets(n, dim=dim, hidden=hidden).double()


def test_nets_computed_together_are_what_each_is_alone():
    both, x = nets(), torch.randn(7, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for k in range(2):
        inner = torch.nn.functional.gelu(x @ both.inner[k] + both.bias[k])
        torch.testing.assert_close(both(x)[k], inner @ both.outer[k])
    torch.testing.assert_close(both(torch.stack([x, x])), both(x))
    np.testing.assert_allclose(rewards_of(both, x.numpy()), both(x).detach(), rtol=1e-12)


def test_few_responses_in_many_pairs_are_scored_once_with_the_same_loss():
    votes = read_votes(ENCODER, pairs(20))
    both, data = nets(dim=4).float(), Pairs.of(votes)
    rows = torch.arange(20).expand(2, -1)
    apart = data.loss(both, rows)
    few = Pairs(data.x[:4], *(torch.randint(4, (50,)) for _ in range(2)), torch.ones(50), torch.zeros(50))
    many = torch.arange(50).expand(2, -1)
    direct = bradley_terry(both(few.x[few.chosen[many]]), both(few.x[few.rejected[many]]))
    torch.testing.assert_close(few.loss(both, many), direct)
    torch.testing.assert_close(apart, bradley_terry(differences_of(both, votes), torch.zeros(())))


def test_the_contrastive_loss_is_that_of_the_formula_and_log_n_where_views_tell_nothing():
    rng = np.random.default_rng(0)
    first, second = rng.standard_normal((2, 5, 3))
    unit = [v / np.linalg.norm(v, axis=1, keepdims=True) for v in (first, second)]
    alike = np.exp(unit[0] @ unit[1].T / 0.2)
    expected = -np.log(np.diag(alike) / alike.sum(axis=1))
    found = contrastive(torch.from_numpy(first), torch.from_numpy(second), temperature=0.2)
    np.testing.assert_allclose(found, expected)
    same = torch.ones(5, 3)
    torch.testing.assert_close(contrastive(same, same), torch.full((5,), float(np.log(5))))


def test_apartness_is_that_of_the_formula_and_grows_with_distance():
    r = np.array([0.3, -1.0, 2.0, 0.0])
    total = sum(1 / (1 + np.exp(-abs(r[i] - r[j]))) for i in range(4) for j in range(i + 1, 4))
    assert apartness(torch.from_numpy(r)).item() == pytest.approx(2 / 16 * total)
    assert apartness(torch.zeros(4)).item() == pytest.approx(3 / 8)
    assert apartness(torch.from_numpy(9 * r)) > apartness(torch.from_numpy(r))


def test_looking_ahead_goes_uphill_and_the_slope_is_taken_there_and_applied_here():
    both = nets()
    draw = torch.Generator().manual_seed(1)
    shifted, x = (torch.randn(*size, dtype=torch.float64, generator=draw) for size in ((6, 4, 3), (9, 3)))

    def apart(weights):
        rewards = functional_call(both, weights, (shifted.flatten(0, 1),)).unflatten(1, (6, 4))
        return apartness(rewards).mean().item()

    with seeded(0):
        ahead = looked_ahead(both, shifted, 0.5)
    assert apart(ahead) > apart(dict(both.named_parameters()))  # an ascent
    with seeded(0):
        still = looked_ahead(both, shifted, 0.0)
    torch.testing.assert_close(still["inner"], both.inner)
    functional_call(both, ahead, (x,)).square().sum().backward()
    there = {name: weight.detach().clone().requires_grad_() for name, weight in ahead.items()}
    functional_call(both, there, (x,)).square().sum().backward()
    for name, weight in both.named_parameters():  # first order: as if ahead were a constant away
        torch.testing.assert_close(weight.grad, there[name].grad)


def test_equal_rewards_are_told_apart_by_a_little_noise():
    both = nets()
    with torch.no_grad():
        both.outer.zero_()
    with seeded(0):
        ahead = looked_ahead(both, torch.randn(3, 4, 3, dtype=torch.float64), 1.0)
    assert (ahead["outer"] != 0).any()


def accuracy(model, seed=9):
    return float((model.probability(pairs(600, seed=seed, user=None)) > 0.5).mean())


def test_treating_wrong_labels_makes_a_more_accurate_reward_and_without_any_it_costs_little():
    noisy = pairs(wrong=0.25)
    plain, treated = (Strength(encoder=ENCODER, treatment=t, **FAST).fit(noisy) for t in ("keep", "flip+margin"))
    assert accuracy(treated) > accuracy(plain)
    clean = Strength(encoder=ENCODER, **FAST).fit(pairs())
    assert accuracy(clean) > 0.93
    assert (clean.actions_ == "flip").sum() + (clean.actions_ == "flip+margin").sum() < 15


def test_margins_do_not_make_it_too_sure_of_itself():
    held_out = pairs(1000, wrong=0.25, seed=4)
    for treatment in ("margin", "flip+margin"):
        model = Strength(encoder=ENCODER, treatment=treatment, **FAST).fit(pairs(600, wrong=0.25))
        probability = model.probability(held_out)
        assert probability.mean() == pytest.approx(0.625, abs=0.05)  # 0.75 x 0.75 + 0.25 x 0.25
        assert -np.log(probability).mean() < 0.63  # of log 2 = 0.69, and 0.56 at best


def test_what_was_treated_can_be_given_to_any_other_model():
    noisy = pairs(wrong=0.25)
    model = Strength(encoder=ENCODER, **FAST)
    given = model.treat(noisy)
    found = model.vote(noisy)
    assert len(given) == len(noisy)
    flipped = np.array(given.table["chosen"].to_pylist()) != np.array(noisy.table["chosen"].to_pylist())
    assert (found.strength[flipped] < 0).all()
    assert 20 < flipped.sum() <= 60
    assert (given.numpy("margin") >= 0).all()
    softer = Strength(encoder=ENCODER, treatment="soften", smoothing=0.2, **FAST).treat(noisy).numpy("strength")
    assert sorted(set(softer.round(3).tolist())) == pytest.approx([0.8, 1.0])


def test_a_vote_taken_before_gives_the_same_model():
    noisy, model = pairs(120, wrong=0.2), Strength(encoder=ENCODER, **FAST)
    one = model.fit(noisy).probability(noisy)
    again = Strength(encoder=ENCODER, **FAST)
    np.testing.assert_array_equal(again.fit(noisy, voted=model.vote(noisy)).probability(noisy), one)


def answers(n=30, k=4, seed=5):
    rng = np.random.default_rng(seed)
    return Rankings.from_rows(
        {"prompt": f"p{i}", "responses": [payload(3 + x) for x in rng.standard_normal((k, 4))]} for i in range(n)
    )


def test_looking_ahead_changes_what_is_learnt_unless_its_step_is_nought():
    noisy = pairs(120)
    plain = Strength(encoder=ENCODER, **FAST).fit(noisy).probability(noisy)
    still = Strength(encoder=ENCODER, look_ahead=0.0, **FAST).shift(answers()).fit(noisy).probability(noisy)
    ahead = Strength(encoder=ENCODER, look_ahead=0.5, **FAST).shift(answers()).fit(noisy).probability(noisy)
    np.testing.assert_array_equal(still, plain)
    assert np.abs(ahead - plain).max() > 1e-3


def test_answers_to_look_ahead_to_are_kept_and_lists_may_differ_in_length(tmp_path):
    short = Rankings.from_rows([{"prompt": "p", "responses": [payload([1, 1, 1, 1]), payload([0, 1, 1, 1])]}])
    model = Strength(encoder=ENCODER, **FAST).shift(Rankings.concat([answers(3), short])).fit(pairs(60))
    assert model.shifted_.shape == (4, 4, 4)
    model.save(tmp_path)
    np.testing.assert_array_equal(Strength.load(tmp_path, encoder=ENCODER).shifted_, model.shifted_)
    with pytest.raises(DataError, match="no answers"):
        model.shift(answers(3).take([]))


def test_the_contrastive_term_needs_no_labels_to_change_what_is_learnt():
    noisy = pairs(120)
    plain = Strength(encoder=ENCODER, **FAST).fit(noisy).probability(noisy)
    for on in ("difference", "response"):
        other = Strength(encoder=ENCODER, contrast=0.5, contrast_on=on, **FAST).fit(noisy)
        assert np.abs(other.probability(noisy) - plain).max() > 1e-3
        assert accuracy(other) > 0.85


def test_somebody_of_another_taste_is_found_on_top_of_everybody():
    crowd = [pairs(60, seed=s, user=f"u{s}") for s in range(7)]
    odd = pairs(60, seed=20, taste=-TASTE, user="odd")
    model = Strength(encoder=ENCODER, **FAST).fit(Comparisons.concat([*crowd, odd]))
    model.adapt("odd", odd)
    unseen = pairs(200, seed=21, taste=-TASTE, user="odd")
    assert (model.probability(unseen) > 0.5).mean() > 0.8
    assert model.names("weights") == ENCODER.columns


def test_too_few_pairs_are_not_voted_on_and_all_are_kept():
    model = Strength(encoder=ENCODER, **FAST).fit(pairs(8))
    assert not model.voted_.strength.any()
    assert set(model.actions_) == {"keep"}


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        ({"members": 1}, "members must be at least 2"),
        ({"folds": 1}, "folds must be at least 2"),
        ({"share": 0.5}, r"share must be in \[0, 0.5\)"),
        ({"share": -0.1}, r"share must be in \[0, 0.5\)"),
        ({"smoothing": 0.5}, "smoothing must be"),
        ({"treatment": "drop"}, "one of keep, flip"),
        ({"contrast_on": "prompt"}, "difference or response"),
        ({"dropout": 0.0}, "dropout must be"),
        ({"prior_precision": -1.0}, "prior_precision must be"),
    ],
)
def test_settings_out_of_range_are_refused(setting, reason):
    with pytest.raises(SettingsError, match=reason):
        Strength(encoder=ENCODER, **setting)
