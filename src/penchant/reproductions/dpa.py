"""Directional preference alignment: does one policy that takes a direction give a better trade-off than one scalar?

World: a prompt is 4 topic words out of 24; a response is up to 20 words, topic words or filler. Axis 1,
helpful = topic words covered - 0.25 x words off the topic (filler included) - 0.15 x repeats of covered words; axis 2,
verbose = length in words. They agree until all topics are covered and conflict from there on. A ridge regression on bag
features, fitted to 3,000 noisy ratings with 40 % missing cells, is the reward model of all arms; the verdict is on the
true axes, over prompts nobody trained on.

Arms, all from the same pi_0 (2-layer transformer, d = 64, imitating a rambling demonstrator) with the same number of
sampled responses per prompt, rounds and optimiser steps: DPA; scalar rejection sampling at 0 degrees; iterative DPO at
0 degrees (best against worst of each pool); supervised fine-tuning conditioned on the absolute scores of each sample,
asked for the mean scores of each direction's winners (SteerLM-style).

Settings were chosen on seeds 1000 and above, never on those reported. Left out: a real language model.

Source:
    Wang et al. (2024), Arithmetic Control of LLMs for Diverse User Preferences, ACL.

>>> hypervolume([[1.0, 3.0], [2.0, 1.0], [0.5, 0.5]], reference=[0.0, 0.0])
4.0
"""

import contextlib
import copy
import dataclasses
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import spearmanr

from penchant.align.recipe import TrainerSettings
from penchant.align.rejection_sampling import RejectionSampling, angle, winners
from penchant.preference.measures import Standardisation
from penchant.reproductions.verdict import Verdict
from penchant.reproductions.word_policy import WordPolicy
from penchant.statistics import paired_bootstrap

CLAIM = (
    "One policy conditioned on a direction spans a larger trade-off front than scalar rejection sampling, DPO and "
    "target-conditioned fine-tuning at equal samples, and its length follows the direction."
)
METRIC = "hypervolume of mean true scores, in pi_0's standard deviations, above pi_0's mean - 1 sd"
SEEDS = {"quick": 2, "full": 8}

Array = NDArray[np.float64]
N_ASKED, LONGEST = 4, 20
TOPIC_WORDS, FILLERS = [f"t{i}" for i in range(24)], [f"f{i}" for i in range(6)]
ANGLES = np.linspace(-45.0, 45.0, 9)
AXES = ("helpful", "verbose")


@dataclass(frozen=True)
class Scale:
    """How much of everything.

    Attributes:
        n_prompts: prompts to sample on.
        n_held_out: prompts to evaluate on.
        rounds: of sampling and fine-tuning.
        n_samples: responses per prompt and round.
        steps: optimiser steps per round.
        first_steps: optimiser steps of pi_0.
    """

    n_prompts: int
    n_held_out: int
    rounds: int
    n_samples: int
    steps: int
    first_steps: int


SCALES = {
    "tiny": Scale(n_prompts=8, n_held_out=4, rounds=2, n_samples=4, steps=2, first_steps=5),
    "quick": Scale(n_prompts=96, n_held_out=48, rounds=2, n_samples=12, steps=25, first_steps=100),
    "full": Scale(n_prompts=80, n_held_out=64, rounds=4, n_samples=16, steps=32, first_steps=200),
}


