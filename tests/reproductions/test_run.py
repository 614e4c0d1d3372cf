"""A reproduction that was stopped goes on, and never on seeds that other code ran."""

import json

import pytest

from penchant.errors import SettingsError, UnknownNameError
from penchant.reproductions import rps
from penchant.reproductions.run import reproduce
from penchant.reproductions.verdict import Verdict
from penchant.statistics import Interval


@pytest.fixture
def counted(monkeypatch):
    """The seeds that were run, of a claim that takes no time."""
    ran = []

    def run(seed, scale, progress):
        ran.append(seed)
        return {"value": seed}

    def verdict(runs):
        low = min(one["value"] for one in runs) - 0.5
        return Verdict(
            ours=1.0, baseline=0.0, interval=Interval(1.0, low, 2.0, 0.95, len(runs)), holds=low > 0, notes=[]
        )

    monkeypatch.setattr(rps, "run", run)
    monkeypatch.setattr(rps, "verdict", verdict)
    monkeypatch.setattr(rps, "SEEDS", {"quick": 3, "full": 4})
    monkeypatch.delattr(rps, "figure")
    return ran


def test_finished_seeds_are_kept_and_a_lost_one_is_run_again(counted, tmp_path):
    first = reproduce("rps", folder=tmp_path)
    assert counted == [0, 1, 2]
    next(tmp_path.glob("quick-seed1-*.json")).unlink()
    assert reproduce("rps", folder=tmp_path) == first
    assert counted == [0, 1, 2, 1]
    assert first["holds"] is False, "an interval that reaches below zero is no yes"


def test_seeds_that_other_code_ran_do_not_count(counted, tmp_path):
    reproduce("rps", folder=tmp_path)
    path = next(tmp_path.glob("quick-seed0-*.json"))
    path.write_text(json.dumps(json.loads(path.read_text()) | {"code": "older"}))
    reproduce("rps", folder=tmp_path)
    assert counted == [0, 1, 2, 0]


def test_names_that_are_not_there_are_answered_with_those_that_are(counted):
    with pytest.raises(UnknownNameError, match="rps"):
        reproduce("rpss")
    with pytest.raises(SettingsError, match="quick"):
        reproduce("rps", scale="quik")
