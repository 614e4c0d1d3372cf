r"""Directional preference alignment: one policy that takes a direction of preference as an instruction.

A person's trade-off is a unit vector v over a few control axes (helpfulness, verbosity), written as integers into the
system message. Each round samples responses, keeps for each direction the one whose standardised axis scores a point
furthest along it, and fine-tunes the policy on (prompt, direction, response): preference-conditioned rejection
sampling.

Wang et al. 2024, "Arithmetic control of LLMs for diverse user preferences", ACL (`dpa`); selection:
$y^* = \arg\max_i v \cdot z(a(x, y_i))$, then supervised fine-tuning on $y^*$ under v. Ours: axis scores are
standardised once, on samples of the first policy, and frozen (otherwise the axis with the larger spread decides every
selection); a response that wins for every direction is kept once, or the policy learns to ignore the direction.

    method = RejectionSampling(axes=("helpfulness", "verbosity"), rounds=2)
    result = method.train(policy, reward, prompts, settings=TrainerSettings(steps=100), folder=folder)
    method.sample(policy, ["How do magnets work?"], direction=unit(angle(-20) + 0.5 * angle(10)))

>>> angle(-45).round(3).tolist()
[0.707, -0.707]
>>> direction_prompt(angle(-45), axes=("helpfulness", "verbosity"))
'Your response should maximize weighted rating = helpfulness*71 + verbosity*-71.'
"""

import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from penchant.align.recipe import TrainerSettings
from penchant.errors import DataError, SettingsError
from penchant.preference.measures import Standardisation
from penchant.records import canonical_json

Array = NDArray[np.float64]
Reward = Callable[[Sequence[str], Sequence[str]], ArrayLike]
Progress = Callable[[str], None]

TEMPLATE = "Your response should maximize weighted rating = {weights}."


def angle(degrees: float) -> Array:
    """The direction of two axes at an angle: 0 is the first axis alone, 90 the second, [2]."""
    radians = np.deg2rad(degrees)
    return np.array([np.cos(radians), np.sin(radians)])


def unit(vector: ArrayLike) -> Array:
    """A vector scaled to length 1; with it, directions can be added and interpolated.

    Args:
        vector: weights of the axes, [axes].

    Raises:
        SettingsError: it is zero or not finite.
    """
    v = np.asarray(vector, dtype=np.float64)
    length = np.linalg.norm(v)
    if v.ndim != 1 or not np.isfinite(length) or length == 0:
        raise SettingsError(f"A direction needs finite weights that are not all zero: got {v.tolist()}.")
    return np.asarray(v / length)


def checked_direction(direction: ArrayLike, n_axes: int) -> Array:
    """A direction as it is, if its length is 1 within 0.02 (integers in a prompt round it).

    Args:
        direction: weights of the axes, [axes].
        n_axes: how many axes there are.

    Raises:
        SettingsError: it is zero, not finite, of the wrong length or not a unit vector.
    """
    v = np.asarray(direction, dtype=np.float64)
    if v.shape != (n_axes,):
        raise SettingsError(f"A direction needs {n_axes} weights, one per axis: got {v.tolist()}.")
    normalised = unit(v)
    length = float(np.linalg.norm(v))
    if abs(length - 1) > 0.02:
        raise SettingsError(
            f"A direction has length 1, this one {length:.3g}: {v.tolist()}. `unit` would make it "
            f"{normalised.round(3).tolist()}."
        )
    return v


def direction_prompt(direction: ArrayLike, *, axes: Sequence[str], template: str = TEMPLATE) -> str:
    """The system message that asks for a direction; training and inference use the same integers.

    Args:
        direction: unit vector, [axes].
        axes: a name for each axis.
        template: text with `{weights}` in it.

    Raises:
        SettingsError: the direction is none, or the template has no place for the weights.
    """
    if "{weights}" not in template:
        raise SettingsError(f"The template needs `{{weights}}` where the integers go: {template!r}.")
    v = checked_direction(direction, len(axes))
    weights = (f"{name}*{round(100 * weight)}" for name, weight in zip(axes, v.tolist(), strict=True))
    return template.replace("{weights}", " + ".join(weights))


