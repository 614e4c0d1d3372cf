"""What each person prefers, learnt from comparisons: Bradley-Terry models, for all and for one."""

from penchant.preference.bradley_terry import Abilities, Fit, UserWeights, abilities, adapt, newton

__all__ = ["Abilities", "Fit", "UserWeights", "abilities", "adapt", "newton"]
