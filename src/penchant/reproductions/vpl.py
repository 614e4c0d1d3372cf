"""Variational preference learning: do a few comparisons of somebody new say what one reward for all cannot?

Everything here is simulated. A response has four aspects (helpful, honest, brief, formal) that show through 16 noisy
features; people weigh the aspects, in four kinds of people, and vote with the noise of the Bradley-Terry model. Models
learn from people with 12 votes each on random pairs; somebody new leaves 1, 2, 4 or 8 votes, and is predicted on
controversial pairs (at least a fifth of people would choose either way). The responses of training, of what is known of
new people, and of what is asked are three separate pools.

Arms on the same votes: one linear reward (Bradley-Terry), rewards with a distribution (mean and variance; levels), VPL,
VPL that learnt and is asked with the votes of other people (placebo), and the taste itself (oracle). Bradley-Terry with
a posterior for each person is reported beside them. A population in which all are alike shows what personalising costs.
Where nobody knows the taste, is asking what tells most better than asking anything? And in control (`two_goals`): is a
policy better when rewards of different people are made comparable?

The last is the one part that we expect to fail, and why is plain: for an exact solver a scale changes nothing at all;
and where one temperature for all keeps policies near the random one, unscaled rewards spend the divergence on the
people whose wishes are clear, which is efficient on average. What scaling buys is fairness: people whose rewards are
small are served better, decided ones worse (both are in the notes). The paper's gain comes with policies of limited
capacity, trained by gradient on all people at once, which is not what is here.

Settings were chosen on seeds 1000 and above. Left out: the 7B language model; sentence vectors or states of a language
model would go through the same class.

Source:
    Poddar, Wan, Ivison, Gupta and Jaques (2024), Personalizing Reinforcement Learning from Human Feedback with
    Variational Preference Learning, NeurIPS.

>>> World(0, SCALES["tiny"], "groups").controversial(np.array([[0, 1], [2, 3]])).shape
(2,)
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from penchant.people import population
from penchant.preference.bradley_terry import BradleyTerry
from penchant.preference.model import PreferenceModel
from penchant.preference.variational import Variational
from penchant.preference.votes import read_votes
from penchant.records import Comparisons
from penchant.reproductions import two_goals
from penchant.reproductions.distributional import categorical, mean_variance
from penchant.reproductions.verdict import Verdict
from penchant.statistics import Interval, nested_bootstrap
from penchant.turns import Turn

CLAIM = (
    "After 8 comparisons of somebody new, VPL predicts controversial pairs better than one reward for all, the better "
    "the more comparisons; with other people's comparisons it does not; where people are alike nobody pays for it; a "
    "policy is better when rewards of different people are scaled; asking what tells most is no worse than asking at "
    "random."
)
METRIC = "accuracy on controversial pairs of new people after 8 comparisons"
SEEDS = {"quick": 3, "full": 10}

Array = NDArray[np.float64]
Places = NDArray[np.int64]
N_ASPECTS, N_FEATURES, NOISE = 4, 16, 0.3
CONTEXTS = (1, 2, 4, 8)
N_VOTES, N_TARGETS, N_QUESTIONS, N_ASKED = 12, 30, 30, 4
_POOL = 400  # responses in each of three pools
_MINORITY = 0.2


@dataclass(frozen=True)
class Scale:
    """How much of everything.

    Attributes:
        n_people: to learn from.
        n_new: to predict.
        n_asked: of these, to ask questions.
        epochs: most passes of learning.
    """

    n_people: int
    n_new: int
    n_asked: int
    epochs: int


SCALES = {
    "tiny": Scale(n_people=60, n_new=20, n_asked=3, epochs=15),
    "quick": Scale(n_people=200, n_new=100, n_asked=15, epochs=40),
    "full": Scale(n_people=300, n_new=100, n_asked=40, epochs=60),
}


class World:
    """Responses with aspects that nobody sees, and people who weigh them; also the encoder of these responses.

    Args:
        seed: of everything.
        scale: how many people.
        kind: whether people come in four groups or are all alike.
    """

    name, reads_prompts = "simulated", False

    def __init__(self, seed: int, scale: Scale, kind: Literal["groups", "alike"]):
        self.rng = np.random.default_rng([23, seed])
        self.aspects = self.rng.standard_normal((3 * _POOL, N_ASPECTS))
        mixed = self.aspects @ self.rng.standard_normal((N_ASPECTS, N_FEATURES))
        self.vectors = (mixed + NOISE * self.rng.standard_normal(mixed.shape)).astype(np.float32)
        self.people = population(
            scale.n_people + scale.n_new, n_features=N_ASPECTS, kind=kind, strength=4.0, spread=3.0, seed=seed
        )
        self.new = np.arange(scale.n_people, scale.n_people + scale.n_new)
        self.old = np.arange(scale.n_people)

    def payload(self, turn: Turn) -> str:
        """The response alone: its number."""
        return turn.response

    def encode(self, payloads: Any) -> NDArray[np.float32]:
        """Noisy features of responses, float32[n, features]."""
        return self.vectors[[int(payload) for payload in payloads]].reshape(-1, N_FEATURES)

    def pairs(self, n: int, pool: int) -> Places:
        """Random pairs of responses of a pool, [n, 2]."""
        first = self.rng.integers(_POOL, size=n)
        second = (first + self.rng.integers(1, _POOL, size=n)) % _POOL
        return pool * _POOL + np.stack([first, second], axis=1)

    def controversial(self, pairs: Places) -> NDArray[np.bool_]:
        """Whether at least a fifth of people would choose either way, bool[pairs]."""
        liked = self.aspects @ self.people.tastes[self.old].T  # [responses, people]
        share = (liked[pairs[:, 0]] > liked[pairs[:, 1]]).mean(axis=1)
        return np.asarray((share >= _MINORITY) & (share <= 1 - _MINORITY))

    def votes(self, people: Places, n: int, pool: int, *, controversial: bool = False) -> Comparisons:
        """Votes of people on random pairs of a pool, n each, in the order of people."""
        wanted = n * len(people)
        pairs = self.pairs(wanted, pool)
        while controversial and not (is_one := self.controversial(pairs)).all():
            pairs[~is_one] = self.pairs(int((~is_one).sum()), pool)
        person = np.repeat(people, n)
        ahead = np.einsum("na,na->n", self.aspects[pairs[:, 0]] - self.aspects[pairs[:, 1]], self.people.tastes[person])
        is_first = self.rng.random(wanted) < 1 / (1 + np.exp(-ahead))
        chosen, rejected = np.where(is_first, pairs.T, pairs.T[::-1])
        names = [self.people.names[one] for one in person]
        return _comparisons(chosen, rejected, names)

    def oracle(self, votes: Comparisons) -> Array:
        """Logits that the chosen is preferred, by the taste of whoever votes, [votes]."""
        place = {name: row for row, name in enumerate(self.people.names)}
        tastes = self.people.tastes[[place[name] for name in votes.table["user"].to_pylist()]]
        chosen, rejected = (self.aspects[_numbers(votes, side)] for side in ("chosen", "rejected"))
        return np.asarray(np.einsum("na,na->n", chosen - rejected, tastes))


def _comparisons(chosen: Any, rejected: Any, names: Any) -> Comparisons:
    columns = {"chosen": [str(one) for one in chosen], "rejected": [str(one) for one in rejected], "user": names}
    return Comparisons(pa.table({"prompt": [""] * len(columns["user"]), **columns}))


def _numbers(votes: Comparisons, side: str) -> list[int]:
    return [int(payload) for payload in votes.table[side].to_pylist()]


def _renamed(votes: Comparisons, names: list[str]) -> Comparisons:
    return _comparisons(votes.table["chosen"].to_pylist(), votes.table["rejected"].to_pylist(), names)


def _first(votes: Comparisons, n: int, each: int) -> Comparisons:
    """The first n votes of everybody who left `each` in a row."""
    rows = np.arange(len(votes)).reshape(-1, each)[:, :n]
    return votes.take(rows.ravel())


def _by_person(probability: Array, n_people: int) -> list[float]:
    """Share of each person's targets that are predicted right; undecided is half right."""
    right = np.where(probability == 0.5, 0.5, probability > 0.5)
    return [float(share) for share in right.reshape(n_people, -1).mean(axis=1)]