class World:
    """Prompts, a rambling demonstrator, true axes and a reward model that has seen noisy ratings only.

    Args:
        seed: everything is drawn from it.
    """

    def __init__(self, seed: int):
        self.rng = np.random.default_rng(seed)
        self.weights = self._reward_model(3000, missing=0.4, noise=0.5)

    def prompts(self, n: int) -> list[str]:
        """Topic words to cover."""
        return [" ".join(self.rng.choice(TOPIC_WORDS, N_ASKED, replace=False)) for _ in range(n)]

    def demonstration(self, prompt: str) -> str:
        """What somebody who rambles would answer: on topic about half of the time, of any length."""
        length = min(LONGEST, 1 + int(self.rng.geometric(0.14)))
        sources = (prompt.split(), TOPIC_WORDS, FILLERS)
        kinds = np.searchsorted([0.5, 0.65], self.rng.random(length))  # half on the topic, a third filler
        picks = self.rng.random(length)
        return " ".join(
            sources[k][int(pick * len(sources[k]))] for k, pick in zip(kinds.tolist(), picks.tolist(), strict=True)
        )

    def _reward_model(self, n: int, *, missing: float, noise: float) -> Array:
        """Ridge weights of each axis on bag features, from the cells that were rated, [axes, features]."""
        prompts = self.prompts(n)
        responses = [self.demonstration(prompt) for prompt in prompts]
        x = bag(prompts, responses)
        scores = true_axes(prompts, responses)
        scores = scores + noise * scores.std(axis=0) * self.rng.standard_normal(scores.shape)
        seen = self.rng.random(scores.shape) >= missing
        ridge = np.eye(x.shape[1])
        return np.stack(
            [np.linalg.solve(x[m].T @ x[m] + ridge, x[m].T @ s[m]) for s, m in zip(scores.T, seen.T, strict=True)]
        )

    def reward(self, prompts: Sequence[str], responses: Sequence[str]) -> Array:
        """Scores of the reward model, [n, axes]."""
        return np.asarray(bag(prompts, responses) @ self.weights.T)


def true_axes(prompts: Sequence[str], responses: Sequence[str]) -> Array:
    """Helpful and verbose of each response, [n, 2].

    >>> true_axes(["t1 t2 t3 t4"], ["t1 t2 t1 f0"]).tolist()
    [[1.6, 4.0]]
    """
    out = np.empty((len(prompts), 2))
    for row, (prompt, response) in enumerate(zip(prompts, responses, strict=True)):
        words, asked = response.split(), set(prompt.split())
        on_topic = [word for word in words if word in asked]
        covered = len(set(on_topic))
        off = len(words) - len(on_topic)
        out[row] = covered - 0.25 * off - 0.15 * (len(on_topic) - covered), len(words)
    return out


def bag(prompts: Sequence[str], responses: Sequence[str]) -> Array:
    """What the reward model sees: 1, words, distinct words, words on the topic, distinct ones, fillers, [n, 6]."""
    out = np.ones((len(prompts), 6))
    for row, (prompt, response) in enumerate(zip(prompts, responses, strict=True)):
        words, asked = response.split(), set(prompt.split())
        on_topic = [word for word in words if word in asked]
        fillers = sum(word.startswith("f") for word in words)
        out[row, 1:] = len(words), len(set(words)), len(on_topic), len(set(on_topic)), fillers
    return out


class Conditioned(WordPolicy):
    """A policy over the words of the world that may be told a condition; every word of that is one token.

    Args:
        seed: of its initial weights.
        conditions: texts it can be asked with.
    """

    def __init__(self, seed: int, conditions: Sequence[str] = ()):
        told = sorted({word for condition in conditions for word in condition.split()})
        words = ["<start>", "<answer>", *TOPIC_WORDS, *FILLERS, *told]
        super().__init__({word: number for number, word in enumerate(words, start=2)}, seed)
        self._of_answers = {*TOPIC_WORDS, *FILLERS}

    def encode(self, prompt: str, responses: Sequence[str], *, condition: str | None = None, form: str = "text") -> Any:
        """Words as token ids; every response ends with the end token."""
        return super().encode(_asked(prompt, condition), responses)

    def sample(
        self,
        prompts: Sequence[str],
        n: int = 1,
        *,
        condition: str | Sequence[str | None] | None = None,
        temperature: float = 1.0,
        max_new_tokens: int = LONGEST,
        seed: int = 0,
    ) -> list[list[str]]:
        """Responses to each prompt, without words that belong to prompts."""
        conditions = [condition] * len(prompts) if condition is None or isinstance(condition, str) else condition
        drawn = super().sample(
            [_asked(*one) for one in zip(prompts, conditions, strict=True)],
            n,
            temperature=temperature,
            max_new_tokens=max_new_tokens,
            seed=seed,
        )
        return [
            [" ".join(word for word in text.split() if word in self._of_answers) for text in some] for some in drawn
        ]

    def copy(self) -> "Conditioned":
        """The same policy with weights of its own."""
        return copy.deepcopy(self)


