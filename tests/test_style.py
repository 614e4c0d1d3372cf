"""Style: each number moves with what it is named after, and stays finite on anything."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penchant.style import Style, said

PLAIN = "The shop opens late. The bus is slow. Take a coat along."


@pytest.mark.parametrize(
    ("column", "text"),
    [
        ("words", PLAIN + " " + PLAIN),
        ("sentence_length", PLAIN.replace(". T", " and t")),
        ("lists", "- " + PLAIN.replace(". ", ".\n- ")),
        ("exclamations", PLAIN.replace(".", "!")),
        ("questions", PLAIN.replace(".", "?")),
        ("numbers", PLAIN + " 12 34"),
        ("you", PLAIN + " You do."),
        ("first_person", PLAIN + " I do."),
        ("hedges", PLAIN + " Maybe."),
        ("warmth", PLAIN + " Enjoy."),
        ("long_words", PLAIN.replace("shop", "establishment")),
    ],
)
def test_a_text_with_more_of_something_has_the_larger_number(column, text):
    plain, more = Style().encode([PLAIN, text])[:, Style.columns.index(column)]
    assert more > plain


@given(st.lists(st.text(), max_size=5))
def test_any_text_has_finite_numbers(texts):
    assert np.isfinite(Style().encode(texts)).all()


def test_the_two_ends_of_a_column_are_said_differently():
    for column in Style.columns:
        assert said(column, 1.0) != said(column, -1.0)
