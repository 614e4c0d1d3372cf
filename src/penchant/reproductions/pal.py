"""Pluralistic alignment by ideal points: do a few prototypes serve people nobody has seen, from a few comparisons?

Real people: Jester, 5,000 people's ratings of 100 jokes, as comparisons of two jokes that one person rated at least two
points apart. Models are fitted on 40 pairs each of 300 people over 70 of the jokes; 100 other people then show n pairs
of these jokes, and are predicted on pairs of the 30 jokes that nobody was learnt from, and on other pairs of the 70.
Jokes are MiniLM vectors, reduced to 32 principal components of the 70.

Simulated people, of known truth: three kinds of people with linear tastes in 16 dimensions, and people who are all
alike. There accuracy is expected accuracy over pairs of items nobody was asked about.

Arms: PAL with three prototypes (squared distances and the logistic loss, the default here), PAL-A as in the paper
(distances and the hinge), one ideal point for all (K = 1), pooled Bradley-Terry, a Bradley-Terry reward of each person
alone, and one drawn to the pooled reward. All see the same pairs; settings are the defaults, chosen on other seeds of
the simulated people only.

What came out: kinds of people are found and newcomers are served by theirs; but on jokes that nobody was learnt from,
three prototypes are no better than one ideal point. Sentence vectors of 70 jokes tell hardly anything of the other 30:
there all shared models are a few points above chance, and there is nothing for prototypes to tell people apart by. On
known jokes a person's own reward does best, since the pairs it is tested on are of jokes that the person has judged.

Source:
    Chen, Chen, Rege, Wang and Vinayak (2025), PAL: Sample-efficient personalized reward modeling, ICLR.
"""

import csv
import gzip
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from penchant.people import People, population
from penchant.preference.bradley_terry import BradleyTerry
from penchant.preference.newton import newton
from penchant.preference.pooled import pooled
from penchant.preference.votes import Votes
from penchant.records import Comparisons
from penchant.reproductions.real_data import real_data
from penchant.reproductions.verdict import Verdict
from penchant.statistics import Interval, nested_bootstrap, paired_bootstrap
from penchant.turns import Turn

CLAIM = (
    "With three prototypes, people nobody has seen are predicted better from 20 comparisons than with one ideal point, "
    "and better than by a reward of their own from no more than 20; kinds of people are found, and where people are "
    "alike prototypes bring nothing and cost nothing."
)
METRIC = "accuracy on choices among unseen jokes by unseen people, from 20 comparisons each"
SEEDS = {"quick": 2, "full": 5}

Array = NDArray[Any]
Kind = Literal["groups", "alike"]
COUNTS = (1, 2, 5, 10, 20)
N_NEW, N_PAIRS, N_TEST = 100, 40, 60
N_LEARNT_FROM = {"tiny": 30, "quick": 120, "full": 300}
GAP, N_JOKES_SEEN, N_COMPONENTS = 2.0, 70, 32
PAL, PAPER, ONE, POOLED, ALONE, DRAWN = "pal", "pal_a_hinge", "one_ideal", "pooled", "alone", "drawn_to_pooled"
ARMS = (PAL, PAPER, ONE, POOLED, ALONE, DRAWN)
SIMULATED: tuple[Kind, ...] = ("groups", "alike")
_FEWEST_TESTS = 10  # pairs of unseen jokes that a person must have rated apart


@dataclass(frozen=True)
class World:
    """Votes of people who are learnt from, and of people who are not, in the order they show them.

    Attributes:
        seen: pairs to learn from.
        new: at least `COUNTS[-1]` pairs of each new person.
        score: of rewards [people, items] of the new people, the accuracy of each person, by kind of test.
    """

    seen: Votes
    new: Votes
    score: Callable[[Array], dict[str, Array]]


def votes_between(vectors: Array, first: Array, second: Array, wins: Array, user: Array) -> Votes:
    """Votes of people with numbers for names; `wins` says where the first is preferred."""
    n = len(user)
    chosen, rejected = np.where(wins, first, second), np.where(wins, second, first)
    names = tuple(f"{person:04d}" for person in range(int(user.max()) + 1))
    even = np.zeros(n, np.float32)
    return Votes(vectors.astype(np.float32), chosen, rejected, even + 1, even, user, names)


def crowd(kind: Kind, seed: int, n_seen: int) -> People:
    """People to learn from, and then new ones of the same kinds."""
    return population(n_seen + N_NEW, n_features=16, kind=kind, strength=4.0, spread=1.5, n_groups=3, seed=seed)


