r"""Bayesian logistic regression under a Laplace prior: the posterior mean, with intervals and how far to trust them.

$$y_i \sim \mathrm{Bernoulli}(\sigma(x_i\cdot\alpha)), \qquad \alpha_j \sim \mathrm{Laplace}(0, b), \qquad
\log p(\alpha \mid X, y) = \sum_i [y_i\eta_i - \log(1 + e^{\eta_i})] - \sum_j |\alpha_j| / b + \mathrm{const}$$

There is no intercept: which of two responses comes first is drawn by chance. The posterior *mean* is not the L1
estimate (the mode under the same prior): nothing in it is exactly zero, and a sparse solver must not stand in for it.

Sampled by Hamiltonian Monte Carlo in coordinates whitened by the curvature of likelihood and prior. Many problems on
the same features (judges, folds) run side by side as columns of one matrix. Proposals follow a force that is smooth
where the prior has its kink; what is accepted is decided by the exact density.

Source:
    The model: Li, Zhou, Sun, Zhang, Zhao and Liu (2024), Dissecting Human and LLM Preferences, section 3.3.
    The sampler: Neal (2011), MCMC using Hamiltonian dynamics; its step size: Hoffman and Gelman (2014), section 3.2.
    The diagnostics: Gelman et al. (2013), Bayesian Data Analysis, sections 11.4 and 11.5.

>>> x = np.repeat([[1.0, 0.0], [0.0, 1.0]], 200, axis=0)
>>> y = np.r_[np.ones(160), np.zeros(40), np.ones(100), np.zeros(100)]
>>> found = laplace_posterior(x, y, seed=0)
>>> bool(0.5 < found.low[0, 0] < found.mean[0, 0] < np.log(4)), bool(abs(found.mean[0, 1]) < 0.05), found.converged
(True, True, True)
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from penchant.errors import DataError, SettingsError

Floats = NDArray[np.float64]

_ACCEPTED = 0.7  # share of proposals that the step size aims at
_SMOOTH = 0.4  # of the prior's scale, within which the force of its kink turns round
_STEPS = (4, 12)  # fewest and most leapfrog steps of a proposal
_LONGEST_STEP = 0.6  # in whitened coordinates, where the posterior is about one wide
_AT_ONCE = 96  # chains that run side by side; beyond that the matrices leave the processor's cache
_LARGEST_R_HAT = 1.01


@dataclass(frozen=True)
class LaplacePosterior:
    """What was learnt of the weights in each of several problems.

    Attributes:
        mean: posterior mean of each weight, logits, [problems, features].
        low: lower end of the credible interval, [problems, features].
        high: upper end, [problems, features].
        r_hat: split R-hat; 1 where all chains agree, [problems, features].
        effective: effective sample size of the mean, in draws, [problems, features].
        accepted: share of proposals accepted, [problems].
    """

    mean: Floats
    low: Floats
    high: Floats
    r_hat: Floats
    effective: Floats
    accepted: Floats

    @property
    def converged(self) -> bool:
        """Whether R-hat is at most 1.01 everywhere."""
        return bool((self.r_hat <= _LARGEST_R_HAT).all())


def laplace_posterior(
    features: ArrayLike,
    labels: ArrayLike,
    *,
    included: ArrayLike | None = None,
    scale: float = 0.1,
    level: float = 0.95,
    n_draws: int = 2000,
    n_warmup: int = 500,
    n_chains: int = 4,
    seed: int = 0,
) -> LaplacePosterior:
    """Sample the posterior of one or several problems on the same features.

    Args:
        features: first minus second response, [pairs, features].
        labels: 1 where the first is preferred, 0 where the second is, [pairs] or [pairs, problems].
        included: which pairs count in which problem, bool[pairs, problems]; all without it.
        scale: b of the prior, > 0.
        level: of the credible intervals, in (0, 1).
        n_draws: kept of each chain, >= 4.
        n_warmup: draws that the step size is found in, >= 1.
        n_chains: >= 1.
        seed: of the draws.

    Returns:
        Means, intervals and diagnostics, a row for each problem.

    Raises:
        DataError: a shape does not fit, a value is not finite, a label is not in [0, 1].
        SettingsError: a setting is out of range.
    """
    x, y, counts = _problems(features, labels, included)
    if not (0 < scale < np.inf and 0 < level < 1 and n_draws >= 4 and min(n_warmup, n_chains) >= 1):
        raise SettingsError(
            "laplace_posterior needs a finite scale > 0, a level in (0, 1), n_draws >= 4, n_warmup >= 1 and n_chains "
            f">= 1: got {scale!r}, {level!r}, {n_draws!r}, {n_warmup!r} and {n_chains!r}."
        )
    # Curvature of the likelihood at zero, and of a Gaussian as wide as the prior.
    curvature = x.T @ x / 4 + np.eye(x.shape[1]) / (2 * scale**2)
    unwhiten = np.linalg.inv(np.linalg.cholesky(curvature)).T
    rng = np.random.default_rng(seed)
    parts = []
    step = max(1, _AT_ONCE // n_chains)
    for start in range(0, y.shape[1], step):
        own = slice(start, start + step)
        density = _Density(
            x, np.repeat(y[:, own], n_chains, 1), np.repeat(counts[:, own], n_chains, 1), scale, unwhiten
        )
        draws, accepted = _sampled(density, n_draws, n_warmup, rng)
        draws = draws.reshape(n_draws, x.shape[1], -1, n_chains).transpose(2, 1, 3, 0)  # problems, features, chains
        low, high = np.quantile(draws.reshape(*draws.shape[:2], -1), [(1 - level) / 2, (1 + level) / 2], axis=-1)
        parts.append(
            (
                draws.mean(axis=(2, 3)),
                low,
                high,
                split_r_hat(draws),
                effective_sample_size(draws),
                accepted.reshape(-1, n_chains).mean(axis=1),
            )
        )
    return LaplacePosterior(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _problems(features: ArrayLike, labels: ArrayLike, included: ArrayLike | None) -> tuple[Floats, Floats, Floats]:
    """Features [pairs, features], labels [pairs, problems], and 1 where a pair counts."""
    x, y = np.asarray(features, dtype=np.float64), np.asarray(labels, dtype=np.float64)
    if x.ndim != 2 or not x.size or len(y) != len(x) or y.ndim > 2:
        raise DataError(f"Features must be [pairs, features] with a label each: shapes are {x.shape} and {y.shape}.")
    bad = ~np.isfinite(x).all(axis=1)
    if bad.any():
        raise DataError(
            f"Features, row {bad.argmax()}: a value is not finite ({bad.sum()} of {len(x)} rows). Leave out pairs that "
            "could not be annotated; 0 means that a property does not apply."
        )
    counts = np.ones((len(x), 1)) if included is None else np.asarray(included, dtype=np.float64)
    y = y.reshape(len(y), -1)
    if (
        counts.ndim != 2
        or len(counts) != len(x)
        or (y.shape[1] != counts.shape[1] and 1 not in (y.shape[1], counts.shape[1]))
    ):
        raise DataError(f"`included` must be [pairs, problems]: shape {counts.shape} for labels of shape {y.shape}.")
    y, counts = np.broadcast_arrays(y, counts)
    outside = (counts > 0) & ~((y >= 0) & (y <= 1))
    if outside.any():
        raise DataError(
            f"Labels, row {int(outside.any(axis=1).argmax())}: neither 0 nor 1 ({outside.sum()} of {y.size} labels). "
            "Leave ties out with `included`."
        )
    return x, np.where(counts > 0, y, 0.0), np.asarray(counts)


class _Density:
    """Log posterior of many chains, in whitened coordinates z with alpha = unwhiten z; chains are columns.

    Values, which decide what is accepted, are exact in float64. Forces only propose: any force that depends on nothing
    but the position leaves the sampler exact, so they are in float32, and smooth at the prior's kink.
    """

    def __init__(self, x: Floats, y: Floats, counts: Floats, scale: float, unwhiten: Floats):
        self.unwhiten, self.scale, self.counts = unwhiten, scale, counts
        self.seen = np.ascontiguousarray(x @ unwhiten)
        self.target = self.seen.T @ y  # labels of pairs that do not count are 0
        arrays = (self.seen, self.seen.T, counts, self.target, unwhiten, unwhiten.T / scale)
        self._single = tuple(np.ascontiguousarray(array, dtype=np.float32) for array in arrays)

    def value(self, z: Floats) -> Floats:
        """[features, chains] -> [chains], up to a constant."""
        eta = self.seen @ z
        loss = (self.counts * np.logaddexp(0.0, eta)).sum(axis=0)
        return np.asarray((self.target * z).sum(axis=0) - loss - np.abs(self.unwhiten @ z).sum(axis=0) / self.scale)

    def force(self, z: Floats) -> Floats:
        """About the gradient of `value`, [features, chains] -> [features, chains]."""
        seen, back, counts, target, unwhiten, pull = self._single
        place = z.astype(np.float32)
        wins = np.negative(seen @ place)
        with np.errstate(over="ignore"):  # a probability of 0 is meant where the exponential overflows
            np.exp(wins, out=wins)
        wins += 1
        np.divide(counts, wins, out=wins)
        side = np.tanh(unwhiten @ place / np.float32(_SMOOTH * self.scale))
        return np.asarray(target - back @ wins - pull @ side, dtype=np.float64)


def _sampled(density: _Density, n_draws: int, n_warmup: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Draws of alpha, [draws, features, chains], and the share accepted of each chain."""
    shape = (density.seen.shape[1], density.counts.shape[1])
    z = rng.standard_normal(shape)
    value = density.value(z)
    steps = _StepSizes(shape[1])
    draws = np.empty((n_draws, *shape))
    accepted = np.zeros(shape[1])
    for draw in range(-n_warmup, n_draws):
        size = np.minimum(steps.tried if draw < 0 else steps.settled, _LONGEST_STEP)
        # Steps of varying size and number: a trajectory that always comes back to where it began would not mix.
        size = size * rng.uniform(0.8, 1.2)
        momentum = rng.standard_normal(shape)
        energy = value - (momentum**2).sum(axis=0) / 2
        new, momentum = _leapfrog(density, z, momentum, size, int(rng.integers(_STEPS[0], _STEPS[1] + 1)))
        new_value = density.value(new)
        gain = new_value - (momentum**2).sum(axis=0) / 2 - energy
        chance = np.exp(np.minimum(0.0, np.where(np.isfinite(gain), gain, -np.inf)))
        taken = rng.random(shape[1]) < chance
        z, value = np.where(taken, new, z), np.where(taken, new_value, value)
        if draw < 0:
            steps.adapt(chance)
        else:
            draws[draw] = density.unwhiten @ z
            accepted += taken
    return draws, accepted / n_draws


