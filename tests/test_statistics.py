import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

import penchant.statistics as statistics
from penchant.errors import DataError, SettingsError
from penchant.statistics import (
    anytime_interval,
    cohen_kappa,
    nested_bootstrap,
    paired_bootstrap,
    weighted_bootstrap,
    wilson,
)

LEVELS = st.floats(0.5, 0.999)


@settings(deadline=None)
@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), LEVELS)
def test_wilson_equals_scipy(counts, level):
    ours = wilson(*counts, level)
    theirs = scipy.stats.binomtest(*counts).proportion_ci(confidence_level=level, method="wilson")
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-9)
    assert ours.low <= ours.estimate <= ours.high


def test_bootstrap_with_clusters_of_size_one_equals_scipy():
    values = np.random.default_rng(1).exponential(size=60)
    ours = paired_bootstrap(values, clusters=np.arange(60), n_resamples=20_000)
    theirs = scipy.stats.bootstrap(
        (values,), np.mean, method="percentile", n_resamples=20_000, rng=np.random.default_rng(2)
    ).confidence_interval
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.02)


def test_records_without_clusters_are_their_own_clusters():
    values = np.random.default_rng(1).normal(size=30)
    assert paired_bootstrap(values) == paired_bootstrap(values, clusters=np.arange(30))


@settings(deadline=None, max_examples=25)
@given(st.lists(st.integers(-5, 5), min_size=2, max_size=20), st.integers(2, 6))
def test_copying_every_record_within_its_cluster_does_not_narrow_the_interval(values, copies):
    clusters = np.arange(len(values))
    once = paired_bootstrap(values, clusters=clusters, n_resamples=200)
    often = paired_bootstrap(np.repeat(values, copies), clusters=np.repeat(clusters, copies), n_resamples=200)
    assert (often.low, often.high, often.n) == pytest.approx((once.low, once.high, once.n))


@settings(deadline=None, max_examples=25)
@given(st.lists(st.integers(-5, 5), min_size=2, max_size=20), st.integers(0, 100))
def test_swapping_ours_and_baseline_flips_the_interval(values, seed):
    zeros = np.zeros(len(values))
    there = paired_bootstrap(values, zeros, n_resamples=200, seed=seed)
    back = paired_bootstrap(zeros, values, n_resamples=200, seed=seed)
    assert there.estimate == pytest.approx(np.mean(values))
    assert (there.estimate, there.low, there.high) == pytest.approx((-back.estimate, -back.high, -back.low))


def test_clustered_bootstrap_covers_where_unclustered_undercovers():
    clustered = unclustered = 0
    clusters = np.repeat(np.arange(40), 5)
    for trial in range(200):
        rng = np.random.default_rng(trial)
        values = rng.normal(size=40)[clusters] + rng.normal(size=200) * 0.5
        whole = paired_bootstrap(values, clusters=clusters, n_resamples=600, seed=trial)
        loose = paired_bootstrap(values, n_resamples=600, seed=trial)
        clustered += whole.low <= 0 <= whole.high
        unclustered += loose.low <= 0 <= loose.high
    assert 0.90 <= clustered / 200 <= 0.99
    assert unclustered / 200 < 0.80


def test_nested_bootstrap_has_the_standard_error_of_two_level_resampling():
    rng = np.random.default_rng(5)
    table = rng.normal(size=(6, 1)) + rng.normal(size=(6, 8))  # seeds by clusters
    seeds, clusters = np.indices(table.shape)
    ours = nested_bootstrap(table.ravel(), seeds=seeds.ravel(), clusters=clusters.ravel(), n_resamples=20_000)
    drawn = rng.integers(6, size=(20_000, 6))
    inner = rng.integers(8, size=(20_000, 6, 8))
    brute = np.quantile(table[drawn[:, :, None], inner].mean(axis=(1, 2)), [0.025, 0.975])
    assert (ours.low, ours.high) == pytest.approx(brute, abs=0.04)
    assert ours.n == 6