def simulated(kind: Kind, seed: int, n_seen: int) -> World:
    """People of three kinds, or all alike; accuracy is expected, over pairs of new items."""
    rng, known = np.random.default_rng([37, seed]), crowd(kind, seed, n_seen)
    items = rng.standard_normal((4000, 16))
    ends = np.split(np.arange(n_seen + N_NEW), [n_seen])

    def votes(people: Array) -> Votes:
        user = np.repeat(np.arange(len(people)), N_PAIRS)
        first, second = rng.integers(2000, size=len(user)), 2000 + rng.integers(1000, size=len(user))
        ahead = ((items[first] - items[second]) * known.tastes[people][user]).sum(axis=1)
        return votes_between(items, first, second, rng.random(len(user)) < 1 / (1 + np.exp(-ahead)), user)

    seen, new = (votes(people) for people in ends)
    utility = known.tastes[ends[1]] @ items[3000:].T
    return World(seen, new, lambda rewards: {"new": expected_accuracy(rewards[:, 3000:], utility)})


def expected_accuracy(rewards: Array, utility: Array) -> Array:
    """Of each person, over the first half of the items against the second, [people]."""
    half = utility.shape[1] // 2
    p = 1 / (1 + np.exp(utility[:, half:] - utility[:, :half]))
    ahead = rewards[:, :half] - rewards[:, half:]
    return np.asarray(np.where(ahead == 0, 0.5, np.where(ahead > 0, p, 1 - p)).mean(axis=1))


@cache
def jester() -> tuple[Array, Array] | None:
    """Ratings [people, jokes], NaN where there is none, and MiniLM vectors of the jokes; None if they are not here."""
    rated, texts = real_data("jester_jokes/ratings.csv.gz"), real_data("jester_jokes/jokes.jsonl")
    if rated is None or texts is None:
        return None
    from penchant.encoders import MiniLM

    jokes = [json.loads(line)["text"] for line in texts.read_text(encoding="utf-8").splitlines()]
    with gzip.open(rated, "rt", encoding="utf-8") as lines:
        rows = [(int(row["user"]), int(row["joke"]), float(row["rating"])) for row in csv.DictReader(lines)]
    user, joke, rating = (np.array(column) for column in zip(*rows, strict=True))
    people, place = np.unique(user, return_inverse=True)
    ratings = np.full((len(people), len(jokes)), np.nan)
    ratings[place, joke - 1] = rating
    return ratings, MiniLM().encode(jokes).astype(np.float64)


def real(seed: int, n_seen: int) -> World | None:
    """Jester, with people and jokes set aside; None if it is not here."""
    if (known := jester()) is None:
        return None
    ratings, vectors = known
    rng = np.random.default_rng([37, 1, seed])
    jokes = rng.permutation(len(vectors))
    shown, unseen = jokes[:N_JOKES_SEEN], jokes[N_JOKES_SEEN:]
    enough = [_apart(ratings, shown) >= N_PAIRS + _FEWEST_TESTS, _apart(ratings, unseen) >= _FEWEST_TESTS]
    people = rng.permutation(np.flatnonzero(enough[0] & enough[1]))[: n_seen + N_NEW]
    centred = vectors - vectors[shown].mean(axis=0)
    items = centred @ np.linalg.svd(centred[shown], full_matrices=False)[2][:N_COMPONENTS].T
    own = [_pairs(ratings[person], shown, N_PAIRS + N_TEST, rng) for person in people]
    tests = {
        "unseen_jokes": [_pairs(ratings[person], unseen, N_TEST, rng) for person in people[n_seen:]],
        "known_jokes": [pairs[N_PAIRS:] for pairs in own[n_seen:]],
    }

    def votes(pairs: list[Array]) -> Votes:
        user = np.repeat(np.arange(len(pairs)), [len(some[:N_PAIRS]) for some in pairs])
        chosen, rejected = np.concatenate([some[:N_PAIRS] for some in pairs]).T
        return votes_between(items, chosen, rejected, np.ones(len(user), dtype=bool), user)

    def score(rewards: Array) -> dict[str, Array]:
        return {
            name: np.array([_right(*one) for one in zip(rewards, some, strict=True)]) for name, some in tests.items()
        }

    return World(votes(own[:n_seen]), votes(own[n_seen:]), score)


def _apart(ratings: Array, jokes: Array) -> Array:
    """How many pairs of jokes each person rated apart, [people]."""
    sorted_rows = np.sort(ratings[:, jokes], axis=1)  # NaN last
    below = [np.searchsorted(row, row - GAP, side="right")[np.isfinite(row)].sum() for row in sorted_rows]
    return np.array(below)


