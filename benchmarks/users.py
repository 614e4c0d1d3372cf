"""A million people: what it costs to learn all of them, to learn a newcomer, and to score what one of them is offered.

    python benchmarks/users.py [--quick] [--json -]

Simulated people of four kinds, ten comparisons each, over 100,000 items with vectors of 384 numbers. Each size and
model runs in a process of its own, so that its peak memory, data included, is its own. Accuracy is expected accuracy
under the probabilities that the votes were drawn with, of people who were not learnt from and have shown ten
comparisons; beside it that of everybody's reward, and that of the truth. Newcomers are learnt in one call
(`adapt_each`), from records, encoding included; candidates are scored by `reward`, for one person, through an encoder
that knows the items' vectors. At the end the same fit is done here and by two Ray workers.

The bars that the numbers stand beside: at most 8 GiB, at least 1,000 people a second, at most 2 ms.
"""

import json
import sys
from functools import partial
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray
from paired import Found, Result, Stopwatch, Work, apart, arguments, peak_mib

from penchant.methods import resolve
from penchant.preference.votes import Votes
from penchant.records import Comparisons

Array = NDArray[Any]

ITEMS, DIM, EACH, KINDS = 100_000, 384, 10, 4
STRENGTH = 3.0  # standard deviation of a person's rewards, logits
SIZES = {"full": (1_000, 10_000, 100_000, 1_000_000), "quick": (300, 1_000)}
NEWCOMERS = {"full": 20_000, "quick": 1_000}
RAY_PEOPLE = {"full": 20_000, "quick": 500}
CANDIDATES, MEASURED, CALLS = 1_000, 300, 50
MODELS = {
    "ideal_point": "penchant.preference.ideal_point:IdealPoint",
    "mixture": "penchant.preference.mixture:Mixture",
}


class Catalogue:
    """An encoder of items by their number.

    Args:
        vectors: one for each item, [items, dim].
    """

    name = "catalogue"
    reads_prompts = False

    def __init__(self, vectors: Array):
        self.vectors = vectors

    def payload(self, turn: Any) -> str:
        """The item alone."""
        return str(turn.response)

    def encode(self, payloads: Any) -> Array:
        """Their vectors."""
        return np.asarray(self.vectors[np.array([int(payload) for payload in payloads], dtype=np.int64)])


class World:
    """Items, and people of a few kinds with something in common; chance is drawn in blocks, so that memory is small."""

    def __init__(self, n_items: int, *, seed: int = 0):
        rng = np.random.default_rng(seed)
        self.items = rng.standard_normal((n_items, DIM), dtype=np.float32)
        tastes = rng.standard_normal((1, DIM)) + 1.5 * rng.standard_normal((KINDS, DIM))
        tastes *= STRENGTH / np.linalg.norm(tastes, axis=1, keepdims=True)
        self.utility = (self.items @ tastes.T.astype(np.float32)).T  # [kinds, items]

    def kinds(self, n_people: int, seed: int) -> Array:
        """Of which kind each person is."""
        return np.random.default_rng([seed, 1]).integers(KINDS, size=n_people)

    def votes(self, n_people: int, seed: int) -> Votes:
        """Comparisons of everybody."""
        rng, n = np.random.default_rng([seed, 2]), n_people * EACH
        user = np.repeat(np.arange(n_people), EACH)
        first = rng.integers(len(self.items), size=n)
        second = (first + 1 + rng.integers(len(self.items) - 1, size=n)) % len(self.items)
        kind = self.kinds(n_people, seed)[user]
        ahead = self.utility[kind, first] - self.utility[kind, second]
        wins = rng.random(n, dtype=np.float32) < 1 / (1 + np.exp(-ahead))
        chosen, rejected = np.where(wins, first, second), np.where(wins, second, first)
        even = np.zeros(n, np.float32)
        return Votes(self.items, chosen, rejected, even + 1, even, user, tuple(map(str, range(n_people))))

    def records(self, votes: Votes, prefix: str) -> Comparisons:
        """The same as records."""
        import pyarrow as pa

        sides = {name: pa.array(getattr(votes, name)).cast(pa.string()) for name in ("chosen", "rejected")}
        people = pa.array([f"{prefix}{name}" for name in votes.people]).take(pa.array(votes.user))
        return Comparisons(pa.table({"prompt": pa.array([""] * len(votes)), "user": people, **sides}))

    def accuracy(self, model: Any, kinds: Array, names: list[str | None]) -> float:
        """Expected share of right predictions over pairs of items nobody was asked about in particular."""
        rng = np.random.default_rng(3)
        shown = rng.integers(len(self.items), size=400)
        right = []
        for kind, name in zip(kinds.tolist(), names, strict=True):
            liked = self.utility[kind, shown]
            ahead = liked[:200] - liked[200:]
            score = liked if model is None else model.reward([""] * 400, list(map(str, shown)), user=name)
            p = 1 / (1 + np.exp(-ahead.astype(np.float64)))
            right.append(np.where(score[:200] > score[200:], p, 1 - p).mean())
        return float(np.mean(right))


