"""Do corrected measures of item fairness reach their ends and stay between them, and do they agree on real lists?

(A) Over a grid of users, items and places (fewer places than items, as many, more with and without a rest) every
corrected measure is 0 for the same items for everybody and 1 for items in turns (the other way round for Gini's), and
it stays in [0, 1] on 10,000 random tables of random sizes and popularities. Exceptions that the study knows are
asserted as such: FSat is always 1 with fewer places than items, and Gini-w has only a bound with more. (B) Each
original fails that test at some size. (C) II-D, summed over all users and items, is the same number for all
recommenders. (D) On real recommendations the corrected Jain, QF, Ent, Gini and FSat order recommenders alike: mean
Kendall tau above 0.4, interval over cells of data and k.

**Real people**: MovieLens (any rating) and Last.fm (any listening), users and items with fewer than five interactions
taken out, the last interaction of each user held out (a random one on Last.fm, which has no times). Six recommenders
(`recommenders.py`) recommend 50 new items to everybody; k is 5, 10 and 20. The catalogue is all items that are left.
FSat of fewer places than items is the same for all recommenders and has no tau; such pairs are left out and counted.
Settings of recommenders were chosen on the interaction before the one that is held out.

We saw A fail, for FSat alone: `penchant.evaluate.item_fairness` says when and why. With the end that we derived there
(`fewest_satisfied`) FSat stays in [0, 1] on all tables, too.

Left out: Amazon and Book-Crossing data, SLIM and neural recommenders.

Source:
    Rampisela, Maistro, Ruotsalo and Lioma (2024), Evaluation measures of individual item fairness for recommender
    systems: a critical study. ACM TORS (arXiv 2311.01013).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penchant.evaluate.fairness_probes import agreement, courses, in_turns, same_for_all, windows
from penchant.evaluate.item_fairness import (
    CORRECTED,
    Measure,
    Size,
    exposure,
    fairest,
    fewest_satisfied,
    measures,
)
from penchant.evaluate.relevance import NAMES, relevance
from penchant.reproductions.recommenders import DATA, RECOMMENDERS, interactions, top
from penchant.reproductions.verdict import Verdict
from penchant.statistics import Interval, paired_bootstrap

CLAIM = (
    "Corrected measures of item fairness are 0 and 1 at the least fair and the fairest lists of every size and stay "
    "between; originals are not; II-D is the same for all recommenders; and the corrected Jain, QF, Ent, Gini and FSat "
    "order recommenders alike."
)
METRIC = "mean Kendall tau among corrected Jain, QF, Ent, Gini and FSat over recommenders, above the bar of 0.4"
SEEDS = {"quick": 2, "full": 5}

Array = NDArray[np.float64]
Lists = NDArray[np.int64]

PLACES = (5, 10, 20)
LONGEST = 50  # items recommended to each user, for windows over ranks
N_TABLES = {"quick": 10_000, "full": 10_000, "tiny": 300}
BAR = 0.4
AGREE = ("Jain", "QF", "Ent", "Gini", "FSat")
PATIENCE = 0.8
_ROUNDING = 1e-12
GRID = tuple(
    Size(m, n, k)
    for m, n, k in (
        *((4, 50, 3), (10, 101, 10), (100, 2000, 10), (2, 10, 4)),  # fewer places than items
        *((6, 18, 3), (10, 100, 10), (25, 25, 1), (200, 1000, 5)),  # as many
        *((40, 20, 5), (30, 10, 3), (100, 50, 20), (60, 12, 11)),  # more, without a rest
        *((50, 60, 7), (12, 7, 3), (33, 20, 15), (500, 333, 10), (9, 10, 2)),  # more, with one
    )
)
COURSES = (Size(20, 150, 5), Size(30, 150, 5), Size(60, 40, 5))  # fewer places than items, as many, more with a rest


# A, B: ends ----------------------------------------------------------------------------------------------------------


def is_known_exception(name: str, size: Size) -> bool:
    """Whether the study itself says that this corrected measure does not reach both ends at this size."""
    return (name == "FSat" and not size.share[0]) or (name == "Gini-w" and size.places > size.n_items)


def at_the_ends(size: Size) -> dict[str, dict[str, float]]:
    """Each measure of the least fair and of the fairest lists of a size."""
    tables = {"same": same_for_all(size), "turns": in_turns(size)}
    found = {end: measures(exposure(lists, size.n_items)) for end, lists in tables.items()}
    return {name: {end: of[name].value for end, of in found.items()} for name in found["same"]}


def reaches(name: str, same: float, turns: float) -> bool:
    """Whether a measure says 0 of the least fair lists and 1 of the fairest, or the other way round."""
    fair = fairest(name)
    return bool(abs(same - (1 - fair)) < _ROUNDING and abs(turns - fair) < _ROUNDING)  # NaN is not


def ends_of_grid() -> dict[str, Any]:
    """Sizes at which corrected forms and originals fail, and whether known exceptions are as they are said to be."""
    missed: dict[str, list[Any]] = {}
    as_said = True
    for size in GRID:
        for name, at in at_the_ends(size).items():
            measure, _, form = name.rpartition("_")
            if form == "our" and is_known_exception(measure, size):
                values = tuple(at.values())
                as_said &= values == (1.0, 1.0) if measure == "FSat" else bool(0 <= min(values) <= max(values) <= 1)
            elif not reaches(measure, at["same"], at["turns"]):
                missed.setdefault(name, []).append([*size, at["same"], at["turns"]])
    return {"missed": missed, "exceptions_as_said": as_said, "sizes": len(GRID)}


def random_table(rng: np.random.Generator) -> tuple[Lists, int]:
    """Lists of a random size; the more popular an item, the more often it is in them, to a random degree."""
    n = int(rng.integers(2, 41))
    k, m = int(rng.integers(1, min(n, 21))), int(rng.integers(1, 61))
    liking = -rng.choice([0.0, 0.5, 1.0, 2.0]) * np.log(np.arange(1, n + 1))
    return np.argsort(-(liking + rng.gumbel(size=(m, n))), axis=1)[:, :k], n


def on_random_tables(rng: np.random.Generator, n_tables: int) -> dict[str, Any]:
    """How often each corrected measure leaves [0, 1], and what FSat with its true end does."""
    outside, lowest, undefined = dict.fromkeys(CORRECTED, 0), dict.fromkeys(CORRECTED, 1.0), dict.fromkeys(CORRECTED, 0)
    foretold = mended = 0
    for _ in range(n_tables):
        lists, n = random_table(rng)
        shown = exposure(lists, n)
        found = measures(shown)
        for name in CORRECTED:
            value = found[f"{name}_our"].value
            undefined[name] += bool(np.isnan(value))
            outside[name] += bool(value < 0 or value > 1)
            lowest[name] = float(np.fmin(lowest[name], value))
        if found["FSat_our"].value < 0:
            foretold += shown.n_users <= (shown.size.share[0] - 1) * (n - shown.k + 1)
            mended += 0 <= to_true_end(found["FSat_ori"], shown.size) <= 1
    tables = {"tables": n_tables, "outside": outside, "lowest": lowest, "undefined": undefined}
    return tables | {"foretold": foretold, "mended": mended}


def to_true_end(fsat: Measure, size: Size) -> float:
    """FSat between the fewest items that can have their share and all of them."""
    least = fewest_satisfied(size) / size.n_items
    return float((fsat.value - least) / (1 - least)) if least < 1 else float("nan")


# C, D: real recommendations ------------------------------------------------------------------------------------------


def discrepancy(lists: Lists, n_items: int) -> float:
    """II-D from its definition: the mean over all users and all items of (exposure - target) squared."""
    m, k = lists.shape
    target = (1 - PATIENCE**k) / ((1 - PATIENCE) * n_items)
    total = 0.0
    for start in range(0, m, 256):
        part = lists[start : start + 256]
        seen = np.zeros((len(part), n_items))
        np.put_along_axis(seen, part, np.broadcast_to(PATIENCE ** np.arange(k), part.shape), axis=1)
        total += float(((seen - target) ** 2).sum())
    return float(total / (m * n_items))


def of_real_people(seed: int, progress: Callable[[str], None]) -> dict[str, Any]:
    """Every recommender on every set: fairness and relevance at each k, and fairness of windows over ranks."""
    found: dict[str, Any] = {}
    for number, name in enumerate(DATA):
        rng = np.random.default_rng([43, seed, number])
        data = interactions(name, rng)
        lists = {model: top(scores(data, seed), data, LONGEST, rng) for model, scores in RECOMMENDERS.items()}
        found[name] = {
            "users": len(data.held_out),
            "items": data.n_items,
            "interactions": int(data.known.nnz) + len(data.held_out),
            "k": {str(k): {model: at_k(one[:, :k], data) for model, one in lists.items()} for k in PLACES},
            "windows": {model: along_ranks(one, data.n_items) for model, one in lists.items()},
        }
        best = max(lists, key=lambda model: found[name]["k"]["10"][model]["NDCG"])
        progress(f"item-fairness: {name}: {len(data.held_out)} users, {data.n_items} items, best NDCG by {best}")
    return found


def at_k(lists: Lists, data: Any) -> dict[str, float]:
    """Fairness, relevance, and II-D from its definition of one recommender's lists."""
    shown = exposure(lists, data.n_items)
    found = measures(shown, patience=PATIENCE)
    relevant = relevance(lists, np.arange(len(lists)), data.held_out)
    values = {name: one.value for name, one in found.items()} | {name: float(relevant[name].mean()) for name in NAMES}
    return values | {
        "FSat, true end": to_true_end(found["FSat_ori"], shown.size),
        "II-D by definition": discrepancy(lists, data.n_items),
    }


