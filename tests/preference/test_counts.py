"""Bradley-Terry on counts: other packages, published fits, the general fit, many tables, and those without optimum."""

import csv
import gzip
import json
from pathlib import Path

import choix
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penchant.errors import DataError, SettingsError
from penchant.preference.counts import Counts, abilities, optimum, refits
from penchant.preference.newton import newton

REFERENCE = Path(__file__).resolve().parents[3] / "shared" / "data" / "bradley_terry_reference"


def fitted(first, second, wins, n_items, l2=0.0):
    return abilities(Counts.of(first, second, wins, n_items), l2=l2)


def votes(n=400, n_items=5, seed=0):
    """Pairs of items with what came of them: 1, 0.5 or 0."""
    rng = np.random.default_rng(seed)
    first = rng.integers(n_items, size=n)
    second = (first + rng.integers(1, n_items, size=n)) % n_items
    return first, second, rng.choice([1.0, 0.5, 0.0], size=n, p=[0.5, 0.2, 0.3])


def counted(first, second, result, n_items):
    return Counts.of(
        np.r_[first, second],
        np.r_[second, first],
        np.r_[result == 1, result == 0],
        n_items,
        ties=np.r_[result == 0.5, np.zeros(len(first))],
    )


def test_abilities_agree_with_choix():
    rng = np.random.default_rng(2)
    pairs = [tuple(int(k) for k in rng.choice(5, 2, replace=False)) for _ in range(200)]
    other = choix.opt_pairwise(5, pairs, alpha=0.05, tol=1e-12)
    first, second = np.array(pairs).T
    ours = fitted(first, second, np.ones(200), 5, l2=0.1).abilities  # choix penalises alpha, not alpha / 2
    np.testing.assert_allclose(ours, other - other.mean(), atol=1e-5)


def test_three_items_whose_counts_are_exactly_four_to_two_to_one_get_these_worths():
    result = fitted([0, 1, 0, 2, 1, 2], [1, 0, 2, 0, 2, 1], [2, 1, 4, 1, 2, 1], 3)
    np.testing.assert_allclose(result.abilities, np.log(2) * np.array([1, 0, -1]), atol=1e-10)


def test_aggregated_counts_equal_expanded_rows():
    first, second, wins = np.array([0, 1, 1, 2, 0]), np.array([1, 0, 2, 0, 2]), np.array([5, 3, 4, 2, 6])
    one = fitted(first, second, wins, 3)
    two = fitted(np.repeat(first, wins), np.repeat(second, wins), np.ones(wins.sum()), 3)
    np.testing.assert_allclose(one.abilities, two.abilities, atol=1e-9)
    np.testing.assert_allclose(one.covariance, two.covariance, atol=1e-9)


def test_a_disconnected_comparison_graph_is_refused_by_name():
    with pytest.raises(DataError, match=r"disconnected: items \[0, 1\]; \[2, 3\]"):
        fitted([0, 1, 2, 3], [1, 0, 3, 2], [1, 1, 1, 1], 4)


def test_an_item_that_always_wins_is_refused_by_name_unless_there_is_a_prior():
    arguments = ([2, 2, 0, 1], [0, 1, 1, 0], [3, 3, 1, 1], 3)
    with pytest.raises(DataError, match=r"Items \[2\] always win"):
        fitted(*arguments)
    assert np.argmax(fitted(*arguments, l2=0.1).abilities) == 2


