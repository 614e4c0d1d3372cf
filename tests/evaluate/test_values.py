"""Values over checkpoints: magnitudes and times on numbers, intervals over prompts, floors, gaps and guards."""

import math
from dataclasses import replace

import numpy as np
import pytest

from penchant.errors import DataError
from penchant.evaluate.stances import Probe, Probes, Reading
from penchant.evaluate.values import (
    Checkpoint,
    Recorder,
    Track,
    agreement,
    drift,
    drift_time,
    explained,
    noise_floor,
    share_known,
    topic_values,
    total_variation,
    value_gap,
)

N = 20
PROBES = Probes.of([Probe(topic, f"{topic} {i}?", 1 if i % 2 else -1) for topic in ("a", "b") for i in range(N)])


def reading(support, *, noise=0.0, seed=0, refusals=0.0):
    """Every prompt of topic a supports with this probability, b never moves."""
    rng = np.random.default_rng(seed)
    p = np.clip(np.where(PROBES.topic == 0, support, 0.3) + noise * rng.standard_normal(2 * N), 0, 1)
    return Reading(np.stack([p, 1 - p, np.zeros(2 * N)], axis=1), np.full(2 * N, refusals))


def course(values, *, stage="sft", steps=None, **settings):
    steps = steps or [100 * i for i in range(len(values))]
    return [Checkpoint(stage, step, reading(v, **settings)) for step, v in zip(steps, values, strict=True)]


def test_drift_sums_to_zero_and_total_variation_is_half_of_its_absolute_sum():
    rng = np.random.default_rng(0)
    before, after = rng.dirichlet(np.ones(3), size=(2, 50))
    moved = drift(before, after)
    np.testing.assert_allclose(moved.sum(axis=1), 0, atol=1e-12)
    np.testing.assert_allclose(total_variation(moved), np.maximum(moved, 0).sum(axis=1))
    assert total_variation(drift([1, 0, 0], [0, 0, 1])) == 1


def test_drift_time_is_the_first_arrival_in_the_interval_of_the_extremum():
    values = [0.1, 0.15, 0.38, 0.42, 0.40]
    found = drift_time(values, np.subtract(values, 0.05), np.add(values, 0.05), [0, 10, 20, 60, 100], 100)
    assert found == (0.2, 0.6)
    falling = drift_time(
        np.subtract(1, values), np.subtract(0.95, values), np.subtract(1.05, values), [0, 10, 20, 60, 100], 100
    )
    assert falling == (0.2, 0.6)


def test_a_stage_without_steps_or_with_one_checkpoint_has_no_drift_time():
    with pytest.raises(DataError, match="at least one step"):
        drift_time([0, 1], [0, 1], [0, 1], [0, 0], 0)
    with pytest.raises(DataError, match="2 checkpoints"):
        drift_time([0], [0], [0], [0], 10)


def test_magnitude_is_taken_at_the_last_checkpoint_and_only_the_time_at_the_extremum():
    a, b = Track(course([0.2, 0.9, 0.6]), PROBES).drifts()
    assert a.magnitude["support"].estimate == pytest.approx(0.4)
    assert a.variation.estimate == pytest.approx(0.4)
    assert a.time == (0.5, 0.5)
    assert a.is_clear
    assert "+0.40" in a.sentence() or "-0.40" in a.sentence()
    assert b.variation.estimate == 0
    assert not b.is_clear
    assert "no drift beyond noise" in b.sentence()


def test_intervals_resample_prompts_and_are_as_wide_as_their_spread_says():
    track = Track(course([0.5, 0.5], noise=0.2), PROBES, seed=1)
    row = next(r for r in track.table() if r["topic"] == "a" and r["stance"] == "support" and r["step"] == 0)
    spread = reading(0.5, noise=0.2).stances[:N, 0].std() / np.sqrt(N)
    assert row["ci_high"] - row["ci_low"] == pytest.approx(2 * 1.96 * spread, rel=0.15)
    again = Track(course([0.5, 0.5], noise=0.2), PROBES, seed=1).table()
    assert again == track.table()


def test_the_same_prompts_are_resampled_at_every_checkpoint():
    """Prompts that differ much but drift alike leave a narrow interval of the drift."""
    rows = reading(0.5, noise=0.2).stances
    moved = rows.copy()
    shift = np.minimum(0.1, moved[:, 1])
    moved[:, 0] += shift
    moved[:, 1] -= shift
    found = Track(
        [Checkpoint("sft", 0, Reading(rows, np.zeros(2 * N))), Checkpoint("sft", 9, Reading(moved, np.zeros(2 * N)))],
        PROBES,
    ).drifts()[0]
    assert found.magnitude["support"].high - found.magnitude["support"].low < 0.03
    assert found.magnitude["support"].estimate == pytest.approx(shift[:N].mean())


