"""Where records live: SQLite by default, PostgreSQL by URL; append-only, idempotent, and able to forget a person.

A row's identity is the hash of its content, its source and how many equal rows of that source came before it: importing
a file again adds nothing, and two equal anonymous votes stay two. A write is acknowledged once it is on disk.

>>> from penchant.records import Comparisons
>>> store = Store("sqlite://")
>>> votes = Comparisons.from_rows([{"prompt": "2 + 2?", "chosen": "4", "rejected": "5", "user": "ann"}])
>>> store.add(votes).new, store.add(votes).new, store.users()
(1, 0, ['ann'])
"""

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

import penchant
from penchant.cache import RowCache, content_key
from penchant.errors import DataError, MissingExtraError, UnknownNameError, nearest
from penchant.exchange import write_json, write_jsonl
from penchant.records import KINDS, Records, canonical_json

_CHUNK = 5_000  # rows held as Python objects at once
_NUL = "\x00"


@dataclass(frozen=True)
class Added:
    """What adding records did.

    Attributes:
        new: rows that were not there before.
        known: rows that were.
    """

    new: int
    known: int


@dataclass(frozen=True)
class Forgotten:
    """What is gone.

    Attributes:
        records: kind -> rows deleted.
        artefacts: files and folders that were learnt from the person and are deleted.
        cached: rows of the cache deleted. It is emptied whole: which of its rows came from a text cannot be told, and
            all of them can be computed again.
    """

    records: Mapping[str, int] = field(default_factory=dict)
    artefacts: tuple[str, ...] = ()
    cached: int = 0

    def __str__(self) -> str:
        """For people."""
        rows = ", ".join(f"{count} {kind} records" for kind, count in sorted(self.records.items())) or "no records"
        return f"{rows}, {len(self.artefacts)} models or files, {self.cached} cached rows"


