"""A live arena's statistics: do intervals hold, does the order beat Elo, do the gate and the choice of pairs help?

Everybody here is simulated. A world has ten systems, four of which sing, and 2,000 people with a reliability (how much
of a difference they hear) and ears of their own (what each likes of each system besides its ability). Three prompts in
ten want a voice and meet only systems that sing. Votes follow Davidson's model of ties; 8 % find both bad. In worlds
with inattentive people, 15 % of them vote at random and mostly listen to a clip for less than 5 seconds.

What is estimated are the scores that infinitely many attentive votes would give: the Bradley-Terry fit, ties half, to
the exact chances of all 2,000 people, each as often as they vote. Claim A has no inattentive people; B and C have; D
has none, and its arms differ only in how pairs are drawn. Settings of the worlds are the card's; none was tuned.

Left out: the real votes of MT-bench and PandaLM and the published snapshots, which the card also names.

Source:
    Kim et al. (2025), Music Arena: Live Evaluation for Text-to-Music.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.stats import kendalltau

from penchant.evaluate.leaderboard import POINTS, leaderboard
from penchant.evaluate.pairing import shrinkage
from penchant.evaluate.rating_baselines import online_elo
from penchant.preference.counts import Counts, optimum
from penchant.records import Battles
from penchant.reproductions.verdict import Verdict
from penchant.statistics import Interval, paired_bootstrap

CLAIM = (
    "Intervals of arena scores cover the truth in 90 to 98 % of cases; the arena orders systems better than online "
    "Elo (K = 4 and 32); a gate of 5 seconds of listening lowers the error of scores; and pairs chosen by what a vote "
    "tells need fewer votes than uniform ones to a Kendall tau of 0.9."
)
METRIC = "Kendall tau to the true order, 300, 1,000 and 3,000 votes (simulated people)"
SEEDS = {"quick": 3, "full": 10}

Array = NDArray[np.float64]
Places = NDArray[np.int64]

N_SYSTEMS, N_VOCAL, N_PEOPLE = 10, 4, 2000
SIZES = (300, 1000, 3000)
STEPS = (4.0, 32.0)
TIES, BOTH_BAD, INATTENTIVE, GATE = 0.6, 0.08, 0.15, 5.0
ENOUGH = 0.9
_VOICE_WANTED, _ABILITY, _EARS = 0.3, 0.6, 0.5  # share of prompts; standard deviations in logits
_WORLDS = {"quick": 8, "full": 20}
_ROUND, _MOST = 15, 1500  # votes between two choices of pairs; most votes of claim D


@dataclass(frozen=True)
class World:
    """Systems and people.

    Attributes:
        liking: logits, reliability times ability and ears, [people, systems].
        share: of all votes that each person gives, [people].
        careless: who votes at random, bool[people].
    """

    liking: Array
    share: Array
    careless: NDArray[np.bool_]


@dataclass(frozen=True)
class Ballots:
    """Votes: who, between whom, with what result (NaN: both bad), after how many seconds of each, [votes]."""

    people: Places
    first: Places
    second: Places
    result: Array
    listened: Array

    def of(self, rows: Any) -> "Ballots":
        """Some of them."""
        return Ballots(self.people[rows], self.first[rows], self.second[rows], self.result[rows], self.listened[rows])

    @property
    def counts(self) -> Counts:
        """Added up; none of them may have found both bad."""
        won, even = self.result == 1, self.result == 0.5
        return Counts.of(
            np.concatenate([self.first, self.second]),
            np.concatenate([self.second, self.first]),
            np.concatenate([won, self.result == 0]).astype(np.float64),
            N_SYSTEMS,
            ties=np.concatenate([even, np.zeros_like(even)]).astype(np.float64),
        )

    def battles(self) -> Battles:
        """As records."""
        words = np.select([self.result == 1, self.result == 0, self.result == 0.5], ["a", "b", "tie"], "both_bad")
        columns = {
            "system_a": pa.array([f"s{place}" for place in self.first]),
            "system_b": pa.array([f"s{place}" for place in self.second]),
            "outcome": pa.array(words.tolist()),
            "user": pa.array([f"u{place}" for place in self.people]),
            "attention_a": pa.array(self.listened[:, 0]),
            "attention_b": pa.array(self.listened[:, 1]),
        }
        return Battles(pa.table(columns))


def world(rng: np.random.Generator, *, inattentive: float) -> World:
    """A world drawn at random."""
    ability = _ABILITY * rng.standard_normal(N_SYSTEMS)
    reliability = np.exp(0.3 * rng.standard_normal((N_PEOPLE, 1)))
    liking = reliability * (ability + _EARS * rng.standard_normal((N_PEOPLE, N_SYSTEMS)))
    share = rng.exponential(size=N_PEOPLE)
    return World(liking, share / share.sum(), rng.random(N_PEOPLE) < inattentive)


def chances(difference: Array) -> tuple[Array, Array]:
    """P(first wins) and P(tie) in Davidson's model, of a difference in logits."""
    even = TIES * np.exp(difference / 2)
    total = np.exp(difference) + even + 1
    return np.exp(difference) / total, even / total


