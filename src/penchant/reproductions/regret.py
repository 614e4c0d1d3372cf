"""Do people choose between stretches of behaviour by regret, and is a reward learnt that way the better one?

(A, simulated) Random 6 x 6 grids in the manner of the delivery task: a step costs, things on the way please or hurt but
do not pay for the step to them, one end pays and another costs. Choices between random segments of three steps are
drawn from the regret model or from partial return, and both models learn from both (2 x 2). What counts is the policy:
its scaled return under the true reward (1 optimal, 0 as good as random actions). Beside the two stand regret with
surrogate values (50 policies that are best for random weights) and, as a placebo, regret learnt from the same choices
under shuffled labels. Tasks of arbitrary (normal) weights are reported, too. (In a first form of the grid, where a
cell was of one kind only and most steps paid for ever, both learnt the right policy: to avoid every end.)

(B, real people) The delivery task of the paper's group: 6,729 choices between two segments of three steps, by people
who were told nothing special (three control sets), or were pushed towards partial return or regret. Each model has one
free temperature, found on nine tenths of the pairs of segments and tested on the rest. Where people were pushed
towards partial return the comparison should reverse, and it stands in the notes.

B asks for an interval above zero in each control set by itself. Two of three have it; the smallest (Question-Control,
305 choices) does not, though its lead is of the same kind and the three together have one clearly. So B, written before
the data were looked at, does not hold here, and neither does the whole.

(C, exact) Three worlds in which choices by partial return cannot tell two rewards apart although they want different
behaviour: partial return learns the wrong policy from error-free choices of its own kind, regret the right one from
its own. And surrogate values are within 1 % of V* once the best policy is among those that are mixed.

Besides, rewards are learnt from halves of the control choices of real people, and the policies are judged by the task's
true reward; this is reported and decides nothing.

The world of the delivery task is rebuilt from its board: the reward table of the source and all differences of start
and end values are met exactly, partial returns in all but 21 rows (moves against a wall). Three rows in a thousand
compare a segment with itself and are left out; 305 hold moves after an end, which are cut. Discount 0.999 there. Steps
and learning rate were chosen on worlds from 1,000 on.

Source:
    Knox, Hatgis-Kessell, Booth, Niekum, Stone and Allievi (2022), Models of human preference for learning reward
    functions. Choices of people: Hatgis-Kessell et al., Influencing humans to conform to preference models for RLHF.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from scipy.stats import wilcoxon

from penchant.errors import DataError
from penchant.feedback.importing import read
from penchant.preference.newton import newton
from penchant.preference.regret import (
    PartialReturn,
    Regret,
    SegmentPairs,
    SegmentReward,
    Walk,
    partial_return,
    read_pairs,
    regret,
    surrogate_values,
)
from penchant.records import Comparisons
from penchant.reproductions.real_data import real_data
from penchant.reproductions.verdict import Verdict
from penchant.statistics import Interval, paired_bootstrap
from penchant.worlds import (
    World,
    from_rules,
    policy_iteration,
    random_grid,
    random_policies,
    random_segments,
    scaled_return,
    segments,
    step,
    successor_features,
)

CLAIM = (
    "When people choose by regret, learning by regret gives better policies than learning by partial return; regret "
    "predicts the choices of real people better; and in some worlds partial return cannot find the right reward at all."
)
METRIC = "scaled return of the learnt policy, choices made by regret: regret learner against partial return"
SEEDS = {"quick": 6, "full": 20}  # each seed is a world

Array = NDArray[np.float64]
LABELS = ("regret", "partial return")
CONTROLS = ("Privileged-Control", "Trained-Control", "Question-Control")
ALL_CONTROLS = "all controls together"
NEAR_OPTIMAL = 0.9
_N_FEATURES, _STEPS = 5, 3
_N_POLICIES = 50
_DELIVERY = "delivery_segment_prefs"


@dataclass(frozen=True)
class Scale:
    """Sizes of a run.

    Attributes:
        n_pairs: choices that are learnt from.
        label_seeds: draws of the choices.
    """

    n_pairs: tuple[int, ...]
    label_seeds: int


_SCALES = {"quick": Scale((100, 1000), 1), "full": Scale((100, 300, 1000), 2)}


# A: the 2 x 2 study


def task(seed: int, kind: str = "goal") -> tuple[World, Array]:
    """A random grid and the true weights of its features.

    A "goal" task is like the delivery task: a step costs, one end pays and the other costs, and no thing pays for the
    step to it. In "any" task weights are normal: often it is best to go round in a loop that pays and never to end.
    """
    rng = np.random.default_rng([24, seed])
    world = random_grid(seed, n_features=_N_FEATURES)
    if kind == "any":
        return world, rng.standard_normal(_N_FEATURES)
    cost = rng.uniform(0.2, 1.0)
    things = rng.uniform(-1.0, cost, _N_FEATURES - 3)
    return world, np.array([-cost, *things, rng.uniform(2.0, 8.0), -rng.uniform(2.0, 8.0)])


def labels(world: World, weights: Array, model: str, n: int, rng: np.random.Generator) -> SegmentPairs:
    """Choices between random segments by people of known weights, who choose by regret or by partial return."""
    first, second = (random_segments(world, n, _STEPS, rng) for _ in range(2))
    scores = [
        -regret(world, paths, weights) if model == "regret" else partial_return(world, paths, weights)
        for paths in (first, second)
    ]
    return SegmentPairs(first, second, (rng.random(n) < expit(scores[0] - scores[1])).astype(np.float64))


def learners(world: World, seed: int) -> dict[str, SegmentReward]:
    """Every model that is compared."""
    return {
        "regret": Regret(world, seed=seed),
        "regret, surrogate values": Regret(
            world, policies=random_policies(world, _N_POLICIES, seed=seed), temperature=1e-3, seed=seed
        ),
        "partial return": PartialReturn(world),
    }


def study(seed: int, scale: str) -> dict[str, dict[str, dict[str, list[float]]]]:
    """Scaled returns in one world: labels -> learner -> number of pairs -> one for each draw of the choices."""
    sizes = _SCALES[scale]
    world, weights = task(seed)
    found: dict[str, dict[str, dict[str, list[float]]]] = {model: {} for model in LABELS}
    for model in LABELS:
        for draw in range(sizes.label_seeds):
            rng = np.random.default_rng([seed, draw, LABELS.index(model)])
            for n in sizes.n_pairs:
                pairs = labels(world, weights, model, n, rng)
                arms = {name: (learner, pairs) for name, learner in learners(world, draw).items()}
                if model == "regret":
                    shuffled = SegmentPairs(pairs.first, pairs.second, rng.permutation(pairs.strength))
                    arms["regret, labels shuffled"] = (Regret(world, seed=draw), shuffled)
                for name, (learner, given) in arms.items():
                    worth = scaled_return(world, learner.fit(given).policy(), weights)
                    found[model].setdefault(name, {}).setdefault(str(n), []).append(worth)
    return found


def any_task(seed: int, n: int = 300) -> dict[str, float]:
    """Scaled returns in a task of arbitrary weights, choices by regret: learner -> return."""
    world, weights = task(seed, "any")
    pairs = labels(world, weights, "regret", n, np.random.default_rng([seed, 9]))
    arms: dict[str, SegmentReward] = {"regret": Regret(world, seed=seed), "partial return": PartialReturn(world)}
    return {name: scaled_return(world, learner.fit(pairs).policy(), weights) for name, learner in arms.items()}


# B: real people


def delivery(board: Mapping[str, Any], discount: float) -> tuple[World, Callable[[Any], Walk]]:
    """The delivery task, and how its segments `{"start", "actions"}` are read.

    Features: gas, goal, sheep, coin, road block, mud, as in the order of the source's rewards.
    """
    gas, goal, sheep, coin, block, mud = np.eye(6)
    enter = {0: gas, 3: sheep, 4: gas + coin, 5: gas + block, 6: mud, 7: goal, 10: gas}
    wall, muddy, ends = 2, 6, (3, 7)
    cells = np.array(board["board"])
    kinds, shape = cells.ravel().tolist(), (int(cells.shape[0]), int(cells.shape[1]))
    moves = {tuple(move): number for number, move in enumerate(board["actions"])}

    def outcomes(state: int, action: int) -> list[tuple[float, int, Array]]:
        to = step(state, action, shape)
        if kinds[to] == wall:
            return [(1.0, state, gas)]
        # Who walks off the board stays, and pays for the ground there but gets no second coin.
        stays = mud if kinds[state] == muddy else gas
        return [(1.0, to, stays if to == state else enter[kinds[to]])]

    world = from_rules(
        len(kinds), 4, outcomes, terminal=[s for s, kind in enumerate(kinds) if kind in ends], discount=discount
    )

    def walk(segment: Any) -> Walk:
        states, actions = [segment["start"][0] * shape[1] + segment["start"][1]], []
        for move in segment["actions"]:
            if world.terminal[states[-1]] or tuple(move) == (0, 0):
                break
            actions.append(moves[tuple(move)])
            states.append(int(world.transitions[states[-1], actions[-1]].argmax()))
        return states, actions

    return world, walk


@dataclass(frozen=True)
class People:
    """Choices of real people in the delivery task.

    Attributes:
        comparisons: as imported; `context` is the condition.
        board: what the source says of the task.
        dropped: rows that are no comparisons, by reason.
    """

    comparisons: Comparisons
    board: dict[str, Any]
    dropped: Mapping[str, int]


def people() -> People:
    """The choices.

    Raises:
        DataError: the set is not on this machine.
    """
    pairs, board = (real_data(f"{_DELIVERY}/{name}") for name in ("pairs.jsonl.gz", "delivery_mdp.json"))
    if pairs is None or board is None:
        raise DataError(
            f"Choices of real people are needed: set PENCHANT_DATA to a folder with {_DELIVERY}/pairs.jsonl.gz and "
            "delivery_mdp.json."
        )
    imported = read(pairs)
    chosen = imported.records["comparison"]
    if not isinstance(chosen, Comparisons):
        raise DataError(f"{pairs} holds no comparisons.")
    return People(chosen, json.loads(Path(board).read_text(encoding="utf-8")), imported.dropped)


def statistics(comparisons: Comparisons) -> dict[str, Array]:
    """What models of choice look at, chosen minus rejected, [pairs] or [pairs, 3]: from the source's own numbers."""
    extra = [json.loads(text) for text in comparisons.table["extra"].to_pylist()]
    # The source subtracts the first segment from the second; `chosen` is the second where that one was preferred.
    sign = np.array([1.0 if row["human"] > 0.5 else -1.0 for row in extra])
    names = ("d_partial_return", "d_start_value", "d_end_value")
    paid, start, end = (sign * np.array([float(row[name]) for row in extra]) for name in names)
    return {
        "partial return": paid,
        "regret": paid + end - start,
        "end value only": end,
        "all three, weighted": np.stack([paid, start, end], axis=1),
    }


