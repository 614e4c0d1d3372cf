"""What to ask next: naive Bayes against counting, and worlds where one question tells about another."""

import numpy as np
import pytest

from penchant.errors import DataError
from penchant.steer.elicitation import MostFrequent, Population, PriorGuided, RandomOrder

ATTRIBUTES = {"a": ("x", "y"), "b": ("x", "y"), "c": ("x", "y")}


def population(values, weights=None):
    return Population(values, weights or [dict.fromkeys(one, 1 / max(1, len(one))) for one in values], ATTRIBUTES)


def test_the_posterior_is_naive_bayes_by_hand():
    past = population([{"a": "x", "b": "x"}, {"a": "x", "b": "x"}, {"a": "y"}, {"b": "y"}])
    guided = PriorGuided(past)
    prior = np.array([1 + 1, 2 + 1, 1 + 1]) / 7  # of b: none, x, y
    of_a = np.array([(0 + 1) / (1 + 3), (2 + 1) / (2 + 3), (0 + 1) / (1 + 3)])  # P(a = x | b)
    of_c = np.array([(1 + 1) / (1 + 3), (2 + 1) / (2 + 3), (1 + 1) / (1 + 3)])  # P(c does not matter | b)
    expected = prior * of_a * of_c
    np.testing.assert_allclose(guided.posterior("b", {"a": "x", "c": None}), expected / expected.sum())


def test_worth_is_entropy_times_expected_weight():
    past = population([{"a": "x"}, {"a": "y"}], [{"a": 0.2}, {"a": 0.6}])
    guided = PriorGuided(past, smoothing=1e-9)
    assert guided.worth("a", {}) == pytest.approx(np.log(2) * 0.4)
    assert guided.worth("b", {}) == pytest.approx(0.0, abs=1e-6)


def test_what_does_not_matter_has_no_weight_and_values_never_seen_have_the_mean():
    guided = PriorGuided(population([{"a": "x"}, {"a": "x"}, {}], [{"a": 0.5}, {"a": 0.5}, {}]))
    chance = np.array([1 + 1, 2 + 1, 0 + 1]) / 6  # none, x, y
    entropy = -(chance * np.log(chance)).sum()
    assert guided.worth("a", {}) == pytest.approx(entropy * (chance[1] + chance[2]) * 0.5)


def test_what_an_answer_has_settled_is_not_asked():
    past = population(
        [{"a": "x", "b": "x", "c": "x"}, {"a": "y", "b": "y"}, {"a": "x", "b": "x"}, {"a": "y", "b": "y", "c": "y"}]
        * 20
    )
    assert MostFrequent(past).next_question({"a": "x"}) == "b"
    assert PriorGuided(past).next_question({"a": "x"}) == "c"  # b follows from a


def test_every_policy_asks_each_attribute_once_and_then_nothing():
    past = population([{"a": "x"}, {"b": "y"}, {"c": "x"}])
    for policy in (RandomOrder(past, np.random.default_rng(0)), MostFrequent(past), PriorGuided(past)):
        answers = {}
        while (name := policy.next_question(answers)) is not None:
            assert name not in answers
            answers[name] = None
        assert set(answers) == set(ATTRIBUTES)


def test_random_order_is_even_and_unknown_names_are_refused():
    past = population([{"a": "x"}])
    policy = RandomOrder(past, np.random.default_rng(0))
    counts = [sum(policy.next_question({}) == name for _ in range(3000)) for name in ATTRIBUTES]
    assert min(counts) > 900
    with pytest.raises(DataError, match="no attribute 'd'"):
        population([{"d": "x"}])
    with pytest.raises(DataError, match="no value 'z'"):
        population([{"a": "z"}])
    with pytest.raises(DataError, match="needs records"):
        population([])
