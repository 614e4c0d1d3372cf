"""Leaderboards and item fairness by command: what scripts read, and files that hold something else."""

import json

import numpy as np
import pytest

from penchant.apps.evaluate import item_fairness, leaderboard
from penchant.errors import DataError


def written(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_a_leaderboard_has_a_row_for_each_system_and_says_what_it_left_out(tmp_path):
    votes = [
        {"model_a": "x", "model_b": "y", "winner": winner}
        for winner in ["model_a"] * 6 + ["model_b"] * 3 + ["tie"] * 2 + ["both_bad"]
    ]
    itself = {"model_a": "x", "model_b": "x", "winner": "tie"}
    outcome = leaderboard(written(tmp_path / "votes.jsonl", [*votes, itself]))
    first, second = outcome.data["systems"]
    assert (first["system"], second["system"]) == ("x", "y")
    assert first["votes"] == second["votes"] == 11
    assert first["score"] - second["score"] == pytest.approx(400 / np.log(10) * np.log(7 / 4), abs=1e-6)
    assert first["ci_low"] < first["score"] < first["ci_high"]
    assert outcome.data["both_bad"] == 1
    assert sum(outcome.data["dropped"].values()) == 1
    with pytest.raises(DataError, match="1 comparison records"):
        leaderboard(written(tmp_path / "pairs.jsonl", [{"prompt": "q", "chosen": "a", "rejected": "b"}]))
    with pytest.raises(DataError, match="are the same"):
        leaderboard(written(tmp_path / "itself.jsonl", [itself]))


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
