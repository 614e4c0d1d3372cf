"""What each person prefers, learnt from what they left behind: one file per model of people.

Public are the model of every row of the table of methods that lives here, and what all of them stand on.
"""

from typing import Any

from penchant.methods import METHODS, resolve
from penchant.preference.counts import Abilities, Counts, abilities
from penchant.preference.model import ModelOfPeople, PreferenceModel
from penchant.preference.newton import Fit, newton
from penchant.preference.votes import Votes, read_votes

_MODELS = {row.path.rpartition(":")[2]: row.path for row in METHODS if row.path.startswith(f"{__name__}.")}

__all__ = [
    "Abilities",
    "Counts",
    "Fit",
    "ModelOfPeople",
    "PreferenceModel",
    "Votes",
    "abilities",
    "newton",
    "read_votes",
    *_MODELS,
]


def __getattr__(name: str) -> Any:
    """Load a model's module on first use: the linear ones must not wait for torch."""
    if name not in _MODELS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return resolve(_MODELS[name])
