"""Votes as numbers: counted as one by one, whose they are, what is left out, and words that are no outcome."""

import numpy as np
import pytest

from penchant.errors import DataError, SettingsError
from penchant.evaluate.ballots import ballots
from penchant.preference.counts import Counts
from penchant.records import Battles

SYSTEMS = ("x", "y", "z")


def rows(n=200, *, seed=0, n_people=7):
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(n):
        a, b = rng.choice(3, 2, replace=False)
        outcome = str(rng.choice(["a", "b", "tie", "both_bad"], p=[0.4, 0.3, 0.2, 0.1]))
        user = f"u{rng.integers(n_people)}"
        made.append({"system_a": SYSTEMS[a], "system_b": SYSTEMS[b], "outcome": outcome, "user": user})
    return made


def test_counts_are_those_of_going_through_the_votes_one_by_one():
    made = rows()
    votes = ballots(Battles.from_rows(made))
    place = {name: at for at, name in enumerate(votes.systems)}
    wins, ties, bad, fought = np.zeros((3, 3)), np.zeros((3, 3)), dict.fromkeys(SYSTEMS, 0), dict.fromkeys(SYSTEMS, 0)
    for row in made:
        a, b = place[row["system_a"]], place[row["system_b"]]
        for name in (row["system_a"], row["system_b"]):
            fought[name] += 1
            bad[name] += row["outcome"] == "both_bad"
        wins[a, b] += row["outcome"] == "a"
        wins[b, a] += row["outcome"] == "b"
        ties[a, b] += row["outcome"] == "tie"
        ties[b, a] += row["outcome"] == "tie"
    np.testing.assert_array_equal(votes.counts.wins, wins)
    np.testing.assert_array_equal(votes.counts.ties, ties)
    assert votes.both_bad_rates == pytest.approx({name: bad[name] / fought[name] for name in SYSTEMS})
    assert votes.n_votes + votes.n_both_bad == len(made)


def test_rows_of_votes_add_up_to_the_same_counts_and_so_do_those_of_people():
    votes = ballots(Battles.from_rows(rows()))
    one_by_one = Counts.of(
        np.r_[votes.first, votes.second],
        np.r_[votes.second, votes.first],
        np.r_[votes.result == 1, votes.result == 0],
        3,
        ties=np.r_[votes.result == 0.5, np.zeros(votes.n_votes)],
    )
    np.testing.assert_array_equal(one_by_one.score, votes.counts.score)
    first, second = votes.pairs
    games, won = votes.by_person
    np.testing.assert_allclose(won.sum(axis=0), votes.counts.score[first, second])
    np.testing.assert_allclose(games.sum(axis=0), (votes.counts.score + votes.counts.score.T)[first, second])
    whose = np.array(votes.people)[votes.person]
    np.testing.assert_allclose(games.sum(axis=1), [(whose == name).sum() for name in votes.people])


def test_a_system_that_was_only_ever_found_bad_is_not_ranked_but_its_rate_is_told():
    made = rows(50)
    made += [{"system_a": "bad", "system_b": "x", "outcome": "both_bad"}] * 3
    votes = ballots(Battles.from_rows(made))
    assert "bad" not in votes.systems
    assert votes.both_bad_rates["bad"] == 1.0
    assert ballots(votes.kept(np.zeros(votes.n_votes, bool) | (votes.result == 1))).n_votes == (votes.result == 1).sum()


def test_unknown_words_one_system_only_and_a_system_against_itself_are_refused_where_they_come_in():
    for bad, message in (
        ({"system_a": "x", "system_b": "y", "outcome": "A"}, "none of a, b, tie, both_bad"),
        ({"system_a": "x", "system_b": "x", "outcome": "a"}, "are the same"),
        ({"system_a": "x", "system_b": None, "outcome": "a"}, "`system_b` is missing"),
    ):
        with pytest.raises(DataError, match=message):
            Battles.from_rows([bad])
    with pytest.raises(DataError, match="None of 0 votes"):
        ballots(Battles.from_rows([]))


def test_of_somebody_with_more_votes_than_count_each_weighs_less_and_all_counts_agree():
    made = [*rows(60), *({"system_a": "x", "system_b": "y", "outcome": "a", "user": "often"} for _ in range(100))]
    made += [{"system_a": "y", "system_b": "z", "outcome": "tie"}]
    plain, capped = ballots(Battles.from_rows(made)), ballots(Battles.from_rows(made), per_person=10)
    whose = np.array([*capped.people, ""])[capped.person]
    for name in {row.get("user", "") for row in made}:
        mine = whose == name
        weight = mine.sum() if name == "" else min(10, mine.sum())
        np.testing.assert_allclose(capped.weight[mine], weight / mine.sum())
    assert capped.n_capped == sum((whose == name).sum() > 10 for name in capped.people)
    # Counted vote by vote, whatever way the table is made.
    for power, counted in ((1, capped.counts), (2, capped.squares)):
        won, even = np.zeros((3, 3)), np.zeros((3, 3))
        for i, j, result, weight in zip(capped.first, capped.second, capped.result, capped.weight**power, strict=True):
            won[i, j] += weight * (result == 1)
            won[j, i] += weight * (result == 0)
            even[[i, j], [j, i]] += weight * (result == 0.5)
        np.testing.assert_allclose(counted.wins, won)
        np.testing.assert_allclose(counted.ties, even)
    games, won = capped.by_person
    np.testing.assert_allclose(games.sum(axis=1).max(), 10)
    first, second = capped.pairs
    names = np.array(capped.systems)
    nameless = (names[first] != "x") & (names[second] != "x")
    np.testing.assert_allclose(won.sum(axis=0) + nameless / 2, capped.counts.score[first, second])
    np.testing.assert_array_equal(capped.system_votes, plain.counts.votes)


def test_people_who_are_not_named_cannot_be_limited_and_a_negative_limit_is_none():
    nameless = [{"system_a": "x", "system_b": "y", "outcome": "a"}]
    with pytest.raises(DataError, match="None of 1 votes names its person"):
        ballots(Battles.from_rows(nameless), per_person=5)
    with pytest.raises(SettingsError, match="per_person must be 0"):
        ballots(Battles.from_rows(nameless), per_person=-1)
