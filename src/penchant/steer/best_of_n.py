"""Best of n: sample n answers, keep the one a reward likes best.

The plainest way to steer, and the yardstick of equal cost for every other. `expected_maximum` tells what any smaller n
would have given from samples already drawn, without bias and without drawing again.

Source:
    Stiennon et al. (2020), Learning to summarize from human feedback, sec. 4.3 (best of n by a reward model).
    Beirami et al. (2024), Theoretical guarantees on the best-of-n alignment policy (the bound on the divergence).

>>> expected_maximum([1.0, 2.0, 3.0], [1, 2, 3]).round(4).tolist()
[2.0, 2.6667, 3.0]
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaln

from penchant.errors import DataError, SettingsError
from penchant.steer.neighbourhood import Policy

Array = NDArray[np.float64]
Reward = Callable[[Sequence[str], Sequence[str]], ArrayLike]
"""(prompts, responses) -> reward of each, [n]; a preference model's `reward` for one user is one."""


def order_weights(m: int, n: int) -> Array:
    """Probability that the i-th smallest of m is the greatest of n drawn without replacement, [m].

    >>> order_weights(3, 2).round(4).tolist()
    [0.0, 0.3333, 0.6667]
    """
    if not 1 <= n <= m:
        raise SettingsError(f"Best of n needs 1 <= n <= the {m} samples there are: got {n!r}.")
    rank = np.arange(1, m + 1)
    below = np.full(m, -np.inf)
    enough = rank >= n
    # log of C(rank - 1, n - 1) / C(m, n): the binomials themselves overflow beyond a thousand samples.
    below[enough] = gammaln(rank[enough]) - gammaln(n) - gammaln(rank[enough] - n + 1)
    return np.asarray(np.exp(below - (gammaln(m + 1) - gammaln(n + 1) - gammaln(m - n + 1))))


def expected_maximum(scores: ArrayLike, n: int | Sequence[int], *, values: ArrayLike | None = None) -> Array:
    """Mean value of the best of n, over all ways to draw n of the m samples of each prompt.

    Args:
        scores: what the choice is made by, [..., m], finite.
        n: how many are drawn, each in [1, m]; a number or several.
        values: what the choice is worth (say, the true reward), [..., m]; the scores themselves if None. Equal
            scores share the mean of their values.

    Returns:
        [...] for one n, [..., len(n)] for several.

    Raises:
        SettingsError: an n is out of range.
        DataError: shapes differ or a score is not finite.

    Source:
        The unbiased estimator over subsets, as Chen et al. (2021) use it for pass at k.
    """
    by = np.asarray(scores, dtype=np.float64)
    worth = by if values is None else np.asarray(values, dtype=np.float64)
    if by.ndim == 0 or by.shape != worth.shape or not np.isfinite(by).all():
        raise DataError(f"Scores {by.shape} and values {worth.shape} must be finite and of one shape [..., m].")
    order = np.argsort(by, axis=-1, kind="stable")
    ranked = _shared_by_ties(np.take_along_axis(by, order, -1), np.take_along_axis(worth, order, -1))
    counts = [n] if isinstance(n, (int, np.integer)) else list(n)
    curves = np.stack([ranked @ order_weights(by.shape[-1], count) for count in counts], axis=-1)
    return np.asarray(curves[..., 0] if isinstance(n, (int, np.integer)) else curves)


def _shared_by_ties(scores: Array, values: Array) -> Array:
    """Values in the order of their scores, where equal scores all get the mean of their values."""
    flat_scores, flat = scores.reshape(-1, scores.shape[-1]), values.reshape(-1, scores.shape[-1]).copy()
    for row in np.flatnonzero((np.diff(flat_scores, axis=-1) == 0).any(axis=-1)):
        group = np.unique(flat_scores[row], return_inverse=True)[1]
        flat[row] = (np.bincount(group, weights=flat[row]) / np.bincount(group))[group]
    return flat.reshape(values.shape)


def divergence_bound(n: int) -> float:
    """Most nats by which best of n can differ from the policy it samples: log n - (n - 1) / n.

    >>> round(divergence_bound(16), 4)
    1.8351
    """
    if n < 1:
        raise SettingsError(f"n must be at least 1: got {n!r}.")
    return float(np.log(n) - (n - 1) / n)


@dataclass(frozen=True)
class Best:
    """The answers to one prompt and the chosen one.

    Attributes:
        prompt: as given.
        responses: all n, in the order drawn.
        rewards: of each; -inf for an empty one.
        chosen: index of the greatest reward, the first of equals.
    """

    prompt: str
    responses: tuple[str, ...]
    rewards: tuple[float, ...]
    chosen: int

    @property
    def response(self) -> str:
        """The chosen answer."""
        return self.responses[self.chosen]


class BestOfN:
    """Sample n answers from any policy, keep the one any reward likes best.

    Args:
        policy: what is sampled.
        reward: (prompts, responses) -> [n]; for one person, `partial(model.reward, user="alice")`.
        n: answers per prompt, >= 1.
        temperature: of sampling.
        max_new_tokens: longest response.

    Raises:
        SettingsError: n is below 1.
    """

    def __init__(
        self, policy: Policy, reward: Reward, *, n: int = 8, temperature: float = 0.7, max_new_tokens: int = 64
    ):
        if n < 1:
            raise SettingsError(f"Best of n needs n >= 1: got {n!r}.")
        self.policy, self.reward, self.n = policy, reward, n
        self.temperature, self.max_new_tokens = temperature, max_new_tokens

    def select(self, prompts: Sequence[str], *, condition: str | None = None, seed: int = 0) -> list[Best]:
        """The best answer to each prompt, with all that were considered.

        Args:
            prompts: any number.
            condition: words the policy is given, such as a person's wishes.
            seed: of sampling.

        Raises:
            DataError: the reward is not one finite number a response.
        """
        answers = self.policy.sample(
            prompts,
            self.n,
            condition=condition,
            temperature=self.temperature,
            max_new_tokens=self.max_new_tokens,
            seed=seed,
        )
        said = [(i, j) for i, row in enumerate(answers) for j, text in enumerate(row) if text.strip()]
        rewards = np.full((len(prompts), self.n), -np.inf)
        if said:
            got = np.asarray(self.reward([prompts[i] for i, _ in said], [answers[i][j] for i, j in said]), dtype=float)
            if got.shape != (len(said),) or not np.isfinite(got).all():
                raise DataError(
                    f"The reward gave shape {got.shape} for {len(said)} responses, finite in {np.isfinite(got).sum()}; "
                    "it must be one finite number a response."
                )
            rewards[tuple(np.array(said).T)] = got
        return [
            Best(prompt, tuple(answers[i]), tuple(rewards[i].tolist()), int(np.argmax(rewards[i])))
            for i, prompt in enumerate(prompts)
        ]
