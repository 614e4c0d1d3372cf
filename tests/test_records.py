"""Records: what is accepted, what is refused, and that nothing vanishes uncounted."""

import math

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penchant.errors import DataError
from penchant.records import KINDS, Battles, Comparisons, Interactions, Rankings, Ratings, canonical_json


def pair(**changes):
    return {"prompt": "p", "chosen": "a", "rejected": "b"} | changes


def test_a_missing_strength_means_certain():
    votes = Comparisons.from_rows([pair(), pair(strength=0.5)])
    assert votes.numpy("strength").tolist() == [1.0, 0.5]


def test_equal_answers_are_refused_with_row_count_and_remedy():
    with pytest.raises(DataError, match=r"row 1: `chosen` and `rejected` are the same \(1 of 3 rows\).*drop such rows"):
        Comparisons.from_rows([pair(), pair(rejected="a"), pair()])


@pytest.mark.parametrize("strength", [math.nan, -0.1, 1.1, math.inf])
def test_a_strength_that_is_no_probability_is_refused(strength):
    with pytest.raises(DataError, match="strength"):
        Comparisons.from_rows([pair(strength=strength)])


def test_a_missing_answer_is_refused_by_name():
    with pytest.raises(DataError, match="row 0: `rejected` is missing"):
        Comparisons.from_rows([pair(rejected=None)])


def test_an_unknown_column_is_refused_and_the_known_ones_are_listed():
    with pytest.raises(DataError, match=r"unknown columns \['chosn'\].*'chosen'"):
        Comparisons.from_rows([pair(chosn="x")])


def test_a_required_column_that_is_absent_is_named():
    with pytest.raises(DataError, match=r"required columns \['rejected'\]"):
        Comparisons(pa.table({"prompt": ["p"], "chosen": ["a"]}))


def test_a_column_of_the_wrong_type_is_named():
    with pytest.raises(DataError, match="score"):
        Ratings.from_rows([{"prompt": "p", "response": "r", "score": "very good"}])


def test_an_infinite_rating_is_refused():
    with pytest.raises(DataError, match="not finite"):
        Ratings.from_rows([{"prompt": "p", "response": "r", "score": math.inf}])


def test_a_battle_knows_four_outcomes():
    battle = {"system_a": "x", "system_b": "y"}
    assert len(Battles.from_rows([battle | {"outcome": o} for o in ("a", "b", "tie", "both_bad")])) == 4
    with pytest.raises(DataError, match="outcome"):
        Battles.from_rows([battle | {"outcome": "model_a"}])


def test_an_interaction_needs_a_person():
    with pytest.raises(DataError, match="`user` is missing"):
        Interactions.from_rows([{"item": "i"}])


def test_records_of_one_person_and_rows_by_number():
    votes = Comparisons.from_rows([pair(user="ann"), pair(user="bob", chosen="c"), pair()])
    assert votes.users == ["ann", "bob"]
    assert votes.of("bob").table["chosen"].to_pylist() == ["c"]
    assert votes.take([2, 1]).table["user"].to_pylist() == [None, "bob"]


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_every_kind_has_an_empty_table(kind):
    empty = kind.from_rows([])
    assert (len(empty), empty.users) == (0, [])


@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "prompt": st.none() | st.text(max_size=3),
                "chosen": st.none() | st.sampled_from("ab"),
                "rejected": st.none() | st.sampled_from("ab"),
                "strength": st.none() | st.floats(width=32),
            }
        ),
        min_size=1,
        max_size=20,
    )
)
def test_rows_in_equal_rows_kept_plus_rows_dropped_with_a_reason(rows):
    schema = pa.schema([(f.name, f.type) for f in Comparisons.schema if f.name in rows[0]])
    records, dropped = Comparisons.checked(pa.Table.from_pylist(rows, schema=schema))
    assert len(records) + sum(dropped.values()) == len(rows)
    good = [
        row
        for row in rows
        if None not in (row["prompt"], row["chosen"], row["rejected"])
        and row["chosen"] != row["rejected"]
        and (row["strength"] is None or 0 <= row["strength"] <= 1)
    ]
    assert records.table["prompt"].to_pylist() == [row["prompt"] for row in good]


def ratings_of(n_users, n_each):
    return Ratings.from_rows(
        [
            {"prompt": f"q{j}", "response": "x", "score": float(j), "user": f"u{i}"}
            for i in range(n_users)
            for j in range(n_each)
        ]
    )


@pytest.mark.parametrize("by", ["user", "prompt", "row"])
def test_a_split_tears_no_group_apart_and_loses_nothing(by):
    whole = ratings_of(10, 7)
    train, held_out = whole.split(0.3, by=by, seed=4)
    assert len(train) + len(held_out) == len(whole)
    if by != "row":
        column = {"user": "user", "prompt": "prompt"}[by]
        assert not set(train.table[column].to_pylist()) & set(held_out.table[column].to_pylist())
    assert whole.split(0.3, by=by, seed=4)[1].table.equals(held_out.table)


def test_rows_without_a_user_stand_for_themselves_in_a_split():
    anonymous = Ratings.from_rows([{"prompt": str(i), "response": "x", "score": 0.0} for i in range(40)])
    train, held_out = anonymous.split(0.25, by="user")
    assert (len(train), len(held_out)) == (30, 10)


def test_a_split_that_would_leave_one_part_empty_says_so():
    with pytest.raises(DataError, match="leaves one part empty"):
        ratings_of(1, 5).split(0.5, by="user")


def test_a_ranking_needs_one_rank_for_each_response():
    rows = [{"prompt": "q", "responses": ["a", "b"], "ranks": [1]}, {"prompt": "q", "responses": ["a"]}]
    kept, dropped = Rankings.checked(pa.Table.from_pylist(rows))
    assert (len(kept), dropped) == (
        0,
        {"`responses` holds fewer than 2": 1, "`responses` and `ranks` differ in length": 1},
    )


def test_canonical_json_refuses_what_json_cannot_say():
    with pytest.raises(DataError, match="cannot be written as JSON"):
        canonical_json({"x": float("nan")})