def along_ranks(lists: Lists, n_items: int) -> dict[str, dict[str, float]]:
    """Corrected measures of ten places each, by how many ranks stand before them."""
    found = {start: measures(exposure(part, n_items)) for start, part in windows(lists, 10, step=5).items()}
    return {str(start): {name: of[f"{name}_our"].value for name in CORRECTED} for start, of in found.items()}


def fairer(name: str, value: float) -> float:
    """A value in the direction in which more is fairer (or more relevant)."""
    return value if fairest(name.rpartition("_")[0] or name) else -value


def taus(models: Mapping[str, Mapping[str, float]], names: Sequence[str]) -> Array:
    """Kendall's tau between measures over recommenders, all in the direction of fairer, [measures, measures]."""
    return agreement({name: [fairer(name, one[name]) for one in models.values()] for name in names})


def run(seed: int, scale: str, progress: Callable[[str], None]) -> dict[str, Any]:
    """One seed: the ends, random tables, and real recommendations; the probes do not depend on it."""
    found = {"grid": ends_of_grid(), "tables": on_random_tables(np.random.default_rng([44, seed]), N_TABLES[scale])}
    progress(f"item-fairness: {N_TABLES[scale]} random tables, outside [0, 1]: {found['tables']['outside']}")
    found["real"] = of_real_people(seed, progress)
    probes = {"-".join(map(str, size)): courses(size) for size in COURSES}
    found["courses"] = {
        size: {
            name: {"values": one.values, "never_less_fair": one.never_less_fair, "largest": one.largest}
            for name, one in of.items()
        }
        for size, of in probes.items()
    }
    return found


