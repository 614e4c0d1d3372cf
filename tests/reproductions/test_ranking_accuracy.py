"""The ranking-accuracy reproduction: its people, its measurements by brute force, a verdict that can be false."""

import copy
import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from penchant.errors import DataError
from penchant.evaluate import ranking_accuracy as ra
from penchant.records import Comparisons
from penchant.reproductions import ranking_accuracy as reproduction
from penchant.reproductions.made_up_language import VOCABULARY, Language, word_differences
from penchant.reproductions.word_policy import WordPolicy
from penchant.statistics import wilson


@pytest.fixture(scope="module")
def language():
    return Language(np.random.default_rng(0))


@pytest.fixture(scope="module")
def run():
    """One small run: fewer pairs and steps than the quick scale, the same path."""
    patch = pytest.MonkeyPatch()
    small = replace(
        reproduction._SCALES["quick"],
        n_pairs=(40, 20, 40),
        imitation=((8, 40, 6e-3), (2, 20, 1e-3)),
        tuning=(6, 20, 2e-3),
        others=("ipo",),
        n_evaluations=2,
    )
    patch.setitem(reproduction._SCALES, "quick", small)
    try:
        yield reproduction.run(0, "quick", lambda line: None)
    finally:
        patch.undo()


def test_most_simulated_people_prefer_the_chosen_answer_and_about_three_in_four_do(language):
    pairs = language.pairs(600)
    assert (pairs.share > 0.5).all()
    assert 0.7 < pairs.share.mean() < 0.85
    assert all(row["chosen"] != row["rejected"] for row in pairs.comparisons.table.to_pylist())


def test_people_want_words_they_like_and_the_features_count_them(language):
    pairs = language.pairs(800)
    difference = word_differences(pairs.comparisons)
    first = pairs.comparisons.table.to_pylist()[0]
    word = int(first["chosen"].split()[0][4:])
    count = first["chosen"].split().count(f"word{word}") - first["rejected"].split().count(f"word{word}")
    topic = int(first["prompt"].split()[0][5:])
    assert difference[0, word] == count
    assert difference[0].reshape(7, 60)[1 + topic, word] == count
    # The tastes that made the votes say so: the liked words are in the chosen answers.
    under_topic = difference[:, 60:] @ language.taste.ravel()
    assert (under_topic > 0).mean() > 0.85
    np.testing.assert_allclose(difference[:, :60], difference[:, 60:].reshape(-1, 6, 60).sum(axis=1))


def test_the_small_policy_is_the_same_for_the_same_seed_and_moves_no_global_generator():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one, two, other = (
        WordPolicy(VOCABULARY, 3, width=48),
        WordPolicy(VOCABULARY, 3, width=48),
        WordPolicy(VOCABULARY, 4, width=48),
    )
    assert torch.equal(torch.get_rng_state(), before)
    same = [torch.equal(a, b) for a, b in zip(one.model.parameters(), two.model.parameters(), strict=True)]
    assert all(same)
    assert not torch.equal(next(one.model.parameters()), next(other.model.parameters()))


def test_likelihoods_equal_a_softmax_by_hand(language):
    policy, pairs = WordPolicy(VOCABULARY, 0, width=48), language.pairs(5)
    found = reproduction.likelihoods(policy, pairs.comparisons, pairs_at_once=2)
    row = pairs.comparisons.table.to_pylist()[4]
    example = policy.encode(row["prompt"], [row["chosen"]])
    tokens = torch.tensor([example.prompt + example.responses[0]])
    with torch.no_grad():
        logs = policy.model(tokens).logits.log_softmax(-1)[0]
    start = len(example.prompt)
    by_hand = sum(logs[i - 1, tokens[0, i]].item() for i in range(start, tokens.shape[1]))
    assert found.chosen[4] == pytest.approx(by_hand, abs=1e-4)
    assert found.chosen_tokens[4] == len(row["chosen"].split()) + 1


def test_a_run_measures_every_pair_and_survives_json(run):
    again = json.loads(json.dumps(run))
    assert {len(values) for values in again["test"].values()} == {40}
    assert {len(values) for values in again["train"].values()} == {40}
    assert [point["step"] for point in run["curve"]] == [3, 6]
    assert run["chosen_step"] in (3, 6)
    lowest = min(run["curve"], key=lambda point: point["validation_loss"])
    assert run["chosen_step"] == lowest["step"]
    assert run["threshold_holds"] == 1.0
    assert np.mean(np.array(run["test"]["dpo"]) > 0) == pytest.approx(lowest["test_accuracy"])
    assert run["test"]["dpo"] != run["test"]["reference"]
    assert 0 <= run["others"]["ipo"]["test_accuracy"] <= 1
    assert 0 <= run["reward_model"] <= 1


def test_dpo_moves_training_pairs_towards_the_chosen_answer(run):
    moved = np.array(run["train"]["dpo"]) - np.array(run["train"]["reference"])
    assert moved.mean() > 0


