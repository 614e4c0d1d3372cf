"""Where an arena keeps battles, what was heard and votes: SQLite by default, PostgreSQL by URL.

One thread writes. It takes all changes that wait, does them in one transaction, each in a savepoint of its own, and
acknowledges them once that transaction is on disk: however many vote at once, they share the wait for the disk.

SQLite's files are their owner's alone (0600). Rows of somebody who is forgotten are gone with the transaction; their
bytes with the next `overwrite`, which a process that ended before it owes to the next one.
"""

import asyncio
import os
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa

from penchant.errors import DataError, StorageError
from penchant.store import database, overwritten

Result = TypeVar("Result")
Job = Callable[[sa.Connection], Result]

_MOST_AT_ONCE = 256  # changes in one transaction
_FOLDED_EVERY = 2.0  # seconds
_OVERWRITTEN_EVERY = 600.0  # seconds at least: votes wait for it
_LONGEST_LOG = 16_000  # pages of 4 KiB, at which the writer itself folds the log

metadata = sa.MetaData()
sessions = sa.Table(
    "arena_sessions",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),  # keyed hash of the cookie's number
    sa.Column("terms", sa.Text, nullable=False),  # version that was accepted
    sa.Column("time", sa.Double, nullable=False),  # seconds since 1970, as all times here
)
battles = sa.Table(
    "arena_battles",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("session", sa.Text, nullable=False),
    sa.Column("address", sa.Text, nullable=False),  # keyed hash
    sa.Column("created", sa.Double, nullable=False),
    sa.Column("state", sa.Text, nullable=False),  # generating, ready, failed
    sa.Column("board", sa.Text, nullable=False),
    sa.Column("prompt", sa.Text, nullable=False),
    sa.Column("request", sa.JSON, nullable=False),
    sa.Column("why_failed", sa.Text),
    sa.Column("system_a", sa.Text, nullable=False),
    sa.Column("system_b", sa.Text, nullable=False),
    sa.Column("a", sa.JSON),  # of what A made: seconds, start, end, retries, checksum, access, lyrics
    sa.Column("b", sa.JSON),
    sa.Column("ready", sa.Double),
    sa.Column("preference", sa.Text),  # that counts
    sa.Column("voted", sa.Double),  # when the first vote came
    sa.Column("attention", sa.JSON),  # seconds on each side at that time
    sa.Column("reasons", sa.JSON),
    sa.Column("revealed", sa.Double),
    sa.Index("ix_arena_battles_voted", "voted"),
)
artefacts = sa.Table(
    "arena_artefacts",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),  # random
    sa.Column("battle", sa.Text, nullable=False, index=True),
    sa.Column("side", sa.Text, nullable=False),
    sa.Column("media_type", sa.Text, nullable=False),
    sa.Column("data", sa.LargeBinary, nullable=False),
)
events = sa.Table(
    "arena_events",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("battle", sa.Text, nullable=False, index=True),
    sa.Column("side", sa.Text, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("time", sa.Double, nullable=False),
)
votes = sa.Table(
    "arena_votes",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("battle", sa.Text, nullable=False, index=True),
    sa.Column("preference", sa.Text, nullable=False),
    sa.Column("time", sa.Double, nullable=False),
    sa.Column("counted", sa.Boolean, nullable=False),  # when it was cast; a later one may count instead
)


class Database:
    """The database of an arena.

    Args:
        url: sqlite:///FILE or postgresql://USER@HOST/DATABASE.

    Raises:
        DataError: the URL is none, or names a database in memory.
        StorageError: the database cannot be opened.
    """

    def __init__(self, url: str):
        self.engine, self.url = database(url)
        if self.engine.dialect.name == "sqlite" and self.engine.url.database in (None, "", ":memory:"):
            raise DataError("Votes must survive the process: an arena's store is sqlite:///FILE or PostgreSQL.")
        self._is_file = self.engine.dialect.name == "sqlite"
        self._waiting: queue.SimpleQueue[tuple[Job[Any], Future[Any]] | None] = queue.SimpleQueue()
        try:
            if self._is_file:
                _keep_private(Path(str(self.engine.url.database)))
            with self.engine.begin() as connection:
                metadata.create_all(connection)
                owed = self._is_file and connection.exec_driver_sql("PRAGMA user_version").scalar()
        except OSError as error:
            raise StorageError(f"The arena's store {self.url} cannot be opened: {error.strerror}.") from error
        except sa.exc.DBAPIError as error:
            raise StorageError(f"The arena's store {self.url} cannot be opened: {error.orig}.") from error
        self._writer = threading.Thread(target=self._write, name="arena-writer", daemon=True)
        self._writer.start()
        self._ended, self._owes = threading.Event(), threading.Event()
        if owed:
            self._owes.set()
        self._keeper = threading.Thread(target=self._keep, name="arena-log", daemon=True)
        self._keeper.start()

    def read(self, job: Job[Result]) -> Result:
        """Look something up, in a transaction of its own."""
        try:
            with self.engine.begin() as connection:
                return job(connection)
        except sa.exc.DBAPIError as error:
            raise StorageError(f"The arena's store {self.url} cannot be read: {error.orig}.") from error

    def submit(self, job: Job[Result]) -> "Future[Result]":
        """Have something written; the future is done when it is on disk, or says why it is not."""
        done: Future[Result] = Future()
        self._waiting.put((job, done))
        return done

    def write(self, job: Job[Result]) -> Result:
        """The same, waited for."""
        return self.submit(job).result()

    async def written(self, job: Job[Result]) -> Result:
        """The same, awaited."""
        return await asyncio.wrap_future(self.submit(job))

    def close(self) -> None:
        """Write what waits, overwrite what is owed, and end."""
        self._waiting.put(None)
        self._writer.join()
        self._ended.set()
        self._keeper.join()
        self.engine.dispose()

    def owe(self, connection: sa.Connection) -> None:
        """Within a transaction that deletes: have the bytes overwritten, in this process or in the next."""
        if self._is_file:
            connection.exec_driver_sql("PRAGMA user_version = 1")
        self._owes.set()

    def overwrite(self) -> None:
        """Make the files give up the bytes of all deleted rows.

        Raises:
            DataError: another process keeps the database from it.
        """
        self._owes.clear()
        try:
            overwritten(self.engine, self.url, metadata)
            if self._is_file:
                with self.engine.begin() as connection:
                    connection.exec_driver_sql("BEGIN IMMEDIATE")  # nobody deletes between the question and its answer
                    if not self._owes.is_set():
                        connection.exec_driver_sql("PRAGMA user_version = 0")
        except BaseException:
            self._owes.set()
            raise

    def _keep(self) -> None:
        """Beside the writer: fold SQLite's log back into the file, and overwrite what was deleted."""
        last = time.monotonic()
        while not self._ended.wait(_FOLDED_EVERY):
            self._fold()
            if self._owes.is_set() and time.monotonic() - last > _OVERWRITTEN_EVERY:
                last = time.monotonic()
                self._pay()
        if self._owes.is_set():
            self._pay()

    def _pay(self) -> None:
        with suppress(DataError, sa.exc.DBAPIError):  # still owed
            self.overwrite()

    def _fold(self) -> None:
        """Fold the log, so that no vote waits for that."""
        if self._is_file:
            try:
                with self.engine.connect() as connection:
                    connection.exec_driver_sql("PRAGMA wal_checkpoint(PASSIVE)").close()
            except sa.exc.DBAPIError:
                pass  # the writer does it when the log is long

    def _write(self) -> None:
        open_: sa.Connection | None = None
        while (first := self._waiting.get()) is not None:
            batch = [first]
            while len(batch) < _MOST_AT_ONCE and not self._waiting.empty():
                if (one := self._waiting.get()) is None:
                    self._waiting.put(None)
                    break
                batch.append(one)
            try:
                # One connection for good; a new one after whatever went wrong with the last.
                open_ = open_ or self._opened()
                self._together(open_, batch)
            except BaseException as error:
                if open_ is not None:
                    open_.invalidate()
                    open_.close()
                    open_ = None
                reason = getattr(error, "orig", error)
                for _, done in batch:
                    if not done.done():
                        refusal = StorageError(f"The arena's store {self.url} cannot be written: {reason}.")
                        done.set_exception(refusal)
        if open_ is not None:
            open_.close()

    def _opened(self) -> sa.Connection:
        connection = self.engine.connect()
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql(f"PRAGMA wal_autocheckpoint = {_LONGEST_LOG}").close()
            connection.rollback()
        return connection

    def _together(self, connection: sa.Connection, batch: list[tuple[Job[Any], Future[Any]]]) -> None:
        results: list[tuple[Future[Any], Any, BaseException | None]] = []
        with connection.begin():
            if connection.dialect.name == "sqlite":
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            for job, done in batch:
                # Whoever stopped waiting before it began wants it no more; from here on nobody can stop it, so that
                # those who wait for the same transaction always hear what became of it.
                if not (done.running() or done.set_running_or_notify_cancel()):
                    continue
                connection.exec_driver_sql("SAVEPOINT one")
                try:
                    results.append((done, job(connection), None))
                except sa.exc.OperationalError:
                    raise  # a full disk, a lost server: nothing of this batch is kept
                except Exception as error:
                    connection.exec_driver_sql("ROLLBACK TO SAVEPOINT one")
                    results.append((done, None, error))
                connection.exec_driver_sql("RELEASE SAVEPOINT one")
        for done, result, failure in results:
            if failure is None:
                done.set_result(result)
            else:
                done.set_exception(failure)


def _keep_private(file: Path) -> None:
    """A file that only its owner may read, made so in one step; SQLite gives its log the mode of the file."""
    os.close(os.open(file, os.O_RDWR | os.O_CREAT, 0o600))
    for one in (file, file.with_name(file.name + "-wal"), file.with_name(file.name + "-shm")):
        if one.exists() and one.stat().st_mode & 0o077:
            one.chmod(0o600)
