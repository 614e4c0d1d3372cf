"""Simulated arenas: true scores, votes as their chances say, the gate, verdicts that can be false; real votes parse."""

import copy
import json

import numpy as np
import pytest

from penchant.reproductions import arena_records, music_arena


@pytest.fixture(scope="module")
def runs():
    rng = np.random.default_rng(5)
    return [{"worlds": [music_arena.one_world(rng) for _ in range(2)], "real": []} for _ in range(2)]


def test_scores_of_very_many_votes_come_to_the_true_scores():
    rng = np.random.default_rng(0)
    here = music_arena.world(rng, inattentive=0.0)
    ballots = music_arena.vote(here, *music_arena.pairs(200_000, rng), rng)
    score, low, high = music_arena.board(ballots)
    truth = music_arena.true_scores(here)
    np.testing.assert_allclose(score, truth, atol=15)
    assert (low < score).all()
    assert (score < high).all()
    assert np.isnan(ballots.result).mean() == pytest.approx(music_arena.BOTH_BAD, abs=0.005)
    assert truth.mean() == pytest.approx(1000)


def test_outcomes_are_davidsons_and_careless_votes_say_nothing():
    wins, even = music_arena.chances(np.array([0.0, 1.2]))
    back, same = music_arena.chances(np.array([0.0, -1.2]))
    np.testing.assert_allclose(wins + even + back, 1)
    np.testing.assert_allclose(even, same)
    assert even[0] == pytest.approx(music_arena.TIES / (2 + music_arena.TIES))
    rng = np.random.default_rng(1)
    here = music_arena.world(rng, inattentive=1.0)
    ballots = music_arena.vote(here, *music_arena.pairs(20_000, rng), rng)
    kept = ballots.result[~np.isnan(ballots.result)]
    assert [np.mean(kept == each) for each in (0, 0.5, 1)] == pytest.approx([1 / 3] * 3, abs=0.015)
    assert (ballots.listened >= music_arena.GATE).all(axis=1).mean() == pytest.approx(np.exp(-2.5), abs=0.01)


def test_voices_meet_voices_more_often_and_nobody_meets_itself():
    first, second = music_arena.pairs(20_000, np.random.default_rng(2))
    assert (first != second).all()
    both = (np.maximum(first, second) < music_arena.N_VOCAL).mean()
    assert both == pytest.approx(0.3 + 0.7 * (4 * 3) / (10 * 9), abs=0.01)


def test_a_verdict_needs_every_part_and_says_which_does_not_hold(runs):
    good = copy.deepcopy(runs)
    for number, one in enumerate(one for run in good for one in run["worlds"]):
        for n in music_arena.SIZES:
            one[str(n)] |= {"covered": 0.94 + 0.01 * (number % 2), "tau": 0.9, "elo": [0.8, 0.7], "rmse": 40.0}
            one[str(n)] |= {"rmse_gated": 30.0 + number, "tau_gated": 0.9}
        one["needed"] = {"uniform": 900, "chosen": 600 + number}
    assert music_arena.verdict(good).holds
    for key, value in (("covered", 0.8), ("tau", 0.75), ("rmse", 20.0)):
        bad = copy.deepcopy(good)
        for run in bad:
            for one in run["worlds"]:
                one["300"][key] = value if key != "tau" else 0.2
        found = music_arena.verdict(bad)
        assert not found.holds
        assert sum("does not hold" in note for note in found.notes) == 1
    bad = copy.deepcopy(good)
    for run in bad:
        for one in run["worlds"]:
            one["needed"]["chosen"] = 1500
    assert "D does not hold" in " ".join(music_arena.verdict(bad).notes)
    assert json.loads(json.dumps(runs)) == runs


def test_a_decisive_world_needs_few_votes_and_the_figure_has_three_panels(runs):
    rng = np.random.default_rng(3)
    ability = np.linspace(-4, 4, music_arena.N_SYSTEMS)
    here = music_arena.World(np.tile(ability, (music_arena.N_PEOPLE, 1)), np.full(2000, 1 / 2000), np.zeros(2000, bool))
    for chosen in (True, False):
        assert music_arena.votes_needed(here, ability, rng, chosen=chosen) < 600
    assert len(music_arena.figure(runs).axes) == 3


def test_published_intervals_parse_in_both_styles_and_nothing_else_does():
    assert arena_records.half_widths(" +111.0 / -169.8") == (111.0, 169.8)
    assert arena_records.half_widths("±85") == (85.0, 85.0)
    for text in ("85", "+5", "+-5", "±"):
        with pytest.raises(ValueError, match="no interval"):
            arena_records.half_widths(text)


def test_pandalm_rows_become_a_battle_of_each_annotator_in_the_order_of_the_key():
    row = {"cmp_key": "bloom-7b_opt-7b", "annotator1": 1, "annotator2": 2, "annotator3": 0}
    battles = arena_records.pandalm([row])
    assert battles.table["outcome"].to_pylist() == ["a", "b", "tie"]
    assert set(battles.table["system_a"].to_pylist()) == {"bloom-7b"}


def test_real_votes_and_published_boards_are_read_where_they_are():
    found = arena_records.snapshots()
    if found is None:
        pytest.skip("shared/data/music_arena is not beside the repository")
    assert found["rows"] == found["apart"] + found["same"] == 66
    assert min(found["apart"], found["same"]) > 0
    assert set(arena_records.real_battles()) == {"MT-bench", "PandaLM"}
