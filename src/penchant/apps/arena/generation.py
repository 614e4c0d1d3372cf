"""Both systems of a battle answer at the same time: a check of health, a limit of time, one more try each."""

import asyncio
import hashlib
import logging
import re
import secrets
import time
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import asdict, dataclass, replace
from typing import Any

from penchant.apps.arena.calls import Calls
from penchant.apps.arena.disguise import alike, readable
from penchant.apps.arena.systems import Artefact, GenerationError, Request, System
from penchant.errors import PenchantError

_LOG = logging.getLogger(__name__)
TRIES = 2
_HEALTHY_WITHIN = 5.0  # seconds
_SHORTEST_NAME = 4  # letters that a text must repeat to count as naming its system


@dataclass(frozen=True)
class Made:
    """What one system made, and how.

    Attributes:
        system: its name.
        access: whether its artefacts may be released.
        start: when it was asked the time that it answered, seconds since 1970.
        end: when it had answered.
        retries: tries before.
        checksum: SHA-256 of what it sent.
        seconds: length of the clip.
        lyrics: what is sung, where the system says so.
        names_itself: its text holds its own name or organisation, so that the vote is not a blind one.
    """

    system: str
    access: str
    start: float
    end: float
    retries: int
    checksum: str
    seconds: float | None
    lyrics: str | None
    names_itself: bool

    @property
    def speed(self) -> float | None:
        """Seconds of sound a second of work, the real-time factor; None where either is unknown or zero."""
        took = self.end - self.start
        return self.seconds / took if self.seconds and took > 0 else None

    def plain(self) -> dict[str, Any]:
        """As it is stored."""
        return asdict(self) | {"speed": self.speed}


async def both(
    first: System,
    second: System,
    request: Request,
    *,
    calls: Calls,
    pool: Executor,
    clock: Callable[[], float] = time.time,
) -> tuple[tuple[Artefact, Made], tuple[Artefact, Made]]:
    """What A and B made, alike but for what they made.

    Args:
        first: A.
        second: B.
        request: what both are asked; each gets a seed of its own.
        calls: where systems run, and are given up.
        pool: where we look at what they made.
        clock: seconds since 1970.

    Raises:
        GenerationError: one of them failed twice; the message does not say which.
    """
    loop = asyncio.get_running_loop()
    # Whoever is done first waits for the other: nothing shows which it was, a failure neither.
    done = await asyncio.gather(
        *(_made(system, request, calls, pool, clock) for system in (first, second)), return_exceptions=True
    )
    failures = [one for one in done if isinstance(one, BaseException)]
    for system, one in zip((first, second), done, strict=True):
        if isinstance(one, BaseException):
            told(system.name, one)
    if failures:
        raise GenerationError("One of the two could not answer this. Please ask again.") from failures[0]
    (a, about_a), (b, about_b) = (one for one in done if not isinstance(one, BaseException))
    shown_a, shown_b = await loop.run_in_executor(pool, alike, a, b, request.modality)
    return (shown_a, replace(about_a, seconds=shown_a.seconds)), (shown_b, replace(about_b, seconds=shown_b.seconds))


def told(who: str, error: BaseException) -> None:
    """Tell whoever runs the arena; what is not our own sentence may hold a prompt, and is named by its type alone."""
    _LOG.warning("%s failed: %s%s", who, type(error).__name__, f": {error}" if isinstance(error, PenchantError) else "")


async def healthy(system: System, calls: Calls) -> bool:
    """Whether a system says that it is well, within five seconds."""
    try:
        return bool(await calls(system.name, system.healthy, timeout=_HEALTHY_WITHIN))
    except Exception:
        return False


async def _made(
    system: System, request: Request, calls: Calls, pool: Executor, clock: Callable[[], float]
) -> tuple[Artefact, Made]:
    loop = asyncio.get_running_loop()
    for retries in range(TRIES):
        asked = replace(request, seed=secrets.randbelow(2**31))
        start = clock()
        try:
            artefact = await calls(system.name, system.generate, asked, timeout=system.timeout)
            end = clock()
            # What cannot be shown is found while there is a try left.
            await loop.run_in_executor(pool, readable, artefact, request.modality)
        except Exception:
            if retries == TRIES - 1:
                raise
            continue
        checksum = hashlib.sha256(artefact.data).hexdigest()
        made = Made(
            system.name,
            system.access,
            start,
            end,
            retries,
            checksum,
            artefact.seconds,
            artefact.lyrics,
            _names(artefact, system),
        )
        return artefact, made
    raise AssertionError  # every try returns, goes on or raises


def _names(artefact: Artefact, system: System) -> bool:
    if artefact.media_type != "text/plain":
        return False
    text = artefact.data.decode(errors="replace")
    names = [name for name in (system.name, system.organisation) if len(name) >= _SHORTEST_NAME]
    return any(re.search(rf"\b{re.escape(name)}\b", text, re.IGNORECASE) for name in names)
