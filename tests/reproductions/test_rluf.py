"""The study of hearts in small: its simulator, its scores, and every part of the verdict."""

import copy
import json

import numpy as np
import pytest

from penchant.people import reactors
from penchant.reproductions import hearts, rluf


@pytest.fixture(scope="module")
def runs():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(rluf._SCALES, "quick", rluf.Scale(120, 200, 8000, 800, 40))
        return [rluf.run(seed, "quick", lambda line: None) for seed in (1000, 1001)]


def passing(runs):
    """The runs with numbers that every part of the claim accepts."""
    made = copy.deepcopy(runs)
    for number, run in enumerate(made):
        run["quality"]["ours"] |= {"auroc": 0.75 + 0.01 * number, "ece": 0.001}
        run["quality"]["neither cleaning nor correction"]["ece"] = 0.1 + 0.01 * number
        run["agreement"]["r"] = {"estimate": 0.95, "low": 0.9, "high": 0.99, "level": 0.95, "n": 12}
        for name, rate, wins in (("w = 0", 0.01, 0.5), ("w = 0.1", 0.012, 0.5), ("w = 1", 0.02, 0.3)):
            run["arms"][name] |= {"rate": rate, "wins": [wins] * 50}
    return made


def changed(runs, *path, value):
    made = copy.deepcopy(runs)
    for run in made:
        at = run
        for key in path[:-1]:
            at = at[key]
        at[path[-1]] = value
    return made


def test_every_part_of_the_claim_can_fail_by_itself(runs):
    good = passing(runs)
    assert rluf.verdict(good).holds
    assert rluf.verdict(good).interval.estimate == pytest.approx(0.2)
    for path, value in (
        (("quality", "ours", "auroc"), 0.6),
        (("agreement", "r", "estimate"), 0.5),
        (("agreement", "r", "low"), 0.2),
        (("quality", "neither cleaning nor correction", "ece"), 0.0),
        (("arms", "w = 0.1", "rate"), 0.009),
        (("arms", "w = 0.1", "wins"), [0.4] * 50),
        (("arms", "w = 1", "rate"), 0.009),
        (("arms", "w = 1", "wins"), [0.5] * 50),
    ):
        assert not rluf.verdict(changed(good, *path, value=value)).holds, path
    unseen = rluf.verdict(changed(good, "arms", "w = 1", "wins", value=[0.5] * 50)).notes
    assert any("no hacking seen" in note for note in unseen)


def test_a_run_can_be_written_down_and_names_every_arm(runs):
    assert json.loads(json.dumps(runs)) == runs
    assert set(runs[0]["arms"]) >= {"reference", "w = 0", "w = 0.1", "w = 1", "supervised on hearts", "kto on hearts"}
    assert set(runs[0]["quality"]) >= {"ours", "no cleaning", "shuffled labels", "the true probability (oracle)"}


def test_nothing_beats_the_truth(runs):
    def mean(name):
        return np.mean([run["quality"][name]["auroc"] for run in runs])

    assert mean("the true probability (oracle)") > mean("ours") > 0.55
    assert mean("one rate for all") == 0.5


def test_care_makes_the_mean_probability_the_observed_rate(runs):
    for run in runs:
        ours, careless = (run["quality"][name] for name in ("ours", "neither cleaning nor correction"))
        assert abs(ours["mean"] - ours["observed"]) < 0.02
        assert careless["mean"] > 2 * careless["observed"]


def test_replies_are_what_the_attributes_say():
    place = hearts.world(50, np.random.default_rng(0))
    for row in range(50):
        for column, text in enumerate(place.replies[row]):
            assert any(text.endswith(goodbye) for goodbye in hearts._GOODBYES) == bool(place.goodbye[row, column])
            assert (hearts._UNSAFE in text) == bool(place.unsafe[row, column])
            a, _, b, _, total = text.split(".")[0].split()
            assert (int(a) + int(b) == int(total)) == bool(place.right[row, column])


def test_shown_replies_and_hearts_follow_their_probabilities():
    rng = np.random.default_rng(0)
    place = hearts.world(5, rng)
    people = reactors(50, rluf.TASTE, random=0, everything=0, spread=0, base=-1.0)
    policy = rng.dirichlet(np.ones(12), size=5)
    log = hearts.serve(place, people, {"a": policy}, 6000, rng, among=np.arange(50), prompts=np.arange(5), until=np.inf)
    loved = np.array(log.reactions.table["reaction"].to_pylist()) == "love"
    assert loved.mean() == pytest.approx(log.chance.mean(), abs=0.02)
    assert len(log.reactions) == 6000
    cut = hearts.serve(
        place, people, {"a": policy}, 6000, rng, among=np.arange(50), prompts=np.arange(5), until=hearts.DAY
    )
    late = np.array(cut.reactions.table["reaction"].to_pylist())[3000:] == "love"
    assert late.sum() == 0  # the log ended before


def test_training_finds_the_reply_that_pays_and_the_pull_keeps_it_near_the_reference():
    features = np.random.default_rng(0).standard_normal((200, 12, 2))
    weights, constant = rluf.trained(features, features[..., 0], epochs=80, seed=0)
    p = rluf.probabilities(features, weights)
    assert weights[0] > 5 * abs(weights[1])
    assert (p * features[..., 0]).sum(axis=1).mean() > 0.8
    assert constant < 0.5
    nothing, all_constant = rluf.trained(features, np.ones((200, 12)), epochs=10, seed=0)
    assert all_constant == 1
    np.testing.assert_allclose(nothing, 0, atol=0.1)  # rounding errors, which Adam takes for a direction


def test_imitation_learns_what_was_loved():
    rng = np.random.default_rng(0)
    features = rng.standard_normal((100, 12, 2))
    prompt, reply = rng.integers(100, size=4000), rng.integers(12, size=4000)
    loved = rng.random(4000) < 1 / (1 + np.exp(3 - 2 * features[prompt, reply, 1]))
    for how in ("supervised", "kto"):
        weights = rluf.imitating(features, prompt, reply, loved, how, seed=0)
        assert weights[1] > 3 * abs(weights[0])


def test_the_figure_has_both_halves(runs):
    left, right = rluf.figure(runs).axes
    assert "predicted" in left.get_xlabel()
    assert len(right.texts) == len(runs[0]["arms"])
