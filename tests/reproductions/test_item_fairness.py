"""The item-fairness reproduction: recommenders by brute force, claims that can fail, what the published FSat does."""

import copy
import json

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from penchant.errors import DataError
from penchant.evaluate.item_fairness import Size, exposure, measures
from penchant.reproductions import item_fairness as reproduction
from penchant.reproductions import recommenders
from penchant.reproductions.recommenders import Interactions, at_random, core, ease, interactions, popular, top


@pytest.fixture(scope="module")
def small():
    """40 users in two camps, 30 items."""
    rng = np.random.default_rng(0)
    likes = np.where((np.arange(40)[:, None] < 20) == (np.arange(30)[None, :] < 15), 0.5, 0.05)
    known = (rng.random((40, 30)) < likes).astype(np.float32)
    known[np.arange(40), rng.integers(30, size=40)] = 1
    return Interactions(csr_matrix(known), rng.integers(30, size=40))


def planted(*, agree: bool = True, fsat_outside: int = 0) -> dict:
    """A run as the study describes it: recommenders whose measures agree, on two sets."""
    names = ("Jain", "QF", "Ent", "Gini", "FSat", "Gini-w")
    rng = np.random.default_rng(1)

    def cell():
        found = {}
        for number, model in enumerate(recommenders.RECOMMENDERS):
            fair = [(number + 1) / 10 if agree else rng.random() for _ in names]
            values = {f"{n}_our": 1 - f if n.startswith("Gini") else f for n, f in zip(names, fair, strict=True)}
            values |= {name.replace("_our", "_ori"): value for name, value in values.items()}
            rest = dict.fromkeys(("VoCD_ori", "AI-D_ori", *reproduction.NAMES), 0.1 * number)
            found[model] = {**values, **rest, "II-D_ori": 0.25, "II-D by definition": 0.25}
        return found

    window = {str(start): dict.fromkeys(names, 0.5) for start in (0, 5)}
    data = {
        "users": 9,
        "items": 9,
        "k": {str(k): cell() for k in reproduction.PLACES},
        "windows": dict.fromkeys(recommenders.RECOMMENDERS, window),
    }
    outside = dict.fromkeys(names, 0) | {"FSat": fsat_outside}
    table = {
        "tables": 10,
        "outside": outside,
        "lowest": dict.fromkeys(names, -1.0),
        "undefined": dict.fromkeys(names, 0),
    }
    return {
        "grid": reproduction.ends_of_grid(),
        "tables": table | {"foretold": fsat_outside, "mended": fsat_outside},
        "real": {"one": data, "other": copy.deepcopy(data)},
        "courses": {},
    }


def note(found, part):
    [line] = [line for line in found.notes if line.startswith(f"{part} ")]
    return line


def test_the_claim_holds_where_measures_agree_and_keep_to_their_ends():
    found = reproduction.verdict([planted()])
    assert found.holds
    assert found.ours == pytest.approx(1)
    assert found.interval.estimate == pytest.approx(0.6)
    assert found.interval.n == 6


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("A", lambda run: run["tables"]["outside"].update(FSat=1)),
        ("A", lambda run: run["grid"]["missed"].update(Jain_our=[[4, 50, 3, 0.1, 1.0]])),
        ("A", lambda run: run["grid"].update(exceptions_as_said=False)),
        ("B", lambda run: run["grid"]["missed"].pop("VoCD_ori")),
        ("C", lambda run: run["real"]["one"]["k"]["5"]["ALS"].update({"II-D by definition": 0.25 + 1e-11})),
        ("D", lambda run: run.update(real=planted(agree=False)["real"])),
    ],
)
def test_each_part_can_fail_and_then_the_claim_does(part, change):
    run = planted()
    change(run)
    found = reproduction.verdict([run])
    assert not found.holds
    assert "does not hold" in note(found, part)


