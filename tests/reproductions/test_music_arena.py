"""The reproduction of Music Arena: its simulated listeners, its measurements, and a verdict that can be false."""

import copy
import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import kendalltau

from penchant.errors import DataError
from penchant.evaluate.rating_baselines import davidson
from penchant.reproductions import listeners
from penchant.reproductions import music_arena as reproduction
from penchant.reproductions.listeners import N_SYSTEMS, N_VOCAL, able, cast, chances, true_scores, uniform_pairs, world


@pytest.fixture(scope="module")
def here():
    return world(np.random.default_rng(5))


@pytest.fixture(scope="module")
def one_run():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(reproduction._SCALES, "tiny", reproduction.Scale(40, 2, 1, 3, 300))
        return reproduction.run(7, "tiny", lambda line: None)


def votes_of(here, n, seed):
    rng = np.random.default_rng(seed)
    return cast(here, *uniform_pairs(able(n, rng), rng), rng)


def test_chances_are_davidsons():
    """The library's own fit of that model finds what the votes were drawn from."""
    difference = 0.7
    alike = listeners.World(
        np.tile(np.linspace(0, difference * (N_SYSTEMS - 1), N_SYSTEMS), (2000, 1)),
        np.full(2000, 1 / 2000),
        np.zeros(2000, dtype=bool),
    )
    found, ties = davidson(votes_of(alike, 200_000, 0).counts())
    assert np.diff(found) == pytest.approx(np.full(N_SYSTEMS - 1, difference), abs=0.06)
    assert ties == pytest.approx(listeners.TIES, abs=0.02)
    win, even = chances(np.array(0.4))
    lose, same = chances(np.array(-0.4))
    assert win + even + lose == pytest.approx(1)
    assert even == pytest.approx(same)


def test_true_scores_are_what_a_board_of_very_many_attentive_votes_arrives_at(here):
    votes = votes_of(here, 600_000, 1)
    listened = votes.of(~here.inattentive[votes.person])
    assert reproduction.board(listened)[0] == pytest.approx(true_scores(here), abs=6)
    assert np.abs(reproduction.board(votes)[0] - true_scores(here)).max() > 12  # inattentive votes are another matter


def test_true_scores_are_those_of_attentive_people_alone(here):
    contrary = np.where(here.inattentive[:, None], -here.liking, here.liking)
    assert true_scores(replace(here, liking=contrary)) == pytest.approx(true_scores(here))
    assert true_scores(replace(here.attentive(), liking=contrary)) != pytest.approx(true_scores(here))


def test_systems_that_do_not_sing_never_answer_a_prompt_with_lyrics():
    rng = np.random.default_rng(2)
    among = able(5000, rng)
    first, second = uniform_pairs(among, rng)
    assert (first != second).all()
    assert max(first[among == N_VOCAL].max(), second[among == N_VOCAL].max()) == N_VOCAL - 1
    assert np.bincount(first[among == N_SYSTEMS], minlength=N_SYSTEMS).min() > 250
    assert np.mean(among == N_VOCAL) == pytest.approx(0.3, abs=0.03)


def test_shares_of_votes_are_those_of_the_card(here):
    votes = votes_of(here, 50_000, 3)
    assert np.isnan(votes.result).mean() == pytest.approx(0.08, abs=0.01)
    assert here.inattentive.mean() == pytest.approx(0.15, abs=0.03)
    careless = here.inattentive[votes.person]
    heard = (votes.heard >= reproduction.GATE).all(axis=1)
    assert heard[careless].mean() < 0.15 < 0.85 < heard[~careless].mean() < 1.0
    counts = votes.ordering().counts()
    assert counts.votes.sum() / 2 == (~np.isnan(votes.result)).sum()


def test_tau_is_kendalls():
    rng = np.random.default_rng(4)
    for one, other in rng.standard_normal((5, 2, 12)):
        assert reproduction.tau(one, other) == pytest.approx(kendalltau(one, other).statistic)


@pytest.mark.parametrize("rule", reproduction.RULES)
def test_every_rule_pairs_only_systems_that_can_answer(rule):
    rng = np.random.default_rng(6)
    among = able(200, rng)
    counts = votes_of(world(rng), 100, 8).ordering().counts()
    first, second = reproduction.RULES[rule](counts, among, rng)
    assert (np.maximum(first, second) < among).all()
    assert (first != second).all()


def test_informed_pairs_hear_a_system_that_nobody_has_heard(here):
    votes = votes_of(here, 400, 9).ordering()
    without = votes.of((votes.first != 9) & (votes.second != 9)).counts()
    rng = np.random.default_rng(10)
    among = np.full(400, N_SYSTEMS)
    met = {name: np.mean(np.stack(rule(without, among, rng)) == 9) for name, rule in reproduction.RULES.items()}
    assert met["informed"] > 1.5 * met["uniform"]


def test_a_race_ends_only_when_the_order_is_right(here):
    calm = here.attentive()
    truth = true_scores(calm)
    rule = reproduction.RULES["uniform"]
    needed = reproduction.votes_needed(calm, truth, rule, 3000, np.random.default_rng(0))
    assert 30 <= needed <= 3000
    assert reproduction.votes_needed(calm, 2000 - truth, rule, 600, np.random.default_rng(0)) == 600