def test_nested_interval_is_wider_than_one_that_ignores_seeds():
    rng = np.random.default_rng(6)
    seeds, clusters = np.repeat(np.arange(5), 20), np.tile(np.arange(20), 5)
    values = rng.normal(size=5)[seeds] + 0.3 * rng.normal(size=100)
    nested = nested_bootstrap(values, seeds=seeds, clusters=clusters)
    flat = paired_bootstrap(values)
    assert nested.high - nested.low > 1.5 * (flat.high - flat.low)


def test_chunks_do_not_change_the_clustered_interval(monkeypatch):
    values = np.random.default_rng(7).normal(size=30)
    whole = paired_bootstrap(values)
    monkeypatch.setattr(statistics, "_CHUNK_ELEMENTS", 100)
    assert paired_bootstrap(values) == whole


def test_the_same_seed_gives_the_same_interval_and_another_seed_another():
    values = np.random.default_rng(3).normal(size=40)
    labels = {"seeds": np.arange(40) % 4, "clusters": np.arange(40) // 2}
    assert paired_bootstrap(values, seed=4) == paired_bootstrap(values, seed=4) != paired_bootstrap(values, seed=5)
    assert nested_bootstrap(values, **labels, seed=4) == nested_bootstrap(values, **labels, seed=4)
    assert nested_bootstrap(values, **labels, seed=4) != nested_bootstrap(values, **labels, seed=5)


@pytest.mark.parametrize("mean", [0.1, 0.5, 0.8])
def test_anytime_bounds_rarely_ever_exclude_the_true_mean(mean):
    alpha, streams = 0.1, 300
    rng = np.random.default_rng(8)
    missed = 0
    for _ in range(streams):
        low, high = anytime_interval(rng.random(1000) < mean, level=1 - alpha)
        missed += bool(np.any((low > mean) | (high < mean)))
    assert missed / streams <= alpha + 3 * np.sqrt(alpha * (1 - alpha) / streams)


def test_anytime_bounds_equal_the_theorem_written_as_a_loop():
    x, alpha = np.random.default_rng(9).beta(2, 5, size=80), 0.05
    mean, variance, weight, weighted, spread, total, squares = 0.5, 0.25, 0.0, 0.0, 0.0, 0.5, 0.25
    low, high, lows, highs = 0.0, 1.0, [], []
    for t, value in enumerate(x, 1):
        bet = min(np.sqrt(2 * np.log(2 / alpha) / (variance * t * np.log(1 + t))), 0.5)
        spread += 4 * (value - mean) ** 2 * (-np.log(1 - bet) - bet) / 4
        weight, weighted, total = weight + bet, weighted + bet * value, total + value
        mean = total / (t + 1)
        squares += (value - mean) ** 2
        variance = squares / (t + 1)
        half = (np.log(2 / alpha) + spread) / weight
        low, high = max(low, weighted / weight - half), min(high, weighted / weight + half)
        lows.append(low)
        highs.append(high)
    ours = anytime_interval(x)
    np.testing.assert_allclose(ours[0], lows, atol=1e-12)
    np.testing.assert_allclose(ours[1], highs, atol=1e-12)


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=50), LEVELS)
def test_anytime_bounds_only_tighten_and_mirror_with_the_values(values, level):
    low, high = anytime_interval(values, level)
    assert np.all(np.diff(low) >= 0)
    assert np.all(np.diff(high) <= 0)
    mirrored_low, mirrored_high = anytime_interval(1 - np.array(values), level)
    np.testing.assert_allclose(mirrored_low, 1 - high, atol=1e-9)
    np.testing.assert_allclose(mirrored_high, 1 - low, atol=1e-9)


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("abc")), min_size=1, max_size=40))
def test_kappa_equals_sklearn(pairs):
    metrics = pytest.importorskip("sklearn.metrics")
    first, second = zip(*pairs, strict=True)
    if len({*first, *second}) == 1:
        with pytest.raises(DataError, match="undefined"):
            cohen_kappa(first, second)
        return
    assert cohen_kappa(first, second) == pytest.approx(metrics.cohen_kappa_score(first, second), abs=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: wilson(0, 0), "n: got 0. Pass"),
        (lambda: wilson(4, 3), "successes: got 4 of n = 3. Pass"),
        (lambda: paired_bootstrap([]), "ours: 0 entries. Check"),
        (lambda: paired_bootstrap([1, np.nan, np.nan]), "ours: 2 of 3, first at index 1. Drop"),
        (lambda: paired_bootstrap([1, 2], [1, np.nan]), "baseline: 1 of 2, first at index 1. Drop"),
        (lambda: paired_bootstrap([1, 2], [1]), "baseline: 1 entries where 2 are needed. Pass"),
        (lambda: paired_bootstrap([1, 2], clusters=[1]), "clusters: 1 entries where 2 are needed. Pass"),
        (lambda: paired_bootstrap([1, 2], clusters=[1, np.nan]), "clusters: 1 of 2, first at index 1. Drop"),
        (lambda: paired_bootstrap([1, 2], clusters=[7, 7]), "clusters: all 2 records belong to it. Bring"),
        (lambda: nested_bootstrap([1, 2], seeds=[0, 0], clusters=[0, 1]), "seeds: all 2 records"),
        (lambda: anytime_interval([]), "values: 0 entries. Check"),
        (lambda: anytime_interval([0.5, 2]), r"values: 1 of 2, first at index 1 \(2.0\). Rescale"),
        (lambda: cohen_kappa([], []), "first: 0 entries. Check"),
        (lambda: cohen_kappa(["a", "b"], ["a"]), "second: 1 entries where 2 are needed. Pass"),
        (lambda: cohen_kappa(["1", "2"], [1, 2]), "Convert both to one type"),
    ],
)
def test_unusable_data_is_refused_with_where_how_much_and_what_to_do(call, message):
    with pytest.raises(DataError, match=message):
        call()


