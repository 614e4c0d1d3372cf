"""What keeps an arena honest and its visitors private: a secret, signed cookies, keyed hashes, and a guard at the door.

No address and no cookie is ever stored: only their HMAC under a secret that lies in a file of its own (0600) or in the
environment. Whoever has the database alone cannot tell who voted, and cannot try all addresses.
"""

import hashlib
import hmac
import ipaddress
import os
import secrets
import stat
import time
from collections import OrderedDict
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import itsdangerous

from penchant.errors import SettingsError

SECRET_VARIABLE = "PENCHANT_ARENA_SECRET"
COOKIE = "arena"
COOKIE_SECONDS = 30 * 24 * 3600
LARGEST_BODY = 16 << 10  # bytes
_SHORTEST_SECRET = 32  # characters

Scope = MutableMapping[str, Any]
Receive = Callable[[], Any]
Send = Callable[[MutableMapping[str, Any]], Any]

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; media-src blob:; "
        "connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Cache-Control": "no-store",
}


def secret(file: Path) -> str:
    """The arena's secret: from the environment, or from a file that is made at the first start.

    Raises:
        SettingsError: it is too short, or others may read the file.
    """
    given = os.environ.get(SECRET_VARIABLE)
    if given is None:
        try:
            # Made in one step with its permissions, so that at no instant anybody else can read it.
            number = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(number, "w", encoding="ascii") as made:
                made.write(secrets.token_urlsafe(48))
        except FileExistsError:
            pass
        given = private(file)
    if len(given) < _SHORTEST_SECRET:
        raise SettingsError(f"The arena's secret has {len(given)} characters; {_SHORTEST_SECRET} are the fewest.")
    return given


def private(file: Path) -> str:
    """What a file holds that only its owner may read.

    Raises:
        SettingsError: others may read or write it, or it is not there.
    """
    try:
        mode = stat.S_IMODE(file.stat().st_mode)
        if mode & 0o077:
            raise SettingsError(f"{file} may be read or written by others (mode {mode:o}): chmod 600 {file}")
        return file.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise SettingsError(f"{file} cannot be read: {error.strerror}.") from error


class Keys:
    """Everything that is derived from the secret.

    Args:
        secret: of the arena.
    """

    def __init__(self, secret: str):
        self._secret = secret.encode()
        self._signer = itsdangerous.TimestampSigner(self._key("cookie"), digest_method=hashlib.sha256)

    def _key(self, purpose: str) -> bytes:
        return hmac.digest(self._secret, f"penchant arena {purpose}".encode(), "sha256")

    def hashed(self, kind: str, value: str) -> str:
        """A value as it may be stored: its keyed hash, another one for each kind of value."""
        return hmac.digest(self._key(kind), value.encode(), "sha256").hex()[:32]

    def address(self, address: str) -> str:
        """The keyed hash of an address; of IPv6 the network counts, which one household has to itself."""
        try:
            found = ipaddress.ip_address(address)
            if found.version == 6:
                address = str(ipaddress.ip_network((found, 64), strict=False))
        except ValueError:
            pass  # a name, as in tests
        return self.hashed("address", address)

    def new_cookie(self) -> str:
        """A signed cookie with a random number."""
        return self._signer.sign(secrets.token_urlsafe(24)).decode()

    def number(self, cookie: str | None) -> str | None:
        """The number in a cookie that we signed and that is not too old, or nothing."""
        if not cookie or len(cookie) > 200:
            return None
        try:
            return self._signer.unsign(cookie, max_age=COOKIE_SECONDS).decode()
        except (itsdangerous.BadSignature, UnicodeDecodeError):
            return None

    def token(self, number: str) -> str:
        """The token that a page sends along with everything it changes; of one session and no other."""
        return self.hashed("token", number)

    def is_token(self, token: str | None, number: str) -> bool:
        """Whether it is that token."""
        return token is not None and hmac.compare_digest(token.encode(), self.token(number).encode())


@dataclass
class RateLimit:
    """A bucket for each keyed hash, which fills with time and which every request takes from.

    Attributes:
        per_second: how fast it fills.
        burst: how much it holds.
        clock: seconds.
    """

    per_second: float
    burst: float
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        """Nobody has come yet."""
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def allows(self, who: str) -> bool:
        """Whether one more is allowed now; if so it is taken."""
        now = self.clock()
        left, since = self._left.pop(who, (self.burst, now))
        left = min(self.burst, left + (now - since) * self.per_second)
        allowed = left >= 1
        self._left[who] = (left - allowed, now)
        while len(self._left) > 100_000:  # who was not seen for longest has a full bucket by now
            self._left.popitem(last=False)
        return allowed


class Guard:
    """The door: who may come in, how much they may carry, and what every reply says to the browser.

    A request must name one of our hosts (a page elsewhere could resolve its own name to us); one that changes something
    must come from a page of ours and carry little. Bodies are read here, whole, up to their limit.

    Args:
        app: what is guarded.
        hosts: names and ports by which we may be called.
        origins: of our pages.
    """

    def __init__(self, app: Any, *, hosts: frozenset[str], origins: frozenset[str]):
        self.app, self.hosts, self.origins = app, hosts, origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}

        async def sending(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                ours = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
                message = {**message, "headers": [*message.get("headers", []), *ours]}
            await send(message)

        if headers.get("host", "").lower() not in self.hosts:
            await _refuse(sending, 421, "This arena has another address.")
        elif scope["method"] in ("GET", "HEAD"):
            await self.app(scope, receive, sending)
        elif headers.get("origin", "").lower() not in self.origins:
            await _refuse(sending, 403, "Only pages of this arena may send that.")
        elif not headers.get("content-type", "").startswith("application/json"):
            await _refuse(sending, 415, "Send JSON.")
        else:
            body = await _body(receive, headers.get("content-length", ""))
            if body is None:
                await _refuse(sending, 413, f"More than {LARGEST_BODY >> 10} KiB are not read here.")
            else:
                await self.app(scope, _again(body), sending)


async def _body(receive: Receive, length: str) -> bytes | None:
    if length.isdigit() and int(length) > LARGEST_BODY:
        return None
    body = b""
    while True:
        message: MutableMapping[str, Any] = await receive()
        body += bytes(message.get("body", b""))
        if len(body) > LARGEST_BODY:
            return None
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            return body


def _again(body: bytes) -> Receive:
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Any:
        return messages.pop() if messages else {"type": "http.disconnect"}

    return receive


async def _refuse(send: Send, status: int, why: str) -> None:
    body = ('{"error": "' + why + '"}').encode()
    kind = (b"content-type", b"application/json")
    await send({"type": "http.response.start", "status": status, "headers": [kind]})
    await send({"type": "http.response.body", "body": body})
