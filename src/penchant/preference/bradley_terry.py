"""One linear reward for everybody and, drawn to it, one for each person, on frozen encodings.

P(chosen beats rejected) = sigmoid((w + w_user) . (x_chosen - x_rejected) / scale - margin). `fit` finds w by Newton
steps under a Gaussian prior; `adapt` finds w_user under a Gaussian prior around zero, with Laplace's posterior. How
strong both priors are is measured on choices set aside inside the data that was given, never on anything held out.

Strength is a soft label (0.5 a tie). Label noise is met by smoothing (Mitchell 2023): with flips at rate e the target
of a vote is 1 - e, an approximation to the mixture likelihood that keeps the problem convex.

Source:
    Bradley and Terry (1952), Rank analysis of incomplete block designs. Biometrika 39.
    Mitchell (2023), A note on DPO with noisy preferences (smoothing).

>>> from penchant.encoders import Attributes
>>> votes = Comparisons.from_rows(
...     [{"prompt": "", "chosen": '{"x": 1}', "rejected": '{"x": 0}', "user": "ann"}] * 3
...     + [{"prompt": "", "chosen": '{"x": 0}', "rejected": '{"x": 1}', "user": "bob"}]
... )
>>> model = BradleyTerry(encoder=Attributes(), l2=0.01, prior_precision=1.0).fit(votes)
>>> before = model.probability(votes)[3]
>>> model.adapt("bob", votes.of("bob")).n_pairs, bool(model.probability(votes)[3] > before)
(1, True)
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from penchant.encoders import Encoder, encode_turns, feature_names
from penchant.errors import SettingsError
from penchant.preference.model import PreferenceModel
from penchant.preference.newton import newton, newton_each, optima
from penchant.preference.pooled import (
    FOLDS,
    STRENGTHS_OF_PRIOR,
    apart,
    least_bold,
    measured_l2,
    spread_of,
    surprise,
)
from penchant.preference.profiles import Profiles
from penchant.preference.votes import Places, encoded, require_width, rows_of, together
from penchant.records import Comparisons
from penchant.turns import Turn

Array = NDArray[np.float64]

_FEWEST_PEOPLE = 6  # of two people a standard error says nothing
_MOST_PEOPLE = 300  # enough to measure how far people differ


@dataclass(frozen=True)
class UserPosterior:
    """What was learnt of a person.

    Attributes:
        weights: logits per standard deviation of each feature, [dim].
        standard_errors: of each weight, from Laplace's posterior, [dim].
        n_pairs: comparisons it rests on.
    """

    weights: Array
    standard_errors: Array
    n_pairs: int

    def __post_init__(self) -> None:
        """Refuse what somebody wrote by hand and cannot be."""
        if (self.standard_errors < 0).any():
            raise SettingsError(f"A standard error cannot be negative: got {self.standard_errors.min():.3g}.")


def user_posterior(
    centre: Array, difference: Array, strength: Array, margin: Array, *, precision: float
) -> UserPosterior:
    """One person's posterior; see `user_posteriors`."""
    [weights], [errors] = user_posteriors(
        centre, difference[None], strength[None], margin[None], precision=precision, start=None
    )
    return UserPosterior(weights, errors, len(difference))


def user_posteriors(
    centre: Array, difference: Array, strength: Array, margin: Array, *, precision: float, start: Array | None
) -> tuple[Array, Array]:
    """MAP of people's weights under N(centre, 1/precision), exactly, in as many dimensions as there are pairs.

    Directions that no pair touches keep the prior; so a few pairs of long vectors cost next to nothing.

    Args:
        centre: everybody's weights, [dim].
        difference: chosen minus rejected, [people, pairs, dim]; pairs may be 0.
        strength: soft labels, [people, pairs].
        margin: logits the chosen must be ahead by, [people, pairs].
        precision: of the prior, > 0.
        start: weights that the people are likely to have, such as those of before, [people, dim].

    Returns:
        Weights and their standard errors from Laplace's posterior, each [people, dim].
    """
    coordinates, basis = _touched(difference)
    near = None if start is None else np.einsum("ukd,ud->uk", basis, start - centre)
    ahead = margin - difference @ centre
    own, covariance = newton_each(coordinates, strength, l2=precision, margin=ahead, start=near)
    untouched = (1 - (basis**2).sum(axis=1)) / precision
    variance = untouched + (basis * (covariance @ basis)).sum(axis=1)
    return centre + np.einsum("uk,ukd->ud", own, basis), np.sqrt(np.maximum(variance, 0.0))


