"""Comparisons from every other kind of vote: ratings, rankings, edits, battles, reactions, interactions.

A pair is made only within what one person judged in the same respect: of two answers to the same prompt if there are
such, else of any two that the person judged. Equal scores are ties: they say nothing about direction and are counted,
not kept.

>>> from penchant.records import Ratings
>>> rated = Ratings.from_rows(
...     [{"prompt": "q", "response": r, "score": s, "user": "ann"} for r, s in (("a", 1), ("b", 3), ("c", 3))]
... )
>>> pairs, dropped = comparisons(rated)
>>> pairs.table.select(["chosen", "rejected"]).to_pylist(), dropped
([{'chosen': 'b', 'rejected': 'a'}, {'chosen': 'c', 'rejected': 'a'}], {'tied pairs': 1})
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from penchant.errors import DataError, SettingsError
from penchant.records import Battles, Comparisons, Edits, Interactions, Rankings, Ratings, Reactions, Records
from penchant.turns import Turn, readable

_TELLING = (Comparisons, Ratings, Rankings, Edits, Reactions, Interactions)
_LIKING = {
    **dict.fromkeys(("love", "like", "thumbs-up", "thumbs_up", "upvote", "copy", "share", "heart", "accept"), 1.0),
    **dict.fromkeys(("dislike", "thumbs-down", "thumbs_down", "downvote", "regenerate", "report", "reject"), -1.0),
}


@dataclass(frozen=True)
class _Judged:
    """One judgement: who, in which respect, of what, how good; and the columns that a comparison carries along."""

    user: str | None
    respect: tuple[Any, ...]
    prompt: str
    response: str
    score: float
    common: dict[str, Any]


def comparisons(
    records: Records, *, max_pairs_per_user: int | None = 200, seed: int = 0
) -> tuple[Comparisons, dict[str, int]]:
    """Pairs that follow from what people left.

    Args:
        records: comparisons (returned as they are), ratings, rankings, edits (whoever changes a draft prefers the
            revision), battles (of names of systems), reactions or interactions.
        max_pairs_per_user: at most so many pairs of one person, drawn at random; None keeps all. Rows without a user
            are paired within their prompt (or ranking) only, and not capped.
        seed: of the draw.

    Returns:
        The comparisons, and how many pairs or rows were left out for each reason.

    Raises:
        DataError: no comparison follows from records of this kind.
        SettingsError: the cap is below 1.
    """
    if max_pairs_per_user is not None and max_pairs_per_user < 1:
        raise SettingsError(f"max_pairs_per_user must be at least 1: got {max_pairs_per_user!r}.")
    if isinstance(records, Comparisons):
        return records, {}
    if isinstance(records, Battles):
        return _of_battles(records)
    if isinstance(records, Edits):
        return _of_edits(records)
    dropped: dict[str, int] = defaultdict(int)
    judged = list(_judged(records, dropped))
    rows = _pairs(judged, max_pairs_per_user, np.random.default_rng(seed), dropped)
    return _table(rows), dict(dropped)


def of_all(
    tables: Sequence[Records], *, max_pairs_per_user: int | None = 200, seed: int = 0
) -> tuple[Comparisons, dict[str, int], set[str]]:
    """Every comparison that follows from some tables, what was left out for each reason, and the kinds it came from.

    Battles name systems, not what they said; where anything else can be compared they are left out and counted, so that
    a vote that came with both answers counts once. Arguments and Raises as for `comparisons`.
    """
    telling = [table for table in tables if len(table) and isinstance(table, _TELLING)]
    battles = [table for table in tables if isinstance(table, Battles) and len(table)]
    dropped: dict[str, int] = defaultdict(int)
    if telling and battles:
        dropped["battles, where answers can be compared"] = sum(map(len, battles))
    used = telling or battles
    parts = []
    for table in used:
        pairs, lost = comparisons(table, max_pairs_per_user=max_pairs_per_user, seed=seed)
        parts.append(pairs)
        for reason, count in lost.items():
            dropped[reason] += count
    return Comparisons.concat(parts), dict(dropped), {table.kind for table in used}


def scored(
    responses: Sequence[str], scores: Sequence[float], *, only_best_and_worst: bool
) -> tuple[list[tuple[int, int]], dict[str, int]]:
    """Which of some answers to one prompt beats which, by numbers; the first of equals stands for them.

    Args:
        responses: the answers.
        scores: a number for each, the greater the better.
        only_best_and_worst: one pair instead of all.

    Returns:
        (better, worse) places, best first, and how many pairs were left out for each reason.

    >>> scored(["a", "b", "c"], [0.0, 2.0, 1.0], only_best_and_worst=True)
    ([(1, 0)], {})
    >>> scored(["a", "b", "b"], [0.0, 2.0, 2.0], only_best_and_worst=False)
    ([(1, 0), (2, 0)], {'tied pairs': 1})
    """
    order = sorted(range(len(scores)), key=lambda place: -scores[place])
    pairs = [(i, j) for rank, i in enumerate(order) for j in order[rank + 1 :]]
    if only_best_and_worst and pairs:
        pairs = [(order[0], order[-1])]
    dropped: dict[str, int] = defaultdict(int)
    kept = []
    for better, worse in pairs:
        if scores[better] == scores[worse]:
            dropped["tied pairs"] += 1
        elif responses[better] == responses[worse]:
            dropped["the same response judged twice"] += 1
        else:
            kept.append((better, worse))
    if not pairs:
        dropped["prompts with fewer than two answers"] += 1
    return kept, dict(dropped)


def _judged(records: Records, dropped: dict[str, int]) -> Iterable[_Judged]:
    for place, row in enumerate(records.table.to_pylist()):
        common = {name: row.get(name) for name in ("source", "aspect", "form", "context") if row.get(name) is not None}
        user = row["user"]
        if isinstance(records, Ratings):
            yield _Judged(user, (row["source"], row["aspect"]), row["prompt"], row["response"], row["score"], common)
        elif isinstance(records, Rankings):
            ranks = row["ranks"] or range(1, len(row["responses"]) + 1)
            for response, rank in zip(row["responses"], ranks, strict=True):
                # A ranking is a whole: its responses are compared with each other and with nothing else.
                yield _Judged(user, (place,), row["prompt"], response, -float(rank), common)
        elif isinstance(records, Reactions):
            liking = _LIKING.get(row["reaction"].lower())
            if liking is None:
                dropped[f"reaction {row['reaction']!r} is neither for nor against"] += 1
            else:
                yield _Judged(user, (row["source"],), row["prompt"], row["response"], liking, common)
        elif isinstance(records, Interactions):
            if row["value"] is None:
                dropped["interactions without a value"] += 1
            else:
                yield _Judged(user, (row["source"], row["event"]), "", row["item"], row["value"], common)
        else:
            raise DataError(f"No comparisons follow from records of kind {records.kind}; export them as they are.")


def _pairs(
    judged: Sequence[_Judged], cap: int | None, rng: np.random.Generator, dropped: dict[str, int]
) -> list[dict[str, Any]]:
    by_user: dict[str | None, dict[tuple[Any, ...], list[_Judged]]] = defaultdict(lambda: defaultdict(list))
    for one in judged:
        by_user[one.user][one.respect].append(one)
    rows = []
    for user, respects in by_user.items():
        pairs: list[tuple[_Judged, _Judged]] = []
        for group in respects.values():
            pairs += _within(group, user, cap, rng)
        if cap is not None and user is not None and len(pairs) > cap:
            dropped["pairs beyond the most per person"] += len(pairs) - cap
            pairs = [pairs[i] for i in np.sort(rng.choice(len(pairs), cap, replace=False))]
        for first, second in pairs:
            if first.response == second.response and first.prompt == second.prompt:
                dropped["the same response judged twice"] += 1
            elif first.score == second.score:
                dropped["tied pairs"] += 1
            elif first.prompt != second.prompt and first.prompt and second.prompt:
                # Different questions: the prompt becomes part of what was judged.
                common = {name: value for name, value in first.common.items() if name != "form"}
                rows.append(_row(user, "", *_ordered(first, second, with_prompt=True), common))
            else:
                rows.append(_row(user, first.prompt, *_ordered(first, second, with_prompt=False), first.common))
    return rows


def _within(
    group: Sequence[_Judged], user: str | None, cap: int | None, rng: np.random.Generator
) -> list[tuple[_Judged, _Judged]]:
    """Pairs of one person in one respect: within prompts if any prompt was judged twice, else across."""
    by_prompt: dict[str, list[_Judged]] = defaultdict(list)
    for one in group:
        by_prompt[one.prompt].append(one)
    blocks = [block for block in by_prompt.values() if len(block) > 1]
    if not blocks and user is not None and len(group) > 1:
        blocks = [list(group)]
    pairs = []
    for block in blocks:
        n = len(block)
        n_all = n * (n - 1) // 2
        # All pairs of 5,000 ratings are 12 million: draw a few times the cap without making them all.
        if cap is None or n_all <= 4 * cap:
            places = [(i, j) for i in range(n) for j in range(i + 1, n)]
        else:
            drawn = rng.integers(n, size=(8 * cap, 2))
            places = sorted({(min(i, j), max(i, j)) for i, j in drawn.tolist() if i != j})
        pairs += [(block[i], block[j]) for i, j in places]
    return pairs


def _ordered(first: _Judged, second: _Judged, *, with_prompt: bool) -> tuple[str, str]:
    better, worse = (first, second) if first.score > second.score else (second, first)
    if not with_prompt:
        return better.response, worse.response
    sides = [Turn(one.prompt, one.response, form=one.common.get("form", "text")).text() for one in (better, worse)]
    return sides[0], sides[1]


def _row(user: str | None, prompt: str, chosen: str, rejected: str, common: dict[str, Any]) -> dict[str, Any]:
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected, "strength": 1.0, "user": user, **common}


def _of_battles(battles: Battles) -> tuple[Comparisons, dict[str, int]]:
    """The system is the payload: what is learnt is how much each person likes each system."""
    dropped: dict[str, int] = defaultdict(int)
    rows = []
    for row in battles.table.to_pylist():
        if row["outcome"] in ("tie", "both_bad"):
            dropped[f"battles that ended as {row['outcome']}"] += 1
            continue
        systems = [row["system_a"], row["system_b"]]
        chosen, rejected = systems if row["outcome"] == "a" else systems[::-1]
        asked = readable(row["prompt"] or "", row["form"] if row["prompt"] else None)
        rows.append(_row(row["user"], asked, chosen, rejected, {"source": row["source"]}))
    return _table(rows), dict(dropped)


def _of_edits(edits: Edits) -> tuple[Comparisons, dict[str, int]]:
    rows = [
        _row(row["user"], row["context"] or "", row["revision"], row["draft"], {"source": row["source"]})
        for row in edits.table.to_pylist()
        if row["revision"] != row["draft"]
    ]
    n_same = len(edits) - len(rows)
    return _table(rows), {"edits that changed nothing": n_same} if n_same else {}


def _table(rows: list[dict[str, Any]]) -> Comparisons:
    return Comparisons(pa.Table.from_pylist(rows, Comparisons.schema)) if rows else Comparisons.from_rows([])
