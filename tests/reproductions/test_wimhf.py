"""The made-up answers are what they say, and every part of the claim can fail."""

import copy
import json

import numpy as np
import pytest

from penchant.evaluate.explain import apart
from penchant.reproductions import wimhf


@pytest.fixture(scope="module")
def made():
    return wimhf.world(12, np.random.default_rng(0))


def test_an_answer_says_what_it_has_and_nothing_else(made):
    for text, has in zip(made.texts, made.has, strict=True):
        for (_, wordings), present in zip(wimhf._ATTRIBUTES.items(), has, strict=True):
            assert sum(wording in text for wording in wordings) == present


def test_pairs_are_of_one_question_and_questions_are_held_out_whole(made):
    assert len(made.first) == 12 * wimhf._PAIRS
    assert (made.first // wimhf._ANSWERS == made.question).all()
    assert (made.second // wimhf._ANSWERS == made.question).all()
    parts = apart(made.question, made.first, made.second, seed=0)
    assert not set(made.question[parts.learn]) & set(made.question[parts.held_out])


def test_votes_follow_the_taste(made):
    big = wimhf.world(300, np.random.default_rng(1))
    won = big.votes({0: 3.0}, np.random.default_rng(2))
    assert won[big.differs[:, 0] > 0].mean() > 0.9
    assert won[big.differs[:, 0] < 0].mean() < 0.1
    assert 0.35 < won[big.differs[:, 0] == 0].mean() < 0.65


def test_a_feature_that_is_an_attribute_is_matched_and_noise_is_not(made):
    truth = made.differs
    features = np.column_stack(
        [truth[:, 3] * -2, np.random.default_rng(0).standard_normal(len(truth)), 0 * truth[:, 0]]
    )
    found = wimhf.matched(features, truth)
    assert found[3] == pytest.approx(1.0)
    assert np.delete(found, 3).max() < 0.6


def a_run(**other):
    run = {
        "areas": {"sparse": 0.78, "principal components": 0.75, "dense": 0.75, "built-in phrases": 0.7, "length": 0.55,
                  "black box": 0.8},
        "share": 0.9,
        "length_share": 0.15,
        "matched": {"sparse": [0.9] * 12, "principal components": [0.6] * 12, "dense": [0.5] * 12,
                    "built-in phrases": [0.7] * 12},
        "reasons": [{"attribute": "jokes", "weight": 1.0, "least": 0.5}] * 3,
        "named": {"fidelity": [0.5] * 32, "kept": 12, "dead": 0, "names": {}},
        "people": {"scores": [[0.5, -1.0] * 15, [1.0, 0.5] * 15], "owners": [f"p{k}" for k in range(30)],
                   "share_worse": 0.1, "subjective": 3},
        "changed": {"rows": 0.1, "before": [0.4, 0.6], "after": [-0.7, -0.4], "target": [0.3, 0.7],
                    "others": [0.0, -0.01, 0.01], "left_out": {"target": 0.5, "others": 0.0}},
    }  # fmt: skip
    return run | other


def test_it_holds_where_all_parts_do():
    outcome = wimhf.verdict([a_run(), a_run()])
    assert outcome.holds
    assert "DOES NOT" not in " ".join(outcome.notes)
    assert outcome.interval.estimate == pytest.approx(-0.02)


@pytest.mark.parametrize(
    ("part", "other"),
    [
        ("1", {"share": 0.6}),
        ("2", {"matched": a_run()["matched"] | {"principal components": [0.95] * 12}}),
        ("3", {"reasons": [{"attribute": "jokes", "weight": -1.0, "least": -0.5}]}),
        ("4", {"people": a_run()["people"] | {"scores": [[0.5, -1.0] * 15] * 2}}),
        ("5", {"changed": a_run()["changed"] | {"after": [-0.1, 0.2]}}),
        ("5", {"changed": a_run()["changed"] | {"others": [-0.03, -0.04, -0.02]}}),
    ],
)
def test_each_part_can_fail_and_says_so(part, other):
    outcome = wimhf.verdict([a_run(**other), a_run(**copy.deepcopy(other))])
    assert not outcome.holds
    assert [note for note in outcome.notes if "DOES NOT HOLD" in note] == [
        note for note in outcome.notes if note.startswith(f"{part} ")
    ]


def test_a_small_world_runs_and_its_results_are_plain(monkeypatch):
    monkeypatch.setitem(wimhf._QUESTIONS, "quick", 90)
    run = wimhf.run(1, "quick", lambda line: None)
    assert json.loads(json.dumps(run)) == run
    assert set(run) == set(a_run())
    assert set(run["areas"]) == set(a_run()["areas"])
    wimhf.verdict([run, run])
    assert len(wimhf.figure([run]).axes) == 2
