"""The reproduction of dissected preferences: its worlds and a verdict that can be false."""

import numpy as np
import pytest

from penchant.reproductions import preference_dissection as reproduction


def one_run(shift=0.0, *, known=0.9, covered=0.95, gap=0.1):
    many = [known + shift] * 20
    simulated = {
        "ours": many,
        "logistic, L2": [0.8] * 20,
        "covered": [covered + shift] * 20,
        "covered nonzero": 0.8,
        "covered from prior": [0.95] * 20,
        "accuracy": {"ours": [0.7]},
        "r_hat": 1.0,
        "effective": 1000.0,
    }
    published = {
        "scenarios": 7,
        "within": {"small": 0.8, "large": 0.9},
        "inside": 0.7 + gap,
        "across": 0.7,
        "chance": 0.05,
        "p": 0.001,
        "tuned": [0.87, 11],
        "severe": {"human": 0.6, "gpt-4-1106-preview": 0.75},
    }
    return {"simulated": simulated, "published": published, "real": None}


@pytest.mark.parametrize(
    ("change", "holds"), [({}, True), ({"known": 0.7}, False), ({"covered": 0.8}, False), ({"gap": 0.01}, False)]
)
def test_the_verdict_needs_every_part(change, holds):
    found = reproduction.verdict([one_run(**change), one_run(0.005, **change)])
    assert found.holds is holds
    assert any("C was not run" in note for note in found.notes)


def test_judges_care_about_nine_properties_and_pairs_are_correlated_signs():
    rng = np.random.default_rng(0)
    assert ((reproduction.judges(5, rng) != 0).sum(axis=1) == 9).all()
    x = reproduction.pairs(4000, rng)
    assert set(np.unique(x)) == {-1, 0, 1}
    assert 0.1 < np.corrcoef(x.T)[0, 1] < 0.4
