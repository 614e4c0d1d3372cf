"""What was computed once, kept by the content it was computed from: encodings, log-probabilities, chat answers.

One SQLite file in WAL mode, safe for several processes. Losing it costs time, never data.

>>> content_key("ab", "c") == content_key("a", "bc")
False
"""

import hashlib
import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import platformdirs

from penchant.errors import DataError

_AT_ONCE = 500  # keys in one query; SQLite allows 32,766, older builds 999


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


class RowCache:
    """Bytes by namespace and key.

    Args:
        path: the file; `rows.sqlite` in the cache folder without it.

    Raises:
        DataError: the file is not a cache, or cannot be written.
    """

    def __init__(self, path: Path | None = None):
        self.path = path or cache_folder() / "rows.sqlite"
        self._local = threading.local()
        self._process = os.getpid()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self._connected() as connection:
                connection.execute(
                    "CREATE TABLE IF NOT EXISTS rows (namespace TEXT, key TEXT, value BLOB NOT NULL, "
                    "PRIMARY KEY (namespace, key)) WITHOUT ROWID"
                )
        except OSError as error:
            raise DataError(
                f"The cache folder {self.path.parent} cannot be made ({error.strerror}); set PENCHANT_CACHE to another."
            ) from error

    def get_many(self, namespace: str, keys: Sequence[str]) -> list[bytes | None]:
        """Values in the order of the keys, None where there is none."""
        found: dict[str, bytes] = {}
        distinct = list(dict.fromkeys(keys))
        with self._connected() as connection:
            for start in range(0, len(distinct), _AT_ONCE):
                part = distinct[start : start + _AT_ONCE]
                marks = ",".join("?" * len(part))
                query = f"SELECT key, value FROM rows WHERE namespace = ? AND key IN ({marks})"
                found.update(connection.execute(query, [namespace, *part]))
        return [found.get(key) for key in keys]

    def put_many(self, namespace: str, items: Mapping[str, bytes]) -> None:
        """Keep values; a key that is there already keeps its newest value."""
        with self._connected() as connection:
            connection.executemany(
                "INSERT OR REPLACE INTO rows VALUES (?, ?, ?)",
                [(namespace, key, value) for key, value in items.items()],
            )

    def clear(self) -> int:
        """Delete everything, in all namespaces; how many rows that were."""
        with self._connected() as connection:
            gone = connection.execute("DELETE FROM rows").rowcount
        with self._connected() as connection:
            connection.execute("VACUUM")  # deleted rows would stay readable in the file's free pages
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return int(gone)

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        # A connection belongs to one thread of one process: SQLite forbids sharing it across a fork.
        if self._process != os.getpid():
            self._local, self._process = threading.local(), os.getpid()
        try:
            connection = getattr(self._local, "connection", None)
            if connection is None:
                connection = sqlite3.connect(self.path, timeout=60)
                write_ahead(connection)
                connection.execute("PRAGMA synchronous = NORMAL")
                self._local.connection = connection
            with connection:
                yield connection
        except sqlite3.Error as error:
            raise DataError(
                f"The cache {self.path.name} cannot be used ({error}). It holds nothing that cannot be computed again: "
                "delete it, free some disk, or set PENCHANT_CACHE to another folder."
            ) from error
