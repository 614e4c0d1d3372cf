"""Item fairness by command: records with lists, rows in one file or many, what is drawn, and what cannot be read."""

import gzip
import json

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from penchant.apps import fairness_picture, recommended
from penchant.apps.item_fairness import item_fairness
from penchant.errors import DataError, SettingsError
from penchant.evaluate.item_fairness import exposure, measures
from penchant.parts import cluster

GOOD = {"case": "all alike", "n_items": 4, "recommendations": [[1, 2], [1, 2]]}


def written(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def lists():
    rng = np.random.default_rng(1)
    return np.array([rng.permutation(12)[:4] for _ in range(30)])


def rows(lists, first_user=0):
    """Rows in a random order, as words and whole numbers."""
    found = [
        {"userId": first_user + user, "movie_id": f"m{item}", "rank": rank}
        for user, one in enumerate(lists)
        for rank, item in enumerate(one, 1)
    ]
    return pa.Table.from_pylist([found[i] for i in np.random.default_rng(0).permutation(len(found))])


def values(record):
    return {name: value for name, value in record.items() if name.endswith(("_our", "_ori"))}


def expected(lists, n_items):
    found = measures(exposure(lists, n_items))
    return {name: None if np.isnan(one.value) else one.value for name, one in found.items()}


def test_a_line_for_each_record_and_the_one_that_cannot_be_read_is_named(tmp_path):
    turns = GOOD | {"case": "turns", "recommendations": [[1, 2], [3, 4]]}
    alike, fair = item_fairness(written(tmp_path / "lists.jsonl", [GOOD, turns])).data
    assert (alike["case"], alike["Jain_our"], fair["Jain_our"], fair["Gini_our"]) == ("all alike", 0.0, 1.0, 0.0)
    assert alike["Ent_ori"] is None
    assert "never shown" in alike["why_not"]["Ent_ori"]
    assert (alike["fairest"]["Jain_our"], alike["fairest"]["Gini_our"]) == (1.0, 0.0)
    with pytest.raises(DataError, match=r"record 2: List 0 names item 5, .* 1 to 4"):  # numbered as in the file
        item_fairness(written(tmp_path / "bad.jsonl", [GOOD, GOOD | {"recommendations": [[1, 5]]}]))
    for bad in ({"n_items": 4}, GOOD | {"recommendations": [[0, 1]]}, GOOD | {"recommendations": [["a"]]}):
        with pytest.raises(DataError, match="record 2"):
            item_fairness(written(tmp_path / "bad.jsonl", [GOOD, bad]))


def test_lists_of_records_are_cut_to_k_places_and_short_ones_stop_it_or_are_counted(tmp_path):
    ragged = GOOD | {"recommendations": [[1, 2], [2, 1], [3]]}
    path = written(tmp_path / "lists.jsonl", [ragged])
    with pytest.raises(DataError, match="record 1: Lists have 1 to 2 items"):
        item_fairness(path)
    with pytest.raises(DataError, match="record 1: 1 of 3 lists have fewer than 2 items"):
        item_fairness(path, k=2)
    [record] = item_fairness(path, k=2, on_error="drop").data
    assert values(record) == expected([[0, 1], [1, 0]], 4)
    assert list(record["dropped"].values()) == [1]
    assert values(item_fairness(path, k=1).data[0]) == expected([[0], [1], [2]], 4)
    no_catalogue = written(tmp_path / "none.jsonl", [{"recommendations": [[1, 2], [2, 1]]}])
    assert item_fairness(no_catalogue, catalogue=7).data[0]["n_items"] == 7


def write(table, path):
    if path.suffix == ".parquet":
        pq.write_table(table, path)
    elif path.suffix == ".jsonl":
        written(path, table.to_pylist())
    else:
        out = pa.BufferOutputStream()
        pyarrow.csv.write_csv(table, out)
        content = out.getvalue().to_pybytes()
        path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


@pytest.mark.parametrize("name", ["shown.csv", "shown.csv.gz", "shown.parquet", "shown.jsonl"])
def test_rows_of_user_item_and_rank_are_the_lists_they_are_of(tmp_path, lists, name):
    path = write(rows(lists), tmp_path / name)
    [record] = item_fairness(path, catalogue=15).data
    assert values(record) == expected(lists, 15)
    assert (record["case"], record["n_users"], record["n_items"], record["k"]) == (path.stem, 30, 15, 4)
    assert values(item_fairness(path, catalogue=15, k=2).data[0]) == expected(lists[:, :2], 15)


def test_a_catalogue_may_be_a_file_and_without_one_it_is_said_what_was_assumed(tmp_path, lists):
    path = write(rows(lists), tmp_path / "shown.csv")
    names = write(pa.table({"item": [f"m{i}" for i in range(20)], "title": ["x"] * 20}), tmp_path / "items.csv")
    assert values(item_fairness(path, catalogue=str(names)).data[0]) == expected(lists, 20)
    outcome = item_fairness(path)
    assert values(outcome.data[0]) == expected(lists, 12)
    assert "the 12 items that are shown are taken for the whole catalogue" in outcome.text
    assert "--catalogue" in outcome.data[0]["assumed"][-1]
    with pytest.raises(DataError, match=r"shown.csv: 12 different items are shown, but the catalogue .* 5"):
        item_fairness(path, catalogue=5)
    few = write(pa.table({"item": ["m0"]}), tmp_path / "few.csv")
    with pytest.raises(DataError, match="11 of 12 items"):
        item_fairness(path, catalogue=str(few))
    other = write(pa.table({"title": ["m0"], "year": [1]}), tmp_path / "other.csv")
    with pytest.raises(DataError, match="must name an item in each row"):
        item_fairness(path, catalogue=str(other))


def test_a_column_of_recommenders_gives_a_line_each(tmp_path, lists):
    table = pa.concat_tables(
        [
            rows(lists).append_column("recommender", pa.array(["mine"] * 120)),
            rows(lists[:, ::-1]).append_column("recommender", pa.array(["theirs"] * 120)),
        ]
    )
    outcome = item_fairness(write(table, tmp_path / "both.parquet"), catalogue=15)
    mine, theirs = outcome.data
    assert (mine["case"], theirs["case"]) == ("mine", "theirs")
    assert values(mine) == expected(lists, 15)
    assert values(theirs) == expected(lists[:, ::-1], 15)
    assert "Jain ↑" in outcome.text
    assert "Gini ↓" in outcome.text


def test_without_ranks_the_highest_score_comes_first_and_else_rows_are_in_order(tmp_path, lists):
    table = rows(lists)
    score = pa.array(-np.asarray(table["rank"], dtype=float))
    scored = table.drop_columns("rank").append_column("score", score)
    outcome = item_fairness(write(scored, tmp_path / "scored.csv"), catalogue=15)
    assert values(outcome.data[0]) == expected(lists, 15)
    assert "the highest `score` comes first" in outcome.text
    in_order = table.sort_by("rank").drop_columns("rank")
    outcome = item_fairness(write(in_order, tmp_path / "in_order.csv"), catalogue=15)
    assert values(outcome.data[0]) == expected(lists, 15)
    assert "rows of a user stand in order" in outcome.text
    unscored = scored.set_column(2, "score", pa.array([None, *score[1:].to_pylist()]))
    with pytest.raises(DataError, match="1 of 120 rows have no `score`"):
        item_fairness(write(unscored, tmp_path / "unscored.parquet"), catalogue=15)


@pytest.fixture
def folder(tmp_path, lists):
    folder = tmp_path / "shards"
    folder.mkdir()
    for number, begin in enumerate((0, 11, 12)):
        end = (11, 12, 30)[number]
        write(rows(lists[begin:end], begin), folder / f"part{number}.parquet")
    return folder


def test_files_of_a_folder_are_shards_that_add_up(folder, lists):
    [record] = item_fairness(folder, catalogue=15).data
    assert values(record) == expected(lists, 15)
    assert record["n_users"] == 30
    write(rows(lists[:1], 29), folder / "again.csv")
    with pytest.raises(DataError, match="1 users have rows in more than one file"):
        item_fairness(folder, catalogue=15)


@pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.*")
def test_counting_over_ray_gives_the_same(folder, lists):
    pytest.importorskip("ray")
    here = recommended.count(recommended.shards(folder), k=None, on_error="stop")
    with cluster(2, None):  # one for both counts: starting it takes seconds
        there = recommended.count(recommended.shards(folder), k=None, on_error="stop", workers=2)
        write(pa.table({"user": ["u"], "thing": ["x"]}), folder / "z.csv")
        with pytest.raises(DataError, match=r"^z.csv needs a column for the user"):
            recommended.count(recommended.shards(folder), k=None, on_error="stop", workers=2)
    assert (here.cases[""].by_rank == there.cases[""].by_rank).all()
    assert here.cases[""].items == there.cases[""].items


def test_lists_that_are_not_whole_stop_it_or_are_counted(tmp_path, lists):
    table = rows(lists).slice(1)  # one list lost a row
    path = write(table, tmp_path / "shown.csv")
    with pytest.raises(DataError, match="Lists have 3 to 4 items"):
        item_fairness(path, catalogue=15)
    with pytest.raises(DataError, match=r"shown.csv: In the list of user '\d+' .* --on-error drop"):
        item_fairness(path, catalogue=15, k=4)
    outcome = item_fairness(path, catalogue=15, k=4, on_error="drop")
    assert outcome.data[0]["n_users"] == 29
    assert sum(outcome.data[0]["dropped"].values()) == 1
    assert next(iter(outcome.data[0]["dropped"])) in outcome.text


def test_files_that_hold_something_else_are_refused(tmp_path):
    with pytest.raises(DataError, match="needs a column for the user and one for the item"):
        item_fairness(write(pa.table({"prompt": ["a"], "chosen": ["b"]}), tmp_path / "pairs.csv"))
    empty = tmp_path / "empty.csv"
    empty.write_text("user,item,rank\n", encoding="utf-8")
    with pytest.raises(DataError, match="holds no rows"):
        item_fairness(empty)
    ragged = tmp_path / "ragged.csv"
    ragged.write_text("user,item,rank\na,x,1\na,y\nb,x,1\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"ragged.csv: .*more or fewer cells"):
        item_fairness(ragged)
    assert item_fairness(ragged, on_error="drop").data[0]["n_users"] == 2
    floats = write(pa.table({"user": ["a"], "item": [1.0]}), tmp_path / "floats.parquet")
    with pytest.raises(DataError, match="items are double"):
        item_fairness(floats)
    (tmp_path / "nothing").mkdir()
    with pytest.raises(DataError, match="folder without files"):
        item_fairness(tmp_path / "nothing")
    with pytest.raises(SettingsError, match="workers"):
        item_fairness(floats, workers=-1)
    with pytest.raises(SettingsError, match="k must be at least 1"):
        item_fairness(floats, k=0)
    with pytest.raises(SettingsError, match=r"must end in one of \.svg"):
        item_fairness(floats, picture=tmp_path / "drawn.txt")


def test_a_picture_has_a_curve_for_each_recommender_and_the_ends_of_each_measure(tmp_path, lists):
    shown = {"mine": exposure(lists, 15), "same": exposure(np.tile(np.arange(4), (30, 1)), 15)}
    curve, items, between = fairness_picture.figure(shown).axes
    assert [text.get_text() for text in curve.get_legend().get_texts()] == ["mine", "same"]
    x, y = curve.lines[1].get_data()
    assert (x[-2], y[-2]) == pytest.approx((100 * 11 / 15, 0))  # eleven items get nothing
    assert items.get_xscale() == "log"
    labels = [label.get_text() for label in between.get_yticklabels()]
    assert labels[0] == "Jain, original"
    assert "1 - Gini, corrected" in labels
    path = write(rows(lists), tmp_path / "shown.csv")
    for form in fairness_picture.FORMS:
        out = tmp_path / f"drawn{form}"
        outcome = item_fairness(path, catalogue=15, picture=out)
        assert out.stat().st_size > 1000
        assert str(out) in outcome.text


def test_the_command_line_prints_a_line_of_json_for_each_recommender(called, tmp_path):
    path = written(tmp_path / "lists.jsonl", [GOOD, GOOD | {"case": "b"}])
    code, out, err = called("evaluate", "item-fairness", path, "--json", "-")
    assert code == 0
    first, second = map(json.loads, out.splitlines())
    assert (first["case"], second["case"], first["Jain_our"]) == ("all alike", "b", 0.0)
    assert "Jain" in err
    code, out, _ = called("evaluate", "item-fairness", path, "--k", 1, "--catalogue", 9)
    assert code == 0
    assert "↑ higher is fairer" in out
    code, _, err = called("evaluate", "item-fairness", tmp_path / "no.csv")
    assert code == 2
    assert "no.csv" in err


def test_one_recommender_has_a_table_of_both_forms_with_directions_and_remarks(tmp_path):
    text = item_fairness(written(tmp_path / "one.jsonl", [GOOD])).text
    assert "1, higher is fairer" in text
    assert "0, lower is fairer" in text
    assert "Ent, original: 2 of 4 items are never shown" in text
    assert "II-D, original: it depends on the length of lists alone" in text
