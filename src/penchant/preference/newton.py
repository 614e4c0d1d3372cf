"""Bradley-Terry: the first option is preferred with probability sigmoid(difference @ weights - margin).

All objectives are sums over pairs in nats (not means), so `l2` is the precision of a Gaussian prior on the weights.
A tie counts as half a win for each side (`strength` 0.5).

Source:
    Bradley and Terry (1952), Rank analysis of incomplete block designs. Biometrika 39.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg.lapack import dpocon, dpotrf, dpotrs
from scipy.special import expit

from penchant.errors import DataError, SettingsError

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Fit:
    """A fitted population.

    Attributes:
        weights: Logits per unit of difference, [dim].
        covariance: Inverse Hessian at the optimum, the Laplace posterior, [dim, dim].
        sandwich: Covariance robust to a wrong model and to dependence inside clusters, [dim, dim].
        n_steps: Newton steps taken.
        objective: Penalised negative log-likelihood at the optimum, nats.
    """

    weights: Array
    covariance: Array
    sandwich: Array
    n_steps: int
    objective: float


def _precision(l2: ArrayLike, dim: int) -> Array:
    value = np.asarray(l2, dtype=np.float64)
    if value.shape not in ((), (dim,), (dim, dim)):
        raise SettingsError(f"The precision has shape {value.shape}; give a number, [{dim}] or [{dim}, {dim}].")
    if value.ndim < 2:  # no need of eigenvalues, which would cost more than the fit
        if not (np.isfinite(value).all() and (value >= 0).all()):
            raise SettingsError("The precision must be finite and must not be negative.")
        return np.diag(np.broadcast_to(value, (dim,)))
    matrix = value
    if not np.isfinite(matrix).all() or not np.allclose(matrix, matrix.T):
        raise SettingsError("The precision must be finite and, as a matrix, symmetric.")
    if dim and np.linalg.eigvalsh(matrix).min() < -1e-12 * max(1.0, np.abs(matrix).max()):
        raise SettingsError("The precision must not be negative.")
    return np.asarray(matrix, dtype=np.float64)


def _rows(
    difference: ArrayLike, strength: ArrayLike, margin: ArrayLike | None, row_weight: ArrayLike | None
) -> tuple[Array, ...]:
    d = np.asarray(difference, dtype=np.float64)
    if d.ndim != 2:
        raise DataError(f"difference has shape {d.shape}; it must be [pairs, dim].")
    n = len(d)
    s = np.asarray(strength, dtype=np.float64)
    m = np.zeros(n) if margin is None else np.asarray(margin, dtype=np.float64)
    w = np.ones(n) if row_weight is None else np.asarray(row_weight, dtype=np.float64)
    for name, value in (("strength", s), ("margin", m), ("row_weight", w)):
        if value.shape != (n,):
            raise DataError(f"{name} has shape {value.shape}, but difference has {n} rows; give one value a row.")
    for name, bad in (
        ("difference must be finite", ~np.isfinite(d).all(axis=1)),
        ("strength must lie in 0..1", ~((s >= 0) & (s <= 1))),
        ("margin must be finite", ~np.isfinite(m)),
        ("row_weight must be finite and not negative", ~(np.isfinite(w) & (w >= 0))),
    ):
        if bad.any():
            raise DataError(f"{name}: wrong in {bad.sum()} of {n} rows, first in row {np.flatnonzero(bad)[0]}.")
    return d, s, m, w


class _Problem(NamedTuple):
    """What is minimised, checked."""

    difference: Array
    strength: Array
    margin: Array
    row_weight: Array
    precision: Array
    centre: Array

    def value(self, weights: Array) -> float:
        away, z = weights - self.centre, self.difference @ weights - self.margin
        loss = self.strength * np.logaddexp(0.0, -z) + (1 - self.strength) * np.logaddexp(0.0, z)
        return float(self.row_weight @ loss + 0.5 * away @ self.precision @ away)

    def slope(self, weights: Array) -> Array:
        pull = self.difference.T @ (self.row_weight * self.residual(weights))
        return np.asarray(pull + self.precision @ (weights - self.centre))

    def curvature(self, weights: Array) -> Array:
        z = self.difference @ weights - self.margin
        # A matrix times its own transpose takes half the products of two different ones.
        rows = self.difference * np.sqrt(self.row_weight * expit(z) * expit(-z))[:, None]
        return np.asarray(rows.T @ rows + self.precision)

    def residual(self, weights: Array) -> Array:
        """expit(z) - strength without cancellation: separated pairs must never look like an optimum."""
        z = self.difference @ weights - self.margin
        return np.asarray((1 - self.strength) * expit(z) - self.strength * expit(-z))


def _problem(
    difference: ArrayLike,
    strength: ArrayLike,
    l2: ArrayLike,
    centre: ArrayLike | None = None,
    margin: ArrayLike | None = None,
    row_weight: ArrayLike | None = None,
) -> _Problem:
    d, s, m, w = _rows(difference, strength, margin, row_weight)
    dim = d.shape[1]
    return _Problem(d, s, m, w, _precision(l2, dim), _point("centre", centre, dim))


def _point(name: str, value: ArrayLike | None, dim: int) -> Array:
    point = np.zeros(dim) if value is None else np.asarray(value, dtype=np.float64)
    if point.shape != (dim,) or not np.isfinite(point).all():
        raise DataError(f"{name} has shape {point.shape}; it must be [{dim}] and finite.")
    return point


def negative_log_likelihood(
    weights: Array,
    difference: ArrayLike,
    strength: ArrayLike,
    *,
    l2: ArrayLike,
    centre: ArrayLike | None = None,
    margin: ArrayLike | None = None,
    row_weight: ArrayLike | None = None,
) -> float:
    """Cross-entropy of the pairs plus half the squared distance from the centre, weighted by `l2`.

    Args:
        weights: Logits per unit of difference, [dim].
        difference: Features of the first option minus those of the second, [pairs, dim].
        strength: How far the first is preferred, 0..1; 1 always, 0.5 a tie, [pairs].
        l2: Prior precision: a number, a diagonal [dim] or a matrix [dim, dim].
        centre: Where the penalty is zero, [dim]; the origin if None.
        margin: Logits by which the first must be ahead to be even, [pairs]; a swapped pair takes it negated.
        row_weight: How often each row counts, [pairs].

    Returns:
        Nats, summed over pairs.

    Raises:
        DataError: shapes disagree or values are out of range.
        SettingsError: `l2` is negative or of the wrong shape.

    Source:
        Bradley and Terry (1952).

    >>> round(negative_log_likelihood(np.zeros(1), [[1.0]], [1.0], l2=0), 4)
    0.6931
    """
    return _problem(difference, strength, l2, centre, margin, row_weight).value(weights)


def gradient(
    weights: Array,
    difference: ArrayLike,
    strength: ArrayLike,
    *,
    l2: ArrayLike,
    centre: ArrayLike | None = None,
    margin: ArrayLike | None = None,
    row_weight: ArrayLike | None = None,
) -> Array:
    """Gradient of `negative_log_likelihood`, same arguments and Raises; nats per logit weight, [dim].

    >>> gradient(np.zeros(1), [[1.0]], [1.0], l2=0).tolist()
    [-0.5]
    """
    return _problem(difference, strength, l2, centre, margin, row_weight).slope(weights)


def hessian(
    weights: Array,
    difference: ArrayLike,
    strength: ArrayLike,
    *,
    l2: ArrayLike,
    centre: ArrayLike | None = None,
    margin: ArrayLike | None = None,
    row_weight: ArrayLike | None = None,
) -> Array:
    """Hessian of `negative_log_likelihood`, same arguments and Raises; [dim, dim], whatever strength and centre are.

    >>> hessian(np.zeros(1), [[1.0]], [1.0], l2=2).tolist()
    [[2.25]]
    """
    return _problem(difference, strength, l2, centre, margin, row_weight).curvature(weights)


def newton(
    difference: ArrayLike,
    strength: ArrayLike,
    *,
    l2: ArrayLike,
    centre: ArrayLike | None = None,
    margin: ArrayLike | None = None,
    row_weight: ArrayLike | None = None,
    clusters: ArrayLike | None = None,
    start: ArrayLike | None = None,
    tolerance: float = 1e-9,
    max_steps: int = 100,
) -> Fit:
    """Minimise `negative_log_likelihood` by damped Newton steps.

    Args:
        difference: First option minus second, [pairs, dim].
        strength: How far the first is preferred, 0..1, [pairs].
        l2: Prior precision: a number, [dim] or [dim, dim].
        centre: Prior mean, [dim]; the origin if None.
        margin: Logits the first must be ahead by, [pairs].
        row_weight: How often each row counts, [pairs]; the sandwich takes a row as one cluster however it is weighted.
        clusters: Label of the group (say, the person) of each row, [pairs]; each row its own if None.
        start: Weights to start from, [dim]; the centre if None. The optimum is the same, and found in fewer steps from
            near it.
        tolerance: Stop when a full step moves no weight (relatively) and no pair's logit by more.
        max_steps: Most steps taken.

    Returns:
        The optimum with its Laplace and sandwich covariances.

    Raises:
        DataError: shapes or values are wrong; or no finite unique optimum exists (a direction the pairs do not
            determine, or separated pairs) or it was not reached in `max_steps`.
        SettingsError: `l2`, `tolerance` or `max_steps` is out of range.

    Source:
        Bradley and Terry (1952).

    >>> newton([[1.0]] * 4, [1, 1, 1, 0], l2=0).weights.round(4).tolist()  # log 3
    [1.0986]
    """
    if not tolerance > 0 or max_steps < 1:
        raise SettingsError("tolerance must be above 0 and max_steps at least 1.")
    problem = _problem(difference, strength, l2, centre, margin, row_weight)
    n, dim = problem.difference.shape
    labels = np.arange(n) if clusters is None else np.asarray(clusters)
    if labels.shape != (n,):
        raise DataError(f"clusters has shape {labels.shape}, but difference has {n} rows; give one label a row.")
    begin = problem.centre if start is None else _point("start", start, dim)
    weights, n_steps = _optimum(problem, begin, tolerance, max_steps)
    inverse = _inverse(problem.curvature(weights))
    scores = problem.difference * (problem.row_weight * problem.residual(weights))[:, None]
    group = np.unique(labels, return_inverse=True)[1]
    summed = np.zeros((group.max(initial=-1) + 1, dim))
    np.add.at(summed, group, scores)
    return Fit(weights, inverse, inverse @ (summed.T @ summed) @ inverse, n_steps, problem.value(weights))


def optima(
    difference: ArrayLike,
    strength: ArrayLike,
    precisions: Sequence[float],
    *,
    margin: ArrayLike | None = None,
) -> Array:
    """Weights of `newton` under several priors around the origin, each found from that of the next stronger one.

    Args:
        difference: First option minus second, [pairs, dim].
        strength: How far the first is preferred, 0..1, [pairs].
        precisions: `l2` of each prior, weakest first, [priors].
        margin: Logits the first must be ahead by, [pairs].

    Returns:
        [priors, dim], to about ten digits; Raises as `newton`.

    >>> optima([[1.0]] * 4, [1, 1, 1, 0], [1e-9, 1e9]).round(4).tolist()
    [[1.0986], [0.0]]
    """
    problem = _problem(difference, strength, 0.0, margin=margin)
    dim = problem.difference.shape[1]
    found = np.zeros((len(precisions), dim))
    weights = problem.centre
    for place, precision in reversed(list(enumerate(precisions))):
        weights, _ = _optimum(problem._replace(precision=_precision(precision, dim)), weights, 1e-5, 100)
        found[place] = weights
    return found


def newton_each(
    difference: ArrayLike,
    strength: ArrayLike,
    *,
    l2: float,
    margin: ArrayLike,
    start: ArrayLike | None = None,
    tolerance: float = 1e-9,
    max_steps: int = 100,
) -> tuple[Array, Array]:
    """`newton` of many small problems at once, each of as many pairs, under one prior around the origin.

    Args:
        difference: First option minus second, [problems, pairs, dim].
        strength: How far the first is preferred, 0..1, [problems, pairs].
        l2: Prior precision, > 0.
        margin: Logits the first must be ahead by, [problems, pairs].
        start: Weights to start from, [problems, dim]; the origin if None.
        tolerance: As for `newton`.
        max_steps: As for `newton`.

    Returns:
        The optima, [problems, dim], and their inverse Hessians, [problems, dim, dim].

    Raises:
        DataError: an optimum was not reached in `max_steps`.

    >>> newton_each([[[1.0]] * 4] * 2, [[1, 1, 1, 0], [0, 0, 0, 0.5]], l2=1e-9, margin=np.zeros((2, 4)))[0].round(2)
    array([[ 1.1 ],
           [-1.95]])
    """
    x, s, ahead = (np.asarray(value, dtype=np.float64) for value in (difference, strength, margin))
    weights = np.zeros((len(x), x.shape[2])) if start is None else np.asarray(start, dtype=np.float64)

    def value(at: Array) -> Array:
        logits = np.einsum("upd,ud->up", x, at) - ahead
        surprise = s * np.logaddexp(0.0, -logits) + (1 - s) * np.logaddexp(0.0, logits)
        return np.asarray(surprise.sum(axis=1) + 0.5 * l2 * (at**2).sum(axis=1))

    now = value(weights)
    for _ in range(max_steps + 1):
        probability = expit(np.einsum("upd,ud->up", x, weights) - ahead)
        slope = l2 * weights + np.einsum("upd,up->ud", x, probability - s)
        weighed = x * np.sqrt(probability * (1 - probability))[:, :, None]
        curvature = np.swapaxes(weighed, 1, 2) @ weighed + l2 * np.eye(x.shape[2])
        step = -np.linalg.solve(curvature, slope[:, :, None])[:, :, 0]
        moved = np.maximum(
            np.abs(step).max(axis=1, initial=0.0) / (1 + np.abs(weights).max(axis=1, initial=0.0)),
            np.abs(np.einsum("upd,ud->up", x, step)).max(axis=1, initial=0.0),
        )
        if (moved <= tolerance).all():
            return weights + step, np.linalg.inv(curvature)
        size, least = np.ones(len(x)), 1e-12 * (1 + np.abs(now))
        while True:
            trial = value(weights + size[:, None] * step)
            too_far = (trial > now + 1e-4 * size * (slope * step).sum(axis=1) + least) & (size > 1e-10)
            if not too_far.any():
                break
            size = np.where(too_far, size / 2, size)
        weights, now = weights + size[:, None] * step, trial
    raise DataError(f"No optimum in {max_steps} steps for {int((moved > tolerance).sum())} of {len(x)} problems.")


def _optimum(problem: _Problem, weights: Array, tolerance: float, max_steps: int) -> tuple[Array, int]:
    """The optimum, and how many steps it took."""
    value = problem.value(weights)
    for n_steps in range(max_steps + 1):
        slope = problem.slope(weights)
        step = -_solved(problem.curvature(weights), slope)
        moved = max(
            np.abs(step).max(initial=0.0) / (1 + np.abs(weights).max(initial=0.0)),
            np.abs(problem.difference @ step).max(initial=0.0),
        )
        if moved <= tolerance:
            return weights + step, n_steps  # the step is known, and leaves only the square of what it moves
        size, rounding = 1.0, 1e-12 * (1 + abs(value))
        while True:
            trial = problem.value(weights + size * step)
            if trial <= value + 1e-4 * size * (slope @ step) + rounding or size <= 1e-10:
                break
            size /= 2
        weights, value = weights + size * step, trial
    raise DataError(
        f"No optimum in {max_steps} steps over {len(problem.difference)} pairs: they may be separated (every pair "
        "predicted without error, weights without bound); set l2 above 0 or raise max_steps."
    )


def _solved(matrix: Array, vector: Array) -> Array:
    """matrix^-1 vector for a positive definite matrix scaled to a diagonal of one; `_inverse` decides in doubt."""
    scale = np.sqrt(np.diag(matrix))
    if (scale > 0).all() and len(scale):
        unit = matrix / np.outer(scale, scale)
        factor, failed = dpotrf(unit, lower=1)
        if not failed and dpocon(factor, np.abs(unit).sum(axis=0).max(), uplo="L")[0] > 1e-9:
            return np.asarray(dpotrs(factor, vector / scale, lower=1)[0] / scale)
    return np.asarray(_inverse(matrix) @ vector)


def _inverse(matrix: Array) -> Array:
    """Inverse of a positive definite matrix after scaling its diagonal to one."""
    scale = np.sqrt(np.diag(matrix))
    if (scale > 0).all():
        values, vectors = np.linalg.eigh(matrix / np.outer(scale, scale))
        if len(values) == 0 or values[0] > 1e-12 * values[-1]:
            return np.asarray((vectors / values) @ vectors.T / np.outer(scale, scale))
    raise DataError(
        f"The pairs do not determine all {len(matrix)} weights (a direction without difference, or separated pairs); "
        "set l2 above 0 or drop columns."
    )
