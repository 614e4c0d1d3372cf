"""Policy gradient: the surrogate on numbers, a reward that is learnt, and a pull that holds the policy back."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny_language import TinyPolicy, by_hand, scores

from penchant.align import PolicyGradient, TrainerSettings
from penchant.align.policy_gradient import Clipped
from penchant.errors import DataError, SettingsError

PROMPTS = [f"what is {word}" for word in ("a", "b", "c", "d")]
SETTINGS = TrainerSettings(steps=4, examples_per_batch=32, learning_rate=3e-3, warmup=0.0, schedule="constant")


class Policy(TinyPolicy):
    """With log-probabilities, computed the long way round."""

    def log_probabilities(self, prompts, responses):
        with torch.no_grad():
            return [
                [SimpleNamespace(sum=float(v)) for v in by_hand(self.model, self.encode(x, some))]
                for x, some in zip(prompts, responses, strict=True)
            ]


def tea(prompts, responses):
    return np.array([float("tea" in text.split()) for text in responses])


def learnt(folder, *, kl, rounds=8):
    policy = Policy()
    method = PolicyGradient(n_samples=8, prompts_per_round=4, kl=kl, max_new_tokens=4, seed=1)
    return policy, method.train(
        policy, tea, PROMPTS, reference=Policy(), rounds=rounds, settings=SETTINGS, folder=folder
    )


def test_the_surrogate_is_minus_the_advantage_at_first_and_stops_paying_beyond_the_clip():
    batch = {"reference": torch.tensor([-2.0, -2.0, -2.0]), "advantage": torch.tensor([1.0, -1.0, 1.0])}
    given = scores([-2.0, -2.0, -1.0])
    assert Clipped(clip=0.2).loss(given, batch).tolist() == pytest.approx([-1.0, 1.0, -1.2])
    assert Clipped().metrics(given, batch)["moved"].tolist() == [0.0, 0.0, 1.0]


def test_what_is_rewarded_becomes_likelier_and_a_strong_pull_holds_it_back(tmp_path):
    policy, free = learnt(tmp_path / "free", kl=0.0)
    _, held = learnt(tmp_path / "held", kl=100.0)
    drawn = [tea([], some).mean() for some in policy.sample(PROMPTS, 32, max_new_tokens=4, seed=9)]
    before = [tea([], some).mean() for some in Policy().sample(PROMPTS, 32, max_new_tokens=4, seed=9)]
    assert np.mean(drawn) > np.mean(before) + 0.2
    assert free.rewards[-1] > held.rewards[-1] + 0.15
    assert free.divergences[0] == pytest.approx(0, abs=1e-5)
    assert abs(held.divergences[-1]) < free.divergences[-1]
    assert free.n_sampled == 8 * 4 * 8


def test_the_same_seed_gives_the_same_policy(tmp_path):
    one, other = (learnt(tmp_path / name, kl=0.05, rounds=2)[0] for name in "ab")
    assert torch.equal(one.weights(), other.weights())


def test_prompts_and_finite_rewards_are_needed(tmp_path):
    method = PolicyGradient(prompts_per_round=2, max_new_tokens=2)
    options = {"reference": Policy(), "rounds": 1, "settings": SETTINGS, "folder": tmp_path}
    with pytest.raises(DataError, match="no prompts"):
        method.train(Policy(), tea, [], **options)
    with pytest.raises(DataError, match="8 are not finite"):
        method.train(Policy(), lambda x, y: np.full(len(y), np.nan), PROMPTS, **options)


@pytest.mark.parametrize("wrong", [{"n_samples": 1}, {"kl": -0.1}, {"clip": 0.0}, {"prompts_per_round": 0}])
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(SettingsError, match="siblings"):
        PolicyGradient(**wrong)
