"""Similarity of judges against the published figures, the permutation test, manipulation, both orders, annotation."""

import json

import numpy as np
import pytest

from penchant.cache import RowCache
from penchant.chat import Cached
from penchant.errors import DataError, SettingsError
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


def test_a_gap_is_that_of_pairs_inside_and_across_and_p_counts_the_one_that_was_observed():
    s = np.eye(5)
    for (one, other), value in {(0, 1): 0.9, (2, 3): 0.5, (0, 2): 0.1, (0, 3): 0.2, (1, 2): 0.3, (1, 3): 0.2}.items():
        s[one, other] = s[other, one] = value
    found = group_gap(s[:4, :4], ["a", "a", "b", "b"], n_shuffles=400)
    assert found.within == pytest.approx({"a": 0.9, "b": 0.5})
    assert (found.inside, found.across, found.gap) == pytest.approx((0.7, 0.2, 0.5))
    assert found.shuffled.max() == pytest.approx(0.5), "a third of all shuffles are the groups themselves"
    assert found.p == pytest.approx((1 + np.isclose(found.shuffled, 0.5).sum()) / 401)
    assert found.chance == np.quantile(found.shuffled, 0.99) > np.median(found.shuffled)
    assert set(group_gap(s, ["a", "a", "b", "b", "c"], n_shuffles=5).within) == {"a", "b"}, "one judge is no pair"
    with pytest.raises(DataError, match="none across"):
        group_gap(s, ["a"] * 5)


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


def test_pairs_are_undecided_between_35_and_65_in_a_hundred_and_one_half_is_nobodys():
    shares = np.array([0.34, 0.36, 0.5, 0.64, 0.66])
    labels, decided = predicted(np.log(shares / (1 - shares))[:, None], [1.0])
    assert decided.tolist() == [True, False, False, False, True]
    assert labels.tolist() == [0, 0, 0, 1, 1]


def test_standing_is_the_mean_chance_against_each_of_the_others():
    rng = np.random.default_rng(0)
    shown, weights = rng.standard_normal((4, 3)), np.array([1.0, -0.5, 0.2])
    chance = 1 / (1 + np.exp(-(shown[:, None] - shown[None]) @ weights))
    expected = [np.mean([chance[i, j] for j in range(4) if j != i]) for i in range(4)]
    assert standing(shown[:, None] - shown[None], weights) == pytest.approx(expected)
    with pytest.raises(DataError, match="m >= 2"):
        standing(np.zeros((1, 1, 3)), weights)


def test_the_most_and_the_least_wanted_are_kept():
    w = [0.3, -0.2, 0.1]
    assert only(w, 2).tolist() == [0.3, 0, 0.1]
    assert only(w, 1, towards=False).tolist() == [0, -0.2, 0]
    assert only(w, 3).tolist() == w
    for n in (0, 4):
        with pytest.raises(SettingsError, match="between 1 and that"):
            only(w, n)
    assert wish(("clear", "funny", "long"), w, n=2).endswith("clear, long.")
    assert wish(("clear", "funny", "long"), w, n=2, towards=False).endswith("funny, long.")


def test_probabilities_of_both_orders_are_added_response_by_response():
    found = both_orders(np.log([[0.5, 0.2], [0.1, 0.3]]), np.log([[0.3, 0.6], [0.1, 0.2]]))
    assert found.probability == pytest.approx([1.1 / 1.6, 0.3 / 0.7])
    assert found.labels.tolist() == [1, 0]
    assert found.mass == pytest.approx([0.8, 0.35])
    assert found.position == pytest.approx([(5 / 7 + 3 / 9) / 2, (1 / 4 + 1 / 3) / 2])
    assert found.agrees.tolist() == [True, False]
    never = both_orders(np.full((1, 2), -800.0), np.full((1, 2), -800.0))  # so little that it is nothing as a float
    assert (never.probability[0], never.labels[0], never.mass[0]) == (0.5, 0.5, 0)
    with pytest.raises(DataError, match="pairs, 2"):
        both_orders([0.0, -1.0], [0.0, -1.0])
    with pytest.raises(DataError, match=r"Row 1: .* are no log-probabilities"):
        both_orders(np.log([[0.5, 0.5], [0.5, 0.51]]), np.log([[0.5, 0.5]] * 2))


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


