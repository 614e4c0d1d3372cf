"""Identities: equal rows are numbered in order, whatever the batches, and nothing else is equal."""

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penchant import identity
from penchant.errors import StorageError
from penchant.identity import Identities

VALUES = (
    st.none() | st.sampled_from(["", "n", "t", "1.0", "None"]) | st.sampled_from([0.0, 1.0]) | st.text("nt", max_size=3)
)
ROWS = st.lists(st.tuples(VALUES, VALUES), max_size=30)


def identities(rows, cuts=()):
    counting = Identities("rating")
    try:
        ends = sorted({min(cut, len(rows)) for cut in cuts} | {0, len(rows)})
        found = [one for start, stop in pairwise(ends) for one in counting.of(rows[start:stop])]
        return found, counting.hexdigest()
    finally:
        counting.close()


@settings(deadline=None)
@given(rows=ROWS, cuts=st.lists(st.integers(0, 30), max_size=5))
def test_two_rows_are_one_only_if_they_are_equal_and_as_many_equal_ones_came_before(rows, cuts):
    seen = Counter()
    places = []
    for row in rows:
        text = repr(row)
        seen[text] += 1
        places.append((text, seen[text]))
    found, _ = identities(rows)
    assert len(set(places)) == len(set(found)) == len(rows)
    assert identities(rows, cuts) == identities(rows)
    other, _ = identities(rows[::-1])
    assert set(other) == set(found)


def test_the_kind_of_record_is_part_of_its_identity():
    one, other = Identities("rating"), Identities("edit")
    assert one.of([("a",)]) != other.of([("a",)])
    one.close()
    other.close()


def test_numbers_that_collide_are_counted_together_and_stay_different_rows(monkeypatch):
    monkeypatch.setattr(identity.np, "frombuffer", lambda data, dtype: __import__("numpy").zeros(len(data), dtype))
    found, _ = identities([("a",), ("b",), ("a",)])
    assert len(set(found)) == 3


def test_no_room_for_counting_is_a_clear_error():
    counting = Identities("rating")
    counting._counts._file.execute("PRAGMA max_page_count = 2")
    with pytest.raises(StorageError, match=r"full.*SQLITE_TMPDIR"):
        counting.of([(str(i),) for i in range(5_000)])
    counting.close()
