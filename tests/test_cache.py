"""The cache: what was put comes back sound or not at all, from any process, within its limit, and people can leave."""

import os
import random
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penchant import cache as cache_module
from penchant.cache import RowCache, bytes_of, content_key
from penchant.errors import SettingsError, StorageError


@pytest.fixture
def path(tmp_path):
    return tmp_path / "cache" / "rows.sqlite"


@pytest.fixture
def clock(monkeypatch):
    """The hour that the cache believes it is, to be set."""
    hours = [500_000]
    monkeypatch.setattr(cache_module, "_hour", lambda: hours[0])

    def set_to(hour):
        hours[0] = 500_000 + hour

    return set_to


def everything(path):
    """All bytes of the database and whatever lies beside it."""
    return b"".join(file.read_bytes() for file in path.parent.iterdir())


def test_values_come_back_in_the_order_of_the_keys_with_none_for_the_unknown(path):
    cache = RowCache(path)
    cache.put_many("a", {str(i): bytes([i]) for i in range(200)})
    cache.put_many("b", {"1": b"other"})
    assert cache.get_many("a", ["3", "x", "1", "3"]) == [b"\x03", None, b"\x01", b"\x03"]
    assert RowCache(path).get_many("b", ["1"]) == [b"other"]
    assert cache.get_many("nothing of this kind", ["1"]) == [None]


def test_a_key_that_is_there_keeps_its_newest_value(path):
    cache = RowCache(path)
    cache.put_many("a", {"1": b"old", "2": b"stays"})
    cache.put_many("a", {"1": b"new and longer", "3": b""})
    assert cache.get_many("a", ["1", "2", "3"]) == [b"new and longer", b"stays", b""]
    assert [(one.namespace, one.rows) for one in cache.held()] == [("a", 3)]


def test_many_keys_are_found_and_all_are_gone_after_clearing(path):
    cache = RowCache(path)
    cache.put_many("a", {str(i): b"secret" for i in range(2000)})
    cache.put_many("b", {"1": b"another"})
    assert cache.get_many("a", [str(i) for i in range(2000)]) == [b"secret"] * 2000
    assert cache.clear("a") == 2000
    assert cache.get_many("a", ["0", "1999"]) == [None, None]
    assert cache.get_many("b", ["1"]) == [b"another"]
    assert b"secret" not in everything(path)
    assert cache.clear() == 1


@given(st.lists(st.text(), min_size=1, max_size=3), st.lists(st.text(), min_size=1, max_size=3))
def test_different_parts_have_different_keys(first, second):
    assert (content_key(*first) == content_key(*second)) == (first == second)


# --- several processes ------------------------------------------------------------------------------------------------

WRITER = """
import hashlib, random, sys
from pathlib import Path
from penchant.cache import RowCache

cache, chance = RowCache(Path(sys.argv[1]), limit=int(sys.argv[2])), random.Random(int(sys.argv[3]))
for step in range(int(sys.argv[4])):
    keys = [f"{sys.argv[3]}-{step}-{i}" for i in range(20)] + [f"shared-{chance.randrange(500)}"]
    owners = {key: ["bob"] for key in keys} | {keys[0]: ["ann"]}
    cache.put_many("n", {key: hashlib.shake_128(key.encode()).digest(300) for key in keys}, owners)
    if step % 40 == 39:
        cache.forget("ann")
    print(step, flush=True)
"""


def value_of(key):
    """What every writer puts under a key."""
    import hashlib

    return hashlib.shake_128(key.encode()).digest(300)


def writers(path, n, *, limit, steps):
    return [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), str(limit), str(number), str(steps)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(n)
    ]


def require_sound(path):
    """Every page of the file is well-formed and every value is the right one."""
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        keys = [key for (key,) in connection.execute("SELECT key FROM rows")]
    connection.close()
    cache = RowCache(path)
    assert cache.get_many("n", keys) == [value_of(key) for key in keys]
    assert cache.damaged == 0
    return keys


def test_processes_may_write_evict_and_forget_in_one_file_at_once(path):
    limit = 400_000
    running = writers(path, 3, limit=limit, steps=80)
    for process in running:
        process.communicate()
    assert [process.returncode for process in running] == [0, 0, 0]
    keys = require_sound(path)
    assert 100 < len(keys) < limit / 300
    assert path.stat().st_size <= limit


