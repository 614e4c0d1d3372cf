"""Comparisons from every other kind of vote: ratings, rankings, battles, reactions, interactions.

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
from penchant.records import Battles, Comparisons, Interactions, Rankings, Ratings, Reactions, Records

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
        records: comparisons (returned as they are), ratings, rankings, battles, reactions or interactions.
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
    dropped: dict[str, int] = defaultdict(int)
    judged = list(_judged(records, dropped))
    rows = _pairs(judged, max_pairs_per_user, np.random.default_rng(seed), dropped)
    found = Comparisons(pa.Table.from_pylist(rows, Comparisons.schema)) if rows else Comparisons.from_rows([])
    return found, dict(dropped)


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
            raise DataError(f"No comparisons follow from a {records.kind}; it can be trained on or exported as it is.")


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
                rows.append(_row(user, "", *_ordered(first, second, with_prompt=True), first.common))
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
    return f"{better.prompt}\n\n{better.response}", f"{worse.prompt}\n\n{worse.response}"


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
        rows.append(_row(row["user"], row["prompt"] or "", chosen, rejected, {"source": row["source"]}))
    return (Comparisons(pa.Table.from_pylist(rows, Comparisons.schema)) if rows else Comparisons.from_rows([])), dict(
        dropped
    )
