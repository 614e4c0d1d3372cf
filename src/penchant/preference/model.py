"""What every model of people can do, and how it is kept.

Whatever people left, a `ModelOfPeople` scores responses for each of them; a `PreferenceModel` is one that learns from
comparisons and predicts them. It is fitted on everybody, then adapted to a person from a handful of them; adapting
changes nothing that is shared. Constructors store settings only, `fit` returns the model, what was learnt ends in `_`.
"""

import copy
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

import penchant
from penchant.encoders import Encoder
from penchant.errors import DataError, NotFittedError, UnknownNameError, nearest
from penchant.preference.profiles import Profiles, edited
from penchant.preference.votes import of_people, require_some
from penchant.records import Comparisons
from penchant.turns import Form, Turn, turns_between
from penchant.whole import whole_file

Array = NDArray[np.float64]

_FILE = "model.safetensors"
_ABOUT = "penchant"  # in the file's head


class ModelOfPeople(ABC):
    """Something learnt of people, whatever they left: it scores responses for each of them, and is kept in a file.

    Attributes:
        encoder: payloads to vectors.
        users_: what was learnt of each person that was adapted to.
    """

    version: ClassVar[int] = 3
    encoder: Encoder
    users_: Profiles[Any]

    def knows(self, user: str | None) -> bool:
        """Whether anything was learnt of a person; whoever is not known is predicted like everybody.

        Raises:
            NotFittedError: the model was not fitted.
        """
        self._require_fitted()
        return user in self.users_

    def edit(self, user: str, **values: Any) -> Any:
        """Change by hand what was learnt of a person.

        Args:
            user: who; must be known.
            values: new values of some fields of their profile, each of the same form as before.

        Returns:
            The new profile.

        Raises:
            UnknownNameError: nothing is known of the person, or the profile has no such field.
            SettingsError: a value has another form than before, is not finite, or means nothing to the model.
            NotFittedError: the model was not fitted.
        """
        if not self.knows(user):
            raise UnknownNameError(f"Nothing is known of {user!r}: {nearest(user, self.users_)}")
        self.users_[user] = self._sound(edited(self.users_[user], values))
        return self.users_[user]

    def _sound(self, profile: Any) -> Any:
        """A profile that somebody wrote by hand, if it means something to the model.

        Raises:
            SettingsError: it does not.
        """
        return profile

    def names(self, field: str) -> list[str]:
        """What the numbers in a field of a profile are called; nothing if they have no names.

        Args:
            field: whose value is a list of numbers.
        """
        return []

    def reward(
        self,
        prompts: Sequence[str],
        responses: Sequence[str],
        *,
        user: str | None = None,
        context: str | None = None,
        form: Form = "text",
    ) -> Array:
        """How much a person likes each response, in logits up to a constant, float64[n].

        Args:
            prompts: one for each response.
            responses: n of them.
            user: a person; one who was not adapted to, or None, is everybody.
            context: put before every prompt.
            form: "text", or "messages" for JSON lists of messages.

        Raises:
            DataError: the numbers of prompts and responses differ.
            NotFittedError: the model was not fitted.
        """
        self._require_fitted()
        asked = turns_between(prompts, responses, context=context, form=form)
        return self._reward(asked, user) if asked else np.empty(0)

    @abstractmethod
    def _reward(self, asked: Sequence[Turn], user: str | None) -> Array:
        """`reward` of at least one response, of a model that was fitted."""

    @abstractmethod
    def _state(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Arrays by name, and everything else as plain values."""

    @abstractmethod
    def _restore(self, arrays: Mapping[str, Any], values: Mapping[str, Any]) -> None:
        """The reverse of `_state`."""

    def _require_fitted(self) -> None:
        if not hasattr(self, "users_"):
            raise NotFittedError(f"This {type(self).__name__} has learnt nothing yet: call fit(comparisons) first.")

    def save(self, folder: Path) -> None:
        """Write what was learnt as one file of safetensors, with everything that is no array as JSON in its head."""
        self._require_fitted()
        arrays, values = self._state()
        about = {
            "class": type(self).__name__,
            "version": self.version,
            "encoder": self.encoder.name,
            "penchant": penchant.__version__,
            **values,
        }
        contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        with whole_file(folder / _FILE) as partial:
            save_file(contiguous, partial, metadata={_ABOUT: json.dumps(about, ensure_ascii=False)})

    @classmethod
    def load(cls, folder: Path, *, encoder: Encoder) -> Self:
        """A model that `save` wrote.

        Args:
            folder: where.
            encoder: the one it was learnt with; its name is checked.

        Raises:
            DataError: the folder holds no such model, or it was learnt with another encoder.
        """
        try:
            with safe_open(folder / _FILE, framework="numpy") as file:
                about = json.loads(file.metadata()[_ABOUT])
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no dictionary)
            if about["class"] != cls.__name__ or about["version"] != cls.version:
                raise DataError(
                    f"{folder} holds a {about['class']} of version {about['version']}, not a {cls.__name__} of version "
                    f"{cls.version}; learn it again."
                )
            if about["encoder"] != encoder.name:
                raise DataError(
                    f"{folder} was learnt with the encoder {about['encoder']!r}; its weights mean nothing to "
                    f"{encoder.name!r}."
                )
            model = cls.__new__(cls)
            model.encoder = encoder
            model._restore(arrays, about)
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(f"{folder} holds no {cls.__name__} that can be read ({error}); learn it again.") from error
        return model


class PreferenceModel(ModelOfPeople):
    """Predicts what a person prefers, from comparisons.

    Attributes:
        probability_is_logistic: whether `probability` is the sigmoid of the difference of rewards. A mixture averages
            the probabilities of several rewards, which is not the probability by their average.
    """

    probability_is_logistic: ClassVar[bool] = True

    @abstractmethod
    def fit(self, comparisons: Comparisons) -> Self:
        """Learn what everybody prefers; forgets whatever was learnt before.

        Raises:
            DataError: there is nothing to learn from.
        """

    @abstractmethod
    def adapt(self, user: str, comparisons: Comparisons) -> Any:
        """Learn one person from their comparisons; no rows leave the person like everybody.

        Raises:
            NotFittedError: the model was not fitted.
        """

    def adapt_each(self, comparisons: Comparisons) -> Self:
        """Learn every person in the comparisons, as `adapt` would from each one's own.

        Raises:
            NotFittedError: the model was not fitted.
        """
        for user in comparisons.users:
            self.adapt(user, comparisons.of(user))
        return self

    def without(self, user: str, others: Comparisons) -> Self:
        """The model that would be here had a person never been: of the same settings, learnt from the others alone.

        Nothing that summed the people up is kept for it (it would be about the person too); what makes it cheap is
        that nothing is encoded again and that optima are looked for where they were.

        Args:
            user: whoever is forgotten.
            others: all that the model was fitted on and that its people were adapted to, less the person's.

        Returns:
            A new model, equal to one that was never shown the person.

        Raises:
            DataError: nothing is left to learn from, or the person is among the others.
            NotFittedError: the model was not fitted.
        """
        again = self._anew(user, others)
        again.fit(others)
        known = set(self.users_) - {user}
        return again.adapt_each(of_people(others, known))

    def _anew(self, user: str, others: Comparisons) -> Self:
        """A copy that will be learnt from the others."""
        self._require_fitted()
        n_left = len(others.of(user))
        if n_left:
            raise DataError(f"{n_left} of {len(others)} comparisons are of {user!r}, who is to be forgotten.")
        require_some(others)
        again = copy.copy(self)
        again.users_ = Profiles(self.users_.kind)
        return again

    def probability(self, comparisons: Comparisons) -> Array:
        """P(chosen is preferred to rejected) by the person of each row, float64[n] in [0, 1].

        Raises:
            NotFittedError: the model was not fitted.
        """
        self._require_fitted()
        return self._predicted(comparisons) if len(comparisons) else np.empty(0)

    @abstractmethod
    def _predicted(self, comparisons: Comparisons) -> Array:
        """`probability` of at least one comparison, by a model that was fitted."""
