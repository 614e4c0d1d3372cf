"""Robust preference selection: ask neighbouring directions, keep the answer that serves the wanted one best.

A policy conditioned on a direction of trade-offs answers badly where training saw few directions. Here k directions
near the wanted one are asked once each, and the answers are scored by the *wanted* direction. Works with any policy
that has `sample`, and any attribute reward. Its equal-cost baseline, best of k at the wanted direction, is
`Neighbourhood.best_of_k`; both draw from the same random stream.

Departures: attributes are standardised by frozen statistics if given (the paper uses its reward model's 0-100 scale);
more than two attributes are served by uniform draws from the cap; in the plane a draw is uniform on the arc that cap
and cone share, which is what rejection yields; `known` (off by default) makes the angle grow with the distance from
trained directions. Inside the trained cone the method costs: `penchant reproduce rps` prints where it starts to pay.

Source:
    Mao, Shi, Gu and Wei (2025), Robust Preference Alignment via Directional Neighborhood Consensus.

>>> import numpy as np
>>> fan = neighbours([1.0, 0.0], 3, 30.0, rng=np.random.default_rng(0), spread="even")
>>> fan.round(3).tolist()
[[0.866, -0.5], [1.0, 0.0], [0.866, 0.5]]
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from penchant.align.rejection_sampling import direction_prompt
from penchant.align.rejection_sampling import unit as scaled
from penchant.errors import DataError, SettingsError, UnknownNameError, nearest
from penchant.preference.measures import Standardisation

Array = NDArray[np.float64]
AttributeReward = Callable[[Sequence[str], Sequence[str]], ArrayLike]
"""(prompts, responses) -> attributes [n, dim], higher is more of each attribute."""

_NORM_SLACK = 0.02  # a direction typed with two decimals is no mistake
_TABLE_POINTS = 4097
_MAX_DRAWS = 1_000_000  # rejections before the overlap of cap and cone is called too small


class Policy(Protocol):
    """Whatever can be sampled under a condition in words."""

    def sample(
        self,
        prompts: Sequence[str],
        n: int = 1,
        *,
        condition: str | None = None,
        temperature: float = 0.7,
        max_new_tokens: int = 64,
        seed: int = 0,
    ) -> list[list[str]]:
        """Draw n responses to each prompt."""
        ...


@dataclass(frozen=True)
class Cone:
    """The directions within some angle of an axis.

    Attributes:
        axis: its middle, [dim], of any length above zero.
        degrees: half its opening, in (0, 90].
    """

    axis: tuple[float, ...]
    degrees: float

    def __post_init__(self) -> None:
        """Refuse an opening that is no cone."""
        if not 0 < self.degrees <= 90:
            raise SettingsError(f"A cone's half opening must lie in (0, 90] degrees: got {self.degrees!r}.")

    def distance(self, directions: ArrayLike) -> Array:
        """Degrees from each direction to the cone, 0 inside it; [n, dim] -> [n]."""
        axis = np.asarray(self.axis, dtype=np.float64)
        return np.maximum(angle(directions, axis / np.linalg.norm(axis)) - self.degrees, 0.0)


@dataclass(frozen=True)
class Candidate:
    """One answer that was considered.

    Attributes:
        direction: the direction it was asked with, unit length.
        angle: between that and the target, degrees.
        condition: the words the policy was given.
        response: what it answered.
        attributes: raw rewards, [dim]; NaN for an empty answer.
        score: target . attributes (standardised if so set); -inf for an empty answer.
    """

    direction: tuple[float, ...]
    angle: float
    condition: str
    response: str
    attributes: tuple[float, ...]
    score: float


@dataclass(frozen=True)
class Selection:
    """All candidates for one prompt and which was chosen.

    Attributes:
        prompt: as given.
        target: the wanted direction, unit length.
        candidates: in the order they were asked.
        chosen: index of the chosen one.
        n_empty: candidates without any text.
        n_distinct: different conditions among them.
    """

    prompt: str
    target: tuple[float, ...]
    candidates: tuple[Candidate, ...]
    chosen: int
    n_empty: int
    n_distinct: int

    @property
    def response(self) -> str:
        """The chosen answer."""
        return self.candidates[self.chosen].response

    @property
    def score(self) -> float:
        """Its score under the target."""
        return self.candidates[self.chosen].score


def unit(direction: ArrayLike, *, dim: int | None = None) -> Array:
    """A direction at length one, with a warning if it was far from that.

    Args:
        direction: at least two finite numbers, not all zero, [dim].
        dim: how many there must be.

    Raises:
        SettingsError: it is all zero, not finite, or of the wrong shape.

    >>> unit([0.6, 0.8]).tolist()
    [0.6, 0.8]
    """
    vector = np.asarray(direction, dtype=np.float64)
    if vector.ndim != 1 or len(vector) < 2 or (dim is not None and len(vector) != dim):
        wanted = "at least 2" if dim is None else str(dim)
        raise SettingsError(f"A direction here has {wanted} numbers, one an attribute: got shape {vector.shape}.")
    v = scaled(vector)
    length = float(np.linalg.norm(vector))
    if abs(length - 1) > _NORM_SLACK:
        warnings.warn(f"The direction had length {length:.3g}; it was scaled to 1.", stacklevel=2)
    return v


def angle(directions: ArrayLike, target: Array) -> Array:
    """Degrees between each direction and the target, all of unit length; [..., dim] -> [...].

    By atan2 of the two chords: arccos would lose half the digits near 0, where ties are broken.
    """
    u = np.asarray(directions, dtype=np.float64)
    chords = np.linalg.norm(u - target, axis=-1), np.linalg.norm(u + target, axis=-1)
    return np.asarray(np.degrees(2 * np.arctan2(*chords)))


def cap_angles(share: ArrayLike, max_angle: float, dim: int) -> Array:
    """Angles from the middle of a cap at which it holds that share of its area: the inverse CDF of sin^(dim-2).

    Args:
        share: in [0, 1], any shape.
        max_angle: of the cap, degrees, in (0, 90].
        dim: of the space, >= 2.

    Returns:
        Degrees, shape of `share`.

    >>> cap_angles([0.0, 0.5, 1.0], 60.0, 3).round(2).tolist()  # cos a = 1 - share (1 - cos 60)
    [0.0, 41.41, 60.0]
    """
    grid = np.linspace(0.0, np.radians(max_angle), _TABLE_POINTS)
    # Relative to the rim: sin^(dim-2) itself underflows in the hundreds of dimensions.
    density = (np.sin(grid) / np.sin(grid[-1])) ** (dim - 2)
    below = np.concatenate(([0.0], np.cumsum((density[1:] + density[:-1]) / 2)))
    return np.asarray(np.degrees(np.interp(np.asarray(share), below / below[-1], grid)))


def neighbours(
    target: ArrayLike,
    n: int,
    max_angle: float,
    *,
    rng: np.random.Generator,
    spread: Literal["random", "even"] = "random",
    cone: Cone | None = None,
) -> Array:
    """Directions within `max_angle` of the target: uniform on the cap, or evenly spaced in the plane.

    Args:
        target: unit length, [dim].
        n: how many, >= 1.
        max_angle: degrees, in (0, 90].
        rng: where random draws come from; even ones take none.
        spread: "random", or "even" (two attributes only).
        cone: allowed directions; all if None.

    Returns:
        Unit vectors, [n, dim].

    Raises:
        SettingsError: a number is out of range; "even" in more than two dimensions; cap and cone do not meet, or
            share so little that no draw lands in both.
    """
    v = unit(target)
    if n < 1:
        raise SettingsError(f"At least one direction must be asked: got {n!r}.")
    if not 0 < max_angle <= 90:
        raise SettingsError(f"The largest angle must lie in (0, 90] degrees: got {max_angle!r}.")
    if cone and (gap := float(cone.distance(v)) - max_angle) > 0:
        raise SettingsError(f"Directions within {max_angle:g} degrees miss the allowed cone by {gap:.1f} degrees.")
    if len(v) == 2:
        low, high = _arc(v, max_angle, cone)
        offsets = np.radians(_even(low, high, n) if spread == "even" else rng.uniform(low, high, n))
        across = np.array([-v[1], v[0]])
        return np.asarray(np.cos(offsets)[:, None] * v + np.sin(offsets)[:, None] * across)
    if spread == "even":
        raise SettingsError(f"An even spread exists for two attributes, not for {len(v)}; use spread='random'.")
    kept, drawn = np.empty((0, len(v))), 0
    while len(kept) < n:
        batch = _cap(v, 2 * n + 16, max_angle, rng)
        drawn += len(batch)
        kept = np.concatenate([kept, batch if cone is None else batch[cone.distance(batch) == 0]])
        if drawn > _MAX_DRAWS:
            raise SettingsError(f"Only {len(kept)} of {drawn} draws within {max_angle:g} degrees lie in the cone.")
    return kept[:n]


def _cap(v: Array, n: int, max_angle: float, rng: np.random.Generator) -> Array:
    gaussian = rng.standard_normal((n, len(v)))
    tangent = gaussian - (gaussian @ v)[:, None] * v
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
    away = np.radians(cap_angles(rng.random(n), max_angle, len(v)))[:, None]
    return np.asarray(np.cos(away) * v + np.sin(away) * tangent)


def _even(low: float, high: float, n: int) -> Array:
    return np.linspace(low, high, n) if n > 1 else np.array([(low + high) / 2])


def _arc(v: Array, max_angle: float, cone: Cone | None) -> tuple[float, float]:
    """Offsets from v in degrees, counter-clockwise, that lie in the cap and in the cone."""
    if cone is None:
        return -max_angle, max_angle
    axis = np.asarray(cone.axis)
    middle = float(np.degrees(np.arctan2(v[0] * axis[1] - v[1] * axis[0], v @ axis)))
    return max(-max_angle, middle - cone.degrees), min(max_angle, middle + cone.degrees)


def choose(scores: ArrayLike, angles: ArrayLike) -> NDArray[np.intp]:
    """Index of the best candidate: highest score, then smallest angle, then first; [..., k] -> [...].

    >>> int(choose([1.0, 2.0, 2.0], [0.0, 15.0, 5.0]))
    2
    """
    score = np.asarray(scores, dtype=np.float64)
    tied = score == score.max(axis=-1, keepdims=True)
    return np.asarray(np.argmin(np.where(tied, np.asarray(angles), np.inf), axis=-1))


class Neighbourhood:
    """Robust preference selection on any policy and any attribute reward.

    The directions are drawn once per call and asked of all its prompts, so that a call costs k batched `sample`s;
    to draw anew for every prompt, call with one prompt at a time and another seed.

    Args:
        policy: what is sampled.
        reward: (prompts, responses) -> attributes [n, dim].
        attributes: name of each attribute, in the reward's order.
        condition: direction [dim] -> the words given to the policy; if None integer weights, as directional alignment
            trains on (`align.rejection_sampling.direction_prompt`).
        k: directions asked, >= 1.
        max_angle: how far they may lie from the target, degrees, in (0, 90].
        spread: "random" draws, or an "even" fan (two attributes only).
        include_target: ask the target itself first, where the cone allows it.
        cone: allowed directions, such as those the policy's authors advise; all if None.
        known: trained directions; if given, the angle is the target's distance from them, at most `max_angle`.
        standardisation: frozen statistics of the attributes; the reward's own scale if None.
        temperature: of sampling, for both arms.
        max_new_tokens: longest response, for both arms.

    Raises:
        SettingsError: a number is out of range or fewer than two attributes are named.
    """

    def __init__(
        self,
        policy: Policy,
        reward: AttributeReward,
        *,
        attributes: Sequence[str],
        condition: Callable[[Array], str] | None = None,
        k: int = 5,
        max_angle: float = 30.0,
        spread: Literal["random", "even"] = "random",
        include_target: bool = False,
        cone: Cone | None = None,
        known: Cone | None = None,
        standardisation: Standardisation | None = None,
        temperature: float = 0.7,
        max_new_tokens: int = 64,
    ):
        if k < 1 or not 0 < max_angle <= 90:
            raise SettingsError(f"k must be at least 1 and max_angle in (0, 90] degrees: got {k!r}, {max_angle!r}.")
        if len(set(attributes)) != len(attributes) or len(attributes) < 2:
            raise SettingsError(f"Name at least two different attributes: got {list(attributes)}.")
        self.policy, self.reward, self.attributes = policy, reward, tuple(attributes)
        self.condition = condition or partial(direction_prompt, axes=self.attributes)
        self.k, self.max_angle, self.spread, self.include_target = k, max_angle, spread, include_target
        self.cone, self.known, self.standardisation = cone, known, standardisation
        self.temperature, self.max_new_tokens = temperature, max_new_tokens

    def target(self, direction: ArrayLike | Mapping[str, float]) -> Array:
        """A wanted direction as a unit vector; by name, attributes left out weigh nothing.

        Raises:
            SettingsError: it is all zero, not finite or of the wrong length.
            UnknownNameError: no attribute has that name.
        """
        if isinstance(direction, Mapping):
            for name in direction:
                if name not in self.attributes:
                    raise UnknownNameError(f"No attribute is called {name!r}: {nearest(name, self.attributes)}")
            direction = [direction.get(name, 0.0) for name in self.attributes]
        return unit(direction, dim=len(self.attributes))

    def directions(self, direction: ArrayLike | Mapping[str, float], *, seed: int = 0) -> Array:
        """The k directions that will be asked, with different words as far as the angle allows; [k, dim].

        Weights rounded to integers make near directions the same words: such draws are replaced. Where the cap holds
        fewer than k different conditions, some are asked twice, so that the cost stays k.
        """
        v = self.target(direction)
        limit = self.max_angle
        if self.known:
            limit = min(limit, float(self.known.distance(v)))
            if limit == 0:
                return np.tile(v, (self.k, 1))
        rng = np.random.default_rng([seed, 0])
        first = [v] if self.include_target and (self.cone is None or self.cone.distance(v) == 0) else []
        drawn: list[Array] = list(first)
        if len(drawn) < self.k:
            wanted = self.k - len(drawn)
            drawn += list(neighbours(v, wanted, limit, rng=rng, spread=self.spread, cone=self.cone))
            drawn += list(neighbours(v, 20 * self.k, limit, rng=rng, cone=self.cone))
        words = [self.condition(u) for u in drawn]
        fresh = [i for i, text in enumerate(words) if text not in words[:i]]
        again = [i for i in range(len(drawn)) if i not in set(fresh)]
        return np.stack([drawn[i] for i in sorted([*fresh, *again][: self.k])])

    def select(
        self, prompts: Sequence[str], direction: ArrayLike | Mapping[str, float], *, seed: int = 0
    ) -> list[Selection]:
        """Ask the neighbours of a direction and keep, for each prompt, the answer that serves the direction best.

        Args:
            prompts: any number.
            direction: wanted weight of each attribute, [dim] or by name.
            seed: of directions and samples; `best_of_k` with the same seed samples from the same stream.

        Raises:
            SettingsError: the direction is refused, or cap and cone do not meet.
            DataError: the reward has another number of attributes, or is not finite.
        """
        return self._selections(prompts, self.target(direction), self.directions(direction, seed=seed), seed)

    def best_of_k(
        self, prompts: Sequence[str], direction: ArrayLike | Mapping[str, float], *, seed: int = 0
    ) -> list[Selection]:
        """The baseline of equal cost: k samples at the target itself, same rule, temperature and random stream."""
        v = self.target(direction)
        return self._selections(prompts, v, np.tile(v, (self.k, 1)), seed)

    def _selections(self, prompts: Sequence[str], v: Array, asked: Array, seed: int) -> list[Selection]:
        words = [self.condition(u) for u in asked]
        columns = []
        for j, text in enumerate(words):
            stream = int(np.random.SeedSequence([seed, 1, j]).generate_state(1)[0])
            answers = self.policy.sample(
                prompts,
                1,
                condition=text,
                temperature=self.temperature,
                max_new_tokens=self.max_new_tokens,
                seed=stream,
            )
            columns.append([answer[0] for answer in answers])
        responses = [list(row) for row in zip(*columns, strict=True)]
        attributes, scores = self._scores(prompts, responses, v)
        angles = angle(asked, v).round(9)  # rounding noise must not break ties
        chosen = choose(scores, np.broadcast_to(angles, scores.shape))
        return [
            Selection(
                prompt,
                tuple(v.tolist()),
                tuple(
                    Candidate(
                        tuple(asked[j].tolist()),
                        float(angles[j]),
                        words[j],
                        responses[i][j],
                        tuple(attributes[i, j].tolist()),
                        float(scores[i, j]),
                    )
                    for j in range(len(asked))
                ),
                int(chosen[i]),
                int(np.isneginf(scores[i]).sum()),
                len(set(words)),
            )
            for i, prompt in enumerate(prompts)
        ]

    def _scores(self, prompts: Sequence[str], responses: list[list[str]], v: Array) -> tuple[Array, Array]:
        """Raw attributes [prompts, k, dim] and scores by the target [prompts, k]; empty answers score -inf."""
        shape = len(prompts), self.k
        attributes, scores = np.full((*shape, len(v)), np.nan), np.full(shape, -np.inf)
        said = np.array([[bool(text.strip()) for text in row] for row in responses], dtype=bool).reshape(shape)
        if not said.any():
            return attributes, scores
        where = np.argwhere(said)
        raw = np.asarray(
            self.reward([prompts[i] for i, _ in where], [responses[i][j] for i, j in where]), dtype=np.float64
        )
        if raw.shape != (len(where), len(v)):
            raise DataError(
                f"The reward gave shape {raw.shape} for {len(where)} responses and {len(v)} attributes "
                f"({', '.join(self.attributes)}); it must be [responses, attributes]."
            )
        n_bad = int((~np.isfinite(raw)).any(axis=1).sum())
        if n_bad:
            raise DataError(f"The reward is not finite for {n_bad} of {len(raw)} responses; repair it.")
        attributes[said] = raw
        scores[said] = (self.standardisation(raw) if self.standardisation else raw) @ v
        return attributes, scores
