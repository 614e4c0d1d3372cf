"""`penchant arena-release`: the votes of one month as open data, in which nobody can be found again.

A release holds battles with the vote that counts, seconds of attention, and events; the day, not the second; of each
person a pseudonym that is another one in every month, under a salt that is thrown away. A prompt is released where
several people wrote the same one, reasons where it is asked for, and what a system made where the system is open.
"""

import hashlib
import hmac
import json
import re
import secrets
from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
import sqlalchemy as sa

from penchant.apps.arena import storage
from penchant.apps.arena.attention import SIDES
from penchant.apps.arena.battles import events_of, is_blind
from penchant.apps.outcome import Outcome
from penchant.apps.report import Table
from penchant.errors import DataError, SettingsError
from penchant.exchange import write_json
from penchant.store import database

SCHEMA = pa.schema(
    [
        ("battle", pa.string()),
        ("day", pa.string()),
        ("board", pa.string()),
        ("system_a", pa.string()),
        ("system_b", pa.string()),
        ("outcome", pa.string()),
        ("prompt", pa.string()),
        ("attention_a", pa.float64()),
        ("attention_b", pa.float64()),
        ("user", pa.string()),
        ("blind", pa.bool_()),
        ("events", pa.list_(pa.struct([("side", pa.string()), ("kind", pa.string()), ("seconds", pa.float64())]))),
        *((f"{what}_{side}", kind) for side in SIDES for what, kind in (
            ("seconds", pa.float64()), ("speed", pa.float64()), ("checksum", pa.string()), ("artefact", pa.string())
        )),
        ("changed_votes", pa.int64()),
        ("reasons", pa.string()),
        ("reasons_a", pa.string()),
        ("reasons_b", pa.string()),
    ]
)  # fmt: skip
_SUFFIX = {"text/plain": "txt", "image/png": "png", "audio/wav": "wav"}


def span(month: str) -> tuple[float, float]:
    """When a month begins and when it has ended, seconds since 1970, UTC.

    Raises:
        SettingsError: it is no month.

    >>> span("2026-12")[1] - span("2026-12")[0] == 31 * 24 * 3600
    True
    """
    found = re.fullmatch(r"(\d{4})-(0[1-9]|1[0-2])", month)
    if not found:
        raise SettingsError(f"A month is written 2026-11: got {month!r}.")
    year, number = int(found[1]), int(found[2])
    after = (year + 1, 1) if number == 12 else (year, number + 1)
    return datetime(year, number, 1, tzinfo=UTC).timestamp(), datetime(*after, 1, tzinfo=UTC).timestamp()


def last_month(today: date) -> str:
    """The month before a day's.

    >>> last_month(date(2027, 1, 5))
    '2026-12'
    """
    return f"{today.year - 1}-12" if today.month == 1 else f"{today.year}-{today.month - 1:02d}"


def shared_prompts(rows: Iterable[Any], k: int) -> set[str]:
    """Prompts that at least k people wrote, apart from case and spaces.

    Args:
        rows: battles, of which `prompt` and `session` count.
        k: how many people.
    """
    people: defaultdict[str, set[str]] = defaultdict(set)
    for row in rows:
        people[_plain(row.prompt)].add(row.session)
    return {prompt for prompt, who in people.items() if len(who) >= k}


def _plain(prompt: str) -> str:
    return " ".join(prompt.casefold().split())


