"""A battle from the prompt to the names: generating, ready, voted, revealed, or failed. The rules live here, once.

A battle belongs to the session that asked for it; to everybody else it does not exist. A vote counts once both sides
got the attention that the gate wants. The same vote again is the same vote; another one within the window takes its
place, and all of them stay in the history; once the names were seen, nothing counts any more.
"""

import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import sqlalchemy as sa

from penchant.apps.arena import storage
from penchant.apps.arena.attention import SIDES, Event, Kind, Side, attended, needed
from penchant.apps.arena.generation import Made
from penchant.apps.arena.systems import Artefact, Request
from penchant.errors import PenchantError
from penchant.records import Battles, canonical_json

Preference = Literal["A", "B", "TIE", "BOTH_BAD"]
Board = Literal["text", "image", "instrumental", "vocal"]
BOARDS: tuple[Board, ...] = ("text", "image", "instrumental", "vocal")

TERMS = "2026-11"  # version of the terms; who accepted another one is asked again
_MOST_EVENTS = 5_000  # of one battle


class RefusedError(PenchantError, RuntimeError):
    """Something that a visitor may not do, or not yet; the message is for them.

    Args:
        message: what, and what to do.
        status: of the reply: 403, 404, 409, 422, 429 or 503.
    """

    def __init__(self, message: str, status: int = 409):
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Rules:
    """How an arena is run.

    Attributes:
        gate: seconds of attention that each side needs before a vote counts.
        window: seconds after the first vote in which another one may take its place.
        generation_limit: seconds after which a battle that is still being made has failed.
    """

    gate: float = 5.0
    window: float = 60.0
    generation_limit: float = 300.0


@dataclass(frozen=True)
class Vote:
    """The vote that counts in a battle.

    Attributes:
        battle: whose.
        preference: A, B, TIE or BOTH_BAD.
        time: when the first vote of this battle came, seconds since 1970.
        is_final: whether no other one can take its place.
    """

    battle: str
    preference: Preference
    time: float
    is_final: bool


def board_of(request: Request) -> Board:
    """The board on which a vote on a request counts."""
    if request.modality == "audio":
        return "vocal" if request.wants_voice else "instrumental"
    return request.modality


