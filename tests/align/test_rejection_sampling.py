"""Directional preference alignment: selection on numbers, frozen statistics, bad input, and control that is learnt."""

import json
import warnings

import numpy as np
import pytest
from tiny_language import TinyPolicy

from penchant.align import RejectionSampling, TrainerSettings
from penchant.align.rejection_sampling import angle, direction_prompt, unit, winners
from penchant.errors import DataError, SettingsError

ONE = TrainerSettings(steps=1, examples_per_batch=4)


def length_and_tea(prompts, responses):
    return np.array([[response.split().count("tea"), len(response.split())] for response in responses], dtype=float)


def letters_and_words(prompts, responses):
    return np.array([[len(response), len(response.split())] for response in responses], dtype=float)


def test_the_winner_is_the_response_with_the_largest_weighted_score():
    rng = np.random.default_rng(0)
    scores, directions = rng.normal(size=(9, 3)), np.stack([unit(v) for v in rng.normal(size=(20, 3))])
    expected = [max(range(9), key=lambda i, v=v: float(sum(scores[i] * v))) for v in directions]
    assert winners(scores, directions).tolist() == expected
    cosine = [max(range(9), key=lambda i, v=v: float(scores[i] @ v) / np.linalg.norm(scores[i])) for v in directions]
    assert winners(scores, directions, normalise="cosine").tolist() == cosine
    assert winners(np.zeros((3, 2)), np.stack([angle(0)]), normalise="cosine").tolist() == [0]


def test_the_second_axis_counts_more_the_further_the_angle_turns():
    scores = np.array([[1.0, -1.0], [0.9, 0.0], [0.0, 1.0]])
    grid = np.stack([angle(degrees) for degrees in (-45, 0, 20, 45, 80)])
    assert winners(scores, grid).tolist() == [0, 0, 1, 2, 2]


def test_directions_can_be_added_and_interpolated_and_prompts_carry_their_integers():
    between = unit(0.5 * angle(-20) + 0.5 * angle(40))
    np.testing.assert_allclose(between, angle(10))
    assert direction_prompt(angle(30), axes=("a", "b"), template="{weights}") == "a*87 + b*50"
    # integers read back are a unit vector within the tolerance
    assert direction_prompt([0.87, 0.5], axes=("a", "b"), template="{weights}") == "a*87 + b*50"


@pytest.mark.parametrize(
    ("direction", "reason"),
    [
        ([0.0, 0.0], "not all zero"),
        ([float("nan"), 1.0], "finite"),
        ([1.0, 1.0], r"`unit` would make it \[0.707, 0.707\]"),
        ([1.0], "2 weights"),
    ],
)
def test_what_is_no_direction_is_refused_with_the_remedy(direction, reason):
    with pytest.raises(SettingsError, match=reason):
        RejectionSampling().prompt(direction)


def test_directions_outside_the_trained_arc_warn_and_those_on_its_edge_do_not():
    method = RejectionSampling(arc=(-45.0, 45.0))
    with pytest.warns(UserWarning, match=r"60 degrees, trained were -45 to 45"):
        method.prompt(angle(60))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for weights in method.directions():
            method.prompt(weights)
    three = RejectionSampling(axes=("a", "b", "c"), n_directions=7)
    assert (three.directions()[:, 0] >= 0).all()
    np.testing.assert_allclose(np.linalg.norm(three.directions(), axis=1), 1)
    with pytest.warns(UserWarning, match="a has weight -1.00"):
        three.prompt([-1.0, 0.0, 0.0])


@pytest.mark.parametrize(
    "wrong",
    [{"n_samples": 1}, {"rounds": 0}, {"directions_per_prompt": 9}, {"arc": (10.0, -10.0)}, {"template": "helpful*71"}],
)
def test_settings_that_leave_nothing_to_select_are_refused(wrong):
    with pytest.raises(SettingsError):
        RejectionSampling(**wrong)


@pytest.mark.parametrize(
    ("reward", "reason"),
    [
        (lambda x, y: np.full((len(y), 2), np.nan), r"NaN for 8 of 8 .*attributes \[0, 1\] were never"),
        (lambda x, y: np.zeros((len(y), 3)), "one column per attribute"),
        (lambda x, y: np.zeros((len(y), 2)), "the same score"),
    ],
)
def test_rewards_that_cannot_select_are_refused(tmp_path, reward, reason):
    method = RejectionSampling(n_samples=4, max_new_tokens=4)
    with pytest.raises(DataError, match=reason):
        method.train(TinyPolicy(), reward, ["tea", "red"], settings=ONE, folder=tmp_path)


