"""Simulated people: they vote as their known taste says, and differ as much as they are told to."""

import numpy as np
import pytest

from penchant.errors import SettingsError
from penchant.people import population, reactors


def test_votes_follow_the_bradley_terry_probability_of_the_known_taste():
    people = population(1, n_features=3, strength=1.5, seed=1)
    first, second = np.array([[1.0, 0.0, -1.0]]), np.array([[0.0, 0.5, 0.0]])
    votes = people.prefers_first(
        0, first.repeat(20_000, axis=0), second.repeat(20_000, axis=0), np.random.default_rng(0)
    )
    expected = 1 / (1 + np.exp(-(first - second)[0] @ people.tastes[0]))
    assert abs(votes.mean() - expected) < 0.012


def test_people_who_are_alike_share_one_taste_and_groups_share_a_few():
    assert len(np.unique(population(9, n_features=4, kind="alike").tastes.round(9), axis=0)) == 1
    grouped = population(50, n_features=4, kind="groups", n_groups=3)
    assert len(np.unique(grouped.tastes.round(9), axis=0)) == 3
    for group in range(3):
        assert len(np.unique(grouped.tastes[grouped.groups == group].round(9), axis=0)) == 1


def test_every_taste_is_equally_strong_whatever_the_spread():
    for spread in (0.0, 0.5, 3.0):
        lengths = np.linalg.norm(population(20, n_features=5, strength=2.5, spread=spread).tastes, axis=1)
        np.testing.assert_allclose(lengths, 2.5)


def test_an_empty_population_is_refused():
    with pytest.raises(SettingsError, match="at least 1"):
        population(0, n_features=2)


def test_hearts_follow_taste_fatigue_and_what_else_draws_them():
    people = reactors(1, [1.0, -2.0], base=-1.0, spread=0, random=0, everything=0, fatigue=0.1)
    features = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    found = people.probability(np.zeros(4, dtype=int), features, np.array([0, 0, 0, 5]), np.array([0, 0, 1, 0]))
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-np.array([-1.0, 0.0, -2.0, -1.5]))))


def test_some_people_react_to_everything_and_some_whatever_it_is():
    people = reactors(4000, [5.0], random=0.1, everything=0.2, seed=1)
    found = people.probability(np.arange(4000), np.zeros((4000, 1)), 100)
    assert (found == 1).mean() == pytest.approx(0.2, abs=0.03)
    assert (found == 0.2).mean() == pytest.approx(0.1, abs=0.02)
    loved, after = people.react(found, np.random.default_rng(0))
    assert loved[found == 1].all()
    assert after.mean() == pytest.approx(3600, rel=0.1)
    with pytest.raises(SettingsError, match="add up"):
        reactors(3, [1.0], random=0.6, everything=0.6)
