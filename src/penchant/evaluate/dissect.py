r"""Why a judge prefers what it prefers: how much each property moves its decisions, per kind of request.

$$P(\text{first preferred}) = \sigma(x\cdot\alpha), \qquad x_j \in \{-1, 0, 1\}, \qquad
\alpha_j \sim \mathrm{Laplace}(0, 0.1)$$

`dissection` gives the posterior mean of each weight with its interval, and how well the weights foretell labels held
out. sigma(alpha_j) is how often the judge prefers what is better in property j and in nothing else. `contributions`
explains one decision. Judges are compared in `similar_judges`; whether a judge can be pushed is tested with
`manipulation`; what a language model prefers is read off its probabilities in `two_orders`.

Weights are conditional on the other properties; where two go together (rich answers are long) their intervals are wide
and `together` names them. People who see no difference are not in here: ties are left out and counted.

Source:
    Li, Zhou, Sun, Zhang, Zhao and Liu (2024), Dissecting Human and LLM Preferences, arXiv 2402.11296, section 3.3.
    Theirs average the means of ten fits to nine tenths of the pairs; here
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
        float(log_loss(expit(held_out), y).mean()),
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


def contributions(features: ArrayLike, weights: ArrayLike) -> Floats:
    """What each property adds to the logit of each decision; a linear model's Shapley values against no difference.

    >>> contributions([[1.0, -1.0]], [0.5, 0.25]).tolist()
    [[0.5, -0.25]]
    """
    return np.asarray(np.asarray(features, dtype=np.float64) * np.asarray(weights, dtype=np.float64))
