"""One model for all against one for each, on choices that neither has seen."""

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
    """Each person's earlier choices, to learn from, and the later ones, held out.

    Args:
        comparisons: in the order they were made.
        share: of each person's rows to learn from.
        at_least: people with fewer rows are learnt from, but not tested.

    Raises:
        DataError: nobody has that many rows.
    """
    rows = comparisons.table["user"].to_numpy(zero_copy_only=False)
    users = np.where(rows == None, "", rows).astype(str)  # noqa: E711 - elementwise
    counts = dict(zip(*np.unique(users, return_counts=True), strict=True))
    testable = np.array([user != "" and counts[user] >= at_least for user in users], dtype=bool)
    if not testable.any():
        raise DataError(
            f"Nobody has {at_least} choices ({len(comparisons)} rows, {len(comparisons.users)} people): per-person "
            "models need several choices of the same person. Import feedback that names its users."
        )
    held_out = testable & ~earlier(users, share)
    return comparisons.take(np.flatnonzero(~held_out)), comparisons.take(np.flatnonzero(held_out))


def new_people(
    comparisons: Comparisons, *, share: float = 0.3, seed: int = 0
) -> tuple[Comparisons, Comparisons, Comparisons]:
    """People set aside: everybody else's choices, their own earlier ones, and their later ones, held out.

    Args:
        comparisons: in the order they were made.
        share: of the people to set aside.
        seed: of who.
    """
    others, aside = comparisons.split(share, by="user", seed=seed)
    return others, *by_time(aside)


def adapted(model: PreferenceModel, shared: Comparisons, own: Comparisons) -> PreferenceModel:
    """The model, fitted on `shared` and adapted to each person in `own`."""
    model.fit(shared)
    for user in own.users:
        model.adapt(user, own.of(user))
    return model


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
