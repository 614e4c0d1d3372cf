"""Style control: scikit-learn on the full design matrix, planted effects found, and what tells nothing."""

import json

import numpy as np
import pytest
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from penchant.errors import DataError
from penchant.evaluate.ballots import ballots
from penchant.evaluate.leaderboard import POINTS, leaderboard
from penchant.evaluate.style_control import (
    Styled,
    markdown,
    relative_difference,
    style_controlled,
    styled_fit,
    styled_numbers,
    styled_texts,
)
from penchant.preference.newton import newton
from penchant.records import Battles, Comparisons

EFFECTS = np.array([0.8, -0.3])


def styled(n=4000, *, seed=0, n_systems=4, ties=0.0, n_people=0, truth=None):
    rng = np.random.default_rng(seed)
    truth = np.linspace(0.5, -0.5, n_systems) if truth is None else np.asarray(truth)
    first = rng.integers(n_systems, size=n)
    second = (first + rng.integers(1, n_systems, size=n)) % n_systems
    # The worse a system is the longer it talks, so that style and strength are confounded.
    difference = np.clip(0.3 * (first - second)[:, None] / n_systems + 0.4 * rng.standard_normal((n, 2)), -1, 1)
    scaled = difference / np.sqrt((difference**2).mean(axis=0))
    wins = rng.random(n) < expit(truth[first] - truth[second] + scaled @ EFFECTS)
    outcome = np.where(rng.random(n) < ties, "tie", np.where(wins, "a", "b"))
    rows = [
        {"system_a": f"s{a}", "system_b": f"s{b}", "outcome": str(o)}
        for a, b, o in zip(first, second, outcome, strict=True)
    ]
    if n_people:
        rows = [row | {"user": f"u{rng.integers(n_people)}"} for row in rows]
    return Styled(Battles.from_rows(rows), ("length", "lists"), difference, 0)


def design(votes, x):
    ends = np.zeros((votes.n_votes, len(votes.systems)))
    ends[np.arange(votes.n_votes), votes.first] += 1
    ends[np.arange(votes.n_votes), votes.second] -= 1
    return np.hstack([ends, x])


def test_it_is_scikit_learns_logistic_regression_on_the_full_design_matrix():
    given = styled()
    votes, board = ballots(given.battles), style_controlled(given)
    x = given.difference / np.sqrt((given.difference**2).mean(axis=0))
    theirs = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-10, max_iter=1000)
    theirs.fit(design(votes, x), votes.result == 1)
    weights = theirs.coef_[0]
    weights[:4] -= weights[:4].mean()
    np.testing.assert_allclose(board.fit, weights, atol=1e-4)
    scores = {row.system: row.score for row in board.standings}
    np.testing.assert_allclose([scores[name] for name in votes.systems], 1000 + POINTS * weights[:4], atol=0.02)


@pytest.mark.parametrize("n_people", [0, 40])
def test_with_ties_and_people_it_is_the_general_newton_fit_with_its_sandwich(n_people):
    given = styled(600, ties=0.2, n_people=n_people)
    votes = ballots(given.battles)
    clusters = votes.person if n_people else None
    found, covariance = styled_fit(votes, given.difference, clusters=clusters)
    basis = np.zeros((6, 5))
    basis[:4, :3], basis[4:, 3:] = np.linalg.svd(np.ones((1, 4)))[2][1:].T, np.eye(2)
    general = newton(design(votes, given.difference) @ basis, votes.result, l2=0, clusters=clusters)
    np.testing.assert_allclose(found, basis @ general.weights, atol=1e-7)
    correction = n_people / (n_people - 1) if n_people else 1.0
    np.testing.assert_allclose(covariance, correction * basis @ general.sandwich @ basis.T, atol=1e-7)


def test_planted_effects_are_inside_their_intervals_and_confounded_systems_are_set_right():
    truth, inside, wrong, right = np.linspace(0.15, -0.15, 4), [], [], []
    for seed in range(25):
        given = styled(2500, seed=seed, truth=truth)
        board = style_controlled(given)
        inside += [effect.low <= at <= effect.high for effect, at in zip(board.effects.values(), EFFECTS, strict=True)]
        at = {f"s{place}": 1000 + POINTS * ability for place, ability in enumerate(truth)}
        right += [row.ci_low <= at[row.system] <= row.ci_high for row in board.standings]
        wrong += [row.ci_low <= at[row.system] <= row.ci_high for row in board.without]
    assert np.mean(inside) >= 0.86
    assert np.mean(right) >= 0.88
    assert np.mean(wrong) < 0.5  # the plain board took length for strength


def test_without_any_effect_the_board_beside_it_is_the_plain_one():
    given = styled(800, ties=0.1)
    plain = leaderboard(given.battles)
    for mine, other in zip(style_controlled(given).without, plain.standings, strict=True):
        assert (mine.system, mine.votes) == (other.system, other.votes)
        assert (mine.score, mine.ci_low) == pytest.approx((other.score, other.ci_low), abs=1e-5)


