"""Preference orchestrator: do weights that follow from the prompt lose less than the best weights for all?

World, simulated: eight kinds of prompts in real words; four objectives; what counts for a kind is drawn
from a sparse Dirichlet and jitters from prompt to prompt. A response is four true scores around the mean of its kind;
reward models see them noisily, each through a monotone curve and on a scale of its own. Of six responses one is chosen
by Bradley-Terry on true utility, and compared with another one. The task: pick the best of eight, on prompts in
phrasings that were never seen (a phrasing counts as a source). Regret is true utility lost against the best of the
eight.

Two regimes. Agreeing: objectives score high where they count. Conflict: they score low where they count (answers to
dangerous prompts are the least harmless), which is where the paper's plain target learns the reverse.

Arms: weights by the plain target (T = 1, the paper's), by the margin target (T = 1/3, the default here, and 1), and by
the margin target learnt with prompts dealt out at random, which is the placebo; uniform, random and max-min weights;
the best fixed weights, found on a grid by their true regret on other prompts (a strong rival: it is told the truth);
and an oracle that knows each prompt's true weights but sees only the measured scores.

Settings were chosen on seeds 1000 and above. Left out: aligned policies (PPO, rewards-in-context): a choice of the best
of eight is the policy here.

Source:
    Liu, Xu, Yang and Geng (2025), Preference Orchestrator, arXiv 2511.10656.

>>> simplex(0.5).tolist()[:3]
[[0.0, 0.0, 0.0, 1.0], [0.0, 0.0, 0.5, 0.5], [0.0, 0.0, 1.0, 0.0]]
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penchant.cache import RowCache
from penchant.encoders import Apart, Attributes, Cached, Encoder, MiniLM
from penchant.preference.orchestrator import Orchestrator, entropy
from penchant.records import Comparisons, canonical_json
from penchant.reproductions.kinds_of_prompts import KINDS, prompts
from penchant.reproductions.verdict import Verdict
from penchant.statistics import Interval, nested_bootstrap

CLAIM = (
    "Choosing the best of eight by weights that follow from the prompt loses less true utility than by the best fixed "
    "weights: with the plain target where objectives score high where they count, with the margin target where they "
    "score low."
)
METRIC = "regret of PRO plain, agreeing regime (utility lost against the best of 8; lower is better), and best fixed"
SEEDS = {"quick": 3, "full": 20}

Array = NDArray[np.float64]
OBJECTIVES = ("helpful", "harmless", "truthful", "warm")
REGIMES = {"agreeing": 1.0, "conflict": -1.0}
N_CANDIDATES, N_SHOWN = 8, 6
_LEVEL = 2.0  # how much higher (lower) an objective scores where it alone counts
_DECIDED = 4.0  # logits per unit of utility when people choose
_NOISE = 0.3  # of reward models, standard deviations of a true score
_CURVES: tuple[Callable[[Array], Array], ...] = (lambda s: s, np.sinh, lambda s: s / (1 + np.abs(s)), np.cbrt)
_SCALES = (1.0, 30.0, 0.05, 400.0)
_HELD_OUT_PHRASINGS, _VALIDATION_PHRASINGS = 2, 1


@dataclass(frozen=True)
class World:
    """One draw.

    Attributes:
        weights: what truly counts for each prompt, [prompts, objectives].
        level: mean true scores of responses to each prompt, [prompts, objectives].
        parts: "learn", "validate" or "test" of each prompt, by phrasing.
    """

    weights: Array
    level: Array
    parts: NDArray[np.str_]

    @classmethod
    def drawn(cls, regime: str, rng: np.random.Generator) -> "World":
        """Kinds, prompts and what is held out."""
        every = prompts()
        kind, phrasing = np.array([p.kind for p in every]), np.array([p.phrasing for p in every])
        of_kind = rng.dirichlet(np.full(len(OBJECTIVES), 0.4), len(KINDS))
        weights = np.stack([rng.dirichlet(30 * w + 0.3) for w in of_kind[kind]])
        level = REGIMES[regime] * _LEVEL * (of_kind[kind] - 1 / len(OBJECTIVES))
        parts = np.full((len(KINDS), int(phrasing.max()) + 1), "learn", dtype="<U8")
        for row in parts:
            aside = rng.permutation(len(row))[: _HELD_OUT_PHRASINGS + _VALIDATION_PHRASINGS]
            row[aside[:_HELD_OUT_PHRASINGS]], row[aside[_HELD_OUT_PHRASINGS:]] = "test", "validate"
        return cls(weights, level, parts[kind, phrasing])

    def responses(self, which: NDArray[np.int64], n: int, rng: np.random.Generator) -> tuple[Array, Array]:
        """True and measured scores of n responses to some prompts, each [prompts, n, objectives]."""
        true = self.level[which][:, None] + rng.standard_normal((len(which), n, len(OBJECTIVES)))
        seen = true + _NOISE * rng.standard_normal(true.shape)
        measured = [scale * curve(seen[..., k]) for k, (scale, curve) in enumerate(zip(_SCALES, _CURVES, strict=True))]
        return true, np.stack(measured, axis=-1)

    def comparisons(self, which: NDArray[np.int64], rng: np.random.Generator) -> Comparisons:
        """One a prompt: of six responses one is chosen by true utility, another one is what it is compared with."""
        true, measured = self.responses(which, N_SHOWN, rng)
        utility = np.einsum("pnk,pk->pn", true, self.weights[which])
        chosen = (_DECIDED * utility + rng.gumbel(size=utility.shape)).argmax(axis=1)
        rejected = (chosen + rng.integers(1, N_SHOWN, len(which))) % N_SHOWN
        every, rows = prompts(), np.arange(len(which))
        return Comparisons.from_rows(
            {"prompt": every[place].text, "chosen": written(first), "rejected": written(second)}
            for place, first, second in zip(
                which.tolist(), measured[rows, chosen], measured[rows, rejected], strict=True
            )
        )


def written(scores: Array) -> str:
    """Measured scores as a payload."""
    return canonical_json(dict(zip(OBJECTIVES, scores.tolist(), strict=True)))


def picked(z: Array, weights: Array) -> NDArray[np.int64]:
    """The response that each prompt's weights like best, int[prompts]; weights [prompts or 1, objectives]."""
    return np.asarray(np.einsum("pnk,pk->pn", z, np.broadcast_to(weights, (len(z), z.shape[2]))).argmax(axis=1))