_metadata = sa.MetaData()
_imports = sa.Table(
    "imports",
    _metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("time", sa.Text, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("rows", sa.Integer, nullable=False),
    sa.Column("new", sa.Integer, nullable=False),
    sa.Column("hash", sa.Text, nullable=False),
    sa.Column("version", sa.Text, nullable=False),
)
_derived = sa.Table(
    "derived",
    _metadata,
    sa.Column("path", sa.Text, primary_key=True),
    sa.Column("user", sa.Text, primary_key=True),
    sa.Column("note", sa.Text),
    sa.Column("time", sa.Text, nullable=False),
)
_forgotten = sa.Table(
    "forgotten",
    _metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("time", sa.Text, nullable=False),
    sa.Column("user_hash", sa.Text, nullable=False),
    sa.Column("rows", sa.Integer, nullable=False),
)


def _sql_type(kind: pa.DataType) -> Any:
    if pa.types.is_floating(kind):
        return sa.Double()
    if pa.types.is_timestamp(kind):
        return sa.BigInteger()  # microseconds since 1970, UTC: exact on both databases
    return sa.Text()  # lists as JSON


_tables = {
    kind: sa.Table(
        f"{kind}s",
        _metadata,
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("place", sa.BigInteger, nullable=False),
        *(sa.Column(name.name, _sql_type(name.type)) for name in cls.schema),
        sa.Index(f"ix_{kind}_user", "user"),
        sa.Index(f"ix_{kind}_place", "place"),
    )
    for kind, cls in KINDS.items()
}


class Store:
    """A database of records.

    Args:
        url: sqlite:///FILE, sqlite:// (in memory), or postgresql+psycopg://USER@HOST/DATABASE.

    Raises:
        DataError: the database cannot be opened or is none of ours.
        MissingExtraError: the driver is not installed.
    """

    def __init__(self, url: str = "sqlite:///penchant.db"):
        self.url = url
        try:
            made = sa.make_url(url)
            if made.get_backend_name() not in ("sqlite", "postgresql"):
                raise DataError(f"{url!r}: records live in sqlite:///FILE or postgresql+psycopg://USER@HOST/DATABASE.")
            if made.drivername == "postgresql":
                made = made.set(drivername="postgresql+psycopg")
            options: dict[str, Any] = {"connect_args": {"timeout": 60}} if made.get_backend_name() == "sqlite" else {}
            # No idle connections: nothing to leak, and a process that forks shares none.
            options["poolclass"] = (
                sa.StaticPool if made.get_backend_name() == "sqlite" and not made.database else sa.NullPool
            )
            self._engine = sa.create_engine(made, **options)
        except sa.exc.ArgumentError as error:
            raise DataError(f"{url!r} is not the URL of a database; for example sqlite:///penchant.db.") from error
        except ModuleNotFoundError as error:
            raise MissingExtraError("PostgreSQL needs its driver: pip install 'penchant[postgresql]'.") from error
        if self._engine.dialect.name == "sqlite":
            sa.event.listen(self._engine, "connect", _durable)
        with self._begin() as connection:
            _metadata.create_all(connection)

    def add(self, records: Records, *, source: str | None = None) -> Added:
        """Add records; those that are there already are left as they are. All are kept, or none.

        Args:
            records: of one kind.
            source: names records that do not name a source of their own.

        Raises:
            DataError: the database refuses, or is full.
        """
        kind = records.kind
        table = _tables[kind]
        insert = sqlite.insert if self._engine.dialect.name == "sqlite" else postgresql.insert
        statement = insert(table).on_conflict_do_nothing(index_elements=["id"])
        occurrences: Counter[str] = Counter()
        whole = hashlib.blake2b(digest_size=20)
        new = 0
        with self._begin() as connection:
            place = connection.execute(sa.select(sa.func.coalesce(sa.func.max(table.c.place), 0))).scalar_one()
            for batch in records.table.to_batches(max_chunksize=_CHUNK):
                rows = _flat(batch, source)
                for row in rows:
                    content = content_key(kind, canonical_json(list(row.values())))
                    occurrences[content] += 1
                    row["id"] = content_key(content, str(occurrences[content]))
                    place += 1
                    row["place"] = place
                    whole.update(row["id"].encode())
                if rows:
                    there = sa.select(sa.func.count()).where(table.c.id.in_([row["id"] for row in rows]))
                    new += len(rows) - connection.execute(there).scalar_one()
                    connection.execute(statement, rows)
            if len(records):
                entry = {
                    "time": _now(),
                    "kind": kind,
                    "rows": len(records),
                    "new": new,
                    "hash": whole.hexdigest(),
                    "version": penchant.__version__,
                }
                connection.execute(sa.insert(_imports), [entry])
        return Added(new, len(records) - new)

    @staticmethod
    def _count(connection: sa.Connection, table: sa.Table) -> int:
        return int(connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one())

    def records(
        self, kind: str, *, users: Sequence[str] | None = None, sources: Sequence[str] | None = None
    ) -> Records:
        """Records of one kind in the order they came, identical to what was added.

        Args:
            kind: as in `penchant.records.KINDS`.
            users: only of these people.
            sources: only from these sources.

        Raises:
            UnknownNameError: there is no such kind.
        """
        if kind not in KINDS:
            raise UnknownNameError(f"No kind of record is called {kind!r}: {nearest(kind, KINDS)}")
        table, cls = _tables[kind], KINDS[kind]
        query = sa.select(*(table.c[name] for name in cls.schema.names)).order_by(table.c.place, table.c.id)
        if users is not None:
            query = query.where(table.c.user.in_([_safe(user) for user in users]))
        if sources is not None:
            query = query.where(table.c.source.in_([_safe(source) for source in sources]))
        parts = []
        with self._begin() as connection:
            result = connection.execution_options(yield_per=_CHUNK).execute(query)
            for rows in result.partitions(_CHUNK):
                columns = zip(*rows, strict=True)
                arrays = [_column(column, f.type) for column, f in zip(columns, cls.schema, strict=True)]
                parts.append(pa.table(arrays, names=cls.schema.names))
        return cls(pa.concat_tables(parts) if parts else cls.schema.empty_table())

    def kinds(self) -> dict[str, int]:
        """Kinds of which there are records, and how many."""
        with self._begin() as connection:
            counts = {kind: self._count(connection, table) for kind, table in _tables.items()}
        return {kind: count for kind, count in counts.items() if count}

    def users(self) -> list[str]:
        """Everybody who left a record, sorted."""
        queries = [sa.select(table.c.user).where(table.c.user.is_not(None)) for table in _tables.values()]
        with self._begin() as connection:
            found = connection.execute(sa.union(*queries)).scalars().all()
        return sorted(_plain(user) for user in found)

    def imports(self) -> list[dict[str, Any]]:
        """What was added when, oldest first: time, kind, rows, new rows, hash of their ids, version of penchant."""
        with self._begin() as connection:
            return [dict(row) for row in connection.execute(sa.select(_imports).order_by(_imports.c.id)).mappings()]

    def derived(self, path: Path | str, *, users: Sequence[str], note: str = "") -> None:
        """Say that a file or folder was learnt from these people; it goes when one of them is forgotten."""
        insert = sqlite.insert if self._engine.dialect.name == "sqlite" else postgresql.insert
        where = str(Path(path).absolute())
        rows = [{"path": where, "user": _safe(user), "note": note, "time": _now()} for user in users]
        with self._begin() as connection:
            if rows:
                connection.execute(insert(_derived).on_conflict_do_nothing(), rows)

    def export(self, user: str, folder: Path) -> dict[str, int]:
        """Write everything a person left behind, one JSON Lines file a kind, and a list of what was learnt from it.

        Returns:
            Kind -> records written.

        Raises:
            UnknownNameError: nobody of that name left anything.
        """
        self._require(user)
        written = {}
        for kind in self.kinds():
            own = self.records(kind, users=[user])
            if len(own):
                write_jsonl(own, folder / f"{kind}.jsonl")
                written[kind] = len(own)
        with self._begin() as connection:
            query = sa.select(_derived.c.path, _derived.c.note).where(_derived.c.user == _safe(user))
            learnt = [dict(row) for row in connection.execute(query).mappings()]
        manifest = {"user": user, "written": written, "learnt_from_it": learnt, "penchant": penchant.__version__}
        write_json(folder / "manifest.json", manifest)
        return written

    def forget(self, user: str, *, cache: RowCache | None = None) -> Forgotten:
        """Delete a person's records, everything learnt from them, and whatever is cached.

        Files go first: if one cannot be deleted, the records are still there and the call can be made again.

        Args:
            user: who.
            cache: where encodings and answers are kept; the shared one without it.

        Raises:
            UnknownNameError: nobody of that name left anything.
            DataError: something that was learnt from the person cannot be deleted.
        """
        self._require(user)
        with self._begin() as connection:
            query = sa.select(_derived.c.path).where(_derived.c.user == _safe(user))
            artefacts = sorted(connection.execute(query).scalars().all())
        gone = [path for path in artefacts if _delete(Path(path))]
        counts = {}
        with self._begin() as connection:
            for kind, table in _tables.items():
                deleted = connection.execute(sa.delete(table).where(table.c.user == _safe(user))).rowcount
                if deleted:
                    counts[kind] = deleted
            connection.execute(sa.delete(_derived).where(_derived.c.path.in_(artefacts)))
            entry = {"time": _now(), "user_hash": content_key(user), "rows": sum(counts.values())}
            connection.execute(sa.insert(_forgotten), [entry])
        if self._engine.dialect.name == "sqlite":
            with self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                connection.exec_driver_sql("VACUUM")  # deleted rows would stay readable in the file's free pages
                connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        return Forgotten(counts, tuple(gone), (cache or RowCache()).clear())

    def _require(self, user: str) -> None:
        users = self.users()
        if user not in users:
            raise UnknownNameError(f"Nobody called {user!r} left anything in {self.url}: {nearest(user, users)}")

    def _begin(self) -> Any:
        return _Clear(self._engine)


class _Clear:
    """A transaction whose errors are said in words."""

    def __init__(self, engine: sa.Engine):
        self._context = engine.begin()
        self._url = engine.url.render_as_string(hide_password=True)

    def __enter__(self) -> sa.Connection:
        try:
            return self._context.__enter__()
        except sa.exc.DBAPIError as error:
            raise DataError(self._said(error)) from error

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        try:
            self._context.__exit__(kind, error, trace)
        except sa.exc.DBAPIError as failed:
            raise DataError(self._said(failed)) from failed
        if isinstance(error, sa.exc.DBAPIError):
            raise DataError(self._said(error)) from error

    def _said(self, error: sa.exc.DBAPIError) -> str:
        return (
            f"The store {self._url} cannot be used: {error.orig}. Nothing of this step was kept. Is the path writable, "
            "the disk full, the file a penchant store, the server running, or another process writing for minutes?"
        )


def _durable(connection: Any, _: Any) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute("PRAGMA busy_timeout = 60000")
    cursor.close()


def _delete(path: Path) -> bool:
    try:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise DataError(
            f"{path} was learnt from the person and cannot be deleted ({error.strerror}). Nothing was forgotten yet; "
            "delete it or make it writable, and forget again."
        ) from error
    return True


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _safe(text: str) -> str:
    """Text without the one character that PostgreSQL cannot hold; `_plain` is the way back."""
    return text.replace("\\", "\\\\").replace(_NUL, "\\0") if _NUL in text or "\\" in text else text


def _plain(text: str) -> str:
    if "\\" not in text:
        return text
    out, escaped = [], False
    for character in text:
        if escaped:
            out.append(_NUL if character == "0" else character)
            escaped = False
        elif character == "\\":
            escaped = True
        else:
            out.append(character)
    return "".join(out)


def _flat(batch: pa.RecordBatch, source: str | None) -> list[dict[str, Any]]:
    columns: dict[str, list[Any]] = {}
    for field_ in batch.schema:
        column = batch.column(field_.name)
        if pa.types.is_timestamp(field_.type):
            values = column.cast(pa.int64()).to_pylist()
        elif pa.types.is_list(field_.type):
            values = [None if value is None else canonical_json(value) for value in column.to_pylist()]
        else:
            values = column.to_pylist()
        if pa.types.is_string(field_.type):
            values = [None if value is None else _safe(value) for value in values]
        columns[field_.name] = values
    if source is not None:
        columns["source"] = [value if value is not None else _safe(source) for value in columns["source"]]
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _column(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    if pa.types.is_timestamp(kind):
        return pa.array(values, pa.int64()).cast(kind)
    if pa.types.is_list(kind):
        return pa.array([None if value is None else json.loads(value) for value in values], kind)
    if pa.types.is_string(kind):
        return pa.array([None if value is None else _plain(value) for value in values], kind)
    return pa.array(values, kind)