def test_with_a_limit_for_each_person_votes_of_weight_w_count_as_w_votes_and_the_sandwich_is_over_people():
    given = styled(600, ties=0.2, n_people=40)
    votes = ballots(given.battles, per_person=5)
    assert votes.n_capped > 30
    found, covariance = styled_fit(votes, given.difference, clusters=votes.person)
    x, weight = design(votes, given.difference), votes.weight
    p = expit(x @ found)
    np.testing.assert_allclose(x.T @ (weight * (votes.result - p)), 0, atol=1e-7)
    scores = np.zeros((40, 6))
    np.add.at(scores, votes.person, x * (weight * (votes.result - p))[:, None])
    bread = np.linalg.pinv(x.T @ (x * (weight * p * (1 - p))[:, None]))
    np.testing.assert_allclose(covariance, 40 / 39 * bread @ scores.T @ scores @ bread, atol=1e-7)
    assert style_controlled(given, per_person=5).fit == pytest.approx(
        styled_fit(votes, given.difference / np.sqrt((given.difference**2).mean(axis=0)))[0]
    )


def test_swapping_the_sides_of_every_vote_changes_nothing():
    given = styled(500)
    table = given.battles.table
    other = {"a": "b", "b": "a", "tie": "tie"}
    rows = [
        {"system_a": row["system_b"], "system_b": row["system_a"], "outcome": other[row["outcome"]]}
        for row in table.to_pylist()
    ]
    swapped = style_controlled(Styled(Battles.from_rows(rows), given.names, -given.difference, 0))
    for one, two in zip(style_controlled(given).standings, swapped.standings, strict=True):
        assert (one.system, one.score) == (two.system, pytest.approx(two.score))


def test_style_is_read_from_the_responses_of_both_sides_whoever_won():
    long, short = "# Title\n\n- **one** thing\n- two", "No."
    rows = []
    for outcome, chosen, rejected in (("a", long, short), ("b", short, long), ("tie", long, short)):
        extra = json.dumps({"system_a": "x", "system_b": "y", "outcome": outcome})
        strength = 0.5 if outcome == "tie" else 1.0
        rows.append({"prompt": "q", "chosen": chosen, "rejected": rejected, "strength": strength, "extra": extra})
    rows.append({"prompt": "q", "chosen": "1", "rejected": "2"})
    found = styled_texts(Comparisons.from_rows(rows))
    assert found.names == ("words", "lists", "headings", "bold")
    np.testing.assert_allclose(found.difference, [[(4 - 1) / 5, 1, 1, 1]] * 3)  # x is the long one in all three
    assert [row["outcome"] for row in found.battles.table.to_pylist()] == ["a", "b", "tie"]
    assert found.n_unknown == 1
    assert markdown("")["words"] == 0
    with pytest.raises(DataError, match="None of 1 comparisons"):
        styled_texts(Comparisons.from_rows(rows[3:]))


def test_style_is_read_from_numbers_of_both_sides_also_inside_objects():
    extra = {"length_a": 30, "length_b": 10, "meta": {"bold_count_a": 0, "bold_count_b": 0}, "turn": 1, "area": 4}
    vote = {"system_a": "x", "system_b": "y", "outcome": "a"}
    found = styled_numbers(Battles.from_rows([vote | {"extra": json.dumps(extra)}, vote]))
    assert (found.names, found.n_unknown) == (("length", "meta.bold_count"), 1)
    np.testing.assert_allclose(found.difference, [[0.5, 0.0]])
    with pytest.raises(DataError, match="None of 1 votes says"):
        styled_numbers(Battles.from_rows([vote]))
    with pytest.raises(DataError, match="1 of 1 votes, first vote 0, have a negative `length`"):
        styled_numbers(Battles.from_rows([vote | {"extra": json.dumps({"length_a": -1, "length_b": 2})}]))


def test_a_style_that_follows_from_who_meets_or_tells_every_winner_or_never_differs_is_refused():
    given = styled(300)
    votes = ballots(given.battles)
    follows = (votes.first - votes.second)[:, None] / 4.0
    with pytest.raises(DataError, match="do not determine what style does"):
        style_controlled(Styled(given.battles, ("length",), follows, 0))
    tells = np.where(votes.result == 1, 0.5, -0.5)[:, None]
    with pytest.raises(DataError, match=r"tells \(nearly\) every winner|may tell every winner"):
        style_controlled(Styled(given.battles, ("length",), tells, 0))
    with pytest.raises(DataError, match="alike in length"):
        style_controlled(Styled(given.battles, ("length",), np.zeros((300, 1)), 0))
    np.testing.assert_array_equal(relative_difference(np.array([0.0, 3.0]), np.array([0.0, 1.0])), [0.0, 0.5])