@pytest.mark.parametrize(
    "call",
    [
        lambda: wilson(1, 2, level=95),
        lambda: paired_bootstrap([1, 2], n_resamples=0),
        lambda: paired_bootstrap([1, 2], seed=-1),
        lambda: anytime_interval([0.5], level=0),
    ],
)
def test_settings_out_of_range_are_refused(call):
    with pytest.raises(SettingsError, match="got"):
        call()


def test_the_weighted_bootstrap_of_a_mean_is_the_paired_one():
    rng = np.random.default_rng(0)
    values, clusters = rng.standard_normal(120), np.repeat(np.arange(40), 3)
    ours = weighted_bootstrap(lambda w: w @ values / w.sum(), 120, clusters=clusters, n_resamples=4000)
    same = paired_bootstrap(values, clusters=clusters, n_resamples=4000)
    assert ours.estimate == pytest.approx(same.estimate)
    assert (ours.low, ours.high) == pytest.approx((same.low, same.high), abs=0.02)
    assert ours.n == same.n == 40


def test_the_weighted_bootstrap_draws_the_same_for_every_statistic_and_leaves_out_what_is_not_finite():
    drawn = [], []
    for seen in drawn:
        weighted_bootstrap(lambda w, seen=seen: seen.append(w.copy()) or 0.0, 5, n_resamples=10, seed=3)
    np.testing.assert_array_equal(*drawn)
    assert all(w.sum() == 5 for w in drawn[0])
    often = weighted_bootstrap(lambda w: 1.0 if w[0] else np.nan, 5, n_resamples=200)
    assert (often.low, often.high) == (1.0, 1.0)
    with pytest.raises(DataError, match="second one"):
        weighted_bootstrap(lambda w: 0.0, 5, clusters=["a"] * 5)


def test_crossed_bootstrap_of_additive_effects_has_the_variance_of_both_factors():
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=40), rng.normal(size=30)
    values = (first[:, None] + second[None, :]).ravel()
    one, other = np.repeat(np.arange(40), 30), np.tile(np.arange(30), 40)
    found = statistics.crossed_bootstrap(lambda w: float(w @ values / w.sum()), one, other, n_resamples=4000)
    expected = 1.96 * np.sqrt(first.var() / 40 + second.var() / 30)
    assert (found.high - found.low) / 2 == pytest.approx(expected, rel=0.06)
    assert found.estimate == pytest.approx(values.mean())
    with pytest.raises(DataError, match="each factor needs two"):
        statistics.crossed_bootstrap(lambda w: 0.0, ["a", "a"], ["x", "y"])
