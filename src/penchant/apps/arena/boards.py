"""Leaderboards of an arena: scores with intervals, how often both were bad, and how fast each system is."""

from collections.abc import Mapping
from statistics import median
from typing import Any

import sqlalchemy as sa

from penchant.apps.arena import storage
from penchant.apps.arena.battles import BOARDS, Board, is_blind, records
from penchant.apps.arena.systems import System
from penchant.evaluate.leaderboard import leaderboard
from penchant.records import Battles

LEAST_VOTES = 30  # to fit a board, and of a system to be shown
MOST_OF_ONE = 30  # votes that one visitor counts for: many more than nearly all cast, and too few to move a board alone
ABOUT = {
    "text": "Text",
    "image": "Pictures",
    "instrumental": "Music without a voice",
    "vocal": "Music with a voice",
}


def board(connection: sa.Connection, name: Board, systems: Mapping[str, System]) -> dict[str, Any]:
    """One leaderboard, or why there is none yet.

    Args:
        connection: of the arena's database.
        name: of the board.
        systems: what is known of each system; those that left are shown by name.
    """
    votes = records(connection, board=name)
    found: dict[str, Any] = {
        "board": name,
        "title": ABOUT[name],
        "votes": len(votes),
        "rows": [],
        "why_not": "",
        "capped": 0,
    }
    outcomes = votes.table["outcome"].to_pylist()
    n_ordered = sum(outcome != "both_bad" for outcome in outcomes)
    found |= {"both_bad": len(outcomes) - n_ordered, "not_blind": _not_blind(connection, name)}
    if n_ordered < LEAST_VOTES:
        missing, word = LEAST_VOTES - n_ordered, "vote" if n_ordered == 1 else "votes"
        found["why_not"] = f"{n_ordered} {word} so far; a ranking is shown from {LEAST_VOTES} on, {missing} more."
        return found
    ranked = leaderboard(votes, per_person=MOST_OF_ONE)
    speeds, bad = _speeds(connection, name), _both_bad_rates(votes)
    shown = [row for row in ranked.standings if row.votes >= LEAST_VOTES]
    few = [row.system for row in ranked.standings if row.votes < LEAST_VOTES]
    found["rows"] = [
        {
            "rank": rank,
            "system": row.system,
            "score": row.score,
            "ci_low": row.ci_low,
            "ci_high": row.ci_high,
            "votes": row.votes,
            "both_bad_rate": bad[row.system],
            "speed": speeds.get(row.system),
            **(systems[row.system].about() if row.system in systems else {}),
        }
        for rank, row in enumerate(shown, 1)
    ]
    notes = [f"fewer than {LEAST_VOTES} votes each: {', '.join(few)}"] if few else []
    notes += [f"scores are shrunk: {ranked.why_prior}"] if ranked.why_prior else []
    found["capped"] = ranked.votes.n_capped
    return found | {"why_not": "; ".join(notes), "over": "people" if ranked.by_person else "votes"}


def every_board(connection: sa.Connection, systems: Mapping[str, System]) -> list[dict[str, Any]]:
    """The boards on which one of these systems can be, and those with votes."""
    kinds = {system.modality for system in systems.values()}
    wanted = {"text": "text" in kinds, "image": "image" in kinds, "instrumental": "audio" in kinds}
    wanted["vocal"] = sum(system.abilities.supports_lyrics for system in systems.values()) > 1
    found = [board(connection, name, systems) for name in BOARDS]
    return [one for one in found if wanted[one["board"]] or one["votes"]]


def _both_bad_rates(votes: Battles) -> dict[str, float]:
    """Share of each system's battles in which both were found bad, ordered or not."""
    n: dict[str, int] = {}
    bad: dict[str, int] = {}
    columns = (votes.table[name].to_pylist() for name in ("system_a", "system_b", "outcome"))
    for first, second, outcome in zip(*columns, strict=True):
        for system in (first, second):
            n[system] = n.get(system, 0) + 1
            bad[system] = bad.get(system, 0) + (outcome == "both_bad")
    return {system: bad[system] / n[system] for system in n}


def _speeds(connection: sa.Connection, name: str) -> dict[str, float]:
    """Seconds of sound a second of work, the median of each system over all its battles that were made."""
    table = storage.battles
    query = sa.select(table.c.a, table.c.b).where(table.c.board == name, table.c.state == "ready")
    found: dict[str, list[float]] = {}
    for row in connection.execute(query):
        for side in (row.a, row.b):
            if side["speed"] is not None:
                found.setdefault(side["system"], []).append(side["speed"])
    return {system: median(speeds) for system, speeds in found.items()}


def _not_blind(connection: sa.Connection, name: str) -> int:
    table = storage.battles
    query = sa.select(table.c.a, table.c.b).where(table.c.board == name, table.c.preference.is_not(None))
    return sum(not is_blind(row) for row in connection.execute(query))