def test_a_kill_at_any_instant_leaves_a_sound_cache(path):
    chance = random.Random(0)
    for _ in range(6):
        running = writers(path, 2, limit=300_000, steps=1000)
        for process in running:
            for _ in range(chance.randrange(1, 60)):
                process.stdout.readline()
            process.send_signal(signal.SIGKILL)
        for process in running:
            process.communicate()
        require_sound(path)


# --- limit ------------------------------------------------------------------------------------------------------------


def test_what_was_used_longest_ago_makes_room(path, clock):
    cache = RowCache(path, limit=1_000_000)
    for hour in range(10):
        clock(hour)
        cache.put_many("n", {f"{hour}-{i}": bytes(1000) for i in range(100)})
        cache.get_many("n", ["0-0"])
    hours = [
        sum(value is not None for value in cache.get_many("n", [f"{h}-{i}" for i in range(100)])) for h in range(10)
    ]
    assert hours[0] == 1, "only the row that was read again is left of the first hour"
    assert hours[9] == 100
    assert sorted(hours[1:]) == hours[1:], "the older the fewer"
    assert cache.size() <= 1_000_000 + 2**24, "the log is bounded too"
    cache.collect()
    assert path.stat().st_size <= 1_000_000


def test_the_limit_comes_from_the_caller_the_environment_or_what_was_set_for_all(path, monkeypatch):
    RowCache(path).put_many("n", {str(i): bytes(1000) for i in range(100)})
    assert RowCache(path).limit() == 2 * 2**30
    assert RowCache(path).set_limit(60_000) > 40
    assert RowCache(path).limit() == 60_000
    monkeypatch.setenv("PENCHANT_CACHE_LIMIT", "1 MiB")
    assert RowCache(path).limit() == 2**20
    assert RowCache(path, limit=7).limit() == 7
    monkeypatch.setenv("PENCHANT_CACHE_LIMIT", "much")
    with pytest.raises(SettingsError, match="500MB"):
        RowCache(path)


def test_a_limit_too_small_for_anything_keeps_nothing_and_stops_nobody(path):
    cache = RowCache(path, limit=1)
    cache.put_many("n", {"1": b"x"})
    assert cache.get_many("n", ["1"]) == [None]


@pytest.mark.parametrize(("words", "size"), [("1kb", 1000), ("1.5 GiB", 3 * 2**29), ("12", 12), ("2T", 2 * 10**12)])
def test_sizes_are_read_as_people_write_them(words, size):
    assert bytes_of(words) == size


def test_what_is_held_is_told_by_namespace_with_its_last_use(path, clock):
    cache = RowCache(path)
    cache.put_many("small", {"1": b"x"})
    clock(30)
    cache.put_many("large", {str(i): bytes(500) for i in range(9)})
    large, small = cache.held()
    assert (large.namespace, large.rows, large.bytes) == ("large", 9, 9 * 600)
    assert (small.namespace, small.rows) == ("small", 1)
    assert (large.used - small.used).total_seconds() == 30 * 3600
    clock(90)
    cache.get_many("small", ["1"])
    assert cache.held()[1].used > large.used


def test_nobody_waits_for_the_bookkeeping_of_another(path, clock):
    cache = RowCache(path)
    cache.put_many("n", {"1": b"x"})
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    clock(5)
    assert cache.get_many("n", ["1"]) == [b"x"], "a minute's wait, were it not so"
    other.close()
    cache.put_many("n", {"2": b"y"})
    assert cache.get_many("n", ["1", "2"]) == [b"x", b"y"]


# --- damage -----------------------------------------------------------------------------------------------------------


def test_a_damaged_value_counts_as_missing_and_is_said_and_putting_it_again_heals_it(path):
    RowCache(path).put_many("n", {"1": b"precious value", "2": b"another value!"})
    raw = everything_checkpointed(path)
    path.write_bytes(raw.replace(b"precious", b"prec\x00ous"))
    cache = RowCache(path)
    with pytest.warns(UserWarning, match="1 of 2 are computed again"):
        assert cache.get_many("n", ["1", "2"]) == [None, b"another value!"]
    assert cache.damaged == 1
    cache.put_many("n", {"1": b"precious value"})
    assert RowCache(path).get_many("n", ["1", "2"]) == [b"precious value", b"another value!"]


