import warnings

import numpy as np
import pytest
from scipy import integrate

from penchant.align.rejection_sampling import Standardisation, direction_prompt
from penchant.errors import DataError, SettingsError, UnknownNameError
from penchant.steer.neighbourhood import (
    Cone,
    Neighbourhood,
    angle,
    cap_angles,
    choose,
    neighbours,
    unit,
)


def at(*degrees):
    return np.stack([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))], axis=1)


class Echo:
    """A policy that answers with the direction it was asked for and a noise that depends on the seed only."""

    def __init__(self, answer=None):
        self.calls, self.answer = [], answer

    def sample(self, prompts, n=1, *, condition=None, temperature=0.7, max_new_tokens=64, seed=0):
        self.calls.append({"prompts": list(prompts), "n": n, "condition": condition, "t": temperature, "seed": seed})
        noise = np.random.default_rng(seed).normal(size=(len(prompts), n))
        return [[self.answer or f"{condition}|{noise[i, j]:.6f}" for j in range(n)] for i in range(len(prompts))]


def plain(direction):
    return " ".join(f"{weight:.12f}" for weight in direction)


def attributes_of(prompts, responses):
    return np.array([[float(x) for x in response.split("|")[0].split()] for response in responses])


def rps(policy=None, reward=attributes_of, **settings):
    settings = {"attributes": ("help", "brief"), "condition": plain, **settings}
    return Neighbourhood(policy or Echo(), reward, **settings)


@pytest.mark.parametrize("dim", [2, 3, 5, 40])
def test_angles_of_uniform_draws_have_the_density_sine_to_the_dimension_less_two(dim):
    limit = np.radians(50)
    total = integrate.quad(lambda a: np.sin(a) ** (dim - 2), 0, limit)[0]
    for share in (0.1, 0.5, 0.9):
        reached = np.radians(cap_angles(share, 50.0, dim))
        assert integrate.quad(lambda a: np.sin(a) ** (dim - 2), 0, reached)[0] / total == pytest.approx(share, abs=2e-4)


def test_draws_in_many_dimensions_are_uniform_on_the_cap_and_unit_length():
    target = unit([2.0, 1.0, 2.0] / np.array(3.0))
    drawn = neighbours(target, 20_000, 60.0, rng=np.random.default_rng(0))
    np.testing.assert_allclose(np.linalg.norm(drawn, axis=1), 1)
    heights = drawn @ target  # Archimedes: heights of a uniform cap in three dimensions are uniform
    assert heights.min() >= 0.5 - 1e-9
    assert abs(heights.mean() - 0.75) < 4 * (0.5 / 12**0.5) / 20_000**0.5
    across = drawn - heights[:, None] * target
    assert np.linalg.norm(across.mean(axis=0)) < 0.02


def test_a_cap_in_hundreds_of_dimensions_does_not_underflow():
    assert 14.5 < cap_angles(0.5, 15.0, 768) < 15.0


def test_an_even_fan_spans_both_sides_and_random_draws_stay_inside():
    target = at(70.0)[0]
    fan = neighbours(target, 5, 20.0, rng=np.random.default_rng(0), spread="even")
    np.testing.assert_allclose(np.degrees(np.arctan2(fan[:, 1], fan[:, 0])), [50, 60, 70, 80, 90])
    drawn = neighbours(target, 4000, 20.0, rng=np.random.default_rng(0))
    offsets = np.degrees(np.arctan2(drawn[:, 1], drawn[:, 0])) - 70
    assert np.abs(offsets).max() <= 20
    assert abs(offsets.mean()) < 1
    assert np.quantile(np.abs(offsets), 0.5) == pytest.approx(10, abs=0.7)


def test_a_cone_in_the_plane_cuts_the_arc_without_piling_mass_on_its_border():
    drawn = neighbours(at(50.0)[0], 4000, 30.0, rng=np.random.default_rng(1), cone=Cone((1.0, 0.0), 45.0))
    degrees = np.degrees(np.arctan2(drawn[:, 1], drawn[:, 0]))
    assert degrees.min() >= 20
    assert degrees.max() <= 45
    assert np.mean(degrees > 44.9) < 0.02
    assert degrees.mean() == pytest.approx(32.5, abs=0.5)


