"""Simulated people: they vote as their known taste says, and differ as much as they are told to."""

import numpy as np
import pytest

from penchant.errors import SettingsError
from penchant.people import population


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
