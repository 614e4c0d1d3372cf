"""What a reproduction concludes: the numbers, the interval, and whether the paper's claim held here."""

from dataclasses import dataclass

from penchant.statistics import Interval


@dataclass(frozen=True)
class Verdict:
    """The conclusion over all seeds.

    Attributes:
        ours: the metric of the paper's method.
        baseline: the metric of the strongest baseline in the same runs.
        interval: of ours - baseline.
        holds: whether the claim held, computed from intervals, never from a point estimate.
        notes: one sentence per part of the claim, with its numbers.
    """

    ours: float
    baseline: float
    interval: Interval
    holds: bool
    notes: tuple[str, ...] = ()
