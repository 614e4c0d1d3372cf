"""The store, on SQLite and on a real PostgreSQL: what comes out is what went in, once, until its owner is forgotten."""

import json
import resource
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest
import sqlalchemy as sa
from any_records import SEVERAL
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penchant.cache import RowCache
from penchant.errors import DataError, PenchantError, StorageError, UnknownNameError
from penchant.feedback.importing import read
from penchant.records import KINDS, Comparisons, Conversations, Rankings, Ratings, Segments, canonical_json
from penchant.store import Store


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request, tmp_path):
    if request.param == "sqlite":
        return Store(f"sqlite:///{tmp_path / 'records.db'}")
    url = request.getfixturevalue("postgresql")
    psycopg = pytest.importorskip("psycopg", reason="PostgreSQL's driver is not installed")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")
    return Store(url)


def place(store):
    """The URL by which another process opens the same store."""
    return store._engine.url.render_as_string(hide_password=False)


def votes(n=3, user="ann", **more):
    return Comparisons.from_rows(
        [{"prompt": f"q{i}", "chosen": "a", "rejected": "b", "user": user, "source": "s"} | more for i in range(n)]
    )


def test_records_come_back_identical_and_in_order(store):
    ranked = Rankings.from_rows(
        [
            {"prompt": "q", "responses": ["b", "", "ä\n"], "ranks": [1, 2, 2], "user": "ann", "source": "s"},
            {"prompt": "", "responses": ["x\\0", "nul \x00 \\"], "source": "s\x00"},
        ]
    )
    rated = Ratings.from_rows(
        [{"prompt": "q", "response": "r", "score": 0.1, "time": datetime(2001, 2, 3, 4, 5, 6, 789_123, UTC)}]
    )
    for records in (votes(20), ranked, rated):
        store.add(records)
        assert store.records(records.kind).table.equals(records.table)


def test_adding_again_adds_nothing_but_equal_rows_stay_as_many_as_they_were(store):
    twins = Comparisons.concat([votes(2), votes(2)])
    first, again = store.add(twins), store.add(twins)
    assert (first.new, first.known, again.new, again.known) == (4, 0, 0, 4)
    assert store.add(votes(3)).new == 1
    assert store.kinds() == {"comparison": 5}


def test_every_annotator_keeps_their_answer(store):
    store.add(Comparisons.concat([votes(1, "ann"), votes(1, "bob")]))
    assert store.users() == ["ann", "bob"]
    assert store.records("comparison", users=["bob"]).users == ["bob"]
    assert len(store.records("comparison", sources=["s"])) == 2
    assert len(store.records("comparison", sources=["t"])) == 0


def test_every_import_leaves_a_line_of_provenance(store):
    store.add(votes(3))
    store.add(votes(4))
    store.add(votes(1, source=None), source="later")
    lines = store.imports()
    assert [(line["rows"], line["new"], line["sources"]) for line in lines] == [
        (3, 3, ["s"]),
        (4, 1, ["s"]),
        (1, 1, ["later"]),
    ]
    assert len({line["hash"] for line in lines}) == 3
    assert store.records("comparison", sources=["later"]).table["source"].to_pylist() == ["later"]


def test_steps_add_what_the_whole_would_have_added_however_it_is_cut(store):
    twins = Comparisons.concat([votes(3), votes(2), votes(3, "bob"), votes(1)])
    for size in (2, 9, 1, 4):
        steps = [[twins.take(range(i, min(i + size, 9)))] for i in range(0, 9, size)]
        added = list(store.add_steps(steps))
        assert sum(one.new for one in added) == (9 if size == 2 else 0)
        assert sum(one.new + one.known for one in added) == 9
    assert store.records("comparison").table.equals(twins.table)
    [line] = store.imports()
    assert (line["rows"], line["new"]) == (9, 9)


def test_a_step_of_several_kinds_is_there_as_a_whole_or_not_at_all(store):
    played = Segments.from_rows([{"states": "[]", "actions": "[]", "rewards": [float("nan")]}])
    steps = store.add_steps([[votes(2)], [votes(3, "bob"), played], [votes(1, "cay")]])
    assert next(steps).new == 2
    with pytest.raises(DataError, match="cannot be written as JSON"):
        next(steps)
    assert (store.kinds(), store.users()) == ({"comparison": 2}, ["ann"])


