"""One model for all against one for each, on choices that neither has seen."""

from typing import Any

import pyarrow as pa

from penchant.errors import DataError
from penchant.evaluate.calibration import log_loss
from penchant.evaluate.per_user import per_user_report
from penchant.evaluate.standing import agreement
from penchant.preference import PreferenceModel
from penchant.records import Comparisons


def adapted(model: PreferenceModel, shared: Comparisons, own: Comparisons) -> PreferenceModel:
    """The model, fitted on `shared` and adapted to each person in `own`."""
    return model.fit(shared).adapt_each(own)


def anonymous(comparisons: Comparisons) -> Comparisons:
    """The same comparisons by nobody in particular, of which everybody's model is asked."""
    place = comparisons.table.schema.get_field_index("user")
    return Comparisons(comparisons.table.set_column(place, "user", pa.nulls(len(comparisons), pa.string())))


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
    for_all, for_each = model.probability(anonymous(held_out)), model.probability(held_out)
    users = held_out.table["user"].to_pylist()
    strength = held_out.numpy("strength").astype(float)
    return {
        "accuracy": per_user_report(users, agreement(for_all, strength), agreement(for_each, strength)),
        "log_loss": per_user_report(users, -log_loss(for_all, strength), -log_loss(for_each, strength)),
        "n_people": len(held_out.users),
        "n_seen": len(seen),
        "n_held_out": len(held_out),
    }
