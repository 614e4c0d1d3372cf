r"""Why a judge prefers what it prefers: how much each property moves its decisions, per kind of request.

$$P(\text{first preferred}) = \sigma(x\cdot\alpha),\quad x_j \in \{-1, 0, 1\},\quad \alpha_j \sim \mathrm{Laplace}(0, 0.1)$$

`dissection` gives the posterior mean of each weight with its interval, and how well the weights foretell labels held out.
sigma(alpha_j) is how often the judge prefers what is better in property j and in nothing else. `similarity` compares
judges, `contributions` explains one decision, `predicted` and `shown_most` say what would please a judge: whether it can
be pushed that way is the manipulation test.

Weights are conditional on the other properties; where two go together (rich answers are long) their intervals are wide
and `together` names them. People who see no difference are not in here: ties are left out and counted.

Source:
    Li, Zhou, Sun, Zhang, Zhao and Liu (2024), Dissecting Human and LLM Preferences, arXiv 2402.11296, section 3.3
    (model), 4 (similarity) and 5 (manipulation). Theirs average the means of ten fits to nine tenths of the pairs; here
    the weights are those of one fit to all, and the ten fits are for held-out accuracy. Folds here keep together what
    shares a prompt, or a pair turned round.

>>> rng = np.random.default_rng(0)
>>> x = rng.integers(-1, 2, size=(400, 3)).astype(float)
>>> y = (rng.random(400) < 1 / (1 + np.exp(-x @ [1.5, 0.0, -0.8]))).astype(float)
>>> found = dissection(x, y, names=("clear", "funny", "long"), n_folds=5)
>>> found.ranked[0], found.ranked[-1], bool(found.accuracy.low > 0.6)
('clear', 'long', True)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from penchant.errors import DataError, SettingsError
from penchant.evaluate.calibration import log_loss
from penchant.evaluate.explain import linked
from penchant.evaluate.groups import grouped
from penchant.evaluate.properties import LENGTH
from penchant.evaluate.win_rate import paired_win_rate
from penchant.preference.laplace_logistic import laplace_posterior
from penchant.preference.newton import newton
from penchant.statistics import Interval

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

_PAIRS_PER_PROPERTY = 5
_TOGETHER = 0.7  # correlation of two properties from which on their weights are hardly told apart
_L2 = 1.0  # of the plain logistic baseline
UNDECIDED = (0.35, 0.65)
"""Predicted probabilities between which a pair teaches nothing."""


@dataclass(frozen=True)
class Dissection:
    """What moves one judge, in one kind of request.

    Attributes:
        names: of the properties.
        weights: posterior mean, logits, [properties].
        low: lower end of the 95 % credible interval, [properties].
        high: upper end, [properties].
        identified: False where a property never differs, or always in the same direction: its interval is the prior's.
        n_pairs: decided pairs that it was learnt from.
        n_ties: pairs without a preference, left out.
        accuracy: of predictions for pairs held out; intervals resample what the folds keep together.
        baselines: accuracy on the same pairs of "majority", "length alone" and "logistic, L2".
        log_loss: of the predictions, nats; ln 2 = 0.693 is what knowing nothing has.
        together: pairs of properties that go together, with their correlation.
        r_hat: largest of all weights; above 1.01 the sampler has not settled.
        effective: smallest effective sample size of all weights.
    """

    names: tuple[str, ...]
    weights: Floats
    low: Floats
    high: Floats
    identified: Bools
    n_pairs: int
    n_ties: int
    accuracy: Interval
    baselines: Mapping[str, Interval]
    log_loss: float
    together: tuple[tuple[str, str, float], ...]
    r_hat: float
    effective: float

    @property
    def preferred(self) -> Floats:
        """How often a response is preferred that is better in one property and in nothing else, [properties]."""
        return np.asarray(expit(self.weights))

    @property
    def ranked(self) -> tuple[str, ...]:
        """Names of identified properties, the most wanted first."""
        return tuple(self.names[j] for j in np.argsort(-self.weights, kind="stable") if self.identified[j])

    @property
    def warnings(self) -> tuple[str, ...]:
        """What to keep in mind."""
        said = []
        n_known = int(self.identified.sum())
        if self.n_pairs < _PAIRS_PER_PROPERTY * n_known:
            said.append(
                f"{self.n_pairs} pairs for {n_known} properties are few ({_PAIRS_PER_PROPERTY} for each are the least "
                "to ask for): the weights stay near zero and their intervals are wide"
            )
        unknown = [name for name, known in zip(self.names, self.identified, strict=True) if not known]
        if unknown:
            said.append(f"not identified, because no pairs differ in it both ways: {', '.join(unknown)}")
        said += [
            f"{one} and {other} go together (r = {r:.2f}): which of them counts is hardly told"
            for one, other, r in self.together
        ]
        if self.r_hat > 1.01:
            said.append(f"the sampler has not settled (R-hat {self.r_hat:.3f}); raise n_draws")
        return tuple(said)


def dissection(
    features: ArrayLike,
    labels: ArrayLike,
    *,
    names: Sequence[str],
    groups: ArrayLike | None = None,
    scale: float = 0.1,
    n_folds: int = 10,
    seed: int = 0,
    **sampling: Any,
) -> Dissection:
    """Learn what moves a judge, and measure on pairs held out how well that foretells it.

    Args:
        features: first minus second response, [pairs, properties].
        labels: 1 where the first is preferred, 0 the second, 0.5 for a tie, [pairs].
        names: of the properties.
        groups: what must not be in two folds, such as a pair and the same turned round (`kept_together`), [pairs].
        scale: of the Laplace prior, > 0.
        n_folds: >= 2.
        seed: of folds and draws.
        sampling: n_draws, n_warmup and n_chains of `laplace_posterior`.

    Raises:
        DataError: all labels are equal, fewer groups than folds, shapes do not fit, or a value is not finite.
        SettingsError: a setting is out of range.
    """
    x, y = np.asarray(features, dtype=np.float64), np.asarray(labels, dtype=np.float64)
    if x.ndim != 2 or y.shape != (len(x),) or len(names) != x.shape[1]:
        raise DataError(f"{len(names)} names, features of shape {x.shape} and labels of shape {y.shape} do not fit.")
    if not np.isin(y, (0, 0.5, 1)).all():
        raise DataError(f"Labels must be 0, 1 or 0.5 (a tie): row {int((~np.isin(y, (0, 0.5, 1))).argmax())} is not.")
    labels_of_groups = grouped(groups, len(x), "groups").codes
    decided = y != 0.5
    x, y, units = x[decided], y[decided], labels_of_groups[decided]
    if not len(y) or not 0 < y.sum() < len(y):
        raise DataError(
            f"All {len(y)} decided labels are equal: nothing tells what moves them. Draw by chance which response of a "
            "pair is the first, or bring pairs with other labels."
        )
    fold = folds(units, n_folds, seed=seed)
    identified = _varies(x)
    known = x[:, identified]
    if not known.shape[1]:
        raise DataError(f"None of {len(names)} properties differs both ways in {len(y)} pairs: nothing can be told.")
    included = np.column_stack([np.ones(len(y), dtype=bool), *(fold != k for k in range(n_folds))])
    found = laplace_posterior(known, y, included=included, scale=scale, seed=seed, **sampling)
    held_out = np.einsum("nd,nd->n", known, found.mean[1 + fold])
    edge = scale * np.log(20)  # 95 % of the prior lie within
    weights, low, high = np.zeros(x.shape[1]), np.full(x.shape[1], -edge), np.full(x.shape[1], edge)
    weights[identified], low[identified], high[identified] = found.mean[0], found.low[0], found.high[0]
    return Dissection(
        tuple(names),
        weights,
        low,
        high,
        identified,
        len(y),
        int((~decided).sum()),
        _accuracy(held_out, y, units),
        {name: _accuracy(score, y, units) for name, score in _baselines(x, y, fold, names).items()},
        float(log_loss(expit(held_out), y)),
        _together(x, names),
        float(found.r_hat[0].max()),
        float(found.effective[0].min()),
    )


def _varies(x: Floats) -> Bools:
    """Properties in which some pair differs, and not all in the same way and size."""
    return np.asarray(np.ptp(x, axis=0) > 0)


def _accuracy(score: Floats, y: Floats, units: NDArray[np.int64]) -> Interval:
    """Share of pairs whose side is told; where the score is zero, half of it."""
    return paired_win_rate((np.sign(score) * (2 * y - 1) + 1) / 2, clusters=units).interval


def _baselines(x: Floats, y: Floats, fold: NDArray[np.int64], names: Sequence[str]) -> dict[str, Floats]:
    """Scores of every pair by whoever has not seen its fold."""
    length = x[:, [list(names).index(LENGTH)]] if LENGTH in names else None
    scores = {"majority": np.zeros(len(y)), "logistic, L2": np.zeros(len(y))}
    if length is not None:
        scores["length alone"] = np.zeros(len(y))
    for k in range(int(fold.max()) + 1):
        seen, later = fold != k, fold == k
        scores["majority"][later] = y[seen].mean() - 0.5
        scores["logistic, L2"][later] = x[later] @ newton(x[seen], y[seen], l2=_L2).weights
        if length is not None:
            scores["length alone"][later] = length[later] @ newton(length[seen], y[seen], l2=_L2).weights
    return scores


def _together(x: Floats, names: Sequence[str]) -> tuple[tuple[str, str, float], ...]:
    """Pairs of properties whose differences are correlated, about zero: a pair turned round says the same."""
    size = np.sqrt((x**2).sum(axis=0))
    r = np.divide(x.T @ x, np.outer(size, size), out=np.zeros((x.shape[1],) * 2), where=np.outer(size, size) > 0)
    return tuple(
        (names[i], names[j], float(r[i, j]))
        for i, j in zip(*np.nonzero(np.triu(np.abs(r) > _TOGETHER, 1)), strict=True)
    )


def kept_together(prompts: Sequence[str], first: Sequence[str], second: Sequence[str]) -> NDArray[np.int64]:
    """What must not be in two folds: pairs of one prompt, or of the same two responses in either order.

    >>> kept_together(["p", "p", "q", "r"], ["a", "b", "c", "d"], ["b", "c", "a", "c"]).tolist()
    [0, 0, 1, 2]
    >>> kept_together(["p", "q"], ["a", "b"], ["b", "a"]).tolist()
    [0, 0]
    """
    pairs = np.array(["\0".join(sorted(pair)) for pair in zip(first, second, strict=True)], dtype=object)
    asked = np.array(prompts, dtype=object)
    own = np.unique(pairs, return_inverse=True)[1]
    if len(set(prompts)) == 1:  # nothing was asked: then every pair would hang together
        return np.asarray(own, dtype=np.int64)
    return linked(own, np.unique(asked, return_inverse=True)[1])


def folds(groups: ArrayLike, n_folds: int, *, seed: int = 0) -> NDArray[np.int64]:
    """A fold for each row, about equally many rows in each, no group in two.

    Args:
        groups: label of each row.
        n_folds: >= 2.
        seed: of the order in which groups are dealt.

    Raises:
        SettingsError: fewer than two folds.
        DataError: fewer groups than folds.

    >>> folds([7, 7, 8, 9], 2).tolist() in ([0, 0, 1, 1], [1, 1, 0, 0])
    True
    """
    units = grouped(groups, len(np.asarray(groups)), "groups")
    if n_folds < 2:
        raise SettingsError(f"n_folds must be at least 2: got {n_folds!r}.")
    if len(units.counts) < n_folds:
        raise DataError(
            f"{len(units.counts)} prompts or pairs do not fill {n_folds} folds; bring more, or lower n_folds."
        )
    order = np.random.default_rng(seed).permutation(len(units.counts))
    order = order[np.argsort(-units.counts[order], kind="stable")]  # large groups first, into the emptiest fold
    filled, fold = np.zeros(n_folds), np.empty(len(order), dtype=np.int64)
    for group in order:
        fold[group] = filled.argmin()
        filled[fold[group]] += units.counts[group]
    return np.asarray(fold[units.codes])


# Between judges -------------------------------------------------------------------------------------------------------


def similarity(weights: ArrayLike) -> Floats:
    """How alike judges are: the mean over scenarios of Pearson's correlation of their weights.

    Args:
        weights: [judges, scenarios, properties].

    Returns:
        [judges, judges], 1 on the diagonal.

    Raises:
        DataError: a weight is not finite, or a judge's weights are all equal in a scenario.
    """
    w = np.asarray(weights, dtype=np.float64)
    if w.ndim != 3 or not np.isfinite(w).all():
        raise DataError(f"Weights must be finite and [judges, scenarios, properties]: shape {w.shape}.")
    centred = w - w.mean(axis=2, keepdims=True)
    length = np.linalg.norm(centred, axis=2, keepdims=True)
    if not (length > 0).all():
        judge, scenario, _ = np.argwhere(length == 0)[0]
        raise DataError(f"Judge {judge} weighs all properties alike in scenario {scenario}: nothing to correlate with.")
    centred /= length
    return np.asarray(np.einsum("asp,bsp->ab", centred, centred) / w.shape[1])


@dataclass(frozen=True)
class Gap:
    """How much more alike judges of one group are than judges of two.

    Attributes:
        within: mean similarity of two judges of each group.
        inside: mean similarity of two judges of one group, all such pairs.
        across: of two judges of different groups.
        chance: the 99th percentile of inside - across with the groups' labels shuffled.
        p: share of shuffles with a gap at least as large, the observed one counted.
        shuffled: all these gaps.
    """

    within: Mapping[Any, float]
    inside: float
    across: float
    chance: float
    p: float
    shuffled: Floats

    @property
    def gap(self) -> float:
        """Inside - across."""
        return self.inside - self.across


def group_gap(similarities: ArrayLike, groups: ArrayLike, *, n_shuffles: int = 10_000, seed: int = 0) -> Gap:
    """Whether judges of one group (size, maker) are more alike than chance groups of the same sizes.

    Args:
        similarities: [judges, judges].
        groups: of each judge, [judges].
        n_shuffles: of the labels.
        seed: of the shuffles.

    Raises:
        DataError: no pair is inside a group, or none across.
    """
    s = np.asarray(similarities, dtype=np.float64)
    found = grouped(groups, len(s), "groups")
    pairs = np.triu_indices(len(s), 1)
    values = s[pairs]

    def inside_and_across(codes: NDArray[np.int64]) -> tuple[float, float]:
        same = codes[pairs[0]] == codes[pairs[1]]
        return float(values[same].mean()), float(values[~same].mean())

    same = found.codes[pairs[0]] == found.codes[pairs[1]]
    if same.all() or not same.any():
        raise DataError(f"{len(found.labels)} groups of {len(s)} judges leave no pairs inside a group, or none across.")
    inside, across = inside_and_across(found.codes)
    rng = np.random.default_rng(seed)
    shuffles = (inside_and_across(rng.permutation(found.codes)) for _ in range(n_shuffles))
    shuffled = np.array([one - other for one, other in shuffles])
    of_each = {
        label: float(values[same & (found.codes[pairs[0]] == code)].mean())
        for code, label in enumerate(found.labels)
        if found.counts[code] > 1
    }
    p = (1 + (shuffled >= inside - across).sum()) / (1 + n_shuffles)
    return Gap(of_each, inside, across, float(np.quantile(shuffled, 0.99)), float(p), shuffled)


# One decision, and the manipulation test --------------------------------------------------------------------------------


def contributions(features: ArrayLike, weights: ArrayLike) -> Floats:
    """What each property adds to the logit of each decision; a linear model's Shapley values against no difference.

    >>> contributions([[1.0, -1.0]], [0.5, 0.25]).tolist()
    [[0.5, -0.25]]
    """
    return np.asarray(np.asarray(features, dtype=np.float64) * np.asarray(weights, dtype=np.float64))


def only(weights: ArrayLike, n: int, *, towards: bool = True) -> Floats:
    """The n most wanted (or least wanted) properties' weights, 0 elsewhere.

    >>> only([0.3, -0.2, 0.1], 1, towards=False).tolist()
    [0.0, -0.2, 0.0]
    """
    w = np.asarray(weights, dtype=np.float64)
    if not 1 <= n <= len(w):
        raise SettingsError(f"There are {len(w)} properties: n must lie between 1 and that, got {n!r}.")
    chosen = np.argsort(-w if towards else w, kind="stable")[:n]
    kept = np.zeros_like(w)
    kept[chosen] = w[chosen]
    return kept


def standing(features: ArrayLike, weights: ArrayLike) -> Floats:
    """How well each of m responses to one prompt would do against the others, by the judge's model.

    Args:
        features: of response i minus response j, [..., m, m, properties].
        weights: [properties].

    Returns:
        Mean predicted probability of being preferred to another of the m, [..., m].
    """
    x = np.asarray(features, dtype=np.float64)
    m = x.shape[-2]
    if m < 2 or x.shape[-3] != m:
        raise DataError(f"Features of m responses must be [..., m, m, properties] with m >= 2: shape {x.shape}.")
    wins = expit(x @ np.asarray(weights, dtype=np.float64))
    itself = np.eye(m, dtype=bool)
    return np.asarray(np.where(itself, 0.0, wins).sum(axis=-1) / (m - 1))


def wish(names: Sequence[str], weights: ArrayLike, *, n: int = 3, towards: bool = True) -> str:
    """What to tell a policy so that it shows a judge's most (or least) wanted properties: the test without training.

    >>> wish(("clear", "funny"), [0.5, -0.1], n=1)
    'Let your answer be above all, and plainly: clear.'
    """
    w = np.asarray(weights, dtype=np.float64)
    order = np.argsort(-w if towards else w, kind="stable")[:n]
    return f"Let your answer be above all, and plainly: {', '.join(names[j] for j in order)}."


def predicted(features: ArrayLike, weights: ArrayLike, *, towards: bool = True) -> tuple[Floats, Bools]:
    """Labels that a policy would be trained on to please the judge, or to displease it.

    Args:
        features: of new pairs, first minus second, [pairs, properties].
        weights: of the judge, [properties].
        towards: False turns every label round.

    Returns:
        1 where the first is to be preferred and 0 elsewhere, [pairs]; and which pairs are decided, bool[pairs]: those
        with a predicted probability within `UNDECIDED` are not, and are to be dropped.
    """
    p = expit(np.asarray(features, dtype=np.float64) @ np.asarray(weights, dtype=np.float64))
    decided = (p < UNDECIDED[0]) | (p > UNDECIDED[1])
    return ((p > 0.5) == towards).astype(np.float64), decided


# A language model as the judge ------------------------------------------------------------------------------------------

QUESTION = (
    "Here are two responses to one request.\n\n[Request]\n{prompt}\n\n[Response A]\n{first}\n\n[Response B]\n{second}\n\n"
    "Which response is better, A or B?"
)
OPENING, OPTIONS = "The better response is Response", (" A", " B")


@dataclass(frozen=True)
class Judged:
    """What a language model says of pairs, read off its probabilities in both orders.

    Attributes:
        probability: that it prefers the first response, both orders together, [pairs].
        mass: probability that falls on A or B at all, mean of both orders, [pairs].
        position: probability of A given A or B, mean of both orders; 0.5 without a bias of position, [pairs].
        agrees: whether both orders prefer the same response, bool[pairs].
    """

    probability: Floats
    mass: Floats
    position: Floats
    agrees: Bools

    @property
    def labels(self) -> Floats:
        """1 for the first response, 0 for the second, 0.5 where both are equally likely."""
        return np.asarray((np.sign(self.probability - 0.5) + 1) / 2)


def both_orders(as_given: ArrayLike, turned: ArrayLike) -> Judged:
    """Take out a judge's liking for a position: probabilities are added over both orders, not labels.

    Args:
        as_given: log-probability of A and of B where the first response is A, nats, [pairs, 2].
        turned: the same where the second response is A, nats, [pairs, 2].

    Raises:
        DataError: shapes differ, or a value is not a log-probability.

    >>> found = both_orders(np.log([[0.6, 0.2]]), np.log([[0.5, 0.3]]))
    >>> round(float(found.probability[0]), 4), found.labels.tolist(), found.agrees.tolist()
    (0.5625, [1.0], [False])
    """
    one, other = np.asarray(as_given, dtype=np.float64), np.asarray(turned, dtype=np.float64)
    if one.shape != other.shape or one.ndim != 2 or one.shape[1] != 2:
        raise DataError(f"Log-probabilities of A and B must be [pairs, 2] in both orders: {one.shape}, {other.shape}.")
    for values in (one, other):
        bad = np.isnan(values).any(axis=1) | (np.logaddexp(*values.T) > 1e-6)
        if bad.any():
            raise DataError(
                f"Row {bad.argmax()}: {values[bad.argmax()].tolist()} are no log-probabilities ({bad.sum()})."
            )
    p, q = np.exp(one), np.exp(other)
    first, second = p[:, 0] + q[:, 1], p[:, 1] + q[:, 0]
    total = first + second
    share_of_a = np.stack([expit(one[:, 0] - one[:, 1]), expit(other[:, 0] - other[:, 1])])
    return Judged(
        np.divide(first, total, out=np.full(len(first), 0.5), where=total > 0),
        total / 2,
        share_of_a.mean(axis=0),
        (one[:, 0] > one[:, 1]) == (other[:, 1] > other[:, 0]),
    )
