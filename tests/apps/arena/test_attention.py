from penchant.apps.arena.attention import Event, attended


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
