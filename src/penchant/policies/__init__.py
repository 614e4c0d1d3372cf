"""What can be steered: models that write responses and say how likely they find them."""

from penchant.policies.language import LanguagePolicy, ResponseLogProbability, load
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
    "ResponseLogProbability",
    "TokenLogProbabilities",
    "can_pack",
    "load",
    "packed",
    "padded",
    "token_log_probabilities",
]
