"""What can be steered: models that write responses and say how likely they find them, or how good."""

from penchant.policies.language import LanguagePolicy, ResponseLogProbability, Sample
from penchant.policies.pretrained import load
from penchant.policies.reward import LanguageReward
from penchant.policies.sequences import (
    Example,
    TokenLogProbabilities,
    can_pack,
    packed,
    padded,
    token_log_probabilities,
)

__all__ = [
    "Example",
    "LanguagePolicy",
    "LanguageReward",
    "ResponseLogProbability",
    "Sample",
    "TokenLogProbabilities",
    "can_pack",
    "load",
    "packed",
    "padded",
    "token_log_probabilities",
]
