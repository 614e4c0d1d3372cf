"""What of a person is known, and what must be predicted from it."""

import numpy as np
import pytest
import torch

from penchant.preference.descent import seeded
from penchant.preference.episodes import pair_codes, set_apart, split
from penchant.preference.votes import Votes


def votes(sizes, *, n_responses=50, seed=0):
    """People with so many pairs each, some of them judged twice."""
    rng = np.random.default_rng(seed)
    n = sum(sizes)
    chosen = rng.integers(n_responses, size=n)
    rejected = (chosen + rng.integers(1, n_responses, size=n)) % n_responses
    ones = np.ones(n, np.float32)
    people = tuple(f"u{k:03}" for k in range(len(sizes)))
    order = rng.permutation(n)
    user = np.repeat(np.arange(len(sizes)), sizes)[order]
    return Votes(np.zeros((n_responses, 2), np.float32), chosen, rejected, ones, 0 * ones, user, people)


def test_context_and_targets_never_share_a_pair():
    codes = torch.tensor([0, 1, 2, 0, 4, 5, 5])
    sets = torch.tensor([[0, 1, 2, 3, 4], [5, 6, -1, -1, -1]]).repeat(200, 1)
    with seeded(0):
        mixed, is_context, is_target = split(sets, codes, 3)
    sizes = is_context.sum(dim=1)
    assert set(sizes[::2].tolist()) == {1, 2, 3}
    assert set(sizes[1::2].tolist()) == {1}
    assert sorted(mixed[0].tolist()) == [0, 1, 2, 3, 4]
    assert not is_target[1::2].any()  # both are of the same two responses
    for row, known, asked in zip(mixed, is_context, is_target, strict=True):
        assert not set(codes[row[known]].tolist()) & set(codes[row[asked]].tolist())
        assert (row[known | asked] >= 0).all()
        assert known[: known.sum()].all()  # it comes first


@pytest.mark.parametrize("n_people", [2, 4, 40])
def test_what_is_checked_on_was_never_learnt_from(n_people):
    given = votes([3 + 4 * (k % 20) for k in range(n_people)] + [1])
    training, checks = set_apart(given, 8, seed=0)
    learnt, asked = (set(part[part >= 0].tolist()) for part in (training, checks.targets))
    assert not learnt & asked
    assert len(learnt) > 0.5 * len(given)
    assert n_people not in given.user[list(learnt | asked)]  # one pair alone is no set
    if n_people == 40:  # whole people are set aside
        assert not set(given.user[list(learnt)].tolist()) & set(given.user[list(asked)].tolist())
    codes = pair_codes(given)
    for known, targets in zip(checks.context, checks.targets, strict=True):
        known, targets = known[known >= 0], targets[targets >= 0]
        assert 1 <= len(known) <= 8
        assert len(set(given.user[known].tolist()) | set(given.user[targets].tolist())) == 1
        assert not set(codes[known].tolist()) & set(codes[targets].tolist())


def test_every_pair_of_those_who_are_learnt_from_is_in_one_set_of_one_person():
    given = votes([70, 2, 33] + [12] * 20)
    training, _ = set_apart(given, 8, seed=1)
    rows = training[training >= 0]
    assert len(np.unique(rows)) == len(rows)
    assert training.shape[1] <= 32
    for one in training:
        assert len(np.unique(given.user[one[one >= 0]])) == 1
        assert (one >= 0).sum() >= 2
    for person in np.unique(given.user[rows]):
        assert (given.user[rows] == person).sum() == (given.user == person).sum()


def test_the_same_pair_the_other_way_round_has_the_same_code():
    given = votes([30])
    mirrored = Votes(given.vectors, given.rejected, given.chosen, given.strength, given.margin, given.user, ("u",))
    np.testing.assert_array_equal(pair_codes(given), pair_codes(mirrored))
    together = np.sort(np.stack([given.chosen, given.rejected]), axis=0).T
    assert len(np.unique(pair_codes(given))) == len(np.unique(together, axis=0))


def test_one_person_alone_leaves_nothing_to_tell_apart():
    for few in (votes([20]), votes([20, 1, 1]), votes([1] * 30)):
        training, checks = set_apart(few, 8, seed=0)
        assert not training.size
        assert not checks.targets.size
