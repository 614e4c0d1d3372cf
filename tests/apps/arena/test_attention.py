"""Seconds of attention, from events as pages send them and as they get lost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penchant.apps.arena.attention import LONGEST, Event, attended


def test_overlaps_gaps_and_missing_pauses_count_once_and_never_longer_than_the_clip():
    say = [("a", "PLAY", 0), ("a", "TICK", 10), ("a", "TICK", 3), ("a", "TICK", 12)]
    assert attended([Event(*e) for e in say])["a"] == 12
    assert attended([Event(*e) for e in say], lengths={"a": 5.0})["a"] == 5
    assert attended([Event("a", "PLAY", 0)])["a"] == 0
    assert attended([Event("a", "TICK", 5), Event("a", "PAUSE", 9)])["a"] == 0
    stop = [Event("a", "PLAY", 0), Event("a", "STOP", 2), Event("a", "TICK", 9)]
    assert attended(stop)["a"] == 2


def test_two_clips_are_not_heard_at_once_but_two_texts_are_seen():
    both = [Event("a", "PLAY", 0), Event("b", "PLAY", 0), Event("a", "TICK", 6), Event("b", "TICK", 6)]
    assert attended(both) == {"a": 0.0, "b": 6.0}
    assert attended(both, one_at_a_time=False) == {"a": 6.0, "b": 6.0}


def seconds(*said, **more):
    return attended([Event(*one) for one in said], **more)


def test_a_missing_pause_counts_up_to_the_last_sign_of_life():
    assert seconds(("a", "PLAY", 0), ("a", "TICK", 3))["a"] == 3  # the page was closed
    assert seconds(("a", "PLAY", 0), ("a", "TICK", 3), ("a", "PLAY", 100), ("a", "PAUSE", 102))["a"] == 5


def test_a_pause_that_never_came_counts_no_longer_than_the_clip():
    said = [("a", "PLAY", 0), ("a", "PAUSE", 3600)]
    assert seconds(*said, lengths={"a": 30.0})["a"] == 30
    assert seconds(*said, lengths={"a": None})["a"] == LONGEST
    twice = [*said, ("a", "PLAY", 4000), ("a", "PAUSE", 4010)]
    assert seconds(*twice, lengths={"a": 30.0})["a"] == 40  # the cap is of one play


@pytest.mark.parametrize("end", ["TICK", "PAUSE", "STOP"])
def test_tick_pause_and_stop_all_count_up_to_themselves(end):
    assert seconds(("a", "PLAY", 1), ("a", end, 3.5))["a"] == 2.5


def test_time_that_runs_back_counts_nothing():
    assert seconds(("a", "PLAY", 10), ("a", "PAUSE", 4)) == {"a": 0.0, "b": 0.0}
    assert seconds(("a", "PLAY", 0), ("a", "PAUSE", 5), ("a", "PLAY", 2), ("a", "PAUSE", 6))["a"] == 6  # not 9


def test_two_plays_without_a_pause_between_them_are_two_plays():
    said = [("a", "PLAY", 0), ("a", "TICK", 30), ("a", "PLAY", 100), ("a", "TICK", 130)]
    assert seconds(*said, lengths={"a": 30.0})["a"] == 60


def test_a_second_play_while_it_plays_does_not_count_twice():
    assert seconds(("a", "PLAY", 0), ("a", "TICK", 4), ("a", "PLAY", 4), ("a", "PLAY", 4), ("a", "PAUSE", 6))["a"] == 6


def test_playing_one_ends_the_other():
    assert seconds(("a", "PLAY", 0), ("a", "TICK", 2), ("b", "PLAY", 2), ("b", "TICK", 5), ("a", "PAUSE", 5)) == {
        "a": 2.0,
        "b": 3.0,
    }


def test_nothing_happened_is_no_attention():
    assert attended([]) == {"a": 0.0, "b": 0.0}


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(["PLAY", "TICK", "PAUSE", "STOP"]), st.floats(0, 1000)))
)
def test_whatever_is_said_attention_is_neither_negative_nor_longer_than_the_time_that_passed(said):
    events = [Event(*one) for one in sorted(said, key=lambda one: one[2])]
    found = attended(events)
    passed = events[-1].time - events[0].time if events else 0.0
    assert min(found.values()) >= 0
    assert sum(found.values()) <= passed + 1e-6
    assert max(attended([Event(*one) for one in said], lengths={"a": 9.0, "b": 9.0}).values()) <= 9 * len(said)
