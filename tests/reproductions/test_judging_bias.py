"""The reproduction of judging bias: its items, its simulated audits, and a verdict that can be false."""

import numpy as np
import pytest

from penchant.evaluate.judges import Judgement
from penchant.reproductions import judging_bias


@pytest.fixture(scope="module")
def run():
    sizes = judging_bias.Scale(2, 2, 0, 0)
    return {"simulated": judging_bias.simulated(60, sizes), "judges": {}, "n_preferences": {}}


def test_facts_are_right_and_their_wrong_option_is_wrong():
    items = judging_bias.facts(60, np.random.default_rng(0))
    for item in items:
        if item.question.startswith("What is the capital"):
            land = item.question.removeprefix("What is the capital of ").removesuffix("?")
            assert item.options[0] == judging_bias._CAPITALS[land] != item.options[1]
        else:
            a, b = item.question.removeprefix("What is ").removesuffix("?").split(" + ")
            assert int(item.options[0]) == int(a) + int(b) != int(item.options[1])


def test_preferences_set_an_answer_against_one_to_another_question(shared_data, monkeypatch):
    monkeypatch.setenv("PENCHANT_DATA", str(shared_data))
    items = judging_bias.preferences(20, np.random.default_rng(0))
    assert len(items) == 20
    right = {item.options[0]: item.question for item in items}
    assert len(right) == 20
    assert all(right.get(item.options[1]) != item.question for item in items)


def test_audits_of_simulated_judges_say_which_bias_was_planted_and_how_much_of_it_was_found(run):
    planted = run["simulated"]["planted"]
    assert [one[0] for one in planted] == ["bandwagon", "authority"]
    assert all(abs(one[1] - 0.05) < 0.05 for one in planted)
    assert len(run["simulated"]["unbiased"]) == 2


def with_judge(run, net, helped, n=12, seeds=3):
    rng = np.random.default_rng(0)
    values = {
        "correct": [0.5] * n,
        "net/bandwagon/wrong": (net + 0.01 * rng.normal(size=n)).tolist(),
        "pull/bandwagon/wrong": [net + 0.02] * n,
        "reduction/system prompt/bandwagon": (helped + 0.01 * rng.normal(size=n)).tolist(),
    }
    return [{**run, "judges": {"SmolLM2-135M": values}, "n_preferences": {"SmolLM2-135M": 4}}] * seeds


@pytest.mark.parametrize(("net", "helped", "holds"), [(0.1, 0.05, True), (0.1, -0.05, False), (-0.1, 0.05, False)])
def test_the_verdict_needs_the_bias_and_the_help(run, net, helped, holds):
    good = {
        "planted": [["bandwagon", 0.05, True, True, []]] * 20,
        "unbiased": [[]] * 20,
        "n_items": run["simulated"]["n_items"],
    }
    found = judging_bias.verdict(with_judge({**run, "simulated": good}, net, helped))
    assert found.holds is holds
    assert found.interval.estimate == pytest.approx(net, abs=0.01)
    assert found.ours - found.baseline == pytest.approx(found.interval.estimate)
    assert ("at this size" in found.notes[1]) is not holds


@pytest.mark.parametrize("part", ["covered", "found", "flagged"])
def test_the_verdict_needs_a_harness_that_measures_truly(run, part):
    one = ["bandwagon", 0.05, part != "covered", part != "found", []]
    simulated = {"planted": [one] * 20, "unbiased": [["authority"] if part == "flagged" else []] * 20, "n_items": 9}
    assert not judging_bias.verdict(with_judge({**run, "simulated": simulated}, 0.1, 0.1)).holds


def test_without_the_language_model_it_does_not_hold_and_says_why(run):
    found = judging_bias.verdict([run, run])
    assert not found.holds
    assert "not run" in found.notes[1]


def test_values_of_each_item_come_with_the_mitigations_against_the_bandwagon():
    class Follows:
        name, reads_prompts, varies = "follows", True, False

        def judge(self, asked, *, seed=0):
            places = [one.target if "90 %" in one.note and not one.system else 0 for one in asked]
            return [Judgement(np.eye(2)[place]) for place in places]

    items = judging_bias.facts(10, np.random.default_rng(1))
    values = judging_bias.real(Follows(), items, 0, ("bandwagon", "position"), ("system prompt",))
    assert set(values["net/bandwagon/wrong"]) <= {0.0, 1.0}
    assert values["reduction/system prompt/bandwagon"] == values["pull/bandwagon/wrong"]
    assert values["last place"] == [-0.5] * 10


def test_the_figure_draws_what_there_is(run):
    pytest.importorskip("matplotlib")
    assert len(judging_bias.figure(with_judge(run, 0.1, 0.1)).axes) == 2
