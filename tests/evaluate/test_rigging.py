"""Rigged votes: exact chances, planted ones found and honest people left alone, bursts, and what cannot be tested."""

import itertools
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import binom, kstest

from penchant.errors import DataError, SettingsError
from penchant.evaluate import rigging
from penchant.evaluate.ballots import ballots
from penchant.evaluate.leaderboard import leaderboard
from penchant.evaluate.rigging import (
    _benjamini_hochberg,
    _hoeffding,
    _honest_or_not,
    _surest,
    suspicion,
    tail_chances,
    without_suspects,
)
from penchant.records import Battles

N_SYSTEMS, TARGET = 8, 4
START = datetime(2026, 1, 1, tzinfo=UTC)


def honest(rng, n_people=150, n_votes=40, taste=0.3):
    truth = np.linspace(1.0, -1.0, N_SYSTEMS)
    liking = truth + taste * rng.standard_normal((n_people, N_SYSTEMS))
    rows = []
    for person, _ in itertools.product(range(n_people), range(n_votes)):
        a, b = rng.choice(N_SYSTEMS, 2, replace=False)
        wins = rng.random() < expit(liking[person, a] - liking[person, b])
        rows.append(row(f"honest-{person}", a, b, "tie" if rng.random() < 0.15 else "a" if wins else "b", rng.random()))
    return rows


def row(user, a, b, outcome, time):
    when = START + timedelta(days=30 * float(time))
    return {"system_a": f"s{a}", "system_b": f"s{b}", "outcome": outcome, "user": user, "time": when}


def for_target(rng, user, time, n=30):
    """Votes for the target against anybody, on a random side."""
    rows = []
    for _ in range(n):
        other = int(rng.choice([place for place in range(N_SYSTEMS) if place != TARGET]))
        a, b, outcome = (TARGET, other, "a") if rng.random() < 0.5 else (other, TARGET, "b")
        rows.append(row(user, a, b, outcome, time(rng)))
    return rows


def place(battles):
    return [one.system for one in leaderboard(battles).standings].index(f"s{TARGET}")


@pytest.mark.parametrize("spread", [0.0, 0.7])
def test_chances_are_those_of_all_outcomes_written_out_and_averaged_over_tastes(spread):
    logit = np.array([[0.3, -1.0, 0.8, 0.0, 2.0], [0.0, 0.5, -0.5, 1.0, -2.0]])
    grid = np.linspace(-6, 6, 2001) if spread else np.zeros(1)
    weights = np.exp(-(grid**2) / 2)
    for seen in range(6):
        at_least, at_most = tail_chances(logit, np.array([seen, seen]), spread)
        for person in range(2):
            p = expit(logit[person][:, None] + spread * grid)
            more = less = 0.0
            for won in itertools.product([0, 1], repeat=5):
                chance = np.prod([q if one else 1 - q for q, one in zip(p, won, strict=True)], axis=0)
                chance = (chance * weights).sum() / weights.sum()
                more += chance * (sum(won) >= seen)
                less += chance * (sum(won) <= seen)
            assert at_least[person] == pytest.approx(more, rel=1e-5)
            assert at_most[person] == pytest.approx(less, rel=1e-5)


def test_of_many_votes_the_chances_are_close_to_the_exact_ones():
    rng = np.random.default_rng(1)
    logit = rng.standard_normal((6, 101))
    seen = np.array([35, 40, 47, 54, 60, 65])
    for spread in (0.0, 0.3):
        # One vote that is surely lost less makes it 100, which are added up exactly.
        logit[:, -1] = -60.0
        exact, many = tail_chances(logit[:, :-1], seen, spread), tail_chances(logit, seen, spread)
        for one, other in zip(exact, many, strict=True):
            np.testing.assert_allclose(np.log(one), np.log(other), atol=0.15)


def test_somebody_with_a_vote_or_two_on_each_of_many_systems_is_not_named_for_it():
    rng = np.random.default_rng(2)
    rows = [row(f"u{n % 40}", *rng.choice(40, 2, replace=False), str(rng.choice(["a", "b"])), 0.5) for n in range(600)]
    found = suspicion(Battles.from_rows(rows))
    assert found.n_tested == 40
    assert found.people == ()


def test_hoeffdings_bound_is_above_the_exact_chance_of_unequal_votes():
    rng = np.random.default_rng(0)
    logit = rng.standard_normal((50, 20))
    expected, seen = expit(logit).sum(axis=1), np.arange(50) % 21
    bound = _hoeffding(seen.astype(float), expected, 20)
    assert (bound >= tail_chances(logit, seen, 0.0)[0] - 1e-12).all()
    assert bound[20] < 0.05  # all twenty won: it says something


