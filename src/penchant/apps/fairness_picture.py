"""A picture of who gets how much: Lorenz curves, showings by item, and each measure between its ends."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from penchant.errors import MissingExtraError
from penchant.evaluate.item_fairness import CORRECTED, Exposure, Levels, ends, fairest, lorenz, measures
from penchant.whole import whole_file

FORMS = (".svg", ".png", ".pdf")
MOST = 10  # recommenders in a picture; more cannot be told apart


def draw(path: Path, shown: Mapping[str, Exposure]) -> None:
    """Draw the first recommenders, ten at most.

    Args:
        path: ends in one of `FORMS`.
        shown: what items got, by name of the recommender.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        from matplotlib import rc_context
    except ImportError as error:
        raise MissingExtraError("Pictures need matplotlib: pip install 'penchant[demo]'.") from error
    with whole_file(path) as partial, rc_context({"svg.fonttype": "none", "svg.hashsalt": "penchant"}):
        plain = {"metadata": {"Date": None}} if path.suffix == ".svg" else {}
        figure(dict(list(shown.items())[:MOST])).savefig(partial, format=path.suffix[1:], dpi=120, **plain)


def figure(shown: Mapping[str, Exposure]) -> Any:
    """Three panels, one colour a recommender."""
    from matplotlib.figure import Figure

    drawing = Figure(figsize=(13, 4.4), layout="constrained")
    curve, items, between = drawing.subplots(1, 3, width_ratios=(1, 1, 1.25))
    for number, (name, one) in enumerate(shown.items()):
        levels, colour = Levels.of(one.counts()), f"C{number}"
        curve.plot(*(100 * axis for axis in lorenz(levels)), color=colour, label=name)
        # from the most to the least shown; what is never shown has no place on a logarithmic axis
        some = levels.some()
        last = np.cumsum(some.items[::-1])
        items.step([1, *last], [some.amount[-1], *some.amount[::-1]], where="pre", color=colour, label=name)
        _between_ends(between, one, number, len(shown))
    curve.plot([0, 100], [0, 100], color="#7a8696", lw=0.8)
    curve.set(xlabel="items, from the least shown (%)", ylabel="of all showings (%)", title="Lorenz curve")
    items.set(xscale="log", yscale="log", xlabel="item, from the most shown", ylabel="showings")
    unseen = ", ".join(f"{one.n_items - Levels.of(one.counts()).some().n_items:,}" for one in shown.values())
    items.set_title("Showings of each item" + (f"; never shown: {unseen}" if len(shown) <= 3 else ""))
    curve.legend(frameon=False, fontsize=8)
    for axes in (curve, items, between):
        axes.spines[["top", "right"]].set_visible(False)
        axes.title.set_fontsize(10)
    return drawing


def _between_ends(axes: Any, one: Exposure, number: int, n: int) -> None:
    """Originals with the ends that lists of this size reach, and corrected forms, fairer to the right."""
    found = measures(one)
    reached = ends(one.size) if one.k < one.n_items else {}
    rows = [f"{name}{form}" for name in CORRECTED for form in ("_ori", "_our")]
    for row, name in enumerate(rows):
        measure, _, form = name.rpartition("_")
        height = -row + (0.5 - (number + 0.5) / n) * 0.7
        low, high = (0.0, 1.0) if form == "our" else reached.get(measure, (np.nan, np.nan))
        turned = form == "ori" and not fairest(measure)  # so that fairer is to the right for all
        value = found[name].value
        low, high = (1 - low, 1 - high) if turned else (low, high)
        value = 1 - value if not fairest(measure) else value
        axes.plot([low, high], [height, height], color="#c9d1da", lw=3, solid_capstyle="butt", zorder=1)
        axes.plot(value, height, "o", color=f"C{number}", ms=4.5)
    axes.set_yticks(
        [-row for row in range(len(rows))],
        [
            f"{'1 - ' if not fairest(name.rpartition('_')[0]) else ''}"
            f"{name.replace('_ori', ', original').replace('_our', ', corrected')}"
            for name in rows
        ],
        fontsize=8,
    )
    axes.set(xlabel="bars: the ends that lists of this size have", title="Measures, fairer to the right")