def _asked(prompt: str, condition: str | None) -> str:
    return " ".join(["<start>", *(condition or "").split(), *prompt.split(), "<answer>"])


def hypervolume(points: ArrayLike, *, reference: ArrayLike) -> float:
    """Area that points in the plane dominate above a reference point (both axes: more is better).

    Args:
        points: [n, 2].
        reference: [2].
    """
    above = np.asarray(points, dtype=np.float64) - np.asarray(reference, dtype=np.float64)
    above = above[(above > 0).all(axis=1)]
    area, height = 0.0, 0.0
    for x, y in above[np.argsort(-above[:, 0])]:  # from the right: each point adds what rises above those before
        area += x * max(0.0, y - height)
        height = max(height, y)
    return float(area)


def run(seed: int, scale: str, progress: Callable[[str], None]) -> dict[str, Any]:
    """All arms in one world.

    Args:
        seed: of the world, the weights and all sampling.
        scale: a key of `SCALES`.
        progress: called with a line on what goes on.

    Returns:
        `fronts` (mean true scores of each arm, [points][axes]), `hypervolume` of each arm, `spearman` of the angle and
        DPA's mean length, `gain` (mean of v . (z_policy - z_pi0) per angle), `changed` and `table` of DPA's rounds,
        `first` (mean and sd of pi_0).
    """
    with _one_thread():
        return _run(seed, SCALES[scale], progress)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """For a network this small a second thread costs more than it brings, most of all beside other work."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _run(seed: int, size: Scale, progress: Callable[[str], None]) -> dict[str, Any]:
    world = World(seed)
    prompts, held_out = world.prompts(size.n_prompts), world.prompts(size.n_held_out)
    method = _method(size, ANGLES, seed)
    targets = [f"helpful={h} verbose={v}" for h in range(-5, 5) for v in range(LONGEST + 1)]
    settings = TrainerSettings(
        steps=size.steps, examples_per_batch=32, learning_rate=2e-3, schedule="constant", warmup=0.0, log_steps=50
    )
    with tempfile.TemporaryDirectory() as folder:
        arms = _Arms(world, size, settings, prompts, Path(folder), seed)
        progress("fitting pi_0")
        first = arms.first(Conditioned(seed, [*(method.prompt(angle(a)) for a in ANGLES), *targets]))
        measured = _mean_and_sd(first, held_out, seed)
        progress("DPA")
        dpa, result = arms.dpa(first.copy(), method)
        progress("scalar rejection sampling")
        scalar, asked = arms.scalar(first.copy())
        progress("DPO")
        dpo = arms.dpo(first.copy())
        progress("target-conditioned fine-tuning")
        steerlm, wanted = arms.targets(first.copy())
        fronts = {
            "pi_0": _front(first, held_out, [None], seed),
            "dpa": _front(dpa, held_out, [method.prompt(angle(a)) for a in ANGLES], seed),
            "scalar": _front(scalar, held_out, [asked], seed),
            "dpo": _front(dpo, held_out, [None], seed),
            "targets": _front(steerlm, held_out, wanted, seed),
        }
    mean, sd = measured
    standardised = {arm: (front - mean) / sd for arm, front in fronts.items()}
    directions = np.stack([angle(a) for a in ANGLES])
    return {
        "fronts": {arm: front.tolist() for arm, front in fronts.items()},
        "hypervolume": {arm: hypervolume(front, reference=[-1.0, -1.0]) for arm, front in standardised.items()},
        "spearman": float(spearmanr(ANGLES, fronts["dpa"][:, 1]).statistic),
        "gain": (standardised["dpa"] * directions).sum(axis=1).tolist(),
        "changed": list(result.changed),
        "table": list(result.table),
        "samples_per_prompt": size.rounds * size.n_samples,
        "first": {"mean": mean.tolist(), "sd": sd.tolist()},
    }


def _method(size: Scale, angles: Array, seed: int) -> RejectionSampling:
    return RejectionSampling(
        axes=AXES,
        rounds=size.rounds,
        n_samples=size.n_samples,
        n_directions=len(angles),
        directions_per_prompt=1,
        arc=(float(angles[0]), float(angles[-1])),
        temperature=1.0,
        max_new_tokens=LONGEST,
        template="{weights}",
        seed=seed,
    )


@dataclass
class _Arms:
    """The arms, each of which draws `rounds * n_samples` responses per prompt and takes `rounds * steps` steps."""

    world: World
    size: Scale
    settings: TrainerSettings
    prompts: list[str]
    folder: Path
    seed: int

    def first(self, policy: Conditioned) -> Conditioned:
        """pi_0: imitates the demonstrator, and has never seen a condition."""
        prompts = self.world.prompts(2000)
        rows = [{"prompt": x, "response": self.world.demonstration(x)} for x in prompts]
        self._imitate(policy, rows, "first", self.size.first_steps)
        return policy

    def dpa(self, policy: Conditioned, method: RejectionSampling) -> tuple[Conditioned, Any]:
        """The paper's method."""
        result = method.train(
            policy, self.world.reward, self.prompts, settings=self.settings, folder=self.folder / "dpa"
        )
        return policy, result

    def scalar(self, policy: Conditioned) -> tuple[Conditioned, str]:
        """The same with the one direction 0, always asked with the same words."""
        method = _method(self.size, np.zeros(1), self.seed)
        method.train(policy, self.world.reward, self.prompts, settings=self.settings, folder=self.folder / "scalar")
        return policy, method.prompt(angle(0))

    def dpo(self, policy: Conditioned) -> Conditioned:
        """Best against worst of each pool along direction 0; every round starts from, and refers to, the last."""
        from penchant.align.dpo import DPO
        from penchant.align.trainer import train
        from penchant.records import Comparisons

        # At the others' learning rate DPO collapses to answers of one word; of five settings this was its best.
        settings = dataclasses.replace(self.settings, learning_rate=1e-4)
        standardise = None
        for number in range(self.size.rounds):
            pools, scores = self._pools(policy, self.size.n_samples, number)
            standardise = standardise or Standardisation.of(np.concatenate(scores), AXES)
            rows = []
            for prompt, pool, each in zip(self.prompts, pools, scores, strict=True):
                along = standardise(each)[:, 0]
                chosen, rejected = pool[int(along.argmax())], pool[int(along.argmin())]
                if chosen != rejected:
                    rows.append({"prompt": prompt, "chosen": chosen, "rejected": rejected})
            folder = self.folder / f"dpo-{number}"
            pairs = Comparisons.from_rows(rows)
            train(DPO(beta=0.1), policy, pairs, settings=settings, folder=folder, progress=False)
        return policy

    def targets(self, policy: Conditioned) -> tuple[Conditioned, list[str | None]]:
        """Every sample under its own scores; then asked for what the winners of each direction scored on average."""
        pools, scores = self._pools(policy, self.size.rounds * self.size.n_samples, 0)
        rows = [
            {"prompt": prompt, "response": response, "condition": _target(one)}
            for prompt, pool, each in zip(self.prompts, pools, scores, strict=True)
            for response, one in zip(pool, each, strict=True)
        ]
        self._imitate(policy, rows, "targets", self.size.rounds * self.size.steps)
        standardise = Standardisation.of(np.concatenate(scores), AXES)
        directions = np.stack([angle(a) for a in ANGLES])
        best = np.stack([each[winners(standardise(each), directions)] for each in scores])
        return policy, [_target(wanted) for wanted in best.mean(axis=0)]

    def _imitate(self, policy: Conditioned, rows: list[dict[str, str]], name: str, steps: int) -> None:
        from penchant.align.supervised import Supervised
        from penchant.align.trainer import train

        settings = dataclasses.replace(self.settings, steps=steps)
        train(Supervised(), policy, rows, settings=settings, folder=self.folder / name, progress=False)

    def _pools(self, policy: Conditioned, n: int, number: int) -> tuple[list[list[str]], list[Array]]:
        pools = policy.sample(self.prompts, n, seed=1000 * self.seed + number)
        return pools, [self.world.reward([x] * n, pool) for x, pool in zip(self.prompts, pools, strict=True)]