# Verdict -------------------------------------------------------------------------------------------------------------


def tau_by_cell(
    runs: list[dict[str, Any]], form: str, models: Sequence[str] = ()
) -> tuple[list[float], list[str], int]:
    """Mean tau over pairs of measures in each cell and run, the cells, and how many pairs had none.

    Args:
        runs: what `run` gave.
        form: "our" or "ori"; originals without a value have no tau.
        models: recommenders to compare; all if empty.
    """
    values, cells, without = [], [], 0
    pairs = np.triu_indices(len(AGREE), 1)
    for run in runs:
        for name, data in run["real"].items():
            for k, of in data["k"].items():
                chosen = {model: one for model, one in of.items() if not models or model in models}
                found = taus(chosen, [f"{measure}_{form}" for measure in AGREE])[pairs]
                without += int(np.isnan(found).sum())
                values.append(float(np.nanmean(found)))
                cells.append(f"{name}, k = {k}")
    return values, cells, without


def mean_tau(runs: list[dict[str, Any]], form: str, models: Sequence[str] = ()) -> Interval:
    """Mean of all cells; whole cells, with all their runs, are resampled."""
    values, cells, _ = tau_by_cell(runs, form, models)
    return paired_bootstrap(values, clusters=cells)


def verdict(runs: list[dict[str, Any]]) -> Verdict:
    """Holds if A (ends and random tables), B (originals fail), C (II-D) and D (agreement) hold.

    Args:
        runs: what `run` gave for at least one seed.
    """
    grid, tables = runs[0]["grid"], [run["tables"] for run in runs]
    missed = [name for name in grid["missed"] if name.endswith("_our")]
    outside = {name: sum(one["outside"][name] for one in tables) for name in CORRECTED}
    a = not missed and grid["exceptions_as_said"] and not any(outside.values())
    originals = [f"{name}_ori" for name in (*CORRECTED, "VoCD", "II-D", "AI-D")]
    b = all(name in grid["missed"] for name in originals)
    apart = spread_of_discrepancy(runs)
    c = apart <= _ROUNDING
    tau = mean_tau(runs, "our")
    d = tau.low > BAR
    return Verdict(
        ours=tau.estimate,
        baseline=BAR,
        interval=Interval(tau.estimate - BAR, tau.low - BAR, tau.high - BAR, tau.level, tau.n),
        holds=bool(a and b and c and d),
        notes=(
            _of_a(a, grid, tables, missed, outside),
            *_of_fsat(tables),
            f"B {_says(b)}: of {grid['sizes']} sizes, originals that do not give the least fair and the fairest lists "
            "what their ends are (or give no value): "
            + ", ".join(_ends_missed(grid["missed"], name) for name in originals),
            f"C {_says(c)}: II-D of {len(RECOMMENDERS)} recommenders, from its definition, differs by {apart:.1e} at "
            "most within data and k, and by no more from ours",
            _of_d(runs, d, tau),
            *(_of_data(runs, name) for name in runs[0]["real"]),
            *_of_probes(runs),
        ),
    )


