"""Win rates on numbers: counts, clusters, peeking, and a length effect that was planted."""

import csv
import gzip

import numpy as np
import pytest

from penchant.errors import DataError
from penchant.evaluate import win_rate as wr
from penchant.statistics import paired_bootstrap, wilson


def test_ties_count_half_and_swapping_the_systems_mirrors_the_rate():
    outcomes = np.array([1, 1, 0.5, 0, 1, 0.5, 0, 1])
    rate, mirrored = wr.paired_win_rate(outcomes), wr.paired_win_rate(1 - outcomes)
    assert rate.interval.estimate == pytest.approx(0.625)
    assert (rate.n_wins, rate.n_ties, rate.n_losses) == (4, 2, 2)
    assert mirrored.interval.estimate == pytest.approx(0.375)
    assert mirrored.interval.low == pytest.approx(1 - rate.interval.high)
    assert rate.interval == paired_bootstrap(outcomes, clusters=np.arange(8))


def test_comparisons_of_one_prompt_are_not_independent_evidence():
    rng = np.random.default_rng(0)
    prompts = np.repeat(np.arange(30), 20)
    outcomes = (rng.random(30) < 0.6)[prompts].astype(float)
    alone, together = wr.paired_win_rate(outcomes), wr.paired_win_rate(outcomes, clusters=prompts)
    assert together.interval.n == 30
    assert together.interval.high - together.interval.low > 3 * (alone.interval.high - alone.interval.low)


def test_a_clean_sweep_is_not_certain():
    assert wr.paired_win_rate([1.0, 1.0, 1.0]).interval == wilson(3, 3)
    one = wr.paired_win_rate([1.0])
    assert one.interval.low < 0.25
    ties = wr.paired_win_rate([0.5, 0.5, 0.5])
    assert ties.interval.estimate == 0.5
    assert (ties.interval.low, ties.interval.high) == (wilson(1, 3).low, wilson(2, 3).high)
    # Twenty wins on one prompt are one cluster's word.
    assert wr.paired_win_rate([1.0] * 20, clusters=["p"] * 20).interval == wilson(1, 1)


def test_the_interval_holds_the_truth_as_often_as_it_says():
    rng, hits = np.random.default_rng(1), 0
    for seed in range(200):
        prompts = np.repeat(np.arange(40), 3)
        tilt = rng.beta(3, 2, size=40)[prompts]
        outcomes = (rng.random(120) < tilt).astype(float)
        interval = wr.paired_win_rate(outcomes, clusters=prompts, n_resamples=300, seed=seed).interval
        hits += interval.low <= 0.6 <= interval.high
    assert hits >= 180


def test_every_group_gets_the_rate_of_its_own_comparisons():
    groups = np.array(["b", "a", "b", "a", "b"], dtype=object)
    rates = wr.win_rates_by(groups, [1, 0, 1, 0.5, 0])
    assert list(rates) == ["a", "b"]
    assert rates["a"] == wr.paired_win_rate([0, 0.5])
    assert rates["b"].interval.estimate == pytest.approx(2 / 3)


def test_a_real_difference_is_decided_and_an_absent_one_rarely():
    rng = np.random.default_rng(2)
    clear = wr.running_win_rate((rng.random(2000) < 0.7).astype(float))
    assert clear.decided_at is not None
    assert clear.low[clear.decided_at - 1] > 0.5
    assert (clear.low[: clear.decided_at - 1] <= 0.5).all()
    assert clear.mean[-1] == pytest.approx(0.7, abs=0.03)
    false_alarms = sum(
        wr.running_win_rate((rng.random(400) < 0.5).astype(float)).decided_at is not None for _ in range(100)
    )
    assert false_alarms <= 10


def test_controlling_for_length_recovers_the_rate_between_equal_lengths():
    rng = np.random.default_rng(3)
    difference = rng.normal(80, 100, size=6000)
    strength, effect = -0.4, 1.5
    p = 1 / (1 + np.exp(-(strength + effect * np.tanh(difference / difference.std()))))
    found = wr.length_controlled_win_rate((rng.random(6000) < p).astype(float), difference)
    assert found.raw > 0.5 > found.interval.high  # the raw win came from length alone
    assert found.interval.low < 1 / (1 + np.exp(0.4)) < found.interval.high
    assert found.length_effect.low < effect < found.length_effect.high


