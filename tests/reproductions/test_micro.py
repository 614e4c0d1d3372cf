"""The reproduction of mixture modelling and routing: its world, its measures and a verdict that can be false."""

import json

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from penchant.reproductions import micro


def test_votes_follow_the_tastes_of_their_kind_and_do_not_say_which():
    world = micro.World(1000, 3)
    votes = world.votes(world.each(400), wishes=1)
    ahead = np.einsum("nd,nd->n", votes.difference, world.people.tastes[votes.kind])
    expected = 1 / (1 + np.exp(-np.abs(ahead)))
    assert (ahead > 0).mean() == pytest.approx(expected.mean(), abs=0.03)
    assert votes.comparisons.table["user"].null_count == len(votes.kind)
    said = votes.comparisons.table["context"].to_pylist()
    for number, name in enumerate(world.names):
        assert {said[row] for row in np.flatnonzero(votes.kind == number)} == set(micro.WISHES[name][1])


def test_wishes_to_be_tested_with_are_never_learnt_from():
    learnt, tested = (
        {text for wishes in micro.WISHES.values() for text in wishes[0]},
        {text for wishes in micro.WISHES.values() for text in wishes[1]},
    )
    assert not learnt & tested


def test_agreement_of_groupings_is_the_one_of_scikit_learn():
    rng = np.random.default_rng(0)
    first, second = rng.integers(3, size=200), rng.integers(4, size=200)
    second[:100] = first[:100]
    assert micro.adjusted_rand(first, second) == pytest.approx(adjusted_rand_score(first, second))


def one_run(shift=0.0, *, routed=0.85, static=0.65, single=0.6, gain=-0.05, one=0.9):
    arms = {name: 0.7 + shift for name in ("gate", "ensemble", "hedge 0", "hedge 5", "hedge 10", "hedge 20")}
    arms |= {"router 5": 0.8, "router 10": 0.8, "router 20": routed + shift, "kinds named": 0.9, "true tastes": 0.9}
    arms |= {"single": single, "static": static}
    world = {
        "accuracy": arms,
        "log_loss": arms | {"single": 0.6, "gate": 0.6 + gain + shift, "static": 0.6 + gain + shift},
        "ece": {"single": 0.02, "static": 0.02, "router 20": 0.02},
        "irreducible": 0.3,
        "n_heads": 3,
        "cosines": [0.9, 0.8],
        "purity": 0.1,
    }
    alike = world | {"accuracy": arms | {"single": 0.9, "router 20": one + shift / 10}}
    return {"three": world, "five": world, "one": alike}


@pytest.mark.parametrize(
    ("change", "holds"),
    [({}, True), ({"routed": 0.6}, False), ({"static": 0.9}, False), ({"gain": 0.05}, False), ({"one": 0.88}, False)],
)
def test_the_verdict_needs_every_part(change, holds):
    runs = [one_run(shift, **change) for shift in (-0.005, 0.0, 0.005)]
    conclusion = micro.verdict(runs)
    assert conclusion.holds is holds
    assert conclusion.ours == pytest.approx(change.get("routed", 0.85))
    assert conclusion.baseline == pytest.approx(max(change.get("static", 0.65), 0.6))


class Letters:
    """Texts as counts of letters."""

    name = "letters"

    def encode(self, payloads):
        rows = [[text.lower().count(letter) for letter in "abcdefghijklmnopqrstuvwxyz"] for text in payloads]
        return np.array(rows, np.float32)


def test_all_arms_run_in_a_tiny_world_and_say_the_same_twice(monkeypatch):
    monkeypatch.setattr(micro, "ENCODER", micro.Apart(micro.ENCODER.responses, Letters()))
    first = micro.run(7, "tiny", lambda line: None)
    assert json.loads(json.dumps(first["three"])) == micro.measured(7, 3, 600, 50)
    accuracy = first["three"]["accuracy"]
    assert accuracy["true tastes"] > accuracy["single"]
    assert micro.figure([first, first]).axes
