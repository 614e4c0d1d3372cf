"""Names of features: what fits is proposed, what does not is not kept, and the fidelity is honest."""

import json

import numpy as np
import pytest
from scipy.stats import pearsonr

from penchant.errors import DataError
from penchant.evaluate import phrases
from penchant.evaluate.describe import ByChat, ByPhrases, Description, correlation, description
from penchant.statistics import Interval


def pairs_about(n=200, seed=0):
    """Pairs in which one response has a fish; the feature is larger the more so, and positive if it is the first."""
    rng = np.random.default_rng(seed)
    pairs, activation = [], np.zeros(n)
    for row in range(n):
        plain = f"take {rng.integers(2, 90)} eggs and stir them."
        one, other = f"fish, {plain}", f"lamp, {plain}"
        first = rng.random() < 0.5
        pairs.append((one, other) if first else (other, one))
        activation[row] = (1 if first else -1) * rng.uniform(0.5, 2.0) * (row % 4 != 0)
    return pairs, activation


def test_correlation_is_pearsons_with_fishers_interval():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, 50))
    y += 0.5 * x
    expected = pearsonr(x, y)
    found, p = correlation(x, y)
    assert found.estimate == pytest.approx(expected.statistic)
    assert p == pytest.approx(expected.pvalue)
    ends = expected.confidence_interval()
    assert (found.low, found.high) == pytest.approx((ends.low, ends.high), abs=1e-6)
    assert correlation([1.0] * 9, y[:9])[1] == 1.0
    assert correlation(x, x)[0].estimate == pytest.approx(1.0)


@pytest.mark.parametrize("turned", [1, -1])
def test_the_phrase_that_fits_is_found_and_says_which_way_round(turned):
    pairs, activation = pairs_about()
    found = description(ByPhrases(), pairs, turned * activation, n_features=32)
    assert (found.text, found.sign, found.kept) == ("animals", turned, True)
    assert found.fidelity.estimate > 0.9
    assert found.fidelity.n <= 75, "half of the active pairs are for proposing"


def test_a_feature_that_is_noise_gets_no_name_that_is_kept():
    pairs, _ = pairs_about()
    kept = [
        description(ByPhrases(), pairs, np.random.default_rng(seed).standard_normal(200), n_features=32).kept
        for seed in range(20)
    ]
    assert sum(kept) == 0


def test_a_feature_that_is_never_active_has_no_name():
    pairs, activation = pairs_about()
    found = description(ByPhrases(), pairs, 0 * activation)
    assert (found.text, found.kept, found.p) == ("", False, 1.0)
    with pytest.raises(DataError, match="give one each"):
        description(ByPhrases(), pairs, activation[:-1])


def test_pairs_of_one_cluster_count_once():
    pairs, activation = pairs_about()
    found = description(ByPhrases(), pairs, activation, clusters=np.repeat(np.arange(50), 4))
    assert found.fidelity.n == 25
    few, enough = (description(ByPhrases(), pairs, activation, clusters=np.arange(200) % n) for n in (19, 20))
    assert (few.fidelity.n, enough.fidelity.n) == (75, 8), (
        "hardly any clusters tell nothing: pairs stand for themselves"
    )
    one_large = np.concatenate([np.zeros(180, int), np.arange(1, 21)])
    assert description(ByPhrases(), pairs, activation, clusters=one_large).fidelity.n <= 10


class Recorder:
    """Proposes what it is told to, reads off a pair how it compares, and keeps what it was shown."""

    name = "recorder"

    def __init__(self, *names):
        self.names, self.shown, self.judged = names, [], []

    def propose(self, pairs, activation, *, n, seed):
        self.shown = list(zip(pairs, activation, strict=True))
        return list(self.names[:n])

    def compare(self, description, pairs, *, seed):
        self.judged = list(pairs)
        return np.array([float(pair[0].split("=")[1]) if description == "right" else float("nan") for pair in pairs])


def numbered(n, seed=0):
    """Pairs that say a noisy sign of their activation."""
    rng = np.random.default_rng(seed)
    activation = rng.standard_normal(n)
    said = np.sign(activation + rng.standard_normal(n))
    return [(f"{row}={said[row]:.0f}", "") for row in range(n)], activation


