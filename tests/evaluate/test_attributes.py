"""Twelve wishes that rules grade: each value has its ideal and its opposite, and a question is known by its words."""

import pytest

from penchant.errors import UnknownNameError
from penchant.evaluate.attributes import ATTRIBUTES, asked_about, grade

CASES = {
    ("length", "short"): ("It is 4.", "word " * 120),
    ("length", "medium"): ("word " * 30, "word " * 120),
    ("length", "long"): ("word " * 120, "It is 4."),
    ("bullets", "list"): ("- a\n- b\n* c\n- d", "a, b, c and d"),
    ("steps", "steps"): ("1. a\n2. b\nThen, c\n4. d", "It is 4."),
    ("analogy", "analogy"): ("Imagine it is like a pie.", "It is 4."),
    ("jargon", "technical"): ("The multiplicative commutativity demonstrates equivalence.", "It is two and two."),
    ("second_person", "you"): ("You see that your two and your two make four.", "It is 4."),
    ("formulae", "formulae"): ("a = 1, b = 2, a + b = 3, b - a = 1", "It is 4."),
    ("examples", "examples"): ("For example x, for instance y, such as z.", "It is 4."),
    ("hedging", "careful"): ("Perhaps it might be, maybe.", "It is 4."),
    ("headings", "headings"): ("# Why\nso\n**Result**\n4", "It is 4."),
    ("emoji", "emoji"): ("Good 😀 👍 🎉", "It is 4."),
    ("question", "question"): ("It is 4. Is that clear? ", "It is 4."),
}


@pytest.mark.parametrize(("wish", "texts"), CASES.items(), ids=lambda value: str(value)[:30])
def test_a_wish_has_a_text_graded_five_and_one_graded_one(wish, texts):
    assert [grade(*wish, text) for text in texts] == [5, 1]


def test_opposite_values_get_opposite_grades_on_any_text():
    for name, one in ATTRIBUTES.items():
        ends = [value for value, level in one.values.items() if level in (1, 5)]
        for texts in CASES.values():
            assert sum(grade(name, value, text) for value in ends for text in texts) == 12, name


def test_every_attribute_is_asked_for_by_what_it_is_about_and_only_it():
    for name, one in ATTRIBUTES.items():
        assert asked_about(f"Please say {one.about}?") == [name]
        assert set(one.values) == set(one.wishes)
    assert asked_about("How are you?") == []


def test_no_wish_can_be_read_into_another():
    wishes = [wish for one in ATTRIBUTES.values() for wish in one.wishes.values()]
    assert not [(a, b) for a in wishes for b in wishes if a != b and a in b]


def test_unknown_attributes_and_values_name_the_nearest():
    with pytest.raises(UnknownNameError, match="did you mean 'length'"):
        grade("lenght", "short", "x")
    with pytest.raises(UnknownNameError, match="'long'"):
        grade("length", "lang", "x")


def test_a_level_begins_at_its_threshold():
    for level, n in enumerate((12, 25, 50, 90), start=2):
        assert [ATTRIBUTES["length"].level("word " * words) for words in (n - 1, n)] == [level - 1, level]
    plain = "one two six ten who may see the sky "
    assert ATTRIBUTES["jargon"].level(plain + "elephants") == 1, "nine letters are no jargon"
    assert ATTRIBUTES["jargon"].level(plain + "elephantry") > 1


def test_grades_fall_evenly_to_one_on_the_farthest_level():
    assert [grade("length", "short", "word " * n) for n in (5, 15, 30, 60, 100)] == [5, 4, 3, 2, 1]
    assert [grade("length", "medium", "word " * n) for n in (5, 15, 30, 60, 100)] == [1, 3, 5, 3, 1]


def test_a_question_is_known_in_capitals_too():
    assert asked_about("BULLETS?") == ["bullets"]
