"""What any model has learnt of a person can be looked at, changed by hand, and deleted to the last byte."""

from dataclasses import asdict

import numpy as np
import pytest
from contracts.test_preference_models import MODELS, votes

from penchant.encoders import Attributes
from penchant.errors import SettingsError, UnknownNameError
from penchant.preference.votes import of_people


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


def numbers_of(profile):
    """The bytes of every number of a profile that is no round one."""
    arrays = [np.ravel(value) for value in asdict(profile).values() if isinstance(value, np.ndarray | float)]
    return {number.tobytes() for array in arrays for number in array if number != np.round(number, 3)}


def test_after_deletion_no_byte_of_the_person_is_left_in_the_files(new, tmp_path):
    everybody = votes(60, 4, odd="u3")
    model = new().fit(everybody).adapt_each(everybody)
    theirs = numbers_of(model.users_["u3"])
    never = new().fit(everybody).adapt_each(of_people(everybody, ["u0", "u1", "u2"]))

    def contents(model, name):
        model.save(tmp_path / name)
        return b"".join(path.read_bytes() for path in (tmp_path / name).rglob("*") if path.is_file())

    without = contents(never, "never")
    theirs = {number for number in theirs if number not in without}
    before = contents(model, "model")
    assert theirs, "nothing was learnt of the person that could be looked for"
    assert all(number in before for number in theirs)
    del model.users_["u3"]
    after = contents(model, "model")
    assert not any(number in after for number in theirs)
    assert b"u3" not in after
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
