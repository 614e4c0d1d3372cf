"""Listening time: what players report, also where they report nonsense."""

import numpy as np
import pytest

from penchant.errors import DataError, SettingsError
from penchant.evaluate.attention import attention


def seconds(*events, clip=30.0, closed_at=None):
    return attention(events, clip_seconds=clip, closed_at=closed_at).seconds


def test_stop_ends_listening_as_pause_does_and_ticks_change_nothing():
    assert seconds(("PLAY", 1), ("STOP", 4)) == seconds(("PLAY", 1), ("PAUSE", 4)) == 3
    assert seconds(("PLAY", 1), ("TICK", 2), ("TICK", 3), ("PAUSE", 4)) == 3
    assert seconds(("PLAY", 1), ("PAUSE", 2), ("STOP", 2.5), ("PAUSE", 3), ("PLAY", 5), ("STOP", 7)) == 3
    assert seconds() == 0


def test_listening_is_the_length_of_the_union_of_what_was_played():
    rng = np.random.default_rng(0)
    for _ in range(50):
        times = np.sort(rng.uniform(0, 60, 8))
        events = [(kind, time) for kind, time in zip(["PLAY", "PAUSE", "PLAY", "STOP"] * 2, times, strict=True)]
        grid = np.arange(0, 60, 0.001)
        on = sum((grid >= start) & (grid < end) for start, end in zip(times[::2], times[1::2], strict=True))
        assert seconds(*events, clip=100) == pytest.approx(on.sum() * 0.001, abs=0.01)
        shuffled = [events[place] for place in rng.permutation(8)]
        assert attention(shuffled, clip_seconds=100).seconds == pytest.approx(seconds(*events, clip=100))


def test_a_second_play_counts_no_second_twice_and_is_told():
    told = attention([("PLAY", 0), ("PLAY", 2), ("PAUSE", 5)], clip_seconds=30)
    assert told.seconds == 5
    assert told.oddities == {"play while playing": 1}


def test_a_missing_pause_lasts_to_the_last_sign_of_life_or_the_close_and_never_longer_than_the_clip():
    assert seconds(("PLAY", 0), ("TICK", 4)) == 4
    assert seconds(("PLAY", 0), ("TICK", 4), closed_at=6) == 6
    told = attention([("PLAY", 0), ("TICK", 4)], clip_seconds=10, closed_at=500)
    assert told.seconds == 10
    assert told.oddities == {"no pause at the end": 1, "longer than the clip": 1}
    assert seconds(("PLAY", 0), ("PAUSE", 400), ("PLAY", 500), ("PAUSE", 503), clip=10) == 13


def test_a_pause_before_its_play_gives_no_negative_time():
    told = attention([("PLAY", 10), ("PAUSE", 5)], clip_seconds=30)
    assert told.seconds == 0
    assert told.oddities == {"out of order": 1, "no pause at the end": 1}


def test_what_comes_after_the_close_or_without_a_play_counts_for_nothing():
    told = attention([("TICK", 0), ("PLAY", 1), ("PAUSE", 3), ("PLAY", 8), ("PAUSE", 9)], clip_seconds=30, closed_at=5)
    assert told.seconds == 2
    assert told.oddities == {"tick without play": 1, "after the page was closed": 2}


def test_events_that_cannot_be_are_refused():
    with pytest.raises(DataError, match="event 1 of 2 is 'PUASE': did you mean 'PAUSE'"):
        seconds(("PLAY", 0), ("PUASE", 1))
    with pytest.raises(DataError, match="event 0 of 1, a PLAY, has the time nan"):
        seconds(("PLAY", float("nan")))
    with pytest.raises(SettingsError, match="more than 0 seconds"):
        seconds(("PLAY", 0), clip=0)
