"""The cache: what was put comes back, from any process, and losing it is a clear error."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penchant.cache import RowCache, content_key
from penchant.errors import DataError


def test_values_come_back_in_the_order_of_the_keys_with_none_for_the_unknown(tmp_path):
    cache = RowCache(tmp_path / "c.sqlite")
    cache.put_many("a", {str(i): bytes([i]) for i in range(200)})
    cache.put_many("b", {"1": b"other"})
    assert cache.get_many("a", ["3", "x", "1", "3"]) == [b"\x03", None, b"\x01", b"\x03"]
    assert RowCache(tmp_path / "c.sqlite").get_many("b", ["1"]) == [b"other"]


def test_many_keys_are_found_and_all_are_gone_after_clearing(tmp_path):
    cache = RowCache(tmp_path / "c.sqlite")
    cache.put_many("a", {str(i): b"secret" for i in range(2000)})
    assert cache.get_many("a", [str(i) for i in range(2000)]) == [b"secret"] * 2000
    assert cache.clear() == 2000
    assert cache.get_many("a", ["0", "1999"]) == [None, None]
    assert all(b"secret" not in path.read_bytes() for path in tmp_path.iterdir())


@given(st.lists(st.text(), min_size=1, max_size=3), st.lists(st.text(), min_size=1, max_size=3))
def test_different_parts_have_different_keys(first, second):
    assert (content_key(*first) == content_key(*second)) == (first == second)


def test_two_processes_write_the_same_file_at_once(tmp_path):
    code = (
        "import sys; from pathlib import Path; from penchant.cache import RowCache\n"
        "cache = RowCache(Path(sys.argv[1]))\n"
        "for i in range(100): cache.put_many('n', {f'{sys.argv[2]}-{i}': b'v'})"
    )
    path = str(tmp_path / "c.sqlite")
    running = [subprocess.Popen([sys.executable, "-c", code, path, name]) for name in "ab"]
    assert [process.wait() for process in running] == [0, 0]
    keys = [f"{name}-{i}" for name in "ab" for i in range(100)]
    assert RowCache(tmp_path / "c.sqlite").get_many("n", keys) == [b"v"] * 200


def test_a_file_that_is_no_cache_is_a_clear_error(tmp_path):
    path = tmp_path / "c.sqlite"
    path.write_bytes(b"not a database at all" * 100)
    with pytest.raises(DataError, match="delete it"):
        RowCache(path)
