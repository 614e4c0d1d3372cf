"""Calls that never come back: given up, counted by name, bounded, and in nobody's way, at the end neither."""

import asyncio
import signal
import threading
import time

import httpx
import pytest
from arena_inside import SYSTEMS, asked, inside
from arena_server import Visitor, running
from arena_systems import echo

from penchant.apps.arena.calls import MOST_LATE, Calls
from penchant.apps.arena.systems import GenerationError, System
from penchant.errors import MissingExtraError


class Hangs:
    """Does not come back until it is let go."""

    def __init__(self):
        self.go, self.n = threading.Event(), 0

    def __call__(self, *_):
        self.n += 1
        self.go.wait()
        return echo(*_) if _ else True


@pytest.fixture
def hangs():
    made = Hangs()
    yield made
    made.go.set()


def test_results_and_errors_come_back_as_they_are():
    def fails():
        raise ValueError("no")

    def ends():
        raise SystemExit(3)

    def stops():
        raise StopIteration

    async def main():
        calls = Calls()
        assert await calls("x", lambda a, b: a + b, 1, 2, timeout=5) == 3
        with pytest.raises(ValueError, match="no"):
            await calls("x", fails, timeout=5)
        for work, name in ((ends, "SystemExit"), (stops, "StopIteration")):
            with pytest.raises(GenerationError, match=f"'x' raised {name}"):
                await calls("x", work, timeout=5)
        assert calls.unavailable == set()

    asyncio.run(main())


def test_who_is_late_twice_is_not_called_again_until_it_is_back_and_nobody_else_is_held_up(hangs):
    async def main():
        calls = Calls()
        for _ in range(MOST_LATE):
            with pytest.raises(TimeoutError):
                await calls("stuck", hangs, timeout=0.05)
        assert calls.unavailable == {"stuck"}
        with pytest.raises(GenerationError, match="2 calls of 'stuck' have not come back"):
            await calls("stuck", hangs, timeout=0.05)
        assert hangs.n == MOST_LATE
        assert await calls("calm", lambda: "well", timeout=5) == "well"
        hangs.go.set()
        while calls.unavailable:
            await asyncio.sleep(0.01)
        assert await calls("stuck", hangs, timeout=5) is True

    asyncio.run(main())


def test_a_call_whose_own_error_is_a_timeout_is_not_late():
    def slow_network():
        raise TimeoutError("of the network")

    async def main():
        calls = Calls()
        for _ in range(MOST_LATE + 1):
            with pytest.raises(TimeoutError, match="of the network"):
                await calls("x", slow_network, timeout=5)
        assert calls.unavailable == set()

    asyncio.run(main())


def test_an_arena_with_a_system_that_never_returns_goes_on_serving_the_others(tmp_path, hangs):
    systems = {"calm": SYSTEMS["calm"], "loud": SYSTEMS["loud"], "stuck": System("stuck", hangs, timeout=0.1)}
    with inside(tmp_path, systems=systems, admin="t" * 32) as arena:
        ann = arena.visitor()
        states = [asked(ann)["state"] for _ in range(60)]
        assert "failed" in states
        assert states[-40:] == ["ready"] * 40
        assert hangs.n == MOST_LATE
        found = ann.http.get("/admin/status", headers={"authorization": "Bearer " + "t" * 32}).json()
        assert found["unavailable"] == ["stuck"]
        hangs.go.set()
        while arena.arena.calls.unavailable:
            time.sleep(0.01)
        before = hangs.n
        while hangs.n == before:  # it takes part again
            assert asked(ann)["state"] == "ready"


def test_health_checks_that_hang_keep_a_thread_each_however_many_ask(tmp_path, hangs, monkeypatch):
    monkeypatch.setattr("penchant.apps.arena.generation._HEALTHY_WITHIN", 0.2)
    systems = {name: System(name, echo, healthy=hangs) for name in ("stuck", "fast")}
    systems["fast"] = System("fast", echo)
    with inside(tmp_path, systems=systems) as arena:
        visitors = [arena.visitor(f"10.0.0.{number}") for number in range(12)]
        replies = []

        def ask(visitor):
            replies.append(visitor.post("/api/battles", {"prompt": "a haiku", "modality": "text"}).status_code)

        asking = [threading.Thread(target=ask, args=(visitor,)) for visitor in visitors]
        for one in asking:
            one.start()
        for one in asking:
            one.join(20)
        assert replies == [503] * 12
        assert hangs.n <= MOST_LATE


def test_a_moderator_that_hangs_leaves_the_prompt_to_the_rules(tmp_path, hangs, monkeypatch):
    monkeypatch.setattr("penchant.apps.arena.service._JUDGED_WITHIN", 0.1)

    class Moderator:
        def complete(self, messages, **_):
            hangs()

    with inside(tmp_path) as arena:
        arena.arena.chat = Moderator()
        ann = arena.visitor()
        assert [asked(ann)["state"] for _ in range(6)] == ["ready"] * 6
        assert hangs.n == MOST_LATE
        refused = ann.post("/api/battles", {"prompt": "write to ann@example.org", "modality": "text"})
        assert refused.status_code == 422


def test_an_arena_whose_systems_hang_ends_in_time(tmp_path):
    (tmp_path / "hang.yaml").write_text(
        "systems:\n"
        "  one: {kind: python, path: 'arena_systems:never', timeout: 0.2}\n"
        "  two: {kind: python, path: 'arena_systems:never', timeout: 0.2}\n",
        encoding="utf-8",
    )
    with running(tmp_path, systems=tmp_path / "hang.yaml", gate=0) as server, httpx.Client(trust_env=False) as http:
        ann = Visitor(http, server.url).enter()
        assert asked(ann)["state"] == "failed"
        refused = ann.post("/api/battles", {"prompt": "again", "modality": "text"})
        assert refused.status_code == 503
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(30)  # and not for ever, whatever else the machine does


def test_who_runs_the_arena_hears_which_system_failed_and_why_without_the_prompt(tmp_path, caplog):
    def fails(request):
        raise ValueError(f"cannot do {request.prompt}")

    def lacks(_):
        raise MissingExtraError("The synthesiser is missing: pip install it")

    with inside(tmp_path, systems={"one": System("one", fails), "two": System("two", lacks)}) as arena:
        assert asked(arena.visitor())["state"] == "failed"
    told = [record.getMessage() for record in caplog.records if record.name == "penchant.apps.arena.generation"]
    assert sorted(told) == [
        "one failed: ValueError",
        "two failed: MissingExtraError: The synthesiser is missing: pip install it",
    ]
