"""A visitor who is forgotten: nothing is left in the files, others keep all they had, by the page and by command."""

import contextlib
import sqlite3
import time
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa
from arena_inside import Clock, asked, battle, inside, made
from arena_server import Visitor, running

from penchant.apps.arena import storage
from penchant.apps.arena.battles import Book, Rules, records
from penchant.apps.arena.forgetting import forget
from penchant.apps.arena.systems import Request
from penchant.errors import DataError, UnknownNameError

ANN, BOB = "a" * 32, "b" * 32
BOOK = Book(Rules(gate=0.0), Clock())


def opened(url):
    database = storage.Database(url)
    if database.engine.dialect.name == "sqlite":
        # Some builds of SQLite overwrite what they delete, most do not.
        sa.event.listen(database.engine, "connect", lambda raw, _: raw.execute("PRAGMA secure_delete = OFF").close())
    return database


def everything(database, folder):
    """All bytes of the database's own files, its log too; of PostgreSQL those of its tables."""
    if database.engine.dialect.name != "sqlite":
        with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("CHECKPOINT")
            folder = Path(connection.exec_driver_sql("SHOW data_directory").scalar()) / "base"
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def visits(database, session, mark, n=60):
    """Battles of all sizes with everything that can be left: prompts, works, reasons, votes that changed, looks."""
    database.write(lambda c: BOOK.consent(c, session))
    for number in range(n):
        name = battle(database, BOOK, session=session, prompt=f"{mark} prompt {number} " + "x" * 90 * number)
        database.write(lambda c, name=name: BOOK.attend(c, session, name, [("a", "PLAY"), ("a", "PAUSE")]))
        database.write(lambda c, name=name: BOOK.vote(c, session, name, "A"))
        database.write(lambda c, name=name: BOOK.vote(c, session, name, "TIE"))
        words = {"overall": f"{mark} reason {number} " + "y" * 60 * number, "a": f"{mark} on a"}
        database.write(lambda c, name=name, words=words: BOOK.reasons(c, session, name, words))
        data = f"{mark} work".encode() + bytes(3000 * (number % 5))
        change = sa.update(storage.artefacts).where(storage.artefacts.c.battle == name).values(data=data)
        database.write(lambda c, change=change: c.execute(change))


