"""Where records live: SQLite by default, PostgreSQL by URL; append-only, idempotent, and able to forget a person.

A row's identity is the hash of its content, its source and how many equal rows of that source came before it: importing
a file again adds nothing, and two equal anonymous votes stay two. A write is acknowledged once it is on disk.

>>> from penchant.records import Comparisons
>>> store = Store("sqlite://")
>>> votes = Comparisons.from_rows([{"prompt": "2 + 2?", "chosen": "4", "rejected": "5", "user": "ann"}])
>>> store.add(votes).new, store.add(votes).new, store.users()
(1, 0, ['ann'])
"""

import json
import re
import shutil
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

import penchant
from penchant.cache import RowCache, overwrite, write_ahead
from penchant.errors import DataError, MissingExtraError, StorageError, UnknownNameError, nearest
from penchant.exchange import FORMS, files_of, write_json, writing
from penchant.identity import Identities
from penchant.records import KINDS, Records, canonical_json

_NOT_OVERWRITTEN = (
    "The person is deleted from the store {}, but another process or a full disk keeps the database from overwriting "
    "the old bytes, which stay readable in its files. End the other process, and run VACUUM (PostgreSQL: VACUUM FULL)."
)
_CHUNK = 5_000  # rows held as Python objects at once
_NUL = "\x00"
_WRITERS = 7_366_243_624  # our advisory lock on PostgreSQL: the letters of "penchant" on a telephone


@dataclass(frozen=True)
class Added:
    """What adding records did.

    Attributes:
        new: rows that were not there before.
        known: rows that were.
    """

    new: int = 0
    known: int = 0

    def __add__(self, other: "Added") -> "Added":
        """Both together."""
        return Added(self.new + other.new, self.known + other.known)


