"""Steer a policy while it answers, without training it."""

from penchant.steer.best_of_n import Best, BestOfN, expected_maximum
from penchant.steer.in_context import Brief, InContext, brief
from penchant.steer.neighbourhood import (
    Candidate,
    Cone,
    Neighbourhood,
    Selection,
    neighbours,
)

__all__ = [
    "Best",
    "BestOfN",
    "Brief",
    "Candidate",
    "Cone",
    "InContext",
    "Neighbourhood",
    "Selection",
    "brief",
    "expected_maximum",
    "neighbours",
]
