"""One reward for all that knows something of people besides their choices: the baseline of whoever has no choices yet.

Reward of response x to a person with features f (age, place, work): w . x + f' M P x. The first part is everybody's, as
`pooled` learns it; the second says how people with a feature differ, along the P main directions of responses. One of
the features is that something is known of the person at all: among people who differ everybody's weights are small
because they average, and of whoever is known less has to be averaged. How far people with features differ is measured
on people set aside, on the side of caution, so that features which tell nothing change nothing.
Choices of single people are not looked at: two people with the same features are the same to this model.

Source:
    Chu and Park (2009), Personalized recommendation on dynamic content using predictive bilinear models, equation 3.
    Departure: the bilinear part is learnt after everybody's reward, as an offset, in the logistic likelihood.

>>> from penchant.encoders import Attributes
>>> sides = ('{"x": 1}', '{"x": 0}')
>>> rows = [
...     {"prompt": "", "chosen": sides[i % 2], "rejected": sides[1 - i % 2], "user": f"u{i}"} for i in range(60)
... ]
>>> age = {f"u{i}": {"age": ("old", "young")[i % 2]} for i in range(61)}
>>> model = UserFeatures(encoder=Attributes(), features=age).fit(Comparisons.from_rows(rows))
>>> model.adapt("u60", Comparisons.from_rows([])).n_pairs
0
>>> bool(model.reward(["", ""], sides, user="u60") @ [1, -1] > 0.3)  # one of the old, who like the first
True
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from penchant.encoders import Encoder, encode_turns
from penchant.errors import DataError
from penchant.preference.model import PreferenceModel
from penchant.preference.newton import newton, optima
from penchant.preference.pooled import STRENGTHS_OF_PRIOR, least_bold, pooled, set_aside, surprise
from penchant.preference.profiles import Profiles
from penchant.preference.votes import Votes, codes_of, read_votes
from penchant.records import Comparisons
from penchant.turns import Turn

Array = NDArray[np.float64]

_MOST_DIRECTIONS = 24  # of responses that features act on
_FEWEST_OF_A_KIND = 3  # people; a rarer value of a feature is told by nobody


@dataclass(frozen=True)
class Described:
    """A person as this model sees them.

    Attributes:
        features: 1 if anything is known of the person, then what is, standardised; 0 for what is not, [1 + features].
        n_pairs: comparisons there are of them, of which nothing was learnt.
    """

    features: Array
    n_pairs: int


class UserFeatures(PreferenceModel):
    """One reward for all that also depends on what is known of a person besides.

    Args:
        encoder: payloads to vectors.
        features: person -> what is known of them; words and numbers.

    Attributes:
        columns_: the features: a name alone for numbers, name and value for words.
        weights_: everybody's, logits per standard deviation, [dim].
        interaction_: what features add to these, [1 + features, dim].
        users_: a `Described` for each person adapted to.

    Raises:
        DataError: when fitted, if nothing is known of the people in the comparisons.
    """

    def __init__(self, *, encoder: Encoder, features: Mapping[str, Mapping[str, Any]]):
        self.encoder, self.features = encoder, features

    def fit(self, comparisons: Comparisons) -> Self:
        """Learn everybody's reward, then what features add to it; see `PreferenceModel.fit`."""
        votes = read_votes(self.encoder, comparisons)
        known = [self.features[user] for user in votes.people if user in self.features]
        self.columns_ = columns_of(known)
        if not self.columns_:
            raise DataError(
                f"Nothing is known of the people besides their choices ({len(known)} of {len(votes.people)} are in "
                "the table of people, and no feature is shared by three and not by all): give --users FILE."
            )
        values = np.stack([self._raw(one) for one in known])
        self.centre_, self.spread_ = np.nanmean(values, axis=0), np.nanstd(values, axis=0)
        everybody = pooled(votes)
        self.weights_, self.scale_ = everybody.weights, everybody.scale
        self.users_: Profiles[Described] = Profiles(Described)
        self.interaction_ = self._learnt(votes)
        return self

    def _learnt(self, votes: Votes) -> Array:
        """What features add to everybody's weights, [1 + features, dim]."""
        difference = votes.difference.astype(np.float64) / self.scale_
        strength = votes.strength.astype(np.float64)
        margin = votes.margin - difference @ self.weights_
        people = np.stack([*(self._described(user) for user in votes.people), np.zeros(1 + len(self.columns_))])
        directions = np.linalg.svd(difference, full_matrices=False)[2][:_MOST_DIRECTIONS]
        along = difference @ directions.T
        crossed = (people[votes.user][:, :, None] * along[:, None, :]).reshape(len(votes), -1)
        aside = set_aside(votes.user)
        precision = STRENGTHS_OF_PRIOR[-1]
        if aside is not None:
            found = optima(crossed[~aside], strength[~aside], STRENGTHS_OF_PRIOR, margin=margin[~aside])
            ahead = found @ crossed[aside].T - margin[aside]
            _, person = np.unique(votes.user[aside], return_inverse=True)
            of_pairs = surprise(ahead, strength[aside])  # [priors, pairs]
            of_people = np.array([np.bincount(person, row) for row in of_pairs], dtype=np.float64)
            precision = STRENGTHS_OF_PRIOR[least_bold(of_people.T)]
        weights = newton(crossed, strength, l2=precision, margin=margin).weights
        return np.asarray(weights.reshape(-1, len(directions)) @ directions)

    def adapt(self, user: str, comparisons: Comparisons) -> Described:
        """Look up what is known of one person; see `PreferenceModel.adapt`."""
        self._require_fitted()
        self.users_[user] = Described(self._described(user), len(comparisons))
        return self.users_[user]

    def adapt_each(self, comparisons: Comparisons) -> Self:
        """Look up everybody in the comparisons; see `PreferenceModel.adapt_each`."""
        self._require_fitted()
        codes, people = codes_of(comparisons, "user")
        if people:
            counts = np.bincount(codes[codes >= 0], minlength=len(people))
            self.users_.put_many(people, features=np.stack([*map(self._described, people)]), n_pairs=counts)
        return self

    def names(self, field: str) -> list[str]:
        """The features of people; see `PreferenceModel.names`."""
        return ["known", *(name if word is None else f"{name}={word}" for name, word in self.columns_)]

    def _reward(self, asked: Sequence[Turn], user: str | None) -> Array:
        vectors = encode_turns(self.encoder, asked)
        found = self.users_.get(user) if user is not None else None
        weights = self.weights_ + (0.0 if found is None else found.features @ self.interaction_)
        return np.asarray(vectors.astype(np.float64) / self.scale_ @ weights)

    def _predicted(self, comparisons: Comparisons) -> Array:
        votes = read_votes(self.encoder, comparisons)
        difference = votes.difference / self.scale_
        ahead = difference @ self.weights_ - votes.margin
        places = self.users_.places(comparisons.table["user"].to_pylist())
        if (own := places >= 0).any():
            features = self.users_.column("features")[places[own]]
            ahead[own] += np.einsum("nf,nf->n", features, difference[own] @ self.interaction_.T)
        return np.asarray(expit(ahead))

    def _described(self, user: str) -> Array:
        """Features of a person; 0 (an average person) for what is not known, [1 + features]."""
        if user not in self.features:
            return np.zeros(1 + len(self.columns_))
        values = (self._raw(self.features[user]) - self.centre_) / self.spread_
        return np.concatenate([[1.0], np.nan_to_num(values)])

    def _raw(self, about: Mapping[str, Any]) -> Array:
        return np.array([_value(about, name, word) for name, word in self.columns_])

    def _state(self) -> tuple[dict[str, Any], dict[str, Any]]:
        people, names = self.users_.state()
        own = {name: getattr(self, f"{name}_") for name in ("weights", "scale", "interaction", "centre", "spread")}
        return own | people, {"columns": self.columns_, "users": names}

    def _restore(self, arrays: Mapping[str, Any], values: Mapping[str, Any]) -> None:
        # What was known of people besides is not kept, but of those adapted to: others are average people now.
        self.features = {}
        for name in ("weights", "scale", "interaction", "centre", "spread"):
            setattr(self, f"{name}_", arrays[name])
        self.columns_ = [(name, word) for name, word in values["columns"]]
        self.users_ = Profiles.restored(Described, arrays, values["users"])


def columns_of(people: Sequence[Mapping[str, Any]]) -> list[tuple[str, str | None]]:
    """The features that tell some people from others: (name, None) for numbers, (name, word) for each word of others.

    Args:
        people: what is known of each.

    >>> columns_of([{"age": 20, "job": "cook"}] * 3 + [{"age": 40, "job": "nurse"}] * 3 + [{"job": "poet"}])
    [('age', None), ('job', 'cook'), ('job', 'nurse')]
    """
    found: list[tuple[str, str | None]] = []
    for name in sorted({name for about in people for name in about}):
        values = [about[name] for about in people if name in about]
        if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
            found += [(name, None)] * (len(set(values)) > 1)
            continue
        words = [str(value) for value in values]
        counts = {word: words.count(word) for word in sorted(set(words))}
        found += [(name, word) for word, n in counts.items() if _FEWEST_OF_A_KIND <= n < len(words)]
    return found


def _value(about: Mapping[str, Any], name: str, word: str | None) -> float:
    """A number, or 1 if the word is this person's and 0 if not; NaN if it is not known."""
    if name not in about:
        return float("nan")
    return float(about[name]) if word is None else float(str(about[name]) == word)
