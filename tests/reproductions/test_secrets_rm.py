"""The reproduction of Secrets of RLHF II: its world, its measures, and a verdict that can be false."""

import json

import numpy as np
import pytest

from penchant.reproductions import secrets_rm


@pytest.fixture(scope="module")
def run():
    return secrets_rm.run(60, "tiny", lambda line: None)


def world(seed=0):
    rng = np.random.default_rng(seed)
    return secrets_rm.World.drawn(rng), rng


def read(pairs, side):
    return np.array([list(json.loads(text).values()) for text in pairs.table[side].to_pylist()])


def test_the_truth_is_the_better_answer_and_people_are_right_about_five_times_in_six():
    made, rng = world()
    truth, votes = made.truth(300, rng), made.votes(4000, rng)
    assert (made.worth(read(truth, "chosen")) > made.worth(read(truth, "rejected"))).all()
    right = made.worth(read(votes, "chosen")) > made.worth(read(votes, "rejected"))
    assert 0.75 < right.mean() < 0.9


def test_answers_elsewhere_are_centred_elsewhere_and_unlabelled_ones_come_from_there():
    made, rng = world()
    here, there = made.answers(2000, rng), made.answers(2000, rng, elsewhere=True)
    assert np.linalg.norm(there.mean(axis=0) - here.mean(axis=0)) > 1.5
    lists = made.unlabelled(rng).table["responses"].to_pylist()
    assert {len(one) for one in lists} == {4}
    x = np.array([list(json.loads(text).values()) for one in lists for text in one])
    assert np.linalg.norm(x.mean(axis=0) - there.mean(axis=0)) < 1.0


def test_turning_round_turns_those_rows_and_no_others():
    made, rng = world()
    pairs = made.votes(20, rng)
    rows = np.arange(20) % 3 == 0
    turned = secrets_rm.turned_round(pairs, rows)
    for row in range(20):
        a, b = ("rejected", "chosen") if rows[row] else ("chosen", "rejected")
        assert turned.table["chosen"][row] == pairs.table[a][row]
        assert turned.table["rejected"][row] == pairs.table[b][row]


def test_placements_average_to_the_auroc():
    rng = np.random.default_rng(0)
    score, wrong = rng.integers(0, 5, 200).astype(float), rng.random(200) < 0.3
    found = secrets_rm.detection(score, wrong, flagged=wrong)
    assert secrets_rm.placements(score, wrong).mean() == pytest.approx(found.auroc)


def test_all_arms_run_in_a_tiny_world(run):
    assert set(secrets_rm.TREATMENTS) < set(run["accuracy"]["0.2"])
    assert run["accuracy"]["0"]["oracle flip"] == run["accuracy"]["0"]["keep"]  # nothing to turn back
    assert len(run["fifths"]) == 5
    assert run["human"] is None
    assert all(sum(counts.values()) == 120 for counts in run["counts"].values())
    assert json.loads(json.dumps(run)) == run


def made_up(run, *, found=0.8, single=0.6, noisy=0.1, clean=0.0, ahead=0.05):
    """Runs in which the arms differ by so much."""
    runs = []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        one = json.loads(json.dumps(run))
        one["placements"] = [np.clip(rng.normal(m, 0.1, 200), 0, 1).tolist() for m in (found, single)]
        for noise, gain in (("0.2", noisy), ("0", clean)):
            plain = (rng.random(2000) < 0.7).astype(float)
            one["right"][noise] = {"keep": plain.tolist(), "flip+margin": (plain + gain).tolist()}
        plain = (rng.random(2000) < 0.7).astype(float)
        one["shift"] |= {"plain": plain.tolist(), "MetaRM": (plain + ahead).tolist()}
        runs.append(one)
    return runs


@pytest.mark.parametrize(
    ("changed", "holds"),
    [
        ({}, True),
        ({"found": 0.55, "single": 0.3}, False),
        ({"single": 0.85}, False),
        ({"noisy": -0.01}, False),
        ({"clean": -0.02}, False),
        ({"ahead": -0.01}, False),
    ],
)
def test_the_verdict_needs_every_part(run, changed, holds):
    found = secrets_rm.verdict(made_up(run, **changed))
    assert found.holds is holds
    assert sum("does not hold" in note for note in found.notes[:3]) == (0 if holds else 1)


def test_the_figure_has_a_line_for_each_arm_and_one_for_the_fifths(run):
    left, right = secrets_rm.figure([run]).axes
    assert len(left.get_lines()) == len(run["accuracy"]["0.2"])
    assert len(right.get_lines()[1].get_xdata()) == 5


def test_people_are_asked_only_where_their_labels_are(monkeypatch):
    monkeypatch.setattr(secrets_rm, "real_data", lambda name: None)
    assert secrets_rm.human(0, lambda line: None) is None
