"""An arena at work: from a prompt to a battle that is being made, and what the pages show."""

import asyncio
import functools
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from penchant.apps.arena import boards
from penchant.apps.arena.battles import Book, RefusedError, board_of, records
from penchant.apps.arena.calls import Calls
from penchant.apps.arena.generation import both, healthy, told
from penchant.apps.arena.moderation import Route, routed
from penchant.apps.arena.pairing import Pairing, draw
from penchant.apps.arena.registry import Registry
from penchant.apps.arena.storage import Database, battles
from penchant.apps.arena.systems import GenerationError, Modality, Request
from penchant.chat import ChatModel
from penchant.errors import DataError

_MODERATOR = "the moderator"
_JUDGED_WITHIN = 60.0  # seconds
_FRESH = 5.0  # seconds for which boards, and the votes that pairs are drawn by, are not computed again


@dataclass(frozen=True)
class Wish:
    """What a visitor asks for.

    Attributes:
        prompt: in words.
        modality: what is wanted.
        instrumental: music without a voice; by the prompt if None.
        lyrics: to be sung.
        duration: seconds; by the prompt if None.
    """

    prompt: str
    modality: Modality
    instrumental: bool | None = None
    lyrics: str | None = None
    duration: float | None = None


class Arena:
    """An arena.

    Args:
        registry: who takes part.
        database: where battles are kept.
        book: the rules of battles.
        pairing: how pairs are drawn.
        blocked: phrases that no prompt may hold.
        chat: a model that moderates and routes prompts; rules do without it.
        at_once: battles that are made at the same time.
        waiting: battles that may wait for that; more are refused.
    """

    def __init__(
        self,
        registry: Registry,
        database: Database,
        *,
        book: Book | None = None,
        pairing: Pairing = "informative",
        blocked: Sequence[str] = (),
        chat: ChatModel | None = None,
        at_once: int = 2,
        waiting: int = 20,
    ):
        self.registry, self.database, self.book = registry, database, book or Book()
        self.pairing, self.blocked, self.chat = pairing, blocked, chat
        self.paused: set[str] = set()
        self.calls = Calls()
        self._pool = ThreadPoolExecutor(2 * at_once, thread_name_prefix="arena-look")
        self._room, self._moderating = asyncio.Semaphore(at_once), asyncio.Semaphore(at_once)
        self._checks: dict[str, asyncio.Task[bool]] = {}
        self._most = at_once + waiting
        self._tasks: set[asyncio.Task[None]] = set()
        self._kept: dict[str, tuple[float, Any]] = {}
        if database.engine.dialect.name == "sqlite":  # of which we are the only process
            database.write(self.book.fail_all_unfinished)

    async def ask(self, session: str, address: str, wish: Wish) -> str:
        """A new battle; it is made from now on.

        Raises:
            RefusedError: the terms were not accepted, the prompt is refused, nobody can answer it, or too many wait.
        """
        if not await self.read(lambda connection: self.book.has_consented(connection, session)):
            raise RefusedError("Please accept the terms first.", 403)
        if len(self._tasks) >= self._most:
            raise RefusedError("Many people are asking at the moment. Please try again in a minute.", 503)
        request = await asyncio.to_thread(self._request, wish, await self._route(wish))
        pair = await self._pair(request)
        name = await self.database.written(
            lambda connection: self.book.begin(connection, session=session, address=address, request=request, pair=pair)
        )
        task = asyncio.get_running_loop().create_task(self._make(name, request, pair))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return name

    async def _route(self, wish: Wish) -> Route:
        """What becomes of a prompt by rules and the moderator; by rules alone where that one does not answer."""
        rules = functools.partial(routed, wish.prompt, wish.modality, blocked=self.blocked)
        if self.chat is not None:
            try:
                async with self._moderating:
                    return await self.calls(
                        _MODERATOR, functools.partial(rules, chat=self.chat), timeout=_JUDGED_WITHIN
                    )
            except (TimeoutError, GenerationError):
                pass
        return await asyncio.to_thread(rules)

    def _request(self, wish: Wish, route: Route) -> Request:
        if not route.is_okay:
            raise RefusedError(route.rationale or "This prompt is not answered here.", 422)
        lyrics = (wish.lyrics or "").strip() or None
        instrumental = route.instrumental and lyrics is None if wish.instrumental is None else wish.instrumental
        if lyrics and (why := routed(lyrics, "text", blocked=self.blocked).rationale):
            raise RefusedError(why, 422)
        is_audio = wish.modality == "audio"
        try:
            return Request(
                wish.prompt.strip(),
                wish.modality,
                instrumental if is_audio else True,
                lyrics if is_audio else None,
                (wish.duration or route.duration) if is_audio else None,
                route.bpm if is_audio else None,
            )
        except DataError as error:
            raise RefusedError(str(error), 422) from error

    async def _pair(self, request: Request) -> tuple[str, str]:
        """Two systems that are well; who is not is left out, and another pair drawn."""
        votes = await self._fresh(f"votes {board_of(request)}", lambda c: records(c, board=board_of(request)))
        excluded = self.paused | self.calls.unavailable
        while True:
            try:
                pair = draw(self.registry, request, votes=votes, pairing=self.pairing, excluded=excluded)
            except DataError as error:
                raise RefusedError(str(error), 503 if excluded else 422) from error
            well = await asyncio.gather(*(self._is_well(name) for name in pair))
            if all(well):
                return pair
            excluded |= {name for name, is_well in zip(pair, well, strict=True) if not is_well}

    async def _is_well(self, name: str) -> bool:
        """Whether a system says that it is well; however many ask, it is asked once at a time."""
        check = self._checks.get(name)
        if check is None:
            check = asyncio.get_running_loop().create_task(healthy(self.registry.systems[name], self.calls))
            self._checks[name] = check
            check.add_done_callback(lambda _: self._checks.pop(name, None))
        return await asyncio.shield(check)

    async def _make(self, battle: str, request: Request, pair: tuple[str, str]) -> None:
        try:
            async with self._room:
                first, second = (self.registry.systems[name] for name in pair)
                made = await both(first, second, request, calls=self.calls, pool=self._pool, clock=self.book.clock)
            await self.database.written(lambda connection: self.book.complete(connection, battle, made))
        except Exception as error:
            if not isinstance(error, GenerationError):
                told("the arena", error)
            why = str(error) if isinstance(error, GenerationError) else "Something went wrong here. Please ask again."
            await self.database.written(lambda connection: self.book.fail(connection, battle, why))

    async def forget(self, session: str) -> dict[str, int]:
        """Delete everything of a session, and have its bytes overwritten soon; how many rows there were."""
        gone = await self.database.written(lambda connection: forgotten(connection, self.database, self.book, session))
        self._kept.clear()
        return gone

    async def read(self, job: Any) -> Any:
        """Look something up without holding up others."""
        return await asyncio.to_thread(self.database.read, job)

    async def standings(self) -> list[dict[str, Any]]:
        """All boards, a few seconds old at most."""
        found: list[dict[str, Any]] = await self._fresh(
            "boards", lambda connection: boards.every_board(connection, self.registry.systems)
        )
        return found

    async def _fresh(self, name: str, job: Any) -> Any:
        since, value = self._kept.get(name, (float("-inf"), None))
        if time.monotonic() - since > _FRESH:
            value = await self.read(job)
            self._kept[name] = (time.monotonic(), value)
        return value

    async def close(self) -> None:
        """Stop what is being made, and write what waits."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._pool.shutdown(wait=False, cancel_futures=True)
        await asyncio.to_thread(self.database.close)


def forgotten(connection: sa.Connection, database: Database, book: Book, session: str) -> dict[str, int]:
    """Delete everything of a session, its bytes to be overwritten; how many rows there were."""
    gone = book.forget(connection, session)
    if any(gone.values()):
        database.owe(connection)
    return gone


def status(connection: sa.Connection) -> dict[str, int]:
    """How many battles are in which state, for who runs the arena."""
    query = sa.select(battles.c.state, sa.func.count()).group_by(battles.c.state)
    return {str(state): int(count) for state, count in connection.execute(query)}