@dataclass(frozen=True)
class Book:
    """The battles of an arena; every method is one transaction, given as a job to a `storage.Database`.

    Attributes:
        rules: how the arena is run.
        clock: seconds since 1970.
    """

    rules: Rules = field(default_factory=Rules)
    clock: Callable[[], float] = time.time

    def consent(self, connection: sa.Connection, session: str) -> None:
        """Keep that somebody accepted the terms."""
        row = {"id": session, "terms": TERMS, "time": self.clock()}
        connection.execute(sa.delete(storage.sessions).where(storage.sessions.c.id == session))
        connection.execute(sa.insert(storage.sessions).values(row))

    def has_consented(self, connection: sa.Connection, session: str) -> bool:
        """Whether somebody accepted these terms."""
        query = sa.select(storage.sessions.c.terms).where(storage.sessions.c.id == session)
        return connection.scalar(query) == TERMS

    def begin(
        self, connection: sa.Connection, *, session: str, address: str, request: Request, pair: tuple[str, str]
    ) -> str:
        """A new battle, which is being made."""
        name = secrets.token_urlsafe(16)
        row = {
            "id": name,
            "session": session,
            "address": address,
            "created": self.clock(),
            "state": "generating",
            "board": board_of(request),
            "prompt": request.prompt,
            "request": asdict(request),
            "system_a": pair[0],
            "system_b": pair[1],
        }
        connection.execute(sa.insert(storage.battles).values(row))
        return name

    def complete(
        self, connection: sa.Connection, battle: str, made: tuple[tuple[Artefact, Made], tuple[Artefact, Made]]
    ) -> None:
        """Both sides are there: both are shown from this moment on, unless whoever asked was forgotten meanwhile."""
        change = {"state": "ready", "ready": self.clock(), "a": made[0][1].plain(), "b": made[1][1].plain()}
        if not _update(connection, battle, change):
            return
        for side, (artefact, _) in zip(SIDES, made, strict=True):
            row: dict[str, Any] = {"name": secrets.token_urlsafe(16), "battle": battle, "side": side}
            row |= {"media_type": artefact.media_type, "data": artefact.data}
            connection.execute(sa.insert(storage.artefacts).values(row))

    def fail(self, connection: sa.Connection, battle: str, reason: str) -> None:
        """A battle that did not come about."""
        _update(connection, battle, {"state": "failed", "why_failed": reason})

    def fail_all_unfinished(self, connection: sa.Connection) -> int:
        """Battles that a process did not finish before it ended have failed; how many there were."""
        unfinished = storage.battles.c.state == "generating"
        change = {"state": "failed", "why_failed": "The arena was restarted. Please ask again."}
        return connection.execute(sa.update(storage.battles).where(unfinished).values(change)).rowcount

    def look(self, connection: sa.Connection, session: str, battle: str) -> dict[str, Any]:
        """What its owner may see of a battle: before the vote, nothing that tells who is who."""
        row = self._mine(connection, session, battle)
        seen: dict[str, Any] = {"battle": battle, "state": row.state, "prompt": row.prompt, "board": row.board}
        if row.state == "generating" and self.clock() - row.created > self.rules.generation_limit:
            return seen | {"state": "failed", "why": "This took too long. Please ask again."}
        if row.state == "failed":
            return seen | {"why": row.why_failed}
        if row.state == "ready":
            files = sa.select(storage.artefacts.c.side, storage.artefacts.c.name, storage.artefacts.c.media_type)
            found = connection.execute(files.where(storage.artefacts.c.battle == battle)).all()
            seen["sides"] = {side: {"artefact": name, "media_type": kind} for side, name, kind in found}
            seen["gate"] = self._gate(connection, row)
            if row.preference is not None:
                seen["vote"] = asdict(self._vote(row))
            if row.revealed is not None:
                seen["names"] = _names(row)
        return seen

    def artefact(self, connection: sa.Connection, session: str, name: str) -> tuple[str, bytes]:
        """Media type and bytes of what a system made, for the session that asked for it."""
        query = (
            sa.select(storage.artefacts.c.media_type, storage.artefacts.c.data)
            .join(storage.battles, storage.battles.c.id == storage.artefacts.c.battle)
            .where(storage.artefacts.c.name == name, storage.battles.c.session == session)
        )
        found = connection.execute(query).one_or_none()
        if found is None:
            raise RefusedError("There is no such file in your session.", 404)
        return str(found.media_type), bytes(found.data)

    def attend(
        self, connection: sa.Connection, session: str, battle: str, said: Sequence[tuple[Side, Kind]]
    ) -> dict[str, Any]:
        """Keep what happened on the page, at the time of our clock, and say how far the gate is."""
        row = self._mine(connection, session, battle)
        if row.state != "ready":
            raise RefusedError("This battle is not ready yet.")
        events = storage.events
        there = connection.scalar(sa.select(sa.func.count()).where(events.c.battle == battle)) or 0
        if there + len(said) > _MOST_EVENTS:
            raise RefusedError(f"This battle has {_MOST_EVENTS:,} events already; ask for another one.", 429)
        now = self.clock()
        rows = [{"battle": battle, "side": side, "kind": kind, "time": now} for side, kind in said]
        if rows:
            connection.execute(sa.insert(events), rows)
        return self._gate(connection, row)

    def vote(self, connection: sa.Connection, session: str, battle: str, preference: Preference) -> Vote:
        """The vote that counts after this one was cast."""
        row = self._mine(connection, session, battle)
        if row.state != "ready":
            raise RefusedError("This battle is not ready yet, so there is nothing to vote on.")
        now = self.clock()
        if row.preference is None:
            gate = self._gate(connection, row)
            if not gate["is_open"]:
                missing = " and ".join(
                    f"{gate['needed'][side] - gate['attended'][side]:.1f} s of {side.upper()}"
                    for side in SIDES
                    if gate["attended"][side] < gate["needed"][side]
                )
                raise RefusedError(f"Please take in both sides first: {missing} are missing.")
            change = {"preference": preference, "voted": now, "attention": gate["attended"]}
            _update(connection, battle, change)
            _remember(connection, battle, preference, now, counted=True)
            return Vote(battle, preference, now, False)
        standing = self._vote(row)
        if standing.preference == preference:
            return standing
        _remember(connection, battle, preference, now, counted=not standing.is_final)
        if standing.is_final:
            return standing
        _update(connection, battle, {"preference": preference})
        return Vote(battle, preference, row.voted, False)

    def reasons(self, connection: sa.Connection, session: str, battle: str, words: dict[str, str]) -> None:
        """Keep why somebody voted as they did, in their words; before the names are shown."""
        row = self._mine(connection, session, battle)
        if row.preference is None:
            raise RefusedError("Vote first, then say why.")
        if row.revealed is not None:
            raise RefusedError("The names were shown already; reasons are taken before that.")
        kept = (row.reasons or {}) | {name: text.strip() for name, text in words.items() if text.strip()}
        _update(connection, battle, {"reasons": kept or None})

    def reveal(self, connection: sa.Connection, session: str, battle: str) -> dict[str, Any]:
        """Who is who; from now on the vote is final."""
        row = self._mine(connection, session, battle)
        if row.preference is None:
            raise RefusedError("Names are shown after the vote.")
        if row.revealed is None:
            _update(connection, battle, {"revealed": self.clock()})
        return _names(row)

    def forget(self, connection: sa.Connection, session: str) -> dict[str, int]:
        """Delete everything of a session; how many rows there were of each kind, none if nobody is known by it."""
        theirs = sa.select(storage.battles.c.id).where(storage.battles.c.session == session).scalar_subquery()
        tables = {"votes": storage.votes, "events": storage.events, "artefacts": storage.artefacts}
        gone = {
            name: connection.execute(sa.delete(table).where(table.c.battle.in_(theirs))).rowcount
            for name, table in tables.items()
        }
        gone["battles"] = connection.execute(
            sa.delete(storage.battles).where(storage.battles.c.session == session)
        ).rowcount
        gone["consents"] = connection.execute(
            sa.delete(storage.sessions).where(storage.sessions.c.id == session)
        ).rowcount
        return gone

    def history(self, connection: sa.Connection, battle: str) -> list[tuple[str, bool]]:
        """Every different vote of a battle in order, and whether it counted when it came."""
        votes = storage.votes
        query = sa.select(votes.c.preference, votes.c.counted).where(votes.c.battle == battle).order_by(votes.c.id)
        return [(str(preference), bool(counted)) for preference, counted in connection.execute(query)]

    def _mine(self, connection: sa.Connection, session: str, battle: str) -> Any:
        mine = sa.and_(storage.battles.c.id == battle, storage.battles.c.session == session)
        row = connection.execute(sa.select(storage.battles).where(mine)).one_or_none()
        if row is None:
            raise RefusedError("There is no such battle in your session.", 404)
        return row

    def _vote(self, row: Any) -> Vote:
        is_final = row.revealed is not None or self.clock() - row.voted > self.rules.window
        return Vote(row.id, row.preference, row.voted, is_final)

    def _gate(self, connection: sa.Connection, row: Any) -> dict[str, Any]:
        lengths: dict[Side, float | None] = {"a": row.a["seconds"], "b": row.b["seconds"]}
        seconds = attended(events_of(connection, row.id), lengths=lengths, one_at_a_time=is_heard(row.board))
        wanted = needed(self.rules.gate, lengths)
        return {
            "attended": {side: round(seconds[side], 3) for side in SIDES},
            "needed": wanted,
            "is_open": all(seconds[side] >= wanted[side] for side in SIDES),
        }


