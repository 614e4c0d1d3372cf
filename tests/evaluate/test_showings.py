"""Rows of who was shown what: counted as tables of lists are, added up over files, and rows that are no whole lists."""

import numpy as np
import pyarrow as pa
import pytest

from penchant.errors import DataError, SettingsError
from penchant.evaluate.item_fairness import exposure, measures
from penchant.evaluate.showings import GAPS, MISSING, SHORT, TWICE, showings


def rows(lists, *, first=1, names=None):
    """Lists as shuffled rows."""
    found = [
        {"user": f"u{user}" if names is None else names[user], "item": f"i{item}", "rank": rank}
        for user, one in enumerate(lists)
        for rank, item in enumerate(one, first)
    ]
    return pa.Table.from_pylist([found[i] for i in np.random.default_rng(0).permutation(len(found))])


def of(table, **settings):
    return showings(table["user"], table["item"], table["rank"], **settings)


@pytest.fixture
def lists():
    rng = np.random.default_rng(1)
    return np.array([rng.permutation(12)[:4] for _ in range(30)])


@pytest.mark.parametrize("first", [0, 1])
def test_rows_count_as_the_lists_they_are_of(lists, first):
    shown = of(rows(lists, first=first))
    assert len(shown.people) == 30
    assert measures(shown.exposure(15)) == measures(exposure(lists, 15))
    expected = exposure(lists, 12).by_rank
    for item, by_rank in zip(shown.items, shown.by_rank, strict=True):
        assert by_rank.tolist() == expected[int(item[1:])].tolist()


def test_only_the_first_k_places_count(lists):
    assert measures(of(rows(lists), k=2).exposure(15)) == measures(exposure(lists[:, :2], 15))


def test_without_ranks_rows_stand_in_their_order():
    table = pa.table({"user": ["a", "b", "a", "b"], "item": ["x", "y", "z", "x"]})
    shown = showings(table["user"], table["item"])
    assert shown.items == ("x", "y", "z")
    assert shown.by_rank.tolist() == [[1, 1], [1, 0], [0, 1]]


def test_files_add_up_in_any_order_and_grouping(lists):
    parts = [
        of(rows(part, names=[f"u{begin + i}" for i in range(len(part))]))
        for begin, part in ((0, lists[:7]), (7, lists[7:20]), (20, lists[20:]))
    ]
    whole = of(rows(lists))
    a, b, c = parts
    for together in ((a + b) + c, a + (b + c), (c + a) + b):
        assert together.items == whole.items
        assert (together.by_rank == whole.by_rank).all()
        assert (together.people == whole.people).all()
    with pytest.raises(DataError, match="7 users have rows in more than one file"):
        a + whole
    with pytest.raises(DataError, match="lists of 4 places, others of 2"):
        a + of(rows(lists[7:]), k=2)


BAD = {
    MISSING: [("a", "x", 1), ("a", None, 2), ("b", "x", 1), ("b", "y", 2)],
    GAPS: [("a", "x", 1), ("a", "y", 3), ("b", "x", 1), ("b", "y", 2)],
    TWICE: [("a", "x", 1), ("a", "x", 2), ("b", "x", 1), ("b", "y", 2)],
    SHORT: [("a", "x", 1), ("b", "x", 1), ("b", "y", 2)],
}


@pytest.mark.parametrize("reason", BAD)
def test_a_list_that_is_not_whole_is_named_or_left_out_and_counted(reason):
    user, item, rank = (pa.array(column) for column in zip(*BAD[reason], strict=True))
    with pytest.raises(DataError, match=f"user 'a' {reason} .1 of 2 lists"):
        showings(user, item, rank, k=2)
    shown = showings(user, item, rank, k=2, on_error="drop")
    assert shown.dropped == {reason: 1}
    assert len(shown.people) == 1
    assert shown.items == ("x", "y")
    assert (shown + showings(pa.array(["c"] * 2), pa.array(["x", "y"]), k=2)).dropped == {reason: 1}


def test_a_missing_item_says_nothing_of_another_list():
    user, item = pa.array(["a", "a", "b", "b"]), pa.array(["x", "y", None, "x"])
    assert showings(user, item, on_error="drop").dropped == {MISSING: 1}


def test_ranks_that_are_there_twice_are_no_ranks():
    with pytest.raises(DataError, match=GAPS):
        showings(pa.array(["a", "a"]), pa.array(["x", "y"]), pa.array([1, 1]))


def test_rows_that_say_nothing_are_refused():
    words, numbers = pa.array(["a", "b"]), pa.array([1, 1])
    with pytest.raises(DataError, match="1 of 2 rows do not say whose"):
        showings(pa.array(["a", None]), words)
    with pytest.raises(DataError, match="items are double; they must be words or whole numbers"):
        showings(words, pa.array([1.0, 2.0]))
    with pytest.raises(DataError, match=r"Ranks are whole numbers.*'first'"):
        showings(words, words, pa.array(["first", "2"]))
    with pytest.raises(DataError, match=r"Ranks are whole numbers.*1\.5"):
        showings(words, words, pa.array([1.5, 2.0]))
    with pytest.raises(DataError, match="no rows"):
        showings(words[:0], words[:0])
    with pytest.raises(DataError, match="Lists have 1 to 2 items"):
        showings(pa.array(["a", "a", "b"]), pa.array([1, 2, 1]))
    with pytest.raises(SettingsError, match="k must be at least 1"):
        showings(words, words, numbers, k=0)


def test_a_catalogue_is_a_number_or_names_and_holds_what_is_shown():
    shown = showings(pa.array([1, 1, 2, 2]), pa.array([7, 8, 7, 9]))
    assert shown.items == ("7", "8", "9")
    assert shown.exposure().n_items == 3
    assert shown.exposure(10).n_items == 10
    assert shown.exposure(["7", "8", "9", "10", "10"]).n_items == 4
    assert measures(shown.exposure(["7", "8", "9", "10"])) == measures(shown.exposure(4))
    with pytest.raises(DataError, match="3 different items are shown, but the catalogue is said to have 2"):
        shown.exposure(2)
    with pytest.raises(DataError, match=r"1 of 3 items .* such as '9'"):
        shown.exposure(["7", "8", "10"])
    nothing = showings(pa.array(["a"]), pa.array(["x"]), k=2, on_error="drop")
    with pytest.raises(DataError, match="no whole lists"):
        nothing.exposure(5)
