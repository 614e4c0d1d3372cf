"""A reward model on numbers: margins, noise, ties, lists; and what it must learn, in one row or two processes' time."""

import math

import pytest
import tiny_model
import torch
from tiny_language import batch_of

from penchant.align import RewardModel, TrainerSettings, train
from penchant.encoders import HiddenState
from penchant.errors import DataError, SettingsError
from penchant.policies import LanguageReward
from penchant.preference import BradleyTerry
from penchant.records import Comparisons, Rankings, Ratings

PAIRS = Comparisons.from_rows(
    [
        {"prompt": "a", "chosen": "b", "rejected": "c", "margin": 0.5},
        {"prompt": "a", "chosen": "d", "rejected": "e", "strength": 0.7},
        {"prompt": "a", "chosen": "b", "rejected": "e", "strength": 0.5, "margin": 0.25},
    ]
)
REWARDS = [1.0, -0.5, 0.2, 0.4, 2.0, -1.0]


def loss(method, records, rewards=REWARDS):
    examples = method.examples(records)
    batch = batch_of(examples) | {"margin": torch.tensor([example["margin"] for example in examples])}
    return method.loss(torch.tensor(rewards, dtype=torch.float64), batch).tolist()


def nll(ahead, strength=1.0):
    return strength * math.log1p(math.exp(-ahead)) + (1 - strength) * math.log1p(math.exp(ahead))


def test_margins_and_soft_labels_enter_as_the_equation_says():
    expected = [nll(1.5 - 0.5), nll(-0.2, 0.7), nll(3.0 - 0.25, 0.5)]
    assert loss(RewardModel(), PAIRS) == pytest.approx(expected, rel=1e-6)


def test_noise_is_a_share_of_flipped_labels():
    expected = [nll(1.0, 0.9), nll(-0.2, 0.7 * 0.8 + 0.1), nll(2.75, 0.5)]
    assert loss(RewardModel(noise=0.1), PAIRS) == pytest.approx(expected, rel=1e-6)


def test_a_strength_read_as_a_margin_is_a_hard_label_with_that_lead():
    expected = [nll(1.5 - 3.0), nll(-0.2 - 3 * 0.4), nll(3.0, 0.5)]
    assert loss(RewardModel(margin="strength", margin_scale=3.0), PAIRS) == pytest.approx(expected, rel=1e-6)


def test_a_pair_the_other_way_round_costs_the_same():
    one = Comparisons.from_rows([{"prompt": "a", "chosen": "b", "rejected": "c", "strength": 0.3, "margin": 0.4}])
    other = Comparisons.from_rows([{"prompt": "a", "chosen": "c", "rejected": "b", "strength": 0.7, "margin": -0.4}])
    assert loss(RewardModel(), one, [1.0, 0.3]) == pytest.approx(loss(RewardModel(), other, [0.3, 1.0]))


def test_lists_are_plackett_luce_and_those_with_ties_the_mean_over_their_pairs():
    whole = Rankings.from_rows([{"prompt": "a", "responses": ["b", "c", "d"]}])
    tied = Rankings.from_rows([{"prompt": "a", "responses": ["b", "c", "d"], "ranks": [1, 1, 2]}])
    rewards = [1.0, -0.5, 0.2]
    total = math.log(sum(map(math.exp, rewards)))
    expected = (total - 1.0) + (math.log(math.exp(-0.5) + math.exp(0.2)) + 0.5)
    assert loss(RewardModel(), whole, rewards) == pytest.approx([expected], rel=1e-6)
    pairs = [nll(1.5), nll(0.8), nll(-0.7)]
    assert loss(RewardModel(lists="pairs"), whole, rewards) == pytest.approx([sum(pairs) / 3], rel=1e-6)
    assert loss(RewardModel(), tied, rewards) == pytest.approx([(nll(0.8) + nll(-0.7)) / 2], rel=1e-6)


def test_ties_can_be_left_out_and_are_counted():
    method = RewardModel(ties="drop")
    assert len(method.examples(PAIRS)) == 2
    assert method.dropped_ == {"tied": 1}


@pytest.mark.parametrize("wrong", [{"noise": 0.5}, {"margin": "rows"}, {"margin_scale": -1.0}, {"ties": "keep"}])
def test_settings_out_of_their_range_are_refused(wrong):
    with pytest.raises(SettingsError, match=next(iter(wrong))):
        RewardModel(**wrong)


def test_ratings_are_refused_with_what_to_do():
    rated = Ratings.from_rows([{"prompt": "a", "response": "b", "score": 1.0}])
    with pytest.raises(DataError, match="pairing"):
        RewardModel().examples(rated)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_model.write(tmp_path_factory.mktemp("chat"))


def votes(n, seed):
    """People who want an answer with the letter x in it."""
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for i in range(n):
        letters = ["abcdefgh"[k] for k in torch.randint(8, (8,), generator=generator).tolist()]
        good, bad = list(letters[:4]), letters[4:]
        good[int(torch.randint(4, (1,), generator=generator))] = "x"
        rows.append({"prompt": f"q{i % 3}", "chosen": "".join(good), "rejected": "".join(bad), "user": f"u{i % 2}"})
    return Comparisons.from_rows(rows)


@pytest.mark.parametrize("rank", [None, 4])
def test_a_planted_taste_is_found_on_pairs_it_has_not_seen_and_its_states_serve_a_model_of_people(
    folder, tmp_path, rank
):
    reward = LanguageReward(folder, lora_rank=rank)
    settings = TrainerSettings(steps=60, examples_per_batch=8, learning_rate=1e-2 if rank else 3e-3)
    result = train(RewardModel(), reward, votes(64, 0), settings=settings, folder=tmp_path / "run", progress=False)
    trained = LanguageReward.saved(result.policy)
    fresh = votes(60, 1).table.to_pylist()
    found = trained.rewards([row["prompt"] for row in fresh], [[row["chosen"], row["rejected"]] for row in fresh])
    assert sum(chosen > rejected for chosen, rejected in found) / len(found) > 0.8

    model = BradleyTerry(encoder=HiddenState(trained), prior_precision=1.0).fit(votes(40, 2))
    assert (model.probability(votes(60, 1)) > 0.5).mean() > 0.8
    # Untrained states do not say it: what was trained is what the model of people reads.
    plain = BradleyTerry(encoder=HiddenState(LanguageReward(folder)), prior_precision=1.0).fit(votes(40, 2))
    assert model.probability(votes(60, 1)).mean() > plain.probability(votes(60, 1)).mean() + 0.05