def test_an_import_that_broke_off_goes_on_where_it_was(store):
    twins = [votes(4), votes(4), votes(6)]
    begun = store.add_steps([part] for part in twins)
    next(begun)
    begun.close()
    assert [(one.new, one.known) for one in store.add_steps([part] for part in twins)] == [(0, 4), (4, 0), (6, 0)]
    assert [(line["rows"], line["new"]) for line in store.imports()] == [(4, 4), (14, 10)]


def test_more_people_can_be_asked_for_than_a_query_has_parameters(store):
    store.add(Comparisons.concat([votes(1, f"u\\{i}") for i in range(3)]))
    many = [f"u\\{i}" for i in range(1, 70_000)]
    assert store.records("comparison", users=many).users == ["u\\1", "u\\2"]
    assert len(store.records("comparison", users=[])) == 0


def test_records_of_many_batches_keep_their_order_and_their_number(store):
    many = Comparisons.concat([votes(1, prompt=f"{i % 7_000}") for i in range(50)] + [votes(12_000)])
    assert store.add(many).new == 12_050
    assert store.add(many).new == 0
    assert store.records("comparison").table.equals(many.table)


def test_a_forgotten_person_is_gone_with_all_that_was_learnt_from_them(store, tmp_path):
    secret = "only ann ever said this"
    cache = RowCache(tmp_path / "cache.sqlite")
    cache.put_many("n", {"k": secret.encode()})
    store.add(Comparisons.concat([votes(2, "ann", rationale=secret), votes(1, "bob")]))
    model = tmp_path / "model"
    model.mkdir()
    (model / "weights").write_text(secret)
    theirs = tmp_path / "bob.txt"
    theirs.write_text("bob")
    store.derived(model, users=["ann", "bob"])
    store.derived(theirs, users=["bob"])
    gone = store.forget("ann", cache=cache)
    assert (gone.records, gone.artefacts, gone.cached) == ({"comparison": 2}, (str(model),), 1)
    assert not model.exists()
    assert theirs.exists()
    assert store.users() == ["bob"]
    assert all(secret.encode() not in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    with pytest.raises(UnknownNameError, match="bob"):
        store.forget("ann", cache=cache)


def test_a_file_named_after_a_person_is_no_longer_named_once_they_are_forgotten(store, tmp_path):
    store.add(Comparisons.concat([votes(1, "ann", source="ann's file"), votes(1, "ann"), votes(1, "bob")]))
    store.forget("ann", cache=RowCache(tmp_path / "cache.sqlite"))
    assert [(line["rows"], line["sources"]) for line in store.imports()] == [(3, ["s"])]


def everything(store, tmp_path):
    """All bytes of the database's own files: of PostgreSQL those of its tables, its log is out of our reach."""
    folder = tmp_path
    if store.url.startswith("postgresql"):
        with store._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("CHECKPOINT")
            folder = Path(connection.exec_driver_sql("SHOW data_directory").scalar()) / "base"
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


KINDS_OF_TEXT = ("user", "prompt", "chosen", "rejected", "context", "rationale", "aspect", "source", "extra")


def left_by(user, n, mark):
    """Records of several kinds, in which every text is unmistakable; one prompt is everybody's."""
    rows = [
        {name: f"{mark} {name} {i} " + "x" * 30 * i for name in KINDS_OF_TEXT[1:]} | {"user": user} for i in range(n)
    ]
    shared = {"prompt": "everybody's prompt", "chosen": f"{mark} yes", "rejected": f"{mark} no", "user": user}
    ranked = {"prompt": "everybody's prompt", "responses": [f"{mark} a", f"{mark} b"], "user": user}
    talk = canonical_json([{"role": "user", "content": f"{mark} hello"}])
    return [
        Comparisons.from_rows([*rows, shared]),
        Rankings.from_rows([ranked]),
        Conversations.from_rows([{"messages": talk, "user": user}]),
    ]


def test_of_a_forgotten_person_no_byte_is_left(store, tmp_path):
    if store.url.startswith("sqlite"):
        # Some builds of SQLite overwrite what they delete, most do not.
        sa.event.listen(store._engine, "connect", lambda raw, _: raw.execute("PRAGMA secure_delete = OFF").close())
    for user, mark in (("user-bob", "BOBS"), ("user-ann", "ANNS")):
        for records in left_by(user, 60, mark):
            store.add(records)
    store.export(tmp_path / "export of user-ann", user="user-ann")
    if store.url.startswith("postgresql"):
        with store._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("ANALYZE")  # samples of columns lie in a table of the server's own
    before = everything(store, tmp_path)
    assert all(found in before for found in (b"user-ann", b"ANNS prompt", b"user-bob", b"BOBS prompt"))
    store.forget("user-ann", cache=RowCache(tmp_path / "cache" / "rows.sqlite"))
    after = everything(store, tmp_path)
    assert b"user-ann" not in after
    assert b"ANNS" not in after
    assert not (tmp_path / "export of user-ann").exists()
    for records in left_by("user-bob", 60, "BOBS"):
        assert store.records(records.kind).table.equals(records.table)
    assert b"everybody's prompt" in after


def test_a_forgetting_that_fails_on_a_file_or_the_cache_leaves_the_person_for_another_try(store, tmp_path, monkeypatch):
    store.add(votes(1, "ann"))
    store.derived(tmp_path / "model", users=["ann"])
    (tmp_path / "model").mkdir()

    def refuse(path):
        raise PermissionError(13, "Permission denied")

    cache = RowCache(tmp_path / "cache.sqlite")
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", refuse)
        with pytest.raises(DataError, match="Permission denied"):
            store.forget("ann", cache=cache)
    with monkeypatch.context() as patch:
        patch.setattr(RowCache, "forget", lambda self, user: refuse(self.path))
        with pytest.raises(PermissionError):
            store.forget("ann", cache=cache)
    assert store.users() == ["ann"]
    assert store.forget("ann", cache=cache).records == {"comparison": 1}


def test_bytes_that_another_reader_keeps_alive_are_not_passed_over_in_silence(tmp_path):
    home = Store(f"sqlite:///{tmp_path / 'r.db'}?timeout=0.05")
    home.add(votes(2, "ann"))
    reader = sqlite3.connect(tmp_path / "r.db", isolation_level=None)
    reader.execute("BEGIN")
    assert reader.execute("SELECT count(*) FROM comparisons").fetchone() == (2,)
    with pytest.raises(DataError, match="stay readable"):
        home.forget("ann", cache=RowCache(tmp_path / "cache.sqlite"))
    reader.close()
    assert home.users() == []


def test_a_model_that_was_learnt_again_stays_with_those_who_are_left(store, tmp_path):
    store.add(Comparisons.concat([votes(1, "ann"), votes(1, "bob")]))
    (tmp_path / "model").write_text("learnt again from bob alone")
    store.derived(tmp_path / "model", users=["ann", "bob"], note="a model")
    gone = store.forget("ann", cache=RowCache(tmp_path / "cache.sqlite"), kept=[str(tmp_path / "model")])
    assert (gone.artefacts, (tmp_path / "model").exists()) == ((), True)
    assert store.learnt("bob") == [{"path": str(tmp_path / "model"), "note": "a model"}]
    assert store.learnt("ann") == []


def test_a_person_of_whom_only_a_model_is_left_can_be_forgotten(store, tmp_path):
    (tmp_path / "model").write_text("weights")
    store.derived(tmp_path / "model", users=["ann"])
    gone = store.forget("ann", cache=RowCache(tmp_path / "cache.sqlite"))
    assert (gone.records, gone.artefacts) == ({}, (str(tmp_path / "model"),))
    with pytest.raises(UnknownNameError):
        store.forget("ann", cache=RowCache(tmp_path / "cache.sqlite"))


def test_a_folder_that_holds_the_working_folder_is_never_something_to_delete(store, tmp_path, monkeypatch):
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    for place in (".", tmp_path, Path.home()):
        with pytest.raises(DataError, match="folder of its own"):
            store.derived(place, users=["ann"])
    store.derived("model", users=["ann"])


def test_an_export_holds_exactly_one_persons_records_and_reads_back(store, tmp_path):
    store.add(Comparisons.concat([votes(2, "ann"), votes(5, "bob")]))
    assert store.export(tmp_path / "out", user="ann") == {"comparison": 2}
    back = read(tmp_path / "out" / "comparison.jsonl").records["comparison"]
    assert back.table.equals(votes(2, "ann").table)
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["written"] == {"comparison": 2}
    assert store.learnt("ann") == [{"path": str(tmp_path / "out"), "note": "export"}]
    (tmp_path / "mine").mkdir()
    store.export(tmp_path / "mine", user="bob")
    assert sorted(Path(one["path"]).name for one in store.learnt("bob")) == ["comparison.jsonl", "manifest.json"]
    assert "bob" not in "".join(path.read_text() for path in (tmp_path / "out").iterdir())
    with pytest.raises(UnknownNameError):
        store.export(tmp_path / "out2", user="nobody")


def test_an_export_of_everything_holds_every_answer_of_everybody_and_can_be_imported_elsewhere(store, tmp_path):
    asked = [votes(3, user, prompt=f"q{i}") for i in range(2) for user in ("ann", "bob", "cay")]
    rated = Ratings.from_rows(
        [{"prompt": "q", "response": "r", "score": s, "user": u} for s, u in ((1, "ann"), (5, "bob"))]
    )
    store.add(Comparisons.concat(asked))
    store.add(rated)
    assert store.export(tmp_path / "all.jsonl") == {"comparison": 18, "rating": 2}
    other = Store(f"sqlite:///{tmp_path / 'other.db'}")
    for _ in range(2):
        for records in read(tmp_path / "all.jsonl").records.values():
            other.add(records)
    for kind in ("comparison", "rating"):
        assert other.records(kind).table.equals(store.records(kind).table)
    assert store.export(tmp_path / "{kind}.parquet", user="bob") == {"comparison": 6, "rating": 1}
    assert read(tmp_path / "rating.parquet").records["rating"].users == ["bob"]
    assert store.export(tmp_path / "folder") == {"comparison": 18, "rating": 2}
    with pytest.raises(DataError, match="comparison and rating records"):
        store.export(tmp_path / "all.parquet")
    assert {"all.jsonl", "folder"} <= {Path(one["path"]).name for one in store.learnt("cay")}


def test_a_store_without_records_has_nothing_to_export(store, tmp_path):
    with pytest.raises(DataError, match="no records to write"):
        store.export(tmp_path / "all.jsonl")
    assert not (tmp_path / "all.jsonl").exists()


def test_a_user_name_is_data_and_never_sql(store):
    hostile = "x'; DROP TABLE comparisons; --"
    store.add(Comparisons.concat([votes(1, hostile), votes(1, "bob")]))
    assert store.records("comparison", users=[hostile]).users == [hostile]
    assert store.kinds() == {"comparison": 2}


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(records=SEVERAL, more=st.data())
def test_any_records_come_back_identical_and_are_known_the_second_time(store, records, more):
    source = f"set {len(store.imports())}"  # the store is shared by all examples
    sourced = type(records)(records.table.drop_columns("source").append_column("source", [[source] * len(records)]))
    assert store.add(records, source=source).new == len(records)
    assert store.records(records.kind, sources=[source]).table.equals(sourced.table)
    assert store.add(sourced).new == 0
    users = more.draw(st.lists(st.sampled_from([*records.users, "nobody"]), max_size=2))
    there = [row["user"] for row in sourced.table.to_pylist() if row["user"] in users]
    found = store.records(records.kind, users=users, sources=[source])
    assert found.table["user"].to_pylist() == there


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.kind)
def test_a_number_that_no_database_gives_back_is_no_record_of_any_kind(kind):
    numbers = [field.name for field in kind.schema if pa.types.is_floating(field.type)]
    others = {f.name: pa.array([None, None], f.type) for f in kind.schema if f.name not in numbers and not f.nullable}
    for name in numbers:
        table = pa.table({**others, **{each: [1.0, 0.5] for each in numbers}, name: [1.0, float("nan")]})
        assert [p.rows.tolist() for p in kind.problems(kind.cast(table)) if p.reason.startswith(f"`{name}`")][-1] == [
            False,
            True,
        ]