def test_benjamini_and_hochberg_name_up_to_the_last_that_is_small_enough_for_its_rank():
    p_values = np.array([0.001, 0.04, 0.02, 0.9, 0.026])
    assert sorted(_benjamini_hochberg(p_values, 0.05).tolist()) == [0, 1, 2, 4]  # 0.04 = 0.05 * 4 / 5
    assert _benjamini_hochberg(np.array([0.02, 0.5, 0.9]), 0.05).tolist() == []


def test_one_in_ten_who_vote_for_a_target_are_found_move_it_no_more_and_honest_people_are_left_alone():
    """Simulated; the full study is benchmarks/rigging.py."""
    found_share, false_share = [], []
    for seed in range(2):
        rng = np.random.default_rng(seed)
        clean = honest(rng)
        rigged = [one for number in range(15) for one in for_target(rng, f"rigger-{number}", lambda r: r.random())]
        battles = Battles.from_rows([*clean, *rigged])
        found = suspicion(battles)
        # Each in the order of the rows, as none of these found both bad.
        found_share.append(found.votes[len(clean) :].mean())
        false_share.append(len([one for one in found.people if one.user.startswith("honest")]) / 150)
        assert {(one.reason, one.system) for one in found.people if one.user.startswith("rigger")} == {
            ("favours", f"s{TARGET}")
        }
        alone = place(Battles.from_rows(clean))
        assert place(battles) <= alone - 2
        assert abs(place(without_suspects(battles, found)) - alone) <= 1
        assert 0.1 < found.spread < 0.6  # planted: 0.3
    assert min(found_share) >= 0.8
    assert np.mean(false_share) <= 0.01


def test_where_nobody_rigs_nearly_nobody_is_named_though_tastes_differ_a_lot():
    named = 0
    for seed in range(3):
        found = suspicion(Battles.from_rows(honest(np.random.default_rng(100 + seed), 120, 40, taste=0.8)))
        named += len(found.people) + len(found.bursts)
        assert found.n_tested == 120
    assert named <= 2


def test_many_names_used_once_in_a_short_time_are_a_burst_and_honest_people_of_that_time_are_spared():
    rng = np.random.default_rng(3)
    clean = honest(rng)
    swarm = [
        one for number in range(300) for one in for_target(rng, f"new-{number}", lambda r: 0.7 + 0.02 * r.random(), 1)
    ]
    battles = Battles.from_rows([*clean, *swarm])
    found = suspicion(battles)
    assert found.bursts[0].system == f"s{TARGET}"
    assert found.bursts[0].wins
    assert found.bursts[0].won > found.bursts[0].expected
    assert found.votes[len(clean) :].mean() >= 0.8
    # Rows of honest people come first; who of them is not named keeps every vote.
    named = {one.user for one in found.people}
    assert all(clean[number]["user"] in named for number in np.flatnonzero(found.votes[: len(clean)]))
    assert len(named) <= 2


def test_one_who_clicks_at_random_on_clear_differences_is_careless():
    rng = np.random.default_rng(4)
    clicks = [
        row("clicker", *rng.choice([[0, 7], [1, 6], [7, 0], [6, 1]]), str(rng.choice(["a", "b"])), 0.5)
        for _ in range(60)
    ]
    found = suspicion(Battles.from_rows([*honest(rng, 80), *clicks]))
    [clicker] = [one for one in found.people if one.user == "clicker"]
    assert clicker.reason == "careless"
    assert clicker.system is None
    assert clicker.won < clicker.expected - 10


def test_what_cannot_be_tested_is_said_and_wrong_settings_are_refused():
    votes = [{"system_a": "x", "system_b": "y", "outcome": outcome} for outcome in "aab"]
    found = suspicion(Battles.from_rows(votes))
    assert (found.people, found.bursts, found.n_tested) == ((), (), 0)
    assert found.why_not == "Not tested: people, as no vote names one; bursts, as not every vote has a time."
    few = suspicion(Battles.from_rows([vote | {"user": "ann"} for vote in votes]))
    assert (few.people, few.n_tested) == ((), 0)
    with pytest.raises(SettingsError, match="between 0 and 1"):
        suspicion(Battles.from_rows(votes), false_discoveries=1.0)
    with pytest.raises(DataError, match="about 3 votes, but 2"):
        without_suspects(Battles.from_rows(votes[:2]), found)
    with pytest.raises(DataError, match="None of 0 votes"):
        suspicion(Battles.from_rows([]))