def test_a_cone_in_space_rejects_draws_outside_it():
    cone = Cone((0.0, 0.0, 2.0), 20.0)
    drawn = neighbours([0.0, 0.6, 0.8], 300, 40.0, rng=np.random.default_rng(2), cone=cone)
    assert cone.distance(drawn).max() == 0
    assert angle(drawn, np.array([0.0, 0.6, 0.8])).max() <= 40


def test_a_cap_that_misses_the_cone_says_by_how_many_degrees():
    with pytest.raises(SettingsError, match=r"miss the allowed cone by 15\.0 degrees"):
        neighbours(at(70.0)[0], 3, 30.0, rng=np.random.default_rng(0), cone=Cone((1.0, 0.0), 25.0))


def test_ties_go_to_the_smaller_angle_and_then_to_the_first():
    scores = np.array([[1, 3, 3, 2], [5, 5, 5, 5], [0, -np.inf, 0, 0]])
    angles = np.array([[0, 20, 10, 0], [7, 3, 3, 9], [1, 0, 2, 1]])
    assert choose(scores, angles).tolist() == [2, 1, 0]


def test_the_answer_is_chosen_by_the_target_and_not_by_the_neighbour_it_came_from():
    # Every answer is its own direction, so each serves its own neighbour best; the target's fan middle must win.
    picked = rps(spread="even", k=5).select(["a"], [0.0, 1.0])[0]
    assert picked.candidates[picked.chosen].angle == pytest.approx(0)

    # A policy that goes half as far at the middle makes the neighbours better for the target.
    def shrunk(prompts, responses):
        raw = attributes_of(prompts, responses)
        return raw * np.where(raw[:, :1] < 0.2, 0.5, 1.0)

    picked = rps(reward=shrunk, spread="even", k=5).select(["a"], [0.0, 1.0])[0]
    best = max(picked.candidates, key=lambda c: np.dot(c.attributes, [0.0, 1.0]))
    assert picked.candidates[picked.chosen] == best
    assert best.angle == pytest.approx(15)
    assert picked.score == pytest.approx(np.cos(np.radians(15)))


def test_scores_use_frozen_statistics_and_the_table_keeps_raw_attributes():
    scale = Standardisation.of(np.array([[0.0, 0.0], [2.0, 20.0]]), ("help", "brief"))
    picked = rps(k=1, spread="even", standardisation=scale).select(["a"], [0.6, 0.8])[0]
    assert picked.candidates[0].attributes == pytest.approx((0.6, 0.8))
    assert picked.score == pytest.approx(0.6 * (0.6 - 1) / 1 + 0.8 * (0.8 - 10) / 10)


def test_the_baseline_asks_the_target_only_at_equal_cost_from_the_same_stream():
    policy = Echo()
    method = rps(policy, k=4, temperature=0.9)
    ours = method.select(["a", "b"], [1.0, 0.0], seed=3)
    n = len(policy.calls)
    baseline = method.best_of_k(["a", "b"], [1.0, 0.0], seed=3)
    first, second = policy.calls[:n], policy.calls[n:]
    assert len(first) == len(second) == 4
    for key in ("prompts", "n", "t", "seed"):
        assert [call[key] for call in first] == [call[key] for call in second]
    assert len({call["seed"] for call in first}) == 4
    assert {call["condition"] for call in second} == {plain([1.0, 0.0])}
    noise = [[c.response.split("|")[1] for c in selection.candidates] for selection in (ours[1], baseline[1])]
    assert noise[0] == noise[1]


