"""Leaderboards: choix on the same votes, coverage of intervals, whose votes they are, and votes that order nothing."""

import csv
import json
from pathlib import Path

import choix
import numpy as np
import pytest
from scipy.special import expit

from penchant.errors import DataError, SettingsError
from penchant.evaluate.leaderboard import POINTS, leaderboard
from penchant.feedback.importing import read
from penchant.preference.counts import Counts, abilities
from penchant.records import Battles

REFERENCE = Path(__file__).resolve().parents[3] / "shared" / "data" / "bradley_terry_reference"


def battles(n=3000, n_systems=6, *, seed=0, truth=None, ties=0.15, n_people=0, whims=0.0):
    rng = np.random.default_rng(seed)
    truth = np.linspace(-1, 1, n_systems) if truth is None else truth
    people = rng.integers(n_people, size=n) if n_people else None
    liking = truth + whims * rng.standard_normal((max(n_people, 1), n_systems))
    rows = []
    for vote in range(n):
        a, b = rng.choice(n_systems, 2, replace=False)
        who = 0 if people is None else people[vote]
        wins = rng.random() < expit(liking[who, a] - liking[who, b])
        outcome = "tie" if rng.random() < ties else "a" if wins else "b"
        row = {"system_a": f"s{a}", "system_b": f"s{b}", "outcome": outcome}
        rows.append(row if people is None else row | {"user": f"u{who}"})
    return Battles.from_rows(rows)


def test_scores_are_those_of_choix_with_a_tie_as_half_a_win_for_each():
    votes = battles(500)
    rows = votes.table.to_pylist()
    pairs = []
    for row in rows:
        a, b = int(row["system_a"][1:]), int(row["system_b"][1:])
        pairs += {"a": [(a, b)] * 2, "b": [(b, a)] * 2, "tie": [(a, b), (b, a)]}[row["outcome"]]
    theirs = choix.opt_pairwise(6, pairs, tol=1e-12)
    theirs = 1000 + POINTS * (theirs - theirs.mean())
    ours = {row.system: row.score for row in leaderboard(votes).standings}
    np.testing.assert_allclose([ours[f"s{place}"] for place in range(6)], theirs, atol=1e-4)
    assert sum(ours.values()) == pytest.approx(6000)


def test_the_best_comes_first_and_votes_are_counted():
    board = leaderboard(battles())
    scores = [row.score for row in board.standings]
    assert scores == sorted(scores, reverse=True)
    assert sum(row.votes for row in board.standings) == 2 * board.n_votes == 6000
    assert board.why_prior == ""


@pytest.mark.parametrize("whims", [0.0, 1.0])
def test_intervals_hold_the_truth_about_as_often_as_they_say_also_where_people_differ(whims):
    truth = np.linspace(-0.5, 0.5, 4)
    inside, over_votes = [], []
    for seed in range(60):
        votes = battles(600, 4, seed=seed, truth=truth, ties=0.0, n_people=40, whims=whims)
        board = leaderboard(votes)
        assert board.by_person
        # What people like on average: of whims the logistic curve keeps less than the whole distance.
        shrunk = truth / np.sqrt(1 + np.pi / 8 * 2 * whims**2)
        inside += [row.ci_low <= 1000 + POINTS * shrunk[int(row.system[1:])] <= row.ci_high for row in board.standings]
        half = 1.96 * POINTS * np.sqrt(np.diag(board.fit.sandwich))
        over_votes += [
            abs(row.score - 1000 - POINTS * shrunk[int(row.system[1:])]) <= half[board.systems.index(row.system)]
            for row in board.standings
        ]
    assert 0.88 <= np.mean(inside) <= 0.99
    if whims:
        assert np.mean(over_votes) < np.mean(inside) - 0.03  # votes of one person are no independent votes


def test_votes_that_found_both_bad_order_nothing_and_are_counted():
    votes = battles(200).table.to_pylist()
    bad = [{"system_a": "s0", "system_b": "s5", "outcome": "both_bad"}] * 50
    with_bad, without = leaderboard(Battles.from_rows([*votes, *bad])), leaderboard(Battles.from_rows(votes))
    assert with_bad.standings == without.standings
    assert (with_bad.n_votes, with_bad.n_both_bad) == (200, 50)
    with pytest.raises(DataError, match="None of 50 votes"):
        leaderboard(Battles.from_rows(bad))


