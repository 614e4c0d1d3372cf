"""Simulated people with known tastes: they vote on what they are shown, or leave a heart on it now and then.

Every number that comes from them must say that it is simulated. A taste is a weight for each standardised feature of a
response; a vote is drawn from the Bradley-Terry model of that taste, so people are unsure where answers are alike.

>>> people = population(3, n_features=2, seed=0)
>>> people.tastes.shape, people.names[0]
((3, 2), 'person-00')
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy.special import expit

from penchant.errors import SettingsError

Array = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class People:
    """A population whose tastes are known.

    Attributes:
        names: one for each person.
        tastes: logits per standard deviation of each feature, [people, features].
        groups: group of each person, int[people]; all 0 where there are none.
    """

    names: tuple[str, ...]
    tastes: Array
    groups: np.ndarray[Any, np.dtype[np.int64]]

    def utility(self, person: int, features: Array) -> Array:
        """How much a person likes each response, in logits, [n].

        Args:
            person: row of `tastes`.
            features: standardised features of n responses, [n, features].
        """
        return np.asarray(features @ self.tastes[person])

    def prefers_first(self, person: int, first: Array, second: Array, rng: np.random.Generator) -> Any:
        """Votes between pairs of responses, bool[n]; random where the two are liked about equally.

        Args:
            person: row of `tastes`.
            first: standardised features, [n, features].
            second: the same of the other responses, [n, features].
            rng: source of chance.
        """
        margin = self.utility(person, first) - self.utility(person, second)
        return rng.random(len(margin)) < expit(margin)


def population(
    n_people: int,
    *,
    n_features: int,
    kind: Literal["continuous", "groups", "alike"] = "continuous",
    strength: float = 2.0,
    spread: float = 1.0,
    n_groups: int = 4,
    seed: int = 0,
) -> People:
    """People drawn around a common taste.

    Args:
        n_people: how many.
        n_features: features a taste weighs.
        kind: everybody different, a few kinds of people, or all alike.
        strength: length of every taste vector, logits; how decided people are.
        spread: length of the personal part relative to the common part; large means nothing in common.
        n_groups: kinds of people, if they come in groups.
        seed: of the draw.

    Raises:
        SettingsError: a count is below 1, or a length is negative.
    """
    if min(n_people, n_features, n_groups) < 1 or strength < 0 or spread < 0:
        raise SettingsError(
            f"A population needs people, features and groups of at least 1 and lengths of at least 0: got {n_people}, "
            f"{n_features}, {n_groups}, {strength}, {spread}."
        )
    rng = np.random.default_rng(seed)
    common = _unit(rng.standard_normal(n_features))
    if kind == "groups":
        groups = rng.integers(n_groups, size=n_people)
        personal = _unit(rng.standard_normal((n_groups, n_features)))[groups]
    else:
        groups = np.zeros(n_people, dtype=np.int64)
        personal = _unit(rng.standard_normal((n_people, n_features)))
    tastes = _unit(common + (0.0 if kind == "alike" else spread) * personal)
    names = tuple(f"person-{index:0{len(str(n_people - 1)) if n_people > 10 else 2}d}" for index in range(n_people))
    return People(names, strength * tastes, groups.astype(np.int64))


def _unit(vectors: Array) -> Array:
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    # A personal part may cancel the common one exactly, with one feature: such a person has no taste at all.
    return np.asarray(np.divide(vectors, length, out=np.zeros_like(vectors), where=length > 0))


@dataclass(frozen=True)
class Reactors:
    """People who leave a sign on few of the replies they see, and tire of leaving signs.

    Attributes:
        names: one for each person.
        base: logit of a reaction to a reply that is average in everything, [people].
        tastes: logits per unit of each feature of a reply, [people, features].
        habits: "honest"; "everything" reacts to all it sees; "random" to one in five, whatever it is, [people].
        fatigue: logits that an honest person loses with every reply seen before.
        delay: mean time from reply to reaction, seconds; it is exponential.
    """

    names: tuple[str, ...]
    base: Array
    tastes: Array
    habits: np.ndarray[Any, np.dtype[np.str_]]
    fatigue: float
    delay: float

    def probability(
        self, who: np.ndarray[Any, np.dtype[np.int64]], features: Array, seen: Any, drawn_to: Any = 0.0
    ) -> Array:
        """P(a reaction, sooner or later), [n].

        Args:
            who: person of each reply, [n].
            features: of each reply, [n, features].
            seen: replies that the person saw before, [n].
            drawn_to: logits that something besides the reply adds (such as the end of a talk), [n] or one number.
        """
        liking = self.base[who] + np.einsum("nf,nf->n", features, self.tastes[who])
        honest = expit(liking - self.fatigue * np.asarray(seen) + drawn_to)
        habit = self.habits[who]
        return np.select([habit == "everything", habit == "random"], [1.0, _RANDOM_RATE], honest)

    def react(self, chance: Array, rng: np.random.Generator) -> tuple[Any, Array]:
        """Draw reactions.

        Args:
            chance: P(a reaction) to each reply, [n].
            rng: source of chance.

        Returns:
            Whether each reply gets a reaction in the end, bool[n], and how long that takes, seconds, [n].
        """
        return rng.random(len(chance)) < chance, rng.exponential(self.delay, len(chance))


_RANDOM_RATE = 0.2


def reactors(
    n_people: int,
    taste: Any,
    *,
    base: float = -5.0,
    spread: float = 0.5,
    random: float = 0.03,
    everything: float = 0.10,
    fatigue: float = 0.005,
    delay: float = 3600.0,
    seed: int = 0,
) -> Reactors:
    """People around a common taste, a few of whom react at random or to everything.

    Args:
        n_people: how many.
        taste: common logits per unit of each feature, [features].
        base: logit of a reaction to an average reply.
        spread: standard deviation of people's bases and tastes around the common ones, logits.
        random: share of people who react to one reply in five, whatever it is.
        everything: share of people who react to everything.
        fatigue: logits lost with every reply seen before.
        delay: mean time to a reaction, seconds.
        seed: of the draw.

    Raises:
        SettingsError: nobody is there, or a number is out of range.
    """
    if n_people < 1 or min(spread, random, everything, fatigue) < 0 or random + everything > 1 or delay <= 0:
        raise SettingsError(
            f"Reactors need people, shares that add up to at most 1 and no negative numbers: got {n_people}, {random}, "
            f"{everything}, {spread}, {fatigue}, {delay}."
        )
    rng = np.random.default_rng(seed)
    common = np.asarray(taste, dtype=np.float64)
    habits = rng.choice(["honest", "random", "everything"], n_people, p=[1 - random - everything, random, everything])
    return Reactors(
        tuple(f"person-{index:0{len(str(n_people - 1))}d}" for index in range(n_people)),
        base + spread * rng.standard_normal(n_people),
        common + spread * rng.standard_normal((n_people, len(common))),
        habits,
        fatigue,
        delay,
    )
