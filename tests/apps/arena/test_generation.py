"""Both systems answer: side by side, once more if one fails, and nothing tells which one did."""

import asyncio
import hashlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from arena_systems import echo, tone

from penchant.apps.arena.calls import Calls
from penchant.apps.arena.generation import TRIES, both, healthy
from penchant.apps.arena.systems import Artefact, GenerationError, Request, System


def made(first, second, request=None, **more):
    with ThreadPoolExecutor(4) as pool:
        return asyncio.run(both(first, second, request or Request("hello"), calls=Calls(), pool=pool, **more))


class Failing:
    """Fails so many times, then answers."""

    def __init__(self, times, answer=echo):
        self.times, self.answer, self.asked = times, answer, []

    def __call__(self, request):
        self.asked.append(request)
        if len(self.asked) <= self.times:
            raise RuntimeError("out of memory on host secret-painter-7")
        return self.answer(request)


def test_a_system_that_fails_once_is_asked_again_with_another_seed():
    failing = Failing(1)
    (_, a), (_, b) = made(System("calm", echo), System("shaky", failing))
    assert (a.retries, b.retries) == (0, 1)
    assert len({request.seed for request in failing.asked}) == 2


@pytest.mark.parametrize("swapped", [False, True])
def test_a_system_that_fails_twice_fails_the_battle_without_a_name(swapped):
    failing = Failing(TRIES)
    pair = (System("calm", echo), System("wreck", failing))
    with pytest.raises(GenerationError) as wrong:
        made(*(reversed(pair) if swapped else pair))
    assert str(wrong.value) == "One of the two could not answer this. Please ask again."
    assert len(failing.asked) == TRIES


def test_what_cannot_be_shown_is_asked_for_again():
    replies = [Artefact("text/plain", b"\xff"), echo(Request("at last"))]
    (_, a), _ = made(System("odd", lambda _: replies.pop(0)), System("calm", echo))
    assert a.retries == 1


def test_another_kind_of_artefact_than_was_asked_for_is_a_failure():
    with pytest.raises(GenerationError):
        made(System("calm", echo), System("tone", tone))


def test_both_are_at_work_at_the_same_time():
    meet = threading.Barrier(2, timeout=10)

    def waits(request):
        meet.wait()  # breaks if the other one is not there
        return echo(request)

    made(System("x", waits), System("y", waits))


def test_a_failure_is_told_only_when_the_other_one_is_done():
    go, told = threading.Event(), []

    def slow(request):
        go.wait(10)
        return echo(request)

    def ask():
        with pytest.raises(GenerationError):
            made(System("slow", slow), System("wreck", Failing(TRIES)))
        told.append(time.monotonic())

    asking = threading.Thread(target=ask)
    asking.start()
    asking.join(0.3)
    assert told == []
    go.set()
    asking.join(10)
    assert len(told) == 1


def test_a_system_that_takes_too_long_is_a_failure():
    go = threading.Event()

    def stuck(request):
        go.wait(10)
        return echo(request)

    with pytest.raises(GenerationError):
        made(System("calm", echo), System("stuck", stuck, timeout=0.1))
    go.set()


def test_what_is_kept_of_a_clip_is_its_checksum_length_and_speed():
    ticks = iter([0.0, 0.0, 2.0, 2.0])
    request = Request("x", "audio")
    sent = tone(request)
    (shown, a), _ = made(
        System("low", tone, "audio", access="proprietary"), System("high", tone, "audio"), request,
        clock=lambda: next(ticks),
    )  # fmt: skip
    assert a.checksum == hashlib.sha256(sent.data).hexdigest()  # of what came, not of what is shown
    assert shown.data != sent.data
    assert (a.seconds, a.access) == (pytest.approx(4.0), "proprietary")
    assert a.plain()["speed"] == pytest.approx(2.0)


def test_an_answer_in_no_time_has_no_speed():
    (_, a), _ = made(
        System("x", tone, "audio"), System("y", tone, "audio"), Request("x", "audio"), clock=lambda: 7.0
    )  # fmt: skip
    assert a.speed is None


@pytest.mark.parametrize(
    ("text", "names"),
    [("I am SMALL-CHAT!", True), ("made at Tones Ltd.", True), ("small-chatter", False), ("hello", False)],
)
def test_a_text_that_holds_its_systems_name_is_marked(text, names):
    proud = System("small-chat", lambda _: Artefact("text/plain", text.encode()), organisation="Tones Ltd")
    (_, a), (_, b) = made(proud, System("calm", echo))
    assert (a.names_itself, b.names_itself) == (names, False)


def test_a_health_check_that_raises_is_a_no():
    def sick():
        raise OSError("down")

    assert not asyncio.run(healthy(System("x", echo, healthy=sick), Calls()))
    assert not asyncio.run(healthy(System("x", echo, healthy=lambda: False), Calls()))
    assert asyncio.run(healthy(System("x", echo), Calls()))
