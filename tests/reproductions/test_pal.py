import json

import numpy as np
import pytest

from penchant.reproductions import pal
from penchant.statistics import Interval


def test_expected_accuracy_by_hand():
    utility = np.array([[2.0, 0.0]])  # the first is preferred with probability sigmoid(2)
    p = 1 / (1 + np.exp(-2.0))
    assert pal.expected_accuracy(np.array([[1.0, 0.0]]), utility).tolist() == pytest.approx([p])
    assert pal.expected_accuracy(np.array([[0.0, 1.0]]), utility).tolist() == pytest.approx([1 - p])
    assert pal.expected_accuracy(np.array([[1.0, 1.0]]), utility).tolist() == [0.5]


def test_the_adjusted_rand_index_is_sklearns():
    from sklearn.metrics import adjusted_rand_score

    rng = np.random.default_rng(0)
    for n_kinds in (1, 2, 4):
        a, b = rng.integers(3, size=60), rng.integers(n_kinds, size=60)
        assert pal.adjusted_rand(a, b) == pytest.approx(adjusted_rand_score(a, b))


def test_pairs_of_what_somebody_rated_apart_put_the_better_first_and_are_counted():
    rated = np.array([3.0, np.nan, 0.0, 1.0, 5.0])
    jokes = np.array([0, 1, 2, 4])
    pairs = pal._pairs(rated, jokes, 10, np.random.default_rng(0))
    assert sorted(map(tuple, pairs.tolist())) == [(0, 2), (4, 0), (4, 2)]
    assert pal._apart(rated[None], jokes).tolist() == [3]


def cell(better):
    """Accuracies of 40 new people; PAL's better by so much."""
    base = np.random.default_rng(0).normal(0.6, 0.05, 40)
    return {arm: {str(n): (base + better * (arm == pal.PAL)).tolist() for n in pal.COUNTS} for arm in pal.ARMS}


def runs(*, jester=0.05, alike=0.0, short=0.0, index=0.99):
    one = {
        "accuracy": {"groups": {"new": cell(0.1)}, "alike": {"new": cell(alike)}},
        "known": {"ours": [0.8 - short] * 20, "oracle": [0.8] * 20, "rand_index": index},
    }
    if jester is not None:
        one["accuracy"]["jester"] = {"unseen_jokes": cell(jester), "known_jokes": cell(jester)}
    return [one, json.loads(json.dumps(one))]


def test_the_verdict_asks_for_every_part_and_can_be_false():
    assert pal.verdict(runs()).holds
    assert not pal.verdict(runs(jester=0.0)).holds, "no better than one ideal point"
    assert not pal.verdict(runs(alike=0.03)).holds, "makes something of nothing"
    assert not pal.verdict(runs(alike=-0.03)).holds, "hurts people who are alike"
    assert not pal.verdict(runs(short=0.05)).holds, "far from the truth"
    assert not pal.verdict(runs(index=0.5)).holds, "kinds are not found"
    without = pal.verdict(runs(jester=None))
    assert not without.holds
    assert any("not here" in note for note in without.notes)
    assert isinstance(without.interval, Interval)


def test_a_small_run_gives_every_arm_a_curve_and_new_kinds_of_people_are_served_better_than_by_one_reward(monkeypatch):
    monkeypatch.setattr(pal, "real", lambda seed, n_seen: None)
    monkeypatch.setattr(pal, "ARMS", (pal.PAL, pal.POOLED, pal.ALONE))
    monkeypatch.setattr(pal, "COUNTS", (2, 20))
    found = pal.run(1, "tiny", lambda line: None)
    arms = found["accuracy"]["groups"]["new"]
    assert np.mean(arms[pal.PAL]["20"]) > np.mean(arms[pal.POOLED]["20"]) + 0.02
    assert np.mean(arms[pal.PAL]["2"]) > np.mean(arms[pal.ALONE]["2"]) + 0.02
    assert json.loads(json.dumps(found)) == found


def test_people_and_jokes_are_set_aside(monkeypatch):
    rng = np.random.default_rng(0)
    known = rng.normal(scale=5.0, size=(60, 100)), rng.standard_normal((100, 40))
    monkeypatch.setattr(pal, "jester", lambda: known)
    monkeypatch.setattr(pal, "N_NEW", 10)
    world = pal.real(0, 20)
    used = set(np.concatenate([world.seen.chosen, world.seen.rejected, world.new.chosen, world.new.rejected]).tolist())
    assert len(used) <= pal.N_JOKES_SEEN
    assert len(world.seen.people) == 20
    assert len(world.new.people) == 10
    flat = world.score(np.zeros((10, 100)))
    assert all(set(right.tolist()) == {0.5} for right in flat.values())