def true_scores(here: World) -> Array:
    """Points that infinitely many votes of attentive people would give, [systems]."""
    share = np.where(here.careless, 0.0, here.share)
    design = np.full((N_SYSTEMS, N_SYSTEMS), (1 - _VOICE_WANTED) / (N_SYSTEMS * (N_SYSTEMS - 1)))
    design[:N_VOCAL, :N_VOCAL] += _VOICE_WANTED / (N_VOCAL * (N_VOCAL - 1))
    np.fill_diagonal(design, 0.0)
    won = np.empty((N_SYSTEMS, N_SYSTEMS))
    for i in range(N_SYSTEMS):
        wins, even = chances(here.liking[:, [i]] - here.liking)
        won[i] = share @ (wins + even / 2) / share.sum()
    found, _ = optimum(1e6 * design * won)
    return np.asarray(1000 + POINTS * found)


def pairs(n: int, rng: np.random.Generator) -> tuple[Places, Places]:
    """Uniform pairs, of systems that sing where a voice is wanted."""
    among = np.where(rng.random(n) < _VOICE_WANTED, N_VOCAL, N_SYSTEMS)
    first = rng.integers(among)
    return first, (first + 1 + rng.integers(among - 1)) % among


def vote(here: World, first: Places, second: Places, rng: np.random.Generator) -> Ballots:
    """What people drawn by how often they vote say of pairs."""
    n = len(first)
    people = rng.choice(N_PEOPLE, n, p=here.share)
    careless = here.careless[people]
    wins, even = chances(here.liking[people, first] - here.liking[people, second])
    wins, even = np.where(careless, 1 / 3, wins), np.where(careless, 1 / 3, even)
    drawn = rng.random(n)
    result = np.select([drawn < wins, drawn < wins + even], [1.0, 0.5], 0.0)
    result[rng.random(n) < BOTH_BAD] = np.nan
    listened = np.where(careless[:, None], rng.exponential(4.0, (n, 2)), GATE + rng.gamma(2.0, 8.0, (n, 2)))
    return Ballots(people, first, second, result, listened)


def board(ballots: Ballots) -> tuple[Array, Array, Array]:
    """Scores and the ends of their intervals, NaN for systems without votes, [systems] each."""
    found = np.full((3, N_SYSTEMS), np.nan)
    for row in leaderboard(ballots.battles()).standings:
        found[:, int(row.system[1:])] = row.score, row.ci_low, row.ci_high
    return found[0], found[1], found[2]


def _tau(scores: Array, truth: Array) -> float:
    return float(kendalltau(scores, truth, nan_policy="omit").statistic)


def votes_needed(here: World, truth: Array, rng: np.random.Generator, *, chosen: bool) -> int:
    """Votes until the order's tau is at least 0.9 for three rounds running; `_MOST` where it never is."""
    seen = vote(here, *pairs(_ROUND, rng), rng)
    upper = np.triu_indices(N_SYSTEMS, 1)
    row = 0
    for n in range(_ROUND, _MOST, _ROUND):
        kept = seen.of(~np.isnan(seen.result))
        counts = kept.counts
        row = row + 1 if _tau(optimum(counts.score, l2=1e-2)[0], truth) >= ENOUGH else 0
        if row == 3:
            return n
        if chosen:
            best = np.argsort(-shrinkage(counts)[upper])[:_ROUND]
            first, second = upper[0][best], upper[1][best]
        else:
            first = rng.integers(N_SYSTEMS, size=_ROUND)
            second = (first + rng.integers(1, N_SYSTEMS, size=_ROUND)) % N_SYSTEMS
        new = vote(here, first, second, rng)
        seen = Ballots(*(np.concatenate([getattr(part, name) for part in (seen, new)]) for name in _COLUMNS))
    return _MOST


_COLUMNS = ("people", "first", "second", "result", "listened")


