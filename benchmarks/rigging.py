"""How many rigged votes are found, how many honest people are named for nothing, and how far a target gets.

    python benchmarks/rigging.py [--quick] [--json -]

Everybody here is simulated: 10 systems, 400 people who each cast about 40 votes and differ in taste (0.3 logits from
person to person for each system, which no test is told), 15 % ties, 8 % both bad. One person in ten is hostile, or
careless, in one of these ways, each with as many votes as others:

- `target_only`: has only battles of the target and votes for it each time;
- `covered`: the same in half of the votes, the others honest ones on any pair;
- `everywhere`: as `covered`, and in battles without the target votes against whoever stands just above it;
- `against`: votes against the leader whenever it plays (half of the battles);
- `careless`: flips a coin, which has no target but blurs the order; 20, 40 and 80 votes of each person (`_seldom`,
  `_often`), as how many it takes to see that is the question;
- `burst`: 10 % of all votes come from names used once or twice, for the target, within the last tenth of the time.

A rigged vote is one cast for the target (against the leader) by such a person, whoever would have won; a careless one
is any of a clicker. The false alarms are the honest people named, as a share of all honest people, and the honest votes
flagged, as a share of all honest ones. The target stands in the middle of the order. How far it gets is its place among
all votes, and without the flagged ones, against its place by the honest votes alone.
"""

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from paired import Found, Result, arguments
from scipy.special import expit

from penchant.evaluate.leaderboard import leaderboard
from penchant.evaluate.rigging import suspicion, without_suspects
from penchant.records import Battles

N_SYSTEMS, N_PEOPLE, N_VOTES = 10, 400, 40
TASTE, TIES, BOTH_BAD, HOSTILE = 0.3, 0.15, 0.08, 0.1
CARELESS = {"careless_seldom": 20, "careless": N_VOTES, "careless_often": 80}  # votes of each person
CASES = ("target_only", "covered", "everywhere", "against", *CARELESS, "burst", "nobody")
FIRST_SEED = 1000  # the method was made on others
TARGET, LEADER = 5, 0  # places in the true order

Votes = dict[str, NDArray[Any]]


def world(case: str, seed: int) -> Votes:
    """Who voted for what, which votes are rigged and which people are honest; all simulated."""
    rng = np.random.default_rng(seed)
    truth = np.linspace(1.0, -1.0, N_SYSTEMS)
    n_votes = CARELESS.get(case, N_VOTES)
    honest = _honest(rng, truth, N_PEOPLE, n_votes)
    if case == "nobody":
        return honest
    hostile = _hostile(case, rng, truth, n_votes)
    if case != "burst":
        # Hostile people take the place of honest ones, so that they are one in ten.
        stays = honest["person"] >= round(HOSTILE * N_PEOPLE)
        honest = {name: column[stays] for name, column in honest.items()}
    both = {name: np.concatenate([honest[name], hostile[name]]) for name in honest}
    order = np.argsort(both["time"], kind="stable")
    return {name: column[order] for name, column in both.items()}


def _honest(rng: np.random.Generator, truth: NDArray[Any], n_people: int, n_votes: int) -> Votes:
    person = np.repeat(np.arange(n_people), rng.poisson(n_votes, n_people))
    first, second = _any_pair(rng, len(person))
    liking = truth + TASTE * rng.standard_normal((n_people, N_SYSTEMS))
    kind = _vote(rng, liking[person, first] - liking[person, second])
    return _columns(person, first, second, kind, rng.random(len(person)), rigged=np.zeros(len(person), bool))


def _hostile(case: str, rng: np.random.Generator, truth: NDArray[Any], n_votes: int) -> Votes:
    n_people = round(HOSTILE * N_PEOPLE)
    if case == "burst":
        n = round(HOSTILE * N_PEOPLE * N_VOTES)
        person = N_PEOPLE + rng.integers(round(n / 1.5), size=n)
        first, second = _with(rng, TARGET, n)
        return _columns(person, first, second, first != TARGET, 0.9 + 0.1 * rng.random(n), rigged=np.ones(n, bool))
    person = N_PEOPLE + np.repeat(np.arange(n_people), rng.poisson(n_votes, n_people))
    n = len(person)
    first, second = _any_pair(rng, n)
    kind = _vote(rng, truth[first] - truth[second])
    if case in CARELESS:
        return _columns(person, first, second, rng.integers(0, 2, n), rng.random(n), rigged=np.ones(n, bool))
    system = LEADER if case == "against" else TARGET
    chosen = np.ones(n, bool) if case == "target_only" else rng.random(n) < 0.5
    first[chosen], second[chosen] = _with(rng, system, int(chosen.sum()))
    plays = (first == system) | (second == system)
    loses = case == "against"
    kind = np.where(plays, np.where((first == system) != loses, 0, 1), kind)
    if case == "everywhere":
        rival = TARGET - 1
        meets = ~plays & ((first == rival) | (second == rival))
        kind = np.where(meets, np.where(first == rival, 1, 0), kind)
        plays = plays | meets
    return _columns(person, first, second, kind, rng.random(n), rigged=plays)