def _target(scores: Array) -> str:
    helpful, verbose = int(np.clip(round(scores[0]), -5, 4)), int(np.clip(round(scores[1]), 0, LONGEST))
    return f"helpful={helpful} verbose={verbose}"


def _front(policy: Conditioned, prompts: list[str], conditions: Sequence[str | None], seed: int) -> Array:
    """Mean true scores under each condition, 4 samples per prompt, [conditions, axes]."""
    asked = [condition for condition in conditions for _ in prompts]
    drawn = policy.sample(prompts * len(conditions), 4, condition=asked, seed=9000 + seed)
    scores = _scores(prompts * len(conditions), drawn)
    return np.asarray(scores.reshape(len(conditions), -1, len(AXES)).mean(axis=1))


def _mean_and_sd(policy: Conditioned, prompts: list[str], seed: int) -> tuple[Array, Array]:
    drawn = policy.sample(prompts, 4, seed=8000 + seed)
    scores = _scores(prompts, drawn)
    return scores.mean(axis=0), scores.std(axis=0)


def _scores(prompts: list[str], drawn: list[list[str]]) -> Array:
    flat = [(x, y) for x, responses in zip(prompts, drawn, strict=True) for y in responses]
    return true_axes([x for x, _ in flat], [y for _, y in flat])