def learn_people(
    users: Profiles[UserPosterior],
    rows: Mapping[str, Places],
    centre: Array,
    difference: Array,
    strength: Array,
    margin: Array,
    *,
    scale: Array,
    precision: float,
    start: Mapping[Any, Array] | None = None,
) -> None:
    """Put the posteriors of some people among the users, those with equally many pairs found together.

    Args:
        users: where to.
        rows: which pairs are whose.
        centre: everybody's weights, [dim].
        difference: chosen minus rejected, as the encoder gives it, [pairs, dim].
        strength: soft labels, [pairs].
        margin: logits the chosen must be ahead by, [pairs].
        scale: what weights are logits for, [dim].
        precision: of the prior, > 0.
        start: weights that people are likely to have.
    """
    people, dim = list(rows), len(centre)
    weights, errors = np.empty((len(people), dim)), np.empty((len(people), dim))
    for some, own in together(list(rows.values()), numbers=dim):
        near = np.stack([start.get(people[place], centre) for place in some]) if start else None
        weights[some], errors[some] = user_posteriors(
            centre, difference[own] / scale, strength[own], margin[own], precision=precision, start=near
        )
    if people:
        counts = np.array([len(own) for own in rows.values()], dtype=np.int64)
        users.put_many(people, weights=weights, standard_errors=errors, n_pairs=counts)


def _touched(difference: Array) -> tuple[Array, Array]:
    """The pairs in an orthonormal basis that spans them: coordinates [..., pairs, k] and the basis [..., k, dim]."""
    basis, coordinates = np.linalg.qr(np.swapaxes(difference, -1, -2))
    return np.swapaxes(coordinates, -1, -2), np.swapaxes(basis, -1, -2)


def measured_precision(
    difference: Array,
    strength: Array,
    margin: Array,
    users: NDArray[Any],
    judged: NDArray[np.int64],
    everybody: Callable[[NDArray[np.bool_]], Array],
) -> float:
    """How far people differ: the strongest prior that predicts pairs set aside about as well as the best one.

    Erring towards everybody's reward costs a little of the gain where people differ somewhat; erring away from it
    makes people worse off than one model for all (measured on simulated crowds).

    Args:
        difference: chosen minus rejected, in which people's own weights are linear, [pairs, dim].
        strength: soft labels, [pairs].
        margin: logits the chosen must be ahead by, [pairs].
        users: whose pair it is, [pairs].
        judged: number of each side's response, [pairs, 2].
        everybody: rows, bool[pairs] -> logits of all pairs by a reward that no other row had a part in, [pairs].
    """
    people, counts = np.unique(users, return_counts=True)
    people = people[counts >= 4]
    if len(people) < 2:
        return STRENGTHS_OF_PRIOR[-1]
    rows_of = [np.flatnonzero(users == person) for person in people[:_MOST_PEOPLE]]
    surprises = np.zeros((len(users), len(STRENGTHS_OF_PRIOR)))  # a row is set aside in one fold at most
    for fold in range(FOLDS):
        later = np.zeros(len(users), dtype=bool)
        kept = np.ones(len(users), dtype=bool)
        for rows in rows_of:
            later[rows], kept[rows] = apart(judged[rows], fold)
        # Everybody's reward must not have seen the later pairs either.
        early_rows = kept & ~later
        ahead = everybody(early_rows) - margin
        for all_rows in rows_of:
            early, late = all_rows[early_rows[all_rows]], all_rows[later[all_rows]]
            if not len(early) or not len(late):
                continue
            coordinates, basis = _touched(difference[early])
            own = optima(coordinates, strength[early], STRENGTHS_OF_PRIOR, margin=-ahead[early])
            logits = ahead[late] + own @ (basis @ difference[late].T)
            surprises[late] = surprise(logits, strength[late]).T
    if len(rows_of) >= _FEWEST_PEOPLE:  # otherwise the choice is about these people, and choices are resampled
        surprises = np.stack([surprises[rows].sum(axis=0) for rows in rows_of])
    measured = surprises[surprises.any(axis=1)]
    return STRENGTHS_OF_PRIOR[least_bold(measured) if len(measured) else -1]


@dataclass(frozen=True)
class _Votes:
    """Comparisons as numbers.

    Attributes:
        difference: chosen minus rejected, as the encoder gives it, [pairs, dim].
        scale: standard deviation of each feature over all chosen and rejected, 1 where there is none, [dim].
        strength, margin: soft labels, and logits the chosen must be ahead by, [pairs].
    """

    difference: Array
    scale: Array
    strength: Array
    margin: Array

    def of(self, rows: NDArray[np.int64]) -> "_Votes":
        return _Votes(self.difference[rows], self.scale, self.strength[rows], self.margin[rows])