def test_no_prompts_is_an_error(tmp_path):
    with pytest.raises(DataError, match="no prompts"):
        RejectionSampling().train(TinyPolicy(), length_and_tea, [], settings=ONE, folder=tmp_path)


def test_axes_can_be_mixed_from_attributes(tmp_path):
    method = RejectionSampling(axes=("tea", "short"), combine=[[1, 0], [0, -2]], rounds=1, n_samples=4)
    result = method.train(TinyPolicy(), length_and_tea, ["tea", "red"], settings=ONE, folder=tmp_path)
    pools = [json.loads(line) for line in (tmp_path / "round-1" / "samples.jsonl").read_text().splitlines()]
    lengths = [len(response.split()) for pool in pools for response in pool["responses"]]
    assert result.standardisation.mean[1] == pytest.approx(-2 * np.mean(lengths))


class Scripted(TinyPolicy):
    """Samples what the test says, and remembers how it was asked."""

    def __init__(self, pool):
        super().__init__()
        self.pool, self.asked = pool, []

    def sample(self, prompts, n=1, *, condition=None, **rest):
        self.asked.append(condition)
        return [self.pool[:n] for _ in prompts]


def test_the_first_round_asks_without_a_direction_and_later_rounds_with_the_trained_integers(tmp_path):
    policy = Scripted(["tea", "tea a b c", "a"])
    method = RejectionSampling(rounds=2, n_samples=3, n_directions=3)
    result = method.train(policy, length_and_tea, ["red", "blue"], settings=ONE, folder=tmp_path)
    first, second = policy.asked
    assert first is None
    assert sorted(second) == sorted([method.prompt(v) for v in method.directions()] * 2)
    assert result.n_sampled == 2 * 3 + 2 * 3 * 3
    assert result.changed == (1.0, 1.0)
    kept = {(line["round"], tuple(line["weights"])): line["selected"] for line in result.table}
    assert kept[1, (71, -71)] == [1.0, 1.0]  # "tea": as much tea, in fewer words
    assert kept[1, (71, 71)] == [1.0, 4.0]


def test_a_response_that_wins_in_every_direction_is_kept_once(tmp_path):
    policy = Scripted(["tea tea", "a", "b"])
    method = RejectionSampling(axes=("tea", "tea again"), rounds=1, n_samples=3, n_directions=5)
    result = method.train(
        policy, lambda x, y: length_and_tea(x, y)[:, [0, 0]], ["red", "blue"], settings=ONE, folder=tmp_path
    )
    assert result.changed == (0.0,)
    assert sum(line["n"] for line in result.table) == 2


def test_finished_rounds_are_not_done_again_and_end_with_the_same_weights(tmp_path):
    method = RejectionSampling(rounds=2, n_samples=4, n_directions=2, max_new_tokens=5, temperature=1.0)
    whole = TinyPolicy()
    method.train(whole, letters_and_words, ["tea", "red"], settings=ONE, folder=tmp_path / "a")
    killed = TinyPolicy()
    RejectionSampling(rounds=1, n_samples=4, n_directions=2, max_new_tokens=5, temperature=1.0).train(
        killed, letters_and_words, ["tea", "red"], settings=ONE, folder=tmp_path / "b"
    )
    again = TinyPolicy()
    method.train(again, letters_and_words, ["tea", "red"], settings=ONE, folder=tmp_path / "b")
    assert (again.weights() == whole.weights()).all()


def test_a_policy_learns_to_follow_the_direction_it_is_asked_for(tmp_path):
    method = RejectionSampling(
        axes=("tea", "red"),  # one token each in the tiny vocabulary; the integers tell directions apart
        template="{weights}",
        rounds=2,
        n_samples=8,
        n_directions=2,
        arc=(-90.0, 90.0),
        temperature=1.0,
        max_new_tokens=6,
    )
    policy = DirectionWords()
    prompts = ["a", "b", "c", "d"]
    settings = TrainerSettings(steps=40, examples_per_batch=8, learning_rate=5e-3)
    method.train(policy, length_and_tea, prompts, settings=settings, folder=tmp_path)
    lengths = [
        np.mean([len(text.split()) for texts in method.sample(policy, prompts, v, n=16) for text in texts])
        for v in (angle(-90), angle(90))
    ]
    assert lengths[1] > lengths[0] + 2


class DirectionWords(TinyPolicy):
    """Reads the two directions of the test as two words of its vocabulary."""

    def encode(self, prompt, responses, *, condition=None, form="text"):
        word = None if condition is None else ("yes" if "*100" in condition else "no")
        return super().encode(prompt, responses, condition=word, form=form)
