"""Sums over people do not depend on how the people are cut, nor on where the sums are computed."""

import warnings

import numpy as np
import pytest

from penchant.errors import SettingsError
from penchant.preference.shards import Shards, over_ray
from penchant.preference.votes import Votes


def some_votes(n=500, n_people=40, *, nobody=30, seed=0):
    rng = np.random.default_rng(seed)
    user = rng.integers(n_people, size=n)
    user[rng.permutation(n)[:nobody]] = -1
    return Votes(
        vectors=rng.standard_normal((60, 3)).astype(np.float32),
        chosen=rng.integers(60, size=n),
        rejected=rng.integers(60, size=n),
        strength=rng.random(n).astype(np.float32),
        margin=np.zeros(n, np.float32),
        user=user,
        people=tuple(f"p{i}" for i in range(n_people)),
    )


def statistics(shared, votes):
    """Something that needs to know which rows are of one person: the square of each person's sum."""
    own = np.zeros(len(votes.people))
    np.add.at(own, votes.user, votes.difference @ shared["weights"] * votes.strength)
    return {"squares": (own**2).sum(), "pairs": np.array(len(votes)), "people": np.array(len(votes.people))}


def by_hand(votes, weights):
    projected = votes.difference @ weights * votes.strength
    named = [projected[votes.user == person].sum() for person in range(len(votes.people))]
    return float(sum(one**2 for one in [*named, *projected[votes.user < 0]]))


@pytest.mark.parametrize("people_per_shard", [1, 7, 4096])
def test_sums_over_people_are_the_same_however_people_are_cut(people_per_shard):
    votes, weights = some_votes(), np.array([1.0, -2.0, 0.5])
    shards = Shards(votes, people_per_shard=people_per_shard)
    total = shards.total(statistics, {"weights": weights})
    assert total["squares"] == pytest.approx(by_hand(votes, weights), rel=1e-6)
    assert total["pairs"] == len(votes)
    assert total["people"] == shards.n_people == len(np.unique(votes.user[votes.user >= 0])) + 30
    assert len(shards) == -(-shards.n_people // people_per_shard)


def test_a_part_of_the_shards_can_be_summed():
    shards = Shards(some_votes(), people_per_shard=7)
    shared = {"weights": np.ones(3)}
    halves = [shards.total(statistics, shared, range(*ends)) for ends in ((0, 4), (4, len(shards)))]
    whole = shards.total(statistics, shared)
    assert sum(half["squares"] for half in halves) == pytest.approx(whole["squares"])
    assert sum(half["pairs"] for half in halves) == whole["pairs"]


def test_a_shard_without_people_is_refused():
    with pytest.raises(SettingsError, match="people_per_shard"):
        Shards(some_votes(), people_per_shard=0)
    with pytest.raises(SettingsError, match="workers"), over_ray(0):
        pass


@pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.*")
def test_two_ray_workers_give_the_same_bits_as_this_process():
    pytest.importorskip("ray", reason="Ray is not installed (pip install 'penchant[ray]')")
    votes, shared = some_votes(), {"weights": np.array([0.3, 1.0, -1.0])}
    here = Shards(votes, people_per_shard=7).total(statistics, shared)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning, module="ray.*")
        with over_ray(2, people_per_shard=7) as shards:
            there = shards(votes).total(statistics, shared)
    assert {name: value.tobytes() for name, value in here.items()} == {
        name: value.tobytes() for name, value in there.items()
    }
