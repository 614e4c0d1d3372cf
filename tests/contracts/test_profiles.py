"""What any model has learnt of a person can be looked at, changed by hand, and deleted to the last byte."""

from dataclasses import asdict

import numpy as np
import pytest
from contracts.test_preference_models import MODELS, votes

from penchant.encoders import Attributes
from penchant.errors import SettingsError, UnknownNameError
from penchant.preference.votes import of_people
from penchant.records import Comparisons


@pytest.fixture(params=MODELS)
def new(request):
    return MODELS[request.param]


def test_a_profile_is_numbers_and_has_as_many_names_as_numbers_or_none(new):
    model = new().fit(votes()).adapt_each(votes())
    for field, value in asdict(model.users_["u1"]).items():
        assert isinstance(value, np.ndarray | float | int | bool | str), field
        if isinstance(value, np.ndarray) and value.ndim == 1:
            assert len(model.names(field)) in (0, len(value)), field


def test_a_profile_written_back_as_it_was_changes_nothing(new):
    model = new().fit(votes()).adapt_each(votes())
    before = model.probability(votes())
    plain = {name: getattr(value, "tolist", lambda v=value: v)() for name, value in asdict(model.users_["u1"]).items()}
    model.edit("u1", **plain)
    np.testing.assert_allclose(model.probability(votes()), before, rtol=0, atol=1e-12)


def test_what_means_nothing_is_refused_and_the_profile_stays(new):
    model = new().fit(votes()).adapt_each(votes())
    before = asdict(model.users_["u1"])
    arrays = {
        name: value for name, value in before.items() if isinstance(value, np.ndarray) and value.dtype.kind == "f"
    }
    for name, value in arrays.items():
        for wrong in (np.full(value.shape, np.nan).tolist(), [0.0] * (value.size + 1), "much"):
            with pytest.raises(SettingsError, match=name):
                model.edit("u1", **{name: wrong})
    with pytest.raises(UnknownNameError, match="n_pairs"):
        model.edit("u1", n_pair=3)
    with pytest.raises(UnknownNameError, match="'u1'"):
        model.edit("u11", n_pairs=3)
    for name, value in asdict(model.users_["u1"]).items():
        np.testing.assert_array_equal(value, before[name])


def bytes_of(profile):
    """The bytes of every number of a profile that is no round one, and of every text."""
    arrays = [np.ravel(value) for value in asdict(profile).values() if isinstance(value, np.ndarray | float)]
    numbers = {one.tobytes() for array in arrays if array.dtype.kind == "f" for one in array if one != np.round(one, 3)}
    return numbers | {array.tobytes().rstrip(b"\0")[:40] for array in arrays if array.dtype.kind == "u" and array.any()}


def test_after_deletion_no_byte_of_the_person_is_left_in_the_files(new, tmp_path):
    named = votes(60, 4, odd="u3").table
    names = ["unmistakable" if user == "u3" else user for user in named["user"].to_pylist()]
    everybody = Comparisons(named.set_column(named.schema.get_field_index("user"), "user", [names]))
    model = new().fit(everybody).adapt_each(everybody)
    never = new().fit(everybody).adapt_each(of_people(everybody, ["u0", "u1", "u2"]))

    def contents(model, name):
        model.save(tmp_path / name)
        return b"".join(path.read_bytes() for path in (tmp_path / name).rglob("*") if path.is_file())

    without = contents(never, "never")
    theirs = {part for part in bytes_of(model.users_["unmistakable"]) if part not in without}
    before = contents(model, "model")
    assert b"unmistakable" in before
    assert all(part in before for part in theirs)
    del model.users_["unmistakable"]
    after = contents(model, "model")
    assert b"unmistakable" not in after
    assert not any(part in after for part in theirs)
    assert len(after) == len(without)


def test_whoever_is_deleted_is_predicted_like_everybody_and_others_as_before(new, tmp_path):
    model = new().fit(votes()).adapt_each(votes())
    others = of_people(votes(), ["u0", "u2", "u3"])
    before = model.probability(others)
    del model.users_["u1"]
    model.save(tmp_path)
    again = type(model).load(tmp_path, encoder=Attributes())
    assert not again.knows("u1")
    np.testing.assert_array_equal(again.probability(others), before)
