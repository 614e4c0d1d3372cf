"""Signs worth learning from, predictions that come true, and the looks of a policy that chases hearts."""

import json

import numpy as np
import pytest

from penchant.errors import DataError
from penchant.evaluate.reactions import agreement, correlation, indicators, rates_by_version, signals
from penchant.records import Reactions


def test_correlation_is_pearsons_and_its_interval_holds_the_truth():
    rng = np.random.default_rng(0)
    x = rng.standard_normal(300)
    y = 0.6 * x + 0.8 * rng.standard_normal(300)
    found = correlation(x, y)
    assert found.estimate == pytest.approx(np.corrcoef(x, y)[0, 1])
    assert found.low < 0.6 < found.high
    assert np.isnan(correlation(np.ones(5), x[:5]).estimate)


def test_the_sign_of_those_who_come_back_is_found_and_one_of_those_who_leave_is_told_apart():
    rng = np.random.default_rng(1)
    happy = {f"u{i}": float(rng.random() < 0.5) for i in range(200)}
    rows = [
        {
            "prompt": "q",
            "response": "r",
            "user": user,
            "reaction": "love"
            if rng.random() < 0.05 + 0.2 * back
            else "regenerate"
            if rng.random() < 0.3 - 0.2 * back
            else "none",
        }
        for user, back in happy.items()
        for _ in range(20)
    ]
    love, regenerate = signals(Reactions.from_rows(rows), happy)
    assert (love.kind, regenerate.kind) == ("love", "regenerate")
    assert love.association.low > 0.3
    assert regenerate.association.high < -0.2
    assert love.coverage == pytest.approx(np.mean([row["reaction"] == "love" for row in rows]))
    with pytest.raises(DataError, match="takes two"):
        signals(Reactions.from_rows(rows), {"u1": 1.0})


def test_policies_are_compared_by_what_was_predicted_and_what_happened():
    predicted = {"a": 0.01, "b": 0.02, "c": 0.04, "d": 0.03, "only here": 1.0}
    found = agreement(predicted, {"a": 0.02, "b": 0.04, "c": 0.08, "d": 0.06})
    assert found.r.estimate == pytest.approx(1)
    assert found.slope == pytest.approx(2)
    assert found.policies == ("a", "b", "c", "d")
    assert agreement(predicted, {"a": 4, "b": 3, "c": 1, "d": 2}).r.estimate < -0.9
    with pytest.raises(DataError, match="2 policies"):
        agreement(predicted, {"a": 0.1, "b": 0.2})
    with pytest.raises(DataError, match="predicted the same"):
        agreement(dict.fromkeys("abc", 0.1), dict.fromkeys("abc", 0.2))


def test_rates_are_of_each_version_and_without_versions_it_says_so():
    rows = [
        {"prompt": "q", "response": "r", "reaction": "none", "extra": json.dumps({"policy_version": v} if v else {})}
        for v in ("v1", "v1", "v2", None)
    ]
    log = Reactions.from_rows(rows)
    assert rates_by_version(log, [1, 0, 1, 1]) == {"v1": 0.5, "v2": 1.0}
    with pytest.raises(DataError, match="None of 1 records says which policy"):
        rates_by_version(log.take([3]), [1])


def test_a_policy_that_says_the_same_goodbye_every_time_is_seen():
    plain = indicators(["The sum is 4.", "It is 5, as you can check.", "Goodbyes come first here. It is 6."])
    played = indicators(["The sum is 4! Take care!"] * 2 + ["It is 5. Bye for now \u2764!"])
    assert plain.farewells == 0
    assert played.farewells == 1
    assert played.same_closing == pytest.approx(2 / 3)
    assert plain.exclamations == 0
    assert played.exclamations == pytest.approx(2.0)
    assert played.words > 5
    with pytest.raises(DataError, match="no replies"):
        indicators([])