def test_systems_that_were_never_compared_get_a_prior_and_it_is_said():
    apart = [
        {"system_a": a, "system_b": b, "outcome": outcome}
        for a, b in (("x", "y"), ("v", "w"))
        for outcome in ("a", "a", "b")
    ]
    board = leaderboard(Battles.from_rows(apart))
    assert board.why_prior.startswith("2 groups of systems were never compared with each other")
    always = leaderboard(Battles.from_rows([{"system_a": "x", "system_b": "y", "outcome": "a"}] * 3))
    assert "every time" in always.why_prior
    assert np.isfinite([row.ci_high for row in always.standings]).all()


@pytest.mark.parametrize(
    ("file", "key"),
    [
        ("citations.csv", "citations"),
        ("baseball.csv", "baseball"),
        ("cems_choices.csv.gz", "CEMS_rows_in_this_folder"),
        ("pudding_ties.csv", None),
        ("football.csv.gz", None),
    ],
)
def test_on_classic_sets_it_is_choix_to_six_digits_and_the_published_abilities(file, key):
    if not (REFERENCE / file).exists():
        pytest.skip("shared/data/bradley_terry_reference is not beside the repository")
    battles = read(REFERENCE / file).records["battle"]
    board = leaderboard(battles)
    place = {name: number for number, name in enumerate(board.systems)}
    pairs = []
    for row in battles.table.to_pylist():
        i, j = place[row["system_a"]], place[row["system_b"]]
        pairs += {"a": [(i, j)] * 2, "b": [(j, i)] * 2, "tie": [(i, j), (j, i)]}.get(row["outcome"], [])
    theirs = choix.opt_pairwise(len(place), pairs, method="Newton-CG", tol=1e-13)
    np.testing.assert_allclose(board.fit.abilities, theirs - theirs.mean(), atol=1e-6)
    if key:
        published = json.loads((REFERENCE / "reference_fits.json").read_text(encoding="utf-8"))[key]
        base = next(one["item"] for one in published if one["se"] == 0)
        ours = {name: board.fit.abilities[place[name]] - board.fit.abilities[place[base]] for name in place}
        assert ours == pytest.approx({one["item"]: one["ability"] for one in published}, abs=1e-4)


def test_the_deviance_of_published_tables_is_the_published_one():
    if not (REFERENCE / "citations.csv").exists():
        pytest.skip("shared/data/bradley_terry_reference is not beside the repository")
    published = json.loads((REFERENCE / "reference_fits.json").read_text(encoding="utf-8"))["deviance"]
    for name, columns in (("citations", ("journal1", "journal2", "win1", "win2")),):
        with (REFERENCE / f"{name}.csv").open(encoding="utf-8") as lines:
            rows = [[row[column] for column in columns] for row in csv.DictReader(lines)]
        items = sorted({item for row in rows for item in row[:2]})
        i, j = (np.array([items.index(row[side]) for row in rows]) for side in (0, 1))
        won, lost = (np.array([float(row[side]) for row in rows]) for side in (2, 3))
        found = abilities(Counts.of(np.r_[i, j], np.r_[j, i], np.r_[won, lost], len(items))).abilities
        p = expit(found[i] - found[j])
        deviance = 2 * (won * np.log(won / ((won + lost) * p)) + lost * np.log(lost / ((won + lost) * (1 - p)))).sum()
        assert deviance == pytest.approx(published[name][0], abs=1e-6)
        assert len(rows) - len(items) + 1 == published[name][1]


def test_the_same_vote_twice_counts_twice_and_the_order_of_votes_does_not_matter():
    rows = battles(300).table.to_pylist()
    once, twice = leaderboard(Battles.from_rows(rows)), leaderboard(Battles.from_rows([*rows, *rows[::-1]]))
    for one, two in zip(once.standings, twice.standings, strict=True):
        assert (one.system, 2 * one.votes) == (two.system, two.votes)
        assert one.score == pytest.approx(two.score, abs=1e-6)
        assert two.ci_high - two.ci_low == pytest.approx((one.ci_high - one.ci_low) / np.sqrt(2), rel=1e-6)


