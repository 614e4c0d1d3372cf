"""Align: one file per training method (the data it needs and the objective it minimises), one trainer for all."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from penchant.align.callbacks import Watching
    from penchant.align.dpo import DPO
    from penchant.align.few_shot import FSPO
    from penchant.align.policy_gradient import PolicyGradient
    from penchant.align.recipe import TrainerSettings
    from penchant.align.rejection_sampling import RejectionSampling
    from penchant.align.reward_model import RewardModel
    from penchant.align.supervised import Supervised
    from penchant.align.trainer import TrainResult, train

__all__ = [
    "DPO",
    "FSPO",
    "PolicyGradient",
    "RejectionSampling",
    "RewardModel",
    "Supervised",
    "TrainResult",
    "TrainerSettings",
    "Watching",
    "train",
]

_HOMES = {
    "DPO": "dpo",
    "FSPO": "few_shot",
    "PolicyGradient": "policy_gradient",
    "RejectionSampling": "rejection_sampling",
    "RewardModel": "reward_model",
    "Supervised": "supervised",
    "TrainResult": "trainer",
    "TrainerSettings": "recipe",
    "Watching": "callbacks",
    "train": "trainer",
}


def __getattr__(name: str) -> Any:
    """Load a name's module on first use: settings and directions must not wait for transformers."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
