"""How long somebody listened to a clip, from what its player reported: PLAY, PAUSE, STOP and TICK with their times.

Listening goes from PLAY to PAUSE or STOP; a TICK says that it still goes on. One function serves the gate that opens
the vote and the records that are released: the published arena counts STOP in one place and ignores it in the other.

What players report is not always whole. Events are put in order of time first. A second PLAY without an end goes on
from where the first was, so no second counts twice. Where the end is missing (the page was closed) listening went on to
the last sign of life, or to `closed_at` where that is known, and in no case longer than the clip. All of this is
counted.

Source:
    Kim et al. (2025), Music Arena: detailed preferences, listening time.

>>> attention([("PLAY", 0.0), ("TICK", 2.0), ("PAUSE", 3.5), ("PLAY", 10.0), ("STOP", 12.0)], clip_seconds=30)
Attention(seconds=5.5, oddities={})
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from math import isfinite

from penchant.errors import DataError, SettingsError, nearest

KINDS = ("PLAY", "PAUSE", "STOP", "TICK")


@dataclass(frozen=True)
class Attention:
    """Time spent on one clip.

    Attributes:
        seconds: listened to, at least 0; a clip heard twice counts twice.
        oddities: what was wrong with the events -> how often.
    """

    seconds: float
    oddities: Mapping[str, int] = field(default_factory=dict)


def attention(events: Iterable[tuple[str, float]], *, clip_seconds: float, closed_at: float | None = None) -> Attention:
    """Seconds listened to one clip.

    Args:
        events: kind (PLAY, PAUSE, STOP or TICK) and time in seconds on any clock, in any order.
        clip_seconds: length of the clip, above 0.
        closed_at: when the page was closed or the vote was cast, on the same clock; None if nobody knows.

    Raises:
        DataError: a kind is unknown, or a time is not finite.
        SettingsError: the clip has no length.
    """
    if not (isfinite(clip_seconds) and clip_seconds > 0):
        raise SettingsError(f"A clip lasts more than 0 seconds: got {clip_seconds!r}.")
    rows = _checked(events)
    oddities = Counter({"out of order": sum(later[1] < sooner[1] for sooner, later in pairwise(rows))})
    heard, since, so_far = 0.0, None, 0.0  # so_far: of the stretch that goes on, up to the last event
    for kind, time in sorted(rows, key=lambda row: row[1]):
        if closed_at is not None and time > closed_at:
            oddities["after the page was closed"] += 1
            continue
        if since is not None:
            so_far += time - since
            since = time
        elif kind == "TICK":
            oddities["tick without play"] += 1
        if kind == "PLAY":
            oddities["play while playing"] += since is not None
            since = time
        elif kind in ("PAUSE", "STOP") and since is not None:
            heard += _capped(so_far, clip_seconds, oddities)
            since, so_far = None, 0.0
    if since is not None:
        oddities["no pause at the end"] += 1
        so_far += 0.0 if closed_at is None else closed_at - since
        heard += _capped(so_far, clip_seconds, oddities)
    return Attention(heard, {reason: count for reason, count in oddities.items() if count})


def _capped(seconds: float, clip_seconds: float, oddities: Counter[str]) -> float:
    oddities["longer than the clip"] += seconds > clip_seconds
    return min(seconds, clip_seconds)


def _checked(events: Iterable[tuple[str, float]]) -> list[tuple[str, float]]:
    rows = list(events)
    for row, (kind, time) in enumerate(rows):
        if kind not in KINDS:
            raise DataError(f"Listening event {row} of {len(rows)} is {kind!r}: {nearest(str(kind), KINDS)}")
        if not isfinite(time):
            raise DataError(f"Listening event {row} of {len(rows)}, a {kind}, has the time {time!r}; give seconds.")
    return rows
