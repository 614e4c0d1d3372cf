"""Directional preference: several objectives are measured; a person is a direction among them.

`measure` fits one linear head per attribute on frozen encodings, by the masked squared error (a missing rating counts
nowhere), and freezes the mean and spread of every control axis. `fit` finds everybody's direction and decisiveness from
comparisons, P(chosen beats rejected) = sigmoid(scale v . (z_chosen - z_rejected)). `adapt` weighs every direction by
how well it explains a handful of one person's comparisons, and keeps everybody's unless the evidence is against it.

Left out: the paper trains the backbone together with the heads; here encodings are frozen, so that the heads have a
closed form.

Source:
    Wang et al. (2024), Arithmetic Control of LLMs for Diverse User Preferences: Directional Preference Alignment.

>>> from penchant.encoders import Attributes
>>> payloads = [f'{{"warm": {a}, "long": {b}}}' for a in (0, 1, 2) for b in (0, 1, 2)]
>>> rated = [{"prompt": "", "response": text, "aspect": aspect, "score": float(text[at])}
...          for text in payloads for aspect, at in (("warm", 9), ("long", 20))]
>>> model = Directional(encoder=Attributes()).measure(Ratings.from_rows(rated))
>>> model.attributes(["", ""], payloads[::8]).round().tolist()
[[0.0, 0.0], [2.0, 2.0]]
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array
from scipy.special import expit, logsumexp

from penchant.encoders import Encoder, encode_turns
from penchant.errors import DataError, NotFittedError, SettingsError
from penchant.preference.measures import Heads, Standardisation
from penchant.preference.model import PreferenceModel
from penchant.preference.newton import newton
from penchant.preference.pooled import surprise
from penchant.preference.profiles import Profiles
from penchant.preference.votes import Places, encoded, require_some, rows_of
from penchant.records import Comparisons, Ratings
from penchant.turns import Turn, turns_between

Array = NDArray[np.float64]

_DIRECTIONS = 20_000
_ON_A_CIRCLE = 720  # every half degree; a handful of pairs leaves tens of degrees
_NUMBERS_AT_ONCE = 1 << 22  # 32 MiB
_SLACK = 0.02  # a direction typed with two decimals is no mistake


@dataclass(frozen=True)
class UserDirection:
    """What was learnt of a person.

    Attributes:
        direction: unit vector, [axes]; everybody's if the evidence is thin.
        angle95: half-angle of the cone around the person's own best direction that holds 95 % of belief, degrees.
        log_evidence: log of how much better an own direction explains the comparisons than everybody's does, nats.
        is_own: whether the direction is the person's own.
        n_pairs: comparisons it rests on.
    """

    direction: Array
    angle95: float
    log_evidence: float
    is_own: bool
    n_pairs: int


def unit(direction: ArrayLike, n_axes: int) -> Array:
    """A direction of length one.

    Raises:
        SettingsError: it is zero, not finite, of another length than `n_axes`, or not a unit vector.
    """
    vector = np.asarray(direction, dtype=np.float64)
    if vector.shape != (n_axes,) or not np.isfinite(vector).all():
        raise SettingsError(f"A direction here has {n_axes} finite numbers: got {vector.tolist()}.")
    length = float(np.linalg.norm(vector))
    if abs(length - 1) > _SLACK:
        hint = "it cannot be zero" if length == 0 else f"normalised it would be {(vector / length).round(3).tolist()}"
        raise SettingsError(f"A direction has length 1, this one {length:.3g}: {hint}.")
    return np.asarray(vector / length)


def directions(n_axes: int, seed: int = 0) -> Array:
    """Directions that cover the sphere evenly, [directions, axes]: a circle for two axes, uniform draws for more."""
    if n_axes == 1:
        return np.array([[1.0], [-1.0]])
    if n_axes == 2:
        angles = np.linspace(0, 2 * np.pi, _ON_A_CIRCLE, endpoint=False)
        return np.stack([np.cos(angles), np.sin(angles)], axis=1)
    drawn = np.random.default_rng(seed).standard_normal((_DIRECTIONS, n_axes))
    return np.asarray(drawn / np.linalg.norm(drawn, axis=1, keepdims=True))


class Directional(PreferenceModel):
    """Several objectives; a person is a direction among them.

    Args:
        encoder: payloads to vectors.
        axes: control axis -> weight of each attribute; without it every attribute is an axis.
        l2: precision of the prior on the heads' weights, relative to one rating.
        concentration: how close people are to everybody's direction before they are known (von Mises-Fisher), >= 0.
        evidence: a person gets an own direction once it explains the comparisons so many times better, > 1.

    Attributes:
        attributes_: names, in the order of the heads.
        axes_: names of the control axes.
        direction_: everybody's, unit vector, [axes].
        decisiveness_: logits per standard deviation along the direction.
        users_: a `UserDirection` for each person adapted to.

    Raises:
        SettingsError: a setting is out of range.
    """

    def __init__(
        self,
        *,
        encoder: Encoder,
        axes: Mapping[str, Mapping[str, float]] | None = None,
        l2: float = 1.0,
        concentration: float = 1.0,
        evidence: float = 3.0,
    ):
        if not (l2 > 0 and concentration >= 0 and evidence > 1):
            raise SettingsError(
                f"l2 must be above 0, concentration at least 0, evidence above 1: got {l2!r}, {concentration!r}, "
                f"{evidence!r}."
            )
        self.encoder, self.axes, self.l2 = encoder, axes, l2
        self.concentration, self.evidence = concentration, evidence

    def measure(self, ratings: Ratings) -> Self:
        """Learn to measure every rated attribute; freezes the axes' mean and spread on the rated responses.

        Args:
            ratings: with an `aspect` each; a response may lack any of them.

        Raises:
            DataError: there are no ratings with an aspect, or an axis never varies or names an unknown attribute.
        """
        self.heads_, rated = Heads.learnt(self.encoder, ratings, l2=self.l2)
        self.attributes_ = list(self.heads_.names)
        self._choose_axes(self.attributes_)
        self.standardise_ = Standardisation.of(self.heads_(rated) @ self.mixing_.T, self.axes_)
        return self

    def _choose_axes(self, names: Sequence[str]) -> None:
        wanted = self.axes or {name: {name: 1.0} for name in names}
        unknown = sorted({name for weights in wanted.values() for name in weights} - set(names))
        if unknown:
            raise DataError(f"The axes weigh attributes that nobody rated: {unknown}; rated are {list(names)}.")
        self.axes_ = list(wanted)
        self.mixing_ = np.array([[weights.get(name, 0.0) for name in names] for weights in wanted.values()])

    def fit(self, comparisons: Comparisons) -> Self:
        """Learn everybody's direction and decisiveness; `measure` comes first."""
        self._require_measured()
        require_some(comparisons)
        self._learn(self._difference(comparisons), _strength(comparisons))
        self.users_: Profiles[UserDirection] = Profiles(UserDirection)
        return self

    def adapt(self, user: str, comparisons: Comparisons) -> UserDirection:
        """Learn one person's direction; see `PreferenceModel.adapt`."""
        self._require_fitted()
        rows = {user: np.arange(len(comparisons))}
        self._adapt(self._difference(comparisons), _strength(comparisons), rows)
        return self.users_[user]

    def adapt_each(self, comparisons: Comparisons) -> Self:
        """Learn every person in the comparisons; see `PreferenceModel.adapt_each`."""
        self._require_fitted()
        self._adapt(self._difference(comparisons), _strength(comparisons), rows_of(comparisons))
        return self

    def without(self, user: str, others: Comparisons, *, ratings: Ratings | None = None) -> Self:
        """The model that would be here without a person; see `PreferenceModel.without`.

        Args:
            user: whoever is forgotten.
            others: comparisons of everybody else.
            ratings: of everybody else, if the person was among those whose ratings were measured: attributes are then
                measured again.
        """
        again = self._anew(user, others)
        if ratings is not None:
            again.measure(ratings)
        difference, strength, rows = again._difference(others), _strength(others), rows_of(others)
        again._learn(difference, strength)
        nothing = np.empty(0, np.int64)
        again._adapt(difference, strength, {name: rows.get(name, nothing) for name in self.users_ if name != user})
        return again

    def names(self, field: str) -> list[str]:
        """The axes of a direction; see `PreferenceModel.names`."""
        return list(self.axes_) if field == "direction" else []

    def _sound(self, profile: UserDirection) -> UserDirection:
        return replace(profile, direction=unit(profile.direction, len(self.axes_)))

    def _learn(self, difference: Array, strength: Array) -> None:
        weights = newton(difference, strength, l2=1.0).weights
        self.decisiveness_ = float(np.linalg.norm(weights))
        # Votes that point nowhere on balance: every axis counts alike.
        pointless = self.decisiveness_ < 1e-9
        self.direction_ = np.full(len(weights), len(weights) ** -0.5) if pointless else weights / self.decisiveness_

    def _adapt(self, difference: Array, strength: Array, rows: Mapping[str, Places]) -> None:
        """Learn some people, as many at once as fit into memory.

        Args:
            difference: of everybody's pairs along the axes, [pairs, axes].
            strength: of each, [pairs].
            rows: which are whose.
        """
        every = directions(len(self.direction_))
        people = list(rows)
        size = np.cumsum([(len(own) + 1) * len(every) for own in rows.values()]) // _NUMBERS_AT_ONCE
        for number in np.unique(size):
            some = [people[place] for place in np.flatnonzero(size == number)]
            counts = np.array([len(rows[name]) for name in some])
            own = np.concatenate([rows[name] for name in some])
            whose = np.repeat(np.arange(len(some)), counts)
            weighed = self._weighed(difference[own], strength[own], whose, len(some), every)
            self.users_.put_many(some, **weighed, n_pairs=counts)

    def _weighed(
        self, difference: Array, strength: Array, whose: Places, n_people: int, every: Array
    ) -> dict[str, NDArray[Any]]:
        """What some people's pairs say of each direction, summed up in the columns of `UserDirection`.

        Args:
            difference: of their pairs along the axes, [pairs, axes].
            strength: of each pair, [pairs].
            whose: number of the person, [pairs].
            n_people: how many there are.
            every: directions to weigh, [directions, axes].
        """
        by_person = csr_array((np.ones(len(whose)), (whose, np.arange(len(whose)))), shape=(n_people, len(whose)))
        log_prior = self.concentration * every @ self.direction_
        log_prior -= logsumexp(log_prior)

        def log_likelihood(candidates: Array) -> Array:
            logits = self.decisiveness_ * difference @ candidates.T  # [pairs, directions]
            return np.asarray(-(by_person @ surprise(logits, strength[:, None])))

        joint = log_prior + log_likelihood(every)  # [people, directions]
        total = logsumexp(joint, axis=1)
        log_evidence = total - log_likelihood(self.direction_[None])[:, 0]
        belief = np.exp(joint - total[:, None])
        mean = belief @ every
        length = np.linalg.norm(mean, axis=1, keepdims=True)
        is_somewhere = length > 1e-9
        best = np.where(is_somewhere, mean / np.where(is_somewhere, length, 1.0), every[np.argmax(belief, axis=1)])
        cosine = best @ every.T
        order = np.argsort(-cosine, axis=1)  # from the best direction outwards
        held = np.cumsum(np.take_along_axis(belief, order, axis=1), axis=1)
        edge = np.minimum((held < 0.95 - 1e-12).sum(axis=1), len(every) - 1)
        at_edge = np.take_along_axis(cosine, order, axis=1)[np.arange(n_people), edge]
        is_own = log_evidence > np.log(self.evidence)
        return {
            "direction": np.where(is_own[:, None], best, self.direction_),
            "angle95": np.degrees(np.arccos(np.clip(at_edge, -1, 1))),
            "log_evidence": log_evidence,
            "is_own": is_own,
        }

    def attributes(self, prompts: Sequence[str], responses: Sequence[str]) -> Array:
        """Measured attributes on the raters' own scale, [n, attributes]."""
        self._require_measured()
        return self._attributes(turns_between(prompts, responses))

    def scores(self, prompts: Sequence[str], responses: Sequence[str]) -> Array:
        """Standardised control axes, z in the paper's terms, [n, axes]."""
        return self._scores(turns_between(prompts, responses))

    def along(self, direction: ArrayLike, prompts: Sequence[str], responses: Sequence[str]) -> Array:
        """Scores v . z of responses, for a direction v that somebody asks for, [n].

        Raises:
            SettingsError: v is not a unit vector of as many axes.
        """
        return np.asarray(self.scores(prompts, responses) @ unit(direction, len(self.axes_)))

    def _reward(self, asked: Sequence[Turn], user: str | None) -> Array:
        return np.asarray(self.decisiveness_ * self._scores(asked) @ self._direction(user))

    def _predicted(self, comparisons: Comparisons) -> Array:
        wanted = np.stack([self._direction(user) for user in comparisons.table["user"].to_pylist()])
        return np.asarray(expit(self.decisiveness_ * np.einsum("na,na->n", self._difference(comparisons), wanted)))

    def _attributes(self, asked: Sequence[Turn]) -> Array:
        return self.heads_(encode_turns(self.encoder, asked).astype(np.float64))

    def _scores(self, asked: Sequence[Turn]) -> Array:
        return self.standardise_(self._attributes(asked) @ self.mixing_.T)

    def _direction(self, user: str | None) -> Array:
        found = self.users_.get(user) if user is not None else None
        return self.direction_ if found is None else found.direction

    def _difference(self, comparisons: Comparisons) -> Array:
        if not len(comparisons):
            return np.empty((0, len(self.axes_)))
        chosen, rejected = encoded(self.encoder, comparisons)
        gap = self.heads_(chosen) - self.heads_(rejected)
        return np.asarray(gap @ self.mixing_.T / self.standardise_.scale)

    def _require_measured(self) -> None:
        if not hasattr(self, "heads_"):
            raise NotFittedError("This Directional measures nothing yet: call measure(ratings), then fit(comparisons).")

    def _state(self) -> tuple[dict[str, Any], dict[str, Any]]:
        people, of_whom = self.users_.state()
        arrays = self.heads_.arrays() | people
        arrays |= {"mixing": self.mixing_, "direction": self.direction_}
        arrays |= {"mean": self.standardise_.mean, "spread": self.standardise_.scale}
        values = {
            "settings": {
                "axes": self.axes,
                "l2": self.l2,
                "concentration": self.concentration,
                "evidence": self.evidence,
            },
            "attributes": self.attributes_,
            "axes": self.axes_,
            "decisiveness": self.decisiveness_,
            "users": of_whom,
        }
        return arrays, values

    def _restore(self, arrays: Mapping[str, Any], values: Mapping[str, Any]) -> None:
        self.__init__(encoder=self.encoder, **values["settings"])  # type: ignore[misc]
        self.attributes_, self.axes_ = list(values["attributes"]), list(values["axes"])
        self.heads_ = Heads.restored(arrays, self.attributes_)
        self.standardise_ = Standardisation(arrays["mean"], arrays["spread"])
        self.mixing_, self.direction_ = arrays["mixing"], arrays["direction"]
        self.decisiveness_ = float(values["decisiveness"])
        self.users_ = Profiles.restored(UserDirection, arrays, values["users"])


def _strength(comparisons: Comparisons) -> Array:
    return np.asarray(comparisons.numpy("strength").astype(np.float64))
