"""Where an arena keeps things, on SQLite and on a real PostgreSQL."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor, wait

import pytest
import sqlalchemy as sa
from arena_inside import Clock, battle

from penchant.apps.arena import storage
from penchant.apps.arena.battles import Book, RefusedError, Rules, records
from penchant.errors import DataError, StorageError


@pytest.fixture
def database(url):
    database = storage.Database(url)
    yield database
    database.close()


def consents(database) -> set[str]:
    return database.read(lambda c: set(c.scalars(sa.select(storage.sessions.c.id))))


def consent(name):
    return lambda c: c.execute(sa.insert(storage.sessions).values(id=name, terms="t", time=0.0))


def test_a_battle_from_its_begin_to_its_names_is_kept(database, url):
    book = Book(Rules(gate=0.0), Clock())
    name = battle(database, book, vote="A", prompt="naïve ü 音\n'; DROP TABLE arena_votes; --")
    database.write(lambda c: book.vote(c, "ann", name, "TIE"))
    other = storage.Database(url)  # as another process would see it
    assert other.read(lambda c: book.history(c, name)) == [("A", True), ("TIE", True)]
    [row] = other.read(records).table.to_pylist()
    other.close()
    assert (row["outcome"], row["user"]) == ("tie", "ann")
    assert row["prompt"].startswith("naïve ü 音")


def test_a_job_that_fails_takes_nothing_else_with_it(database):
    held = threading.Event()
    first = database.submit(lambda c: held.wait(10) and None)  # so that the rest is one batch
    jobs = [database.submit(consent(name)) for name in ("ann", "ann", "bob")]

    def half(connection):
        consent("cy")(connection)
        raise RefusedError("No.")

    refused = database.submit(half)
    held.set()
    wait([first, refused, *jobs])
    assert [one.exception() is None for one in jobs] == [True, False, True]
    assert isinstance(refused.exception(), RefusedError)
    assert consents(database) == {"ann", "bob"}


def test_whoever_stops_waiting_does_not_spoil_what_others_wait_for(database):
    held = threading.Event()
    first = database.submit(lambda c: held.wait(10) and None)
    gone, others = database.submit(consent("gone")), [database.submit(consent(name)) for name in ("ann", "bob")]
    assert gone.cancel()
    held.set()
    wait([first, *others])
    assert [one.exception() for one in others] == [None, None]
    assert consents(database) == {"ann", "bob"}
    database.write(consent("cy"))  # and it goes on


def test_what_was_begun_cannot_be_stopped(database):
    begun, held = threading.Event(), threading.Event()

    def slow(connection):
        begun.set()
        held.wait(10)
        return consent("ann")(connection) and "kept"

    job = database.submit(slow)
    assert begun.wait(10)
    assert not job.cancel()
    held.set()
    assert job.result(10) == "kept"


def test_many_who_write_at_once_are_all_kept(database):
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda n: database.write(consent(f"person {n}")), range(300)))
    assert len(consents(database)) == 300


def test_closing_writes_what_waits(url):
    database = storage.Database(url)
    jobs = [database.submit(consent(f"person {n}")) for n in range(50)]
    database.close()
    assert all(job.done() and job.exception() is None for job in jobs)
    again = storage.Database(url)
    assert len(consents(again)) == 50
    again.close()


def test_a_vote_and_its_history_are_one_transaction(database, monkeypatch):
    book = Book(Rules(gate=0.0), Clock())
    name = battle(database, book)

    def full(*given, **named):
        raise ValueError("no room")

    with monkeypatch.context() as patched:
        patched.setattr("penchant.apps.arena.battles._remember", full)
        with pytest.raises(ValueError, match="no room"):
            database.write(lambda c: book.vote(c, "ann", name, "A"))
    assert database.read(lambda c: book.history(c, name)) == []
    assert "vote" not in database.read(lambda c: book.look(c, "ann", name))


def test_a_broken_connection_fails_its_batch_and_the_next_one_works(database):
    def lost(connection):
        raise sa.exc.OperationalError("insert", {}, Exception("the server went away"))

    with pytest.raises(StorageError, match="the server went away"):
        database.write(lost)
    database.write(consent("ann"))
    assert consents(database) == {"ann"}


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:"])
def test_votes_in_memory_alone_are_refused(url):
    with pytest.raises(DataError, match="survive"):
        storage.Database(url)


def test_a_store_that_is_no_database_says_so(tmp_path):
    (tmp_path / "arena.db").write_bytes(b"this is a diary, not a database. " * 200)
    with pytest.raises(StorageError, match="cannot be opened"):
        storage.Database(f"sqlite:///{tmp_path / 'arena.db'}")


def test_what_sqlite_acknowledges_is_on_the_disk(tmp_path):
    database = storage.Database(f"sqlite:///{tmp_path / 'arena.db'}")
    pragmas = database.write(
        lambda c: [c.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("journal_mode", "synchronous")]
    )
    database.close()
    assert pragmas == ["wal", 2]  # 2 is FULL


@pytest.mark.parametrize("umask", [0o022, 0o000])
def test_the_file_and_its_log_are_their_owners_alone_whatever_the_umask(tmp_path, umask):
    file = tmp_path / "arena.db"
    before = os.umask(umask)
    try:
        database = storage.Database(f"sqlite:///{file}")
        database.write(consent("ann"))
        modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
        database.close()
    finally:
        os.umask(before)
    assert modes == {"arena.db": 0o600, "arena.db-wal": 0o600, "arena.db-shm": 0o600}


def test_a_file_of_an_older_arena_that_others_could_read_is_closed_to_them(tmp_path):
    file = tmp_path / "arena.db"
    storage.Database(f"sqlite:///{file}").close()
    file.chmod(0o644)
    (tmp_path / "arena.db-wal").touch(0o644)
    database = storage.Database(f"sqlite:///{file}")
    database.write(consent("ann"))
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}
    database.close()