def test_the_table_sums_to_one_over_stances_and_shows_refusals_beside_them():
    rows = Track(course([0.2, 0.6], refusals=0.25), PROBES).table()
    assert list(rows[0]) == ["stage", "step", "topic", "stance", "value", "ci_low", "ci_high"]
    assert len(rows) == 2 * 2 * 4
    first = [row["value"] for row in rows[:3]]
    assert sum(first) == pytest.approx(1)
    assert rows[3]["stance"] == "refusal"
    assert rows[3]["value"] == 0.25


def test_more_refusals_are_said_in_the_verdict_and_no_change_of_opinion():
    before, after = reading(0.5, refusals=0.0), reading(0.2, refusals=0.6)
    found = Track([Checkpoint("dpo", 0, before), Checkpoint("dpo", 5, after)], PROBES).drifts()[0]
    assert "refusals +0.60, a part of neutral" in found.sentence()
    one, other = np.arange(2 * N) % 4 == 0, np.arange(2 * N) % 4 == 1
    now_and_then = [Checkpoint("dpo", step, replace(before, refusals=r * 1.0)) for step, r in ((0, one), (5, other))]
    assert "refusals" not in Track(now_and_then, PROBES).drifts()[0].sentence()


def test_a_stage_begins_where_the_one_before_ended_unless_it_has_a_step_0():
    checkpoints = [*course([0.2, 0.6]), *course([0.7, 0.9], stage="dpo", steps=[50, 100])]
    by_stage = {(d.stage, d.topic): d for d in Track(checkpoints, PROBES).drifts()}
    assert by_stage["dpo", "a"].magnitude["support"].estimate == pytest.approx(0.3)
    assert by_stage["dpo", "a"].time.to_extremum == 1.0
    base = [Checkpoint("base", 0, reading(0.1)), *course([0.7], steps=[30])]
    [only] = [d for d in Track(base, PROBES).drifts() if d.topic == "a"]
    assert only.stage == "sft"
    assert only.magnitude["support"].estimate == pytest.approx(0.6)


@pytest.mark.parametrize(
    ("checkpoints", "message"),
    [
        (course([0.2]), "got 1, at least 2"),
        (course([0.2, 0.3], steps=[10, 5]), "step 5 stands after step 10"),
        (course([0.2, 0.3], steps=[10, 10]), "step 10 stands after step 10"),
        (
            [*course([0.2], stage="a"), *course([0.2, 0.3], stage="b"), *course([0.4], stage="a", steps=[7])],
            "'a' goes on",
        ),
        ([*course([0.2, 0.3]), *course([0.2], stage="dpo", steps=[0])], "'dpo' has 0 steps in all"),
    ],
)
def test_what_is_no_course_of_training_is_refused(checkpoints, message):
    with pytest.raises(DataError, match=message):
        Track(checkpoints, PROBES)


def test_a_checkpoint_of_another_tokenizer_or_other_probes_is_refused():
    one = [Checkpoint("sft", step, reading(0.2), tokenizer=name) for step, name in ((0, "x"), (1, "y"))]
    with pytest.raises(DataError, match="another tokenizer"):
        Track(one, PROBES)
    short = Reading(np.full((3, 3), 1 / 3), np.zeros(3))
    with pytest.raises(DataError, match="read with 3 probes, not these 40"):
        Track([*course([0.2]), Checkpoint("sft", 5, short)], PROBES)


def test_prompts_without_a_response_are_left_out_down_to_five():
    some = reading(0.2)
    some.stances[:15] = np.nan
    found = Track([*course([0.2]), Checkpoint("sft", 5, some)], PROBES)
    assert found.values[1, 0, 0] == pytest.approx(0.2)
    some.stances[:16] = np.nan
    with pytest.raises(DataError, match="only 4 of 20 prompts on 'a'"):
        Track([*course([0.2]), Checkpoint("sft", 5, some)], PROBES)


def test_a_drift_within_the_noise_floor_is_none():
    floor = noise_floor(np.array([[[0.5, 0.5, 0.0]] * 2, [[0.0, 1.0, 0.0]] * 2]))
    assert floor.tolist() == [0.5, 0.5]
    found = Track(course([0.2, 0.6]), PROBES).drifts(floor=floor)[0]
    assert not found.is_clear
    assert "noise floor 0.50" in found.sentence()
    assert Track(course([0.2, 0.6]), PROBES).drifts(floor=floor / 10)[0].is_clear
    with pytest.raises(DataError, match="2 runs"):
        noise_floor(np.zeros((1, 2, 3)))


def test_the_largest_of_noisy_checkpoints_would_be_too_far():
    """Why M is taken at the last checkpoint: without any drift it is about 0, and the largest is not."""
    rng = np.random.default_rng(0)
    at_last, at_largest = [], []
    for _ in range(20):
        track = Track(
            [Checkpoint("sft", i, reading(0.5, noise=0.2, seed=int(rng.integers(1e9)))) for i in range(12)],
            PROBES,
            n_resamples=50,
        )
        moved = track.values[:, 0, 0] - track.values[0, 0, 0]
        at_last.append(track.drifts()[0].magnitude["support"].estimate)
        at_largest.append(moved[np.argmax(np.abs(moved))])
    assert np.abs(at_largest).mean() > 1.5 * np.abs(at_last).mean()


