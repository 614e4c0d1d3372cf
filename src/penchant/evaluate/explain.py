r"""What a set of comparisons can measure, and what its people do prefer, in features that nobody had to guess.

A sparse autoencoder (`penchant.preference.sparse_autoencoder`) finds the few directions along which the two responses
of a pair differ, without looking at who won: that is what the set *can* measure. Here the wins come in: which of these
directions are rewarded (`effects`), how few of them say how much of what a black box on the vectors knows
(`explanation`), where people differ (`personal`), and which rows teach what they should not (`rewarded`). What a
direction is called is found in `describe`. `penchant audit FILE` does all of it and writes a page.

Length is the strongest confounder: the difference in words is in every regression and never penalised. Rows are parted
by texts, so that no prompt and no response is on both sides (`apart`). Everything is antisymmetric: a pair and the same
pair turned round say the same, so there is no intercept, and the area under the curve is that of both orders together.

Departures from the authors' code: there is no intercept (records do not keep which response was shown first); of the
few features the penalty chooses which, and their weights are fitted again without it.

Source:
    Movva, Milli, Min and Pierson (2025), What's In My Human Feedback? Learning Interpretable Descriptions of Preference
    Data (arXiv 2510.26202), sections 3 to 5.

>>> rng = np.random.default_rng(0)
>>> activations = rng.standard_normal((600, 8)) * (rng.random((600, 8)) < 0.4)
>>> length = rng.standard_normal(600) * 20
>>> won = rng.random(600) < 1 / (1 + np.exp(2 * activations[:, 5] - 3 * activations[:, 2]))
>>> parts = apart(*np.arange(1800).reshape(3, 600), seed=0)
>>> found = explanation(activations, length, won, parts=parts, counts=(2,))
>>> found.few[2], bool(found.effects[2].coefficient.low > 0 > found.effects[5].coefficient.high)
((2, 5), True)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.special import expit, ndtr, ndtri

from penchant.errors import DataError, SettingsError
from penchant.evaluate.per_user import PerUserReport, per_user_report
from penchant.evaluate.win_rate import paired_win_rate
from penchant.preference.bradley_terry import user_posterior
from penchant.preference.few import few
from penchant.preference.newton import newton
from penchant.preference.pooled import measured_l2
from penchant.statistics import Interval, paired_bootstrap, weighted_bootstrap

Floats = NDArray[np.float64]
Places = NDArray[np.int64]
Bools = NDArray[np.bool_]

LENGTH, ALL, BLACK_BOX = "length", "all features", "black box"
_L2 = 1.0  # of regressions on a handful of columns: next to nothing against hundreds of pairs, but separable ones end
_MOST_IN_ONE_GROUP = 0.5  # of the rows; beyond that a split by group is no split
_RESPONSES_ASIDE = 0.4  # of the responses, where pairs hang together: 16 % of the pairs are then of two of these


@dataclass(frozen=True)
class Parts:
    """Which rows are learnt from and which are held out, so that no text is on both sides.

    Attributes:
        learn: bool[rows].
        held_out: bool[rows].
        groups: rows with one number share texts, directly or through others, int64[rows].
        largest: share of the rows in the largest group.
        by: "group" if whole groups were parted; "response" if all hangs together, so that responses were, and pairs of
            one seen and one held-out response are in neither part.
    """

    learn: Bools
    held_out: Bools
    groups: Places
    largest: float
    by: str

    @property
    def n_neither(self) -> int:
        """Rows in neither part."""
        return int((~self.learn & ~self.held_out).sum())


def linked(*columns: Places) -> Places:
    """The connected group of each row; rows are linked by sharing a number in any one column.

    >>> linked(np.array([0, 0, 1, 2]), np.array([5, 6, 6, 7])).tolist()
    [0, 0, 0, 1]
    """
    n = len(columns[0])
    rows, values, offset = [], [], n
    for column in columns:
        codes = np.unique(column, return_inverse=True)[1]
        rows.append(np.arange(n))
        values.append(codes + offset)
        offset += int(codes.max(initial=-1)) + 1
    rows_, values_ = np.concatenate(rows), np.concatenate(values)
    graph = coo_array((np.ones(len(rows_), np.int8), (rows_, values_)), shape=(offset, offset))
    return np.asarray(connected_components(graph, directed=False)[1][:n], dtype=np.int64)


def apart(prompt: Places, first: Places, second: Places, *, share: float = 0.3, seed: int = 0) -> Parts:
    """Part rows by connected groups of prompts and responses, or by response where nearly all is one group.

    Args:
        prompt: number of each row's prompt, [rows]; rows of one number are linked, unless it is the only one there is.
        first: number of its one response, [rows].
        second: number of its other response, [rows].
        share: of the rows to hold out.
        seed: of which.

    Raises:
        DataError: one part would be empty.
        SettingsError: the share is not in (0, 1).
    """
    if not 0 < share < 1:
        raise SettingsError(f"The share to hold out must lie strictly between 0 and 1: got {share!r}.")
    n = len(prompt)
    responses = np.unique(np.concatenate([first, second]), return_inverse=True)[1]
    one, other = responses[:n], responses[n:]
    both = np.concatenate([one, other])
    by_response = linked(both, np.tile(np.arange(n), 2))[:n]  # a pair links its two responses
    groups = by_response if not np.ptp(prompt) else linked(by_response, prompt)
    counts = np.bincount(groups)
    largest = float(counts.max() / n)
    rng = np.random.default_rng(seed)
    if largest <= _MOST_IN_ONE_GROUP:
        drawn = rng.permutation(len(counts))
        aside = drawn[np.cumsum(counts[drawn]) <= max(share * n, counts[drawn[0]])]
        held_out = np.isin(groups, aside)
        learn, by = ~held_out, "group"
    else:
        aside = rng.permutation(both.max() + 1)[: round(_RESPONSES_ASIDE * (both.max() + 1))]
        held_one, held_other = np.isin(one, aside), np.isin(other, aside)
        held_out, learn, by = held_one & held_other, ~held_one & ~held_other, "response"
    if not held_out.any() or not learn.any():
        raise DataError(
            f"{n} pairs cannot be parted without a text on both sides: {100 * largest:.0f} % of them hang together by "
            "shared prompts or responses. Bring pairs of other prompts."
        )
    return Parts(learn, held_out, groups, largest, by)


class Curve:
    """Area under the curve of antisymmetric scores: a pair and the same pair turned round are two cases.

    Args:
        scores: of each pair, above 0 if the preferred response is thought to be preferred, [pairs].

    >>> Curve([2.0, 1.0, -3.0]).area()  # 5 of 9 sums of two scores are above zero
    0.4444444444444444
    """

    def __init__(self, scores: ArrayLike):
        values = np.asarray(scores, dtype=np.float64)
        self._order = np.argsort(values, kind="stable")
        ranked = values[self._order]
        self._below = np.searchsorted(ranked, -values, side="left")
        self._up_to = np.searchsorted(ranked, -values, side="right")

    def area(self, weights: Floats | None = None) -> float:
        """In [0, 1]; one half is chance.

        Args:
            weights: how often each pair counts, [pairs].
        """
        w = np.ones(len(self._order)) if weights is None else weights
        summed = np.concatenate([[0.0], np.cumsum(w[self._order])])
        above = summed[-1] - (summed[self._below] + summed[self._up_to]) / 2  # a tie is one half
        return float(w @ above / summed[-1] ** 2)


@dataclass(frozen=True)
class Effect:
    """What one feature has to do with who wins.

    Attributes:
        prevalence: share of the pairs in which it is active at all.
        coefficient: logits for a standard deviation of it, the difference in length held, errors robust to clusters.
        p: of a coefficient this far from zero if there were none, two-sided.
        win_rate: how often the response that has more of it is preferred, where it is active; length is not held.
        n: pairs in which it is active and one response is preferred.
    """

    prevalence: float
    coefficient: Interval
    p: float
    win_rate: Interval
    n: int


def effects(
    activations: ArrayLike,
    length: ArrayLike,
    strength: ArrayLike,
    *,
    clusters: ArrayLike | None = None,
    level: float = 0.95,
) -> tuple[Effect, ...]:
    """Of each feature alone: is more of it preferred, at equal length?

    Args:
        activations: of first minus second response, signed, [pairs, features].
        length: words of the first minus those of the second, [pairs].
        strength: how far the first is preferred, 0..1; 0.5 counts for prevalence only, [pairs].
        clusters: what depends on each other, [pairs].
        level: of each interval; intervals of many features do not all hold at once.

    Raises:
        DataError: every pair is a tie, or shapes disagree.
    """
    a, words, s = _numbers(activations, length, strength)
    labels = np.arange(len(s)) if clusters is None else np.asarray(clusters)
    decided = s != 0.5
    spread = _spread(words[decided])
    quantile = float(ndtri((1 + level) / 2))
    found = []
    for column in a.T:
        x = np.stack([column / _spread(column[decided]), words / spread], axis=1)[decided]
        fit = newton(x, s[decided], l2=_L2, clusters=labels[decided])
        error = float(np.sqrt(max(fit.sandwich[0, 0], 0.0)))
        weight = float(fit.weights[0])
        interval = Interval(weight, weight - quantile * error, weight + quantile * error, level, int(decided.sum()))
        active = decided & (column != 0)
        wins = ((column[active] > 0) == (s[active] > 0.5)).astype(float)
        rate = (
            paired_win_rate(wins, clusters=labels[active], level=level).interval
            if active.any()
            else Interval(0.5, 0.0, 1.0, level, 0)
        )
        p = float(2 * ndtr(-abs(weight) / error)) if error > 0 else 1.0
        found.append(Effect(float((column != 0).mean()), interval, p, rate, int(active.sum())))
    return tuple(found)


@dataclass(frozen=True)
class Explanation:
    """How much of what people prefer a few features say.

    Attributes:
        effects: of each feature.
        few: number of features -> which ones say most, strongest first.
        auc: what was used ("length", "5 features", "all features", "black box"; length is in all of them) -> area under
            the curve on pairs held out.
        share: the same, but for the black box -> share of the black box's area beyond one half that is reached; None if
            there is no black box, or if it cannot be told from chance.
        n_learnt: decided pairs learnt from.
        n_held_out: decided pairs held out.
        n_ties: pairs at 0.5, left out of everything but prevalence.
    """

    effects: tuple[Effect, ...]
    few: Mapping[int, tuple[int, ...]]
    auc: Mapping[str, Interval]
    share: Mapping[str, Interval | None]
    n_learnt: int
    n_held_out: int
    n_ties: int


def explanation(
    activations: ArrayLike,
    length: ArrayLike,
    strength: ArrayLike,
    *,
    parts: Parts,
    black_box: ArrayLike | None = None,
    clusters: ArrayLike | None = None,
    counts: Sequence[int] = (5, 10),
    level: float = 0.95,
    seed: int = 0,
) -> Explanation:
    """What is preferred, in features, and how little of the black box's knowledge they miss.

    Args:
        activations: features of first minus second response, signed, [pairs, features].
        length: words of the first minus those of the second, [pairs].
        strength: how far the first is preferred, 0..1, 0.5 a tie, [pairs].
        parts: what to learn from and what to measure on.
        black_box: vectors of first minus second, which a ridge regression may use as it likes, [pairs, dim].
        clusters: what depends on each other, for intervals, [pairs]; the groups of the parts if not given.
        counts: numbers of features to explain with; those beyond all features are left out.
        level: of the intervals.
        seed: of the bootstrap.

    Raises:
        DataError: all pairs of a part are ties, or shapes disagree.
    """
    a, words, s = _numbers(activations, length, strength)
    labels = parts.groups if clusters is None else np.asarray(clusters)
    decided = s != 0.5
    seen, later = parts.learn & decided, parts.held_out & decided
    for name, rows, of in (("learn from", seen, parts.learn), ("measure on", later, parts.held_out)):
        if not rows.any():
            raise DataError(f"All {of.sum()} pairs to {name} are ties (strength 0.5): nothing in them is preferred.")
    features = np.column_stack([a, words])
    features = features / _spread(features[seen])
    arms: dict[str, Any] = {LENGTH: [-1]}
    chosen: dict[int, tuple[int, ...]] = {}
    for count in counts:
        if count <= a.shape[1]:
            free = np.arange(features.shape[1]) == a.shape[1]
            kept = few(features[seen], s[seen], count, free=free)
            weights = newton(features[seen][:, [*kept, -1]], s[seen], l2=_L2).weights[:-1]
            chosen[count] = tuple(int(column) for column in kept[np.argsort(-np.abs(weights))])
            arms[_named(count)] = [*kept, -1]
    arms[ALL] = range(features.shape[1])
    scores = {
        name: features[later][:, list(columns)] @ newton(features[seen][:, list(columns)], s[seen], l2=_L2).weights
        for name, columns in arms.items()
    }
    if black_box is not None:
        vectors = np.asarray(black_box, dtype=np.float64)
        vectors = np.column_stack([vectors / _spread(vectors[seen]), features[:, -1]])
        scores[BLACK_BOX] = vectors[later] @ _ridge(vectors, s, parts)
    turned = np.sign(s[later] - 0.5)
    curves = {name: Curve(turned * score) for name, score in scores.items()}
    n_later, held = int(later.sum()), _resampled(labels[later])
    options: dict[str, Any] = {"clusters": held, "level": level, "seed": seed}
    areas = {name: weighted_bootstrap(curve.area, n_later, **options) for name, curve in curves.items()}
    box = curves.get(BLACK_BOX)

    def share_of(name: str) -> Interval | None:
        if box is None or areas[BLACK_BOX].low <= 0.5:
            return None
        return weighted_bootstrap(lambda w: (curves[name].area(w) - 0.5) / (box.area(w) - 0.5), n_later, **options)

    return Explanation(
        effects(a, words, s, clusters=labels, level=level),
        chosen,
        areas,
        {name: share_of(name) for name in arms},
        int(seen.sum()),
        n_later,
        int((~decided).sum()),
    )


def _named(count: int) -> str:
    return f"{count} features"


def _resampled(labels: NDArray[Any]) -> NDArray[Any]:
    """Labels to resample; where there is one only, every row stands for itself."""
    return labels if len(np.unique(labels)) > 1 else np.arange(len(labels))


@dataclass(frozen=True)
class Personal:
    """Where people differ, and whether knowing that helps.

    Attributes:
        people: names, in the order of `weights`.
        weights: logits for a standard deviation of each feature, [people, features].
        shared: everybody's, [features].
        spread: standard deviation of people's weights around everybody's, 0 where they are not seen to differ,
            [features].
        accuracy: on pairs held out, one for all against one for each.
        auc: area under the curve of one for each minus that of one for all, people resampled.
        scores: logits that what was preferred is preferred, by one for all and by one for each, [2, pairs held out].
        owners: whose these pairs are.
    """

    people: tuple[str, ...]
    weights: Floats
    shared: Floats
    spread: Floats
    accuracy: PerUserReport
    auc: Interval
    scores: Floats
    owners: tuple[str, ...]


def personal(
    activations: ArrayLike,
    length: ArrayLike,
    strength: ArrayLike,
    users: Sequence[str | None],
    *,
    parts: Parts,
    at_least: int = 8,
    seed: int = 0,
) -> Personal:
    r"""Weights of each person around everybody's, $\mathrm{logit} P = (w_0 + v_u) \cdot a + \gamma\,\mathrm{length}$.

    $w_0$ and $\gamma$ are everybody's; $v_u \sim N(0, \Sigma)$ with a diagonal $\Sigma$ that is zero but for subjective
    features, of which it is clear that people differ (`spread`).

    Args:
        activations: of first minus second response, signed, [pairs, features].
        length: words of the first minus those of the second, [pairs].
        strength: how far the first is preferred, 0..1; ties are left out, [pairs].
        users: whose judgement it is, [pairs].
        parts: what to learn from and what to measure on.
        at_least: pairs to learn from that a person must have to get weights.
        seed: of the bootstrap.

    Raises:
        DataError: fewer than two people have so many pairs, and others held out.
    """
    a, words, s = _numbers(activations, length, strength)
    features = np.column_stack([a, words])
    decided = s != 0.5
    seen, later = parts.learn & decided, parts.held_out & decided
    features = features / _spread(features[seen])
    names = np.array([user or "" for user in users], dtype=object)
    rows = {user: np.flatnonzero(seen & (names == user)) for user in sorted(set(names[later]) - {""})}
    rows = {user: own for user, own in rows.items() if len(own) >= at_least}
    if len(rows) < 2:
        raise DataError(
            f"{len(rows)} people have {at_least} decided pairs to learn from, and some held out: two are needed to see "
            "whether people differ."
        )
    everybody = newton(features[seen], s[seen], l2=_L2).weights
    ahead = features @ everybody
    differs = spread(features[:, :-1], s - expit(ahead), expit(ahead) * expit(-ahead), list(rows.values()))
    nowhere = np.zeros(a.shape[1])
    own = {
        user: differs
        * user_posterior(nowhere, differs * features[mine, :-1], s[mine], -ahead[mine], precision=1.0).weights
        for user, mine in rows.items()
    }
    measured = np.flatnonzero(later & np.isin(names, list(own)))
    turned = np.sign(s[measured] - 0.5)
    extra = np.einsum("nd,nd->n", features[measured, :-1], np.stack([own[name] for name in names[measured]]))
    for_all, for_each = turned * ahead[measured], turned * (ahead[measured] + extra)
    owners = tuple(str(name) for name in names[measured])
    right = [(score > 0) + 0.5 * (score == 0) for score in (for_all, for_each)]
    return Personal(
        tuple(own),
        everybody[:-1] + np.stack(list(own.values())),
        everybody[:-1],
        differs,
        per_user_report(owners, *right, seed=seed),
        area_gain(for_each, for_all, clusters=owners, seed=seed),
        np.stack([for_all, for_each]),
        owners,
    )


def area_gain(ours: ArrayLike, baseline: ArrayLike, *, clusters: Sequence[Any], seed: int = 0) -> Interval:
    """Area under the curve of some scores minus that of others of the same pairs, clusters resampled.

    >>> area_gain([1.0, 2.0, 3.0], [-1.0, -2.0, -3.0], clusters=["a", "b", "b"]).low
    1.0
    """
    each, one = Curve(ours), Curve(baseline)
    return weighted_bootstrap(lambda w: each.area(w) - one.area(w), len(clusters), clusters=clusters, seed=seed)


def spread(features: Floats, residual: Floats, variance: Floats, people: Sequence[Places]) -> Floats:
    r"""How far people's weights of each feature lie around everybody's, by moments; 0 where that may be chance.

    With $g_u = \sum x\,(y - p)$ and $I_u = \sum x^2 p (1 - p)$ over a person's pairs, $E\,g_u^2 = I_u + I_u^2 \sigma^2$
    for small differences. Without any, $\sum_u g_u^2 - I_u$ has variance $2 \sum_u I_u^2$: what is within 1.64 of its
    roots counts as nothing.

    Args:
        features: [pairs, features].
        residual: y - p, what everybody's weights get wrong, [pairs].
        variance: p (1 - p), [pairs].
        people: rows of each person.

    Source:
        le Cessie and van Houwelingen (1995), Testing the fit of a regression model via score tests in random effects
        models, Biometrics 51.
    """
    slopes = np.stack([residual[rows] @ features[rows] for rows in people])
    information = np.stack([variance[rows] @ features[rows] ** 2 for rows in people])
    beyond, squares = (slopes**2 - information).sum(axis=0), (information**2).sum(axis=0)
    clear = beyond > _CLEARLY * np.sqrt(2 * squares)
    return np.sqrt(np.where(clear, beyond / np.where(clear, squares, 1.0), 0.0))


_CLEARLY = 1.64  # one in twenty features in which people do not differ is taken for one in which they do


def rewarded(activation: ArrayLike, strength: ArrayLike, *, beyond: float = 0.5) -> Places:
    """Rows that teach a feature: the preferred response has more of it, and plainly.

    To take the lesson back, turn these rows round (`strength` becomes 1 - `strength`) or leave them out, and learn
    again.

    Args:
        activation: of first minus second response, signed so that more of it is what must not be taught, [pairs].
        strength: how far the first is preferred, 0..1, [pairs].
        beyond: quantile of the sizes of active pairs below which a row is left alone, in [0, 1).

    Returns:
        Numbers of the rows, the plainest first.

    Raises:
        SettingsError: `beyond` is outside [0, 1).

    >>> rewarded([2.0, -3.0, 0.0, 1.0], [1.0, 0.0, 1.0, 0.0], beyond=0.0).tolist()
    [1, 0]
    """
    if not 0 <= beyond < 1:
        raise SettingsError(f"beyond must be in [0, 1): got {beyond!r}.")
    a, s = np.asarray(activation, dtype=np.float64), np.asarray(strength, dtype=np.float64)
    taught = a * np.sign(s - 0.5)
    active = np.abs(a[a != 0])
    least = float(np.quantile(active, beyond)) if len(active) else 0.0
    rows = np.flatnonzero((taught > 0) & (taught >= least))
    return np.asarray(rows[np.argsort(-taught[rows], kind="stable")], dtype=np.int64)


@dataclass(frozen=True)
class Relearnt:
    """What a reward on the vectors says of pairs held out, before and after the labels it learns from were changed.

    Attributes:
        target: how often it puts the response with less of the feature first, where that is active: after - before.
        target_before: the same before.
        target_after: and after.
        others: accuracy where the feature is not active: after - before.
        others_before: the same before.
        others_after: and after.
    """

    target: Interval
    target_before: float
    target_after: float
    others: Interval
    others_before: float
    others_after: float


def relearnt(
    black_box: ArrayLike,
    length: ArrayLike,
    strength: ArrayLike,
    changed: ArrayLike,
    activation: ArrayLike,
    *,
    parts: Parts,
    clusters: ArrayLike | None = None,
    seed: int = 0,
) -> Relearnt:
    """What changing labels does to a reward that learns from them, a ridge regression on the vectors.

    Args:
        black_box: vectors of first minus second response, [pairs, dim].
        length: words of the first minus those of the second, [pairs].
        strength: how far the first is preferred, as people said, [pairs].
        changed: the same after the change, 0.5 for a row that is left out, [pairs].
        activation: of the feature, signed so that more of it is what must not be rewarded, [pairs].
        parts: what to learn from and what to measure on.
        clusters: what depends on each other, [pairs]; the groups of the parts if not given.
        seed: of the bootstrap.

    Raises:
        DataError: the feature is active in all pairs held out, or in none.
    """
    a = np.asarray(activation, dtype=np.float64)
    vectors = np.asarray(black_box, dtype=np.float64)
    labels = parts.groups if clusters is None else np.asarray(clusters)
    vectors, words, told = _numbers(vectors, length, strength)
    after = _numbers(vectors, length, changed)[2]
    x = np.column_stack([vectors, words])
    x = x / _spread(x[parts.learn])
    rewards = [x @ _ridge(x, kept, parts) for kept in (told, after)]
    active = parts.held_out & (a != 0)
    plain = parts.held_out & (a == 0) & (told != 0.5)
    if not active.any() or not plain.any():
        raise DataError(f"The feature is active in {active.sum()} of {parts.held_out.sum()} pairs held out.")
    less = [(-a * reward > 0)[active].astype(float) for reward in rewards]
    right = [((told - 0.5) * reward > 0)[plain].astype(float) for reward in rewards]
    intervals = [
        paired_bootstrap(new, old, clusters=_resampled(labels[rows]), seed=seed)
        for (old, new), rows in ((less, active), (right, plain))
    ]
    return Relearnt(
        intervals[0],
        float(less[0].mean()),
        float(less[1].mean()),
        intervals[1],
        float(right[0].mean()),
        float(right[1].mean()),
    )


def _ridge(x: Floats, strength: Floats, parts: Parts) -> Floats:
    """Weights under a prior as strong as groups set aside of what is learnt from ask for."""
    seen = parts.learn & (strength != 0.5)
    l2, near = measured_l2(x[seen], strength[seen], np.zeros(seen.sum()), parts.groups[seen])
    return newton(x[seen], strength[seen], l2=l2, start=near).weights


def principal(differences: ArrayLike, n: int) -> Floats:
    """The first principal directions of differences and of the same turned round, [n, dim]: the usual alternative.

    >>> principal([[2.0, 0.0], [-1.0, 0.1], [3.0, 0.0]], 1).round(1).tolist()
    [[1.0, -0.0]]
    """
    x = np.asarray(differences, dtype=np.float64)
    directions = np.linalg.eigh(x.T @ x)[1][:, ::-1][:, :n].T
    return np.asarray(
        directions * np.sign(directions[np.arange(len(directions)), np.abs(directions).argmax(axis=1)])[:, None]
    )


def _numbers(activations: ArrayLike, length: ArrayLike, strength: ArrayLike) -> tuple[Floats, Floats, Floats]:
    a, words, s = (np.asarray(value, dtype=np.float64) for value in (activations, length, strength))
    if a.ndim != 2 or words.shape != (len(a),) or s.shape != (len(a),):
        raise DataError(
            f"activations, length and strength must be of the same pairs: shapes {a.shape}, {words.shape}, {s.shape}."
        )
    if not (s != 0.5).any():
        raise DataError(f"All {len(s)} pairs are ties (strength 0.5): nothing in them is preferred.")
    return a, words, s


def _spread(values: Floats) -> Any:
    """Root of the mean square of each column, 1 where there is none: differences turned round have mean zero."""
    size = np.sqrt((values**2).mean(axis=0))
    return np.where(size > 0, size, 1.0)
