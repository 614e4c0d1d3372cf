"""Pages and requests of an arena over HTTP; every rule is elsewhere, and every reply to a stranger is here.

The order of a visit: /api/session (a signed cookie, a token), /api/consent, /api/battles, then for that battle
/attention, /vote, /reasons and /reveal; at any time /api/forget. What a page changes needs the cookie, the token and
our own origin.
"""

import hmac
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import jinja2
import pydantic
from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response
from fastapi.staticfiles import StaticFiles

from penchant.apps.arena.attention import Kind, Side
from penchant.apps.arena.battles import TERMS, Preference, RefusedError
from penchant.apps.arena.boards import LEAST_VOTES, MOST_OF_ONE
from penchant.apps.arena.moderation import LONGEST_PROMPT
from penchant.apps.arena.security import COOKIE, COOKIE_SECONDS, Guard, Keys, RateLimit
from penchant.apps.arena.service import Arena, Wish, status
from penchant.apps.arena.systems import Modality
from penchant.errors import StorageError

_HERE = Path(__file__).parent
LONGEST_REASON = 1000  # characters


@dataclass(frozen=True)
class Site:
    """Where an arena stands, and how much one visitor may do.

    Attributes:
        origins: by which pages call it, such as http://127.0.0.1:8000.
        admin: token of who runs it; without one there is nothing to be administered over the network.
        battles: of one address.
        requests: of one address, of any kind.
    """

    origins: frozenset[str]
    admin: str | None = None
    battles: RateLimit = field(default_factory=lambda: RateLimit(per_second=1 / 6, burst=10))
    requests: RateLimit = field(default_factory=lambda: RateLimit(per_second=20, burst=100))

    @property
    def hosts(self) -> frozenset[str]:
        """Names and ports by which it may be called."""
        return frozenset(origin.partition("://")[2] for origin in self.origins)

    @property
    def is_secure(self) -> bool:
        """Whether every page comes over TLS, so that cookies may insist on it."""
        return all(origin.startswith("https://") for origin in self.origins)