def spread_of_discrepancy(runs: list[dict[str, Any]]) -> float:
    """The largest difference of II-D between recommenders of the same data and k, or between it and its definition."""
    cells = [list(of.values()) for run in runs for data in run["real"].values() for of in data["k"].values()]
    values = [[one[name] for one in cell for name in ("II-D_ori", "II-D by definition")] for cell in cells]
    return float(max(np.ptp(one) for one in values))


def _of_a(
    holds: bool, grid: dict[str, Any], tables: list[dict[str, Any]], missed: list[str], outside: dict[str, int]
) -> str:
    total = sum(one["tables"] for one in tables)
    undefined = sum(one["undefined"]["Jain"] for one in tables)
    return (
        f"A {_says(holds)}: over {grid['sizes']} sizes {len(missed)} corrected measures miss an end "
        f"(exceptions as the study says: {'yes' if grid['exceptions_as_said'] else 'no'}); of {total} random tables "
        f"outside [0, 1]: {', '.join(f'{name} {n}' for name, n in outside.items())}; {undefined} tables of one user or "
        "alike have no value"
    )


def _of_fsat(tables: list[dict[str, Any]]) -> list[str]:
    below = sum(one["outside"]["FSat"] for one in tables)
    if not below:
        return []
    return [
        f"FSat: of {below} tables below 0 (lowest {min(one['lowest']['FSat'] for one in tables):.2f}), "
        f"{sum(one['foretold'] for one in tables)} have m <= (q - 1)(n - k + 1), and "
        f"{sum(one['mended'] for one in tables)} are in [0, 1] with the fewest items that can have their share as end"
    ]


