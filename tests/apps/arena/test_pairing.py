"""Who meets whom: only who can, as often as weights and votes say, on either side."""

import random
from collections import Counter

import pytest
from arena_systems import echo

from penchant.apps.arena.pairing import draw, informed, qualified
from penchant.apps.arena.registry import Registry
from penchant.apps.arena.systems import Abilities, Request, System
from penchant.errors import DataError, SettingsError
from penchant.records import Battles

TEXT = Registry({name: System(name, echo) for name in "xyz"})
MUSIC = Registry(
    {
        "hums": System("hums", echo, "audio"),
        "short": System("short", echo, "audio", abilities=Abilities(max_duration=30)),
        "sings": System("sings", echo, "audio", abilities=Abilities(supports_lyrics=True)),
        "choir": System("choir", echo, "audio", abilities=Abilities(supports_lyrics=True, max_duration=60)),
    }
)


def votes(n, a="x", b="y", outcome="a"):
    rows = [{"system_a": a, "system_b": b, "outcome": outcome, "user": f"u{i}", "source": "s"} for i in range(n)]
    return Battles.from_rows(rows)


def drawn(n=4000, registry=TEXT, **more):
    chance = random.Random(7)
    return Counter(draw(registry, Request("x"), drawn=chance, **more) for _ in range(n))


@pytest.mark.parametrize(
    ("request_", "able"),
    [
        (Request("x", "audio"), {"hums", "short", "sings", "choir"}),
        (Request("x", "audio", instrumental=False), {"sings", "choir"}),
        (Request("x", "audio", duration=31), {"hums", "sings", "choir"}),
        (Request("x", "audio", duration=30), {"hums", "short", "sings", "choir"}),
        (Request("x", "audio", duration=90), {"hums", "sings"}),
    ],
)
def test_only_systems_that_can_are_drawn(request_, able):
    pairs = qualified(MUSIC, request_)
    assert {name for pair in pairs for name in pair} == able
    assert len(pairs) == len(able) * (len(able) - 1) // 2


@pytest.mark.parametrize("request_", [Request("x", "image"), Request("x", "audio", instrumental=False, duration=61)])
def test_if_no_two_can_it_says_what_was_wanted(request_):
    with pytest.raises(DataError, match=r"No two systems can make (image|audio with a voice of 61 seconds)"):
        qualified(MUSIC, request_)


def test_who_is_excluded_meets_nobody():
    assert set(qualified(TEXT, Request("x"), excluded={"x"})) == {("y", "z")}
    with pytest.raises(DataError, match="1 of 3"):
        qualified(TEXT, Request("x"), excluded={"x", "y"})


def test_no_system_ever_meets_itself():
    assert all(a != b for a, b in drawn())


def test_each_side_is_as_likely_for_each_system():
    found = drawn()
    for a, b in (("x", "y"), ("x", "z"), ("y", "z")):
        total = found[a, b] + found[b, a]
        assert abs(found[a, b] - total / 2) < 4 * (total / 4) ** 0.5  # four standard deviations


def test_pairs_come_as_often_as_their_weights_say():
    weighted = Registry(TEXT.systems, {("x", "y"): 3.0, ("x", "z"): 0.0})
    found = drawn(registry=weighted, pairing="weights")
    assert found["x", "z"] + found["z", "x"] == 0
    share = (found["x", "y"] + found["y", "x"]) / 4000
    assert share == pytest.approx(0.75, abs=4 * (0.75 * 0.25 / 4000) ** 0.5)


def test_pairs_that_never_meet_are_no_pairs():
    assert set(qualified(Registry(TEXT.systems, {("x", "z"): 0.0}), Request("x"))) == {("x", "y"), ("y", "z")}
    nobody = Registry(TEXT.systems, {("x", "y"): 0.0, ("x", "z"): 0.0, ("y", "z"): 0.0})
    with pytest.raises(DataError, match="3 of 3"):
        qualified(nobody, Request("x"))


def test_a_pair_that_was_voted_on_often_comes_less_often_but_is_never_starved():
    weights = informed(qualified(TEXT, Request("x")), votes(200))
    assert sum(weights.values()) == pytest.approx(1)
    assert weights["x", "y"] < weights["x", "z"]
    assert weights["x", "y"] >= 0.1 / 3
    assert weights["x", "z"] == pytest.approx(weights["y", "z"], rel=0.5)


def test_without_votes_every_pair_is_as_likely():
    for none in (None, votes(1).__class__.from_rows([])):
        assert list(informed(qualified(TEXT, Request("x")), none).values()) == pytest.approx([1 / 3] * 3)


def test_votes_on_who_left_and_votes_without_an_order_change_nothing():
    pairs = qualified(TEXT, Request("x"))
    plain = informed(pairs, None)
    assert informed(pairs, votes(50, "gone", "x")) == plain
    assert informed(pairs, votes(50, outcome="both_bad")) == plain
    assert informed(pairs, votes(50, outcome="tie")) != plain


def test_chance_of_who_plays_cannot_be_foreseen():
    assert isinstance(draw.__kwdefaults__["drawn"], random.SystemRandom)


def test_an_arena_of_one_is_refused():
    with pytest.raises(SettingsError, match="at least two"):
        Registry({"x": System("x", echo)})
    with pytest.raises(SettingsError, match="no system"):
        Registry({})