def test_pairs_that_a_name_was_made_from_do_not_measure_it():
    pairs, activation = numbered(60)
    one = Recorder("right")
    found = description(one, pairs, activation)
    assert {pair for pair, _ in one.shown} & set(one.judged) == set()
    assert len(one.shown) == len(one.judged) == found.fidelity.n == 30
    assert dict(one.shown).items() <= dict(zip(pairs, activation, strict=True)).items()


def test_pairs_to_measure_on_are_half_of_them_above_the_median():
    pairs, activation = numbered(200)
    one = Recorder("right")
    description(one, pairs, activation)
    whole, size = one.judged, dict(zip(pairs, np.abs(activation), strict=True))
    for n in (30, 31):
        description(one, pairs, activation, n_measured=n)
        assert len(one.judged) == n
        assert sum(size[pair] > np.median([size[other] for other in whole]) for pair in one.judged) == 15


def test_p_counts_every_description_of_every_feature_and_is_at_most_one():
    pairs, activation = numbered(60, seed=5)
    one = Recorder("right")
    found = description(one, pairs, activation, n_features=3, n_candidates=7)
    values = dict(zip(pairs, activation, strict=True))
    alone = pearsonr([values[pair] for pair in one.judged], [float(pair[0].split("=")[1]) for pair in one.judged])
    assert found.p == pytest.approx(21 * alone.pvalue)
    assert found.fidelity.estimate == pytest.approx(alone.statistic)
    assert found.fidelity.low < found.fidelity.estimate < found.fidelity.high
    turned = description(Recorder("right"), pairs, -activation, n_features=3, n_candidates=7)
    assert (turned.sign, turned.fidelity) == (-1, found.fidelity)
    assert description(Recorder("right"), pairs, activation, n_features=10**9).p == 1


def test_the_best_of_all_candidates_is_taken_and_pairs_without_an_answer_are_counted():
    pairs, activation = numbered(60)
    assert description(Recorder("right", "wrong"), pairs, activation).text == "right"
    found = description(Recorder("wrong"), pairs, activation)
    assert (found.text, found.kept) in {("", False), ("wrong", False)}
    half = [(pair[0] if row % 2 else f"{row}=nan", "") for row, pair in enumerate(pairs)]
    one = Recorder("right")
    found = description(one, half, activation)
    missing = sum(pair[0].endswith("nan") for pair in one.judged)
    assert (found.n_unanswered, found.fidelity.n) == (missing, len(one.judged) - missing)


def test_a_description_is_kept_below_five_in_a_hundred_and_only_if_it_says_something():
    fidelity = Interval(0.5, 0.1, 0.8, 0.95, 30)
    assert Description("says fish", 1, fidelity, 0.049).kept
    assert not Description("says fish", 1, fidelity, 0.05).kept
    assert not Description("", 1, fidelity, 0.0).kept


def test_three_pairs_have_no_correlation_and_no_phrase():
    assert correlation([1.0, 2.0, 3.0], [1.0, 2.0, 4.0])[1] == 1.0
    assert correlation([1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 4.0, 5.0])[1] < 0.1
    pairs, activation = pairs_about(40)
    assert ByPhrases().propose(pairs[:3], activation[:3], n=5, seed=0) == []


def test_phrases_of_which_there_is_less_are_proposed_too_and_those_without_a_relation_are_not():
    pairs = [("fish.", "lamp.") if row % 2 else ("lamp.", "fish.") for row in range(40)]
    activation = np.where(np.arange(40) % 2, -1.0, 1.0)
    found = ByPhrases().propose(pairs, activation, n=500, seed=0)
    assert "animals" in found
    assert len(found) < len(phrases.names())
    more = [("fish, lamp. Thank you!", "lamp.") if row % 2 else ("lamp.", "lamp. Thank you!") for row in range(40)]
    first = ByPhrases().propose(more, activation, n=1, seed=0)
    assert ByPhrases().compare(first[0], more, seed=0)[1] != 0


class Witty:
    """A chat model that names what it is shown and judges by what it was asked; `wrong` answers are no JSON."""

    name = "witty"

    def __init__(self, *, wrong=False):
        self.asked, self.wrong = [], wrong

    def complete(self, messages, *, n=1, temperature=0.7, max_tokens=256, seed=0):
        text = messages[-1]["content"]
        self.asked.append(text)
        if "Which response has more" not in text:
            said = [part.count("fish") for part in (text.split("\nA: ")[1:] or [""])]
            return [json.dumps({"attribute": "says fish" if sum(said) else "says nothing"})] * n
        if self.wrong:
            return ["I would rather not say."] * n
        a, b = text.split("\n\nA: ")[1].split("\n\nB: ")
        more = "tie" if ("fish" in a) == ("fish" in b) else "A" if "fish" in a else "B"
        return [json.dumps({"more": more})] * n


