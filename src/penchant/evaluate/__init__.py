"""Measure: do models rank right, who wins, how far may a probability be trusted, who gains from a model of their own?

Nothing here trains and nothing here loads a model: numbers in, numbers with intervals out.
"""

from penchant.evaluate.alignment import norm_align
from penchant.evaluate.calibration import (
    brier,
    fit_temperature,
    held_out_temperature,
    log_loss,
    reliability,
)
from penchant.evaluate.describe import ByChat, ByPhrases, Describer, description
from penchant.evaluate.discovery import Discovery
from penchant.evaluate.explain import apart, effects, explanation, personal, relearnt, rewarded
from penchant.evaluate.per_user import per_user_report
from penchant.evaluate.ranking_accuracy import (
    Likelihoods,
    audit,
    difficulty,
    difficulty_trend,
    flip_matrix,
    flips_by,
    idealised_margin,
    loss_threshold,
    ranked_right,
    threshold_agreement,
    whole_ranking_right,
)
from penchant.evaluate.stances import ChatJudge, LexicalJudge, Likelihood, Probes, Sampled
from penchant.evaluate.values import Checkpoint, Recorder, Track
from penchant.evaluate.win_rate import (
    length_controlled_win_rate,
    paired_win_rate,
    running_win_rate,
    score_interval,
    win_rates_by,
)

__all__ = [
    "ByChat",
    "ByPhrases",
    "ChatJudge",
    "Checkpoint",
    "Describer",
    "Discovery",
    "LexicalJudge",
    "Likelihood",
    "Likelihoods",
    "Probes",
    "Recorder",
    "Sampled",
    "Track",
    "apart",
    "audit",
    "brier",
    "description",
    "difficulty",
    "difficulty_trend",
    "effects",
    "explanation",
    "fit_temperature",
    "flip_matrix",
    "flips_by",
    "held_out_temperature",
    "idealised_margin",
    "length_controlled_win_rate",
    "log_loss",
    "loss_threshold",
    "norm_align",
    "paired_win_rate",
    "per_user_report",
    "personal",
    "ranked_right",
    "relearnt",
    "reliability",
    "rewarded",
    "running_win_rate",
    "score_interval",
    "threshold_agreement",
    "whole_ranking_right",
    "win_rates_by",
]