class Form:
    """Answers by the form that is asked for: facts with two constraints where the prompt counts, a score for each."""

    name = "form"

    def __init__(self, *, fails_first=False, n_constraints=2):
        self.fails_first, self.n_constraints, self.asked, self.seeds = fails_first, n_constraints, [], []

    def complete(self, messages, *, n=1, temperature=0.7, max_tokens=256, seed=0):
        text = messages[-1]["content"]
        self.asked.append(text)
        self.seeds.append(seed)
        if self.fails_first and len(self.asked) == 1:
            return ["Let me see."]
        counts = "count" in text.split("Prompt:\n")[1].split("\n\nResponse")[0]
        if text.startswith("Read this prompt"):
            facts = {"constraints": ["one", "two"] * counts, "stances": [], "mistakes": []}
            return [json.dumps({"intent_is_clear": not counts, "expresses_feelings": not counts} | facts)]
        scores = [3 * ("good" in text)] * (self.n_constraints * counts)
        said = {"basic": dict.fromkeys(SCORED, 1), "accuracy_can_be_checked": True, "errors": [], "constraints": scores}
        return [json.dumps(said)]


def test_the_cost_is_that_of_what_is_asked_when_nothing_has_to_be_asked_again():
    prompts = ["count " * 30, "say " * 70, "say " * 70]
    first, second = ["good " * 90, "one " * 40, "one " * 40], ["bad " * 50, "two " * 60, "three " * 9]
    chat = Form()
    annotated(chat, prompts, first, second)
    expected = cost(prompts, first, second)
    assert expected.calls == len(chat.asked) == 2 + 5
    assert expected.tokens_in == pytest.approx(1.4 * sum(len(text.split()) for text in chat.asked), rel=0.08)
    assert expected.tokens_out == 2 * 80 + 5 * 350
    longer = cost([prompts[0]], [first[0] + "good " * 100], [second[0]])
    assert longer.tokens_in - cost(prompts[:1], first[:1], second[:1]).tokens_in == pytest.approx(140, abs=1)


def test_a_response_is_described_for_the_prompt_that_it_answers():
    chat, steps = Form(), []
    prompts = ["count", "say"]
    found = annotated(chat, prompts, ["good"] * 2, ["bad " * 40] * 2, progress=lambda: steps.append(len(chat.asked)))
    assert steps == [3, 6]
    assert found.features[:, PROPERTIES.index("meets constraints")].tolist() == [1, 0]
    assert found.features[:, PROPERTIES.index("lengthy")].tolist() == [-1, -1]
    asked = {("count" in text, "Response:" in text): text for text in chat.asked}
    unclear, feeling = asked[True, True], asked[False, True]
    assert "in this order: ['one', 'two']" in unclear
    assert ("the prompt is clear" in unclear, "the prompt expresses none" in unclear) == (False, True)
    assert ("the prompt is clear" in feeling, "the prompt expresses none" in feeling) == (True, False)


def test_an_answer_that_does_not_fit_is_asked_for_again_and_lists_of_another_length_never_fit():
    chat = Form(fails_first=True)
    found = annotated(chat, ["say"], ["good"], ["bad"], seed=7)
    assert (len(found.rows), chat.seeds) == (1, [7, 8, 7, 7])
    chat = Form(n_constraints=1)
    found = annotated(chat, ["count", "say"], ["good"] * 2, ["bad"] * 2)
    assert (found.rows.tolist(), list(found.dropped.values())) == ([1], [1])
