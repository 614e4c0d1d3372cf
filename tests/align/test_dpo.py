"""DPO on numbers: every objective gets what its paper reads, soft labels, lists, and the optimum it must reach."""

import math

import pytest
import torch
from tiny_language import TinyPolicy, batch_of, by_hand, scores

from penchant import objectives
from penchant.align import DPO, TrainerSettings, train
from penchant.errors import DataError, SettingsError, UnknownNameError
from penchant.records import Comparisons, Rankings, Ratings

POLICY = [-3.0, -4.0, -2.0, -9.0]
REFERENCE = [-3.5, -3.0, -2.0, -6.0]
LENGTHS = [2, 3, 1, 4]
PAIRS = Comparisons.from_rows(
    [
        {"prompt": "a", "chosen": "b", "rejected": "c", "strength": 1.0},
        {"prompt": "a", "chosen": "d", "rejected": "e", "strength": 0.7},
    ]
)
HARD = Comparisons.from_rows([{"prompt": "a", "chosen": c, "rejected": r} for c, r in ("bc", "de")])


def loss(method, records, policy=POLICY, reference=REFERENCE, lengths=LENGTHS):
    batch = batch_of(method.examples(records), reference)
    return method.loss(scores(policy, lengths), batch)


def test_a_soft_label_is_the_cross_entropy_to_it():
    ratio = torch.tensor(POLICY) - torch.tensor(REFERENCE)
    margin = 0.3 * torch.stack([ratio[0] - ratio[1], ratio[2] - ratio[3]])
    expected = torch.nn.functional.binary_cross_entropy_with_logits(margin, torch.tensor([1.0, 0.7]), reduction="none")
    torch.testing.assert_close(loss(DPO(beta=0.3), PAIRS), expected)


def test_a_strength_below_one_half_is_the_pair_the_other_way_round():
    one = Comparisons.from_rows([{"prompt": "a", "chosen": "b", "rejected": "c", "strength": 0.2}])
    other = Comparisons.from_rows([{"prompt": "a", "chosen": "c", "rejected": "b", "strength": 0.8}])
    for name in ("dpo", "ipo", "hinge", "simpo"):
        forward = loss(DPO(objective=name), one, [-3.0, -4.0], [-2.0, -2.5], [2, 3])
        swapped = loss(DPO(objective=name), other, [-4.0, -3.0], [-2.5, -2.0], [3, 2])
        torch.testing.assert_close(forward, swapped)


@pytest.mark.parametrize("name", ["dpo", "robust_dpo", "ipo", "hinge", "exponential", "apo_zero", "apo_down"])
def test_objectives_on_log_ratios_get_them(name):
    ratio = torch.tensor(POLICY) - torch.tensor(REFERENCE)
    expected = getattr(objectives, name)(ratio[[0, 2]], ratio[[1, 3]], beta=0.3)
    torch.testing.assert_close(loss(DPO(objective=name, beta=0.3), HARD), expected)


@pytest.mark.parametrize("name", ["simpo", "orpo"])
def test_objectives_without_a_reference_get_means_and_ask_for_none(name):
    means = torch.tensor(POLICY) / torch.tensor(LENGTHS)
    method = DPO(objective=name)
    assert not method.needs_reference
    expected = getattr(objectives, name)(means[[0, 2]], means[[1, 3]])
    torch.testing.assert_close(loss(method, HARD, reference=[math.nan] * 4), expected)


def test_objectives_that_read_lengths_or_the_reference_itself_get_them():
    policy, reference, lengths = (torch.tensor(x, dtype=torch.float32) for x in (POLICY, REFERENCE, LENGTHS))
    ratio = policy - reference
    got = loss(DPO(objective="length_normalised_dpo", beta=2.0), HARD)
    torch.testing.assert_close(
        got, objectives.dpo(ratio[[0, 2]] / lengths[[0, 2]], ratio[[1, 3]] / lengths[[1, 3]], beta=2.0)
    )
    got = loss(DPO(objective="gamma_dpo", beta=0.3, options={"gamma": 0.5}), HARD)
    half = policy - 0.5 * reference
    torch.testing.assert_close(got, objectives.dpo(half[[0, 2]], half[[1, 3]], beta=0.3))


def test_your_own_function_of_the_log_ratios_works_by_itself():
    ratio = torch.tensor(POLICY) - torch.tensor(REFERENCE)
    got = loss(DPO(objective=lambda chosen, rejected: (chosen - rejected - 1) ** 2), HARD)
    torch.testing.assert_close(got, (ratio[[0, 2]] - ratio[[1, 3]] - 1) ** 2)


def test_ranked_lists_of_any_length_are_read_by_plackett_luce():
    lists = Rankings.from_rows(
        [{"prompt": "a", "responses": ["b", "c", "d"]}, {"prompt": "a", "responses": ["e", "b"]}]
    )
    policy = [-1.0, -5.0, -2.0, -3.0, -1.0]
    got = loss(DPO(beta=0.5), lists, policy, [0.0] * 5, [1] * 5)
    three = objectives.plackett_luce(0.5 * torch.tensor([policy[:3]]))
    two = objectives.dpo(torch.tensor([-3.0]), torch.tensor([-1.0]), beta=0.5)
    torch.testing.assert_close(got, torch.cat([three, two]))