def _pairs(rated: Array, jokes: Array, n: int, rng: np.random.Generator) -> Array:
    """At most so many different pairs of jokes, the better first, that somebody rated apart, [pairs, 2]."""
    known = jokes[np.isfinite(rated[jokes])]
    above = np.argwhere(rated[known][:, None] - rated[known][None] >= GAP)
    return np.asarray(known[above[rng.permutation(len(above))[:n]]]).reshape(-1, 2)


def _right(rewards: Array, pairs: Array) -> float:
    """Share of pairs whose better one has the higher reward; an even one counts half."""
    ahead = rewards[pairs[:, 0]] - rewards[pairs[:, 1]]
    return float(np.where(ahead == 0, 0.5, ahead > 0).mean()) if len(pairs) else 0.5


# Arms -----------------------------------------------------------------------------------------------------------------


def learnt(world: World, arm: str, seed: int) -> Any:
    """A model of ideal points, fitted on the people to learn from."""
    from penchant.preference.ideal_point import IdealPoint

    settings: dict[str, Any] = {"score": "distance", "loss": "hinge"} if arm == PAPER else {}
    n_prototypes = 1 if arm == ONE else 3
    model = IdealPoint(encoder=Numbered(world.seen.vectors), n_prototypes=n_prototypes, seed=seed, **settings)
    return model.fit_votes(world.seen)


def rewards_by(model: Any, world: World) -> dict[int, Array]:
    """Rewards [people, items] for new people, by how many of their comparisons were shown."""
    found = {}
    for n in COUNTS:
        model.adapt_votes(first_of_each(world.new, n))
        found[n] = np.stack([model.reward_of(world.new.vectors, user=name) for name in world.new.people])
    return found


class Numbered:
    """Vectors by their number, as an encoder.

    Args:
        vectors: [items, dim].
    """

    name = "numbered"
    reads_prompts = False

    def __init__(self, vectors: Any):
        self.vectors = vectors

    def payload(self, turn: Turn) -> str:
        """The response alone."""
        return turn.response

    def encode(self, payloads: Sequence[str]) -> Any:
        """Vectors of numbers, float32[n, dim]."""
        return np.asarray(self.vectors[[int(payload) for payload in payloads]], dtype=np.float32)


def records(votes: Votes) -> Comparisons:
    """Votes as comparisons of numbers."""
    sides = {name: pa.array(getattr(votes, name)).cast(pa.string()) for name in ("chosen", "rejected")}
    users = pa.array(votes.people).take(pa.array(votes.user))
    return Comparisons(pa.table({"prompt": pa.array([""] * len(votes)), "user": users, **sides}))


def linear_by(world: World, arm: str) -> dict[int, Array]:
    """The same by linear rewards."""
    everybody = pooled(world.seen)
    items = world.new.vectors / everybody.scale
    if arm == POOLED:
        alike = np.tile(items @ everybody.weights, (len(world.new.people), 1))
        return dict.fromkeys(COUNTS, alike)
    if arm == DRAWN:
        model = BradleyTerry(encoder=Numbered(world.new.vectors)).fit(records(world.seen))
    found = {}
    for n in COUNTS:
        shown = first_of_each(world.new, n)
        if arm == DRAWN:
            weights = model.adapt_each(records(shown)).users_
            own = np.stack([weights[name].weights for name in world.new.people])
        else:
            own = np.stack(
                [newton(one.difference / everybody.scale, one.strength, l2=1.0).weights for _, one in shown.each()]
            )
        found[n] = own @ items.T
    return found


def first_of_each(votes: Votes, n: int) -> Votes:
    """The first n pairs of each person; votes stand person by person."""
    starts = np.searchsorted(votes.user, votes.user)
    return votes.of(np.arange(len(votes)) - starts < n)


# Runs -----------------------------------------------------------------------------------------------------------------


def run(seed: int, scale: str, progress: Callable[[str], None]) -> dict[str, Any]:
    """One seed of each world.

    Returns:
        By world and kind of test: `accuracy` of each arm and count, [people]; and of the simulated kinds of people the
        accuracy of the truth and the adjusted Rand index of people's heaviest prototypes.
    """
    import torch

    before = torch.get_num_threads()
    n_seen = N_LEARNT_FROM[scale]
    torch.set_num_threads(1)  # small tensors: a second thread costs more than it brings
    try:
        worlds: dict[str, World | None] = {kind: simulated(kind, seed, n_seen) for kind in SIMULATED}
        worlds["jester"] = real(seed, n_seen)
        found: dict[str, Any] = {"accuracy": {}}
        for name, world in worlds.items():
            if world is None:
                continue
            accuracy: dict[str, dict[str, dict[str, list[float]]]] = {}
            for arm in ARMS:
                model = learnt(world, arm, seed) if arm in (PAL, PAPER, ONE) else None
                for n, rewards in (linear_by(world, arm) if model is None else rewards_by(model, world)).items():
                    for test, right in world.score(rewards).items():
                        accuracy.setdefault(test, {}).setdefault(arm, {})[str(n)] = right.tolist()
                if (name, arm) == ("groups", PAL):
                    found["known"] = kinds_found(model, world, seed, n_seen)
                progress(f"pal: {name}, {arm}, seed {seed}")
            found["accuracy"][name] = accuracy
        return found
    finally:
        torch.set_num_threads(before)