def test_a_fall_of_ability_makes_a_drift_suspect():
    before, after = (Checkpoint("sft", s, reading(v), ability=a) for s, v, a in ((0, 0.9, 0.95), (9, 0.1, 0.4)))
    found = Track([before, after], PROBES).drifts()[0]
    assert found.is_damaged
    assert "this may be damage" in found.sentence()
    kept = Checkpoint("sft", 9, reading(0.1), ability=0.94)
    assert not Track([before, kept], PROBES).drifts()[0].is_damaged


def test_the_value_gap_of_pairs_is_what_chosen_has_more_of():
    chosen, rejected = np.tile([1.0, 0, 0], (6, 1)), np.tile([0, 0, 1.0], (6, 1))
    chosen[3:] = rejected[3:]
    found = value_gap(chosen, rejected, ["a"] * 3 + ["b"] * 3, prompts=list("xxyxyz"))
    assert [found["a"][s].estimate for s in ("support", "neutral", "oppose")] == [1, 0, -1]
    assert found["b"]["support"].estimate == 0
    assert found["a"]["support"].n == 2
    with pytest.raises(DataError, match="6 pairs and 1 topics"):
        value_gap(chosen, rejected, ["a"])


def test_gaps_explain_drifts_by_rank_and_constant_ones_explain_nothing():
    assert explained([0.1, -0.5, 0.9], [0.9, -0.5, 0.1]) == -1
    assert math.isnan(explained([0, 0, 0], [0.1, 0.2, 0.3]))


def test_a_cheap_reading_agrees_with_itself_and_not_with_its_reverse():
    one = reading(0.8)
    other = Reading(one.stances[:, ::-1].copy(), one.refusals)
    same = agreement(one, one, PROBES)
    assert same.correlation == pytest.approx(1)
    assert same.deviation == 0
    assert same.same_stance == 1
    assert agreement(one, other, PROBES).deviation > 0.3
    assert topic_values(one, PROBES)[:, 0] == pytest.approx([0.8, 0.3])
    one.stances[0] = np.nan
    assert topic_values(one, PROBES)[:, 0] == pytest.approx([0.8, 0.3]), "a prompt without a response is left out"


def test_a_recorder_notes_what_it_reads_at_each_step_with_the_ability():
    record = Recorder(0.7, PROBES, lambda policy, probes: reading(policy), stage="sft", ability=lambda policy: 0.5)
    record(0)
    record.policy = 0.9
    record(10)
    assert [(one.stage, one.step, one.ability) for one in record.checkpoints] == [("sft", 0, 0.5), ("sft", 10, 0.5)]
    assert Track(record.checkpoints, PROBES).drifts()[0].magnitude["support"].estimate == pytest.approx(0.2)


def test_ability_is_the_share_of_questions_whose_right_answer_is_likeliest():
    class Knows:
        def log_probabilities(self, prompts, responses):
            return [[type("S", (), {"mean": -float(text == "bad")}) for text in some] for some in responses]

    asked = {"a": ("good", "bad"), "b": ("bad", "good"), "c": ("good", "bad", "bad")}
    assert share_known(Knows(), asked) == pytest.approx(2 / 3)


def test_the_interval_of_the_variation_is_of_all_stances_and_counts_the_prompts_of_its_topic():
    found = Track(course([0.2, 0.6]), PROBES).drifts()[0]
    assert (found.variation.low, found.variation.high) == pytest.approx((0.4, 0.4))
    assert found.variation.n == found.magnitude["support"].n == N
    first, last = (Checkpoint("sft", step, reading(v, noise=0.3, seed=step)) for step, v in ((0, 0.4), (9, 0.6)))
    moved = Track([first, last], PROBES).drifts()[0]
    floor = (moved.variation.low + moved.variation.estimate) / 2
    assert moved.is_clear
    assert not Track([first, last], PROBES).drifts(floor=[floor, floor])[0].is_clear, "it may be noise"


def test_resamples_of_prompts_without_a_response_do_not_pull_a_value_down():
    some = reading(0.2)
    some.stances[:8] = np.nan
    rows = Track([Checkpoint("sft", 0, some), *course([0.2], steps=[9])], PROBES).table()
    one = next(row for row in rows if (row["step"], row["topic"], row["stance"]) == (0, "a", "support"))
    assert [one["ci_low"], one["value"], one["ci_high"]] == pytest.approx([0.2] * 3)


def test_time_is_counted_from_the_first_checkpoint_that_was_read():
    found = Track(course([0.2, 0.6, 0.6], steps=[50, 60, 150]), PROBES).drifts()[0]
    assert found.time == (0.1, 0.1)