def test_without_a_length_effect_the_controlled_rate_is_the_raw_one():
    rng = np.random.default_rng(4)
    outcomes = (rng.random(3000) < 0.6).astype(float)
    found = wr.length_controlled_win_rate(outcomes, rng.normal(size=3000))
    assert found.interval.estimate == pytest.approx(found.raw, abs=0.01)
    assert found.length_effect.low < 0 < found.length_effect.high
    level = wr.length_controlled_win_rate(outcomes, np.zeros(3000))
    assert level.interval.estimate == pytest.approx(found.raw, abs=1e-3)
    assert level.length_effect.estimate == 0.0


def test_published_win_rates_are_reproduced_and_length_controlled_ones_approached(shared_data):
    # AlpacaEval 2's own leaderboard; its length model has a third term, so that ours can only come near.
    folder = shared_data / "alpaca_eval_judgments"
    with open(folder / "published_leaderboard.csv", encoding="utf-8", newline="") as lines:
        published = {next(iter(row.values())): row for row in csv.DictReader(lines)}
    votes: dict[str, list[tuple[float, float]]] = {}
    with gzip.open(folder / "preferences.csv.gz", "rt", encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines):
            if row["preference"] and row["model"] in published:
                longer = float(row["length_model"]) - float(row["length_baseline"])
                votes.setdefault(row["model"], []).append((float(row["preference"]) - 1, longer))
    away, raw_away = [], []
    for model, pairs in votes.items():
        outcomes, longer = np.array(pairs).T
        found = wr.length_controlled_win_rate(outcomes, longer)
        assert 100 * found.raw == pytest.approx(float(published[model]["win_rate"]), abs=1e-6)
        official = float(published[model]["length_controlled_winrate"])
        away.append(abs(100 * found.interval.estimate - official))
        raw_away.append(abs(100 * found.raw - official))
    assert len(away) == 40
    assert np.mean(away) < 1.5 < 4.5 < np.mean(raw_away)
    assert max(away) < 5


def test_swapping_the_systems_mirrors_the_controlled_rate():
    rng = np.random.default_rng(5)
    outcomes, difference = rng.random(200).round(), rng.normal(size=200)
    ours = wr.length_controlled_win_rate(outcomes, difference)
    theirs = wr.length_controlled_win_rate(1 - outcomes, -difference)
    assert ours.interval.estimate == pytest.approx(1 - theirs.interval.estimate)
    assert ours.length_effect.estimate == pytest.approx(theirs.length_effect.estimate)


def test_clusters_widen_the_controlled_interval_and_a_sweep_stays_finite():
    rng = np.random.default_rng(6)
    prompts = np.repeat(np.arange(25), 20)
    outcomes, difference = (rng.random(25) < 0.5)[prompts].astype(float), rng.normal(size=500)
    wide = wr.length_controlled_win_rate(outcomes, difference, clusters=prompts).interval
    narrow = wr.length_controlled_win_rate(outcomes, difference).interval
    assert wide.high - wide.low > 2 * (narrow.high - narrow.low)
    sweep = wr.length_controlled_win_rate(np.ones(12), difference[:12]).interval
    assert 0.8 < sweep.estimate < 1
    assert sweep.low < sweep.estimate < sweep.high <= 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: wr.paired_win_rate([]), "at least one"),
        (lambda: wr.paired_win_rate([1, 2.0]), r"1 of 2 do not, first at index 1 \(2.0\). Map votes"),
        (lambda: wr.paired_win_rate([1, float("nan")]), "first at index 1"),
        (lambda: wr.paired_win_rate([1, 0], clusters=["a"]), "one label each"),
        (lambda: wr.win_rates_by([None, "a"], [1, 0]), "1 of 2 labels are missing"),
        (lambda: wr.win_rates_by(np.array([3, "a"], dtype=object), [1, 0]), "make all of them text"),
        (lambda: wr.length_controlled_win_rate([1, 0], [1.0, float("inf")]), "1 are not finite"),
    ],
)
def test_unusable_outcomes_are_refused_with_what_to_do(call, message):
    with pytest.raises(DataError, match=message):
        call()