def winners(scores: Array, directions: Array, *, normalise: Literal["none", "cosine"] = "none") -> NDArray[np.int64]:
    """Which response points furthest along each direction.

    Args:
        scores: standardised axis scores of the responses to one prompt, [n, axes].
        directions: unit vectors, [j, axes].
        normalise: "none" is v . z, "cosine" is v . z / |z|, which does not reward length of z.

    Returns:
        Number of the winning response for each direction, the first of equals, int[j].

    >>> winners(np.array([[1.0, 0.0], [0.8, 0.9]]), np.stack([angle(-45), angle(0), angle(45)])).tolist()
    [0, 0, 1]
    """
    along = scores @ directions.T  # [n, j]
    if normalise == "cosine":
        length = np.linalg.norm(scores, axis=1, keepdims=True)
        along = along / np.where(length > 0, length, 1.0)
    return np.asarray(along.argmax(axis=0), dtype=np.int64)


@dataclass(frozen=True)
class RejectionResult:
    """What the rounds did.

    Attributes:
        table: one line per round and direction: `round, weights, n, scores` (mean axis scores of what was sampled,
            by axis; in the first round the shared pool) and `selected` (of what was kept).
        changed: per round, share of prompts whose winner changes with the direction; near 0 there is no control to
            learn.
        standardisation: of the axes.
        n_sampled: responses drawn in all.
        losses: training loss of each round.
        policy: folder of the final weights.
    """

    table: tuple[dict[str, Any], ...]
    changed: tuple[float, ...]
    standardisation: Standardisation
    n_sampled: int
    losses: tuple[float, ...]
    policy: Path