def _personal(model: PreferenceModel, known: Comparisons, asked: Comparisons, n_new: int) -> dict[str, list[float]]:
    """Accuracy for each new person by number of comparisons."""
    found = {}
    for n in CONTEXTS:
        model.adapt_each(_first(known, n, CONTEXTS[-1]))
        found[str(n)] = _by_person(model.probability(asked), n_new)
    return found


def _model(world: World, scale: Scale, seed: int) -> Variational:
    return Variational(encoder=world, latent=8, hidden=64, context=8, epochs=scale.epochs, seed=seed)


def run(seed: int, scale: str, progress: Callable[[str], None]) -> dict[str, Any]:
    """All arms on one population of four groups, then people who are alike, then the grid.

    Args:
        seed: of the worlds, the weights and all draws.
        scale: a key of `SCALES`.
        progress: called with a line on what goes on.

    Returns:
        `accuracy` (arm -> number of comparisons -> of each new person), `active`, `alike`, `control`, `trust`, `nats`.
    """
    size = SCALES[scale]
    world = World(seed, size, "groups")
    learnt, n_new = world.votes(world.old, N_VOTES, 0), size.n_new
    known = world.votes(world.new, CONTEXTS[-1], 1)
    asked = world.votes(world.new, N_TARGETS, 2, controversial=True)
    progress("Bradley-Terry, distributions")
    pooled, numbers = BradleyTerry(encoder=world).fit(learnt), read_votes(world, learnt)
    sides = [world.vectors[_numbers(asked, side)] for side in ("chosen", "rejected")]
    alone = {
        "btl": pooled.probability(asked),
        "mean and variance": mean_variance(numbers, seed=seed)(*sides),
        "levels": categorical(numbers, seed=seed)(*sides),
        "oracle": 1 / (1 + np.exp(-world.oracle(asked))),
    }
    accuracy = {arm: {"8": _by_person(probability, n_new)} for arm, probability in alone.items()}
    accuracy["btl for each"] = _personal(pooled, known, asked, n_new)
    progress("VPL")
    model = _model(world, size, seed).fit(learnt)
    accuracy["vpl"] = _personal(model, known, asked, n_new)
    progress("VPL on other people's votes")
    names = world.rng.permutation(learnt.table["user"].to_pylist()).tolist()
    others = _renamed(known, np.roll(known.table["user"].to_pylist(), CONTEXTS[-1]).tolist())
    placebo = _model(world, size, seed).fit(_renamed(learnt, names))
    accuracy["placebo"] = _personal(placebo, others, asked, n_new)
    progress("questions")
    active = _active(world, model, world.new[: size.n_asked], asked)
    progress("people who are alike, and the grid")
    return {
        "accuracy": accuracy,
        "active": active,
        "alike": _alike(seed, size),
        "control": two_goals.run(seed, n_people=size.n_people, n_new=size.n_new // 2 * 2, epochs=size.epochs),
        "trust": {"vpl": model.trust_, "placebo": placebo.trust_},
        "nats": {"vpl": model.nats_, "placebo": placebo.nats_},
        "controversial": float(world.controversial(world.pairs(2000, 2)).mean()),
    }


def _active(world: World, model: Variational, people: Places, asked: Comparisons) -> dict[str, list[float]]:
    """Accuracy for each person after four questions: those that tell most, by either formula, and random ones."""
    questions = world.votes(people, N_QUESTIONS, 1)
    found: dict[str, list[float]] = {"random": [], "exact": [], "moment_matched": []}
    for person in people:
        name = world.people.names[person]
        pool, targets = questions.of(name), asked.of(name)
        answered = {"random": list(range(N_ASKED)), "exact": [], "moment_matched": []}
        for formula in ("exact", "moment_matched"):
            for _ in range(N_ASKED):
                rows = answered[formula]
                gains = model.information_gain(pool, pool.take(rows), formula=formula, seed=int(person))
                gains[rows] = -np.inf
                rows.append(int(gains.argmax()))
        for arm, rows in answered.items():
            found[arm] += _by_person(model.probability_after(pool.take(rows), targets), 1)
    return found


def _alike(seed: int, size: Scale) -> dict[str, list[float]]:
    """Accuracy for each new person where all have one taste, on random pairs."""
    world = World(seed, size, "alike")
    model = _model(world, size, seed).fit(world.votes(world.old, N_VOTES, 0))
    known, asked = world.votes(world.new, CONTEXTS[-1], 1), world.votes(world.new, N_TARGETS, 2)
    found = {"btl": _by_person(model.probability(asked), size.n_new)}  # nobody is known yet: everybody's reward
    return found | {"vpl": _personal(model, known, asked, size.n_new)["8"]}


def _interval(runs: list[dict[str, Any]], ours: Callable[[Any], Any], baseline: Callable[[Any], Any]) -> Interval:
    """Of the mean over people of ours - baseline; seeds, and people within them, are resampled."""
    values = [(np.asarray(ours(run)), np.asarray(baseline(run))) for run in runs]
    seeds = np.repeat(np.arange(len(runs)), [len(mine) for mine, _ in values])
    people = np.concatenate([np.arange(len(mine)) for mine, _ in values])
    mine, theirs = (np.concatenate(side) for side in zip(*values, strict=True))
    return nested_bootstrap(mine, theirs, seeds=seeds, clusters=people)


def _arm(arm: str, n: int = CONTEXTS[-1]) -> Callable[[Mapping[str, Any]], Any]:
    return lambda run: run["accuracy"][arm][str(n)]


def _points(found: Interval) -> str:
    return f"{100 * found.estimate:+.1f} [{100 * found.low:+.1f}, {100 * found.high:+.1f}] points"


def _mean(runs: list[dict[str, Any]], what: Callable[[Any], Any]) -> float:
    return float(np.mean([np.mean(what(run)) for run in runs]))


def verdict(runs: list[dict[str, Any]]) -> Verdict:
    """Holds if all six parts do, each by its interval over seeds and people; the notes say which do.

    Args:
        runs: what `run` gave for at least two seeds.
    """
    gain = _interval(runs, _arm("vpl"), _arm("btl"))
    growth = _interval(runs, _arm("vpl"), _arm("vpl", 1))
    placebo = _interval(runs, _arm("placebo"), _arm("btl"))
    alike = _interval(runs, lambda run: run["alike"]["vpl"], lambda run: run["alike"]["btl"])
    active = _interval(runs, lambda run: run["active"]["exact"], lambda run: run["active"]["random"])
    official = _interval(runs, lambda run: run["active"]["moment_matched"], lambda run: run["active"]["random"])
    control = _interval(runs, _returns("win rate"), _returns("unscaled"))
    heard = _interval(runs, _returns("win rate", goal=1), _returns("unscaled", goal=1))
    best = _interval(runs, _arm("vpl"), _arm("btl for each"))
    parts = {
        "a": gain.low > 0,
        "b": growth.low > 0,
        "c": placebo.low > -0.02 and placebo.high < 0.02,
        "d": alike.low > -0.005,
        "e": control.low > 0,
        "f": active.high >= 0,
    }
    said = {part: f"({part}) {'holds' if holds else 'does not hold'}" for part, holds in parts.items()}
    by_context = ", ".join(f"{n}: {100 * _mean(runs, _arm('vpl', n)):.1f}" for n in CONTEXTS)
    listed = ", ".join(
        f"{arm} {100 * _mean(runs, _arm(arm)):.1f}" for arm in runs[0]["accuracy"] if arm not in ("vpl", "btl")
    )
    share = [np.mean(np.asarray(_arm("vpl")(run)) < np.asarray(_arm("btl")(run))) for run in runs]
    trust = {arm: np.mean([run["trust"][arm] for run in runs]) for arm in ("vpl", "placebo")}
    reached = _mean(runs, _arm("vpl")) - _mean(runs, _arm("btl"))
    possible = _mean(runs, _arm("oracle")) - _mean(runs, _arm("btl"))
    notes = (
        f"simulated people; {100 * _mean(runs, lambda run: run['controversial']):.0f} % of random pairs are "
        f"controversial; accuracy after 8 comparisons, %: btl {100 * _mean(runs, _arm('btl')):.1f}, {listed}",
        f"{said['a']}: VPL - Bradley-Terry after 8 comparisons: {_points(gain)} (must be above 0)",
        f"{said['b']}: VPL by comparisons, %: {by_context}; 8 against 1: {_points(growth)} (must be above 0)",
        f"{said['c']}: placebo - Bradley-Terry: {_points(placebo)} (must lie within 2 points); trust in the "
        f"personal part {trust['placebo']:.2f}, of VPL {trust['vpl']:.2f}",
        f"{said['d']}: where people are alike, VPL - Bradley-Terry: {_points(alike)} (must be above -0.5)",
        f"{said['e']}: scaled return of the policy near random actions, reward as win rate - unscaled: "
        f"{_shown(control)} (must be above 0), of hardly decided people alone {_shown(heard)}",
        f"by scale (decided and hardly decided people): {_listed_returns(runs, 'returns')}",
        f"greedy policies, which no scale should change: {_listed_returns(runs, 'greedy')}",
        f"{said['f']}: asking what tells most - random, 4 questions: {_points(active)} (must not be surely "
        f"below 0); official formula {_points(official)}",
        f"VPL - Bradley-Terry with a posterior for each person: {_points(best)}; VPL reaches "
        f"{100 * reached / possible:.0f} % of the oracle's gain; people worse off than under one reward for all: "
        f"{100 * np.mean(share):.0f} %",
        f"{len(runs)} seeds" + ("" if len(runs) >= 5 else ": too few for the interval to mean 95 %; see scale full"),
    )
    return Verdict(_mean(runs, _arm("vpl")), _mean(runs, _arm("btl")), gain, all(parts.values()), notes)


def _shown(found: Interval) -> str:
    return f"{found.estimate:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"


def _returns(arm: str, kind: str = "returns", goal: int | None = None) -> Callable[[Mapping[str, Any]], Any]:
    """Of a run the returns of everybody, or of the people of one goal."""

    def of(run: Mapping[str, Any]) -> Array:
        wanted = np.asarray(run["control"]["goals"])
        return np.asarray(run["control"][kind][arm])[slice(None) if goal is None else wanted == goal]

    return of


def _listed_returns(runs: list[dict[str, Any]], kind: str) -> str:
    """Mean return of each scale, and of the people of each goal."""
    parts = []
    for arm in runs[0]["control"][kind]:
        mean, decided, hardly = (_mean(runs, _returns(arm, kind, goal)) for goal in (None, 0, 1))
        parts.append(f"{arm} {mean:.2f} ({decided:.2f} and {hardly:.2f})")
    return ", ".join(parts)


def figure(runs: list[dict[str, Any]]) -> Any:
    """Left: accuracy by number of comparisons, one line an arm. Right: return of each goal's people by scale.

    Args:
        runs: what `run` gave for each seed.
    """
    from matplotlib.figure import Figure

    plot = Figure(figsize=(10, 4))
    left, right = plot.subplots(1, 2)
    for arm, label in (("vpl", "VPL"), ("btl for each", "Bradley-Terry for each"), ("placebo", "VPL, others' votes")):
        left.plot(CONTEXTS, [100 * _mean(runs, _arm(arm, n)) for n in CONTEXTS], "o-", label=label)
    for number, arm in enumerate(("btl", "mean and variance", "levels", "oracle")):
        left.axhline(100 * _mean(runs, _arm(arm)), linestyle="--", color=f"C{3 + number}", label=arm)
    left.set_xscale("log", base=2)
    left.set_xticks(CONTEXTS, [str(n) for n in CONTEXTS])
    left.set_xlabel("comparisons known of a new person (simulated)")
    left.set_ylabel("accuracy on controversial pairs (%)")
    left.legend(frameon=False, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=3)
    arms = list(runs[0]["control"]["returns"])
    for goal, label in ((0, "decided people"), (1, "hardly decided people")):
        heights = [_mean(runs, _returns(arm, goal=goal)) for arm in arms]
        right.bar(np.arange(len(arms)) + 0.4 * goal - 0.2, heights, width=0.4, label=label)
    right.set_xticks(range(len(arms)), arms, fontsize=8)
    right.set_ylabel("scaled return in the grid (1 optimal, 0 random)")
    right.legend(frameon=False, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=2)
    return plot
