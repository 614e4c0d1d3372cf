"""Probes of fairness measures: what lists are made, and what measures make of them."""

import itertools
import math

import numpy as np
import pytest

from penchant.errors import DataError, SettingsError
from penchant.evaluate.fairness_probes import agreement, courses, in_turns, same_for_all, swaps, windows
from penchant.evaluate.item_fairness import Size, exposure, fairest

SIZES = [Size(5, 40, 3), Size(6, 18, 3), Size(9, 10, 3), Size(8, 4, 2), Size(3, 7, 6)]


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_swaps_change_one_place_at_a_time_and_end_with_equal_shares(size):
    tables = list(swaps(size))
    assert (tables[0] == same_for_all(size)).all()
    for before, after in itertools.pairwise(tables):
        assert (before != after).sum() == 1
    counts = exposure(tables[-1], size.n_items).counts()  # also refuses an item twice in a list
    assert sorted(counts) == sorted(exposure(in_turns(size), size.n_items).counts())


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_counts_that_become_more_equal_are_fairer_to_every_corrected_measure_of_counts(size):
    found = courses(size)
    q = size.share[0]
    for name in ("Jain", "QF", "Ent", "Gini", "FSat"):
        one = found[f"{name}_our"]
        assert one.never_less_fair, name
        if name == "FSat" and not q:
            assert set(one.values) == {1.0}
            continue
        assert one.values[0] == pytest.approx(1 - fairest(name), abs=1e-12)
        assert one.values[-1] == pytest.approx(fairest(name), abs=1e-12)
        assert 0 < one.largest <= 1
    assert math.isnan(found["Ent_ori"].values[0])
    assert np.ptp(found["II-D_ori"].values) < 1e-15


def test_vocd_calls_the_same_items_for_all_fair_and_then_less_and_less():
    one = courses(Size(6, 18, 3))["VoCD_ori"]
    assert one.values[0] == 0.0
    assert not one.never_less_fair


def test_windows_slide_along_the_ranks():
    lists = np.arange(24).reshape(2, 12)
    found = windows(lists, 4, step=3)
    assert list(found) == [0, 3, 6]
    assert found[3].tolist() == [[3, 4, 5, 6], [15, 16, 17, 18]]
    for k, step in ((13, 1), (0, 1), (4, 0)):
        with pytest.raises(SettingsError, match="Windows"):
            windows(lists, k, step=step)


def test_agreement_counts_pairs_of_recommenders():
    rng = np.random.default_rng(0)
    values = {"a": rng.random(6), "b": rng.random(6), "tied": np.array([1, 1, 2, 2, 3, 3.0]), "same": np.ones(6)}
    values["c"] = values["a"] + 1e-15 * rng.random(6)
    found = agreement(values)
    pairs = list(itertools.combinations(range(6), 2))
    signs = [np.sign(values["a"][i] - values["a"][j]) * np.sign(values["b"][i] - values["b"][j]) for i, j in pairs]
    assert found[0, 1] == found[1, 0] == pytest.approx(np.mean(signs))
    assert found[0, 4] == found[0, 0] == pytest.approx(1)
    tied = [np.sign(values["a"][i] - values["a"][j]) * np.sign(values["tied"][i] - values["tied"][j]) for i, j in pairs]
    assert found[0, 2] == pytest.approx(sum(tied) / math.sqrt(15 * 12))  # tau-b: three pairs are ties
    noisy = {"a": values["a"], "tied": values["tied"] + 1e-15 * rng.random(6)}
    assert agreement(noisy)[0, 1] == pytest.approx(found[0, 2])  # equal but for the last digits is equal
    assert np.isnan(found[3]).all()
    with pytest.raises(DataError, match="same recommenders"):
        agreement({"a": [1.0, 2.0], "b": [1.0]})
