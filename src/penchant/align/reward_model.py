r"""A reward model: a language model fine-tuned end to end to say which response people prefer.

Bradley and Terry 1952 on the number that a scalar head reads off a response's last token. With a margin m and annotator
noise e, a pair of strength s costs

$$-s'\log\sigma(R_w - R_l - m) - (1-s')\log\sigma(-(R_w - R_l - m)), \qquad s' = (1 - 2e)s + e$$

(margin: Touvron et al. 2023, "Llama 2", eq. 2; Cui et al. 2023 take the distance of two rubric scores for it, which is
`margin="strength"`). Whole rankings are read by Plackett and Luce. One number for everybody; for a number for each
person put `penchant.preference` on the trained states:

    result = train(RewardModel(), LanguageReward(lora_rank=8), pairs, settings=settings, folder=folder)
    model = BradleyTerry(encoder=HiddenState(LanguageReward.saved(result.policy))).fit(other_pairs)

`other_pairs` must not be those that trained the states: on these every model is too sure of itself.

>>> RewardModel(margin="strength").needs_reference
False
"""

from typing import Any, Literal

import torch
from torch import Tensor

from penchant import objectives
from penchant.align.batches import Batch
from penchant.align.preferred import (
    examples_of,
    list_losses,
    mean_per_example,
    metrics,
    pairs,
    require_known,
    untied_lists,
)
from penchant.errors import SettingsError
from penchant.policies.reward import LanguageReward
from penchant.records import Comparisons, Rankings


class RewardModel:
    """Trains a language model with a scalar head on comparisons or rankings.

    Args:
        margin: logits by which the chosen response must be ahead: "column" takes the records' `margin` (0 where there
            is none), "strength" makes them of each pair's strength, which is then read as a hard label.
        margin_scale: logits of a pair of strength 1, where the margin comes from the strength.
        noise: share of votes that are flipped by mistake, in [0, 0.5).
        ties: "soft" makes a tie half a win for each side, "drop" leaves ties out and counts them.
        lists: how rankings are read: "plackett_luce" as a whole (lists without ties, and without noise), or
            "pairs".

    Raises:
        SettingsError: a setting is out of range.
    """

    trains = LanguageReward
    reads = (Comparisons, Rankings)
    needs_reference = False

    def __init__(
        self,
        *,
        margin: Literal["column", "strength"] = "column",
        margin_scale: float = 1.0,
        noise: float = 0.0,
        ties: Literal["soft", "drop"] = "soft",
        lists: Literal["plackett_luce", "pairs"] = "plackett_luce",
    ):
        if margin not in ("column", "strength"):
            raise SettingsError(f"margin is column or strength: got {margin!r}.")
        require_known(ties, lists)
        if not 0 <= noise < 0.5 or not margin_scale >= 0:
            raise SettingsError(f"noise must be in [0, 0.5) and margin_scale >= 0: got {noise!r} and {margin_scale!r}.")
        self.margin, self.margin_scale, self.noise, self.ties, self.lists = margin, margin_scale, noise, ties, lists

    def examples(self, records: Comparisons | Rankings) -> list[dict[str, Any]]:
        """One example per row, best response first, with its ranks, strength and margin.

        Args:
            records: who preferred what; `context`, where present, goes before the conversation.

        Raises:
            DataError: these are no comparisons or rankings.
        """
        found, self.dropped_ = examples_of(records, drops_ties=self.ties == "drop", learner="A reward model")
        if self.margin == "strength" and isinstance(records, Comparisons):
            for example in found:
                lean = 2 * example["strength"] - 1
                example["margin"] = self.margin_scale * lean
                example["strength"] = 0.5 if lean == 0 else float(lean > 0)
        return found

    def loss(self, rewards: Tensor, batch: Batch) -> Tensor:
        """Negative log-likelihood of each example, nats, [examples].

        Args:
            rewards: of every response, logits, [responses].
            batch: with `example`, `rank`, `strength` and `margin`.
        """
        better, worse = pairs(batch)
        owner = batch["example"][better]
        strength, margin = batch["strength"][owner] * (1 - 2 * self.noise) + self.noise, batch["margin"][owner]
        losses = objectives.bradley_terry(rewards[better], rewards[worse], margin=margin, strength=strength)
        by_pairs = mean_per_example(losses, batch, better)
        whole = untied_lists(batch)
        if self.noise or self.lists == "pairs" or not whole.any():
            return by_pairs
        return torch.where(whole, list_losses(rewards, batch), by_pairs)

    def metrics(self, rewards: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Rewards under the usual names, each [examples]; a tie counts as half right."""
        return metrics(rewards, batch)