def log_likelihoods(statistic: Array, strength: Array, folds: NDArray[np.int64]) -> Array:
    """Of each choice, nats, by a logistic whose weights (one: a temperature) were found in the other folds, [pairs]."""
    columns = statistic.reshape(len(strength), -1)
    found = np.empty(len(strength))
    for fold in np.unique(folds):
        out = folds == fold
        logits = columns[out] @ newton(columns[~out], strength[~out], l2=1e-6).weights
        found[out] = -strength[out] * np.logaddexp(0, -logits) - (1 - strength[out]) * np.logaddexp(0, logits)
    return found


def predicted(found: People) -> dict[str, dict[str, Any]]:
    """For each condition: choices, and of each model accuracy of the sign and mean log-likelihood; regret's lead."""
    conditions = np.array(found.comparisons.table["context"].to_pylist())
    result = {}
    for condition in [*np.unique(conditions).tolist(), ALL_CONTROLS]:
        members = CONTROLS if condition == ALL_CONTROLS else (condition,)
        own = found.comparisons.take(np.flatnonzero(np.isin(conditions, members)))
        strength = own.numpy("strength").astype(np.float64)
        sides = (own.table[name].to_pylist() for name in ("chosen", "rejected"))
        # A pair that was shown to several people is in one fold, and is one unit of the bootstrap.
        names = [json.dumps(sorted(pair)) for pair in zip(*sides, strict=True)]
        clusters = np.unique(names, return_inverse=True)[1]
        folds = np.random.default_rng(0).integers(10, size=clusters.max() + 1)[clusters]
        models = statistics(own)
        likely = {name: log_likelihoods(statistic, strength, folds) for name, statistic in models.items()}
        decided = strength != 0.5
        lead = paired_bootstrap(likely["regret"], likely["partial return"], clusters=clusters)
        result[condition] = {
            "n": len(own),
            "decided": int(decided.sum()),
            "accuracy": {
                name: float(np.mean((np.sign(statistic[decided]) + 1) / 2))
                for name, statistic in models.items()
                if statistic.ndim == 1
            },
            "log_likelihood": {name: float(values.mean()) for name, values in likely.items()},
            "lead": [lead.estimate, lead.low, lead.high],
        }
    return result