def simplex(step: float = 0.1) -> Array:
    """All weights that are multiples of a step, [weights, objectives]."""
    n, k = round(1 / step), len(OBJECTIVES)
    grid = np.stack(np.meshgrid(*[np.arange(n + 1)] * k, indexing="ij"), axis=-1).reshape(-1, k)
    return np.asarray(grid[grid.sum(axis=1) == n] / n)


def run(seed: int, scale: str, progress: Callable[[str], None], *, words: Encoder | None = None) -> dict[str, Any]:
    """All arms in both regimes of one draw.

    Args:
        seed: of the world and everything in it.
        scale: "quick" and "full" differ in the number of seeds only.
        progress: called with a line on what goes on.
        words: reads prompts; MiniLM by default.

    Returns:
        For each regime: `regret` of each arm, mean of each held-out phrasing, [phrasings]; `facts` of each arm (mean
        normalised reward, its smallest objective, win rate over best fixed, cosine to the true weights, entropy);
        `in_conflict`, what the regime report says; `kept`, whether the adapter was kept; `divergence` of the adapter
        and of weights for all on prompts set aside.
    """
    encoder = Apart(Attributes(OBJECTIVES), words or Cached(MiniLM(), RowCache()))
    return {regime: _run(regime, encoder, np.random.default_rng([11, seed]), progress) for regime in REGIMES}