def planted(*, dpo_shift: float = 0.5, seed: int = 0, n: int = 200) -> dict:
    """A run as the paper describes it: a reference that ranks by chance, and DPO that mends only mild errors."""
    rng = np.random.default_rng(seed)
    reference, train = rng.normal(0, 3, n), rng.normal(0, 3, n)
    share = rng.uniform(0.6, 0.95, n)
    return {
        "test": {
            "share": share.tolist(),
            "reference": reference.tolist(),
            "dpo": (reference + 0.1).tolist(),
            "reference_per_token": (reference / 8).tolist(),
            "dpo_per_token": ((reference + 0.1) / 8).tolist(),
            "shorter": rng.integers(-3, 4, n).tolist(),
        },
        "train": {"reference": train.tolist(), "dpo": (train + dpo_shift).tolist()},
        "threshold_holds": 1.0,
        "chosen_step": 10,
        "curve": [
            {
                "step": 10,
                "epoch": 2.0,
                "validation_loss": 0.6,
                "train_accuracy": 0.55,
                "test_accuracy": 0.5,
                "mended": 0.1,
            }
        ],
        "others": {},
        "reward_model": None,
    }


def test_the_papers_picture_holds_and_its_numbers_are_recomputed():
    runs = [planted(seed=seed) for seed in range(3)]
    found = reproduction.verdict(runs)
    assert found.holds
    right = sum(int((np.array(run["test"]["dpo"]) > 0).sum()) for run in runs)
    assert found.baseline == right / 600
    ideal = [
        np.array(run["test"]["reference"])
        + np.log(np.array(run["test"]["share"]) / (1 - np.array(run["test"]["share"]))) / 0.1
        > 0
        for run in runs
    ]
    assert found.ours == pytest.approx(np.mean(ideal))
    assert found.interval.estimate == pytest.approx(found.ours - found.baseline)
    assert found.interval.n == 3
    wrong = np.concatenate([np.array(run["train"]["reference"]) for run in runs]) <= 0
    mended = np.concatenate([np.array(run["train"]["dpo"]) for run in runs])[wrong] > 0
    assert f"{100 * wilson(int(mended.sum()), int(wrong.sum())).estimate:.1f} %" in found.notes[2]


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("A", lambda run: run["test"].update(dpo=(np.abs(run["test"]["dpo"]) * 1.0).tolist())),
        ("B", lambda run: run["test"].update(reference=(np.array(run["test"]["reference"]) - 100).tolist())),
        ("C", lambda run: run["train"].update(dpo=(np.array(run["train"]["dpo"]) + 50).tolist())),
        ("C", lambda run: run["train"].update(dpo=run["train"]["reference"])),
        ("D", lambda run: run.update(threshold_holds=0.99)),
    ],
)
def test_each_part_of_the_claim_can_fail_and_then_the_claim_does(part, change):
    runs = [copy.deepcopy(planted(seed=seed)) for seed in range(3)]
    for run in runs:
        change(run)
    found = reproduction.verdict(runs)
    assert not found.holds
    [note] = [note for note in found.notes if note.startswith(f"{part} ")]
    assert "does not hold" in note


def test_a_point_estimate_inside_the_claim_with_a_wide_interval_is_not_enough():
    few = [planted(seed=seed, n=12) for seed in range(2)]
    found = reproduction.verdict(few)
    assert not found.holds


def test_the_figure_shows_the_curve(run):
    plot = reproduction.figure([run, run])
    labels = [text.get_text() for text in plot.axes[0].get_legend().get_texts()]
    assert "held-out pairs" in labels


def test_real_pairs_are_short_distinct_and_in_the_seeds_order(shared_data, monkeypatch):
    monkeypatch.setenv("PENCHANT_DATA", str(shared_data))

    class Encoded:
        def __init__(self, prompt, responses):
            self.n_tokens = sum(len(text.split()) for text in (prompt, *responses))

    one, two = (reproduction.real_pairs(30, seed, Encoded, most_tokens=96) for seed in (0, 1))
    assert isinstance(one.comparisons, Comparisons)
    assert len(one.comparisons) == 30
    assert (one.share == 0.75).all()
    rows = one.comparisons.table.to_pylist()
    assert all(Encoded(row["prompt"], [row["chosen"], row["rejected"]]).n_tokens <= 96 for row in rows)
    assert rows != two.comparisons.table.to_pylist()
    with pytest.raises(DataError, match="but 5000 are needed"):
        reproduction.real_pairs(5000, 0, Encoded)


def test_without_real_pairs_the_full_scale_says_what_to_do(monkeypatch):
    monkeypatch.delenv("PENCHANT_DATA", raising=False)
    with pytest.raises(DataError, match="set PENCHANT_DATA"):
        reproduction.real_pairs(1, 0, lambda *_: None)


def test_difficulty_bands_of_a_run_can_be_asked_for(run):
    before, after = np.array(run["train"]["reference"]), np.array(run["train"]["dpo"])
    bands = ra.flips_by(-before, before, after, bins=4)
    assert sum(band.n for band in bands) == (before <= 0).sum()
    assert not any(math.isnan(band.mended.estimate) for band in bands)