@pytest.mark.parametrize("url", ["nonsense", "mysql://x/y", "sqlite:////no/such/folder/x.db"])
def test_a_place_that_cannot_hold_records_is_a_clear_error(url):
    with pytest.raises(PenchantError):
        Store(url)


def test_a_file_that_is_no_database_is_a_clear_error(tmp_path):
    path = tmp_path / "x.db"
    path.write_bytes(b"something else entirely" * 50)
    with pytest.raises(StorageError, match="not a database"):
        Store(f"sqlite:///{path}")


def test_a_store_of_another_version_is_a_clear_error(tmp_path):
    with sqlite3.connect(tmp_path / "x.db") as connection:
        connection.execute("CREATE TABLE comparisons (id TEXT)")
    connection.close()
    with pytest.raises(DataError, match=r"`comparisons` lacks the columns .*'chosen'"):
        Store(f"sqlite:///{tmp_path / 'x.db'}")


def test_a_damaged_file_is_a_clear_error(tmp_path):
    home = Store(f"sqlite:///{tmp_path / 'r.db'}")
    home.add(votes(200))
    raw = (tmp_path / "r.db").read_bytes()
    (tmp_path / "r.db").write_bytes(raw[:4096] + b"\xff" * (len(raw) - 4096))
    with pytest.raises(StorageError, match=r"malformed|corrupt"):
        home.records("comparison")


