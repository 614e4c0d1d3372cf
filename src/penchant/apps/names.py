"""People who compared things by their names, systems or dishes, and not texts that somebody wrote."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from penchant.apps import gains, report
from penchant.apps.one_for_all import compare
from penchant.apps.portraits import SHOWN
from penchant.encoders import Items
from penchant.evaluate.held_out import Split
from penchant.preference import BradleyTerry
from penchant.records import Comparisons
from penchant.turns import turns

_WORDS_OF_A_NAME = 4
_JUDGED_OFTEN = 4  # comparisons that a name is part of, on average
_MOST_NAMES = 12  # strengths that are shown


def items_of(comparisons: Comparisons) -> list[str]:
    """The names that were compared, sorted."""
    return sorted({turn.answer() for side in ("chosen", "rejected") for turn in turns(comparisons, side)})


def are_names(comparisons: Comparisons) -> bool:
    """Whether people compared few things by name (systems, dishes): short, and each judged again and again."""
    items = items_of(comparisons)
    short = sum(len(item.split()) <= _WORDS_OF_A_NAME for item in items)
    return short >= 0.95 * len(items) and 2 * len(comparisons) >= _JUDGED_OFTEN * len(items)


def of_names(everything: Comparisons, split: Split, name: str, lead: str) -> tuple[dict[str, Any], report.Section]:
    """A strength of each thing for all and for each, and no text to steer.

    Args:
        everything: comparisons for which `are_names` holds.
        split: what is held out of them.
        name: of the file.
        lead: where it comes from.

    Returns:
        What scripts read, and what people read.
    """
    items = items_of(everything)
    model = BradleyTerry(encoder=Items(items))
    seen, later = split(everything)
    result = compare(model, seen, later)
    caution = (
        f"What was compared are {len(items)} names, not texts: a model of each person says how strongly they prefer "
        "each, and there is nothing in it that a language model could be steered by. For that, give a file with the "
        "answers themselves."
    )
    table = report.Table(gains.HEADINGS, [gains.row(name, result)], gains.note(result))
    logits = model.weights_ / model.scale_  # of a whole item, not of a standard deviation
    errors = model.standard_errors_ / model.scale_
    centre = logits.mean()
    rows = [
        [items[row], f"{logits[row] - centre:+.2f} ± {1.96 * errors[row]:.2f}"]
        for row in np.argsort(-logits)[:_MOST_NAMES]
    ]
    strengths = report.Table(("liked best by all", "strength, logits"), rows, "Against the mean of all; 95 %.")
    own = report.Table(("person", "differs from all in"), _own_strengths(model, items))
    section = report.Section(
        "One model for all, or one for each",
        [lead, caution],
        [table, strengths, own],
        [gains.plot(result["accuracy"], "in this file")],
    )
    return gains.numbers(result), section


def _own_strengths(model: BradleyTerry, items: Sequence[str]) -> list[list[str]]:
    """People who differ most plainly from everybody, and in what."""
    found = []
    for user, one in model.users_.items():
        gap = (one.weights - model.weights_) / one.standard_errors
        sure = [row for row in np.argsort(-np.abs(gap)) if abs(gap[row]) > 1.64]
        said = [f"likes {items[row]} {'more' if gap[row] > 0 else 'less'}" for row in sure[:SHOWN]]
        found.append((float(np.abs(gap).max()), user, ", ".join(said) or "nothing that the evidence supports"))
    return [[user, said] for _, user, said in sorted(found, key=lambda one: (-one[0], one[1]))[:SHOWN]]
