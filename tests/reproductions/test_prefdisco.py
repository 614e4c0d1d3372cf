"""The reproduction of PrefDisco: its world, its composer and a verdict that can be false."""

import json

import numpy as np
import pytest

from penchant.evaluate.attributes import ATTRIBUTES, grade
from penchant.evaluate.discovery import MODES
from penchant.reproductions import prefdisco
from penchant.reproductions.forms_of_answers import composed, people_of_kinds


def test_the_composer_realises_each_wish_and_no_other():
    usual = composed("12", frozenset())
    for name, one in ATTRIBUTES.items():
        for value in one.values:
            text = composed("12", frozenset({(name, value)}))
            assert grade(name, value, text) == 5, (name, value)
            others = [other for other in ATTRIBUTES if other != name]
            changed = [other for other in others if ATTRIBUTES[other].level(text) != ATTRIBUTES[other].level(usual)]
            assert set(changed) <= {"length"}, (name, value)  # what is added takes room


def test_people_of_a_kind_want_much_the_same_and_others_do_not():
    def shared(n_kinds):
        _, tastes = people_of_kinds(200, n_kinds, np.random.default_rng(0))
        sets = [set(one.items()) for one in tastes.values()]
        assert {len(one) for one in sets} <= {5, 6}
        return np.mean([len(a & b) for a in sets[:60] for b in sets[60:120]])

    assert shared(1) > 4 > shared(4) > 1.3 * shared(0)


def one_run(shift, *, prior=4.0, talked=2.0, others=3.0):
    place = {
        "baseline": [2.0] * 20,
        "oracle": [5.0] * 20,
        "policies": {
            "random": {"3": [3.0 + shift] * 20},
            "most frequent": {"3": [3.2] * 20},
            "prior-guided": {"3": [prior + shift * (n % 3) for n in range(20)]},
        },
        "people": [f"p{n // 2}" for n in range(20)],
        "ends": [0.0, 100.0],
        "right": 1.0,
        "heard": dict.fromkeys(prefdisco.POLICIES, 0.5),
    }
    about = {"correct": True, "interaction_turns": 1, "malformed_turns": 0, "failures": [], "preferences_expressed": []}
    talks = [
        {"model": "m", "problem_id": str(n), "persona_id": "u", "mode": mode, "weighted_score": score,
         "preferences": {"length": ["short", 1.0]}, **about}
        for n in range(20)
        for mode, score in zip(MODES.values(), (3.0, talked if n % 2 else others, 4.0), strict=True)
    ]  # fmt: skip
    return {"kinds": place, "no kinds": place, "talks": talks}


@pytest.mark.parametrize(
    ("change", "holds"), [({}, True), ({"prior": 3.0}, False), ({"talked": 3.0}, False), ({"others": 3.5}, False)]
)
def test_the_verdict_needs_both_claims_ties_are_no_losses_and_gains_weigh_against_them(change, holds):
    runs = [one_run(shift, **change) for shift in (-0.01, 0.0, 0.01)]
    found = prefdisco.verdict(runs)
    assert found.holds is holds
    assert found.baseline == pytest.approx(100 / 3)
    if not change:
        assert found.interval.estimate == pytest.approx(100 / 3, abs=0.5)
        assert "50.0 %" in " ".join(found.notes)


def test_a_claim_that_was_not_run_does_not_hold():
    runs = [one_run(shift) | {"talks": []} for shift in (-0.01, 0.0, 0.01)]
    found = prefdisco.verdict(runs)
    assert not found.holds
    assert "B holds" in " ".join(found.notes)


def test_the_verdict_refuses_a_scale_whose_ends_are_not_exact():
    runs = [one_run(shift) for shift in (-0.01, 0.0, 0.01)]
    runs[1]["kinds"]["ends"] = [0.0, 99.0]
    assert not prefdisco.verdict(runs).holds


def test_a_tiny_world_has_exact_ends_and_says_the_same_twice():
    first, again = (prefdisco.run(1007, "tiny", lambda line: None) for _ in range(2))
    assert json.loads(json.dumps(first)) == again
    assert first["kinds"]["ends"] == pytest.approx([0.0, 100.0], abs=1e-9)
    assert first["talks"] == []
    assert first["kinds"]["right"] == 1.0
    found = prefdisco.verdict([first, again])
    assert "A was not run" in " ".join(found.notes)
    assert prefdisco.figure([first, again]).axes