def _run(regime: str, encoder: Encoder, rng: np.random.Generator, progress: Callable[[str], None]) -> dict[str, Any]:
    world = World.drawn(regime, rng)
    learn, validate, test = (np.flatnonzero(world.parts == part) for part in ("learn", "validate", "test"))
    # Prompts of the phrasings to validate on are learnt from too; the fixed weights get them twice, with the truth.
    pairs = world.comparisons(np.concatenate([learn, validate]), rng)
    models = {}
    for name, settings in _ORCHESTRATED.items():
        progress(f"{regime}: {name}")
        models[name] = Orchestrator(encoder=encoder, **settings).fit(_dealt(pairs, rng) if "placebo" in name else pairs)
    scores = models["PRO margin"].standardise_
    asked = [prompts()[place].text for place in test.tolist()]
    true, measured = world.responses(test, N_CANDIDATES, rng)
    z = np.clip(scores(measured), -4, 4)
    fixed = _best_fixed(world, validate, scores, rng)
    weights: dict[str, Array] = {name: model.weights(asked) for name, model in models.items()}
    weights |= {
        "best fixed": fixed[None],
        "uniform": np.full((1, len(OBJECTIVES)), 1 / len(OBJECTIVES)),
        "random": rng.dirichlet(np.ones(len(OBJECTIVES)), len(test)),
        "oracle": world.weights[test],
    }
    choices = {name: picked(z, w) for name, w in weights.items()} | {"max-min": z.min(axis=2).argmax(axis=1)}
    utility = np.einsum("pnk,pk->pn", true, world.weights[test])
    got = {name: np.take_along_axis(utility, one[:, None], axis=1)[:, 0] for name, one in choices.items()}
    source = np.unique([f"{prompts()[p].kind} {prompts()[p].phrasing}" for p in test.tolist()], return_inverse=True)[1]
    lost = {name: utility.max(axis=1) - value for name, value in got.items()}
    of = {name: z[np.arange(len(z)), one] for name, one in choices.items()}
    return {
        "regret": {name: (np.bincount(source, value) / np.bincount(source)).tolist() for name, value in lost.items()},
        "facts": {
            name: {
                "reward": float(of[name].mean()),
                "smallest objective": float(of[name].mean(axis=0).min()),
                "win rate": float(np.mean(np.sign(value - got["best fixed"]) / 2 + 0.5)),
                **(_about(weights[name], world.weights[test]) if name in weights else {}),
            }
            for name, value in got.items()
        },
        "in_conflict": list(models["PRO margin"].regime(pairs).in_conflict),
        "kept": {name: model.reads_prompts_ for name, model in models.items()},
        "divergence": {name: list(model.divergence_) for name, model in models.items()},
    }


_ORCHESTRATED: Mapping[str, dict[str, Any]] = {
    "PRO plain": {"target": "plain", "temperature": 1.0},
    "PRO margin": {"target": "margin"},
    "PRO margin, T = 1": {"target": "margin", "temperature": 1.0},
    "placebo (prompts dealt out at random)": {"target": "margin"},
}


def _dealt(pairs: Comparisons, rng: np.random.Generator) -> Comparisons:
    """The same pairs, each under the prompt of another."""
    mixed = pairs.take(rng.permutation(len(pairs))).table["prompt"]
    return Comparisons(pairs.table.set_column(pairs.table.schema.get_field_index("prompt"), "prompt", mixed))


def _best_fixed(
    world: World, which: NDArray[np.int64], scores: Callable[[Array], Array], rng: np.random.Generator
) -> Array:
    """Of all weights on a grid those with the least true regret on some prompts."""
    true, measured = world.responses(which, N_CANDIDATES, rng)
    z = np.clip(scores(measured), -4, 4)
    utility = np.einsum("pnk,pk->pn", true, world.weights[which])
    rows, grid = np.arange(len(which)), simplex()
    return np.asarray(grid[int(np.argmax([utility[rows, picked(z, w[None])].mean() for w in grid]))])


def _about(weights: Array, true: Array) -> dict[str, float]:
    every = np.broadcast_to(weights, true.shape)
    lengths = np.linalg.norm(every, axis=1) * np.linalg.norm(true, axis=1)
    return {"cosine": float(((every * true).sum(axis=1) / lengths).mean()), "entropy": float(entropy(every).mean())}


def compared(runs: list[dict[str, Any]], regime: str, ours: str, baseline: str = "best fixed") -> Interval:
    """Regret of one arm minus that of another, over seeds and held-out phrasings."""
    pairs = [(run[regime]["regret"][ours], run[regime]["regret"][baseline]) for run in runs]
    sizes = [len(first) for first, _ in pairs]
    seeds = np.repeat(np.arange(len(runs)), sizes)
    mine, theirs = (np.concatenate([pair[side] for pair in pairs]) for side in (0, 1))
    return nested_bootstrap(mine, theirs, seeds=seeds, clusters=np.concatenate([np.arange(n) for n in sizes]), seed=0)