def _of_d(runs: list[dict[str, Any]], holds: bool, tau: Interval) -> str:
    values, cells, without = tau_by_cell(runs, "our")
    by_cell = {
        cell: np.mean([v for v, c in zip(values, cells, strict=True) if c == cell]) for cell in dict.fromkeys(cells)
    }
    learnt = mean_tau(runs, "our", ("item-kNN", "ALS", "BPR", "EASE"))
    return (
        f"D {_says(holds)}: mean tau {_shown(tau)} over {tau.n} cells ("
        + ", ".join(f"{cell}: {value:.2f}" for cell, value in by_cell.items())
        + f"; {without} pairs with FSat have none, with fewer places than items); among the four learnt recommenders "
        f"alone {_shown(learnt)}; originals (Ent has no value) {_shown(mean_tau(runs, 'ori'))}"
    )


def _of_data(runs: list[dict[str, Any]], name: str) -> str:
    data = runs[0]["real"][name]
    rows = []
    for model in RECOMMENDERS:
        mean = {key: np.mean([run["real"][name]["k"]["10"][model][key] for run in runs]) for key in _IN_NOTES}
        rows.append(f"{model} " + " ".join(f"{key.removesuffix('_our')} {value:.3f}" for key, value in mean.items()))
    return f"{name}, {data['users']} users, {data['items']} items, k = 10: " + "; ".join(rows)


_IN_NOTES = (*(f"{name}_our" for name in CORRECTED), *NAMES)


def _of_probes(runs: list[dict[str, Any]]) -> list[str]:
    notes = []
    for size, found in runs[0]["courses"].items():
        back = [name for name, one in found.items() if not one["never_less_fair"]]
        step = ", ".join(
            f"{name} {100 * found[f'{name}_our']['largest']:.1f}"
            for name in CORRECTED
            if np.isfinite(found[f"{name}_our"]["largest"])
        )
        steps = len(found["Jain_our"]["values"]) - 1
        notes.append(
            f"one place after the other goes to unseen items ({size} users, items, places; {steps} swaps): less fair "
            f"at some step: {', '.join(back) or 'none'}; largest share of the way by one swap, %: {step}"
        )
    return notes


def _ends_missed(missed: Mapping[str, list[Any]], name: str) -> str:
    fair = fairest(name.removesuffix("_ori"))
    values = np.array([row[3:] for row in missed.get(name, ())], dtype=np.float64).reshape(-1, 2)
    same, turns = (~(np.abs(values - [1 - fair, fair]) < _ROUNDING)).sum(axis=0)  # NaN is at no end
    return f"{name} {same} and {turns}"


def _shown(found: Interval) -> str:
    return f"{found.estimate:.3f} [{found.low:.3f}, {found.high:.3f}]"


def _says(holds: bool) -> str:
    return "holds" if holds else "does not hold"


# Figure --------------------------------------------------------------------------------------------------------------


def figure(runs: list[dict[str, Any]]) -> Any:
    """The four probes: swaps, windows over ranks, agreement, and the extremes."""
    from matplotlib.figure import Figure

    plot = Figure(figsize=(12, 9), layout="constrained")
    (a, b), (c, d) = plot.subplots(2, 2)
    _draw_courses(a, runs)
    _draw_windows(b, runs)
    _draw_agreement(c, runs)
    _draw_extremes(d)
    return plot


_COLOUR = {name: f"C{number}" for number, name in enumerate(CORRECTED)}