class RejectionSampling:
    """Preference-conditioned rejection sampling fine-tuning, in rounds.

    Args:
        axes: a name for each control axis; the names appear in the system message.
        combine: axes x attributes, what each axis is made of; empty takes the reward's columns as axes.
        rounds: of sampling and fine-tuning.
        n_samples: responses per pool, at least 2.
        n_directions: directions to train on: for two axes a fixed grid over the arc, else drawn from the half space
            where the first axis counts for something.
        directions_per_prompt: how many of them each prompt draws after the first round; empty is all. (In the first
            round, one pool is scored under all of them.)
        arc: least and greatest angle in degrees, for two axes.
        normalise: how a response is scored along a direction, see `winners`.
        keep: train each round on its own rows ("last") or on those of all rounds so far ("all").
        temperature: of sampling.
        max_new_tokens: longest response.
        template: of the system message, with `{weights}` in it.
        seed: of directions and sampling.
    """

    def __init__(
        self,
        *,
        axes: Sequence[str] = ("helpfulness", "verbosity"),
        combine: Sequence[Sequence[float]] | None = None,
        rounds: int = 2,
        n_samples: int = 8,
        n_directions: int = 6,
        directions_per_prompt: int | None = None,
        arc: tuple[float, float] = (-45.0, 45.0),
        normalise: Literal["none", "cosine"] = "none",
        keep: Literal["last", "all"] = "last",
        temperature: float = 0.7,
        max_new_tokens: int = 48,
        template: str = TEMPLATE,
        seed: int = 0,
    ):
        self.axes, self.combine, self.rounds, self.n_samples = tuple(axes), combine, rounds, n_samples
        self.n_directions, self.directions_per_prompt = n_directions, directions_per_prompt
        self.arc, self.normalise, self.keep = arc, normalise, keep
        self.temperature, self.max_new_tokens = temperature, max_new_tokens
        self.template, self.seed = template, seed
        if n_samples < 2:
            raise SettingsError(f"n_samples must be at least 2: with {n_samples!r} there is nothing to select.")
        per_prompt = n_directions if directions_per_prompt is None else directions_per_prompt
        if rounds < 1 or not 1 <= per_prompt <= n_directions or not axes:
            raise SettingsError(
                "At least one axis, round and direction are needed, and no more directions per prompt than there are: "
                f"got axes={axes!r}, rounds={rounds!r}, n_directions={n_directions!r}, "
                f"directions_per_prompt={directions_per_prompt!r}."
            )
        if not -180 <= arc[0] <= arc[1] <= 180:
            raise SettingsError(f"The arc goes from the least to the greatest angle in [-180, 180]: got {arc!r}.")
        direction_prompt(np.eye(len(axes))[0], axes=axes, template=template)

    def directions(self) -> Array:
        """The directions to train on, unit vectors [n_directions, axes]."""
        if len(self.axes) == 2:
            middle = [sum(self.arc) / 2]
            grid = np.linspace(*self.arc, self.n_directions) if self.n_directions > 1 else middle
            return np.stack([angle(degrees) for degrees in grid])
        drawn = np.random.default_rng([self.seed, 0]).standard_normal((self.n_directions, len(self.axes)))
        drawn[:, 0] = np.abs(drawn[:, 0])
        return np.stack([unit(v) for v in drawn])

    def prompt(self, direction: ArrayLike) -> str:
        """The system message that asks for a direction; warns outside what was trained.

        Args:
            direction: unit vector, [axes]; see `angle` and `unit`.

        Raises:
            SettingsError: it is no unit vector of the right length.
        """
        v = checked_direction(direction, len(self.axes))
        if len(self.axes) == 2:
            degrees = float(np.rad2deg(np.arctan2(v[1], v[0])))
            outside = not self.arc[0] - 1 <= degrees <= self.arc[1] + 1
            where = f"{degrees:.0f} degrees, trained were {self.arc[0]:g} to {self.arc[1]:g}"
        else:
            outside, where = bool(v[0] < -0.01), f"{self.axes[0]} has weight {v[0]:.2f}, trained were none below 0"
        if outside:
            warnings.warn(f"This direction is outside what was trained ({where}): expect anything.", stacklevel=2)
        return direction_prompt(v, axes=self.axes, template=self.template)

    def sample(
        self, policy: Any, prompts: Sequence[str], direction: ArrayLike, *, n: int = 1, seed: int = 0
    ) -> list[list[str]]:
        """Responses in a direction, [prompts][n].

        Args:
            policy: a trained policy.
            prompts: what to respond to.
            direction: unit vector, [axes].
            n: responses per prompt.
            seed: of sampling.
        """
        return self._draw(policy, prompts, n, self.prompt(direction), seed)

    def train(
        self,
        policy: Any,
        reward: Reward,
        prompts: Sequence[str],
        *,
        settings: TrainerSettings,
        folder: Path | str,
        progress: Progress = lambda line: None,
    ) -> RejectionResult:
        """Run all rounds and leave the policy trained; finished parts in the folder are not done again.

        Args:
            policy: with `sample(prompts, n, condition=a text or one per prompt)` and what `penchant.align.train` needs.
            reward: (prompts, responses) -> scores of the attributes, [n, attributes].
            prompts: to sample on, the same in every round.
            settings: of the fine-tuning in each round.
            folder: of samples, checkpoints and weights.
            progress: called with a line on what goes on.

        Raises:
            DataError: there are no prompts, a score is missing, or an axis is the same everywhere.
        """
        from penchant.align.supervised import Supervised
        from penchant.align.trainer import train  # the trainer loads transformers, directions need not

        if not len(prompts):
            raise DataError("There are no prompts to sample on: the list is empty.")
        folder = Path(folder)
        directions = self.directions()
        table: list[dict[str, Any]] = []
        kept: list[dict[str, Any]] = []
        changed, losses, n_sampled = [], [], 0
        for number in range(1, self.rounds + 1):
            place = folder / f"round-{number}"
            path = place / "samples.jsonl"
            if not path.exists():
                progress(f"round {number} of {self.rounds}: sampling")
                _write(path, self._pools(policy, reward, prompts, number, directions))
            pools = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
            n_sampled += sum(len(pool["responses"]) for pool in pools)
            if number == 1:
                standardise = Standardisation.of(np.concatenate([pool["scores"] for pool in pools]), self.axes)
            rows, share = self._select(pools, directions, standardise, number)
            table += _lines(number, pools, rows, directions)
            changed.append(share)
            progress(f"round {number} of {self.rounds}: {len(rows)} rows, winner changes for {share:.0%} of prompts")
            kept = [*kept, *rows] if self.keep == "all" else rows
            trained = train(Supervised(), policy, kept, settings=settings, folder=place / "training", progress=False)
            losses.append(trained.loss)
            weights = trained.policy
        return RejectionResult(tuple(table), tuple(changed), standardise, n_sampled, tuple(losses), weights)

    def _pools(
        self, policy: Any, reward: Reward, prompts: Sequence[str], number: int, directions: Array
    ) -> list[dict[str, Any]]:
        """Sampled and scored pools: {prompt, directions, responses, scores}; in round 1 without any direction text."""
        everything = list(range(len(directions)))
        conditions: list[str] | None = None
        asked = [(x, everything) for x in prompts]
        if number > 1:  # before that the policy has never seen a direction: one pool serves them all
            rng = np.random.default_rng([self.seed, number])
            per_prompt = self.directions_per_prompt or len(directions)
            asked = [(x, [j]) for x in prompts for j in rng.permutation(len(directions))[:per_prompt].tolist()]
            conditions = [self.prompt(directions[j]) for _, [j] in asked]
        seed = int(np.random.SeedSequence([self.seed, number]).generate_state(1)[0])
        some = [x for x, _ in asked]
        drawn = self._draw(policy, some, self.n_samples, conditions, seed)
        scores = self._axis_scores(reward, some, drawn)
        return [
            {"prompt": x, "directions": js, "responses": responses, "scores": each.tolist()}
            for (x, js), responses, each in zip(asked, drawn, scores, strict=True)
        ]

    def _draw(
        self, policy: Any, prompts: Sequence[str], n: int, condition: str | list[str] | None, seed: int
    ) -> list[list[str]]:
        drawn: list[list[str]] = policy.sample(
            list(prompts),
            n,
            condition=condition,
            temperature=self.temperature,
            max_new_tokens=self.max_new_tokens,
            seed=seed,
        )
        return drawn

    def _axis_scores(self, reward: Reward, prompts: Sequence[str], drawn: Sequence[Sequence[str]]) -> Array:
        """[prompts, n_samples, axes]."""
        flat = [(x, y) for x, responses in zip(prompts, drawn, strict=True) for y in responses]
        scores = np.asarray(reward([x for x, _ in flat], [y for _, y in flat]), dtype=np.float64)
        combine = np.eye(len(self.axes)) if self.combine is None else np.asarray(self.combine, dtype=np.float64)
        if combine.ndim != 2 or len(combine) != len(self.axes):
            raise SettingsError(f"`combine` has shape {combine.shape}; it needs a row for each of {list(self.axes)}.")
        if scores.shape != (len(flat), combine.shape[1]):
            raise DataError(
                f"The reward gave scores of shape {scores.shape} for {len(flat)} responses; "
                f"({len(flat)}, {combine.shape[1]}) is needed, one column per attribute."
            )
        missing = np.isnan(scores)
        if missing.any():
            never = np.flatnonzero(missing.all(axis=0)).tolist()
            raise DataError(
                f"The reward gave NaN for {int(missing.any(axis=1).sum())} of {len(flat)} responses"
                + (f"; attributes {never} were never scored" if never else "")
                + ". Every sampled response needs every attribute."
            )
        return np.asarray(scores @ combine.T).reshape(len(prompts), -1, len(self.axes))

    def _select(
        self, pools: Sequence[Mapping[str, Any]], directions: Array, standardise: Standardisation, number: int
    ) -> tuple[list[dict[str, Any]], float]:
        """Training rows, and the share of prompts whose winner changes with the direction."""
        rng = np.random.default_rng([self.seed, number, 1])
        rows: list[dict[str, Any]] = []
        n_changed, n_compared = 0, 0
        texts = [direction_prompt(v, axes=self.axes, template=self.template) for v in directions]
        for pool in pools:
            scores = np.asarray(pool["scores"])
            asked = pool["directions"]
            z = standardise(scores)
            best = winners(z, directions[asked], normalise=self.normalise)
            # Pools of one direction say what would have won for the others too, without being trained on that.
            everywhere = winners(z, directions, normalise=self.normalise)
            n_compared += 1
            n_changed += len({pool["responses"][k] for k in everywhere}) > 1
            if len(asked) > 1 and len({pool["responses"][k] for k in best}) == 1:
                only = int(rng.integers(len(asked)))
                asked, best = [asked[only]], best[[only]]
            rows += [
                {
                    "prompt": pool["prompt"],
                    "response": pool["responses"][k],
                    "condition": texts[j],
                    "direction": j,
                    "scores": scores[k].tolist(),
                }
                for j, k in zip(asked, best.tolist(), strict=True)
            ]
        return rows, n_changed / n_compared


def _lines(
    number: int, pools: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]], directions: Array
) -> list[dict[str, Any]]:
    lines = []
    for j, v in enumerate(directions):
        sampled = [pool["scores"] for pool in pools if j in pool["directions"]]
        selected = [row["scores"] for row in rows if row["direction"] == j]
        if sampled and selected:
            lines.append(
                {
                    "round": number,
                    "weights": [round(100 * weight) for weight in v.tolist()],
                    "n": len(selected),
                    "scores": np.concatenate(sampled).mean(axis=0).tolist(),
                    "selected": np.mean(selected, axis=0).tolist(),
                }
            )
    return lines


def _write(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """A file that is there whole or not at all, so that a killed run never goes on from half a pool."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text("".join(canonical_json(row) + "\n" for row in rows), encoding="utf-8")
    partial.replace(path)