def is_heard(board: str) -> bool:
    """Whether artefacts of a board are heard, one at a time, and not seen."""
    return board in ("instrumental", "vocal")


def events_of(connection: sa.Connection, battle: str) -> list[Event]:
    """Events of a battle in the order in which they came."""
    events = storage.events
    query = sa.select(events.c.side, events.c.kind, events.c.time).where(events.c.battle == battle)
    return [Event(*row) for row in connection.execute(query.order_by(events.c.id))]


def records(connection: sa.Connection, *, board: str | None = None) -> Battles:
    """Votes that count, as records: the vocabulary of leaderboards and of the store.

    Votes on a text that names its own system are no blind votes and are not among them.

    Args:
        connection: of the arena's database.
        board: only this one.
    """
    table = storage.battles
    query = sa.select(table).where(table.c.preference.is_not(None)).order_by(table.c.voted, table.c.id)
    if board is not None:
        query = query.where(table.c.board == board)
    return Battles.from_rows(record(row) for row in connection.execute(query) if is_blind(row))


def is_blind(row: Any) -> bool:
    """Whether no text of a battle said which system wrote it."""
    return not (row.a["names_itself"] or row.b["names_itself"])


def record(row: Any) -> dict[str, Any]:
    """One battle with a vote as a row of `Battles`."""
    return {
        "system_a": row.system_a,
        "system_b": row.system_b,
        "outcome": row.preference.lower(),
        "prompt": row.prompt,
        "attention_a": row.attention["a"],
        "attention_b": row.attention["b"],
        "user": row.session,
        "source": "arena",
        "time": round(row.voted * 1e6),
        "extra": canonical_json({"board": row.board, "battle": row.id}),
    }


def _names(row: Any) -> dict[str, Any]:
    return {side: {"system": getattr(row, f"system_{side}"), "speed": getattr(row, side)["speed"]} for side in SIDES}


def _update(connection: sa.Connection, battle: str, change: dict[str, Any]) -> int:
    """How many battles there were to change, 1 or 0."""
    return connection.execute(sa.update(storage.battles).where(storage.battles.c.id == battle).values(change)).rowcount


def _remember(connection: sa.Connection, battle: str, preference: str, now: float, *, counted: bool) -> None:
    row = {"battle": battle, "preference": preference, "time": now, "counted": counted}
    connection.execute(sa.insert(storage.votes).values(row))
