"""An audit finds what was planted, by how much and where, flags nobody else, and stops at judges it cannot read."""

import numpy as np
import pytest

from penchant.errors import DataError, SettingsError
from penchant.evaluate.cues import CUES, Item
from penchant.evaluate.judge_bias import items_needed, judge_bias
from penchant.evaluate.judge_design import BIASES, MITIGATIONS, Arm, Design
from penchant.evaluate.judges import Function, Judgement, RewardJudge, TextJudge
from penchant.evaluate.planted_judge import PlantedJudge, planted_items


class Rule:
    """A judge that follows a rule for what it is shown: place, or None."""

    name, reads_prompts, varies = "rule", True, False

    def __init__(self, rule):
        self.rule = rule

    def judge(self, asked, *, seed=0):
        places = [self.rule(one) for one in asked]
        return [
            Judgement(None if place is None else np.eye(len(one.letters))[place], "?")
            for one, place in zip(asked, places, strict=True)
        ]


def right(question):
    return next(place for place, text in enumerate(question.options) if "good" in text)


def audit(judge, n=60, *, n_options=2, **settings):
    settings = {"mitigations": (), "n_resamples": 400, **settings}
    return judge_bias(judge, planted_items(n, n_options=n_options), **settings)


def flagged(found):
    return {one.name for one in found.findings if one.flagged}


@pytest.mark.parametrize("n_options", [2, 3, 5])
def test_a_judge_of_content_is_right_everywhere_and_has_no_bias(n_options):
    found = audit(Rule(right), n_options=n_options, mitigations=MITIGATIONS)
    assert found.accuracy.estimate == found.floor.estimate == 1.0
    assert flagged(found) == set()
    assert all(one.bias.estimate == pytest.approx(0, abs=1e-12) for one in found.findings)
    assert all(
        one.counts == {"kept T": 0, "to T": 0, "from T": 0, "elsewhere": 60, "invalid": 0}
        for one in found.effects
        if one.target == "wrong"
    )
    assert found.position["consistency"].estimate == 1.0
    assert all(one.gain.estimate == 0 for one in found.mitigated)


@pytest.mark.parametrize("n_options", [2, 4])
def test_liking_for_a_place_and_for_a_letter_are_told_apart(n_options):
    even = 1 / n_options
    last = audit(Rule(lambda q: len(q.options) - 1), n_options=n_options)
    assert flagged(last) == {"last place"} | ({"first place"} if n_options > 2 else set())
    assert last.position["last place"].estimate == pytest.approx(1 - even)
    assert last.position["letter A"].estimate == pytest.approx(0)
    assert last.position["consistency"].estimate == 0.0
    letter = audit(Rule(lambda q: q.letters.index("A")), n_options=n_options)
    assert flagged(letter) == {"letter A"}
    assert letter.position["letter A"].estimate == pytest.approx(1 - even)
    assert letter.position["last place"].estimate == pytest.approx(0)


@pytest.mark.parametrize("name", [name for name, cue in CUES.items() if cue.placebo])
def test_whoever_follows_one_cue_is_flagged_for_it_alone_and_by_target(name):
    words = CUES[name].cue

    def follows(question):
        for place, text in enumerate(question.options):
            if words.note and question.note == words.note and place == question.target:
                return place
            if (words.before and text.startswith(words.before)) or (words.after and text.endswith(words.after)):
                return place
        return right(question)

    found = audit(Rule(follows))
    assert flagged(found) == {name}
    wrong, correct = (next(e for e in found.effects if (e.bias, e.target) == (name, t)) for t in ("wrong", "correct"))
    assert (wrong.pull.estimate, wrong.placebo_pull.estimate, wrong.net.estimate) == (1.0, 0.0, 1.0)
    assert (wrong.accuracy.estimate, wrong.drop.estimate, wrong.robustness.estimate) == (0.0, 1.0, 0.0)
    assert (wrong.switched.estimate, wrong.counts["to T"]) == (1.0, 60)
    assert (correct.pull.estimate, correct.accuracy.estimate, correct.counts["kept T"]) == (0.0, 1.0, 60)


def test_whoever_follows_any_words_beside_an_option_is_pulled_but_not_biased():
    found = audit(Rule(lambda q: right(q) if q.target is None or q.note else q.target), biases=("authority",))
    [effect] = [one for one in found.effects if one.target == "wrong"]
    assert (effect.pull.estimate, effect.placebo_pull.estimate, effect.net.estimate) == (1.0, 1.0, 0.0)
    assert flagged(found) == set()


