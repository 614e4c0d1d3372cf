"""The simulated arena: its truth, its people, and a verdict that can be no."""

import numpy as np
import pytest

from penchant.reproductions import music_arena
from penchant.reproductions.music_arena import (
    BOTH_BAD,
    GATE,
    N_SYSTEMS,
    board,
    pairs,
    true_scores,
    verdict,
    vote,
    world,
)


@pytest.fixture
def here():
    return world(np.random.default_rng(0), inattentive=0.15)


def test_very_many_attentive_votes_arrive_at_the_true_scores(here):
    rng = np.random.default_rng(1)
    ballots = vote(here, *pairs(200_000, rng), rng)
    attentive = ballots.of(~here.careless[ballots.people])
    assert np.abs(board(attentive)[0] - true_scores(here)).max() < 8
    assert np.abs(board(ballots)[0] - true_scores(here)).max() > 8  # the careless draw all scores together


def test_votes_tie_fail_and_are_listened_to_as_said(here):
    rng = np.random.default_rng(2)
    ballots = vote(here, *pairs(50_000, rng), rng)
    assert np.isnan(ballots.result).mean() == pytest.approx(BOTH_BAD, abs=0.01)
    careless = here.careless[ballots.people]
    assert (ballots.listened[~careless] >= GATE).all()
    assert (ballots.listened[careless] >= GATE).all(axis=1).mean() < 0.15
    assert (ballots.first != ballots.second).all()


def a_run(**changes):
    size = {"covered": 0.95, "width": 50.0, "tau": 0.8, "elo": [0.6, 0.7], "rmse": 30.0, "rmse_gated": 25.0} | changes
    worlds = [{"300": size, "1000": size, "3000": size, "needed": {"uniform": 700, "chosen": 500}} for _ in range(8)]
    return [{"worlds": worlds}]


def test_each_part_of_the_claim_can_fail():
    assert verdict(a_run()).holds
    for change in ({"covered": 0.8}, {"covered": 1.0}, {"elo": [0.6, 0.85]}, {"rmse_gated": 31.0}):
        assert not verdict(a_run(**change)).holds


def test_a_world_with_narrow_intervals_is_not_covered(monkeypatch):
    def narrow(ballots):
        score, low, high = board(ballots)
        return score, (score + low) / 2, (score + high) / 2

    runs = []
    for intervals in (board, narrow):
        monkeypatch.setattr(music_arena, "board", intervals)
        worlds = [music_arena.one_world(np.random.default_rng([5, n])) for n in range(2)]
        runs.append(np.mean([one["1000"]["covered"] for one in worlds]))
    assert runs[0] > runs[1] + 0.1
    assert N_SYSTEMS == 10
