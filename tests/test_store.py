"""The store, on SQLite and on a real PostgreSQL: what comes out is what went in, once, until its owner is forgotten."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penchant.cache import RowCache
from penchant.errors import DataError, UnknownNameError
from penchant.exchange import read_jsonl, read_parquet, write_jsonl, write_parquet
from penchant.records import Comparisons, Conversations, Rankings, Ratings, canonical_json
from penchant.store import Store


def binaries():
    found = shutil.which("initdb")
    folders = [Path(found).parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return folders[-1] if folders else None


@pytest.fixture(scope="session")
def postgresql():
    """A PostgreSQL of our own on a free loopback port, as long as the tests run."""
    folder = binaries()
    if folder is None:
        pytest.skip("no PostgreSQL on this machine (Debian: apt-get install postgresql)")
    home = Path(tempfile.mkdtemp(prefix="penchant-pg-"))
    as_user = []
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        shutil.chown(home, "postgres", "postgres")
        as_user = ["runuser", "-u", "postgres", "--"]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    data = home / "data"
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={home} -c fsync=off"
    run = {"check": True, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": home}
    subprocess.run([*as_user, str(folder / "initdb"), "-D", str(data), "-A", "trust", "-U", "postgres"], **run)
    subprocess.run(
        [*as_user, str(folder / "pg_ctl"), "-D", str(data), "-o", options, "-w", "-l", str(home / "log"), "start"],
        **run,
    )
    yield f"postgresql://postgres@127.0.0.1:{port}/postgres"
    subprocess.run([*as_user, str(folder / "pg_ctl"), "-D", str(data), "-m", "immediate", "stop"], **run)
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request, tmp_path):
    if request.param == "sqlite":
        return Store(f"sqlite:///{tmp_path / 'records.db'}")
    url = request.getfixturevalue("postgresql")
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")
    return Store(url)


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
    assert [(line["rows"], line["new"]) for line in store.imports()] == [(3, 3), (4, 1)]


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


def test_an_export_holds_exactly_one_persons_records_and_reads_back(store, tmp_path):
    store.add(Comparisons.concat([votes(2, "ann"), votes(5, "bob")]))
    assert store.export("ann", tmp_path / "out") == {"comparison": 2}
    assert read_jsonl(tmp_path / "out" / "comparison.jsonl").table.equals(votes(2, "ann").table)
    with pytest.raises(UnknownNameError):
        store.export("nobody", tmp_path / "out2")


def test_a_user_name_is_data_and_never_sql(store):
    hostile = "x'; DROP TABLE comparisons; --"
    store.add(Comparisons.concat([votes(1, hostile), votes(1, "bob")]))
    assert store.records("comparison", users=[hostile]).users == [hostile]
    assert store.kinds() == {"comparison": 2}


CONTENT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.lists(
        st.tuples(CONTENT, CONTENT, st.floats(allow_nan=False, allow_infinity=False), st.none() | CONTENT), max_size=6
    )
)
def test_any_ratings_come_back_from_store_parquet_and_json_lines(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("any")
    records = Ratings.from_rows([{"prompt": p, "response": r, "score": s, "user": u} for p, r, s, u in rows])
    home = Store(f"sqlite:///{folder / 'r.db'}")
    home.add(records)
    assert home.records("rating").table.equals(records.table)
    write_parquet(records, folder / "r.parquet")
    assert read_parquet(folder / "r.parquet").table.equals(records.table)
    if rows:
        write_jsonl(records, folder / "r.jsonl")
        assert read_jsonl(folder / "r.jsonl").table.equals(records.table)


def test_messages_are_written_as_lists_and_read_back_as_they_were(tmp_path):
    prompt = canonical_json([{"role": "user", "content": "hi"}])
    answer = canonical_json([{"role": "assistant", "content": "", "tool_calls": [{"id": 1}]}])
    records = Comparisons.from_rows([{"prompt": prompt, "chosen": answer, "rejected": "[ 1]", "form": "messages"}])
    write_jsonl(records, tmp_path / "m.jsonl")
    assert '"prompt": [{"content": "hi", "role": "user"}]' in (tmp_path / "m.jsonl").read_text()
    assert read_jsonl(tmp_path / "m.jsonl").table.equals(records.table)
    whole = Conversations.from_rows([{"messages": prompt, "user": "ann"}])
    write_jsonl(whole, tmp_path / "c.jsonl")
    assert read_jsonl(tmp_path / "c.jsonl").table.equals(whole.table)


@pytest.mark.parametrize("url", ["nonsense", "mysql://x/y", "sqlite:////no/such/folder/x.db"])
def test_a_place_that_cannot_hold_records_is_a_clear_error(url):
    with pytest.raises(DataError):
        Store(url)


def test_a_file_that_is_no_database_is_a_clear_error(tmp_path):
    path = tmp_path / "x.db"
    path.write_bytes(b"something else entirely" * 50)
    with pytest.raises(DataError, match="not a database"):
        Store(f"sqlite:///{path}")


def test_a_full_disk_is_a_clear_error_and_keeps_what_was_acknowledged(tmp_path):
    home = Store(f"sqlite:///{tmp_path / 'r.db'}")
    home.add(votes(10))
    with home._engine.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
    import sqlalchemy as sa

    sa.event.listen(
        home._engine, "begin", lambda connection: connection.exec_driver_sql(f"PRAGMA max_page_count = {pages + 2}")
    )
    with pytest.raises(DataError, match="full"):
        home.add(votes(5000, rationale="x" * 500))
    assert Store(f"sqlite:///{tmp_path / 'r.db'}").kinds() == {"comparison": 10}


def test_a_killed_import_leaves_all_of_a_step_or_nothing(tmp_path):
    url = f"sqlite:///{tmp_path / 'r.db'}"
    code = (
        "import sys\nfrom penchant.store import Store\nfrom penchant.records import Comparisons\nimport pyarrow as pa\n"
        "home = Store(sys.argv[1])\n"
        "for step in range(1000):\n"
        "    rows = [{'prompt': f'{step}-{i}', 'chosen': 'a', 'rejected': 'b'} for i in range(300)]\n"
        "    home.add(Comparisons.from_rows(rows))\n    print(step, flush=True)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, url], stdout=subprocess.PIPE, text=True)
    acknowledged = [int(process.stdout.readline()) for _ in range(3)]
    process.send_signal(signal.SIGKILL)
    acknowledged += [int(line) for line in process.stdout.read().split()]
    process.wait()
    process.stdout.close()
    count = Store(url).kinds()["comparison"]
    assert count % 300 == 0
    assert count >= 300 * len(acknowledged)


def test_two_processes_may_add_at_once(tmp_path):
    url = f"sqlite:///{tmp_path / 'r.db'}"
    Store(url)
    code = (
        "import sys\nfrom penchant.store import Store\nfrom penchant.records import Comparisons\n"
        "for i in range(15):\n"
        "    row = {'prompt': f'{sys.argv[2]}-{i}', 'chosen': 'a', 'rejected': 'b'}\n"
        "    Store(sys.argv[1]).add(Comparisons.from_rows([row]))\n"
    )
    running = [subprocess.Popen([sys.executable, "-c", code, url, name]) for name in "xy"]
    assert [process.wait() for process in running] == [0, 0]
    assert Store(url).kinds() == {"comparison": 30}


def test_foreign_files_are_refused_with_their_line(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text('{"kind": "comparison", "prompt": "q", "chosen": "a", "rejected": "b"}\n{"no": 1}\n')
    with pytest.raises(DataError, match="line 2"):
        read_jsonl(path)
    pa.parquet.write_table(pa.table({"a": [1]}), tmp_path / "x.parquet")
    with pytest.raises(DataError, match="does not say which kind"):
        read_parquet(tmp_path / "x.parquet")