def verdict(runs: list[dict[str, Any]]) -> Verdict:
    """Holds if (a) DPA's hypervolume beats the best baseline's and (b) its length follows the angle, both surely.

    Args:
        runs: what `run` gave for each seed.
    """
    arms = [arm for arm in runs[0]["hypervolume"] if arm != "dpa"]
    means = {arm: float(np.mean([run["hypervolume"][arm] for run in runs])) for arm in arms}
    best = max(means, key=lambda arm: means[arm])
    ours = np.array([run["hypervolume"]["dpa"] for run in runs])
    theirs = np.array([max(run["hypervolume"][arm] for arm in arms) for run in runs])  # the best of each seed
    front = paired_bootstrap(ours, theirs, seed=0)
    control = paired_bootstrap([run["spearman"] for run in runs], seed=0)
    changed = np.mean([run["changed"] for run in runs], axis=0)
    gain = np.mean([run["gain"] for run in runs], axis=0)
    listed = ", ".join(f"{arm} {means[arm]:.2f}" for arm in arms)
    notes = (
        f"(a) hypervolume on the true axes: DPA {ours.mean():.2f}; {listed}; DPA minus the best of each seed "
        f"{front.estimate:.2f} [{front.low:.2f}, {front.high:.2f}].",
        f"(b) Spearman of angle and length {control.estimate:.2f} [{control.low:.2f}, {control.high:.2f}]; needed: "
        "0.8.",
        f"Gain along the asked direction at {ANGLES[0]:.0f}, 0 and {ANGLES[-1]:.0f} degrees: {gain[0]:.2f}, "
        f"{gain[len(gain) // 2]:.2f}, {gain[-1]:.2f} sd of pi_0.",
        f"Share of prompts whose winner changes with the direction, by round: {changed.round(2).tolist()}.",
        f"{runs[0]['samples_per_prompt']} sampled responses per prompt in every arm; strongest baseline {best}.",
        f"{len(runs)} seeds" + ("." if len(runs) >= 5 else ": too few for the interval to mean 95 %; see scale full."),
    )
    holds = bool(front.low > 0 and control.low >= 0.8)
    return Verdict(float(ours.mean()), float(theirs.mean()), front, holds, notes)


def figure(runs: list[dict[str, Any]]) -> Any:
    """Fronts of all arms on the true axes, a line per arm, mean over seeds.

    Args:
        runs: what `run` gave for each seed.
    """
    from matplotlib.figure import Figure

    drawing = Figure(figsize=(6, 4.5))
    axes = drawing.subplots()
    for arm in runs[0]["fronts"]:
        front = np.mean([run["fronts"][arm] for run in runs], axis=0)
        axes.plot(front[:, 1], front[:, 0], "o-", label=arm)
    axes.set_xlabel("verbose: length in words")
    axes.set_ylabel("helpful: covered - 0.25 off topic - 0.15 repeats")
    axes.legend()
    return drawing