@dataclass(frozen=True)
class Forgotten:
    """What is gone.

    Attributes:
        records: kind -> rows deleted.
        artefacts: files and folders that were learnt from the person and are deleted.
        cached: rows of the cache deleted: the person's, and those of which nobody said whose they are.
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
    sa.Column("sources", sa.Text, nullable=False),
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
        # In SQLite an integer primary key is the row's own number: no second index to keep.
        sa.Column("place", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=False),
        sa.Column("identity", sa.LargeBinary, nullable=False, unique=True),
        *(sa.Column(name.name, _sql_type(name.type)) for name in cls.schema),
        sa.Index(f"ix_{kind}_user", "user"),
    )
    for kind, cls in KINDS.items()
}


def without_password(url: str) -> str:
    """The URL of a store as it may be written into a file; drivers find passwords in the environment.

    >>> without_password("postgresql://ann:secret@db/votes"), without_password("sqlite:///penchant.db")
    ('postgresql://ann@db/votes', 'sqlite:///penchant.db')
    """
    parts = sa.make_url(url)._asdict() | {"password": None}
    return sa.URL.create(**parts).render_as_string(hide_password=False)


def database(url: str) -> tuple[sa.Engine, str]:
    """A database whose writes are on disk when they are acknowledged.

    Args:
        url: as of `Store`.

    Returns:
        The engine, and the URL as it may be shown.

    Raises:
        DataError: the URL is none, or that of another kind of database.
        MissingExtraError: the driver is not installed.
    """
    try:
        made = sa.make_url(url)
        shown = made.render_as_string(hide_password=True)
        if made.get_backend_name() not in ("sqlite", "postgresql"):
            raise DataError(f"{shown!r}: records live in sqlite:///FILE or postgresql://USER@HOST/DATABASE.")
        if made.drivername == "postgresql":
            made = made.set(drivername="postgresql+psycopg")
        # No idle connections: nothing to leak, and a process that forks shares none.
        in_memory = made.get_backend_name() == "sqlite" and made.database in (None, "", ":memory:")
        options: dict[str, Any] = {"poolclass": sa.StaticPool if in_memory else sa.NullPool}
        if made.get_backend_name() == "sqlite" and "timeout" not in made.query:
            options["connect_args"] = {"timeout": 60}  # seconds to wait for another writer
        engine = sa.create_engine(made, **options)
    except sa.exc.ArgumentError as error:
        raise DataError("This is not the URL of a database; one is, for example, sqlite:///penchant.db.") from error
    except ModuleNotFoundError as error:
        raise MissingExtraError("PostgreSQL needs its driver: pip install 'penchant[postgresql]'.") from error
    if engine.dialect.name == "sqlite":
        sa.event.listen(engine, "do_connect", _durable)
    return engine, shown


def overwritten(engine: sa.Engine, url: str, tables: sa.MetaData) -> None:
    """Make a database give up the bytes of deleted rows; until then a file's free pages still hold them.

    Args:
        engine: of the database.
        url: as it may be shown.
        tables: that rows were deleted from.

    Raises:
        DataError: another process keeps the database from it.
    """
    done = True
    try:
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            if engine.dialect.name == "sqlite":
                file: Any = connection.connection.driver_connection
                done = overwrite(file)
            else:
                # Plain VACUUM only calls the bytes free. Samples of columns, kept for planning, hold texts too.
                connection.exec_driver_sql("SET lock_timeout = '60s'")
                connection.exec_driver_sql(f"VACUUM (FULL, ANALYZE) {', '.join(tables.tables)}")
                connection.exec_driver_sql("VACUUM (FULL) pg_catalog.pg_statistic")
    except (sa.exc.DBAPIError, sqlite3.Error) as error:
        raise DataError(f"{_NOT_OVERWRITTEN.format(url)} ({getattr(error, 'orig', error)})") from error
    if not done:
        raise DataError(_NOT_OVERWRITTEN.format(url))


class Store:
    """A database of records.

    Args:
        url: sqlite:///FILE, sqlite:// (in memory), or postgresql://USER@HOST/DATABASE.

    Raises:
        DataError: the URL is none, or the database is none of ours.
        StorageError: the database cannot be opened.
        MissingExtraError: the driver is not installed.
    """

    def __init__(self, url: str = "sqlite:///penchant.db"):
        self._engine, self.url = database(url)
        self._prepare()

    def _prepare(self) -> None:
        with self._transaction() as connection:
            there = set(sa.inspect(connection).get_table_names())
        if not there.issuperset(_metadata.tables):
            with self._transaction(writes=True) as connection:
                _metadata.create_all(connection)
        with self._transaction() as connection:
            found = sa.inspect(connection).get_multi_columns(filter_names=list(_metadata.tables))
        for (_, name), columns in found.items():
            missing = sorted(set(_metadata.tables[str(name)].columns.keys()) - {column["name"] for column in columns})
            if missing:
                raise DataError(
                    f"{self.url}: its table `{name}` lacks the columns {missing}, so that another program or version "
                    "of penchant made it. Name another database with --store, and import the files again."
                )

    def add(self, records: Records, *, source: str | None = None) -> Added:
        """Add records; those that are there already are left as they are. All are kept, or none.

        Args:
            records: of one kind.
            source: names records that do not name a source of their own.

        Raises:
            StorageError: the database refuses, or is full.
        """
        [added] = self.add_steps([[records]], source=source)
        return added

    def add_steps(self, steps: Iterable[Iterable[Records]], *, source: str | None = None) -> Iterator[Added]:
        """Add the records of one import, of any size, step by step.

        A step is on disk when what it did is handed out: all of it, or nothing if it fails or the process is killed.
        Equal rows are counted over all steps, so that the same import again, cut into whatever steps, adds what is
        missing and nothing else.

        Args:
            steps: records, of one or several kinds at once.
            source: names records that do not name a source of their own.

        Raises:
            StorageError: the database refuses, or is full. Earlier steps are kept.
        """
        imports: dict[str, _Import] = {}
        try:
            for step in steps:
                done = Added()
                with self._transaction(writes=True) as connection:
                    for records in step:
                        if records.kind not in imports:
                            imports[records.kind] = _Import(Identities(records.kind))
                        done += self._add(connection, records, imports[records.kind], source)
                yield done
        finally:
            for one in imports.values():
                one.identities.close()

    def _add(self, connection: sa.Connection, records: Records, so_far: "_Import", source: str | None) -> Added:
        table = _tables[records.kind]
        place = connection.execute(sa.select(sa.func.coalesce(sa.func.max(table.c.place), 0))).scalar_one()
        new = 0
        for batch in records.table.to_batches(max_chunksize=_CHUNK):
            columns = _columns(batch, source)
            so_far.sources.update(name for name in columns["source"] if name is not None)
            rows = list(zip(*columns.values(), strict=True))
            identities = so_far.identities.of(rows)
            placed = [(place + i, key, *row) for i, (key, row) in enumerate(zip(identities, rows, strict=True), 1)]
            place += len(placed)
            # Tuples straight to the driver: naming each value of each row would cost more than writing it.
            new += connection.exec_driver_sql(self._insertion(table, "identity"), placed).rowcount
        so_far.rows += len(records)
        so_far.new += new
        if new:
            self._note(connection, records.kind, so_far)
        return Added(new, len(records) - new)

    @staticmethod
    def _note(connection: sa.Connection, kind: str, so_far: "_Import") -> None:
        """One line of provenance for each kind of an import, which grows with its steps."""
        line = {
            "time": _now(),
            "kind": kind,
            "sources": canonical_json(sorted(so_far.sources)),
            "rows": so_far.rows,
            "new": so_far.new,
            "hash": so_far.identities.hexdigest(),
            "version": penchant.__version__,
        }
        if so_far.line is None:
            so_far.line = connection.execute(sa.insert(_imports).values(line).returning(_imports.c.id)).scalar_one()
        else:
            connection.execute(sa.update(_imports).where(_imports.c.id == so_far.line).values(line))

    def _insertion(self, table: sa.Table, *unique: str) -> str:
        quote = self._engine.dialect.identifier_preparer.quote
        names = ", ".join(quote(column.name) for column in table.columns)
        marks = ", ".join(["?" if self._engine.dialect.name == "sqlite" else "%s"] * len(table.columns))
        known = ", ".join(map(quote, unique))
        return f"INSERT INTO {quote(table.name)} ({names}) VALUES ({marks}) ON CONFLICT ({known}) DO NOTHING"

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
        parts = list(self.parts(kind, users=users, sources=sources))
        return KINDS[kind].concat(parts)

    def parts(
        self, kind: str, *, users: Sequence[str] | None = None, sources: Sequence[str] | None = None
    ) -> Iterator[Records]:
        """The same as `records`, a few thousand at a time, so that the memory for one part is enough."""
        if kind not in KINDS:
            raise UnknownNameError(f"No kind of record is called {kind!r}: {nearest(kind, KINDS)}")
        table, cls = _tables[kind], KINDS[kind]
        query = sa.select(*(table.c[name] for name in cls.schema.names)).order_by(table.c.place)
        if users is not None:
            query = query.where(self._among(table.c.user, users))
        if sources is not None:
            query = query.where(self._among(table.c.source, sources))
        with self._transaction() as connection:
            result = connection.execution_options(yield_per=_CHUNK).execute(query)
            for rows in result.partitions(_CHUNK):
                columns = zip(*rows, strict=True)
                arrays = [_column(column, f.type) for column, f in zip(columns, cls.schema, strict=True)]
                yield cls(pa.table(arrays, names=cls.schema.names))

    def _among(self, column: sa.Column[Any], texts: Sequence[str]) -> sa.ColumnElement[bool]:
        # One parameter whatever their number: both databases refuse a query with more than some 32,000.
        stored = [_safe(text) for text in texts]
        if self._engine.dialect.name == "sqlite":
            return column.in_(sa.select(sa.func.json_each(canonical_json(stored)).table_valued("value").c.value))
        return column == sa.any_(sa.literal(stored, postgresql.ARRAY(sa.Text)))

    def kinds(self, *, users: Sequence[str] | None = None) -> dict[str, int]:
        """Kinds of which there are records, or records of these people, and how many."""
        counts = {}
        with self._transaction() as connection:
            for kind, table in _tables.items():
                query = sa.select(sa.func.count()).select_from(table)
                counts[kind] = connection.scalar(
                    query if users is None else query.where(self._among(table.c.user, users))
                )
        return {kind: count for kind, count in counts.items() if count}

    def users(self) -> list[str]:
        """Everybody who left a record, sorted."""
        queries = [sa.select(table.c.user).where(table.c.user.is_not(None)) for table in _tables.values()]
        with self._transaction() as connection:
            found = connection.execute(sa.union(*queries)).scalars().all()
        return sorted(_plain(user) for user in found)

    def imports(self) -> list[dict[str, Any]]:
        """What was added when, oldest first: time, kind, sources, rows, new rows, hash of their ids, our version."""
        with self._transaction() as connection:
            lines = [dict(row) for row in connection.execute(sa.select(_imports).order_by(_imports.c.id)).mappings()]
        return [line | {"sources": [_plain(name) for name in json.loads(line["sources"])]} for line in lines]

    def derived(self, path: Path | str, *, users: Sequence[str], note: str = "") -> None:
        """Say that a file or folder was learnt from these people; it goes when one of them is forgotten.

        Raises:
            DataError: the folder holds the working folder, the home folder or the store: too much to delete.
        """
        where = Path(path).resolve()
        kept = (Path.cwd(), Path.home(), Path(self._engine.url.database or "").resolve())
        if any(place.is_relative_to(where) for place in kept):
            raise DataError(
                f"{where} goes as a whole when a person is forgotten, but it holds the working folder, your home or "
                "the store; write what is learnt to a folder of its own."
            )
        rows = [(_safe(str(where)), _safe(user), _safe(note), _now()) for user in users]
        if rows:
            with self._transaction(writes=True) as connection:
                connection.exec_driver_sql(self._insertion(_derived, "path", "user"), rows)

    def learnt(self, user: str) -> list[dict[str, str]]:
        """What was learnt from a person or written about them: `path` and `note` of each file or folder."""
        query = sa.select(_derived.c.path, _derived.c.note).where(_derived.c.user == _safe(user))
        with self._transaction() as connection:
            return [{"path": _plain(path), "note": _plain(note)} for path, note in connection.execute(query)]

    def export(self, out: Path, *, user: str | None = None) -> dict[str, int]:
        """Write everything, or everything that one person left behind: every answer of everybody, as it is kept.

        What is written is forgotten with each person in it if it is still there.

        Args:
            out: a file, see `penchant.exchange.writing`; or a folder, for a JSON Lines file a kind, and a list of what
                is in it and of what was learnt from the person.
            user: whose records; everybody's without it.

        Returns:
            Kind -> records written.

        Raises:
            UnknownNameError: nobody of that name left anything.
            DataError: there is nothing to write, or records of several kinds for one Parquet file.
            StorageError: the disk is full or cannot be written to.
        """
        if user is not None:
            self._require(user)
        users = None if user is None else [user]
        held = self.kinds(users=users)
        if not held and users is None:
            raise DataError(f"{self.url} holds no records to write; `penchant import` brings some.")
        is_folder = out.suffix not in FORMS
        form = out / "{kind}.jsonl" if is_folder else out
        manifest = out / "manifest.json"
        files = {*files_of(form, held).values(), *[manifest] * is_folder}
        learnt = [] if user is None else self.learnt(user)
        for path in [out] if is_folder and not out.exists() else sorted(files):
            self.derived(path, users=users or self.users(), note="export")
        written = dict.fromkeys(held, 0)
        with writing(form) as write:
            for kind in held:
                for part in self.parts(kind, users=users):
                    write(part)
                    written[kind] += len(part)
        if is_folder:
            about = {"user": user, "written": written, "learnt_from_it": learnt, "penchant": penchant.__version__}
            write_json(manifest, about)
        return written

    def forget(self, user: str, *, cache: RowCache | None = None, kept: Collection[str] = ()) -> Forgotten:
        """Delete a person's records, everything learnt from them, and what is cached of them.

        Files and the cache go first: if they cannot, the records are still there and the call can be made again.
        Backups, and PostgreSQL's own log, are out of our reach.

        Args:
            user: who.
            cache: where encodings and answers are kept; the shared one without it.
            kept: paths of what was learnt from the person and others, and since then again from the others alone.

        Raises:
            UnknownNameError: nobody of that name left anything.
            DataError: something that was learnt from the person cannot be deleted; or all is deleted, but another
                process keeps the database from overwriting it.
        """
        self._require(user)
        artefacts = sorted({learnt["path"] for learnt in self.learnt(user)} - set(kept))
        gone = [path for path in artefacts if _delete(Path(path))]
        cached = (cache or RowCache()).forget(user)
        counts = {}
        with self._transaction(writes=True) as connection:
            theirs = self._sources(connection, _safe(user))
            for kind, table in _tables.items():
                deleted = connection.execute(sa.delete(table).where(table.c.user == _safe(user))).rowcount
                if deleted:
                    counts[kind] = deleted
            self._unname(connection, theirs - self._sources(connection))
            theirs_alone = sa.or_(self._among(_derived.c.path, artefacts), _derived.c.user == _safe(user))
            connection.execute(sa.delete(_derived).where(theirs_alone))
            entry = {"time": _now(), "rows": sum(counts.values())}
            connection.execute(sa.insert(_forgotten), [entry])
        overwritten(self._engine, self.url, _metadata)
        return Forgotten(counts, tuple(gone), cached)

    @staticmethod
    def _sources(connection: sa.Connection, user: str | None = None) -> set[str]:
        whose = [sa.true() if user is None else table.c.user == user for table in _tables.values()]
        queries = [sa.select(table.c.source).where(w) for table, w in zip(_tables.values(), whose, strict=True)]
        return set(connection.execute(sa.union(*queries)).scalars()) - {None}

    @staticmethod
    def _unname(connection: sa.Connection, sources: set[str]) -> None:
        """Take sources that held nobody else out of the provenance: a file may be named after its person."""
        for line in connection.execute(sa.select(_imports.c.id, _imports.c.sources)).all() if sources else []:
            kept = [name for name in json.loads(line.sources) if name not in sources]
            change = sa.update(_imports).where(_imports.c.id == line.id).values(sources=canonical_json(kept))
            connection.execute(change)

    def _require(self, user: str) -> None:
        users = self.users()
        if user not in users and not self.learnt(user):
            raise UnknownNameError(f"Nobody called {user!r} left anything in {self.url}: {nearest(user, users)}")

    @contextmanager
    def _transaction(self, *, writes: bool = False) -> Iterator[sa.Connection]:
        """All of it or nothing; one writer at a time, so that places are never given twice."""
        try:
            with self._engine.begin() as connection:
                if writes and self._engine.dialect.name == "sqlite":
                    connection.exec_driver_sql("BEGIN IMMEDIATE")
                elif writes:
                    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_WRITERS)))
                yield connection
        except sa.exc.DBAPIError as error:
            raise StorageError(
                f"The store {self.url} cannot be used: {error.orig}. Nothing of this step was kept. Is the path "
                "writable, the disk full, the file a penchant store, the server up, or another process writing?"
            ) from error


def _durable(dialect: sa.Dialect, _: Any, place: Sequence[Any], options: Mapping[str, Any]) -> Any:
    """A connection to SQLite whose writes are on disk when they are acknowledged."""
    for is_alone in (False, True):
        connection: Any = dialect.connect(*place, **options)
        try:
            if is_alone:
                connection.execute("PRAGMA locking_mode = EXCLUSIVE").close()
            write_ahead(connection)
            connection.execute("PRAGMA synchronous = FULL").close()
            return connection
        except sqlite3.OperationalError as error:
            connection.close()
            # A disk may have no room even for the file in which processes share what they know of the log. Who has the
            # database for himself needs none: what was kept can still be read.
            if is_alone or error.sqlite_errorname != "SQLITE_IOERR_SHMSIZE":
                raise
    return None


def _delete(path: Path) -> bool:
    try:
        if path.is_dir() and not path.is_symlink():
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
    return re.sub(r"\\(.)", lambda found: _NUL if found[1] == "0" else found[1], text) if "\\" in text else text


@dataclass
class _Import:
    """The records of one kind that have come of one import so far."""

    identities: Identities
    rows: int = 0
    new: int = 0
    sources: set[str] = field(default_factory=set)
    line: int | None = None  # number of its line of provenance


def _columns(batch: pa.RecordBatch, source: str | None) -> dict[str, list[Any]]:
    """Columns as both databases hold them."""
    columns: dict[str, list[Any]] = {}
    for field_ in batch.schema:
        column = batch.column(field_.name)
        values: list[Any]
        if column.null_count == len(column):
            values = [None] * len(column)
        elif pa.types.is_timestamp(field_.type):
            values = column.cast(pa.int64()).to_pylist()
        elif pa.types.is_list(field_.type):
            values = [None if value is None else canonical_json(value) for value in column.to_pylist()]
        elif pa.types.is_string(field_.type):
            values = column.to_numpy(zero_copy_only=False).tolist()
        else:
            values = column.to_pylist()
        if pa.types.is_string(field_.type) and pc.any(pc.match_substring_regex(column, r"[\\\x00]")).as_py():
            values = [None if value is None else _safe(value) for value in values]
        columns[field_.name] = values
    if source is not None:
        columns["source"] = [value if value is not None else _safe(source) for value in columns["source"]]
    return columns


def _column(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    if pa.types.is_timestamp(kind):
        return pa.array(values, pa.int64()).cast(kind)
    if pa.types.is_list(kind):
        return pa.array([None if value is None else json.loads(value) for value in values], kind)
    if pa.types.is_string(kind):
        return pa.array([None if value is None else _plain(value) for value in values], kind)
    return pa.array(values, kind)
