"""Ranking accuracy: does a model give preferred answers the higher likelihood, could it, and which pairs can be mended?

Chen, Malladi, Zhang, Chen, Zhang, Ranganath and Cho 2024, "Preference learning algorithms do not learn preference
rankings", NeurIPS 2024 (arXiv 2405.19534). Everything is computed from the log-probabilities of both answers of each
pair under the policy and its reference; no model is loaded here.

Departures from the authors' code: idealised accuracy is computed in logs throughout (theirs overflows, and divides
log-likelihoods where a difference is meant); ties are counted apart instead of as errors by a band.

>>> import numpy as np
>>> idealised_margin(np.array([-2.0, -20.0]), strength=0.75, beta=0.1).round(2).tolist()  # the second is beyond help
[8.99, -9.01]
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

from penchant.errors import DataError, SettingsError
from penchant.statistics import Interval, paired_bootstrap, wilson

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

_UNKNOWN_STRENGTH = 0.75  # the authors' share of people who prefer `chosen`, where nobody counted
_SUREST_STRENGTH = 1 - 1e-3  # what the authors replace a share of 1 by, whose logit is infinite


@dataclass(frozen=True)
class Likelihoods:
    """Log-probabilities of both answers of each pair under one model.

    Attributes:
        chosen: of the preferred answer, summed over its tokens, nats, [pairs].
        rejected: of the other answer, nats, [pairs].
        chosen_tokens: tokens of the preferred answer, [pairs]; 0 for an empty one.
        rejected_tokens: tokens of the other answer, [pairs].
    """

    chosen: ArrayLike
    rejected: ArrayLike
    chosen_tokens: ArrayLike
    rejected_tokens: ArrayLike

    def margin(self, *, per_token: bool = False) -> Floats:
        """Log-probability of chosen minus rejected, nats (or nats per token), [pairs]."""
        chosen, rejected = np.asarray(self.chosen, dtype=np.float64), np.asarray(self.rejected, dtype=np.float64)
        if per_token:
            chosen, rejected = chosen / np.asarray(self.chosen_tokens), rejected / np.asarray(self.rejected_tokens)
        return np.asarray(chosen - rejected)


@dataclass(frozen=True)
class RankedRight:
    """How many pairs a model ranks right.

    Attributes:
        accuracy: share of all pairs whose chosen answer is strictly likelier, with Wilson's interval.
        n_right: such pairs.
        n_tied: pairs whose answers are equally likely; they are no hit, and no error of rank either.
        n_wrong: pairs whose rejected answer is likelier.
    """

    accuracy: Interval
    n_right: int
    n_tied: int
    n_wrong: int


def ranked_right(margin: ArrayLike, *, tie_band: float = 0.0, level: float = 0.95) -> RankedRight:
    """Ranking accuracy R = mean 1[log p(chosen) > log p(rejected)].

    Args:
        margin: log-probability of chosen minus rejected, nats or nats per token, [pairs].
        tie_band: margins of at most this size are ties, in the margin's unit, >= 0.
        level: of the interval, in (0, 1).

    Raises:
        DataError: no pairs, or a margin is NaN.
        SettingsError: the band is negative.

    Source:
        Chen et al. 2024, definition 1 (there a tie is an error; here it is counted apart as well).

    >>> ranked_right([2.0, -1.0, 0.0, 0.5]).n_right
    2
    """
    if not tie_band >= 0:
        raise SettingsError(f"The band of ties must be at least 0: got {tie_band!r}.")
    values = _numbers(margin, "margin")
    right, tied = int((values > tie_band).sum()), int((np.abs(values) <= tie_band).sum())
    return RankedRight(wilson(right, len(values), level), right, tied, len(values) - right - tied)


def whole_ranking_right(log_probabilities: ArrayLike, *, mask: ArrayLike | None = None) -> Bools:
    """Whether each list of answers, given best first, is ranked exactly so by the model.

    Args:
        log_probabilities: of the answers of each list, best first, nats, [lists, k].
        mask: True where a place holds an answer, present places first, [lists, k].

    Returns:
        bool[lists]: every answer strictly likelier than the next one.

    >>> whole_ranking_right([[-1.0, -2.0, -3.0], [-1.0, -3.0, -2.0]]).tolist()
    [True, False]
    """
    values = np.asarray(log_probabilities, dtype=np.float64)
    present = np.ones(values.shape, dtype=bool) if mask is None else np.asarray(mask, dtype=bool)
    in_order = values[:, :-1] > values[:, 1:]
    return np.asarray((in_order | ~present[:, 1:]).all(axis=1))


def idealised_margin(reference_margin: ArrayLike, *, strength: ArrayLike, beta: float) -> Floats:
    r"""Log-probability of chosen minus rejected under the best possible policy of the KL-regularised objective.

    $$\Delta^* = \Delta_{ref} + \frac{1}{\beta}\log\frac{\alpha}{1-\alpha}$$

    Args:
        reference_margin: Delta_ref, of the reference, nats, [pairs].
        strength: alpha, share of people who prefer `chosen`, in (0.5, 1], [pairs] or one number; a share above 0.999
            counts as 0.999, as in the authors' code.
        beta: strength of the pull to the reference, > 0.

    Returns:
        Nats, [pairs]; above 0 where the idealised policy ranks the pair right.

    Raises:
        DataError: a strength is outside (0.5, 1].
        SettingsError: beta is not positive.

    Source:
        Chen et al. 2024, theorem 1. In logs: the authors' code caps (alpha / (1 - alpha))^(1 / beta) at 1e300.
    """
    if not beta > 0:
        raise SettingsError(f"beta must be above 0: got {beta!r}.")
    reference = np.asarray(reference_margin, dtype=np.float64)
    share = np.broadcast_to(np.asarray(strength, dtype=np.float64), reference.shape)
    bad = ~((share > 0.5) & (share <= 1))
    if bad.any():
        raise DataError(
            f"strength must lie in (0.5, 1]: {bad.sum()} of {bad.size} do not, first {share[bad][0]}. "
            "Turn round pairs below 0.5 and leave out those at 0.5, where nobody prefers either."
        )
    share = np.minimum(share, _SUREST_STRENGTH)
    return np.asarray(reference + np.log(share / (1 - share)) / beta)


def difficulty(reference: Likelihoods) -> Floats:
    """How far the reference errs on each pair: c = log p_ref(rejected) - log p_ref(chosen), nats, above 0 if wrong."""
    return -reference.margin()


def loss_threshold(difficulty: ArrayLike, *, beta: float) -> Floats:
    r"""The DPO loss below which, and only below which, the policy ranks a pair right.

    $$\Delta_\theta > 0 \iff L < -\log\sigma(\beta c)$$

    Args:
        difficulty: c, nats, [pairs].
        beta: of the DPO loss, > 0.

    Returns:
        Nats, [pairs]: tiny for difficult pairs.

    Source:
        Chen et al. 2024, theorem 2 (L = -log sigmoid(beta (Delta_theta + c)), and -log sigmoid decreases).

    >>> loss_threshold([0.0, 50.0], beta=0.1).round(4).tolist()
    [0.6931, 0.0067]
    """
    return np.asarray(np.logaddexp(0.0, -beta * np.asarray(difficulty, dtype=np.float64)))


def threshold_agreement(
    loss: ArrayLike, reference_margin: ArrayLike, policy_margin: ArrayLike, *, beta: float
) -> float:
    """Share of pairs that are ranked right exactly if their loss is below its threshold.

    Args:
        loss: DPO loss of each pair as it was computed, nats, [pairs].
        reference_margin: chosen minus rejected under the reference, nats, [pairs].
        policy_margin: the same under the policy, [pairs].
        beta: of the loss, > 0.

    Returns:
        In [0, 1]; 1 by theorem. Pairs whose margin is within rounding (1e-9 of the difficulty) count as agreeing.

    >>> threshold_agreement([0.7, 0.6], [0.0, 0.0], [1.0, 1.0], beta=0.1)  # the first loss is not that of its margin
    0.5
    """
    before, after = np.asarray(reference_margin, dtype=np.float64), np.asarray(policy_margin, dtype=np.float64)
    below = np.asarray(loss, dtype=np.float64) < loss_threshold(-before, beta=beta)
    within_rounding = np.abs(after) < 1e-9 * (1 + np.abs(before))
    return float(((below == (after > 0)) | within_rounding).mean())


def flip_matrix(reference_margin: ArrayLike, policy_margin: ArrayLike) -> NDArray[np.int64]:
    """Counts of pairs by how the reference (rows) and the policy (columns) rank them.

    Args:
        reference_margin: chosen minus rejected under the reference, nats, [pairs].
        policy_margin: the same under the policy, [pairs].

    Returns:
        [2, 2]: index 0 is not right (wrong or tied), index 1 right; `[0, 1]` are the pairs that training mended.

    >>> flip_matrix([-1.0, -1.0, 2.0], [1.0, -2.0, 3.0]).tolist()
    [[1, 1], [0, 1]]
    """
    before, after = _numbers(reference_margin, "reference_margin") > 0, _numbers(policy_margin, "policy_margin") > 0
    if len(before) != len(after):
        raise DataError(
            f"reference_margin has {len(before)} pairs but policy_margin {len(after)}; give the same pairs."
        )
    matrix = np.zeros((2, 2), dtype=np.int64)
    np.add.at(matrix, (before.astype(int), after.astype(int)), 1)
    return matrix


@dataclass(frozen=True)
class Flips:
    """Pairs of one band of difficulty that the reference did not rank right.

    Attributes:
        low: smallest difficulty (or whatever else bands them) in the band.
        high: largest.
        n: pairs.
        mended: share of them that the policy ranks right, with Wilson's interval.
    """

    low: float
    high: float
    n: int
    mended: Interval


def flips_by(
    values: ArrayLike, reference_margin: ArrayLike, policy_margin: ArrayLike, *, bins: int = 10, level: float = 0.95
) -> list[Flips]:
    """P(policy right | reference not right) by bands of equal mass (deciles) of the difficulty or of a reward margin.

    Args:
        values: what to band pairs by, [pairs].
        reference_margin: chosen minus rejected under the reference, nats, [pairs].
        policy_margin: the same under the policy, [pairs].
        bins: most bands, >= 1; equal values stay together.
        level: of the intervals.

    Returns:
        Bands from low to high; empty if the reference ranks every pair right.
    """
    x, before, after = (np.asarray(v, dtype=np.float64) for v in (values, reference_margin, policy_margin))
    wrong = before <= 0
    x, mended = x[wrong], after[wrong] > 0
    bands = []
    for code in equal_mass_bins(x, bins) if len(x) else []:
        bands.append(
            Flips(
                float(x[code].min()),
                float(x[code].max()),
                len(code),
                wilson(int(mended[code].sum()), len(code), level),
            )
        )
    return bands


def equal_mass_bins(values: ArrayLike, bins: int) -> list[NDArray[np.int64]]:
    """Row numbers of at most `bins` groups of about equal size, in order of value; equal values are never torn apart.

    >>> [rows.tolist() for rows in equal_mass_bins([3.0, 1.0, 1.0, 1.0, 2.0], 2)]
    [[1, 2, 3], [4, 0]]
    """
    if bins < 1:
        raise SettingsError(f"There must be at least one band: got {bins!r}.")
    x = np.asarray(values, dtype=np.float64)
    # A value's band is that of the middle of its ranks, so that ties share one.
    band = np.floor((rankdata(x, method="average") - 0.5) / len(x) * bins).astype(int)
    order = np.argsort(x, kind="stable")
    return [order[band[order] == code] for code in np.unique(band)]


@dataclass(frozen=True)
class Trend:
    """A rank correlation and how often a random pairing would be as low.

    Attributes:
        spearman: in [-1, 1].
        p_below: permutation p-value of a correlation this low or lower.
        n: pairs.
    """

    spearman: float
    p_below: float
    n: int


def difficulty_trend(
    values: ArrayLike, reference_margin: ArrayLike, policy_margin: ArrayLike, *, permutations: int = 2000, seed: int = 0
) -> Trend:
    """Are difficult pairs mended less often? Spearman between difficulty and being mended, where the reference erred.

    Args:
        values: difficulty of each pair, [pairs].
        reference_margin: chosen minus rejected under the reference, nats, [pairs].
        policy_margin: the same under the policy, [pairs].
        permutations: how many random pairings the p-value rests on, >= 1.
        seed: of the pairings.

    Returns:
        The trend; NaN with p 1 where none can be seen (fewer than 3 pairs, all mended, or none).
    """
    x, before, after = (np.asarray(v, dtype=np.float64) for v in (values, reference_margin, policy_margin))
    wrong = before <= 0
    x, mended = rankdata(x[wrong]), rankdata(after[wrong] > 0)
    n = len(x)
    if n < 3 or np.ptp(x) == 0 or np.ptp(mended) == 0:
        return Trend(float("nan"), 1.0, n)
    x, mended = (x - x.mean()) / (x.std() * n), (mended - mended.mean()) / mended.std()
    observed = float(x @ mended)
    rng = np.random.default_rng(seed)
    shuffled = np.array([rng.permutation(mended) @ x for _ in range(permutations)])
    # The observed pairing is one of the possible ones: a p-value of 0 does not exist. 1e-12 keeps equal sums equal.
    return Trend(observed, float((1 + (shuffled <= observed + 1e-12).sum()) / (1 + permutations)), n)


@dataclass(frozen=True)
class RankingAudit:
    """What `audit` found; see the attributes' names, each of which is explained in its function.

    Attributes:
        n_pairs: pairs looked at.
        excluded: reason -> pairs left out; `n_pairs` plus these are all that came.
        raw: by summed log-probability.
        per_token: by mean log-probability per token.
        shorter: how a rule that always prefers the shorter answer would do.
        longer: the same for the longer answer.
        same_tokens: whether policy and reference count the same tokens; if not, only `per_token` compares them and
            everything below is empty.
        reference_raw: the reference's own ranking accuracy.
        reference_per_token: the same per token.
        idealised: beta -> accuracy of the best possible policy at that beta.
        gap: idealised minus observed (raw) accuracy at the run's own beta, paired bootstrap.
        flips: `flip_matrix`.
        flips_by_difficulty: `flips_by` deciles of difficulty.
        trend: `difficulty_trend`.
        threshold_holds: share of pairs on which "ranked right" and "DPO loss below its threshold" agree; 1 by theorem.
    """

    n_pairs: int
    excluded: dict[str, int]
    raw: RankedRight
    per_token: RankedRight
    shorter: RankedRight
    longer: RankedRight
    same_tokens: bool
    reference_raw: RankedRight | None = None
    reference_per_token: RankedRight | None = None
    idealised: dict[float, RankedRight] | None = None
    gap: Interval | None = None
    flips: NDArray[np.int64] | None = None
    flips_by_difficulty: list[Flips] | None = None
    trend: Trend | None = None
    threshold_holds: float | None = None


def audit(
    policy: Likelihoods,
    reference: Likelihoods,
    *,
    strength: ArrayLike | None = None,
    same_text: ArrayLike | None = None,
    beta: float = 0.1,
    betas: Sequence[float] = (0.01, 0.1, 1.0, 5.0, 10.0),
    level: float = 0.95,
    seed: int = 0,
) -> RankingAudit:
    """Everything this page measures, on the pairs that can be measured.

    Pairs with an empty answer, equal answers, a share of exactly 0.5 or a log-probability that is not a number are left
    out and counted. A pair whose share is below 0.5 is turned round.

    Args:
        policy: log-probabilities under the model in question.
        reference: under the model it was tuned from (the same object for a model of its own).
        strength: share of people who prefer `chosen`, in [0, 1], [pairs] or one number; 0.75 where unknown.
        same_text: True where both answers are the same text, bool[pairs].
        beta: of the run, > 0, for the gap and the loss threshold.
        betas: for the table of idealised accuracies.
        level: of the intervals.
        seed: of bootstrap and permutations.

    Returns:
        The audit.

    Raises:
        DataError: no pair is left, shapes disagree, or a strength is outside [0, 1].
    """
    columns = _columns(policy, reference)
    n = len(columns["chosen"])
    share = np.broadcast_to(
        np.asarray(_UNKNOWN_STRENGTH if strength is None else strength, dtype=np.float64), (n,)
    ).copy()
    if not ((share >= 0) & (share <= 1)).all():
        raise DataError(f"strength must lie in [0, 1]: {int((~((share >= 0) & (share <= 1))).sum())} of {n} do not.")
    keep, excluded = _exclude(columns, share, same_text)
    turned = share < 0.5
    for first in ("chosen", "chosen_tokens", "reference_chosen", "reference_chosen_tokens"):
        second = first.replace("chosen", "rejected")
        columns[first], columns[second] = (
            np.where(turned, columns[second], columns[first]),
            np.where(turned, columns[first], columns[second]),
        )
    columns = {name: column[keep] for name, column in columns.items()}
    share = np.maximum(share, 1 - share)[keep]
    ours = Likelihoods(*(columns[name] for name in _FIELDS))
    theirs = Likelihoods(*(columns[f"reference_{name}"] for name in _FIELDS))
    shorter = columns["rejected_tokens"] - columns["chosen_tokens"]
    same_tokens = all(
        np.array_equal(columns[name], columns[f"reference_{name}"]) for name in ("chosen_tokens", "rejected_tokens")
    )
    found: dict[str, Any] = {
        "n_pairs": int(keep.sum()),
        "excluded": excluded,
        "raw": ranked_right(ours.margin(), level=level),
        "per_token": ranked_right(ours.margin(per_token=True), level=level),
        "shorter": ranked_right(shorter, level=level),
        "longer": ranked_right(-shorter, level=level),
        "same_tokens": same_tokens,
        "reference_per_token": ranked_right(theirs.margin(per_token=True), level=level),
    }
    if same_tokens:
        found |= _against_reference(ours, theirs, share, beta=beta, betas=betas, level=level, seed=seed)
    return RankingAudit(**found)


_FIELDS = ("chosen", "rejected", "chosen_tokens", "rejected_tokens")


def _against_reference(
    policy: Likelihoods,
    reference: Likelihoods,
    share: Floats,
    *,
    beta: float,
    betas: Sequence[float],
    level: float,
    seed: int,
) -> dict[str, Any]:
    before, after, c = reference.margin(), policy.margin(), difficulty(reference)
    ideal = idealised_margin(before, strength=share, beta=beta) > 0
    return {
        "reference_raw": ranked_right(before, level=level),
        "idealised": {b: ranked_right(idealised_margin(before, strength=share, beta=b), level=level) for b in betas},
        "gap": paired_bootstrap(ideal, after > 0, level=level, seed=seed) if len(after) > 1 else None,
        "flips": flip_matrix(before, after),
        "flips_by_difficulty": flips_by(c, before, after, level=level),
        "trend": difficulty_trend(c, before, after, seed=seed),
        "threshold_holds": threshold_agreement(np.logaddexp(0.0, -beta * (after + c)), before, after, beta=beta),
    }


def _columns(policy: Likelihoods, reference: Likelihoods) -> dict[str, Floats]:
    columns = {name: np.asarray(getattr(policy, name), dtype=np.float64) for name in _FIELDS}
    columns |= {f"reference_{name}": np.asarray(getattr(reference, name), dtype=np.float64) for name in _FIELDS}
    shapes = {name: column.shape for name, column in columns.items()}
    if len(set(shapes.values())) != 1 or columns["chosen"].ndim != 1:
        raise DataError(f"Every column must hold one number per pair; the shapes are {shapes}.")
    return columns


def _exclude(columns: dict[str, Floats], share: Floats, same_text: ArrayLike | None) -> tuple[Bools, dict[str, int]]:
    n = len(share)
    tokens = [column for name, column in columns.items() if name.endswith("tokens")]
    sums = [column for name, column in columns.items() if not name.endswith("tokens")]
    reasons = {
        "an answer is empty": np.any([column < 1 for column in tokens], axis=0),
        "both answers are the same": np.zeros(n, bool) if same_text is None else np.asarray(same_text, dtype=bool),
        "nobody prefers either (share 0.5)": share == 0.5,
        "a log-probability is not a finite number": np.any([~np.isfinite(column) for column in sums], axis=0),
    }
    keep = np.ones(n, dtype=bool)
    excluded: dict[str, int] = {}
    for reason, bad in reasons.items():
        if (bad & keep).any():
            excluded[reason] = int((bad & keep).sum())
        keep &= ~bad
    if not keep.any():
        raise DataError(f"No pair is left to audit: of {n} pairs, {excluded or 'none came'}.")
    return keep, excluded


def _numbers(values: ArrayLike, where: str) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or len(array) == 0 or np.isnan(array).any():
        raise DataError(
            f"{where} must hold one number per pair: shape {array.shape}, {int(np.isnan(array).sum())} of "
            f"{array.size} are NaN. Leave out pairs that could not be computed."
        )
    return array
