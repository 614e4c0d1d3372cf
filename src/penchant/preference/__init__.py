"""What each person prefers, learnt from comparisons: one file per model of people."""

from penchant.preference.bradley_terry import BradleyTerry, UserPosterior
from penchant.preference.directional import Directional, UserDirection
from penchant.preference.model import PreferenceModel
from penchant.preference.newton import Abilities, Fit, abilities, newton

__all__ = [
    "Abilities",
    "BradleyTerry",
    "Directional",
    "Fit",
    "PreferenceModel",
    "UserDirection",
    "UserPosterior",
    "abilities",
    "newton",
]