def regret(runs: list[dict[str, Any]], regime: str, arm: str) -> float:
    """Mean over seeds and phrasings."""
    return float(np.mean([np.mean(run[regime]["regret"][arm]) for run in runs]))


def verdict(runs: list[dict[str, Any]]) -> Verdict:
    """Holds if PRO plain loses less than the best fixed weights in the agreeing regime, and PRO margin in conflict.

    Args:
        runs: what `run` gave for each seed.
    """
    agreeing, conflict = compared(runs, "agreeing", "PRO plain"), compared(runs, "conflict", "PRO margin")
    losing = compared(runs, "conflict", "PRO plain")
    notes = [
        f"(a) Agreeing regime, regret of PRO plain minus best fixed: {shown(agreeing)}; needed: below 0.",
        f"(b) Conflict regime, PRO margin minus best fixed: {shown(conflict)}; needed: below 0.",
        f"PRO plain in conflict, expected to lose: {shown(losing)}.",
    ]
    for regime in REGIMES:
        arms = sorted(runs[0][regime]["regret"], key=lambda arm: regret(runs, regime, arm))
        listed = ", ".join(f"{arm} {regret(runs, regime, arm):.3f}" for arm in arms)
        n_found = sum(bool(run[regime]["in_conflict"]) for run in runs)
        notes.append(
            f"Regret, {regime}: {listed}; the regime report warns of conflict in {n_found} of {len(runs)} seeds."
        )
        facts = {arm: [run[regime]["facts"][arm] for run in runs] for arm in (*_ORCHESTRATED, "best fixed", "uniform")}
        notes.append(
            f"Cosine to the true weights and entropy (of {np.log(len(OBJECTIVES)):.2f} nats), {regime}: "
            + ", ".join(
                f"{arm} {np.mean([f['cosine'] for f in found]):.2f} and {np.mean([f['entropy'] for f in found]):.2f}"
                for arm, found in facts.items()
            )
            + "."
        )
    kept = {arm: np.mean([run[regime]["kept"][arm] for run in runs for regime in REGIMES]) for arm in _ORCHESTRATED}
    notes.append("Adapters kept: " + ", ".join(f"{arm} {100 * share:.0f} %" for arm, share in kept.items()) + ".")
    notes.append(f"{len(runs)} seeds of a simulated world; {len(prompts())} prompts of {len(KINDS)} kinds.")
    return Verdict(
        regret(runs, "agreeing", "PRO plain"),
        regret(runs, "agreeing", "best fixed"),
        agreeing,
        bool(agreeing.high < 0 and conflict.high < 0),
        tuple(notes),
    )


def shown(interval: Interval) -> str:
    """An interval in a sentence."""
    return f"{interval.estimate:+.3f} [{interval.low:+.3f}, {interval.high:+.3f}]"


def figure(runs: list[dict[str, Any]]) -> Any:
    """Regret of each arm in both regimes, a dot for each seed, lower is better.

    Args:
        runs: what `run` gave for each seed.
    """
    from matplotlib.figure import Figure

    drawing = Figure(figsize=(9, 4.5), layout="constrained")
    panels = drawing.subplots(1, 2, sharex=True)
    for axes, regime in zip(panels, REGIMES, strict=True):
        arms = sorted(runs[0][regime]["regret"], key=lambda arm: -regret(runs, regime, arm))
        for place, arm in enumerate(arms):
            each = [np.mean(run[regime]["regret"][arm]) for run in runs]
            colour = "tab:orange" if arm.startswith("PRO") else "tab:gray" if arm != "oracle" else "tab:green"
            axes.plot(each, [place] * len(each), "o", color=colour, alpha=0.4)
            axes.plot([np.mean(each)], [place], "|", color="black", markersize=14)
        axes.set_yticks(range(len(arms)), [arm.replace(" (", "\n(") for arm in arms])
        axes.set_title(f"{regime} regime")
        axes.set_xlabel("regret: utility lost against the best of 8")
    return drawing
