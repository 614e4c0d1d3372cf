r"""A leaderboard of what systems say, freed of how they say it: length, lists, headings and bold print as covariates.

logit P(a beats b) = theta_a - theta_b + beta . x, where x holds for each feature how much more of it a's response has
than b's, (a - b) / (a + b), over its root mean square among the votes. Scores are then those of two responses that are
alike in every feature; beta says what more of one is worth, for everything else equal. What style correlates with
(more work, better answers) is taken out with it: a system that is both long and good loses some of both.

Features come from the responses where votes carry them, or from any pair of numbers in a vote's `extra` whose names
differ in nothing but `a` and `b` (`length_a` and `length_b`; also inside objects).

Source:
    Li, Angelopoulos and Chiang (2024), Does style matter? Disentangling style and substance in Chatbot Arena.
    Chiang et al. (2024), Chatbot Arena. Bradley and Terry (1952).

>>> counts = markdown("# Plan\n\n- **Boil** water\n- Wait")
>>> {name: int(count) for name, count in counts.items()}
{'words': 4, 'lists': 2, 'headings': 1, 'bold': 1}
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.special import expit, ndtri

from penchant.errors import DataError
from penchant.evaluate.ballots import Ballots, ballots
from penchant.evaluate.leaderboard import FEWEST_PEOPLE, Standing, require_level, standings
from penchant.preference.counts import require_finite_fit
from penchant.records import Battles, Comparisons
from penchant.statistics import Interval
from penchant.style import list_lines, words_of
from penchant.turns import turns

Array = NDArray[np.float64]

_HEADING = re.compile(r"^\s{0,3}#{1,6}\s+\S", re.MULTILINE)
_BOLD = re.compile(r"\*\*[^*\n]+\*\*|__[^_\n]+__")
_SIDE = re.compile(r"(?<![^_.\- ])[aA](?![^_.\- ])")  # the letter as a word of its own in a name
_LARGEST_STEP = 2.0
_MOST_STEPS = 100


@dataclass(frozen=True)
class Styled:
    """Votes with how far the two responses differ in style.

    Attributes:
        battles: those whose style is known.
        names: of the features.
        difference: how much more of each the first response has, in [-1, 1], [battles, features].
        n_unknown: votes left out, as nothing says how their responses look.
    """

    battles: Battles
    names: tuple[str, ...]
    difference: Array
    n_unknown: int


@dataclass(frozen=True)
class StyleBoard:
    """A board freed of style.

    Attributes:
        standings: best first, for responses alike in style.
        effects: of one root mean square more of each feature on the odds of winning, logits.
        without: the board of the same votes with style in it, best first.
        fit: abilities and then effects, logits, [systems + features].
        covariance: of those, over people where they are named, otherwise over votes.
        n_votes: that count.
        n_unknown: votes of unknown style, left out of both boards.
        by_person: whether intervals are over people.
    """

    standings: tuple[Standing, ...]
    effects: dict[str, Interval]
    without: tuple[Standing, ...]
    fit: Array
    covariance: Array
    n_votes: int
    n_unknown: int
    by_person: bool


def markdown(text: str) -> dict[str, float]:
    """How much there is of each feature in a text: words, list items, headings, words or phrases in bold."""
    return {
        "words": float(len(words_of(text))),
        "lists": float(list_lines(text)),
        "headings": float(len(_HEADING.findall(text))),
        "bold": float(len(_BOLD.findall(text))),
    }


def relative_difference(first: Array, second: Array) -> Array:
    """(first - second) / (first + second) of amounts that are not negative; 0 where there is nothing of either."""
    total = first + second
    return np.divide(first - second, total, out=np.zeros_like(total), where=total > 0)


def styled_texts(comparisons: Comparisons) -> Styled:
    """Votes between systems whose responses are known, as importing an arena's conversations leaves them.

    Args:
        comparisons: whose `extra` names `system_a`, `system_b` and the `outcome`; a comparison without counts as
            unknown.

    Raises:
        DataError: not one names its systems.
    """
    extras = [json.loads(extra) if extra else {} for extra in comparisons.table["extra"].to_pylist()]
    wanted = ("system_a", "system_b", "outcome")
    rows = [row for row, extra in enumerate(extras) if all(isinstance(extra.get(name), str) for name in wanted)]
    if not rows:
        raise DataError(
            f"None of {len(comparisons)} comparisons says between which systems it is; style control needs votes with "
            "`model_a`, `model_b`, a winner and both conversations."
        )
    some = comparisons.take(rows)
    chosen, rejected = (
        _amounts([markdown(turn.answer()) for turn in turns(some, side)]) for side in ("chosen", "rejected")
    )
    outcomes = np.array([extras[row]["outcome"] for row in rows])
    swapped = (outcomes == "b")[:, None]  # chosen is the second system's
    first, second = np.where(swapped, rejected, chosen), np.where(swapped, chosen, rejected)
    users = some.table["user"].to_pylist()
    votes = [
        {name: extras[row][name] for name in wanted} | {"user": user} for row, user in zip(rows, users, strict=True)
    ]
    names = tuple(markdown(""))
    return Styled(Battles.from_rows(votes), names, relative_difference(first, second), len(comparisons) - len(rows))


def styled_numbers(battles: Battles) -> Styled:
    """Votes whose `extra` holds numbers of both sides.

    Raises:
        DataError: no vote has any; or an amount is negative.
    """
    extras = [_numbers(json.loads(extra)) if extra else {} for extra in battles.table["extra"].to_pylist()]
    pairs: dict[str, tuple[str, str]] = {}
    for name in dict.fromkeys(name for extra in extras for name in extra):
        other = _SIDE.sub("b", name)
        if other != name and _SIDE.search(name):
            pairs[_SIDE.sub("", name).strip("_.- ").replace("__", "_").replace("..", ".")] = (name, other)
    sides = {
        name: pair for name, pair in pairs.items() if any(pair[0] in extra and pair[1] in extra for extra in extras)
    }
    rows = [
        row for row, extra in enumerate(extras) if sides and all(a in extra and b in extra for a, b in sides.values())
    ]
    if not rows:
        raise DataError(
            f"None of {len(battles)} votes says how its two responses look; style control needs both responses, or "
            "numbers of both, such as `length_a` and `length_b`, in every vote that is to count."
        )
    first, second = (
        np.array([[extras[row][pair[side]] for pair in sides.values()] for row in rows], dtype=np.float64)
        for side in (0, 1)
    )
    negative = (first < 0) | (second < 0)
    if negative.any():
        row, column = np.argwhere(negative)[0]
        raise DataError(
            f"{negative.any(axis=1).sum()} of {len(rows)} votes, first vote {rows[row]}, have a negative "
            f"`{list(sides)[column]}`; amounts of style are counts or lengths."
        )
    return Styled(battles.take(rows), tuple(sides), relative_difference(first, second), len(battles) - len(rows))


def _amounts(counted: Sequence[Mapping[str, float]]) -> Array:
    return np.array([list(one.values()) for one in counted], dtype=np.float64).reshape(len(counted), -1)


def _numbers(value: Any, before: str = "") -> dict[str, float]:
    """Numbers in nested objects, names joined by dots."""
    if isinstance(value, bool) or not isinstance(value, int | float | dict):
        return {}
    if not isinstance(value, dict):
        return {before: float(value)} if np.isfinite(value) else {}
    return {
        name: number
        for key, inner in value.items()
        for name, number in _numbers(inner, f"{before}.{key}" if before else str(key)).items()
    }


def style_controlled(styled: Styled, *, level: float = 0.95, per_person: int = 0) -> StyleBoard:
    """Scores and effects of style from one fit.

    Args:
        styled: votes with differences of style.
        level: of the intervals, in (0, 1).
        per_person: the most votes that one person counts for; 0 for all that they cast.

    Raises:
        DataError: the votes do not order all systems, or a feature is the same on both sides of every vote (or follows
            from the systems), so that its effect is unknown.
        SettingsError: `level` is not in (0, 1).
    """
    require_level(level)
    votes = ballots(styled.battles, per_person=per_person)
    require_finite_fit(votes.counts)
    difference = styled.difference[votes.rows]
    size = np.sqrt((difference**2).mean(axis=0))
    varies = size > 0
    if not varies.any():
        raise DataError(f"Both responses are alike in {', '.join(styled.names)} in all {votes.n_votes} votes.")
    x = difference[:, varies] / size[varies]
    by_person = len(votes.people) >= FEWEST_PEOPLE and bool((votes.person >= 0).all())
    clusters = votes.person if by_person else None
    fit, covariance = styled_fit(votes, x, clusters=clusters)
    plain, plain_covariance = styled_fit(votes, x[:, :0], clusters=clusters)
    n, deviation = len(votes.systems), float(ndtri(0.5 + level / 2))
    half, plain_half = (deviation * np.sqrt(np.diag(one)) for one in (covariance, plain_covariance))
    names = [name for name, some in zip(styled.names, varies, strict=True) if some]
    bounds = zip(names, fit[n:].tolist(), half[n:].tolist(), strict=True)
    units = len(votes.people) if by_person else votes.n_votes
    return StyleBoard(
        standings=standings(votes, fit[:n], fit[:n] - half[:n], fit[:n] + half[:n]),
        effects={name: Interval(at, at - by, at + by, level, units) for name, at, by in bounds},
        without=standings(votes, plain, plain - plain_half, plain + plain_half),
        fit=fit,
        covariance=covariance,
        n_votes=votes.n_votes,
        n_unknown=styled.n_unknown,
        by_person=by_person,
    )


def styled_fit(votes: Ballots, x: Array, *, clusters: NDArray[np.int64] | None = None) -> tuple[Array, Array]:
    """Abilities and effects by Newton's method, with a table of the systems beside the few columns of style.

    Args:
        votes: that order all systems, with their weights.
        x: how much more of each feature the first has, [votes, features].
        clusters: number of each vote's person, int64[votes]; every vote its own if None.

    Returns:
        Abilities with mean zero and then effects, logits, [systems + features]; their sandwich covariance.

    Raises:
        DataError: the votes do not determine all effects, or the optimum was not reached.
    """
    n, (n_votes, n_features) = len(votes.systems), x.shape
    first, second, weight = votes.first, votes.second, votes.weight
    found = np.zeros(n + n_features)
    for _ in range(_MOST_STEPS):
        p = expit(found[first] - found[second] + x @ found[n:])
        slope = _pulled(weight * (p - votes.result), first, second, x, n)
        inverse = _inverse(_curvature(weight * p * (1 - p), first, second, x, n), n)
        step = -inverse @ slope
        moved = float(np.abs(step).max(initial=0.0))
        found += step * min(1.0, _LARGEST_STEP / max(moved, 1e-300))
        if moved <= 1e-9:
            break
    else:
        raise DataError(f"No optimum in {_MOST_STEPS} steps over {n_votes} votes; style may tell every winner.")
    left_over = weight * (votes.result - p)
    whose = np.arange(n_votes) if clusters is None else clusters
    rows = np.concatenate([whose, whose, np.repeat(whose, n_features)])
    columns = np.concatenate([first, second, np.tile(np.arange(n, n + n_features), n_votes)])
    values = np.concatenate([left_over, -left_over, (left_over[:, None] * x).ravel()])
    n_units = int(whose.max()) + 1
    scores = coo_array((values, (rows, columns)), shape=(n_units, n + n_features)).tocsr()
    meat = (scores.T @ scores).toarray() * (n_units / (n_units - 1) if clusters is not None else 1.0)
    found[:n] -= found[:n].mean()
    return found, np.asarray(inverse @ meat @ inverse)


def _pulled(weights: Array, first: NDArray[np.int64], second: NDArray[np.int64], x: Array, n: int) -> Array:
    """Sum over votes of weight times (e_first - e_second, x), [systems + features]."""
    systems = np.bincount(first, weights, n) - np.bincount(second, weights, n)
    return np.concatenate([systems, weights @ x])


def _curvature(weights: Array, first: NDArray[np.int64], second: NDArray[np.int64], x: Array, n: int) -> Array:
    """Sum over votes of weight times the square of (e_first - e_second, x), [systems + features, same]."""
    met = np.bincount(first * n + second, weights, n * n).reshape(n, n)
    met = met + met.T
    found = np.zeros((n + x.shape[1],) * 2)
    found[:n, :n] = np.diag(met.sum(axis=1)) - met
    for column, values in enumerate(x.T, n):
        found[:n, column] = found[column, :n] = _pulled(weights * values, first, second, x[:, :0], n)
    found[n:, n:] = x.T @ (weights[:, None] * x)
    return found


def _inverse(curvature: Array, n: int) -> Array:
    """Inverse where abilities add up to zero."""
    level = np.zeros_like(curvature)
    level[:n, :n] = np.trace(curvature[:n, :n]) / n**2
    scale = np.sqrt(np.diag(curvature + level))
    values, vectors = np.zeros(1), np.zeros((1, 1))
    if (scale > 0).all() and np.isfinite(curvature).all():
        values, vectors = np.linalg.eigh((curvature + level) / np.outer(scale, scale))
    if not values[0] > 1e-10 * values[-1]:
        raise DataError(
            "The votes do not determine what style does: a feature follows from which systems meet or from other "
            "features, or tells (nearly) every winner. Bring more votes, or leave features out."
        )
    inverse = (vectors / values) @ vectors.T / np.outer(scale, scale)
    centre = np.eye(len(curvature))
    centre[:n, :n] -= 1 / n
    return np.asarray(centre @ inverse @ centre)
