"""How long somebody attended to each side, from the events that a page sends: one function, live and in the release.

Time counts from PLAY to the last TICK, PAUSE or STOP after it. A TICK says that it still plays. Whatever is said twice
(overlapping, out of order, a clock that was set back) counts once; a PLAY that nothing follows counts nothing, as after
a page that was closed; and no play counts for longer than the clip lasts.

Source:
    Kim et al. (2025), Music Arena: listening time as the measure of attention. There STOP closes an interval in the
    release and is ignored in the live counter; here both are this function.

>>> heard = [Event("a", "PLAY", 0), Event("a", "TICK", 1), Event("a", "PAUSE", 2.5), Event("b", "PLAY", 3)]
>>> attended(heard)
{'a': 2.5, 'b': 0.0}
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

Side = Literal["a", "b"]
Kind = Literal["PLAY", "TICK", "PAUSE", "STOP"]
SIDES: tuple[Side, Side] = ("a", "b")

LONGEST = 600.0  # seconds that one look at something without a length counts for


@dataclass(frozen=True)
class Event:
    """Something that happened on a page.

    Attributes:
        side: whose player or text.
        kind: PLAY (it starts, or comes into view), TICK (still), PAUSE or STOP (it ends).
        time: seconds since 1970 by the clock of the server.
    """

    side: Side
    kind: Kind
    time: float


@dataclass
class _Play:
    seconds: float = 0.0  # of plays that ended
    current: float = 0.0  # of the one that is open
    until: float = float("-inf")  # up to when time is counted
    is_open: bool = False

    def ends(self) -> None:
        self.seconds += self.current
        self.current, self.is_open = 0.0, False


def attended(
    events: Iterable[Event], *, lengths: Mapping[Side, float | None] | None = None, one_at_a_time: bool = True
) -> dict[Side, float]:
    """Seconds spent on each side.

    Args:
        events: of one battle, in the order in which the server got them.
        lengths: of each side's clip, seconds; no play counts for longer.
        one_at_a_time: a PLAY on one side ends that of the other, as it must be for what is heard; for what is seen
            both sides may count at once.
    """
    plays: dict[Side, _Play] = {side: _Play() for side in SIDES}
    for event in events:
        play = plays[event.side]
        if event.kind == "PLAY":
            play.ends()  # its PAUSE got lost
            if one_at_a_time:
                plays["b" if event.side == "a" else "a"].ends()
            play.until, play.is_open = max(play.until, event.time), True
        elif play.is_open:
            longest = (lengths or {}).get(event.side) or LONGEST
            play.current = min(play.current + max(0.0, event.time - play.until), longest)
            play.until = max(play.until, event.time)
            if event.kind != "TICK":
                play.ends()
    return {side: play.seconds + play.current for side, play in plays.items()}


def needed(gate: float, lengths: Mapping[Side, float | None]) -> dict[Side, float]:
    """Seconds that each side needs before a vote counts: the gate, or the whole clip if that is shorter.

    >>> needed(5.0, {"a": 3.0, "b": None})
    {'a': 3.0, 'b': 5.0}
    """
    return {side: min(gate, lengths.get(side) or gate) for side in SIDES}
