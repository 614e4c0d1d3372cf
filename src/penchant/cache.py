"""What was computed once, kept by the content it was computed from: encodings, log-probabilities, chat answers.

One SQLite file in WAL mode, safe for several processes. Losing it costs time, never data: a value that is damaged
counts as missing, and a cache that cannot be read or written is said once and gone without. It stays below a limit, for
which what was used longest ago goes first, and it can forget a person.

>>> content_key("ab", "c") == content_key("a", "bc")
False
"""

import hashlib
import os
import re
import sqlite3
import threading
import time
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zlib import crc32

import platformdirs

from penchant.errors import SettingsError, StorageError

_AT_ONCE = 500  # keys in one query; SQLite allows 32,766, older builds 999
_LAYOUT = 2  # of the tables; a file of another layout is emptied
_LIMIT = 2 * 2**30  # bytes, unless somebody says otherwise
_KEPT = 0.9  # of the limit after making room, so that room is not made at every write
_ROW_BYTES = 100  # what a row takes beside its value, about
_TAG = 8  # bytes that stand for a person
_MOST_OWNERS = 8  # of one row; the rest need not be known for it to go too often rather than too seldom
_TABLES = (
    "CREATE TABLE namespaces (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)",
    # Rows are narrow and sorted by their hash; values lie in the order they came. In one table every new value would
    # move others about, and marking a row as used would write its value again.
    "CREATE TABLE rows (namespace INTEGER, key TEXT, place INTEGER NOT NULL, used INTEGER NOT NULL, owners BLOB, "
    "PRIMARY KEY (namespace, key)) WITHOUT ROWID",
    "CREATE TABLE contents (place INTEGER PRIMARY KEY, checksum INTEGER NOT NULL, value BLOB NOT NULL)",
    "CREATE TABLE settings (name TEXT PRIMARY KEY, value INTEGER NOT NULL)",
)


KeyOwners = Mapping[str, Collection[str | None]]
"""Key -> whose records it comes from; None is a record without a name."""


def cache_folder() -> Path:
    """Where penchant keeps what it can compute again: `PENCHANT_CACHE`, or the user's cache folder."""
    named = os.environ.get("PENCHANT_CACHE")
    return Path(named) if named else Path(platformdirs.user_cache_path("penchant"))


def content_key(*parts: str) -> str:
    """Hash of several texts; their lengths are hashed too, so that moving a boundary changes it."""
    digest = hashlib.blake2b(digest_size=20)
    for part in parts:
        data = part.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()


def owners_by_key(left: Iterable[tuple[str, Collection[str | None]]]) -> KeyOwners:
    """Whose records each key comes from, where several people may have left the same.

    >>> owners_by_key([("a", ["ann"]), ("b", ["ann"]), ("a", [None])]) == {"a": {"ann", None}, "b": ["ann"]}
    True
    """
    whose: dict[str, Collection[str | None]] = {}
    for key, people in left:
        known = whose.setdefault(key, people)
        if known is not people:  # seldom: one set for each of many rows would cost more than looking them up
            whose[key] = {*known, *people}
    return whose


