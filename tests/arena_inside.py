"""An arena inside the test's own process, with a clock that the test moves, and battles without a network."""

import functools
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from arena_server import Visitor
from arena_systems import echo, square, tone
from starlette.testclient import TestClient

from penchant.apps.arena.battles import Book, Rules
from penchant.apps.arena.generation import Made
from penchant.apps.arena.registry import Registry
from penchant.apps.arena.security import Keys, RateLimit
from penchant.apps.arena.service import Arena
from penchant.apps.arena.storage import Database
from penchant.apps.arena.systems import Artefact, Request, System
from penchant.apps.arena.web import Site, application

SECRET = "a secret of tests that is long enough"
URL = "http://127.0.0.1:8000"
SYSTEMS = {
    "calm": System("calm", echo),
    "loud": System("loud", functools.partial(echo, loud=True), organisation="Shouting Ltd"),
    "low": System("low", functools.partial(tone, pitch=220.0), "audio", organisation="Tones Ltd"),
    "high": System("high", functools.partial(tone, pitch=660.0, seconds=3.0, level=0.1), "audio"),
    "red": System("red", square, "image"),
    "wine": System("wine", functools.partial(square, red=90, size=64), "image"),
}


@dataclass
class Clock:
    """Seconds since 1970, which pass only when the test says so."""

    now: float = 1_793_500_000.0  # the 1st of November 2026

    def __call__(self) -> float:
        return self.now


@dataclass
class Inside:
    """A running arena without a network."""

    app: Any
    first: TestClient
    arena: Arena
    keys: Keys
    clock: Clock

    def client(self, address: str = "10.0.0.1") -> TestClient:
        """Another browser, on the same event loop."""
        client = TestClient(self.app, base_url=URL, client=(address, 50_000))
        client.portal = self.first.portal
        return client

    def visitor(self, address: str = "10.0.0.1") -> Visitor:
        """Somebody new who accepted the terms."""
        return Visitor(self.client(address), URL).enter()


@contextmanager
def inside(
    folder: Path, *, systems: Mapping[str, System] = SYSTEMS, gate: float = 0.0, **site: Any
) -> Iterator[Inside]:
    """An arena, ended at the end; limits are wide unless given."""
    clock, keys = Clock(), Keys(SECRET)
    wide: dict[str, Any] = {name: RateLimit(per_second=1e6, burst=1e6) for name in ("battles", "requests")}
    place = Site(**({"origins": frozenset({URL})} | wide | site))
    book = Book(Rules(gate=gate), clock)
    arena = Arena(Registry(systems), Database(f"sqlite:///{folder / 'arena.db'}"), book=book)
    app = application(arena, keys, place)
    with TestClient(app, base_url=URL) as first:
        yield Inside(app, first, arena, keys, clock)


def asked(visitor: Visitor, kind: str = "text", prompt: str = "a haiku") -> dict[str, Any]:
    """A battle that is no longer being made."""
    reply = visitor.post("/api/battles", {"prompt": prompt, "modality": kind})
    assert reply.status_code == 202, reply.text
    while (found := visitor.look(reply.json()["battle"]).json())["state"] == "generating":
        time.sleep(0.05)  # within what one address may ask
    return found


def made(system: str, **more: Any) -> tuple[Artefact, Made]:
    """What a system is taken to have made."""
    about: dict[str, Any] = {"access": "open", "start": 0.0, "end": 2.0, "retries": 0, "checksum": f"sum of {system}"}
    about |= {"seconds": None, "lyrics": None, "names_itself": False} | more
    return Artefact("text/plain", f"by {system}".encode()), Made(system, **about)


def battle(
    database: Database,
    book: Book,
    *,
    session: str = "ann",
    pair: tuple[str, str] = ("calm", "loud"),
    prompt: str = "a haiku",
    vote: str | None = None,
    **about: Any,
) -> str:
    """A battle that is ready, or voted on, as the server writes it."""
    request = Request(prompt)
    name = database.write(
        lambda c: book.begin(c, session=session, address="hash of an address", request=request, pair=pair)
    )
    both = (made(pair[0], **about.get("a", {})), made(pair[1], **about.get("b", {})))
    database.write(lambda c: book.complete(c, name, both))
    if vote:
        database.write(lambda c: book.vote(c, session, name, vote))
    return name