def release(
    *,
    store: str = "arena.db",
    month: str | None = None,
    out: Path = Path("arena-release"),
    form: Literal["jsonl", "parquet"] = "jsonl",
    k: int = 5,
    reasons: bool = False,
    artefacts: bool = True,
    unfinished: bool = False,
) -> Outcome:
    """Write the votes of one month for everybody: battles and attention, and what open systems made.

    `penchant evaluate leaderboard` and `penchant import` read what is written. Nobody's address, cookie or hash is in
    it; the same person has another name in every month.

    Args:
        store: of the arena: a file, or postgresql://USER@HOST/DATABASE.
        month: such as 2026-11; the last one that is over if not given.
        out: folder for the files.
        form: JSON Lines or Parquet.
        k: a prompt is released if at least so many people wrote it; 1 releases every prompt.
        reasons: also release what people wrote about the systems.
        artefacts: also release what open systems made for released prompts.
        unfinished: write a month that is not over, for a look at it.
    """
    month = month or last_month(datetime.now(UTC).date())
    begin, end = span(month)
    if end > datetime.now(UTC).timestamp() and not unfinished:
        raise SettingsError(f"{month} is not over; --unfinished writes what there is so far.")
    if k < 1:
        raise SettingsError(f"At least one person wrote every prompt: k must be 1 or more, got {k!r}.")
    if "://" not in store and not Path(store).exists():
        raise DataError(f"There is no arena at {store}; `penchant arena --store` made it elsewhere.")
    engine, url = database(store if "://" in store else f"sqlite:///{store}")
    table = storage.battles
    votes = sa.select(table).where(table.c.preference.is_not(None), table.c.voted >= begin, table.c.voted < end)
    with engine.begin() as connection:
        rows = connection.execute(votes.order_by(table.c.voted, table.c.id)).all()
        if not rows:
            raise DataError(f"{url} holds no votes of {month}.")
        shared = shared_prompts(rows, k)
        salt = secrets.token_bytes(32)  # never kept: nobody can link a pseudonym to a hash, or to another month's
        folder = out / month
        folder.mkdir(parents=True, exist_ok=True)
        written, n_files = [], 0
        for row in rows:
            one = _battle(connection, row, salt, is_shared=_plain(row.prompt) in shared, reasons=reasons)
            if artefacts and one["prompt"] is not None:
                files = _artefacts(connection, row, folder)
                n_files += len(files)
                one |= {f"artefact_{side}": path for side, path in files.items()}
            written.append(one)
    written.sort(key=lambda one: (one["day"], one["battle"]))  # their order would tell the hour
    _write(written, folder / f"battles.{form}")
    counts = {
        "month": month,
        "battles": len(written),
        "people": len({one["user"] for one in written}),
        "prompts_withheld": sum(one["prompt"] is None for one in written),
        "not_blind": sum(not is_blind(row) for row in rows),
        "artefacts": n_files,
        "k": k,
    }
    write_json(folder / "about.json", counts)
    table_of = Table(("released", ""), [[name.replace("_", " "), str(value)] for name, value in counts.items()])
    return Outcome(counts | {"folder": str(folder)}, f"{folder}:\n{table_of.text()}")


def _battle(connection: sa.Connection, row: Any, salt: bytes, *, is_shared: bool, reasons: bool) -> dict[str, Any]:
    def pseudonym(text: str) -> str:
        return hmac.digest(salt, text.encode(), "sha256").hex()[:16]

    events = events_of(connection, row.id)
    start = events[0].time if events else 0.0
    n_votes = sa.select(sa.func.count()).where(storage.votes.c.battle == row.id, storage.votes.c.counted)
    said = (row.reasons or {}) if reasons else {}
    made: dict[str, Any] = {}
    for side in SIDES:
        about = getattr(row, side)
        is_open = about["access"] == "open"
        made |= {f"seconds_{side}": about["seconds"], f"speed_{side}": about["speed"]}
        # A checksum tells whether a clip that somebody holds is this one; of an answer that repeats its prompt it would
        # tell the prompt to who guesses it.
        made |= {f"checksum_{side}": about["checksum"] if is_open and is_shared else None, f"artefact_{side}": None}
    return {
        "battle": pseudonym(row.id),
        "day": datetime.fromtimestamp(row.voted, UTC).date().isoformat(),
        "board": row.board,
        "system_a": row.system_a,
        "system_b": row.system_b,
        "outcome": row.preference.lower(),
        "prompt": row.prompt if is_shared else None,
        "attention_a": round(row.attention["a"], 1),
        "attention_b": round(row.attention["b"], 1),
        "user": pseudonym(row.session),
        "blind": is_blind(row),
        "events": [{"side": e.side, "kind": e.kind, "seconds": round(e.time - start, 1)} for e in events],
        **made,
        "changed_votes": max(0, int(connection.scalar(n_votes) or 0) - 1),
        "reasons": said.get("overall"),
        "reasons_a": said.get("a"),
        "reasons_b": said.get("b"),
    }


def _artefacts(connection: sa.Connection, row: Any, folder: Path) -> dict[str, str]:
    """Write what open systems made, under names that say nothing but what is in them; by side, where each lies."""
    table, found = storage.artefacts, {}
    query = sa.select(table.c.side, table.c.media_type, table.c.data).where(table.c.battle == row.id)
    for side, media_type, data in connection.execute(query):
        if getattr(row, side)["access"] != "open":
            continue
        path = f"artefacts/{hashlib.sha256(data).hexdigest()[:32]}.{_SUFFIX[media_type]}"
        (folder / "artefacts").mkdir(exist_ok=True)
        (folder / path).write_bytes(data.rstrip() if media_type == "text/plain" else data)
        found[str(side)] = path
    return found


def _write(rows: list[dict[str, Any]], path: Path) -> None:
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows, SCHEMA), path)
    else:
        lines = (json.dumps(row, ensure_ascii=False) for row in rows)
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
