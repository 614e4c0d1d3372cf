"""How well a model of people predicts choices it has not seen, and what its people have of it beside one model for all.

>>> agreement([0.9, 0.2, 0.5], [1.0, 1.0, 1.0]).tolist()
[1.0, 0.0, 0.5]
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from penchant.evaluate.calibration import log_loss, reliability
from penchant.evaluate.per_user import per_user_report
from penchant.statistics import Interval

Floats = NDArray[np.float64]

_N_SWAPS = 500  # of the placebo, whose mean alone is shown


def agreement(probability: ArrayLike, strength: ArrayLike) -> Floats:
    """1 where a prediction and a choice point the same way, 0 where not, 1/2 where either is undecided, [pairs].

    Args:
        probability: that the first response is preferred, as predicted, in [0, 1], [pairs].
        strength: how far it was preferred, 0..1, 0.5 a tie, [pairs].
    """
    predicted, actual = np.asarray(probability, dtype=np.float64), np.asarray(strength, dtype=np.float64)
    right = np.where(actual >= 0.5, predicted > 0.5, predicted < 0.5).astype(np.float64)
    return np.where((actual == 0.5) | (predicted == 0.5), 0.5, right)


def expected_agreement(probability: ArrayLike, chance: ArrayLike) -> Floats:
    """How often a prediction and a choice will point the same way where it is known how likely each choice is, [pairs].

    Args:
        probability: that the first response is preferred, as predicted, in [0, 1], [pairs].
        chance: of the same in truth, as of simulated people, in [0, 1], [pairs].

    >>> expected_agreement([0.9, 0.2, 0.5], [0.7, 0.7, 0.7]).round(3).tolist()
    [0.7, 0.3, 0.5]
    """
    predicted, true = np.asarray(probability, dtype=np.float64), np.asarray(chance, dtype=np.float64)
    return np.where(predicted == 0.5, 0.5, np.where(predicted > 0.5, true, 1 - true))


def calibration_error(probability: ArrayLike, strength: ArrayLike) -> float:
    """Expected calibration error of how sure a model is of the response it would choose.

    A comparison is written with the preferred response first, so that the probabilities as they stand would be
    measured against outcomes that are all 1. Here each pair is turned so that the likelier response comes first.

    Args:
        probability: that the first response is preferred, as predicted, in [0, 1], [pairs].
        strength: how far it was preferred, 0..1, [pairs].

    Source:
        Guo, Pleiss, Sun and Weinberger 2017, equation 3; bins of equal mass, see `reliability`.

    >>> round(calibration_error([0.8] * 8 + [0.2] * 2, [1.0] * 10), 9)  # sure of 80 %, right in 8 of 10
    0.0
    """
    predicted, actual = np.asarray(probability, dtype=np.float64), np.asarray(strength, dtype=np.float64)
    turned = predicted < 0.5
    return reliability(np.where(turned, 1 - predicted, predicted), np.where(turned, 1 - actual, actual)).expected_error


@dataclass(frozen=True)
class Standing:
    """One model on choices of many people that it has not seen, beside one model for all.

    Attributes:
        accuracy: share of choices predicted right, interval by person.
        log_loss: mean surprise, nats, interval by person.
        ece: expected calibration error.
        gain: accuracy less that of the model for all on the same choices, interval by person.
        gain_of_people: the same with every person counting once.
        log_loss_gain: surprise of the model for all less this one's, nats, interval by person.
        share_worse: people whose accuracy is below that of the model for all.
        worse_by_chance: what this share would be if the two models were equally good.
        n_people: who is measured.
        n_choices: on how many choices.
    """

    accuracy: Interval
    log_loss: Interval
    ece: float
    gain: Interval
    gain_of_people: Interval
    log_loss_gain: Interval
    share_worse: Interval
    worse_by_chance: float
    n_people: int
    n_choices: int


def standing(
    users: ArrayLike,
    probability: ArrayLike,
    for_all: ArrayLike,
    strength: ArrayLike,
    *,
    right: Callable[[ArrayLike, ArrayLike], Floats] = agreement,
) -> Standing:
    """Measure one model beside the model for all.

    Args:
        users: whose choice it is, [pairs]; the same person in several splits counts as one.
        probability: that the first response is preferred, as the model predicts, in [0, 1], [pairs].
        for_all: the same of the model for all, [pairs].
        strength: how far it was preferred, 0..1, [pairs].
        right: how right each prediction is; `expected_agreement` where `strength` is the true chance.

    Raises:
        DataError: there are no choices or those of one person only, or a probability is none.
    """
    hits = per_user_report(users, right(for_all, strength), right(probability, strength), n_swaps=_N_SWAPS)
    surprise = per_user_report(users, -log_loss(for_all, strength), -log_loss(probability, strength), n_swaps=1)
    loss = surprise.per_user
    return Standing(
        accuracy=hits.per_user,
        log_loss=replace(loss, estimate=-loss.estimate, low=-loss.high, high=-loss.low),
        ece=calibration_error(probability, strength),
        gain=hits.gain,
        gain_of_people=hits.gain_of_users,
        log_loss_gain=surprise.gain,
        share_worse=hits.share_worse,
        worse_by_chance=hits.placebo.worse.estimate,
        n_people=len(hits.users),
        n_choices=int(np.size(strength)),
    )