def clicker(rng, user, n=90, side=None):
    """Votes that do not look: coin flips, or always the same side."""
    pairs = (rng.choice(N_SYSTEMS, 2, replace=False) for _ in range(n))
    return [row(user, a, b, side or str(rng.choice(["a", "b"])), rng.random()) for a, b in pairs]


def test_of_people_who_flip_coins_or_click_one_side_most_are_found_by_ninety_votes_and_few_of_those_named_are_honest():
    """Simulated; the full study is benchmarks/rigging.py."""
    found_coins, found_sides, n_named, n_false = [], [], 0, 0
    for seed in range(3):
        rng = np.random.default_rng(40 + seed)
        clean = honest(rng, n_votes=90)
        coins = [vote for number in range(10) for vote in clicker(rng, f"coin-{number}")]
        sides = [vote for number in range(6) for vote in clicker(rng, f"side-{number}", side="ab"[number % 2])]
        named = suspicion(Battles.from_rows([*clean, *coins, *sides])).people
        found_coins.append(sum(one.user.startswith("coin") for one in named) / 10)
        found_sides.append(sum(one.user.startswith("side") for one in named) / 6)
        n_named, n_false = n_named + len(named), n_false + sum(one.user.startswith("honest") for one in named)
        # Of many coins the leader wins too seldom, which may be what stands out most.
        assert np.mean([one.reason == "careless" for one in named]) > 0.6
    assert np.mean(found_coins) >= 0.6
    assert np.mean(found_sides) >= 0.6
    assert n_false <= 0.1 * n_named


def test_a_mixture_tells_coins_from_people_who_look_at_the_share_it_claims():
    """Scores drawn from the model itself: both kinds are known, and so is the share of honest ones among the named."""
    n_named = n_false = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        is_coin = rng.random(400) < 0.1
        score = np.where(is_coin, rng.normal(-3.5, 1.1, 400), rng.normal(0.2, 0.9, 400))
        p_value, looks = _honest_or_not(score, np.zeros(400), np.full(400, -3.5), np.full(400, 1.1))
        named = _surest(looks, 0.05)
        n_named, n_false = n_named + len(named), n_false + int((~is_coin[named]).sum())
        assert (is_coin[named].sum() / is_coin.sum()) > 0.6
        assert kstest(p_value[~is_coin], "uniform").pvalue > 1e-4
    assert 0.02 <= n_false / n_named <= 0.08


def test_the_lower_tail_of_people_who_look_is_longer_and_is_not_taken_for_coins():
    rng = np.random.default_rng(0)
    logit = np.full((100_000, 30), 1.0)  # each vote is clear: whoever looks goes against it in a quarter
    p = expit(logit)
    score = ((rng.random(logit.shape) < p) - p).sum(axis=1) / np.sqrt((p * (1 - p)).sum(axis=1))
    skew = float(1 - 2 * p[0, 0]) / np.sqrt((p * (1 - p))[0].sum())
    assert ((score - score.mean()) ** 3).mean() == pytest.approx(skew, abs=0.03)
    none = np.full(len(score), -50.0)  # no coin is anywhere near
    chances = _honest_or_not(score, np.full(len(score), skew), none, np.ones(len(score)))[0]
    plain = _honest_or_not(score, np.zeros(len(score)), none, np.ones(len(score)))[0]
    assert (plain < 1e-3).mean() > 1.8e-3
    assert (chances < 1e-3).mean() < 1.4e-3


def test_of_few_people_nobody_is_taken_for_a_coin_on_the_word_of_the_mixture_alone():
    p_value, looks = _honest_or_not(np.array([-1.5]), np.zeros(1), np.array([-1.8]), np.ones(1))
    assert p_value[0] == pytest.approx(0.0668, abs=1e-3)
    assert looks[0] > 0.5
    assert _surest(np.array([np.nan, 0.9, 0.01]), 0.03).tolist() == [2]
    assert _surest(np.array([np.nan]), 0.03).tolist() == []


@pytest.mark.parametrize("wins", [24, 26, 28, 34])
def test_how_seldom_somebody_who_looks_follows_the_board_so_little_is_near_the_exact_chance(wins):
    n, logit = 40, np.full(40, 1.5)
    rows = [{"system_a": "x", "system_b": "y", "outcome": "a" if k < wins else "b", "user": "ann"} for k in range(n)]
    cast, places = ballots(Battles.from_rows(rows)), np.arange(n)
    found = rigging._clicking(cast, logit, places, rigging._grouped(cast, logit, places), 0.0, np.ones(1, bool))
    p = expit(1.5)
    assert found.p_value[0] == pytest.approx(binom.cdf(wins, n, p) - binom.pmf(wins, n, p) / 2, rel=0.7)
    assert (found.n_decided[0], found.agreed[0]) == (40, wins)