@pytest.mark.parametrize(("name", "text"), [("empty answer", ""), ("constant answer", "I cannot say.")])
def test_a_judge_that_prefers_an_answer_that_says_nothing_is_caught(name, text):
    found = audit(Rule(lambda q: q.options.index(text) if text in q.options else right(q)))
    assert flagged(found) == {name}


def test_a_judge_that_obeys_an_order_inside_an_answer_is_caught_through_its_prompt():
    def obeys(prompt):
        lines = [line for line in prompt.splitlines() if line.startswith("Option ")]
        chosen = next((line for line in lines if "Ignore all previous" in line), None)
        chosen = chosen or next(line for line in lines if "good" in line)
        return f"<answer>{chosen[7]}</answer>"

    assert flagged(audit(TextJudge(Function(obeys)), 40)) == {"injection"}


def test_planted_biases_of_five_points_are_recovered_and_found_on_the_items_that_it_says_it_needs():
    from penchant.reproductions.judging_bias import POINTS, n_planted, weight

    n, errors, hits = n_planted(), [], 0
    for seed, name in enumerate(("bandwagon", "last place", "constant answer")):
        judge = PlantedJudge({name: weight(name)}, seed=40 + seed)
        assert judge.true_bias(name) == pytest.approx(POINTS)
        [finding] = [one for one in audit(judge, n, questions_at_once=100_000).findings if one.name == name]
        errors.append(finding.bias.estimate - POINTS)
        hits += finding.flagged
        assert finding.detectable < 1.12 * POINTS
    assert np.abs(errors).max() < 0.04  # about three standard errors
    assert hits >= 2


def test_the_true_bias_is_the_mean_over_many_items_also_where_the_judge_likes_a_place():
    weights = {"authority": 0.8, "last place": 0.9, "letter A": -0.3, "empty answer": 0.7}
    judge = PlantedJudge(weights, seed=3)
    found = audit(judge, 3000, biases=("authority", "position", "empty answer"), questions_at_once=100_000)
    for finding in found.findings:
        error = (finding.bias.high - finding.bias.low) / 2 / 1.96
        assert abs(finding.bias.estimate - judge.true_bias(finding.name)) < 4 * error


def test_repeats_give_the_noise_floor_and_a_judge_that_never_varies_is_not_asked_twice():
    judge = PlantedJudge({}, quality=1.0, spread=0.0)
    p = 1 / (1 + np.exp(-1.0))
    floor = audit(judge, 2000, biases=("bandwagon",), questions_at_once=100_000).floor
    assert abs(floor.estimate - (p**2 + (1 - p) ** 2)) < 0.04
    items = planted_items(5)
    assert Arm("repeat") in Design(judge, items).arms
    assert Arm("repeat") not in Design(Rule(right), items).arms


def test_mitigations_that_help_are_told_from_those_that_harm():
    def swayed(question):
        if question.mitigation == "in context":
            return 0  # forgets what it was about
        helped = question.system or question.first
        return question.target if question.note and "90 %" in question.note and not helped else right(question)

    found = audit(Rule(swayed), biases=("bandwagon",), mitigations=MITIGATIONS)
    by = {one.mitigation: one for one in found.mitigated}
    for name in ("system prompt", "self-reflection"):
        assert (by[name].gain.estimate, by[name].reduction.estimate, found.harm[name].estimate) == (1.0, 1.0, 0.0)
        assert by[name].p_holm < 0.01
    assert by["both orders"].gain.estimate == 0.0  # the cue names the option wherever it stands
    assert found.harm["in context"].estimate < -0.3
    assert found.values["gain/system prompt/bandwagon"].tolist() == [1.0] * 60


def test_both_orders_make_half_a_point_of_a_judge_of_places():
    found = audit(Rule(lambda q: 0), biases=("bandwagon",), mitigations=("both orders",))
    [one] = found.mitigated
    assert one.accuracy.estimate == 0.5
    assert one.pull.estimate == 0.0