def test_a_store_that_another_process_holds_is_a_clear_error(tmp_path):
    home = Store(f"sqlite:///{tmp_path / 'r.db'}?timeout=0.05")
    other = sqlite3.connect(tmp_path / "r.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StorageError, match="locked"):
        home.add(votes(1))
    other.execute("ROLLBACK")
    other.close()
    assert home.add(votes(1)).new == 1


def test_a_server_that_is_not_there_is_a_clear_error_without_the_password():
    pytest.importorskip("psycopg", reason="PostgreSQL's driver is not installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for url in (f"postgresql://me:s3cret@127.0.0.1:{port}/x", "mysql://me:s3cret@localhost/x"):
        with pytest.raises(PenchantError) as caught:
            Store(url)
        assert "s3cret" not in str(caught.value)


def test_a_full_disk_is_a_clear_error_and_keeps_what_was_acknowledged(tmp_path):
    home = Store(f"sqlite:///{tmp_path / 'r.db'}")
    home.add(votes(10))
    with home._engine.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
    sa.event.listen(
        home._engine, "begin", lambda connection: connection.exec_driver_sql(f"PRAGMA max_page_count = {pages + 2}")
    )
    with pytest.raises(StorageError, match="full"):
        home.add(votes(5000, rationale="x" * 500))
    assert Store(f"sqlite:///{tmp_path / 'r.db'}").kinds() == {"comparison": 10}


def test_on_a_disk_with_no_room_at_all_nothing_is_added_and_everything_can_still_be_read(tmp_path):
    home = Store(f"sqlite:///{tmp_path / 'r.db'}")
    home.add(votes(10))
    code = (
        "import sys\nfrom penchant.errors import StorageError\nfrom penchant.store import Store\n"
        "from penchant.records import Comparisons\n"
        "home = Store(sys.argv[1])\n"
        "print(home.kinds(), len(home.records('comparison')))\n"
        "try:\n    home.add(Comparisons.from_rows([{'prompt': 'q', 'chosen': 'a', 'rejected': 'b'}]))\n"
        "except StorageError as error:\n    print(error)\n"
        "print(len(home.records('comparison')))\n"
    )
    full = {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))}
    # What it would print to a file does not count against the limit: a pipe is none.
    done = subprocess.run([sys.executable, "-c", code, home.url], stdout=subprocess.PIPE, text=True, check=True, **full)
    first, error, last = done.stdout.splitlines()
    assert (first, last) == ("{'comparison': 10} 10", "10")
    assert "Nothing of this step was kept" in error
    assert home.add(votes(12)).new == 2


