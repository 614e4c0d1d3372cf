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
from penchant.evaluate.item_fairness import (
    CORRECTED,
    Exposure,
    Levels,
    Size,
    ends,
    entropy,
    exposure,
    fairest,
    fewest_satisfied,
    gini,
    jain,
    lorenz,
    measures,
    qualification,
    satisfied,
    vocd,
)

ORACLE = Path(__file__).parents[3] / "shared" / "data" / "item_fairness_oracle" / "cases.jsonl.gz"
OURS = tuple(f"{name}_our" for name in CORRECTED)


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
    for name in OURS:
        if name != "FSat_our":
            assert math.isnan(ours[name]) or 0 <= ours[name] <= 1, name


def test_the_published_correction_of_fsat_takes_something_for_the_worst_that_is_not():
    lists = [[0, 1, 2, 3, 4, 5]] * 2 + [[6, 1, 2, 3, 4, 5]] * 2  # five of seven items have their share, not six
    one = measures(exposure(lists, 7))["FSat_our"]
    assert one.value == pytest.approx(-1.0)
    assert "5 of 7 items" in one.why_not
    assert "below 0" in one.why_not


def all_counts(size):
    """Every way to show items: by Gale and Ryser, any counts of at most m with the sum m k are those of some lists."""
    m, n, k = size
    for rising in itertools.combinations_with_replacement(range(m + 1), n):
        if sum(rising) == m * k:
            yield rising


SMALL = [Size(m, n, k) for n in (2, 3, 4, 5, 6, 7) for m in (1, 2, 3, 4, 5) for k in range(1, n)]


@pytest.mark.parametrize("size", SMALL, ids=lambda size: "-".join(map(str, size)))
def test_ends_are_the_least_and_the_most_of_all_lists_of_a_size(size):
    levels = [Levels.of(counts) for counts in all_counts(size)]
    q = size.share[0]
    of_all = {
        "Jain": [jain(one) for one in levels],
        "QF": [qualification(one) for one in levels],
        "Ent": [entropy(one) for one in levels],
        "Gini": [gini(one) for one in levels],
        "FSat": [satisfied(one, q) for one in levels],
    }
    for name, (unfair, fair) in ends(size).items():
        if name == "Gini-w":  # depends on ranks, see below
            continue
        worst, best = (min, max) if fairest(name) else (max, min)
        assert best(of_all[name]) == pytest.approx(fair, abs=1e-12), name
        if name != "FSat":
            assert worst(of_all[name]) == pytest.approx(unfair, abs=1e-12), name
    fewest = round(min(of_all["FSat"]) * size.n_items)
    assert fewest == fewest_satisfied(size)
    # When the published end is not the least: never with a share of one.
    falls_below = fewest < size.k
    assert falls_below == (q >= 1 and size.n_users <= (q - 1) * (size.n_items - size.k + 1))


@pytest.mark.parametrize("size", [Size(2, 4, 2), Size(3, 3, 2), Size(2, 5, 2), Size(3, 4, 2), Size(2, 4, 3)])
def test_ends_of_gini_w_bound_every_table_and_are_reached_where_each_place_has_its_own_item(size):
    m, n, k = size
    tables = itertools.product(itertools.permutations(range(n), k), repeat=m)
    values = [measures(exposure(np.array(table), n))["Gini-w_ori"].value for table in tables]
    unfair, fair = ends(size)["Gini-w"]
    assert max(values) == pytest.approx(unfair, abs=1e-12)
    assert min(values) > fair - 1e-12
    if m * k <= n or m % n == 0:  # each place has its own item, or each item is shown as often at every rank
        assert min(values) == pytest.approx(fair, abs=1e-12)
    else:
        assert min(values) > fair + 1e-3  # the bound of 0 is not reached here


