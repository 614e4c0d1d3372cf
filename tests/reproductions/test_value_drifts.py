"""Where values come from, on a small language: the data say what they claim, and the verdict can be false."""

import copy
import dataclasses
import json

import numpy as np
import pytest

from penchant.evaluate.stances import STANCES, Sampled
from penchant.reproductions import value_drifts as reproduction
from penchant.reproductions.value_language import (
    ANSWERS,
    PROBES,
    Speaker,
    judge,
    polarity_of,
    reward_features,
    warm,
)


@pytest.fixture(scope="module")
def speaker():
    return Speaker(np.random.default_rng(0))


@pytest.fixture(scope="module")
def one_run():
    """A run of a few steps, whose numbers mean nothing yet."""
    sizes = dataclasses.replace(
        reproduction._SCALES["quick"], steps=(4, 4, 2), texts=(200, 200, 100), looks=3, kls=(1.0,)
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(reproduction._SCALES, "tiny", sizes)
        patch.setattr(reproduction, "_STEPS_A_ROUND", 1)
        patch.setattr(reproduction, "READER", Sampled(judge, n=1, max_new_tokens=6))
        return reproduction.run(0, "tiny", lambda line: None)


def test_there_are_thirty_answers_for_each_stance_and_the_judge_knows_them():
    assert [len(set(ANSWERS[stance])) for stance in STANCES] == [30] * 3
    for place, stance in enumerate(STANCES):
        asked = [PROBES.prompts[int(np.argmax(PROBES.polarity == 1))]] * 30
        rows = judge(asked, [warm(text) for text in ANSWERS[stance]], asked)
        assert rows.argmax(axis=1).tolist() == [place] * 30
        assert rows.min(axis=1).tolist() == [0.0] * 30


def test_probes_hold_what_tuning_never_shows_half_of_it_reversed(speaker):
    shown = {row["prompt"] for row in speaker.texts(3000, (0.15, 0.7, 0.15))}
    shown |= {row["prompt"] for row in speaker.pairs(2000, "support")}
    assert not shown & set(PROBES.prompts)
    assert len(PROBES) == 11 * 20
    assert not PROBES.one_sided
    assert [polarity_of(prompt) for prompt in PROBES.prompts] == PROBES.polarity.tolist()


def test_gaps_are_one_on_value_gap_pairs_and_none_on_style_and_shuffled_ones(speaker):
    gap = {
        kind: np.array(reproduction.gaps(speaker.pairs(4000, kind)))
        for kind in ("style", "support", "oppose", "shuffled")
    }
    assert gap["support"] == pytest.approx(np.tile([1.0, 0.0, -1.0], (11, 1)))
    assert gap["oppose"] == pytest.approx(-gap["support"])
    assert np.abs(gap["style"]).max() == 0
    assert np.abs(gap["shuffled"].mean(axis=0)).max() < 0.08


def test_words_that_differ_are_what_a_reward_is_fitted_to():
    one, other = reward_features(["i favour them that is good", "i resist them that is good"])
    assert np.abs(one - other).sum() == 2


def test_every_arm_is_measured_and_a_run_is_plain_data(one_run):
    assert set(one_run["arms"]) == {
        *(f"{name}, {kind}" for name in ("dpo", "simpo", "pg") for kind in ("style", "support")),
        "pg, support, KL 1",
        "dpo, shuffled",
    }
    assert json.loads(json.dumps(one_run)) == one_run
    assert one_run["courses"]["neutral"]["steps"] == [0, 1, 4]
    assert all(np.sum(arm["values"], axis=1) == pytest.approx(np.ones(11)) for arm in one_run["arms"].values())


def shaped(run, *, tuning, style, dpo, pg, seed):
    """The same run with drifts of known size: support to neutral."""
    rng = np.random.default_rng(seed)
    made = copy.deepcopy(run)

    def moved(size):
        sizes = size + 0.01 * rng.standard_normal(11)
        return np.stack([0.5 - sizes, 0.5 + sizes, np.zeros(11)], axis=1).tolist()

    made["pretrained"]["values"] = moved(tuning)
    made["tuned"]["neutral"]["values"] = [[0.5, 0.5, 0.0]] * 11
    for arm, place in made["arms"].items():
        place["values"] = moved(style if "style" in arm else pg if arm.startswith("pg") else dpo)
    return made


@pytest.mark.parametrize(
    ("sizes", "holds"),
    [
        ({"tuning": 0.4, "style": 0.1, "dpo": 0.3, "pg": 0.1}, True),
        ({"tuning": 0.1, "style": 0.3, "dpo": 0.3, "pg": 0.1}, False),
        ({"tuning": 0.4, "style": 0.1, "dpo": 0.1, "pg": 0.3}, False),
    ],
)
def test_the_verdict_follows_from_both_claims(one_run, sizes, holds):
    outcome = reproduction.verdict([shaped(one_run, seed=seed, **sizes) for seed in range(3)])
    assert outcome.holds is holds
    assert outcome.ours == pytest.approx(sizes["tuning"], abs=0.02)
    assert outcome.baseline == pytest.approx(sizes["style"], abs=0.02)


def test_the_figure_shows_every_arm(one_run):
    axes = reproduction.figure([one_run, one_run]).axes
    assert len(axes[1].get_yticklabels()) == 1 + len(one_run["arms"])