def everything_checkpointed(path):
    """The file's bytes after everything in its log was moved into it."""
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    connection.close()
    return path.read_bytes()


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE contents SET value = substr(value, 1, 3) WHERE place = 1",
        "UPDATE contents SET value = x'' WHERE place = 1",
        "UPDATE contents SET value = (SELECT value FROM contents WHERE place = 2), "
        "checksum = (SELECT checksum FROM contents WHERE place = 2) WHERE place = 1",
        "DELETE FROM contents WHERE place = 1",
        "UPDATE rows SET place = 2 WHERE key = '1'",
    ],
)
def test_a_value_that_is_cut_off_lost_or_in_the_wrong_place_is_missing_and_collected(path, damage):
    RowCache(path).put_many("n", {"1": b"one one", "2": b"two two"})
    with sqlite3.connect(path) as connection:
        connection.execute(damage)
    connection.close()
    cache = RowCache(path)
    with pytest.warns(UserWarning, match="damaged"):
        assert cache.get_many("n", ["1", "2"]) == [None, b"two two"]
    assert cache.damaged == 1
    assert [cache.collect()["damaged"] for _ in range(2)] == [1, 0]
    assert cache.get_many("n", ["1", "2"]) == [None, b"two two"]
    assert b"one one" not in everything(path)


def test_a_file_whose_pages_are_garbage_is_said_once_and_gone_without(path):
    RowCache(path).put_many("n", {str(i): bytes(100) for i in range(500)})
    raw = everything_checkpointed(path)
    path.write_bytes(raw[:4096] + b"\xff" * (len(raw) - 4096))
    cache = RowCache(path)
    with pytest.warns(UserWarning, match="Going on without it"):
        assert cache.get_many("n", ["1"]) == [None]
    cache.put_many("n", {"1": b"x"})
    assert cache.get_many("n", ["1"]) == [None]
    with pytest.raises(StorageError, match="delete it"):
        cache.forget("ann")


def test_a_file_that_is_no_cache_is_a_clear_error(path):
    path.parent.mkdir()
    path.write_bytes(b"not a database at all" * 100)
    with pytest.raises(StorageError, match="delete it"):
        RowCache(path)


def test_a_cache_of_another_layout_is_emptied(path):
    path.parent.mkdir()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE rows (namespace TEXT, key TEXT, value BLOB)")
        connection.execute("INSERT INTO rows VALUES ('n', '1', 'old')")
    connection.close()
    cache = RowCache(path)
    assert cache.get_many("n", ["1"]) == [None]
    cache.put_many("n", {"1": b"new"})
    assert cache.get_many("n", ["1"]) == [b"new"]


# --- no room, no folder -----------------------------------------------------------------------------------------------

FULL = """
import resource, sys, warnings
from pathlib import Path
from penchant.cache import RowCache

cache = RowCache(Path(sys.argv[1]))
cache.put_many("n", {"before": b"there"})
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))  # what a full disk answers to a write
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    for step in range(20):
        cache.put_many("n", {f"{step}-{i}": bytes(500) for i in range(50)})
assert cache.get_many("n", ["before"]) == [b"there"]
print(len(caught), caught[0].message)
"""