def test_where_fsat_is_below_0_the_note_says_when_and_what_mends_it():
    found = reproduction.verdict([planted(fsat_outside=3)])
    [line] = [line for line in found.notes if line.startswith("FSat: of 3 tables below 0 (lowest -1.00), 3 have m <=")]
    assert "3 are in [0, 1]" in line


def test_on_random_tables_only_fsat_leaves_its_range_and_only_where_it_can():
    found = reproduction.on_random_tables(np.random.default_rng(0), 400)
    below = found["outside"].pop("FSat")
    assert below > 0
    assert found["foretold"] == found["mended"] == below
    assert not any(found["outside"].values())
    assert found["lowest"]["FSat"] < 0 <= found["lowest"]["Gini"]


def test_every_corrected_measure_reaches_its_ends_on_the_grid_and_no_original_does():
    grid = reproduction.ends_of_grid()
    assert grid["exceptions_as_said"]
    assert not [name for name in grid["missed"] if name.endswith("_our")]
    assert {name for name in grid["missed"] if name.endswith("_ori")} == {
        f"{name}_ori" for name in (*reproduction.CORRECTED, "VoCD", "II-D", "AI-D")
    }
    kinds = {(size.places > size.n_items) - (size.places < size.n_items) for size in reproduction.GRID}
    assert kinds == {-1, 0, 1}
    rests = {size.share[1] > 0 for size in reproduction.GRID if size.places > size.n_items}
    assert rests == {True, False}


def test_fsat_between_its_true_ends():
    lists = [[0, 1, 2, 3, 4, 5]] * 2 + [[6, 1, 2, 3, 4, 5]] * 2  # five of seven items have their share: the fewest
    size = Size(4, 7, 6)
    assert reproduction.to_true_end(measures(exposure(lists, 7))["FSat_ori"], size) == 0
    same = measures(exposure([[0, 1, 2, 3, 4, 5]] * 4, 7))["FSat_ori"]
    assert reproduction.to_true_end(same, size) == pytest.approx(0.5)


def test_known_exceptions_are_those_of_the_study():
    assert reproduction.is_known_exception("FSat", Size(4, 50, 3))
    assert reproduction.is_known_exception("Gini-w", Size(12, 7, 3))
    assert not reproduction.is_known_exception("FSat", Size(12, 7, 3))
    assert not reproduction.is_known_exception("Jain", Size(4, 50, 3))


def test_ii_d_from_its_definition_is_the_same_whoever_is_recommended_what():
    rng = np.random.default_rng(0)
    lists = np.array([rng.permutation(40)[:5] for _ in range(300)])
    popular_lists = np.tile(np.arange(5), (300, 1))
    one, other = (reproduction.discrepancy(table, 40) for table in (lists, popular_lists))
    assert one == pytest.approx(other, abs=1e-15)
    assert one == pytest.approx(measures(exposure(lists, 40))["II-D_ori"].value, abs=1e-15)


def test_ease_from_users_by_users_is_the_regression_of_each_item_on_all_others(small):
    known = small.known.toarray().astype(np.float64)
    inverse = np.linalg.inv(known.T @ known + 7.0 * np.eye(30))
    weights = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0)
    np.testing.assert_allclose(ease(small, 0, l2=7.0), known @ weights, atol=1e-5)
    # It is the best linear prediction of an item from the others: the gradient of the penalised squares is zero.
    item, others = 4, np.delete(np.arange(30), 4)
    residual = known[:, item] - known[:, others] @ weights[others, item]
    np.testing.assert_allclose(known[:, others].T @ residual, 7.0 * weights[others, item], atol=1e-9)