def kinds_found(model: Any, world: World, seed: int, n_seen: int) -> dict[str, Any]:
    """People of three kinds who were learnt from: accuracy beside that of the truth, and whether kinds are found."""
    known = crowd("groups", seed, n_seen)
    items = np.random.default_rng([37, 2, seed]).standard_normal((400, 16))
    utility = known.tastes[:n_seen] @ items.T
    model.users_.clear()
    model.adapt_votes(world.seen)
    own = np.stack([model.reward_of(items.astype(np.float32), user=name) for name in world.seen.people])
    heaviest = model.users_.column("weights")[model.users_.places(world.seen.people)].argmax(axis=1)
    return {
        "ours": expected_accuracy(own, utility).tolist(),
        "oracle": expected_accuracy(utility, utility).tolist(),
        "rand_index": adjusted_rand(known.groups[:n_seen], heaviest),
    }


def adjusted_rand(labels: Any, others: Any) -> float:
    """Agreement of two groupings beyond chance; 1 for the same grouping, 0 by chance (Hubert and Arabie 1985).

    >>> adjusted_rand([0, 0, 1, 1], [5, 5, 2, 2])
    1.0
    """
    table = np.zeros((len(set(labels)), len(set(others))))
    np.add.at(table, (np.unique(labels, return_inverse=True)[1], np.unique(others, return_inverse=True)[1]), 1)

    def pairs(counts: Array) -> float:
        return float((counts * (counts - 1) / 2).sum())

    both, first, second = pairs(table), pairs(table.sum(axis=1)), pairs(table.sum(axis=0))
    chance = first * second / pairs(np.array([table.sum()]))
    return 1.0 if first + second == 2 * chance else (both - chance) / ((first + second) / 2 - chance)


# Verdict --------------------------------------------------------------------------------------------------------------


def difference(runs: list[dict[str, Any]], place: tuple[str, str], ours: str, other: str, n: int) -> Interval:
    """Accuracy of one arm less that of another over all new people and seeds, [world and test]."""
    world, test = place
    cells = [run["accuracy"][world][test] for run in runs]
    a, b = (np.concatenate([cell[arm][str(n)] for cell in cells]) for arm in (ours, other))
    people = np.concatenate([np.arange(len(cell[ours][str(n)])) for cell in cells])
    seeds = np.repeat(np.arange(len(cells)), [len(cell[ours][str(n)]) for cell in cells])
    if len(cells) < 2:
        return paired_bootstrap(a, b, seed=0)
    return nested_bootstrap(a, b, seeds=seeds, clusters=people, seed=0)


def mean(runs: list[dict[str, Any]], place: tuple[str, str], arm: str, n: int) -> float:
    """Mean accuracy over new people and seeds."""
    return float(np.mean([np.mean(run["accuracy"][place[0]][place[1]][arm][str(n)]) for run in runs]))


def verdict(runs: list[dict[str, Any]]) -> Verdict:
    """Holds if all parts do: (A) and (B) on Jester, (C) and (D) on simulated people, each by its interval."""
    n = COUNTS[-1]
    found = [_found(runs), _alike(runs)]
    notes = [*(note for _, note in found), _kinds(runs)]
    if "jester" not in runs[0]["accuracy"]:
        notes.append("(A), (B) Jester is not here, so they were not tested: set PENCHANT_DATA to the folder it is in.")
        place, holds = ("groups", "new"), False
    else:
        place = ("jester", "unseen_jokes")
        gain = difference(runs, place, PAL, ONE, n)
        alone = [difference(runs, place, PAL, ALONE, count) for count in COUNTS]
        is_better, is_cheaper = gain.low > 0, all(one.low > 0 for one in alone)
        listed = ", ".join(f"{count}: {_points(one)}" for count, one in zip(COUNTS, alone, strict=True))
        notes = [
            f"(A) Jester, unseen people and jokes: K = 3 less K = 1 {_points(gain)} points: {_word(is_better)}.",
            f"(B) The same, less a reward of one's own, by comparisons shown: {listed} points: {_word(is_cheaper)}.",
            *notes,
            *(_beside(runs, ("jester", test)) for test in ("unseen_jokes", "known_jokes")),
        ]
        holds = is_better and is_cheaper and all(part for part, _ in found)
    interval = difference(runs, place, PAL, ONE, n)
    return Verdict(mean(runs, place, PAL, n), mean(runs, place, ONE, n), interval, holds, tuple(notes))


