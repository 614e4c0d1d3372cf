"""All measures of item fairness of 100,000 users' lists of ten out of 20,000 items, beside RecBole's and definitions.

    python benchmarks/item_fairness.py [--quick] [--json -]

Lists are drawn with popularities that fall as 1 / rank. Ours are all fifteen values in both forms, from the lists on.
The peer is RecBole's evaluator, of which the study's own code is a fork; it has three of them, GiniIndex,
ShannonEntropy and ItemCoverage, on the same lists. The second comparison is with definitions in plain numpy, summed
over all pairs of shown items (VoCD) and all pairs of user and item (II-D, AI-D). Timed without imports and the drawing
of lists; a turn is the median of several rounds. Agreement comes first: RecBole's three and the three sums equal ours
to 1e-12 of their size.
"""

import importlib.util
import json
import sys
import warnings
from statistics import median
from typing import Any

import numpy as np
from paired import Found, Result, Stopwatch, Work, alternate, arguments, peak_mib

K, PATIENCE = 10, 0.8
MOST_DIFFERENCE = 1e-12
ROUNDS = {"ours": 25, "recbole": 7, "definitions": 1}  # whose median is a turn; what takes milliseconds varies
SIZES = {"full": (100_000, 20_000), "quick": (5_000, 1_000)}


def lists(n_users: int, n_items: int) -> Any:
    """Different items for each user, the popular ones more often, int64[users, K]."""
    rng = np.random.default_rng(0)
    cumulative = np.cumsum(1 / np.arange(1, n_items + 1))
    table = np.empty((n_users, K), dtype=np.int64)
    for user in range(n_users):
        different: dict[int, None] = {}
        while len(different) < K:
            drawn = np.searchsorted(cumulative, rng.random(4 * K) * cumulative[-1])
            different |= dict.fromkeys(drawn.tolist())
        table[user] = list(different)[:K]
    return table


def ours(table: Any, n_items: int) -> Found:
    """All measures."""
    from penchant.evaluate.item_fairness import exposure, measures

    return {name: one.value for name, one in measures(exposure(table, n_items), patience=PATIENCE).items()}


def recbole(table: Any, n_items: int) -> Found:
    """The three that RecBole has, brought to our scale."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it imports what is deprecated elsewhere
        from recbole.evaluator.metrics import GiniIndex, ItemCoverage, ShannonEntropy

    entropy = ShannonEntropy.get_entropy(None, table)
    n_shown = len(np.unique(table))
    return {
        "Gini_ori": GiniIndex.get_gini(None, table, n_items),
        "QF_ori": ItemCoverage.get_coverage(None, table, n_items),
        "Entropy": entropy * n_shown / np.log(n_items),  # it divides by the number of shown items
    }


def definitions(table: Any, n_items: int) -> Found:
    """VoCD over pairs of shown items, II-D and AI-D over users and items, in plain numpy, 256 rows at a time."""
    counts = np.bincount(table.ravel(), minlength=n_items).astype(np.float64)
    some = counts[counts > 0]
    total = 0.0
    for start in range(0, len(some), 256):
        part = some[start : start + 256, None]
        total += (np.abs(part - some) / np.maximum(part, some)).sum()
    target = (1 - PATIENCE**K) / ((1 - PATIENCE) * n_items)
    squares, of_items = 0.0, np.zeros(n_items)
    for start in range(0, len(table), 256):
        part = table[start : start + 256]
        apart_from = np.full((len(part), n_items), -target)
        np.put_along_axis(apart_from, part, np.broadcast_to(PATIENCE ** np.arange(K), part.shape) - target, axis=1)
        squares += (apart_from**2).sum()
        of_items += apart_from.sum(axis=0)
    return {
        "VoCD_ori": total / (len(some) * (len(some) - 1)),
        "II-D_ori": squares / (len(table) * n_items),
        "AI-D_ori": ((of_items / len(table)) ** 2).mean(),
    }


SIDES = {"ours": ours, "recbole": recbole, "definitions": definitions}


def measured(work: Work) -> Found:
    """One side on the lists: seconds, memory and values."""
    side = SIDES[work["side"]]
    side(lists(50, 100), 100)  # imports
    table = lists(work["users"], work["items"])
    watches = []
    for _ in range(ROUNDS[work["side"]]):
        with Stopwatch() as watch:
            values = side(table, work["items"])
        watches.append(watch)
    if work["side"] == "ours":  # of the original form, which has no value where items are never shown
        from penchant.evaluate.item_fairness import Levels, entropy

        values["Entropy"] = entropy(Levels.of(np.bincount(table.ravel(), minlength=work["items"])))
    values = {name: float(value) for name, value in values.items()}
    wall, cpu = (median(getattr(watch, clock) for watch in watches) for clock in ("wall", "cpu"))
    return {"wall": wall, "cpu": cpu, "peak_mib": peak_mib(), "values": values}


def difference(found: Found, theirs: Found) -> float:
    """The largest difference of a value from ours, as a share of it."""
    mine = found["values"]
    return max(abs(mine[name] - value) / abs(mine[name]) for name, value in theirs["values"].items())


def main() -> None:
    """Every side, turn by turn; no ratio unless values agree."""
    asked = arguments(str(__doc__))
    if asked.work:
        print(json.dumps(measured(asked.work)))
        return
    users, items = SIZES["quick" if asked.quick else "full"]
    repeats = 2 if asked.quick else 5
    result = Result("item_fairness", quick=asked.quick, repeats=repeats, peers=("numpy", "recbole"))
    result.numbers |= {"users": users, "items": items, "k": K}
    work = {"users": users, "items": items}
    works: dict[str, Work] = {"ours": {"side": "ours", **work}, "definitions": {"side": "definitions", **work}}
    if importlib.util.find_spec("recbole") is not None:
        works["recbole"] = {"side": "recbole", **work}
    turns = alternate(works, repeats)
    result.numbers["ours_seconds"] = median(one["wall"] for one in turns["ours"])
    for peer in ("recbole", "definitions"):
        compare(peer, turns, result)
    result.keep("lists of ten", turns)
    result.report(asked)


def compare(peer: str, turns: dict[str, list[Found]], result: Result) -> None:
    """How much faster ours is than one peer, if its values are ours."""
    if peer not in turns:
        why_not = f"{peer} is not installed (pip install --no-deps recbole colorlog colorama thop texttable)"
    else:
        apart_by = max(difference(*both) for both in zip(turns["ours"], turns[peer], strict=True))
        result.number(f"{peer}_difference", apart_by)
        why_not = f"values differ by {apart_by:.3g} of their size" if apart_by > MOST_DIFFERENCE else ""
    if why_not:
        print(why_not, file=sys.stderr)
        result.refuse(f"{peer}_ratio", why_not)
        return
    result.speed(f"{peer}_ratio", turns[peer], turns["ours"])


if __name__ == "__main__":
    main()