def bytes_of(size: str) -> int:
    """A size in words as a number of bytes.

    Raises:
        SettingsError: it is none.

    >>> bytes_of("500MB"), bytes_of("2 GiB"), bytes_of("4096")
    (500000000, 2147483648, 4096)
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(?:([kMGT]?)(i?)B?)\s*", size, re.IGNORECASE)
    if not found:
        raise SettingsError(f"{size!r} is not a size; one is, for example, 500MB or 2GiB.")
    number, prefix, binary = found.groups()
    return int(float(number) * (1024 if binary else 1000) ** " KMGT".index(prefix.upper() or " "))


def write_ahead(connection: sqlite3.Connection) -> None:
    """Put a SQLite database into WAL mode: readers and a writer do not wait for each other.

    Raises:
        sqlite3.OperationalError: another process holds the file for more than a second.
    """
    # Two processes that open a new file at once both want to change its mode; SQLite does not wait for that.
    for attempt in range(50):
        try:
            connection.execute("PRAGMA journal_mode = WAL").close()
            return
        except sqlite3.OperationalError:
            if attempt == 49:
                raise
            time.sleep(0.02)


def overwrite(connection: sqlite3.Connection) -> bool:
    """Write a database in WAL mode anew: until then deleted rows stay readable in its free pages and in its log.

    Returns:
        False if a reader or writer kept the log from being emptied for longer than the connection waits.

    Raises:
        sqlite3.Error: the file cannot be written, or is locked for longer.
    """
    connection.execute("VACUUM")
    [patience] = connection.execute("PRAGMA busy_timeout").fetchone()
    until = time.monotonic() + patience / 1000
    # SQLite itself waits for readers and writers, but not for another process that moves the log into the file.
    while connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True


@dataclass(frozen=True)
class Held:
    """What the cache holds of one kind.

    Attributes:
        namespace: what computed it.
        rows: how many values.
        bytes: of the values and their keys, about.
        used: when one was last asked for or put, to the hour.
    """

    namespace: str
    rows: int
    bytes: int
    used: datetime


class RowCache:
    """Bytes by namespace and key.

    Args:
        path: the file; `rows.sqlite` in the cache folder without it.
        limit: bytes the file may take; without it `PENCHANT_CACHE_LIMIT`, what `set_limit` said, or 2 GiB.

    Attributes:
        damaged: values that were asked for, did not fit their checksum, and counted as missing.

    Raises:
        StorageError: the file is something else.
    """

    def __init__(self, path: Path | None = None, *, limit: int | None = None):
        self.path = path or cache_folder() / "rows.sqlite"
        self.damaged = 0
        named = os.environ.get("PENCHANT_CACHE_LIMIT")
        self._limit = limit if limit is not None else bytes_of(named) if named else None
        self._local = threading.local()
        self._process = os.getpid()
        self._reads = self._writes = True
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self._connected() as connection:
                [layout] = connection.execute("PRAGMA user_version").fetchone()
            if layout != _LAYOUT:
                self._lay_out()
        except OSError as error:
            if getattr(error.__cause__, "sqlite_errorcode", None) == sqlite3.SQLITE_NOTADB:
                raise
            self._give_up(error)

    def get_many(self, namespace: str, keys: Sequence[str], owners: KeyOwners | None = None) -> list[bytes | None]:
        """Values in the order of the keys, None where there is none that is sound.

        Args:
            namespace: what computed them.
            keys: of what they were computed from.
            owners: as in `put_many`, for rows whose owners nobody named yet.
        """
        found: dict[str, bytes] = {}
        unmarked, unnamed = [], {}
        n_damaged, hour = 0, _hour()
        try:
            for key, used, named, checksum, value in self._rows(namespace, keys) if self._reads else ():
                if type(value) is not bytes or _checksum(key, value) != checksum:
                    n_damaged += 1
                    continue
                found[key] = value
                if used < hour:
                    unmarked.append(key)
                if owners and not named and (tags := _tags(owners.get(key))):
                    unnamed[key] = tags
        except StorageError as error:
            self._give_up(error)
        if unmarked or unnamed:
            self._mark(namespace, unmarked, hour, unnamed)
        if n_damaged:
            if not self.damaged:
                _say(f"The cache {self.path} holds damaged values: {n_damaged} of {len(keys)} are computed again.")
            self.damaged += n_damaged
        return [found.get(key) for key in keys]

    def put_many(self, namespace: str, items: Mapping[str, bytes], owners: KeyOwners | None = None) -> None:
        """Keep values; a key that is there already keeps its newest value.

        Args:
            namespace: what computed them.
            items: key -> value.
            owners: whose records they were computed from. When one of them is forgotten the row stays as long as there
                is another. A row whose owners nobody named goes with anybody.
        """
        if not (items and self._writes):
            return
        hour = _hour()
        try:
            with self._writing() as connection:
                number = _number(connection, namespace)
                known = dict(_by_key(connection, "SELECT key, place FROM rows", number, list(items)))
                [last] = connection.execute("SELECT coalesce(max(place), 0) FROM contents").fetchone()
                fresh = iter(range(last + 1, last + 1 + len(items)))
                places = {key: known.get(key) or next(fresh) for key in items}
                connection.executemany(
                    "INSERT OR REPLACE INTO contents VALUES (?, ?, ?)",
                    ((places[key], _checksum(key, value), value) for key, value in items.items()),
                )
                connection.executemany(
                    "INSERT INTO rows VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE "
                    "SET used = excluded.used, owners = coalesce(excluded.owners, owners)",
                    ((number, key, places[key], hour, _tags((owners or {}).get(key))) for key in items),
                )
                self._make_room(connection)
        except StorageError as error:
            self._give_up(error, reads=self._reads)

    def forget(self, user: str) -> int:
        """Delete the rows that come from one person alone or from nobody knows whom, and overwrite their bytes.

        The file is written anew without them, which takes about five seconds a gigabyte.

        Returns:
            Rows deleted.

        Raises:
            StorageError: the cache cannot be written, or another process keeps it from overwriting the bytes.
        """
        tag = _tag(user)
        gone, kept = [], []
        with self._writing() as connection:
            suspects = "SELECT namespace, key, place, owners FROM rows WHERE owners IS NULL OR instr(owners, ?)"
            for namespace, key, place, owners in connection.execute(suspects, [tag]):
                others = [one for one in _parted(owners) if one != tag]
                if others:
                    kept.append((b"".join(others), namespace, key))
                else:
                    gone.append((namespace, key, place))
            connection.executemany("UPDATE rows SET owners = ? WHERE namespace = ? AND key = ?", kept)
            _delete(connection, gone)
        # Even if nothing was found: rows that made room for others have left their bytes in the file's free pages.
        self._overwrite()
        return len(gone)

    def clear(self, prefix: str = "") -> int:
        """Delete the rows of all namespaces that begin so, and overwrite their bytes; how many rows that were.

        Raises:
            StorageError: as `forget`.
        """
        with self._writing() as connection:
            query = (
                "SELECT namespace, key, place FROM rows JOIN namespaces ON id = namespace WHERE substr(name, 1, ?) = ?"
            )
            gone = connection.execute(query, [len(prefix), prefix]).fetchall()
            _delete(connection, gone)
        self._overwrite()
        return len(gone)

    def collect(self) -> dict[str, int]:
        """Check every value, delete the damaged ones, make room if the limit asks for it, and give back free space.

        Returns:
            Rows deleted, by reason.

        Raises:
            StorageError: as `forget`.
        """
        with self._writing() as connection:
            query = "SELECT namespace, key, checksum, value FROM rows LEFT JOIN contents USING (place)"
            damaged = [
                (namespace, key)
                for namespace, key, checksum, value in connection.execute(query)
                if type(value) is not bytes or _checksum(key, value) != checksum
            ]
            connection.executemany("DELETE FROM rows WHERE namespace = ? AND key = ?", damaged)
            # A damaged row may name the place of a sound one, so that values go by what is left.
            connection.execute("DELETE FROM contents WHERE place NOT IN (SELECT place FROM rows)")
            beyond = self._make_room(connection)
        self._overwrite()
        return {"damaged": len(damaged), "beyond the limit": beyond}

    def held(self) -> list[Held]:
        """What is there, by namespace, the largest first.

        Raises:
            StorageError: the cache cannot be read.
        """
        query = (
            "SELECT name, count(*), sum(length(value)) + count(*) * ?, max(used) FROM rows "
            "JOIN contents USING (place) JOIN namespaces ON id = namespace GROUP BY namespace"
        )
        with self._connected() as connection:
            found = connection.execute(query, [_ROW_BYTES]).fetchall()
        used = [Held(name, n, size, datetime.fromtimestamp(hour * 3600, UTC)) for name, n, size, hour in found]
        return sorted(used, key=lambda one: (-one.bytes, one.namespace))

    def size(self) -> int:
        """Bytes on disk, the log included."""
        files = [self.path, self.path.with_name(f"{self.path.name}-wal")]
        return sum(file.stat().st_size for file in files if file.exists())

    def limit(self) -> int:
        """Bytes the file may take.

        Raises:
            StorageError: the cache cannot be read.
        """
        with self._connected() as connection:
            return self._most(connection)

    def set_limit(self, limit: int) -> int:
        """Keep at most so many bytes from now on, in every process that sets no limit of its own.

        Returns:
            Rows that made room.

        Raises:
            StorageError: the cache cannot be written.
        """
        with self._writing() as connection:
            connection.execute("INSERT OR REPLACE INTO settings VALUES ('limit', ?)", [limit])
            n_gone = self._make_room(connection)
        self._overwrite()
        return n_gone

    def _rows(self, namespace: str, keys: Iterable[str]) -> Iterator[tuple[Any, ...]]:
        query = "SELECT key, used, owners IS NOT NULL, checksum, value FROM rows LEFT JOIN contents USING (place)"
        with self._connected() as connection:
            number = connection.execute("SELECT id FROM namespaces WHERE name = ?", [namespace]).fetchone()
            if number:
                yield from _by_key(connection, query, number[0], list(dict.fromkeys(keys)))

    def _mark(self, namespace: str, used: Sequence[str], hour: int, owned: Mapping[str, bytes]) -> None:
        """Write down what rows were used and whose they are, unless somebody else is writing: nobody waits for it."""
        try:
            with self._connected() as connection:
                connection.execute("PRAGMA busy_timeout = 0")
            with self._writing() as connection:
                number = _number(connection, namespace)
                list(_by_key(connection, f"UPDATE rows SET used = {hour}", number, used))
                claims = [(tags, number, key) for key, tags in owned.items()]
                connection.executemany(
                    "UPDATE rows SET owners = ? WHERE namespace = ? AND key = ? AND owners IS NULL", claims
                )
        except StorageError:
            return
        finally:
            with self._connected() as connection:
                connection.execute(f"PRAGMA busy_timeout = {_PATIENCE * 1000}")

    def _most(self, connection: sqlite3.Connection) -> int:
        if self._limit is not None:
            return self._limit
        found = connection.execute("SELECT value FROM settings WHERE name = 'limit'").fetchone()
        return int(found[0]) if found else _LIMIT

    def _make_room(self, connection: sqlite3.Connection) -> int:
        """Delete what was used longest ago until the rest fits; how many rows that were."""
        most = self._most(connection)
        n_gone = 0
        while (excess := _in_use(connection) - most) > 0:
            excess += int((1 - _KEPT) * most)
            oldest = (
                "SELECT namespace, key, rows.place, coalesce(length(value), 0) FROM rows "
                "LEFT JOIN contents USING (place) ORDER BY used, rows.place"
            )
            gone = []
            for namespace, key, place, length in connection.execute(oldest):
                if excess <= 0:
                    break
                gone.append((namespace, key, place))
                excess -= length + _ROW_BYTES
            if not gone:
                break
            _delete(connection, gone)
            n_gone += len(gone)
        return n_gone

    def _overwrite(self) -> None:
        with self._connected() as connection:
            done = overwrite(connection)
        if not done:
            raise StorageError(
                f"Rows of the cache {self.path} are deleted, but another process keeps their bytes from being "
                "overwritten. End that process, and run `penchant cache --gc`."
            )

    def _lay_out(self) -> None:
        with self._writing() as connection:
            if connection.execute("PRAGMA user_version").fetchone() != (_LAYOUT,):  # another process may have been here
                for table in ("rows", "contents", "namespaces", "settings"):
                    connection.execute(f"DROP TABLE IF EXISTS {table}")
                for statement in _TABLES:
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {_LAYOUT}")

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """All of it or nothing."""
        with self._connected() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        # A connection belongs to one thread of one process: SQLite forbids sharing it across a fork.
        if self._process != os.getpid():
            self._local, self._process = threading.local(), os.getpid()
        try:
            connection = getattr(self._local, "connection", None)
            if connection is None:
                connection = sqlite3.connect(self.path, timeout=_PATIENCE, isolation_level=None)
                write_ahead(connection)
                connection.execute("PRAGMA synchronous = NORMAL")
                connection.execute("PRAGMA journal_size_limit = 16777216")  # the log does not keep what a peak took
                self._local.connection = connection
            yield connection
        except sqlite3.Error as error:
            raise StorageError(
                f"The cache {self.path} cannot be used ({error}). It holds nothing that cannot be computed again: "
                "delete it, free some disk, or set PENCHANT_CACHE to another folder."
            ) from error

    def _give_up(self, error: Exception, *, reads: bool = False) -> None:
        self._reads, self._writes = reads, False
        _say(f"{error} Going on without it: what it would have kept is computed again.")


_PATIENCE = 60  # seconds to wait for another writer


def _say(message: str) -> None:
    warnings.warn(message, stacklevel=4)


def _hour() -> int:
    return int(time.time()) // 3600


def _checksum(key: str, value: bytes) -> int:
    """Of a value and the key it lies under, so that a value in the wrong place is no value either."""
    return crc32(value, crc32(key.encode()))


def _tag(owner: str | None) -> bytes:
    """What a person is known by; two of one tag are forgotten together, which never leaves anything behind."""
    if owner is None:
        return bytes(_TAG)
    return hashlib.blake2b(owner.encode("utf-8", "surrogatepass"), digest_size=_TAG, person=b"penchant owner").digest()


def _tags(owners: Collection[str | None] | None) -> bytes | None:
    return b"".join(sorted(map(_tag, owners))[:_MOST_OWNERS]) if owners else None


def _parted(tags: bytes | None) -> list[bytes]:
    return [tags[start : start + _TAG] for start in range(0, len(tags), _TAG)] if tags else []


def _number(connection: sqlite3.Connection, namespace: str) -> int:
    connection.execute("INSERT OR IGNORE INTO namespaces (name) VALUES (?)", [namespace])
    return int(connection.execute("SELECT id FROM namespaces WHERE name = ?", [namespace]).fetchone()[0])


def _by_key(
    connection: sqlite3.Connection, statement: str, namespace: int, keys: Sequence[str]
) -> Iterator[tuple[Any, ...]]:
    for start in range(0, len(keys), _AT_ONCE):
        part = keys[start : start + _AT_ONCE]
        marks = ",".join("?" * len(part))
        yield from connection.execute(f"{statement} WHERE namespace = ? AND key IN ({marks})", [namespace, *part])


def _delete(connection: sqlite3.Connection, rows: Sequence[tuple[int, str, int]]) -> None:
    connection.executemany("DELETE FROM rows WHERE namespace = ? AND key = ?", [row[:2] for row in rows])
    connection.executemany("DELETE FROM contents WHERE place = ?", [row[2:] for row in rows])
    connection.execute("DELETE FROM namespaces WHERE id NOT IN (SELECT namespace FROM rows)")


def _in_use(connection: sqlite3.Connection) -> int:
    pages, free, size = (
        connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
    )
    return int((pages - free) * size)
