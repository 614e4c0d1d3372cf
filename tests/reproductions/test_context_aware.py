import json

import numpy as np
import pytest

from penchant.evaluate.paired import paired_accuracy
from penchant.records import Comparisons
from penchant.reproductions import context_aware


@pytest.fixture
def world():
    return context_aware.World(np.random.default_rng(3))


def test_both_directions_of_a_pair_are_there_and_only_the_criterion_tells_them_apart(world):
    rows = world.rows(40, world.prompts[:5], range(8), context_aware.TRAIN_WAYS, flips=0.0)
    pairs = Comparisons.from_rows(rows)
    found = paired_accuracy(pairs, np.ones(80))
    assert (found.paired, found.n_alone) == (1.0, 0)
    for first, second in zip(rows[::2], rows[1::2], strict=True):
        assert (first["prompt"], first["chosen"], first["rejected"]) == (
            second["prompt"],
            second["rejected"],
            second["chosen"],
        )
        assert first["context"] != second["context"]


def test_a_criterion_names_what_is_wanted_or_what_is_to_be_avoided(world):
    wanted, avoided = context_aware.TRAITS[0]
    for way in context_aware.TRAIN_WAYS + context_aware.TEST_WAYS:
        words = world.criterion(0, 0, [way])
        names = avoided.names if "{1}" in way else wanted.names
        assert any(name in words for name in names)


def test_training_and_test_share_no_wording():
    assert set(context_aware.TRAIN_WAYS).isdisjoint(context_aware.TEST_WAYS)
    assert len(context_aware.TRAIN_WAYS + context_aware.TEST_WAYS) == 12


def runs(ours, pasted, single):
    prompts = [f"q{i // 2}" for i in range(40)]
    rng = np.random.default_rng(0)

    def right(share):
        return (rng.random(40) < share).astype(float).tolist()

    one = lambda: {  # noqa: E731
        "paired": {
            "context-free": [0.0] * 40,
            "pasted, no reversals": right(pasted),
            "pasted, reversals": right(pasted),
            "apart, no reversals": right(pasted),
            "apart, reversals": right(ours),
        },
        "single": {name: single for name in ("context-free", "pasted, no reversals", "apart, reversals")},
        "prompts": prompts,
        "unseen_traits": {"apart, reversals": [0.5, 0.2], "pasted, no reversals": [0.5, 0.0]},
        "without_context": 0.5,
        "bound": {"the true contexts": [0.2, 0.0, 0.1]},
        "inferred": {"0": [0.5], "8": [0.8]},
        "trust": 1.0,
    }
    found = [one() for _ in range(4)]
    for run in found:
        run["single"] |= {"pasted, reversals": 0.5, "apart, no reversals": 0.5}
    return json.loads(json.dumps(found))


def test_the_verdict_needs_both_parts():
    assert context_aware.verdict(runs(0.7, 0.1, 0.8)).holds
    assert not context_aware.verdict(runs(0.7, 0.7, 0.8)).holds
    assert not context_aware.verdict(runs(0.7, 0.1, 0.55)).holds
    assert context_aware.figure(runs(0.7, 0.1, 0.8)).axes[0].get_xlim() == (0, 100)