def _leapfrog(density: _Density, z: Floats, momentum: Floats, size: Floats, n_steps: int) -> tuple[Floats, Floats]:
    momentum = momentum + size / 2 * density.force(z)
    for step in range(n_steps):
        z = z + size * momentum
        momentum = momentum + (size / 2 if step == n_steps - 1 else size) * density.force(z)
    return z, momentum


class _StepSizes:
    """A step size for each chain, by dual averaging: Hoffman and Gelman's algorithm 5."""

    def __init__(self, n_chains: int):
        self._centre = np.log(10 * 0.2)
        self._error, self._mean, self._n = np.zeros(n_chains), np.zeros(n_chains), 0
        self.tried = np.full(n_chains, 0.2)

    @property
    def settled(self) -> Floats:
        """To draw with, once adapted."""
        return np.asarray(np.exp(self._mean))

    def adapt(self, chance: Floats) -> None:
        """Learn from the chance with which the last proposals were accepted, [chains]."""
        self._n += 1
        rate = 1 / (self._n + 10)
        self._error = (1 - rate) * self._error + rate * (_ACCEPTED - chance)
        log_size = np.minimum(self._centre - np.sqrt(self._n) / 0.05 * self._error, np.log(_LONGEST_STEP))
        weight = self._n**-0.75
        self._mean = weight * log_size + (1 - weight) * self._mean
        self.tried = np.exp(log_size)


