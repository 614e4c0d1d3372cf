"""What every model of people can do, and how it is kept.

A model is fitted on everybody, then adapted to a person from a handful of comparisons; adapting changes nothing that is
shared. Constructors store settings only, `fit` returns the model, what was learnt ends in `_`.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

import penchant
from penchant.encoders import Encoder, encode_turns
from penchant.errors import DataError, NotFittedError
from penchant.records import Comparisons
from penchant.turns import Form, turns

Array = NDArray[np.float64]


class PreferenceModel(ABC):
    """Predicts what a person prefers.

    Attributes:
        encoder: payloads to vectors.
        users_: what was learnt of each person that was adapted to.
    """

    version: ClassVar[int] = 1
    encoder: Encoder
    users_: dict[str, Any]

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

    @abstractmethod
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
            NotFittedError: the model was not fitted.
        """

    @abstractmethod
    def probability(self, comparisons: Comparisons) -> Array:
        """P(chosen is preferred to rejected) by the person of each row, float64[n] in [0, 1]."""

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
        """Write what was learnt as safetensors and JSON."""
        self._require_fitted()
        folder.mkdir(parents=True, exist_ok=True)
        arrays, values = self._state()
        about = {
            "class": type(self).__name__,
            "version": self.version,
            "encoder": self.encoder.name,
            "penchant": penchant.__version__,
            **values,
        }
        partial = folder / "model.safetensors.partial"
        save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, partial)
        partial.replace(folder / "model.safetensors")
        described = folder / "model.json.partial"
        described.write_text(json.dumps(about, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
        described.replace(folder / "model.json")

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
            about = json.loads((folder / "model.json").read_text(encoding="utf-8"))
            arrays = load_file(folder / "model.safetensors")
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


def encoded(encoder: Encoder, comparisons: Comparisons) -> tuple[Array, Array]:
    """Vectors of chosen and of rejected responses, each float64[n, dim]; equal payloads are encoded once.

    Raises:
        DataError: there are no comparisons, or the encoder gave something that is not finite.
    """
    if not len(comparisons):
        raise DataError("There are no comparisons to learn from; import feedback first (`penchant import FILE`).")
    sides = [*turns(comparisons, "chosen"), *turns(comparisons, "rejected")]
    places = {turn: place for place, turn in enumerate(dict.fromkeys(sides))}
    vectors = encode_turns(encoder, list(places)).astype(np.float64)
    if not np.isfinite(vectors).all():
        raise DataError(f"The encoder {encoder.name} gave NaN or infinite numbers for {len(places)} payloads.")
    rows = np.array([places[turn] for turn in sides])
    n = len(comparisons)
    return vectors[rows[:n]], vectors[rows[n:]]
