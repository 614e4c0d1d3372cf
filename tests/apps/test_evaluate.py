"""Leaderboards by command: what scripts read, and files that hold something else."""

import json

import numpy as np
import pytest

from penchant.apps.evaluate import leaderboard
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
