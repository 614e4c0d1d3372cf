"""A leaderboard of systems from votes between two of them: Bradley-Terry scores with intervals, from counts.

score = 1000 + 400 / ln 10 (theta - mean theta), so that the better of two that are 400 apart wins ten times of eleven.
A tie is half a win for each; votes that found both bad say nothing about the order, and are counted. Nothing is shrunk
while the votes order all systems; where they do not, every ability gets a prior, and the board says so.

Intervals come from a sandwich over people where votes say whose they are, otherwise over votes. They are about each
score against the mean of all: whoever takes part changes all scores, and differences are what can be compared.

Source:
    Kim et al. (2025), Music Arena; Chiang et al. (2024), Chatbot Arena, sections 4 and 5.
    Bradley and Terry (1952). Huber (1967), for the sandwich.

>>> votes = [{"system_a": "x", "system_b": "y", "outcome": outcome} for outcome in ["a"] * 10 + ["b"]]
>>> board = leaderboard(Battles.from_rows(votes))
>>> [(row.system, round(row.score, 3), row.votes) for row in board.standings]
[('x', 1200.0, 11), ('y', 800.0, 11)]
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.special import expit
from scipy.stats import norm

from penchant.errors import DataError
from penchant.preference.counts import Abilities, Counts, abilities, compared_groups, require_finite_fit
from penchant.preference.votes import codes_of, codes_of_all
from penchant.records import Battles

Array = NDArray[np.float64]
Places = NDArray[np.int64]

POINTS = 400 / np.log(10)  # a logit
_CENTRE = 1000.0
_PRIOR = 1.0  # precision of abilities where votes alone do not order all systems, as in public arenas
_FEWEST_PEOPLE = 20  # of fewer the sandwich over people is too narrow


@dataclass(frozen=True)
class Standing:
    """One system.

    Attributes:
        system: its name.
        score: points; the mean of all systems is 1000.
        ci_low: lower end of the interval.
        ci_high: upper end.
        votes: that it took part in, ties among them, those that found both bad not.
    """

    system: str
    score: float
    ci_low: float
    ci_high: float
    votes: int


@dataclass(frozen=True)
class Leaderboard:
    """All systems.

    Attributes:
        standings: best first.
        fit: abilities in logits, in the order of `systems`.
        systems: names, in order.
        n_votes: votes that count.
        n_both_bad: votes that found both systems bad.
        by_person: whether intervals are over people and not over votes.
        why_prior: why abilities got a prior; empty if they did not.
    """

    standings: tuple[Standing, ...]
    fit: Abilities
    systems: tuple[str, ...]
    n_votes: int
    n_both_bad: int
    by_person: bool
    why_prior: str = ""


def leaderboard(battles: Battles, *, level: float = 0.95) -> Leaderboard:
    """Scores of all systems.

    Args:
        battles: votes.
        level: of the intervals, in (0, 1).

    Raises:
        DataError: there is no vote that prefers a system or finds two even.
    """
    (first, second), names = codes_of_all([battles.table["system_a"], battles.table["system_b"]])
    codes, outcomes = codes_of(battles, "outcome")
    result = np.array([_RESULTS.get(outcome, np.nan) for outcome in [*outcomes, None]])[codes]
    kept = ~np.isnan(result)
    n_votes = int(kept.sum())
    if not n_votes:
        raise DataError(
            f"None of {len(battles)} votes prefers a system or finds two even; a leaderboard needs votes for `a`, `b` "
            "or `tie`."
        )
    first, second, result = first[kept], second[kept], result[kept]
    present, places = np.unique(np.concatenate([first, second]), return_inverse=True)
    first, second = np.split(places, 2)
    systems = tuple(str(names[place]) for place in present)
    counts = counted(first, second, result, len(systems))
    fit, why_prior = _fitted(counts, systems)
    people, named = codes_of(battles, "user")
    people = people[kept]
    by_person = len(named) >= _FEWEST_PEOPLE and bool((people >= 0).all())
    sandwich = _over_people(fit, first, second, result, people) if by_person else fit.sandwich
    score = _CENTRE + POINTS * fit.abilities
    half = POINTS * norm.ppf(0.5 + level / 2) * np.sqrt(np.maximum(np.diag(sandwich), 0.0))
    table = zip(systems, score.tolist(), (score - half).tolist(), (score + half).tolist(), counts.votes, strict=True)
    rows = [Standing(name, middle, low, high, int(votes)) for name, middle, low, high, votes in table]
    standings = tuple(sorted(rows, key=lambda row: (-row.score, row.system)))
    return Leaderboard(standings, fit, systems, n_votes, len(battles) - n_votes, by_person, why_prior)


_RESULTS = {"a": 1.0, "b": 0.0, "tie": 0.5}


def counted(first: Places, second: Places, result: Array, n_systems: int) -> Counts:
    """Votes added up.

    Args:
        first: place of each vote's first system, int64[votes].
        second: of the other.
        result: 1 for the first, 0 for the second, 0.5 for a tie, [votes].
        n_systems: how many there are.
    """
    cells, numbers = np.unique((first * n_systems + second) * 3 + (2 * result).astype(np.int64), return_counts=True)
    i, j = np.divmod(cells // 3, n_systems)
    kind = cells % 3
    return Counts.of(
        np.concatenate([i, j]),
        np.concatenate([j, i]),
        np.concatenate([numbers * (kind == 2), numbers * (kind == 0)]),
        n_systems,
        ties=np.concatenate([numbers * (kind == 1), np.zeros(len(cells))]),
    )


def _fitted(counts: Counts, systems: tuple[str, ...]) -> tuple[Abilities, str]:
    try:
        require_finite_fit(counts)
    except DataError:
        groups = compared_groups(counts)
        named = "; ".join(", ".join(systems[place] for place in group[:5]) for group in groups[:5])
        why = (
            f"{len(groups)} groups of systems were never compared with each other ({named})"
            if len(groups) > 1
            else "some systems won, or lost, against all others every time"
        )
        return abilities(counts, l2=_PRIOR), f"{why}, so every ability has a prior of precision {_PRIOR:g}"
    return abilities(counts), ""


def _over_people(fit: Abilities, first: Places, second: Places, result: Array, people: Places) -> Array:
    """The sandwich with everything of one person as one observation, [systems, systems]."""
    residual = result - expit(fit.abilities[first] - fit.abilities[second])
    n_people, n_systems = int(people.max()) + 1, len(fit.abilities)
    rows, columns = np.concatenate([people, people]), np.concatenate([first, second])
    scores = coo_array((np.concatenate([residual, -residual]), (rows, columns)), shape=(n_people, n_systems)).tocsr()
    meat = (scores.T @ scores).toarray() * n_people / (n_people - 1)
    return np.asarray(fit.covariance @ meat @ fit.covariance)
