"""One for all against one for each: people with known gains, and a placebo that must look like a placebo."""

from itertools import product

import numpy as np
import pytest

from penchant.errors import DataError, SettingsError
from penchant.evaluate.per_user import per_user_report


def simulated(n_users: int, n_rows: int, gains: np.ndarray, seed: int):
    """Right or wrong per row: the shared model at 65 %, everybody's own model better by their gain."""
    rng = np.random.default_rng(seed)
    users = np.repeat([f"u{i:03d}" for i in range(n_users)], n_rows)
    shared = rng.random(n_users * n_rows) < 0.65
    own = rng.random(n_users * n_rows) < 0.65 + np.repeat(gains, n_rows)
    return users, shared.astype(float), own.astype(float)


def test_the_report_by_hand():
    users = np.array(["b", "a", "a", "b", "c"], dtype=object)
    report = per_user_report(users, [1, 0, 0, 1, 1], [0, 1, 0, 1, 1])
    assert [(u.user, u.n, u.one_for_all, u.per_user, u.gain) for u in report.users] == [
        ("a", 2, 0.0, 0.5, 0.5),
        ("b", 2, 1.0, 0.5, -0.5),
        ("c", 1, 1.0, 1.0, 0.0),
    ]
    assert report.one_for_all.estimate == pytest.approx(0.6)
    assert report.per_user.estimate == pytest.approx(0.6)
    assert report.gain.estimate == pytest.approx(0.0)
    assert (report.gain.n, report.by_user) == (5, False)  # of three people only rows can be resampled
    assert report.share_worse.estimate == pytest.approx(1 / 3)
    assert report.share_better.estimate == pytest.approx(1 / 3)
    assert [u.user for u in report.worst] == ["b"]
    assert report.worst_decile == -0.5


def test_with_six_people_or_more_intervals_resample_people():
    users = np.repeat(list("abcdef"), 50)
    own = np.repeat([1.0, 0, 1, 0, 1, 0], 50)
    report = per_user_report(users, np.full(300, 0.5), own)
    assert (report.gain.n, report.by_user) == (6, True)
    five = users != "f"
    few = per_user_report(users[five], np.full(250, 0.5), own[five])
    assert not few.by_user
    assert report.gain.high - report.gain.low > 3 * (few.gain.high - few.gain.low)


def test_the_placebo_equals_all_swaps_written_out():
    users = ["a", "a", "a", "b", "b"]
    shared, own = np.array([1, 0, 1, 0, 1.0]), np.array([0, 0, 1, 1, 0.5])
    worse, better, lowest, total = [], [], [], []
    for signs in product([-1, 1], repeat=5):
        d = np.array(signs) * (own - shared)
        gains = np.array([d[:3].mean(), d[3:].mean()])
        worse.append((gains < 0).mean())
        better.append((gains > 0).mean())
        lowest.append(gains.min())
        total.append(d.sum())
    placebo = per_user_report(users, shared, own, n_swaps=20000).placebo
    assert placebo.worse.estimate == pytest.approx(np.mean(worse), abs=0.01)
    assert placebo.better.estimate == pytest.approx(np.mean(better), abs=0.01)
    assert placebo.worst_decile.estimate == pytest.approx(np.mean(lowest), abs=0.01)
    assert placebo.worst_decile.low == pytest.approx(np.quantile(lowest, 0.025))
    assert placebo.worst_decile.high == pytest.approx(np.quantile(lowest, 0.975))
    d = own - shared
    assert placebo.p_gain == pytest.approx(np.mean(np.array(total) >= d.sum()), abs=0.01)
    assert placebo.p_worse == pytest.approx(np.mean(np.array(worse) >= 0.5), abs=0.01)
    assert placebo.p_better == pytest.approx(np.mean(np.array(better) >= 0.5), abs=0.01)


