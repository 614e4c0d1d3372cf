import numpy as np
import pytest
from sklearn.metrics import precision_score, recall_score, roc_auc_score

from penchant.errors import DataError
from penchant.evaluate.label_noise import detection, strength_report
from penchant.preference.voting import Voted
from penchant.records import Comparisons


def test_detection_agrees_with_a_peer_ties_included():
    rng = np.random.default_rng(0)
    score, wrong = rng.integers(0, 6, 300) / 2, rng.random(300) < 0.3
    score[wrong] += 1
    called = score > 1.5
    found = detection(score, wrong, flagged=called)
    assert found.auroc == pytest.approx(roc_auc_score(wrong, score))
    assert found.precision == pytest.approx(precision_score(wrong, called))
    assert found.recall == pytest.approx(recall_score(wrong, called))


def test_nothing_flagged_has_no_precision_and_nothing_to_find_is_an_error():
    assert np.isnan(detection([1.0, 2.0], [0, 1], flagged=[0, 0]).precision)
    with pytest.raises(DataError, match="0 of 2 labels are wrong"):
        detection([1.0, 2.0], [0, 0], flagged=[0, 0])
    with pytest.raises(DataError, match="finite"):
        detection([np.nan, 2.0], [0, 1], flagged=[0, 0])
    with pytest.raises(DataError, match="shapes"):
        detection([1.0], [0, 1], flagged=[0, 0])


def report(strength, labels, **kwargs):
    n = len(strength)
    rows = [{"prompt": f"p{i}", "chosen": "a", "rejected": "b", "strength": labels[i]} for i in range(n)]
    found = Voted(np.asarray(strength, float), np.ones(n), 2.0, np.full(n, 2))
    return strength_report(found, Comparisons.from_rows(rows), **kwargs)


def test_the_report_counts_every_pair_and_shows_the_worst_first_without_ties():
    found = report([1.0, -2.0, -3.0, -9.0], [1.0, 0.0, 1.0, 0.5], n_suspects=2)
    assert sum(found.histogram) == 4
    assert found.share_doubted == 0.75
    assert [one.row for one in found.suspects] == [2, 1]
    assert (found.suspects[1].preferred, found.suspects[1].other) == ("b", "a")  # strength 0 prefers the rejected one
    assert found.suspects[0].group == "normal"


def test_the_calibration_is_of_votes_against_labels():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=4000)
    # The side with the label comes first: seen from it, u is positive as often as the voters are right.
    right = rng.random(4000) < 1 / (1 + np.exp(-np.abs(logits)))
    signed = np.where(right, np.abs(logits), -np.abs(logits)) / 2.0
    assert report(signed, [1.0] * 4000).calibration.expected_error < 0.03
    assert report(3 * signed, [1.0] * 4000).calibration.expected_error > 0.08


def test_other_comparisons_than_were_voted_on_are_refused():
    found = Voted(np.zeros(3), np.zeros(3), 1.0, np.full(3, 2))
    with pytest.raises(DataError, match="3 pairs were voted on, 1 are given"):
        strength_report(found, Comparisons.from_rows([{"prompt": "", "chosen": "a", "rejected": "b"}]))
