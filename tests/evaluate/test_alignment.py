"""Normalised alignment: aggregated before it is divided, undefined where it is, with its intervals and counts."""

import numpy as np
import pytest

from penchant.errors import DataError
from penchant.evaluate.alignment import norm_align, summary


def row(problem, person, mode, score, *, correct=True, turns=0, expressed=(), model="m", second=None, failed=()):
    return {
        "model": model, "problem_id": problem, "persona_id": person, "mode": mode, "weighted_score": score,
        "correct": correct, "interaction_turns": turns, "preferences_expressed": list(expressed), "malformed_turns": 0,
        "preferences": {"length": ["short", 0.5], "emoji": ["none", 0.5]}, "failures": list(failed),
        "criteria_scores": {"length": score and round(score)},
        "second_scores": {} if second is None else {"length": second},
    }  # fmt: skip


def rows(scores, **more):
    """Three rows for each (baseline, discovery, oracle), over two problems and as many people as it takes."""
    found = []
    for number, (low, talked, high, turns) in enumerate(scores):
        pair = (f"p{number % 2}", f"u{number // 2}")
        found += [
            row(*pair, "no_prompt", low, **more),
            row(*pair, "infer_persona", talked, turns=turns, expressed=["length"], **more),
        ]
        found += [row(*pair, "persona_known", high, **more)]
    return found


def test_the_ratio_is_of_the_means_and_not_the_mean_of_ratios():
    low, talked, high = [2.0, 3.0], [3.0, 2.0], [4.0, 3.1]
    assert norm_align(low, talked, high) == pytest.approx(0.0)
    ratios = np.mean([100 * (t - b) / (o - b) for b, t, o in zip(low, talked, high, strict=True)])
    assert ratios < -400  # what a small denominator does


def test_the_ends_are_0_and_100_and_no_room_is_undefined():
    assert norm_align([1, 2], [1, 2], [3, 3]) == 0
    assert norm_align([1, 2], [3, 3], [3, 3]) == 100
    assert norm_align([2, 2], [1, 1], [3, 3]) == -100
    assert np.isnan(norm_align([1, 3], [2, 2], [2, 2]))
    assert np.isnan(norm_align([3, 3], [2, 2], [2.5, 2.5]))  # both worse than generic: the formula would say +200
    assert norm_align([1, 1], [2, 1], [3, 2], weights=[2, 0]) == 50


def test_losses_ties_and_undefined_pairs_are_counted():
    [cell] = summary(rows([(2, 3, 4, 1), (2, 1, 4, 0), (2, 2, 2, 0), (3, 2, 3, 0)])).cells
    assert cell.worse.estimate == 0.5
    assert (cell.n_ties, cell.n_undefined, cell.n_pairs) == (1, 2, 4)
    assert summary(rows([(2, 4, 4, 1)] * 4)).cells[0].n_ties == 0, "as good as knowing everything is no tie"
    assert cell.gain.estimate == pytest.approx(-0.25)
    assert cell.norm_align.estimate == pytest.approx(100 * -0.25 / 1.0)


def test_where_the_room_is_not_clear_of_0_normalised_alignment_has_no_bounds():
    [wide] = summary(rows([(2, 3, 4, 1)] * 8)).cells
    assert (wide.norm_align.low, wide.norm_align.high, wide.room.estimate) == (50, 50, 2)
    [narrow] = summary(rows([(2, 3, 4, 1), (4, 3, 3, 1)] * 3 + [(2, 3, 4, 1)])).cells
    assert narrow.room.low < 0 < narrow.room.estimate
    assert np.isfinite(narrow.norm_align.estimate)
    assert np.isnan(narrow.norm_align.low)


def test_a_cell_without_room_is_counted_as_undefined_and_not_as_negative():
    found = summary(rows([(2, 3, 2, 1), (2, 1, 2, 0)] * 2))
    assert np.isnan(found.cells[0].norm_align.estimate)
    assert found.n_undefined == 1
    assert found.negative is None


def test_a_pair_without_a_score_is_left_out_of_all_three_and_counted():
    good = rows([(2, 3, 4, 1)] * 4)
    lost = row("p9", "u9", "persona_known", None, failed=["the answer is empty"])
    found = summary([*good, row("p9", "u9", "no_prompt", 1.0), row("p9", "u9", "infer_persona", 5.0), lost])
    assert found.cells[0].n_incomplete == 1
    assert found.cells[0].align["baseline"] == 2.0
    assert found.failures == {"the answer is empty": 1}
    with pytest.raises(DataError, match="No pair of 1 answers"):
        summary([lost])


def test_negative_cells_slope_and_missed_wishes():
    better = rows([(2, 2 + 0.5 * n, 4, n) for n in range(4)], model="better")
    worse = rows([(2, 1, 4, 1)] * 4, model="worse")
    also = rows([(2, 3, 4, 1)] * 4, model="also better")
    found = summary([*better, *worse, *also])
    assert found.negative.estimate == pytest.approx(1 / 3)
    assert found.cells[0].per_question == pytest.approx(25.0)  # half a point of two
    assert np.isnan(found.cells[1].per_question)
    assert found.cells[0].missed == {"emoji": (1.0, 4), "length": (0.0, 4)}


def test_correctness_lost_by_the_talk_is_paired():
    data = rows([(2, 3, 4, 1)] * 8)
    for one in data[:12]:
        one["correct"] = one["mode"] == "no_prompt"
    [cell] = summary(data).cells
    assert cell.accuracy == {"baseline": 1.0, "discovery": 0.5, "oracle": 0.5}
    assert cell.cost.estimate == -0.5
    assert cell.cost.low < -0.5 < cell.cost.high


def test_answers_without_a_judgement_of_correctness_do_not_count_as_unchanged():
    data = rows([(2, 3, 4, 1)] * 8)
    for number, one in enumerate(data):
        one["correct"] = None if number < 12 else one["mode"] == "no_prompt"
    [cell] = summary(data).cells
    assert cell.cost.estimate == -1.0


def test_two_graders_agree_or_not():
    alike = [*rows([(2, 3, 4, 1)] * 2, second=3)]
    assert summary(rows([(2, 3, 4, 1)] * 2)).kappa is None
    assert summary(alike).kappa == pytest.approx(0.0)
    for one in alike:
        one["second_scores"] = dict(one["criteria_scores"])
    assert summary(alike).kappa == 1.0


def test_the_interval_covers_the_truth_when_problems_and_people_both_vary():
    rng = np.random.default_rng(0)
    covered = 0
    for number in range(60):
        problems, people = rng.normal(size=12), rng.normal(size=12)
        data = []
        for p in range(12):
            for u in range(12):
                gain = 0.3 + 0.3 * (problems[p] + people[u]) + 0.1 * rng.normal()
                scores = {"no_prompt": 2.0, "infer_persona": 2.0 + gain, "persona_known": 4.0}
                data += [row(str(p), str(u), mode, score) for mode, score in scores.items()]
        interval = summary(data, n_resamples=200, seed=number).cells[0].gain
        covered += interval.low < 0.3 < interval.high
    assert covered >= 51  # clustering by one factor alone covers about 80 %