@pytest.mark.parametrize(
    ("file", "key", "columns"),
    [
        ("citations.csv", "citations", ("journal1", "journal2", "win1", "win2")),
        ("baseball.csv", "baseball", ("home.team", "away.team", "home.wins", "away.wins")),
        ("cems_choices.csv.gz", "CEMS_rows_in_this_folder", ("school1", "school2", "win1.adj", "win2.adj")),
    ],
)
def test_published_tables_give_the_abilities_and_errors_of_the_reference_package(file, key, columns):
    if not (REFERENCE / file).exists():
        pytest.skip("shared/data/bradley_terry_reference is not beside the repository")
    with (gzip.open if file.endswith(".gz") else open)(REFERENCE / file, "rt", encoding="utf-8") as handle:
        rows = [[row[c] for c in columns] for row in csv.DictReader(handle)]
    rows = [row for row in rows if row[2] not in ("", "NA")]
    reference = json.loads((REFERENCE / "reference_fits.json").read_text(encoding="utf-8"))[key]
    place = {entry["item"]: k for k, entry in enumerate(reference)}
    i, j = (np.array([place[row[c]] for row in rows]) for c in (0, 1))
    forward, back = (np.array([float(row[c]) for row in rows]) for c in (2, 3))
    fit = fitted(np.r_[i, j], np.r_[j, i], np.r_[forward, back], len(place))
    base = next(k for k, entry in enumerate(reference) if entry["se"] == 0)
    ours = fit.abilities - fit.abilities[base]
    variance = np.diag(fit.covariance) + fit.covariance[base, base] - 2 * fit.covariance[base]
    np.testing.assert_allclose(ours, [entry["ability"] for entry in reference], atol=1e-4)
    np.testing.assert_allclose(np.sqrt(np.maximum(variance, 0)), [entry["se"] for entry in reference], atol=1e-4)


@given(st.integers(0, 10_000), st.floats(0.01, 10))
def test_it_is_the_general_fit_on_one_row_for_each_vote(seed, l2):
    first, second, result = votes(60, seed=seed)
    ours = abilities(counted(first, second, result, 5), l2=l2)
    basis = np.linalg.svd(np.ones((1, 5)))[2][1:].T
    general = newton(basis[first] - basis[second], result, l2=l2)
    np.testing.assert_allclose(ours.abilities, basis @ general.weights, atol=1e-7)
    np.testing.assert_allclose(ours.covariance, basis @ general.covariance @ basis.T, atol=1e-7)
    np.testing.assert_allclose(ours.sandwich, basis @ general.sandwich @ basis.T, atol=1e-7)


def test_many_tables_at_once_are_fitted_as_each_alone():
    tables = np.stack([counted(*votes(seed=seed), 5).score for seed in range(6)])
    together, _ = optimum(tables)
    near, n_steps = optimum(tables, start=together)
    assert n_steps == 0
    for place, table in enumerate(tables):
        np.testing.assert_allclose(together[place], optimum(table)[0], atol=1e-9)
    np.testing.assert_allclose(near, together, atol=1e-9)


@pytest.mark.parametrize(("noise", "l2"), [(0.1, 0.0), (0.1, 0.3), (20.0, 0.01)])
def test_refits_near_a_known_table_and_far_from_it_are_the_optima(noise, l2):
    rng = np.random.default_rng(0)
    known = counted(*votes(600), 5)
    fit = abilities(known, l2=l2)
    first, second = np.triu_indices(5, 1)
    factors = rng.gamma(1 / noise, noise, size=(2, len(first), 30))
    score, lost = known.score[first, second, None] * factors[0], known.score[second, first, None] * factors[1]
    tables = np.zeros((30, 5, 5))
    tables[:, first, second], tables[:, second, first] = score.T, lost.T
    found = refits(first, second, score + lost, score, start=fit.abilities, covariance=fit.covariance, l2=l2)
    np.testing.assert_allclose(found.T, optimum(tables, l2=l2)[0], atol=1e-7)


def test_items_that_won_almost_everything_are_found_too():
    fit = fitted([0, 1, 1, 2], [1, 0, 2, 1], [100_000, 1, 100_000, 1], 3)
    np.testing.assert_allclose(fit.abilities, np.log(1e5) * np.array([1, 0, -1]), atol=1e-6)


def test_what_cannot_be_counted_is_refused():
    with pytest.raises(DataError, match="1 of 2 rows, first row 1"):
        Counts.of([0, 1], [1, 1], [1, 1], 2)
    with pytest.raises(DataError, match="whole numbers"):
        Counts.of([0.5], [1.0], [1], 2)
    with pytest.raises(DataError, match="agree"):
        Counts.of([0, 1], [1], [1], 2)
    with pytest.raises(SettingsError, match="at least two"):
        Counts.of([], [], [], 1)
    with pytest.raises(SettingsError, match="negative"):
        fitted([0, 1], [1, 0], [1, 1], 2, l2=-1)