def test_a_clean_sweep_of_few_votes_is_not_called_certain():
    board = leaderboard(Battles.from_rows([{"system_a": "x", "system_b": "y", "outcome": "a"}] * 30))
    best, worst = board.standings
    assert board.prior > 0
    assert best.ci_low < best.score < best.ci_high
    assert best.ci_high - best.ci_low > 100
    assert worst.score == pytest.approx(2000 - best.score)


def test_a_level_that_is_none_is_refused():
    with pytest.raises(SettingsError, match=r"0\.95 is 95 %"):
        leaderboard(battles(50), level=95)


def uneven(n_people, *, seed, truth, whims):
    """Votes of people of whom some cast many times as many as others."""
    rng = np.random.default_rng(seed)
    liking = truth + whims * rng.standard_normal((n_people, len(truth)))
    made = []
    for person, n in enumerate(rng.choice([5, 15, 200], n_people, p=[0.5, 0.4, 0.1])):
        for _ in range(n):
            a, b = rng.choice(len(truth), 2, replace=False)
            wins = rng.random() < expit(liking[person, a] - liking[person, b])
            made.append({"system_a": f"s{a}", "system_b": f"s{b}", "outcome": "ab"[not wins], "user": f"u{person}"})
    return made


def test_with_a_limit_for_each_person_intervals_over_people_hold_the_truth_and_are_narrower():
    truth, inside, width = np.linspace(-0.5, 0.5, 4), {0: [], 20: []}, {0: [], 20: []}
    shrunk = truth / np.sqrt(1 + np.pi / 8 * 2)
    for seed in range(60):
        votes = Battles.from_rows(uneven(80, seed=seed, truth=truth, whims=1.0))
        for per_person in (0, 20):
            board = leaderboard(votes, per_person=per_person)
            for row in board.standings:
                at = 1000 + POINTS * shrunk[int(row.system[1:])]
                inside[per_person].append(row.ci_low <= at <= row.ci_high)
                width[per_person].append(row.ci_high - row.ci_low)
    assert 0.90 <= np.mean(inside[20]) <= 0.99
    assert np.mean(width[20]) < 0.8 * np.mean(width[0])  # a few people no longer speak for all


def test_of_fewer_people_the_sandwich_is_that_of_votes_with_their_weights():
    votes = Battles.from_rows(uneven(12, seed=1, truth=np.linspace(-0.5, 0.5, 4), whims=0.3))
    board = leaderboard(votes, per_person=10)
    assert not board.by_person
    cast, found = board.votes, board.fit.abilities
    n, meat, bread = len(cast.systems), np.zeros((4, 4)), np.zeros((4, 4))
    for i, j, result, weight in zip(cast.first, cast.second, cast.result, cast.weight, strict=True):
        x = np.eye(n)[i] - np.eye(n)[j]
        p = expit(found[i] - found[j])
        meat += weight**2 * (result - p) ** 2 * np.outer(x, x)
        bread += weight * p * (1 - p) * np.outer(x, x)
    np.testing.assert_allclose(board.covariance, np.linalg.pinv(bread) @ meat @ np.linalg.pinv(bread), rtol=1e-6)


def test_one_who_votes_a_thousand_times_moves_a_target_by_a_place_at_most_where_nobody_counts_for_more_than_thirty():
    truth = np.linspace(0.8, -0.8, 8)
    for seed in range(5):
        clean = uneven(100, seed=seed, truth=truth, whims=0.3)
        hostile = [
            {"system_a": "s5", "system_b": f"s{other}", "outcome": "a", "user": "hostile"}
            for other in (0, 1, 2, 3, 4, 6, 7)
            for _ in range(143)
        ]

        def moved(per_person, clean=clean, hostile=hostile):
            places = [
                [row.system for row in leaderboard(Battles.from_rows(rows), per_person=per_person).standings].index(
                    "s5"
                )
                for rows in (clean, [*clean, *hostile])
            ]
            return places[0] - places[1]

        assert moved(0) >= 2
        assert moved(30) <= 1


def test_a_limit_that_nobody_reaches_changes_nothing():
    votes = battles(400, n_people=30)
    np.testing.assert_allclose(
        leaderboard(votes, per_person=400).covariance, leaderboard(votes).covariance, rtol=1e-9, atol=1e-15
    )
