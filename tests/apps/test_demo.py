"""The demonstration: what it claims about people follows from what they chose, and can come out against us."""

import numpy as np

from penchant.apps.demo import compare, earlier


def population(spread, *, n_people=60, n_choices=30, seed=0):
    """Simulated people whose tastes differ by `spread` around one common taste."""
    rng = np.random.default_rng(seed)
    people = np.repeat([f"p{i}" for i in range(n_people)], n_choices)
    tastes = np.array([1.0, 0.0, 0.0, 0.0]) + spread * rng.standard_normal((n_people, 4))
    difference = rng.standard_normal((len(people), 4))
    logits = 3 * (difference * np.repeat(tastes, n_choices, axis=0)).sum(axis=1)
    return people, difference, (rng.random(len(people)) < 1 / (1 + np.exp(-logits))).astype(float)


def test_people_who_differ_are_predicted_better_one_by_one():
    result = compare(*population(spread=1.5))
    assert result["accuracy_gain"].low > 0.05
    assert result["log_loss_gain"].low > 0


def test_people_who_are_all_alike_show_no_gain():
    result = compare(*population(spread=0.0))
    assert result["accuracy_gain"].low <= 0
    assert result["prior_precision"] >= 3


def test_the_earlier_share_is_taken_person_by_person_in_order():
    people = np.array(["a", "b", "a", "a", "b"])
    assert earlier(people, 0.5).tolist() == [True, True, True, False, False]
