"""Places: joint coverage, peeking at every vote, systems never compared, and two systems by their own votes."""

import numpy as np
import pytest
from scipy.special import expit, ndtri

from penchant.errors import DataError, UnknownNameError
from penchant.evaluate.leaderboard import leaderboard
from penchant.evaluate.ranks import anytime_half_width, gap_errors, head_to_head, largest_deviation, ranks
from penchant.preference.counts import optimum
from penchant.records import Battles


def battles(n, truth, *, seed=0):
    rng = np.random.default_rng(seed)
    k = len(truth)
    first = rng.integers(k, size=n)
    second = (first + rng.integers(1, k, size=n)) % k
    wins = rng.random(n) < expit(np.asarray(truth)[first] - np.asarray(truth)[second])
    return Battles.from_rows(
        [
            {"system_a": f"s{a}", "system_b": f"s{b}", "outcome": "a" if won else "b"}
            for a, b, won in zip(first, second, wins, strict=True)
        ]
    )


def test_peeking_after_every_vote_hardly_ever_misleads_anytime_intervals_and_often_those_for_one_look():
    """400 boards of four equal systems grow vote by vote and are looked at each time: any order told is an error."""
    n_boards, n_systems, n_votes, first_look, level = 400, 4, 500, 30, 0.9
    rng = np.random.default_rng(0)
    wins = np.zeros((n_boards, n_systems, n_systems))
    boards, found = np.arange(n_boards), np.zeros((n_boards, n_systems))
    misled = {"anytime": np.zeros(n_boards, bool), "one look": np.zeros(n_boards, bool)}
    miss = (1 - level) / (n_systems * (n_systems - 1) / 2)
    for vote in range(1, n_votes + 1):
        winner = rng.integers(n_systems, size=n_boards)
        loser = (winner + rng.integers(1, n_systems, size=n_boards)) % n_systems
        wins[boards, winner, loser] += 1
        if vote < first_look:
            continue
        found, _ = optimum(wins, l2=0.01, start=found, tolerance=1e-3)
        p = expit(found[:, :, None] - found[:, None, :])
        weight = (wins + wins.swapaxes(1, 2)) * p * (1 - p)
        curvature = np.eye(n_systems) * (weight.sum(axis=2)[:, :, None] + 0.01) - weight
        error = gap_errors(np.linalg.inv(curvature))
        gap = np.abs(found[:, :, None] - found[:, None, :])
        misled["anytime"] |= (gap > anytime_half_width(error, miss)).any(axis=(1, 2))
        misled["one look"] |= (gap > -ndtri(miss / 2) * error).any(axis=(1, 2))
    assert misled["anytime"].mean() <= 1 - level
    assert misled["one look"].mean() > 2.5 * (1 - level)


def test_anytime_intervals_are_wider_and_hold_at_the_least_error_they_are_made_for():
    error = np.array([0.03, 0.1, 0.5])
    half = anytime_half_width(error, 0.05)
    assert (half > -ndtri(0.025) * error).all()
    assert np.argmin(half / error) == 1  # tightest there, in standard errors
    # Robbins: exceeding sqrt((V + m) log((V + m) / (m a^2))) at any time has probability a at most, for any m.
    rng = np.random.default_rng(0)
    time = np.arange(1, 1001)
    walks = np.cumsum(rng.standard_normal((1000, len(time))), axis=1)
    ever = (np.abs(walks / time) > anytime_half_width(1 / np.sqrt(time), 0.1)).any(axis=1)
    assert 0.03 < ever.mean() <= 0.1


def test_places_of_one_look_hold_the_truth_all_at_once_as_often_as_they_say():
    truth, held, informative = [0.6, 0.4, 0.2, 0.2, 0.0, -0.3], [], []
    for seed in range(120):
        places = {place.system: place for place in ranks(leaderboard(battles(900, truth, seed=seed)), level=0.9)}
        ok = []
        for number, ability in enumerate(truth):
            place = places[f"s{number}"]
            best, worst = 1 + sum(one > ability for one in truth), 6 - sum(one < ability for one in truth)
            ok.append(place.best <= best and place.worst >= worst)
            informative.append(place.worst - place.best)
        held.append(all(ok))
    assert np.mean(held) >= 0.85
    assert np.mean(informative) < 4  # of 5 possible: something is said


def test_the_largest_deviation_of_independent_scores_is_that_of_the_studentised_range():
    from scipy.stats import studentized_range

    # All differences of k independent scores: the range over sqrt 2 of their common deviation.
    expected = studentized_range.ppf(0.95, 6, np.inf) / np.sqrt(2)
    assert largest_deviation(np.eye(6), 0.95) == pytest.approx(expected, rel=0.03)


def test_systems_that_were_never_compared_are_not_told_apart_however_many_votes():
    one = [{"system_a": "x", "system_b": "y", "outcome": o} for o in ["a"] * 990 + ["b"] * 10]
    two = [{"system_a": "v", "system_b": "w", "outcome": o} for o in ["a"] * 990 + ["b"] * 10]
    places = {place.system: place for place in ranks(leaderboard(Battles.from_rows([*one, *two])))}
    assert (places["x"].best, places["x"].worst) == (1, 3)
    assert (places["w"].best, places["w"].worst) == (2, 4)


def test_all_wins_of_a_few_votes_prove_no_place():
    board = leaderboard(Battles.from_rows([{"system_a": "x", "system_b": "y", "outcome": "a"}] * 3))
    for anytime in (False, True):
        assert [(place.best, place.worst) for place in ranks(board, anytime=anytime)] == [(1, 2), (1, 2)]


def test_two_systems_by_their_own_votes_alone_and_names_that_are_none():
    board = leaderboard(battles(600, [1.0, 0.0, -1.0]))
    rate = head_to_head(board, "s0", "s2")
    back = head_to_head(board, "s2", "s0")
    counts, (i, j) = board.votes.counts, (board.systems.index("s0"), board.systems.index("s2"))
    assert rate.n == back.n == counts.wins[i, j] + counts.wins[j, i]
    assert rate.estimate == pytest.approx(counts.wins[i, j] / rate.n) == pytest.approx(1 - back.estimate)
    assert 0.5 < rate.low < rate.estimate < rate.high
    with pytest.raises(UnknownNameError, match="did you mean"):
        head_to_head(board, "s00", "s1")
    apart = [{"system_a": a, "system_b": b, "outcome": o} for a, b in (("x", "y"), ("y", "z")) for o in "ab"]
    with pytest.raises(DataError, match="never met"):
        head_to_head(leaderboard(Battles.from_rows(apart)), "x", "z")
