"""Raw win rate, Elo and Davidson: closed forms, published fits, order that matters, and a general optimiser."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import minimize

from penchant.errors import DataError, SettingsError
from penchant.evaluate.rating_baselines import davidson, online_elo, raw_win_rate
from penchant.preference.counts import Counts, abilities

REFERENCE = Path(__file__).resolve().parents[3] / "shared" / "data" / "bradley_terry_reference"


def test_a_raw_win_rate_forgets_whom_a_system_met():
    first, second = np.array([0, 0, 0, 1, 1]), np.array([2, 2, 2, 2, 0])
    rate = raw_win_rate(first, second, np.array([1.0, 1.0, 0.5, 1.0, 1.0]), 4)
    np.testing.assert_allclose(rate[:3], [2.5 / 4, 1.0, 0.5 / 4])
    assert np.isnan(rate[3])


@pytest.mark.parametrize("step", [4.0, 32.0])
def test_elo_follows_its_rule_vote_by_vote_keeps_the_mean_and_depends_on_order(step):
    rng = np.random.default_rng(0)
    first = rng.integers(4, size=300)
    second = (first + rng.integers(1, 4, size=300)) % 4
    result = rng.choice([1.0, 0.5, 0.0], size=300)
    rating = np.full(4, 1000.0)
    for i, j, won in zip(first, second, result, strict=True):
        chance = 1 / (1 + 10 ** ((rating[j] - rating[i]) / 400))
        rating[i], rating[j] = rating[i] + step * (won - chance), rating[j] - step * (won - chance)
    found = online_elo(first, second, result, 4, step=step)
    np.testing.assert_allclose(found, rating, atol=1e-9)
    assert found.mean() == pytest.approx(1000)
    assert np.abs(online_elo(first[::-1], second[::-1], result[::-1], 4, step=step) - found).max() > 1
    with pytest.raises(SettingsError, match="above 0"):
        online_elo(first, second, result, 4, step=0)


def test_davidson_gives_the_published_worths_of_puddings():
    if not (REFERENCE / "pudding_ties.csv").exists():
        pytest.skip("shared/data/bradley_terry_reference is not beside the repository")
    with (REFERENCE / "pudding_ties.csv").open(encoding="utf-8") as lines:
        rows = [{name: int(value) for name, value in row.items()} for row in csv.DictReader(lines)]
    i, j, w, v, t = (np.array([row[name] for row in rows]) for name in ("i", "j", "w_ij", "w_ji", "t_ij"))
    counts = Counts.of(np.r_[i, j] - 1, np.r_[j, i] - 1, np.r_[w, v], 6, ties=np.r_[t, np.zeros(len(t))])
    published = json.loads((REFERENCE / "reference_fits.json").read_text(encoding="utf-8"))["pudding_davidson_ties"]
    found, tie = davidson(counts)
    np.testing.assert_allclose(found - found[0], published["log_worth_relative_to_item_1"], atol=3e-4)
    # The published ties are nu / 2 sqrt(worth worth) in some texts; the figure of this file is nu itself.
    assert tie == pytest.approx(published["tie_parameter"], abs=3e-4)


def test_davidson_is_the_optimum_of_its_likelihood_written_out_vote_by_vote():
    rng = np.random.default_rng(1)
    first = rng.integers(4, size=200)
    second = (first + rng.integers(1, 4, size=200)) % 4
    kind = rng.choice(3, size=200, p=[0.45, 0.3, 0.25])

    def surprise(point):
        worth, total = np.exp(np.append(point[:3], 0.0)), 0.0
        for i, j, k in zip(first, second, kind, strict=True):
            parts = [worth[i], worth[j], np.exp(point[3]) * np.sqrt(worth[i] * worth[j])]
            total -= np.log(parts[k] / sum(parts))
        return total

    general = minimize(surprise, np.zeros(4), method="BFGS").x
    counts = Counts.of(
        np.r_[first, second],
        np.r_[second, first],
        np.r_[kind == 0, kind == 1],
        4,
        ties=np.r_[kind == 2, np.zeros(200)],
    )
    found, tie = davidson(counts)
    np.testing.assert_allclose(found[:3] - found[3], general[:3], atol=1e-4)
    assert np.log(tie) == pytest.approx(general[3], abs=1e-4)


def test_without_a_tie_davidson_is_bradley_terry():
    counts = Counts.of([0, 1, 2, 1], [1, 2, 0, 0], [5, 4, 3, 2], 3)
    found, tie = davidson(counts)
    assert tie == 0
    np.testing.assert_allclose(found, abilities(counts).abilities)


@pytest.mark.parametrize(
    "counts",
    [Counts.of([0], [1], [3], 2, ties=[1]), Counts.of([0, 1], [1, 2], [3, 2], 3, ties=[1, 1])],
)
def test_wins_and_ties_without_a_single_loss_have_no_finite_fit(counts):
    with pytest.raises(DataError, match="no finite fit"):
        davidson(counts)
