"""What is known of people besides their choices: it helps where it tells something, and changes nothing where not."""

import numpy as np
import pytest

from penchant.encoders import Attributes
from penchant.errors import DataError
from penchant.preference import BradleyTerry
from penchant.preference.user_features import UserFeatures, columns_of
from penchant.records import Comparisons, canonical_json


def votes(tastes, n_each=40, seed=0):
    """People who vote by their taste between random payloads."""
    rng = np.random.default_rng(seed)
    rows = []
    for person, taste in enumerate(tastes):
        for _ in range(n_each):
            sides = rng.standard_normal((2, len(taste)))
            if rng.random() > 1 / (1 + np.exp(-(sides[0] - sides[1]) @ np.array(taste))):
                sides = sides[::-1]
            chosen, rejected = (canonical_json({f"x{k}": float(v) for k, v in enumerate(side)}) for side in sides)
            rows.append({"prompt": "", "chosen": chosen, "rejected": rejected, "user": f"p{person}"})
    return Comparisons.from_rows(rows)


TASTES = [[1.0, 2.0], [1.0, -2.0]] * 15
CLUB = {f"p{i}": {"club": ("red", "blue")[i % 2]} for i in range(len(TASTES) + 2)}


@pytest.fixture(scope="module")
def model():
    return UserFeatures(encoder=Attributes(), features=CLUB).fit(votes(TASTES))


def test_the_tastes_of_a_kind_of_people_are_found_again(model):
    for user, taste in (("p0", TASTES[0]), ("p31", TASTES[1])):  # one of those learnt from, and one never seen
        described = model.adapt(user, votes([]) if user == "p31" else votes(TASTES).of(user))
        weights = (model.weights_ + described.features @ model.interaction_) / model.scale_
        np.testing.assert_allclose(weights, taste, atol=0.35)


def test_people_of_a_kind_are_the_same_and_whoever_is_unknown_is_like_everybody(model):
    some = (["q"] * 2, ['{"x0": 1, "x1": 0}', '{"x0": 0, "x1": 1}'])
    for user in ("p0", "p2", "p1"):
        model.adapt(user, votes([]))
    np.testing.assert_array_equal(model.reward(*some, user="p0"), model.reward(*some, user="p2"))
    assert np.abs(model.reward(*some, user="p0") - model.reward(*some, user="p1")).max() > 1
    np.testing.assert_array_equal(model.reward(*some, user="nobody"), model.reward(*some))
    model.adapt("stranger", votes([]))
    np.testing.assert_allclose(model.reward(*some, user="stranger"), model.reward(*some))


def test_features_that_tell_nothing_leave_one_model_for_all():
    rng = np.random.default_rng(3)
    idle = {f"p{i}": {"coin": str(rng.integers(2)), "age": float(rng.integers(18, 80))} for i in range(30)}
    alike = votes([[1.0, 2.0]] * 30)
    model = UserFeatures(encoder=Attributes(), features=idle).fit(alike).adapt_each(alike)
    pooled = BradleyTerry(encoder=Attributes()).fit(alike)
    assert np.abs(model.probability(alike) - pooled.probability(alike)).mean() < 0.02


def test_saved_and_loaded_it_predicts_the_same_of_the_people_it_was_adapted_to(model, tmp_path):
    model.adapt_each(votes(TASTES))
    model.save(tmp_path)
    again = UserFeatures.load(tmp_path, encoder=Attributes())
    np.testing.assert_array_equal(again.probability(votes(TASTES)), model.probability(votes(TASTES)))
    assert len(again.names("features")) == len(again.users_["p0"].features)


def test_numbers_stay_numbers_words_become_columns_and_what_everybody_shares_is_left_out():
    people = [{"age": 20 + i, "job": ("cook", "nurse")[i % 2], "planet": "earth"} for i in range(6)]
    assert columns_of(people) == [("age", None), ("job", "cook"), ("job", "nurse")]
    assert columns_of([{"job": f"job {i}"} for i in range(9)]) == [], "a word of one person tells nothing of others"


def test_nothing_known_is_a_sentence_that_helps():
    with pytest.raises(DataError, match="0 of 30 are in the table of people"):
        UserFeatures(encoder=Attributes(), features={}).fit(votes(TASTES))