def test_learnt_recommenders_rank_as_their_library_does_and_know_the_camps(small, monkeypatch):
    pytest.importorskip("implicit")
    monkeypatch.setitem(recommenders.ALS, "regularization", 0.1)  # so few interactions stand no more
    rng = np.random.default_rng(0)
    for name in ("item-kNN", "ALS", "BPR"):
        scores = recommenders.RECOMMENDERS[name](small, 3)
        lists = top(scores, small, 5, rng)
        assert not small.known.toarray()[np.arange(40)[:, None], lists].any()  # nothing that is known already
        own = (lists < 15) == (np.arange(40)[:, None] < 20)
        assert own.mean() > 0.7, name
        np.testing.assert_array_equal(
            recommenders.RECOMMENDERS[name](small, 3), scores
        )  # the same seed, the same model
    model = recommenders._fitted("als:AlternatingLeastSquares", small, random_state=3, **recommenders.ALS)
    theirs, _ = model.recommend(np.arange(40), small.known, N=5)
    assert (top(recommenders.als(small, 3), small, 5, rng) == theirs).all()


def test_the_most_popular_comes_first_and_ties_are_broken_at_random(small):
    known = small.known.toarray()
    lists = top(popular(small, 0), small, 30 - int(known.sum(axis=1).max()), np.random.default_rng(0))
    times = known.sum(axis=0)
    assert (np.diff(times[lists], axis=1) <= 0).all()
    nobody = Interactions(csr_matrix((200, 6), dtype=np.float32), np.zeros(200, dtype=np.int64))
    first = [top(popular(nobody, 0), nobody, 1, np.random.default_rng(seed))[0, 0] for seed in range(40)]
    assert len(set(first)) == 6
    assert (at_random(small, 0) != at_random(small, 1)).all()


def test_users_and_items_with_few_interactions_go_until_there_are_none():
    user = np.array([0, 0, 0, 1, 1, 1, 2, 2, 3])
    item = np.array([0, 1, 2, 0, 1, 2, 0, 1, 9])
    kept = core(user, item, 2)
    assert kept.tolist() == [True] * 8 + [False]
    assert (
        core(user, item, 3).tolist() == [True, True, False, True, True, False, True, True, False]
        or not core(user, item, 3).any()
    )  # items 2 goes, then nobody has three
    for one in (user[kept], item[kept]):
        assert np.bincount(one)[one].min() >= 2


def test_the_last_interaction_of_each_person_is_held_out(shared_data, monkeypatch):
    monkeypatch.setenv("PENCHANT_DATA", str(shared_data))
    for name in recommenders.DATA:
        data = interactions(name, np.random.default_rng(0))
        users = np.arange(len(data.held_out))
        assert not data.known[users, data.held_out].any()
        total = data.known.sum(axis=1) + 1
        assert total.min() >= 5
        assert np.bincount(np.r_[data.known.tocoo().col, data.held_out]).min() >= 5
        earlier = interactions(name, np.random.default_rng(0), before=1)
        assert earlier.known.nnz == data.known.nnz - len(users)
        assert np.asarray(data.known[users, earlier.held_out]).all()  # chosen on what is known later


def test_without_real_people_it_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setenv("PENCHANT_DATA", str(tmp_path))
    with pytest.raises(DataError, match="set PENCHANT_DATA"):
        interactions("MovieLens", np.random.default_rng(0))


def test_a_run_on_real_people_survives_json_and_has_a_figure(shared_data, monkeypatch):
    pytest.importorskip("implicit")
    monkeypatch.setenv("PENCHANT_DATA", str(shared_data))
    run = json.loads(json.dumps(reproduction.run(0, "tiny", lambda line: None)))
    found = reproduction.verdict([run])
    assert 0.4 < found.ours <= 1
    assert "does not hold" in note(found, "A")
    assert "C holds" in note(found, "C")
    fair = {model: one["Gini_our"] for model, one in run["real"]["Last.fm"]["k"]["10"].items()}
    assert min(fair, key=fair.get) == "random"
    assert max(fair, key=fair.get) == "most popular"
    ndcg = {model: one["NDCG"] for model, one in run["real"]["Last.fm"]["k"]["10"].items()}
    assert min(ndcg, key=ndcg.get) == "random"
    assert len(reproduction.figure([run]).axes) == 4