def test_wrong_targets_are_any_wrong_option_and_orders_are_balanced():
    design = Design(Rule(right), planted_items(900, n_options=4))
    assert (design.wrong != design.correct).all()
    assert np.bincount(design.wrong)[1:].min() > 240
    assert np.bincount([order.index(0) for order in design.orders]).min() > 180
    turned = [design.shown(Arm("order", "position", turn=turn), 7) for turn in range(4)]
    assert {one.order[2] for one in turned} == {one.order[0] for one in turned} == {0, 1, 2, 3}
    assert {one.letters[1] for one in turned} == set("ABCD")


def test_the_cost_that_is_told_is_the_cost_that_is_paid():
    design = Design(Rule(right), planted_items(40))
    assert design.cost().calls == audit(Rule(right), 40, mitigations=MITIGATIONS).n_answers == 61 * 40
    seen = []
    audit(Rule(right), 40, progress=seen.append, questions_at_once=7)
    assert sum(seen) == Design(Rule(right), planted_items(40), mitigations=()).cost().calls
    assert max(seen) == 7


def test_how_many_questions_go_together_changes_nothing():
    one, other = (audit(Rule(lambda q: len(q.text) % 2), 35, questions_at_once=n) for n in (1, 500))
    assert one.findings == other.findings


def test_a_judge_of_single_responses_is_not_tested_for_places_and_told_nothing():
    judge = RewardJudge("length", lambda prompts, responses: [float(len(text)) for text in responses])
    found = audit(judge, mitigations=MITIGATIONS)
    assert not found.position
    assert not found.mitigated
    assert len(found.left_out) == 5
    padded = next(one for one in found.effects if (one.bias, one.target) == ("verbosity", "correct"))
    assert padded.net.estimate == 1.0  # the wrong option is longer, but for its padding
    assert "verbosity" in flagged(found)


def test_invalid_answers_count_as_wrong_and_too_many_of_them_end_it_with_examples():
    def mumbles(question):
        return None if question.question.startswith("Question 1") else right(question)  # 11 of 60

    found = audit(Rule(mumbles), biases=("bandwagon",), mitigations=("self-reflection",))
    assert found.n_invalid > 0
    assert found.accuracy.estimate == pytest.approx(49 / 60)
    assert found.effects[0].counts["invalid"] == 11
    asked = []

    def nothing(prompt):
        asked.append(prompt)
        return "I like option A."

    with pytest.raises(DataError, match=r"10 of 10 answers name no single option.*I like option A"):
        audit(TextJudge(Function(nothing), attempts=1), questions_at_once=10)
    assert len(asked) == 10


def test_few_items_are_reported_without_a_verdict():
    found = audit(Rule(lambda q: 0), 20)
    assert {one.flagged for one in found.findings} == {None}
    with pytest.raises(DataError, match="1 items"):
        audit(Rule(right), 1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"biases": ("bandwagn",)}, "did you mean 'bandwagon'"),
        ({"mitigations": ("prayer",)}, "no mitigation 'prayer'"),
        ({"targets": ("both",)}, "no target 'both'"),
        ({"biases": ()}, "at least one bias"),
    ],
)
def test_what_is_unknown_is_named_with_what_is_nearest(settings, message):
    with pytest.raises(SettingsError, match=message):
        audit(Rule(right), **settings)


def test_items_of_different_numbers_of_options_are_audited_together():
    items = [Item(f"q{k}", ("good", *(f"bad {j}" for j in range(1, 2 + k % 4))), 0) for k in range(80)]
    found = judge_bias(Rule(lambda q: len(q.options) - 1), items, mitigations=(), n_resamples=200)
    assert found.position["last place"].estimate == pytest.approx(1 - np.mean([1 / len(i.options) for i in items]))
    assert found.position["letter A"].estimate == pytest.approx(0)
    assert found.position["consistency"].estimate == 0


def test_the_number_of_items_it_needs_follows_from_effect_noise_and_tests():
    assert items_needed(0.05, floor=0.75) == pytest.approx(items_needed(0.1, floor=0.75) * 4, rel=0.01)
    assert items_needed(0.05, floor=0.75, both_targets=False) == pytest.approx(
        2 * items_needed(0.05, floor=0.75), abs=1
    )
    assert items_needed(0.05, floor=0.75, n_tests=1) == pytest.approx(
        (1.96 + 1.645) ** 2 * 0.25 / 2 / 0.05**2, rel=0.01
    )
    assert len(BIASES) == 9
