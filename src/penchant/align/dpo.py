r"""Direct preference optimisation: train a policy on what people preferred, without a reward model in between.

Works on comparisons (pairs, with soft labels) and rankings (lists), with any pairwise objective of
`penchant.objectives`: another paper is another name, not another trainer.

Rafailov et al. 2023, "Direct preference optimization", eq. 7 for pairs and appendix A.3 for ranked lists
(Plackett-Luce on beta times the log-ratios). Soft labels: a row of strength s counts as s rows for the pair and 1 - s
for its reverse, which for DPO is the cross-entropy to s; s below one half therefore needs no swap.

    train(DPO(objective="ipo", beta=0.1), policy, comparisons, settings=TrainerSettings(steps=200), folder=folder)

>>> DPO(objective="simpo").needs_reference
False
"""

import inspect
from collections.abc import Callable, Mapping
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
    soft,
    untied_lists,
)
from penchant.errors import SettingsError, UnknownNameError, nearest
from penchant.policies.language import LanguagePolicy
from penchant.policies.sequences import TokenLogProbabilities
from penchant.records import Comparisons, Rankings, Records

Objective = Callable[..., Tensor]

# What an objective of pairs reads; those that are not listed read log-ratios.
_READS = {"simpo": "means", "orpo": "means", "gamma_dpo": "sums"}
_PAIRWISE = (
    "apo_down",
    "apo_zero",
    "dpo",
    "exponential",
    "gamma_dpo",
    "hinge",
    "ipo",
    "length_normalised_dpo",
    "orpo",
    "robust_dpo",
    "simpo",
)


class DPO:
    """Trains a policy on comparisons or rankings.

    Args:
        objective: name of a pairwise objective in `penchant.objectives`, or your own function of the log-ratios of the
            chosen and the rejected response.
        beta: its strength; empty takes the objective's own default.
        label_smoothing: probability that a label is flipped, for objectives that have it.
        options: further keywords of the objective, such as {"gamma": 0.5}.
        ties: "soft" draws both responses of a tie together, "drop" leaves ties out and counts them.
        lists: how rankings are read: "plackett_luce" as a whole (objective "dpo", lists without ties), or "pairs",
            the mean over all pairs whose ranks differ. Lists with ties, and other objectives, are read as pairs.
    """

    trains = LanguagePolicy
    reads: tuple[type[Records], ...] = (Comparisons, Rankings)

    def __init__(
        self,
        *,
        objective: str | Objective = "dpo",
        beta: float | None = None,
        label_smoothing: float | None = None,
        options: Mapping[str, float] | None = None,
        ties: Literal["soft", "drop"] = "soft",
        lists: Literal["plackett_luce", "pairs"] = "plackett_luce",
    ):
        self.objective, self.beta, self.label_smoothing = objective, beta, label_smoothing
        self.options, self.ties, self.lists = options, ties, lists
        self._function, self._keywords = _resolve(objective, beta, label_smoothing, options)
        self._reads = _READS.get(getattr(self._function, "__name__", ""), "log_ratios")
        require_known(ties, lists)

    @property
    def needs_reference(self) -> bool:
        """Whether the objective compares with a frozen reference."""
        return self._reads != "means"

    def examples(self, records: Comparisons | Rankings) -> list[dict[str, Any]]:
        """One example per row, best response first, with its ranks and strength.

        Args:
            records: who preferred what; `context`, where present, goes before the conversation.

        Raises:
            DataError: these are no comparisons or rankings.
        """
        found, self.dropped_ = examples_of(records, drops_ties=self.ties == "drop", learner="DPO")
        return found

    def loss(self, log_probabilities: TokenLogProbabilities, batch: Batch) -> Tensor:
        """The objective of each example, nats, [examples].

        Args:
            log_probabilities: of every response token under the policy.
            batch: with `example`, `rank`, `strength` and, if needed, `reference`.
        """
        better, worse = pairs(batch)
        strength = batch["strength"][batch["example"][better]]
        forward = self._pair_losses(log_probabilities, batch, better, worse)
        reverse = self._pair_losses(log_probabilities, batch, worse, better)
        by_pairs = mean_per_example(soft(forward, reverse, strength), batch, better)
        whole = untied_lists(batch)
        if not (self._reads_lists and whole.any()):
            return by_pairs
        rewards = self._keywords.get("beta", 0.1) * (log_probabilities.sums() - batch["reference"])
        return torch.where(whole, list_losses(rewards, batch), by_pairs)

    def metrics(self, log_probabilities: TokenLogProbabilities, batch: Batch) -> dict[str, Tensor]:
        """Implicit rewards under the usual names, each [examples]; a tie counts as half right."""
        better, worse = pairs(batch)
        rewards = log_probabilities.means() if self._reads == "means" else log_probabilities.sums()
        rewards = self._keywords.get("beta", 1.0) * (rewards - batch["reference"] if self.needs_reference else rewards)
        sums = log_probabilities.sums()
        return metrics(rewards, batch) | {
            "logps/chosen": mean_per_example(sums[better], batch, better),
            "logps/rejected": mean_per_example(sums[worse], batch, better),
        }

    def _pair_losses(self, scores: TokenLogProbabilities, batch: Batch, better: Tensor, worse: Tensor) -> Tensor:
        keywords: dict[str, Any] = dict(self._keywords)
        accepted = inspect.signature(self._function).parameters
        if "chosen_tokens" in accepted:
            lengths = scores.lengths()
            keywords |= {"chosen_tokens": lengths[better], "rejected_tokens": lengths[worse]}
        if self._reads == "means":
            values = scores.means()
        elif self._reads == "sums":
            values = scores.sums()
            keywords |= {"reference_chosen": batch["reference"][better]}
            keywords |= {"reference_rejected": batch["reference"][worse]}
        else:
            values = scores.sums() - batch["reference"]
        return self._function(values[better], values[worse], **keywords)

    @property
    def _reads_lists(self) -> bool:
        """Whether lists without ties are read as a whole."""
        return self.lists == "plackett_luce" and self._function is objectives.dpo and not self.label_smoothing


def _resolve(
    objective: str | Objective, beta: float | None, label_smoothing: float | None, options: Mapping[str, float] | None
) -> tuple[Objective, dict[str, Any]]:
    if isinstance(objective, str):
        if objective not in _PAIRWISE:
            raise UnknownNameError(f"No pairwise objective is called {objective!r}: {nearest(objective, _PAIRWISE)}")
        function: Objective = getattr(objectives, objective)
    else:
        function = objective
    parameters = inspect.signature(function).parameters
    given = {**(options or {}), "beta": beta, "label_smoothing": label_smoothing}
    keywords: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    unknown = [name for name in keywords if name not in parameters]
    if unknown:
        raise SettingsError(f"The objective {objective!r} has no {unknown[0]!r}: {nearest(unknown[0], parameters)}")
    if "beta" in parameters and "beta" not in keywords:
        keywords["beta"] = parameters["beta"].default
    if not keywords.get("beta", 1.0) > 0 or not 0 <= keywords.get("label_smoothing", 0.0) < 0.5:
        raise SettingsError(f"beta must be above 0 and label_smoothing in [0, 0.5): got {keywords}.")
    return function, keywords