def test_ranks_order_a_list_and_tied_lists_are_read_as_the_pairs_that_differ():
    lists = Rankings.from_rows([{"prompt": "a", "responses": ["b", "c", "d"], "ranks": [2, 1, 2]}])
    assert DPO().examples(lists)[0]["responses"] == ["c", "b", "d"]
    got = loss(DPO(beta=0.5), lists, [-1.0, -5.0, -2.0], [0.0] * 3, [1] * 3)  # c, b, d
    pairs = objectives.dpo(torch.tensor([-1.0, -1.0]), torch.tensor([-5.0, -2.0]), beta=0.5)
    torch.testing.assert_close(got, pairs.mean()[None])


def test_other_objectives_read_a_list_as_the_mean_over_its_pairs():
    lists = Rankings.from_rows([{"prompt": "a", "responses": ["b", "c", "d"]}])
    got = loss(DPO(objective="ipo", beta=0.5), lists, [-1.0, -5.0, -2.0], [0.0] * 3, [1] * 3)
    first, second = torch.tensor([-1.0, -1.0, -5.0]), torch.tensor([-5.0, -2.0, -2.0])
    torch.testing.assert_close(got, objectives.ipo(first, second, beta=0.5).mean()[None])


def test_ties_are_drawn_together_or_dropped_and_counted():
    records = Comparisons.from_rows(
        [
            {"prompt": "a", "chosen": "b", "rejected": "c", "strength": 0.5},
            {"prompt": "a", "chosen": "d", "rejected": "e"},
        ]
    )
    soft = loss(DPO(beta=1.0), records)
    ratio = torch.tensor(POLICY) - torch.tensor(REFERENCE)
    margin = ratio[0] - ratio[1]
    expected = (torch.nn.functional.softplus(margin) + torch.nn.functional.softplus(-margin)) / 2
    torch.testing.assert_close(soft[0], expected)
    dropping = DPO(ties="drop")
    assert len(dropping.examples(records)) == 1
    assert dropping.dropped_ == {"tied": 1}
    all_tied = Rankings.from_rows([{"prompt": "a", "responses": ["b", "c"], "ranks": [1, 1]}])
    assert dropping.examples(all_tied) == []


def test_metrics_look_from_the_side_that_people_preferred():
    records = Comparisons.from_rows(
        [
            {"prompt": "a", "chosen": "b", "rejected": "c", "strength": 0.1},
            {"prompt": "a", "chosen": "d", "rejected": "e", "strength": 0.9},
        ]
    )
    method = DPO(beta=0.5)
    found = method.metrics(scores(POLICY), batch_of(method.examples(records), REFERENCE))
    assert found["rewards/margins"].tolist() == [-0.75, 1.5]
    assert found["rewards/accuracies"].tolist() == [0, 1]
    assert found["rewards/chosen"].tolist() == [-0.5, 0.0]


def test_a_conversation_keeps_its_form_and_context():
    records = Comparisons.from_rows([{"prompt": "a", "chosen": "b", "rejected": "c", "context": "d", "form": "text"}])
    [example] = DPO().examples(records)
    assert (example["condition"], example["form"]) == ("d", "text")


def test_wrong_settings_and_records_are_refused_with_a_way_out():
    with pytest.raises(UnknownNameError, match="did you mean 'robust_dpo'"):
        DPO(objective="robst_dpo")
    with pytest.raises(SettingsError, match="has no 'gamma'"):
        DPO(options={"gamma": 1.0})
    with pytest.raises(SettingsError, match="has no 'label_smoothing'"):
        DPO(objective="ipo", label_smoothing=0.1)
    with pytest.raises(SettingsError, match="beta must be above 0"):
        DPO(beta=0.0)
    with pytest.raises(DataError, match="makes pairs of ratings"):
        DPO().examples(Ratings.from_rows([{"prompt": "a", "response": "b", "score": 1.0}]))


def test_training_reaches_the_optimum_in_closed_form(tmp_path):
    """With soft labels s the loss of a pair is least where beta (r_chosen - r_rejected) = log(s / (1 - s))."""
    strengths = [0.9, 0.3, 0.5, 0.7]
    pairs = [("what is", "yes", "no"), ("tea", "a b", "c"), ("red or blue", "red", "blue"), ("good", "and", "or the")]
    records = Comparisons.from_rows(
        [
            {"prompt": p, "chosen": c, "rejected": r, "strength": s}
            for (p, c, r), s in zip(pairs, strengths, strict=True)
        ]
    )
    policy = TinyPolicy()
    examples = [policy.encode(p, [c, r]) for p, c, r in pairs]
    before = [by_hand(policy.model, example).detach() for example in examples]
    settings = TrainerSettings(steps=70, examples_per_batch=4, learning_rate=1e-2, schedule="cosine")
    train(DPO(beta=0.5), policy, records, settings=settings, folder=tmp_path, progress=False)
    ratios = [by_hand(policy.model, e).detach() - b for e, b in zip(examples, before, strict=True)]
    margins = torch.stack([0.5 * (ratio[0] - ratio[1]) for ratio in ratios])
    expected = torch.tensor([math.log(s / (1 - s)) for s in strengths])
    torch.testing.assert_close(margins, expected, rtol=0, atol=0.02)