def test_a_chat_model_names_and_judges_without_seeing_the_feature():
    pairs, activation = pairs_about()
    chat = Witty()
    found = description(ByChat(chat), pairs, activation, n_candidates=2, n_measured=30)
    assert (found.text, found.sign, found.kept) == ("says fish", 1, True)
    assert found.fidelity.n == 30
    examples = chat.asked[0].split("Pair ")[1:]
    assert len(examples) == 8
    assert all("fish" in example.split("B: ")[0] for example in examples), "the response with more of it is A"
    judged = [text for text in chat.asked if "Which response" in text]
    assert len(judged) == 30, "equal proposals are judged once"
    assert 5 < sum("fish" in text.split("\n\nA: ")[1].split("\n\nB: ")[0] for text in judged) < 25, (
        "who is A is drawn anew"
    )


def test_a_judge_without_an_answer_is_counted_and_nothing_is_kept():
    pairs, activation = pairs_about()
    found = description(ByChat(Witty(wrong=True)), pairs, activation, n_candidates=1, n_measured=10)
    assert (found.kept, found.fidelity.estimate) == (False, 0.0)
    assert ByChat(Witty()).n_calls(32) == 32 * (5 + 5 * 300)


def test_long_responses_are_cut_where_the_page_says():
    chat = Witty()
    ByChat(chat).compare("says fish", [("a " * 400, "b")], seed=0)
    assert chat.asked[0].count("a ") < 140
    assert "…" in chat.asked[0]


def test_every_phrase_has_a_measure_and_no_name_twice():
    names = phrases.names()
    assert len(names) == len(set(names)) > 180
    assert phrases.measured([]).shape == (0, len(names))
    assert np.isfinite(phrases.measured(["", "Hi!", "x" * 5000])).all()


@pytest.mark.parametrize(
    ("text", "phrase"),
    [
        ("I cannot help with that.", "declines to answer"),
        ("Mail jo@example.org, or see https://example.org", "gives links"),
        ("It\u2019s $5, or 20 %.", "gives amounts of money"),
        ("Use ```code``` here", "has blocks of code"),
        ("The unethical choice", "says that something is wrong or unethical"),
        ("Ethical people", "says that something is wrong or unethical"),
        ("Is it you?", "ends with a question"),
        ("On the other hand, no", "contrasts"),
    ],
)
def test_a_text_has_more_of_what_it_says(text, phrase):
    plain, has = phrases.measured(["The table stands there.", text])[:, phrases.names().index(phrase)]
    assert has > plain == 0


def test_a_chat_model_is_shown_the_strongest_twentieth_drawn_anew_for_each_proposal():
    pairs = [(f"fish {row}", f"lamp {row}") for row in range(200)]
    chat = Seeded()
    found = ByChat(chat, n_examples=4).propose(pairs, np.linspace(0.1, 1, 200), n=3, seed=5)
    assert found == ["says fish"] * 3
    assert chat.seeds == [5, 6, 7]
    shown = [[int(part.split()[0]) for part in text.split("A: fish ")[1:]] for text in chat.asked]
    assert all(min(rows) >= 190 and len(rows) == 4 for rows in shown)
    assert len({tuple(rows) for rows in shown}) == 3


class Seeded(Witty):
    """Keeps the seeds that it was asked with."""

    def __init__(self):
        super().__init__()
        self.seeds = []

    def complete(self, messages, *, seed=0, **settings):
        self.seeds.append(seed)
        return super().complete(messages, seed=seed, **settings)


def test_judgements_are_of_the_pair_as_it_stands_and_a_tie_is_neither():
    pairs = [("fish", "lamp"), ("lamp", "fish"), ("lamp", "lamp")] * 10
    assert ByChat(Witty()).compare("says fish", pairs, seed=0).tolist() == [1, -1, 0] * 10


def test_a_response_of_128_words_is_shown_whole():
    chat = Witty()
    ByChat(chat).compare("says fish", [("a " * 128, "b " * 129)], seed=0)
    a, b = (part.split() for part in chat.asked[0].split("\n\nA: ")[1].split("\n\nB: "))
    assert a == ["a"] * 128
    assert b == ["b"] * 128 + ["…"]
