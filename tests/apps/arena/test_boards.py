"""Leaderboards: none before there are votes, who has enough of them, how often both were bad, how fast."""

import numpy as np
import pytest
from arena_inside import SYSTEMS, Clock, battle

from penchant.apps.arena import storage
from penchant.apps.arena.battles import Book, Rules, records
from penchant.apps.arena.boards import LEAST_VOTES, MOST_OF_ONE, board, every_board
from penchant.evaluate.leaderboard import POINTS, leaderboard


@pytest.fixture
def database(tmp_path):
    database = storage.Database(f"sqlite:///{tmp_path / 'arena.db'}")
    yield database
    database.close()


BOOK = Book(Rules(gate=0.0), Clock())


def votes(database, n, preference, pair=("calm", "loud"), **about):
    for place in range(n):
        battle(database, BOOK, vote=preference, pair=pair, session=f"person {place % 7}", **about)


def shown(database, name="text"):
    return database.read(lambda c: board(c, name, SYSTEMS))


def test_below_thirty_votes_there_is_no_board_and_it_says_why(database):
    votes(database, 29, "A")
    found = shown(database)
    assert (found["rows"], found["votes"]) == ([], 29)
    assert found["why_not"] == "29 votes so far; a ranking is shown from 30 on, 1 more."


def test_votes_that_found_both_bad_do_not_make_a_board(database):
    votes(database, 29, "A")
    votes(database, 10, "BOTH_BAD")
    assert shown(database)["why_not"] == "29 votes so far; a ranking is shown from 30 on, 1 more."
    votes(database, 1, "B")
    assert len(shown(database)["rows"]) == 2


def test_an_empty_board_says_so(database):
    assert shown(database)["why_not"].startswith("0 votes so far")


def test_scores_are_those_of_the_evaluation_on_the_same_votes(database):
    votes(database, 24, "A")
    votes(database, 6, "B")
    votes(database, 6, "TIE")
    found = shown(database)
    expected = leaderboard(database.read(lambda c: records(c, board="text"))).standings
    assert [row["system"] for row in found["rows"]] == ["calm", "loud"]
    assert [row["score"] for row in found["rows"]] == [row.score for row in expected]
    assert sum(row["score"] for row in found["rows"]) == pytest.approx(2000)
    assert all(row["ci_low"] < row["score"] < row["ci_high"] for row in found["rows"])


def test_one_visitor_who_votes_a_thousand_times_counts_for_thirty(database):
    votes(database, 60, "A")
    for _ in range(200):
        battle(database, BOOK, vote="B", pair=("calm", "loud"), session="hostile")
    found = shown(database)
    assert [row["system"] for row in found["rows"]] == ["calm", "loud"]  # 60 to 30 and not 60 to 200
    assert found["rows"][0]["score"] - found["rows"][1]["score"] == pytest.approx(POINTS * np.log(60 / MOST_OF_ONE))
    assert (found["votes"], found["capped"]) == (260, 1)


def test_the_rate_of_both_bad_is_of_each_systems_own_battles(database):
    votes(database, 30, "A")
    votes(database, 10, "BOTH_BAD")
    votes(database, 30, "A", pair=("calm", "third"))
    rates = {row["system"]: row["both_bad_rate"] for row in shown(database)["rows"]}
    assert rates == {"calm": pytest.approx(10 / 70), "loud": pytest.approx(10 / 40), "third": 0}


def test_a_system_with_few_votes_is_named_but_not_ranked(database):
    votes(database, 30, "A")
    votes(database, LEAST_VOTES - 1, "B", pair=("calm", "newcomer"))
    found = shown(database)
    assert [row["system"] for row in found["rows"]] == ["calm", "loud"]
    assert "fewer than 30 votes each: newcomer" in found["why_not"]


def test_a_system_that_left_is_still_ranked_by_its_name(database):
    votes(database, 30, "A", pair=("gone", "calm"))
    [gone] = [row for row in shown(database)["rows"] if row["system"] == "gone"]
    assert "organisation" not in gone


def test_votes_that_were_not_blind_are_left_out_and_counted(database):
    votes(database, 30, "A")
    votes(database, 4, "B", a={"names_itself": True})
    found = shown(database)
    assert (found["votes"], found["not_blind"]) == (30, 4)


def test_speed_is_the_median_over_all_battles_and_unknown_where_no_time_passed(database):
    for took in (1.0, 2.0, 10.0):
        battle(database, BOOK, a={"seconds": 10.0, "end": took}, b={"seconds": 10.0, "end": 0.0})
    votes(database, 30, "A", b={"seconds": 10.0, "end": 0.0})
    speeds = {row["system"]: row["speed"] for row in shown(database)["rows"]}
    assert speeds == {"calm": 5.0, "loud": None}


def test_boards_are_shown_for_what_can_be_asked_for_or_was_voted_on(database):
    def titles(systems):
        return [one["board"] for one in database.read(lambda c: every_board(c, systems))]

    assert titles(SYSTEMS) == ["text", "image", "instrumental"]  # nobody sings
    assert titles({"calm": SYSTEMS["calm"], "loud": SYSTEMS["loud"]}) == ["text"]
    votes(database, 1, "A")
    assert "text" in titles({"red": SYSTEMS["red"], "wine": SYSTEMS["wine"]})