def test_a_full_disk_is_said_once_and_stops_nobody(path):
    done = subprocess.run([sys.executable, "-c", FULL, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("1 The cache")
    assert "Going on without it" in done.stdout
    assert RowCache(path).get_many("n", ["before"]) == [b"there"]


def test_a_folder_that_cannot_be_made_is_said_once_and_gone_without(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.warns(UserWarning, match="Going on without it"):
        cache = RowCache(tmp_path / "file" / "rows.sqlite")
    cache.put_many("n", {"1": b"x"})
    assert cache.get_many("n", ["1"]) == [None]
    with pytest.raises(StorageError):
        cache.forget("ann")


# --- people -----------------------------------------------------------------------------------------------------------


def test_a_forgotten_person_takes_their_rows_and_the_doubtful_ones_and_leaves_those_of_others(path):
    cache = RowCache(path)
    cache.put_many(
        "n",
        {key: f"{key} said this".encode() for key in ("ann", "both", "bob", "nameless")},
        {"ann": ["ann"], "both": ["bob", "ann"], "bob": ["bob"], "nameless": [None, "ann"]},
    )
    cache.put_many("n", {"unknown": b"unknown said this"})
    assert cache.forget("ann") == 2
    assert cache.get_many("n", ["ann", "both", "bob", "nameless", "unknown"]) == [
        None,
        b"both said this",
        b"bob said this",
        b"nameless said this",
        None,
    ]
    assert not any(gone in everything(path) for gone in (b"ann said this", b"unknown said this"))
    assert cache.forget("bob") == 2, "bob was alone with what ann had left too"
    assert cache.get_many("n", ["both", "nameless"]) == [None, b"nameless said this"]
    assert cache.forget("ann") == cache.forget("carol") == 0


@pytest.mark.parametrize("seed", range(4))
def test_no_byte_of_a_forgotten_person_is_left_whatever_the_file_went_through(path, seed):
    chance = random.Random(seed)
    cache = RowCache(path, limit=chance.choice([300_000, 2**31]))
    for step in range(25):
        owner = chance.choice(["ann", "bob", "carol"])
        keys = [content_key(f"{seed}-{chance.randrange(3000)}") for _ in range(chance.randrange(1, 200))]
        length = chance.choice([1, 3, 20, 60])
        cache.put_many(
            f"n{step % 3}", {key: f"<{owner}>".encode() * length for key in keys}, {key: [owner] for key in keys}
        )
        if step == 18:
            cache.forget("carol")
    assert b"<ann>" in everything(path)
    assert cache.forget("ann") > 0
    assert b"<ann>" not in everything(path)
    assert b"<bob>" in everything(path)


def test_whoever_is_named_later_owns_a_row_that_had_no_owner(path):
    cache = RowCache(path)
    cache.put_many("n", {"1": b"x", "2": b"y", "3": b"z"}, {"3": ["carol"]})
    assert cache.get_many("n", ["1", "3"], {"1": ["bob"], "3": ["bob"]}) == [b"x", b"z"]
    assert cache.forget("ann") == 1
    assert cache.get_many("n", ["1", "2", "3"]) == [b"x", None, b"z"]
    assert cache.forget("carol") == 1, "a row that has an owner gets no other"
    assert cache.forget("bob") == 1


def test_rows_that_made_room_leave_no_bytes_once_their_person_is_forgotten(path):
    cache = RowCache(path, limit=200_000)
    for start in range(0, 1000, 50):
        cache.put_many("n", {f"{i}": f"secret {i}".encode() * 40 for i in range(start, start + 50)}, {})
    assert cache.get_many("n", ["0"]) == [None], "made room"
    assert b"secret 0secret 0" in everything(path), "its bytes are still there, or this test tests nothing"
    cache.forget("ann")
    assert b"secret" not in everything(path)


def test_owners_are_known_by_no_name(path):
    cache = RowCache(path)
    cache.put_many("n", {"1": b"x"}, {"1": ["ann-with-an-unmistakable-name", "bob"]})
    assert b"unmistakable" not in everything(path)


def test_a_row_of_very_many_people_goes_rather_too_early_than_too_late(path):
    cache = RowCache(path)
    people = [f"p{i}" for i in range(20)]
    cache.put_many("n", {"1": b"x"}, {"1": people})
    n_until_gone = 0
    while cache.get_many("n", ["1"]) == [b"x"]:
        cache.forget(people[n_until_gone])
        n_until_gone += 1
    assert 1 < n_until_gone <= 20


def test_bytes_that_another_process_keeps_alive_are_not_passed_over_in_silence(path, monkeypatch):
    monkeypatch.setattr(cache_module, "_PATIENCE", 0.05)
    cache = RowCache(path)
    cache.put_many("n", {"1": b"secret"}, {"1": ["ann"]})
    reader = sqlite3.connect(path, isolation_level=None)
    reader.execute("BEGIN")
    assert reader.execute("SELECT count(*) FROM rows").fetchone() == (1,)
    with pytest.raises(StorageError, match="--gc"):
        cache.forget("ann")
    reader.close()
    cache.collect()
    assert b"secret" not in everything(path)


def test_a_process_that_forks_shares_no_connection(path):
    cache = RowCache(path)
    cache.put_many("n", {"1": b"x"})
    child = os.fork()
    if not child:
        cache.put_many("n", {"2": b"y"})
        os._exit(0 if cache.get_many("n", ["1"]) == [b"x"] else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert cache.get_many("n", ["1", "2"]) == [b"x", b"y"]


def test_the_cache_lies_where_the_environment_says(own_cache: Path):
    assert RowCache().path == own_cache / "rows.sqlite"