def _found(runs: list[dict[str, Any]]) -> tuple[bool, str]:
    """Whether kinds of people are found, who were learnt from."""
    ours, oracle = (np.concatenate([run["known"][name] for run in runs]) for name in ("ours", "oracle"))
    short = paired_bootstrap(ours, oracle, seed=0)
    index = min(run["known"]["rand_index"] for run in runs)
    holds = short.low > -0.02 and index > 0.9
    return holds, (
        f"(C) Simulated, three kinds of people, those learnt from: accuracy less the truth's {_points(short)} points "
        f"(needed: above -2), adjusted Rand index at least {index:.2f} (needed: 0.9): {_word(holds)}."
    )


def _alike(runs: list[dict[str, Any]]) -> tuple[bool, str]:
    """Whether prototypes neither bring nor cost anything where people are alike."""
    gain, cost = (difference(runs, ("alike", "new"), PAL, arm, COUNTS[-1]) for arm in (ONE, POOLED))
    holds = gain.high <= 0.01 and cost.low >= -0.005
    return holds, (
        f"(D) Simulated, people who are alike: K = 3 less K = 1 {_points(gain)} points (needed: at most 1), "
        f"less pooled {_points(cost)} (needed: at least -0.5): {_word(holds)}."
    )


def _kinds(runs: list[dict[str, Any]]) -> str:
    """How new people of three kinds fare."""
    place, n = ("groups", "new"), COUNTS[-1]
    cells = [run["accuracy"]["groups"]["new"] for run in runs]
    worse = np.mean([np.array(cell[PAL][str(n)]) < np.array(cell[POOLED][str(n)]) - 1e-12 for cell in cells])
    listed = "; ".join(
        f"{arm} {100 * mean(runs, place, arm, 5):.1f} % from 5, {100 * mean(runs, place, arm, n):.1f} % from {n}"
        for arm in ARMS
    )
    return (
        f"Simulated, three kinds, new people: {listed}. From {n}, PAL predicts {100 * worse:.1f} % worse than pooled."
    )


def _beside(runs: list[dict[str, Any]], place: tuple[str, str]) -> str:
    """All arms on Jester."""
    n = COUNTS[-1]
    listed = ", ".join(f"{arm} {100 * mean(runs, place, arm, n):.1f} %" for arm in ARMS)
    less = ", ".join(f"less {arm} {_points(difference(runs, place, PAL, arm, n))}" for arm in ARMS if arm != PAL)
    return f"Jester, {place[1].replace('_', ' ')}, from {n}: {listed}; PAL {less} points."


def _points(interval: Interval) -> str:
    return f"{100 * interval.estimate:.1f} [{100 * interval.low:.1f}, {100 * interval.high:.1f}]"


def _word(holds: bool) -> str:
    return "holds" if holds else "does not hold"


def figure(runs: list[dict[str, Any]]) -> Any:
    """Accuracy of new people by the comparisons they have shown, a panel for each world, a line for each arm."""
    from matplotlib.figure import Figure

    panels = {("groups", "new"): "simulated: three kinds", ("alike", "new"): "simulated: all alike"}
    if "jester" in runs[0]["accuracy"]:
        panels |= {("jester", "unseen_jokes"): "Jester, unseen jokes", ("jester", "known_jokes"): "Jester, known jokes"}
    plot = Figure(figsize=(3.4 * len(panels), 3.6), layout="constrained")
    for axes, (place, title) in zip(np.atleast_1d(plot.subplots(1, len(panels))), panels.items(), strict=True):
        for arm in ARMS:
            axes.plot(COUNTS, [100 * mean(runs, place, arm, n) for n in COUNTS], "o-", markersize=3, label=arm)
        axes.set(title=title, xscale="log", xlabel="comparisons shown by a new person", xticks=COUNTS)
        axes.set_xticklabels(COUNTS)
        axes.minorticks_off()
    axes.legend(frameon=False, fontsize=7)
    plot.axes[0].set_ylabel("accuracy (%)")
    return plot
