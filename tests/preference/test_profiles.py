"""People as arrays that read like a dictionary."""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penchant.errors import DataError, SettingsError, UnknownNameError
from penchant.preference.profiles import Known, Profiles, edited


def known(number):
    return Known(np.array([number, -number], dtype=float), number)


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 99), st.booleans()), max_size=40))
def test_it_is_a_dictionary(steps):
    people, plain = Profiles(Known), {}
    for name, number, is_deletion in steps:
        if is_deletion and name in plain:
            del people[name], plain[name]
        else:
            people[name] = known(number)
            plain[name] = number
    assert {name: one.n_pairs for name, one in people.items()} == plain
    assert sorted(people) == sorted(plain)
    for name, number in plain.items():
        assert people[name].weights.tolist() == [number, -number]
        assert people.column("n_pairs")[people.places([name])[0]] == number


def test_whoever_is_taken_out_leaves_no_number_behind():
    people = Profiles(Known)
    for name in "abc":
        people[name] = known(ord(name))
    del people["a"]
    assert not any((column == ord("a")).any() for column in people._columns.values())
    assert set(people) == {"b", "c"}
    assert people["c"].n_pairs == ord("c")
    with pytest.raises(KeyError):
        people["a"]


def test_what_is_read_is_a_copy_of_plain_values():
    @dataclass(frozen=True)
    class Mood:
        level: float
        is_own: bool

    people = Profiles(Mood)
    people["ann"] = Mood(0.5, True)
    assert people["ann"] == Mood(0.5, True)
    assert people["ann"].is_own is True
    others = Profiles(Known)
    others["ann"] = known(3)
    others["ann"].weights[:] = 7
    assert others["ann"].weights.tolist() == [3, -3]


def test_saved_and_restored_it_is_the_same_and_nobody_is_nothing():
    people = Profiles(Known)
    assert Profiles.restored(Known, *people.state()) == people == {}
    people["ann"], people["bob"] = known(1), known(2)
    arrays, names = people.state()
    again = Profiles.restored(Known, {**arrays, "other": np.zeros(3)}, names)
    assert list(again) == ["ann", "bob"]
    assert again["bob"].weights.tolist() == [2, -2]


def test_a_person_of_another_shape_is_refused():
    people = Profiles(Known)
    people["ann"] = known(1)
    with pytest.raises(DataError, match="shape"):
        people["bob"] = Known(np.zeros(3), 1)
    with pytest.raises(DataError, match="fields"):
        people.put_many(["bob"], weights=np.zeros((1, 2)))
    assert list(people) == ["ann"]


def test_a_profile_edited_by_hand_has_the_types_and_shapes_it_had():
    changed = edited(Known(np.array([1.0, 2.0]), 3), {"weights": [0, 1], "n_pairs": 4})
    assert changed.weights.dtype == np.float64
    assert (changed.weights.tolist(), changed.n_pairs) == ([0.0, 1.0], 4)
    for values, said in (
        ({"weights": [1.0]}, r"shape \[2\]"),
        ({"weights": [1.0, float("inf")]}, "finite"),
        ({"weights": [[1.0, 2.0], [3.0]]}, "finite"),
        ({"weights": "many"}, "finite"),
        ({"n_pairs": 1.5}, "whole number"),
        ({"n_pairs": [1]}, "whole number"),
    ):
        with pytest.raises(SettingsError, match=said):
            edited(Known(np.array([1.0, 2.0]), 3), values)
    with pytest.raises(UnknownNameError, match="'weights'"):
        edited(Known(np.array([1.0]), 3), {"weight": [1.0]})
