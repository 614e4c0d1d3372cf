"""What people compared by name is not taken for texts, and its strengths are those of Bradley and Terry."""

import numpy as np

from penchant.apps.names import are_names, items_of, of_names
from penchant.encoders import Items
from penchant.evaluate.held_out import by_time
from penchant.preference import BradleyTerry
from penchant.records import Comparisons

STRENGTH = {"alpha": 2.0, "beta": 0.5, "gamma": -0.5, "delta": -2.0}


def votes(n=1500, users=10, seed=0):
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        first, second = rng.choice(list(STRENGTH), 2, replace=False).tolist()
        if rng.random() > 1 / (1 + np.exp(STRENGTH[second] - STRENGTH[first])):
            first, second = second, first
        rows.append({"prompt": f"q{i}", "chosen": first, "rejected": second, "user": f"u{i % users}"})
    return Comparisons.from_rows(rows)


def test_names_are_told_from_texts():
    assert are_names(votes())
    texts = [{"prompt": "q", "chosen": f"A whole answer of some words, {i}.", "rejected": f"No {i}."} for i in range(9)]
    assert not are_names(Comparisons.from_rows(texts))
    once = [{"prompt": "q", "chosen": f"a{i}", "rejected": f"b{i}"} for i in range(9)]
    assert not are_names(Comparisons.from_rows(once)), "short answers that were judged once are answers"


def test_a_linear_reward_on_items_finds_their_strengths():
    model = BradleyTerry(encoder=Items(items_of(votes())), l2=1e-3, prior_precision=1e4).fit(votes())
    logits = model.weights_ / model.scale_
    found = dict(zip(items_of(votes()), logits - logits.mean(), strict=True))
    for name, strength in STRENGTH.items():
        assert abs(found[name] - strength) < 0.35


def test_the_section_names_the_strongest_first_and_says_that_nothing_can_be_steered():
    data, section = of_names(votes(), by_time, "votes.csv", "1500 rows.")
    assert [row[0] for row in section.tables[1].rows] == list(STRENGTH)
    assert "4 names, not texts" in section.paragraphs[1]
    assert data["people"] == 10
    assert abs(data["gain"][0]) < 0.03, "these people do not differ"
