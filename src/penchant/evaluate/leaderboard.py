"""A leaderboard of systems from votes between two of them: Bradley-Terry scores with intervals, from counts.

score = 1000 + 400 / ln 10 (theta - mean theta), so that the better of two that are 400 apart wins ten times of eleven.
A tie is half a win for each; votes that found both bad say nothing about the order, and are counted. Nothing is shrunk
while the votes order all systems; where they do not, every ability gets a prior, and the board says so.

Each vote counts once, and whoever votes often counts often. With `per_person` nobody counts for more than so many: the
same fit and intervals, from weighted votes. It then is about what people prefer rather than what votes do; where
people agree the two are the same.

Intervals come from a sandwich over people where votes say whose they are, otherwise over votes; `resampled_board` gives
those of a bootstrap. They are about each score against the mean of all: whoever takes part changes all scores, and
differences are what can be compared.

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
from scipy.sparse import csr_array
from scipy.special import expit, ndtri

from penchant.errors import DataError, SettingsError
from penchant.evaluate.ballots import Ballots, ballots
from penchant.preference.counts import Abilities, abilities, compared_groups, require_finite_fit
from penchant.records import Battles

Array = NDArray[np.float64]

POINTS = 400 / np.log(10)  # a logit
CENTRE = 1000.0
_PRIOR = 1.0  # precision of abilities where votes alone do not order all systems, as in public arenas
FEWEST_PEOPLE = 20  # of fewer the sandwich over people is too narrow


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
        covariance: of the abilities, that the intervals rest on, [systems, systems].
        votes: that the board was made of, as numbers.
        by_person: whether intervals are over people and not over votes.
        prior: precision of every ability's prior; 0 while votes alone order all systems.
        why_prior: why abilities got a prior; empty if they did not.
    """

    standings: tuple[Standing, ...]
    fit: Abilities
    covariance: Array
    votes: Ballots
    by_person: bool
    prior: float = 0.0
    why_prior: str = ""

    @property
    def systems(self) -> tuple[str, ...]:
        """Names, in the order of the fit."""
        return self.votes.systems

    @property
    def n_votes(self) -> int:
        """Votes that count."""
        return self.votes.n_votes

    @property
    def n_both_bad(self) -> int:
        """Votes that found both systems bad."""
        return self.votes.n_both_bad

    @property
    def order(self) -> NDArray[np.int64]:
        """Places of the systems in the fit, best first."""
        place = {system: at for at, system in enumerate(self.systems)}
        return np.array([place[row.system] for row in self.standings])


def leaderboard(battles: Battles, *, level: float = 0.95, per_person: int = 0) -> Leaderboard:
    """Scores of all systems.

    Args:
        battles: votes.
        level: of the intervals, in (0, 1).
        per_person: the most votes that one person counts for; 0 for all that they cast.

    Raises:
        DataError: there is no vote that prefers a system or finds two even; or people cannot be told apart.
        SettingsError: `level` is not in (0, 1), or `per_person` is negative.
    """
    require_level(level)
    votes = ballots(battles, per_person=per_person)
    fit, prior, why_prior = _fitted(votes)
    # Where systems won every time nothing is left over, and a sandwich of what is left over would call that certain.
    by_person = len(votes.people) >= FEWEST_PEOPLE and bool((votes.person >= 0).all())
    robust = _over_people(fit, votes) if by_person else fit.sandwich
    covariance = fit.covariance if prior and np.trace(fit.covariance) > np.trace(robust) else robust
    half = ndtri(0.5 + level / 2) * np.sqrt(np.maximum(np.diag(covariance), 0.0))
    rows = standings(votes, fit.abilities, fit.abilities - half, fit.abilities + half)
    return Leaderboard(rows, fit, covariance, votes, by_person, prior, why_prior)


def standings(votes: Ballots, middle: Array, low: Array, high: Array) -> tuple[Standing, ...]:
    """Rows of a board, best first, from abilities and their bounds in logits, each [systems]."""
    scores, lows, highs = ((CENTRE + POINTS * one).tolist() for one in (middle, low, high))
    table = zip(votes.systems, scores, lows, highs, votes.system_votes.tolist(), strict=True)
    rows = [Standing(name, score, ci_low, ci_high, n) for name, score, ci_low, ci_high, n in table]
    return tuple(sorted(rows, key=lambda row: (-row.score, row.system)))


def require_level(level: float) -> None:
    """Refuse a coverage that is none.

    Raises:
        SettingsError: it is not in (0, 1).
    """
    if not 0 < level < 1:
        raise SettingsError(f"level must lie between 0 and 1: got {level!r}; 0.95 is 95 %.")


def _fitted(votes: Ballots) -> tuple[Abilities, float, str]:
    """Abilities, the precision of their prior, and why there is one."""
    counts, systems = votes.counts, votes.systems
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
        fit = abilities(counts, l2=_PRIOR, squares=votes.squares)
        return fit, _PRIOR, f"{why}, so every ability has a prior of precision {_PRIOR:g}"
    return abilities(counts, squares=votes.squares), 0.0, ""


def _over_people(fit: Abilities, votes: Ballots) -> Array:
    """The sandwich with everything of one person as one observation, [systems, systems]."""
    scores = person_scores(votes, fit.abilities)
    n_people = scores.shape[0]
    return np.asarray(fit.covariance @ (scores.T @ scores).toarray() @ fit.covariance * n_people / (n_people - 1))


def person_scores(votes: Ballots, abilities: Array) -> csr_array:
    """By how much each person's votes went beyond what a board expects of them, system by system.

    Args:
        votes: of people who are named.
        abilities: logits, [systems].

    Returns:
        Wins of each system (ties half) less those expected, [people, systems]; rows add up to zero.
    """
    games, won = votes.by_person
    first, second = votes.pairs
    over = (won - games.multiply(expit(abilities[first] - abilities[second])[None, :])).tocoo()
    who, which = over.coords
    rows, columns = np.concatenate([who, who]), np.concatenate([first[which], second[which]])
    shape = (len(votes.people), len(votes.systems))
    return csr_array((np.concatenate([over.data, -over.data]), (rows, columns)), shape)
