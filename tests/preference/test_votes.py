"""Comparisons as numbers: each response once, whatever it stands in."""

import numpy as np
import pytest

from penchant.cache import RowCache
from penchant.encoders import Attributes, Cached, Joined, encode_prompts
from penchant.errors import DataError
from penchant.preference.votes import (
    compacted,
    encoded_prompts,
    joint_codes,
    of_people,
    read_votes,
    rows_of,
    some_people,
)
from penchant.records import Comparisons
from penchant.style import Style
from penchant.turns import Turn, turns


class Counted:
    """Counts letters, and what it was asked for."""

    name = "letters"

    def __init__(self):
        self.asked = []

    def encode(self, payloads):
        self.asked += payloads
        return np.array([[len(text), text.count("a")] for text in payloads], dtype=np.float32).reshape(-1, 2)


def comparisons():
    return Comparisons.from_rows(
        [
            {"prompt": "p", "chosen": "aa", "rejected": "b", "user": "zoe", "strength": 0.75},
            {"prompt": "p", "chosen": "b", "rejected": "aa", "margin": 2.0},
            {"prompt": "q", "chosen": "aa", "rejected": "ccc", "user": "ann", "context": "c"},
            {"prompt": "q", "chosen": "aa", "rejected": "ccc", "user": "zoe"},
        ]
    )


def test_every_pair_has_the_vectors_of_its_two_turns_and_each_turn_is_encoded_once():
    encoder = Counted()
    votes = read_votes(encoder, comparisons())
    assert len(encoder.asked) == len(set(encoder.asked)) == 6
    for side in ("chosen", "rejected"):
        expected = Counted().encode([turn.text() for turn in turns(comparisons(), side)])
        np.testing.assert_array_equal(votes.vectors[getattr(votes, side)], expected)
    assert votes.strength.tolist() == [0.75, 1, 1, 1]
    assert votes.margin.tolist() == [0, 2, 0, 0]


def test_people_are_numbered_in_order_of_name_and_nobody_is_minus_one():
    votes = read_votes(Counted(), comparisons())
    assert votes.people == ("ann", "zoe")
    assert votes.user.tolist() == [1, -1, 0, 1]
    assert {person: len(own) for person, own in votes.each()} == {"ann": 1, "zoe": 2}
    assert {person: rows.tolist() for person, rows in rows_of(comparisons()).items()} == {"ann": [2], "zoe": [0, 3]}
    assert len(of_people(comparisons(), ["zoe"])) == 2


def test_prompts_are_encoded_once_each_and_not_at_all_where_they_mean_nothing():
    encoder = Counted()
    vectors, places = encoded_prompts(encoder, comparisons())
    assert len(encoder.asked) == 3
    assert len(set(places.tolist())) == 3
    assert vectors[places[0]].tolist() == vectors[places[1]].tolist()
    assert encoded_prompts(Style(), comparisons())[0].shape == (3, 0)
    assert encode_prompts(Joined(Style(), Counted(), Attributes(["x"])), [Turn("aa", "")]).tolist() == [[4, 2]]


def test_vectors_that_are_kept_know_whose_they_are(tmp_path):
    cache = RowCache(tmp_path / "cache.db")
    read_votes(Cached(Counted(), cache), comparisons())
    assert cache.forget("zoe") > 0
    encoder = Counted()
    read_votes(Cached(encoder, cache), comparisons())
    assert len(encoder.asked) == 4  # all but the two that only ann and nobody named have asked for
    with pytest.raises(DataError, match="no comparisons"):
        read_votes(encoder, comparisons().take([]))


def test_columns_of_very_many_values_are_told_apart():
    big = np.array([0, 2**40, 2**40, 0])
    joint = joint_codes(big, big[::-1], np.array([-1, -1, 0, 0]))
    assert len(set(joint.tolist())) == 4
    assert joint_codes(big, big)[0] == joint_codes(big, big)[3]


def test_numbers_that_are_not_finite_are_refused():
    class Broken(Counted):
        def encode(self, payloads):
            return np.full((len(payloads), 2), np.nan, dtype=np.float32)

    with pytest.raises(DataError, match="NaN or infinite numbers for 6 of 6"):
        read_votes(Broken(), comparisons())


def test_pairs_keep_what_they_are_when_only_some_responses_and_people_stay():
    votes = read_votes(Counted(), comparisons())
    few, responses = compacted(votes.of([2, 1]))
    assert few.people == ("ann",)
    assert few.user.tolist() == [0, -1]
    np.testing.assert_array_equal(few.vectors, votes.vectors[responses])
    for side in ("chosen", "rejected"):
        there = few.vectors[getattr(few, side)]
        np.testing.assert_array_equal(there, votes.vectors[getattr(votes, side)[[2, 1]]])


def test_people_are_drawn_with_all_of_their_votes():
    votes = read_votes(Counted(), comparisons())
    assert some_people(votes, 4) is votes
    for seed in range(5):
        few = some_people(votes, 2, seed=seed)
        assert 1 <= len(few) <= 2
        assert all((few.user == user).sum() == (votes.user == user).sum() for user in set(few.user.tolist()))