def test_without_an_effect_shares_look_like_the_placebo_and_p_values_are_even():
    p_gain, inside = [], 0
    for seed in range(60):
        report = per_user_report(*simulated(40, 8, np.zeros(40), seed), n_swaps=300)
        p_gain.append(report.placebo.p_gain)
        inside += report.placebo.worse.low <= report.share_worse.estimate <= report.placebo.worse.high
        # A third of the people would be called losers by anyone who does not ask what chance does.
        assert report.placebo.worse.estimate > 0.3
    assert inside >= 52
    assert 0.35 < np.mean(p_gain) < 0.65


def test_a_gain_for_everybody_is_seen_and_fewer_people_are_worse_than_by_chance():
    report = per_user_report(*simulated(80, 20, np.full(80, 0.15), 1))
    assert report.gain.low > 0
    assert report.gain.low < 0.15 < report.gain.high
    assert report.placebo.p_gain < 0.01
    assert report.placebo.p_better < 0.01
    assert report.placebo.p_worse > 0.9
    assert report.share_worse.estimate < report.placebo.worse.low
    assert report.share_better.estimate > report.placebo.better.high


def test_harm_to_a_minority_shows_in_the_worst_decile_beyond_chance_though_the_mean_gains():
    gains = np.where(np.arange(80) < 8, -0.6, 0.2)
    report = per_user_report(*simulated(80, 25, gains, 2))
    assert report.gain.low > 0
    assert report.worst_decile < report.placebo.worst_decile.low
    assert {person.user for person in report.worst} == {f"u{i:03d}" for i in range(8)}
    assert report.worst[0].gain <= report.worst[-1].gain


def test_swapping_the_models_mirrors_the_report():
    users, shared, own = simulated(30, 6, np.full(30, 0.1), 3)
    ours, mirrored = per_user_report(users, shared, own), per_user_report(users, own, shared)
    assert mirrored.gain.estimate == pytest.approx(-ours.gain.estimate)
    assert mirrored.share_worse == ours.share_better
    assert mirrored.placebo.worse.estimate == pytest.approx(ours.placebo.better.estimate, abs=0.02)


def test_people_with_many_rows_weigh_more_over_rows_but_not_over_people():
    users = ["a"] * 9 + ["b"]
    report = per_user_report(users, [0.0] * 9 + [1.0], [1.0] * 9 + [0.0])
    assert report.gain.estimate == pytest.approx(0.8)
    assert report.gain_of_users.estimate == pytest.approx(0.0)


def test_scores_that_cancel_are_neither_gain_nor_loss():
    report = per_user_report(["a"] * 3 + ["b"] * 2, [0.3, 0.0, 0.0, 1.0, 0.0], [0.0, 0.1, 0.2, 0.0, 1.0])
    assert report.share_worse.estimate == 0.0
    assert report.share_better.estimate == 0.0
    assert report.placebo.p_worse == 1.0


def test_chunks_of_swaps_do_not_change_what_they_estimate(monkeypatch):
    from penchant.evaluate import per_user

    data = simulated(20, 5, np.zeros(20), 4)
    whole = per_user_report(*data, n_swaps=3000).placebo
    monkeypatch.setattr(per_user, "_CHUNK_ELEMENTS", 700)
    assert per_user_report(*data, n_swaps=3000).placebo.worse.estimate == pytest.approx(whole.worse.estimate, abs=0.02)


def test_unusable_data_is_refused():
    with pytest.raises(DataError, match="score the same rows"):
        per_user_report(["a", "b"], [1, 0], [1])
    with pytest.raises(DataError, match="users has shape"):
        per_user_report(["a"], [1, 0], [1, 0])
    with pytest.raises(DataError, match="missing"):
        per_user_report(["a", None], [1, 0], [1, 0])
    with pytest.raises(DataError, match="NaN"):
        per_user_report(["a", "b"], [1, float("nan")], [1, 0])
    with pytest.raises(DataError, match="One cluster only"):
        per_user_report(["a", "a"], [1, 0], [1, 0])
    with pytest.raises(SettingsError, match="n_swaps"):
        per_user_report(["a", "b"], [1, 0], [1, 0], n_swaps=0)
