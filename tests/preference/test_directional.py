"""Directional: attributes are measured, a person's direction is found, and thin evidence changes nobody."""

import numpy as np
import pytest

from penchant.encoders import Attributes
from penchant.errors import DataError, NotFittedError, SettingsError
from penchant.preference import Directional
from penchant.preference.directional import directions, unit
from penchant.records import Comparisons, Ratings, canonical_json

MIX = np.array([[2.0, 0.5, 0.0], [0.0, -0.3, 1.0]])  # how the two attributes follow from three features


def payload(x):
    return canonical_json({f"x{k}": float(v) for k, v in enumerate(x)})


def rated(n=400, *, missing=0.4, noise=0.05, seed=0, scale=(1.0, 10.0)):
    rng = np.random.default_rng(seed)
    rows = []
    for x in rng.standard_normal((n, 3)):
        for aspect, row, s in zip(("helpful", "verbose"), MIX, scale, strict=True):
            if rng.random() > missing:
                score = s * (row @ x + noise * rng.standard_normal()) + 50
                rows.append({"prompt": "", "response": payload(x), "aspect": aspect, "score": score})
    return Ratings.from_rows(rows)


def voter(direction, n, *, seed=0, decisive=3.0, user="ann"):
    """Votes along a direction of the two standardised attributes."""
    rng = np.random.default_rng(seed)
    sd = np.linalg.norm(MIX, axis=1)
    rows = []
    for _ in range(n):
        first, second = rng.standard_normal((2, 3))
        logit = decisive * np.dot(direction, MIX @ (first - second) / sd)
        if rng.random() > 1 / (1 + np.exp(-logit)):
            first, second = second, first
        rows.append({"prompt": "", "chosen": payload(first), "rejected": payload(second), "user": user})
    return Comparisons.from_rows(rows)


def at(degrees):
    return np.array([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))])


@pytest.fixture(scope="module")
def model():
    return Directional(encoder=Attributes()).measure(rated()).fit(voter(at(0), 300))


def test_attributes_with_missing_ratings_are_measured_on_the_raters_scale(model):
    x = np.random.default_rng(5).standard_normal((50, 3))
    measured = model.attributes([""] * 50, [payload(row) for row in x])
    np.testing.assert_allclose(measured, x @ MIX.T * [1.0, 10.0] + 50, atol=0.5)


def test_axes_are_standardised_so_that_a_wide_scale_does_not_decide(model):
    x = np.random.default_rng(6).standard_normal((2000, 3))
    np.testing.assert_allclose(model.scores([""] * 2000, [payload(row) for row in x]).std(axis=0), 1.0, atol=0.12)


def test_everybodys_direction_and_decisiveness_are_found(model):
    assert np.degrees(np.arccos(model.direction_ @ at(0))) < 8
    assert 2.0 < model.decisiveness_ < 4.5


@pytest.mark.parametrize("degrees", [-120, -45, 60, 90])
def test_a_persons_direction_is_found_and_its_cone_holds_it(model, degrees):
    found = model.adapt("ann", voter(at(degrees), 40, seed=degrees % 7))
    off = np.degrees(np.arccos(np.clip(found.direction @ at(degrees), -1, 1)))
    assert found.is_own
    assert off < 20
    assert off < 2 * found.angle95


def test_more_votes_make_surer(model):
    few, many = (model.adapt("ann", voter(at(60), n)).angle95 for n in (5, 60))
    assert many < few / 2


def test_thin_evidence_leaves_a_person_with_everybodys_direction(model):
    one = model.adapt("ann", voter(at(20), 1, seed=2))
    none = model.adapt("bob", voter(at(20), 1).take([]))
    for found in (one, none):
        assert not found.is_own
        np.testing.assert_array_equal(found.direction, model.direction_)
    assert none.log_evidence == pytest.approx(0.0, abs=1e-9)


def test_attributes_are_measured_again_without_the_ratings_of_whoever_is_forgotten():
    def by(user, seed, scale):
        rows = rated(60, seed=seed, scale=scale).table.to_pylist()
        return Ratings.from_rows([row | {"user": user} for row in rows])

    theirs, own = by("bob", 0, (1.0, 10.0)), by("ann", 1, (-1.0, 3.0))
    shared = Ratings.from_rows([row | {"user": "ann", "score": 99.0} for row in theirs.table.to_pylist()[:9]])
    votes = Comparisons.concat([voter(at(30), 20, user="bob"), voter(at(200), 20, user="ann", seed=3)])
    model = (
        Directional(encoder=Attributes()).measure(Ratings.concat([theirs, own, shared])).fit(votes).adapt_each(votes)
    )
    again = model.without("ann", votes.of("bob"), ratings=theirs)
    fresh = Directional(encoder=Attributes()).measure(theirs).fit(votes.of("bob")).adapt_each(votes.of("bob"))
    assert np.abs(model.heads_.weights - fresh.heads_.weights).max() > 0.1
    for name, array in again._state()[0].items():
        np.testing.assert_allclose(array, fresh._state()[0][name], rtol=0, atol=1e-9, err_msg=name)


def test_three_axes_are_served_by_draws_from_the_sphere():
    every = directions(3)
    np.testing.assert_allclose(np.linalg.norm(every, axis=1), 1.0)
    np.testing.assert_allclose(every.mean(axis=0), 0.0, atol=0.02)


def test_a_named_axis_mixes_attributes():
    axes = {"good": {"helpful": 1.0, "verbose": -0.1}}
    model = Directional(encoder=Attributes(), axes=axes).measure(rated())
    assert model.axes_ == ["good"]
    x = np.random.default_rng(0).standard_normal((20, 3))
    raw = model.attributes([""] * 20, [payload(row) for row in x]) @ [1.0, -0.1]
    along = model.along([1.0], [""] * 20, [payload(row) for row in x])
    assert np.corrcoef(raw, along)[0, 1] > 0.999


@pytest.mark.parametrize(
    ("vector", "message"),
    [([0.0, 0.0], "cannot be zero"), ([3.0, 4.0], r"\[0.6, 0.8\]"), ([1.0], "2 finite"), ([np.nan, 1.0], "2 finite")],
)
def test_a_direction_that_is_none_is_refused_with_what_it_would_be(vector, message):
    with pytest.raises(SettingsError, match=message):
        unit(vector, 2)


def test_what_cannot_be_measured_is_refused():
    with pytest.raises(DataError, match="nobody rated"):
        Directional(encoder=Attributes(), axes={"x": {"humour": 1.0}}).measure(rated(20))
    flat = Ratings.from_rows(
        [{"prompt": "", "response": payload([i, 0, 0]), "aspect": "a", "score": 7.0} for i in range(5)]
    )
    with pytest.raises(DataError, match="the same score for all"):
        Directional(encoder=Attributes()).measure(flat)
    with pytest.raises(DataError, match="aspect"):
        Directional(encoder=Attributes()).measure(Ratings.from_rows([{"prompt": "", "response": "{}", "score": 1}]))
    with pytest.raises(NotFittedError, match="measure"):
        Directional(encoder=Attributes()).fit(voter(at(0), 3))