def _any_pair(rng: np.random.Generator, n: int) -> tuple[NDArray[Any], NDArray[Any]]:
    first = rng.integers(N_SYSTEMS, size=n)
    return first, (first + rng.integers(1, N_SYSTEMS, size=n)) % N_SYSTEMS


def _with(rng: np.random.Generator, system: int, n: int) -> tuple[NDArray[Any], NDArray[Any]]:
    other = (system + rng.integers(1, N_SYSTEMS, size=n)) % N_SYSTEMS
    side = rng.random(n) < 0.5
    return np.where(side, system, other), np.where(side, other, system)


def _vote(rng: np.random.Generator, logit: NDArray[Any]) -> NDArray[Any]:
    """0 the first wins, 1 the second, 2 a tie, 3 both bad."""
    n = len(logit)
    kind = np.where(rng.random(n) < expit(logit), 0, 1)
    kind = np.where(rng.random(n) < TIES, 2, kind)
    return np.where(rng.random(n) < BOTH_BAD, 3, kind)


def _columns(person: Any, first: Any, second: Any, kind: Any, time: Any, *, rigged: Any) -> Votes:
    return {
        "person": person,
        "first": first,
        "second": second,
        "kind": kind.astype(int),
        "time": time,
        "rigged": rigged,
    }


def battles_of(votes: Votes) -> Battles:
    """The same as records."""
    names = np.array([f"system-{place}" for place in range(N_SYSTEMS)], dtype=object)
    seconds = (votes["time"] * 30 * 86_400 * 1e6).astype("int64")
    return Battles(
        pa.table(
            {
                "system_a": names[votes["first"]],
                "system_b": names[votes["second"]],
                "outcome": np.array(["a", "b", "tie", "both_bad"], dtype=object)[votes["kind"]],
                "user": [f"person-{number}" for number in votes["person"]],
                "time": pa.array(seconds, pa.timestamp("us", tz="UTC")),
            }
        )
    )


def studied(case: str, seed: int) -> Found:
    """What is found in one world."""
    votes = world(case, seed)
    battles = battles_of(votes)
    found = suspicion(battles)
    counts = votes["kind"] != 3
    rigged, person = votes["rigged"][counts], votes["person"][counts]
    is_honest = person < N_PEOPLE
    people = {suspect.user for suspect in found.people}
    honest = np.unique(votes["person"][votes["person"] < N_PEOPLE])
    plain = counts & (votes["person"] < N_PEOPLE)
    target = f"system-{LEADER if case == 'against' else TARGET}"
    alone = _place(battles.take(np.flatnonzero(plain)), target)
    return {
        "found": float(found.votes[rigged].mean()) if rigged.any() else float("nan"),
        "false_people": float(np.mean([f"person-{number}" in people for number in honest])),
        "false_votes": float(found.votes[is_honest].mean()),
        "moved": float(abs(_place(battles, target) - alone)),
        "moved_filtered": float(abs(_place(without_suspects(battles, found), target) - alone)),
    }


def _place(battles: Battles, system: str) -> int:
    return [row.system for row in leaderboard(battles).standings].index(system)


def main() -> None:
    """Every case, many worlds."""
    asked = arguments(str(__doc__), CASES)
    n_worlds = 4 if asked.quick else 20
    result = Result("rigging", quick=asked.quick, repeats=n_worlds, peers=("numpy", "scipy"))
    result.numbers |= {"simulated": True, "systems": N_SYSTEMS, "people": N_PEOPLE, "hostile": HOSTILE}
    if asked.case:
        result.go_on()
    for case in [asked.case] if asked.case else CASES:
        worlds = [studied(case, FIRST_SEED + seed) for seed in range(n_worlds)]
        result.keep(case, {"simulated": worlds})
        for key in ("found", "false_people", "false_votes"):
            values = np.array([one[key] for one in worlds])
            if np.isfinite(values).all():
                result.number(f"{case}_{key}", float(values.mean()))
                result.numbers["spread"][f"{case}_{key}"] = [float(values.min()), float(values.max())]
        for key in ("moved", "moved_filtered"):
            values = np.array([one[key] for one in worlds])
            result.number(f"{case}_{key}_most", float(values.max()))
            result.number(f"{case}_{key}_at_most_one", float((values <= 1).mean()))
    result.report(asked)


if __name__ == "__main__":
    main()
