"""Item fairness by command: what scripts read, and records that cannot be read."""

import json

import pytest

from penchant.apps.evaluate import item_fairness
from penchant.errors import DataError


def written(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_item_fairness_gives_a_line_for_each_record_and_names_the_one_that_cannot_be_read(tmp_path):
    good = {"case": "all alike", "n_items": 4, "recommendations": [[1, 2], [1, 2]]}
    outcome = item_fairness(
        written(tmp_path / "lists.jsonl", [good, good | {"case": "turns", "recommendations": [[1, 2], [3, 4]]}])
    )
    alike, turns = outcome.data
    assert (alike["case"], alike["Jain_our"], turns["Jain_our"], turns["Gini_our"]) == ("all alike", 0.0, 1.0, 0.0)
    assert alike["Ent_ori"] is None
    assert "never shown" in alike["why_not"]["Ent_ori"]
    with pytest.raises(DataError, match=r"record 2: List 0 names item 5, .* 1 to 4"):  # numbered as in the file
        item_fairness(written(tmp_path / "bad.jsonl", [good, good | {"recommendations": [[1, 5]]}]))
    for bad in ({"n_items": 4}, good | {"recommendations": [[1, 5]]}, good | {"recommendations": [["a"]]}):
        with pytest.raises(DataError, match="record 2"):
            item_fairness(written(tmp_path / "bad.jsonl", [good, bad]))
