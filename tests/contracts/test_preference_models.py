"""What every model of people must do; a new one joins by one row."""

import numpy as np
import pytest

from penchant.encoders import Attributes
from penchant.errors import DataError, NotFittedError
from penchant.preference import BradleyTerry, Directional
from penchant.records import Comparisons, Ratings, canonical_json


def payload(x):
    return canonical_json({f"x{k}": float(v) for k, v in enumerate(x)})


def votes(n=60, n_users=4, *, seed=0, ties=False):
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        a, b = rng.standard_normal((2, 2))
        if (a - b) @ [2.0, 1.0] < 0:
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


MODELS = {
    "bradley_terry": lambda: BradleyTerry(encoder=Attributes(), l2=1.0, prior_precision=2.0),
    "directional": lambda: Directional(encoder=Attributes()).measure(ratings()),
}


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
    np.testing.assert_allclose(model.probability(own), 1 / (1 + np.exp(rejected - chosen)), atol=1e-9)


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
