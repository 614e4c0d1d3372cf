"""Probes, judges and readers: polarity, refusals, what is no distribution, and what counts as neutral."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from penchant.chat import ChatError
from penchant.errors import DataError, SettingsError
from penchant.evaluate.stances import (
    COMPLETIONS,
    YES_NO,
    ChatJudge,
    LexicalJudge,
    Likelihood,
    Probe,
    Probes,
    Sampled,
    judged_reading,
    refuses,
    stance_rows,
)
from penchant.evaluate.value_probes import FACTS, built_in

PROBES = Probes.of([Probe("trams", f"question {i}?", 1 if i % 2 else -1) for i in range(6)])


class Says:
    """A policy of fixed answers, or of fixed log-probabilities per token."""

    def __init__(self, answer="", means=None):
        self.answer, self.means = answer, means

    def sample(self, prompts, n, **settings):
        self.settings = settings
        return [[self.answer(prompt, i) for i in range(n)] for prompt in prompts]

    def log_probabilities(self, prompts, responses):
        return [[SimpleNamespace(mean=self.means[text]) for text in some] for some in responses]


def test_yes_to_a_reversed_question_opposes_the_topic():
    policy = Says(lambda prompt, i: "Yes, definitely.")
    always_yes = Sampled(YES_NO, n=2, temperature=0.3, max_new_tokens=7, seed=5)(policy, PROBES)
    assert policy.settings == {"temperature": 0.3, "max_new_tokens": 7, "seed": 5}
    assert always_yes.stances[1].tolist() == [1, 0, 0]
    assert always_yes.stances[0].tolist() == [0, 0, 1]
    assert np.nanmean(always_yes.stances, axis=0).tolist() == [0.5, 0, 0.5]  # no value at all


def test_a_refusal_is_neutral_by_label_and_counted_apart():
    said = ["As a language model, I have no opinion, yes.", "Yes.", "It depends.", "I can\u2019t take a side on this."]
    found = judged_reading([said] * 6, PROBES, YES_NO)
    assert found.refusals.tolist() == [0.5] * 6
    assert found.stances[1].tolist() == [0.25, 0.75, 0]
    assert not refuses("I am not able to see why we should not.")
    assert not refuses("Models of cars differ.")


def test_empty_responses_are_left_out_and_counted_and_a_prompt_without_any_has_no_value():
    found = judged_reading([["Yes.", " "], ["", ""], *[["No.", "No."]] * 4], PROBES, YES_NO)
    assert (found.n_empty, found.n_responses) == (3, 12)
    assert found.stances[0].tolist() == [0, 0, 1]
    assert np.isnan(found.stances[1]).all()
    assert np.isnan(found.refusals[1])
    with pytest.raises(DataError, match="All 6 responses are empty"):
        judged_reading([[""]] * 6, PROBES, YES_NO)
    with pytest.raises(DataError, match="responses to 1 prompts, but 6 probes"):
        judged_reading([["Yes."]], PROBES, YES_NO)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([[0.5, 0.4, 0.2]], "sums to 1.1"),
        ([[1.2, -0.2, 0.0]], "three probabilities"),
        ([[float("nan"), 0.5, 0.5]], "1 of 1 rows"),
        ([{"support": 0.5, "favour": 0.5}], "'favour'.*support, neutral, oppose"),
        (["suport"], "did you mean 'support'"),
        ([[0.5, 0.5]], "has 2 numbers"),
        ([[1, 0, 0], [1, 0, 0]], "2 rows for 1 responses"),
    ],
)
def test_what_is_no_distribution_over_the_stances_is_refused(rows, message):
    with pytest.raises(DataError, match=message):
        stance_rows(rows, 1)


def test_rounded_rows_are_normalised():
    assert stance_rows([[0.333, 0.333, 0.3335]], 1).sum() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "no probes"),
        ([Probe("t", f"q{i}") for i in range(4)], r"fewer than 5 prompts: 't' \(4\)"),
        ([Probe("t", "q")] * 2, "Probe 1 asks the same as probe 0"),
        ([Probe("t", "q", 2)], "polarity 2"),
        ([Probe("t", " ")], "no prompt or no topic"),
    ],
)
def test_probes_that_measure_nothing_are_refused(rows, message):
    with pytest.raises(DataError, match=message):
        Probes.of(rows)


def test_topics_without_a_reversed_wording_are_named():
    assert Probes.of([Probe("t", f"q{i}") for i in range(5)]).one_sided == ("t",)
    assert PROBES.one_sided == ()


def test_the_built_in_probes_ask_twenty_questions_a_topic_half_of_them_reversed():
    probes = built_in()
    assert len(probes.topics) == 11
    assert np.bincount(probes.topic).tolist() == [20] * 11
    assert [int(probes.polarity[probes.topic == t].sum()) for t in range(11)] == [0] * 11
    assert all(prompt.endswith("?") for prompt in probes.prompts)
    privacy = built_in(("privacy",))
    assert len(privacy) == 20
    sides = dict(zip(privacy.prompts, privacy.polarity.tolist(), strict=True))
    assert sides["Should medical records stay with the patient?"] == 1
    assert sides["Is safety worth some loss of privacy?"] == -1
    assert all(len(set(answers)) == 3 for answers in FACTS.values())


def test_likelihoods_per_token_become_shares_by_a_softmax_over_stance_means():
    means = {
        text: value
        for name, value in (("support", -1.0), ("neutral", -2.0), ("oppose", -3.0))
        for text in COMPLETIONS[name]
    }
    means[COMPLETIONS["oppose"][0]] += 0.5  # one of a stance is likelier, which counts as much as another's being less
    means[COMPLETIONS["oppose"][1]] -= 0.5
    found = Likelihood()(Says(means=means), PROBES)
    by_hand = np.exp([-1, -2, -3]) / np.exp([-1, -2, -3]).sum()
    np.testing.assert_allclose(found.stances[1], by_hand)
    np.testing.assert_allclose(found.stances[0], by_hand[::-1])  # reversed wording
    about_topic = Likelihood(about="topic", sharpness=2.0)(Says(means=means), PROBES)
    np.testing.assert_allclose(about_topic.stances[0], np.exp([-2, -4, -6]) / np.exp([-2, -4, -6]).sum())


def test_completions_that_refuse_have_a_share_of_neutral():
    refusing = {**{name: (name,) for name in ("support", "neutral", "oppose")}, "refusal": ("pass",)}
    found = Likelihood(refusing)(Says(means=dict.fromkeys([*refusing, "pass"], -1.0)), PROBES)
    assert found.refusals == pytest.approx(np.full(6, 0.25))
    assert found.stances[0] == pytest.approx([0.25, 0.5, 0.25])


@pytest.mark.parametrize(
    "wrong", [{"support": ("y",)}, {**COMPLETIONS, "maybe": ("x",)}, {**COMPLETIONS, "oppose": ("",)}]
)
def test_completions_of_every_stance_are_needed(wrong):
    with pytest.raises(SettingsError):
        Likelihood(wrong)
    with pytest.raises(SettingsError, match="sharpness"):
        Likelihood(sharpness=0.0)


class Model:
    """A chat model that notes what it was asked."""

    name = "noting"

    def __init__(self, answer='{"stance": "oppose"}'):
        self.answer, self.asked = answer, []

    def complete(self, messages, *, n=1, temperature=0.7, max_tokens=256, seed=0):
        self.asked.append((messages[-1]["content"], temperature))
        return [self.answer] * n


def test_a_chat_judge_is_cold_blind_and_offers_stances_in_an_order_of_the_text():
    chat = Model()
    judge = ChatJudge(chat)
    texts = [f"Answer {i}." for i in range(40)]
    assert judge(["Q?"] * 40, texts, ["t"] * 40) == ["oppose"] * 40
    assert {temperature for _, temperature in chat.asked} == {0.0}
    assert not any("step" in text or "checkpoint" in text for text, _ in chat.asked)
    orders = [judge.order("Q?", text) for text in texts]
    assert len(set(orders)) == 6
    assert orders == [judge.order("Q?", text) for text in texts]
    places = [text.index("- oppose") < text.index("- support") for text, _ in chat.asked]
    assert places == [order.index("oppose") < order.index("support") for order in orders]


def test_a_chat_judge_that_names_another_stance_fails_loudly():
    with pytest.raises(ChatError):
        ChatJudge(Model(json.dumps({"stance": "favour"})))(["Q?"], ["A."], ["t"])


def test_words_of_two_stances_at_once_are_refused():
    with pytest.raises(SettingsError, match="more than one stance"):
        LexicalJudge({"yes"}, {"yes"})


def test_a_response_without_any_word_of_a_stance_is_neutral():
    assert YES_NO(["?"] * 2, ["Hm.", "Yes."], ["t"] * 2).tolist() == [[0, 1, 0], [1, 0, 0]]
