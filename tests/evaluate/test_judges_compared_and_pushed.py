"""Similarity of judges against the published figures, the permutation test, manipulation, both orders, annotation."""

import json

import numpy as np
import pytest

from penchant.cache import RowCache
from penchant.chat import Cached
from penchant.errors import DataError
from penchant.evaluate.annotate import annotated, cost
from penchant.evaluate.manipulation import only, predicted, standing, wish
from penchant.evaluate.properties import PROPERTIES, SCORED
from penchant.evaluate.similar_judges import group_gap, similarity
from penchant.evaluate.two_orders import both_orders
from penchant.reproductions import preference_dissection


def test_similarity_of_published_weights_is_near_the_paper_s():
    known = preference_dissection.published()
    if known is None:
        pytest.skip("the published weights are not here (PENCHANT_DATA)")
    found = preference_dissection._published(0)
    assert found["scenarios"] == 7  # of the paper's eleven: 0.83, 0.88, 0.74 and 0.87 on all of them
    assert [found["within"]["small"], found["within"]["large"], found["across"], found["tuned"][0]] == pytest.approx(
        [0.83, 0.88, 0.74, 0.87], abs=0.02
    )
    assert found["inside"] - found["across"] > found["chance"]
    assert found["severe"]["human"] == pytest.approx(0.629, abs=0.03)


def test_similarity_is_the_mean_of_correlations():
    w = np.random.default_rng(0).standard_normal((3, 2, 6))
    expected = np.mean([np.corrcoef(w[:, s]) for s in range(2)], axis=0)
    assert similarity(w) == pytest.approx(expected)
    with pytest.raises(DataError, match="alike in scenario 1"):
        similarity([[[1.0, 2.0], [3.0, 3.0]]])


def test_groups_that_mean_nothing_have_no_gap():
    w = np.random.default_rng(1).standard_normal((12, 3, 8))
    assert group_gap(similarity(w), ["a", "b"] * 6, n_shuffles=500).p > 0.01
    w[::2] += 3 * np.random.default_rng(2).standard_normal((3, 8))
    assert group_gap(similarity(w), ["a", "b"] * 6, n_shuffles=500).p < 0.01
    with pytest.raises(DataError, match="no pairs inside"):
        group_gap(np.eye(2), ["a", "b"])


def test_what_is_predicted_is_turned_against_and_undecided_pairs_are_dropped():
    x = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]])
    towards, decided = predicted(x, [2.0, 0.1])
    against, _ = predicted(x, [2.0, 0.1], towards=False)
    assert decided.tolist() == [True, True, False]
    assert (towards == 1 - against).all()


def test_the_answer_that_shows_most_stands_best():
    shown = np.array([[0.0, 1.0], [1.0, 0.0], [-1.0, 0.0]])
    differs = shown[:, None] - shown[None]
    stands = standing(differs, only([1.0, -0.5], 1))
    assert stands.argmax() == 1
    assert stands.argmin() == 2
    assert stands.sum() == pytest.approx(1.5)  # of three pairs one wins each
    assert "funny" in wish(("clear", "funny"), [0.5, -0.1], n=1, towards=False)


def test_a_judge_that_always_says_a_has_no_preference():
    always = np.log([[0.8, 0.1]])
    found = both_orders(always, always)
    assert (found.probability[0], found.labels[0], bool(found.agrees[0])) == (0.5, 0.5, False)
    assert found.mass[0] == pytest.approx(0.9)
    assert found.position[0] == pytest.approx(8 / 9)
    with pytest.raises(DataError, match="no log-probabilities"):
        both_orders([[0.5, 0.0]], always)


class Scripted:
    """A chat model that calls a response funny if it laughs, and answers nonsense where told to."""

    name = "scripted"

    def __init__(self):
        self.n_calls = 0

    def complete(self, messages, *, n=1, temperature=0.7, max_tokens=256, seed=0):
        self.n_calls += 1
        text = messages[-1]["content"]
        if "nonsense" in text:
            return ["what?"]
        if text.startswith("Read this prompt"):
            empty = {"constraints": [], "stances": [], "mistakes": []}
            return [json.dumps({"intent_is_clear": True, "expresses_feelings": False} | empty)]
        basic = dict.fromkeys(SCORED, 1) | {"funny": 3 if "haha" in text else 0}
        return [json.dumps({"basic": basic, "accuracy_can_be_checked": "opinion" not in text, "errors": []})]


def test_descriptions_become_features_what_does_not_fit_is_counted_and_nothing_is_asked_twice(tmp_path):
    prompts = ["p", "p", "q", "r"]
    first, second = ["haha", "dull", "nonsense", "opinion"], ["dull", "haha", "dull", "dull"]
    chat, cache = Scripted(), RowCache(tmp_path / "rows.sqlite")
    found = annotated(Cached(chat, cache), prompts, first, second)
    assert found.rows.tolist() == [0, 1]
    assert found.features[:, PROPERTIES.index("funny")].tolist() == [1, -1]
    assert sorted(found.dropped.values()) == [1, 1]
    assert cost(prompts, first, second).calls == 9
    asked = chat.n_calls
    annotated(Cached(chat, cache), prompts[:2], first[:2], second[:2])
    assert chat.n_calls == asked
    with pytest.raises(DataError, match="No pair of 1"):
        annotated(chat, ["q"], ["nonsense"], ["nonsense "])
