"""Which labels of a data set are not to be believed: what the voters of `strength` say, and how far they are right.

>>> found = detection([0.9, 0.8, 0.2, 0.1], [1, 0, 1, 0], flagged=[1, 1, 0, 0])
>>> found.precision, found.recall, found.auroc
(0.5, 0.5, 0.75)
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from penchant.errors import DataError
from penchant.evaluate.calibration import Reliability, auroc, reliability
from penchant.preference.voting import GROUPS, Voted
from penchant.records import Comparisons

Floats = NDArray[np.float64]
_BINS = 20
_LETTERS_SHOWN = 300


@dataclass(frozen=True)
class Detection:
    """How well wrong labels are found.

    Attributes:
        precision: share of flagged pairs that are wrong; nan if none is flagged.
        recall: share of wrong pairs that are flagged.
        auroc: how often a wrong pair is more suspicious than a right one, ties half.
    """

    precision: float
    recall: float
    auroc: float


def detection(suspicion: ArrayLike, is_wrong: ArrayLike, *, flagged: ArrayLike) -> Detection:
    """Precision, recall and AUROC on known wrong labels.

    Args:
        suspicion: higher is more likely wrong, [pairs].
        is_wrong: what is known, [pairs].
        flagged: which pairs were called wrong, [pairs].

    Raises:
        DataError: lengths differ, a suspicion is not finite, or all pairs are wrong or none is.
    """
    score = np.asarray(suspicion, dtype=np.float64)
    wrong, called = np.asarray(is_wrong, dtype=bool), np.asarray(flagged, dtype=bool)
    if not score.shape == wrong.shape == called.shape or score.ndim != 1:
        raise DataError(f"Give one value a pair: shapes {score.shape}, {wrong.shape} and {called.shape}.")
    if not np.isfinite(score).all():
        raise DataError(f"Suspicions must be finite: {int((~np.isfinite(score)).sum())} of {len(score)} are not.")
    n_wrong, n_right = int(wrong.sum()), int((~wrong).sum())
    if not n_wrong or not n_right:
        raise DataError(f"{n_wrong} of {len(wrong)} labels are wrong; to tell them apart takes both kinds.")
    hits = int((called & wrong).sum())
    precision = hits / int(called.sum()) if called.any() else float("nan")
    return Detection(precision, hits / n_wrong, auroc(score, wrong))


@dataclass(frozen=True)
class Suspect:
    """A pair to look at.

    Attributes:
        row: of the comparisons, from 0.
        strength: u; below 0 the voters prefer the other response.
        spread: s, how far they disagree.
        group: what it is taken for.
        prompt: its beginning.
        preferred: beginning of the response with the label.
        other: beginning of the other one.
    """

    row: int
    strength: float
    spread: float
    group: str
    prompt: str
    preferred: str
    other: str


@dataclass(frozen=True)
class StrengthReport:
    """What the voters say of a data set.

    Attributes:
        counts: pairs in each group; contradictory ones are there twice, once each way.
        share_doubted: share of pairs whose label the voters would turn round.
        histogram: pairs in each bin of strength.
        edges: of the bins, units of a voter's spread.
        calibration: of P(first is preferred) against the labels, with the sides in an order that knows nothing of them.
        suspects: the most suspicious pairs, worst first.
    """

    counts: dict[str, int]
    share_doubted: float
    histogram: tuple[int, ...]
    edges: tuple[float, ...]
    calibration: Reliability
    suspects: tuple[Suspect, ...]


def strength_report(found: Voted, comparisons: Comparisons, *, n_suspects: int = 50, bins: int = 10) -> StrengthReport:
    """What the voters say of a data set, for people to look at.

    Args:
        found: what `Strength.vote(comparisons)` gave, or `voted_` after `fit(comparisons)`.
        comparisons: the same, in the same order.
        n_suspects: how many pairs to show, >= 0.
        bins: of the calibration.

    Raises:
        DataError: these are other comparisons.
    """
    if len(found.strength) != len(comparisons):
        raise DataError(f"{len(found.strength)} pairs were voted on, {len(comparisons)} are given; give the same ones.")
    label = np.maximum(comparisons.numpy("strength"), 1 - comparisons.numpy("strength")).astype(np.float64)
    # Seen from the side with the label every outcome is 1: half of the pairs are seen from the other side.
    turned = np.arange(len(comparisons)) % 2 == 1
    probability = 1 / (1 + np.exp(-np.where(turned, -found.logits, found.logits)))
    histogram, edges = np.histogram(found.strength, bins=_BINS)
    worst = np.argsort(found.strength, kind="stable")
    return StrengthReport(
        found.counts,
        float((found.strength < 0).mean()),
        tuple(histogram.tolist()),
        tuple(edges.tolist()),
        reliability(probability, np.where(turned, 1 - label, label), bins=bins),
        tuple(_suspect(found, comparisons, int(row)) for row in worst[label[worst] > 0.5][:n_suspects]),
    )


def _suspect(found: Voted, comparisons: Comparisons, row: int) -> Suspect:
    one = comparisons.table.slice(row, 1).to_pylist()[0]
    sides = [one["chosen"], one["rejected"]]
    preferred, other = sides if one["strength"] >= 0.5 else sides[::-1]
    group = GROUPS[found.group[row]]
    texts = (text[:_LETTERS_SHOWN] for text in (one["prompt"], preferred, other))
    return Suspect(row, float(found.strength[row]), float(found.spread[row]), group, *texts)