def test_a_run_is_plain_data_and_says_that_people_are_simulated(one_run):
    assert json.loads(json.dumps(one_run)) == one_run
    outcome = reproduction.verdict([one_run])
    assert all("imulated" in note or note.startswith(("Real", "Published")) for note in outcome.notes)
    assert outcome.ours - outcome.baseline == pytest.approx(outcome.interval.estimate)


def test_intervals_of_simulated_arenas_cover_the_truth(one_run):
    covered = reproduction._column([one_run], 1000, "board", "covered")
    assert 0.90 < covered.mean() < 0.99


def test_an_arena_with_broken_intervals_does_not_cover(monkeypatch):
    """Half as wide as they should be: about 67 % cover."""
    whole = reproduction.leaderboard

    def half(battles):
        board = whole(battles)
        rows = [
            replace(row, ci_low=(row.score + row.ci_low) / 2, ci_high=(row.score + row.ci_high) / 2)
            for row in board.standings
        ]
        return replace(board, standings=tuple(rows))

    monkeypatch.setattr(reproduction, "leaderboard", half)
    rng = np.random.default_rng(11)
    worlds = [{str(n): reproduction.measured(world(rng), n, rng) for n in (300,)} for _ in range(25)]
    assert 0.5 < reproduction._column([{"worlds": worlds}], 300, "board", "covered").mean() < 0.85


def shaped(run, *, covered=0.95, elo=0.7, gated=10.0, informed=500):
    """The same run with results of known size."""
    rng = np.random.default_rng(12)
    made = copy.deepcopy(run)
    for found in made["worlds"]:
        for one in found.values():
            noise = 0.005 * rng.standard_normal()
            one["board"]["covered"] = covered + noise
            one["tau"] |= {"arena": 0.8 + noise, "elo 4": elo, "elo 32": elo}
            one["error"] = {"all": 20.0 + noise, "gated": gated}
    made["needed"]["uniform"] = [[600 + n] for n in range(10)]
    made["needed"]["informed"] = [[informed]] * 10
    made["needed"]["best pair"] = [[informed]] * 10
    return made


@pytest.mark.parametrize(
    ("sizes", "fails"),
    [
        ({}, ""),
        ({"covered": 0.7}, "A"),
        ({"covered": 0.995}, "A"),
        ({"elo": 0.85}, "B"),
        ({"gated": 25.0}, "C"),
        ({"informed": 700}, "D"),
    ],
)
def test_the_verdict_needs_all_four_parts(one_run, sizes, fails):
    outcome = reproduction.verdict([shaped(one_run, **sizes)])
    assert outcome.holds is not bool(fails)
    failed = {note[0] for note in outcome.notes if "does not hold" in note}
    assert failed == set(fails)


def test_both_styles_of_published_intervals_are_read_and_others_refused():
    assert reproduction.interval_ends("+134.6 / -110.0") == (134.6, 110.0)
    assert reproduction.interval_ends("±95") == (95.0, 95.0)
    with pytest.raises(DataError, match="expected"):
        reproduction.interval_ends("95")


def published(rank, score, interval="±10"):
    row = {"snapshot": "2025", "kind": "vocal", "Rank": rank, "Arena Score": score, "95% CI": interval, "# Votes": "40"}
    return dict(row)


def test_published_boards_whose_ranks_do_not_follow_scores_are_refused():
    good = [published("2", "900.5"), published("1", "1010", "+3 / -4")]
    assert reproduction.published_boards(good) == {"systems": 2, "boards": 1, "even": 1, "fewest": 40}
    with pytest.raises(DataError, match="do not follow"):
        reproduction.published_boards([published("1", "900.5"), published("2", "1010")])
    with pytest.raises(DataError, match="row 2 of 2"):
        reproduction.published_boards([good[1], published("2", "n/a")])


def test_published_snapshots_and_real_votes_are_read(shared_data, monkeypatch):
    monkeypatch.setenv("PENCHANT_DATA", str(shared_data))
    found = reproduction._published()
    assert (found["systems"], found["boards"], found["even"]) == (66, 10, 31)
    rows = reproduction.real_votes("pandalm_human")
    assert len(rows) == 3 * 690
    assert len({name for row in rows for name in row[1:3]}) == 5
    assert (
        np.mean(reproduction.split_halves(reproduction.real_votes("mtbench_votes"), 10, np.random.default_rng(0))) > 0.8
    )


def test_halves_of_votes_without_a_preference_have_no_order_in_common():
    rng = np.random.default_rng(13)
    names = [f"m{place}" for place in range(12)]
    rows = [(str(n), *rng.choice(names, 2, replace=False), float(rng.random() < 0.5)) for n in range(3000)]
    sure = [(question, a, b, float(a < b)) for question, a, b, _ in rows]
    assert abs(np.mean(reproduction.split_halves(rows, 20, rng))) < 0.3
    assert np.mean(reproduction.split_halves(sure, 5, rng)) > 0.95


def test_the_figure_draws_all_four_claims(one_run):
    pytest.importorskip("matplotlib")
    assert len(reproduction.figure([one_run, one_run]).axes) == 4
