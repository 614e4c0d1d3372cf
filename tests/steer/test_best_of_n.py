import itertools

import numpy as np
import pytest

from penchant.errors import DataError, SettingsError
from penchant.steer.best_of_n import BestOfN, divergence_bound, expected_maximum, order_weights


def test_the_expected_maximum_is_the_mean_over_all_subsets():
    scores = np.array([0.3, -1.0, 2.0, 0.9, 0.1])
    for n in range(1, 6):
        brute = np.mean([max(subset) for subset in itertools.combinations(scores, n)])
        assert expected_maximum(scores, n) == pytest.approx(brute)


def test_the_worth_of_a_choice_is_the_mean_over_all_subsets_also_with_ties():
    scores, worth = np.array([1.0, 2.0, 2.0, 0.0]), np.array([5.0, 1.0, 9.0, -4.0])
    order = [1, 2, 0, 3], [2, 1, 0, 3]  # both ways to break the tie

    def best(subset, ranking):
        return worth[next(i for i in ranking if i in subset)]

    brute = np.mean([best(subset, ranking) for subset in itertools.combinations(range(4), 2) for ranking in order])
    assert expected_maximum(scores, 2, values=worth) == pytest.approx(brute)
    curve = expected_maximum(np.stack([scores, scores]), [1, 4], values=np.stack([worth, worth]))
    np.testing.assert_allclose(curve, [[2.75, 5.0], [2.75, 5.0]])


def test_order_weights_sum_to_one_even_where_binomials_overflow():
    assert order_weights(5000, 2500).sum() == pytest.approx(1)
    assert divergence_bound(1) == 0


@pytest.mark.parametrize("n", [0, 4])
def test_more_than_there_is_cannot_be_drawn(n):
    with pytest.raises(SettingsError):
        expected_maximum([1.0, 2.0, 3.0], n)


def test_scores_that_are_not_finite_are_refused():
    with pytest.raises(DataError):
        expected_maximum([1.0, np.nan], 1)


class Numbers:
    def sample(self, prompts, n=1, *, condition=None, temperature=0.7, max_new_tokens=64, seed=0):
        self.condition = condition
        return [[str((len(prompt) * 7 + j * 5 + seed) % 11) if j else " " for j in range(n)] for prompt in prompts]


def worth(prompts, responses):
    return np.array([float(response) for response in responses])


def test_the_answer_with_the_greatest_reward_is_kept_and_an_empty_one_never():
    policy = Numbers()
    best = BestOfN(policy, worth, n=5).select(["a", "bb"], condition="be brief", seed=2)
    assert policy.condition == "be brief"
    for one in best:
        assert one.rewards[0] == -np.inf
        assert float(one.response) == max(float(text) for text in one.responses[1:])
    lowest = BestOfN(policy, lambda p, r: -worth(p, r), n=5).select(["a"], seed=2)[0]
    assert float(lowest.response) == min(float(text) for text in lowest.responses[1:])


def test_a_reward_of_the_wrong_shape_is_refused():
    with pytest.raises(DataError):
        BestOfN(Numbers(), lambda p, r: np.zeros((len(r), 2)), n=3).select(["a"])
    with pytest.raises(SettingsError):
        BestOfN(Numbers(), worth, n=0)
