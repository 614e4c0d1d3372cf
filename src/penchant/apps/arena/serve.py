"""`penchant arena`: the server."""

import sys
from pathlib import Path

import click

from penchant.apps.arena.battles import Book, Rules
from penchant.apps.arena.pairing import Pairing
from penchant.apps.arena.registry import read_registry
from penchant.apps.outcome import Outcome
from penchant.chat import chat_model
from penchant.errors import MissingExtraError, SettingsError

EXAMPLE = Path(__file__).with_name("systems.yaml")
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def origins(host: str, port: int, public_url: str | None) -> frozenset[str]:
    """By which addresses browsers may call an arena.

    Raises:
        SettingsError: others than this machine can reach it, and no address for them is given.

    >>> sorted(origins("127.0.0.1", 8000, None))
    ['http://127.0.0.1:8000', 'http://[::1]:8000', 'http://localhost:8000']
    """
    if public_url:
        scheme, _, rest = public_url.rstrip("/").partition("://")
        if scheme not in ("http", "https") or not rest or "/" in rest:
            raise SettingsError(f"The public URL is https://HOST or http://HOST:PORT, without a path: {public_url!r}.")
        return frozenset({f"{scheme}://{rest}".lower()})
    if host not in _LOOPBACK:
        raise SettingsError(
            f"At {host} others can reach the arena: say by which address, --public-url https://arena.example, "
            "with a server in front of it that speaks TLS."
        )
    end = "" if port == 80 else f":{port}"
    return frozenset(f"http://{name}{end}" for name in ("127.0.0.1", "localhost", "[::1]"))


def arena(
    *,
    systems: Path | None = None,
    store: str = "arena.db",
    host: str = "127.0.0.1",
    port: int = 8000,
    public_url: str | None = None,
    proxy: str | None = None,
    admin: Path | None = None,
    secret: Path | None = None,
    moderator: str | None = None,
    blocked: Path | None = None,
    pairing: Pairing = "informative",
    gate: float = 5.0,
    at_once: int = 2,
    requests_per_second: float = 20.0,
) -> Outcome:
    """Serve a live arena: a page on which people ask, compare two anonymous systems, vote, and see a leaderboard.

    It serves text, images and music, whatever the systems make. Visitors are known by keyed hashes only; the secret is
    in PENCHANT_ARENA_SECRET, or in a file beside the store that is made at the first start. `penchant arena-release`
    writes the votes.

    Args:
        systems: YAML file of who takes part; see penchant.apps.arena.registry. Without it two small systems of text
            and two of music, on this machine.
        store: a file for SQLite, or postgresql://USER@HOST/DATABASE.
        host: address to listen at; others than this machine reach it only if this is changed.
        port: to listen at.
        public_url: by which browsers call it, if it is not on this machine.
        proxy: address of a server in front, whose word on the visitors' addresses is taken.
        admin: file (0600) with a token of at least 32 characters; without it there is nothing to administer over HTTP.
        secret: file of the secret, if not beside the store.
        moderator: a chat model that also judges and routes prompts, such as small-chat; rules do without it.
        blocked: file of phrases that no prompt may hold, one a line.
        pairing: draw pairs by their weights alone, or those whose votes tell most rather.
        gate: seconds of attention that each side needs before a vote counts.
        at_once: battles that are made at the same time.
        requests_per_second: of one address, of any kind; battles are limited to ten a minute besides.
    """
    try:
        import uvicorn

        from penchant.apps.arena import security, service, storage, web
    except ImportError as error:
        raise MissingExtraError(f"An arena needs {error.name}: pip install 'penchant[arena]'.") from error
    if not 0 <= gate <= 600:
        raise SettingsError(f"The gate must be between 0 and 600 seconds: got {gate!r}.")
    url = store if "://" in store else f"sqlite:///{store}"
    registry = read_registry(systems or EXAMPLE)
    site = web.Site(
        origins(host, port, public_url),
        admin=None if admin is None else _token(security.private(admin)),
        requests=security.RateLimit(requests_per_second, 5 * requests_per_second),
    )
    beside = Path("arena" if "://" in store else store)
    keys = security.Keys(security.secret(secret or beside.with_name(beside.name + ".secret")))
    phrases = [line.strip() for line in blocked.read_text(encoding="utf-8").splitlines()] if blocked else []
    made = service.Arena(
        registry,
        storage.Database(url),
        book=Book(Rules(gate=gate)),
        pairing=pairing,
        blocked=[phrase for phrase in phrases if phrase],
        chat=chat_model(moderator) if moderator else None,
        at_once=at_once,
    )
    address = public_url or f"http://{host}:{port}"
    click.echo(f"{len(registry.systems)} systems; open {address} (Ctrl-C ends it)", err=True)
    # Threads hand over to each other after half a millisecond, not five: a vote changes threads twice.
    sys.setswitchinterval(0.0005)
    # No access log: it would hold the addresses that are stored nowhere else.
    uvicorn.run(
        web.application(made, keys, site),
        host=host,
        port=port,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=proxy is not None,
        forwarded_allow_ips=proxy or "",
        timeout_graceful_shutdown=5,
    )
    return Outcome({"systems": list(registry.systems), "store": made.database.url}, "")


def _token(text: str) -> str:
    if len(text) < 32:
        raise SettingsError(f"The administrator's token has {len(text)} characters; 32 are the fewest.")
    return text
