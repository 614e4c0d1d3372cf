"""What was learnt about a person, in words, with the evidence."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from penchant.apps import report
from penchant.preference import BradleyTerry, PreferenceModel
from penchant.records import Comparisons
from penchant.style import Style, said
from penchant.turns import turns

Array = np.ndarray[Any, np.dtype[np.float64]]

SHOWN = 3  # people whose tastes are written out


def _weights(model: BradleyTerry, user: str) -> tuple[Array, Array]:
    """A person's weights of the style numbers and their standard errors, in logits per standard deviation."""
    found = model.users_[user]
    k = len(Style.columns)
    return found.weights[:k], found.standard_errors[:k]


def wishes_of(model: PreferenceModel, user: str) -> list[str]:
    """Up to three wishes that the evidence supports (the weight is beyond 1.64 standard errors), strongest first.

    Only weights of style can be said in words; of a model that was learnt with another encoder there are none.
    """
    if not isinstance(model, BradleyTerry) or model.encoder.name.split("+")[0] != Style.name:
        return []
    weights, errors = _weights(model, user)
    sure = [row for row in np.argsort(-np.abs(weights)) if abs(weights[row]) > 1.64 * errors[row]]
    return [f"Prefers {said(Style.columns[row], weights[row])}." for row in sure[:3]]


def portraits(model: BradleyTerry, seen: Comparisons, found: Sequence[Any]) -> report.Section:
    """A section on the people about whom the evidence says most: wishes, a vote that shows them, a steered answer.

    Args:
        model: adapted to the people of `seen`.
        seen: what it learnt from.
        found: steered answers (`penchant.apps.steering.Steered`).
    """
    counts = {user: len(seen.of(user)) for user in sorted({answer.user for answer in found})}
    chosen = sorted(counts, key=lambda user: (-len(wishes_of(model, user)), -counts[user], user))[:SHOWN]
    rows = []
    for user in chosen:
        weights, _ = _weights(model, user)
        example = _evidence(seen.of(user), int(np.argmax(np.abs(weights))), float(weights[np.argmax(np.abs(weights))]))
        steered = next((a.response for a in found if a.user == user and a.way == "for each"), "")
        wishes = " ".join(wishes_of(model, user)) or "Nothing that the evidence supports yet; served like everybody."
        rows.append([user, wishes, f"{counts[user]} votes; for example {example}", report.cut(steered, 200)])
    table = report.Table(("person", "learnt", "evidence", "a steered answer"), rows)
    return report.Section(
        f"What was learnt about {('one person', 'two people', 'three people')[len(rows) - 1]}", [], [table]
    )


def _evidence(own: Comparisons, column: int, weight: float) -> str:
    """The vote of this person that shows the strongest wish most plainly."""
    liked, other = ([turn.answer() for turn in turns(own, side)] for side in ("chosen", "rejected"))
    style = Style()
    gap = np.sign(weight) * (style.encode(liked)[:, column] - style.encode(other)[:, column])
    row = int(np.argmax(gap))
    return f"chose “{report.cut(liked[row], 90)}” over “{report.cut(other[row], 90)}”"