def test_directions_that_round_to_the_same_words_are_drawn_again():
    method = Neighbourhood(Echo(), attributes_of, attributes=("help", "brief"), k=9, max_angle=3.0)
    words = [method.condition(u) for u in method.directions([0.6, 0.8])]
    assert len(set(words)) == 9
    narrow = Neighbourhood(Echo(), attributes_of, attributes=("help", "brief"), k=9, max_angle=0.2)
    asked = narrow.directions([0.6, 0.8])
    assert len(asked) == 9
    assert len({narrow.condition(u) for u in asked}) < 9


def test_the_target_itself_is_asked_first_if_wanted_and_allowed():
    assert angle(rps(include_target=True).directions([0.0, 1.0]), np.array([0.0, 1.0]))[0] == 0
    outside = rps(include_target=True, cone=Cone((1.0, 0.0), 70.0)).directions([0.0, 1.0])
    assert angle(outside, np.array([0.0, 1.0])).min() >= 20 - 1e-9


def test_known_directions_widen_the_angle_with_distance_and_switch_it_off_inside():
    method = rps(known=Cone((1.0, 0.0), 25.0), max_angle=45.0, k=30, spread="even")
    assert angle(method.directions(at(10.0)[0]), at(10.0)[0]).max() == pytest.approx(0, abs=1e-9)
    assert angle(method.directions(at(40.0)[0]), at(40.0)[0]).max() == pytest.approx(15)
    assert angle(method.directions(at(85.0)[0]), at(85.0)[0]).max() == pytest.approx(45)


def test_empty_answers_score_minus_infinity_and_are_counted():
    class Silent(Echo):
        def sample(self, prompts, n=1, *, condition=None, **settings):
            return [["  " if condition == plain([1.0, 0.0]) else condition] for _ in prompts]

    picked = rps(Silent(), spread="even", k=3).select(["a"], [1.0, 0.0])[0]
    assert picked.n_empty == 1
    assert np.isneginf(picked.candidates[1].score)
    assert picked.response.strip()
    mute = rps(Echo(answer=" ")).select(["a"], [1.0, 0.0])[0]
    assert mute.n_empty == 5
    assert np.isneginf(mute.score)


@pytest.mark.parametrize("direction", [[0.0, 0.0], [np.nan, 1.0], [1.0], [1.0, 0.0, 0.0]])
def test_a_direction_without_meaning_is_refused(direction):
    with pytest.raises(SettingsError):
        rps().select(["a"], direction)


def test_a_direction_of_another_length_is_normalised_with_a_notice():
    with pytest.warns(UserWarning, match="length 5"):
        np.testing.assert_allclose(unit([3.0, 4.0]), [0.6, 0.8])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        unit([0.71, 0.70])


def test_an_unknown_attribute_names_the_nearest():
    with pytest.raises(UnknownNameError, match="'brief'"):
        rps().select(["a"], {"breif": 1.0})
    np.testing.assert_allclose(rps().target({"brief": -1.0}), [0, -1])


@pytest.mark.parametrize("settings", [{"k": 0}, {"max_angle": 0.0}, {"max_angle": 91.0}, {"attributes": ("one",)}])
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(SettingsError):
        rps(**settings)


def test_a_reward_of_the_wrong_width_or_not_finite_is_refused():
    with pytest.raises(DataError, match=r"2 attributes \(help, brief\)"):
        rps(reward=lambda prompts, responses: np.zeros((len(responses), 3))).select(["a"], [1.0, 0.0])
    with pytest.raises(DataError, match="not finite for 5 of 5"):
        rps(reward=lambda prompts, responses: np.full((len(responses), 2), np.nan)).select(["a"], [1.0, 0.0])


def test_without_a_condition_of_its_own_it_asks_in_the_words_of_directional_alignment():
    policy = Echo(answer="1 0")
    rps(policy, condition=None, k=1, spread="even").select(["a"], [0.0, 1.0])
    assert policy.calls[0]["condition"] == direction_prompt([0.0, 1.0], axes=("help", "brief"))


def test_no_prompts_give_no_selections():
    assert rps().select([], [1.0, 0.0]) == []