def split_r_hat(draws: ArrayLike) -> Floats:
    """Split R-hat: how much wider all half-chains together are than each for itself; 1 where they agree.

    Args:
        draws: [..., chains, draws].

    Source:
        Gelman et al. (2013), equation 11.4, on chains cut in half.

    >>> bool(split_r_hat(np.array([[0.0, 1.0, 0.0, 1.0], [5.0, 6.0, 5.0, 6.0]])) > 3)
    True
    """
    halves = _halves(draws)
    n = halves.shape[-1]
    within = halves.var(axis=-1, ddof=1).mean(axis=-1)
    between = halves.mean(axis=-1).var(axis=-1, ddof=1)
    total = (n - 1) / n * within + between
    ratio = np.divide(total, within, out=np.ones_like(total), where=within > 0)
    return np.asarray(np.sqrt(np.where((within == 0) & (between > 0), np.inf, ratio)))


def effective_sample_size(draws: ArrayLike) -> Floats:
    """How many independent draws would tell the mean as well.

    Autocorrelations of half-chains, summed in pairs as long as these are positive and made to fall (Geyer 1992).

    Args:
        draws: [..., chains, draws].

    Source:
        Gelman et al. (2013), equations 11.7 and 11.8, with Geyer's initial monotone sequence.
    """
    halves = _halves(draws)
    m, n = halves.shape[-2:]
    centred = halves - halves.mean(axis=-1, keepdims=True)
    padded = np.fft.rfft(centred, 2 * n, axis=-1)  # twice as long, lest the end meets the beginning
    covariance = np.fft.irfft(np.abs(padded) ** 2, axis=-1)[..., :n] / n
    within = covariance[..., 0].mean(axis=-1) * n / (n - 1)
    total = (n - 1) / n * within + halves.mean(axis=-1).var(axis=-1, ddof=1)
    safe = np.where(total > 0, total, 1.0)[..., None]
    rho = 1 - (within[..., None] - covariance.mean(axis=-2)) / safe
    rho[..., 0] = 1.0
    pairs = rho[..., : n // 2 * 2].reshape(*rho.shape[:-1], n // 2, 2).sum(axis=-1)
    positive = np.cumprod(pairs > 0, axis=-1)
    pairs = np.minimum.accumulate(np.where(positive, pairs, 0.0), axis=-1)
    time = np.maximum(2 * pairs.sum(axis=-1) - 1, 1 / np.log10(m * n))
    return np.asarray(np.where(total > 0, m * n / time, m * n))


def _halves(draws: ArrayLike) -> Floats:
    """[..., chains, draws] -> [..., 2 chains, draws / 2]."""
    array = np.asarray(draws, dtype=np.float64)
    half = array.shape[-1] // 2
    return np.concatenate([array[..., :half], array[..., -half:]], axis=-2)