def test_what_was_acknowledged_before_a_kill_is_there_and_no_step_is_half_there(store):
    code = (
        "import sys\nfrom penchant.store import Store\nfrom penchant.records import Comparisons\n"
        "home = Store(sys.argv[1])\n"
        "for step in range(1000):\n"
        "    rows = [{'prompt': f'{step}-{i}', 'chosen': 'a', 'rejected': 'b'} for i in range(300)]\n"
        "    home.add(Comparisons.from_rows(rows))\n    print(step, flush=True)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, place(store)], stdout=subprocess.PIPE, text=True) as process:
        acknowledged = [int(process.stdout.readline()) for _ in range(3)]
        process.send_signal(signal.SIGKILL)
        acknowledged += [int(line) for line in process.stdout.read().split()]
    # Adding waits until the server has noticed that its client is gone.
    store.add(Ratings.from_rows([{"prompt": "q", "response": "r", "score": 1.0}]))
    count = store.kinds()["comparison"]
    assert count % 300 == 0
    assert count >= 300 * len(acknowledged)


def test_imports_that_are_killed_over_and_over_lose_nothing_and_double_nothing(store):
    soak = Path(__file__).parents[1] / "benchmarks" / "soak_import.py"
    where = [] if store.url.startswith("sqlite") else ["--store", place(store)]
    done = subprocess.run(
        [sys.executable, soak, "--kills", "12", "--json", "-", *where], stdout=subprocess.PIPE, text=True, check=False
    )
    found = json.loads(done.stdout)
    assert done.returncode == 0, found
    assert (found["lost"], found["doubled"], found["out_of_order"], found["missing_at_the_end"]) == (0, 0, 0, 0)
    assert found["kills"] >= 12
    assert found["kills_in_the_midst"] > 0


def test_a_kill_in_the_middle_of_adding_leaves_nothing_of_it_and_it_can_be_added_again(store):
    store.add(votes(10))
    code = (
        "import os, signal, sys\nimport sqlalchemy as sa\n"
        "from penchant.store import Store\nfrom penchant.records import Comparisons\n"
        "home, batches = Store(sys.argv[1]), []\n"
        "@sa.event.listens_for(home._engine, 'after_cursor_execute')\n"
        "def die(connection, cursor, statement, *rest):\n"
        "    batches.append(statement.startswith('INSERT INTO comparisons'))\n"
        "    if sum(batches) == 2:\n"
        "        print('two batches are in', flush=True)\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "rows = [{'prompt': f'{i}', 'chosen': 'a', 'rejected': 'b'} for i in range(12000)]\n"
        "home.add(Comparisons.from_rows(rows))\n"
    )
    killed = subprocess.run([sys.executable, "-c", code, place(store)], stdout=subprocess.PIPE, text=True)
    assert (killed.stdout, killed.returncode) == ("two batches are in\n", -signal.SIGKILL)
    assert store.kinds() == {"comparison": 10}
    rows = [{"prompt": f"{i}", "chosen": "a", "rejected": "b"} for i in range(12_000)]
    assert store.add(Comparisons.from_rows(rows)).new == 12_000


def test_two_processes_may_add_at_once_even_where_there_was_no_store_yet(tmp_path):
    url = f"sqlite:///{tmp_path / 'r.db'}"
    code = (
        "import sys\nfrom penchant.store import Store\nfrom penchant.records import Comparisons\n"
        "for i in range(15):\n"
        "    row = {'prompt': f'{sys.argv[2]}-{i}', 'chosen': 'a', 'rejected': 'b'}\n"
        "    Store(sys.argv[1]).add(Comparisons.from_rows([row]))\n"
    )
    running = [subprocess.Popen([sys.executable, "-c", code, url, name]) for name in "xy"]
    assert [process.wait() for process in running] == [0, 0]
    found = Store(url).records("comparison").table["prompt"].to_pylist()
    for name in "xy":
        assert [prompt for prompt in found if prompt[0] == name] == [f"{name}-{i}" for i in range(15)]
    assert len(found) == 30