class _Body(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", str_strip_whitespace=True)


class Consent(_Body):
    """Somebody accepts the terms."""

    terms: str


class Asked(_Body):
    """Somebody asks for a battle."""

    prompt: str = pydantic.Field(max_length=LONGEST_PROMPT)
    modality: Modality
    instrumental: bool | None = None
    lyrics: str | None = pydantic.Field(default=None, max_length=3000)
    duration: float | None = pydantic.Field(default=None, ge=1, le=600)


class Happened(_Body):
    """What happened on a page."""

    events: list[tuple[Side, Kind]] = pydantic.Field(max_length=100)


class Ballot(_Body):
    """A vote."""

    preference: Preference


class Reasons(_Body):
    """Why, in words."""

    overall: str = pydantic.Field(default="", max_length=LONGEST_REASON)
    a: str = pydantic.Field(default="", max_length=LONGEST_REASON)
    b: str = pydantic.Field(default="", max_length=LONGEST_REASON)


class Nothing(_Body):
    """Nothing needs to be said."""


def application(arena: Arena, keys: Keys, site: Site) -> Any:
    """The arena as an ASGI application, behind its guard."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await arena.close()

    app = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.mount("/static", StaticFiles(directory=_HERE / "static"))
    _errors(app)
    visitor = _visitors(keys, site)
    _pages(app, arena, visitor)
    _session(app, arena, keys, site, visitor)
    _battles(app, arena, site, visitor)
    if site.admin is not None:
        _administration(app, arena, site.admin)
    return Guard(app, hosts=site.hosts, origins=site.origins)


@dataclass(frozen=True)
class Visitor:
    """Who sends a request, in keyed hashes.

    Attributes:
        address: of the network.
        session: of the cookie; empty without one.
        number: in the cookie itself, never stored.
    """

    address: str
    session: str
    number: str


def _visitors(keys: Keys, site: Site) -> Callable[[Request], Awaitable[Visitor]]:
    async def visitor(request: Request) -> Visitor:
        """Who it is; whoever changes something needs a cookie of ours and its token."""
        address = keys.address(request.client.host if request.client else "")
        if not site.requests.allows(address):
            raise RefusedError("That is too much at once. Please wait a few seconds.", 429)
        number = keys.number(request.cookies.get(COOKIE))
        if request.method != "GET" and (number is None or not keys.is_token(request.headers.get("x-token"), number)):
            raise RefusedError("Your session ended. Please load the page again.", 403)
        return Visitor(address, keys.hashed("session", number) if number else "", number or "")

    return visitor


Who = Callable[[Request], Awaitable[Visitor]]


def _errors(app: FastAPI) -> None:
    @app.exception_handler(RefusedError)
    async def refused(_: Request, error: RefusedError) -> JSONResponse:
        return JSONResponse({"error": str(error)}, error.status)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        # What was sent is not sent back: only where it is wrong.
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"] if part != "body") or "the request"
        return JSONResponse({"error": f"{where}: {first['msg']}"}, 422)

    @app.exception_handler(StorageError)
    async def not_kept(_: Request, error: StorageError) -> JSONResponse:
        return JSONResponse({"error": "This could not be kept, nothing was counted. Please try again."}, 503)


def _pages(app: FastAPI, arena: Arena, visitor: Who) -> None:
    pages = jinja2.Environment(loader=jinja2.FileSystemLoader(_HERE / "templates"), autoescape=True)

    def page(name: str, **values: Any) -> HTMLResponse:
        return HTMLResponse(pages.get_template(name).render(**values))

    @app.get("/", dependencies=[Depends(visitor)])
    async def front() -> HTMLResponse:
        modalities = arena.registry.modalities
        sings = sum(system.abilities.supports_lyrics for system in arena.registry.systems.values()) > 1
        gate = arena.book.rules.gate
        return page("arena.html", modalities=modalities, sings=sings, gate=gate, longest=LONGEST_PROMPT, terms=TERMS)

    @app.get("/leaderboard", dependencies=[Depends(visitor)])
    async def leaderboard() -> HTMLResponse:
        return page("leaderboard.html", boards=await arena.standings(), least=LEAST_VOTES, most=MOST_OF_ONE)

    @app.get("/privacy")
    async def privacy(who: Annotated[Visitor, Depends(visitor)]) -> HTMLResponse:
        return page("privacy.html", terms=TERMS, key=who.session)

    @app.get("/api/leaderboard", dependencies=[Depends(visitor)])
    async def boards() -> list[dict[str, Any]]:
        return await arena.standings()


def _session(app: FastAPI, arena: Arena, keys: Keys, site: Site, visitor: Who) -> None:
    @app.get("/api/session")
    async def session(response: Response, who: Annotated[Visitor, Depends(visitor)]) -> dict[str, Any]:
        number, consented = who.number, False
        if number:
            consented = await arena.read(lambda connection: arena.book.has_consented(connection, who.session))
        else:
            cookie = keys.new_cookie()
            number = str(keys.number(cookie))
            response.set_cookie(
                COOKIE, cookie, max_age=COOKIE_SECONDS, httponly=True, samesite="strict", secure=site.is_secure
            )
        return {"token": keys.token(number), "consented": consented, "terms": TERMS}

    @app.post("/api/consent")
    async def consent(said: Consent, who: Annotated[Visitor, Depends(visitor)]) -> dict[str, bool]:
        if said.terms != TERMS:
            raise RefusedError("The terms changed. Please load the page again.", 409)
        await arena.database.written(lambda connection: arena.book.consent(connection, who.session))
        return {"consented": True}

    @app.post("/api/forget")
    async def forget(response: Response, said: Nothing, who: Annotated[Visitor, Depends(visitor)]) -> dict[str, int]:
        gone = await arena.forget(who.session)
        response.delete_cookie(COOKIE, httponly=True, samesite="strict", secure=site.is_secure)
        return gone


def _battles(app: FastAPI, arena: Arena, site: Site, visitor: Who) -> None:
    book, written = arena.book, arena.database.written
    Person = Annotated[Visitor, Depends(visitor)]  # noqa: N806

    @app.post("/api/battles", status_code=202)
    async def ask(asked: Asked, who: Person) -> dict[str, str]:
        if not site.battles.allows(who.address):
            raise RefusedError("That is many battles in a short time. Please wait a minute.", 429)
        return {"battle": await arena.ask(who.session, who.address, Wish(**asked.model_dump()))}

    @app.get("/api/battles/{battle}")
    async def look(battle: str, who: Person) -> dict[str, Any]:
        found: dict[str, Any] = await arena.read(lambda connection: book.look(connection, who.session, battle))
        return _with_about(found, arena)

    @app.get("/api/artefacts/{name}")
    async def artefact(name: str, who: Person) -> Response:
        kind, data = await arena.read(lambda connection: book.artefact(connection, who.session, name))
        charset = "; charset=utf-8" if kind == "text/plain" else ""
        return Response(data, headers={"content-type": kind + charset, "content-disposition": "attachment"})

    @app.post("/api/battles/{battle}/attention")
    async def attend(battle: str, said: Happened, who: Person) -> dict[str, Any]:
        return await written(lambda connection: book.attend(connection, who.session, battle, said.events))

    @app.post("/api/battles/{battle}/vote")
    async def vote(battle: str, said: Ballot, who: Person) -> dict[str, Any]:
        return asdict(await written(lambda connection: book.vote(connection, who.session, battle, said.preference)))

    @app.post("/api/battles/{battle}/reasons")
    async def reasons(battle: str, said: Reasons, who: Person) -> dict[str, bool]:
        await written(lambda connection: book.reasons(connection, who.session, battle, said.model_dump()))
        return {"kept": True}

    @app.post("/api/battles/{battle}/reveal")
    async def reveal(battle: str, said: Nothing, who: Person) -> dict[str, Any]:
        names = await written(lambda connection: book.reveal(connection, who.session, battle))
        return _with_about({"names": names}, arena)


def _with_about(found: dict[str, Any], arena: Arena) -> dict[str, Any]:
    """After the vote, also what is known of the systems."""
    for named in found.get("names", {}).values():
        system = arena.registry.systems.get(named["system"])
        named |= system.about() if system else {}
    return found


def _administration(app: FastAPI, arena: Arena, token: str) -> None:
    async def admin(request: Request) -> None:
        given = request.headers.get("authorization", "")
        if not hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
            raise RefusedError("Not for visitors.", 403)

    @app.get("/admin/status", dependencies=[Depends(admin)])
    async def state() -> dict[str, Any]:
        found: dict[str, Any] = {"battles": await arena.read(status), "paused": sorted(arena.paused)}
        return found | {"unavailable": sorted(arena.calls.unavailable)}

    @app.post("/admin/systems/{name}/{action}", dependencies=[Depends(admin)])
    async def systems(name: str, action: Literal["pause", "resume"]) -> dict[str, Any]:
        if name not in arena.registry.systems:
            raise RefusedError(f"No system is called {name!r}.", 404)
        (arena.paused.add if action == "pause" else arena.paused.discard)(name)
        return {"paused": sorted(arena.paused)}
