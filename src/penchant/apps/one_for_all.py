"""One model for all against one for each, on choices that neither has seen."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pyarrow as pa

from penchant.errors import DataError
from penchant.evaluate.calibration import log_loss
from penchant.evaluate.per_user import per_user_report
from penchant.preference import PreferenceModel
from penchant.records import Comparisons

Array = np.ndarray[Any, np.dtype[Any]]


def earlier(users: Array, share: float) -> Array:
    """True for the first `share` of each person's rows, in the order they came, bool[n]; at least one row of each."""
    place = np.zeros(len(users))
    order = np.argsort(users, kind="stable")
    _, starts, counts = np.unique(users[order], return_index=True, return_counts=True)
    for start, count in zip(starts, counts, strict=True):
        place[order[start : start + count]] = np.arange(count) / count
    return place < share


def by_time(comparisons: Comparisons, *, share: float = 2 / 3, at_least: int = 3) -> tuple[Comparisons, Comparisons]:
    """Each person's earlier choices, to learn from, and the later ones, held out: for votes that stand for themselves.

    Args:
        comparisons: in the order they were made.
        share: of each person's rows to learn from.
        at_least: people with fewer rows are learnt from, but not tested.

    Raises:
        DataError: nobody has that many rows.
    """
    users = _users(comparisons)
    counts = dict(zip(*np.unique(users, return_counts=True), strict=True))
    testable = np.array([user != "" and counts[user] >= at_least for user in users], dtype=bool)
    held_out = testable & ~earlier(users, share)
    return _parts(comparisons, ~held_out, held_out)


def by_response(comparisons: Comparisons, *, share: float = 2 / 3, seed: int = 0) -> tuple[Comparisons, Comparisons]:
    """Pairs of each person's seen responses, and pairs of the others: for pairs made from ratings or rankings.

    Such pairs hang together (a over b and b over c tell a over c), so that a response that is held out must not be in
    any pair that was learnt from. Pairs of one seen and one held-out response are left out of both.

    Args:
        comparisons: any.
        share: of each person's responses to learn from.
        seed: of which.

    Raises:
        DataError: nobody has pairs of both kinds.
    """
    users = _users(comparisons)
    rows = comparisons.table.select(["prompt", "chosen", "rejected"]).to_pylist()
    rng = np.random.default_rng(seed)
    seen = np.zeros(len(users), dtype=bool)
    held_out = np.zeros(len(users), dtype=bool)
    for user in np.unique(users):
        own = np.flatnonzero(users == user)
        judged = sorted({(rows[row]["prompt"], rows[row][side]) for row in own for side in ("chosen", "rejected")})
        shown = (
            set(judged)
            if user == ""
            else {judged[k] for k in rng.permutation(len(judged))[: round(share * len(judged))]}
        )
        for row in own:
            sides = [(rows[row]["prompt"], rows[row][side]) in shown for side in ("chosen", "rejected")]
            seen[row], held_out[row] = all(sides), not any(sides)
    return _parts(comparisons, seen, held_out)


def _users(comparisons: Comparisons) -> Array:
    return np.array([user or "" for user in comparisons.table["user"].to_pylist()])


def _parts(comparisons: Comparisons, seen: Array, held_out: Array) -> tuple[Comparisons, Comparisons]:
    if not held_out.any() or not seen.any():
        raise DataError(
            f"Nobody has enough choices ({len(comparisons)} rows, {len(comparisons.users)} people) to learn from some "
            "and test on others: per-person models need several choices of the same person. Import feedback "
            "that names its users."
        )
    return comparisons.take(np.flatnonzero(seen)), comparisons.take(np.flatnonzero(held_out))


Split = Callable[[Comparisons], tuple[Comparisons, Comparisons]]


def split_for(kinds: Iterable[str]) -> Split:
    """How comparisons that came from records of these kinds are held out without a leak."""
    return by_time if set(kinds) <= {"comparison", "battle", "edit"} else by_response


def new_people(
    comparisons: Comparisons, *, split: Split = by_time, share: float = 0.3, seed: int = 0
) -> tuple[Comparisons, Comparisons, Comparisons]:
    """People set aside: everybody else's choices, their own earlier ones, and their later ones, held out.

    Args:
        comparisons: in the order they were made.
        split: how the choices of those who were set aside are parted.
        share: of the people to set aside.
        seed: of who.
    """
    others, aside = comparisons.split(share, by="user", seed=seed)
    return others, *split(aside)


def adapted(model: PreferenceModel, shared: Comparisons, own: Comparisons) -> PreferenceModel:
    """The model, fitted on `shared` and adapted to each person in `own`."""
    return model.fit(shared).adapt_each(own)


def compare(
    model: PreferenceModel, seen: Comparisons, held_out: Comparisons, *, shared: Comparisons | None = None
) -> dict[str, Any]:
    """Fit everybody's model, adapt it to each person, and measure both on `held_out`.

    Args:
        model: anything with `fit`, `adapt` and `probability`; fitted and adapted afterwards.
        seen: what may be learnt of the people who are measured.
        held_out: later rows of the same people.
        shared: what everybody's model is fitted on, if not on `seen`, such as other people's choices.

    Returns:
        `accuracy` and `log_loss` (negated: higher is better), each a `PerUserReport`; counts of people and rows.
    """
    if len(held_out.users) < 2:
        raise DataError(
            f"All {len(seen) + len(held_out)} choices are of one person, {held_out.users[0]!r}: one model for all and "
            "one for each are then the same. Give choices of two people or more, named by `user`."
        )
    adapted(model, seen if shared is None else shared, seen)
    place = held_out.table.schema.get_field_index("user")
    anonymous = Comparisons(held_out.table.set_column(place, "user", pa.nulls(len(held_out), pa.string())))
    for_all, for_each = model.probability(anonymous), model.probability(held_out)
    users = held_out.table["user"].to_pylist()
    strength = held_out.numpy("strength").astype(float)

    def right(probability: Array) -> Array:
        agrees = np.where(strength >= 0.5, probability > 0.5, probability < 0.5).astype(float)
        return np.where((strength == 0.5) | (probability == 0.5), 0.5, agrees)

    return {
        "accuracy": per_user_report(users, right(for_all), right(for_each)),
        "log_loss": per_user_report(users, -log_loss(for_all, strength), -log_loss(for_each, strength)),
        "n_people": len(held_out.users),
        "n_seen": len(seen),
        "n_held_out": len(held_out),
    }
