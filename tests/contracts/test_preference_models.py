"""What every model of people must do; a new one joins by its row in the table of methods."""

import numpy as np
import pytest

from penchant.encoders import Attributes
from penchant.errors import DataError, NotFittedError
from penchant.methods import METHODS
from penchant.preference import BradleyTerry, PreferenceModel
from penchant.records import Comparisons, Ratings, canonical_json


def payload(x):
    return canonical_json({f"x{k}": float(v) for k, v in enumerate(x)})


def votes(n=60, n_users=4, *, seed=0, ties=False, odd=None):
    """People who agree, all but one."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        a, b = rng.standard_normal((2, 2))
        if (a - b) @ ([2.0, 1.0] if f"u{i % n_users}" != odd else [-1.0, 9.0]) < 0:
            a, b = b, a
        rows.append({"prompt": "q", "chosen": payload(a), "rejected": payload(b), "user": f"u{i % n_users}"})
        if ties:
            rows[-1]["strength"] = 0.5
    return Comparisons.from_rows(rows)


def ratings():
    x = np.random.default_rng(9).standard_normal((40, 2))
    rows = [
        {"prompt": "q", "response": payload(row), "aspect": f"a{k}", "score": row[k] * (k + 1)}
        for row in x
        for k in (0, 1)
    ]
    return Ratings.from_rows(rows)


def learns_from_comparisons(row):
    return isinstance(row.resolve(), type) and issubclass(row.resolve(), PreferenceModel)


def prepared(model):
    """The model, which has measured what it measures, if it does."""
    return model.measure(ratings()) if hasattr(model, "measure") else model


def of_the_table(row):
    return lambda: prepared(row.resolve()(encoder=Attributes()))


MODELS = {row.name: of_the_table(row) for row in METHODS if row.room == "learn" and learns_from_comparisons(row)}
MODELS["bradley_terry, settings given"] = lambda: BradleyTerry(encoder=Attributes(), l2=1.0, prior_precision=2.0)


@pytest.fixture(params=MODELS)
def new(request):
    return MODELS[request.param]


def swapped(comparisons):
    names = [
        "rejected" if n == "chosen" else "chosen" if n == "rejected" else n for n in comparisons.table.column_names
    ]
    return Comparisons(comparisons.table.rename_columns(names))


def test_nothing_is_known_before_fitting(new):
    for ask in (lambda m: m.reward(["q"], ["{}"]), lambda m: m.probability(votes()), lambda m: m.adapt("u", votes())):
        with pytest.raises(NotFittedError):
            ask(new())


def test_fitting_twice_equals_fitting_once_and_forgets_people(new):
    once, twice = new().fit(votes()), new().fit(votes(seed=5))
    twice.adapt("u0", votes().of("u0"))
    twice.fit(votes())
    np.testing.assert_array_equal(once.probability(votes(seed=3)), twice.probability(votes(seed=3)))
    assert twice.users_ == {}


def test_the_better_answer_gets_the_greater_reward_and_probability(new):
    model = new().fit(votes())
    assert model.probability(votes(seed=1)).mean() > 0.75
    low, high = model.reward(["q", "q"], [payload([-1, -1]), payload([1, 1])])
    assert high > low


def test_swapping_the_answers_swaps_the_probability(new):
    model = new().fit(votes())
    model.adapt("u1", votes().of("u1"))
    np.testing.assert_allclose(model.probability(swapped(votes())), 1 - model.probability(votes()), atol=1e-12)


def test_probability_follows_from_the_difference_of_rewards(new):
    model = new().fit(votes())
    model.adapt("u0", votes().of("u0"))
    own = votes(seed=2).of("u0")
    chosen, rejected = (
        model.reward(["q"] * len(own), own.table[side].to_pylist(), user="u0") for side in ("chosen", "rejected")
    )
    probability = model.probability(own)
    if model.probability_is_logistic:
        np.testing.assert_allclose(probability, 1 / (1 + np.exp(rejected - chosen)), atol=1e-9)
    else:  # among people who agree, both at least point to the same answer
        np.testing.assert_array_equal(probability > 0.5, chosen > rejected)


def test_votes_that_are_all_ties_leave_no_preference(new):
    model = new().fit(votes(ties=True))
    np.testing.assert_allclose(model.probability(votes()), 0.5, atol=0.05)


def test_one_person_and_one_vote_are_enough_to_go_on(new):
    model = new().fit(votes(1, 1))
    assert model.adapt("u0", votes(1, 1)).n_pairs == 1
    assert np.isfinite(model.probability(votes())).all()


def test_nothing_to_learn_from_is_a_clear_error_and_nothing_to_predict_is_empty(new):
    with pytest.raises(DataError, match="no comparisons"):
        new().fit(votes().take([]))
    model = new().fit(votes())
    assert model.probability(votes().take([])).shape == model.reward([], []).shape == (0,)


def test_somebody_unknown_is_everybody(new):
    model = new().fit(votes())
    some = (["q"] * 2, [payload([1, 0]), payload([0, 1])])
    np.testing.assert_array_equal(model.reward(*some, user="nobody"), model.reward(*some))


def test_saved_and_loaded_it_predicts_the_same(new, tmp_path):
    model = new().fit(votes())
    model.adapt("u1 é/..", votes().of("u1"))
    model.save(tmp_path / "m")
    again = type(model).load(tmp_path / "m", encoder=Attributes())
    np.testing.assert_array_equal(again.probability(votes()), model.probability(votes()))
    some = (["q"], [payload([1, 0])])
    np.testing.assert_array_equal(again.reward(*some, user="u1 é/.."), model.reward(*some, user="u1 é/.."))


def test_all_people_are_learnt_at_once_as_one_by_one(new):
    at_once, one_by_one = new().fit(votes()), new().fit(votes())
    at_once.adapt_each(votes())
    for user in votes().users:
        one_by_one.adapt(user, votes().of(user))
    require_equal(at_once, one_by_one)
    assert set(at_once.users_) == set(votes().users)
    assert at_once.adapt_each(votes().take([])) is at_once


def require_equal(model, other, tolerance=1e-6):
    """All that was learnt is the same: every array, every number, every person."""
    (arrays, values), (theirs, their_values) = model._state(), other._state()
    assert arrays.keys() == theirs.keys()
    for name, array in arrays.items():
        if not name.startswith("users."):
            np.testing.assert_allclose(array, theirs[name], rtol=0, atol=tolerance, err_msg=name)
    assert values.keys() == their_values.keys()
    for name, value in values.items():
        if isinstance(value, float):
            assert value == pytest.approx(their_values[name], rel=tolerance)
        elif name != "users":
            assert value == their_values[name]
    assert set(model.users_) == set(other.users_)
    for person, known in model.users_.items():
        for name, value in vars(known).items():
            theirs = getattr(other.users_[person], name)
            np.testing.assert_allclose(value, theirs, rtol=0, atol=tolerance, err_msg=f"{person}: {name}")
    np.testing.assert_allclose(model.probability(votes()), other.probability(votes()), rtol=0, atol=tolerance)


@pytest.mark.parametrize("how", ["its own way", "from scratch"])
def test_without_a_person_it_is_the_model_that_never_saw_them(new, how):
    everybody = votes(300, 12, odd="u3")
    others = everybody.take([row for row, user in enumerate(everybody.table["user"].to_pylist()) if user != "u3"])
    model = new().fit(everybody).adapt_each(everybody)
    before = model.probability(everybody)
    without = type(model).without if how == "its own way" else PreferenceModel.without
    again = without(model, "u3", others)
    fresh = new().fit(others).adapt_each(others)
    require_equal(again, fresh)
    assert "u3" not in again.users_
    # The odd one had a say, so that a model which forgot to forget would be found out; and the old one is as it was.
    assert np.abs(model.probability(others) - again.probability(others)).max() > 1e-3
    assert "u3" in model.users_
    np.testing.assert_array_equal(model.probability(everybody), before)


def test_forgetting_twice_or_somebody_unknown_changes_nothing_more(new):
    others = votes(100, 4).take([row for row in range(100) if row % 4 != 1])
    again = new().fit(votes(100, 4)).adapt_each(votes(100, 4)).without("u1", others)
    require_equal(again.without("u1", others), again)
    require_equal(again.without("nobody", others), again)


def test_somebody_who_was_never_adapted_to_is_not_adapted_to_by_forgetting_another(new):
    model = new().fit(votes(100, 4))
    model.adapt("u2", votes(100, 4).of("u2"))
    again = model.without("u1", votes(100, 4).take([row for row in range(100) if row % 4 != 1]))
    assert set(again.users_) == {"u2"}


def test_what_is_left_must_be_of_others_and_something(new):
    model = new().fit(votes())
    with pytest.raises(DataError, match="15 of 60 comparisons are of 'u1'"):
        model.without("u1", votes())
    with pytest.raises(DataError, match="no comparisons"):
        model.without("u1", votes().take([]))
    with pytest.raises(NotFittedError):
        new().without("u1", votes())


def test_a_saved_model_holds_its_people_and_nobody_who_was_forgotten(new, tmp_path):
    named = votes().table
    place = named.schema.get_field_index("user")
    names = ["unmistakable" if user == "u1" else user for user in named["user"].to_pylist()]
    everybody = Comparisons(named.set_column(place, "user", [names]))
    model = new().fit(everybody).adapt_each(everybody)
    model.save(tmp_path)
    model.without("unmistakable", everybody.take([row for row in range(60) if row % 4 != 1])).save(tmp_path)
    files = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert b"u2" in files
    assert b"unmistakable" not in files


def test_a_folder_that_holds_no_model_is_a_clear_error(new, tmp_path):
    model = new().fit(votes())
    with pytest.raises(DataError, match="learn it again"):
        type(model).load(tmp_path, encoder=Attributes())
    model.save(tmp_path)
    with pytest.raises(DataError, match="encoder"):
        type(model).load(tmp_path, encoder=Attributes(["x0", "x1"]))
    (tmp_path / "model.safetensors").write_bytes(b"broken")
    with pytest.raises(DataError, match="learn it again"):
        type(model).load(tmp_path, encoder=Attributes())


def test_a_payload_that_cannot_be_encoded_is_named(new):
    model = new().fit(votes())
    with pytest.raises(DataError):
        model.reward(["q"], ['{"x0": NaN, "x1": 1}'])
    with pytest.raises(DataError):
        model.reward(["q"], ['{"x0": 1}'])