def _draw_courses(axes: Any, runs: list[dict[str, Any]]) -> None:
    size, found = list(runs[0]["courses"].items())[-1]
    for name in CORRECTED:
        for form, line in (("our", "-"), ("ori", ":")):
            values = np.array([fairer(f"{name}_{form}", value) for value in found[f"{name}_{form}"]["values"]])
            values = values if fairest(name) else 1 + values
            axes.plot(
                np.linspace(0, 1, len(values)), values, line, color=_COLOUR[name], label=name if form == "our" else None
            )
    axes.set_xlabel("share of swaps made, from the same items for all to equal shares")
    axes.set_ylabel("fairness (Gini: 1 - value)")
    axes.set_title(f"(a) one swap after the other; {size} users, items, places; dotted: originals", fontsize=10)
    axes.legend(frameon=False, fontsize=8)


def _draw_windows(axes: Any, runs: list[dict[str, Any]]) -> None:
    name = list(runs[0]["real"])[-1]
    for measure in CORRECTED:
        learnt = [run["real"][name]["windows"][model] for run in runs for model in ("item-kNN", "ALS", "BPR", "EASE")]
        starts = list(learnt[0])
        mean = np.array([np.mean([one[start][measure] for one in learnt]) for start in starts])
        mean = mean if fairest(measure) else 1 - mean
        axes.plot([int(start) for start in starts], mean, "o-", ms=3, color=_COLOUR[measure], label=measure)
    axes.set_xlabel("ranks before the window of ten")
    axes.set_ylabel("fairness (Gini: 1 - value)")
    axes.set_title(f"(b) windows over ranks; {name}, mean of the learnt recommenders", fontsize=10)
    axes.legend(frameon=False, fontsize=8)


def _draw_agreement(axes: Any, runs: list[dict[str, Any]]) -> None:
    names = [*(f"{name}_our" for name in CORRECTED), "VoCD_ori", "AI-D_ori", "NDCG"]
    tables = [taus(of, names) for run in runs for data in run["real"].values() for of in data["k"].values()]
    mean = np.nanmean(tables, axis=0)
    axes.imshow(mean, vmin=-1, vmax=1, cmap="RdBu")
    labels = [name.removesuffix("_our").replace("_ori", " (original)") for name in names]
    axes.set_xticks(range(len(names)), labels, rotation=40, ha="right", fontsize=8)
    axes.set_yticks(range(len(names)), labels, fontsize=8)
    for i, row in enumerate(mean):
        for j, value in enumerate(row):
            colour = "white" if abs(value) > 0.7 else "black"
            axes.text(j, i, f"{value:.2f}", ha="center", va="center", fontsize=7, color=colour)
    axes.set_title("(c) Kendall tau over six recommenders, mean of data, k and seeds", fontsize=10)


def _draw_extremes(axes: Any) -> None:
    sizes = (Size(4, 50, 3), Size(200, 1000, 5), Size(100, 50, 20))
    names = [f"{name}_{form}" for name in CORRECTED for form in ("ori", "our")] + ["VoCD_ori", "AI-D_ori"]
    for number, size in enumerate(sizes):
        found = at_the_ends(size)
        for row, name in enumerate(names):
            same, turns = found[name]["same"], found[name]["turns"]
            height = -row + 0.22 * (1 - number)
            axes.plot([same, turns], [height, height], color=f"C{number}", lw=1.5)
            axes.plot(same, height, "x", color=f"C{number}", ms=4)
            axes.plot(turns, height, "o", color=f"C{number}", ms=4, label="-".join(map(str, size)) if not row else None)
    labels = [name.replace("_ori", ", original").replace("_our", ", corrected") for name in names]
    axes.set_yticks([-row for row in range(len(names))], labels, fontsize=8)
    axes.set_xlabel("value of the same items for all (x) and of items in turns (o)")
    axes.set_title("(d) the extremes, by users-items-places", fontsize=10)
    axes.legend(frameon=False, fontsize=8, loc="upper center", ncols=3, bbox_to_anchor=(0.5, -0.12))
