"""What is measured of responses: heads from ratings with gaps, on a scale that stays."""

import numpy as np
import pytest

from penchant.encoders import Attributes
from penchant.errors import DataError
from penchant.preference.measures import Heads, Standardisation
from penchant.records import Ratings, canonical_json


def test_standardisation_is_that_of_the_first_samples_and_an_axis_without_spread_is_named():
    first = np.array([[0.0, 10.0], [2.0, 30.0]])
    frozen = Standardisation.of(first, ("good", "long"))
    assert frozen(np.array([[3.0, 20.0]])).tolist() == [[2.0, 0.0]]
    with pytest.raises(DataError, match="Axis long: the same score for all 2"):
        Standardisation.of(np.array([[0.0, 1.0], [2.0, 1.0]]), ("good", "long"))


def test_a_tiny_scale_is_no_flat_axis_and_rounding_is_no_spread():
    Standardisation.of(np.array([[1e-12], [3e-12]]), ["small"])
    with pytest.raises(DataError, match="rounded"):
        Standardisation.of(np.array([[0.1 + 0.2], [0.3]]), ["rounded"])


def rated(x, aspects):
    rows = [
        {"prompt": "", "response": canonical_json({"a": float(a), "b": float(b)}), "aspect": name, "score": score}
        for name, weights, every in aspects
        for (a, b), score in list(zip(x, x @ weights + 7, strict=True))[::every]
    ]
    return Ratings.from_rows(rows)


def test_a_head_is_the_least_squares_fit_to_the_ratings_that_are_there():
    x = np.random.default_rng(0).standard_normal((40, 2))
    ratings = rated(x, [("kind", np.array([2.0, -1.0]), 1), ("long", np.array([0.0, 3.0]), 3)])
    heads, vectors = Heads.learnt(Attributes(), ratings, l2=1e-9)
    assert heads.names == ("kind", "long")
    np.testing.assert_allclose(
        heads(vectors), np.stack([vectors @ [2.0, -1.0], vectors @ [0.0, 3.0]], axis=1) + 7, atol=1e-5
    )
    again = Heads.restored(heads.arrays(), heads.names)
    np.testing.assert_array_equal(again(vectors), heads(vectors))


def test_ratings_without_an_aspect_and_vectors_of_another_length_are_refused():
    nameless = Ratings.from_rows([{"prompt": "", "response": '{"a":1}', "score": 1.0}])
    with pytest.raises(DataError, match="1 of 1 do not"):
        Heads.learnt(Attributes(), nameless, l2=1.0)
    heads, _ = Heads.learnt(Attributes(), rated(np.eye(2), [("kind", np.ones(2), 1)]), l2=1.0)
    with pytest.raises(DataError, match="3 numbers"):
        heads(np.zeros((1, 3)))
