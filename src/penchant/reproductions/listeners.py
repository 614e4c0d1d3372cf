"""Simulated listeners of a live music arena: who likes which system how much, and what they vote after listening.

A world has ten systems, of which the first four sing, and people with a reliability (how much of a difference they
hear) and ears (what each likes or not of each system, besides its ability). Votes are drawn from Davidson's model of
that, so ties are an outcome of their own; some votes find both bad. Inattentive people vote at random and mostly hear
less than five seconds; attentive people at times hear as little, so that a rule on listening time has a cost.

No number in it comes from people, and whatever is computed from it must say that it is simulated.

Source:
    Davidson (1970), On extending the Bradley-Terry model to accommodate ties in paired comparison experiments.

>>> here = world(np.random.default_rng(0))
>>> here.liking.shape, round(float(true_scores(here).mean()))
((2000, 10), 1000)
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from penchant.evaluate.leaderboard import CENTRE, POINTS
from penchant.preference.counts import Counts, optimum
from penchant.records import Battles

Array = NDArray[np.float64]
Places = NDArray[np.int64]

N_SYSTEMS, N_VOCAL, N_PEOPLE = 10, 4, 2000
TIES = 0.6  # Davidson's parameter: of two that are alike, 23 votes of 100 are ties
BOTH_BAD, INATTENTIVE = 0.08, 0.15
_VOICE_WANTED = 0.3  # share of prompts with lyrics
_ABILITY, _EARS, _RELIABILITY = 0.8, 0.5, 0.3  # standard deviations: logits, logits, log of a factor
_NAMES = np.array([f"system-{place}" for place in range(N_SYSTEMS)])


@dataclass(frozen=True)
class World:
    """Systems and the people who listen to them.

    Attributes:
        liking: logits, reliability times (ability + ears), [people, systems].
        share: of all votes that each person gives, [people].
        inattentive: who votes at random, bool[people].
    """

    liking: Array
    share: Array
    inattentive: NDArray[np.bool_]

    def attentive(self) -> "World":
        """The same people, all of whom listen."""
        return replace(self, inattentive=np.zeros_like(self.inattentive))


@dataclass(frozen=True)
class Votes:
    """Simulated votes.

    Attributes:
        person: who votes, int64[votes].
        first: system of side A, int64[votes].
        second: system of side B, int64[votes].
        result: 1 for A, 0 for B, 0.5 for a tie, NaN for both bad, [votes].
        heard: seconds that each side was listened to, [votes, 2].
    """

    person: Places
    first: Places
    second: Places
    result: Array
    heard: Array

    def of(self, rows: Any) -> "Votes":
        """Some of them, by a mask or by places."""
        return Votes(self.person[rows], self.first[rows], self.second[rows], self.result[rows], self.heard[rows])

    def ordering(self) -> "Votes":
        """Those that did not find both bad."""
        return self.of(~np.isnan(self.result))

    def counts(self) -> Counts:
        """Wins and ties of each pair."""
        won, lost, even = (self.result == kind for kind in (1.0, 0.0, 0.5))
        ends = [self.first, self.second], [self.second, self.first], [won, lost], [even, np.zeros_like(even)]
        i, j, wins, ties = (np.concatenate(column) for column in ends)
        return Counts.of(i, j, wins, N_SYSTEMS, ties=ties)

    def battles(self) -> Battles:
        """As records."""
        words = np.select([self.result == 1, self.result == 0, self.result == 0.5], ["a", "b", "tie"], "both_bad")
        return Battles(
            pa.table(
                {
                    "system_a": pa.array(_NAMES[self.first].tolist()),
                    "system_b": pa.array(_NAMES[self.second].tolist()),
                    "outcome": pa.array(words.tolist()),
                    "user": pa.array([f"listener-{place}" for place in self.person.tolist()]),
                    "attention_a": pa.array(self.heard[:, 0]),
                    "attention_b": pa.array(self.heard[:, 1]),
                }
            )
        )


def world(rng: np.random.Generator) -> World:
    """A world drawn at random, with its inattentive people."""
    ability = _ABILITY * rng.standard_normal(N_SYSTEMS)
    reliability = np.exp(_RELIABILITY * rng.standard_normal((N_PEOPLE, 1)))
    liking = reliability * (ability + _EARS * rng.standard_normal((N_PEOPLE, N_SYSTEMS)))
    share = rng.exponential(size=N_PEOPLE)
    return World(liking, share / share.sum(), rng.random(N_PEOPLE) < INATTENTIVE)


def chances(difference: Array) -> tuple[Array, Array]:
    """P(the first wins) and P(a tie) in Davidson's model.

    Args:
        difference: liking of the first less that of the second, logits, any shape.

    >>> [round(float(p), 3) for p in chances(np.array(0.0))]
    [0.385, 0.231]
    """
    win, even = np.exp(difference), TIES * np.exp(difference / 2)
    total = win + even + 1
    return np.asarray(win / total), np.asarray(even / total)


def true_scores(here: World) -> Array:
    """What a board estimates: its points after infinitely many votes of attentive people, [systems].

    That is the fit of Bradley and Terry (ties half) to the exact chances of all attentive people, each as often as they
    vote, with pairs as often as `uniform_pairs` draws them. Votes do not follow that model (people differ, and ties are
    Davidson's), so there is no truer score that the fit could find.
    """
    share = np.where(here.inattentive, 0.0, here.share)
    win, even = chances(here.liking[:, :, None] - here.liking[:, None, :])
    won = np.einsum("p,pij->ij", share / share.sum(), win + even / 2)
    sung = np.zeros((N_SYSTEMS, N_SYSTEMS))
    sung[:N_VOCAL, :N_VOCAL] = _VOICE_WANTED / (N_VOCAL * (N_VOCAL - 1))
    often = sung + (1 - _VOICE_WANTED) / (N_SYSTEMS * (N_SYSTEMS - 1))
    np.fill_diagonal(often, 0.0)
    found, _ = optimum(1e4 * often * won)
    return np.asarray(CENTRE + POINTS * found)


def able(n: int, rng: np.random.Generator) -> Places:
    """How many systems can answer each of n prompts: those that sing where a voice is wanted, or all, int64[n]."""
    return np.where(rng.random(n) < _VOICE_WANTED, N_VOCAL, N_SYSTEMS)


def uniform_pairs(among: Places, rng: np.random.Generator) -> tuple[Places, Places]:
    """Two of the first so many systems, all pairs alike, int64[n] each."""
    first = rng.integers(among)
    return first, (first + 1 + rng.integers(among - 1)) % among


def cast(here: World, first: Places, second: Places, rng: np.random.Generator) -> Votes:
    """What people, drawn by how often they vote, say of pairs of systems."""
    n = len(first)
    person = rng.choice(N_PEOPLE, n, p=here.share)
    careless = here.inattentive[person]
    win, even = chances(here.liking[person, first] - here.liking[person, second])
    win, even = np.where(careless, 1 / 3, win), np.where(careless, 1 / 3, even)
    drawn = rng.random(n)
    result = np.select([drawn < win, drawn < win + even], [1.0, 0.5], 0.0)
    result[rng.random(n) < BOTH_BAD] = np.nan
    short, long = rng.exponential(4.0, (n, 2)), 15.0 * np.exp(0.6 * rng.standard_normal((n, 2)))
    return Votes(person, first, second, result, np.where(careless[:, None], short, long))
