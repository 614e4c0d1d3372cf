"""Item fairness: the published values, brute force, the ends of the corrected forms, and lists that cannot be read."""

import gzip
import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penchant.errors import DataError, SettingsError
from penchant.evaluate.item_fairness import exposure, measures

ORACLE = Path(__file__).parents[3] / "shared" / "data" / "item_fairness_oracle" / "cases.jsonl.gz"
CORRECTED = ("Jain_our", "QF_our", "Ent_our", "Gini_our", "Gini-w_our", "FSat_our")


def found(lists, n_items):
    return {name: one.value for name, one in measures(exposure(lists, n_items)).items()}


def test_published_values_are_met():
    if not ORACLE.exists():
        pytest.skip("the development data is not here")
    with gzip.open(ORACLE, "rt", encoding="utf-8") as lines:
        cases = [json.loads(line) for line in lines]
    assert len(cases) > 30
    for case in cases:
        ours = found(np.array(case["recommendations"]) - 1, case["n_items"])
        assert ours.keys() >= case["expected"].keys()
        for name, value in case["expected"].items():
            if value is not None:
                assert ours[name] == pytest.approx(value, abs=1e-9), (case["case"], name)
            elif name == "Ent_ori":
                assert math.isnan(ours[name])


def brute_force(lists, n):
    """The originals, from their definitions, item by item and pair by pair."""
    m, k = len(lists), len(lists[0])
    counts = [sum(item in one for one in lists) for item in range(n)]
    weighted = [sum(1 / math.log2(one.index(item) + 2) for one in lists if item in one) for item in range(n)]

    def gini(x):
        return sum(abs(a - b) for a in x for b in x) / (2 * n * sum(x))

    pairs = list(itertools.combinations([c for c in counts if c], 2))
    seen = [[0.8 ** one.index(item) if item in one else 0.0 for item in range(n)] for one in lists]
    target = (1 - 0.8**k) / ((1 - 0.8) * n)
    return {
        "Jain_ori": sum(counts) ** 2 / (n * sum(c * c for c in counts)),
        "QF_ori": sum(c > 0 for c in counts) / n,
        "Gini_ori": gini(counts),
        "Gini-w_ori": gini(weighted),
        "FSat_ori": sum(c >= m * k // n for c in counts) / n,
        "VoCD_ori": sum(abs(a - b) / max(a, b) for a, b in pairs) / len(pairs) if pairs else math.nan,
        "II-D_ori": sum((e - target) ** 2 for one in seen for e in one) / (m * n),
        "AI-D_ori": sum((sum(one[i] for one in seen) / m - target) ** 2 for i in range(n)) / n,
    }


@st.composite
def tables(draw):
    n = draw(st.integers(2, 12))
    k, m = draw(st.integers(1, n - 1)), draw(st.integers(1, 9))
    return [draw(st.permutations(range(n)))[:k] for _ in range(m)], n


@given(tables())
def test_originals_are_their_definitions_and_corrected_values_stay_between_their_ends(case):
    lists, n = case
    ours = found(lists, n)
    for name, value in brute_force(lists, n).items():
        assert ours[name] == pytest.approx(value, abs=1e-12, nan_ok=True), name
    for name in CORRECTED:
        if name != "FSat_our":
            assert math.isnan(ours[name]) or 0 <= ours[name] <= 1, name


def test_the_published_correction_of_fsat_takes_something_for_the_worst_that_is_not():
    lists = [[0, 1, 2, 3, 4, 5]] * 2 + [[6, 1, 2, 3, 4, 5]] * 2  # five of seven items have their share, not six
    one = measures(exposure(lists, 7))["FSat_our"]
    assert one.value == pytest.approx(-1.0)
    assert "beyond the unfair end" in one.why_not


SIZES = [(4, 8, 2), (6, 18, 3), (5, 10, 3), (9, 10, 2), (10, 5, 1), (7, 5, 3), (12, 8, 4)]


@pytest.mark.parametrize(("m", "n", "k"), SIZES)
def test_the_same_items_for_all_are_least_fair_and_taking_turns_is_fairest(m, n, k):
    same = found([list(range(k))] * m, n)
    turns = found((np.arange(m * k) % n).reshape(m, k), n)
    has_more_places = m * k > n
    for name in CORRECTED:
        fair = 0.0 if name.startswith("Gini") else 1.0
        if name == "FSat_our" and m * k < n:
            assert same[name] == turns[name] == 1.0  # every item has its share of none
            continue
        assert same[name] == pytest.approx(1 - fair, abs=1e-12), name
        if not (name == "Gini-w_our" and has_more_places):  # there the fair end is a bound
            assert turns[name] == pytest.approx(fair, abs=1e-12), name


def test_shards_add_up_and_catalogues_must_agree():
    rng = np.random.default_rng(0)
    lists = np.array([rng.permutation(30)[:5] for _ in range(40)])
    whole = measures(exposure(lists, 30))
    parts = measures(exposure(lists[:13], 30) + exposure(lists[13:], 30))
    assert whole == parts
    with pytest.raises(DataError, match="cannot be added"):
        exposure(lists, 30) + exposure(lists, 31)


def test_where_there_is_no_value_or_it_says_nothing_the_reason_is_told():
    one = measures(exposure([[0, 1]], 4))
    assert math.isnan(one["Ent_ori"].value)
    assert "2 of 4 items are never shown" in one["Ent_ori"].why_not
    assert "fewer places than items" in one["FSat_our"].why_not
    assert "the same" in one["Jain_our"].why_not  # one list is both the fairest and the least fair
    assert "length of lists alone" in one["II-D_ori"].why_not
    assert "only one item" in measures(exposure([[3]] * 2, 4))["VoCD_ori"].why_not
    assert "bound" in measures(exposure([[0, 1], [1, 2], [2, 3]], 4))["Gini-w_our"].why_not
    everything = measures(exposure([[0, 1], [1, 0]], 2))
    assert all("whole catalogue" in everything[name].why_not for name in CORRECTED)


@pytest.mark.parametrize(
    ("lists", "n", "says"),
    [
        ([[0, 0]], 3, "twice"),
        ([[0, 3]], 3, "item 3, which is not among the 3 items"),
        ([[0, -1]], 3, "item -1"),
        ([[0, 1], [2]], 3, "1 to 2 items"),
        ([[0.0, 1.0]], 3, "whole numbers"),
        ([], 3, "at least one user"),
    ],
)
def test_lists_that_cannot_be_measured_are_refused(lists, n, says):
    with pytest.raises(DataError, match=says):
        exposure(lists, n)


def test_settings_out_of_range_are_refused():
    with pytest.raises(SettingsError, match="n_items"):
        exposure([[0]], 0)
    with pytest.raises(SettingsError, match="patience"):
        measures(exposure([[0]], 2), patience=1.0)
