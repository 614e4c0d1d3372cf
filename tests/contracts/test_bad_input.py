"""What people bring that is odd: every model of the table has a clear answer to it, quickly."""

import numpy as np
import pyarrow as pa
import pytest
from contracts.test_preference_models import MODELS, payload, votes

from penchant.errors import DataError
from penchant.records import Comparisons

MANY = 100_000


@pytest.fixture(params=MODELS)
def new(request):
    return MODELS[request.param]


def row(chosen, rejected, user="u0", **columns):
    return {"prompt": "q", "chosen": payload(chosen), "rejected": payload(rejected), "user": user, **columns}


def learnt_and_asked(model, comparisons):
    """A model that reads texts as they are meets the numbers in them only when it is asked."""
    model.adapt("u0", comparisons)
    model.probability(comparisons)


def test_somebody_unknown_is_predicted_like_everybody_and_it_can_be_asked_who_is_known(new):
    model = new().fit(votes()).adapt_each(votes())
    assert model.knows("u1")
    assert not model.knows("nobody")
    assert not model.knows(None)
    strangers = Comparisons(
        votes(seed=1).table.set_column(votes().table.schema.get_field_index("user"), "user", [["x"] * 60])
    )
    nobody = Comparisons(
        strangers.table.set_column(
            strangers.table.schema.get_field_index("user"), "user", pa.nulls(60, pa.string()).cast(pa.string())
        )
    )
    np.testing.assert_array_equal(model.probability(strangers), model.probability(nobody))


def test_somebody_who_always_wants_the_same_is_believed_but_not_without_bound(new):
    one_sided = [row([1.0, 0.1 * k], [-1.0, -0.1 * k]) for k in range(30)]
    model = new().fit(votes())
    model.adapt("u0", Comparisons.from_rows(one_sided))
    known = model.probability(Comparisons.from_rows(one_sided))
    assert np.isfinite(known).all()
    assert (known > 0.5).all()
    both = model.reward(["q", "q"], [payload([1, 0]), payload([-1, 0])], user="u0")
    assert np.isfinite(both).all()


def test_votes_that_contradict_each_other_leave_a_person_undecided_about_them(new):
    pair = ([1.0, -0.5], [-1.0, 0.5])
    both_ways = [row(*pair), row(*pair[::-1])] * 15
    model = new().fit(Comparisons.from_rows(both_ways))
    model.adapt("u0", Comparisons.from_rows(both_ways))
    np.testing.assert_allclose(model.probability(Comparisons.from_rows(both_ways)), 0.5, atol=0.1)


def test_a_feature_that_never_varies_changes_no_prediction(new):
    plain = votes(120)
    names = plain.table.column_names
    model = new()
    if hasattr(model, "measure"):
        pytest.skip("measures its own features, of ratings")
    constant = Comparisons(
        pa.table(
            {
                name: [
                    text[:-1] + ',"x2":7.0}' if name in ("chosen", "rejected") else text
                    for text in plain.table[name].to_pylist()
                ]
                for name in names
                if plain.table[name].null_count < len(plain)
            }
        )
    )
    fitted = new().fit(constant).adapt_each(constant)
    assert np.isfinite(fitted.probability(constant)).all()
    assert (fitted.probability(constant) > 0.5).mean() > 0.7


@pytest.mark.parametrize("value", ["NaN", "Infinity"])
def test_numbers_that_are_none_are_refused_with_where_they_are(new, value):
    rows = votes(20).table.select(["prompt", "chosen", "rejected", "user"]).to_pylist()
    rows[7]["chosen"] = f'{{"x0": {value}, "x1": 1.0}}'
    broken = Comparisons.from_rows(rows)
    with pytest.raises(DataError, match=r"of .* payloads"):
        new().fit(broken)
    model = new().fit(votes())
    with pytest.raises(DataError, match=r"of .* payloads"):
        learnt_and_asked(model, broken)
    with pytest.raises(DataError, match=r"of .* payloads"):
        model.probability(broken)


def test_one_person_alone_is_learnt_from(new):
    alone = votes(60, 1)
    model = new().fit(alone).adapt_each(alone)
    assert model.probability(votes(60, 1, seed=1)).mean() > 0.6


def test_rows_of_nobody_teach_everybody_and_nobody_in_particular(new):
    named = votes()
    place = named.table.schema.get_field_index("user")
    nameless = Comparisons(named.table.set_column(place, "user", pa.nulls(60, pa.string())))
    model = new().fit(nameless).adapt_each(nameless)
    assert len(model.users_) == 0
    assert model.probability(votes(seed=1)).mean() > 0.6


def test_a_hundred_thousand_people_with_one_comparison_each(new):
    rng = np.random.default_rng(0)
    texts = [payload(x) for x in rng.standard_normal((500, 2)).round(3)]
    first = rng.integers(500, size=MANY)
    second = (first + rng.integers(1, 500, size=MANY)) % 500
    worth = np.array([float(text.split(":")[1].split(",")[0]) for text in texts])
    better, worse = (
        np.where(worth[first] > worth[second], first, second),
        np.where(worth[first] > worth[second], second, first),
    )
    many = Comparisons(
        pa.table(
            {
                "prompt": pa.array(["q"] * MANY),
                "chosen": pa.array(texts).take(pa.array(better)),
                "rejected": pa.array(texts).take(pa.array(worse)),
                "user": pa.array([f"u{i}" for i in range(MANY)]),
            }
        )
    )
    model = new().fit(many).adapt_each(many)
    assert len(model.users_) == MANY
    probability = model.probability(many)
    assert np.isfinite(probability).all()
    assert (probability > 0.5).mean() > 0.9