def aligned(found: People, seed: int) -> dict[str, float]:
    """Scaled return under the task's true reward of what is learnt from a random half of the control choices."""
    world, walk = delivery(found.board, discount=0.999)
    mine = np.flatnonzero(np.isin(found.comparisons.table["context"].to_pylist(), CONTROLS))
    half = np.random.default_rng([24, seed]).permutation(mine)[: len(mine) // 2]
    pairs = read_pairs(found.comparisons.take(half), walk)
    # Segments of both lengths are complete where they reach an end, and all start with three steps to go.
    pairs = pairs.of((pairs.first.lengths > 0) & (pairs.second.lengths > 0))
    true = np.array(found.board["reward_array"], dtype=np.float64)
    arms: dict[str, SegmentReward] = {
        "regret": Regret(world, seed=seed),
        "partial return": PartialReturn(world),
    }
    return {name: scaled_return(world, learner.fit(pairs).policy(), true) for name, learner in arms.items()}


# C: what partial return cannot know


@dataclass(frozen=True)
class Twins:
    """Two rewards that want different behaviour at state 0 of a world, and that partial return cannot tell apart.

    Attributes:
        world: in which every comparison of single steps is made, without an error.
        weights: the true reward.
        other: another one, with the same choices by partial return.
        action: the right one in state 0.
    """

    world: World
    weights: Array
    other: Array
    action: int

    def pairs(self, model: str, weights: Array) -> SegmentPairs:
        """All choices between two single steps, by the model, without an error."""
        possible = np.argwhere(self.world.transitions > 0)
        steps = segments([[s, t] for s, _, t in possible.tolist()], [[a] for _, a, _ in possible.tolist()])
        if model == "regret":
            scores = -regret(self.world, steps, weights)
        else:
            scores = partial_return(self.world, steps, weights)
        first, second = np.triu_indices(len(steps), k=1)
        ahead = scores[first] - scores[second]
        strength = np.where(np.abs(ahead) < 1e-9, 0.5, (ahead > 0).astype(np.float64))
        return SegmentPairs(steps.of(first), steps.of(second), strength)


def twins() -> dict[str, Twins]:
    """The three worlds: an end and a constant, a risk, and how much."""

    def ending(state: int, action: int) -> list[tuple[float, int, Sequence[float]]]:
        return [(1.0, action, [action == 0, action == 1])]  # stay at 0, or leave to the end at 1

    def risk(state: int, action: int) -> list[tuple[float, int, Sequence[float]]]:
        if action == 0:
            return [(1.0, 1, [1, 0, 0])]  # safe
        return [(0.6, 2, [0, 1, 0]), (0.4, 3, [0, 0, 1])]  # win or lose

    def detour(state: int, action: int) -> list[tuple[float, int, Sequence[float]]]:
        if state == 0:
            return [(1.0, 2, [1, 0]) if action == 0 else (1.0, 1, [0, 1])]  # over the hill, or half of the way round
        return [(1.0, 2, [0, 1])]

    return {
        "a constant per step, where one can leave": Twins(
            from_rules(2, 2, ending, terminal=[1], discount=0.9), np.array([-0.2, -1.0]), np.array([0.8, 0.0]), 1
        ),
        "a risk, seen one outcome at a time": Twins(
            from_rules(4, 2, risk, terminal=[1, 2, 3], discount=0.9),
            np.array([0.0, 1.0, -5.0]),
            np.array([0.0, 5.0, -1.0]),
            0,
        ),
        "how much, where only the order shows": Twins(
            from_rules(3, 2, detour, terminal=[2], discount=0.99), np.array([-3.0, -2.0]), np.array([-3.0, -1.0]), 0
        ),
    }


def told_apart() -> dict[str, dict[str, bool]]:
    """In each world: whether both models learn the right action from error-free choices of their own kind."""
    result = {}
    for name, case in twins().items():
        arms: dict[str, SegmentReward] = {"regret": Regret(case.world), "partial return": PartialReturn(case.world)}
        result[name] = {
            model: bool(learner.fit(case.pairs(model, case.weights)).policy()[0] == case.action)
            for model, learner in arms.items()
        }
    return result


def surrogate_error(seed: int) -> float:
    """Greatest distance of V~ from V*, relative to the greatest V*, once the best policy is among those mixed."""
    import torch

    world, weights = task(seed)
    best, successor = policy_iteration(world, weights)
    mixed = np.concatenate([random_policies(world, _N_POLICIES, seed=seed), best[None]])
    tensors = (torch.from_numpy(weights)[None], torch.from_numpy(successor_features(world, mixed)))
    values = surrogate_values(*tensors, temperature=1e-3)[0].numpy()
    return float(np.abs(values - successor @ weights).max() / np.abs(successor @ weights).max())


def run(seed: int, scale: str, progress: Callable[[str], None]) -> dict[str, Any]:
    """One world of the 2 x 2 study, one half of the real choices; the parts without chance with the first seed.

    Raises:
        DataError: at scale full, the choices of real people are not on this machine.
    """
    found = study(seed, scale)
    shown = {name: round(float(np.mean(list(cells.values()))), 2) for name, cells in found["regret"].items()}
    progress(f"regret: choices by regret, scaled return {shown}")
    result: dict[str, Any] = {"study": found, "any_task": any_task(seed), "surrogate_error": surrogate_error(seed)}
    if seed == 0:
        result["told_apart"] = told_apart()
    try:
        real = people()
    except DataError:
        if scale == "full":
            raise
        return result
    result["aligned"] = aligned(real, seed)
    if seed == 0:
        result["people"] = predicted(real)
        result["dropped"] = dict(real.dropped)
    return result


def by_world(runs: list[dict[str, Any]], model: str, learner: str, n: str | None = None) -> Array:
    """Mean scaled return in each world, over sizes (or of one) and draws, [worlds]."""
    cells = [run["study"][model][learner] for run in runs]
    return np.array([np.mean([np.mean(cell[size]) for size in cell if n in (None, size)]) for cell in cells])


def verdict(runs: list[dict[str, Any]]) -> Verdict:
    """Holds if A (bootstrap over worlds and Wilcoxon), B (every control set) and C (all three worlds, V~) hold.

    Args:
        runs: what `run` gave for at least two seeds. Without real choices B is not tested, and says so.
    """
    ours, baseline = (by_world(runs, "regret", learner) for learner in ("regret", "partial return"))
    lead = paired_bootstrap(ours, baseline)
    p_value = float(wilcoxon(ours, baseline, alternative="greater").pvalue) if (ours != baseline).any() else 1.0
    reverse = paired_bootstrap(*(by_world(runs, "partial return", name) for name in ("partial return", "regret")))
    surrogate = max(run["surrogate_error"] for run in runs)
    a = lead.low > 0 and p_value < 0.05
    c = surrogate < 0.01 and all(
        case["regret"] and not case["partial return"] for case in runs[0]["told_apart"].values()
    )
    b, notes = _people_notes(runs)
    return Verdict(
        ours=float(ours.mean()),
        baseline=float(baseline.mean()),
        interval=lead,
        holds=bool(a and b and c),
        notes=(
            f"A {_says(a)} (simulated, {len(runs)} worlds): choices by regret, scaled return of regret minus partial "
            f"return {_interval(lead)}, Wilcoxon p = {p_value:.2g}",
            f"choices by partial return: partial return minus regret {_interval(reverse)} (printed, no part of the "
            "claim)",
            *[f"choices by {model}: {_table(runs, model)}" for model in LABELS],
            "tasks of arbitrary weights, 300 choices by regret (reported only): "
            + ", ".join(f"{name} {np.mean([r['any_task'][name] for r in runs]):.3f}" for name in runs[0]["any_task"]),
            f"C {_says(c)} (exact): right action from error-free choices, "
            + "; ".join(
                f"{name}: regret {_yes(case['regret'])}, partial return {_yes(case['partial return'])}"
                for name, case in runs[0]["told_apart"].items()
            )
            + f". Surrogate values are within {100 * surrogate:.2g} % of V* once the best policy is mixed in",
            *notes,
        ),
    )


def _people_notes(runs: list[dict[str, Any]]) -> tuple[bool, list[str]]:
    """Whether B holds (or could not be tested), and what to say of real people."""
    found = runs[0].get("people")
    if found is None:
        return True, [f"B was not tested: the choices of real people ({_DELIVERY}) are not on this machine"]
    b = all(found[condition]["lead"][1] > 0 for condition in CONTROLS)
    lines = []
    for condition, cell in found.items():
        estimate, low, high = cell["lead"]
        likely = ", ".join(f"{name} {value:.3f}" for name, value in cell["log_likelihood"].items())
        right = ", ".join(f"{name} {100 * value:.1f} %" for name, value in cell["accuracy"].items())
        lines.append(
            f"{condition}, {cell['n']} choices ({cell['decided']} decided): log-likelihood of regret minus partial "
            f"return {estimate:+.3f} [{low:+.3f}, {high:+.3f}]; held out: {likely}, a coin {np.log(0.5):.3f}; signs "
            f"right: {right}"
        )
    worth = {name: np.array([run["aligned"][name] for run in runs]) for name in runs[0]["aligned"]}
    shown = ", ".join(
        f"{name} {values.mean():.3f} (near-optimal in {100 * (values > NEAR_OPTIMAL).mean():.0f} %)"
        for name, values in worth.items()
    )
    return b, [
        f"B {_says(b)} (real people): regret predicts each control set better, by an interval of its own "
        f"({', '.join(CONTROLS)}); rows left out: {runs[0]['dropped']}",
        *lines,
        f"reported only: rewards learnt from {len(runs)} random halves of the control choices, scaled return under the "
        f"task's true reward: {shown}",
    ]


def _table(runs: list[dict[str, Any]], model: str) -> str:
    cells = runs[0]["study"][model]
    return "; ".join(
        f"{name} "
        + ", ".join(
            f"{by_world(runs, model, name, n).mean():.3f} at {n} (near-optimal "
            f"{100 * np.mean(np.concatenate([run['study'][model][name][n] for run in runs]) > NEAR_OPTIMAL):.0f} %)"
            for n in cells[name]
        )
        for name in cells
    )


def _interval(found: Interval) -> str:
    return f"{found.estimate:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"


def _says(holds: bool) -> str:
    return "holds" if holds else "does not hold"


def _yes(right: bool) -> str:
    return "right" if right else "wrong"


def figure(runs: list[dict[str, Any]]) -> Any:
    """Left and middle: scaled return by number of choices, for both kinds of choices; right: real people."""
    from matplotlib.figure import Figure

    plot = Figure(figsize=(13, 4))
    panels = plot.subplots(1, 3)
    for axes, model in zip(panels, LABELS, strict=False):
        for number, (name, cells) in enumerate(runs[0]["study"][model].items()):
            sizes = [int(n) for n in cells]
            found = [paired_bootstrap(by_world(runs, model, name, n)) for n in cells]
            middle = np.array([one.estimate for one in found])
            ends = np.array([[one.low, one.high] for one in found]).T
            shifted = np.array(sizes) * 1.06**number  # beside each other
            axes.errorbar(shifted, middle, yerr=np.abs(ends - middle), marker="o", capsize=2, label=name)
        axes.set_xscale("log")
        axes.axhline(1, color="black", linewidth=0.8)
        axes.axhline(0, color="black", linewidth=0.8, linestyle=":")
        axes.set_title(f"choices by {model} (simulated)", fontsize=10)
        axes.set_xlabel("choices learnt from")
        axes.set_ylabel("scaled return (1 optimal, 0 random)")
    panels[0].legend(frameon=False, fontsize=7)
    people_axes = panels[2]
    for row, (condition, cell) in enumerate(sorted(runs[0].get("people", {}).items())):
        estimate, low, high = cell["lead"]
        colour = "C0" if condition in CONTROLS else "0.6"
        people_axes.errorbar(
            estimate, row, xerr=[[estimate - low], [high - estimate]], fmt="o", color=colour, capsize=2
        )
    people_axes.set_yticks(range(len(runs[0].get("people", {}))), sorted(runs[0].get("people", {})), fontsize=8)
    people_axes.axvline(0, color="black", linewidth=0.8)
    people_axes.set_title("real people: regret ahead of partial return", fontsize=10)
    people_axes.set_xlabel("held-out log-likelihood, nats a choice (blue: control sets)")
    plot.tight_layout()
    return plot