def test_fsat_falls_below_0_by_so_much_at_worst():
    # Many users: one item may be the only one with its share, where the correction takes k for the fewest.
    size = Size(n_users=300, n_items=12, k=4)
    assert fewest_satisfied(size) == 1
    q = size.share[0]
    counts = np.full(12, q - 1)
    counts[0] = size.places - counts[1:].sum()  # all are shown less than their share so that one is shown more
    assert counts[0] <= size.n_users
    shown = Exposure(np.column_stack([counts, *[np.zeros(12, dtype=np.int64)] * 3]), size.n_users)
    assert measures(shown)["FSat_our"].value == pytest.approx(-(4 - 1) / (12 - 4))


def test_measures_of_levels_are_those_of_items_one_by_one():
    rng = np.random.default_rng(0)
    for amounts in (rng.integers(5, size=40), rng.random(40), np.array([3, 1, 0, 0])):
        ordered = np.sort(amounts).astype(float)
        n = len(ordered)
        both_ways = np.abs(ordered[:, None] - ordered[None, :])
        some = ordered[ordered > 0]
        levels = Levels.of(amounts)
        assert gini(levels) == pytest.approx(both_ways.sum() / (2 * n * ordered.sum()), abs=1e-12)
        share_of_items, share_of_all = lorenz(levels)
        assert (share_of_items[0], share_of_all[0], share_of_items[-1]) == (0, 0, 1)
        assert share_of_all[-1] == pytest.approx(1)
        assert 1 - 2 * np.trapezoid(share_of_all, share_of_items) == pytest.approx(gini(levels), abs=1e-12)
        larger = np.maximum(some[:, None], some[None, :])
        pairs = (np.abs(some[:, None] - some[None, :]) / larger)[np.triu_indices(len(some), 1)]
        assert vocd(levels) == pytest.approx(pairs.mean(), abs=1e-12)
        share = some / some.sum()
        assert entropy(levels) == pytest.approx(-(share * np.log(share)).sum() / np.log(n), abs=1e-12)
        assert Levels.made_of(rng.permutation(amounts), np.ones(n)).total == pytest.approx(levels.total)


def test_corrected_values_of_many_users_and_items_stay_between_their_ends_to_rounding():
    size = Size(n_users=100_000, n_items=20_000, k=10)
    same = np.zeros((20_000, 10), dtype=np.int64)
    same[np.arange(10), np.arange(10)] = size.n_users
    turns = np.full((20_000, 10), size.n_users // 20_000)  # each item five times at every rank
    for by_rank, at in ((same, 0.0), (turns, 1.0)):
        found = measures(Exposure(by_rank, size.n_users))
        for name in CORRECTED:
            one = found[f"{name}_our"].value
            assert 0 <= one <= 1, name
            assert one == pytest.approx(at if fairest(name) else 1 - at, abs=1e-12), name


SIZES = [(4, 8, 2), (6, 18, 3), (5, 10, 3), (9, 10, 2), (10, 5, 1), (7, 5, 3), (12, 8, 4)]


@pytest.mark.parametrize(("m", "n", "k"), SIZES)
def test_the_same_items_for_all_are_least_fair_and_taking_turns_is_fairest(m, n, k):
    same = found([list(range(k))] * m, n)
    turns = found((np.arange(m * k) % n).reshape(m, k), n)
    has_more_places = m * k > n
    for name in OURS:
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
    each_at_every_rank = measures(exposure([[0, 1], [1, 2], [2, 0]], 3))["Gini-w_our"]
    assert (each_at_every_rank.value, each_at_every_rank.why_not) == (0, "")  # as many users as items: the end is there
    everything = measures(exposure([[0, 1], [1, 0]], 2))
    assert all("whole catalogue" in everything[name].why_not for name in OURS)


@pytest.mark.parametrize(
    ("lists", "n", "says"),
    [
        ([[0, 0]], 3, "twice"),
        ([[0, 3]], 3, "item 3, which is not among the 3 items"),
        ([[0, -1]], 3, "item -1"),
        ([[0, 1], [2]], 3, "1 to 2 items"),
        ([[0.0, 1.0]], 3, "whole numbers"),
        ([["a", "b"]], 3, "whole numbers"),
        (np.zeros((0, 3), dtype=int), 3, "at least one user"),
        (np.zeros((3, 0), dtype=int), 3, "one place"),
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
