import json

import numpy as np
import pytest

from penchant.errors import MissingExtraError
from penchant.reproductions import asked_in_words, rps


@pytest.fixture(scope="module")
def runs():
    return [rps.run(seed, "quick", lambda line: None) for seed in (0, 1)]


def test_quadrature_gives_the_known_maximum_of_normals_and_a_fair_coin_at_angle_zero():
    narrow = rps.quadrature(10.0, 1e-6, 5)
    assert narrow.ours == pytest.approx(1 + 1.16296447 * rps.NOISE, abs=1e-5)
    assert narrow.baseline == pytest.approx(narrow.ours, abs=1e-6)
    assert narrow.win_rate == pytest.approx(0.5, abs=1e-4)


def test_simulation_agrees_with_quadrature(runs):
    assert rps.deviation(runs) < 3
    wrong = json.loads(json.dumps(runs))
    for run in wrong:
        run["cells"]["50/30"]["ours"] += 0.05
    assert rps.deviation(wrong) > 3


def test_neighbours_cost_inside_the_cone_and_pay_far_from_it(runs):
    outcome = rps.verdict(runs)
    assert outcome.holds
    assert outcome.ours > 0.6
    assert outcome.interval.estimate == pytest.approx(outcome.ours - outcome.baseline)
    assert runs[0]["cells"]["5/30"]["win_rate"] < 0.5
    assert 20 < rps.crossing_angle() < 35
    assert json.loads(json.dumps(runs)) == runs


def test_the_verdict_is_false_where_the_policy_ignores_directions(monkeypatch):
    monkeypatch.setattr(rps, "mean_answer", lambda directions: np.broadcast_to([0.5, 0.5], np.shape(directions)))
    runs = [rps.run(seed, "quick", lambda line: None) for seed in (0, 1)]
    assert abs(np.mean([run["far"] for run in runs]) - 0.5) < 0.02
    monkeypatch.undo()
    assert not rps.verdict(runs).holds


def test_a_single_sample_and_a_random_neighbour_are_worse_than_the_rule(runs):
    for target in ("50", "65"):
        cell, ours = runs[0]["rules"][target], runs[0]["cells"][f"{target}/30"]["win_rate"]
        assert cell["single sample"] == pytest.approx(0.1, abs=0.03)  # a tie with itself when it is the best of five
        assert cell["random neighbour"] < ours - 0.1
        assert cell["ours, by a second reward model"] < ours + 0.03


def test_the_figure_has_a_curve_and_points_for_each_angle(runs):
    axes = rps.figure(runs).axes[0]
    assert len(axes.get_legend_handles_labels()[1]) == len(rps.MAX_ANGLES) + 1


class Obedient:
    """A policy that says as many words as it is asked for, things first, or ignores what it is asked."""

    def __init__(self, *, obeys=True):
        self.obeys, self.asked = obeys, []

    def sample(self, prompts, n=1, *, condition=None, temperature=0.7, max_new_tokens=64, seed=0):
        self.asked.append(condition)
        rng = np.random.default_rng(seed)
        wanted = int(condition.split()[2]) if self.obeys else 8
        words = [max(1, wanted + int(rng.integers(-2, 3))) for _ in prompts]
        return [
            [" ".join([*prompt[:-1].replace(",", "").split()[3::2], *["and"] * 20][:length])]
            for prompt, length in zip(prompts, words, strict=True)
        ]


def test_a_text_is_measured_by_whole_words_of_the_things_that_were_named():
    prompt = "Write about a fox, a bell, a boat and a clock."
    texts = ["A FOX rang bells by the boats.", "Clockwork foxglove bellows", "", "fox bell boat clock"]
    found = asked_in_words.attributes([prompt] * 4, texts)
    assert found.tolist() == [[0.75, -7.0], [0.0, -3.0], [0.0, 0.0], [1.0, -4.0]]


def test_fewer_words_are_asked_for_the_more_brevity_is_wanted():
    words = [int(asked_in_words.wish(asked_in_words.towards(degrees)).split()[2]) for degrees in range(0, 91, 5)]
    assert words == sorted(words, reverse=True)
    assert (words[0], words[12], words[-1]) == (16, 8, 2)  # cos 60 degrees is one half


def test_both_arms_cost_the_same_and_neighbours_stay_between_the_two_attributes():
    policy = Obedient()
    cells = asked_in_words.compare(policy, 100)
    assert len(policy.asked) == 2 * asked_in_words.K * asked_in_words.N_PROMPTS * len(asked_in_words.TARGETS)
    assert all(2 <= int(text.split()[2]) <= 16 for text in policy.asked)
    assert set(cells) == {"5", "50", "65"}
    assert all(0 <= offset <= asked_in_words.MAX_ANGLE for cell in cells.values() for offset in cell["offsets"])
    assert cells["5"]["words"] > cells["65"]["words"]
    assert json.loads(json.dumps(cells)) == cells
    assert asked_in_words.compare(Obedient(), 100) == cells


def test_a_policy_that_ignores_its_words_wins_half_against_itself():
    cells = [asked_in_words.compare(Obedient(obeys=False), seed) for seed in range(100, 110)]
    # The same streams and no heed of the words: both arms say the same, so that every prompt is a tie.
    interval = asked_in_words.win_rate(cells, asked_in_words.TARGETS)
    assert (interval.estimate, interval.low, interval.high) == (0.5, 0.5, 0.5)


def test_an_empty_answer_loses_and_two_tie():
    class Silent(Obedient):
        def sample(self, prompts, n=1, **settings):
            return [[""] for _ in prompts]

    cells = asked_in_words.compare(Silent(), 100)
    assert cells["50"]["wins"] == [0.5] * asked_in_words.N_PROMPTS
    assert cells["50"]["gains"] == cells["50"]["words"] == []
    assert asked_in_words.win(-np.inf, 0.0) == 0.0


def test_win_rates_average_targets_prompts_and_seeds():
    cells = [{"50": {"wins": [1.0, 0.5]}, "65": {"wins": [0.0, 0.5]}}, {"50": {"wins": [1, 1]}, "65": {"wins": [1, 1]}}]
    assert asked_in_words.win_rate(cells, (50.0, 65.0)).estimate == pytest.approx(0.75)
    assert asked_in_words.win_rate(cells, (65.0,)).estimate == pytest.approx(0.625)


def test_the_real_model_is_reported_and_decides_nothing(runs):
    losing = [
        run | {"in_words": {"targets": asked_in_words.compare(Obedient(), seed)}}
        for seed, run in zip((100, 101), runs, strict=True)
    ]
    for run in losing:
        for cell in run["in_words"]["targets"].values():
            cell["wins"] = [0.0] * len(cell["wins"])
    plain, with_words = rps.verdict(runs), rps.verdict(losing)
    assert with_words.holds
    assert (with_words.ours, with_words.interval) == (plain.ours, plain.interval)
    assert "no language model" in plain.notes[-1]
    assert any("reported only" in note and "50 and 65 degrees 0 % [0, 0]" in note for note in with_words.notes)
    assert len(rps.figure(losing).axes[0].get_legend_handles_labels()[1]) == len(rps.MAX_ANGLES) + 2


def test_without_the_model_the_result_says_what_to_install(monkeypatch):
    def missing():
        raise MissingExtraError("pip install 'penchant[llama]'")

    monkeypatch.setattr(asked_in_words, "small_chat", missing)
    [note] = asked_in_words.notes([asked_in_words.run(seed) for seed in (100, 101)])
    assert note == "world B was skipped in 2 of 2 seeds: pip install 'penchant[llama]'"