def test_of_a_forgotten_visitor_no_byte_is_left_and_others_keep_all_they_had(url, tmp_path):
    database = opened(url)
    visits(database, BOB, "BOBS")
    visits(database, ANN, "ANNS")
    every = (storage.battles, storage.votes, storage.events, storage.artefacts, storage.sessions)
    whole = [len(database.read(lambda c, table=table: c.execute(sa.select(table)).all())) for table in every]
    before = everything(database, tmp_path)
    for left in (ANN, BOB, "ANNS prompt", "ANNS reason", "ANNS on a", "ANNS work", "BOBS prompt"):
        assert left.encode() in before
    outcome = forget(ANN, store=url)
    gone = {"votes": 120, "events": 120, "artefacts": 120, "battles": 60, "consents": 1}
    assert outcome.data == {"key": ANN, "deleted": gone}
    assert "cannot be called back" in outcome.text
    after = everything(database, tmp_path)
    assert ANN.encode() not in after
    assert b"ANNS" not in after
    left = [len(database.read(lambda c, table=table: c.execute(sa.select(table)).all())) for table in every]
    assert left == [n // 2 for n in whole]
    rows = database.read(records).table.to_pylist()
    assert {row["user"] for row in rows} == {BOB}
    assert [row["prompt"][:6] for row in rows] == ["BOBS p"] * 60
    with pytest.raises(UnknownNameError, match="Nobody with the key 'aaaa"):
        forget(ANN, store=url)
    database.close()


def test_a_battle_that_is_being_made_for_a_forgotten_visitor_leaves_nothing(tmp_path):
    database = storage.Database(f"sqlite:///{tmp_path / 'arena.db'}")
    name = database.write(
        lambda c: BOOK.begin(c, session=ANN, address="h", request=Request("mine"), pair=("calm", "loud"))
    )
    database.write(lambda c: BOOK.forget(c, ANN))
    database.write(lambda c: BOOK.complete(c, name, (made("calm"), made("loud"))))
    database.write(lambda c: BOOK.fail(c, name, "too late"))
    for table in (storage.battles, storage.artefacts):
        assert database.read(lambda c, table=table: c.execute(sa.select(table)).all()) == []
    database.close()


def test_a_visitor_deletes_everything_on_the_page_and_of_nobody_else(tmp_path):
    with inside(tmp_path) as arena:
        ann, bob = arena.visitor(), arena.visitor("10.0.0.2")
        for who, prompt in ((ann, "ANNS haiku"), (bob, "BOBS haiku")):
            found = asked(who, prompt=prompt)
            assert who.post(f"/api/battles/{found['battle']}/vote", {"preference": "A"}).status_code == 200
        key = arena.keys.hashed("session", arena.keys.number(ann.http.cookies["arena"]))
        assert key in ann.http.get("/privacy").text
        reply = ann.post("/api/forget", {})
        assert reply.json() == {"votes": 1, "events": 0, "artefacts": 2, "battles": 1, "consents": 1}
        assert "Max-Age=0" in reply.headers["set-cookie"]
        assert "arena" not in ann.http.cookies
        assert "Nothing is kept of this browser" in ann.http.get("/privacy").text
        [row] = arena.arena.database.read(records).table.to_pylist()
        assert row["prompt"] == "BOBS haiku"
        assert bob.post("/api/forget", {"of": key}).status_code == 422
    # Ended, it has overwritten what it owed.
    after = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"ANNS" not in after
    assert b"BOBS haiku" in after


def test_forgetting_needs_the_token_and_our_own_page(tmp_path):
    with inside(tmp_path) as arena:
        ann = arena.visitor()
        found = asked(ann)
        for headers in ({"origin": "https://elsewhere.example"}, {"x-token": "forged"}):
            assert ann.post("/api/forget", {}, **headers).status_code == 403
        assert ann.look(found["battle"]).status_code == 200


def test_a_running_arena_overwrites_what_it_owes_by_itself(tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "_FOLDED_EVERY", 0.01)
    monkeypatch.setattr(storage, "_OVERWRITTEN_EVERY", 0.0)
    with inside(tmp_path) as arena:
        ann = arena.visitor()
        asked(ann, prompt="ANNS haiku")
        assert any(b"ANNS" in path.read_bytes() for path in tmp_path.iterdir())
        ann.post("/api/forget", {})
        until = time.monotonic() + 20
        while any(b"ANNS" in path.read_bytes() for path in tmp_path.iterdir()):
            assert time.monotonic() < until
        assert asked(arena.visitor())["state"] == "ready"


def test_what_a_killed_process_owed_is_overwritten_by_the_next_one(tmp_path):
    file = tmp_path / "arena.db"
    database = opened(f"sqlite:///{file}")
    visits(database, ANN, "ANNS", 3)

    def deleted(connection):
        database.owe(connection)
        return BOOK.forget(connection, ANN)

    database.write(deleted)
    copy = tmp_path / "killed"  # as it lies there if the process ends at this moment
    copy.mkdir()
    for path in tmp_path.glob("arena.db*"):
        (copy / path.name).write_bytes(path.read_bytes())
    database.close()
    assert b"ANNS" in b"".join(path.read_bytes() for path in copy.iterdir())
    storage.Database(f"sqlite:///{copy / 'arena.db'}").close()
    assert b"ANNS" not in b"".join(path.read_bytes() for path in copy.iterdir())
    with contextlib.closing(sqlite3.connect(copy / "arena.db")) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (0,)


def test_an_arena_that_runs_goes_on_while_somebody_is_forgotten_by_command(tmp_path):
    with running(tmp_path, gate=0) as server, httpx.Client(trust_env=False) as ann, httpx.Client() as bob:
        one, other = Visitor(ann, server.url).enter(), Visitor(bob, server.url).enter()
        for who, prompt in ((one, "ANNS haiku"), (other, "BOBS haiku")):
            found = asked(who, prompt=prompt)
            assert who.post(f"/api/battles/{found['battle']}/vote", {"preference": "A"}).status_code == 200
        page = ann.get(f"{server.url}/privacy").text
        key = page.partition("<code>")[2].partition("</code>")[0]
        gone = forget(key, store=str(server.store)).data["deleted"]
        assert (gone["battles"], gone["votes"]) == (1, 1)
        assert b"ANNS" not in b"".join(path.read_bytes() for path in tmp_path.glob("arena.db*"))
        found = asked(other, prompt="once more")
        assert other.post(f"/api/battles/{found['battle']}/vote", {"preference": "B"}).status_code == 200


def test_a_store_that_is_not_there_is_not_made(tmp_path):
    with pytest.raises(DataError, match="There is no arena at"):
        forget(ANN, store=str(tmp_path / "none.db"))
    assert list(tmp_path.iterdir()) == []