def one_world(rng: np.random.Generator) -> dict[str, Any]:
    """All four claims in one world."""
    calm, busy = world(rng, inattentive=0.0), world(rng, inattentive=INATTENTIVE)
    truth_calm, truth = true_scores(calm), true_scores(busy)
    result: dict[str, Any] = {}
    for n in SIZES:
        score, low, high = board(vote(calm, *pairs(n, rng), rng))
        ballots = vote(busy, *pairs(n, rng), rng)
        all_votes, gated = board(ballots)[0], board(ballots.of((ballots.listened >= GATE).all(axis=1)))[0]
        kept = ballots.of(~np.isnan(ballots.result))
        elo = [online_elo(kept.first, kept.second, kept.result, N_SYSTEMS, step=step) for step in STEPS]
        result[str(n)] = {
            "covered": float(((low <= truth_calm) & (truth_calm <= high))[~np.isnan(score)].mean()),
            "width": float(np.nanmean(high - low)),
            "tau": _tau(all_votes, truth),
            "elo": [_tau(rating, truth) for rating in elo],
            "rmse": float(np.sqrt(np.nanmean((all_votes - truth) ** 2))),
            "rmse_gated": float(np.sqrt(np.nanmean((gated - truth) ** 2))),
        }
    result["needed"] = {
        "uniform": votes_needed(calm, truth_calm, rng, chosen=False),
        "chosen": votes_needed(calm, truth_calm, rng, chosen=True),
    }
    return result


def run(seed: int, scale: str, progress: Callable[[str], None]) -> dict[str, Any]:
    """One block of worlds."""
    rng = np.random.default_rng([47, seed])
    worlds = [one_world(rng) for _ in range(_WORLDS[scale])]
    progress(f"music-arena: {len(worlds)} worlds voted on")
    return {"worlds": worlds}


def _column(runs: list[dict[str, Any]], n: int, name: str) -> Array:
    return np.array([one[str(n)][name] for run in runs for one in run["worlds"]])


def _said(name: str, found: Interval, digits: int = 3) -> str:
    return f"{name} {found.estimate:+.{digits}f} [{found.low:+.{digits}f}, {found.high:+.{digits}f}]"


def verdict(runs: list[dict[str, Any]]) -> Verdict:
    """Holds if all four parts do, each by its interval over worlds."""
    covered = {n: paired_bootstrap(_column(runs, n, "covered")) for n in SIZES}
    tau = np.mean([_column(runs, n, "tau") for n in SIZES], axis=0)
    elo = np.mean([_column(runs, n, "elo") for n in SIZES], axis=0)
    over_elo = [paired_bootstrap(tau, elo[:, place]) for place in range(len(STEPS))]
    gate = {n: paired_bootstrap(_column(runs, n, "rmse"), _column(runs, n, "rmse_gated")) for n in SIZES}
    needed = {
        arm: np.array([one["needed"][arm] for run in runs for one in run["worlds"]], dtype=np.float64)
        for arm in ("uniform", "chosen")
    }
    saved = paired_bootstrap(needed["uniform"], needed["chosen"])
    is_covered = all(found.low >= 0.90 and found.high <= 0.98 for found in covered.values())
    is_over_elo = all(found.low > 0 for found in over_elo)
    is_gated = all(found.low > 0 for found in gate.values())
    best = int(np.argmax(elo.mean(axis=0)))
    ends = {arm: 100 * np.mean(votes == _MOST) for arm, votes in needed.items()}
    return Verdict(
        ours=float(tau.mean()),
        baseline=float(elo[:, best].mean()),
        interval=over_elo[best],
        holds=bool(is_covered and is_over_elo and is_gated and saved.low > 0),
        notes=(
            "all people and votes are simulated",
            f"A {_word(is_covered)}: coverage of 95 % intervals, "
            + ", ".join(f"{n} votes {c.estimate:.3f} [{c.low:.3f}, {c.high:.3f}]" for n, c in covered.items()),
            f"B {_word(is_over_elo)}: Kendall tau minus online Elo's, "
            + ", ".join(_said(f"K = {k:g}", found) for k, found in zip(STEPS, over_elo, strict=True)),
            f"C {_word(is_gated)}: points of error that the gate saves, "
            + ", ".join(_said(f"{n} votes", found, 1) for n, found in gate.items()),
            f"D {_word(saved.low > 0)}: {needed['uniform'].mean():.0f} votes with uniform pairs, "
            f"{needed['chosen'].mean():.0f} with chosen ones, {_said('saved', saved, 0)}; after {_MOST} votes "
            f"{ends['uniform']:.0f} and {ends['chosen']:.0f} % of worlds were not there and count as {_MOST}",
        ),
    )


def _word(holds: bool) -> str:
    return "holds" if holds else "does not hold"
