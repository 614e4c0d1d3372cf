r"""What personalising gained: alignment normalised between a generic answer and one that knows everything.

$$\text{NormAlign} = 100\,\frac{PA_{discovery} - PA_{baseline}}{PA_{oracle} - PA_{baseline}}$$

0 is no better than generic, 100 as good as knowing everything, below 0 worse than generic. PA is averaged over all
answers of a cell *first*: the mean of the ratios of single answers is ruled by those whose denominator is small. Where
the oracle is no better than the baseline it is undefined, and said to be: with a negative denominator the formula would
praise a talk for making answers worse.

Source:
    Li et al. (2025), PrefDisco, arXiv 2510.00177, sections 3 and 4.

>>> norm_align([2.0, 2.0], [3.0, 2.5], [4.0, 4.0])
37.5
>>> norm_align([3.0], [4.0], [3.0])
nan
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from penchant.errors import DataError
from penchant.evaluate.discovery import MODES, Row, failures
from penchant.statistics import Interval, cohen_kappa, crossed_bootstrap, wilson

Floats = NDArray[np.float64]
_SAME = 1e-9  # alignments closer than this are the same


def norm_align(baseline: ArrayLike, discovery: ArrayLike, oracle: ArrayLike, weights: ArrayLike | None = None) -> float:
    """NormAlign of answers together.

    Args:
        baseline: alignment of each generic answer, [pairs].
        discovery: of each answer after a talk, [pairs].
        oracle: of each answer with everything known, [pairs].
        weights: how often each pair counts, [pairs]; once without it.

    Returns:
        100 at the oracle, 0 at the baseline; NaN where the oracle is no better than the baseline.
    """
    low, found, high = (np.asarray(values, dtype=np.float64) for values in (baseline, discovery, oracle))
    times = np.ones(len(low)) if weights is None else np.asarray(weights, dtype=np.float64)
    room = float(times @ (high - low))
    if room <= _SAME * times.sum():
        return float("nan")
    return 100 * float(times @ (found - low)) / room


@dataclass(frozen=True)
class Cell:
    """What one model (or all) does.

    Attributes:
        name: of the model.
        n_pairs: problem and person with a score in all three conditions.
        n_incomplete: pairs without one, left out of everything that compares.
        align: condition -> mean alignment, 1..5.
        accuracy: condition -> share of right answers, over answers with a judgement.
        gain: alignment of discovery minus baseline, points of 1..5.
        room: alignment of oracle minus baseline, points of 1..5.
        norm_align: with an interval over problems and people; NaN where undefined. Its bounds are NaN where the room is
            not clear of 0, since resamples without room have no NormAlign.
        worse: share of pairs that personalising made worse than generic.
        n_ties: pairs with the same alignment in both.
        n_undefined: pairs whose own NormAlign would be undefined.
        cost: accuracy of discovery minus baseline.
        oracle_cost: accuracy of oracle minus baseline.
        questions: mean number asked.
        per_question: NormAlign points that go with one question more (slope over pairs); NaN if all asked as many.
        missed: attribute -> (share of its wishes that discovery did not hear, their number).
    """

    name: str
    n_pairs: int
    n_incomplete: int
    align: dict[str, float]
    accuracy: dict[str, float]
    gain: Interval
    room: Interval
    norm_align: Interval
    worse: Interval
    n_ties: int
    n_undefined: int
    cost: Interval
    oracle_cost: Interval
    questions: float
    per_question: float
    missed: dict[str, tuple[float, int]]


@dataclass(frozen=True)
class Summary:
    """All cells.

    Attributes:
        cells: one a model.
        negative: share of cells with NormAlign below 0; none where it is undefined everywhere.
        n_undefined: cells whose NormAlign is undefined.
        failures: reason -> how often.
        malformed: turns that did not keep to the form.
        kappa: agreement of two graders on the same criterion, where there are two; NaN if undefined.
    """

    cells: tuple[Cell, ...]
    negative: Interval | None
    n_undefined: int
    failures: dict[str, int]
    malformed: int
    kappa: float | None


def summary(rows: Sequence[Row], *, level: float = 0.95, n_resamples: int = 1000, seed: int = 0) -> Summary:
    """Statistics of a run.

    Args:
        rows: of `Discovery.run`.
        level: of the intervals.
        n_resamples: of the bootstrap over problems and people.
        seed: of the bootstrap.

    Raises:
        DataError: no model has a pair with a score in all three conditions.
    """
    models = list(dict.fromkeys(row["model"] for row in rows))
    cells, empty = [], []
    for model in models:
        mine = [row for row in rows if row["model"] == model]
        pairs = _by_pair(mine)
        complete = [pair for pair in pairs if _is_complete(pair)]
        if complete:
            cells.append(_cell(model, complete, len(pairs) - len(complete), level, n_resamples, seed))
        else:
            empty.append(model)
    if not cells:
        raise DataError(
            f"No pair of {len(rows)} answers has a score in all three conditions: {failures(rows) or 'no failures'}. "
            "Run the modes baseline, discovery and oracle, with a grader that gives whole numbers from 1 to 5."
        )
    values = [cell.norm_align.estimate for cell in cells]
    defined = [value for value in values if np.isfinite(value)]
    why = Counter(failures(rows)) + Counter({f"no complete pair of {name}": 1 for name in empty})
    return Summary(
        tuple(cells),
        wilson(sum(value < 0 for value in defined), len(defined), level) if defined else None,
        len(values) - len(defined),
        dict(why),
        sum(row["malformed_turns"] for row in rows),
        _kappa(rows),
    )


def _by_pair(rows: Sequence[Row]) -> list[dict[str, Row]]:
    pairs: dict[tuple[str, str], dict[str, Row]] = {}
    for row in rows:
        pairs.setdefault((row["problem_id"], row["persona_id"]), {})[row["mode"]] = row
    return list(pairs.values())


def _is_complete(pair: Mapping[str, Row]) -> bool:
    return all(mode in pair and pair[mode]["weighted_score"] is not None for mode in MODES.values())


def _cell(name: str, pairs: Sequence[Mapping[str, Row]], lost: int, level: float, n: int, seed: int) -> Cell:
    align = {short: np.array([pair[mode]["weighted_score"] for pair in pairs]) for short, mode in MODES.items()}
    low, found, high = align.values()
    rows = [pair[MODES["discovery"]] for pair in pairs]
    clusters = [[row["problem_id"] for row in rows], [row["persona_id"] for row in rows]]
    asked = np.array([row["interaction_turns"] for row in rows], dtype=np.float64)

    def interval(statistic: Any) -> Interval:
        if min(len(set(labels)) for labels in clusters) < 2:  # one person or one problem: no spread to learn of
            return Interval(float(statistic(np.ones(len(rows)))), float("nan"), float("nan"), level, 1)
        return crossed_bootstrap(statistic, clusters[0], clusters[1], level=level, n_resamples=n, seed=seed)

    def mean(values: Floats) -> Interval:
        return interval(lambda w: float(w @ values / w.sum()))

    known = {
        short: np.array([np.nan if pair[mode]["correct"] is None else pair[mode]["correct"] for pair in pairs], float)
        for short, mode in MODES.items()
    }
    shared = ~np.isnan(np.stack(list(known.values()))).any(axis=0)

    def lost_by(short: str) -> Interval:
        change = np.where(shared, known[short] - known["baseline"], 0.0)
        return interval(lambda w: float(w @ change / (w @ shared)) if w @ shared else float("nan"))

    room = mean(high - low)
    normalised = interval(lambda w: norm_align(low, found, high, w))
    if not room.low > 0:
        normalised = replace(normalised, low=float("nan"), high=float("nan"))
    spread = float(asked.var())
    slope = float(np.cov(asked, found - low, ddof=0)[0, 1]) / spread if spread else float("nan")
    return Cell(
        name,
        len(pairs),
        lost,
        {short: float(values.mean()) for short, values in align.items()},
        {short: float(np.nanmean(v)) if (~np.isnan(v)).any() else float("nan") for short, v in known.items()},
        mean(found - low),
        room,
        normalised,
        wilson(int((found < low - _SAME).sum()), len(pairs), level),
        int((np.abs(found - low) <= _SAME).sum()),
        int((high - low <= _SAME).sum()),
        lost_by("discovery"),
        lost_by("oracle"),
        float(asked.mean()),
        100 * slope / room.estimate if room.estimate > _SAME else float("nan"),
        _missed(rows),
    )


def _missed(rows: Sequence[Row]) -> dict[str, tuple[float, int]]:
    """Attribute -> share of its wishes that nobody heard of, and how many wishes there were."""
    wanted, heard = Counter[str](), Counter[str]()
    for row in rows:
        wanted.update(list(row["preferences"]))  # a mapping would be added value by value
        heard.update(set(row["preferences_expressed"]) & set(row["preferences"]))
    return {name: (1 - heard[name] / count, count) for name, count in sorted(wanted.items())}


def _kappa(rows: Sequence[Row]) -> float | None:
    pairs = [
        (score, row["second_scores"][name])
        for row in rows
        for name, score in row["criteria_scores"].items()
        if score is not None and row["second_scores"].get(name) is not None
    ]
    if not pairs:
        return None
    try:
        return cohen_kappa(*zip(*pairs, strict=True))
    except DataError:  # both graders gave one and the same grade throughout
        return float("nan")
