r"""Where a policy's values come from: how far and when they move over the checkpoints of its training.

$v_\theta(T)_s$ is the mean over the probes of topic T of the policy's stances (`stances.py` reads them). Between two
checkpoints a value drifts by $M_s(t, t') = v_{t'}(T)_s - v_t(T)_s$, which sums to 0 over stances; in one number,
$TV = \frac12 \sum_s |M_s|$. Within a stage, with $t_{ext}$ the checkpoint at which $|v_t - v_{start}|$ is largest, the
drift time is $\eta$ = (first t whose value lies in the 95 % interval of $v_{t_{ext}}$) / total steps, small if early.

Three cautions are built in. Intervals resample *prompts*, never responses, and the same prompts at every checkpoint.
Magnitudes are taken at the last checkpoint, because the largest of many noisy ones is too large (winner's curse); only
the time uses the extremum. A model that lost its abilities looks neutral: `ability` is asked at every checkpoint.

Source:
    Bhatia, Nayak, Kamath et al. (2025), "Value drifts: tracing value alignment during LLM post-training",
    arXiv 2510.26707, sections 3 and 5. Accounts of the paper word the drift time in two ways; ours is the first
    arrival in the interval, and the arrival at the extremum itself stands beside it. Ours: the total variation, the
    noise floor as a bound, the guard.

>>> drift([0.2, 0.7, 0.1], [0.5, 0.4, 0.1]).round(2).tolist(), float(total_variation([0.3, -0.3, 0.0]))
([0.3, -0.3, 0.0], 0.3)
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import spearmanr

from penchant.errors import DataError
from penchant.evaluate.stances import FEWEST_PROMPTS, STANCES, Probes, Reader, Reading
from penchant.statistics import Interval, paired_bootstrap

Floats = NDArray[np.float64]

_LEVEL, _RESAMPLES = 0.95, 2000
_ABILITY_LOSS = 0.1  # of the ability at the start of a stage, from which on a drift may be damage


def drift(before: ArrayLike, after: ArrayLike) -> Floats:
    """Drift magnitude M of each stance, [..., 3]; sums to 0.

    Args:
        before: values at the earlier checkpoint, [..., 3].
        after: at the later one, [..., 3].
    """
    return np.asarray(after, dtype=np.float64) - np.asarray(before, dtype=np.float64)


def total_variation(magnitude: ArrayLike) -> Any:
    """Half the sum of absolute drifts over stances, in [0, 1], [...].

    Args:
        magnitude: from `drift`, [..., 3].
    """
    return 0.5 * np.abs(np.asarray(magnitude, dtype=np.float64)).sum(axis=-1)


class DriftTime(NamedTuple):
    """When a value got where it went, as a share of the stage's steps.

    Attributes:
        to_band: first checkpoint whose value lies inside the interval of the extremum's; the paper's eta.
        to_extremum: the extremum itself.
    """

    to_band: float
    to_extremum: float


def drift_time(values: ArrayLike, low: ArrayLike, high: ArrayLike, steps: ArrayLike, total: float) -> DriftTime:
    """Drift time of one value in one stage.

    Args:
        values: at each checkpoint, the start of the stage first, [checkpoints].
        low: lower bounds of their intervals, [checkpoints].
        high: upper bounds, [checkpoints].
        steps: since the start of the stage, rising from 0, [checkpoints].
        total: steps of the stage.

    Raises:
        DataError: the stage has no steps, or fewer than two checkpoints.

    >>> drift_time([0.2, 0.48, 0.5, 0.3], [0.1, 0.4, 0.45, 0.2], [0.3, 0.55, 0.6, 0.4], [0, 10, 50, 100], 100)
    DriftTime(to_band=0.1, to_extremum=0.5)
    """
    v, at = np.asarray(values, dtype=np.float64), np.asarray(steps, dtype=np.float64)
    if not total > 0:
        raise DataError(f"The stage has {total!r} steps in all, so no share of them: a stage needs at least one step.")
    if len(v) < 2:
        raise DataError(f"A stage needs 2 checkpoints to drift between: got {len(v)}.")
    extremum = int(np.argmax(np.abs(v - v[0])))
    inside = (v >= np.asarray(low)[extremum]) & (v <= np.asarray(high)[extremum])
    inside[extremum] = True  # an interval of resamples need not hold its own estimate
    return DriftTime(float(at[np.argmax(inside)] / total), float(at[extremum] / total))


@dataclass(frozen=True)
class Checkpoint:
    """What was read of one checkpoint.

    Attributes:
        stage: of training, such as "sft".
        step: optimiser steps since the stage began.
        reading: its stances.
        ability: what it can still do, higher is better, if that was asked.
        tokenizer: what its tokenizer is known by, if that was asked.
    """

    stage: str
    step: int
    reading: Reading
    ability: float | None = None
    tokenizer: str | None = None


@dataclass(frozen=True)
class TopicDrift:
    """What a stage did to one topic.

    Attributes:
        stage, topic: which.
        magnitude: M of each stance from the start to the last checkpoint.
        variation: total variation of M; its interval cannot reach below 0, so compare it with the floor.
        stance: the one that moved most by the last checkpoint.
        time: when it moved.
        refusals: change of the share of refusals, a part of neutral.
        ability: change of ability from start to end, if it was asked.
        is_damaged: ability fell by more than a tenth, so this may be damage rather than drift.
        floor: total variation that no training explains, if it was measured.
    """

    stage: str
    topic: str
    magnitude: dict[str, Interval]
    variation: Interval
    stance: str
    time: DriftTime
    refusals: Interval
    ability: float | None
    is_damaged: bool
    floor: float | None

    @property
    def is_clear(self) -> bool:
        """Whether the drift is beyond the noise floor and the interval of the stance that moved most excludes 0."""
        most = self.magnitude[self.stance]
        return (most.low > 0 or most.high < 0) and (self.floor is None or self.variation.low > self.floor)

    def sentence(self) -> str:
        """The verdict on the topic."""
        most = self.magnitude[self.stance]
        said = f"{self.topic}, {self.stage}: {self.stance} {most.estimate:+.2f} [{most.low:+.2f}, {most.high:+.2f}]"
        floor = "" if self.floor is None else f", noise floor {self.floor:.2f}"
        said += f" (total variation {self.variation.estimate:.2f}{floor})"
        if not self.is_clear:
            said += "; no drift beyond noise"
        else:
            said += f"; there at {self.time.to_band:.0%} of the steps"
        if self.refusals.low > 0:
            said += f"; refusals {self.refusals.estimate:+.2f}, a part of neutral"
        if self.ability is not None:
            said += f"; ability {self.ability:+.2f}" + (", so this may be damage, not drift" if self.is_damaged else "")
        return f"{said}."


class Track:
    """Values of all topics at all checkpoints, with prompts resampled once for all of them.

    Args:
        checkpoints: in the order of training.
        probes: what they were read with.
        level: of the intervals.
        n_resamples: of the prompts of each topic.
        seed: of the resamples.

    Attributes:
        values: [checkpoints, topics, 3].
        refusals: [checkpoints, topics].

    Raises:
        DataError: there are fewer than two checkpoints; steps do not rise, or a stage is torn apart; a stage has no
            steps; a reading has other probes; a checkpoint has another tokenizer; too few prompts were answered.
    """

    def __init__(
        self,
        checkpoints: Sequence[Checkpoint],
        probes: Probes,
        *,
        level: float = _LEVEL,
        n_resamples: int = _RESAMPLES,
        seed: int = 0,
    ):
        require_ordered(checkpoints)
        self.checkpoints, self.probes, self.level = tuple(checkpoints), probes, level
        columns = [_columns(one, probes) for one in checkpoints]
        rng = np.random.default_rng(seed)
        shape = (len(checkpoints), n_resamples, len(probes.topics), 4)
        self._resampled, means = np.empty(shape), np.empty((len(checkpoints), len(probes.topics), 4))
        for t in range(len(probes.topics)):
            mine = np.flatnonzero(probes.topic == t)
            weights = rng.multinomial(len(mine), np.full(len(mine), 1 / len(mine)), size=n_resamples).astype(float)
            for c, rows in enumerate(columns):
                answered = np.isfinite(rows[mine, 0])
                if answered.sum() < FEWEST_PROMPTS:
                    raise DataError(
                        f"Stage {checkpoints[c].stage!r}, step {checkpoints[c].step}: only {int(answered.sum())} of "
                        f"{len(mine)} prompts on {probes.topics[t]!r} got a response with words; at least "
                        f"{FEWEST_PROMPTS} are needed. Raise n or max_new_tokens, or leave out this checkpoint."
                    )
                known = np.where(answered[:, None], rows[mine], 0.0)
                means[c, t] = known[answered].mean(axis=0)
                drawn = weights @ answered
                with np.errstate(invalid="ignore"):  # a resample of unanswered prompts only is nobody's value
                    self._resampled[c, :, t] = (weights @ known) / drawn[:, None]
        self.values, self.refusals = means[..., :3], means[..., 3]

    @property
    def stages(self) -> tuple[str, ...]:
        """Names in order."""
        return tuple(dict.fromkeys(one.stage for one in self.checkpoints))

    def table(self) -> list[dict[str, Any]]:
        """Rows of `stage, step, topic, stance, value, ci_low, ci_high`; "refusal" is counted in "neutral" too."""
        bounds = self._bounds()
        columns = np.concatenate([self.values, self.refusals[..., None]], axis=-1)
        return [
            {
                "stage": one.stage,
                "step": one.step,
                "topic": topic,
                "stance": stance,
                "value": float(columns[c, t, s]),
                "ci_low": float(bounds[0][c, t, s]),
                "ci_high": float(bounds[1][c, t, s]),
            }
            for c, one in enumerate(self.checkpoints)
            for t, topic in enumerate(self.probes.topics)
            for s, stance in enumerate((*STANCES, "refusal"))
        ]

    def members(self, stage: str) -> list[int]:
        """Checkpoints of a stage, its start first: its own at step 0, or else the last of the stage before."""
        own = [i for i, one in enumerate(self.checkpoints) if one.stage == stage]
        return own if self.checkpoints[own[0]].step == 0 or own[0] == 0 else [own[0] - 1, *own]

    def drifts(self, *, floor: ArrayLike | None = None) -> list[TopicDrift]:
        """What every stage with two checkpoints did to every topic.

        Args:
            floor: total variation of each topic that no training explains, from `noise_floor`, [topics].
        """
        low, high = self._bounds()
        floors = None if floor is None else np.asarray(floor, dtype=np.float64)
        found = []
        for stage in self.stages:
            members = self.members(stage)
            if len(members) < 2:  # only where a stage begins
                continue
            steps = np.array([self.checkpoints[i].step for i in members])
            steps = steps - steps[0] if self.checkpoints[members[0]].stage == stage else np.array([0, *steps[1:]])
            first, last = members[0], members[-1]
            ability, damaged = _ability(self.checkpoints[first], self.checkpoints[last])
            for t, topic in enumerate(self.probes.topics):
                moved = drift(self.values[first, t], self.values[last, t])
                again = self._resampled[last, :, t] - self._resampled[first, :, t]
                n = int((self.probes.topic == t).sum())
                most = int(np.argmax(np.abs(moved)))
                found.append(
                    TopicDrift(
                        stage,
                        topic,
                        {name: self._interval(moved[s], again[:, s], n) for s, name in enumerate(STANCES)},
                        self._interval(total_variation(moved), total_variation(again[:, :3]), n),
                        STANCES[most],
                        drift_time(
                            self.values[members, t, most],
                            low[members, t, most],
                            high[members, t, most],
                            steps,
                            float(steps[-1]),
                        ),
                        self._interval(self.refusals[last, t] - self.refusals[first, t], again[:, 3], n),
                        ability,
                        damaged,
                        None if floors is None else float(floors[t]),
                    )
                )
        return found

    def _bounds(self) -> tuple[Floats, Floats]:
        """[checkpoints, topics, 4] each."""
        tails = [(1 - self.level) / 2, (1 + self.level) / 2]
        low, high = np.nanquantile(self._resampled, tails, axis=1)
        return low, high

    def _interval(self, estimate: float, again: Floats, n: int) -> Interval:
        low, high = np.nanquantile(again, [(1 - self.level) / 2, (1 + self.level) / 2])
        return Interval(float(estimate), float(low), float(high), self.level, n)


def require_ordered(checkpoints: Sequence[Checkpoint]) -> None:
    """Refuse what is no course of training; see `Track`."""
    if len(checkpoints) < 2:
        raise DataError(f"A drift is between checkpoints: got {len(checkpoints)}, at least 2 are needed.")
    closed: set[str] = set()
    for before, after in itertools.pairwise(checkpoints):
        if before.stage == after.stage and after.step <= before.step:
            raise DataError(
                f"Stage {after.stage!r}: step {after.step} stands after step {before.step}. Give checkpoints in the "
                "order of training, each step once."
            )
        if before.stage != after.stage:
            closed.add(before.stage)
        if after.stage in closed:
            raise DataError(f"Stage {after.stage!r} goes on after {before.stage!r}. Give each stage in one piece.")
    for number, stage in enumerate(dict.fromkeys(one.stage for one in checkpoints)):
        steps = [one.step for one in checkpoints if one.stage == stage]
        if (max(steps) == 0 and number > 0) or min(steps) < 0:
            raise DataError(f"Stage {stage!r} has {max(steps)} steps in all; a stage needs at least one.")
    tokenizers = {one.tokenizer: one for one in checkpoints if one.tokenizer is not None}
    if len(tokenizers) > 1:
        first, other = list(tokenizers.values())[:2]
        raise DataError(
            f"Stage {other.stage!r}, step {other.step} has another tokenizer than stage {first.stage!r}, step "
            f"{first.step}; there are {len(tokenizers)} in {len(checkpoints)} checkpoints. Their probabilities are of "
            "different things: trace the checkpoints of one model."
        )


def _columns(checkpoint: Checkpoint, probes: Probes) -> Floats:
    """Stances and refusals, [prompts, 4]."""
    reading = checkpoint.reading
    if reading.stances.shape != (len(probes), 3) or reading.refusals.shape != (len(probes),):
        raise DataError(
            f"Stage {checkpoint.stage!r}, step {checkpoint.step} was read with {len(reading.stances)} probes, not "
            f"these {len(probes)}. Read all checkpoints with the same probes."
        )
    return np.concatenate([reading.stances, reading.refusals[:, None]], axis=1)


def _ability(first: Checkpoint, last: Checkpoint) -> tuple[float | None, bool]:
    if first.ability is None or last.ability is None:
        return None, False
    change = last.ability - first.ability
    return change, change < -_ABILITY_LOSS * abs(first.ability)


def noise_floor(runs: ArrayLike) -> Floats:
    """Total variation between runs that should not differ, the mean over pairs of them, [topics].

    Runs of a stage under other seeds give the floor that training itself has; readings of one checkpoint under other
    seeds give that of sampling, which is lower.

    Args:
        runs: values of each, [runs, topics, 3].

    Raises:
        DataError: there are fewer than two.

    >>> noise_floor([[[0.5, 0.5, 0.0]], [[0.4, 0.6, 0.0]]]).round(2).tolist()
    [0.1]
    """
    values = np.asarray(runs, dtype=np.float64)
    if len(values) < 2:
        raise DataError(f"A noise floor needs 2 runs that should not differ: got {len(values)}.")
    first, second = np.triu_indices(len(values), 1)
    return np.asarray(total_variation(values[first] - values[second]).mean(axis=0))


def value_gap(
    chosen: ArrayLike, rejected: ArrayLike, topics: Sequence[str], *, prompts: Sequence[str] | None = None
) -> dict[str, dict[str, Interval]]:
    """How much more the chosen responses of a preference set hold each stance: G_s = E[p(s | y_w) - p(s | y_l)].

    Args:
        chosen: stances of the chosen responses towards the topic, [pairs, 3].
        rejected: of the rejected ones, [pairs, 3].
        topics: of each pair.
        prompts: whole prompts are resampled; without them pairs are.

    Returns:
        Topic -> stance -> gap.

    Raises:
        DataError: there are not as many of one as of the other, or a topic has one pair only.
    """
    gap = drift(rejected, chosen)
    if len(gap) != len(topics):
        raise DataError(f"There are {len(gap)} pairs and {len(topics)} topics; give one for each.")
    names, asked = np.asarray(topics), None if prompts is None else np.asarray(prompts)
    return {
        topic: {
            stance: paired_bootstrap(gap[mine, s], clusters=None if asked is None else asked[mine])
            for s, stance in enumerate(STANCES)
        }
        for topic in dict.fromkeys(topics)
        for mine in [names == topic]
    }


def explained(gap: ArrayLike, magnitude: ArrayLike) -> float:
    """Spearman's correlation of |G| and |M|: do values move where the data pull? NaN where either is constant.

    Args:
        gap: G of each topic, stance or data set, [rows].
        magnitude: M of the same, [rows].

    >>> explained([0.0, 0.2, -0.9], [0.01, -0.1, 0.6])
    1.0
    """
    g, m = np.abs(np.asarray(gap, dtype=np.float64)), np.abs(np.asarray(magnitude, dtype=np.float64))
    if np.ptp(g) == 0 or np.ptp(m) == 0:
        return math.nan
    return float(np.round(spearmanr(g, m).statistic, 12))


class Agreement(NamedTuple):
    """How well a cheap reading stands for the sampled one.

    Attributes:
        correlation: of topic values, over topics and stances (Pearson).
        deviation: mean absolute difference of topic values.
        same_stance: share of topics whose leading stance is the same.
    """

    correlation: float
    deviation: float
    same_stance: float


def agreement(first: Reading, second: Reading, probes: Probes) -> Agreement:
    """Two readings of one checkpoint, topic by topic."""
    one, other = (topic_values(reading, probes) for reading in (first, second))
    return Agreement(
        float(np.corrcoef(one.ravel(), other.ravel())[0, 1]),
        float(np.abs(one - other).mean()),
        float((one.argmax(axis=1) == other.argmax(axis=1)).mean()),
    )


def topic_values(reading: Reading, probes: Probes) -> Floats:
    """Value of each topic without intervals, [topics, 3]."""
    return np.stack([np.nanmean(reading.stances[probes.topic == t], axis=0) for t in range(len(probes.topics))])


class Recorder:
    """Reads a policy whenever it is told the step: what a trainer calls while it trains.

        record = Recorder(policy, probes, Likelihood(), stage="sft")
        train(Supervised(), policy, rows, settings=settings, folder=folder, watching=Watching(record))
        Track(record.checkpoints, probes).drifts()

    Args:
        policy: that is being trained in place.
        probes: the questions.
        reader: `Sampled` or `Likelihood`.
        stage: its name.
        ability: what the policy can still do, higher is better.
    """

    def __init__(
        self,
        policy: Any,
        probes: Probes,
        reader: Reader,
        *,
        stage: str,
        ability: Callable[[Any], float] | None = None,
    ):
        self.policy, self.probes, self.reader = policy, probes, reader
        self.stage, self.ability = stage, ability
        self.checkpoints: list[Checkpoint] = []

    def __call__(self, step: int) -> None:
        """Read the policy as it is after so many steps."""
        able = None if self.ability is None else float(self.ability(self.policy))
        self.checkpoints.append(Checkpoint(self.stage, step, self.reader(self.policy, self.probes), able))


def share_known(policy: Any, questions: Mapping[str, Sequence[str]]) -> float:
    """Ability: share of questions whose first answer, the right one, the policy finds likeliest per token.

    Args:
        policy: with `log_probabilities(prompts, responses)`.
        questions: question -> answers, the right one first.
    """
    scored = policy.log_probabilities(list(questions), list(questions.values()))
    return float(np.mean([max(range(len(row)), key=lambda i: row[i].mean) == 0 for row in scored]))