class BradleyTerry(PreferenceModel):
    """One linear reward for everybody, and one for each person drawn to it.

    Args:
        encoder: payloads to vectors.
        l2: precision of the prior on everybody's weights; auto measures it on pairs of people set aside.
        prior_precision: how alike people are: precision of a person's weights around everybody's; auto measures it on
            the later pairs of each person.
        noise: share of votes that are flipped by mistake, in [0, 0.5).

    Attributes:
        weights_: everybody's, logits per standard deviation of each feature, [dim].
        standard_errors_: of these, robust to dependence within a person, [dim].
        scale_: standard deviation of each feature, frozen, [dim].
        l2_: as given or measured.
        prior_precision_: as given or measured.
        users_: a `UserPosterior` for each person adapted to.

    Raises:
        SettingsError: a setting is out of range.
    """

    def __init__(
        self,
        *,
        encoder: Encoder,
        l2: float | Literal["auto"] = "auto",
        prior_precision: float | Literal["auto"] = "auto",
        noise: float = 0.0,
    ):
        for name, value in (("l2", l2), ("prior_precision", prior_precision)):
            if value != "auto" and not (isinstance(value, (int, float)) and 0 < value < np.inf):
                raise SettingsError(f"{name} must be a finite number above 0, or auto: got {value!r}.")
        if not 0 <= noise < 0.5:
            raise SettingsError(f"noise must be in [0, 0.5): got {noise!r}.")
        self.encoder, self.l2, self.prior_precision, self.noise = encoder, l2, prior_precision, noise

    def fit(self, comparisons: Comparisons) -> Self:
        """Learn what everybody prefers; see `PreferenceModel.fit`."""
        self._learn(comparisons, self._votes(comparisons))
        self.users_: Profiles[UserPosterior] = Profiles(UserPosterior)
        return self

    def adapt(self, user: str, comparisons: Comparisons) -> UserPosterior:
        """Learn one person; see `PreferenceModel.adapt`."""
        self._require_fitted()
        nobody = _Votes(np.empty((0, len(self.weights_))), self.scale_, np.empty(0), np.empty(0))
        votes = self._votes(comparisons) if len(comparisons) else nobody
        self._adapt(votes, {user: np.arange(len(comparisons))})
        return self.users_[user]

    def adapt_each(self, comparisons: Comparisons) -> Self:
        """Learn every person in the comparisons; see `PreferenceModel.adapt_each`."""
        self._require_fitted()
        if len(comparisons):
            self._adapt(self._votes(comparisons), rows_of(comparisons))
        return self

    def without(self, user: str, others: Comparisons) -> Self:
        """The model that would be here without a person; see `PreferenceModel.without`."""
        again = self._anew(user, others)
        votes, rows = again._votes(others), rows_of(others)
        # Logits for one unit of a feature: standard deviations are others now.
        same_width = len(votes.scale) == len(self.weights_)
        known = {None: self.weights_} | {person: found.weights for person, found in self.users_.items()}
        near = {person: weights / self.scale_ * votes.scale for person, weights in known.items() if same_width}
        again._learn(others, votes, start=near.get(None))
        nothing = np.empty(0, np.int64)
        again._adapt(votes, {name: rows.get(name, nothing) for name in self.users_ if name != user}, start=near)
        return again

    def _learn(self, comparisons: Comparisons, votes: _Votes, *, start: Array | None = None) -> None:
        """Everybody's weights and how far people differ.

        Args:
            comparisons: what there is.
            votes: the same as numbers.
            start: weights to look for the optimum from; what is measured on pairs set aside never depends on them.
        """
        self.scale_ = votes.scale
        difference = votes.difference / votes.scale
        users = _people(comparisons)
        data = (difference, votes.strength, votes.margin)
        near = np.zeros(difference.shape[1])
        self.l2_ = float(self.l2) if self.l2 != "auto" else 0.0
        if self.l2 == "auto":
            self.l2_, near = measured_l2(*data, users)
        fitted = newton(
            difference,
            votes.strength,
            l2=self.l2_,
            margin=votes.margin,
            clusters=_clusters(users),
            start=near if start is None else start,
        )
        self.weights_ = fitted.weights
        self.standard_errors_ = np.sqrt(np.maximum(np.diag(fitted.sandwich), 0.0))
        self.prior_precision_ = (
            measured_precision(*data, users, _judged(comparisons), self._everybody(*data, near))
            if self.prior_precision == "auto"
            else float(self.prior_precision)
        )

    def _adapt(self, votes: _Votes, rows: Mapping[str, Places], *, start: Mapping[Any, Array] | None = None) -> None:
        """Learn some people, those with equally many pairs together.

        Args:
            votes: theirs and perhaps others'.
            rows: which are whose.
            start: weights that people are likely to have.
        """
        require_width(votes.difference, len(self.weights_))
        learn_people(
            self.users_,
            rows,
            self.weights_,
            votes.difference,
            votes.strength,
            votes.margin,
            scale=self.scale_,
            precision=self.prior_precision_,
            start=start,
        )

    def names(self, field: str) -> list[str]:
        """The features that are weighed; see `PreferenceModel.names`."""
        return feature_names(self.encoder, len(self.weights_))

    def _reward(self, asked: Sequence[Turn], user: str | None) -> Array:
        vectors = encode_turns(self.encoder, asked).astype(np.float64)
        require_width(vectors, len(self.weights_))
        return np.asarray(vectors / self.scale_ @ self._weights(user))

    def _predicted(self, comparisons: Comparisons) -> Array:
        chosen, rejected = encoded(self.encoder, comparisons)
        require_width(chosen, len(self.weights_))
        places = self.users_.places(comparisons.table["user"].to_pylist())
        difference = (chosen - rejected) / self.scale_
        ahead = difference @ self.weights_
        if (own := places >= 0).any():
            ahead[own] = np.einsum("nd,nd->n", difference[own], self.users_.column("weights")[places[own]])
        return np.asarray(expit(ahead - self._labels(comparisons)[1]))

    def _weights(self, user: str | None) -> Array:
        found = self.users_.get(user) if user is not None else None
        return self.weights_ if found is None else found.weights

    def _votes(self, comparisons: Comparisons) -> _Votes:
        chosen, rejected = encoded(self.encoder, comparisons)
        return _Votes(chosen - rejected, spread_of(chosen, rejected), *self._labels(comparisons))

    def _labels(self, comparisons: Comparisons) -> tuple[Array, Array]:
        strength = comparisons.numpy("strength").astype(np.float64)
        margin = np.nan_to_num(comparisons.numpy("margin").astype(np.float64))
        return strength * (1 - 2 * self.noise) + self.noise, margin

    def _everybody(
        self, difference: Array, strength: Array, margin: Array, near: Array
    ) -> Callable[[NDArray[np.bool_]], Array]:
        """What everybody's reward would be, had it been learnt from some rows alone; see `measured_precision`."""

        def logits(rows: NDArray[np.bool_]) -> Array:
            found = newton(difference[rows], strength[rows], l2=self.l2_, margin=margin[rows], start=near)
            return np.asarray(difference @ found.weights)

        return logits

    def _state(self) -> tuple[dict[str, Any], dict[str, Any]]:
        people, names = self.users_.state()
        arrays = {"weights": self.weights_, "standard_errors": self.standard_errors_, "scale": self.scale_, **people}
        values = {
            "settings": {"l2": self.l2, "prior_precision": self.prior_precision, "noise": self.noise},
            "l2": self.l2_,
            "prior_precision": self.prior_precision_,
            "users": names,
        }
        return arrays, values

    def _restore(self, arrays: Mapping[str, Any], values: Mapping[str, Any]) -> None:
        self.__init__(encoder=self.encoder, **values["settings"])  # type: ignore[misc]
        self.weights_, self.standard_errors_, self.scale_ = (
            arrays[name] for name in ("weights", "standard_errors", "scale")
        )
        self.l2_, self.prior_precision_ = float(values["l2"]), float(values["prior_precision"])
        self.users_ = Profiles.restored(UserPosterior, arrays, values["users"])


def _judged(comparisons: Comparisons) -> NDArray[np.int64]:
    """Which response each side of a pair is, [pairs, 2]; equal responses to equal prompts have equal numbers."""
    prompts, chosen, rejected = (comparisons.table[name].to_pylist() for name in ("prompt", "chosen", "rejected"))
    numbers: dict[tuple[str, str], int] = {}
    rows = [
        [numbers.setdefault((prompt, side), len(numbers)) for side in sides]
        for prompt, *sides in zip(prompts, chosen, rejected, strict=True)
    ]
    return np.array(rows, dtype=np.int64).reshape(-1, 2)


def _people(comparisons: Comparisons) -> NDArray[Any]:
    """User of each row; a row without one stands for itself."""
    users = comparisons.table["user"].to_pylist()
    return np.array([f"u{user}" if user is not None else f"r{row}" for row, user in enumerate(users)])


def _clusters(users: NDArray[Any]) -> NDArray[Any] | None:
    """Whom rows depend on; the scores of one person alone sum to zero, which would pass for certainty."""
    return users if len(np.unique(users)) > 1 else None