def built(name: str, encoder: Any) -> Any:
    """An unfitted model with its usual settings."""
    return resolve(MODELS[name])(encoder=encoder)


def scale(work: Work) -> Found:
    """One model, one size: fit, newcomers, candidates."""
    world = World(work["items"])
    votes = world.votes(work["people"], seed=0)
    model = built(work["model"], Catalogue(world.items))
    with Stopwatch() as fit:
        model.fit_votes(votes)
    peak = peak_mib()
    fresh = world.votes(work["newcomers"], seed=9)
    newcomers = world.records(fresh, "new ")
    with Stopwatch() as adapt:
        model.adapt_each(newcomers)
    kinds, names = world.kinds(work["newcomers"], 9)[:MEASURED], [f"new {place}" for place in range(MEASURED)]
    offered = list(map(str, range(CANDIDATES)))
    calls = []
    for name in names[:CALLS]:
        with Stopwatch() as call:
            model.reward([""] * CANDIDATES, offered, user=name)
        calls.append(call)
    return {
        "fit_seconds": fit.wall,
        "fit_cpu_seconds": fit.cpu,
        "peak_mib": peak,
        "adapted_a_second": work["newcomers"] / adapt.wall,
        "adapted_a_cpu_second": work["newcomers"] / adapt.cpu,
        "score_ms": 1000 * median(call.wall for call in calls),
        "score_cpu_ms": 1000 * median(call.cpu for call in calls),
        "accuracy": world.accuracy(model, kinds, names),
        "accuracy_everybody": world.accuracy(model, kinds, [None] * MEASURED),
        "accuracy_truth": world.accuracy(None, kinds, names),
        "bytes_a_person": model.users_.bytes_per_person,
    }


def over_ray(work: Work) -> Found:
    """The same fit here and by two Ray workers: how far rewards differ, and what it took."""
    from penchant.preference.shards import Shards, over_ray

    world = World(work["items"])
    votes = world.votes(work["people"], seed=0)
    size = max(1, work["people"] // 8)  # several shards for each worker
    here, there = (built(work["model"], Catalogue(world.items)) for _ in range(2))
    with Stopwatch() as alone:
        here.fit_votes(votes, shards=partial(Shards, people_per_shard=size))
    with over_ray(2, people_per_shard=size) as shards, Stopwatch() as together:
        there.fit_votes(votes, shards=shards)
    some = list(map(str, range(CANDIDATES)))
    rewards = [model.reward([""] * CANDIDATES, some) for model in (here, there)]
    difference = float(np.abs(rewards[0] - rewards[1]).max())
    return {"seconds_here": alone.wall, "seconds_ray": together.wall, "difference": difference}


def main() -> None:
    """All sizes of both models, then Ray."""
    asked = arguments(str(__doc__))
    if asked.work:
        job = {"scale": scale, "ray": over_ray}[asked.work["job"]]
        print(json.dumps(job(asked.work)))
        return
    form = "quick" if asked.quick else "full"
    items = 5_000 if asked.quick else ITEMS
    result = Result("users", quick=asked.quick, repeats=1, peers=())
    curves: dict[str, list[Found]] = {model: [] for model in MODELS}
    for model in MODELS:
        for people in SIZES[form]:
            work = {"job": "scale", "model": model, "people": people, "items": items, "newcomers": NEWCOMERS[form]}
            found = {"people": people, **apart(work)}
            curves[model].append(found)
            print(f"  {model}: {json.dumps(found)}", file=sys.stderr, flush=True)
        last = curves[model][-1]
        for name in ("fit_seconds", "adapted_a_second", "score_ms", "accuracy"):
            result.number(f"{model}_{name}", last[name])
        result.number(f"{model}_peak_gib", last["peak_mib"] / 1024)
        ray = apart({"job": "ray", "model": model, "people": RAY_PEOPLE[form], "items": items})
        print(f"  {model}, Ray: {json.dumps(ray)}", file=sys.stderr, flush=True)
        result.number(f"{model}_ray_difference", ray["difference"])
        result.numbers["measured"][f"{model}_ray"] = ray
    result.numbers["curves"] = curves
    result.report(asked)


if __name__ == "__main__":
    main()
