import json

import numpy as np
import pytest
import torch

from penchant import objectives
from penchant.reproductions import fspo


@pytest.fixture
def pairs():
    rng = np.random.default_rng(0)
    return fspo.drawn(fspo.new_utilities(30, rng), 20, np.arange(4), rng)


def ahead(pairs, utilities):
    """Share of pairs in which the chosen response is worth more, of those that are not worth the same."""
    worth = np.einsum("nrk,nk->nr", pairs.difference(), utilities.reshape(len(utilities), -1))
    return (worth[worth != 0] > 0).mean()


def test_people_mostly_prefer_what_has_more_of_what_they_value_and_nobody_values_the_same(pairs):
    assert 0.85 < ahead(pairs, pairs.utilities) < 0.98
    assert abs(ahead(pairs, np.roll(pairs.utilities, 1, axis=0)) - 0.5) < 0.1  # somebody else's taste


def test_labels_of_inconsistent_people_tell_nothing_of_them():
    rng = np.random.default_rng(1)
    odd = fspo.drawn(fspo.new_utilities(100, rng), 40, np.arange(6), rng, consistent=False)
    assert abs(ahead(odd, odd.utilities) - 0.5) < 0.05


def test_only_what_the_question_names_counts(pairs):
    assert (pairs.asked.sum(axis=-1) == fspo.N_RELEVANT).all()
    of_attributes = np.abs(pairs.difference()).reshape(*pairs.asked.shape, fspo.N_VALUES).sum(axis=-1)
    assert (of_attributes[~pairs.asked] == 0).all()


def test_the_exact_reader_knows_more_the_more_it_reads():
    rng = np.random.default_rng(2)
    pairs = fspo.drawn(fspo.new_utilities(60, rng), 60, np.arange(6), rng)
    targets = pairs.rows(slice(40, None))
    found = [fspo.exact_reader(pairs.rows(slice(0, n)), targets).mean() for n in (0, 4, 40)]
    assert found[0] == 0.5
    assert found[0] < found[1] < found[2]
    assert found[2] > 0.75


def test_shots_are_a_set_targets_do_not_see_each_other_and_probabilities_sum_to_one(pairs):
    policy = fspo._policy(0)
    people, shots, targets = np.arange(30), np.tile(np.arange(4), (30, 1)), np.tile(np.arange(4, 10), (30, 1))
    batch = fspo._batch(pairs, people, shots, targets, told=False)
    with torch.no_grad():
        found = policy(batch)
        torch.testing.assert_close(found.exp().sum(-1), torch.ones_like(found[..., 0]))
        turned = policy(fspo._batch(pairs, people, shots[:, ::-1].copy(), targets, told=False))
        torch.testing.assert_close(turned, found, atol=1e-5, rtol=1e-5)
        alone = policy(fspo._batch(pairs, people, shots, targets[:, 2:3], told=False))
        torch.testing.assert_close(alone, found[:, 2:3], atol=1e-5, rtol=1e-5)
        without = policy(fspo._batch(pairs, people, shots[:, :1], targets, told=False))
    assert (without - found).abs().max() > 1e-3


def test_the_loss_is_ipo_on_log_ratios_to_the_reference_under_the_same_shots(pairs):
    policy, reference = fspo._policy(0), fspo._policy(1)
    batch = fspo._batch(pairs, np.arange(30), np.tile(np.arange(4), (30, 1)), np.tile([7], (30, 1)), told=False)
    loss = fspo._preference("ipo", reference)(policy, batch)
    (chosen, rejected), (c, r) = (fspo._log_probabilities(one, batch) for one in (policy, reference))
    expected = ((chosen - c) - (rejected - r) - 1 / (2 * fspo._BETA)).square().mean()
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(
        fspo._preference("dpo", reference)(policy, batch),
        objectives.dpo(chosen - c, rejected - r, beta=fspo._BETA).mean(),
    )


def runs(ours, worst=0.5, eight=0.65):
    rng = np.random.default_rng(0)
    means = {"population IPO": 0.5, "few-shot SFT": 0.53, "FSPO-DPO": ours, "FSPO-IPO": ours}
    means |= {"FSPO-IPO, 1 shot": 0.55, "FSPO-IPO, 8 shots": eight}
    means |= {"FSPO-IPO, 10 people": worst, "FSPO-IPO, inconsistent people": worst}
    return [
        {"accuracy": {name: (mean + 0.05 * rng.standard_normal(50)).tolist() for name, mean in means.items()}}
        for _ in range(4)
    ]


def test_the_verdict_needs_all_parts():
    assert fspo.verdict(runs(0.6)).holds
    assert not fspo.verdict(runs(0.52)).holds
    assert not fspo.verdict(runs(0.6, eight=0.55)).holds
    assert not fspo.verdict(runs(0.6, worst=0.6)).holds
    assert json.loads(json.dumps(runs(0.6))) == runs(0.6)
    assert len(fspo.figure(runs(0.6)).axes[0].get_yticks()) == 8
